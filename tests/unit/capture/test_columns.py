"""How spans are put into groups, and what they have in common is one value."""

from __future__ import annotations

import gc
import sys
from types import FrameType, SimpleNamespace
from typing import Any

import pytest

from agentguard.capture import CaptureEnvironment, ShortSpan, Span, SpanForm, UsageTotals
from agentguard.values import ByGroup, SpanColumns, Usage
from agentguard.values import attributes as names
from tests.support.clock import FrozenClock
from tests.support.ids import SequentialIds

_OWN: dict[str, Any] = {names.COST_SOURCE: "local"}
_RUN = SimpleNamespace(run_id="run-1")
OPCODES_MAX = 130
"""Of the interpreter, for one span more in a batch."""


@pytest.fixture
def environment(clock: FrozenClock) -> CaptureEnvironment:
    """One for all spans."""
    return CaptureEnvironment(
        clock=clock, ids=SequentialIds(), sink=lambda _: None, on_internal_error=_fail, scope_version="1"
    )


def _fail(where: str, error: BaseException) -> None:
    raise AssertionError(where) from error


def _form(environment: CaptureEnvironment, name: str, kind: str = "model") -> SpanForm:
    form = SpanForm()
    form.environment, form.name, form.kind, form.otel_kind = environment, name, kind, "client"
    form.attributes, form.agent_name = {"given": 1}, "helper"
    return form


def _short(form: SpanForm, usage: Usage | None = None, **slots: Any) -> ShortSpan:
    """Make a short span that has ended."""
    span, environment = ShortSpan(), form.environment
    usual = {
        "form": form, "trace_id": environment.ids.trace_id(), "span_id": environment.ids.span_id(), "parent_id": 0,
        "start_unix_ns": 5, "start_monotonic_ns": 5, "duration_ns": 3, "identity": None, "mirror": None,
        "in_flight": 1, "rare": None, "run": _RUN, "own": None, "usage": usage, "totals": None,
    }  # fmt: skip
    for name, value in {**usual, **slots}.items():
        setattr(span, name, value)
    return span


def _columns(spans: list[Any]) -> SpanColumns:
    found = Span.columns(spans)
    assert found is not None
    return found


def test_what_is_the_same_is_one_value(environment: CaptureEnvironment) -> None:
    """Of calls of one callable only what differs is a column; what is one text or one object is not looked at again."""
    form = _form(environment, "chat")
    spans = [_short(form, Usage(number, 2_000 + number, model="gpt-5"), own=_OWN) for number in (1, 2, 3)]
    columns = _columns(spans)
    assert list(columns.names) == ["chat"]
    assert columns.statuses == ("unset",)
    assert columns.shape == (0,)
    ((found, values),) = columns.groups
    assert [name for name, column in zip(found, values, strict=True) if len(column) > 1] == [
        names.INPUT_TOKENS,
        names.OUTPUT_TOKENS,
    ]


def test_groups_come_as_their_first_spans(environment: CaptureEnvironment) -> None:
    """Short spans and others may stand side by side, those of one form in groups by what they have."""
    form, other = _form(environment, "chat"), _form(environment, "look", "tool")
    failed = Span(environment, "failed", "tool")
    failed.fail(ValueError("no"))
    failed.end()
    spans = [
        _short(form, Usage(1, 2)), _short(other), _short(form), failed,
        _short(form, Usage(3, 4)), _short(other, totals=UsageTotals(1, 2, None)), _short(other), _short(form),
    ]  # fmt: skip
    columns = _columns(spans)
    assert columns.shape == [0, 1, 2, 3, 0, 4, 1, 2]
    assert columns.names == ByGroup(["chat", "look", "chat", "failed", "look"])
    assert columns.statuses == ByGroup(["unset", "unset", "unset", "error", "unset"])
    assert columns.status_descriptions == ByGroup(["", "", "", "ValueError", ""])
    assert {type(found) for found in columns[3:6]} == {ByGroup}


def test_many_forms_share_a_group(environment: CaptureEnvironment) -> None:
    """Of many callables with few calls each, those whose spans have the same attributes stand in one group."""
    forms = [_form(environment, f"look {number}", "tool") for number in range(20)]
    forms[7].agent_name, forms[9].attributes = "", {"given": True}
    failed = Span(environment, "failed", "tool", attributes={"given": 1})
    failed.end()
    columns = _columns([*map(_short, forms), failed, *map(_short, forms)])
    shape = [0, 0, 0, 0, 0, 0, 0, 1, *[0] * 12]
    assert columns.shape == [*shape, 2, *shape]
    assert list(columns.names) == [*[form.name for form in forms], "failed", *[form.name for form in forms]]
    found, values = columns.groups[0]
    given = values[list(found).index("given")]
    assert [place for place, value in enumerate(given) if value is True] == [8, 27]


def test_spans_that_have_no_columns(environment: CaptureEnvironment, clock: FrozenClock) -> None:
    """Those of two runtimes, and those without an id, become records."""
    other = CaptureEnvironment(clock=clock, ids=SequentialIds(), sink=lambda _: None, on_internal_error=_fail)
    form = _form(environment, "chat")
    assert Span.columns([_short(form), _short(_form(other, "chat"))]) is None
    assert Span.columns([_short(form), _short(form, span_id=0)]) is None
    assert Span.columns([_short(form, trace_id=0)]) is None


def test_equal_is_not_the_same(environment: CaptureEnvironment) -> None:
    """1, True and 1.0 are equal, and written in three ways."""
    form = _form(environment, "chat")
    spans = [_short(form, own={"a": value}) for value in (1, True, 1.0, 1)]
    ((found, values),) = _columns(spans).groups
    assert [repr(value) for value in values[list(found).index("a")]] == ["1", "True", "1.0", "1"]


def test_what_a_span_more_costs(environment: CaptureEnvironment) -> None:
    """A batch of more spans takes a few more steps of the interpreter for each, and not one call of a function more."""
    forms = [_form(environment, "chat"), _form(environment, "look", "tool")]
    runs = [SimpleNamespace(run_id=f"run-{number}") for number in range(300)]

    def steps(size: int) -> tuple[int, int]:
        spans = [
            _short(forms[place % 2], None if place % 2 else Usage(place + 1, 2, model="gpt-5"), run=runs[place],
                   trace_id=place // 2 + 1, start_unix_ns=place, duration_ns=place * 7)
            for place in range(size)
        ]  # fmt: skip
        opcodes = calls = 0

        def watch(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal opcodes, calls
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            opcodes += event == "opcode"
            calls += event == "call"
            return watch

        before = sys.gettrace()
        gc.disable()  # Others may have it tell them of its passes: calls of functions too.
        sys.settrace(watch)
        try:
            _columns(spans)
        finally:
            sys.settrace(before)
            gc.enable()
        return opcodes, calls

    _columns([_short(form) for form in forms])
    steps(100)
    (few, calls_few), (many, calls_many) = steps(100), steps(300)
    assert calls_many == calls_few
    assert 0 < (many - few) / 200 <= OPCODES_MAX
