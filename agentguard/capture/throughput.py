"""
Throughput against concurrency: what finished calls say about how much load a callable bears.

Takes spans, gives a curve and the point where it bends. Pure.

Source: operational laws (Little's law; asymptotic bounds), Lazowska et al.,
"Quantitative System Performance", 1984, chapters 3 and 5; the Universal Scalability
Law, N. Gunther, "Guerrilla Capacity Planning", 2007, chapter 4:
X(n) = n / (a + b (n - 1) + c n (n - 1)), fitted to the measured levels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from agentguard.values import SpanRecord

LEVEL_S_MIN: Final = 1.0
"""A level of concurrency that lasted shorter than this, in seconds, says little."""

LEVEL_CALLS_MIN: Final = 10
"""Nor does one at which fewer calls ended."""

_LEVELS_FITTED_MIN: Final = 3
_FIT_ERROR_MAX: Final = 0.25
_GAIN_MIN: Final = 0.1


class LoadLevel(NamedTuple):
    """What was seen while so many calls ran at once."""

    concurrency: int
    seconds: float
    """How long it was this many."""
    calls: int
    """How many of them ended meanwhile."""
    throughput_per_s: float
    latency_s: float
    """How long a call takes at this level: concurrency by throughput, which is Little's law."""

    @property
    def is_solid(self) -> bool:
        """Whether enough was seen to be fitted."""
        return self.seconds >= LEVEL_S_MIN and self.calls >= LEVEL_CALLS_MIN


class LoadCurve(NamedTuple):
    """Levels in ascending order, and where the curve bends."""

    levels: tuple[LoadLevel, ...]
    bend: int | None
    """
    Concurrency from which more of it hardly brings more throughput; None where no bend was
    seen: too little was, or throughput rose up to the highest level.
    """
    throughput_max_per_s: float | None
    """What the fitted curve gives at most; None without a bend."""


def load_curve(spans: Iterable[SpanRecord]) -> LoadCurve:
    """
    Work out throughput against concurrency.

    Args:
        spans:
            Of calls that compete for the same thing: one kind, one model, one
            tool. In any order.

    Returns:
        A level for each number of calls that ran at once, and the bend.

    Example:
        >>> load_curve([]).levels
        ()

    """
    levels = _levels(spans)
    fit = _fit([level for level in levels if level.is_solid])
    if fit is None:
        return LoadCurve(levels, None, None)
    return LoadCurve(levels, *fit)


def _levels(spans: Iterable[SpanRecord]) -> tuple[LoadLevel, ...]:
    """Sweep over beginnings and ends, and add up time and ends by concurrency."""
    changes: list[tuple[int, int]] = []
    for span in spans:
        # A call of no length is beside no other one.
        if span.duration_ns > 0:
            changes.append((span.start_unix_ns, 1))
            changes.append((span.end_unix_ns, -1))
    # An end comes before a beginning of the same moment: those two did not overlap.
    changes.sort()
    times_ns: dict[int, int] = {}
    ends: dict[int, int] = {}
    running = 0
    before_ns = changes[0][0] if changes else 0
    for time_ns, change in changes:
        if running:
            times_ns[running] = times_ns.get(running, 0) + time_ns - before_ns
        if change < 0:
            ends[running] = ends.get(running, 0) + 1
        running += change
        before_ns = time_ns
    found = []
    for concurrency in sorted(times_ns):
        seconds = times_ns[concurrency] / 1e9
        calls = ends.get(concurrency, 0)
        if seconds <= 0:
            continue
        throughput = calls / seconds
        latency_s = concurrency / throughput if throughput else math.inf
        found.append(LoadLevel(concurrency, seconds, calls, throughput, latency_s))
    return tuple(found)


def _fit(levels: Sequence[LoadLevel]) -> tuple[int, float] | None:
    """
    Fit the law, and find its bend.

    Linear in its three terms: n / X(n) = a + b (n - 1) + c n (n - 1), none of them
    negative. Levels weigh as much as their number of calls.

    Returns:
        The bend and the highest throughput; None where nothing can be said.

    """
    if len(levels) < _LEVELS_FITTED_MIN:
        return None
    # Each level's own noise is that of its count, relative to its size: hence the weight.
    rows = [(1.0, level.concurrency - 1.0, level.concurrency * (level.concurrency - 1.0)) for level in levels]
    targets = [level.latency_s for level in levels]
    weights = [level.calls / level.latency_s**2 for level in levels]
    best: tuple[float, tuple[float, float, float]] | None = None
    for terms in ((0, 1, 2), (0, 1), (0, 2), (0,)):
        solved = _least_squares([[row[term] for term in terms] for row in rows], targets, weights)
        if solved is None or any(value < 0 for value in solved) or solved[0] <= 0:
            continue
        values = [0.0, 0.0, 0.0]
        for term, value in zip(terms, solved, strict=True):
            values[term] = value
        error = sum(
            weight * (target - sum(x * y for x, y in zip(row, values, strict=True))) ** 2
            for row, target, weight in zip(rows, targets, weights, strict=True)
        )
        if best is None or error < best[0]:
            best = (error, (values[0], values[1], values[2]))
    if best is None or math.sqrt(best[0] / sum(level.calls for level in levels)) > _FIT_ERROR_MAX:
        return None
    return _bend(best[1], levels[-1].concurrency)


def _bend(law: tuple[float, float, float], highest: int) -> tuple[int, float] | None:
    """
    Say where a fitted curve bends, if that was seen.

    The bend is where the line of free growth meets the ceiling: beyond it calls wait
    for each other.
    """
    a, b, c = law

    def throughput(n: float) -> float:
        return n / (a + b * (n - 1) + c * n * (n - 1))

    if c > 0:
        # The top of the curve; beyond it more load brings less.
        top = max(math.sqrt(max(a - b, 0.0) / c), 1.0)
        ceiling = throughput(top)
    elif b > 0:
        ceiling = 1 / b
    else:
        return None
    bend = max(round(ceiling * a), 1)
    if bend >= highest or throughput(highest) >= highest / a * (1 - _GAIN_MIN):
        return None
    return bend, ceiling


def _least_squares(
    rows: Sequence[Sequence[float]], targets: Sequence[float], weights: Sequence[float]
) -> list[float] | None:
    """Solve the weighted normal equations by elimination; None where they are singular."""
    size = len(rows[0])
    table = [
        [sum(w * row[i] * row[j] for row, w in zip(rows, weights, strict=True)) for j in range(size)]
        + [sum(w * row[i] * t for row, t, w in zip(rows, targets, weights, strict=True))]
        for i in range(size)
    ]
    for column in range(size):
        pivot = max(range(column, size), key=lambda line: abs(table[line][column]))
        if abs(table[pivot][column]) < 1e-12 * (1 + abs(table[0][0])):
            return None
        table[column], table[pivot] = table[pivot], table[column]
        for line in range(size):
            if line != column:
                factor = table[line][column] / table[column][column]
                table[line] = [x - factor * y for x, y in zip(table[line], table[column], strict=True)]
    return [table[i][size] / table[i][i] for i in range(size)]
