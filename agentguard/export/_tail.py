"""
Which traces leave the machine, where not all of them do: those with an error, a violation, or a slow call.

A trace is kept whole or not at all, and the spans alone say which: the same spans
give the same choice, in whichever process and however often. Spans wait in a
window until one of their trace gives a reason to keep it; what leaves the window
unasked for stays in the store, and is counted.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from agentguard.export._columns import cut, of_groups, whole
from agentguard.export._encode import Item
from agentguard.export._source import Window
from agentguard.values import Column, SpanColumns, SpanEvent, SpanRecord
from agentguard.values import attributes as names

WINDOW_SPANS_MAX: Final = 20_000
"""Spans that wait for a reason."""
WINDOW_BYTES_MAX: Final = 32 * 1_048_576
KEPT_TRACES_MAX: Final = 16_384
"""Traces that are remembered as kept, so that their later spans go at once."""
KEPT_WRITTEN_MAX: Final = 256
"""Of these, how many a restart remembers: those that had spans last."""

Place: TypeAlias = tuple[str, int, int]
"""Writer, segment and number of a span."""


class Chosen(NamedTuple):
    """A span that is to be sent."""

    place: Place
    trace_id: str
    item: Item


def has_reason(record: SpanRecord, keep: Collection[str], slow_s: float) -> bool:
    """
    Say whether a span is a reason to keep its trace.

    Args:
        record:
            The span.
        keep:
            Of `KEEP`.
        slow_s:
            From which duration on a call is slow, in seconds.

    Returns:
        True for an error; for a decision that was, or in another mode would
        have been, anything but to allow; for a slow call.
    """
    if "error" in keep and record.status == "error":
        return True
    if "slow" in keep and record.duration_ns >= slow_s * 1e9:
        return True
    return "violation" in keep and (
        record.attributes.get(names.OUTCOME) == names.OUTCOME_DENIED or any(map(_is_violation, record.events))
    )


def reasons(spans: SpanColumns | SpanRecord, keep: Collection[str], slow_s: float) -> list[bool]:
    """Say of each span what `has_reason` says of it."""
    if isinstance(spans, SpanRecord):
        return [has_reason(spans, keep, slow_s)]
    count = len(spans.span_ids) // 8
    slow_ns = slow_s * 1e9 if "slow" in keep else math.inf
    is_error = "error" in keep
    found = [
        (is_error and status == "error") or duration >= slow_ns
        for status, duration in zip(
            whole(spans.statuses, count), whole(spans.durations_ns, count), strict=True
        )
    ]
    if "violation" in keep:
        rows = zip(found, of_groups(spans, _outcomes), whole(spans.events, count), strict=True)
        found = [
            is_one or outcome == names.OUTCOME_DENIED or any(map(_is_violation, events))
            for is_one, outcome, events in rows
        ]
    return found


def _outcomes(keys: Sequence[str], columns: Sequence[Column], count: int) -> Sequence[object]:
    """How the calls of a group ended, where that is said."""
    return whole(columns[list(keys).index(names.OUTCOME)] if names.OUTCOME in keys else (None,), count)


def _is_violation(event: SpanEvent) -> bool:
    return event.name == names.EVENT_POLICY and event.attributes.get(names.POLICY_VERDICT) != "allow"


def trace_ids(spans: SpanColumns | SpanRecord) -> list[str]:
    """The trace of each span."""
    return (
        [spans.trace_id] if isinstance(spans, SpanRecord) else [one.hex() for one in cut(spans.trace_ids, 16)]
    )


class Tail:
    """
    Chooses, span by span, in the order of the store.

    Args:
        kept:
            Traces that are being sent already.
        left_out:
            Spans left out so far.
    """

    def __init__(self, *, kept: Iterable[str] = (), left_out: int = 0) -> None:
        self._window: OrderedDict[Place, tuple[str, Item]] = OrderedDict()
        self._by_trace: dict[str, list[Place]] = {}
        self._by_writer: Counter[str] = Counter()
        self._bytes = 0
        self._kept: OrderedDict[str, None] = OrderedDict.fromkeys(kept)
        self.left_out = left_out
        """Spans that nothing has given a reason to send so far."""

    def choose(self, place: Place, trace: str, item: Item, *, is_reason: bool, is_new: bool) -> list[Chosen]:
        """
        Take one span.

        Args:
            place:
                In the store.
            trace:
                Of the span.
            item:
                As it would be sent.
            is_reason:
                Whether its trace is to be kept for it.
            is_new:
                False for a span that was chosen about before, and is only looked at again.

        Returns:
            What is to be sent now: the span, and those of its trace that waited.
        """
        if trace in self._kept:
            self._kept.move_to_end(trace)
            return [Chosen(place, trace, item)] if is_new else []
        if is_reason:
            waited = [Chosen(one, *self._remove(one)) for one in self._by_trace.pop(trace, [])]
            self._kept[trace] = None
            if len(self._kept) > KEPT_TRACES_MAX:
                self._kept.popitem(last=False)
            if not is_new:
                return []
            self.left_out -= len(waited)
            return [*waited, Chosen(place, trace, item)]
        self._window[place] = (trace, item)
        self._by_trace.setdefault(trace, []).append(place)
        self._by_writer[place[0]] += 1
        self._bytes += len(item.data)
        self.left_out += is_new
        while len(self._window) > WINDOW_SPANS_MAX or self._bytes > WINDOW_BYTES_MAX:
            oldest = next(iter(self._window))
            gone, _ = self._remove(oldest)
            places = self._by_trace[gone]
            places.remove(oldest)
            if not places:
                del self._by_trace[gone]
        return []

    def _remove(self, place: Place) -> tuple[str, Item]:
        trace, item = self._window.pop(place)
        self._by_writer[place[0]] -= 1
        self._bytes -= len(item.data)
        return trace, item

    def window(self, cursor: Mapping[str, tuple[int, int]], pending: Iterable[Chosen]) -> Window:
        """
        Say what must be there again after a restart.

        Args:
            cursor:
                How far the store has been read.
            pending:
                What was chosen and has not been sent.

        Returns:
            For each writer the place before its first span that waits.
        """
        found = dict(cursor)
        left = {writer for writer, count in self._by_writer.items() if count}
        for writer, n, sequence in self._window:
            if not left:
                break
            if writer in left:
                left.discard(writer)
                found[writer] = (n, sequence - 1)
        unsent: set[str] = set()
        for (writer, n, sequence), trace, _ in pending:
            found[writer] = min(found.get(writer, (n, sequence - 1)), (n, sequence - 1))
            # Not among the kept ones before all of it is sent: it is to be chosen once more.
            unsent.add(trace)
        kept = tuple(trace for trace in self._kept if trace not in unsent)
        return Window(found, kept[-KEPT_WRITTEN_MAX:])
