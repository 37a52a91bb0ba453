"""
Middleware that wraps AI agents and governs them.

A decorator marks a call; policy decides before it, telemetry records it in
encrypted local storage, and a background checker says whether it is still the
agent that was tested.

    import agentguard
    agentguard.init()

    @agentguard.tool(effect="write")
    def refund(order_id: str, amount_usd: float) -> str: ...
"""

from typing import TYPE_CHECKING

from agentguard.errors import AgentGuardError, ApprovalPending, CallDenied
from agentguard.integrations import wrap
from agentguard.runtime import (
    agent,
    current,
    flush,
    guard,
    init,
    model,
    record_outcome,
    record_retry,
    record_usage,
    register_fact,
    register_fallback,
    retriever,
    run,
    shutdown,
    span,
    tool,
    workflow,
)
from agentguard.version import __version__

if TYPE_CHECKING:
    from agentguard.runtime import read_store

__all__ = [
    "AgentGuardError",
    "ApprovalPending",
    "CallDenied",
    "__version__",
    "agent",
    "current",
    "flush",
    "guard",
    "init",
    "model",
    "read_store",
    "record_outcome",
    "record_retry",
    "record_usage",
    "register_fact",
    "register_fallback",
    "retriever",
    "run",
    "shutdown",
    "span",
    "tool",
    "workflow",
    "wrap",
]


def __getattr__(name: str) -> object:
    """Load what needs numpy, YAML or cryptography when it is first named."""
    import importlib

    if name in {"drift", "policy"}:
        return importlib.import_module(f"agentguard.{name}")
    if name == "read_store":
        return importlib.import_module("agentguard.runtime").read_store
    raise AttributeError(f"module 'agentguard' has no attribute {name!r}")
