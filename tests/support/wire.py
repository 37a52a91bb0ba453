"""
A model server on loopback that speaks what the SDKs of OpenAI, Anthropic and Google expect.

It answers every question with the same few words and exact token counts, whole or as a stream; refusals
can be ordered, one for each request. What it was asked is kept, so that a test sees what was really sent.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

INPUT_TOKENS, OUTPUT_TOKENS = 12, 5
WORDS = ("Good", " day", " to", " you")
TEXT = "".join(WORDS)


class Asked(NamedTuple):
    """One request that arrived."""

    path: str
    headers: dict[str, str]
    body: Any


class Refusal(NamedTuple):
    """An answer with an error."""

    status: int
    headers: dict[str, str]


Events = list[tuple[str, Any]]
Answer = Callable[[Asked], "dict[str, Any] | Events"]


class WireServer:
    """The server, as a context manager."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answer: Answer = answer
        self.pause_s = 0.0
        """Between two events of a stream."""
        self._refusals: deque[Refusal] = deque()
        self._http = _Http(("127.0.0.1", 0), _Handler)
        self._http.wire = self
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Address without a path."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        """Port on loopback."""
        return self._http.server_address[1]

    def refuse(self, *statuses: int) -> None:
        """Refuse the next requests, one each; retries may follow at once."""
        self._refusals.extend(Refusal(s, {"retry-after-ms": "5", "retry-after": "0"}) for s in statuses)

    def take_refusal(self) -> Refusal | None:
        """Give the refusal for this request."""
        return self._refusals.popleft() if self._refusals else None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    wire: WireServer

    def handle_error(self, request: object, client_address: object) -> None:
        """Pass over clients that hang up."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._json(200, {"object": "list", "data": [], "models": []}, {})

    def do_POST(self) -> None:
        wire: WireServer = self.server.wire  # type: ignore[attr-defined]
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            body = json.loads(raw) if raw else None
        except ValueError:
            body = raw
        asked = Asked(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
        wire.asked.append(asked)
        refusal = wire.take_refusal()
        if refusal is not None:
            error = {
                "message": "slow down",
                "type": "rate_limit_error",
                "code": "rate_limited",
                "status": "RESOURCE_EXHAUSTED",
            }
            if "generateContent" in asked.path.lower():
                error["code"] = refusal.status  # type: ignore[assignment]
            self._json(refusal.status, {"type": "error", "error": error}, refusal.headers)
            return
        given = wire.answer(asked)
        if isinstance(given, dict):
            self._json(200, given, {})
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            for piece in _written(given):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.flush()
                time.sleep(wire.pause_s)
            self.wfile.write(b"0\r\n\r\n")
            self.wfile.flush()
        except OSError:
            self.close_connection = True  # The client has left the stream.

    def _json(self, status: int, body: dict[str, Any], headers: dict[str, str]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()


def _written(events: Events) -> Iterator[bytes]:
    for name, data in events:
        text = data if isinstance(data, str) else json.dumps(data)
        yield (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()


def answer(asked: Asked) -> dict[str, Any] | Events:
    """Answer in the protocol that the path belongs to."""
    path = asked.path.partition("?")[0]
    if path.endswith("/chat/completions"):
        return _openai_chat(asked.body)
    if path.endswith("/responses"):
        return _openai_responses(asked.body)
    if path.endswith("/embeddings"):
        return {
            "object": "list",
            "model": asked.body["model"],
            "data": [{"object": "embedding", "index": 0, "embedding": [0.25, 0.5]}],
            "usage": {"prompt_tokens": INPUT_TOKENS, "total_tokens": INPUT_TOKENS},
        }
    if path.endswith("/v1/messages"):
        return _anthropic(asked.body)
    if path.endswith("/count_tokens"):
        return {"input_tokens": INPUT_TOKENS}
    if path.endswith(":generateContent"):
        return _google(asked.body, TEXT, "STOP")
    if path.endswith(":streamGenerateContent"):
        return [
            ("", _google(asked.body, word, "STOP" if word is WORDS[-1] else None, n))
            for n, word in enumerate(WORDS, 2)
        ]
    if path.endswith("EmbedContents"):
        return {"embeddings": [{"values": [0.25, 0.5]}]}
    return {"id": "other", "object": "other"}


def _openai_chat(body: dict[str, Any]) -> dict[str, Any] | Events:
    head = {"id": "chatcmpl-1", "created": 1_790_000_000, "model": body["model"] + "-2026"}
    usage = {
        "prompt_tokens": INPUT_TOKENS,
        "completion_tokens": OUTPUT_TOKENS,
        "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
    }
    tool = next(iter(body.get("tools") or ()), None)
    if tool is not None and body["messages"][-1]["role"] == "user":
        call = {
            "id": "call_1",
            "type": "function",
            "function": {
                "name": tool["function"]["name"],
                "arguments": '{"order": "A-1", "amount_usd": 900.0}',
            },
        }
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
        return {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
    if not body.get("stream"):
        choice = {"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}
        return {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
    head["object"] = "chat.completion.chunk"
    events: Events = [
        ("", {**head, "choices": [{"index": 0, "delta": {"role": "assistant", "content": word}}]})
        for word in WORDS
    ]
    events.append(("", {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
    if (body.get("stream_options") or {}).get("include_usage"):
        events.append(("", {**head, "choices": [], "usage": usage}))
    return [*events, ("", "[DONE]")]


def _openai_responses(body: dict[str, Any]) -> dict[str, Any] | Events:
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": TEXT, "annotations": []}],
    }
    whole = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_790_000_000,
        "status": "completed",
        "model": body["model"] + "-2026",
        "output": [message],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": INPUT_TOKENS,
            "input_tokens_details": {"cached_tokens": 4},
            "output_tokens": OUTPUT_TOKENS,
            "output_tokens_details": {"reasoning_tokens": 2},
            "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
        },
    }
    if not body.get("stream"):
        return whole
    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    events: Events = [
        ("response.created", {"type": "response.created", "sequence_number": 0, "response": begun})
    ]
    empty = {**message, "status": "in_progress", "content": []}
    at = {"item_id": "msg_1", "output_index": 0}
    events.append(
        (
            "response.output_item.added",
            {"type": "response.output_item.added", "sequence_number": 1, "output_index": 0, "item": empty},
        )
    )
    events.append(
        (
            "response.content_part.added",
            {
                "type": "response.content_part.added",
                "sequence_number": 2,
                **at,
                "content_index": 0,
                "part": {"type": "output_text", "text": "", "annotations": []},
            },
        )
    )
    events.extend(
        (
            "response.output_text.delta",
            {
                "type": "response.output_text.delta",
                "sequence_number": n,
                **at,
                "content_index": 0,
                "delta": word,
                "logprobs": [],
            },
        )
        for n, word in enumerate(WORDS, 3)
    )
    events.append(
        ("response.completed", {"type": "response.completed", "sequence_number": 9, "response": whole})
    )
    return events


def _anthropic(body: dict[str, Any]) -> dict[str, Any] | Events:
    usage = {
        "input_tokens": INPUT_TOKENS - 4,
        "cache_read_input_tokens": 4,
        "cache_creation_input_tokens": 0,
        "output_tokens": OUTPUT_TOKENS,
    }
    head = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "stop_sequence": None,
    }
    if not body.get("stream"):
        content = [{"type": "text", "text": TEXT}]
        return {**head, "content": content, "stop_reason": "end_turn", "usage": usage}
    begun = {**head, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    events: Events = [
        ("message_start", {"type": "message_start", "message": begun}),
        (
            "content_block_start",
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        ),
    ]
    events.extend(
        (
            "content_block_delta",
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}},
        )
        for word in WORDS
    )
    events.append(("content_block_stop", {"type": "content_block_stop", "index": 0}))
    events.append(
        (
            "message_delta",
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                "usage": {"output_tokens": OUTPUT_TOKENS},
            },
        )
    )
    return [*events, ("message_stop", {"type": "message_stop"})]


def _google(
    body: dict[str, Any], text: str, finish: str | None, output: int = OUTPUT_TOKENS
) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"text": text}]
    last = body["contents"][-1]
    if body.get("tools") and not any("functionResponse" in part for part in last["parts"]):
        name = body["tools"][0]["functionDeclarations"][0]["name"]
        parts = [{"functionCall": {"name": name, "args": {"order": "A-1", "amount_usd": 900.0}}}]
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    return {
        "candidates": [candidate],
        "usageMetadata": {
            "promptTokenCount": INPUT_TOKENS,
            "candidatesTokenCount": output,
            "totalTokenCount": INPUT_TOKENS + output,
        },
        "modelVersion": "gemini-test-001",
        "responseId": "resp-1",
    }
