"""`agentguard.wrap` on the real google-genai client: sync, async, streams, chats, automatic function calling."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

import agentguard
from agentguard.values import attributes as names
from tests.support.governed import Governed
from tests.support.split_card import CARD_OUT, NO_CARD, REDACTED, say_a_card
from tests.support.wire import INPUT_TOKENS, OUTPUT_TOKENS, TEXT, WireServer

genai = pytest.importorskip("google.genai")
types = pytest.importorskip("google.genai.types")
errors = pytest.importorskip("google.genai.errors")

HELLO = "Hello, I am Quentin Needle."
NO_BIG_MODEL = """
- id: MOD-001
  title: Only small models
  at: model.before
  when: model.name == 'big'
  then: deny
  record: required
"""


@pytest.fixture
def client(wire: WireServer) -> Iterator[genai.Client]:
    """The real client, wrapped."""
    options = types.HttpOptions(
        base_url=wire.url,
        retry_options=types.HttpRetryOptions(attempts=3, initial_delay=0.01, max_delay=0.02, jitter=0.0),
        client_args={"trust_env": False},
        async_client_args={"trust_env": False},
    )
    with genai.Client(api_key="none", http_options=options) as made:
        yield agentguard.wrap(made)


def test_an_answer_is_a_model_call(governed: Governed, client: genai.Client) -> None:
    """Parameters, tokens, model and id."""
    governed.start()
    config = types.GenerateContentConfig(
        max_output_tokens=50,
        temperature=0.5,
        top_k=4,
        stop_sequences=["END"],
        seed=7,
        response_mime_type="text/plain",
    )
    answer = client.models.generate_content(model="small", contents=HELLO, config=config)
    assert isinstance(answer, types.GenerateContentResponse)
    assert answer.text == TEXT
    span = governed.only()
    assert (span.name, span.kind, span.otel_kind) == ("generate_content small", "model", "client")
    expected = {
        names.PROVIDER_NAME: "gcp.gemini",
        names.REQUEST_MODEL: "small",
        names.REQUEST_MAX_TOKENS: 50,
        names.REQUEST_TEMPERATURE: 0.5,
        names.REQUEST_SEED: 7,
        names.OUTPUT_TYPE: "text",
        names.INPUT_TOKENS: INPUT_TOKENS,
        names.OUTPUT_TOKENS: OUTPUT_TOKENS,
        names.RESPONSE_MODEL: "gemini-test-001",
        names.RESPONSE_ID: "resp-1",
    }
    assert {name: span.attributes.get(name) for name in expected} == expected
    assert "Needle" not in json.dumps(dict(span.attributes), default=str)


def test_parameters_in_a_dict(governed: Governed, client: genai.Client) -> None:
    """A configuration that is a dict is read as well."""
    governed.start()
    client.models.generate_content(model="small", contents=HELLO, config={"max_output_tokens": 9})
    assert governed.only().attributes[names.REQUEST_MAX_TOKENS] == 9


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.models.generate_content(model="big", contents=HELLO),
        lambda c: list(c.models.generate_content_stream(model="big", contents=HELLO)),
        lambda c: c.models.embed_content(model="big", contents=HELLO),
        lambda c: c.chats.create(model="big").send_message(HELLO),
        lambda c: list(c.chats.create(model="big").send_message_stream(HELLO)),
        lambda c: c.batches.create(model="big", src=[{"contents": [{"parts": [{"text": "x"}]}]}]),
    ],
)
def test_a_denied_request_is_not_sent(
    governed: Governed, client: genai.Client, wire: WireServer, call: Any
) -> None:
    """Whatever the way, the server hears nothing."""
    governed.start(NO_BIG_MODEL)
    with pytest.raises(agentguard.CallDenied, match="MOD-001"):
        call(client)
    assert wire.asked == []


def test_stream(governed: Governed, client: genai.Client, wire: WireServer) -> None:
    """Tokens of the last chunk, time to the first."""
    governed.start()
    wire.pause_s = 0.005
    chunks = client.models.generate_content_stream(model="small", contents=HELLO)
    assert "".join(chunk.text for chunk in chunks) == TEXT
    span = governed.only()
    assert span.attributes[names.OUTPUT_TOKENS] == OUTPUT_TOKENS
    assert span.attributes[names.REQUEST_STREAM] is True
    assert 0 < span.attributes[names.TIME_TO_FIRST_CHUNK_S] < span.duration_ns / 1e9


def test_stream_left_early(governed: Governed, client: genai.Client, wire: WireServer) -> None:
    """A generator that is closed after one chunk: abandoned, output unknown."""
    governed.start()
    wire.pause_s = 0.005
    chunks = client.models.generate_content_stream(model="small", contents=HELLO)
    next(chunks)
    chunks.close()
    del chunks
    span = governed.only()
    assert span.attributes[names.STREAM_OUTCOME] == "abandoned"
    assert names.OUTPUT_TOKENS not in span.attributes


def test_chat(governed: Governed, client: genai.Client) -> None:
    """Each message of a chat is a call."""
    governed.start()
    chat = client.chats.create(model="small")
    assert chat.send_message(HELLO).text == TEXT
    assert "".join(chunk.text for chunk in chat.send_message_stream(HELLO)) == TEXT
    assert chat.get_history()[0].parts[0].text == HELLO
    assert [span.attributes[names.OUTPUT_TOKENS] for span in governed.spans()] == [OUTPUT_TOKENS] * 2


def test_embeddings(governed: Governed, client: genai.Client) -> None:
    """Embeddings are of their own kind."""
    governed.start()
    client.models.embed_content(model="e", contents="hi", config={"output_dimensionality": 2})
    span = governed.only()
    assert (span.name, span.kind) == ("embeddings e", "embeddings")
    assert span.attributes[names.EMBEDDINGS_DIMENSION_COUNT] == 2


def test_automatic_function_calling(governed: Governed, client: genai.Client, wire: WireServer) -> None:
    """The SDK calls a guarded tool by itself: two requests, one tool call; a denial is what the model reads."""
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

    @agentguard.tool(effect="write")
    def refund(order: str, amount_usd: float) -> str:
        """Pay money back."""
        ran.append(order)
        return "done"

    @agentguard.agent(name="desk")
    def desk() -> str:
        config = types.GenerateContentConfig(tools=[refund])
        return client.models.generate_content(model="small", contents=HELLO, config=config).text

    with agentguard.run() as this:
        assert desk() == TEXT
        assert (this.model_calls, this.tool_calls) == (2, 1)
    assert ran == []
    told = json.dumps(wire.asked[-1].body["contents"][-1])
    assert "Denied by policy REF-001" in told
    root, *inner = governed.spans()
    assert [span.kind for span in inner] == ["model", "tool", "model"]
    assert {span.parent_span_id for span in inner} == {root.span_id}


def test_retries(governed: Governed, client: genai.Client, wire: WireServer) -> None:
    """Tenacity inside the SDK, seen by the hooks of its HTTP client."""
    governed.start()
    wire.refuse(429, 503)
    client.models.generate_content(model="small", contents=HELLO)
    wire.refuse(429, 429, 429)
    with pytest.raises(errors.ClientError):
        client.models.generate_content(model="small", contents=HELLO)
    retried, failed = governed.spans()
    assert retried.attributes[names.HTTP_RESEND_COUNT] == 2
    assert failed.attributes[names.HTTP_RESEND_COUNT] == 2
    assert failed.attributes[names.ERROR_TYPE] == "RESOURCE_EXHAUSTED"


def test_redaction(governed: Governed, client: genai.Client, wire: WireServer) -> None:
    """Personal data is taken out of typed contents too."""
    governed.start(
        """
        - id: RED-001
          title: No mail addresses to the model
          at: model.before
          when: "true"
          then: { redact: [email] }
        """
    )
    contents = [types.Content(role="user", parts=[types.Part(text="I am ann@example.org")])]
    client.models.generate_content(model="small", contents=contents)
    client.models.generate_content(model="small", contents="I am ann@example.org")
    assert "example.org" not in json.dumps([asked.body for asked in wire.asked])
    assert "REDACTED" in json.dumps(wire.asked[0].body)


def test_a_rule_judges_the_answer(governed: Governed, client: genai.Client) -> None:
    """A denied answer is withheld: whole, and a stream before its first chunk."""
    governed.start(
        """
        - id: MOD-002
          title: No good day
          at: model.after
          when: >-
            has(result.candidates) || result.items.size() > 0
          then: deny
        """
    )
    with pytest.raises(agentguard.CallDenied):
        client.models.generate_content(model="small", contents=HELLO)
    with pytest.raises(agentguard.CallDenied):
        next(client.models.generate_content_stream(model="small", contents=HELLO))


def test_the_client_stays_itself(governed: Governed, client: genai.Client) -> None:
    """Same object and type; twice is once."""
    governed.start()
    assert type(client) is genai.Client
    assert agentguard.wrap(client) is client
    client.models.generate_content(model="small", contents=HELLO)
    assert len(governed.spans()) == 1


def test_inside_a_model_function_it_is_one_span(governed: Governed, client: genai.Client) -> None:
    """One span, tokens once; a stream inside as well."""
    governed.start()

    @agentguard.model
    def ask() -> str:
        return client.models.generate_content(model="small", contents=HELLO).text

    @agentguard.model
    def streamed() -> str:
        return "".join(c.text for c in client.models.generate_content_stream(model="small", contents=HELLO))

    with agentguard.run() as this:
        assert ask() == streamed() == TEXT
        assert this.tokens == 2 * (INPUT_TOKENS + OUTPUT_TOKENS)
    assert [span.attributes[names.OUTPUT_TOKENS] for span in governed.spans()] == [OUTPUT_TOKENS] * 2


def test_async(governed: Governed, client: genai.Client, wire: WireServer) -> None:
    """The async half: answers, streams, chats, retries, denials."""
    governed.start(NO_BIG_MODEL)

    async def scene() -> None:
        models = client.aio.models
        wire.refuse(429)
        assert (await models.generate_content(model="small", contents=HELLO)).text == TEXT
        stream = await models.generate_content_stream(model="small", contents=HELLO)
        assert "".join([chunk.text async for chunk in stream]) == TEXT
        chat = client.aio.chats.create(model="small")
        assert (await chat.send_message(HELLO)).text == TEXT
        count = len(wire.asked)
        with pytest.raises(agentguard.CallDenied):
            await models.generate_content(model="big", contents=HELLO)
        with pytest.raises(agentguard.CallDenied):
            async for _ in await models.generate_content_stream(model="big", contents=HELLO):
                pass
        assert len(wire.asked) == count
        await client.aio.aclose()

    asyncio.run(scene())
    spans = governed.spans()
    assert [span.attributes.get(names.OUTPUT_TOKENS) for span in spans[:3]] == [OUTPUT_TOKENS] * 3
    assert spans[0].attributes[names.HTTP_RESEND_COUNT] == 1


def test_an_unknown_version_is_refused() -> None:
    """A client whose requests cannot be found is not passed for a governed one."""

    class Client:
        __module__ = "google.genai.client"
        models = object()

    with pytest.raises(TypeError, match="does not know this version"):
        agentguard.wrap(Client())


def test_a_card_over_many_chunks(
    governed: Governed, client: genai.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rule takes a number out that is split over chunks, or stops the stream, sync and async."""
    say_a_card(monkeypatch)
    governed.start(CARD_OUT)
    ask = {"model": "small", "contents": HELLO}
    assert "".join(c.text or "" for c in client.models.generate_content_stream(**ask)) == REDACTED

    async def main() -> None:
        stream = await client.aio.models.generate_content_stream(**ask)
        assert "".join([c.text or "" async for c in stream]) == REDACTED
        await client.aio.aclose()

    asyncio.run(main())
    assert [span.attributes[names.OUTPUT_TOKENS] for span in governed.spans()] == [OUTPUT_TOKENS] * 2


