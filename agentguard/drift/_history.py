"""
Any columns of any table as summaries: what the watch reads when it is run over history.

Scores are fixed by the rows of the reference alone, and counts add up, so the order of the rows and the
parts that a table comes in make no difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from agentguard.drift._columns import Column, Table, read_table
from agentguard.drift._layout import PLACES, Layout, coded, layout_of
from agentguard.drift._sample import Bools, Floats, Ints
from agentguard.drift._sides import NUMBER_MAX, infer_type
from agentguard.drift._source import STRAY_DAYS, strays_max
from agentguard.drift._streams import MISSING, RETRIES_CAP, Stream
from agentguard.drift._summary import Summary, merge, summarise
from agentguard.drift._table_store import read_time
from agentguard.drift._units import EVERYDAY_TYPES, TYPES, UNKNOWN_IS_NEGATIVE, is_never_negative
from agentguard.errors import DriftInputError
from agentguard.values import EVERYDAY_FEATURES, FeatureType

EDGES_MAX = 1_000
"""Values of the reference that a continuous column's bins are cut at."""
CATEGORIES_MAX = 8
"""Commonest values of a category that are watched, each as a share."""
GRAIN = 0.001
"""Shares that are fractions are kept in thousandths."""
_FALL_IS_NO_NEWS = frozenset({"error_rate", "retry_count", "is_error", "retries"})
_IDS = frozenset({"call_id", "trace_id", "span_id", "decision_id", "predicted_label", "true_label"})


class Series(NamedTuple):
    """One column as the watch reads it."""

    feature: str
    type: FeatureType
    streams: tuple[Stream, ...]
    has: Bools
    """Rows that count."""
    bins: Ints
    values: Floats
    """In the column's own unit; NaN where there is none."""


class History(NamedTuple):
    """A table, ready to be watched."""

    time_unix_ns: Ints
    series: tuple[Series, ...]
    layout: Layout
    members: tuple[tuple[int, Bools], ...]
    notes: tuple[str, ...]

    def summary(self, window_s: int, rows: Bools | None = None) -> Summary:
        """Count the rows, or some of them, by window."""
        window = self.time_unix_ns // (window_s * 10**9)
        parts = []
        for place, mine in ((0, None), *self.members):
            for one in self.series:
                keep = one.has if mine is None else one.has & mine
                if rows is not None:
                    keep = keep & rows
                code = np.full(int(keep.sum()), place * PLACES + one.streams[0].column, dtype=np.int64)
                parts.append(summarise(window[keep], code, one.bins[keep], window_s))
        return merge(parts, window_s)

    def streams(self) -> tuple[Stream, ...]:
        """Return what is watched: each column, and each in each segment that is no pair."""
        watched = [stream for one in self.series for stream in one.streams]
        for place, segment in enumerate(self.layout.segments, 1):
            if not segment.is_pair:
                watched += [
                    one.streams[0]._replace(segment=segment.name, place=place)
                    for one in self.series
                    if not one.streams[0].is_quality
                ]
        return tuple(watched)


def read_history(
    table: object,
    *,
    time: str,
    features: Iterable[str] | Mapping[str, FeatureType | None] | None,
    segments: Sequence[str],
    reference_ns: int,
) -> History:
    """
    Read a table for the watch.

    Args:
        table:
            Anything `compare` takes.
        time:
            Name of the column of times.
        features:
            Names, or a mapping of names to types; None for the everyday columns that are there, else all.
        segments:
            Names of columns whose values are segments.
        reference_ns:
            How long the reference is, from the first row on: it fixes types, bins and segments.

    Raises:
        DriftInputError: The table cannot be read, or lacks a column that was named.
    """
    asked = None if features is None else _asked(features)
    times = read_time(table, time)
    only = () if asked is None else (*asked, *segments)
    columns = read_table(table, what="table", only=only)
    chosen = _everyday(columns, {time, *segments}) if asked is None else asked
    for name in (*chosen, *segments):
        if name not in columns:
            raise DriftInputError(f"table: there is no column `{name}`, expected one of that name")
    notes: list[str] = []
    keep = _plausible(times)
    if not keep.all():
        notes.append(
            f"{int((~keep).sum()):,} rows lie more than a month before or after all others; they do not count."
        )
        times, columns = times[keep], {name: _some(column, keep) for name, column in columns.items()}
    in_reference = times < times.min() + reference_ns
    series: list[Series] = []
    for name, declared in chosen.items():
        problem = columns[name].problem
        if problem:
            notes.append(f"{name}: the column {problem}; it is not watched.")
            continue
        series += _read(columns[name], declared, in_reference, first=len(series), notes=notes)
    if len(series) > PLACES:
        raise DriftInputError(
            f"table: {len(series)} lines of evidence for {len(chosen)} features, expected at most {PLACES}"
        ).hint("name fewer: features=[...]")
    texts = {name: coded(_texts(columns[name])) for name in segments}
    counts = {
        name: dict(zip(known, np.bincount(codes[in_reference], minlength=len(known)).tolist(), strict=True))
        for name, (codes, known) in texts.items()
    }
    layout = layout_of(
        {name: {v: n for v, n in found.items() if n} for name, found in counts.items()},
        [(a, b) for i, a in enumerate(segments) for b in segments[i + 1 :]],
    )
    return History(times, tuple(series), layout, layout.members(texts, len(times)), tuple(notes))


