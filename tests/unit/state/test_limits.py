"""Throttles, budgets and breakers: exact, whoever asks and whoever dies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agentguard.seal import Keystore
from agentguard.state import MachineState, Used, answer_gates, give_back, settle_tickets
from agentguard.state.breakers import Permit, Rested
from agentguard.values import (
    BreakerTerms,
    BudgetTerms,
    Decision,
    DenialKind,
    Effect,
    Mode,
    StateGate,
    ThrottleTerms,
)
from tests.support.clock import FrozenClock
from tests.support.limits import asked, gate, in_processes, three, uneven
from tests.unit.state.conftest import AnyState

TEN = ThrottleTerms(limit=10, window_s=60.0)
TOKENS = BudgetTerms("tokens", 100, 3600.0, "max", call_max=10)
CALLS = BudgetTerms("calls", 3, 86_400.0, call_max=1)


def ask(state: AnyState, *gates: StateGate, **facts: object) -> Decision:
    """Ask, and leave what was drawn as it is."""
    return answer_gates(state, asked(*gates), facts).decision


def test_a_throttle_lets_its_number_through_and_no_more(state: AnyState, clock: FrozenClock) -> None:
    """Ten calls in a minute run; the eleventh is told when to come back, and then runs."""
    for _ in range(10):
        assert ask(state, gate(TEN)).is_allowed
    refused = ask(state, gate(TEN))
    assert (refused.effect, refused.kind, refused.rule_id) == (Effect.THROTTLE, DenialKind.WAIT, "B")
    assert refused.retry_after_s is not None
    assert 57 < refused.retry_after_s <= 63
    clock.advance(refused.retry_after_s)
    assert ask(state, gate(TEN)).is_allowed


def test_no_window_holds_more_than_the_limit(state: AnyState, clock: FrozenClock) -> None:
    """However calls are spread, any 60 s hold at most ten that began."""
    began: list[int] = []
    for step in range(400):
        clock.advance(0.7 + step % 5)
        if ask(state, gate(TEN)).is_allowed:
            began.append(clock.unix_ns())
    assert len(began) > 100
    for index, first in enumerate(began):
        assert sum(1 for moment in began[index:] if moment - first < 60e9) <= 10


def test_keys_are_counted_apart(state: AnyState) -> None:
    """Each value of the key has its own count, and texts that look alike are two."""
    one = gate(ThrottleTerms(1, 60.0), key=("tool.name", "principal.id"))
    assert ask(state, one, **{"tool.name": "a", "principal.id": "b,c"}).is_allowed
    assert ask(state, one, **{"tool.name": "a,b", "principal.id": "c"}).is_allowed
    assert not ask(state, one, **{"tool.name": "a", "principal.id": "b,c"}).is_allowed


def test_a_key_without_a_value_denies(state: AnyState) -> None:
    """What cannot be counted does not run, unless nothing is enforced."""
    refused = ask(state, gate(TEN, key=("principal.id",)))
    assert (refused.effect, refused.errors) == (Effect.DENY, ("B: the key `principal.id` has no value",))
    noted = ask(state, gate(TEN, key=("principal.id",), mode=Mode.SHADOW))
    assert noted.is_allowed
    assert noted.errors


def test_a_budget_sets_aside_and_settles(state: AnyState, clock: FrozenClock) -> None:
    """What is set aside counts; what was not used comes back; the next window begins anew."""
    budget = asked(gate(TOKENS))
    running = [answer_gates(state, budget, {}) for _ in range(10)]
    assert all(answer.decision.is_allowed for answer in running)
    refused = answer_gates(state, budget, {}).decision
    assert (refused.effect, refused.kind) == (Effect.DENY, DenialKind.WAIT)
    for answer in running:
        settle_tickets(state, answer.tickets, Used(tokens=4), is_error=False)
    state.flush()
    clock.advance(0.1)
    admitted = [answer_gates(state, budget, {}) for _ in range(7)]
    assert [answer.decision.is_allowed for answer in admitted] == [True] * 6 + [False]
    clock.advance(3600)
    for answer in admitted[:6]:
        give_back(state, answer.tickets)
    state.flush()
    assert ask(state, gate(TOKENS)).is_allowed


def test_a_used_up_budget_says_until_when(state: AnyState, clock: FrozenClock) -> None:
    """Three calls a day: the fourth waits for midnight UTC, and the budget warned before."""
    soft = gate(CALLS._replace(soft=0.6))
    warned = []
    for _ in range(3):
        answer = answer_gates(state, asked(soft), {})
        settle_tickets(state, answer.tickets, Used(), is_error=False)
        warned.append(answer.decision.warnings)
    assert warned == [(), ("B",), ("B",)]
    refused = ask(state, soft)
    assert refused.retry_after_s == pytest.approx(86_400)
    clock.advance(86_400)
    assert ask(state, soft).is_allowed


def test_an_estimate_learns(state: AnyState) -> None:
    """The first call is taken to use a hundredth; later ones what calls used on average."""
    terms = BudgetTerms("tokens", 1000, 3600.0, "estimate")
    first = answer_gates(state, asked(gate(terms)), {})
    assert first.tickets[0].drawn.amount == 10  # type: ignore[union-attr]
    settle_tickets(state, first.tickets, Used(tokens=300), is_error=False)
    state.flush()
    second = answer_gates(state, asked(gate(terms)), {})
    assert second.tickets[0].drawn.amount == 300  # type: ignore[union-attr]
    settle_tickets(state, second.tickets, Used(tokens=None), is_error=True)
    state.flush()
    refused = [ask(state, gate(terms)).is_allowed for _ in range(2)]
    assert refused == [True, False]


def test_what_goes_beyond_is_counted(state: AnyState) -> None:
    """A call that used more than was set aside is charged whole, and named."""
    answer = answer_gates(state, asked(gate(TOKENS)), {})
    assert settle_tickets(state, answer.tickets, Used(tokens=500), is_error=False) == ["B"]
    assert not ask(state, gate(TOKENS)).is_allowed


def test_without_a_reserve_only_what_is_spent_counts(state: AnyState) -> None:
    """`reserve: none` lets calls begin until the limit is spent."""
    terms = BudgetTerms("tokens", 100, 3600.0, "none")
    running = [answer_gates(state, asked(gate(terms)), {}) for _ in range(5)]
    for answer in running:
        assert answer.decision.is_allowed
        settle_tickets(state, answer.tickets, Used(tokens=60), is_error=False)
    state.flush()
    assert not ask(state, gate(terms)).is_allowed


def test_a_budget_in_shadow_only_says_so(state: AnyState) -> None:
    """What is not enforced lets the call run and says what it would have done."""
    shadow = gate(CALLS._replace(limit=1), mode=Mode.SHADOW)
    assert ask(state, shadow).would_be is None
    noted = ask(state, shadow)
    assert (noted.effect, noted.would_be) == (Effect.ALLOW, Effect.DENY)
    assert "NOT ENFORCED (shadow)" in noted.reason
    assert noted.matched[0].rule_id == "B"


def test_a_refusal_gives_back_what_came_before(state: AnyState) -> None:
    """Where the second budget refuses, the first has lost nothing."""
    wide = gate(CALLS)._replace(rule_id="WIDE")
    closed = gate(CALLS._replace(limit=1))
    assert ask(state, closed).is_allowed
    for _ in range(5):
        assert not ask(state, wide, closed).is_allowed
    state.flush()
    assert [ask(state, wide).is_allowed for _ in range(4)] == [True, True, True, False]


def test_what_a_dead_process_held_counts_as_spent(
    open_machine: Callable[..., MachineState], clock: FrozenClock
) -> None:
    """Reservations of a process that is gone are counted, before and after they expire."""
    dead, alive = open_machine(), open_machine()
    for _ in range(10):
        assert answer_gates(dead, asked(gate(TOKENS)), {}).decision.is_allowed
    dead.ledger.forget()
    assert not ask(alive, gate(TOKENS)).is_allowed
    clock.advance(150)
    assert not ask(alive, gate(TOKENS)).is_allowed
    clock.advance(3600)
    assert ask(alive, gate(TOKENS)).is_allowed


def test_a_process_that_slept_too_long_counts_nothing_twice(
    open_machine: Callable[..., MachineState], clock: FrozenClock
) -> None:
    """A lease that ran out is spent; when its calls settle, only what went beyond is added."""
    asleep, awake = open_machine(), open_machine()
    running = [answer_gates(asleep, asked(gate(TOKENS)), {}) for _ in range(4)]
    clock.advance(130)
    assert ask(awake, gate(TOKENS)).is_allowed
    asleep.flush()
    for answer in running:
        settle_tickets(asleep, answer.tickets, Used(tokens=10), is_error=False)
    asleep.flush()
    clock.advance(3)
    assert [ask(asleep, gate(TOKENS)).is_allowed for _ in range(6)] == [True] * 5 + [False]


def test_state_that_cannot_be_written_denies(place: tuple[Path, Keystore], clock: FrozenClock) -> None:
    """Without the state no limit lets anything run, in mode `enforce`."""
    told: list[tuple[str, BaseException]] = []
    machine = MachineState.open(*place, clock, on_internal_error=lambda *what: told.append(what))
    machine.flush()
    for name in ("state.db", "state.lock"):
        (place[0] / name).unlink(missing_ok=True)
    machine._cells.close()
    refused = ask(machine, gate(TEN))
    assert (refused.effect, refused.kind) == (Effect.DENY, DenialKind.FORBIDDEN)
    assert refused.errors == ("B: StoreError",)
    assert told == [] or {where for where, _ in told} <= {"state.limits"}
    machine._keeper.close(5.0)
    machine._is_closed = True


def test_a_row_of_a_limit_that_was_altered_denies(place: tuple[Path, Keystore], clock: FrozenClock) -> None:
    """Somebody else's bytes are no count."""
    told: list[tuple[str, BaseException]] = []
    machine = MachineState.open(*place, clock, on_internal_error=lambda *what: told.append(what))
    assert ask(machine, gate(TEN)).is_allowed
    machine._cells._run(machine._cells._connected(), "UPDATE cells SET payload = x'00' WHERE kind = 'pot'")  # type: ignore[attr-defined]
    clock.advance(5)
    assert not ask(machine, gate(TEN)).is_allowed
    assert told == [] or {where for where, _ in told} <= {"state.limits"}
    machine._keeper.close(5.0)
    machine._is_closed = True


