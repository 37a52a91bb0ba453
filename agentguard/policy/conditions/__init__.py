"""
The language of conditions: a typed subset of CEL.

Takes source text and declared types, gives a checked tree and one compiled
Python function. It never evaluates text, never guesses a type, and never
answers otherwise than CEL does: what is outside the subset is refused.
"""

from agentguard.policy.conditions.condition import Condition, compile_condition, make_scope
from agentguard.policy.conditions.functions import FunctionSpec
from agentguard.policy.conditions.narrowed import CountedFact, FactSources, ask_any
from agentguard.policy.conditions.plain import render_plain, say_detectors
from agentguard.policy.conditions.scope import Scope
from agentguard.policy.conditions.together import ask_together

__all__ = [
    "Condition",
    "CountedFact",
    "FactSources",
    "FunctionSpec",
    "Scope",
    "ask_any",
    "ask_together",
    "compile_condition",
    "make_scope",
    "render_plain",
    "say_detectors",
]
