"""
An agent on the Anthropic SDK, whose tool runner calls guarded tools.

    ANTHROPIC_API_KEY=... python anthropic_agent.py "Where is my order A-12?"

What governs it stands beside it, in `agentguard.toml` and `policies/`.
"""

from __future__ import annotations

import logging
import os
import sys

from anthropic import Anthropic, beta_tool

import agentguard

agentguard.init()
# The runner logs each refusal with a traceback; the model gets its text, and the decision log has it.
logging.getLogger("anthropic").setLevel(logging.CRITICAL)

MODEL = os.environ.get("SUPPORT_MODEL", "claude-haiku-4-5")
client = agentguard.wrap(Anthropic())


@beta_tool
@agentguard.tool(effect="read")
def lookup_order(order_id: str) -> str:
    """Say where an order is.

    Args:
        order_id: As the customer names it.
    """
    return f"order {order_id}: shipped yesterday"


@beta_tool
@agentguard.tool(effect="write")
def refund(order_id: str, amount_usd: float) -> str:
    """Pay money back to a customer.

    Args:
        order_id: As the customer names it.
        amount_usd: How much.
    """
    return f"paid USD {amount_usd:.2f} back for {order_id}"


@agentguard.agent(name="support")
def answer(question: str) -> str:
    """Answer one question of a customer."""
    runner = client.beta.messages.tool_runner(
        model=MODEL,
        max_tokens=500,
        messages=[{"role": "user", "content": question}],
        tools=[lookup_order, refund],
    )
    return "".join(block.text for block in runner.until_done().content if block.type == "text")


if __name__ == "__main__":
    with agentguard.run(principal="customer-7"):
        print(answer(" ".join(sys.argv[1:]) or "Where is my order A-12?"))
    agentguard.shutdown()
