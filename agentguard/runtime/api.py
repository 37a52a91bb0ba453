"""The functions that applications call: everything at the root of the package but the decorators."""

from __future__ import annotations

import atexit
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agentguard.capture import RandomIds, Span, attach, context_with, current_span, detach, find_parent
from agentguard.errors import ConfigurationError
from agentguard.runtime.active import ACTIVE
from agentguard.runtime.clock import SystemClock
from agentguard.runtime.config import load_config
from agentguard.runtime.mirror import mirror_span
from agentguard.runtime.runs import RunScope, new_run
from agentguard.values import AttributeValue, FlushResult, OutcomeRecord
from agentguard.values import attributes as names

if TYPE_CHECKING:
    from agentguard.runtime.core import Runtime

_IDS = RandomIds()
_CLOCK = SystemClock()
"""For runs, which may be opened before `init()`."""


def init(
    *,
    service: str | None = None,
    environment: str | None = None,
    store: str | os.PathLike[str] | None = None,
    policies: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    key: str | None = None,
    capture: str | None = None,
    otel: str | None = None,
    export: str | None = None,
    **settings: object,
) -> Runtime | None:
    """
    Set agentguard up for this process.

    Without arguments it reads `AGENTGUARD_*`, then `agentguard.toml` or
    `[tool.agentguard]`, honours `OTEL_*`, and works with none of them. A second
    call with the same settings gives the same runtime.

    Args:
        service:
            Name of the service.
        environment:
            Deployment environment, such as prod.
        store:
            Folder of the encrypted store.
        policies:
            Policy files and folders; they add to those configured elsewhere.
        key:
            `file:PATH`, `passphrase` or `env`.
        capture:
            none, metadata, redacted or full.
        otel:
            auto or isolated.
        export:
            none, otlp, or the URL of an OTLP endpoint.
        settings:
            Any other setting of `docs/reference/configuration.md`, by name.

    Returns:
        The runtime, a context manager; None where `enabled` is false.

    Raises:
        ConfigurationError: Settings are unusable, all problems at once; or the
            process is set up already with other settings.
        PolicyDocumentError: A policy document does not load.
        KeyUnavailableError: The key cannot be had, or is not the store's.
        StoreError: The store cannot be opened.
    """
    config = load_config(
        {
            "service": service,
            "environment": environment,
            "store": store,
            "policies": policies,
            "key": key,
            "capture": capture,
            "otel": otel,
            "export": export,
            **settings,
        }
    )
    with ACTIVE.lock:
        runtime = ACTIVE.runtime
        if runtime is not None and not runtime.is_closed:
            if runtime.config != config:
                raise ConfigurationError("init(): this process is set up already, with other settings").hint(
                    "call agentguard.shutdown() first, or give all settings in the first init()"
                )
            return runtime
        if not config.enabled:
            ACTIVE.runtime = None
            ACTIVE.is_off = True
            return None
        # Imported here: the store and its keys need cryptography, `import agentguard` does not.
        from agentguard.runtime.core import Runtime

        ACTIVE.runtime = runtime = Runtime(config)
        atexit.register(runtime.shutdown)
        return runtime


ACTIVE.start = init


def shutdown(timeout_s: float | None = None) -> FlushResult:
    """
    Stop the threads, bring everything to disk, close the store.

    Policies stay in force after it.

    Args:
        timeout_s:
            Longest wait in seconds; the setting `flush_timeout_s` by default.

    Returns:
        What was achieved; all zero where nothing was set up.
    """
    with ACTIVE.lock:
        runtime = ACTIVE.runtime
        if runtime is None:
            return FlushResult(is_complete=True, stored=0, dropped=0, pending=0)
        result = runtime.shutdown(timeout_s)
        atexit.unregister(runtime.shutdown)
        if runtime.engine is None:
            ACTIVE.runtime = None
            ACTIVE.is_off = False
        return result


def flush(timeout_s: float = 2.0) -> FlushResult:
    """
    Bring spans and decisions to disk.

    Args:
        timeout_s:
            Longest wait, in seconds.

    Returns:
        What was achieved; not whether a backend has received anything.
    """
    runtime = ACTIVE.runtime
    if runtime is None:
        return FlushResult(is_complete=True, stored=0, dropped=0, pending=0)
    return runtime.flush(timeout_s)


def run(
    *,
    conversation_id: str = "",
    principal: str = "",
    roles: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
) -> RunScope:
    """
    Open a run: what happens inside belongs together, and shares these facts.

    Args:
        conversation_id:
            Id of the conversation, as the application has it.
        principal:
            On whose behalf the agent acts: the fact `principal.id`.
        roles:
            Roles of the principal: the fact `principal.roles`.
        labels:
            Short texts by name; on each span and as the fact `run.labels`.

    Returns:
        A context manager, sync and async, that gives the `Run`.

    Example:
        >>> with run(principal="ann") as this:
        ...     this.principal
        'ann'
    """
    return RunScope(
        new_run(
            _IDS,
            _CLOCK,
            conversation_id=conversation_id,
            principal=principal,
            roles=tuple(roles),
            labels=labels,
        )
    )


