"""Chunks that carry content and nothing else are passed by; nothing else is different for it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import FrameType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentguard.capture import StreamUsage, extract_usage, watch_stream
from agentguard.capture.stream_usage import _plain
from agentguard.capture.usage import _probe
from agentguard.values import Usage
from tests.support.look_alikes import as_objects


class Careful(StreamUsage):
    """Looks at each chunk closely, always."""

    __slots__ = ()

    def chunk(self, value: object) -> bool:
        """Pass nothing by."""
        return self._look_closely(value)


counts = st.integers(-1, 9) | st.none()
texts = st.sampled_from(["", "a", None])
chat_usages = st.fixed_dictionaries(
    {},
    optional={
        "prompt_tokens": counts | st.just("9"),
        "completion_tokens": counts,
        "prompt_cache_hit_tokens": counts,
        "prompt_tokens_details": st.none()
        | st.fixed_dictionaries({}, optional={"cached_tokens": counts, "cache_write_tokens": counts}),
        "completion_tokens_details": st.none()
        | st.fixed_dictionaries({}, optional={"reasoning_tokens": counts}),
    },
)
deltas = st.none() | st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("content", "tool_calls", "reasoning_content", "refusal"), texts)
)
choices = st.fixed_dictionaries(
    {}, optional={"delta": deltas, "text": texts, "finish_reason": st.sampled_from([None, "stop", ""])}
)
chat = st.fixed_dictionaries(
    {"choices": st.lists(choices, max_size=2)},
    optional={"id": texts, "model": texts, "usage": st.none() | chat_usages},
)
events = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            [
                "response.created", "response.output_text.delta", "response.completed", "message_start",
                "content_block_start", "content_block_delta", "message_delta", "message_stop", "ping", "other.delta",
            ]
        )
    },
    optional={
        "usage": st.fixed_dictionaries({}, optional={"input_tokens": counts, "output_tokens": counts}),
        "delta": st.just("x") | st.just({"stop_reason": "end_turn"}),
        "message": st.just({"id": "i", "model": "m", "usage": {"input_tokens": 3}}),
        "response": st.just({"usage": {"input_tokens": 3, "output_tokens": 1, "input_tokens_details": None}}),
    },
)  # fmt: skip
messages = st.fixed_dictionaries(
    {"content": texts, "tool_call_chunks": st.sampled_from([[], ["a"]])},
    optional={
        "usage_metadata": st.none() | st.just({"input_tokens": 2, "output_tokens": 1}),
        "chunk_position": st.sampled_from([None, "last"]),
    },
)
odd = st.sampled_from(["", "x", b"x", 5, None, {}, {"choices": [None]}, {"type": 5}])


@given(
    st.lists(chat, max_size=6)
    | st.lists(events, max_size=6)
    | st.lists(messages | odd | chat | events, max_size=6),
    st.booleans(),
)
def test_what_is_passed_by_says_nothing(chunks: list[Any], are_objects: bool) -> None:
    """
    However chunks follow each other, content and counts are what a close look at each would find.

    Who answers is the exception: it is read until there is content, as every provider sends it.
    """
    quick, careful = StreamUsage(), Careful()
    for chunk in chunks:
        value = as_objects(chunk) if are_objects else chunk
        assert quick.chunk(value) == careful.chunk(value)
    found, known = quick.usage(), careful.usage()
    assert quick.is_complete == careful.is_complete
    if found is None or known is None:
        assert known is None or known == Usage(model=known.model, response_id=known.response_id)
    else:
        assert found[:5] == known[:5]
        assert found.finish_reasons == known.finish_reasons


@given(chat, st.sampled_from([as_objects, lambda value: value]))
def test_completions_are_read_alike(value: dict[str, Any], build: Callable[[Any], Any]) -> None:
    """The short way of reading a completion, or the last chunk of one, finds what the careful way does."""
    assert extract_usage(build(value)) == _probe(build(value), None)


CHUNK = {
    "choices": [{"delta": {"content": "a"}, "finish_reason": None}],
    "usage": None,
    "id": "c",
    "model": "m",
}
DELTA = {"type": "content_block_delta", "delta": {"text": "a"}}
PIECE: dict[str, Any] = {
    "content": "a",
    "tool_call_chunks": [],
    "usage_metadata": None,
    "chunk_position": None,
}


class Observer:
    """Hears of content, of the first piece or of every one."""

    context = None

    def __init__(self, *, wants_all: bool) -> None:
        self.firsts = self.later = 0
        self.wants_all = wants_all

    def first_chunk(self) -> Callable[[], object] | None:
        """Count, and say who hears of later ones."""
        self.firsts += 1
        return self._more if self.wants_all else None

    def _more(self) -> None:
        self.later += 1

    def end(self, usage: Usage | None, outcome: str, error: BaseException | None) -> None:
        """Hear of the end."""


def source(chunk: Any, count: int) -> Iterator[Any]:
    """Give the same chunk again and again."""
    return iter([chunk] * count)


@pytest.mark.parametrize("wants_all", [True, False])
def test_who_hears_of_content(wants_all: bool) -> None:
    """The first piece is told once; the later ones to whoever asks for them."""
    observer = Observer(wants_all=wants_all)
    for _ in watch_stream(source(CHUNK, 5), observer):
        pass
    assert (observer.firsts, observer.later) == (1, 4 if wants_all else 0)


@pytest.mark.parametrize("chunk", [CHUNK, DELTA, PIECE, "text"], ids=["chat", "event", "message", "text"])
@pytest.mark.parametrize("build", [lambda value: value, as_objects], ids=["dicts", "objects"])
def test_a_step_is_short(chunk: Any, build: Callable[[Any], Any]) -> None:
    """A step runs two functions of ours at most: counted, never timed, so that more of them show."""
    steps = 50
    stream = watch_stream(source(build(chunk), steps + 2), Observer(wants_all=False))
    next(stream)
    next(stream)
    count = 0

    def watch(_frame: FrameType, event: str, _: Any) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(watch)
    try:
        for _ in range(steps):
            next(stream)
    finally:
        sys.setprofile(None)
    assert count <= 2 * steps


def test_classes_that_come_and_go() -> None:
    """Of classes that a program makes all the time only so many are remembered."""
    for _ in range(300):
        kind = type("Chunk", (SimpleNamespace,), {})
        assert StreamUsage().chunk(kind(choices=[SimpleNamespace(delta=SimpleNamespace(content="a"))]))
    assert len(_plain) <= 64


def test_who_answers_without_a_close_look() -> None:
    """A stream whose first chunk has content already says who answers, also where such chunks are known."""
    for _ in range(2):
        stream = StreamUsage()
        assert stream.chunk(CHUNK)
        assert stream.usage() == Usage(model="m", response_id="c")


def test_a_class_of_its_own_for_each_kind() -> None:
    """Chunks of another class than the last are looked at closely, and nothing of them is missed."""
    first = SimpleNamespace(
        choices=[SimpleNamespace(delta=SimpleNamespace(content="a"), finish_reason=None)], usage=None
    )
    stream = StreamUsage()
    assert stream.chunk(first)
    assert not stream.chunk({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})
    usage = stream.usage()
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (3, 2)


def test_who_answers_behind_a_piece_of_text() -> None:
    """A text before the first chunk changes nothing, whether or not texts were seen before."""
    _plain.pop(str, None)
    for _ in range(3):
        stream = StreamUsage()
        assert stream.chunk("text")
        assert stream.chunk(CHUNK)
        assert stream.usage() == Usage(model="m", response_id="c")


class Delta(SimpleNamespace):
    """Gives as its content something else than what it keeps under that name."""

    @property
    def content(self) -> str:
        """Is read of objects."""
        return self.said  # type: ignore[no-any-return]


@pytest.mark.parametrize("said", ["", "a"])
def test_what_an_object_gives_counts_and_not_what_it_keeps(said: str) -> None:
    """A dict is read in the place of an object's attributes only where they are the same, in each of its parts."""
    _plain.clear()
    delta = Delta(said=said)
    vars(delta)["content"] = "" if said else "a"
    plain = SimpleNamespace(content="a", tool_calls=None, reasoning_content=None)
    for first, second in ((plain, delta), (delta, plain), (delta, delta)):
        for one in (first, second, second):
            value = SimpleNamespace(choices=[SimpleNamespace(delta=one, finish_reason=None)], usage=None)
            assert StreamUsage().chunk(value) == Careful().chunk(value)
