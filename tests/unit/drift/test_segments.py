"""Segments: lines of evidence of their own, the right one named, the change taken apart."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentguard import drift
from agentguard.drift._attribution import attribute
from agentguard.drift._layout import PLACES, layout_of
from agentguard.drift._simulate import HOUR_S, MONDAY_S
from agentguard.drift._streams import Stream, scale_of
from agentguard.values import DriftStatus, Verdict
from tests.support.clock import FrozenClock
from tests.support.feature_store import MemoryStore
from tests.support.spans import make_span
from tests.support.stores import fill as write
from tests.support.stores import new_store

DAY_S, NS = 86_400, 10**9
TOOLS = ("search", "mail", "pay", "files", "maps")
SHARES = (0.35, 0.25, 0.2, 0.12, 0.08)


def tool_calls(
    store: MemoryStore, *, days: int, change_day: int, seed: int, slow: str = "", factor: float = 1.0
) -> None:
    """Eighty tool calls an hour; one tool gets slower on a day."""
    rng = np.random.default_rng(seed)
    for day in range(days):
        hour = np.repeat(np.arange(24), rng.poisson(80, 24))
        tool = rng.choice(len(TOOLS), len(hour), p=SHARES)
        base = np.array([300, 500, 200, 900, 400])[tool] * rng.lognormal(0, 0.5, len(hour))
        if day >= change_day and slow:
            base = np.where(tool == TOOLS.index(slow), base * factor, base)
        duration = (base * 1e6).astype(np.int64)
        end = (MONDAY_S + day * DAY_S + hour * HOUR_S) * NS + rng.integers(0, HOUR_S * NS, len(hour))
        store.add(
            start_unix_ns=end - duration,
            duration_ns=duration,
            kind="tool",
            tool=[TOOLS[i] for i in tool],
            is_error=(rng.random(len(hour)) < 0.02).astype(int),
        )


@pytest.mark.parametrize(("slow", "factor"), [("pay", 1.5), ("maps", 2.0)])
def test_the_tool_that_got_slower_is_named(slow: str, factor: float) -> None:
    """One of five tools gets slower: the alarm names it, with effect, interval and change point in its own unit."""
    store = MemoryStore()
    tool_calls(store, days=34, change_day=29, seed=3, slow=slow, factor=factor)
    border = (MONDAY_S + 28 * DAY_S) * NS
    reference = drift.fit_reference(store, since_unix_ns=MONDAY_S * NS, until_unix_ns=border)
    assert f"tool.response_latency_ms [tool={slow}]" in {s.name for s in reference.incident.streams}
    drift.save_reference(store, reference)
    assert drift.load_reference(store).layout == reference.layout
    seen: list[Verdict] = []
    clock = FrozenClock(unix_ns=(MONDAY_S + 33 * DAY_S) * NS)
    verdict = drift.Checker(store, clock=clock, publish=seen.append).check_once()
    assert verdict.status is DriftStatus.DRIFT
    assert verdict.segment == f"tool={slow}"
    assert f"carried by tool={slow}" in verdict.sentence
    lead = next(f for f in verdict.features if f.segment == f"tool={slow}")
    assert lead.effect_unit == "ms"
    assert lead.effect_low < lead.effect < lead.effect_high
    assert abs(verdict.change_unix_ns / NS - (MONDAY_S + 29 * DAY_S)) < 1.5 * DAY_S
    assert drift.last_verdict(store) == verdict


def scored(rows: list[tuple[int, int, int]]) -> dict[int, dict[int, int]]:
    """Histograms of error bits: (place, errors, calls) with the whole at place 0."""
    histograms: dict[int, dict[int, int]] = {0: {0: 0, 1: 0}}
    for place, wanted, calls in rows:
        errors = min(wanted, calls)
        histograms[place * PLACES] = {0: calls - errors, 1: errors}
        histograms[0][0] += calls - errors
        histograms[0][1] += errors
    return histograms


sides = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), min_size=3, max_size=3)


@given(sides, sides)
def test_mix_and_within_add_up(before: list[tuple[int, int]], after: list[tuple[int, int]]) -> None:
    """The two parts of a change add up to it exactly, whatever the segments."""
    layout = layout_of({"tool": {"a": 3, "b": 2, "c": 1}})
    left, right = (
        scored([(i, errors, calls) for i, (errors, calls) in enumerate(side, 1)]) for side in (before, after)
    )
    n, m = (sum(side[0].values()) for side in (left, right))
    stream = Stream("tool", "error", "share")._replace(kind="", column=0)
    result = attribute(layout, stream, scale_of(stream, {0: 1, 1: 1}), left, right)
    if n and m:
        (split,) = result.splits
        assert split.mix + split.within == pytest.approx(right[0][1] / m - left[0][1] / n, abs=1e-12)
    else:
        assert result.splits == ()


def test_a_change_of_mix_is_no_change_of_parts() -> None:
    """More calls of the tool that fails more: all of it mix; one tool that fails more: all of it within."""
    layout = layout_of({"tool": {"a": 2, "b": 1}})
    stream = Stream("", "failed", "share")
    scale = scale_of(stream, {0: 1, 1: 1})
    before = scored([(1, 10, 1000), (2, 100, 1000)])
    mixed = attribute(layout, stream, scale, before, scored([(1, 5, 500), (2, 150, 1500)])).splits[0]
    assert mixed.mix == pytest.approx(0.0225)
    assert mixed.within == pytest.approx(0.0, abs=1e-12)
    result = attribute(layout, stream, scale, before, scored([(1, 10, 1000), (2, 300, 1000)]))
    assert result.splits[0].mix == pytest.approx(0.0, abs=1e-12)
    assert result.splits[0].within == pytest.approx(0.1)
    assert result.top == "tool=b"


def test_what_changes_everywhere_has_no_segment() -> None:
    """A change of all parts alike is named after none of them."""
    layout = layout_of({"tool": {"a": 2, "b": 1}})
    stream = Stream("", "failed", "share")
    before, after = scored([(1, 20, 1000), (2, 20, 1000)]), scored([(1, 80, 1000), (2, 80, 1000)])
    assert attribute(layout, stream, scale_of(stream, {0: 1, 1: 1}), before, after).top == ""


def test_one_value_is_no_segment() -> None:
    """A dimension with one value, or with none, would be the whole again; pairs need two dimensions."""
    assert layout_of({"model": {"m": 100, "": 5}, "tool": {}}).segments == ()
    layout = layout_of({"model": {"m": 9, "n": 3}, "prompt": {"1": 5, "2": 5}}, [("model", "prompt")])
    assert [s.name for s in layout.segments][:3] == ["model=m", "model=n", "prompt=1"]
    assert sum(s.is_pair for s in layout.segments) == 4


def tenants(
    store: MemoryStore,
    first_hour: int,
    n_hours: int,
    *,
    slow: tuple[str, str] | None = None,
    mix: float = 0.5,
) -> None:
    """Add model calls of two tenants on two models; one pair of them may be slower, or one tenant more frequent."""
    for hour in range(first_hour, first_hour + n_hours):
        rng = np.random.default_rng([11, hour])
        n = int(rng.poisson(60))
        tenant = np.where(rng.random(n) < mix, "acme", "globex")
        model = np.where(rng.random(n) < 0.5, "m1", "m2")
        level = np.where(tenant == "globex", 900.0, 300.0)
        if slow is not None:
            level = np.where((tenant == slow[0]) & ((model == slow[1]) | (slow[1] == "")), 2.2 * level, level)
        store.add(
            start_unix_ns=np.sort(rng.integers(0, 3590 * NS, n)) + (MONDAY_S + hour * 3600) * NS,
            duration_ns=(rng.lognormal(0, 0.4, n) * level * 1e6).astype(int),
            input_tokens=rng.integers(100, 900, n), output_tokens=rng.integers(10, 90, n),
            tenant=tenant.tolist(), model=model.tolist(), schema="s",
        )  # fmt: skip


def tenants_verdict(slow: tuple[str, str] | None, mix: float = 0.5) -> Verdict:
    """Fit nine days, change something, and watch two days."""
    store = MemoryStore()
    tenants(store, 0, 9 * 24)
    drift.save_reference(store, drift.fit_reference(store, since_unix_ns=MONDAY_S * NS))
    tenants(store, 9 * 24, 48, slow=slow, mix=mix)
    clock = FrozenClock(unix_ns=(MONDAY_S + 11 * DAY_S + 600) * NS)
    return drift.Checker(store, clock=clock, publish=lambda _: None).check_once()


def test_a_tenant_that_changes_is_named() -> None:
    """One tenant's calls got slower: the alarm names it, as a change within it."""
    verdict = tenants_verdict(("acme", ""))
    assert verdict.status is DriftStatus.DRIFT
    assert verdict.segment == "tenant=acme"
    assert "another mix" not in verdict.sentence


def test_a_pair_of_tenant_and_model_is_named() -> None:
    """Only one tenant on one model got slower: the pair carries it, not either alone."""
    assert tenants_verdict(("acme", "m2")).segment == "model=m2, tenant=acme"


def test_more_calls_of_a_slower_tenant_are_a_change_of_mix() -> None:
    """The whole got slower, and no tenant did: the sentence says so."""
    verdict = tenants_verdict(None, mix=0.15)
    assert verdict.status is DriftStatus.DRIFT
    assert "mostly another mix of tenant" in verdict.sentence


def test_the_label_of_a_run_reaches_the_feature_block(tmp_path: Path) -> None:
    """`run(labels={"tenant": ...})` is a column of the store, live and sealed."""
    for is_sealed in (False, True):
        store = new_store(tmp_path / str(is_sealed))
        spans = [make_span(i, attributes={"agentguard.label.tenant": f"t{i % 2}"}) for i in range(1, 5)]
        write(store, spans, is_sealed=is_sealed)
        blocks = list(store.query().features(["tenant"]))
        assert [text for block in blocks for text in block.columns["tenant"].texts()] == [
            "t1",
            "t0",
            "t1",
            "t0",
        ]