def current() -> Span | None:
    """
    Give the innermost span of ours, or None outside any guarded call.

    Its `call_id` can be kept, to record an outcome when a label arrives.
    """
    return current_span()


def record_usage(
    value: object = None,
    *,
    input_tokens: int | None = None,
    output_tokens: int | None = None,
    cost_usd: float | None = None,
) -> bool:
    """
    Say what the current call used.

    Args:
        value:
            A `Usage`, or a response object of a model SDK.
        input_tokens:
            Overrides what *value* says, as do the other numbers.
        output_tokens:
            Reasoning included.
        cost_usd:
            What the provider says that the call cost.

    Returns:
        Whether anything was found and kept; False outside any guarded call.
    """
    span = current_span()
    return span is not None and span.record_usage(
        value, input_tokens=input_tokens, output_tokens=output_tokens, cost_usd=cost_usd
    )


def record_retry(
    attempt: int | None = None,
    error: BaseException | str | None = None,
    backoff_s: float | None = None,
    *,
    source: str = "agentguard",
    status_code: int | None = None,
) -> None:
    """
    Say that an attempt of the current call failed and another one follows.

    Args:
        attempt:
            Number of the failed attempt, from 1; counted where not given.
        error:
            What made it fail: an exception, or a value for `error.type`.
        backoff_s:
            Seconds waited before the next attempt.
        source:
            Who retries.
        status_code:
            HTTP status of the failed attempt.
    """
    span = current_span()
    if span is not None:
        span.record_retry(attempt, error, backoff_s, source, status_code=status_code)


def record_outcome(
    *,
    call_id: str | None = None,
    predicted_label: str | None = None,
    true_label: str | None = None,
    score: float | None = None,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> bool:
    """
    Say what became known of a call: labels, a score. It may come long after the call.

    Args:
        call_id:
            `agentguard.current().call_id` of that call; the current call by default.
        predicted_label:
            What the agent answered, as a class.
        true_label:
            What was right.
        score:
            Any number that judges the answer.
        attributes:
            More about the outcome.

    Returns:
        Whether it was queued; False where there is no such call or no runtime.
    """
    runtime = ACTIVE.runtime
    if call_id is None:
        span = current_span()
        call_id = span.call_id if span is not None else None
    if runtime is None or runtime.is_closed or call_id is None:
        return False
    return runtime.record_outcome(
        OutcomeRecord(
            call_id=call_id,
            time_unix_ns=runtime.clock.unix_ns(),
            predicted_label=None if predicted_label is None else str(predicted_label),
            true_label=None if true_label is None else str(true_label),
            score=None if score is None else float(score),
            attributes=dict(attributes or {}),
        )
    )


class span:  # noqa: N801 - reads as a function: `with agentguard.span("plan"):`
    """
    Record a block as a span, sync or async. It is recorded, not governed.

    Gives the `Span`, or None before `init()`; use the decorators for what policy
    is to judge.

    Example:
        >>> with span("plan", kind="plan"):
        ...     pass
    """

    __slots__ = ("_attributes", "_kind", "_name", "_span", "_token")

    def __init__(
        self, name: str, *, kind: str = "span", attributes: Mapping[str, AttributeValue] | None = None
    ) -> None:
        self._name = name
        self._kind = kind
        self._attributes = attributes
        self._span: Span | None = None
        self._token: Any = None

    def __enter__(self) -> Span | None:
        runtime = ACTIVE.runtime
        if runtime is None or runtime.is_closed:
            return None
        row = names.operation_spec(self._kind)
        attributes: dict[str, AttributeValue] = {names.OPERATION_NAME: row.operation}
        if row.subject:
            attributes[row.subject] = self._name
        attributes.update(self._attributes or {})
        name = names.span_name(row.operation, self._name) if row.subject else self._name
        parent = find_parent()
        mirror = mirror_span(runtime.config.otel, name, row.otel_kind, None)
        self._span = made = Span(
            runtime.environment,
            name,
            self._kind,
            otel_kind=row.otel_kind,
            parent=parent.parent,
            owner=parent.owner,
            attributes=attributes,
            mirror=mirror,
        )
        self._token = attach(context_with(made, current=mirror))
        return made

    def __exit__(self, exc_type: object, exc: BaseException | None, traceback: object) -> None:
        made = self._span
        if made is not None:
            detach(self._token)
            if exc is not None:
                made.fail(exc)
            made.end()

    async def __aenter__(self) -> Span | None:
        return self.__enter__()

    async def __aexit__(self, exc_type: object, exc: BaseException | None, traceback: object) -> None:
        self.__exit__(exc_type, exc, traceback)
