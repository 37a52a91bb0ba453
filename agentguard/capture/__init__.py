"""
What happened in a call: spans, tokens, retries, streams, content.

Takes calls as they run, gives finished `SpanRecord`s. Never raises into the
caller, never does I/O, never imports an SDK. This door is loaded by
`import agentguard` and stays light.
"""

from agentguard.capture.attribute_values import clean_attributes
from agentguard.capture.content import CAPTURE_MODES, CaptureMode, ContentCapture, narrower, otel_upper_bound
from agentguard.capture.context import SPAN_KEYS, context_with, current_span, find_parent, span_values
from agentguard.capture.cost import PRICES_AS_OF, Price, PriceTable, parse_prices
from agentguard.capture.environment import CaptureEnvironment, SpanLimits
from agentguard.capture.failures import class_name, error_type, is_cancellation
from agentguard.capture.foreign import ForeignSpanProcessor
from agentguard.capture.ids import RandomIds
from agentguard.capture.inner_calls import GENAI_UTIL, announce_outer_call, take_inner_call
from agentguard.capture.late_prices import LatePrices
from agentguard.capture.load import Load
from agentguard.capture.mirror import EndedSpan
from agentguard.capture.queueing import QUEUED_KEY, queued, take_wait
from agentguard.capture.rare import Rare
from agentguard.capture.refining import Refiner
from agentguard.capture.retry import HttpHooks, async_http_hooks, http_hooks, stamina_hook, tenacity_hook
from agentguard.capture.short_span import ShortSpan, SpanForm
from agentguard.capture.span import Span
from agentguard.capture.stream import StreamObserver
from agentguard.capture.stream_proxies import is_stream, watch_stream
from agentguard.capture.stream_usage import StreamUsage
from agentguard.capture.telemetry import Events, Meters, span_context
from agentguard.capture.throughput import LoadCurve, LoadLevel, load_curve
from agentguard.capture.usage import add_usage, extract_usage, usage_of, usages_of
from agentguard.capture.usage_quick import (
    READING_FIELDS,
    UNPRICED,
    Reading,
    UsageRow,
    chat_reading,
    other_row,
)
from agentguard.capture.usage_sums import SUMS_LOCK, UsageTotals, add_totals, totals_of

__all__ = [
    "CAPTURE_MODES",
    "GENAI_UTIL",
    "PRICES_AS_OF",
    "QUEUED_KEY",
    "READING_FIELDS",
    "SPAN_KEYS",
    "SUMS_LOCK",
    "UNPRICED",
    "CaptureEnvironment",
    "CaptureMode",
    "ContentCapture",
    "EndedSpan",
    "Events",
    "ForeignSpanProcessor",
    "HttpHooks",
    "LatePrices",
    "Load",
    "LoadCurve",
    "LoadLevel",
    "Meters",
    "Price",
    "PriceTable",
    "RandomIds",
    "Rare",
    "Reading",
    "Refiner",
    "ShortSpan",
    "Span",
    "SpanForm",
    "SpanLimits",
    "StreamObserver",
    "StreamUsage",
    "UsageRow",
    "UsageTotals",
    "add_totals",
    "add_usage",
    "announce_outer_call",
    "async_http_hooks",
    "chat_reading",
    "class_name",
    "clean_attributes",
    "context_with",
    "current_span",
    "error_type",
    "extract_usage",
    "find_parent",
    "http_hooks",
    "is_cancellation",
    "is_stream",
    "load_curve",
    "narrower",
    "otel_upper_bound",
    "other_row",
    "parse_prices",
    "queued",
    "span_context",
    "span_values",
    "stamina_hook",
    "take_inner_call",
    "take_wait",
    "tenacity_hook",
    "totals_of",
    "usage_of",
    "usages_of",
    "watch_stream",
]
