"""
Looking after the decision log while a process runs: adopting, removing, anchoring.

Nothing of it runs on a calling thread, and nothing of it stops a call: what fails is
counted and logged, and tried again.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path

from agentguard.audit import AnchorSink, HookAnchor, adopt_abandoned, anchor_due, prune_journals, sink_for
from agentguard.errors import AuditError, ConfigurationError, SealError
from agentguard.runtime.chained import ran_out, utc_day
from agentguard.runtime.exporting import destinations
from agentguard.runtime.opening import safeguards_of
from agentguard.runtime.services import Services

ANCHOR_AFTER_S = 5.0
"""The first look comes so long after the start."""
_ANCHOR_AGAIN_S_MAX = 60.0
"""What failed is tried again after so long, and so is what another process was to do."""
_DAY_S = 86_400.0


class LogCare:
    """Looks after the decision log of one runtime's store."""

    def __init__(self, services: Services, stop: threading.Event) -> None:
        """
        Start anchoring, where it is configured.

        Raises:
            ConfigurationError: An anchor cannot be used as it is configured.
        """
        self._services = services
        self._stop = stop
        self._sinks = _sinks(services)
        self._looked = utc_day(services.clock)
        """The day up to which exceptions that ran out were told of."""
        self._thread: threading.Thread | None = None
        if self._sinks:
            self._thread = threading.Thread(target=self._anchor, name="agentguard-anchor", daemon=True)
            self._thread.start()

    def look_after(self) -> None:
        """
        Adopt what dead writers left, remove what is too old or too much, tell of exceptions that ran out.

        Raises:
            AgentGuardError: It cannot be done; nothing that was not stated is removed.
            OSError: The disk refused.
        """
        services, config = self._services, self._services.config
        store, journal, today = services.store, services.journal, utc_day(services.clock)
        if services.bundle is not None:
            for kind, details in ran_out(services.bundle, self._looked, today):
                journal.append_event(kind, details)
            self._looked = today
        journal.end_old()  # Only what has ended can be removed.
        safeguards = safeguards_of(config)
        for adopted in adopt_abandoned(
            store.folder, store.keystore, services.clock,
            on_failure=lambda error: services.health("audit.adopt", error), safeguards=safeguards,
        ):  # fmt: skip
            journal.append_event("log.adopted", adopted._asdict())
        age_s_max = config.decisions_retention_days * _DAY_S or None
        if age_s_max is None and not config.decisions_bytes_max:
            return

        def record(details: Mapping[str, object]) -> None:
            journal.append_event("log.pruned", details, is_durable=True)

        # Nobody may set a hold between the look at the holds and the removal.
        with store.holds.unchanging() as holds:
            prune_journals(
                store.folder, store.keystore, services.clock,
                age_s_max=age_s_max, size_bytes_max=config.decisions_bytes_max or None,
                is_held=lambda first, last: any(hold.overlaps(first, last) for hold in holds),
                record=record, on_failure=lambda error: services.health("audit.retention", error),
                safeguards=safeguards,
            )  # fmt: skip

    def anchor(self) -> None:
        """Hand a checkpoint to everyone who is due for one; the event of each says where it went."""
        services, config = self._services, self._services.config
        for kept in anchor_due(
            services.store.folder, services.store.keystore, services.clock, self._sinks,
            interval_s=config.decisions_anchor_interval_s, safeguards=safeguards_of(config),
            on_failure=lambda name, error: services.health(f"audit.anchor {name}", error),
        ):  # fmt: skip
            services.journal.append_event("log.anchored", kept._asdict())

    def stop(self, timeout_s: float) -> None:
        """Wait for an anchor that is on its way; whoever calls has set the event."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _anchor(self) -> None:
        interval_s = self._services.config.decisions_anchor_interval_s
        wait_s = min(interval_s, ANCHOR_AFTER_S)
        while not self._stop.wait(wait_s):
            wait_s = min(interval_s, _ANCHOR_AGAIN_S_MAX)
            try:
                self.anchor()
            except Exception as error:
                self._services.health("audit.anchor", error)


def _sinks(services: Services) -> list[AnchorSink]:
    """Make all sinks that are configured, or name every problem at once."""
    config = services.config
    roots = Path(config.decisions_anchor_roots) if config.decisions_anchor_roots else None
    sinks: list[AnchorSink] = []
    problems: list[str] = []
    for target in config.decisions_anchors:
        try:
            sinks.append(_otlp(services) if target == "otlp" else sink_for(target, roots=roots))
        except (AuditError, SealError, ConfigurationError) as error:
            problems.append(f"decisions_anchors: {error}")
    if problems:
        raise ConfigurationError(*problems)
    return sinks


def _otlp(services: Services) -> AnchorSink:
    """Make the sink that sends checkpoints where spans are exported to."""
    # Imported here: the exporters are loaded only where something is exported.
    from agentguard.export import checkpoint_sender

    found = destinations(services.config, os.environ)
    if not found:
        raise ConfigurationError("`otlp` needs a destination, and `export` is none")
    destination = found[0]
    send = checkpoint_sender(
        destination,
        clock=services.clock,
        resource={"service.name": services.config.service},
        new_id=lambda count: os.urandom(count).hex(),
    )
    return HookAnchor(f"otlp:{destination.endpoint}", lambda anchor: send(anchor.attributes()))
