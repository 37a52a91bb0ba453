"""
Policy: documents in, decisions out.

Takes strict YAML documents with typed conditions, and gives a bundle; takes
the facts of a call, and gives a decision. Pure once loaded: no clock, no files,
no network, no state. What does not type-check does not load, and what cannot be
evaluated denies.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

from agentguard.policy._bundle import Bundle
from agentguard.policy._engine import Engine, Silence
from agentguard.policy._exceptions import ends, is_expired
from agentguard.policy._fallbacks import FALLBACKS_MAX, carried, check_functions, fallback_of
from agentguard.policy._grants import grant_condition
from agentguard.policy._history import HISTORY_GIVEN
from agentguard.policy._load import load_bundle, load_texts, policy_files
from agentguard.policy._lock import LOCK_FILE, Lock, check_lock, make_lock, read_lock
from agentguard.policy._model import (
    Approver,
    Approvers,
    Expectation,
    Place,
    Policy,
    PolicyException,
    PolicyTest,
    Rule,
    TestCase,
    ToolSchema,
)
from agentguard.policy._plan import Plan
from agentguard.policy._tool_types import (
    Arguments,
    arguments_of,
    disagreement,
    tools_from_mcp,
    write_tool_schema,
)
from agentguard.policy.conditions import Condition, CountedFact, FactSources

if TYPE_CHECKING:
    from agentguard.policy._controls import CONTROLS
    from agentguard.policy._flip import Change, smallest_change
    from agentguard.policy._format import format_document
    from agentguard.policy._json_schema import json_schema
    from agentguard.policy._lint import Finding, lint, scope_in_words
    from agentguard.policy._mutants import Mutant, mutants
    from agentguard.policy._plain import defaults_in_plain_words, rule_in_plain_words

__all__ = [
    "CONTROLS",
    "FALLBACKS_MAX",
    "HISTORY_GIVEN",
    "LOCK_FILE",
    "Approver",
    "Approvers",
    "Arguments",
    "Bundle",
    "Change",
    "Condition",
    "CountedFact",
    "Engine",
    "Expectation",
    "FactSources",
    "Finding",
    "Lock",
    "Mutant",
    "Place",
    "Plan",
    "Policy",
    "PolicyException",
    "PolicyTest",
    "Rule",
    "Silence",
    "TestCase",
    "ToolSchema",
    "arguments_of",
    "carried",
    "check_functions",
    "check_lock",
    "defaults_in_plain_words",
    "disagreement",
    "ends",
    "fallback_of",
    "format_document",
    "grant_condition",
    "is_expired",
    "json_schema",
    "lint",
    "load_bundle",
    "load_texts",
    "make_lock",
    "mutants",
    "policy_files",
    "read_lock",
    "rule_in_plain_words",
    "scope_in_words",
    "smallest_change",
    "tools_from_mcp",
    "write_tool_schema",
]

_LATER: Final = {
    "CONTROLS": "_controls",
    "Change": "_flip",
    "Finding": "_lint",
    "Mutant": "_mutants",
    "defaults_in_plain_words": "_plain",
    "format_document": "_format",
    "json_schema": "_json_schema",
    "lint": "_lint",
    "mutants": "_mutants",
    "rule_in_plain_words": "_plain",
    "scope_in_words": "_lint",
    "smallest_change": "_flip",
}
"""What people ask of documents, and a governed process does not: loaded on demand."""


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module 'agentguard.policy' has no attribute {name!r}")
    return getattr(import_module(f"agentguard.policy.{_LATER[name]}"), name)