def _plausible(times: Ints) -> Bools:
    """Return which rows lie where nearly all do: a clock that jumped must not stretch the reference over decades."""
    few, stray_ns = strays_max(len(times)), STRAY_DAYS * 86_400 * 10**9
    low, high = np.partition(times, [few, len(times) - 1 - few])[[few, -1 - few]]
    kept: Bools = (times >= low - stray_ns) & (times <= high + stray_ns)
    return kept


def _some(column: Column, keep: Bools) -> Column:
    """Return some rows of a column."""
    texts = column.texts
    return replace(
        column,
        n_rows=int(keep.sum()),
        numbers=None if column.numbers is None else column.numbers[keep],
        texts=None if texts is None else [texts[i] for i in np.flatnonzero(keep).tolist()],
    )


def _asked(features: Iterable[str] | Mapping[str, FeatureType | None]) -> dict[str, FeatureType | None]:
    """Return the features asked for with their declared types."""
    if isinstance(features, str):
        raise DriftInputError(f"features is the text `{features}`, expected a list of names")
    pairs = features.items() if isinstance(features, Mapping) else ((name, None) for name in features)
    asked: dict[str, FeatureType | None] = {}
    for name, type_ in pairs:
        if type_ is not None and type_ not in TYPES:
            raise DriftInputError(f"feature `{name}` has type `{type_}`, expected one of {', '.join(TYPES)}")
        asked[name] = type_
    if not asked:
        raise DriftInputError("features is empty, expected at least one name")
    return asked


def _everyday(columns: Table, taken: set[str]) -> dict[str, FeatureType | None]:
    """Return the everyday columns, or all that can be watched where there is none of them."""
    everyday: dict[str, FeatureType | None] = {n: None for n in EVERYDAY_FEATURES if n in columns}
    found = everyday or {
        n: None
        for n, c in columns.items()
        if n not in taken and n not in _IDS and not c.problem and c.texts is None
    }
    if not found:
        raise DriftInputError(
            f"table: none of the columns {', '.join(EVERYDAY_FEATURES)} is there, and no other has numbers"
        )
    return found


def _texts(column: Column) -> list[str]:
    """Return a column as texts, empty where missing."""
    if column.problem:
        raise DriftInputError(f"table: column `{column.name}` {column.problem}, expected segments")
    if column.texts is not None:
        return [text or "" for text in column.texts]
    if column.numbers is None:
        return [""] * column.n_rows
    return ["" if np.isnan(v) else f"{v:g}" for v in column.numbers.tolist()]


