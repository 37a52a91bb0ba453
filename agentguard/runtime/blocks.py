"""Blocks: a run around calls, and a span around code that is no function."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry.context import get_current

from agentguard.runtime.active import ACTIVE
from agentguard.runtime.runs import RUN_KEY, Run, RunScope
from agentguard.wrapping import attach, detach

if TYPE_CHECKING:
    # Only the types: this file is loaded by `import agentguard`.
    from agentguard.capture import Span
    from agentguard.values import AttributeValue


def run(
    *,
    conversation_id: str = "",
    principal: str = "",
    roles: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    run_id: str = "",
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
        run_id:
            Of a run that began in another process and goes on in this one; its
            counters begin anew here. A fresh id by default.

    Returns:
        A context manager, sync and async, that gives the `Run`.

    Example:
        >>> with run(principal="ann") as this:
        ...     this.principal
        'ann'
    """
    return RunScope(
        # A run may be opened before `init()`, so its id and its clock are the system's.
        Run(
            run_id or os.urandom(16).hex(),
            start_ns=time.perf_counter_ns(),
            conversation_id=conversation_id,
            principal=principal,
            roles=roles,
            labels=labels,
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
        from agentguard.capture import Span, context_with, find_parent
        from agentguard.values import attributes as names

        row = names.operation_spec(self._kind)
        attributes: dict[str, AttributeValue] = {names.OPERATION_NAME: row.operation}
        if row.subject:
            attributes[row.subject] = self._name
        this = get_current().get(RUN_KEY)
        run_id = ""
        if isinstance(this, Run):
            run_id = this.run_id
            attributes |= this.attributes()
        name = names.span_name(row.operation, self._name) if row.subject else self._name
        sees_otel = runtime.mirror.is_visible
        parent, owner = find_parent(only_ours=not sees_otel)
        self._span = made = Span(
            runtime.environment,
            name,
            self._kind,
            otel_kind=row.otel_kind,
            parent=parent,
            owner=owner,
            attributes=attributes,
            run_id=run_id,
        )
        mirror = runtime.mirror.begin(made)
        if self._attributes:
            made.set_attributes(self._attributes)
        if isinstance(this, Run) and this.principal and runtime.capture in {"redacted", "full"}:
            # As calls do beside content: what is kept of a person can be found, and erased, by this.
            made.set_content({names.PRINCIPAL_ID: this.principal})
        self._token = attach(context_with(made, current=mirror, is_visible=sees_otel))
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