def test_a_limit_that_was_removed_or_set_back_denies(
    place: tuple[Path, Keystore], clock: FrozenClock
) -> None:
    """Less spent than before is no state: whoever deletes a row wins nothing from a process that has seen it."""
    told: list[tuple[str, BaseException]] = []
    machine = MachineState.open(*place, clock, on_internal_error=lambda *what: told.append(what))
    for _ in range(10):
        assert ask(machine, gate(TEN)).is_allowed
    machine.flush()
    cells = machine._cells
    cells._run(cells._connected(), "DELETE FROM cells WHERE kind = 'pot'")  # type: ignore[attr-defined]
    clock.advance(5)
    refused = ask(machine, gate(TEN._replace(limit=20)))
    assert (refused.effect, refused.errors) == (Effect.DENY, ("B: StoreError",))
    clock.advance(70)
    assert ask(machine, gate(TEN)).is_allowed
    machine.breakers.ask("p/B[]", TERMS, is_tripped=True)
    assert not ask(machine, breaker(is_tripped=False)).is_allowed
    cells._run(cells._connected(), "DELETE FROM cells WHERE kind = 'breaker'")  # type: ignore[attr-defined]
    clock.advance(2)
    assert ask(machine, breaker(is_tripped=False)).errors == ("B: StoreError",)
    machine._keeper.close(5.0)
    machine._is_closed = True


