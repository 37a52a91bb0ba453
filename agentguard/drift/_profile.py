"""
All calls of a stretch of time as one profile, and the comparison of two profiles.

This is the check for the first day: minutes of data, no season, one answer. A profile is bounded
whatever the number of calls, so it can be kept as a reference.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from agentguard.drift._assemble import ROWS_MIN, Correction, Judged, judge_feature, settle
from agentguard.drift._comparison import Comparison, FeatureComparison
from agentguard.drift._dependence import dependence
from agentguard.drift._layout import PLACES, WHOLE, Layout
from agentguard.drift._quality import PriceSums
from agentguard.drift._sample import Bools, Floats, Ints
from agentguard.drift._sides import Side
from agentguard.drift._source import (
    COLUMNS,
    LONGEST_CALL_NS,
    FeatureStore,
    Labels,
    Rows,
    is_of,
    is_watched,
    joined,
    rows_of,
    summarise_rows,
)
from agentguard.drift._streams import Stream, possible_streams, scale_of, score_windows
from agentguard.drift._summary import KINDS, Summary, measure_of, merge, sample_from, series_code, total
from agentguard.drift._typed import Floors
from agentguard.values import FeatureType

ASKED = ("tool", "model", "prompt_version", "tenant")
"""What was asked for: known of calls that a policy stopped, too."""
SAID = ("finish_reason", "error_type", "schema")
"""What came of a call that ran."""
CATEGORIES = (*ASKED, *SAID)
"""Dictionary columns of the feature block that are compared."""

CATEGORY_NAMES_MAX = 1_000
"""Distinct names kept of one category; rarer ones beyond that are counted as one."""

_BATCH_ROWS = 65_536
BLOCKS = 48
"""Equal parts that a profile is cut into, to see how much alike neighbouring calls are."""
_BLOCKS_MIN = 12
DEPENDENCE_MAX = 10.0
"""At most so many neighbouring calls are taken as one. What goes beyond that is a rhythm more often than
chance, and one stretch of time cannot tell the two apart: compare like with like."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What the calls of one stretch of time looked like."""

    since_unix_ns: int
    until_unix_ns: int
    n_calls: int
    histograms: Mapping[int, Mapping[int, int]] = field(default_factory=dict)
    """By series, then bin."""
    categories: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """By kind and column, such as model.finish_reason, then name."""
    dependence: Mapping[int, float] = field(default_factory=dict)
    """By series: calls that carry as much evidence as one independent call, at least 1."""
    prices: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """By model: US dollars per input and output token; not kept, what a reference knows is."""


