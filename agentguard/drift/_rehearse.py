"""The promise measured on one's own data: the reference's days, dealt out anew, run through the watch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from agentguard.drift._reference import WINDOW_S, Reference
from agentguard.drift._sample import Floats, Ints
from agentguard.drift._season import DAY_S
from agentguard.drift._source import FeatureStore, read_summary
from agentguard.drift._summary import Summary, coarsen
from agentguard.drift._tier import TierModel, begin, score_all, step
from agentguard.errors import BaselineTooSmallError, DriftInputError

YEARS_MAX = 20.0
"""Longest rehearsal."""
DAYS_LONGER = 10
"""How much longer the daily tier is rehearsed: it costs a twenty-fourth, and what it promises is rarer to see."""


class Rehearsal(NamedTuple):
    """How often a year the watch would have alarmed on days of its own reference."""

    years: float
    """By hours; by days `DAYS_LONGER` times as long."""
    promise_per_year: float
    incidents_per_year: float
    drifts_per_year: float | None
    """None where the reference is too short for it."""
    quality_per_year: float | None
    """Alarms about the data; None where nothing of it is watched."""

    @property
    def is_kept(self) -> bool:
        """Whether the promise held for each kind of alarm."""
        kinds = (self.incidents_per_year, self.drifts_per_year, self.quality_per_year)
        return all(kind is None or kind <= self.promise_per_year for kind in kinds)

    def __str__(self) -> str:
        """One line for people."""
        counted = [
            f"{rate:.2g} {what}"
            for rate, what in (
                (self.incidents_per_year, "incidents"),
                (self.drifts_per_year, "drift alarms"),
                (self.quality_per_year, "alarms about the data"),
            )
            if rate is not None
        ]
        return (
            f"false alarms a year, on {self.years:g} years of days drawn from the reference: {', '.join(counted)};"
            f" promised are at most {self.promise_per_year:g} of each"
        )


def rehearse(store: FeatureStore, reference: Reference, *, years: float = 1.0, seed: int = 0) -> Rehearsal:
    """
    Draw whole days of the reference at random, weekdays for weekdays, and count the alarms.

    What happens inside a day stays as it was; nothing changed between the days, so every alarm is false. The
    days are the very ones that the watch was fitted on, so the figure is on the kind side.

    Args:
        store:
            Where the calls of the reference still are.
        reference:
            A fitted reference with at least the hourly tier.
        years:
            How long; takes a few seconds a year. More than 0, at most `YEARS_MAX`.
        seed:
            The same seed draws the same days.

    Raises:
        BaselineTooSmallError: The reference is not armed, or its calls are gone.
        DriftInputError: *years* is out of range.
    """
    if not 0 < years <= YEARS_MAX:
        raise DriftInputError(f"years is {years:g}, expected more than 0 and at most {YEARS_MAX:g}")
    if reference.incident is None:
        raise BaselineTooSmallError(f"rehearsal: {reference.sentence}")
    known = days_of(store, reference)
    return Rehearsal(
        years,
        reference.promise_per_year,
        rate_of(known, reference.incident, reference.key, years=years, seed=seed),
        None
        if reference.drift is None
        else rate_of(known, reference.drift, reference.key, years=years, seed=seed),
        None
        if reference.quality is None
        else rate_of(known, reference.quality, reference.key, years=years, seed=seed),
    )


class Days(NamedTuple):
    """The whole days of a reference."""

    summary: Summary
    first_day: int
    end_day: int

    def drawn(self, n_days: int, rng: np.random.Generator) -> Ints:
        """Return a day of the reference for each day after it, of the same part of the week."""
        known = np.arange(self.first_day, self.end_day)
        is_weekend = (known + 3) % 7 >= 5
        future = (np.arange(self.end_day, self.end_day + n_days) + 3) % 7 >= 5
        drawn: Ints = np.empty(n_days, dtype=np.int64)
        for kind in (False, True):
            pool = known[is_weekend == kind]
            drawn[future == kind] = rng.choice(pool if len(pool) else known, int((future == kind).sum()))
        return drawn

    def a_day(self, model: TierModel) -> int:
        """Return how many windows of a tier a day has."""
        return DAY_S // model.window_s

    def scored(self, model: TierModel) -> tuple[Floats, Floats]:
        """Return scores and calls of all windows of a tier. Shapes `(n_windows, n_streams)`."""
        a_day = self.a_day(model)
        windows = self.summary if model.window_s == self.summary.window_s else coarsen(self.summary, DAY_S)
        n_windows = (self.end_day - self.first_day) * a_day
        scores, rows = score_all(model, windows, first=self.first_day * a_day, n_windows=n_windows)
        return scores, rows.astype(np.float64)

    def windows(self, model: TierModel, days: Ints) -> list[int]:
        """Return the places of the windows of days, one after the other."""
        a_day = self.a_day(model)
        starts = ((days - self.first_day) * a_day).tolist()
        return [window for start in starts for window in range(start, start + a_day)]


def days_of(store: FeatureStore, reference: Reference) -> Days:
    """
    Read the whole days of a reference.

    Raises:
        BaselineTooSmallError: They are too few, or gone.
    """
    first_day = -(-reference.since_unix_ns // (DAY_S * 10**9))
    end_day = reference.until_unix_ns // (DAY_S * 10**9)
    summary = read_summary(
        store,
        since_unix_ns=first_day * DAY_S * 10**9,
        until_unix_ns=end_day * DAY_S * 10**9,
        window_s=WINDOW_S,
        agent=reference.agent,
        layout=reference.layout,
        known=reference.known,
    )
    # A week that begins in the middle of a day has six whole ones.
    if end_day - first_day < 6 or not len(summary.keys):
        raise BaselineTooSmallError("rehearsal: the calls of the reference are no longer in the store")
    return Days(summary, first_day, end_day)


def rate_of(known: Days, model: TierModel, key: bytes, *, years: float, seed: int) -> float:
    """
    Run one tier over drawn days and return its alarms a year.

    The daily tier runs `DAYS_LONGER` times as long as *years*.
    """
    if model.name == "drift":
        years *= DAYS_LONGER
    days = known.drawn(round(years * 365), np.random.default_rng(seed))
    scores, rows = known.scored(model)
    state = begin(model, known.end_day * known.a_day(model) - 1)
    n_alarms = sum(
        step(model, state, scores[window], rows[window], key) is not None
        for window in known.windows(model, days)
    )
    return n_alarms / years
