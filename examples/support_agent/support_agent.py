"""
A support agent on the OpenAI SDK, governed by agentguard.

    OPENAI_API_KEY=... python support_agent.py "Where is my order A-12?"

Copy it and put your own tools in. What governs it stands beside it, in
`agentguard.toml` and `policies/`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from openai import OpenAI

import agentguard

agentguard.init()

MODEL = os.environ.get("SUPPORT_MODEL", "gpt-5-mini")
client = agentguard.wrap(OpenAI())

ORDERS = {"A-12": "shipped yesterday", "B-3": "being packed"}


@agentguard.tool(effect="read")
def lookup_order(order_id: str) -> str:
    """Say where an order is."""
    return f"order {order_id}: {ORDERS.get(order_id, 'unknown')}"


@agentguard.tool(effect="write")
def refund(order_id: str, amount_usd: float) -> str:
    """Pay money back to a customer."""
    return f"paid USD {amount_usd:.2f} back for {order_id}"


TOOLS: dict[str, Callable[..., str]] = {"lookup_order": lookup_order, "refund": refund}
DESCRIBED: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": TOOLS[name].__doc__,
            "parameters": {"type": "object", "properties": properties, "required": list(properties)},
        },
    }
    for name, properties in (
        ("lookup_order", {"order_id": {"type": "string"}}),
        ("refund", {"order_id": {"type": "string"}, "amount_usd": {"type": "number"}}),
    )
]


@agentguard.model(provider="openai", model=MODEL)
def ask(messages: list[Any]) -> Any:
    """Ask the model; token counts, retries and latency are read from what comes back."""
    return client.chat.completions.create(model=MODEL, messages=messages, tools=DESCRIBED)


def use(name: str, arguments: dict[str, Any]) -> str:
    """Call one tool; a refusal is told to the model in its own words."""
    try:
        return TOOLS[name](**arguments)
    except (agentguard.CallDenied, agentguard.ApprovalPending) as refusal:
        return str(refusal)


@agentguard.agent(name="support")
def answer(question: str) -> str:
    """Answer one question of a customer."""
    messages: list[Any] = [
        {"role": "system", "content": "You answer customers of a small shop in one short sentence."},
        {"role": "user", "content": question},
    ]
    while True:
        message = ask(messages).choices[0].message
        messages.append(message)
        if not message.tool_calls:
            return message.content or ""
        for call in message.tool_calls:
            result = use(call.function.name, json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


if __name__ == "__main__":
    with agentguard.run(principal="customer-7", labels={"channel": "terminal"}):
        print(answer(" ".join(sys.argv[1:]) or "Where is my order A-12?"))
        agentguard.record_outcome(predicted_label="answered")
    agentguard.shutdown()
