"""
Judging a stream: what a consumer may see of it, and when.

Rules that only ask detectors judge piece by piece: an item is shown as soon as
no finding can reach into it. All other rules judge the whole: nothing is shown
before its end. Either way a number that is split over three items is one number.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn, Protocol

from opentelemetry.context import Context

from agentguard.capture import Span
from agentguard.errors import CallDenied
from agentguard.redaction import HELD_CHARS_MAX, HELD_ITEMS_MAX, Pieces, Seen, StreamScanner, detect, redact
from agentguard.runtime.deciding import decide, note, put_on_record, undecided
from agentguard.runtime.facts import new_facts
from agentguard.runtime.known import KnownCall
from agentguard.runtime.services import Services
from agentguard.runtime.spec import CallSpec
from agentguard.values import Decision
from agentguard.wrapping import Hold


class StreamingCall(Protocol):
    """What a stream needs of the call that returned it."""

    services: Services
    spec: CallSpec
    span: Span
    context: Context
    is_ended: bool

    @property
    def holds_back(self) -> bool:
        """Whether a rule judges the result before the caller may see any of it."""
        ...

    def complete(self, result: Any) -> Any:
        """End the call."""
        ...

    def hold(self) -> Hold:
        """Begin to judge."""
        ...

    def fail(self, error: BaseException) -> None:
        """End the call with an error."""
        ...

    def abandon(self) -> None:
        """End the call of a stream that was not read to its end."""
        ...


class JudgedCall(KnownCall):
    """A call whose result rules may judge."""

    __slots__ = ()

    @property
    def name_for_rules(self) -> str:
        """The name by which rules find the call: of a model's call the model, not the function."""
        return self.model if self.spec.governed_as == "model" else self.spec.name

    @property
    def holds_back(self) -> bool:
        """Whether a rule judges the result before the caller may see any of it."""
        engine = self.services.engine
        return engine is not None and engine.acts_after(self.spec.after, self.name_for_rules)

    def hold(self) -> Hold:
        """Begin to judge the items of a stream: piece by piece where all rules can, else as a whole."""
        engine = self.services.engine
        looks_for = None if engine is None else engine.looks_for(self.spec.after, self.name_for_rules)
        return HoldWhole(self) if looks_for is None else HoldPart(self, looks_for)

    def finish(self, result: Any) -> Any:
        """End the call with its result."""
        raise NotImplementedError

    def stop(self) -> None:
        """End a call that policy stopped."""
        raise NotImplementedError


def withhold(call: JudgedCall, what: str) -> NoReturn:
    """
    Deny a result that a rule is to judge and that cannot be shown to it.

    Args:
        call:
            Which it ends.
        what:
            Why, for the reviewer.

    Raises:
        CallDenied: Always.
    """
    call.is_ended = True
    record = decide(call, call.spec.after)
    assert record is not None
    record = put_on_record(call, record._replace(decision=undecided(what)))
    note(call, record)
    call.stop()
    raise CallDenied(record)


class HoldWhole:
    """Keeps all items until the end; implements `wrapping.Hold`."""

    __slots__ = ("_call", "_items", "must_judge")

    def __init__(self, call: JudgedCall) -> None:
        self._call = call
        self._items = Pieces()
        self.must_judge = False

    def feed(self, item: Any) -> list[Any]:
        """Keep an item."""
        self._items.append(item)
        self.must_judge = len(self._items) > HELD_ITEMS_MAX
        return []

    def judge(self) -> None:
        """Stop a stream that is longer than can be kept."""
        withhold(self._call, f"a rule judges the whole stream, and it has more than {HELD_ITEMS_MAX} items")

    def end(self, value: Any) -> tuple[list[Any], Any]:
        """Judge all of it."""
        judged = self._call.finish({"items": self._items, "value": value})
        items = judged["items"]
        # What lay beyond the bounds of a redaction was replaced as a whole: its mark is the one item.
        return (list(items) if isinstance(items, list) else [items]), judged["value"]


class HoldPart:
    """Judges each finding when it is made; implements `wrapping.Hold`."""

    __slots__ = ("_call", "_error", "_found", "_redacts", "_scanner", "must_judge")

    def __init__(self, call: JudgedCall, looks_for: Iterable[str]) -> None:
        self._call = call
        self._error: Exception | None = None
        kinds = sorted(looks_for)
        # What is taken out is known before the first item: each of these rules asks for one finding at most.
        redacts = [kind for kind in kinds if kind in self._ask({kind}).redact]
        self._redacts = redacts
        self._scanner = StreamScanner(kinds, redacts, opaque="refuse" if redacts else "keep")
        self._found: frozenset[str] = frozenset()
        self.must_judge = not self._ask(()).is_allowed

    def _ask(self, kinds: Iterable[str]) -> Decision:
        """Ask what the rules would say of a result with these findings; nothing is recorded."""
        engine = self._call.services.engine
        assert engine is not None
        facts = new_facts(self._call)
        facts.update(self._call.facts or {})
        facts["result"] = [Seen(kinds)]
        return engine.decide(self._call.spec.after, facts)

    def feed(self, item: Any) -> list[Any]:
        """Look at an item; show what no finding can reach any more."""
        try:
            ready = self._scanner.feed(item)
            self.must_judge = self._must_stop()
        except Exception as error:
            self._error = error
            self.must_judge = True
        return [] if self.must_judge else ready

    def _must_stop(self) -> bool:
        """Whether what was found since the last look withholds the rest."""
        found = self._scanner.found
        if found == self._found:
            return False
        self._found = found
        return self._scanner.is_beyond or not self._ask(found).is_allowed

    def judge(self) -> None:
        """Stop the stream."""
        call = self._call
        if self._error is not None:
            call.services.health("redaction", self._error)
            withhold(call, f"looking through the stream: {type(self._error).__name__}")
        if self._scanner.is_beyond:
            withhold(
                call,
                f"the stream has {HELD_CHARS_MAX:,} characters or {HELD_ITEMS_MAX:,} items without a break",
            )
        call.finish(Seen(self._found, self._scanner.replaced))
        withhold(call, "the facts changed while the stream was judged")

    def end(self, value: Any) -> tuple[list[Any], Any]:
        """Judge what was left, and the return value of a generator."""
        try:
            ready = self._scanner.close()
            found = set(self._scanner.found)
            replaced = self._scanner.replaced
            if value is not None:
                found |= {detection.kind for detection in detect(value, self._scanner.kinds)}
                value, more = redact(value, self._redacts, opaque="refuse" if self._redacts else "keep")
                replaced += more
        except Exception as error:
            self._error = error
            self.judge()
            raise
        if self._scanner.is_beyond:
            self.judge()
        self._call.finish(Seen(found, replaced))
        return ready, value
