"""What a person does with an alarm: have it explained, acknowledge it, or say that normal is another now."""

from __future__ import annotations

from typing import Any, NamedTuple

from agentguard.drift._attribution import Attribution
from agentguard.drift._profile import read_profile
from agentguard.drift._reference import Reference, load_reference
from agentguard.drift._source import FeatureStore
from agentguard.drift._tier import Alarm, TierModel, begin
from agentguard.drift._verdicts import VERDICT_BLOB, alarm_verdict, attributed, to_json
from agentguard.drift._watch import STATE_BLOB, dump_watch, load_watch, locked, model_of
from agentguard.errors import DriftInputError
from agentguard.values import NO_VERDICT, Verdict

_DESCRIBED_NS_MAX = 28 * 86_400 * 10**9
NOTE_CHARS_MAX = 500


class Explanation(NamedTuple):
    """One alarm in full."""

    entry: dict[str, Any]
    """As it is kept."""
    verdict: Verdict
    """The calls between change and alarm against the reference."""
    attribution: Attribution | None
    """None where the reference has no segments."""


def explain(store: FeatureStore, *, number: int = 1) -> Explanation:
    """
    Look again at the calls of an alarm.

    Args:
        store:
            Where the calls and the watch's state are.
        number:
            1 for the newest alarm, 2 for the one before it.

    Raises:
        DriftInputError: There is no such alarm, or its reference was replaced.
    """
    reference, history = _known(store)
    if not 1 <= number <= len(history):
        raise DriftInputError(f"drift explain: got alarm {number}, expected 1 to {len(history)}").hint(
            "list them: agentguard drift status" if history else "there has been no alarm"
        )
    entry = history[-number]
    model = model_of(reference, entry["kind"])
    if entry["reference_id"] != reference.reference_id or model is None:
        raise DriftInputError(
            "drift explain: the reference of that alarm was replaced, expected the same one"
        )
    alarm = _alarm_of(entry, model)
    time_ns = entry["time_unix_ns"]
    since = max(entry["change_unix_ns"], time_ns - _DESCRIBED_NS_MAX)
    profile = read_profile(
        store, since_unix_ns=since, until_unix_ns=time_ns, agent=reference.agent, layout=reference.layout
    )
    verdict = alarm_verdict(reference, model, alarm, profile, time_ns)
    return Explanation(entry, verdict, attributed(reference, model, alarm, profile))


def acknowledge(store: FeatureStore, *, note: str) -> int:
    """
    Say that the active alarms are known: the verdict is a warning until they are over.

    Args:
        store:
            Where the watch's state is.
        note:
            Why, or by whom; kept with the alarm. At most `NOTE_CHARS_MAX` characters.

    Returns:
        How many alarms were acknowledged.

    Raises:
        DriftInputError: There is no reference, the note is empty or too long, or a pass is running.
    """
    if not 0 < len(note) <= NOTE_CHARS_MAX:
        raise DriftInputError(f"note: got {len(note)} characters, expected 1 to {NOTE_CHARS_MAX}")
    reference, _ = _known(store)
    blob = store.sealed_blob(STATE_BLOB)
    with locked(blob) as is_mine:
        _refuse_unless(is_mine)
        watch = load_watch(blob.read(), reference)
        found = [entry for entry in watch.active_entries(reference) if not entry.get("acknowledged")]
        for entry in found:
            entry["acknowledged"] = note
        if found:
            blob.write(dump_watch(watch, reference))
    return len(found)


def reset(store: FeatureStore, *, now_unix_ns: int) -> None:
    """
    Forget evidence and active alarms, and watch on from now; the reference and the list of alarms stay.

    Where the agent was changed on purpose, fit a new reference instead: the old one is no longer normal.

    Raises:
        DriftInputError: There is no reference, or a pass is running.
    """
    reference, _ = _known(store)
    blob = store.sealed_blob(STATE_BLOB)
    with locked(blob) as is_mine:
        _refuse_unless(is_mine)
        watch = load_watch(blob.read(), reference)
        for name in ("incident", "drift", "quality"):
            model = model_of(reference, name)
            if model is not None:
                here = max(now_unix_ns, reference.until_unix_ns)
                setattr(watch, name, begin(model, -(-here // (model.window_s * 10**9)) - 1))
        watch.counted = {}
        blob.write(dump_watch(watch, reference))
        store.sealed_blob(VERDICT_BLOB).write(to_json(NO_VERDICT))


def _refuse_unless(is_mine: bool) -> None:
    """Refuse to change a state that another process is changing."""
    if not is_mine:
        raise DriftInputError("drift state: another process is at it, expected it free").hint("try again")


def _known(store: FeatureStore) -> tuple[Reference, list[dict[str, Any]]]:
    """Return the reference and the alarms."""
    reference = load_reference(store)
    if reference is None:
        raise DriftInputError("drift: no reference is stored, expected one").hint(
            "learn one: agentguard drift fit"
        )
    return reference, load_watch(store.sealed_blob(STATE_BLOB).read(), reference).history


def _alarm_of(entry: dict[str, Any], model: TierModel) -> Alarm:
    """Return an alarm as it was."""
    window_ns = model.window_s * 10**9
    return Alarm(
        entry["kind"],
        entry["time_unix_ns"] // window_ns - 1,
        entry["change_unix_ns"] // window_ns,
        tuple(entry["streams"]),
        tuple(entry["effects"]),
        tuple(entry["standard_errors"]),
        entry["log_evidence"],
    )
