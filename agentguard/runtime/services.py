"""What one guarded call needs of the wired whole: clock, ids, engine, sinks, state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from agentguard.audit import DecisionJournal
from agentguard.capture import CaptureEnvironment, CaptureMode, ContentCapture, Meters, RandomIds
from agentguard.runtime.config import Config
from agentguard.runtime.declared import DeclaredTools
from agentguard.runtime.health import Health
from agentguard.runtime.mirror import Mirror
from agentguard.runtime.webhook import ApprovalWebhook
from agentguard.state import Approvers, MachineState
from agentguard.store import Store
from agentguard.values import Clock, SpanSink, Verdict

if TYPE_CHECKING:
    # Only the type: without policies neither YAML nor pydantic is loaded.
    from agentguard.policy import Bundle, Engine


class Services:
    """The parts of a runtime that calls and background threads use."""

    config: Config
    clock: Clock
    ids: RandomIds
    health: Health
    engine: Engine | None
    """None where no policies are loaded."""
    declared: DeclaredTools
    """Tools that the documents in force describe."""
    capture: CaptureMode
    """The setting, within what OpenTelemetry's own switch allows."""
    bundle: Bundle | None
    """The policies in force; None where no policies are loaded."""
    revision: str
    """Of the bundle in force; empty where none is."""
    reload_failed: bool
    """Whether the policies on disk do not load, so that older ones are in force."""
    approvers: Approvers
    """Who may approve, from the documents in force."""
    environment: CaptureEnvironment
    silent: CaptureEnvironment
    """For callables with `capture="none"`: spans hold the trace together and are not kept."""
    content: Mapping[CaptureMode, ContentCapture]
    mirror: Mirror
    meters: Meters | None
    """None where nothing is given to providers of the application."""
    store: Store
    sink: SpanSink
    journal: DecisionJournal
    state: MachineState
    verdict: Verdict
    """The last verdict of the drift checker."""
    registered_facts: dict[str, Callable[[], object]]
    """Facts of the application's own, by name."""
    vulnerable_dependencies: int
    """As `doctor --deps` last found."""
    dependency_age_days_max: int
    webhook: ApprovalWebhook | None
    """Tells people of requests for approval; None where no address is configured."""
    unpriced: set[str]
    """Models that were charged the ceiling, for want of a price."""

    def publish(self, verdict: Verdict) -> None:
        """Take a verdict of the drift checker: from now on a fact for policies."""
        self.verdict = verdict
