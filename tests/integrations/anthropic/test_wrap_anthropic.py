"""`agentguard.wrap` on the real Anthropic client: sync, async, streams, its own spans, its tool runner."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

import agentguard
from agentguard.values import attributes as names
from tests.support.governed import Governed
from tests.support.split_card import CARD_OUT, NO_CARD, REDACTED, say_a_card
from tests.support.wire import INPUT_TOKENS, OUTPUT_TOKENS, TEXT, Asked, WireServer, answer

anthropic = pytest.importorskip("anthropic")

HELLO = [{"role": "user", "content": "Hello, I am Quentin Needle."}]
ASK = {"model": "small", "max_tokens": 50, "messages": HELLO}

NO_BIG_MODEL = """
- id: MOD-001
  title: Only small models
  at: model.before
  when: model.name == 'big'
  then: deny
  record: required
"""


@pytest.fixture
def client(wire: WireServer) -> Iterator[anthropic.Anthropic]:
    """The real client, wrapped."""
    http = anthropic.DefaultHttpxClient(trust_env=False)
    with anthropic.Anthropic(base_url=wire.url, api_key="none", http_client=http) as made:
        yield agentguard.wrap(made)


def test_a_message_is_a_model_call(governed: Governed, client: anthropic.Anthropic, wire: WireServer) -> None:
    """Parameters, tokens with the cached ones, model and id."""
    governed.start()
    message = client.messages.create(
        **ASK, stop_sequences=["END", "STOP"], extra_body={"temperature": 0.5, "top_k": 4}
    )
    assert type(message).__name__ == "Message"
    assert message.content[0].text == TEXT
    span = governed.only()
    assert (span.name, span.kind, span.otel_kind) == ("chat small", "model", "client")
    expected = {
        names.PROVIDER_NAME: "anthropic",
        names.REQUEST_MAX_TOKENS: 50,
        names.REQUEST_TEMPERATURE: 0.5,
        names.REQUEST_TOP_K: 4,
        names.INPUT_TOKENS: INPUT_TOKENS,
        names.CACHE_READ_TOKENS: 4,
        names.OUTPUT_TOKENS: OUTPUT_TOKENS,
        names.RESPONSE_ID: "msg_1",
        names.SERVER_PORT: wire.port,
    }
    assert {name: span.attributes.get(name) for name in expected} == expected
    assert list(span.attributes[names.REQUEST_STOP_SEQUENCES]) == ["END", "STOP"]
    assert list(span.attributes[names.RESPONSE_FINISH_REASONS]) == ["end_turn"]
    assert "Needle" not in json.dumps(dict(span.attributes), default=str)


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.messages.create(**{**ASK, "model": "big"}),
        lambda c: c.messages.create(**{**ASK, "model": "big"}, stream=True),
        lambda c: c.messages.create(**ASK, extra_body={"model": "big"}),
        lambda c: c.messages.stream(**{**ASK, "model": "big"}).__enter__(),
        lambda c: c.beta.messages.create(**{**ASK, "model": "big"}),
        lambda c: c.messages.with_raw_response.create(**{**ASK, "model": "big"}),
        lambda c: c.messages.with_streaming_response.create(**{**ASK, "model": "big"}).__enter__(),
        lambda c: c.with_options(timeout=5).messages.create(**{**ASK, "model": "big"}),
    ],
)
def test_a_denied_request_is_not_sent(
    governed: Governed, client: anthropic.Anthropic, wire: WireServer, call: Any
) -> None:
    """Whatever the way, the server hears nothing."""
    governed.start(NO_BIG_MODEL)
    with pytest.raises(agentguard.CallDenied, match="MOD-001"):
        call(client)
    assert wire.asked == []
    assert governed.only().attributes[names.OUTCOME] == "denied"


def test_batches_are_judged(governed: Governed, client: anthropic.Anthropic, wire: WireServer) -> None:
    """A batch asks models too: a rule sees its requests."""
    governed.start(
        """
        - id: MOD-004
          title: No big model in a batch
          at: model.before
          when: has(args.requests) && args.requests.exists(r, r.params.model == 'big')
          then: deny
        """
    )
    with pytest.raises(agentguard.CallDenied, match="MOD-004"):
        client.messages.batches.create(requests=[{"custom_id": "1", "params": {**ASK, "model": "big"}}])
    assert wire.asked == []


def test_counting_tokens_is_no_model_call(governed: Governed, client: anthropic.Anthropic) -> None:
    """`count_tokens` asks no model."""
    governed.start()
    assert client.messages.count_tokens(model="small", messages=HELLO).input_tokens == INPUT_TOKENS
    assert governed.spans() == []


def test_streams(governed: Governed, client: anthropic.Anthropic, wire: WireServer) -> None:
    """Raw events, the helper, and its text: each one call with the tokens of the last event."""
    governed.start()
    wire.pause_s = 0.003
    stream = client.messages.create(**ASK, stream=True)
    assert isinstance(stream, anthropic.Stream)
    assert [event.type for event in stream][-1] == "message_stop"
    with client.messages.stream(**ASK) as helper:
        assert "".join(helper.text_stream) == TEXT
        assert helper.get_final_message().usage.output_tokens == OUTPUT_TOKENS
    with client.messages.stream(**ASK) as helper:
        assert helper.get_final_text() == TEXT
    spans = governed.spans()
    assert len(spans) == 3
    for span in spans:
        assert span.attributes[names.OUTPUT_TOKENS] == OUTPUT_TOKENS
        assert span.attributes[names.INPUT_TOKENS] == INPUT_TOKENS
        assert span.attributes[names.REQUEST_STREAM] is True
        assert 0 < span.attributes[names.TIME_TO_FIRST_CHUNK_S] < span.duration_ns / 1e9


def test_stream_left_early(governed: Governed, client: anthropic.Anthropic) -> None:
    """Left in the middle: abandoned, output unknown."""
    governed.start()
    with client.messages.create(**ASK, stream=True) as stream:
        next(iter(stream))
    span = governed.only()
    assert span.attributes[names.STREAM_OUTCOME] == "abandoned"
    assert names.OUTPUT_TOKENS not in span.attributes


def test_retries(governed: Governed, client: anthropic.Anthropic, wire: WireServer) -> None:
    """The SDK's loop, seen by the hooks of its HTTP client."""
    governed.start()
    wire.refuse(429, 529)
    client.messages.create(**ASK)
    wire.refuse(429, 429, 429)
    with pytest.raises(anthropic.RateLimitError):
        client.messages.create(**ASK)
    retried, failed = governed.spans()
    assert retried.attributes[names.HTTP_RESEND_COUNT] == 2
    assert failed.attributes[names.HTTP_RESEND_COUNT] == 2
    assert failed.attributes[names.ERROR_TYPE] == "rate_limit_error"


