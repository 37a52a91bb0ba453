"""Verdicts in words and as bytes."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from agentguard.drift._accuracy import ALPHA, AccuracyState
from agentguard.drift._attribution import Attribution, attribute
from agentguard.drift._comparison import figure
from agentguard.drift._layout import PLACES
from agentguard.drift._profile import Profile, compare_profiles, compare_segment
from agentguard.drift._quality import QUALITY_WORDS
from agentguard.drift._reference import Reference
from agentguard.drift._source import FeatureStore
from agentguard.drift._streams import FLOORS, Stream, scale_of
from agentguard.drift._tier import Alarm, TierModel
from agentguard.values import NO_VERDICT, DriftStatus, FeatureVerdict, Verdict

VERDICT_BLOB = "drift-verdict"


def alarm_verdict(reference: Reference, model: TierModel, alarm: Alarm, since: Profile, now: int) -> Verdict:
    """
    Say in the feature's own unit what changed.

    Args:
        reference:
            What was normal.
        model:
            The tier that alarmed.
        alarm:
            Its alarm.
        since:
            The calls since the change point.
        now:
            When the check ended.
    """
    compared = {
        row.feature: row for row in compare_profiles(reference.profile, since).features if row.kind == "value"
    }
    found = attributed(reference, model, alarm, since)
    top = "" if found is None else found.top
    features: list[FeatureVerdict] = []
    shortest: list[str] = []
    for stream in as_read(alarm, model.streams, top):
        row = compared.get(stream.feature)
        if stream.segment:
            row = compare_segment(reference.profile, since, stream)
        place = alarm.streams.index(stream.name)
        effect, error = alarm.effects[place], alarm.standard_errors[place]
        level = float(model.level[model.streams.index(stream)])
        unit, value = _score_unit(stream.score), effect
        ends = (effect - 1.96 * error, effect + 1.96 * error)
        short = moved = f"{stream.name}: {figure(effect, 'share', signed=True)} {unit}"
        if row is not None and stream.score != "tail" and not math.isnan(row.effect):
            unit, value = row.unit, row.effect
            ends = (row.effect_low, row.effect_high)
            moved = row.sentence.split(", p ")[0].split(": within chance")[0]
            short, _, interval = moved.partition("; 95 % interval")
            short += ")" * bool(interval)
        elif stream.is_quality:
            unit, moved = "share", quality_words(stream, level, effect)
            short = moved
        features.append(
            FeatureVerdict(
                feature=stream.name,
                statistic=alarm.log_evidence / math.log(10),
                p_value=min(1.0, math.exp(-alarm.log_evidence)),
                effect=value,
                effect_unit=unit,
                test=f"evidence over {'hours' if alarm.tier == 'incident' else 'days'}",
                is_drift=True,
                n_reference=row.n_reference if row is not None else 0,
                n_current=row.n_current if row is not None else since.n_calls,
                sentence=f"{moved}; score {effect:+.3f} ± {1.96 * error:.3f}, floor {FLOORS[stream.score]:g}.",
                effect_low=ends[0],
                effect_high=ends[1],
                segment=stream.segment,
            )
        )
        shortest.append(short)
    carried = [stream for stream in model.streams if stream.name in alarm.streams]
    is_quality = all(stream.is_quality for stream in carried)
    began = datetime.fromtimestamp(alarm.change_window * model.window_s, tz=UTC)
    others = ", ".join(f.feature for f in features[1:])
    where = "" if found is None else carried_words(found)
    return Verdict(
        DriftStatus.DRIFT,
        kind="quality" if is_quality else alarm.tier,
        time_unix_ns=now,
        features=tuple(features),
        agent=reference.agent,
        sentence=f"since about {began:%Y-%m-%d %H:%M} UTC {shortest[0]}{f'; also {others}' if others else ''}{where}.",
        change_unix_ns=alarm.change_window * model.window_s * 10**9,
        segment=top,
    )


def as_read(alarm: Alarm, streams: Sequence[Stream], top: str) -> list[Stream]:
    """
    Return the streams of an alarm in the order that a person reads them.

    What has a unit comes before a share of a tail, then where the change is thought to be: in *top*, a segment, or
    everywhere where none explains it; then the strongest.
    """
    carried = [stream for stream in streams if stream.name in alarm.streams]
    return sorted(carried, key=lambda s: (s.score == "tail", s.segment != top, alarm.streams.index(s.name)))


def attributed(reference: Reference, model: TierModel, alarm: Alarm, since: Profile) -> Attribution | None:
    """Search the segments for the one that carries the strongest stream's change."""
    lead = next(stream for stream in model.streams if stream.name == alarm.streams[0])
    if not reference.layout.segments or lead.is_quality:
        return None
    histogram = reference.profile.histograms.get(lead.code % PLACES)
    if not histogram:
        return None
    scale = scale_of(lead, histogram)
    return attribute(reference.layout, lead, scale, reference.profile.histograms, since.histograms)


