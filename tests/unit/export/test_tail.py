"""Tail choice: whole traces or nothing of them, the same choice each time, and each span that stays is counted."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentguard.errors import ConfigurationError
from agentguard.export import ExportCounters, OtlpExporter, _tail, otlp_config
from agentguard.export._tail import has_reason, reasons, trace_ids
from agentguard.store._columns import columns_of_grid
from agentguard.store._grid import grid_of
from agentguard.values import SpanEvent, SpanRecord
from tests.support.clock import FrozenClock
from tests.support.otlp import OK, FakeStore, Receiver, make_span

DENIED = {"agentguard.outcome": "denied"}


def event(verdict: str) -> SpanEvent:
    """The event that a decision leaves on a span."""
    return SpanEvent("agentguard.policy", 0, {"agentguard.policy.verdict": verdict})


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({}, set()),
        ({"status": "error"}, {"error"}),
        ({"duration_ns": 2 * 10**9}, {"slow"}),
        ({"attributes": DENIED}, {"violation"}),
        ({"events": (event("deny"),)}, {"violation"}),
        ({"events": (event("throttle"),), "status": "error"}, {"violation", "error"}),
        ({"events": (event("allow"),)}, set()),
    ],
)
def test_reasons(changes: dict[str, Any], reasons: set[str]) -> None:
    """An error, a decision that was or would have been other than to allow, a slow call."""
    span = make_span(0, **changes)
    for reason in ("error", "violation", "slow"):
        assert has_reason(span, [reason], 2.0) == (reason in reasons)


VIOLATIONS = st.sampled_from([(), (event("allow"),), (event("deny"),), (event("allow"), event("throttle"))])
SOME_SPANS = st.lists(
    st.fixed_dictionaries({
        "status": st.sampled_from(["unset", "ok", "error"]), "duration_ns": st.integers(0, 4 * 10**9),
        "attributes": st.sampled_from([{}, DENIED, {"agentguard.outcome": "ok"}, {"a": 1}]), "events": VIOLATIONS,
    }), min_size=1, max_size=9,
)  # fmt: skip


@given(SOME_SPANS, st.sets(st.sampled_from(["error", "violation", "slow"])))
def test_many_spans_have_the_reasons_of_each(changes: list[dict[str, Any]], keep: set[str]) -> None:
    """Looked at as columns, each span gives the reason that it gives by itself."""
    spans = [make_span(number, **some) for number, some in enumerate(changes)]
    columns = columns_of_grid(grid_of(spans, 0), (), 0)
    assert columns is not None
    assert reasons(columns, keep, 2.0) == [has_reason(span, keep, 2.0) for span in spans]
    assert trace_ids(columns) == [span.trace_id for span in spans]


def run(
    store: FakeStore, receiver: Receiver, keep: tuple[str, ...] = ("error",), **more: Any
) -> ExportCounters:
    """Export once, as a new process would."""
    config = replace(otlp_config(receiver.endpoint, keep=keep), **more)
    exporter = OtlpExporter(store, config, clock=FrozenClock(), on_internal_error=lambda *_: None)
    return exporter.run_once(5)


def trace(number: int, span: int, **changes: Any) -> SpanRecord:
    """A span of a trace."""
    return make_span(number * 100 + span, trace_id=f"{number:032x}", **changes)


def test_a_trace_is_sent_whole_or_not_at_all(tmp_path: Path) -> None:
    """Spans before and after the reason go with it, in this run and in the next; the others are counted."""
    spans = [trace(1, 0), trace(2, 0), trace(1, 1, status="error"), trace(2, 1), trace(1, 2)]
    store = FakeStore(tmp_path, spans)
    with Receiver() as receiver:
        counters = run(store, receiver)
        assert receiver.names == [spans[0].span_id, spans[2].span_id, spans[4].span_id]
        assert (counters.sent, counters.left_out) == (3, 2)
        store.spans += [trace(1, 3), trace(3, 0), trace(2, 2, status="error"), trace(3, 1)]
        run(store, receiver)
        assert sorted(receiver.names) == sorted(
            one.span_id for one in store.spans if one.trace_id[-1] in "12"
        )
        assert len(set(receiver.names)) == len(receiver.names)
        assert run(store, receiver).sent == 0


@given(
    st.lists(st.tuples(st.integers(1, 6), st.booleans()), max_size=60),
    st.lists(st.integers(0, 60), max_size=6),
    st.integers(1, 5),
)
@settings(max_examples=60, deadline=None)
def test_any_interleaving_restart_and_batch_size(
    tmp_path_factory: pytest.TempPathFactory, plan: list[tuple[int, bool]], stops: list[int], batch: int
) -> None:
    """However spans of traces alternate, and whenever the process begins anew: each kept trace whole, each span once."""
    spans = [
        trace(number, place, status="error" if is_bad and not place % 3 else "unset")
        for place, (number, is_bad) in enumerate(plan)
    ]
    kept = {span.trace_id for span in spans if span.status == "error"}
    store = FakeStore(tmp_path_factory.mktemp("tail"))
    with Receiver() as receiver:
        for end in (*sorted(stops), len(spans)):
            store.spans = spans[:end] if end > len(store.spans) else store.spans
            run(store, receiver, batch_spans_max=batch)
        assert sorted(receiver.names) == sorted(span.span_id for span in spans if span.trace_id in kept)


def test_a_failure_in_the_middle_of_a_trace_loses_nothing(tmp_path: Path) -> None:
    """Spans that waited for their reason are waited for again when the backend did not take them."""
    chance = random.Random(3)
    spans = [trace(n % 5 + 1, n, status="error" if n in (37, 58) else "unset") for n in range(90)]
    kept = {span.trace_id for span in spans if span.status == "error"}
    with Receiver(lambda _: OK if chance.random() < 0.8 else (503, {"Retry-After": "0"}, b"")) as receiver:
        store = FakeStore(tmp_path, spans)
        for _ in range(40):
            config = replace(otlp_config(receiver.endpoint, keep=("error",)), batch_spans_max=3)
            exporter = OtlpExporter(store, config, clock=FrozenClock(), on_internal_error=lambda *_: None)
            exporter._pause = lambda *_, **__: False  # type: ignore[method-assign]
            try:
                counters = exporter.run_once(0.5)
            except Exception:
                continue
            break
        assert set(receiver.names) == {span.span_id for span in spans if span.trace_id in kept}
        assert counters.left_out <= sum(span.trace_id not in kept for span in spans)


def test_the_window_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What falls out of it stays in the store; the rest of its trace still goes."""
    monkeypatch.setattr(_tail, "WINDOW_SPANS_MAX", 10)
    spans = [trace(1, 0), *(trace(2, n) for n in range(20)), trace(1, 1, status="error")]
    with Receiver() as receiver:
        counters = run(FakeStore(tmp_path, spans), receiver)
        assert receiver.names == [spans[-1].span_id]
        assert counters.left_out == 21


def test_unknown_reasons_are_refused() -> None:
    """A misspelt reason would keep nothing, in silence."""
    with pytest.raises(ConfigurationError, match="keep has `eror`"):
        otlp_config("http://127.0.0.1:1", keep=["eror"])
