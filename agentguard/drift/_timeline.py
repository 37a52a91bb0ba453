"""The last hours as short series: what `drift status` draws."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from agentguard.drift._source import FeatureStore, read_summary
from agentguard.drift._summary import KINDS, bin_values, matrix_of, series_code

POINTS_MAX = 1_000
"""Points of one series."""

_LINES = (
    ("response_latency_ms", "latency", "ms", 1e-6),
    ("token_count", "tokens", "tokens", 1.0),
    ("retry_count", "retries", "retries", 1.0),
    ("error_rate", "error", "share", 1.0),
)


class Series(NamedTuple):
    """One feature of one kind of call over time."""

    name: str
    unit: str
    values: tuple[float, ...]
    """Median of latency and tokens, mean of retries and errors; NaN where nothing was called."""
    calls: tuple[int, ...]


def timeline(
    store: FeatureStore, *, since_unix_ns: int, until_unix_ns: int, points: int = 24, agent: str = ""
) -> tuple[Series, ...]:
    """
    Cut a stretch of time into equal parts and sum each of them up.

    Args:
        store:
            Where the feature blocks are.
        since_unix_ns:
            Beginning; parts begin at whole multiples of their length.
        until_unix_ns:
            End, not included.
        points:
            About how many parts; at most `POINTS_MAX`.
        agent:
            Only calls of this agent; empty for all.
    """
    span_s = max(1, (until_unix_ns - since_unix_ns) // 10**9)
    window_s = max(1, -(-span_s // max(1, min(points, POINTS_MAX))))
    summary = read_summary(
        store, since_unix_ns=since_unix_ns, until_unix_ns=until_unix_ns, window_s=window_s, agent=agent
    )
    first = since_unix_ns // (window_s * 10**9)
    n = (until_unix_ns - 1) // (window_s * 10**9) - first + 1
    lines: list[Series] = []
    for kind in KINDS:
        for name, measure, unit, scale in _LINES:
            table, bins = matrix_of(summary, series_code(kind, measure), first=first, n_windows=n)
            rows = table.sum(axis=1)
            if not rows.any():
                continue
            values = bin_values(bins, measure) * scale
            if measure in {"latency", "tokens"}:
                places = (np.cumsum(table, axis=1) * 2 >= rows[:, None]).argmax(axis=1)
                shown = values[places]
            else:
                shown = table @ values / np.maximum(rows, 1)
            shown = np.where(rows > 0, shown, np.nan)
            lines.append(Series(f"{kind}.{name}", unit, tuple(shown.tolist()), tuple(rows.tolist())))
    return tuple(lines)
