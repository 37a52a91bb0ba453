"""Models and states of the watch as plain data and back: numbers keep every digit."""

from __future__ import annotations

from typing import Any

import numpy as np

from agentguard.drift._evidence import Sums
from agentguard.drift._load import Load
from agentguard.drift._streams import Scale, Stream
from agentguard.drift._tier import Alarm, TierModel, TierState
from agentguard.drift._whiten import Belief, Dynamics


def model_to(model: TierModel) -> dict[str, object]:
    """Return a model as plain data."""
    return {
        "name": model.name,
        "window_s": model.window_s,
        "season": model.season,
        "streams": [list(stream) for stream in model.streams],
        "scales": [[s.bins.tolist(), s.scores.tolist(), s.above, s.below.tolist()] for s in model.scales],
        "coefficients": model.coefficients.tolist(),
        "gram_inverse": model.gram_inverse.tolist(),
        "level": model.level.tolist(),
        "dynamics": [part.tolist() for part in model.dynamics],
        "calibration": [list(values) for values in model.calibration],
        "log_threshold": model.log_threshold,
        "load": [part.tolist() for part in model.load],
        "usual_rows": model.usual_rows.tolist(),
    }


def model_from(plain: dict[str, Any]) -> TierModel:
    """Return a model from plain data."""
    return TierModel(
        plain["name"],
        plain["window_s"],
        plain["season"],
        tuple(Stream(*one) for one in plain["streams"]),
        tuple(
            Scale(np.array(b, dtype=np.int64), np.array(s, dtype=float), a, np.array(w, dtype=float))
            for b, s, a, w in plain["scales"]
        ),
        np.array(plain["coefficients"], dtype=float),
        np.array(plain["gram_inverse"], dtype=float),
        np.array(plain["level"], dtype=float),
        Dynamics(*(np.array(part, dtype=float) for part in plain["dynamics"])),
        tuple(tuple(values) for values in plain["calibration"]),
        plain["log_threshold"],
        Load(np.array(plain["load"][0], dtype=np.int64), np.array(plain["load"][1], dtype=float)),
        np.array(plain["usual_rows"], dtype=float),
    )


def state_to(state: TierState) -> dict[str, object]:
    """Return a state as plain data."""
    return {
        "window": state.window,
        "belief": [part.tolist() for part in state.belief],
        "innovations": state.innovations,
        "sums": [part.tolist() for part in state.sums],
        "recent": state.recent,
        "active": None if state.active is None else list(state.active),
        "log_evidence": state.log_evidence,
    }


def state_from(plain: dict[str, Any]) -> TierState:
    """Return a state from plain data."""
    arrays = [np.array(part, dtype=float) for part in plain["sums"]]
    sums = Sums(*arrays)._replace(since=arrays[2].astype(np.int64))
    active = plain["active"]
    return TierState(
        plain["window"],
        Belief(*(np.array(part, dtype=float) for part in plain["belief"])),
        [list(values) for values in plain["innovations"]],
        sums,
        [(list(d), list(r)) for d, r in plain["recent"]],
        None if active is None else alarm_from(active),
        plain["log_evidence"],
    )


def alarm_from(plain: list[Any]) -> Alarm:
    """Return an alarm from plain data."""
    tier, window, change, streams, effects, errors, evidence = plain
    return Alarm(tier, window, change, tuple(streams), tuple(effects), tuple(errors), evidence)
