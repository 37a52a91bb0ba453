"""
The wired whole of one process: rooms, threads, and what a call needs of them.

Takes a `Config`, opens the store, loads the policies, and hands clock, ids and
keys to every room. Nothing else in agentguard knows all rooms.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from opentelemetry import trace
from opentelemetry.context import Context

import agentguard
from agentguard.audit import DecisionJournal
from agentguard.capture import CaptureEnvironment, RandomIds, Span, SpanLimits
from agentguard.errors import AgentGuardError, ConfigurationError, StoreError
from agentguard.runtime.calls import GuardedCall, begin
from agentguard.runtime.clock import SystemClock
from agentguard.runtime.config import Config
from agentguard.runtime.health import Health
from agentguard.runtime.runs import Run
from agentguard.seal import create_key_file, provider_from
from agentguard.state import MachineState
from agentguard.store import Store, WriterConfig
from agentguard.values import (
    NO_VERDICT,
    AttributeValue,
    Decision,
    DecisionRecord,
    DenialKind,
    Effect,
    FlushResult,
    RecordMode,
    Verdict,
)

if TYPE_CHECKING:
    from agentguard.policy import Bundle, Engine
    from agentguard.runtime.background import Background
    from agentguard.runtime.spec import CallSpec

logger = logging.getLogger("agentguard")