# Breakers

TERMS = BreakerTerms(open_for_s=120.0, probe=2)


def breaker(*, is_tripped: bool) -> StateGate:
    """A gate with a breaker of two probes."""
    return StateGate(Effect.CIRCUIT_BREAK, "p", "B", "About B", Mode.ENFORCE, (), TERMS, is_tripped)


def test_a_breaker_opens_tries_and_closes(state: AnyState, clock: FrozenClock) -> None:
    """Open for two minutes, then two calls are tried, and with both it is closed and forgives."""
    assert ask(state, breaker(is_tripped=False)).is_allowed
    opened = ask(state, breaker(is_tripped=True))
    assert (opened.effect, opened.retry_after_s) == (Effect.CIRCUIT_BREAK, 120.0)
    clock.advance(60)
    assert ask(state, breaker(is_tripped=False)).retry_after_s == 60.0
    clock.advance(60)
    tried = [answer_gates(state, asked(breaker(is_tripped=True)), {}) for _ in range(3)]
    assert [answer.decision.is_allowed for answer in tried] == [True, True, False]
    for answer in tried[:2]:
        settle_tickets(state, answer.tickets, Used(), is_error=False)
    state.flush()
    forgiven = answer_gates(state, asked(breaker(is_tripped=True)), {})
    assert forgiven.decision.is_allowed
    settle_tickets(state, forgiven.tickets, Used(), is_error=True)
    state.flush()
    assert not ask(state, breaker(is_tripped=True)).is_allowed


