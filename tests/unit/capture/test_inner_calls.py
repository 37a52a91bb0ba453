"""What is said to official instrumentations inside our calls, and taken from them; by the documented protocol."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry.context import Context

from agentguard.capture import (
    GENAI_UTIL,
    CaptureEnvironment,
    ContentCapture,
    ForeignSpanProcessor,
    Span,
    announce_outer_call,
    take_inner_call,
)
from agentguard.values import Usage
from tests.support.clock import FrozenClock
from tests.support.ids import SequentialIds

INFERENCE, EMBEDDING = "genai.inference", "genai.embedding"


@dataclass
class Data:
    """As the library's own: all fields empty until somebody inside writes them."""

    capture_content: bool = False
    upload_completion: bool = False
    provider_name: str | None = None
    request_temperature: float | None = None
    request_model: str | None = None
    response_model: str | None = None
    response_id: str | None = None
    response_finish_reasons: list[str] | None = None
    usage_input_tokens: int | None = None
    usage_output_tokens: int | None = None
    input_messages: object = None


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """Its module, loaded as an instrumentation would."""
    module: Any = types.ModuleType(GENAI_UTIL)
    module.CLIENT_INFERENCE_CONTEXT_KEY, module.InferenceData = INFERENCE, Data
    module.CLIENT_EMBEDDING_CONTEXT_KEY, module.EmbeddingData = EMBEDDING, Data
    monkeypatch.setitem(sys.modules, GENAI_UTIL, module)
    return module


@pytest.fixture
def environment(clock: FrozenClock, on_internal_error: Any) -> CaptureEnvironment:
    """One that keeps nothing."""
    return CaptureEnvironment(
        clock=clock, ids=SequentialIds(), sink=lambda _s: None, on_internal_error=on_internal_error
    )


def test_without_the_library_nothing_is_said(environment: CaptureEnvironment) -> None:
    """No instrumentation loaded, nothing in the context."""
    assert announce_outer_call("model", Context()) == {}
    span = Span(environment, "chat", "model")
    take_inner_call(span, Context({INFERENCE: Data(provider_name="openai")}))
    assert span.usage is None


def test_a_model_call_says_that_it_is_there(library: types.ModuleType) -> None:
    """A fresh object for each call; content is not asked for, the application's uploads go on."""
    found = announce_outer_call("model", Context())
    assert set(found) == {INFERENCE}
    assert found[INFERENCE] == Data(capture_content=False, upload_completion=True)
    assert set(announce_outer_call("embeddings", Context())) == {EMBEDDING}
    assert announce_outer_call("tool", Context()) == {}


def test_what_is_inside_another_call_is_not_that_call(library: types.ModuleType) -> None:
    """A tool inside a model call ends what the model call said."""
    assert announce_outer_call("tool", Context({INFERENCE: Data()})) == {INFERENCE: None}
    assert announce_outer_call("embeddings", Context({INFERENCE: Data()}))[INFERENCE] is None


def test_a_library_of_another_version(library: Any) -> None:
    """Names that are missing are no error."""
    del library.InferenceData, library.CLIENT_EMBEDDING_CONTEXT_KEY
    assert announce_outer_call("model", Context()) == {}


def test_what_was_seen_inside_stands_on_our_span(
    library: types.ModuleType, environment: CaptureEnvironment
) -> None:
    """Tokens, answer and parameters; what we know ourselves stands, and content is not taken."""
    span = Span(environment, "chat", "model", attributes={"gen_ai.request.model": "mine"})
    seen = Data(
        provider_name="openai", request_temperature=0.5, request_model="theirs", response_model="m-1",
        response_id="r", response_finish_reasons=["stop"], usage_input_tokens=9, usage_output_tokens=2,
        input_messages=["secret"],
    )  # fmt: skip
    take_inner_call(span, Context({INFERENCE: seen}))
    assert span.usage == Usage(
        9, 2, model="m-1", response_id="r", finish_reasons=("stop",), provider="openai"
    )
    assert span.attributes["gen_ai.request.model"] == "mine"
    assert span.attributes["gen_ai.request.temperature"] == 0.5
    assert "secret" not in repr(span.attributes)


def test_our_own_count_goes_before(library: types.ModuleType, environment: CaptureEnvironment) -> None:
    """What the response said is not replaced, nor billed twice."""
    span = Span(environment, "chat", "model")
    span.record_usage(Usage(10, 3))
    take_inner_call(span, Context({INFERENCE: Data(provider_name="openai", usage_input_tokens=9)}))
    assert span.usage == Usage(10, 3)
    take_inner_call(span, Context({INFERENCE: Data()}))
    take_inner_call(Span(environment, "t", "tool"), Context({INFERENCE: Data(provider_name="x")}))


def test_messages_as_the_setting_says(on_internal_error: Any) -> None:
    """Each part under the name of the conventions, redacted and cut; nothing without content capture."""

    def capture(mode: Any, bytes_max: int = 1_000) -> ContentCapture:
        return ContentCapture(
            mode, bytes_max=bytes_max, kinds=("email",), on_internal_error=on_internal_error
        )

    parts: dict[str, Any] = {
        "inputs": [{"role": "user", "content": "I am ann@example.org"}],
        "outputs": [{"role": "assistant", "content": "Hello ann@example.org"}],
        "instructions": ["Be kind."],
        "tools": None,
    }
    assert capture("none").messages(**parts) == capture("metadata").messages(**parts) == {}
    full = capture("full").messages(**parts)
    assert set(full) == {"gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions"}
    assert "ann@example.org" in str(full["gen_ai.input.messages"])
    redacted = capture("redacted").messages(**parts)
    assert "ann@example.org" not in repr(redacted)
    assert redacted["agentguard.content.redactions"] == 2
    assert capture("full", 10).messages(**parts)["agentguard.content.truncated"] is True


def test_redactions_add_up(environment: CaptureEnvironment) -> None:
    """Arguments, result and messages of one call are counted together."""
    span = Span(environment, "chat", "model")
    for count in (2, 1):
        span.set_content({"agentguard.content.redactions": count})
    assert span.attributes["agentguard.content.redactions"] == 3


def test_content_of_native_spans_is_bounded(environment: CaptureEnvironment) -> None:
    """Spans that never end do not fill the memory."""
    processor = ForeignSpanProcessor(environment)
    for _ in range(300):
        processor.keep_content(Span(environment, "chat", "model"), {"k": "v"})
    assert len(processor._contents) == 256
