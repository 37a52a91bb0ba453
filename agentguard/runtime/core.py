"""
The wired whole of one process: rooms, threads, and what a call needs of them.

Takes a `Config`, opens the store, loads the policies, and hands clock, ids and
keys to every room. Nothing else in agentguard knows all rooms.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from agentguard.audit import DecisionJournal
from agentguard.capture import (
    CAPTURE_MODES,
    CaptureEnvironment,
    ContentCapture,
    Events,
    LatePrices,
    Load,
    Meters,
    PriceTable,
    RandomIds,
    Refiner,
    Span,
    SpanLimits,
    narrower,
    otel_upper_bound,
    parse_prices,
    span_context,
)
from agentguard.errors import ConfigurationError
from agentguard.forks import free_in_child
from agentguard.redaction import KINDS
from agentguard.runtime.background import Background
from agentguard.runtime.chained import utc_day, what_is_in_force
from agentguard.runtime.clock import SystemClock
from agentguard.runtime.config import Config
from agentguard.runtime.declared import DeclaredTools
from agentguard.runtime.exits import ChildExits
from agentguard.runtime.fast_path import begin_and_learn
from agentguard.runtime.gates import charged_usd
from agentguard.runtime.health import Health
from agentguard.runtime.in_force import accept_serials, approvers_of, load_policies
from agentguard.runtime.judging import judgement
from agentguard.runtime.mirror import Mirror
from agentguard.runtime.opening import open_journal, open_store, refusals_chained
from agentguard.runtime.registering import registered_functions
from agentguard.runtime.reload import Reloader, fingerprint
from agentguard.runtime.services import Services
from agentguard.runtime.webhook import ApprovalWebhook
from agentguard.state import MachineState
from agentguard.store import Store, WriterConfig
from agentguard.values import NO_VERDICT, FlushResult, OutcomeRecord, SpanSource, Usage
from agentguard.values.attributes import Profile
from agentguard.version import __version__

if TYPE_CHECKING:
    # Only the types: without policies neither YAML nor pydantic is loaded.
    from agentguard.policy import Bundle

logger = logging.getLogger("agentguard")

_HASH_LABEL = b"agentguard/v1/content-hash"


class Runtime(Services):
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
        seen = fingerprint(config.policies)
        with refusals_chained(config, self.clock):
            bundle = load_policies(config)
        self.reload_failed = False
        self.is_closed = False
        self.registered_facts = registered_functions(self)
        self.unpriced = set()
        self.verdict = NO_VERDICT
        self.store = open_store(config, self.clock)
        if bundle is not None:
            with refusals_chained(config, self.clock):
                accept_serials(self.store, bundle)
        self._hold(bundle)
        self.sink = self.store.writer(
            resource=_resource(config),
            on_internal_error=self.health,
            config=WriterConfig(queue_bytes_max=config.queue_bytes_max),
            on_begin=self._resume,
        )
        self.journal = self._open_log()
        self.state = MachineState.open(
            self.store.folder, self.store.keystore, self.clock, on_internal_error=self.health
        )
        self.webhook = ApprovalWebhook.of(config, self.state, self.clock, self.health)
        self.capture = narrower(
            config.capture,  # type: ignore[arg-type] # checked by the settings
            otel_upper_bound(os.environ.get("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT")),
        )
        hash_key = self.store.keystore.root.derive(_HASH_LABEL) if config.capture_hashes else None
        self.content = {
            mode: ContentCapture(
                mode,
                bytes_max=config.capture_bytes_max,
                kinds=KINDS,
                on_internal_error=self.health,
                hash_key=hash_key,
            )
            for mode in CAPTURE_MODES
        }
        prices = _prices(config)
        self._load = Load()
        joins = config.otel in {"auto", "global"}
        profile: Profile = config.semconv  # type: ignore[assignment] # checked by the settings
        self.events = Events(profile, __version__) if joins else None
        self.meters = Meters(profile, __version__) if joins else None
        late_prices = LatePrices(self.health)
        self._refiner = Refiner(
            profile=profile,
            meters=self.meters,
            events=self.events,
            late_prices=late_prices if late_prices.is_there else None,
            on_internal_error=self.health,
            on_metered=self._measure_chunks,
        )
        self.environment = self._environment(self.sink.append, prices)
        # Until the first record says whether anybody measures: the first call may be a stream.
        self.environment.measures_chunks = joins
        self.silent = self._environment(_not_kept, prices)
        self.mirror = Mirror(
            self.environment, mode=config.otel, resource=_resource(config), on_usage=self._count_native
        )
        self._lock = free_in_child(threading.Lock())
        self.vulnerable_dependencies, self.dependency_age_days_max = _dependency_facts(self.store)
        self.background = Background(self)
        self._child_exits = ChildExits(lambda: self.flush(config.flush_timeout_s))
        self._say_what_is_in_force()
        self._reloader = (
            Reloader(self, self.put_in_force, seen=seen, interval_s=config.reload_interval_s)
            if bundle is not None and config.reload_interval_s > 0
            else None
        )

    def _resume(self) -> None:
        """Start in a forked child what runs beside the calls."""
        self.background.resume()

    def _open_log(self) -> DecisionJournal:
        """Open the decision log, and say with which key: once, a forked child says so in its opening record."""
        config, keystore = self.config, self.store.keystore
        details = {"service": config.service, "version": __version__}
        journal = open_journal(config, keystore, self.clock, on_internal_error=self.health, details=details)
        journal.append_event("key.used", {"command": "init", "by": config.service, **keystore.opened_with})
        return journal

    def _hold(self, bundle: Bundle | None) -> None:
        """Take documents as those in force; the engine last, since a call asks it for all that belongs to it."""
        engine = None
        if bundle is not None:
            # Imported here: without policies neither pydantic nor YAML is loaded.
            from agentguard.policy import Engine

            engine = Engine(bundle)
        self.approvers = approvers_of(bundle)
        self.declared = DeclaredTools(bundle)
        self.bundle = bundle
        self.revision = bundle.revision if bundle is not None else ""
        self.engine = engine

    def put_in_force(self, bundle: Bundle) -> None:
        """
        Exchange the policies of this process; calls that were judged already go on.

        Args:
            bundle:
                Loaded whole.
        """
        before = self.bundle
        self._hold(bundle)
        self._say_what_is_in_force(before)

    def _environment(self, sink: Callable[[SpanSource], object], prices: PriceTable) -> CaptureEnvironment:
        """Say what all spans with one sink share."""
        config = self.config
        return CaptureEnvironment(
            clock=self.clock,
            ids=self.ids,
            sink=sink,
            on_internal_error=self.health,
            profile=config.semconv,  # type: ignore[arg-type] # checked by the settings
            limits=SpanLimits(attribute_chars_max=max(config.capture_bytes_max, 1024)),
            scope_version=__version__,
            captures_messages=self.capture == "full",
            price_usd=prices.price_usd,
            rates=prices.rates,
            load=self._load,
            refine=self._refiner,
        )

    def _measure_chunks(self, is_metered: bool) -> None:
        """Note the time of each output chunk from now on, where somebody takes a metric of it."""
        self.environment.measures_chunks = is_metered

    def _count_native(self, _owner: Span | None, usage: Usage) -> None:
        """Add to the day's spending what only a native span of an SDK has counted."""
        tokens = (usage.input_tokens or 0) + (usage.output_tokens or 0)
        charged = charged_usd(self, usage.cost_usd, tokens, usage.model or "")
        self.state.spend.add(usd=charged, tokens=tokens)

    # One call

    begin = begin_and_learn

    def record_outcome(self, outcome: OutcomeRecord, *, trace_id: str = "") -> bool:
        """
        Queue what became known of a call; a score is also an event for the application's LoggerProvider.

        Args:
            outcome:
                What became known.
            trace_id:
                The trace of the call, while it is known; empty later.

        Returns:
            Whether it was queued.
        """
        if self.events is not None and outcome.score is not None:
            try:
                context = span_context(trace_id, outcome.call_id) if trace_id else None
                self.events.evaluation(judgement(outcome, trace_id), outcome.time_unix_ns, context)
            except Exception as error:
                self.health("runtime.evaluation", error)
        return self.sink.append_outcome(outcome)

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

        if self.webhook is not None:
            self.webhook.close(left_s() / 4)
        self.mirror.close()
        result = self.sink.flush(left_s() / 2)
        if self._reloader is not None:
            self._reloader.stop(left_s() / 4)
        self.background.stop(left_s() / 2)
        result = self.sink.close(left_s())
        is_logged = self.journal.close(left_s())
        if self.engine is None:
            self.state.close()
        else:
            # Policies stay in force, and ask it: it is shared now and closed with the process.
            self.state.flush()
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

    def _say_what_is_in_force(self, before: Bundle | None = None) -> None:
        """Log and chain which policies govern this process, and what changed; none is a visible state."""
        details: dict[str, object] = {
            "service": self.config.service,
            "version": __version__,
            "revision": self.revision,
        }
        if self.bundle is None:
            logger.warning(
                "agentguard: no policies are loaded: calls are recorded and not governed "
                "(set `policies`, or AGENTGUARD_POLICIES)"
            )
            self.journal.append_event("policies.none", details)
        else:
            for kind, more in what_is_in_force(self.bundle, before, utc_day(self.clock)):
                self.journal.append_event(kind, {**details, **more})
            for rule in self.bundle.rules:
                if str(rule.mode) != "enforce":
                    logger.info("agentguard: rule %s is NOT ENFORCED (mode %s)", rule.id, rule.mode)


def _dependency_facts(store: Store) -> tuple[int, int]:
    """Read what `doctor --deps` last found; zero where it has not looked."""
    content = store.sealed_blob("dependencies").read()
    if content is None:
        return 0, 0
    found = json.loads(content)
    return int(found["vulnerable"]), int(found["age_days_max"])


def _prices(config: Config) -> PriceTable:
    """Make the table of prices: the built-in one, under the user's."""
    if not config.prices:
        return PriceTable()
    try:
        text = Path(config.prices).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"prices: `{config.prices}` cannot be read: {error}") from None
    return PriceTable(parse_prices(text, config.prices))


def _not_kept(_span: SpanSource) -> None:
    """Take a span that nobody asked to keep."""


def _resource(config: Config) -> dict[str, str]:
    """Describe this process, once per segment."""
    resource = {
        "service.name": config.service,
        "process.pid": str(os.getpid()),
        "telemetry.sdk.name": "agentguard",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": __version__,
    }
    if config.environment:
        resource["deployment.environment.name"] = config.environment
    return resource