def read_profile(
    store: FeatureStore,
    *,
    since_unix_ns: int,
    until_unix_ns: int,
    agent: str = "",
    layout: Layout = WHOLE,
) -> Profile:
    """
    Read the calls of a store that ended in [since, until).

    Args:
        store:
            Where the feature blocks are.
        since_unix_ns:
            Beginning, included.
        until_unix_ns:
            End, not included.
        agent:
            Only calls of this agent; empty for all.
        layout:
            Segments that are counted beside the whole.
    """
    labels, prices = Labels(), PriceSums()
    waiting: list[Rows] = []
    parts: list[Summary] = []
    block_s = max(1, (until_unix_ns - since_unix_ns) // (BLOCKS * 10**9))
    categories: dict[str, Counter[str]] = {}
    n = 0
    blocks = store.query().features(
        (*COLUMNS, *CATEGORIES, "cost_usd"),
        since_unix_ns=max(0, since_unix_ns - LONGEST_CALL_NS),
        until_unix_ns=until_unix_ns,
    )
    for block in blocks:
        rows = rows_of(block)
        inside = (rows.end_unix_ns >= since_unix_ns) & (rows.end_unix_ns < until_unix_ns)
        inside &= is_of(block, agent)
        if not inside.any():
            continue
        asked, inside = inside, inside & is_watched(block)
        kept = rows._replace(labels=labels.of(block)).where(inside)
        prices.add(block, inside)
        n += len(kept.kind)
        _count(block.columns, inside, kept.kind, categories, SAID)
        # A call that a policy stopped was asked for all the same: left out here, a rule that holds a tool
        # while there is drift would change the mix of tools, and keep the alarm that holds it.
        _count(block.columns, asked, rows.kind[asked], categories, ASKED)
        waiting.append(kept)
        if sum(len(one.kind) for one in waiting) >= _BATCH_ROWS:
            parts = [merge([*parts, _summed(waiting, block_s, labels, layout)], block_s)]
            waiting = []
    if waiting:
        parts = [merge([*parts, _summed(waiting, block_s, labels, layout)], block_s)]
    histograms = histograms_of(parts[0]) if parts else {}
    return Profile(
        since_unix_ns,
        until_unix_ns,
        n,
        histograms,
        {name: dict(counts.most_common(CATEGORY_NAMES_MAX)) for name, counts in sorted(categories.items())},
        dependences(parts[0], histograms) if parts else {},
        prices.prices(),
    )


def _summed(waiting: list[Rows], block_s: int, labels: Labels, layout: Layout) -> Summary:
    """Summarise batches, each row in the whole and in its segments."""
    rows = joined(waiting)
    return summarise_rows(rows, block_s, labels.members(rows, layout))


def dependences(summary: Summary, histograms: Mapping[int, Mapping[int, int]]) -> dict[int, float]:
    """
    Estimate, for each series, how many calls carry as much evidence as one independent call.

    The variance of the blocks' mean scores is compared with what independent calls would give; what
    lingers from block to block comes on top. It is 1 unless the ratio is beyond two standard errors.
    """
    first, last = int(summary.windows[0]), int(summary.windows[-1])
    found: dict[int, float] = {}
    for stream in possible_streams():
        histogram = histograms.get(stream.code)
        if not histogram or stream.score == "tail":
            continue
        scored = score_windows(
            summary, stream, scale_of(stream, histogram), first=first, n_windows=last - first + 1
        )
        known = np.isfinite(scored.scores)
        n_blocks = int(known.sum())
        if n_blocks < _BLOCKS_MIN or scored.spread <= 0:
            continue
        means, rows = scored.scores[known], scored.rows[known].astype(np.float64)
        gaps = means - float(means @ rows) / float(rows.sum())
        ratio = float(rows @ gaps**2) / (n_blocks - 1) / scored.spread
        factor = max(_lingering(gaps * np.sqrt(rows / scored.spread)), 1.0)
        if ratio > 1.0 + 2.0 * math.sqrt(2.0 / (n_blocks - 1)):
            factor = max(factor, ratio * dependence(means))
        if factor > 1.0:
            found[stream.code] = min(factor, DEPENDENCE_MAX)
    return found


def _lingering(news: Floats) -> float:
    """
    Return the variance of means of several neighbouring blocks, against that of independent ones.

    What lingers for hours hardly shows in one block of rare events, and adds up over many.

    Args:
        news:
            What the blocks differ by, in standard deviations of independent calls. Shape `(n_blocks,)`.
    """
    sums = np.concatenate(([0.0], np.cumsum(news)))
    factors = [0.0]
    for length in (4, 8):
        together = sums[length:] - sums[:-length]
        if len(news) >= 3 * length:
            factors.append(float((together**2).mean()) / length / (1.0 - length / len(news)))
    return max(factors)


def merged_profiles(profiles: Sequence[Profile], whole: Profile) -> Profile:
    """Add profiles of several stretches of time up; what neighbouring calls share is taken from the whole."""
    histograms: dict[int, Counter[int]] = {}
    categories: dict[str, Counter[str]] = {}
    for one in profiles:
        for code, bins in one.histograms.items():
            histograms.setdefault(code, Counter()).update(bins)
        for name, counts in one.categories.items():
            categories.setdefault(name, Counter()).update(counts)
    return Profile(
        whole.since_unix_ns,
        whole.until_unix_ns,
        sum(one.n_calls for one in profiles),
        {code: dict(bins) for code, bins in histograms.items()},
        {name: dict(counts.most_common(CATEGORY_NAMES_MAX)) for name, counts in sorted(categories.items())},
        dict(whole.dependence),
    )


def histograms_of(summary: Summary) -> dict[int, dict[int, int]]:
    """Return the histograms of all series over all windows."""
    return {code: total(summary, code) for code in np.unique(summary.series).tolist()}


def _count(
    columns: Mapping[str, object],
    inside: Bools,
    kinds: Ints,
    categories: dict[str, Counter[str]],
    wanted: tuple[str, ...],
) -> None:
    """Count the names of one block's dictionary columns by kind of call."""
    for name in wanted:
        column = columns.get(name)
        dictionary: tuple[str, ...] = getattr(column, "dictionary", ())
        if not any(dictionary):
            continue
        codes = np.asarray(getattr(column, "values", ())).astype(np.int64)[inside]
        pairs, counts = np.unique(kinds * 65_536 + codes, return_counts=True)
        for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
            text = dictionary[pair % 65_536]
            # An error type is news also where there is none; for the others empty means not known.
            if text or name == "error_type":
                where = categories.setdefault(f"{KINDS[pair // 65_536]}.{name}", Counter())
                where[text or "(none)"] += count


def compare_profiles(
    reference: Profile,
    current: Profile,
    *,
    alpha: float = 0.05,
    correction: Correction = "holm",
    floors: Floors | None = None,
) -> Comparison:
    """
    Compare two stretches of time, series by series, with one correction over all.

    Series that neither has are left out; kinds of call with fewer than five calls on either side are
    not comparable.
    """
    limits = Floors() if floors is None else floors
    judged: list[Judged] = []
    for kind in KINDS:
        if not any(p.histograms.get(series_code(kind, "latency")) for p in (reference, current)):
            continue
        judged += _judge_kind(kind, reference, current, limits)
    for name in sorted({*reference.categories, *current.categories}):
        judged += _judge_category(name, reference, current, limits)
    notes = tuple(
        f"{' '.join(measure_of(code))}: neighbouring calls of the reference"
        f" are alike; about {factor:.0f} count as one."
        for code, factor in sorted(reference.dependence.items())
    )
    return Comparison(
        features=settle(judged, alpha=alpha, correction=correction),
        notes=notes,
        alpha=alpha,
        correction=correction,
        n_reference=reference.n_calls,
        n_current=current.n_calls,
    )


def _judge_kind(kind: str, reference: Profile, current: Profile, floors: Floors) -> list[Judged]:
    """Compare the numbers of one kind of call."""
    judged: list[Judged] = []
    for name, type_ in (
        ("response_latency_ms", "continuous"),
        ("time_to_first_chunk_ms", "continuous"),
        ("token_count", "continuous"),
        ("retry_count", "count"),
        ("error_rate", "share"),
    ):
        sides = [side_from(profile, kind, name) for profile in (reference, current)]
        if not any(side.n_rows for side in sides):
            continue
        found = judge_feature(f"{kind}.{name}", type_, *sides, floors=floors, confidence=0.95)  # type: ignore[arg-type]
        judged += [one for one in found if one.outcome is not None or sides[0].n or sides[1].n]
    return judged


def compare_segment(reference: Profile, current: Profile, stream: Stream) -> FeatureComparison | None:
    """Compare one feature of one segment; None where either side has too few calls of it."""
    name = stream.feature.partition(".")[2]
    sides = [side_from(profile, stream.kind, name, place=stream.place) for profile in (reference, current)]
    if min(side.n for side in sides) < ROWS_MIN:
        return None
    type_: FeatureType = {"count": "count", "share": "share"}.get(stream.score, "continuous")  # type: ignore[assignment]
    judged = judge_feature(stream.feature, type_, *sides, floors=Floors(), confidence=0.95)
    row = settle(judged[:1], alpha=0.05, correction="holm")[0]
    return replace(row, feature=stream.name, sentence=row.sentence.replace(stream.feature, stream.name, 1))


_MEASURE_OF = {
    "response_latency_ms": ("latency", 1e-6),
    "time_to_first_chunk_ms": ("first_chunk", 1e-6),
    "token_count": ("tokens", 1.0),
    "retry_count": ("retries", 1.0),
    "error_rate": ("error", 1.0),
}


def side_from(profile: Profile, kind: str, name: str, *, place: int = 0) -> Side:
    """Return one feature of one kind of call, whole or in a segment, as a side of a comparison."""
    measure, scale = _MEASURE_OF[name]
    histograms, factor = profile.histograms, profile.dependence.get(series_code(kind, measure), 1.0)
    histogram = histograms.get(place * PLACES + series_code(kind, measure), {})
    sample = sample_from(histogram, measure, scale=scale)
    missing = 0
    if measure == "tokens" and not place:
        missing = histograms.get(series_code(kind, "usage_missing"), {}).get(1, 0)
    return Side(sample.n + missing, n_missing=missing, sample=sample, dependence=factor)


def _judge_category(name: str, reference: Profile, current: Profile, floors: Floors) -> list[Judged]:
    """Compare the names of one dictionary column."""
    sides = [
        Side(sum(counts.values()), categories=counts)
        for counts in (profile.categories.get(name, {}) for profile in (reference, current))
    ]
    judged = judge_feature(name, "category", *sides, floors=floors, confidence=0.95)
    if name.endswith(".schema"):
        return [replace(one, row=replace(one.row, kind="schema")) for one in judged]
    return judged
