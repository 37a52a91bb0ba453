"""Streams are watched, and behave as if they were not."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from opentelemetry import context as otel_context
from opentelemetry.context import Context

from agentguard.capture import StreamUsage, is_stream, watch_stream
from agentguard.values import Usage
from tests.support.look_alikes import as_objects


class Observer:
    """Remembers what it was told."""

    def __init__(self, context: Context | None = None) -> None:
        self.context = context
        self.first_chunks = 0
        self.ends: list[tuple[Usage | None, str, BaseException | None]] = []

    def first_chunk(self) -> Callable[[], object] | None:
        self.first_chunks += 1
        return None

    def end(self, usage: Usage | None, outcome: str, error: BaseException | None) -> None:
        self.ends.append((usage, outcome, error))

    @property
    def outcomes(self) -> list[str]:
        return [outcome for _, outcome, _ in self.ends]


def chat_chunk(content: str | None = None, *, finish: str | None = None, usage: Any = None) -> dict[str, Any]:
    """A chunk of OpenAI's chat completions."""
    choices = [] if usage else [{"index": 0, "delta": {"content": content}, "finish_reason": finish}]
    return {"id": "c", "model": "m", "choices": choices, "usage": usage}


CHAT_USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
CHAT = [chat_chunk(""), chat_chunk("Hi"), chat_chunk(finish="stop"), chat_chunk(usage=CHAT_USAGE)]
RESPONSES = [
    {"type": "response.created", "response": {"usage": None}},
    {"type": "response.output_text.delta", "delta": "H"},
    {"type": "response.output_text.done"},
    {
        "type": "response.completed",
        "response": {
            "id": "r", "model": "m", "status": "completed",
            "usage": {"input_tokens": 9, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 1}},
        },
    },
]  # fmt: skip
ANTHROPIC = [
    {"type": "message_start", "message": {"id": "a", "model": "m",
        "usage": {"input_tokens": 4, "output_tokens": 1, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 2}}},
    {"type": "content_block_start", "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "H"}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
]  # fmt: skip
GOOGLE = [
    {"candidates": [], "usage_metadata": {"prompt_token_count": 9, "candidates_token_count": None}},
    {"candidates": [{"content": {"parts": [{"text": "H"}]}}],
     "usage_metadata": {"prompt_token_count": 9, "candidates_token_count": 1}},
    {"candidates": [{"content": None, "finish_reason": "STOP"}],
     "usage_metadata": {"prompt_token_count": 9, "candidates_token_count": 2}},
]  # fmt: skip
LANGCHAIN = [
    {"content": "", "tool_call_chunks": [], "usage_metadata": None},
    {"content": "H", "tool_call_chunks": [], "usage_metadata": {"input_tokens": 9, "output_tokens": 1}},
    {"content": "", "tool_call_chunks": [], "chunk_position": "last", "usage_metadata": {"input_tokens": 0, "output_tokens": 1}},
]  # fmt: skip


@pytest.mark.parametrize("build", [lambda value: value, as_objects])
@pytest.mark.parametrize(
    ("chunks", "first"), [(CHAT, 1), (RESPONSES, 1), (ANTHROPIC, 2), (GOOGLE, 1), (LANGCHAIN, 1)]
)
def test_shapes(build: Any, chunks: list[Any], first: int) -> None:
    """Each dialect: the first content, the tokens, and that the stream says it is complete."""
    stream = StreamUsage()
    content = [stream.chunk(build(chunk)) for chunk in chunks]
    assert content.index(True) == first
    assert sum(content) == 1
    usage = stream.usage()
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (9, 2)
    assert stream.is_complete


def test_anthropic_names() -> None:
    """Model, id, reason and cache of Anthropic's stream are there; the input is the sum."""
    stream = StreamUsage()
    for chunk in ANTHROPIC:
        stream.chunk(chunk)
    assert stream.usage() == Usage(9, 2, 3, 2, None, "m", "a", ("end_turn",), "anthropic")


def test_no_usage_is_unknown() -> None:
    """Without a usage chunk the counts are None, not zero; how the answer ended is known all the same."""
    stream = StreamUsage()
    for chunk in CHAT[:-1]:
        stream.chunk(chunk)
    usage = stream.usage()
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.finish_reasons) == (None, None, ("stop",))
    assert stream.is_complete


@pytest.mark.parametrize("chunk", ["x", b"x", 5, None, object(), {"type": 5}, {"choices": [None]}, ()])
def test_odd_chunks(chunk: object) -> None:
    """Nothing raises on any chunk."""
    stream = StreamUsage()
    stream.chunk(chunk)
    assert stream.usage() is None


class Stream:
    """As an SDK's stream: iterator, context manager, close, attributes of its own."""

    def __init__(self, chunks: list[Any]) -> None:
        self.response = "response"
        self.closed = 0
        self._iterator = iter(chunks)

    def __iter__(self) -> Iterator[Any]:
        yield from self._iterator

    def __next__(self) -> Any:
        item = next(self._iterator)
        if isinstance(item, BaseException):
            raise item
        return item

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        self.closed += 1

    def until_done(self) -> Stream:
        for _ in self:
            pass
        return self


def test_read_to_the_end() -> None:
    """All chunks arrive, one first chunk, one end with the usage."""
    observer = Observer()
    stream = watch_stream(Stream(CHAT), observer)
    assert list(stream) == CHAT
    assert observer.first_chunks == 1
    del stream
    ((usage, outcome, error),) = observer.ends
    assert (outcome, error) == ("ok", None)
    assert usage is not None
    assert usage.input_tokens == 9


