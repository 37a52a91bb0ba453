"""From the store's feature blocks to summaries: the only place that reads a store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from agentguard.drift._layout import PLACES, WHOLE, Layout, Members
from agentguard.drift._quality import CHECKS, NOTHING_KNOWN, Duplicates, Known, masks_of
from agentguard.drift._sample import Bools, Ints
from agentguard.drift._summary import (
    KINDS,
    MEASURES,
    MEASURES_MAX,
    RETRIES_MAX,
    SLOT_S,
    SLOTS_A_DAY,
    Summary,
    empty_summary,
    logarithmic_bins,
    merge,
    summarise,
)

COLUMNS = (
    "start_unix_ns",
    "duration_ns",
    "time_to_first_chunk_ns",
    "input_tokens",
    "output_tokens",
    "retries",
    "is_error",
    "is_usage_missing",
    "kind",
    "agent",
    "error_type",
)
"""Columns of the feature block that the checker reads."""

DIMENSIONS = ("tool", "model", "prompt_version", "tenant")
"""Columns of the feature block whose values are segments."""
PAIRS = (("model", "prompt_version"), ("model", "tenant"), ("prompt_version", "tenant"), ("tenant", "tool"))
"""Dimensions whose pairs are counted; a tool is called without a model."""
CHECKED = ("cost_usd", "schema", "tool", "model")
"""Columns that the checks of the data's quality read beside these."""
SEGMENTED = frozenset({"latency", "tokens", "retries", "error"})
"""Measures that segments have too."""

STOPPED = frozenset({"denied", "agentguard.errors.CallDenied", "agentguard.errors.ApprovalPending"})
"""Error types of calls that a policy stopped or held, and of the calls around them that ended by it.

They say what the policy did, not what the agent did. Were they counted, a rule that holds calls while there
is drift would raise the error rate, and keep the alarm that holds them.
"""

_BATCH_ROWS = 65_536
LONGEST_CALL_NS = 24 * 3600 * 10**9
"""Calls are counted where they end; so far back a call may have begun."""


class FeatureColumn(Protocol):
    """One column of a feature block, as the store hands it out."""

    @property
    def values(self) -> memoryview:
        """Numbers, or indices into `dictionary`."""
        ...

    @property
    def dictionary(self) -> tuple[str, ...]:
        """Texts that the indices stand for."""
        ...


class FeatureBlockLike(Protocol):
    """Columns of some spans, as the store hands them out."""

    @property
    def rows(self) -> int:
        """Spans in the block."""
        ...

    @property
    def columns(self) -> Mapping[str, Any]:
        """Columns by name; those that an old block lacks are left out."""
        ...


class FeatureQuery(Protocol):
    """What is asked of a store's query."""

    def features(
        self, names: Sequence[str], *, since_unix_ns: int | None = None, until_unix_ns: int | None = None
    ) -> Iterator[Any]:
        """Yield feature blocks of the spans that began in the time given."""
        ...


STRAY_DAYS = 30
"""Calls that lie further from all others than this are a clock's mistake."""
_DAY_NS = 86_400 * 10**9


class FeatureStore(Protocol):
    """What is asked of a store: its numbers, and a place for sealed bytes."""

    def query(self) -> Any:
        """Return something with `features`."""
        ...

    def sealed_blob(self, name: str) -> Any:
        """Return something with `read` and `write`."""
        ...


class Rows(NamedTuple):
    """Calls as columns of numbers."""

    end_unix_ns: Ints
    kind: Ints
    """Index into `KINDS`."""
    duration_ns: Ints
    first_chunk_ns: Ints
    tokens: Ints
    """-1 where unknown."""
    retries: Ints
    is_error: Ints
    is_usage_missing: Ints
    labels: Ints | None = None
    """Index into the texts of each dimension of `DIMENSIONS`. Shape `(n_rows, n_dimensions)`."""
    looked: Ints | None = None
    """Bit i is set where check i of `CHECKS` looked at the call."""
    failed: Ints | None = None
    """Bit i is set where it failed."""

    def where(self, mask: Bools) -> Rows:
        """Return some of the rows."""
        return Rows(*(None if column is None else column[mask] for column in self))  # type: ignore[arg-type]


class Labels:
    """Texts of the dimensions, numbered as they come: blocks have dictionaries of their own."""

    def __init__(self) -> None:
        self.texts: tuple[list[str], ...] = tuple([] for _ in DIMENSIONS)
        self._numbers: tuple[dict[str, int], ...] = tuple({} for _ in DIMENSIONS)

    def of(self, block: FeatureBlockLike) -> Ints:
        """Return the number of each row's text in each dimension."""
        found = np.empty((block.rows, len(DIMENSIONS)), dtype=np.int64)
        for place, dimension in enumerate(DIMENSIONS):
            column = block.columns.get(dimension)
            texts: tuple[str, ...] = ("",) if column is None else column.dictionary or ("",)
            numbers, listed = self._numbers[place], self.texts[place]
            for text in texts:
                if text not in numbers:
                    numbers[text] = len(listed)
                    listed.append(text)
            codes = np.array([numbers[text] for text in texts], dtype=np.int64)
            found[:, place] = codes[0] if column is None else codes[np.asarray(column.values)]
        return found

    def members(self, rows: Rows, layout: Layout) -> Members:
        """Return which rows are in which segment."""
        if rows.labels is None or not layout.segments:
            return ()
        columns = {
            dimension: (rows.labels[:, place], tuple(self.texts[place]))
            for place, dimension in enumerate(DIMENSIONS)
        }
        return layout.members(columns, len(rows.kind))


