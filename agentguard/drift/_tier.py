"""
One tier of the watch: fitted once on a reference, then stepped window by window.

The same code is the hourly tier (incidents) and the daily one (drift). Stepping is a pure function
of model, state and window, so replaying a year and living through it give the same alarms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from agentguard.drift._evidence import (
    Sums,
    add,
    log_mean,
    no_sums,
    normal_score,
    stream_evidence,
    uniforms,
)
from agentguard.drift._load import Load, fit_load, guides_of, no_load, owed
from agentguard.drift._noise import noise_floor, pace_of, swell_of
from agentguard.drift._sample import Floats, Ints
from agentguard.drift._season import SeasonKind, fit_season, regressors
from agentguard.drift._streams import FLOORS, ROWS_MIN, Scale, Scored, Stream, scale_of, score_windows
from agentguard.drift._summary import Summary, total
from agentguard.drift._whiten import Belief, Dynamics, fit_dynamics, innovate, start


class TierModel(NamedTuple):
    """What a tier learnt from its reference. Frozen."""

    name: str
    """incident, drift or quality."""
    window_s: int
    season: SeasonKind
    streams: tuple[Stream, ...]
    scales: tuple[Scale, ...]
    coefficients: Floats
    """Shape `(n_streams, n_regressors)`."""
    gram_inverse: Floats
    """Shape `(n_streams, n_regressors, n_regressors)`."""
    level: Floats
    """Mean score of each stream in the reference."""
    dynamics: Dynamics
    calibration: tuple[tuple[float, ...], ...]
    """Innovations of the reference per stream, ascending."""
    log_threshold: float
    load: Load
    """What shares and counts owe to the load that the latencies show."""
    usual_rows: Floats
    """Mean calls of each stream in a window of the reference."""


class Alarm(NamedTuple):
    """One alarm."""

    tier: str
    window: int
    """The window that brought it."""
    change_window: int
    """Where the change is thought to have begun."""
    streams: tuple[str, ...]
    """Streams that carry it, the strongest first."""
    effects: tuple[float, ...]
    """Change of the score of each since then."""
    standard_errors: tuple[float, ...]
    log_evidence: float


@dataclass
class TierState:
    """Where a tier stands. Changes with each window; can be stored and taken up again."""

    window: int
    """Last window taken in."""
    belief: Belief
    innovations: list[list[float]]
    sums: Sums
    recent: list[tuple[list[float], list[float]]] = field(default_factory=list)
    """Distance and calls per stream of the last windows: they say when an alarm is over."""
    active: Alarm | None = None
    log_evidence: float = float("-inf")


RECENT = {"incident": 6, "drift": 3, "quality": 6}
"""Windows after which an alarm is over where their mean change is below the floor."""


def fit_tier(
    name: str,
    reference: Summary,
    streams: tuple[Stream, ...],
    *,
    first: int,
    n_windows: int,
    season: SeasonKind,
    log_threshold: float,
    key: bytes,
    with_memory: bool,
) -> TierModel:
    """
    Learn level, season, dynamics and the distribution of innovations.

    Args:
        name:
            incident, drift or quality.
        reference:
            Summary in windows of the tier's length.
        streams:
            What to watch; those with data in fewer than six of ten windows are left out.
        first:
            First window.
        n_windows:
            How many there are.
        season:
            Which rhythm the reference can carry.
        log_threshold:
            Logarithm of the windows per tolerated false alarm.
        key:
            Breaks ties; the same key gives the same alarms.
        with_memory:
            Whether load may linger from one window to the next.
    """
    kept: list[tuple[Stream, Scale, Scored]] = []
    for stream in streams:
        histogram = total(reference, stream.code)
        if not histogram:
            continue
        scale = scale_of(stream, histogram)
        if stream.score == "volume":
            scale = scale._replace(above=sum(histogram.values()) / n_windows)
        scored = score_windows(reference, stream, scale, first=first, n_windows=n_windows)
        if np.isfinite(scored.scores).mean() >= 0.6:
            kept.append((stream, scale, scored))
    windows = np.arange(first, first + n_windows)
    design = regressors(windows, window_s=reference.window_s, kind=season)
    n_regressors = design.shape[1]
    scores = np.stack([s.scores for *_, s in kept], axis=1) if kept else np.empty((n_windows, 0))
    rows = (
        np.stack([s.rows for *_, s in kept], axis=1).astype(np.float64) if kept else np.empty((n_windows, 0))
    )
    noise = np.array([noise_floor(stream, s) for stream, _, s in kept])
    weights = rows / (rows + 20.0)
    fits = [fit_season(design, scores[:, i], weights[:, i]) for i in range(len(kept))]
    coefficients = np.array([c for c, _ in fits]).reshape(len(kept), n_regressors)
    inverses = np.array([g for _, g in fits]).reshape(len(kept), n_regressors, n_regressors)
    level = np.array(
        [np.nansum(scores[:, i] * rows[:, i] * np.isfinite(scores[:, i])) for i in range(len(kept))]
    )
    level /= np.maximum(1.0, np.where(np.isfinite(scores), rows, 0.0).sum(axis=0))
    expected = design @ coefficients.T
    kept_streams = tuple(stream for stream, *_ in kept)
    swell = swell_of(kept_streams, expected, level)
    leverage = np.einsum("tp,spq,tq->ts", design, inverses, design) * weights
    # Inside the reference the season was fitted to these very windows: undo the shrinking.
    stretch = 1.0 / np.sqrt(np.clip(1.0 - leverage, 0.2, 1.0))
    distance = (scores - expected) * stretch
    dynamics = fit_dynamics(distance, rows, noise, swell, with_memory=with_memory)
    load = no_load(len(kept))
    if with_memory:
        load, debts = fit_load(guides_of(kept_streams), dynamics, distance, rows, swell)
        distance = distance - debts
        led = np.flatnonzero(load.factor)
        again = fit_dynamics(distance[:, led], rows[:, led], noise[led], swell[:, led], with_memory=True)
        for all_of, new in zip(dynamics, again, strict=True):
            all_of[led] = new
    model = TierModel(
        name,
        reference.window_s,
        season,
        kept_streams,
        tuple(scale for _, scale, _ in kept),
        coefficients,
        inverses,
        level,
        dynamics,
        (),
        log_threshold,
        load,
        rows.mean(axis=0),
    )
    return model._replace(calibration=_calibrate(model, distance, rows, expected, first, key))


def _jitter(model: TierModel, rows: Floats, window: int, key: bytes) -> tuple[Floats, list[float]]:
    """Return what is added to sparse scores so that ties break at random, and the other uniforms."""
    added = np.zeros(len(model.streams))
    others: list[float] = []
    for i, stream in enumerate(model.streams):
        first, second = uniforms(key, f"{model.name}/{stream.name}", window)
        others.append(second)
        if stream.score not in {"rank", "volume"}:
            added[i] = (first - 0.5) / max(1.0, rows[i])
    return added, others


def _calibrate(
    model: TierModel, distance: Floats, rows: Floats, expected: Floats, first: int, key: bytes
) -> tuple[tuple[float, ...], ...]:
    """Run the filter over the reference and keep the innovations."""
    belief = start(model.dynamics)
    collected: list[list[float]] = [[] for _ in model.streams]
    for t in range(len(distance)):
        added, _ = _jitter(model, rows[t], first + t, key)
        swell = swell_of(model.streams, expected[t] + model.dynamics.phi * belief.mean, model.level)
        innovation, belief = innovate(
            model.dynamics, belief, distance=distance[t] + added, rows=rows[t], swell=swell
        )
        for place, value in zip(collected, innovation.tolist(), strict=True):
            if math.isfinite(value):
                place.append(value)
    return tuple(tuple(sorted(values)) for values in collected)


def begin(model: TierModel, window: int) -> TierState:
    """Return the state before the window after *window*."""
    return TierState(
        window,
        start(model.dynamics),
        [list(values) for values in model.calibration],
        no_sums(len(model.streams), window),
    )


def score_all(model: TierModel, summary: Summary, *, first: int, n_windows: int) -> tuple[Floats, Ints]:
    """Score consecutive windows of all streams. Shapes `(n_windows, n_streams)`."""
    scored = [
        score_windows(summary, stream, scale, first=first, n_windows=n_windows)
        for stream, scale in zip(model.streams, model.scales, strict=True)
    ]
    if not scored:
        return np.empty((n_windows, 0)), np.empty((n_windows, 0), dtype=np.int64)
    return np.stack([s.scores for s in scored], axis=1), np.stack([s.rows for s in scored], axis=1)


def step(model: TierModel, state: TierState, scores: Floats, rows: Floats, key: bytes) -> Alarm | None:
    """
    Take the next window in, and change *state*.

    Args:
        model:
            The fitted tier.
        state:
            After the window before.
        scores:
            Score per stream, NaN with fewer than `ROWS_MIN` calls.
        rows:
            Calls per stream.
        key:
            As for the fit.

    Returns:
        An alarm that begins with this window, or None. While one is active no other begins.
    """
    window = state.window + 1
    state.window = window
    if not model.streams:
        return None
    design = regressors(np.array([window]), window_s=model.window_s, kind=model.season)[0]
    expected = model.coefficients @ design
    weight = rows / (rows + 20.0)
    leverage = np.einsum("p,spq,q->s", design, model.gram_inverse, design) * weight
    plain = scores - expected
    distance = plain / np.sqrt(1.0 + leverage)
    added, breakers = _jitter(model, rows, window, key)
    swell = swell_of(model.streams, expected + model.dynamics.phi * state.belief.mean, model.level)
    if model.load.factor.any():
        _, seen = innovate(model.dynamics, state.belief, distance=distance, rows=rows, swell=swell)
        debts = owed(model.load, model.dynamics, seen.mean, swell_of(model.streams, expected, model.level))
        plain, distance = plain - debts, distance - debts
    innovation, state.belief = innovate(
        model.dynamics, state.belief, distance=distance + added, rows=rows, swell=swell
    )
    pool = np.array([float(len(earlier)) for earlier in state.innovations])
    normal_scores = np.array(
        [
            normal_score(earlier, value, u) if math.isfinite(value) else math.nan
            for earlier, value, u in zip(state.innovations, innovation.tolist(), breakers, strict=True)
        ]
    )
    state.sums = add(
        state.sums,
        normal_scores=normal_scores,
        distance=plain,
        rows=rows,
        pace=pace_of(model.dynamics, model.usual_rows, rows, swell),
        pool=pool,
        window=window,
    )
    state.recent = [*state.recent, (plain.tolist(), rows.tolist())][-RECENT[model.name] :]
    sided = np.array([stream.is_two_sided for stream in model.streams])
    per_stream = stream_evidence(state.sums, sided)
    state.log_evidence = log_mean(per_stream)
    if state.active is not None:
        if _is_over(model, state):
            state.active = None
            state.sums = no_sums(len(model.streams), window)
        return None
    if state.log_evidence < model.log_threshold:
        return None
    alarm = _alarm(model, state, per_stream)
    if alarm is not None:
        state.active = alarm
        state.sums = no_sums(len(model.streams), window)
    return alarm


def _alarm(model: TierModel, state: TierState, per_stream: Floats) -> Alarm | None:
    """Return the alarm, unless no stream's change is large enough to matter."""
    carried: list[tuple[float, int, float, float, int]] = []
    told: set[Stream] = set()
    for i in np.argsort(-per_stream).tolist():
        stream = model.streams[i]
        # Where a tail has moved with all the rest, the rest is what a person asks for.
        if per_stream[i] < model.log_threshold and carried and stream._replace(score="tail") not in told:
            continue
        sides = state.sums.log_evidence[i] if stream.is_two_sided else state.sums.log_evidence[i, :1]
        side, size = np.unravel_index(int(sides.argmax()), sides.shape)
        cell = (i, int(side), int(size))
        effect, error = _effect(model, state, cell)
        # One-sided: the change must be beyond the floor even at the lower end of what is plausible.
        if abs(effect) - 1.645 * error > FLOORS[stream.score]:
            carried.append((float(per_stream[i]), i, effect, error, int(state.sums.since[cell])))
            told.add(stream)
    if not carried:
        return None
    return Alarm(
        model.name,
        state.window,
        carried[0][4],
        tuple(model.streams[i].name for _, i, *_ in carried),
        tuple(effect for _, _, effect, *_ in carried),
        tuple(error for _, _, _, error, _ in carried),
        state.log_evidence,
    )


