"""
The wired whole: configuration, decorators, runs, threads and clock.

Takes a `Config`, gives a `Runtime` that every decorated call passes through.
This door is loaded by `import agentguard` and stays light: store, policies and
keys are imported by `init()`.
"""

from typing import TYPE_CHECKING

from agentguard.runtime.blocks import run, span
from agentguard.runtime.clock import SystemClock
from agentguard.runtime.decorators import agent, guard, model, retriever, tool, workflow
from agentguard.runtime.life import flush, init, shutdown
from agentguard.runtime.noting import current, record_outcome, record_retry, record_usage
from agentguard.runtime.registering import register_fact, register_fallback
from agentguard.runtime.runs import current_run

if TYPE_CHECKING:
    from agentguard.runtime.config import Config, find_file, load_config
    from agentguard.runtime.declaration import Declaration
    from agentguard.runtime.declared import DecoratedTool, decorated_tools
    from agentguard.runtime.exporting import destinations
    from agentguard.runtime.in_force import KeyVerifier
    from agentguard.runtime.opening import open_journal, safeguards_of
    from agentguard.runtime.person import user_name
    from agentguard.runtime.reading import FILTER_CHARS_MAX, chain_by_hand, read_store
    from agentguard.runtime.registering import registered_specs, stand_ins
    from agentguard.runtime.requests import RequestCall, declare_request, send_request, send_request_async
    from agentguard.runtime.settings import SECRET_VARIABLES, SETTINGS, Setting
    from agentguard.runtime.webhook import read_secret

__all__ = [
    "FILTER_CHARS_MAX",
    "SECRET_VARIABLES",
    "SETTINGS",
    "Config",
    "Declaration",
    "DecoratedTool",
    "KeyVerifier",
    "RequestCall",
    "Setting",
    "SystemClock",
    "agent",
    "chain_by_hand",
    "current",
    "current_run",
    "declare_request",
    "decorated_tools",
    "destinations",
    "find_file",
    "flush",
    "guard",
    "init",
    "load_config",
    "model",
    "open_journal",
    "read_secret",
    "read_store",
    "record_outcome",
    "record_retry",
    "record_usage",
    "register_fact",
    "register_fallback",
    "registered_specs",
    "retriever",
    "run",
    "safeguards_of",
    "send_request",
    "send_request_async",
    "shutdown",
    "span",
    "stand_ins",
    "tool",
    "user_name",
    "workflow",
]

_LATER = {
    "Config": "config",
    "find_file": "config",
    "load_config": "config",
    "Declaration": "declaration",
    "DecoratedTool": "declared",
    "decorated_tools": "declared",
    "KeyVerifier": "in_force",
    "open_journal": "opening",
    "safeguards_of": "opening",
    "FILTER_CHARS_MAX": "reading",
    "chain_by_hand": "reading",
    "read_store": "reading",
    "user_name": "person",
    "registered_specs": "registering",
    "destinations": "exporting",
    "stand_ins": "registering",
    "RequestCall": "requests",
    "declare_request": "requests",
    "send_request": "requests",
    "send_request_async": "requests",
    "SECRET_VARIABLES": "settings",
    "SETTINGS": "settings",
    "Setting": "settings",
    "read_secret": "webhook",
}


def __getattr__(name: str) -> object:
    """Load what only `init()` and the command line need when it is first named."""
    if name in _LATER:
        import importlib

        return getattr(importlib.import_module(f"agentguard.runtime.{_LATER[name]}"), name)
    raise AttributeError(f"module 'agentguard.runtime' has no attribute {name!r}")
