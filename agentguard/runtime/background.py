"""
What runs beside the calls: the drift checker, the exporter and the housekeeping of the store.

Each is loaded only when it first runs, so that a short program pays nothing for it. A
forked child starts its own with its first span: one that records nothing has no threads of ours.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from agentguard.errors import StoreError
from agentguard.forks import IMPORTS, process_mark
from agentguard.runtime.exporting import destinations
from agentguard.runtime.log_care import LogCare
from agentguard.runtime.services import Services
from agentguard.store import Housekeeper, Removed
from agentguard.values import GapRecord
from agentguard.values.metric_names import DRIFT_LATE_CALLS

if TYPE_CHECKING:
    # Only the type: the exporters are loaded when something is exported.
    from agentguard.export import OtlpExporter

KEEP_AFTER_S = 2.0
"""The first pass comes so long after the start: a short program leaves it to a longer one."""
_KEEP_AGAIN_S = 3600.0
_DAY_S = 86_400.0


class Background:
    """The background threads of one runtime."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._is_stopped = False
        self._start()

    def _start(self) -> None:
        """Start everything; what a parent has started is left alone."""
        self._mark = process_mark()
        self._stop = threading.Event()
        self._exporters: list[OtlpExporter] = []
        config = self._services.config
        self._care = LogCare(self._services, self._stop)
        if config.export != "none" or config.export_others:
            self._start_exporters()
        if config.drift_interval_s > 0:
            threading.Thread(target=self._watch_drift, name="agentguard-drift", daemon=True).start()
        self._keeping = threading.Thread(target=self._keep, name="agentguard-keep", daemon=True)
        self._keeping.start()

    def resume(self) -> None:
        """Start everything in a forked child, once; elsewhere nothing is done."""
        if not self._is_stopped and not self._mark[0]:
            self._start()

    def _keep(self) -> None:
        """Remove what is too old or too much: soon after the start, and then every hour."""
        config = self._services.config
        keeper = Housekeeper(
            self._services.store,
            age_s_max=config.retention_days * _DAY_S,
            size_bytes_max=config.store_bytes_max or None,
            decode_cursor=_decode_cursor,
            pause=self._stop.wait,
        )
        wait_s = KEEP_AFTER_S
        while not self._stop.wait(wait_s):
            wait_s = _KEEP_AGAIN_S
            try:
                removed = keeper.run_once()
                if removed is not None and removed.segments:
                    self._say_removed(removed)
                if removed is not None and removed.doubted_segments:
                    self._services.health("store.clock", _clock_doubt(removed.doubted_segments))
                if keeper.trouble is not None:
                    self._services.health("store.compaction", keeper.trouble)
            except Exception as error:
                self._services.health("store.retention", error)
            try:
                self._care.look_after()
            except Exception as error:
                self._services.health("audit.care", error)

    def _say_removed(self, removed: Removed) -> None:
        """Put on record what retention took, and count what no exporter had sent."""
        services = self._services
        services.journal.append_event("store.retention", removed._asdict())
        if removed.unexported_spans:
            now = services.clock.unix_ns()
            services.sink.append_gap(GapRecord("retention", removed.unexported_spans, now, now))

    def _start_exporters(self) -> None:
        from agentguard.export import OtlpExporter

        services = self._services
        for destination in destinations(services.config, os.environ):
            exporter = OtlpExporter(
                services.store, destination, clock=services.clock, on_internal_error=services.health
            )
            self._exporters.append(exporter)
            exporter.start()
            services.journal.append_event(
                "export.otlp",
                {
                    "destination": destination.endpoint,
                    "content": destination.content,
                    "keep": ", ".join(destination.keep) or "all",
                },
            )

    def _watch_drift(self) -> None:
        """Run the checker every interval, or as often as its share of a core allows; first after one interval."""
        services = self._services
        config, checker = services.config, None
        wait_s = config.drift_interval_s
        while not self._stop.wait(wait_s):
            began_s = time.thread_time()
            try:
                if checker is None:
                    # Late: numpy is not loaded in programs that end before the first pass.
                    with IMPORTS:
                        from agentguard.drift import Checker

                    checker = Checker(
                        services.store,
                        clock=services.clock,
                        publish=services.publish,
                        on_late=self._measure_late,
                    )
                checker.check_once()
            except Exception as error:
                services.health("drift.check", error)
            took_s = time.thread_time() - began_s
            wait_s = max(config.drift_interval_s, took_s / config.drift_cpu_share - took_s)

    def _measure_late(self, n_calls: int) -> None:
        """Measure the calls that came too late for the drift checker."""
        if self._services.meters is not None:
            self._services.meters.count(DRIFT_LATE_CALLS, n_calls)

    def stop(self, timeout_s: float) -> None:
        """
        Stop the threads; what is not exported stays in the store for the next process.

        Args:
            timeout_s:
                Longest wait, in seconds.
        """
        self._is_stopped = True
        if not self._mark[0]:
            return  # A child that has recorded nothing: threads and locks are the parent's.
        self._stop.set()
        deadline_s = time.monotonic() + timeout_s
        for exporter in self._exporters:
            exporter.flush(max((deadline_s - time.monotonic()) / 2, 0.0))
        for exporter in self._exporters:
            exporter.stop(max(deadline_s - time.monotonic(), 0.0))
            counters = exporter.counters
            self._services.journal.append_event(
                "export.stopped",
                {
                    "destination": exporter.config.endpoint,
                    "sent": counters.sent,
                    "lost": counters.lost,
                    "left_out": counters.left_out,
                },
            )
        self._care.stop(timeout_s / 4)
        # Packing stops at its next pause; who removes the folder now must not meet a file that is being made.
        self._keeping.join(max(deadline_s - time.monotonic(), 0.0))


def _clock_doubt(segments: int) -> StoreError:
    """Say that retention waits."""
    return StoreError(
        f"retention: {segments} segments are old by the clock, which does not fit what was recorded: they stay"
    ).hint("where the clock is right, and the store rested, they go once spans began on three days")


def _decode_cursor(data: bytes | None) -> Mapping[str, tuple[int, int]]:
    """Read how far an exporter has come; the exporters are loaded only where one is at work."""
    with IMPORTS:
        from agentguard.export import decode_cursor

    return decode_cursor(data)
