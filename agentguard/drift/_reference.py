"""References: a frozen, versioned picture of a good time, and what the watch learnt from it."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, cast

from agentguard.drift._codec import model_from, model_to
from agentguard.drift._layout import WHOLE, Layout, Segment, layout_of
from agentguard.drift._profile import Profile, histograms_of, read_profile
from agentguard.drift._quality import NOTHING_KNOWN, Known, known_from
from agentguard.drift._season import DAY_S
from agentguard.drift._source import DIMENSIONS, PAIRS, FeatureStore, read_summary, time_span
from agentguard.drift._streams import Stream, kinds_of, possible_streams, quality_streams
from agentguard.drift._summary import Summary, coarsen
from agentguard.drift._table_store import TableStore
from agentguard.drift._tier import TierModel, fit_tier
from agentguard.errors import BaselineTooSmallError, DriftInputError

REFERENCE_VERSION = 4
REFERENCE_BLOB = "drift-reference"

WINDOW_S = 3600
INCIDENT_DAYS_MIN = 7
"""Whole days that a reference needs before hours can be judged against the season of a week."""
DRIFT_DAYS_MIN = 21
"""Whole days that a reference needs before days can be judged against days."""
CALLS_MIN = 30
"""Calls below which nothing can serve as a reference."""
DAYS_MAX = 400
"""Longest reference."""
SAFETY = 5.0
"""Factor on the threshold of the hourly tier: its season and load are models, and models are wrong."""


@dataclass(frozen=True, slots=True)
class Reference:
    """
    A frozen reference.

    It may carry two tiers, one or none: what cannot be promised is not armed, and `sentence` says
    why. Without tiers the watch compares the last window with the profile.
    """

    reference_id: str
    """Twelve hexadecimal digits, made of the content."""
    agent: str
    """The agent it is of; empty for all."""
    since_unix_ns: int
    until_unix_ns: int
    profile: Profile
    promise_per_year: float
    """False alarms tolerated in a year, for each tier."""
    key: bytes
    """Breaks ties in sparse counts, the same way on each machine."""
    incident: TierModel | None
    drift: TierModel | None
    sentence: str
    """What this reference can carry."""
    layout: Layout = WHOLE
    """Segments that have lines of evidence of their own."""
    quality: TierModel | None = None
    """Judges the data of each hour: None where hours cannot be judged."""
    known: Known = NOTHING_KNOWN
    """Names, shapes of attributes and prices."""

    @property
    def days(self) -> float:
        """Its length in days."""
        return (self.until_unix_ns - self.since_unix_ns) / (DAY_S * 1e9)

    def to_bytes(self) -> bytes:
        """Return the reference for keeping."""
        return json.dumps(
            {
                "version": REFERENCE_VERSION,
                "reference_id": self.reference_id,
                "agent": self.agent,
                "since_unix_ns": self.since_unix_ns,
                "until_unix_ns": self.until_unix_ns,
                "n_calls": self.profile.n_calls,
                "histograms": {
                    str(k): {str(b): c for b, c in h.items()} for k, h in self.profile.histograms.items()
                },
                "categories": self.profile.categories,
                "dependence": {str(k): v for k, v in self.profile.dependence.items()},
                "promise_per_year": self.promise_per_year,
                "key": self.key.hex(),
                "incident": None if self.incident is None else model_to(self.incident),
                "drift": None if self.drift is None else model_to(self.drift),
                "sentence": self.sentence,
                "quality": None if self.quality is None else model_to(self.quality),
                "known": {
                    "shapes": sorted(self.known.shapes),
                    "names": [list(pair) for pair in sorted(self.known.names)],
                    "prices": {model: list(pair) for model, pair in self.known.prices.items()},
                },
                "layout": [[list(part) for part in segment.parts] for segment in self.layout.segments],
            },
            separators=(",", ":"),
        ).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Reference:
        """
        Read a kept reference.

        Raises:
            DriftInputError: It is none, or one of a newer version.
        """
        try:
            plain: dict[str, Any] = json.loads(data)
            if plain["version"] != REFERENCE_VERSION:
                raise DriftInputError(
                    f"drift reference: got version {plain['version']}, expected {REFERENCE_VERSION}"
                ).hint("another agentguard wrote it; fit again: agentguard drift fit")
            profile = Profile(
                plain["since_unix_ns"],
                plain["until_unix_ns"],
                plain["n_calls"],
                {int(k): {int(b): c for b, c in h.items()} for k, h in plain["histograms"].items()},
                plain["categories"],
                {int(k): float(v) for k, v in plain.get("dependence", {}).items()},
            )
            return cls(
                plain["reference_id"],
                plain["agent"],
                plain["since_unix_ns"],
                plain["until_unix_ns"],
                profile,
                plain["promise_per_year"],
                bytes.fromhex(plain["key"]),
                None if plain["incident"] is None else model_from(plain["incident"]),
                None if plain["drift"] is None else model_from(plain["drift"]),
                plain["sentence"],
                Layout(tuple(Segment(tuple((d, v) for d, v in parts)) for parts in plain["layout"])),
                None if plain["quality"] is None else model_from(plain["quality"]),
                Known(
                    frozenset(plain["known"]["shapes"]),
                    frozenset((d, v) for d, v in plain["known"]["names"]),
                    {model: (float(a), float(b)) for model, (a, b) in plain["known"]["prices"].items()},
                ),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, DriftInputError):
                raise
            raise DriftInputError("drift reference: the bytes are not a reference, expected one") from None


def load_reference(store: FeatureStore) -> Reference | None:
    """
    Return the reference kept in a store, or None.

    Raises:
        DriftInputError: It does not decode.
    """
    data = store.sealed_blob(REFERENCE_BLOB).read()
    return None if data is None else Reference.from_bytes(data)


def save_reference(store: FeatureStore, reference: Reference) -> None:
    """Keep a reference in the store, sealed; the one before is replaced."""
    store.sealed_blob(REFERENCE_BLOB).write(reference.to_bytes())


def fit_reference(
    source: object,
    *,
    since_unix_ns: int | None = None,
    until_unix_ns: int | None = None,
    agent: str = "",
    promise_per_year: float = 1.0,
    key: bytes = b"",
    must_arm: bool = False,
) -> Reference:
    """
    Learn what is normal from a stretch of time.

    With a week or more the hourly tier is armed (season of the day and of the week, lingering load),
    with three weeks or more the daily one. With less, the reference serves for comparing two windows, and
    says so.

    Args:
        source:
            A store, or a table as `compare` takes it, with the everyday columns and a `start_time`.
        since_unix_ns:
            Beginning; where None, the first call.
        until_unix_ns:
            End, not included; where None, just after the last call.
        agent:
            Only calls of this agent; empty for all.
        promise_per_year:
            False alarms tolerated a year. More than 0.
        key:
            Breaks ties in sparse counts; where empty it is made of agent and time.
        must_arm:
            Raise instead of falling back to comparing two windows.

    Raises:
        BaselineTooSmallError: There are fewer than 30 calls, or *must_arm* is set and the time is too
            short or too sparse.
        DriftInputError: The end is not after the beginning, or *promise_per_year* is not positive.
    """
    if not promise_per_year > 0 or not math.isfinite(promise_per_year):
        raise DriftInputError(f"promise_per_year is {promise_per_year:g}, expected more than 0")
    store = _as_store(source)
    since, until = _bounds(store, since_unix_ns, until_unix_ns, agent)
    if until <= since:
        raise DriftInputError("reference: the end is not after the beginning")
    if until - since > DAYS_MAX * DAY_S * 10**9:
        raise DriftInputError(
            f"reference: got {(until - since) / 1e9 / DAY_S:.0f} days, expected at most {DAYS_MAX}"
        )
    profile = read_profile(store, since_unix_ns=since, until_unix_ns=until, agent=agent)
    if profile.n_calls < CALLS_MIN:
        raise BaselineTooSmallError(
            f"reference: got {profile.n_calls} calls, expected at least {CALLS_MIN}"
        ).hint("let the agent run a while longer, or name a longer time")
    tie_key = key or hashlib.blake2b(f"{agent}\0{since}\0{until}".encode(), digest_size=16).digest()
    layout = layout_of({dimension: _values_of(profile, dimension) for dimension in DIMENSIONS}, PAIRS)
    known = known_from(profile.categories, profile.prices)
    summary = read_summary(
        store,
        since_unix_ns=since,
        until_unix_ns=until,
        window_s=WINDOW_S,
        agent=agent,
        layout=layout,
        known=known,
    )
    profile = replace(profile, histograms=histograms_of(summary) or profile.histograms)
    streams = possible_streams(layout)
    incident, drift = fit_tiers(
        summary, since, until, promise_per_year=promise_per_year, key=tie_key, streams=streams
    )
    quality = None
    if incident is not None:
        quality = fit_quality(summary, since, until, promise_per_year=promise_per_year, key=tie_key)
    sentence = _sentence(profile, since, until, incident, drift, promise_per_year)
    if must_arm and incident is None:
        raise BaselineTooSmallError(f"reference: {sentence}")
    reference = Reference(
        "",
        agent,
        since,
        until,
        profile,
        promise_per_year,
        tie_key,
        incident,
        drift,
        sentence,
        layout,
        quality,
        known,
    )
    return replace(reference, reference_id=hashlib.blake2b(reference.to_bytes(), digest_size=6).hexdigest())


def _values_of(profile: Profile, dimension: str) -> dict[str, int]:
    """Return how many calls of models and tools had each value of a dimension."""
    counts: Counter[str] = Counter()
    for kind in kinds_of(dimension):
        counts.update(profile.categories.get(f"{kind}.{dimension}", {}))
    return dict(counts)


def _as_store(source: object) -> FeatureStore:
    """Return a store as it is, and a table as one."""
    if hasattr(source, "sealed_blob") and hasattr(source, "query"):
        return cast("FeatureStore", source)
    return TableStore(source)


def _bounds(
    store: FeatureStore, since_unix_ns: int | None, until_unix_ns: int | None, agent: str
) -> tuple[int, int]:
    """Return the time of the reference, looked up where it was not given."""
    if since_unix_ns is not None and until_unix_ns is not None:
        return since_unix_ns, until_unix_ns
    first, last, n = time_span(store, agent=agent)
    if not n:
        raise BaselineTooSmallError(f"reference: the store has no calls{f' of `{agent}`' if agent else ''}")
    # Where only one of both was given, and lies beyond the calls, there is nothing between: not upside down.
    since = first if since_unix_ns is None else since_unix_ns
    until = last + 1 if until_unix_ns is None else until_unix_ns
    if until_unix_ns is None:
        return since, max(until, since + 1)
    return min(since, until - 1), until


def fit_tiers(
    summary: Summary,
    since_unix_ns: int,
    until_unix_ns: int,
    *,
    promise_per_year: float,
    key: bytes,
    streams: tuple[Stream, ...] | None = None,
) -> tuple[TierModel | None, TierModel | None]:
    """
    Fit both tiers on the whole windows between two times; None for what cannot be carried.

    Only whole windows count: the first and the last are often cut, so a week may have an hour less of them.
    """
    watched = possible_streams() if streams is None else streams
    window_ns, day_ns = WINDOW_S * 10**9, DAY_S * 10**9
    first, end = -(-since_unix_ns // window_ns), until_unix_ns // window_ns
    incident = None
    length_days = (until_unix_ns - since_unix_ns) / day_ns
    if length_days >= INCIDENT_DAYS_MIN and end - first >= INCIDENT_DAYS_MIN * 24 - 1:
        incident = fit_tier(
            "incident",
            summary,
            watched,
            first=first,
            n_windows=end - first,
            season="week",
            log_threshold=math.log(SAFETY * 365 * 24 / promise_per_year),
            key=key,
            with_memory=True,
        )
    first_day, end_day = -(-since_unix_ns // day_ns), until_unix_ns // day_ns
    drift = None
    if length_days >= DRIFT_DAYS_MIN and end_day - first_day >= DRIFT_DAYS_MIN - 1:
        drift = fit_tier(
            "drift",
            coarsen(summary, DAY_S),
            watched,
            first=first_day,
            n_windows=end_day - first_day,
            season="weekday",
            log_threshold=math.log(365 / promise_per_year),
            key=key,
            with_memory=False,
        )
    return (
        incident if incident is not None and incident.streams else None,
        drift if drift is not None and drift.streams else None,
    )


def fit_quality(
    summary: Summary, since_unix_ns: int, until_unix_ns: int, *, promise_per_year: float, key: bytes
) -> TierModel | None:
    """Fit the tier that judges the data of each hour, on the whole hours between two times; None without data."""
    window_ns = WINDOW_S * 10**9
    first, end = -(-since_unix_ns // window_ns), until_unix_ns // window_ns
    model = fit_tier(
        "quality",
        summary,
        quality_streams(),
        first=first,
        n_windows=end - first,
        season="week",
        log_threshold=math.log(SAFETY * 365 * 24 / promise_per_year),
        key=key,
        with_memory=True,
    )
    return model if model.streams else None


def _sentence(
    profile: Profile,
    since: int,
    until: int,
    incident: TierModel | None,
    drift: TierModel | None,
    promise: float,
) -> str:
    """Say what a reference can carry."""
    days = (until - since) / (DAY_S * 1e9)
    length = f"{days:.1f} days" if days >= 1 else f"{days * 24 * 60:.0f} minutes"
    start = f"{profile.n_calls:,} calls in {length}"
    if incident is not None and drift is not None:
        return (
            f"{start}: hours and days are watched, {len(incident.streams)} and {len(drift.streams)} streams,"
            f" at most {promise:g} false alarms a year promised for each."
        )
    if incident is not None:
        return (
            f"{start}: hours are watched, {len(incident.streams)} streams, with at most {promise:g} false alarms"
            f" a year in view; days are watched from {DRIFT_DAYS_MIN} days of reference on."
        )
    if days >= INCIDENT_DAYS_MIN:
        return (
            f"{start}: too few calls an hour to learn the rhythm of a week; only two windows can be compared."
        )
    return (
        f"{start}: less than the {INCIDENT_DAYS_MIN} days that the rhythm of a week needs; two windows can be"
        " compared, and no rate of false alarms over time is promised."
    )
