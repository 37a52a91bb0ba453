"""
What runs beside the calls: the drift checker and the exporter.

Both are loaded only when they first run, so that a short program pays nothing
for them.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentguard.export import OtlpExporter
    from agentguard.runtime.core import Runtime


class Background:
    """The background threads of one runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._stop = threading.Event()
        self._exporter: OtlpExporter | None = None
        self._drift: threading.Thread | None = None
        config = runtime.config
        if config.export != "none":
            self._start_exporter()
        if config.drift_interval_s > 0:
            self._drift = threading.Thread(target=self._watch_drift, name="agentguard-drift", daemon=True)
            self._drift.start()

    def _start_exporter(self) -> None:
        from agentguard.export import exporter_from_config

        runtime = self._runtime
        self._exporter = exporter_from_config(runtime.store, runtime.config, on_internal_error=runtime.health)
        self._exporter.start()

    def _watch_drift(self) -> None:
        """Run the checker every interval; the first pass comes after one interval."""
        runtime = self._runtime
        checker = None
        while not self._stop.wait(runtime.config.drift_interval_s):
            try:
                if checker is None:
                    # Late: numpy is not loaded in programs that end before the first pass.
                    from agentguard.drift import Checker

                    checker = Checker(runtime.store, clock=runtime.clock, publish=runtime.publish)
                checker.check_once()
            except Exception as error:
                runtime.health("drift.check", error)

    def stop(self, timeout_s: float) -> None:
        """
        Stop the threads; what is not exported stays in the store for the next process.

        Args:
            timeout_s:
                Longest wait, in seconds.
        """
        self._stop.set()
        if self._exporter is not None:
            self._exporter.flush(timeout_s)
            self._exporter.stop()
