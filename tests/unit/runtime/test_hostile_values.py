"""Values that raise, lie or are huge: what is recorded of them, and that the caller never notices."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncIterator, Iterator
from typing import Any, Self
from unittest.mock import MagicMock

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import agentguard
from tests.unit.runtime.conftest import Start, spans


class Raises:
    """Raises whatever it is asked, its class included."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


class Lies(str):  # noqa: SLOT000 - as a user would write it
    """A text whose methods raise."""

    def __str__(self) -> str:
        raise RuntimeError

    def __format__(self, spec: str) -> str:
        raise RuntimeError

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = str.__hash__


class Small(str, enum.Enum):  # noqa: UP042 - its `str()` is not its value, which is what is tested
    """A model's name as a member of an enumeration."""

    MODEL = "small"


class EitherWay:
    """A stream as gateways give it: for `for` and for `async for`."""

    def __init__(self) -> None:
        self.left = 3
        self.is_closed = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> dict[str, Any]:
        if not self.left:
            raise StopIteration
        self.left -= 1
        used = None if self.left else {"prompt_tokens": 4, "completion_tokens": 3}
        return {"choices": [{"delta": {"content": "x"}}], "usage": used}

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> dict[str, Any]:
        try:
            return next(self)
        except StopIteration:
            raise StopAsyncIteration from None

    def close(self) -> None:
        """Close it."""
        self.is_closed = True


@agentguard.model
def ask(model: str = "small", answer: Any = None) -> Any:
    """Answer with what was given."""
    return answer


@agentguard.tool
def look(value: Any = None) -> Any:
    """Answer with what was given."""
    return value


@agentguard.tool
async def look_later(value: Any = None) -> Any:
    """Answer with what was given."""
    return value


@agentguard.tool
def pieces(value: Any) -> Iterator[Any]:
    """Give it."""
    yield value


@agentguard.tool
async def pieces_later(value: Any) -> AsyncIterator[Any]:
    """Give it."""
    yield value


@pytest.mark.parametrize("mode", ["metadata", "redacted", "full"])
def test_values_that_raise_go_through(start: Start, mode: str) -> None:
    """Each call gives the very object, and has a span, in each mode."""
    runtime = start(None, capture=mode, strict=False)
    value = Raises()
    assert look(value) is value
    assert asyncio.run(look_later(value)) is value
    assert ask(answer=value) is value
    assert [item is value for item in pieces(value)] == [True]

    async def take() -> list[bool]:
        return [item is value async for item in pieces_later(value)]

    assert asyncio.run(take()) == [True]
    assert len(spans(runtime)) == 5
    assert runtime.environment.in_flight == {"tool": 0, "model": 0}


def test_what_raises_stands_as_its_class_in_content(start: Start) -> None:
    """The rest of the arguments is kept."""
    runtime = start(None, capture="full")
    look({"a": 1, "b": Raises()})
    [span] = spans(runtime)
    assert span.attributes["gen_ai.tool.call.arguments"] == '{"value": {"a": 1, "b": "<Raises>"}}'


@pytest.mark.parametrize("name", [Lies("small"), Small.MODEL])
def test_texts_of_other_kinds_name_a_model(start: Start, name: str) -> None:
    """The span has the plain text."""
    runtime = start(None)
    ask(name)
    [span] = spans(runtime)
    assert (span.name, span.attributes["gen_ai.request.model"]) == ("chat small", "small")


def test_a_huge_name_of_a_model_is_cut(start: Start) -> None:
    """A name comes from the caller; the span has its beginning."""
    runtime = start(None)
    ask("m" * 1_000_000)
    [span] = spans(runtime)
    assert span.attributes["gen_ai.request.model"] == "m" * 256
    assert span.name == "chat " + "m" * 256


def test_facts_of_a_run_are_plain_text(start: Start) -> None:
    """Numbers, enumerations and nothing at all become text; one role is not a role for each letter."""
    runtime = start(None, capture="full")
    given: Any = {"conversation_id": 17, "principal": Lies("ann"), "roles": "clerk"}
    labels: Any = {"tier": Small.MODEL, 5: 6, "none": None, "long": "x" * 5_000}
    with agentguard.run(labels=labels, **given) as run:
        look()
    assert (run.conversation_id, str.__str__(run.principal), run.roles) == ("17", "ann", ("clerk",))
    [span] = spans(runtime)
    kept = {key: value for key, value in span.attributes.items() if ".label." in key}
    assert kept == {
        "agentguard.label.tier": "small",
        "agentguard.label.5": "6",
        "agentguard.label.none": "",
        "agentguard.label.long": "x" * 1_024,
    }
    assert span.attributes["agentguard.principal.id"] == "ann"


