"""The entry point for messages of official instrumentations, called as they call it."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

import agentguard
from agentguard.runtime.completion import CompletionHook
from tests.unit.runtime.conftest import Start, spans

MESSAGES: dict[str, Any] = {
    "inputs": [{"role": "user", "content": "needle"}],
    "outputs": [{"role": "assistant", "content": "haystack"}],
    "system_instruction": [],
}


@agentguard.model(model="m")
def ask(span: object = None) -> str:
    """Stand in for an instrumented call."""
    CompletionHook().on_completion(**MESSAGES, span=span or trace.get_current_span())
    return "answer"


def test_it_is_registered() -> None:
    """Whoever looks for `agentguard` in the group finds the hook."""
    found = entry_points(group="opentelemetry_genai_completion_hook", name="agentguard")
    if not found:
        pytest.skip("the tree was installed before it had the entry point")
    assert [entry.load() for entry in found] == [CompletionHook]


def test_before_init_it_does_nothing() -> None:
    """No runtime, no effect."""
    CompletionHook().on_completion(**MESSAGES)


@pytest.mark.parametrize(("capture", "is_kept"), [("full", True), ("metadata", False), ("none", False)])
def test_messages_stand_on_our_span(start: Start, capture: str, is_kept: bool) -> None:
    """As far as the setting allows."""
    runtime = start(capture=capture)
    ask()
    text = repr(spans(runtime))
    assert ("needle" in text) is is_kept
    assert ("haystack" in text) is is_kept


def test_off_means_off(start: Start) -> None:
    """With `otel = off` nothing of OpenTelemetry's world comes in."""
    runtime = start(otel="off", capture="full")
    ask()
    assert "needle" not in repr(spans(runtime))


def test_messages_of_a_native_span(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """They stand on the native span, which ends after the hook was called."""
    provider = TracerProvider(shutdown_on_exit=False)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    runtime = start(capture="full")

    @agentguard.agent
    def agent() -> None:
        with provider.get_tracer("sdk").start_as_current_span(
            "chat m", attributes={"gen_ai.operation.name": "chat"}
        ) as span:
            CompletionHook().on_completion(**MESSAGES, span=span)

    agent()
    by_scope = {span.scope: span for span in spans(runtime)}
    assert "needle" in str(by_scope["sdk"].attributes["gen_ai.input.messages"])
    assert "needle" not in repr(by_scope["agentguard"])


def test_a_span_of_unknown_make(start: Start) -> None:
    """What cannot be read is counted, and the instrumentation hears nothing of it."""
    runtime = start(capture="full", strict=False)
    ask(span=object())
    assert runtime.health.counts["runtime.completion: AttributeError"] == 1