def test_a_break_is_abandonment_once_nobody_holds_it() -> None:
    """After `break` the stream may be read on; only when it is dropped is it abandoned."""
    observer = Observer()
    stream = watch_stream(Stream(CHAT), observer)
    for _ in stream:
        break
    assert observer.ends == []
    assert next(stream) == CHAT[1]
    del stream
    gc.collect()
    assert observer.ends == [(None, "abandoned", None)]


def test_a_break_after_the_last_word_is_no_abandonment() -> None:
    """Who stops once the answer is complete has lost nothing."""
    observer = Observer()
    with watch_stream(Stream(CHAT[:-1]), observer) as stream:
        for chunk in stream:
            if chunk["choices"][0]["finish_reason"]:
                break
    assert observer.outcomes == ["ok"]


def test_errors_pass_through() -> None:
    """The exception is the stream's own, and the observer sees it."""
    observer = Observer()
    broken = ConnectionError("reset")
    with pytest.raises(ConnectionError) as caught:
        list(watch_stream(Stream([CHAT[0], broken]), observer))
    assert caught.value is broken
    assert observer.ends == [(None, "error", broken)]


def test_an_error_of_the_consumer_in_with() -> None:
    """What the body of `with` raises ends the stream as an error, and the inner one is closed."""
    observer = Observer()
    inner = Stream(CHAT)
    with pytest.raises(ZeroDivisionError), watch_stream(inner, observer) as stream:
        raise ZeroDivisionError(next(stream))
    assert observer.outcomes == ["error"]
    assert inner.closed == 1


def test_close_abandons() -> None:
    """Closing before the end is abandonment, said once."""
    observer = Observer()
    stream = watch_stream(Stream(CHAT), observer)
    next(stream)
    stream.close()
    stream.close()
    assert observer.outcomes == ["abandoned"]


def test_the_proxy_looks_like_the_stream() -> None:
    """Class, attributes and representation are the inner stream's."""
    inner = Stream(CHAT)
    stream = watch_stream(inner, Observer())
    assert isinstance(stream, Stream)
    assert stream.response == "response"
    stream.response = "other"
    assert inner.response == "other"
    assert repr(stream) == repr(inner)
    with pytest.raises(AttributeError):
        _ = stream.nothing
    list(stream)


def test_methods_that_consume_are_watched() -> None:
    """`until_done` reads through the proxy."""
    observer = Observer()
    watch_stream(Stream(CHAT), observer).until_done()
    assert observer.outcomes == ["ok"]
    assert observer.ends[0][0] is not None


class StreamManager:
    """As `client.messages.stream(...)`: hands out the stream in `with`."""

    def __init__(self, chunks: list[Any]) -> None:
        self.stream = Stream(chunks)

    def __enter__(self) -> Stream:
        return self.stream

    def __exit__(self, *exc_info: object) -> None:
        self.stream.close()


def test_managers() -> None:
    """The stream that a manager hands out is watched, and told about once."""
    observer = Observer()
    with watch_stream(StreamManager(CHAT), observer) as stream:
        assert list(stream) == CHAT
    assert observer.outcomes == ["ok"]
    observer = Observer()
    with watch_stream(StreamManager(CHAT), observer) as stream:
        next(stream)
    assert observer.outcomes == ["abandoned"]


KEY = otel_context.create_key("test")


def test_steps_run_in_the_context_of_the_call() -> None:
    """Each step sees the call's context; between steps the consumer has its own."""
    inside = otel_context.set_value(KEY, "inside")
    seen: list[object] = []

    class Looking:
        def __next__(self) -> int:
            seen.append(otel_context.get_value(KEY))
            if len(seen) > 2:
                raise StopIteration
            return 1

        def __iter__(self) -> Looking:
            return self

    for _ in watch_stream(Looking(), Observer(inside)):
        assert otel_context.get_value(KEY) is None
    assert seen == ["inside"] * 3


class AsyncStream:
    """The asynchronous twin."""

    def __init__(self, chunks: list[Any]) -> None:
        self._iterator = iter(chunks)
        self.closed = 0

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        await asyncio.sleep(0)
        for item in self._iterator:
            if item == "hang":
                await asyncio.sleep(60)
            return item
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        self.closed += 1


def test_async_streams() -> None:
    """Read to the end, left early, cancelled, timed out: the outcome says which."""

    async def main() -> None:
        observer = Observer()
        assert [chunk async for chunk in watch_stream(AsyncStream(CHAT), observer)] == CHAT
        assert observer.outcomes == ["ok"]
        observer = Observer()
        async with watch_stream(AsyncStream(CHAT), observer) as stream:
            async for _ in stream:
                break
        assert observer.outcomes == ["abandoned"]
        observer = Observer()
        stream = watch_stream(AsyncStream([CHAT[0], "hang"]), observer)
        await anext(stream)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await anext(stream)
        assert observer.outcomes == ["cancelled"]
        observer = Observer()
        inner = AsyncStream(CHAT)
        stream = watch_stream(inner, observer)
        await stream.close()
        assert (inner.closed, observer.outcomes) == (1, ["abandoned"])

    asyncio.run(main())


def test_what_is_worth_watching() -> None:
    """Iterators and managers are streams; containers, files, generators and text are not."""
    assert is_stream(Stream([]))
    assert is_stream(AsyncStream([]))
    assert is_stream(StreamManager([]))
    assert is_stream(iter([1]))
    with Path(__file__).open(encoding="utf-8") as file:
        for value in ([1], "x", {}, (1,), 5, None, file, (x for x in [1])):
            assert not is_stream(value)