def summarise_rows(rows: Rows, window_s: int, members: Members = ()) -> Summary:
    """
    Count calls by window, kind, measure and bin; a call belongs to the window in which it ended.

    Args:
        rows:
            The calls.
        window_s:
            Length of a window in seconds.
        members:
            Which rows are in which segment; they count there and in the whole.
    """
    window = rows.end_unix_ns // (window_s * 10**9)
    base = rows.kind * MEASURES_MAX
    is_model = rows.kind == KINDS.index("model")
    parts: list[tuple[str, Bools | None, Ints]] = [
        ("latency", rows.duration_ns >= 0, logarithmic_bins(rows.duration_ns.astype(np.float64))),
        ("tokens", rows.tokens >= 0, logarithmic_bins(rows.tokens.astype(np.float64))),
        ("retries", rows.retries >= 0, np.clip(rows.retries, 0, RETRIES_MAX)),
        ("error", None, np.clip(rows.is_error, 0, 1)),
        ("usage_missing", is_model, np.clip(rows.is_usage_missing, 0, 1)),
        ("first_chunk", rows.first_chunk_ns >= 0, logarithmic_bins(rows.first_chunk_ns.astype(np.float64))),
    ]
    found: list[Summary] = []
    for name, keep, values in parts:
        code = MEASURES.index(name)
        if keep is None or keep.all():
            found.append(summarise(window, base + code, values, window_s))
        elif keep.any():
            found.append(summarise(window[keep], base[keep] + code, values[keep], window_s))
    for place, mine in members:
        some = np.flatnonzero(mine)
        if not len(some):
            continue
        for name, keep, values in parts:
            if name not in SEGMENTED:
                continue
            taken = some if keep is None else some[keep[some]]
            code = place * PLACES + MEASURES.index(name)
            found.append(summarise(window[taken], base[taken] + code, values[taken], window_s))
    if rows.looked is not None and rows.failed is not None:
        for i, name in enumerate(CHECKS):
            looked = np.flatnonzero(rows.looked & (1 << i))
            bits = (rows.failed[looked] >> i) & 1
            found.append(summarise(window[looked], base[looked] + MEASURES.index(name), bits, window_s))
        slot = rows.end_unix_ns // (SLOT_S * 10**9) % SLOTS_A_DAY
        found.append(summarise(window, np.full_like(window, MEASURES.index("slots")), slot, window_s))
    return merge(found, window_s)


def read_summary(
    store: FeatureStore,
    *,
    since_unix_ns: int,
    until_unix_ns: int,
    window_s: int,
    agent: str = "",
    layout: Layout = WHOLE,
    known: Known = NOTHING_KNOWN,
) -> Summary:
    """
    Summarise the calls of a store that ended in [since, until).

    Args:
        store:
            Where the feature blocks are.
        since_unix_ns:
            Beginning of the time, included.
        until_unix_ns:
            Its end, not included.
        window_s:
            Length of the windows.
        agent:
            Only calls of this agent; empty for all.
        layout:
            Segments that are counted beside the whole.
        known:
            What the checks of the data's quality compare with.
    """
    parts: list[Summary] = []
    labels = Labels() if layout.segments else None
    duplicates = Duplicates()
    for batch in _batches(store, since_unix_ns - LONGEST_CALL_NS, until_unix_ns, agent, labels, known):
        rows = _with_duplicates(batch, duplicates)
        inside = (rows.end_unix_ns >= since_unix_ns) & (rows.end_unix_ns < until_unix_ns)
        if inside.any():
            kept = rows.where(inside)
            parts.append(summarise_rows(kept, window_s, labels.members(kept, layout) if labels else ()))
        if len(parts) > 16:
            parts = [merge(parts, window_s)]
    return merge(parts, window_s) if parts else empty_summary(window_s)


def _with_duplicates(rows: Rows, duplicates: Duplicates) -> Rows:
    """Mark the calls of a batch that were recorded before."""
    assert rows.failed is not None
    again = duplicates.of(rows.end_unix_ns, rows.duration_ns, rows.kind, rows.tokens)
    return rows._replace(failed=rows.failed | (again.astype(np.int64) << CHECKS.index("duplicate")))


