"""
From finished spans to the plain text of frames, and what was dropped on the way.

Runs on the writer thread only, but for `Drops.count`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agentguard.store._codec import RAW
from agentguard.store._derive import encode_features
from agentguard.store._facts import Facts, facts_of
from agentguard.store._grid import Grid, grid_of, grid_of_columns
from agentguard.store._layout import Kind
from agentguard.store._live import Body, make_body
from agentguard.store._rows import encode_gaps, encode_outcomes
from agentguard.store._subjects import span_bodies
from agentguard.values import GapRecord, InternalErrorHook, OutcomeRecord, SpanRecord, SpanSource


class _Drop:
    """How much was lost for one reason."""

    __slots__ = ("count", "first_unix_ns", "last_unix_ns", "written")

    def __init__(self, now_unix_ns: int) -> None:
        self.count = 0
        self.written = 0
        self.first_unix_ns = self.last_unix_ns = now_unix_ns


class Drops:
    """Counts losses by reason, and says which are not yet written down."""

    _REASONS_MAX = 64

    def __init__(self) -> None:
        self._by_reason: dict[str, _Drop] = {}

    def count(self, reason: str, now_unix_ns: int, count: int = 1, first_unix_ns: int | None = None) -> None:
        """Count a loss; may be called from any thread, and from a signal handler: it takes no lock."""
        drop = self._by_reason.get(reason)
        if drop is None:
            if len(self._by_reason) >= self._REASONS_MAX:
                reason = "other"
            drop = self._by_reason.setdefault(reason, _Drop(first_unix_ns or now_unix_ns))
        # The interpreter does not switch threads within this addition.
        drop.count += count
        drop.last_unix_ns = now_unix_ns

    @property
    def counts(self) -> Mapping[str, int]:
        """How much was lost, by reason."""
        return {reason: drop.count for reason, drop in tuple(self._by_reason.items())}

    @property
    def total(self) -> int:
        """How much was lost."""
        return sum(drop.count for drop in tuple(self._by_reason.values()))

    def take(self) -> list[GapRecord]:
        """Give the losses that are not yet written down, and take them for written."""
        gaps = []
        for reason, drop in tuple(self._by_reason.items()):
            count = drop.count - drop.written
            if count:
                gaps.append(GapRecord(reason, count, drop.first_unix_ns, drop.last_unix_ns))
                drop.written += count
                drop.first_unix_ns = drop.last_unix_ns
        return gaps


class Batcher:
    """Makes frames of what was queued. Safe for threads, but for `gap_bodies`."""

    def __init__(self, drops: Drops, on_internal_error: InternalErrorHook, record_bytes_max: int) -> None:
        self._drops = drops
        self._on_internal_error = on_internal_error
        self._record_bytes_max = record_bytes_max
        self._gaps = 0

    def bodies(
        self,
        sources: Sequence[SpanSource],
        outcomes: Sequence[OutcomeRecord],
        *,
        first_span: int,
        first_outcome: int,
        now_unix_ns: int,
    ) -> list[Body]:
        """Encode one batch with these sequence numbers; what cannot be encoded is dropped and counted."""
        bodies = self._column_bodies(sources, first_span)
        if bodies is None:
            bodies = self._span_bodies(self._records(sources, now_unix_ns), first_span, now_unix_ns)
        if outcomes:
            try:
                plain = encode_outcomes(outcomes, first_outcome)
            except Exception as error:  # The same.
                self._drops.count("encode_error", now_unix_ns, len(outcomes))
                self._on_internal_error("store.outcome", error)
            else:
                bodies.append(make_body(Kind.OUTCOMES, plain, records=len(outcomes)))
        return bodies

    def _column_bodies(self, sources: Sequence[SpanSource], first: int) -> list[Body] | None:
        """Encode spans of a kind that gives columns; None where records must be made."""
        ways = {getattr(kind, "columns", None) for kind in set(map(type, sources))}
        columns_of = ways.pop() if len(ways) == 1 else None
        if columns_of is None:
            return None
        try:
            columns = columns_of(sources)
            if columns is None:
                return None
            bodies, size = _encoded(grid_of_columns(columns, first), columns.traces)
        except Exception as error:  # Law 1: records show which span it is.
            self._on_internal_error("store.columns", error)
            return None
        return bodies if size <= self._record_bytes_max else None

    def _records(self, sources: Sequence[SpanSource], now_unix_ns: int) -> list[SpanRecord]:
        """Make the records of spans."""
        records = []
        for source in sources:
            try:
                records.append(source.record())
            except Exception as error:  # Law 1: a span that cannot be made must not stop the others.
                self._drops.count("encode_error", now_unix_ns)
                self._on_internal_error("store.record", error)
        return records

    def gap_bodies(self) -> list[Body]:
        """Write down the losses since the last time."""
        gaps = self._drops.take()
        if not gaps:
            return []
        body = make_body(Kind.GAPS, encode_gaps(gaps, self._gaps))._replace(facts=Facts(rows=len(gaps)))
        self._gaps += len(gaps)
        return [body]

    def _span_bodies(self, records: Sequence[SpanRecord], first: int, now_unix_ns: int) -> list[Body]:
        """Encode spans and their features; a batch that fails is tried span by span."""
        if not records:
            return []
        try:
            bodies, size = _encoded(grid_of(records, first))
            is_too_long = size > self._record_bytes_max and len(records) > 1
        except Exception as error:  # The same.
            if len(records) == 1:
                self._drops.count("encode_error", now_unix_ns)
                self._on_internal_error("store.encode", error)
                return []
            is_too_long = True
        if is_too_long:
            middle = len(records) // 2
            return self._span_bodies(records[:middle], first, now_unix_ns) + self._span_bodies(
                records[middle:], first + middle, now_unix_ns
            )
        if size > self._record_bytes_max:
            self._drops.count("too_long", now_unix_ns)
            return []
        return bodies


def _encoded(grid: Grid, traces: Sequence[bytes] = ()) -> tuple[list[Body], int]:
    """Encode a frame of spans and their features; returns how long the spans are uncompressed, too."""
    features, facts = encode_features(grid), facts_of(grid, traces)
    bodies, size = span_bodies(grid)
    # As narrow as they are, features would hardly become shorter.
    bodies.append(Body(Kind.FEATURES, RAW, features))
    return [body._replace(facts=facts) for body in bodies], size
