"""Streams of the real SDKs, from a server on loopback, watched."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from agentguard.capture import watch_stream
from agentguard.values import Usage

ASK = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def chat(delta: dict[str, Any] | None, finish: str | None = None, usage: Any = None) -> dict[str, Any]:
    """One chunk of a chat completion."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {
        "id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, "usage": usage,
    }  # fmt: skip


CHAT = [
    chat({"role": "assistant", "content": ""}),
    chat({"content": "Hel"}),
    chat({"content": "lo"}),
    chat({}, "stop"),
    chat(None, usage={"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}),
]
RESPONSE = {
    "id": "r1", "object": "response", "created_at": 1, "model": "m", "status": "completed", "output": [],
    "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
    "usage": {"input_tokens": 9, "output_tokens": 2, "total_tokens": 11,
              "input_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 0},
              "output_tokens_details": {"reasoning_tokens": 1}},
}  # fmt: skip
RESPONSES = [
    {"type": "response.created", "sequence_number": 0, "response": {**RESPONSE, "usage": None, "status": "in_progress"}},
    {"type": "response.output_text.delta", "sequence_number": 1, "item_id": "i", "output_index": 0,
     "content_index": 0, "delta": "Hello", "logprobs": []},
    {"type": "response.completed", "sequence_number": 2, "response": RESPONSE},
]  # fmt: skip
MESSAGES = [
    {"type": "message_start", "message": {"id": "a1", "type": "message", "role": "assistant", "model": "m", "content": [],
     "stop_reason": None, "stop_sequence": None,
     "usage": {"input_tokens": 4, "output_tokens": 1, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 2}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
]  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    """Answers each path with the events of its dialect."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        if self.path.endswith("/chat/completions"):
            lines = [f"data: {json.dumps(event)}\n\n" for event in CHAT] + ["data: [DONE]\n\n"]
        else:
            events = RESPONSES if self.path.endswith("/responses") else MESSAGES
            lines = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]
        with contextlib.suppress(ConnectionError):  # the client may leave early
            for line in lines:
                self.wfile.write(line.encode())

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Where the server listens."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


class Observer:
    """Remembers what it was told."""

    context = None

    def __init__(self) -> None:
        self.firsts = 0
        self.ends: list[tuple[Usage | None, str]] = []

    def first_chunk(self) -> None:
        self.firsts += 1

    def end(self, usage: Usage | None, outcome: str, error: BaseException | None) -> None:
        self.ends.append((usage, outcome))

    def check(self, outcome: str = "ok", tokens: tuple[int, int] | None = (9, 2)) -> None:
        """Whether it heard of one first chunk and one end with these tokens."""
        ((usage, said),) = self.ends
        assert said == outcome
        assert self.firsts == 1
        assert (None if usage is None else (usage.input_tokens, usage.output_tokens)) == tokens


@pytest.fixture
def observer() -> Observer:
    """A fresh one."""
    return Observer()


@pytest.fixture
def openai_client(url: str) -> Iterator[Any]:
    """The real client of OpenAI."""
    openai = pytest.importorskip("openai")
    with openai.OpenAI(api_key="k", base_url=f"{url}/v1", max_retries=0) as client:
        yield client


@pytest.fixture
def anthropic_client(url: str) -> Iterator[Any]:
    """The real client of Anthropic."""
    anthropic = pytest.importorskip("anthropic")
    with anthropic.Anthropic(api_key="k", base_url=url, max_retries=0) as client:
        yield client


def test_openai_chat(openai_client: Any, observer: Observer) -> None:
    """The chunks of `create(stream=True)`; the proxy is a Stream to isinstance."""
    openai = pytest.importorskip("openai")
    stream = watch_stream(openai_client.chat.completions.create(**ASK, stream=True), observer)
    assert isinstance(stream, openai.Stream)
    assert "".join(c.choices[0].delta.content or "" for c in stream if c.choices) == "Hello"
    observer.check()


def test_openai_chat_left_early(openai_client: Any, observer: Observer) -> None:
    """Left after the first word: abandoned, and the tokens are unknown."""
    with watch_stream(openai_client.chat.completions.create(**ASK, stream=True), observer) as stream:
        for chunk in stream:
            if chunk.choices[0].delta.content:
                break
    observer.check("abandoned", None)


def test_openai_chat_helper(openai_client: Any, observer: Observer) -> None:
    """The manager of `chat.completions.stream` hands out a watched stream."""
    with watch_stream(openai_client.chat.completions.stream(**ASK), observer) as stream:
        assert stream.get_final_completion().choices[0].message.content == "Hello"
    observer.check()


def test_openai_responses(openai_client: Any, observer: Observer) -> None:
    """The events of the Responses API."""
    stream = watch_stream(openai_client.responses.create(model="m", input="Hi", stream=True), observer)
    assert [event.type for event in stream] == [event["type"] for event in RESPONSES]
    observer.check()


def test_anthropic_events(anthropic_client: Any, observer: Observer) -> None:
    """The events of `create(stream=True)`."""
    stream = watch_stream(anthropic_client.messages.create(**ASK, max_tokens=5, stream=True), observer)
    assert [event.type for event in stream] == [event["type"] for event in MESSAGES]
    observer.check()


def test_anthropic_helper(anthropic_client: Any, observer: Observer) -> None:
    """Reading only the texts still tells the tokens."""
    with watch_stream(anthropic_client.messages.stream(**ASK, max_tokens=5), observer) as stream:
        assert "".join(stream.text_stream) == "Hello"
        assert stream.get_final_text() == "Hello"
    observer.check()


def test_anthropic_final_message(anthropic_client: Any, observer: Observer) -> None:
    """Methods that consume the stream are watched too."""
    with watch_stream(anthropic_client.messages.stream(**ASK, max_tokens=5), observer) as stream:
        assert stream.get_final_message().usage.output_tokens == 2
    observer.check()


def test_async_clients(url: str) -> None:
    """The asynchronous twins."""
    openai = pytest.importorskip("openai")
    anthropic = pytest.importorskip("anthropic")

    async def main() -> None:
        async with openai.AsyncOpenAI(api_key="k", base_url=f"{url}/v1", max_retries=0) as client:
            observer = Observer()
            stream = watch_stream(await client.chat.completions.create(**ASK, stream=True), observer)
            assert len([chunk async for chunk in stream]) == len(CHAT)
            observer.check()
            observer = Observer()
            async with watch_stream(client.chat.completions.stream(**ASK), observer) as helper:
                await helper.get_final_completion()
            observer.check()
        async with anthropic.AsyncAnthropic(api_key="k", base_url=url, max_retries=0) as client:
            observer = Observer()
            async with watch_stream(client.messages.stream(**ASK, max_tokens=5), observer) as helper:
                assert [text async for text in helper.text_stream] == ["Hel", "lo"]
            observer.check()
            observer = Observer()
            stream = watch_stream(await client.messages.create(**ASK, max_tokens=5, stream=True), observer)
            async for event in stream:
                if event.type == "content_block_delta":
                    break
            await stream.close()
            ((usage, outcome),) = observer.ends
            assert outcome == "abandoned"
            assert usage is not None
            # The input is known; how much more the model would have written is not.
            assert (usage.input_tokens, usage.output_tokens) == (9, None)

    asyncio.run(main())
