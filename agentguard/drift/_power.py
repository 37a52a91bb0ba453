"""What the watch can do on one's own data: thresholds that hold the promise, and the smallest change it finds."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from agentguard.drift._profile import Profile
from agentguard.drift._reference import Reference
from agentguard.drift._rehearse import Days, days_of, rate_of
from agentguard.drift._sample import Floats
from agentguard.drift._source import FeatureStore
from agentguard.drift._streams import Scale, Stream, scores_at
from agentguard.drift._summary import bin_values, sample_from
from agentguard.drift._tier import TierModel, begin, step
from agentguard.drift._units import unit_of
from agentguard.errors import BaselineTooSmallError

ARMING_YEARS = 2.0
"""How long the arming is rehearsed by hours; by days `DAYS_LONGER` times as long."""
RAISES_MAX = 6
"""Times that a threshold is raised before the data is said not to carry the promise."""
RUNS = 10
WITHIN_DAYS = 7
_FOUND = 0.8
_FACTORS = (1.05, 1.1, 1.15, 1.2, 1.3, 1.5, 2.0, 3.0)
_POINTS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.4)
_COUNTS = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 3.0)


class Detectable(NamedTuple):
    """The smallest of a row of changes that the hourly tier finds within a week in eight runs of ten."""

    stream: str
    effect: float
    """In the feature's own unit; NaN where even the largest is not found."""
    unit: str
    factor: float
    """On the feature, for latency, tokens and cost; NaN else."""
    found: float
    """Share of the runs that found it."""

    def __str__(self) -> str:
        """One line for people."""
        if math.isnan(self.effect):
            return f"{self.stream}: nothing below {_FACTORS[-1]:g} times or {100 * _POINTS[-1]:g} points"
        if not math.isnan(self.factor):
            return f"{self.stream}: +{100 * (self.factor - 1):.0f} % ({self.effect:+,.4g} {self.unit})"
        size = f"{100 * self.effect:+.1f} pp" if self.unit == "share" else f"{self.effect:+.2g} a call"
        return f"{self.stream}: {size}"


def arm(
    store: FeatureStore, reference: Reference, *, years: float = ARMING_YEARS, seed: int = 0
) -> Reference:
    """
    Raise thresholds until the promise holds on days drawn from the reference itself.

    Args:
        store:
            Where the calls of the reference are.
        reference:
            As `fit_reference` gave it; without tiers it is returned as it is.
        years:
            How long hours are rehearsed; days `DAYS_LONGER` times as long.
        seed:
            The same seed draws the same days.

    Raises:
        BaselineTooSmallError: No threshold within reason holds the promise, or the calls are gone.
    """
    if reference.incident is None:
        return reference
    known, promise = days_of(store, reference), reference.promise_per_year

    def raised_here(model: TierModel) -> tuple[TierModel, float]:
        return raised(known, model, reference.key, promise_per_year=promise, years=years, seed=seed)

    incident, measured = raised_here(reference.incident)
    words = [f"{measured:g} incidents a year"]
    daily = reference.drift
    if daily is not None:
        daily, measured_daily = raised_here(daily)
        words.append(f"{measured_daily:g} drift alarms a year")
    quality = reference.quality
    if quality is not None:
        quality, measured_quality = raised_here(quality)
        words.append(f"{measured_quality:g} alarms about data a year")
    sentence = f"{reference.sentence} Measured on days drawn from it: {', '.join(words)}."
    armed = replace(
        reference, reference_id="", incident=incident, drift=daily, quality=quality, sentence=sentence
    )
    return replace(armed, reference_id=hashlib.blake2b(armed.to_bytes(), digest_size=6).hexdigest())


