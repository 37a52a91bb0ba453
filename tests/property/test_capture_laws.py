"""Laws of spans and streams: whatever is done to them, and in whatever order."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from opentelemetry.trace import SpanContext, Status, StatusCode

from agentguard.capture import CaptureEnvironment, Span, SpanLimits, StreamUsage, watch_stream
from agentguard.values import Usage
from tests.support.clock import START_UNIX_NS, FrozenClock
from tests.support.ids import SequentialIds

LIMITS = SpanLimits(
    attributes_max=6,
    events_max=4,
    links_max=3,
    event_attributes_max=3,
    attribute_chars_max=80,
    sequence_items_max=4,
)
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=120)
    | st.binary(max_size=4)
    | st.just(object()),
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.tuples(inner)
        | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=6,
)
KEYS = st.sampled_from(["a", "b", "c", "", "gen_ai.tool.name"]) | st.text(max_size=4)
COUNTS = st.none() | st.integers(-5, 50)
DERIVED = {"agentguard.semconv"}


def is_allowed(value: Any) -> bool:
    """Whether OpenTelemetry allows the value, within the limits."""
    if isinstance(value, tuple):
        kinds = {type(item) for item in value}
        return (
            len(value) <= 4
            and len(kinds) <= 1
            and all(is_allowed(i) and not isinstance(i, tuple) for i in value)
        )
    if type(value) is str:
        return len(value) <= 80
    if type(value) is int:
        return -(2**63) <= value < 2**63
    return type(value) in (bool, float)


class SpanMachine(RuleBasedStateMachine):
    """A span under any sequence of calls, beside a small model of what it is to hold."""

    @initialize(kind=st.sampled_from(["model", "tool", "agent"]))
    def begin(self, kind: str) -> None:
        self.clock = FrozenClock()
        self.ended: list[Any] = []

        def raise_it(where: str, error: BaseException) -> None:
            raise AssertionError(where) from error

        environment = CaptureEnvironment(
            clock=self.clock,
            ids=SequentialIds(),
            sink=self.ended.append,
            on_internal_error=raise_it,
            limits=LIMITS,
        )
        self.span = Span(environment, "x", kind)
        self.status = "unset"
        self.final: Any = None
        self.retries = 0

    def is_open(self) -> bool:
        return self.final is None

    @rule(key=KEYS, value=ANYTHING)
    def set_attribute(self, key: Any, value: Any) -> None:
        self.span.set_attribute(key, value)

    @rule(values=st.dictionaries(KEYS, ANYTHING, max_size=3))
    def set_attributes(self, values: Any) -> None:
        self.span.set_attributes(values)

    @rule(name=st.text(max_size=5), values=st.none() | st.dictionaries(KEYS, ANYTHING, max_size=5))
    def add_event(self, name: str, values: Any) -> None:
        self.span.add_event(name, values)

    @rule(trace_id=st.integers(0, 3), span_id=st.integers(0, 3))
    def add_link(self, trace_id: int, span_id: int) -> None:
        self.span.add_link(SpanContext(trace_id, span_id, is_remote=True), {"k": 1})

    @rule(code=st.sampled_from(list(StatusCode)), as_object=st.booleans())
    def set_status(self, code: StatusCode, *, as_object: bool) -> None:
        self.span.set_status(Status(code) if as_object else code)
        if self.is_open() and code is not StatusCode.UNSET and self.status != "ok":
            self.status = "ok" if code is StatusCode.OK else "error"

    @rule(a=COUNTS, b=COUNTS, identity=st.sampled_from([None, "r1", "r2"]))
    def record_usage(self, a: int | None, b: int | None, identity: str | None) -> None:
        self.span.record_usage(
            Usage(a if a is None or a >= 0 else None, b, response_id=identity), input_tokens=a
        )

    @rule()
    def record_retry(self) -> None:
        self.span.record_retry()
        self.retries += self.is_open()

    @rule(seconds=st.floats(0, 10))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(unix_ns=st.integers(0, 2**62))
    def the_wall_clock_jumps(self, unix_ns: int) -> None:
        self.clock.set_unix_ns(unix_ns)

    @precondition(lambda self: self.final is None)
    @rule()
    def end(self) -> None:
        self.span.end()
        self.final = self.span.record()

    @rule()
    def end_again(self) -> None:
        if not self.is_open():
            self.span.end()

    @invariant()
    def what_it_holds_is_allowed(self) -> None:
        record = self.span.record()
        assert record.start_unix_ns == START_UNIX_NS
        own = {
            k: v
            for k, v in record.attributes.items()
            if not k.startswith(("agentguard.", "gen_ai.", "http."))
        }
        assert len(own) <= LIMITS.attributes_max
        assert all(key and is_allowed(value) for key, value in record.attributes.items())
        assert len(record.events) <= LIMITS.events_max
        assert len(record.links) <= LIMITS.links_max
        assert all(is_allowed(value) for event in record.events for value in event.attributes.values())
        assert record.status == self.status
        assert self.span.retries == self.retries
        assert self.span.bytes_estimate > 0

    @invariant()
    def once_ended_it_never_changes(self) -> None:
        if self.final is None:
            assert self.ended == []
            assert self.span.is_recording()
        else:
            assert repr(self.span.record()) == repr(self.final)
            assert self.ended == [self.span]
            assert not self.span.is_recording()


TestSpan = SpanMachine.TestCase
TestSpan.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


CHUNKS = st.lists(
    st.sampled_from(
        [
            {"choices": [{"delta": {"content": "x"}}]},
            {"choices": [{"delta": {}, "finish_reason": "stop"}]},
            {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}},
            {"type": "response.completed", "response": {"usage": {"input_tokens": 1, "output_tokens": 1}}},
            {"type": "message_delta", "usage": {"output_tokens": 3}},
            {"usage_metadata": {"input_tokens": 1, "output_tokens": 1}, "content": "x"},
            "text",
            None,
            5,
        ]
    ),
    max_size=8,
)


@given(CHUNKS, st.integers(0, 9), st.booleans())
def test_a_watched_stream_gives_what_the_stream_gives(chunks: list[Any], taken: int, close: bool) -> None:
    """Same chunks in the same order; one first chunk at most, and exactly one end, with a fitting outcome."""
    firsts: list[int] = []
    ends: list[tuple[Usage | None, str]] = []

    class Observer:
        context = None

        def first_chunk(self) -> None:
            firsts.append(1)

        def end(self, usage: Usage | None, outcome: str, error: BaseException | None) -> None:
            ends.append((usage, outcome))

    class Source:
        def __init__(self) -> None:
            self.items = iter(chunks)

        def __iter__(self) -> Source:
            return self

        def __next__(self) -> Any:
            return next(self.items)

        def close(self) -> None:
            """Nothing is held."""

    stream = watch_stream(Source(), Observer())
    got = []
    for _ in range(taken):
        try:
            got.append(next(stream))
        except StopIteration:
            break
    if close:
        stream.close()
    del stream
    assert got == chunks[:taken]
    alone = StreamUsage()
    content = [alone.chunk(chunk) for chunk in got]
    assert len(firsts) == (1 if any(content) else 0)
    ((usage, outcome),) = ends
    assert outcome == ("ok" if taken > len(chunks) or alone.is_complete else "abandoned")
    if outcome == "ok":
        assert usage == alone.usage()
    else:
        # The count of output so far must not pass for the whole.
        assert usage is None or usage.output_tokens is None


@given(st.lists(ANYTHING, max_size=6))
def test_no_chunk_raises(chunks: list[Any]) -> None:
    """Whatever a stream gives, the accumulator takes it, and its counts are counts."""
    stream = StreamUsage()
    for chunk in chunks:
        assert isinstance(stream.chunk(chunk), bool)
    usage = stream.usage()
    assert usage is None or all(count is None or count >= 0 for count in usage[:5])
