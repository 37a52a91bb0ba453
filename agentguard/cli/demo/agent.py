"""
The support agent of the demo: the real `openai` SDK, three tools, one loop.

It is written as people write such agents, down to its faults: an exception of
a tool becomes a polite sentence, and the SDK retries without telling anybody.
`build_agent` makes it twice from the same lines, guarded and bare, so that each
scene can show what the bare one does.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import agentguard
from agentguard.errors import AgentGuardError

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.chat import ChatCompletion, ChatCompletionChunk

Message = dict[str, Any]
"""One message in the shape of the chat-completions API."""

SYSTEM_PROMPT = "You answer customers of a small shop in one short, friendly sentence."

TOOLS: tuple[Mapping[str, object], ...] = tuple(
    {
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "parameters": {
                "type": "object",
                "properties": {key: {"type": kind} for key, kind in parameters.items()},
                "required": list(parameters),
            },
        },
    }
    for name, description, parameters in (
        ("lookup_order", "Look up an order.", {"order_id": "string"}),
        ("refund", "Pay money back.", {"order_id": "string", "amount_usd": "number"}),
        ("send_mail", "Write to a customer.", {"to": "string", "body": "string"}),
    )
)
"""What the model is told of the tools."""

_DATABASE_S = 0.004
"""How long a tool waits for its database."""

ORDER_PATTERN = re.compile(r"\b[A-Z]-\d{1,6}\b")


class DeskCall(NamedTuple):
    """One tool call that ran."""

    tool: str
    arguments: Mapping[str, object]
    call_id: str
    """Of the guarded call; empty for the agent without agentguard."""


@dataclass
class Desk:
    """The business behind the tools, in memory: what really happened is read from here."""

    broken_orders: frozenset[str] = frozenset()
    """Orders on which the database fails."""
    refunds_usd: list[float] = field(default_factory=list)
    mails: list[str] = field(default_factory=list)
    calls: list[DeskCall] = field(default_factory=list)
    """Everything that was asked of the desk, in order."""

    @property
    def lookups(self) -> int:
        """How often an order was looked up."""
        return sum(call.tool == "lookup_order" for call in self.calls)

    def lookup_order(self, order_id: str) -> str:
        """Say where an order is."""
        time.sleep(_DATABASE_S)
        self._note("lookup_order", order_id=order_id)
        if order_id in self.broken_orders:
            raise TimeoutError("the order database did not answer")
        return (
            f"order {order_id}: being packed" if order_id == "W-7" else f"order {order_id}: shipped yesterday"
        )

    def refund(self, order_id: str, amount_usd: float) -> str:
        """Pay money back."""
        time.sleep(_DATABASE_S)
        self.refunds_usd.append(amount_usd)
        self._note("refund", order_id=order_id, amount_usd=amount_usd)
        return f"USD {amount_usd:.2f} paid back for {order_id}"

    def send_mail(self, to: str, body: str) -> str:
        """Write to a customer."""
        time.sleep(_DATABASE_S)
        self.mails.append(body)
        self._note("send_mail", to=to, body=body)
        return f"mail sent to {to}"

    def _note(self, tool: str, **arguments: object) -> None:
        span = agentguard.current()
        self.calls.append(DeskCall(tool, arguments, span.call_id if span is not None else ""))


class Agent(NamedTuple):
    """The agent and the single functions that it is made of."""

    answer: Callable[[str], str]
    """From a customer's question to the answer."""
    refund: Callable[[str, float], str]
    """The tool by itself, for a call that needs no model."""


class _Decorators(Protocol):
    """The part of the public API that the agent uses."""

    agent: Callable[..., Callable[[Callable[..., Any]], Callable[..., Any]]]
    model: Callable[..., Callable[[Callable[..., Any]], Callable[..., Any]]]
    tool: Callable[..., Callable[[Callable[..., Any]], Callable[..., Any]]]


class _Bare:
    """The same decorators, without agentguard: they do nothing."""

    @staticmethod
    def agent(**_options: object) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        return lambda function: function

    model = tool = agent