def _read(
    column: Column, declared: FeatureType | None, in_reference: Bools, *, first: int, notes: list[str]
) -> list[Series]:
    """Turn one column into its series: values, and whether they are missing."""
    name = column.name
    type_ = declared or EVERYDAY_TYPES.get(name) or _type_of(column, in_reference)
    if type_ == "category":
        return _category(column, in_reference, first=first)
    if column.texts is not None:
        if any(text is not None for text in column.texts):
            raise DriftInputError(f"table: column `{name}` holds text, expected numbers").hint(
                f"as a category it can be watched: {name}:category"
            )
        notes.append(f"{name}: no row has a value; it is not watched.")
        return []
    numbers = np.full(column.n_rows, np.nan) if column.numbers is None else column.numbers
    usable = np.isfinite(numbers) & (np.abs(numbers) <= NUMBER_MAX)
    if is_never_negative(name) or type_ == "count":
        usable &= numbers >= 0
    if type_ == "share":
        usable &= (numbers >= 0) & (numbers <= 1)
    is_said = ~np.isnan(numbers) & ~((name in UNKNOWN_IS_NEGATIVE) & (numbers == -1))
    n_broken = int((is_said & ~usable).sum())
    if n_broken:
        notes.append(
            f"{name}: {n_broken:,} of {column.n_rows:,} rows are infinite or out of range; they count as missing."
        )
    known = numbers[usable & in_reference]
    if not len(known):
        notes.append(f"{name}: no row of the reference has a value; it is not watched.")
        return []
    safe = np.where(usable, numbers, 0.0)
    has_falls = name not in _FALL_IS_NO_NEWS
    # A count whose reference goes beyond what scores are capped at is better seen as ranks.
    is_small_count = type_ == "count" and float(np.quantile(known, 0.995)) <= RETRIES_CAP
    if type_ == "share":
        is_binary = bool(np.isin(known, (0.0, 1.0)).all())
        grain = 1.0 if is_binary else GRAIN
        streams: tuple[Stream, ...] = (
            Stream("", name, "share", column=first, has_falls=has_falls, grain=grain),
        )
        bins = np.rint(safe / grain).astype(np.int64)
    elif is_small_count:
        streams = (Stream("", name, "count", column=first, has_falls=has_falls),)
        bins = np.minimum(safe, 4_000).astype(np.int64)
    else:
        streams = tuple(Stream("", name, score, column=first) for score in ("rank", "tail"))
        bins = edge_bins(safe, edges_of(known))
    everyone = np.ones(column.n_rows, dtype=bool)
    gone = Stream("", f"{name}{MISSING}", "share", column=first + 1)
    missing = (~usable).astype(np.int64)
    return [
        Series(name, type_, streams, usable, bins, np.where(usable, numbers, np.nan)),
        Series(f"{name}{MISSING}", "share", (gone,), everyone, missing, missing.astype(np.float64)),
    ]


def _type_of(column: Column, in_reference: Bools) -> FeatureType:
    """Guess the type of a column from the rows of the reference: nothing later may be known."""
    if column.texts is not None or column.numbers is None:
        return infer_type(column.name, column, column)
    known = Column(
        column.name, int(in_reference.sum()), column.numbers[in_reference], None, column.is_boolean
    )
    return infer_type(column.name, known, known)


def _category(column: Column, in_reference: Bools, *, first: int) -> list[Series]:
    """Watch the commonest values of a category, each as a share, and all others together."""
    codes, known = coded(_texts(column))
    counts = np.bincount(codes[in_reference], minlength=len(known))
    order = [i for i in np.argsort(-counts, kind="stable").tolist() if counts[i] and known[i]]
    everyone = np.ones(column.n_rows, dtype=bool)
    listed: list[Series] = []
    masks = [
        (known[i], codes == i) for i in sorted(order[:CATEGORIES_MAX], key=lambda i: (-counts[i], known[i]))
    ]
    others = ~np.isin(codes, order[:CATEGORIES_MAX])
    for text, mask in (*masks, ("(others)", others)):
        name = f"{column.name} = {text}"
        stream = Stream("", name, "share", column=first + len(listed), has_falls=True)
        bits = np.asarray(mask, dtype=np.int64)
        listed.append(Series(name, "share", (stream,), everyone, bits, bits.astype(np.float64)))
    return listed


def edges_of(known: Floats) -> Floats:
    """Return the values that the bins of a continuous column are cut at, from the reference alone."""
    distinct = np.unique(known)
    if len(distinct) <= EDGES_MAX:
        return distinct
    cut: Floats = np.unique(np.quantile(known, np.linspace(0, 1, EDGES_MAX), method="inverted_cdf"))
    return cut


def edge_bins(values: Floats, edges: Floats) -> Ints:
    """
    Return the bin of each value: an odd one on an edge, an even one between two.

    Example:
        >>> edge_bins(np.array([0.5, 1.0, 1.5, 2.0, 9.0]), np.array([1.0, 2.0])).tolist()
        [0, 1, 2, 3, 4]
    """
    place = np.searchsorted(edges, values, side="left")
    is_edge = edges[np.minimum(place, len(edges) - 1)] == values
    bins: Ints = 2 * place + is_edge
    return bins
