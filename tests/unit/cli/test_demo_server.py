"""The demo's model server, asked by the real OpenAI client, and its OTLP receiver."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator

import pytest

from agentguard.cli.demo.brain import (
    DRIFTED,
    NO_USAGE,
    TESTED,
    Text,
    ToolRequest,
    count_tokens,
    next_turn,
)
from agentguard.cli.demo.receiver import Receiver
from agentguard.cli.demo.server import MODEL, Fault, ModelServer

openai = pytest.importorskip("openai")

TOOLS = [{"type": "function", "function": {"name": "lookup_order", "parameters": {"type": "object"}}}]


@pytest.fixture
def server() -> Iterator[ModelServer]:
    """A server with a fixed seed."""
    with ModelServer(seed=1) as running:
        yield running


@pytest.fixture
def client(server: ModelServer) -> Iterator[openai.OpenAI]:
    """The real client, told where the server is."""
    http = openai.DefaultHttpxClient(trust_env=False)
    with openai.OpenAI(base_url=server.url, api_key="none", http_client=http) as made:
        yield made


def ask(client: openai.OpenAI, text: str, **options: object) -> object:
    """One request with one message."""
    return client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": text}], **options
    )


def test_whole_answer_has_usage(client: openai.OpenAI, server: ModelServer) -> None:
    """A plain answer carries text, finish reason and token counts that add up."""
    answer = ask(client, "Hello there, who are you?")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens == count_tokens(answer.choices[0].message.content)
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert server.output_tokens == answer.usage.completion_tokens


def test_stream_has_usage_only_when_asked(client: openai.OpenAI) -> None:
    """As with the real service, a stream tells its usage only with `include_usage`."""
    bare = list(ask(client, "Hello", stream=True))
    told = list(ask(client, "Hello", stream=True, stream_options={"include_usage": True}))
    assert [chunk.usage for chunk in bare] == [None] * len(bare)
    assert told[-1].choices == []
    text = "".join(chunk.choices[0].delta.content or "" for chunk in told[:-1])
    assert told[-1].usage.completion_tokens == count_tokens(text)
    assert len(told) > 3


def test_tool_call_then_answer(client: openai.OpenAI) -> None:
    """A question about an order asks for the tool first, and answers once it has the result."""
    first = ask(client, "Where is A-1042?", tools=TOOLS)
    call = first.choices[0].message.tool_calls[0]
    assert (call.function.name, json.loads(call.function.arguments)) == (
        "lookup_order",
        {"order_id": "A-1042"},
    )
    assert first.choices[0].finish_reason == "tool_calls"
    second = client.chat.completions.create(
        model=MODEL,
        tools=TOOLS,
        messages=[
            {"role": "user", "content": "Where is A-1042?"},
            first.choices[0].message,
            {"role": "tool", "tool_call_id": call.id, "content": "order A-1042: shipped"},
        ],
    )
    assert second.choices[0].message.content.startswith("Good news:")


def test_streamed_tool_call(client: openai.OpenAI) -> None:
    """A tool call in a stream has its id, name and arguments in the first delta."""
    chunks = list(ask(client, "Where is A-1042?", tools=TOOLS, stream=True))
    call = chunks[0].choices[0].delta.tool_calls[0]
    assert (call.function.name, call.index) == ("lookup_order", 0)
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_ordered_refusals_are_retried_by_the_sdk(client: openai.OpenAI, server: ModelServer) -> None:
    """Two ordered 429s cost two retries that the caller does not see."""
    server.fail_next(Fault(429, 1), Fault(429, 1))
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=[{"role": "user", "content": "Hello"}]
    )
    assert raw.retries_taken == 2
    assert dict(server.statuses) == {429: 2, 200: 1}
    assert server.requests == 3


def test_refusal_reaches_a_caller_without_retries(client: openai.OpenAI, server: ModelServer) -> None:
    """Without retries the SDK raises its own error class, with the status."""
    server.fail_next(Fault(429, 1))
    with pytest.raises(openai.RateLimitError) as caught:
        ask(client.with_options(max_retries=0), "Hello")
    assert caught.value.status_code == 429


def test_a_version_without_usage(client: openai.OpenAI, server: ModelServer) -> None:
    """The broken gateway strips usage and renames the finish reason; the SDK lets it through."""
    server.behaviour = NO_USAGE
    answer = ask(client, "Hello")
    assert answer.usage is None
    assert answer.choices[0].finish_reason == "end_turn"


def test_drifted_version_is_longer() -> None:
    """The drifted version answers at about twice the length."""
    draw = random.Random(3)

    def words(behaviour: object) -> float:
        question = [{"role": "user", "content": "Hello"}]
        turns = [next_turn(question, can_call_tools=True, behaviour=behaviour, draw=draw) for _ in range(200)]
        return sum(len(turn.words) for turn in turns if isinstance(turn, Text)) / len(turns)

    assert 1.7 < words(DRIFTED) / words(TESTED) < 2.6


def test_one_seed_one_conversation() -> None:
    """The same seed and messages give the same words."""
    question = [{"role": "user", "content": "Hello"}]

    def run() -> list[object]:
        draw = random.Random(5)
        return [next_turn(question, can_call_tools=False, behaviour=TESTED, draw=draw) for _ in range(20)]

    assert run() == run()


@pytest.mark.parametrize(
    ("question", "results", "expected"),
    [
        ("Please refund USD 4,800 for A-12.", ["found"], ToolRequest("refund", {"order_id": "A-12", "amount_usd": 4800.0})),
        ("Look at W-7 until it ships", ["being packed"] * 9, ToolRequest("lookup_order", {"order_id": "W-7"})),
        ("Look at W-7 until it ships", ["being packed", "order shipped"], None),
        ("Look at W-7 until it ships", ["Denied. This is a rule, not a fault."], None),
    ],
)  # fmt: skip
def test_wishes(question: str, results: list[str], expected: ToolRequest | None) -> None:
    """Amounts are read with thousands separators; a loop ends with a new answer or a refusal."""
    messages = [{"role": "user", "content": question}, *({"role": "tool", "content": r} for r in results)]
    turn = next_turn(messages, can_call_tools=True, behaviour=TESTED, draw=random.Random(1))
    assert turn == expected if expected is not None else isinstance(turn, Text)


def test_other_paths_are_refused(server: ModelServer) -> None:
    """Only chat completions are served."""
    http = openai.DefaultHttpxClient(trust_env=False)
    with openai.OpenAI(base_url=server.url, api_key="none", http_client=http) as client:
        assert [model.id for model in client.models.list()] == [MODEL]
        with pytest.raises(openai.NotFoundError):
            client.embeddings.create(model=MODEL, input="x")


def test_receiver_is_stuck_until_told(server: ModelServer) -> None:
    """A stuck receiver takes a connection and gives nothing; once it moves, spans are counted by id."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    with Receiver() as receiver:
        receiver.stick()
        provider = TracerProvider(shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=f"{receiver.url}/v1/traces", timeout=5)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        emitting = threading.Thread(target=lambda: provider.get_tracer("t").start_span("one").end())
        emitting.start()
        deadline = time.monotonic() + 5
        while receiver.requests == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert receiver.requests == 1
        assert not receiver.span_ids
        receiver.unstick()
        emitting.join(timeout=10)
        provider.get_tracer("t").start_span("two").end()
        assert receiver.span_ids
        provider.shutdown()
