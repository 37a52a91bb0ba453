"""Generators and streams on the fast path: they say what the long way says, and hang nowhere."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace

import agentguard
from agentguard.capture import SUMS_LOCK
from agentguard.runtime.active import ACTIVE
from agentguard.runtime.fast_call import FastCall
from tests.support.two_ways import World, register_mood

_USAGE = {"prompt_tokens": 1200, "completion_tokens": 90}
ITEMS: dict[str, Any] = {
    "word": {"choices": [{"delta": {"content": "a word"}, "finish_reason": None}], "id": "c-1", "model": "gpt-5"},
    "nothing": {"choices": [{"delta": {"content": ""}, "finish_reason": None}]},
    "finish": {"choices": [{"delta": {}, "finish_reason": "stop"}]},
    "usage": {"choices": [], "usage": _USAGE, "id": "c-1", "model": "gpt-5"},
    "more": {"choices": [], "usage": {**_USAGE, "completion_tokens": 95}, "id": "c-1", "model": "gpt-5"},
    "house": {"choices": [], "usage": _USAGE, "id": "c-2", "model": "house-1"},
    "both": {"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}], "usage": _USAGE, "model": "gpt-5"},
    "broken": {"choices": [], "usage": {"prompt_tokens": "many"}},
    "start": {"type": "message_start", "message": {"id": "m-1", "model": "claude-opus-4-1", "usage": {"input_tokens": 9}}},
    "delta": {"type": "content_block_delta"},
    "stop": {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}},
    "text": "text",
    "none": None,
}  # fmt: skip
ENDS = ("end", "answer", "raise", "cancel")
INSIDE = ("", "wait", "look", "tool", "model", "set")
STEPS = st.lists(st.tuples(st.sampled_from(sorted(ITEMS)), st.sampled_from(INSIDE)), max_size=6)
WAYS = ("all", "all", "all", "first", "none", "drop", "throw", "close", "wait")


class Source:
    """A stream as clients of models return it."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items

    def __iter__(self) -> Source:
        return self

    def __next__(self) -> Any:
        return next(self._items)

    def close(self) -> None:
        """Nothing to close."""


