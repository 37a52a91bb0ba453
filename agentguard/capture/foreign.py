"""
Spans of other libraries: model, tool and protocol spans that an SDK made natively.

Takes ended spans of the application's OpenTelemetry provider, gives records for
the store. Knows the SDK by the shape of its spans only. Keeps names and numbers;
content stays out, since nobody asked this room for it.

Loaded only where the application has a provider.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from opentelemetry.context import Context

from agentguard.capture.attribute_values import clean_value
from agentguard.capture.context import current_span
from agentguard.capture.environment import CaptureEnvironment
from agentguard.capture.failures import looks_like_a_class
from agentguard.capture.recording import text_size
from agentguard.capture.span import Span
from agentguard.capture.usage_shapes import token_count
from agentguard.capture.usage_sums import UsageTotals
from agentguard.values import AttributeValue, SpanEvent, SpanLink, SpanRecord, Usage
from agentguard.values import attributes as names
from agentguard.values.attribute_table import ATTRIBUTES

_MODEL_KINDS: Final = frozenset({"model", "embeddings"})
_SHORT_CHARS_MAX: Final = 256
_BYTES_ESTIMATE: Final = 2_000
_OPEN_MAX: Final = 10_000
_CONTENTS_MAX: Final = 256


class ForeignSpan:
    """An ended span of another library, on its way to the store; implements `values.SpanSource`."""

    __slots__ = ("_content", "_counted_by", "_environment", "_span", "_usage")

    def __init__(
        self,
        span: Any,
        environment: CaptureEnvironment,
        counted_by: str,
        content: Mapping[str, AttributeValue] | None = None,
        usage: Usage | None = None,
    ) -> None:
        self._span = span
        self._usage = usage
        self._content = content or {}
        self._environment = environment
        self._counted_by = counted_by

    @property
    def bytes_estimate(self) -> int:
        """About how much memory the span holds until it is written."""
        return _BYTES_ESTIMATE + sum(text_size(value) for value in self._content.values())

    def record(self) -> SpanRecord:
        """Make the record."""
        span = self._span
        context, parent, scope = span.context, span.parent, span.instrumentation_scope
        found = self._attributes(span.attributes or {})
        if self._counted_by:
            # Our own span around it has the tokens; a sum over the trace must see them once.
            found = {key: value for key, value in found.items() if not key.startswith(names.USAGE_PREFIX)}
            found[names.USAGE_COUNTED_BY] = self._counted_by
        elif self._usage is not None and self._usage.cost_usd is not None:
            found.setdefault(names.COST_USD, self._usage.cost_usd)
        found.update(self._content)
        status = span.status
        description = status.description or ""
        record = SpanRecord(
            trace_id=f"{context.trace_id:032x}",
            span_id=f"{context.span_id:016x}",
            parent_span_id="" if parent is None else f"{parent.span_id:016x}",
            name=str(span.name)[:_SHORT_CHARS_MAX],
            kind=_kind(found),
            otel_kind=span.kind.name.lower(),
            start_unix_ns=span.start_time,
            duration_ns=max((span.end_time or span.start_time) - span.start_time, 0),
            status=status.status_code.name.lower(),
            status_description=description if looks_like_a_class(description) else "",
            attributes=found,
            events=tuple(
                SpanEvent(
                    str(event.name)[:_SHORT_CHARS_MAX],
                    event.timestamp,
                    self._attributes(event.attributes or {}),
                )
                for event in span.events[: self._environment.limits.events_max]
            ),
            links=tuple(
                SpanLink(f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}", {})
                for link in span.links[: self._environment.limits.links_max]
            ),
            scope="" if scope is None else scope.name,
            scope_version="" if scope is None else scope.version or "",
            trace_state=context.trace_state.to_header() if context.trace_state else "",
        )
        refine = self._environment.refine
        # Its own library measures it; here it counts as a call of the agent around it.
        return record if refine is None else refine(record, self._usage, ())

    def _attributes(self, attributes: Mapping[str, Any]) -> dict[str, AttributeValue]:
        """Keep names and numbers; what may be content, and what we do not know, stays out."""
        limits = self._environment.limits
        kept: dict[str, AttributeValue] = {}
        for key, value in attributes.items():
            spec = ATTRIBUTES.get(key)
            is_known = spec is not None and not spec.is_content
            if not is_known and not key.startswith(names.FOREIGN_KEPT_PREFIXES):
                continue
            cleaned = clean_value(value, chars_max=_SHORT_CHARS_MAX, items_max=limits.sequence_items_max)
            if cleaned is not None and len(kept) < limits.attributes_max:
                kept[key] = cleaned
        return kept


def _kind(attributes: Mapping[str, AttributeValue]) -> str:
    """Our word for what the span is of."""
    operation = str(attributes.get(names.OPERATION_NAME, ""))
    spec = names.OPERATIONS.get(operation)
    if spec is not None:
        return spec.kind
    if attributes.get(names.MCP_METHOD_NAME) == "tools/call":
        return "tool"
    return operation or "other"


def _usage(attributes: Mapping[str, Any]) -> Usage | None:
    """Read the tokens off a span that follows the conventions."""
    usage = Usage(
        input_tokens=token_count(attributes.get(names.INPUT_TOKENS)),
        output_tokens=token_count(attributes.get(names.OUTPUT_TOKENS)),
        cache_read_tokens=token_count(attributes.get(names.CACHE_READ_TOKENS)),
        cache_write_tokens=token_count(
            attributes.get(names.CACHE_WRITE_TOKENS, attributes.get(names.CACHE_CREATION_TOKENS))
        ),
        reasoning_tokens=token_count(attributes.get(names.REASONING_TOKENS)),
        model=_text(attributes.get(names.RESPONSE_MODEL)) or _text(attributes.get(names.REQUEST_MODEL)),
        response_id=_text(attributes.get(names.RESPONSE_ID)),
        provider=_text(attributes.get(names.PROVIDER_NAME)),
    )
    return None if usage.input_tokens is None and usage.output_tokens is None else usage


def _text(value: object) -> str | None:
    """Take a text."""
    return value if isinstance(value, str) else None


class ForeignSpanProcessor:
    """
    Brings the spans of other libraries into the store: add it to the application's provider.

    Has the methods that the SDK calls on a span processor. Tokens are counted
    once: directly inside a model call of ours they become that call's usage;
    elsewhere they are added to the totals of the span of ours around them.
    Never raises into the application.
    """

    def __init__(
        self,
        environment: CaptureEnvironment,
        *,
        on_usage: Callable[[Span | None, Usage], object] | None = None,
    ) -> None:
        self._environment = environment
        self._on_usage = on_usage
        # The SDK ends a copy of the span that it began, so the id is what joins them.
        self._owners: dict[int, Span] = {}
        self._contents: dict[int, Mapping[str, AttributeValue]] = {}

    def on_start(self, span: Any, parent_context: Context | None = None) -> None:
        """Remember in which span of ours it began."""
        try:
            owner = current_span(parent_context)
            if owner is not None:
                while len(self._owners) >= _OPEN_MAX:
                    # Spans that are dropped without an end must not fill the memory: the oldest is forgotten.
                    self._owners.pop(next(iter(self._owners)), None)
                self._owners[span.get_span_context().span_id] = owner
        except Exception as error:
            self._environment.on_internal_error("capture.foreign", error)

    def keep_content(self, span: Any, content: Mapping[str, AttributeValue]) -> None:
        """
        Keep what a native span that still runs was sent and gave back.

        Args:
            span:
                Of the application's provider.
            content:
                Made by `ContentCapture`, so redacted and cut already.

        """
        while len(self._contents) >= _CONTENTS_MAX:
            # Spans that are dropped without an end must not fill the memory: the oldest is forgotten.
            self._contents.pop(next(iter(self._contents)), None)
        self._contents[span.get_span_context().span_id] = content

    def _on_ending(self, span: Any) -> None:
        """Do nothing: the SDK calls this on each processor."""

    def on_end(self, span: Any) -> None:
        """Take the span in, if it is of a model, a tool or the protocol, and not ours."""
        try:
            self._take(span)
        except Exception as error:
            self._environment.on_internal_error("capture.foreign", error)

    def _take(self, span: Any) -> None:
        """Count and queue."""
        owner = self._owners.pop(span.context.span_id, None)
        content = self._contents.pop(span.context.span_id, None)
        scope = span.instrumentation_scope
        if scope is not None and scope.name == "agentguard":
            return
        attributes = span.attributes or {}
        if not any(key.startswith(names.FOREIGN_PREFIXES) for key in attributes):
            return
        counted_by = ""
        operation = names.OPERATIONS.get(str(attributes.get(names.OPERATION_NAME, "")))
        usage = _usage(attributes) if operation is not None and operation.kind in _MODEL_KINDS else None
        if usage is not None:
            if owner is not None and owner.kind in _MODEL_KINDS and owner.is_recording():
                owner.record_usage(usage)
                counted_by = owner.call_id
            elif self._environment.price_usd is not None:
                usage = usage._replace(cost_usd=self._environment.price_usd(usage))
            if owner is not None and not counted_by:
                owner.add_inner_usage(UsageTotals(usage.input_tokens, usage.output_tokens, usage.cost_usd))
            if not counted_by and self._on_usage is not None:
                self._on_usage(owner, usage)
        self._environment.sink(ForeignSpan(span, self._environment, counted_by, content, usage))

    def shutdown(self) -> None:
        """Do nothing: the store is closed by its owner."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - the signature is the SDK's
        """Do nothing: what was queued is the store's to flush."""
        return True