def test_a_failed_try_opens_it_again(state: AnyState, clock: FrozenClock) -> None:
    """One failure among the tried calls is enough."""
    ask(state, breaker(is_tripped=True))
    clock.advance(121)
    tried = answer_gates(state, asked(breaker(is_tripped=False)), {})
    settle_tickets(state, tried.tickets, Used(), is_error=True)
    state.flush()
    assert ask(state, breaker(is_tripped=False)).retry_after_s == 120.0


def test_a_try_that_did_not_run_is_given_to_another(state: AnyState, clock: FrozenClock) -> None:
    """What another rule held back has tried nothing; what nobody ended is given up in time."""
    ask(state, breaker(is_tripped=True))
    clock.advance(121)
    first = answer_gates(state, asked(breaker(is_tripped=False)), {})
    give_back(state, first.tickets)
    state.flush()
    lost = [answer_gates(state, asked(breaker(is_tripped=False)), {}) for _ in range(3)]
    assert [answer.decision.is_allowed for answer in lost] == [True, True, False]
    clock.advance(121)
    assert ask(state, breaker(is_tripped=False)).is_allowed


def test_every_process_sees_an_open_breaker_at_once(open_machine: Callable[..., MachineState]) -> None:
    """What one process opens is open for the next call of another."""
    one, other = open_machine(), open_machine()
    assert ask(other, breaker(is_tripped=False)).is_allowed
    assert isinstance(one.breakers.ask("p/B[]", TERMS, is_tripped=True), Rested)
    assert not ask(other, breaker(is_tripped=False)).is_allowed


def test_shadows_do_not_share_the_names_of_others(state: AnyState, clock: FrozenClock) -> None:
    """A permit is for its breaker alone."""
    state.breakers.ask("other", TERMS, is_tripped=True)
    clock.advance(121)
    permit = state.breakers.ask("other", TERMS, is_tripped=False)
    assert isinstance(permit, Permit)
    assert ask(state, breaker(is_tripped=False)).is_allowed


# Many at once


def test_processes_and_threads_never_pass_the_limit(place: tuple[Path, Keystore]) -> None:
    """Two processes of four threads use exactly what a budget has, and not one token more."""
    terms = BudgetTerms("tokens", 90, 86_400.0, "max", call_max=3)
    tried = in_processes(place[0], 2, terms=terms, threads=4, calls=10, amount=three, pause_s=0.02)
    assert sum(one.used for one in tried) == 90
    assert sum(one.admitted for one in tried) == 30


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("amount", "limit"), [(three, 2_000), (uneven, 3_001)])
def test_four_processes_of_eight_threads(
    place: tuple[Path, Keystore], amount: Callable[[int], int], limit: int
) -> None:
    """Spend never passes the limit, and comes within one call of it."""
    terms = BudgetTerms("tokens", limit, 86_400.0, "max", call_max=5)
    tried = in_processes(place[0], 4, terms=terms, threads=8, calls=120, amount=amount, pause_s=0.03)
    used = sum(one.used for one in tried)
    assert limit - 5 * 4 <= used <= limit


def test_nothing_is_asked_where_there_is_no_gate(state: AnyState) -> None:
    """A decision without gates is given back as it is."""
    plain = Decision(Effect.ALLOW)
    assert answer_gates(state, plain, {}).decision is plain


def test_too_many_keys_deny(state: AnyState, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could grow without end is refused."""
    monkeypatch.setattr("agentguard.state.ledger.POTS_MAX", 2)
    counted = gate(TEN, key=("principal.id",))
    for person in ("a", "b"):
        assert ask(state, counted, **{"principal.id": person}).is_allowed
    refused = ask(state, counted, **{"principal.id": "c"})
    assert refused.effect is Effect.DENY
