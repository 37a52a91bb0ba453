"""
The watch over a store: one pass reads what ended since the last one, and publishes a verdict.

The state lies in the store, sealed, so any process may take the watch up where another left it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from agentguard.drift._accuracy import accuracy_state, labels_of_store
from agentguard.drift._catch_up import catch_up
from agentguard.drift._checker_config import CheckerConfig
from agentguard.drift._profile import compare_profiles, read_profile
from agentguard.drift._reference import REFERENCE_BLOB, Reference
from agentguard.drift._source import FeatureStore
from agentguard.drift._standing import standing
from agentguard.drift._verdicts import VERDICT_BLOB, last_verdict, to_json, with_accuracy
from agentguard.drift._watch import STATE_BLOB, dump_watch, load_watch, locked
from agentguard.values import Clock, DriftStatus, InternalErrorHook, Verdict


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
        on_late: Callable[[int], None] | None = None,
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
            on_late:
                Told how many calls this very pass found to have come too late to be judged.
            on_internal_error:
                Told of errors in the thread of `start`.
        """
        self._store = store
        self._clock = clock
        self._publish = publish
        self._config = CheckerConfig() if config is None else config
        self._on_late = on_late
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
        now = self._clock.unix_ns()
        blob = self._store.sealed_blob(STATE_BLOB)
        watch = load_watch(blob.read(), reference)
        late_before = watch.late
        if catch_up(self._store, reference, watch, config=self._config, now_unix_ns=now):
            blob.write(dump_watch(watch, reference))
        if self._on_late is not None and watch.late > late_before:
            self._on_late(watch.late - late_before)
        verdict = standing(self._store, reference, watch, config=self._config, now_unix_ns=now)
        return replace(verdict, late_calls=watch.late)
