"""Alarms in a person's hands: armed with a measured promise, explained, acknowledged, reset, drawn on a page."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from agentguard import drift
from agentguard.drift._simulate import HOUR_S, MONDAY_S, Change, simulate
from agentguard.drift._streams import Stream
from agentguard.drift._tier import Alarm
from agentguard.drift._verdicts import as_read, to_json
from agentguard.errors import BaselineTooSmallError, DriftInputError
from agentguard.values import DriftStatus
from tests.support.clock import FrozenClock
from tests.support.feature_store import MemoryStore, fill

DAY_S, NS = 86_400, 10**9
BORDER = (MONDAY_S + 21 * DAY_S) * NS


@pytest.fixture
def alarmed() -> tuple[MemoryStore, FrozenClock]:
    """Three quiet weeks, and latency up by two thirds from day 22 on; the watch has alarmed."""
    store = MemoryStore()
    fill(store, simulate(3, days=26, change=Change(22 * 24, latency=1.67)), start_s=MONDAY_S)
    drift.save_reference(store, drift.fit_reference(store, since_unix_ns=MONDAY_S * NS, until_unix_ns=BORDER))
    clock = FrozenClock(unix_ns=(MONDAY_S + 25 * DAY_S + 600) * NS)
    assert checked(store, clock) is DriftStatus.DRIFT
    return store, clock


def checked(store: MemoryStore, clock: FrozenClock) -> DriftStatus:
    """One pass."""
    return drift.Checker(store, clock=clock, publish=lambda _: None).check_once().status


def test_an_alarm_is_explained(alarmed: tuple[MemoryStore, FrozenClock]) -> None:
    """The newest alarm again, with effect, interval and change point; one that never was is refused."""
    store, _ = alarmed
    found = drift.explain(store)
    assert found.verdict.features[0].effect_unit == "ms"
    assert found.verdict.features[0].effect_low < found.verdict.features[0].effect
    assert abs(found.verdict.change_unix_ns / NS - (MONDAY_S + 22 * DAY_S)) < 12 * HOUR_S
    assert found.verdict.sentence.count("(") == found.verdict.sentence.count(")")
    with pytest.raises(DriftInputError, match="got alarm 99"):
        drift.explain(store, number=99)
    with pytest.raises(DriftInputError, match="no reference is stored"):
        drift.explain(MemoryStore())
    drift.save_reference(store, drift.fit_reference(store, until_unix_ns=BORDER))
    with pytest.raises(DriftInputError, match="was replaced"):
        drift.explain(store)


def test_streams_are_told_as_a_person_reads_them() -> None:
    """Shares of a tail come last, and what changed everywhere is not told as a part's."""
    whole, tail = Stream("tool", "latency", "rank"), Stream("tool", "latency", "tail")
    parts = [Stream("tool", "latency", "rank", segment=name) for name in ("tool=a", "tool=b", "tool=c")]
    names = tuple(stream.name for stream in (tail, parts[1], parts[0], whole))
    alarm = Alarm("drift", 9, 7, names, (0.1,) * 4, (0.01,) * 4, 9.0)
    streams = [whole, tail, *parts]
    assert as_read(alarm, streams, "") == [whole, parts[1], parts[0], tail]
    assert as_read(alarm, streams, "tool=a") == [parts[0], parts[1], whole, tail]


def test_a_known_alarm_is_a_warning(alarmed: tuple[MemoryStore, FrozenClock]) -> None:
    """Acknowledged, the verdict is a warning with the note, on this pass and the next; twice changes nothing."""
    store, clock = alarmed
    assert drift.acknowledge(store, note="the new model, on purpose") >= 1
    assert drift.acknowledge(store, note="again") == 0
    assert checked(store, clock) is DriftStatus.WARNING
    clock.advance(3 * HOUR_S)
    assert checked(store, clock) is DriftStatus.WARNING
    assert "the new model, on purpose" in drift.last_verdict(store).sentence
    assert drift.alarm_history(store)[-1]["acknowledged"] == "the new model, on purpose"
    with pytest.raises(DriftInputError, match="got 0 characters"):
        drift.acknowledge(store, note="")


def test_reset_forgets_evidence_and_keeps_the_list(alarmed: tuple[MemoryStore, FrozenClock]) -> None:
    """After a reset the watch knows nothing, goes on from now, and finds the change again."""
    store, clock = alarmed
    before = drift.alarm_history(store)
    drift.reset(store, now_unix_ns=clock.unix_ns())
    assert drift.last_verdict(store).status is DriftStatus.UNKNOWN
    assert drift.alarm_history(store) == before
    assert checked(store, clock) is not DriftStatus.DRIFT
    clock.advance(DAY_S)
    assert checked(store, clock) is DriftStatus.DRIFT
    store.sealed_blob("drift-state").is_locked = True
    with pytest.raises(DriftInputError, match="another process is at it"):
        drift.reset(store, now_unix_ns=clock.unix_ns())