def test_a_card_over_many_chunks_stops_the_stream(
    governed: Governed, client: genai.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No digit of the number is shown before the stream ends with the reason."""
    say_a_card(monkeypatch)
    governed.start(NO_CARD)
    shown: list[Any] = []
    with pytest.raises(agentguard.CallDenied, match="CARD-1"):
        for chunk in client.models.generate_content_stream(model="small", contents=HELLO):
            shown.append(chunk)
    assert "Card" not in str(shown)


FALLBACK = """
- id: FBK-001
  title: The big model is too dear for this
  at: model.before
  when: model.name == 'big'
  then: { fallback: { model: small } }
"""


@pytest.mark.parametrize("kind", ["plain", "stream", "async"])
def test_another_model_is_asked(
    governed: Governed, client: genai.Client, wire: WireServer, kind: str
) -> None:
    """The request that leaves names the other model; span and decision name both."""
    governed.start(FALLBACK)
    if kind == "plain":
        client.models.generate_content(model="big", contents=HELLO)
    elif kind == "stream":
        list(client.models.generate_content_stream(model="big", contents=HELLO))
    else:

        async def ask() -> None:
            await client.aio.models.generate_content(model="big", contents=HELLO)
            await client.aio.aclose()

        asyncio.run(ask())
    assert len(wire.asked) == 1
    assert "small" in wire.asked[0].path
    assert governed.only().attributes[names.FALLBACK_FROM] == "big"
    record = governed.decisions()[0].record
    assert (record.model, record.requested) == ("small", "big")