def test_raw_responses(governed: Governed, client: anthropic.Anthropic) -> None:
    """They are the SDK's, and counted."""
    governed.start()
    raw = client.messages.with_raw_response.create(**ASK)
    assert raw.parse().content[0].text == TEXT
    with client.messages.with_streaming_response.create(**ASK) as response:
        assert response.parse().content[0].text == TEXT
    streamed = client.messages.with_raw_response.create(**ASK, stream=True)
    assert [event.type for event in streamed.parse()][-1] == "message_stop"
    assert [span.attributes.get(names.OUTPUT_TOKENS) for span in governed.spans()] == [OUTPUT_TOKENS] * 3


def test_the_client_stays_itself(governed: Governed, client: anthropic.Anthropic) -> None:
    """Same object and type; twice is once; copies are governed once."""
    governed.start()
    assert type(client) is anthropic.Anthropic
    assert agentguard.wrap(client) is client
    copied = agentguard.wrap(client.with_options(max_retries=0))
    assert (type(copied), copied.max_retries) == (anthropic.Anthropic, 0)
    copied.messages.create(**ASK)
    assert len(governed.spans()) == 1


def test_its_middleware_runs(governed: Governed, wire: WireServer) -> None:
    """The SDK's own middleware sees each attempt, as without agentguard."""
    governed.start()
    seen = []

    def middleware(request: Any, call_next: Any) -> Any:
        response = call_next(request)
        seen.append(response.http_response.status_code)
        return response

    http = anthropic.DefaultHttpxClient(trust_env=False)
    with anthropic.Anthropic(
        base_url=wire.url, api_key="none", http_client=http, middleware=[middleware]
    ) as bare:
        wire.refuse(429)
        assert agentguard.wrap(bare).messages.create(**ASK).content[0].text == TEXT
    assert seen == [429, 200]
    assert governed.only().attributes[names.HTTP_RESEND_COUNT] == 1


def test_inside_a_model_function_it_is_one_span(governed: Governed, client: anthropic.Anthropic) -> None:
    """One span, tokens once."""
    governed.start()

    @agentguard.model
    def ask() -> str:
        return client.messages.create(**ASK).content[0].text

    with agentguard.run() as this:
        assert ask() == TEXT
        assert this.tokens == INPUT_TOKENS + OUTPUT_TOKENS
    span = governed.only()
    assert (span.name, span.attributes[names.OUTPUT_TOKENS]) == ("chat small", OUTPUT_TOKENS)


def test_tool_runner_tells_the_model_of_a_denial(
    governed: Governed, client: anthropic.Anthropic, wire: WireServer
) -> None:
    """The SDK runs a guarded tool by itself: a denied one does not run, and the model reads why."""
    governed.start(
        """
        - id: REF-001
          title: Refunds up to 100
          at: tool.before
          when: tool.name == 'refund' && args.amount_usd > 100.0
          then: deny
        """
    )
    ran = []

    @anthropic.beta_tool
    @agentguard.tool(effect="write")
    def refund(amount_usd: float) -> str:
        """Pay money back.

        Args:
            amount_usd: How much.
        """
        ran.append(amount_usd)
        return "done"

    def reply(asked: Asked) -> Any:
        if len(wire.asked) > 1:
            return answer(asked)
        use = {"type": "tool_use", "id": "t1", "name": "refund", "input": {"amount_usd": 900.0}}
        return {**answer(asked), "content": [use], "stop_reason": "tool_use"}  # type: ignore[dict-item]

    wire.answer = reply
    runner = client.beta.messages.tool_runner(**ASK, tools=[refund])
    assert runner.until_done().content[0].text == TEXT
    assert ran == []
    result = wire.asked[-1].body["messages"][-1]["content"][0]
    assert result["is_error"] is True
    assert "Denied by policy REF-001" in json.dumps(result["content"])
    assert sorted(span.kind for span in governed.spans()) == ["model", "model", "tool"]


