"""What the watch thinks now: one verdict of all tiers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from agentguard.drift._checker_config import CheckerConfig
from agentguard.drift._profile import read_profile
from agentguard.drift._reference import Reference
from agentguard.drift._source import FeatureStore
from agentguard.drift._tier import Alarm, TierModel
from agentguard.drift._verdicts import alarm_verdict
from agentguard.drift._watch import Watch, history_entry
from agentguard.values import DriftStatus, Verdict


def standing(
    store: FeatureStore, reference: Reference, watch: Watch, *, config: CheckerConfig, now_unix_ns: int
) -> Verdict:
    """
    Say what the tiers think now: days before hours, the agent before its data.

    Args:
        store:
            Where the calls are that describe an alarm.
        reference:
            With an hourly tier at least.
        watch:
            Of this reference.
        config:
            How the watch works.
        now_unix_ns:
            Nanoseconds since 1970-01-01 UTC.
    """
    known = {
        (entry["kind"], entry["time_unix_ns"]): str(entry["acknowledged"])
        for entry in watch.active_entries(reference)
        if entry.get("acknowledged")
    }
    seen: list[str] = []
    alarms: list[tuple[str, str]] = []
    loudest: tuple[TierModel, Alarm] | None = None
    for tier, model in (
        (watch.drift, reference.drift),
        (watch.incident, reference.incident),
        (watch.quality, reference.quality),
    ):
        if tier is None or model is None or tier.active is None:
            continue
        entry = history_entry(reference, tier.active)
        if (entry["kind"], entry["time_unix_ns"]) in known:
            streams = ", ".join(tier.active.streams)
            seen.append(f"{streams} (acknowledged: {known[entry['kind'], entry['time_unix_ns']]})")
            continue
        alarms += [(stream, tier.active.tier) for stream in tier.active.streams]
        loudest = (model, tier.active) if loudest is None else loudest
    if loudest is not None:
        model, active = loudest
        change = active.change_window * model.window_s * 10**9
        since = max(change, now_unix_ns - int(config.described_s_max * 1e9))
        profile = read_profile(
            store,
            since_unix_ns=since,
            until_unix_ns=now_unix_ns,
            agent=reference.agent,
            layout=reference.layout,
        )
        verdict = alarm_verdict(reference, model, active, profile, now_unix_ns)
        return replace(verdict, alarms=tuple(alarms))
    if seen:
        return Verdict(
            DriftStatus.WARNING,
            time_unix_ns=now_unix_ns,
            agent=reference.agent,
            sentence=f"known and not over: {'; '.join(seen)}",
        )
    return _quiet(reference, watch, now_unix_ns)


def _quiet(reference: Reference, watch: Watch, now_unix_ns: int) -> Verdict:
    """Return the verdict while no alarm is active: how near the evidence is."""
    tiers = [
        (state, model)
        for state, model in ((watch.incident, reference.incident), (watch.drift, reference.drift))
        if state is not None and model is not None
    ]
    nearest = max(state.log_evidence - model.log_threshold for state, model in tiers)
    # A thirtieth of the way in evidence is seen about once a fortnight with nothing wrong.
    is_near = nearest > -np.log(30.0)
    return Verdict(
        DriftStatus.WARNING if is_near else DriftStatus.STABLE,
        time_unix_ns=now_unix_ns,
        agent=reference.agent,
        sentence=(
            f"evidence is building up, {np.exp(min(nearest, 0.0)):.0%} of what an alarm needs"
            if is_near
            else "no change beyond the rhythm of the reference"
        ),
    )
