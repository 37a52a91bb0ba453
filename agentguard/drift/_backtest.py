"""The very engine of the watch, run over history as if it were live."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from agentguard.drift._attribution import Attribution, attribute
from agentguard.drift._comparison import figure
from agentguard.drift._history import History, Series, read_history
from agentguard.drift._intervals import (
    Interval,
    count_mean_interval,
    difference,
    mean_interval,
    quantile_interval,
    wilson,
)
from agentguard.drift._layout import PLACES
from agentguard.drift._profile import histograms_of
from agentguard.drift._reference import DRIFT_DAYS_MIN, INCIDENT_DAYS_MIN, WINDOW_S, fit_tiers
from agentguard.drift._sample import Bools, sample_of
from agentguard.drift._season import DAY_S
from agentguard.drift._streams import ScoreType, Stream, scale_of
from agentguard.drift._summary import Summary, between, coarsen
from agentguard.drift._table_store import TIME_COLUMN
from agentguard.drift._tier import Alarm, TierModel, begin, run
from agentguard.drift._units import unit_of
from agentguard.drift._verdicts import as_read
from agentguard.errors import BaselineTooSmallError, DriftInputError
from agentguard.values import FeatureType

_UNITS_DAYS = {"h": 1 / 24, "d": 1.0, "w": 7.0}


class BacktestAlarm(NamedTuple):
    """One alarm that the watch would have raised."""

    kind: str
    """incident, drift or quality."""
    stream: str
    """The strongest stream."""
    time_unix_ns: int
    """When it would have been raised: the end of the window that brought it."""
    change_unix_ns: int
    """Where the change is thought to have begun."""
    effect: float
    """What changed, in the feature's own unit, since then."""
    effect_low: float
    effect_high: float
    """Ends of its 95 % interval."""
    effect_name: str
    """What the effect is a difference of: median, 95th percentile, mean or share."""
    unit: str
    segment: str
    """The part of the traffic that carries the change; empty for all of it."""
    streams: tuple[str, ...]
    """All that carry it, the strongest first."""
    mix: Mapping[str, float]
    """By dimension: the part of the score's change that another mix of its segments brought."""
    within: Mapping[str, float]
    """By dimension: the part that changes within its segments brought."""
    sentence: str
    tier: str
    """What judged it: incident for hours, drift for days; differs from the kind where that is quality."""


class BacktestReference(NamedTuple):
    """What the watch learnt from the beginning of the table."""

    since_unix_ns: int
    until_unix_ns: int
    rows: int
    incident: TierModel | None
    drift: TierModel | None
    sentence: str
    """What it can carry."""


class Backtest(NamedTuple):
    """What the watch would have said."""

    reference: BacktestReference
    alarms: tuple[BacktestAlarm, ...]
    """In the order of time."""
    until_unix_ns: int
    """End of the last whole window."""
    notes: tuple[str, ...] = ()
    """Columns that could not be watched, and why."""