def test_attributes_of_blocks_and_decorators_are_cleaned(start: Start) -> None:
    """As those set on a span: what cannot be kept is left out, and the span is kept."""
    runtime = start(None)
    given: Any = {"n": Small.MODEL, "o": Raises(), "p": None, Small.MODEL: 1}

    @agentguard.tool(attributes=given)
    def decorated() -> None:
        """Do nothing."""

    with agentguard.span("block", attributes=given):
        decorated()
    for span in spans(runtime):
        assert (span.attributes["n"], span.attributes["small"]) == ("small", 1)
        assert not {"o", "p"} & set(span.attributes)


def test_an_answer_without_a_model_costs_what_the_one_asked_does(start: Start) -> None:
    """Some providers do not say who answered; an answer of a model that nobody knows has no cost."""
    runtime = start(None)
    used = {"prompt_tokens": 1_000_000, "completion_tokens": 0}
    ask("gpt-5", {"usage": used})
    ask("gpt-5", {"usage": used, "model": "nobodys", "id": "x"})
    first, second = spans(runtime)
    assert first.attributes["agentguard.cost.usd"] == 1.25
    assert "gen_ai.response.model" not in first.attributes
    assert "agentguard.cost.usd" not in second.attributes


def test_a_stand_in_of_a_test_stays_itself(start: Start) -> None:
    """A `MagicMock` has the methods of a stream and of all else; it is handed over as it is."""
    start(None)
    mock = MagicMock()
    assert ask(answer=mock) is mock


AFTER = """
- id: OUT-001
  title: Nothing forbidden is shown
  at: model.after
  when: "detects(result, ['card'])"
  then: deny
"""


@pytest.mark.parametrize("rules", [None, AFTER], ids=["watched", "held back"])
@pytest.mark.parametrize("way", ["sync", "async"])
def test_streams_that_can_be_read_both_ways(start: Start, rules: str | None, way: str) -> None:
    """They still can, and their tokens are counted."""
    runtime = start(rules)

    async def read() -> int:
        return len([item async for item in ask(answer=EitherWay())])

    count = len(list(ask(answer=EitherWay()))) if way == "sync" else asyncio.run(read())
    assert count == 3
    [span] = spans(runtime)
    assert (span.attributes["gen_ai.usage.input_tokens"], span.status) == (4, "unset")


class Cards:
    """A stream that cannot be closed, and shows a card."""

    def __init__(self) -> None:
        self.words = iter(["My card is ", "4111 1111 ", "1111 1111", " as you know", " and more"])

    def __next__(self) -> dict[str, Any]:
        return {"choices": [{"delta": {"content": next(self.words)}}]}

    def __iter__(self) -> Self:
        return self


class CardsLater:
    """The same for `async for`; `close` is all it has to be closed by."""

    def __init__(self) -> None:
        self.inner = Cards()
        self.is_closed = False

    async def __anext__(self) -> dict[str, Any]:
        try:
            return next(self.inner)
        except StopIteration:
            raise StopAsyncIteration from None

    def __aiter__(self) -> Self:
        return self

    async def close(self) -> None:
        """Close it."""
        self.is_closed = True


def test_a_denied_stream_says_so_however_it_is_closed(start: Start) -> None:
    """The caller gets the denial, not an error about a method that the stream does not have."""
    start(AFTER)
    with pytest.raises(agentguard.CallDenied):
        list(ask(answer=Cards()))
    inner = CardsLater()

    async def read() -> None:
        async for _ in ask(answer=inner):
            pass

    with pytest.raises(agentguard.CallDenied):
        asyncio.run(read())
    assert inner.is_closed


def test_a_stream_that_can_be_read_both_ways_is_closed(start: Start) -> None:
    """Without being awaited; the call is abandoned."""
    runtime = start(None)
    inner = EitherWay()
    stream = ask(answer=inner)
    next(stream)
    stream.close()
    assert inner.is_closed
    assert spans(runtime)[0].attributes["agentguard.outcome"] == "abandoned"


def test_the_first_stream_is_measured_whole(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of each output chunk is a metric from the first call on."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    monkeypatch.setattr(metrics._internal, "_METER_PROVIDER", provider)
    runtime = start(None)
    list(ask(answer=EitherWay()))
    spans(runtime)
    data = reader.get_metrics_data()
    assert data is not None
    counts = {
        metric.name: point.count
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
        if hasattr(point, "count")
    }
    assert counts["gen_ai.client.operation.time_to_first_chunk"] == 1
    assert counts["gen_ai.client.operation.time_per_output_chunk"] == 2
    provider.shutdown()


def test_a_class_without_a_hash(start: Start) -> None:
    """What is returned may be of a class that cannot be looked up in a set."""

    class Unhashed(type):
        __hash__ = None  # type: ignore[assignment]

    class Result(metaclass=Unhashed):
        """Has nothing."""

    start()

    @agentguard.tool
    def make() -> Any:
        return Result()

    for _ in range(3):
        assert type(make()).__name__ == "Result"