def test_arming_holds_the_promise_or_refuses() -> None:
    """Quiet weeks are armed as they are; a promise out of all proportion raises the threshold or is refused."""
    store = MemoryStore()
    fill(store, simulate(5, days=21), start_s=MONDAY_S)
    reference = drift.fit_reference(store)
    armed = drift.arm(store, reference, years=0.25)
    assert armed.incident.log_threshold >= reference.incident.log_threshold
    assert "Measured on days drawn from it" in armed.sentence
    assert armed.reference_id != reference.reference_id
    assert drift.Reference.from_bytes(armed.to_bytes()).reference_id == armed.reference_id
    short = MemoryStore()
    fill(short, simulate(5, days=2), start_s=MONDAY_S)
    unarmed = drift.fit_reference(short)
    assert drift.arm(short, unarmed) is unarmed
    with pytest.raises(BaselineTooSmallError, match="no longer in the store"):
        drift.arm(MemoryStore(), reference)


def test_a_time_that_changes_within_cannot_carry_a_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where raising the threshold does not help, arming is refused in one sentence with a way out."""
    from agentguard.drift import _power

    store = MemoryStore()
    fill(store, simulate(5, days=21), start_s=MONDAY_S)
    reference = drift.fit_reference(store)
    rates = iter([25.0, 1.5, 0.5])
    monkeypatch.setattr(_power, "rate_of", lambda *_, **__: next(rates, 0.0))
    armed = drift.arm(store, reference)
    assert armed.incident.log_threshold > reference.incident.log_threshold + np.log(25)
    monkeypatch.setattr(_power, "rate_of", lambda *_, **__: 20.0)
    with pytest.raises(
        BaselineTooSmallError, match=r"cannot carry 1 false alarms a year: 20\.0 a year are left"
    ):
        drift.arm(store, reference)


def test_the_smallest_effects_are_in_the_features_own_unit() -> None:
    """Each feature of the whole gets a size, larger ones for what is noisier."""
    store = MemoryStore()
    fill(store, simulate(5, days=21), start_s=MONDAY_S)
    reference = drift.fit_reference(store)
    found = {one.stream: one for one in drift.smallest_effects(store, reference, runs=5)}
    assert found["model.response_latency_ms"].unit == "ms"
    assert 1.1 <= found["model.response_latency_ms"].factor <= 1.5
    assert found["model.token_count"].factor <= 1.2
    assert 0.01 <= found["model.error_rate"].effect <= 0.05
    assert "%" in str(found["model.token_count"])
    assert "pp" in str(found["model.error_rate"])


class Links(HTMLParser):
    """Collects what a page would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note tags and attributes that reach outside."""
        if tag in {"script", "link", "img", "iframe", "object", "embed"}:
            self.found.append(tag)
        self.found += [
            f"{tag} {name}" for name, _ in attrs if name in {"src", "href"} or name.startswith("on")
        ]


def test_the_page_is_self_contained_and_escaped(alarmed: tuple[MemoryStore, FrozenClock]) -> None:
    """One page with charts and alarms; nothing is fetched or run, and foreign text is text."""
    store, clock = alarmed
    evil = "<script>alert(1)</script>"
    drift.acknowledge(store, note=evil)
    page = drift.report(store, now_unix_ns=clock.unix_ns(), title=evil, measured=evil)
    reader = Links()
    reader.feed(page)
    assert reader.found == []
    assert "<script" not in page
    assert page.count("<svg") > 6
    assert "NaN" not in page
    assert not re.search(r"[\"' ,]nan[\"' ,]", page)
    assert "false alarms a year" in page
    assert page.count('stroke="#b3261e"') > 4
    with pytest.raises(DriftInputError, match="no reference is stored"):
        drift.report(MemoryStore(), now_unix_ns=1)


def test_the_page_says_what_came_too_late_and_what_is_past(alarmed: tuple[MemoryStore, FrozenClock]) -> None:
    """Late calls are counted on the page; alarms against a reference that was replaced are marked."""
    store, clock = alarmed
    page = drift.report(store, now_unix_ns=clock.unix_ns())
    assert "too late to be judged" not in page
    assert "against an earlier reference" not in page
    store.sealed_blob("drift-verdict").write(to_json(replace(drift.last_verdict(store), late_calls=1)))
    drift.save_reference(store, drift.fit_reference(store, until_unix_ns=BORDER))
    page = drift.report(store, now_unix_ns=clock.unix_ns())
    assert "<th>too late to be judged</th><td>1 call</td>" in page
    assert "against an earlier reference" in page


def test_a_page_without_a_season_and_without_calls() -> None:
    """A reference of minutes, and one after which nothing came, give a page that says so."""
    store = MemoryStore()
    fill(store, simulate(5, days=2), start_s=MONDAY_S)
    drift.save_reference(store, drift.fit_reference(store))
    assert "no chart" in drift.report(store, now_unix_ns=BORDER)
    fill(store, simulate(6, days=8), start_s=MONDAY_S)
    drift.save_reference(store, drift.fit_reference(store))
    assert "No whole window has ended" in drift.report(store, now_unix_ns=BORDER)
