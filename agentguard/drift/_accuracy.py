"""
Accuracy that is watched as labels arrive: an interval that holds at all times at once, and its alarm.

A bettor puts money against "the mean loss is m"; where it would have grown beyond 1 / alpha, m is ruled out. Looking
after each label costs nothing: the chance that a true mean is ever ruled out is at most alpha, as long as labels that
arrive are a fair sample of the time.

Source:
    I. Waudby-Smith, A. Ramdas, Estimating means of bounded random variables by betting, J. R. Statist. Soc. B 86
    (2024); A. Podkopaev, A. Ramdas, Tracking the risk of a deployed model, ICLR (2022), for the alarm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from agentguard.drift._intervals import Interval
from agentguard.drift._label_file import calls_of
from agentguard.drift._sample import Floats

ALPHA = 0.05
FLOOR = 0.02
"""Loss of accuracy that is worth an alarm: two percentage points."""
LABELS_MIN = 50
"""Labels of the reference below which there is no alarm, only the interval."""
LABELS_MAX = 5_000
"""Labels after the reference that are read; a longer watch begins with a new reference."""
_GRID = np.linspace(0.0, 1.0, 401)


class AccuracyState(NamedTuple):
    """What the labels say."""

    reference: Interval
    current: Interval
    """Valid at all times at once."""
    n_reference: int
    n_current: int
    is_alarm: bool
    """Accuracy is lower than in the reference by more than the floor."""
    alarm_at: int
    """Labels until it was sure; 0 where there is none."""


def betting_capital(losses: Floats, means: Floats, *, alpha: float, is_upward: bool) -> Floats:
    """Return the logarithm of the bettor's money after each label. Shape `(n_labels, n_means)`."""
    x = losses if is_upward else 1.0 - losses
    m = means if is_upward else 1.0 - means
    t = np.arange(1, len(x) + 1)
    # The bet on a label depends on the ones before it alone, with half a label of prior.
    before = np.concatenate(([0.5], (0.5 + np.cumsum(x)) / (t + 1)))[:-1]
    spread = np.concatenate(([0.25], (0.25 + np.cumsum((x - before) ** 2)) / (t + 1)))[:-1]
    bets = np.sqrt(2 * math.log(1 / alpha) / (spread * t * np.log(t + 1)))
    capped = np.minimum(bets[:, None], 0.5 / np.maximum(m, 1e-9)[None, :])
    return np.cumsum(np.log1p(capped * (x[:, None] - m[None, :])), axis=0)


def betting_interval(losses: Floats, *, alpha: float = ALPHA) -> Interval:
    """
    Return the mean of numbers in [0, 1] with an interval that may be looked at after each of them.

    Args:
        losses:
            In the order of arrival. Shape `(n_labels,)`.
        alpha:
            Chance that the interval ever leaves the truth out.

    Example:
        >>> low, high = betting_interval(np.array(([0.0] * 9 + [1.0]) * 20))[1:]
        >>> low < 0.1 < high
        True
    """
    if not len(losses):
        return Interval(math.nan, 0.0, 1.0)
    out = np.zeros(len(_GRID), dtype=bool)
    for is_upward in (True, False):
        money = betting_capital(losses, _GRID, alpha=alpha / 2, is_upward=is_upward)
        out |= money.max(axis=0) >= math.log(2 / alpha)
    left = _GRID[~out]
    mean = float(losses.mean())
    if not len(left):
        return Interval(mean, mean, mean)
    step = float(_GRID[1])
    return Interval(
        mean, max(0.0, min(mean, float(left[0]) - step)), min(1.0, max(mean, float(left[-1]) + step))
    )


def accuracy_state(
    reference: Sequence[bool], current: Sequence[bool], *, floor: float = FLOOR, alpha: float = ALPHA
) -> AccuracyState:
    """
    Judge the labels since the reference against those of the reference.

    Args:
        reference:
            Whether each labelled answer was right, in any order.
        current:
            The same since then, in the order in which labels arrived.
        floor:
            Loss of accuracy that does not matter.
        alpha:
            Chance of a false alarm, ever; half of it is spent on not knowing the reference well.
    """
    before, after = (1.0 - np.asarray(side, dtype=np.float64) for side in (reference, current))
    known, now = betting_interval(before, alpha=alpha / 2), betting_interval(after, alpha=alpha / 2)
    alarm_at = 0
    border = known.high + floor
    if len(before) >= LABELS_MIN and len(after) and border < 1.0:
        money = betting_capital(after, np.array([border]), alpha=alpha / 2, is_upward=True)[:, 0]
        sure = np.flatnonzero(money >= math.log(2 / alpha))
        alarm_at = int(sure[0]) + 1 if len(sure) else 0
    sides = [Interval(1 - i.value, 1 - i.high, 1 - i.low) for i in (known, now)]
    return AccuracyState(sides[0], sides[1], len(before), len(after), alarm_at > 0, alarm_at)


def labels_of_store(query: Any, border_unix_ns: int) -> tuple[list[bool], list[bool]]:
    """
    Read whether labelled answers were right, before and after a moment.

    A call is of the reference where it ran within it, however late its label came; labels count in the order in
    which they arrived. What is said of a call later corrects what was said before.
    """
    if not hasattr(query, "outcomes"):
        return [], []
    ordered = sorted(
        (one.matured_unix_ns, call_id, one.known_unix_ns < border_unix_ns, one.predicted == one.true)
        for call_id, one in calls_of(query.outcomes()).items()
        if one.matured_unix_ns
    )
    before = [is_right for *_, is_before, is_right in ordered if is_before]
    after = [is_right for *_, is_before, is_right in ordered if not is_before]
    return before[-LABELS_MAX:], after[:LABELS_MAX]