def backtest(
    table: object,
    *,
    time: str = TIME_COLUMN,
    features: Iterable[str] | Mapping[str, FeatureType | None] | None = None,
    segments: Sequence[str] = (),
    reference: str | float = "28d",
    promise: float = 1.0,
) -> Backtest:
    """
    Fit the first days of a table and run the watch over the rest.

    Hours are judged where the reference has seven days and five rows in most hours, days where it has
    twenty-one. The order of the rows makes no difference.

    Args:
        table:
            Anything `compare` takes: a data frame, a mapping of columns, the path of a Parquet or CSV file.
        time:
            Name of the column with the time of each row: timestamps, ISO 8601 text (UTC where it does not
            say), or numbers since 1970.
        features:
            Columns to watch, or a mapping of them to types: continuous, count, share, category. Where not
            given: the everyday columns that are there, else all columns of numbers.
        segments:
            Columns whose values are parts of the traffic, such as tool and model.
        reference:
            How much of the beginning serves as the reference: 28d, 4w, or a number of days.
        promise:
            False alarms tolerated a year, for each tier.

    Raises:
        BaselineTooSmallError: The reference is too short or too sparse to carry the promise.
        DriftInputError: The table cannot be read, or ends before the reference does.
    """
    days = reference_days(reference)
    if not promise > 0 or not math.isfinite(promise):
        raise DriftInputError(f"promise is {promise:g}, expected more than 0")
    if isinstance(segments, str):
        raise DriftInputError(f"segments is the text `{segments}`, expected a list of names")
    length_ns = int(days * DAY_S * 1e9)
    history = read_history(
        table, time=time, features=features, segments=tuple(segments), reference_ns=length_ns
    )
    first, last = int(history.time_unix_ns.min()), int(history.time_unix_ns.max())
    border = first + length_ns
    if last <= border:
        raise DriftInputError(
            f"backtest: the table spans {(last - first) / 1e9 / DAY_S:.1f} days, expected more than the"
            f" {days:g} of the reference"
        )
    summary = history.summary(WINDOW_S)
    key = hashlib.blake2b(f"{first}\0{border}".encode(), digest_size=16).digest()
    fitted = _fitted(history, summary, first, border, promise=promise, key=key)
    alarms: list[BacktestAlarm] = []
    for model, windows in ((fitted.incident, summary), (fitted.drift, coarsen(summary, DAY_S))):
        if model is None:
            continue
        window_ns = model.window_s * 10**9
        start, until = -(-border // window_ns), (last + 1) // window_ns
        found = run(model, begin(model, start - 1), between(windows, start, until), until=until, key=key)
        alarms += [_described(alarm, model, history, summary, border) for alarm in found]
    until_ns = (last + 1) // (WINDOW_S * 10**9) * WINDOW_S * 10**9
    order = sorted(alarms, key=lambda alarm: (alarm.time_unix_ns, alarm.kind, alarm.stream))
    return Backtest(fitted, tuple(order), until_ns, history.notes)


def reference_days(reference: str | float) -> float:
    """
    Read how long a reference is.

    Example:
        >>> reference_days("4w"), reference_days(28), reference_days("12h")
        (28.0, 28.0, 0.5)
    """
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)([hdw]?)", str(reference))
    if found is None or float(found[1]) <= 0:
        raise DriftInputError(f"reference is `{reference}`, expected a length such as 28d or 4w")
    return float(found[1]) * _UNITS_DAYS[found[2] or "d"]


