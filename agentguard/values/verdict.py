"""What the drift checker concludes, as a value that policies can read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DriftStatus(StrEnum):
    """The state of the watch as a whole."""

    UNKNOWN = "unknown"
    """No checker ran, it is silent for too long, or it has no reference."""
    STABLE = "stable"
    WARNING = "warning"
    DRIFT = "drift"


@dataclass(frozen=True, slots=True)
class FeatureVerdict:
    """What was concluded about one feature."""

    feature: str
    statistic: float
    """Of the test named in `test`."""
    p_value: float
    """Corrected for the number of features compared, in [0, 1]."""
    effect: float
    """In the unit of `effect_unit`; 0 means no difference."""
    effect_unit: str
    test: str
    is_drift: bool
    n_reference: int
    n_current: int
    sentence: str
    """One line that a person can act on."""
    effect_low: float | None = None
    """Lower end of the effect's 95 % interval; None where there is none."""
    effect_high: float | None = None
    segment: str = ""
    """The part of the traffic that it is about, such as tool=search; empty for all of it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A detector's conclusion about one agent, or about the whole store."""

    status: DriftStatus
    kind: str = ""
    """Empty, incident, drift, quality, known-change or accuracy."""
    time_unix_ns: int = 0
    """When the check ended; 0 where none ran."""
    features: tuple[FeatureVerdict, ...] = ()
    agent: str = ""
    sentence: str = ""
    change_unix_ns: int = 0
    """Where the change is thought to have begun; 0 where none did, or nothing is known of it."""
    segment: str = ""
    """The part of the traffic that carries the change; empty for all of it."""
    accuracy_lower: float = 0.0
    """Lower end of the interval of accuracy on the labels since the reference; 0 where there is none."""
    alarms: tuple[tuple[str, str], ...] = ()
    """All streams with an active alarm that nobody acknowledged, and the kind of it; the loudest kind first."""
    late_calls: int = 0
    """Calls since the reference that reached windows already judged: counted, never judged."""

    @property
    def drifted(self) -> tuple[str, ...]:
        """Names of the features that drifted."""
        return tuple(f.feature for f in self.features if f.is_drift)

    @property
    def alarmed(self) -> dict[str, str]:
        """The kind of the loudest alarm of each stream that has one."""
        kinds: dict[str, str] = {}
        for stream, kind in self.alarms:
            kinds.setdefault(stream, kind)
        return kinds

    @property
    def drifted_data(self) -> tuple[str, ...]:
        """Names of those that speak of the data, not of the agent, whatever kind the verdict is of."""
        ends = (" (missing)", " missing", ".usage_missing", ".schema")
        found = [name for name in self.drifted if name.endswith(ends)]
        found += [stream for stream, kind in self.alarms if kind == "quality"]
        return tuple(dict.fromkeys(found))


NO_VERDICT = Verdict(status=DriftStatus.UNKNOWN, sentence="no drift check has run")
