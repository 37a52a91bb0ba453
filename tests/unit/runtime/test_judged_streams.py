"""Rules after the call on streams: what the caller may see of them, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import agentguard
from agentguard.runtime.core import Runtime
from agentguard.runtime.holding import JudgedCall
from tests.unit.runtime.conftest import decisions, spans

Start = Callable[..., Runtime]
PARTS = ("my card is 41", "11 1111 11", "11 1111, ", "thanks ", "and bye ")
NO_CARD = """
    - {id: CARD, title: No cards, at: [tool.after, model.after, agent.after], when: "detects(result, ['card'])", then: deny}
"""
TAKE_OUT = """
    - {id: OUT, title: Cards out, at: [tool.after, model.after, agent.after], when: "true", then: {redact: [card]}}
"""
WHOLE = """
    - id: WHOLE
      title: Judged at the end
      at: [tool.after, model.after, agent.after]
      when: "detects(result, ['card']) && call.duration_ms >= 0"
      then: deny
"""
WHOLE_OUT = """
    - id: WHOUT
      title: Taken out at the end
      at: [tool.after, model.after, agent.after]
      when: call.duration_ms >= 0
      then: {redact: [card]}
"""


class Source:
    """A stream object as SDKs have them, sync and async, that tells how far it was read and whether it was closed."""

    def __init__(self, parts: tuple[str, ...] = PARTS) -> None:
        self._left = list(parts)
        self.read = 0
        self.is_closed = False

    def __next__(self) -> str:
        if not self._left:
            raise StopIteration
        self.read += 1
        return self._left.pop(0)

    def __iter__(self) -> Iterator[str]:
        return self

    def close(self) -> None:
        """Close the connection."""
        self.is_closed = True

    def get_final_text(self) -> str:
        """Read all of it, past whoever stands before the items."""
        return "".join(self._left)


class AsyncSource:
    """The same for `async for`."""

    def __init__(self, parts: tuple[str, ...] = PARTS) -> None:
        self.inner = Source(parts)

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        try:
            return next(self.inner)
        except StopIteration:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        """Close the connection."""
        self.inner.close()


def kinds_of_streams(parts: tuple[str, ...] = PARTS) -> dict[str, Callable[[], Any]]:
    """Give for each shape of a stream what makes one, guarded."""

    @agentguard.tool
    def generator() -> Iterator[str]:
        yield from parts

    @agentguard.tool
    async def async_generator() -> AsyncIterator[str]:
        for part in parts:
            yield part

    @agentguard.model(provider="openai", name="small")
    def stream() -> Source:
        return Source(parts)

    @agentguard.model(provider="openai", name="small")
    async def async_stream() -> AsyncSource:
        return AsyncSource(parts)

    return {
        "generator": generator, "async generator": async_generator, "stream": stream, "async stream": async_stream
    }  # fmt: skip


SHAPES = tuple(kinds_of_streams())


def consume(make: Callable[[], Any], seen: list[str]) -> None:
    """Read a stream of any shape to its end."""
    made = make()
    if hasattr(made, "__next__"):
        for item in made:
            seen.append(item)
        return

    async def main() -> None:
        stream = await made if hasattr(made, "__await__") else made
        async for item in stream:
            seen.append(item)

    asyncio.run(main())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rules", [NO_CARD, WHOLE])
def test_deny_stops_a_stream_and_shows_nothing_of_the_match(start: Start, shape: str, rules: str) -> None:
    """A card over three chunks is one card: the stream ends with the reason, and no digit of it was shown."""
    runtime = start(rules)
    seen: list[str] = []
    with pytest.raises(agentguard.CallDenied, match=r"CARD|WHOLE"):
        consume(kinds_of_streams()[shape], seen)
    assert seen == []
    [denied, outcome] = [one.record for one in decisions(runtime) if one.record.point != "tool.before"][-2:]
    assert (denied.point.partition(".")[2], str(denied.decision.effect)) == ("after", "deny")
    assert outcome.point == "outcome"
    assert spans(runtime)[-1].attributes["agentguard.outcome"] == "denied"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rules", [TAKE_OUT, WHOLE_OUT])
def test_redaction_rewrites_a_stream_before_it_is_shown(start: Start, shape: str, rules: str) -> None:
    """Each item comes, in order, without what was to be taken out of them together."""
    runtime = start(rules)
    seen: list[str] = []
    consume(kinds_of_streams()[shape], seen)
    assert seen == ["my card is [REDACTED:card]", "", ", ", "thanks ", "and bye "]
    assert spans(runtime)[-1].attributes["agentguard.content.redactions"] == 1
    [after] = [one.record for one in decisions(runtime) if one.record.point.endswith(".after")]
    assert after.decision.is_allowed
    assert [rule.effect for rule in after.decision.matched] == ["redact"]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_stream_without_a_finding_is_not_held(start: Start, shape: str) -> None:
    """What no finding can reach is shown while the rest is still to come."""
    start(NO_CARD + TAKE_OUT)
    read_when_first_seen: list[int] = []
    make = kinds_of_streams(("one ", "two ", "three ", "four "))[shape]
    seen: list[str] = []
    if shape == "stream":
        stream = make()
        assert next(stream) == "one "
        read_when_first_seen.append(stream.read)
        assert read_when_first_seen == [1]
    consume(make, seen)
    assert "".join(seen) == "one two three four "


def test_first_item_is_shown_before_the_second_is_made(start: Start) -> None:
    """A generator is not run ahead of its consumer where nothing has to be held."""
    start(NO_CARD)
    made: list[int] = []

    @agentguard.tool
    def words() -> Iterator[str]:
        for number in range(3):
            made.append(number)
            yield "word "

    generator = words()
    assert next(generator) == "word "
    assert made == [0]
    generator.close()


def test_a_denied_stream_is_closed(start: Start) -> None:
    """The connection of a stream that a rule has stopped is not left open, and nothing more is read."""
    start(NO_CARD)
    made: list[Source] = []

    @agentguard.model(provider="openai", name="small")
    def ask() -> Source:
        made.append(Source())
        return made[-1]

    stream = ask()
    with pytest.raises(agentguard.CallDenied):
        list(stream)
    assert made[0].is_closed
    assert made[0].read == 3
    assert list(stream) == []
    # The helpers of SDKs that give the whole text would go past the rules.
    with pytest.raises(AttributeError, match="no rule has judged"):
        ask().get_final_text()


def test_without_a_rule_after_the_call_a_stream_is_not_touched(start: Start) -> None:
    """Nothing is held, copied or looked at where nobody asked."""
    start("""
        - {id: B, title: Before, at: tool.before, when: "tool.name == 'x'", then: deny}
    """)
    seen: list[str] = []
    for shape in SHAPES:
        consume(kinds_of_streams()[shape], seen)
    assert seen == list(PARTS) * len(SHAPES)


def test_a_generators_return_value_is_judged_too(start: Start) -> None:
    """What a generator returns at its end is redacted like its items."""
    start(TAKE_OUT)

    @agentguard.tool
    def work() -> Iterator[str]:
        yield "fine "
        return "4111 1111 1111 1111"

    def outer() -> Iterator[str]:
        value = yield from work()
        yield f"<{value}>"

    assert list(outer()) == ["fine ", "<[REDACTED:card]>"]


def test_a_consumer_that_leaves_or_throws_ends_the_call(start: Start) -> None:
    """Closing, and an exception thrown in, close the generator inside and end the span."""
    runtime = start(NO_CARD)
    closed: list[str] = []

    @agentguard.tool
    def words() -> Iterator[str]:
        try:
            yield from ["a ", "b ", "c "]
        finally:
            closed.append("closed")

    first = words()
    assert next(first) == "a "
    first.close()
    second = words()
    assert next(second) == "a "
    with pytest.raises(KeyError):
        second.throw(KeyError("x"))  # type: ignore[attr-defined]
    assert closed == ["closed", "closed"]
    outcomes = [span.attributes["agentguard.outcome"] for span in spans(runtime)]
    assert outcomes == ["abandoned", "error"]


def test_two_conditions_on_one_text_are_judged_at_the_end(start: Start) -> None:
    """Where one finding does not decide, nothing is shown before all of it is there."""
    start("""
        - id: BOTH
          title: Never a card with an address
          at: tool.after
          when: "detects(result, ['card']) && detects(result, ['email'])"
          then: deny
    """)
    seen: list[str] = []
    with pytest.raises(agentguard.CallDenied):
        consume(kinds_of_streams(("4111 1111 1111 1111 ", "of ", "ann@example.org "))["generator"], seen)
    assert seen == []


def test_a_stream_without_breaks_is_stopped(start: Start) -> None:
    """What cannot be looked at within the bounds is not shown."""
    start(NO_CARD)
    seen: list[str] = []
    with pytest.raises(agentguard.CallDenied, match="Denied") as caught:
        consume(kinds_of_streams(("x" * 40_000, "y" * 40_000))["generator"], seen)
    assert "without a break" in caught.value.record.decision.reason
    assert seen == []


def test_a_rule_about_one_model_holds_its_answer_back(start: Start) -> None:
    """A rule that names a model judges its answers, whatever the function is called."""
    start("""
        - id: ONE
          title: The small model says no cards
          at: model.after
          when: "model.name == 'small' && detects(result, ['card'])"
          then: deny
    """)

    @agentguard.model(provider="openai")
    def ask(model: str) -> str:
        return f"{model}: 4111 1111 1111 1111"

    assert ask("large").startswith("large")
    with pytest.raises(agentguard.CallDenied):
        ask("small")


def test_a_rule_that_comes_while_a_stream_goes_by(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that nobody held back at its beginning is not held back at its end, and its call ends."""
    runtime = start()

    @agentguard.model(provider="openai", model="m")
    def ask() -> Source:
        return Source()

    stream = ask()
    next(stream)
    monkeypatch.setattr(JudgedCall, "holds_back", property(lambda _: True))
    assert "".join(stream) == "".join(PARTS[1:])
    (span,) = spans(runtime)
    assert "error.type" not in span.attributes
