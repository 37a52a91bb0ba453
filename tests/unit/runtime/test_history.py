"""Rules that ask what was let run before, through real calls."""

from __future__ import annotations

import pytest

import agentguard
from tests.unit.runtime.conftest import Start

SPLIT = """
- id: PAY-001
  title: A day's total above 100 needs a person
  at: tool.before
  when: tool.name == 'pay' && args.usd + history.sum('usd', '1d', principal.id) > 100.0
  then: deny
- id: PAY-002
  title: Four payments in ten minutes are enough
  at: tool.before
  when: tool.name == 'pay' && history.count('10m', principal.id) >= 4
  then: deny
- id: EXF-001
  title: Whoever has read a customer sends no mail
  at: tool.before
  when: tool.name == 'mail' && history.called('read_customer', duration('10m'))
  then: deny
"""


@agentguard.tool(effect="write")
def pay(usd: float) -> str:
    """Pay."""
    return f"paid {usd:g}"


@agentguard.tool(effect="read")
def read_customer() -> str:
    """Read."""
    return "ann"


@agentguard.tool(effect="write")
def mail() -> str:
    """Send."""
    return "sent"


def test_split_payments_add_up(start: Start) -> None:
    """Each is small, together they are too much; another person has a sum of their own."""
    start(SPLIT)
    with agentguard.run(principal="ann"):
        assert pay(60.0)
        assert pay(-500.0)
        with pytest.raises(agentguard.CallDenied) as caught:
            pay(41.0)
        assert caught.value.decision.rule_id == "PAY-001"
        assert pay(40.0)
    with agentguard.run(principal="bob"):
        assert pay(41.0)


def test_calls_are_counted(start: Start) -> None:
    """The fifth is one too many, in whatever run."""
    start(SPLIT)
    for _ in range(4):
        with agentguard.run(principal="ann"):
            assert pay(1.0)
    with agentguard.run(principal="ann"), pytest.raises(agentguard.CallDenied) as caught:
        pay(1.0)
    assert caught.value.decision.rule_id == "PAY-002"


def test_a_sequence_is_seen_within_its_run(start: Start) -> None:
    """Reading before sending is refused in one run, and is nothing in the next."""
    start(SPLIT)
    with agentguard.run():
        assert mail()
        assert read_customer()
        with pytest.raises(agentguard.CallDenied) as caught:
            mail()
        assert caught.value.decision.rule_id == "EXF-001"
    with agentguard.run():
        assert mail()


def test_a_past_that_cannot_be_read_denies(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the state is an evaluation error."""
    runtime = start(SPLIT, strict=False)

    def broken(*_: object) -> None:
        raise OSError("gone")

    monkeypatch.setattr(runtime.state.memory, "total", broken)
    with pytest.raises(agentguard.CallDenied) as caught:
        pay(1.0)
    assert caught.value.decision.errors


def test_what_cannot_be_remembered_does_not_run(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that would be missing from the sums is not made."""
    runtime = start(SPLIT, strict=False)

    def broken(*_: object) -> None:
        raise OSError("gone")

    monkeypatch.setattr(runtime.state.memory, "remember", broken)
    with pytest.raises(agentguard.CallDenied) as caught:
        pay(1.0)
    assert caught.value.decision.errors == ("the history: OSError",)
