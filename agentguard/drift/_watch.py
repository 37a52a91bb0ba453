"""The state of the watch between two passes, as it is kept in the store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from agentguard.drift._codec import state_from, state_to
from agentguard.drift._reference import WINDOW_S, Reference
from agentguard.drift._source import FeatureStore
from agentguard.drift._tier import Alarm, TierModel, TierState, begin
from agentguard.errors import DriftInputError

STATE_BLOB = "drift-state"
STATE_VERSION = 3


@dataclass
class Watch:
    """The state of the tiers."""

    reference_id: str
    incident: TierState | None
    drift: TierState | None
    quality: TierState | None
    counted: dict[int, int]
    """Calls counted in the last closed windows, by window."""
    late: int
    """Calls that reached closed windows since the reference."""
    history: list[dict[str, Any]]
    """Alarms, the oldest first."""

    def active_entries(self, reference: Reference) -> list[dict[str, Any]]:
        """Return the entries of the alarms that are not over."""
        found = []
        for tier in (self.drift, self.incident, self.quality):
            if tier is not None and tier.active is not None:
                wanted = history_entry(reference, tier.active)
                same = ("kind", "time_unix_ns", "reference_id")
                found += [e for e in self.history if all(e.get(k) == wanted[k] for k in same)]
        return found


def load_watch(data: bytes | None, reference: Reference) -> Watch:
    """Return the stored state, or a fresh one where the reference is another than the state's."""
    history: list[dict[str, Any]] = []
    if data is not None:
        try:
            plain = json.loads(data)
            history = list(plain["history"])
            if plain["version"] == STATE_VERSION and plain["reference_id"] == reference.reference_id:
                return Watch(
                    plain["reference_id"],
                    None if plain["incident"] is None else state_from(plain["incident"]),
                    None if plain["drift"] is None else state_from(plain["drift"]),
                    None if plain["quality"] is None else state_from(plain["quality"]),
                    {int(k): v for k, v in plain["counted"].items()},
                    plain["late"],
                    history,
                )
        except (KeyError, TypeError, ValueError):
            raise DriftInputError("drift state: the bytes are not a state, expected one").hint(
                "fit the reference again: agentguard drift fit"
            ) from None
    return Watch(
        reference.reference_id,
        _fresh(reference.incident, reference),
        _fresh(reference.drift, reference),
        _fresh(reference.quality, reference),
        {},
        0,
        history,
    )


def _fresh(model: TierModel | None, reference: Reference) -> TierState | None:
    """Begin a tier at the first whole window after the reference."""
    if model is None:
        return None
    return begin(model, -(-reference.until_unix_ns // (model.window_s * 10**9)) - 1)


def dump_watch(watch: Watch, reference: Reference) -> bytes:
    """Return the state for keeping."""
    return json.dumps(
        {
            "version": STATE_VERSION,
            "reference_id": reference.reference_id,
            "incident": None if watch.incident is None else state_to(watch.incident),
            "drift": None if watch.drift is None else state_to(watch.drift),
            "quality": None if watch.quality is None else state_to(watch.quality),
            "counted": watch.counted,
            "late": watch.late,
            "history": watch.history,
        },
        separators=(",", ":"),
    ).encode()


def model_of(reference: Reference, tier: str) -> TierModel | None:
    """Return the tier of a name: incident, drift or quality."""
    return {"incident": reference.incident, "drift": reference.drift, "quality": reference.quality}.get(tier)


def history_entry(reference: Reference, alarm: Alarm) -> dict[str, Any]:
    """Return an alarm as it is kept."""
    model = model_of(reference, alarm.tier)
    window_s = WINDOW_S if model is None else model.window_s
    return {
        "kind": alarm.tier,
        "time_unix_ns": (alarm.window + 1) * window_s * 10**9,
        "change_unix_ns": alarm.change_window * window_s * 10**9,
        "streams": list(alarm.streams),
        "effects": list(alarm.effects),
        "standard_errors": list(alarm.standard_errors),
        "log_evidence": alarm.log_evidence,
        "reference_id": reference.reference_id,
    }


def alarm_history(store: FeatureStore) -> list[dict[str, Any]]:
    """Return the alarms of the watch, the oldest first, as plain data."""
    data = store.sealed_blob(STATE_BLOB).read()
    return [] if data is None else list(json.loads(data).get("history", []))


@contextmanager
def locked(blob: Any) -> Iterator[bool]:
    """Take turns with other processes; a store without locks has one process."""
    if not hasattr(blob, "locked"):
        yield True
        return
    with blob.locked(is_waiting=False) as is_mine:
        yield bool(is_mine)
