"""The real OpenAI SDK through the decorators: tokens, streams, tool calls, retries, errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

import agentguard
from agentguard.cli.demo.agent import TOOLS, Desk, build_agent
from agentguard.cli.demo.brain import NO_USAGE
from agentguard.cli.demo.server import MODEL, Fault, ModelServer
from agentguard.values import SpanRecord
from agentguard.values import attributes as names

openai = pytest.importorskip("openai")

Read = Callable[[], list[SpanRecord]]
HELLO = [{"role": "user", "content": "Hello, who are you?"}]


@agentguard.model(provider="openai", model=MODEL)
def ask(client: openai.OpenAI, messages: object = HELLO, **options: object) -> object:
    """One request."""
    return client.chat.completions.create(model=MODEL, messages=messages, **options)


def only(spans: list[SpanRecord]) -> SpanRecord:
    """The one span there is."""
    (span,) = spans
    return span


def test_whole_answer(spans: Read, client: openai.OpenAI) -> None:
    """One answer gives one span with the SDK's own token counts, model, id and finish reason."""
    answer = ask(client)
    span = only(spans())
    assert (span.name, span.kind, span.otel_kind) == (f"chat {MODEL}", "model", "client")
    assert span.status == "ok" or span.status == "unset"
    assert span.attributes[names.OPERATION_NAME] == "chat"
    assert span.attributes[names.PROVIDER_NAME] == "openai"
    assert span.attributes[names.REQUEST_MODEL] == MODEL
    assert span.attributes[names.RESPONSE_MODEL] == answer.model
    assert span.attributes[names.RESPONSE_ID] == answer.id
    assert list(span.attributes[names.RESPONSE_FINISH_REASONS]) == ["stop"]
    assert span.attributes[names.INPUT_TOKENS] == answer.usage.prompt_tokens
    assert span.attributes[names.OUTPUT_TOKENS] == answer.usage.completion_tokens
    assert names.HTTP_RESEND_COUNT not in span.attributes


def test_the_result_is_the_sdks_own(spans: Read, client: openai.OpenAI) -> None:
    """The decorator hands over the SDK's object itself."""
    assert type(ask(client)).__module__.startswith("openai.types.chat")
    assert len(spans()) == 1


def test_stream(spans: Read, client: openai.OpenAI) -> None:
    """A stream's tokens come from its last chunk, and the time to its first chunk is known."""
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    span = only(spans())
    assert span.attributes[names.INPUT_TOKENS] == chunks[-1].usage.prompt_tokens
    assert span.attributes[names.OUTPUT_TOKENS] == chunks[-1].usage.completion_tokens
    assert 0 < span.attributes[names.TIME_TO_FIRST_CHUNK_S] <= span.duration_ns / 1e9
    assert list(span.attributes[names.RESPONSE_FINISH_REASONS]) == ["stop"]


def test_stream_as_a_context_manager(spans: Read, client: openai.OpenAI) -> None:
    """The SDK's stream keeps its ways of being used: `with`, `response`, `close`."""
    with ask(client, stream=True, stream_options={"include_usage": True}) as stream:
        assert stream.response.status_code == 200
        assert len(list(stream)) > 2
    assert only(spans()).attributes[names.OUTPUT_TOKENS] > 0


def test_generator_over_a_stream(spans: Read, client: openai.OpenAI) -> None:
    """A generator function that yields the chunks is measured as a stream, too."""

    @agentguard.model(provider="openai", model=MODEL)
    def pieces() -> Iterator[object]:
        yield from client.chat.completions.create(
            model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}
        )

    last = list(pieces())[-1]
    assert only(spans()).attributes[names.OUTPUT_TOKENS] == last.usage.completion_tokens


def test_stream_without_usage_is_unknown_not_zero(spans: Read, client: openai.OpenAI) -> None:
    """Where the client did not ask for usage, the span says that it is missing."""
    list(ask(client, stream=True))
    span = only(spans())
    assert names.OUTPUT_TOKENS not in span.attributes
    assert span.attributes[names.USAGE_MISSING] is True


def test_stream_left_early(spans: Read, client: openai.OpenAI) -> None:
    """A stream that is closed after its first chunk is abandoned, with unknown usage."""
    stream = ask(client, stream=True, stream_options={"include_usage": True})
    next(iter(stream))
    stream.close()
    span = only(spans())
    assert span.attributes[names.STREAM_OUTCOME] == "abandoned"
    assert names.OUTPUT_TOKENS not in span.attributes


def test_429_then_200_is_one_retry(spans: Read, client: openai.OpenAI, server: ModelServer) -> None:
    """The SDK's silent retry is on the span: one, with the tokens of the answer that came."""
    server.fail_next(Fault(429, 5))
    answer = ask(client)
    span = only(spans())
    assert dict(server.statuses) == {429: 1, 200: 1}
    assert span.attributes[names.HTTP_RESEND_COUNT] == 1
    assert span.attributes[names.OUTPUT_TOKENS] == answer.usage.completion_tokens
    assert span.status != "error"
    (retry,) = [event for event in span.events if event.name == names.EVENT_RETRY]
    assert retry.attributes[names.HTTP_STATUS_CODE] == 429


def test_429_then_200_in_a_stream(spans: Read, client: openai.OpenAI, server: ModelServer) -> None:
    """The same for a stream."""
    server.fail_next(Fault(429, 5))
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    span = only(spans())
    assert span.attributes[names.HTTP_RESEND_COUNT] == 1
    assert span.attributes[names.OUTPUT_TOKENS] == chunks[-1].usage.completion_tokens