def _fitted(
    history: History, summary: Summary, first: int, border: int, *, promise: float, key: bytes
) -> BacktestReference:
    """Fit both tiers on the beginning, and say what they can carry."""
    n = int((history.time_unix_ns < border).sum())
    days = (border - first) / (DAY_S * 1e9)
    start = f"{n:,} rows in {days:g} days"
    incident, drift = fit_tiers(
        between(summary, 0, border // (WINDOW_S * 10**9)),
        first,
        border,
        promise_per_year=promise,
        key=key,
        streams=history.streams(),
    )
    if incident is None and drift is None:
        why = (
            f"less than the {INCIDENT_DAYS_MIN} days that the rhythm of a week needs"
            if days < INCIDENT_DAYS_MIN
            else f"no column has five rows in six of ten hours (of days, from {DRIFT_DAYS_MIN} days on)"
        )
        raise BaselineTooSmallError(f"reference: {start}: {why}").hint("name a longer one: --reference 28d")
    tiers = [
        f"{what} ({len(model.streams)} streams)"
        for what, model in (("hours", incident), ("days", drift))
        if model is not None
    ]
    sentence = (
        f"{start}: {' and '.join(tiers)} are watched, at most {promise:g} false alarms a year for each."
    )
    return BacktestReference(first, border, n, incident, drift, sentence)


def _described(
    alarm: Alarm, model: TierModel, history: History, summary: Summary, border: int
) -> BacktestAlarm:
    """Say in the column's own unit what changed, and where."""
    window_ns = model.window_s * 10**9
    raised, change = (alarm.window + 1) * window_ns, alarm.change_window * window_ns
    since = (history.time_unix_ns >= change) & (history.time_unix_ns < raised)
    before = history.time_unix_ns < border
    strongest = next(stream for stream in model.streams if stream.name == alarm.streams[0])
    found = _attributed(strongest, history, summary, border, change, raised)
    top = "" if found is None else found.top
    streams = as_read(alarm, model.streams, top)
    lead = streams[0]
    one = next(s for s in history.series if lead.column == s.streams[0].column)
    name, effect = _effect(one, lead, before, since, history)
    splits = () if found is None else found.splits
    unit = unit_of(one.feature.removesuffix(" missing"), one.type) if lead.score != "share" else "share"
    is_quality = all(stream.is_quality for stream in streams)
    kind = "quality" if is_quality else alarm.tier
    began = datetime.fromtimestamp(change / 1e9, tz=UTC)
    others = f"; also {', '.join(stream.name for stream in streams[1:4])}" if len(streams) > 1 else ""
    sentence = (
        f"since about {began:%Y-%m-%d %H:%M} UTC {lead.name}: {name} {figure(effect.value, unit, signed=True)}"
        f" ({figure(effect.low, unit, signed=True)} to {figure(effect.high, unit, signed=True)})"
        f"{f', carried by {top}' if top and top != lead.segment else ''}{others}."
    )
    return BacktestAlarm(
        kind,
        lead.name,
        raised,
        change,
        effect.value,
        effect.low,
        effect.high,
        name,
        unit,
        top or strongest.segment,
        alarm.streams,
        {split.dimension: split.mix for split in splits},
        {split.dimension: split.within for split in splits},
        sentence,
        alarm.tier,
    )


def _effect(one: Series, lead: Stream, before: Bools, since: Bools, history: History) -> tuple[str, Interval]:
    """Return what changed and by how much: rows of the reference against those since the change."""
    mine = dict(history.members).get(lead.place)
    if mine is not None:
        before, since = before & mine, since & mine
    return effect_between(one, lead.score, before, since)


def effect_between(one: Series, score: ScoreType, before: Bools, since: Bools) -> tuple[str, Interval]:
    """Return what a change is a difference of, and how large it is between two sets of rows, in the column's unit."""
    sides: list[Interval] = []
    name = {"rank": "median", "tail": "95th percentile", "share": "share", "count": "mean"}[score]
    for rows in (before, since):
        values = one.values[one.has & rows]
        if not len(values):
            return name, Interval(math.nan, math.nan, math.nan)
        sample = sample_of(values)
        if score in {"rank", "tail"}:
            sides.append(quantile_interval(sample, 0.5 if score == "rank" else 0.95))
        elif score == "count":
            sides.append(count_mean_interval(sample))
        elif bool(np.isin(sample.values, (0.0, 1.0)).all()):
            sides.append(wilson(round(sample.mean * sample.n), sample.n))
        else:
            sides.append(mean_interval(sample))
    found = difference(*sides)
    if score == "rank" and found.value == 0.0:  # a few values repeat, or only the upper part moved
        upper = effect_between(one, "tail", before, since)
        return upper if upper[1].value != 0.0 else (name, found)
    return name, found


def _attributed(
    lead: Stream, history: History, summary: Summary, border: int, change: int, raised: int
) -> Attribution | None:
    """Search the segments for the one that carries the change."""
    if not history.layout.segments:
        return None
    window_ns = summary.window_s * 10**9
    known = histograms_of(between(summary, 0, border // window_ns))
    whole = known.get(lead.code % PLACES)
    if not whole:
        return None
    since = histograms_of(between(summary, change // window_ns, raised // window_ns))
    return attribute(history.layout, lead, scale_of(lead, whole), known, since)