def _effect(model: TierModel, state: TierState, cell: tuple[int, int, int]) -> tuple[float, float]:
    """Return the mean change of a stream since its change point, with a standard error that knows the load."""
    i = cell[0]
    weight, steps = float(state.sums.weight[cell]), float(state.sums.steps[cell])
    if weight <= 0 or steps <= 0:
        return 0.0, math.inf
    effect = float(state.sums.shift[cell]) / weight
    phi, variance = float(model.dynamics.phi[i]), float(model.dynamics.variance[i])
    lingering = min(1.0, (1 + phi) / (1 - phi) / steps)
    level = model.level[i : i + 1]
    swell = max(1.0, float(swell_of((model.streams[i],), level + effect, level)[0]))
    return effect, math.sqrt(variance * lingering + float(model.dynamics.noise[i]) * swell / weight)


def _is_over(model: TierModel, state: TierState) -> bool:
    """Whether the streams of the active alarm are back within the floor over the last windows."""
    assert state.active is not None
    if len(state.recent) < RECENT[model.name] or state.window - state.active.window < RECENT[model.name]:
        return False
    index = {stream.name: i for i, stream in enumerate(model.streams)}
    for name in state.active.streams:
        i = index[name]
        pairs = [(d[i], r[i]) for d, r in state.recent if r[i] >= ROWS_MIN and math.isfinite(d[i])]
        weight = sum(r for _, r in pairs)
        if weight and abs(sum(d * r for d, r in pairs)) / weight > FLOORS[model.streams[i].score]:
            return False
    return True


def run(model: TierModel, state: TierState, summary: Summary, *, until: int, key: bytes) -> list[Alarm]:
    """Take in all windows up to, not including, *until*, and change *state*; return the alarms."""
    first = state.window + 1
    n = until - first
    if n <= 0:
        return []
    scores, rows = score_all(model, summary, first=first, n_windows=n)
    alarms = [step(model, state, scores[t], rows[t].astype(np.float64), key) for t in range(n)]
    return [alarm for alarm in alarms if alarm is not None]
