"""
An OpenAI-compatible model server on loopback, scripted and deterministic in what it says.

Takes chat-completion requests from any client, gives whole answers, streams
with a usage chunk, tool calls, and the failures that were ordered. It counts
what it did, so that the demo can compare its own truth with what agentguard
saw. It listens on 127.0.0.1 only and never connects anywhere.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple, Self, cast

from agentguard.cli.demo.brain import TESTED, Behaviour, ToolRequest, Turn, count_tokens, next_turn
from agentguard.cli.demo.gateway import Upstream

MODEL = "support-1"
"""The name under which the model is served, whatever version answers."""

_SEATS_MAX = 2
_BODY_BYTES_MAX = 1 << 20
_WORDS_PER_CHUNK = 8


class Fault(NamedTuple):
    """One refusal to send instead of an answer."""

    status: int
    retry_after_ms: int = 20


class ModelServer:
    """
    The server, as a context manager.

    Args:
        seed:
            Decides the lengths of all answers.
        upstream:
            A real model that writes the answers; `None`: they are scripted. The
            failures that are ordered come from this server either way.
    """

    def __init__(self, *, seed: int = 7, upstream: Upstream | None = None) -> None:
        self.behaviour: Behaviour = TESTED
        """The version that answers from now on; may be set while requests run."""
        self.statuses: Counter[int] = Counter()
        """HTTP statuses sent, by status."""
        self.output_tokens = 0
        """Completion tokens billed so far, whether or not they were told; whole answers only."""
        self.upstream = upstream
        self._faults: deque[Fault] = deque()
        self._lock = threading.Lock()
        self.seats = threading.BoundedSemaphore(_SEATS_MAX)
        """Places on the busy backend."""
        self._draw = random.Random(seed)  # noqa: S311 - lengths of answers, no secret
        self._count = 0
        self._http = _Http(("127.0.0.1", 0), _Handler)
        self._http.model_server = self
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )

    @property
    def url(self) -> str:
        """Base URL for an OpenAI client."""
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    @property
    def requests(self) -> int:
        """Requests answered so far, refusals included."""
        return sum(self.statuses.values())

    def fail_next(self, *faults: Fault) -> None:
        """Order refusals for the next requests, one each."""
        with self._lock:
            self._faults.extend(faults)

    def __enter__(self) -> Self:
        """Start to serve."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop and close the socket."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(timeout=2)

    def take_fault(self) -> Fault | None:
        """Give the refusal that is ordered for this request, if any."""
        with self._lock:
            return self._faults.popleft() if self._faults else None

    def decide(self, request: Mapping[str, Any]) -> tuple[str, Turn, Behaviour, float]:
        """Decide the turn under the lock, so that one seed gives one sequence of answers."""
        with self._lock:
            behaviour = self.behaviour
            self._count += 1
            turn = next_turn(
                request.get("messages", ()),
                can_call_tools=bool(request.get("tools")),
                behaviour=behaviour,
                draw=self._draw,
            )
            return f"chatcmpl-{self._count:06d}", turn, behaviour, self._draw.lognormvariate(0.0, 0.2)

    def book(self, status: int, output_tokens: int = 0) -> None:
        """Count one answer."""
        with self._lock:
            self.statuses[status] += 1
            self.output_tokens += output_tokens


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    model_server: ModelServer

    def handle_error(self, request: object, client_address: object) -> None:
        """Pass over clients that hang up; anything else is a fault of this file and is shown."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Header and body are two writes: without this, Nagle and delayed ACK add 40 ms to each answer.
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Say nothing: the terminal belongs to the demo."""

    def do_GET(self) -> None:
        """List the one model."""
        self._send_json(200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    def do_POST(self) -> None:
        """Answer one chat completion."""
        server = cast("_Http", self.server).model_server
        length = int(self.headers.get("content-length") or 0)
        if length > _BODY_BYTES_MAX or not self.path.endswith("/chat/completions"):
            self.close_connection = True
            self._send_json(404, {"error": {"message": "unknown path or body too large", "type": "invalid"}})
            return
        request = json.loads(self.rfile.read(length))
        fault = server.take_fault()
        if fault is not None:
            server.book(fault.status)
            self._send_json(
                fault.status,
                {"error": {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"}},
                {"retry-after": "1", "retry-after-ms": str(fault.retry_after_ms)},
            )
            return
        if server.upstream is not None:
            with server.seats if server.behaviour.is_seat_bound else nullcontext():
                self._relay(server, server.upstream, request)
            return
        response_id, turn, behaviour, pace = server.decide(request)
        output_tokens = count_tokens(" ".join(turn.words)) if turn.words else 0
        if isinstance(turn, ToolRequest):
            output_tokens += count_tokens(dict(turn.arguments))
        answer = _Answer(response_id, request, turn, behaviour, output_tokens)
        server.book(200, output_tokens)
        with server.seats if behaviour.is_seat_bound else nullcontext():
            self._answer(answer, pace)

    def _relay(self, server: ModelServer, upstream: Upstream, request: dict[str, Any]) -> None:
        """Let the real model answer, at the length and with the faults of the version that is served."""
        behaviour = server.behaviour
        request["max_tokens"] = min(request.get("max_tokens") or behaviour.tokens_max, behaviour.tokens_max)
        if request.get("stream"):
            self._begin_events()
            for event in upstream.events(request):
                self._send_chunk(event)
            self._end_events()
            server.book(200)
            return
        body = {**upstream.whole(request), "model": request.get("model", MODEL)}
        server.book(200, body["usage"]["completion_tokens"])
        if not behaviour.says_usage:
            del body["usage"]
            body["choices"][0]["finish_reason"] = behaviour.finish_reason
        self._send_json(200, body)

    def _answer(self, answer: _Answer, pace: float) -> None:
        behaviour = answer.behaviour
        n_words = len(answer.turn.words) or 4
        if not answer.request.get("stream"):
            time.sleep((behaviour.first_word_ms + n_words * behaviour.word_ms) * pace / 1e3)
            self._send_json(200, answer.whole())
            return
        self._begin_events()
        time.sleep(behaviour.first_word_ms * pace / 1e3)
        for chunk in answer.chunks():
            self._send_chunk(b"data: " + json.dumps(chunk).encode() + b"\n\n")
            time.sleep(_WORDS_PER_CHUNK * behaviour.word_ms * pace / 1e3)
        self._send_chunk(b"data: [DONE]\n\n")
        self._end_events()

    def _begin_events(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()

    def _end_events(self) -> None:
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def _send_chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _send_json(
        self, status: int, body: Mapping[str, object], headers: Mapping[str, str] | None = None
    ) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()


class _Answer(NamedTuple):
    """One answer, whole or in chunks, in the shape of the chat-completions API."""

    response_id: str
    request: Mapping[str, Any]
    turn: Turn
    behaviour: Behaviour
    output_tokens: int

    @property
    def usage(self) -> dict[str, int]:
        prompt = sum(count_tokens(m.get("content") or "") for m in self.request.get("messages", ()))
        return {
            "prompt_tokens": prompt,
            "completion_tokens": self.output_tokens,
            "total_tokens": prompt + self.output_tokens,
        }

    @property
    def finish_reason(self) -> str:
        return "tool_calls" if isinstance(self.turn, ToolRequest) else self.behaviour.finish_reason

    def _envelope(self, kind: str) -> dict[str, object]:
        model = self.request.get("model", MODEL)
        return {"id": self.response_id, "object": kind, "created": 1_790_000_000, "model": model}

    def _tool_call(self) -> dict[str, object]:
        turn = cast("ToolRequest", self.turn)
        return {
            "id": f"call_{self.response_id[-6:]}",
            "type": "function",
            "function": {"name": turn.name, "arguments": json.dumps(dict(turn.arguments))},
        }

    def whole(self) -> dict[str, object]:
        """Give the answer of a request without `stream`."""
        content = " ".join(self.turn.words) or None
        message: dict[str, object] = {"role": "assistant", "content": content, "refusal": None}
        if isinstance(self.turn, ToolRequest):
            message["tool_calls"] = [self._tool_call()]
        choice = {"index": 0, "message": message, "finish_reason": self.finish_reason, "logprobs": None}
        body = {**self._envelope("chat.completion"), "choices": [choice]}
        return {**body, "usage": self.usage} if self.behaviour.says_usage else body

    def chunks(self) -> Iterator[dict[str, object]]:
        """Give the events of a stream; the last one has usage only where the client asked for it."""
        words = self.turn.words
        for i in range(0, len(words), _WORDS_PER_CHUNK):
            piece = " ".join(words[i : i + _WORDS_PER_CHUNK])
            yield self._chunk({"role": "assistant", "content": piece} if i == 0 else {"content": f" {piece}"})
        if isinstance(self.turn, ToolRequest):
            yield self._chunk({"role": "assistant", "tool_calls": [{"index": 0, **self._tool_call()}]})
        yield self._chunk({}, self.finish_reason)
        options = self.request.get("stream_options") or {}
        if options.get("include_usage") and self.behaviour.says_usage:
            yield {**self._envelope("chat.completion.chunk"), "choices": [], "usage": self.usage}

    def _chunk(self, delta: Mapping[str, object], finish_reason: str | None = None) -> dict[str, object]:
        choice = {"index": 0, "delta": dict(delta), "finish_reason": finish_reason, "logprobs": None}
        return {**self._envelope("chat.completion.chunk"), "choices": [choice]}
