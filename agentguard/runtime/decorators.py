"""
The decorators: what a developer writes above a function.

Each keeps the type of what it decorates: the type variable is bound to the
callable itself, so overloads, methods and generators stay what they are. Used
bare (`@tool`) or called (`@tool(effect="read")`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, get_args, overload

from agentguard.runtime.active import begin_call
from agentguard.runtime.declaration import Declaration, ToolEffect
from agentguard.wrapping import wrap

if TYPE_CHECKING:
    # Only the type: this file is loaded by `import agentguard`.
    from agentguard.capture import CaptureMode
    from agentguard.values import AttributeValue

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[F], F]


def _guard(function: F, options: Mapping[str, Any]) -> F:
    _check(function, options)
    declaration = Declaration(function, options)
    return wrap(function, partial(begin_call, declaration), declaration)


def _check(function: object, options: Mapping[str, Any]) -> None:
    """
    Refuse what a decorator cannot mean while its line is still in sight.

    A misspelt effect would be one that no rule names, and options that give no spec deny each call.
    """
    where = f"decorator of `{getattr(function, '__qualname__', type(function).__name__)}`"
    if isinstance(function, str):
        error = TypeError(f"decorator: got the text `{function}`, expected a function")
        error.add_note(f'hint: write name="{function}"')
        raise error
    effect, name, capture = options.get("effect", "write"), options.get("name"), options.get("capture")
    if effect not in get_args(ToolEffect):
        raise ValueError(f"{where}: effect is `{effect}`, expected one of {', '.join(get_args(ToolEffect))}")
    if name is not None and not isinstance(name, str):
        raise TypeError(f"{where}: name is of type {type(name).__name__}, expected str")
    if not isinstance(options.get("attributes") or {}, Mapping):
        raise TypeError(
            f"{where}: attributes are a {type(options['attributes']).__name__}, expected a mapping"
        )
    if capture is not None:
        # Imported here: `import agentguard` does not load it, and few decorators say it.
        from agentguard.capture import CaptureMode

        if capture not in get_args(CaptureMode):
            raise ValueError(
                f"{where}: capture is `{capture}`, expected one of {', '.join(get_args(CaptureMode))}"
            )


def _decorate(function: F | None, options: Mapping[str, Any]) -> Any:
    if function is not None:
        return _guard(function, options)

    def decorator(decorated: F) -> F:
        return _guard(decorated, options)

    return decorator


@overload
def tool(function: F, /) -> F: ...
@overload
def tool(
    *,
    name: str | None = None,
    effect: ToolEffect = "write",
    description: str = "",
    capture: CaptureMode | None = None,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> Callable[[F], F]: ...
def tool(
    function: F | None = None,
    /,
    *,
    name: str | None = None,
    effect: ToolEffect = "write",
    description: str = "",
    capture: CaptureMode | None = None,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> F | Callable[[F], F]:
    """
    Guard a tool: policy before and after each call, and a span `execute_tool NAME`.

    Args:
        function:
            What is decorated, where the decorator is used bare.
        name:
            Name of the tool, as rules and spans have it; the function's own by default.
        effect:
            What the tool does to the world: none, read or write. A tool that does
            not say counts as write.
        description:
            One sentence, recorded on the span.
        capture:
            Overrides the setting `capture` for this callable, downwards only.
        attributes:
            More attributes for each span.

    Returns:
        A callable of the same shape and type.

    Raises:
        TypeError: What is decorated cannot be called, or an option is of another type.
        ValueError: `effect` or `capture` is none of its words.
    """
    return _decorate(  # type: ignore[no-any-return]
        function,
        {
            "kind": "tool",
            "name": name,
            "effect": effect,
            "description": description,
            "capture": capture,
            "attributes": attributes,
        },
    )


@overload
def agent(function: F, /) -> F: ...
@overload
def agent(
    *,
    name: str | None = None,
    version: str = "",
    description: str = "",
    conversation_id: str | Callable[..., str] | None = None,
    capture: CaptureMode | None = None,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> Callable[[F], F]: ...
def agent(
    function: F | None = None,
    /,
    *,
    name: str | None = None,
    version: str = "",
    description: str = "",
    conversation_id: str | Callable[..., str] | None = None,
    capture: CaptureMode | None = None,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> F | Callable[[F], F]:
    """
    Guard an agent: a span `invoke_agent NAME` around everything that it calls.

    Calls inside it carry its name as the fact `agent.name`, and their tokens are
    summed on its span as `agentguard.usage.total.*`.

    Args:
        function:
            What is decorated, where the decorator is used bare.
        name:
            Name of the agent; the function's own by default.
        version:
            Declared version.
        description:
            One sentence, recorded on the span.
        conversation_id:
            Id of the conversation, or a function of the call's arguments that gives it.
        capture:
            Overrides the setting `capture` for this callable, downwards only.
        attributes:
            More attributes for each span.

    Returns:
        A callable of the same shape and type.
    """
    return _decorate(  # type: ignore[no-any-return]
        function,
        {
            "kind": "agent",
            "name": name,
            "version": version,
            "description": description,
            "conversation_id": conversation_id,
            "capture": capture,
            "attributes": attributes,
        },
    )


@overload
def model(function: F, /) -> F: ...
@overload
def model(
    *,
    name: str | None = None,
    provider: str = "",
    model: str = "",
    operation: str = "chat",
    usage: Callable[[Any], object] | None = None,
    capture: CaptureMode | None = None,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> Callable[[F], F]: ...
def model(
    function: F | None = None,
    /,
    *,
    name: str | None = None,
    provider: str = "",
    model: str = "",
    operation: str = "chat",
    usage: Callable[[Any], object] | None = None,
    capture: CaptureMode | None = None,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> F | Callable[[F], F]:
    """
    Guard a model call: a span `chat MODEL` with tokens, retries and time to first chunk.

    Tokens are read from what the function returns: responses and streams of the
    OpenAI, Anthropic and Google SDKs, LangChain and pydantic-ai messages.

    Args:
        function:
            What is decorated, where the decorator is used bare.
        name:
            Name of the function in decisions; its own by default.
        provider:
            The convention's name of the provider, such as openai; read from the
            response where not given.
        model:
            Requested model; the argument `model` of the call by default.
        operation:
            chat, generate_content, text_completion or embeddings.
        usage:
            A function of the result that gives a `Usage` or a response object,
            for results of another form.
        capture:
            Overrides the setting `capture` for this callable, downwards only.
        attributes:
            More attributes for each span.

    Returns:
        A callable of the same shape and type.
    """
    return _decorate(  # type: ignore[no-any-return]
        function,
        {
            "kind": "embeddings" if operation == "embeddings" else "model",
            "name": name,
            "provider": provider,
            "model": model,
            "operation": operation,
            "usage": usage,
            "capture": capture,
            "attributes": attributes,
        },
    )


@overload
def workflow(function: F, /) -> F: ...
@overload
def workflow(
    *,
    name: str | None = None,
    capture: CaptureMode | None = None,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> Callable[[F], F]: ...
def workflow(
    function: F | None = None,
    /,
    *,
    name: str | None = None,
    capture: CaptureMode | None = None,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> F | Callable[[F], F]:
    """
    Guard a workflow that runs several agents: a span `invoke_workflow NAME`.

    Policy sees it at the points of an agent.

    Args:
        function:
            What is decorated, where the decorator is used bare.
        name:
            Name of the workflow; the function's own by default.
        capture:
            Overrides the setting `capture` for this callable, downwards only.
        attributes:
            More attributes for each span.

    Returns:
        A callable of the same shape and type.
    """
    return _decorate(  # type: ignore[no-any-return]
        function, {"kind": "workflow", "name": name, "capture": capture, "attributes": attributes}
    )


@overload
def retriever(function: F, /) -> F: ...
@overload
def retriever(
    *,
    name: str | None = None,
    capture: CaptureMode | None = None,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> Callable[[F], F]: ...
def retriever(
    function: F | None = None,
    /,
    *,
    name: str | None = None,
    capture: CaptureMode | None = None,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> F | Callable[[F], F]:
    """
    Guard a retrieval: a span `retrieval NAME`.

    Policy sees it at the points of a tool, with the effect read.

    Args:
        function:
            What is decorated, where the decorator is used bare.
        name:
            Name of the data source; the function's own by default.
        capture:
            Overrides the setting `capture` for this callable, downwards only.
        attributes:
            More attributes for each span.

    Returns:
        A callable of the same shape and type.
    """
    return _decorate(  # type: ignore[no-any-return]
        function,
        {"kind": "retriever", "name": name, "effect": "read", "capture": capture, "attributes": attributes},
    )


@overload
def guard(function: F, /) -> F: ...
@overload
def guard(
    *,
    kind: str = "tool",
    name: str | None = None,
    effect: ToolEffect = "write",
    capture: CaptureMode | None = None,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> Callable[[F], F]: ...
def guard(
    function: F | None = None,
    /,
    *,
    kind: str = "tool",
    name: str | None = None,
    effect: ToolEffect = "write",
    capture: CaptureMode | None = None,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> F | Callable[[F], F]:
    """
    Guard any callable: the generic decorator behind the named ones.

    Args:
        function:
            What is decorated, where the decorator is used bare.
        kind:
            agent, model, tool, workflow, retriever, or another operation such as
            plan, which policy sees at the points of a tool.
        name:
            Name in rules and spans; the function's own by default.
        effect:
            none, read or write, for what policy sees as a tool.
        capture:
            Overrides the setting `capture` for this callable, downwards only.
        attributes:
            More attributes for each span.

    Returns:
        A callable of the same shape and type.
    """
    return _decorate(  # type: ignore[no-any-return]
        function,
        {"kind": kind, "name": name, "effect": effect, "capture": capture, "attributes": attributes},
    )
