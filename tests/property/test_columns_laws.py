"""What columns of spans say is what the records of the same spans say."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.trace import SpanContext, TraceFlags, TraceState

from agentguard.capture import CaptureEnvironment, PriceTable, Rare, ShortSpan, Span, SpanForm, UsageTotals
from agentguard.capture.rare import NOTHING
from agentguard.store._derive import encode_features
from agentguard.store._facts import facts_of
from agentguard.store._grid import grid_of, grid_of_columns, pack_grid, unpack_grid
from agentguard.store._records import records_of
from agentguard.store._starts import unpack_starts
from agentguard.values import Usage
from agentguard.values import attributes as names
from tests.support.clock import FrozenClock
from tests.support.ids import SequentialIds

_NUMBERS = st.none() | st.integers(0, 3)
_USAGES = st.builds(
    Usage, _NUMBERS, _NUMBERS, _NUMBERS, st.none(), _NUMBERS, st.sampled_from((None, "gpt-5", "mine")),
    st.sampled_from((None, "r-1")), st.sampled_from(((), ("stop",))), st.sampled_from((None, "openai")),
    st.sampled_from((None, 0.25)),
)  # fmt: skip
_ATTRIBUTES = st.dictionaries(
    st.sampled_from(
        (
            "a",
            "b",
            names.AGENT_VERSION,
            names.INPUT_TOKENS,
            names.COST_USD,
            names.REQUEST_MODEL,
            names.USER_ID,
        )
    ),
    st.sampled_from((1, 2, True, 0.5, "x", ("x", "y"), ())),
    max_size=3,
)
_SHARED: tuple[dict[str, Any], ...] = (
    {}, {"a": 1}, {"a": True}, {"a": 1, "b": "x"}, {"b": "y", "a": 1}, {"a": -0.0, "b": ("x",)},
    {names.REQUEST_MODEL: "gpt-5", names.RUN_ID: "given"}, {names.AGENT_NAME: "given"},
)  # fmt: skip
"""What calls of one callable have in common: one object for all of them."""
_PARENTS: tuple[SpanContext | None, ...] = (
    None,
    SpanContext(5, 7, is_remote=True, trace_flags=TraceFlags(1), trace_state=TraceState([("k", "v")])),
    SpanContext(5, 8, is_remote=False, trace_flags=TraceFlags(1)),
)
_STEPS: tuple[Callable[[Span], Any], ...] = (
    lambda span: span.record_retry(),
    lambda span: span.chunk(),
    lambda span: span.fail(ValueError("no")),
    lambda span: span.deny(),
    lambda span: span.abandon(),
    lambda span: span.event("noted", {"a": 1}),
    lambda span: span.add_link(SpanContext(1, 2, is_remote=True)),
    lambda span: span.set("bad", object()),
    lambda span: span.add_inner_usage(UsageTotals(1, None, 0.5)),
    lambda span: span.add_inner_usage(UsageTotals(None, 2, None)),
)


class _Script:
    """What is done with one span."""

    def __init__(
        self, kind: str, attributes: dict[str, Any], parent: SpanContext | None, has_owner: bool,
        usages: list[Usage], steps: list[Callable[[Span], Any]], shared: dict[str, Any], run: str, agent: str,
    ) -> None:  # fmt: skip
        self.shared, self.run, self.agent = shared, run, agent
        self.kind, self.attributes, self.parent, self.has_owner = kind, attributes, parent, has_owner
        self.usages, self.steps = usages, steps

    def play(self, environment: CaptureEnvironment) -> Span:
        """Make the span and end it."""
        owner = Span(environment, "owner", "agent") if self.has_owner else None
        own = dict(self.attributes) if self.attributes else None
        span = Span(
            environment, f"{self.kind} it", self.kind, "client", self.parent, owner, self.shared, own,
            self.run, self.agent,
        )  # fmt: skip
        for usage in self.usages:
            span.record_usage(usage)
        for step in self.steps:
            step(span)
        span.end()
        return span


_SCRIPTS = st.builds(
    _Script, st.sampled_from(("model", "tool", "agent")), _ATTRIBUTES, st.sampled_from(_PARENTS),
    st.booleans(), st.lists(_USAGES, max_size=2), st.lists(st.sampled_from(_STEPS), max_size=3),
    st.sampled_from(_SHARED), st.sampled_from(("", "run-1", "run-2")), st.sampled_from(("", "helper")),
)  # fmt: skip


class _Run(NamedTuple):
    """What short spans know of a run."""

    run_id: str


class _ShortScript(NamedTuple):
    """What a short span holds."""

    kind: str
    shared: int
    agent: str
    run: _Run
    own: dict[str, Any] | None
    usage: Usage | None
    is_row: bool
    totals: UsageTotals | None
    first_chunk_ns: int | None
    identity: SpanContext | None
    in_flight: int

    def play(self, environment: CaptureEnvironment) -> ShortSpan:
        """Make the span, which has ended; those of one kind and agent with the same given attributes have one form."""
        span = ShortSpan()
        span.form = _form(environment, self.kind, self.shared, self.agent)
        span.trace_id, span.span_id, span.parent_id = environment.ids.trace_id(), environment.ids.span_id(), 0
        span.start_unix_ns, span.start_monotonic_ns = environment.unix_ns(), environment.monotonic_ns()
        span.duration_ns = 7 * self.in_flight
        span.identity, span.mirror, span.in_flight = self.identity, None, self.in_flight
        span.rare = None
        if self.first_chunk_ns is not None:
            span.rare = Rare()
            span.rare.first_chunk_ns = self.first_chunk_ns
        span.run, span.own, span.totals = self.run, self.own, self.totals
        span.usage = tuple(self.usage) if self.is_row and self.usage else self.usage  # type: ignore[assignment]
        return span


@lru_cache(maxsize=64)
def _form(environment: CaptureEnvironment, kind: str, shared: int, agent: str) -> SpanForm:
    form = SpanForm()
    form.environment, form.name, form.kind, form.otel_kind = environment, f"{kind} {agent}", kind, "internal"
    form.attributes, form.agent_name = _SHARED[shared], agent
    return form


_RUNS = (_Run("run-1"), _Run("run-1"), _Run("run-2"), _Run(""))
_OWN: tuple[dict[str, Any] | None, ...] = (None, {}, {names.COST_SOURCE: "local"}, {"a": 1}, {"a": True})
"""Of those that calls of one callable share; each is one object."""
_SHORT_SCRIPTS = st.builds(
    _ShortScript, st.sampled_from(("model", "tool")), st.integers(0, 3), st.sampled_from(("", "helper")),
    st.sampled_from(_RUNS), st.sampled_from(_OWN) | _ATTRIBUTES, st.none() | _USAGES, st.booleans(),
    st.sampled_from((None, None, UsageTotals(1, None, 0.5), UsageTotals(0, 2, None))),
    st.sampled_from((None, None, -1, 0, 5)), st.sampled_from(_PARENTS), st.integers(1, 2),
)  # fmt: skip


@given(
    st.lists(_SCRIPTS | _SHORT_SCRIPTS, min_size=1, max_size=8)
    | st.lists(_SHORT_SCRIPTS, min_size=1, max_size=14),
    st.sampled_from(("compat", "latest", "both")),
    st.booleans(),
    st.integers(1, 3),
)
@settings(max_examples=250, deadline=None)
def test_columns_say_what_records_say(
    scripts: list[_Script | _ShortScript], profile: Any, is_on_agents: bool, times: int
) -> None:
    """Columns of any spans, short ones among them, written and read again, are their records; so are their features."""
    environment = CaptureEnvironment(
        clock=FrozenClock(), ids=SequentialIds(), sink=lambda _: None, on_internal_error=_fail, profile=profile,
        usage_on_agents=is_on_agents, scope_version="1", price_usd=PriceTable().price_usd,
    )  # fmt: skip
    spans = [script.play(environment) for script in scripts * times]
    assert not vars(NOTHING)
    columns = Span.columns(spans)
    assert columns is not None
    assert list(dict.fromkeys(columns.shape)) == list(range(len(columns.groups)))
    grid = grid_of_columns(columns, 5)
    records = [span.record() for span in spans]
    assert repr(records_of(unpack_grid(pack_grid(grid)))) == repr(records)
    assert unpack_starts(pack_grid(grid)) == (5, [record.start_unix_ns for record in records])
    assert encode_features(grid) == encode_features(grid_of(records, 5))
    assert set(facts_of(grid, columns.traces).tags) == set(facts_of(grid).tags)


def _fail(where: str, error: BaseException) -> None:
    raise AssertionError(where) from error
