"""
Wrapping: a callable in, a callable of the same shape out.

Takes a callable and the function that begins a call; what a call means is not
known here. This door is loaded by `import agentguard` and stays light.
"""

from agentguard.wrapping.call import ActiveCall, BeginCall, Passes
from agentguard.wrapping.held import Hold
from agentguard.wrapping.lazy_context import LazyContext
from agentguard.wrapping.shapes import wrap
from agentguard.wrapping.steps import attach, current_context, detach, reset

__all__ = [
    "ActiveCall", "BeginCall", "Hold", "LazyContext", "Passes", "attach", "current_context", "detach", "reset", "wrap",
]  # fmt: skip
