"""
The wired whole of one process: rooms, threads, and what a call needs of them.

Takes a `Config`, opens the store, loads the policies, and hands clock, ids and
keys to every room. Nothing else in agentguard knows all rooms.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind

import agentguard.version
from agentguard.audit import DecisionJournal
from agentguard.capture import CaptureEnvironment, RandomIds, SpanLimits
from agentguard.errors import AgentGuardError, ConfigurationError
from agentguard.runtime.background import Background
from agentguard.runtime.calls import GuardedCall, begin
from agentguard.runtime.clock import SystemClock
from agentguard.runtime.config import Config
from agentguard.runtime.health import Health
from agentguard.runtime.opening import open_store
from agentguard.runtime.runs import Run
from agentguard.state import MachineState
from agentguard.store import WriterConfig
from agentguard.values import (
    NO_VERDICT,
    Decision,
    DecisionRecord,
    DenialKind,
    Effect,
    FlushResult,
    OutcomeRecord,
    RecordMode,
    Verdict,
)

if TYPE_CHECKING:
    from agentguard.policy import Bundle, Engine
    from agentguard.runtime.spec import CallSpec

logger = logging.getLogger("agentguard")

OTEL_KINDS: Mapping[str, SpanKind] = {kind.name.lower(): kind for kind in SpanKind}


class Runtime:
    """
    What `agentguard.init()` returns: one governed, recorded, watched process.

    A context manager: leaving it is `shutdown()`.
    """

    def __init__(self, config: Config) -> None:
        """
        Open everything.

        Raises:
            ConfigurationError: The store or the policies cannot be used as configured.
            PolicyDocumentError: A policy document does not load.
            KeyUnavailableError: The key cannot be had, or is not the store's.
            StoreError: The store cannot be opened.
        """
        self.config = config
        self.clock = SystemClock()
        self.ids = RandomIds()
        self.health = Health(self.clock, is_strict=config.strict)
        self.bundle, self.engine = _load_policies(config)
        self.revision = self.bundle.revision if self.bundle is not None else ""
        self.counts_repeats = self.engine is not None and "run.repeats" in self.engine.reads
        self.registered_facts: dict[str, Callable[[GuardedCall], object]] = {}
        self.verdict: Verdict = NO_VERDICT
        self.store = open_store(config, self.clock)
        self.sink = self.store.writer(
            resource=_resource(config),
            on_internal_error=self.health,
            config=WriterConfig(queue_bytes_max=config.queue_bytes_max),
        )
        self.journal = DecisionJournal.open(
            self.store.folder, keystore=self.store.keystore, clock=self.clock, on_internal_error=self.health
        )
        self.state = MachineState.open(self.store.folder, keystore=self.store.keystore, clock=self.clock)
        self.environment = CaptureEnvironment(
            clock=self.clock,
            ids=self.ids,
            sink=self.sink.append,
            on_internal_error=self.health,
            profile=config.semconv,  # type: ignore[arg-type] # checked by the settings
            limits=SpanLimits(attribute_chars_max=max(config.capture_bytes_max, 1024)),
            scope_version=agentguard.version.__version__,
            captures_messages=config.capture == "full",
        )
        self.is_closed = False
        self._lock = threading.Lock()
        self._tracer: trace.Tracer | None = None
        self.background = Background(self)
        self._say_what_is_in_force()

    # One call

    def begin(self, spec: CallSpec, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> GuardedCall | None:
        """Begin one call; see `runtime.calls.begin`."""
        return begin(self, spec, args, kwargs)

    def new_run(self) -> Run:
        """Open a run for a call outside any."""
        return Run(f"{self.ids.trace_id():032x}", start_ns=self.clock.monotonic_ns())

    def mirror_span(
        self, name: str, otel_kind: str, context: Context | None, *, is_root: bool
    ) -> trace.Span | None:
        """
        Begin a span of the application's provider, where there is one.

        The provider is looked for at each root call until it is found: many
        applications set theirs after they import us.
        """
        tracer = self._tracer
        if tracer is None:
            if not is_root or self.config.otel != "auto":
                return None
            provider = trace.get_tracer_provider()
            if not hasattr(provider, "add_span_processor"):
                return None
            tracer = self._tracer = provider.get_tracer("agentguard", agentguard.version.__version__)
        return tracer.start_span(name, context=context, kind=OTEL_KINDS[otel_kind])

    def kill_reason(self, call: GuardedCall) -> str:
        """Say why everything is stopped; empty where nothing is."""
        return self.state.kill.reason(agent=call.agent, tool=call.spec.name)

    def undecidable(self, spec: CallSpec, what: str) -> DecisionRecord:
        """Make the record of a call that failed before it could be judged."""
        record = DecisionRecord(
            decision_id=f"{self.ids.span_id():016x}",
            time_unix_ns=self.clock.unix_ns(),
            point=str(spec.before),
            decision=Decision(
                effect=Effect.DENY,
                kind=DenialKind.FORBIDDEN,
                reason=f"denied: the call could not be described: {what}",
                errors=(what,),
                record=RecordMode.PREFERRED,
            ),
            bundle=self.revision,
            tool=spec.name,
        )
        try:
            self.journal.append(record)
        except (AgentGuardError, OSError) as error:
            self.health("audit.append", error)
        return record

    def capture_content(self, call: GuardedCall) -> None:
        """Record arguments and result, as far as the setting `capture` allows."""

    def record_outcome(self, outcome: OutcomeRecord) -> bool:
        """Queue what became known of a call."""
        return self.sink.append_outcome(outcome)

    def publish(self, verdict: Verdict) -> None:
        """Take a verdict of the drift checker: from now on a fact for policies."""
        self.verdict = verdict

    # Life and death

    def flush(self, timeout_s: float = 2.0) -> FlushResult:
        """
        Bring spans and decisions to disk.

        Args:
            timeout_s:
                Longest wait, in seconds.

        Returns:
            What was achieved; not whether a backend has received anything.
        """
        started_ns = self.clock.monotonic_ns()
        is_logged = self.journal.flush(timeout_s)
        left_s = max(timeout_s - (self.clock.monotonic_ns() - started_ns) / 1e9, 0.0)
        result = self.sink.flush(left_s)
        return result._replace(is_complete=result.is_complete and is_logged)

    def shutdown(self, timeout_s: float | None = None) -> FlushResult:
        """
        Stop the threads, bring everything to disk, close the store.

        Policies stay in force: a decorated call after this is still judged, but
        no longer recorded, so rules with `record: required` deny.

        Args:
            timeout_s:
                Longest wait in seconds; the setting `flush_timeout_s` by default.

        Returns:
            What was achieved.
        """
        timeout_s = self.config.flush_timeout_s if timeout_s is None else timeout_s
        with self._lock:
            if self.is_closed:
                return self.sink.flush(0.0)
            self.is_closed = True
        deadline_ns = self.clock.monotonic_ns() + int(timeout_s * 1e9)

        def left_s() -> float:
            return max((deadline_ns - self.clock.monotonic_ns()) / 1e9, 0.05)

        result = self.sink.flush(left_s() / 2)
        self.background.stop(left_s() / 2)
        result = self.sink.close(left_s())
        is_logged = self.journal.close(left_s())
        self.state.close()
        return result._replace(is_complete=result.is_complete and is_logged)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown()

    def _say_what_is_in_force(self) -> None:
        """Log and chain which policies govern this process; none is a visible state."""
        details: dict[str, object] = {
            "service": self.config.service,
            "version": agentguard.version.__version__,
            "revision": self.revision,
        }
        if self.bundle is None:
            logger.warning(
                "agentguard: no policies are loaded: calls are recorded and not governed "
                "(set `policies`, or AGENTGUARD_POLICIES)"
            )
            self.journal.append_event("policies.none", details)
        else:
            details["policies"] = [str(policy.name) for policy in self.bundle.policies]
            self.journal.append_event("policies.loaded", details)
            for rule in self.bundle.rules:
                if str(rule.mode) != "enforce":
                    logger.info("agentguard: rule %s is NOT ENFORCED (mode %s)", rule.rule_id, rule.mode)


def _load_policies(config: Config) -> tuple[Bundle | None, Engine | None]:
    """Load all policy documents, or none where none are configured."""
    if not config.policies:
        return None, None
    # Imported here: without policies neither pydantic nor YAML is loaded.
    from agentguard.policy import Engine, load_bundle

    missing = [str(path) for path in config.policies if not path.exists()]
    if missing:
        raise ConfigurationError(
            *(f"policies: `{path}` does not exist ({config.sources['policies']})" for path in missing)
        )
    bundle = load_bundle(config.policies)
    return bundle, Engine(bundle)


def _resource(config: Config) -> dict[str, str]:
    """Describe this process, once per segment."""
    resource = {
        "service.name": config.service,
        "process.pid": str(os.getpid()),
        "telemetry.sdk.name": "agentguard",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": agentguard.version.__version__,
    }
    if config.environment:
        resource["deployment.environment.name"] = config.environment
    return resource
