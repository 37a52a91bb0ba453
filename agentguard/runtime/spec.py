"""What a decorator says about a callable, worked out once when it is decorated."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agentguard.capture import CaptureMode, clean_attributes
from agentguard.runtime.arguments import Binder
from agentguard.runtime.declaration import Declaration, ToolEffect
from agentguard.values import AttributeValue, Point
from agentguard.values import attributes as names

GOVERNED_AS: Mapping[str, str] = {
    "agent": "agent",
    "workflow": "agent",
    "model": "model",
    "embeddings": "model",
    "tool": "tool",
    "retriever": "tool",
}
"""Which intervention points a kind of call passes; other kinds pass those of a tool."""


@dataclass(frozen=True, slots=True, eq=False)
class CallSpec:
    """One decorated callable."""

    kind: str
    name: str
    governed_as: str
    """agent, model or tool."""
    before: Point
    after: Point
    operation: str
    otel_kind: str
    subject_attribute: str
    """The attribute that names what is called; empty where the operation has none."""
    attributes: Mapping[str, AttributeValue]
    """Those that are the same for each call."""
    binder: Binder
    function: Callable[..., Any] = field(repr=False)
    """What runs; looked into only to read its annotations."""
    is_async: bool
    effect: ToolEffect = "write"
    model: str = ""
    provider: str = ""
    version: str = ""
    usage: Callable[[Any], object] | None = None
    capture: CaptureMode | None = None
    span_name: str = ""
    conversation_id: str | Callable[..., str] | None = field(default=None, repr=False)


def spec_of(declaration: Declaration) -> CallSpec:
    """Give the spec of a decorated callable, worked out at its first call."""
    spec = declaration.spec
    if not isinstance(spec, CallSpec):
        spec = declaration.spec = make_spec(declaration.function, **declaration.options)
    return spec


def make_spec(
    function: Callable[..., Any],
    *,
    kind: str,
    name: str | None = None,
    operation: str = "",
    effect: ToolEffect = "write",
    model: str = "",
    provider: str = "",
    version: str = "",
    description: str = "",
    usage: Callable[[Any], object] | None = None,
    capture: CaptureMode | None = None,
    attributes: Mapping[str, AttributeValue] | None = None,
    conversation_id: str | Callable[..., str] | None = None,
) -> CallSpec:
    """
    Work out what is the same for all calls of one callable.

    Args:
        function:
            What is decorated; `staticmethod` and `classmethod` are looked into.
        kind:
            agent, model, tool, workflow, retriever or another operation.
        name:
            Name of the agent, tool …; that of the function by default.
        operation:
            `gen_ai.operation.name`; that of the kind by default.
        effect:
            none, read or write, for what policy sees as a tool.
        model:
            Requested model, where it is always the same.
        provider:
            The convention's name of the provider.
        version:
            Of an agent.
        description:
            One sentence about the agent or tool.
        usage:
            A function of the result that gives a `Usage` or a response object.
        capture:
            Overrides the setting `capture`, downwards only.
        attributes:
            More attributes for each span.
        conversation_id:
            Id of the conversation, or a function of the arguments that gives it.

    Returns:
        The spec that the wrapper holds.
    """
    inner = function.__func__ if isinstance(function, (staticmethod, classmethod)) else function
    called_name = name or getattr(inner, "__name__", "") or type(inner).__name__
    row = names.operation_spec(kind, operation)
    fixed: dict[str, AttributeValue] = {names.OPERATION_NAME: row.operation}
    subject = model if row.subject == names.REQUEST_MODEL else called_name
    if row.subject and subject:
        fixed[row.subject] = subject
    if kind == "agent":
        if version:
            fixed[names.AGENT_VERSION] = version
        if description:
            fixed[names.AGENT_DESCRIPTION] = description
    governed_as = GOVERNED_AS.get(kind, "tool")
    if governed_as == "tool":
        fixed[names.TOOL_EFFECT] = effect
        if kind == "tool":
            fixed[names.TOOL_TYPE] = "function"
            if description:
                fixed[names.TOOL_DESCRIPTION] = description
    if provider:
        fixed[names.PROVIDER_NAME] = provider
    if attributes:
        fixed.update(clean_attributes(attributes))
    call = inner if inspect.isroutine(inner) else getattr(inner, "__call__", inner)  # noqa: B004
    return CallSpec(
        kind=kind,
        name=called_name,
        governed_as=governed_as,
        before=Point(f"{governed_as}.before"),
        after=Point(f"{governed_as}.after"),
        operation=row.operation,
        otel_kind=row.otel_kind,
        subject_attribute=row.subject,
        attributes=fixed,
        binder=Binder(inner),
        function=inner,
        is_async=any(inspect.iscoroutinefunction(f) or inspect.isasyncgenfunction(f) for f in (inner, call)),
        effect=effect,
        model=model,
        provider=provider,
        version=version,
        usage=usage,
        capture=capture,
        # An operation of the application's own is told apart by the function.
        span_name=names.span_name(
            row.operation, subject if row.subject or row.operation not in names.OPERATIONS else ""
        ),
        conversation_id=conversation_id,
    )
