"""Tokens are read from what pydantic-ai returns, and its agents take guarded functions as tools."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

import agentguard
from agentguard.runtime.active import ACTIVE
from agentguard.runtime.core import Runtime


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    """A runtime with a store of the test."""
    made = agentguard.init(store=tmp_path / "store", strict=True, drift_interval_s=0)
    assert made is not None
    yield made
    agentguard.shutdown()
    ACTIVE.runtime = None


def test_run_result_and_guarded_tool(runtime: Runtime) -> None:
    """A real agent runs on the library's test model, calls a guarded tool, and its usage is read."""

    @agentguard.tool(effect="read")
    def look_up(order: str) -> str:
        """Look an order up."""
        return f"order {order}"

    library_agent = Agent(TestModel(), tools=[look_up])

    @agentguard.model(provider="test", model="test")
    def ask(question: str) -> Any:
        return library_agent.run_sync(question)

    result = ask("where is my order?")
    usage = result.usage
    runtime.flush(5)
    spans = {span.kind: span for span in runtime.store.query().spans()}
    assert spans["model"].attributes["gen_ai.usage.input_tokens"] == usage.input_tokens
    assert spans["model"].attributes["gen_ai.usage.output_tokens"] == usage.output_tokens
    assert spans["tool"].name == "execute_tool look_up"
    assert spans["tool"].parent_span_id == spans["model"].span_id


def test_denial_reaches_the_model_as_an_error(tmp_path: Path) -> None:
    """A denied tool does not run; the agent loop gets the denial as an exception."""
    policies = tmp_path / "p.yaml"
    policies.write_text(
        """apiVersion: agentguard/v1
kind: Policy
metadata: {name: t, version: 1.0.0, title: T, owner: o@corp.example}
scope: {agents: ["*"], environments: ["*"]}
defaults: {unmatched: allow, mode: enforce, timezone: UTC}
rules:
  - {id: NO, title: Never, at: tool.before, when: tool.name == 'pay', then: deny}
""",
        encoding="utf-8",
    )
    agentguard.init(store=tmp_path / "store", policies=policies, drift_interval_s=0)
    ran = []

    @agentguard.tool
    def pay(amount: int) -> str:
        """Pay."""
        ran.append(amount)
        return "paid"

    with pytest.raises(agentguard.CallDenied):
        Agent(TestModel(), tools=[pay]).run_sync("pay")
    assert ran == []
    agentguard.shutdown()
    ACTIVE.runtime = None