def test_async(governed: Governed, wire: WireServer) -> None:
    """The async client: answers, streams, retries, denials."""
    governed.start(NO_BIG_MODEL)

    async def scene() -> None:
        http = anthropic.DefaultAsyncHttpxClient(trust_env=False)
        bare = anthropic.AsyncAnthropic(base_url=wire.url, api_key="none", http_client=http)
        async with agentguard.wrap(bare) as client:
            wire.refuse(429)
            assert (await client.messages.create(**ASK)).content[0].text == TEXT
            stream = await client.messages.create(**ASK, stream=True)
            assert isinstance(stream, anthropic.AsyncStream)
            assert [event.type async for event in stream][-1] == "message_stop"
            async with client.messages.stream(**ASK) as helper:
                assert "".join([word async for word in helper.text_stream]) == TEXT
            raw = await client.messages.with_raw_response.create(**ASK)
            assert (await raw.parse()).content[0].text == TEXT
            count = len(wire.asked)
            with pytest.raises(agentguard.CallDenied):
                await client.messages.create(**{**ASK, "model": "big"})
            with pytest.raises(agentguard.CallDenied):
                await client.with_options(timeout=3).messages.create(**{**ASK, "model": "big"}, stream=True)
            assert len(wire.asked) == count

    asyncio.run(scene())
    spans = governed.spans()
    assert [span.attributes.get(names.OUTPUT_TOKENS) for span in spans[:4]] == [OUTPUT_TOKENS] * 4
    assert spans[0].attributes[names.HTTP_RESEND_COUNT] == 1


def test_beside_its_native_spans(
    governed: Governed, client: anthropic.Anthropic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a provider of the application the SDK makes a span too: in one trace, counted once."""
    provider = TracerProvider()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    governed.start()
    with agentguard.run() as this:
        client.messages.create(**ASK)
        assert this.tokens == INPUT_TOKENS + OUTPUT_TOKENS
    spans = governed.spans()
    assert len({span.trace_id for span in spans}) == 1
    counted = [span for span in spans if names.OUTPUT_TOKENS in span.attributes]
    assert len(counted) == 1
    assert sum(span.attributes.get(names.OUTPUT_TOKENS, 0) for span in spans) == OUTPUT_TOKENS
    assert len(spans) == 2, "the SDK's own span is there"


def _said(stream: Any) -> str:
    """What the events of a stream say."""
    return "".join(getattr(e.delta, "text", "") for e in stream if e.type == "content_block_delta")


def test_a_card_over_many_chunks(
    governed: Governed, client: anthropic.Anthropic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rule takes a number out that is split over events; the helper's snapshot is made of what is left."""
    say_a_card(monkeypatch)
    governed.start(CARD_OUT)
    assert _said(client.messages.create(**ASK, stream=True)) == REDACTED
    with client.messages.stream(**ASK) as helper:
        assert "".join(helper.text_stream) == REDACTED
        assert helper.get_final_text() == REDACTED
    assert [span.attributes[names.OUTPUT_TOKENS] for span in governed.spans()] == [OUTPUT_TOKENS] * 2


def test_a_card_over_many_chunks_stops_the_stream(
    governed: Governed, client: anthropic.Anthropic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No digit of the number is shown before the stream ends with the reason."""
    say_a_card(monkeypatch)
    governed.start(NO_CARD)
    shown: list[Any] = []
    with pytest.raises(agentguard.CallDenied, match="CARD-1"):
        for event in client.messages.create(**ASK, stream=True):
            shown.append(event)
    with pytest.raises(agentguard.CallDenied, match="CARD-1"), client.messages.stream(**ASK) as helper:
        for event in helper:
            shown.append(event)
    assert "Card" not in str(shown)


FALLBACK = """
- id: FBK-001
  title: The big model is too dear for this
  at: model.before
  when: model.name == 'big'
  then: { fallback: { model: small } }
"""


@pytest.mark.parametrize("is_stream", [False, True])
def test_another_model_is_asked(
    governed: Governed, client: anthropic.Anthropic, wire: WireServer, is_stream: bool
) -> None:
    """The request that leaves names the other model; span and decision name both."""
    governed.start(FALLBACK)
    asked = {**ASK, "model": "big"}
    if is_stream:
        with client.messages.stream(**asked) as stream:
            assert stream.get_final_text() == TEXT
    else:
        client.messages.create(**asked)
    assert [one.body["model"] for one in wire.asked] == ["small"]
    assert governed.only().attributes[names.FALLBACK_FROM] == "big"
    record = governed.decisions()[0].record
    assert (record.model, record.requested) == ("small", "big")