def test_429_until_the_sdk_gives_up(spans: Read, client: openai.OpenAI, server: ModelServer) -> None:
    """Three refusals are two retries and the provider's error code; the exception is the SDK's own."""
    server.fail_next(*[Fault(429, 1)] * 3)
    with pytest.raises(openai.RateLimitError):
        ask(client)
    span = only(spans())
    assert span.status == "error"
    assert span.attributes[names.ERROR_TYPE] == "rate_limit_exceeded"
    assert span.attributes[names.HTTP_RESEND_COUNT] == 2


def test_connection_error_by_class(spans: Read) -> None:
    """Nobody listens: the class of the SDK's exception, and nothing of its message."""
    http = openai.DefaultHttpxClient(trust_env=False)
    with (
        openai.OpenAI(
            base_url="http://127.0.0.1:9", api_key="none", http_client=http, max_retries=0
        ) as client,
        pytest.raises(openai.APIConnectionError),
    ):
        ask(client)
    span = only(spans())
    assert (span.status, span.attributes[names.ERROR_TYPE]) == ("error", "openai.APIConnectionError")
    assert span.status_description in ("", "openai.APIConnectionError")


def test_missing_usage_of_a_gateway(spans: Read, client: openai.OpenAI, server: ModelServer) -> None:
    """An answer without usage is marked, not counted as zero."""
    server.behaviour = NO_USAGE
    ask(client)
    span = only(spans())
    assert span.attributes[names.USAGE_MISSING] is True
    assert names.OUTPUT_TOKENS not in span.attributes


@pytest.mark.parametrize("is_streaming", [False, True])
def test_agent_with_a_tool_call(
    spans: Read, client: openai.OpenAI, server: ModelServer, is_streaming: bool
) -> None:
    """Agent, two model calls and a tool in one trace; the agent's total is what the server billed."""
    desk = Desk()
    agent = build_agent(client, desk, model=MODEL, is_streaming=is_streaming)
    server.fail_next(Fault(429, 5))
    assert agent.answer("Where is my order A-1042?").startswith("Good news:")
    found = spans()
    by_kind = {kind: [span for span in found if span.kind == kind] for kind in ("agent", "model", "tool")}
    assert [len(group) for group in by_kind.values()] == [1, 2, 1]
    (root,) = by_kind["agent"]
    assert {span.trace_id for span in found} == {root.trace_id}
    assert {span.parent_span_id for span in found} == {"", root.span_id}
    assert by_kind["tool"][0].name == "execute_tool lookup_order"
    assert sum(span.attributes[names.OUTPUT_TOKENS] for span in by_kind["model"]) == server.output_tokens
    assert root.attributes[names.USAGE_TOTAL_OUTPUT_TOKENS] == server.output_tokens
    assert [span.attributes.get(names.HTTP_RESEND_COUNT, 0) for span in by_kind["model"]] == [1, 0]
    assert list(by_kind["model"][0].attributes[names.RESPONSE_FINISH_REASONS]) == ["tool_calls"]
    assert desk.lookups == 1


def test_no_content_by_default(spans: Read, client: openai.OpenAI) -> None:
    """Neither question nor answer nor arguments are in the record."""
    agent = build_agent(client, Desk(), model=MODEL)
    answer = agent.answer("Where is my order A-1042? My name is Quentin Needle.")
    written = json.dumps([(span.name, dict(span.attributes), span.events) for span in spans()], default=str)
    assert "Needle" not in written
    assert "A-1042" not in written
    assert answer[:20] not in written


def test_async_client(spans: Read, server: ModelServer) -> None:
    """Coroutine, async stream and retry of the async client, at the same time."""

    @agentguard.model(provider="openai", model=MODEL)
    async def ask_async(client: openai.AsyncOpenAI, **options: object) -> object:
        return await client.chat.completions.create(model=MODEL, messages=HELLO, **options)

    @agentguard.model(provider="openai", model=MODEL)
    async def pieces(client: openai.AsyncOpenAI) -> AsyncIterator[object]:
        options = {"stream": True, "stream_options": {"include_usage": True}}
        async for chunk in await client.chat.completions.create(model=MODEL, messages=HELLO, **options):
            yield chunk

    async def scene() -> list[int]:
        http = openai.DefaultAsyncHttpxClient(trust_env=False)
        async with openai.AsyncOpenAI(base_url=server.url, api_key="none", http_client=http) as bare:
            client = agentguard.wrap(bare)
            server.fail_next(Fault(429, 5))
            first = await ask_async(client)
            streamed, generated = await asyncio.gather(
                ask_async(client, stream=True, stream_options={"include_usage": True}),
                collect(pieces(client)),
            )
            chunks = [chunk async for chunk in streamed]
        return [
            first.usage.completion_tokens,
            chunks[-1].usage.completion_tokens,
            generated[-1].usage.completion_tokens,
        ]

    async def collect(stream: AsyncIterator[object]) -> list[object]:
        return [chunk async for chunk in stream]

    expected = asyncio.run(scene())
    found = spans()
    assert sorted(span.attributes[names.OUTPUT_TOKENS] for span in found) == sorted(expected)
    assert sorted(span.attributes.get(names.HTTP_RESEND_COUNT, 0) for span in found) == [0, 0, 1]


def test_tools_are_offered_as_the_api_wants_them(client: openai.OpenAI) -> None:
    """The example's tool descriptions are valid for the SDK: it asks for the one that fits."""
    answer = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Where is B-7?"}], tools=list(TOOLS)
    )
    assert answer.choices[0].message.tool_calls[0].function.name == "lookup_order"