def raised(
    known: Days, model: TierModel, key: bytes, *, promise_per_year: float, years: float, seed: int
) -> tuple[TierModel, float]:
    """
    Raise the threshold of one tier until the promise holds.

    Returns:
        The tier with a threshold that held, and the false alarms a year that it had.

    Raises:
        BaselineTooSmallError: No threshold within reason holds the promise.
    """
    for _ in range(RAISES_MAX):
        rate = rate_of(known, model, key, years=years, seed=seed)
        if rate <= promise_per_year:
            return model, rate
        # Where alarms are chance they become rarer by the factor that the threshold grows by; a little more is safe.
        higher = model.log_threshold + math.log(rate / promise_per_year) + 0.5
        model = model._replace(log_threshold=higher)
    raise BaselineTooSmallError(
        f"reference: the {'days' if model.name == 'drift' else 'hours'} of this time cannot carry"
        f" {promise_per_year:g} false alarms a year: {rate:.1f} a year are left with the threshold raised"
        f" {RAISES_MAX} times"
    ).hint("something changes within it: choose a quieter time, or promise more: --promise 4")


def smallest_effects(
    store: FeatureStore, reference: Reference, *, seed: int = 0, runs: int = RUNS
) -> tuple[Detectable, ...]:
    """
    Measure, for each feature of the whole traffic, the smallest change that the hours find within a week.

    A change is added to the scores of days drawn from the reference.

    Raises:
        BaselineTooSmallError: The reference is not armed, or its calls are gone.
    """
    if reference.incident is None:
        raise BaselineTooSmallError(f"simulation: {reference.sentence}")
    known, model = days_of(store, reference), reference.incident
    scores, rows = known.scored(model)
    rng = np.random.default_rng(seed)
    weeks = [known.windows(model, known.drawn(WITHIN_DAYS, rng)) for _ in range(runs)]
    found = []
    for i, (stream, scale) in enumerate(zip(model.streams, model.scales, strict=True)):
        if stream.segment or stream.score == "tail":
            continue
        steps = _steps(stream, scale, reference.profile)
        low, high, best = 0, len(steps) - 1, None
        while low <= high:  # what is found at one size is found at all larger ones
            middle = (low + high) // 2
            share = _found(model, known, scores, rows, weeks, i, steps[middle][0], reference.key)
            if share >= _FOUND:
                best, high = (middle, share), middle - 1
            else:
                low = middle + 1
        unit = unit_of(stream.feature, "share" if stream.score == "share" else "continuous")
        if best is None:
            found.append(Detectable(stream.name, math.nan, unit, math.nan, 0.0))
        else:
            _, effect, factor = steps[best[0]]
            found.append(Detectable(stream.name, effect, unit, factor, best[1]))
    return tuple(found)


def _steps(stream: Stream, scale: Scale, profile: Profile) -> list[tuple[float, float, float]]:
    """Return the changes that are tried: of the score, in the feature's unit, as a factor."""
    if stream.score == "share":
        return [(point, point, math.nan) for point in _POINTS]
    if stream.score == "count":
        return [(count, count, math.nan) for count in _COUNTS]
    histogram = profile.histograms.get(stream.code, {})
    bins = np.array(sorted(histogram), dtype=np.int64)
    counts = np.array([histogram[b] for b in bins.tolist()], dtype=np.float64)
    unit_scale = 1e-6 if unit_of(stream.feature, "continuous") == "ms" else 1.0
    median = sample_from(histogram, stream.measure).quantile(0.5) * unit_scale
    values = bin_values(bins, stream.measure)
    steps = []
    for factor in _FACTORS:
        moved = np.where(values > 0, bins + round(math.log(factor) / math.log(1.02)), bins)
        score = float(scores_at(scale, stream, moved) @ counts) / float(counts.sum()) - 0.5
        steps.append((score, median * (factor - 1), factor))
    return steps


def _found(
    model: TierModel,
    known: Days,
    scores: Floats,
    rows: Floats,
    weeks: list[list[int]],
    place: int,
    shift: float,
    key: bytes,
) -> float:
    """Return the share of the weeks in which a shift of one stream's score is found."""
    hits = 0
    for week in weeks:
        state = begin(model, known.end_day * known.a_day(model) - 1)
        for window in week:
            changed = scores[window].copy()
            changed[place] = (
                min(1.0, changed[place] + shift)
                if model.streams[place].score != "count"
                else (changed[place] + shift)
            )
            if step(model, state, changed, rows[window], key) is not None:
                hits += 1
                break
    return hits / len(weeks)
