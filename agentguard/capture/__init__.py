"""
What happened in a call: spans, tokens, retries, streams, content.

Takes calls as they run, gives finished `SpanRecord`s. Never raises into the
caller, never does I/O, never imports an SDK. This door is loaded by
`import agentguard` and stays light.
"""

from agentguard.capture.context import Parent, context_with, current_span, find_parent
from agentguard.capture.environment import CaptureEnvironment, SpanLimits
from agentguard.capture.failures import class_name, error_type, is_cancellation
from agentguard.capture.ids import RandomIds
from agentguard.capture.span import Span
from agentguard.capture.usage import add_usage, extract_usage
from agentguard.capture.usage_sums import UsageTotals

__all__ = [
    "CaptureEnvironment",
    "Parent",
    "RandomIds",
    "Span",
    "SpanLimits",
    "UsageTotals",
    "add_usage",
    "class_name",
    "context_with",
    "current_span",
    "error_type",
    "extract_usage",
    "find_parent",
    "is_cancellation",
]
