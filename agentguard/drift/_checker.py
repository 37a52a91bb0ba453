"""
The watch over a store: one pass reads what ended since the last one, and publishes a verdict.

Closed windows are never judged again: what arrives late is counted. The state lies in the store,
sealed, so any process may take the watch up where another left it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from agentguard.drift._accuracy import accuracy_state, labels_of_store
from agentguard.drift._alike import alike_reference, with_spread_of_days
from agentguard.drift._comparison import Comparison
from agentguard.drift._layout import PLACES
from agentguard.drift._profile import Profile, compare_profiles, read_profile
from agentguard.drift._reference import REFERENCE_BLOB, WINDOW_S, Reference
from agentguard.drift._season import DAY_S
from agentguard.drift._source import FeatureStore, read_summary
from agentguard.drift._summary import MEASURES, MEASURES_MAX, Summary, coarsen, empty_summary
from agentguard.drift._tier import Alarm, TierModel, run
from agentguard.drift._typed import Floors
from agentguard.drift._verdicts import alarm_verdict, from_json, to_json, with_accuracy
from agentguard.drift._watch import Watch, dump_watch, history_entry, load_watch
from agentguard.errors import BaselineTooSmallError, DriftInputError
from agentguard.values import Clock, DriftStatus, InternalErrorHook, Verdict

STATE_BLOB, VERDICT_BLOB = "drift-state", "drift-verdict"
_STRIDE_MAX = 24 * 7 * 16


@dataclass(frozen=True, slots=True)
class CheckerConfig:
    """How the watch works. The defaults are meant to be left alone."""

    agent: str = ""
    """Only calls of this agent; empty for all."""
    watermark_s: float = 120.0
    """How long a window stays open after its end, for calls that reach the disk late."""
    window_s: float = 3600.0
    """Without a learnt season: how far back the current window reaches."""
    alpha: float = 0.001
    """Without a learnt season: chance of a false alarm at one look, all features together."""
    calls_min: int = 20
    """Without a learnt season: calls that the current window needs."""
    slice_windows_max: int = 24 * 7
    """Windows read at once while catching up: it bounds memory."""
    silent_windows_max: int = 48
    """Hours without any call that are taken as silence as they pass; longer ones when something is called again."""
    late_windows: int = 3
    """Closed windows that are looked at again to count late calls."""
    described_s_max: float = 7 * 86_400.0
    """How far back the calls are read that describe an alarm: it bounds each pass of a long one."""
    history_max: int = 500
    """Alarms kept."""


def check(
    store: FeatureStore,
    *,
    reference: Reference | tuple[int, int],
    window: tuple[int, int],
    agent: str = "",
    alpha: float = 0.05,
    floors: Floors | None = None,
) -> Comparison:
    """
    Compare two stretches of time of a store: the check for the first day.

    Latency, tokens, retries and errors are compared for each kind of call, and beside them models,
    tools, finish reasons, error types, missing usage and the shape of the recorded attributes. Of a stored
    reference the same time of each day is taken; how much such windows differ from day to day is read off the days
    before, where the store has five. Two times that were given are compared as they are: compare like with like.

    Args:
        store:
            Where the feature blocks are.
        reference:
            A fitted reference, or (since, until) in nanoseconds since 1970-01-01 UTC.
        window:
            (since, until) of the current window, in the same unit.
        agent:
            Only calls of this agent; empty for all.
        alpha:
            Chance of a false alarm, all features together.
        floors:
            The smallest changes worth an alarm.

    Raises:
        BaselineTooSmallError: There are no calls in the reference.
        DriftInputError: An end is not after its beginning, or there are no calls in the window.
    """
    profiles: list[Profile] = []
    for what, span in (("reference", reference), ("window", window)):
        if isinstance(span, Reference):
            profiles.append(span.profile)
            continue
        if span[1] <= span[0]:
            raise DriftInputError(f"{what}: the end is not after the beginning")
        profiles.append(read_profile(store, since_unix_ns=span[0], until_unix_ns=span[1], agent=agent))
    if not profiles[0].n_calls:
        raise BaselineTooSmallError("reference: no call ended in that time, expected at least 5").hint(
            "look when there were any: agentguard stats"
        )
    if not profiles[1].n_calls:
        raise DriftInputError("window: no call ended in that time, expected at least 5")
    before = profiles[0]
    if isinstance(reference, Reference):
        before = alike_reference(store, before, window, agent=agent or reference.agent)
    before = with_spread_of_days(store, before, window, agent=agent)
    return compare_profiles(before, profiles[1], alpha=alpha, floors=floors)


class Checker:
    """
    Watches a store against its stored reference.

    Call `check_once` on a schedule, or `start` a thread that does. Everything it needs is handed in; it
    reads only numbers, never content, and loads SciPy only to compare two windows.
    """

    def __init__(
        self,
        store: FeatureStore,
        *,
        clock: Clock,
        publish: Callable[[Verdict], None],
        config: CheckerConfig | None = None,
        on_internal_error: InternalErrorHook | None = None,
    ) -> None:
        """
        Set the watch up; nothing is read yet.

        Args:
            store:
                Read through `query().features` and `sealed_blob`.
            clock:
                Only `unix_ns` is read.
            publish:
                Takes each verdict.
            config:
                How the watch works.
            on_internal_error:
                Told of errors in the thread of `start`.
        """
        self._store = store
        self._clock = clock
        self._publish = publish
        self._config = CheckerConfig() if config is None else config
        self._on_internal_error = on_internal_error
        self._known: tuple[bytes, Reference] | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def check_once(self) -> Verdict:
        """
        Take in what ended since the last pass, publish the verdict and return it.

        Raises:
            DriftInputError: The stored reference or state does not decode.
            StoreError: The store cannot be read or written.
        """
        reference = self._reference()
        if reference is None:
            verdict = Verdict(
                DriftStatus.UNKNOWN,
                time_unix_ns=self._clock.unix_ns(),
                agent=self._config.agent,
                sentence="no reference yet: fit one with `agentguard drift fit`",
            )
            self._publish(verdict)
            return verdict
        with locked(self._store.sealed_blob(STATE_BLOB)) as is_mine:
            if is_mine:
                armed = reference.incident is not None
                verdict = self._watch(reference) if armed else self._compare(reference)
                labels = labels_of_store(self._store.query(), reference.until_unix_ns)
                verdict = with_accuracy(verdict, accuracy_state(*labels)) if labels[1] else verdict
                self._store.sealed_blob(VERDICT_BLOB).write(to_json(verdict))
            else:  # another process is at it: its last verdict is ours too
                verdict = last_verdict(self._store)
        self._publish(verdict)
        return verdict

    def start(self, interval_s: float) -> None:
        """Check every *interval_s* seconds in a thread of its own, until `stop`."""
        if self._thread is not None:
            return

        def loop() -> None:
            while not self._stop.wait(interval_s):
                try:
                    self.check_once()
                except Exception as error:  # a failing watch must not end, and must not be silent
                    if self._on_internal_error is not None:
                        self._on_internal_error("drift.check", error)

        self._thread = threading.Thread(target=loop, name="agentguard-drift", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Stop the thread, waiting at most *timeout_s* seconds for a pass to end."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _reference(self) -> Reference | None:
        """Return the stored reference; decoded again only when it was replaced."""
        data = self._store.sealed_blob(REFERENCE_BLOB).read()
        if data is None:
            return None
        if self._known is None or self._known[0] != data:
            self._known = (data, Reference.from_bytes(data))
        return self._known[1]

    def _compare(self, reference: Reference) -> Verdict:
        """Compare the last window with the reference, where no season is known."""
        now, config = self._clock.unix_ns(), self._config
        since = max(reference.until_unix_ns, now - int(config.window_s * 1e9))
        profile = read_profile(
            self._store,
            since_unix_ns=since,
            until_unix_ns=max(now, since + 1),
            agent=reference.agent or config.agent,
        )
        if profile.n_calls < config.calls_min:
            return Verdict(
                DriftStatus.UNKNOWN,
                time_unix_ns=now,
                agent=reference.agent,
                sentence=f"{profile.n_calls} calls since the reference in the last {config.window_s / 60:.0f} minutes,"
                f" at least {config.calls_min} are needed",
            )
        return compare_profiles(reference.profile, profile, alpha=config.alpha).to_verdict(
            time_unix_ns=now, agent=reference.agent
        )

    def _watch(self, reference: Reference) -> Verdict:
        """Step the tiers over the windows that closed."""
        assert reference.incident is not None
        now = self._clock.unix_ns()
        blob = self._store.sealed_blob(STATE_BLOB)
        watch = load_watch(blob.read(), reference)
        assert watch.incident is not None
        closed = (now - int(self._config.watermark_s * 1e9)) // (WINDOW_S * 10**9)
        before = watch.incident.window
        summary: Summary | None = None
        first, length = before + 1, self._config.slice_windows_max
        while first < closed:
            until = min(closed, first + length)
            found = self._step(reference, watch, first, until)
            # Long silence is crossed in longer and longer strides, up to a limit.
            length = self._config.slice_windows_max if found is not None else min(2 * length, _STRIDE_MAX)
            summary = summary if found is None else found
            first = until
        is_silent = self._silence(reference, watch, closed)
        watch.late += self._late(watch, summary, before) if before + 1 < closed else 0
        if watch.incident.window != before or is_silent:
            blob.write(dump_watch(watch, reference))
        return self._verdict(reference, watch, now)

    def _step(self, reference: Reference, watch: Watch, first: int, end: int) -> Summary | None:
        """
        Take in the windows up to the last one before *end* in which anything was called.

        Silence is no evidence, and a clock that jumped ahead must not close windows that are still to
        come: empty windows at the end stay open until something follows them.

        Returns:
            What was read; None where nothing was called from *first* on.
        """
        assert reference.incident is not None
        assert watch.incident is not None
        config, hours = self._config, DAY_S // WINDOW_S
        # Days are judged once whole: begin reading at the day that the daily tier needs next.
        start = first - config.late_windows
        if watch.drift is not None:
            start = min(start, (watch.drift.window + 1) * hours)
        summary = read_summary(
            self._store,
            since_unix_ns=start * WINDOW_S * 10**9,
            until_unix_ns=end * WINDOW_S * 10**9,
            window_s=WINDOW_S,
            agent=reference.agent,
            layout=reference.layout,
            known=reference.known,
        )
        if not len(summary.keys) or int(summary.windows[-1]) < first:
            return None
        until = int(summary.windows[-1]) + 1
        alarms = run(reference.incident, watch.incident, summary, until=until, key=reference.key)
        if reference.drift is not None and watch.drift is not None:
            days = coarsen(summary, DAY_S)
            alarms += run(reference.drift, watch.drift, days, until=until // hours, key=reference.key)
        if reference.quality is not None and watch.quality is not None:
            alarms += run(reference.quality, watch.quality, summary, until=until, key=reference.key)
        self._note(reference, watch, alarms)
        return summary

    def _note(self, reference: Reference, watch: Watch, alarms: list[Alarm]) -> None:
        """Enter alarms in the list."""
        watch.history += [history_entry(reference, alarm) for alarm in alarms]
        watch.history = watch.history[-self._config.history_max :]

    def _silence(self, reference: Reference, watch: Watch, closed: int) -> bool:
        """
        Let the tier that looks at the data take in hours without any call, some of them.

        For it, silence is evidence, as long as it was watched: it goes ahead of the others by a bounded stretch.

        Returns:
            Whether it took any in.
        """
        assert watch.incident is not None
        if reference.quality is None or watch.quality is None:
            return False
        if closed > watch.incident.window + 1 + self._config.silent_windows_max:
            return False  # nobody looked for so long, or the clock jumped: it says nothing about now
        before = watch.quality.window
        self._note(
            reference,
            watch,
            run(reference.quality, watch.quality, empty_summary(WINDOW_S), until=closed, key=reference.key),
        )
        return watch.quality.window != before

    def _late(self, watch: Watch, summary: Summary | None, before: int) -> int:
        """Count calls that reached closed windows since the last pass, and remember the new counts."""
        assert watch.incident is not None
        if summary is None:
            return 0
        late = 0
        counts = _calls_by_window(summary)
        for window, n in watch.counted.items():
            if before - self._config.late_windows < window <= before:
                late += max(0, counts.get(window, n) - n)
        last = watch.incident.window
        watch.counted = {
            window: counts.get(window, 0) for window in range(last - self._config.late_windows + 1, last + 1)
        }
        return late

    def _verdict(self, reference: Reference, watch: Watch, now: int) -> Verdict:
        """Say what the tiers think now: days before hours, the agent before its data."""
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
            since = max(change, now - int(self._config.described_s_max * 1e9))
            profile = read_profile(
                self._store,
                since_unix_ns=since,
                until_unix_ns=now,
                agent=reference.agent,
                layout=reference.layout,
            )
            verdict = alarm_verdict(reference, model, active, profile, now)
            return replace(verdict, alarms=tuple(alarms))
        if seen:
            return Verdict(
                DriftStatus.WARNING,
                time_unix_ns=now,
                agent=reference.agent,
                sentence=f"known and not over: {'; '.join(seen)}",
            )
        return _quiet_verdict(reference, watch, now)


def last_verdict(store: FeatureStore) -> Verdict:
    """Return the verdict of the last pass of any process; unknown where there was none."""
    data = store.sealed_blob(VERDICT_BLOB).read()
    return from_json(data)


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


def _calls_by_window(summary: Summary) -> dict[int, int]:
    """Return how many calls ended in each window: every call has one error flag."""
    from_errors = (summary.series < PLACES) & (summary.series % MEASURES_MAX == MEASURES.index("error"))
    windows, places = np.unique(summary.windows[from_errors], return_inverse=True)
    counts = np.zeros(len(windows), dtype=np.int64)
    np.add.at(counts, places, summary.counts[from_errors])
    return dict(zip(windows.tolist(), counts.tolist(), strict=True))


def _quiet_verdict(reference: Reference, watch: Watch, now: int) -> Verdict:
    """Return the verdict while no alarm is active: how near the evidence is."""
    tiers = [
        (state, model)
        for state, model in ((watch.incident, reference.incident), (watch.drift, reference.drift))
        if state is not None and model is not None
    ]
    nearest = max(state.log_evidence - model.log_threshold for state, model in tiers)
    # A thirtieth of the way in evidence is seen about once a fortnight with nothing wrong.
    is_near = nearest > -np.log(30.0)
    late = f"; {watch.late:,} calls came too late to be judged" if watch.late else ""
    return Verdict(
        DriftStatus.WARNING if is_near else DriftStatus.STABLE,
        time_unix_ns=now,
        agent=reference.agent,
        sentence=(
            f"evidence is building up, {np.exp(min(nearest, 0.0)):.0%} of what an alarm needs{late}"
            if is_near
            else f"no change beyond the rhythm of the reference{late}"
        ),
    )
