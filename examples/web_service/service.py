"""
A web service whose handlers call guarded tools: who asks, under which trace, and what was refused.

    uvicorn service:app
    curl -H 'x-user: ann' -X POST 'http://127.0.0.1:8000/orders/A-12/refund?amount_usd=20'

What governs it stands beside it, in `agentguard.toml` and `policies/`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, MutableMapping
from typing import Any

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

import agentguard
from agentguard.integrations.asgi import AgentGuardMiddleware

agentguard.init()


def who(scope: MutableMapping[str, Any]) -> dict[str, str]:
    """Name the person: here by a header that only the gateway in front of the service can set."""
    return {"principal": dict(scope["headers"]).get(b"x-user", b"").decode("ascii", "replace")}


app = FastAPI()
app.add_middleware(AgentGuardMiddleware, facts=who, skip=["/health"], answer_denials=True)


@agentguard.tool(effect="read")
async def lookup_order(order_id: str) -> str:
    """Say where an order is."""
    return f"order {order_id}: shipped yesterday\n"


@agentguard.tool(effect="write")
def refund(order_id: str, amount_usd: float) -> str:
    """Pay money back to a customer."""
    return f"paid USD {amount_usd:.2f} back for {order_id}"


@app.post("/orders/{order_id}/refund")
def refund_order(order_id: str, amount_usd: float) -> str:
    """Pay back; a refusal is answered with 403 and its text."""
    return refund(order_id, amount_usd)


@app.get("/orders")
async def orders(ids: str) -> StreamingResponse:
    """Stream one line an order; the look-ups belong to the request though its handler has returned."""

    async def lines() -> AsyncIterator[str]:
        for order_id in ids.split(","):
            yield await lookup_order(order_id)

    return StreamingResponse(lines(), media_type="text/plain")


@app.get("/health")
def health() -> str:
    """Say that the service runs; leaves no span."""
    return "ok"
