"""
What runs beside the calls: the drift checker and the exporter.

Both are loaded only when they first run, so that a short program pays nothing
for them.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from agentguard.runtime.services import Services

if TYPE_CHECKING:
    # Only the type: the exporters are loaded when something is exported.
    from agentguard.export import OtlpExporter


class Background:
    """The background threads of one runtime."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._stop = threading.Event()
        self._exporter: OtlpExporter | None = None
        self._drift: threading.Thread | None = None
        config = services.config
        if config.export != "none":
            self._start_exporter()
        if config.drift_interval_s > 0:
            self._drift = threading.Thread(target=self._watch_drift, name="agentguard-drift", daemon=True)
            self._drift.start()

    def _start_exporter(self) -> None:
        from agentguard.export import OtlpExporter, otlp_config

        services = self._services
        config = services.config
        self._exporter = OtlpExporter(
            services.store,
            otlp_config(
                "" if config.export == "otlp" else config.export,
                protocol=config.export_protocol,
                headers=config.export_headers,
                with_content=config.export_content,
                environ=os.environ,
            ),
            clock=services.clock,
            on_internal_error=services.health,
        )
        self._exporter.start()

    def _watch_drift(self) -> None:
        """Run the checker every interval; the first pass comes after one interval."""
        services = self._services
        checker = None
        while not self._stop.wait(services.config.drift_interval_s):
            try:
                if checker is None:
                    # Late: numpy is not loaded in programs that end before the first pass.
                    from agentguard.drift import Checker

                    checker = Checker(services.store, clock=services.clock, publish=services.publish)
                checker.check_once()
            except Exception as error:
                services.health("drift.check", error)

    def stop(self, timeout_s: float) -> None:
        """
        Stop the threads; what is not exported stays in the store for the next process.

        Args:
            timeout_s:
                Longest wait, in seconds.
        """
        self._stop.set()
        if self._exporter is not None:
            self._exporter.flush(timeout_s / 2)
            self._exporter.stop(timeout_s / 2)
