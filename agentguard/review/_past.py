"""
What happened, in order of time: questions and endings, from the decision log and the spans.

The log keeps what was asked and how it ended; the spans keep what was used, how
calls stood inside each other, and arguments where content is captured in full.
What neither kept is not here, and nobody makes it up.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from agentguard.errors import StoreError
from agentguard.values import DecisionRecord, SpanRecord
from agentguard.values import attributes as names

EVENTS_MAX: Final = 5_000_000
"""Questions and endings that one replay takes."""

_NOT_PLAIN: Final = re.compile(r"<[\w.]+>|…")
"""How content names an object that it could not write, and what it cut."""


class Kept(NamedTuple):
    """What a span kept of a call."""

    call_id: str
    parent: str
    run_id: str
    kind: str
    tool: str
    model: str
    agent: str
    start_ns: int
    end_ns: int
    is_error: bool
    tokens: int | None
    """Of the call itself; None where nobody said."""
    cost_usd: float | None
    total_tokens: int | None
    """Of the calls inside it; None where none said anything."""
    total_usd: float | None
    retries: int
    facts: Mapping[str, object]
    """Facts that do not change while the call runs."""
    args: Mapping[str, object] | None


class Event(NamedTuple):
    """Something that happened."""

    time_ns: int
    order: int
    """Among events of the same time."""
    call_id: str
    record: DecisionRecord | None
    """A question before a call, or the outcome that ends it; None for a span that no rule was asked about."""
    is_end: bool


class Past(NamedTuple):
    """All of it."""

    events: list[Event]
    """In order of time."""
    kept: dict[str, Kept]
    """Spans by call."""


def read_past(records: Iterable[DecisionRecord], spans: Iterable[SpanRecord]) -> Past:
    """
    Put decisions and spans in order.

    Args:
        records:
            Of the decision log, each journal in its own order.
        spans:
            Of the store, for the same stretch of time.

    Returns:
        Questions before calls and the ends of calls. Decisions after calls are
        left out: what they were about is not kept.

    Raises:
        StoreError: There is more than can be put in order.
    """
    kept = {span.call_id: _kept(span) for span in spans if span.scope == "agentguard"}
    events: list[Event] = []
    asked: set[str] = set()
    ended: set[str] = set()
    for record in records:
        if record.point.endswith(".before"):
            asked.add(record.call_id)
            events.append(Event(record.time_unix_ns, len(events), record.call_id, record, is_end=False))
        elif record.point == "outcome":
            ended.add(record.call_id)
            events.append(Event(record.time_unix_ns, len(events), record.call_id, record, is_end=True))
        _check(events)
    for call_id, span in kept.items():
        if call_id in asked:
            continue
        events.append(Event(span.start_ns, len(events), call_id, None, is_end=False))
        events.append(Event(span.end_ns, len(events), call_id, None, is_end=True))
        _check(events)
    events.sort(key=lambda event: (event.time_ns, event.order))
    return Past(events, kept)


def _check(events: list[Event]) -> None:
    if len(events) > EVENTS_MAX:
        raise StoreError(f"replay: more than {EVENTS_MAX:,} questions and endings; ask about a shorter time")


def _kept(span: SpanRecord) -> Kept:
    """Take out of a span what a replay needs."""
    found = span.attributes
    facts: dict[str, object] = {
        "conversation.id": str(found.get(names.CONVERSATION_ID, "")),
        "run.labels": {
            name.removeprefix(names.LABEL_PREFIX): value
            for name, value in found.items()
            if name.startswith(names.LABEL_PREFIX)
        },
    }
    for fact, name in (("tool.effect", names.TOOL_EFFECT), ("model.provider", names.PROVIDER_NAME)):
        if name in found:
            facts[fact] = found[name]
    outcome = found.get(names.OUTCOME, "")
    has_attempts = names.USAGE_BILLED_INPUT_TOKENS in found or names.USAGE_BILLED_OUTPUT_TOKENS in found
    return Kept(
        call_id=span.call_id,
        parent=span.parent_span_id or str(found.get(names.PARENT_CALL_ID, "")),
        run_id=str(found.get(names.RUN_ID, "")),
        kind=span.kind,
        tool=str(found.get(names.TOOL_NAME, "")),
        model=str(found.get(names.REQUEST_MODEL, "")),
        agent=str(found.get(names.AGENT_NAME, "")),
        start_ns=span.start_unix_ns,
        end_ns=span.end_unix_ns,
        is_error=outcome in (names.OUTCOME_ERROR, names.OUTCOME_CANCELLED),
        tokens=_tokens(found, names.USAGE_BILLED_INPUT_TOKENS, names.USAGE_BILLED_OUTPUT_TOKENS)
        if has_attempts
        else _tokens(found, names.INPUT_TOKENS, names.OUTPUT_TOKENS),
        # The price of the last attempt alone is not that of the call.
        cost_usd=_number(found.get(names.COST_BILLED_USD if has_attempts else names.COST_USD)),
        total_tokens=_tokens(found, names.USAGE_TOTAL_INPUT_TOKENS, names.USAGE_TOTAL_OUTPUT_TOKENS),
        total_usd=_number(found.get(names.COST_TOTAL_USD)),
        retries=int(_number(found.get(names.HTTP_RESEND_COUNT)) or 0),
        facts=facts,
        args=_arguments(found),
    )


def _number(value: object) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _tokens(found: Mapping[str, object], first: str, second: str) -> int | None:
    """Add two counts; None where neither is there."""
    counts = [count for name in (first, second) if (count := _number(found.get(name))) is not None]
    return int(sum(counts)) if counts else None


def _arguments(found: Mapping[str, object]) -> Mapping[str, object] | None:
    """Read the arguments of a tool call, where they were kept as they were."""
    text = found.get(names.TOOL_CALL_ARGUMENTS)
    if not isinstance(text, str) or found.get(names.CONTENT_TRUNCATED) or found.get(names.CONTENT_REDACTIONS):
        return None
    try:
        read = json.loads(text)
    except ValueError:
        return None
    return read if isinstance(read, dict) and _is_plain(read) else None


def _is_plain(value: object) -> bool:
    """Whether nothing in the arguments stands for something that was not written."""
    if isinstance(value, str):
        return _NOT_PLAIN.fullmatch(value) is None
    if isinstance(value, dict):
        return all(_is_plain(key) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return True
