"""
The wired whole: configuration, decorators, runs, threads and clock.

Takes a `Config`, gives a `Runtime` that every decorated call passes through.
This door is loaded by `import agentguard` and stays light: store, policies and
keys are imported by `init()`.
"""

from agentguard.runtime.api import (
    current,
    flush,
    init,
    record_outcome,
    record_retry,
    record_usage,
    run,
    shutdown,
    span,
)
from agentguard.runtime.clock import SystemClock
from agentguard.runtime.config import Config, find_file, load_config
from agentguard.runtime.decorators import agent, guard, model, retriever, tool, workflow
from agentguard.runtime.settings import SECRET_VARIABLES, SETTINGS, Setting

__all__ = [
    "SECRET_VARIABLES",
    "SETTINGS",
    "Config",
    "Setting",
    "SystemClock",
    "agent",
    "current",
    "find_file",
    "flush",
    "guard",
    "init",
    "load_config",
    "model",
    "record_outcome",
    "record_retry",
    "record_usage",
    "retriever",
    "run",
    "shutdown",
    "span",
    "tool",
    "workflow",
]