def build_agent(
    client: OpenAI,
    desk: Desk,
    *,
    model: str,
    is_guarded: bool = True,
    is_streaming: bool = False,
    can_call_tools: bool = True,
    turns_max: int = 40,
    answer_tokens_max: int | None = None,
) -> Agent:
    """
    Make the agent.

    Args:
        client:
            The SDK's client.
        desk:
            What the tools act on.
        model:
            Name of the model that is asked.
        is_guarded:
            Whether the functions are decorated with agentguard.
        is_streaming:
            Whether answers are streamed.
        can_call_tools:
            False for a model that makes no tool calls: the agent then reads the
            order number itself, and looks it up before it asks.
        turns_max:
            Model calls after which a conversation is given up.
        answer_tokens_max:
            Longest answer asked for; `None`: the server decides.

    Returns:
        The agent.
    """
    guard = cast("_Decorators", agentguard if is_guarded else _Bare)
    tools = _tools(guard, desk)
    options: dict[str, Any] = {"tools": list(TOOLS)} if can_call_tools else {}
    if answer_tokens_max is not None:
        options["max_tokens"] = answer_tokens_max
    ask = (_streaming_model if is_streaming else _whole_model)(guard, client, model, options)

    def use(name: str, arguments: Mapping[str, Any]) -> str:
        try:
            return tools[name](**arguments)
        except AgentGuardError as refusal:
            return str(refusal)
        except Exception:
            # The fault that so many agents have: nobody hears of it.
            return "no result, please answer politely"

    @guard.agent(name="support")
    def answer(question: str) -> str:
        messages: list[Message] = [
            {"role": "system", "content": SYSTEM_PROMPT},
            {"role": "user", "content": question},
        ]
        if not can_call_tools:
            messages[-1] = _plan(question, use, turns_max)
        for _ in range(turns_max):
            message = ask(messages)
            messages.append(message)
            calls = message.get("tool_calls") or ()
            if not calls:
                return str(message.get("content") or "")
            for call in calls:
                result = use(call["function"]["name"], json.loads(call["function"]["arguments"]))
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})
        return "Sorry, this took too long."

    return Agent(answer, tools["refund"])


def _tools(guard: _Decorators, desk: Desk) -> Mapping[str, Callable[..., str]]:
    """Decorate the three tools."""

    @guard.tool(effect="read")
    def lookup_order(order_id: str) -> str:
        return desk.lookup_order(order_id)

    @guard.tool(effect="write")
    def refund(order_id: str, amount_usd: float) -> str:
        return desk.refund(order_id, amount_usd)

    @guard.tool(effect="write")
    def send_mail(to: str, body: str) -> str:
        return desk.send_mail(to, body)

    return {"lookup_order": lookup_order, "refund": refund, "send_mail": send_mail}


def _whole_model(
    guard: _Decorators, client: OpenAI, model: str, options: Mapping[str, Any]
) -> Callable[[list[Message]], Message]:
    """Ask for whole answers."""

    @guard.model(provider="openai", model=model)
    def ask(messages: list[Message]) -> ChatCompletion:
        completion: ChatCompletion = client.chat.completions.create(
            model=model, messages=cast("Any", messages), **options
        )
        return completion

    def turn(messages: list[Message]) -> Message:
        completion: ChatCompletion = ask(messages)
        return completion.choices[0].message.model_dump(exclude_none=True)

    return turn


def _streaming_model(
    guard: _Decorators, client: OpenAI, model: str, options: Mapping[str, Any]
) -> Callable[[list[Message]], Message]:
    """Ask for streams; token counts come in the last chunk, because they are asked for."""

    @guard.model(provider="openai", model=model)
    def ask(messages: list[Message]) -> Iterator[ChatCompletionChunk]:
        stream: Iterator[ChatCompletionChunk] = client.chat.completions.create(
            model=model,
            messages=cast("Any", messages),
            stream=True,
            stream_options={"include_usage": True},
            **options,
        )
        return stream

    return lambda messages: _assemble(ask(messages))


def _plan(question: str, use: Callable[[str, Mapping[str, Any]], str], turns_max: int) -> Message:
    """Call the tools by rule, for a model that cannot ask for them; what came out goes into the question."""
    order = ORDER_PATTERN.search(question)
    if order is None:
        return {"role": "user", "content": question}
    notes = [use("lookup_order", {"order_id": order[0]})]
    while "until it ships" in question and "being packed" in notes[-1] and len(notes) < turns_max:
        notes.append(use("lookup_order", {"order_id": order[0]}))
    del notes[:-1]
    amount = re.search(r"refund.*?USD\s*([0-9][0-9,]*)", question, re.IGNORECASE)
    if amount:
        notes.append(use("refund", {"order_id": order[0], "amount_usd": float(amount[1].replace(",", ""))}))
    mail = re.search(r"[\w.]+@[\w.]+\w", question)
    if mail:
        notes.append(use("send_mail", {"to": mail[0], "body": question}))
    return {"role": "user", "content": f"{question}\nFacts: {'; '.join(notes)}"}


def _assemble(stream: Iterable[ChatCompletionChunk]) -> Message:
    """Put the pieces of one streamed answer together."""
    content: list[str] = []
    calls: dict[int, dict[str, Any]] = {}
    for chunk in stream:
        for choice in chunk.choices:
            content.append(choice.delta.content or "")
            for part in choice.delta.tool_calls or ():
                call = calls.setdefault(
                    part.index, {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
                )
                call["id"] += part.id or ""
                if part.function is not None:
                    call["function"]["name"] += part.function.name or ""
                    call["function"]["arguments"] += part.function.arguments or ""
    message: Message = {"role": "assistant", "content": "".join(content)}
    return {**message, "tool_calls": list(calls.values())} if calls else message