def carried_words(found: Attribution) -> str:
    """Say which segment carries a change, and whether the mix or the parts changed."""
    words = f"; carried by {found.top}" if found.top else ""
    total = max((abs(split.mix) + abs(split.within) for split in found.splits), default=0.0)
    mixed = [split for split in found.splits if total and abs(split.mix) > 0.5 * total]
    if mixed:
        words += f"; mostly another mix of {' and '.join(split.dimension for split in mixed)}"
    return words


def quality_words(stream: Stream, level: float, effect: float) -> str:
    """Say in words what changed about the data."""
    if stream.score == "volume":
        before, after = (min(max(score, 0.001), 0.999) for score in (level, level + effect))
        times = after / (1 - after) / (before / (1 - before))
        return f"{stream.name} ({QUALITY_WORDS['volume']}): about {times:.2g} times the usual"
    before, after = level, min(1.0, max(0.0, level + effect))
    return (
        f"{stream.name} ({QUALITY_WORDS[stream.measure]}):"
        f" {figure(before, 'share')} -> {figure(after, 'share')}"
    )


def _score_unit(score: str) -> str:
    """Return the unit of a score."""
    return {
        "rank": "of rank among the reference",
        "tail": "of calls above the reference's 95th percentile",
        "share": "of calls",
        "count": "a call",
        "gap": "of five-minute slots without a call",
        "volume": "of calls against the usual",
    }[score]


def with_accuracy(verdict: Verdict, state: AccuracyState) -> Verdict:
    """Add what labels say: an alarm of their own where no other is louder, and the lower end of accuracy."""
    known = replace(verdict, accuracy_lower=state.current.low if state.n_current else 0.0)
    if not state.is_alarm:
        return known
    known = replace(known, alarms=(*verdict.alarms, ("accuracy", "accuracy")))
    # An hour, or the data, may be wrong by chance or by itself; labels that say so are louder.
    if verdict.status is DriftStatus.DRIFT and verdict.kind not in {"incident", "quality"}:
        return known
    gap = state.current.value - state.reference.value
    sentence = (
        f"accuracy: {figure(state.reference.value, 'share')} -> {figure(state.current.value, 'share')}"
        f" ({figure(gap, 'share', signed=True)}), now between {figure(state.current.low, 'share')} and"
        f" {figure(state.current.high, 'share')}, n = {state.n_reference:,} and {state.n_current:,},"
        f" sure after {state.alarm_at:,} labels."
    )
    row = FeatureVerdict(
        "accuracy",
        gap,
        ALPHA,
        gap,
        "share",
        "betting on labelled loss",
        is_drift=True,
        n_reference=state.n_reference,
        n_current=state.n_current,
        sentence=sentence,
        effect_low=state.current.low - state.reference.high,
        effect_high=state.current.high - state.reference.low,
    )
    return replace(
        known,
        status=DriftStatus.DRIFT,
        kind="accuracy",
        features=(*verdict.features, row),
        sentence=sentence,
    )


def to_json(verdict: Verdict) -> bytes:
    """Return a verdict for keeping."""
    return json.dumps(
        {
            "status": verdict.status.value,
            "kind": verdict.kind,
            "time_unix_ns": verdict.time_unix_ns,
            "agent": verdict.agent,
            "sentence": verdict.sentence,
            "change_unix_ns": verdict.change_unix_ns,
            "segment": verdict.segment,
            "accuracy_lower": verdict.accuracy_lower,
            "alarms": verdict.alarms,
            "late_calls": verdict.late_calls,
            "features": [
                {name: getattr(feature, name) for name in FeatureVerdict.__dataclass_fields__}
                for feature in verdict.features
            ],
        }
    ).encode()


def from_json(data: bytes | None) -> Verdict:
    """Return a kept verdict; unknown where there is none or it does not decode."""
    if data is None:
        return NO_VERDICT
    try:
        plain = json.loads(data)
        return Verdict(
            DriftStatus(plain["status"]),
            plain["kind"],
            plain["time_unix_ns"],
            tuple(FeatureVerdict(**feature) for feature in plain["features"]),
            plain["agent"],
            plain["sentence"],
            plain.get("change_unix_ns", 0),
            plain.get("segment", ""),
            plain.get("accuracy_lower", 0.0),
            tuple((stream, kind) for stream, kind in plain.get("alarms", ())),
            plain.get("late_calls", 0),
        )
    except (KeyError, TypeError, ValueError):
        return Verdict(DriftStatus.UNKNOWN, sentence="the last verdict does not decode")


def last_verdict(store: FeatureStore) -> Verdict:
    """Return the verdict of the last pass of any process; unknown where there was none."""
    return from_json(store.sealed_blob(VERDICT_BLOB).read())