def time_span(store: FeatureStore, *, agent: str = "") -> tuple[int, int, int]:
    """
    Return when the first call of a store ended, when the last did, and how many there are.

    A few more than a month away from all others do not count: a clock that jumped must stretch no reference.
    """
    days: dict[int, tuple[int, int, int]] = {}
    for rows in _batches(store, None, None, agent):
        if not len(rows.end_unix_ns):
            continue
        ends = np.sort(rows.end_unix_ns)
        found, starts = np.unique(ends // _DAY_NS, return_index=True)
        for day, here in zip(found.tolist(), np.split(ends, starts[1:]), strict=True):
            first, last, n = days.get(day, (int(here[0]), int(here[-1]), 0))
            days[day] = (min(first, int(here[0])), max(last, int(here[-1])), n + len(here))
    if not days:
        return 0, 0, 0
    ascending = sorted(days)
    total = np.cumsum([days[day][2] for day in ascending])
    few = strays_max(int(total[-1]))
    low, high = (ascending[i] for i in np.searchsorted(total, [few, total[-1] - 1 - few], side="right"))
    kept = [days[day] for day in ascending if low - STRAY_DAYS <= day <= high + STRAY_DAYS]
    return min(one[0] for one in kept), max(one[1] for one in kept), sum(one[2] for one in kept)


def strays_max(n: int) -> int:
    """Return how many of the first, and of the last, of *n* calls may be a clock's mistake."""
    return max(1, n // 1000) if n >= 10 else 0


def _batches(
    store: FeatureStore,
    since_unix_ns: int | None,
    until_unix_ns: int | None,
    agent: str,
    labels: Labels | None = None,
    known: Known | None = None,
) -> Iterator[Rows]:
    """Yield rows in batches: blocks are small, and NumPy wants large arrays."""
    waiting: list[Rows] = []
    n = 0
    since = None if since_unix_ns is None else max(0, since_unix_ns)
    wanted = tuple(
        dict.fromkeys((*COLUMNS, *(DIMENSIONS if labels else ()), *(CHECKED if known is not None else ())))
    )
    for block in store.query().features(wanted, since_unix_ns=since, until_unix_ns=until_unix_ns):
        everything, mine = rows_of(block), is_watched(block) & is_of(block, agent)
        if labels is not None:
            everything = everything._replace(labels=labels.of(block))
        if known is not None:
            masks = masks_of(block, kind=everything.kind, duration_ns=everything.duration_ns, known=known)
            everything = everything._replace(looked=masks.looked, failed=masks.failed)
        rows = everything.where(mine)
        waiting.append(rows)
        n += len(rows.end_unix_ns)
        if n >= _BATCH_ROWS:
            yield joined(waiting)
            waiting, n = [], 0
    if waiting:
        yield joined(waiting)


def joined(parts: list[Rows]) -> Rows:
    """Put small batches together."""
    together = [
        None if columns[0] is None else np.concatenate(columns) for columns in zip(*parts, strict=True)
    ]
    return Rows(*together)  # type: ignore[arg-type]


def is_watched(block: FeatureBlockLike) -> Bools:
    """Return which rows count: those that no policy stopped."""
    ended = block.columns.get("error_type")
    if ended is None:
        return np.ones(block.rows, dtype=bool)
    stopped = [i for i, text in enumerate(ended.dictionary) if text in STOPPED]
    watched: Bools = ~np.isin(np.asarray(ended.values), stopped)
    return watched


def is_of(block: FeatureBlockLike, agent: str) -> Bools:
    """Return which rows are of an agent; empty for all."""
    if not agent:
        return np.ones(block.rows, dtype=bool)
    column = block.columns.get("agent")
    if column is None or agent not in column.dictionary:
        return np.zeros(block.rows, dtype=bool)
    found: Bools = np.asarray(column.values) == column.dictionary.index(agent)
    return found


def rows_of(block: FeatureBlockLike) -> Rows:
    """Read one block; a column that an old block lacks is unknown everywhere."""
    columns = block.columns

    def numbers(name: str, unknown: int) -> Ints:
        if name not in columns:
            return np.full(block.rows, unknown, dtype=np.int64)
        return np.asarray(columns[name].values).astype(np.int64)

    tokens_in, tokens_out = numbers("input_tokens", -1), numbers("output_tokens", -1)
    is_known = (tokens_in >= 0) | (tokens_out >= 0)
    tokens = np.where(is_known, np.maximum(tokens_in, 0) + np.maximum(tokens_out, 0), -1)
    duration = numbers("duration_ns", -1)
    return Rows(
        end_unix_ns=numbers("start_unix_ns", 0) + np.maximum(duration, 0),
        kind=_kinds(columns.get("kind"), block.rows),
        duration_ns=duration,
        first_chunk_ns=numbers("time_to_first_chunk_ns", -1),
        tokens=tokens,
        retries=numbers("retries", -1),
        is_error=numbers("is_error", 0),
        is_usage_missing=numbers("is_usage_missing", 0),
    )


def _kinds(column: FeatureColumn | None, n: int) -> Ints:
    """Return the kind of each row as an index into `KINDS`."""
    other = KINDS.index("other")
    if column is None:
        return np.full(n, other, dtype=np.int64)
    codes = np.array(
        [KINDS.index(t) if t in KINDS else other for t in column.dictionary] or [other], dtype=np.int64
    )
    kinds: Ints = codes[np.asarray(column.values)]
    return kinds
