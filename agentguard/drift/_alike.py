"""
Windows like the one in question: the same time of day on the days before.

Two hours that nothing happened to differ by more than chance among their calls: load lingers, users come and go.
How much they differ can be read off earlier hours of the same time of day, and off nothing else.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from agentguard.drift._profile import Profile, merged_profiles, read_profile
from agentguard.drift._season import DAY_S
from agentguard.drift._source import FeatureStore, read_summary
from agentguard.drift._streams import possible_streams, scale_of, score_windows
from agentguard.drift._summary import Summary, between, coarsened_as, merge

DAYS_MAX = 28
"""Days that are looked back."""
ALIKE_MIN = 5
"""Earlier windows of the same time of day below which nothing is read off them."""
PARTS = 12
"""A window is made of so many parts: earlier ones are found to within one of them."""
FACTOR_MAX = 1_000.0


def alike_reference(
    store: FeatureStore, reference: Profile, window: tuple[int, int], *, agent: str
) -> Profile:
    """
    Return the part of a reference that is like a window: the same time of each of its days.

    A reference of less than five such windows, or a window of more than a day, is compared as it is.
    """
    length, day_ns = window[1] - window[0], DAY_S * 10**9
    if length >= day_ns:
        return reference
    first = reference.since_unix_ns + (window[0] - reference.since_unix_ns) % day_ns
    starts = list(range(first, reference.until_unix_ns - length + 1, day_ns))[-DAYS_MAX:]
    if len(starts) < ALIKE_MIN:
        return reference
    found = [
        read_profile(store, since_unix_ns=start, until_unix_ns=start + length, agent=agent)
        for start in starts
    ]
    same = merged_profiles(found, reference)
    return same if same.n_calls >= 5 * ALIKE_MIN else reference


def with_spread_of_days(
    store: FeatureStore, reference: Profile, window: tuple[int, int], *, agent: str
) -> Profile:
    """
    Return a reference whose dependence is at least what windows like this one differ by from day to day.

    Where the store has fewer than five earlier ones it is returned as it is.
    """
    length, day_ns = window[1] - window[0], DAY_S * 10**9
    if length > day_ns:
        return reference
    unit_s = max(1, length // 10**9 // PARTS)
    summary = read_summary(
        store,
        since_unix_ns=window[0] - DAYS_MAX * day_ns,
        until_unix_ns=window[0],
        window_s=unit_s,
        agent=agent,
    )
    start, parts = window[0] // (unit_s * 10**9), max(1, length // 10**9 // unit_s)
    days: list[Summary] = []
    for back in range(1, DAYS_MAX + 1):
        first = start - back * DAY_S // unit_s
        some = between(summary, first, first + parts)
        if len(some.keys):
            days.append(coarsened_as(some, len(days)))
    if len(days) < ALIKE_MIN:
        return reference
    together = merge(days, unit_s)
    found = dict(reference.dependence)
    for stream in possible_streams():
        histogram = reference.histograms.get(stream.code)
        if not histogram or stream.score == "tail":
            continue
        scored = score_windows(together, stream, scale_of(stream, histogram), first=0, n_windows=len(days))
        known = np.isfinite(scored.scores)
        k = int(known.sum())
        if k < ALIKE_MIN or scored.spread <= 0:
            continue
        means, rows = scored.scores[known], scored.rows[known].astype(np.float64)
        gaps = means - float(means @ rows) / float(rows.sum())
        # One standard error is added: from few days their spread is known badly, and runs low as often as high.
        ratio = float(rows @ gaps**2) / (k - 1) / scored.spread * (1.0 + math.sqrt(2.0 / (k - 1)))
        if ratio > 1.0:
            found[stream.code] = min(max(ratio, found.get(stream.code, 1.0)), FACTOR_MAX)
    return replace(reference, dependence=found)