class AsyncSource:
    """The same for coroutines."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items

    def __aiter__(self) -> AsyncSource:
        return self

    async def __anext__(self) -> Any:
        try:
            return next(self._items)
        except StopIteration:
            raise StopAsyncIteration from None

    async def close(self) -> None:
        """Nothing to close."""


class StreamWorld(World):
    """One where functions give their results piece by piece."""

    def _make_functions(self) -> dict[str, Any]:
        pieces = self._pieces

        def generator(steps: Any, end: str) -> Iterator[Any]:
            return (yield from pieces(steps, end))

        async def generator_async(steps: Any, end: str) -> AsyncIterator[Any]:
            for item in pieces(steps, end):
                yield item

        def stream(steps: Any, end: str) -> Source:
            return Source(pieces(steps, end))

        async def stream_async(steps: Any, end: str) -> AsyncSource:
            return AsyncSource(pieces(steps, end))

        def handed(steps: Any, end: str) -> Iterator[Any]:
            return pieces(steps, end)

        def handed_async(steps: Any, end: str) -> AsyncIterator[Any]:
            return generator_async(steps, end)

        class Desk:
            @agentguard.tool(name="method")
            def method(self, steps: Any, end: str = "end") -> Iterator[Any]:
                return (yield from pieces(steps, end))

        functions = (generator, generator_async, stream, stream_async, handed, handed_async)
        kinds = {
            "tool": agentguard.tool(name="tool"),
            "model": agentguard.model(provider="openai", model="gpt-5"),
            "house": agentguard.model(model="house-1"),
            "agent": agentguard.agent(name="a", version="1"),
        }
        made = {f"{kind} {each.__name__}": mark(each) for kind, mark in kinds.items() for each in functions}
        return {**super()._make_functions(), **made, "tool method": Desk().method}

    def _pieces(self, steps: Any, end: str) -> Iterator[Any]:
        for name, inside in steps:
            match inside:
                case "wait":
                    self.clock.advance(0.25)
                case "look":
                    self.seen.append(f"{trace.get_current_span().get_span_context().span_id:016x}")
                case "tool":
                    self.do([("call", "read", [], "text", "one", True)])
                case "model":
                    self.do([("call", "priced", [], "usage", "few", True)])
                case "set":
                    self.do([("current", "set")])
            sent = yield ITEMS[name]
            if sent is not None:
                self.seen.append(("sent", sent))
        match end:
            case "raise":
                raise ValueError("wrong")
            case "cancel":
                raise asyncio.CancelledError
            case "answer":
                return ITEMS["usage"]
        return None

    def do_pieces(self, name: str, steps: Any, end: str, way: str) -> None:
        """Call something, and consume its result in some way."""
        if name.endswith("async"):
            self._loop.run_until_complete(self._read_async(name, steps, end, way))
            return
        try:
            result = self.functions[name](steps, end)
            self.seen.append(type(result).__name__)
            self._read_one(result, way)
        except (ValueError, KeyError, asyncio.CancelledError) as error:
            self.seen.append((name, type(error).__name__))
        gc.collect(0)

    def _read_one(self, result: Any, way: str) -> None:
        match way:
            case "all":
                self.seen.append(list(result))
            case "first" | "close":
                self.seen.append(next(result, None))
                result.close()
                if way == "close":
                    result.close()
            case "throw" if hasattr(result, "throw"):
                self.seen.append(next(result, None))
                self.seen.append(result.throw(KeyError("thrown")))
            case "wait":
                for item in result:
                    self.clock.advance(0.125)
                    self.seen.append(item)
            case "drop" | "throw":
                self.seen.append(next(result, None))

    async def _read_async(self, name: str, steps: Any, end: str, way: str) -> None:
        result = None
        try:
            result = self.functions[name](steps, end)
            if asyncio.iscoroutine(result):
                result = await result
            match way:
                case "all" | "wait":
                    self.seen.append([item async for item in result])
                case "none":
                    pass
                case _:
                    self.seen.append(await anext(result, None))
                    await (result.aclose() if hasattr(result, "aclose") else result.close())
        except (ValueError, KeyError, RuntimeError, asyncio.CancelledError) as error:
            self.seen.append((name, type(error).__name__))
        del result
        gc.collect(0)

    def do_around(self, name: str, steps: Any, end: str, way: str) -> None:
        """The same inside an agent."""
        self._plans.append(([("pieces", name, steps, end, way)], "text"))
        self.functions["b"](len(self._plans) - 1)


_NAMES = (
    *(f"{kind} {shape}" for kind in ("tool", "model", "house", "agent") for shape in (
        "generator", "generator_async", "stream", "stream_async", "handed", "handed_async")),
    "tool method",
)  # fmt: skip
PROGRAMS = st.lists(
    st.tuples(
        st.sampled_from(("pieces", "around")), st.sampled_from(_NAMES), STEPS, st.sampled_from(ENDS),
        st.sampled_from(WAYS),
    ),
    min_size=1, max_size=5,
)  # fmt: skip


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[StreamWorld, StreamWorld]]]:
    """Worlds in pairs, the first with the fast path."""
    register_mood()
    settings_of: dict[str, dict[str, Any]] = {
        "rules": {"rules": "agents"},
        "none": {"rules": None},
        "off": {"rules": "agents", "otel": "off"},
        "real": {"rules": "agents", "is_real": True},
    }
    made = {}
    for name, chosen in settings_of.items():
        fast, slow = (
            StreamWorld(tmp_path_factory.mktemp(name), is_fast=is_fast, **chosen) for is_fast in (True, False)
        )
        warm = [("pieces", each, [("word", "")], "end", "all") for each in _NAMES]
        assert fast.play(warm) == slow.play(warm)
        made[name] = fast, slow
    yield made
    for pair in made.values():
        for world in pair:
            world.close()
    ACTIVE.runtime, ACTIVE.is_off = None, False


@pytest.mark.parametrize("name", ["rules", "none", "off", "real"])
def test_streams_on_the_fast_path_say_what_the_long_way_says(
    worlds: dict[str, tuple[StreamWorld, StreamWorld]], name: str
) -> None:
    """Spans, records, items, errors and sums of generators and streams are the same both ways."""
    fast, slow = worlds[name]
    calls, fast_calls = fast.calls, fast.fast_calls

    @settings(max_examples=25 if name == "real" else 80)
    @given(PROGRAMS, st.lists(st.booleans(), min_size=1, max_size=5))
    def check(program: Any, pattern: Any) -> None:
        assert fast.play(program, pattern) == slow.play(program, pattern)

    check()
    assert slow.fast_calls == 0
    assert fast.is_real or fast.fast_calls - fast_calls > (fast.calls - calls) // 10


@pytest.mark.parametrize("name", [each for each in _NAMES if not each.startswith("agent handed")])
def test_a_stream_that_is_read_to_its_end_does_not_grow(
    worlds: dict[str, tuple[StreamWorld, StreamWorld]], name: str
) -> None:
    """Each shape stays one small object where nothing unusual comes up."""
    fast, _ = worlds["rules"]
    # What a stream says of its usage stands on a model's call; that of an agent grows for it.
    steps = (
        [("text", ""), ("text", "wait")] if name.startswith("agent") else [("word", ""), ("usage", "wait")]
    )
    fast.play([("pieces", name, steps, "end", "all")])
    [source] = fast.sources
    assert type(source) is FastCall
    assert source.full is None


def test_a_stream_may_be_collected_while_the_sums_are_held(
    worlds: dict[str, tuple[StreamWorld, StreamWorld]],
) -> None:
    """What the interpreter collects at any moment may be an open stream: its call ends there, and waits for nothing."""
    fast, _ = worlds["rules"]
    before, ACTIVE.runtime = ACTIVE.runtime, fast.runtime
    ended: list[int] = []

    def drop() -> None:
        for name in ("model stream", "model generator", "tool generator"):
            stream = fast.functions[name]([("word", ""), ("word", "")], "end")
            next(stream)
            with SUMS_LOCK:
                del stream
            ended.append(1)

    fast.sources.clear()
    thread = threading.Thread(target=drop, daemon=True)
    try:
        thread.start()
        thread.join(20.0)
    finally:
        ACTIVE.runtime = before
    assert len(ended) == 3
    assert [source.record().attributes["agentguard.outcome"] for source in fast.sources] == ["abandoned"] * 3


def test_the_times_of_chunks_are_noted_while_somebody_measures(tmp_path: Path) -> None:
    """Time to the first chunk stands on the span; times of all chunks are kept where a metric is made of them."""
    world = StreamWorld(tmp_path, is_fast=True, rules=None)
    try:
        for name in ("model generator", "model stream", "tool generator"):
            world.play([("pieces", name, [("word", "wait")] * 3, "end", "all")])
            world.runtime.environment.measures_chunks = True
            world.play([("pieces", name, [("word", "wait")] * 3, "end", "all")])
            [source] = world.sources
            assert source.full is None
            assert source.record().attributes["gen_ai.response.time_to_first_chunk"] == pytest.approx(0.25)
            assert source.grown_span(None, is_open=False).chunk_gaps_s == pytest.approx([0.25, 0.25])
            world.runtime.environment.measures_chunks = False
    finally:
        world.close()
        ACTIVE.runtime, ACTIVE.is_off = None, False
