"""
Version against version at the same hour: neither season nor load can be mistaken for a change.

In each hour in which both versions ran, the chance that a row of the new one is larger than one of the old one is
one half as long as nothing but the name differs. A bettor plays against that, hour by hour, so the answer may be
looked at at any time.

Source:
    A. Shekhar, A. Ramdas, Nonparametric two-sample testing by betting, IEEE Trans. Inf. Theory 70 (2024).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from agentguard.drift._accuracy import betting_capital
from agentguard.drift._backtest import effect_between
from agentguard.drift._comparison import figure
from agentguard.drift._history import Series, read_history
from agentguard.drift._intervals import Interval
from agentguard.drift._sample import Bools, Floats, Ints
from agentguard.drift._table_store import TIME_COLUMN
from agentguard.drift._units import unit_of
from agentguard.errors import DriftInputError
from agentguard.values import FeatureType

HOUR_NS = 3600 * 10**9
ROWS_MIN = 3
"""Rows of each version that an hour needs to say anything."""


class KnownChange(NamedTuple):
    """One feature of the new version against the old one."""

    feature: str
    is_change: bool
    since_unix_ns: int
    """End of the hour after which it was sure; 0 where it is not."""
    effect: Interval
    """New minus old in the feature's own unit, over all hours in which both ran."""
    effect_name: str
    unit: str
    hours: int
    """In which both ran."""
    sentence: str


def known_change(
    table: object,
    *,
    version: str,
    old: str,
    new: str,
    time: str = TIME_COLUMN,
    features: Iterable[str] | Mapping[str, FeatureType | None] | None = None,
    alpha: float = 0.01,
) -> tuple[KnownChange, ...]:
    """
    Compare two versions that ran at the same time, such as a canary and the rest.

    Args:
        table:
            Anything `compare` takes.
        version:
            Column of versions: of a prompt, a model, a deployment.
        old:
            The version that is known to be good.
        new:
            The one in question.
        time:
            Column of times.
        features:
            Columns to compare, as in `backtest`.
        alpha:
            Chance of a false alarm, all features together and however often it is looked at.

    Raises:
        DriftInputError: The table cannot be read, or never were there rows of both in one hour.
    """
    if not 0 < alpha < 1:
        raise DriftInputError(f"alpha is {alpha:g}, expected more than 0 and less than 1")
    history = read_history(table, time=time, features=features, segments=(version,), reference_ns=2**62)
    places = {segment.name: place for place, segment in enumerate(history.layout.segments, 1)}
    masks = dict(history.members)
    sides: list[Bools] = []
    for name in (old, new):
        place = places.get(f"{version}={name}")
        if place is None:
            raise DriftInputError(f"known change: column `{version}` has no `{name}`, expected both versions")
        sides.append(masks[place])
    hour = history.time_unix_ns // HOUR_NS
    watched = [one for one in history.series if not one.streams[0].is_quality]
    found = [
        _one(one, sides, hour, alpha=alpha / max(1, len(watched)), name=f"{new} against {old}")
        for one in watched
    ]
    if not any(one.hours for one in found):
        raise DriftInputError(f"known change: `{old}` and `{new}` never ran in one hour").hint(
            "let both run at the same time, or compare two windows: agentguard drift compare"
        )
    return tuple(found)


def _one(one: Series, sides: list[Bools], hour: Ints, *, alpha: float, name: str) -> KnownChange:
    """Bet on one feature, hour by hour."""
    shares: list[float] = []
    hours: list[int] = []
    used = np.zeros(len(hour), dtype=bool)
    order = np.argsort(hour, kind="stable")
    borders = np.flatnonzero(np.diff(hour[order])) + 1
    for rows in np.split(order, borders):
        rows = rows[one.has[rows]]  # noqa: PLW2901 - only those with a value
        left, right = rows[sides[0][rows]], rows[sides[1][rows]]
        if min(len(left), len(right)) >= ROWS_MIN:
            shares.append(_larger(one.bins[left], one.bins[right]))
            hours.append(int(hour[rows[0]]))
            used[left] = used[right] = True
    unit = unit_of(one.feature, one.type)
    if not shares:
        blank = Interval(math.nan, math.nan, math.nan)
        return KnownChange(one.feature, False, 0, blank, "", unit, 0, f"{one.feature}: no hour with both.")
    money = np.maximum.reduce(
        [
            betting_capital(np.array(shares), np.array([0.5]), alpha=alpha / 2, is_upward=up)[:, 0]
            for up in (True, False)
        ]
    )
    sure = np.flatnonzero(money >= math.log(2 / alpha))
    what, effect = effect_between(one, one.streams[0].score, used & sides[0], used & sides[1])
    words = (
        f"{one.feature}: {what} {figure(effect.value, unit, signed=True)} ({figure(effect.low, unit, signed=True)} to"
        f" {figure(effect.high, unit, signed=True)}), {name} in {len(shares)} hours"
    )
    if len(sure):
        since = (hours[int(sure[0])] + 1) * HOUR_NS
        words += f": sure after {int(sure[0]) + 1}."
    else:
        since, words = 0, f"{words}: within chance."
    return KnownChange(one.feature, bool(len(sure)), since, effect, what, unit, len(shares), words)


def _larger(left: Ints, right: Ints) -> float:
    """Return the chance that one of *right* is larger than one of *left*, ties half."""
    ordered: Floats = np.sort(left).astype(np.float64)
    below = np.searchsorted(ordered, right, side="left") + np.searchsorted(ordered, right, side="right")
    return float(below.mean() / 2 / len(left))
