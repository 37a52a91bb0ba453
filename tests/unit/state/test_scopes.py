"""Grants for more than one call: never wider than the rule, never used more often than granted."""

from __future__ import annotations

import multiprocessing
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentguard.errors import PolicyError
from agentguard.runtime.clock import SystemClock
from agentguard.seal import FileKey, create_key_file, create_keystore, open_keystore
from agentguard.state import (
    Action,
    MachineState,
    MemoryState,
    RequestState,
    Scope,
    Vote,
    check_scope,
    freeze_action,
    sign_vote,
    vote_document,
    vote_of,
)
from agentguard.values import ApprovalTerms, GrantScopes
from tests.support.clock import FrozenClock
from tests.unit.state.test_approvals import APPROVERS, KEYS, AnyState

WIDEST = GrantScopes(5, 3600.0)
TERMS = ApprovalTerms(("group:pay",), 1, 900.0, WIDEST)
OPEN = TERMS._replace(scopes=GrantScopes(5, 3600.0, any_run=True, any_arguments=True))
RULE = {"policy": "pay", "rule_id": "PAY-1"}


def action(**args: object) -> Action:
    """A call of one tool by one agent."""
    return freeze_action("tool.before", tool="wire", agent="support", principal="cy", args={"usd": 9, **args})


def ask(state: AnyState, terms: ApprovalTerms = TERMS, **args: object) -> str:
    """Ask for it, in run r1."""
    return state.approvals.request(action(**args), terms, run_id="r1", **RULE)


def sign(
    state: AnyState, clock: FrozenClock, token: str, scope: Scope | None, who: str = "ann"
) -> RequestState:
    """Hand in an approval."""
    request = state.approvals.show(token)
    vote = sign_vote(
        KEYS[who], store_id=state.approvals.store_id, token=token, digest=request.digest, approver=who,
        time_unix_s=clock.unix_ns() // 10**9, scope=scope,
    )  # fmt: skip
    return state.approvals.grant(token, vote, APPROVERS).state


def use(state: AnyState, terms: ApprovalTerms = TERMS, *, run: str = "r1", **args: object) -> bool:
    """Make one call."""
    found = state.approvals.use_scoped(
        action(**args), terms, APPROVERS, run_id=run, covers=lambda when, args: args["usd"] <= int(when), **RULE
    )  # fmt: skip
    return found is not None


def test_it_is_used_as_often_as_granted(state: AnyState, clock: FrozenClock) -> None:
    """Two uses, then people are asked again; each use names the approval."""
    token = ask(state)
    assert sign(state, clock, token, Scope(2, 600, "r1")) is RequestState.GRANTED
    assert state.approvals.find_grant(action().digest, TERMS, APPROVERS, requester="cy") is None
    assert [use(state) for _ in range(3)] == [True, True, False]
    assert state.approvals.show(token).state is RequestState.USED
    assert ask(state) != token


def test_it_lasts_as_long_as_granted(state: AnyState, clock: FrozenClock) -> None:
    """Not a second longer, whatever is left of it."""
    token = ask(state)
    sign(state, clock, token, Scope(5, 600, "r1"))
    clock.advance(599)
    assert use(state)
    clock.advance(1)
    assert not use(state)
    assert state.approvals.show(token).state is RequestState.EXPIRED
    assert state.approvals.scoped() == ()


def test_it_is_for_the_run_that_asked(state: AnyState, clock: FrozenClock) -> None:
    """Unless the rule and the approver let any run use it."""
    sign(state, clock, ask(state), Scope(2, 600, "r1"))
    assert not use(state, run="r2")
    sign(state, clock, ask(state, OPEN, other=1), Scope(2, 600))
    assert use(state, OPEN, run="r2", other=1)


def test_it_is_for_the_arguments_that_were_asked_for(state: AnyState, clock: FrozenClock) -> None:
    """Unless the rule and the approver let a condition decide."""
    sign(state, clock, ask(state), Scope(2, 600, "r1"))
    assert not use(state, usd=8)
    sign(state, clock, ask(state, OPEN), Scope(5, 600, "r1", "10"))
    assert [use(state, OPEN, usd=usd) for usd in (1, 10, 11)] == [True, True, False]


def test_it_is_for_that_tool_agent_and_person(state: AnyState, clock: FrozenClock) -> None:
    """Whoever else calls, or whatever other rule asks, is not granted."""
    sign(state, clock, ask(state, OPEN), Scope(5, 600, "", "10"))
    others = [
        action()._replace(tool="sql"), action()._replace(agent="other"), action()._replace(principal="dee"),
        action()._replace(point="agent.before"),
    ]  # fmt: skip
    for other in others:
        assert (
            state.approvals.use_scoped(other, OPEN, APPROVERS, run_id="r1", covers=lambda *_: True, **RULE)
            is None
        )
    other_rule = {"policy": "pay", "rule_id": "PAY-2"}
    assert (
        state.approvals.use_scoped(
            action(), OPEN, APPROVERS, run_id="r1", covers=lambda *_: True, **other_rule
        )
        is None
    )


@pytest.mark.parametrize(
    ("scope", "said"),
    [
        (Scope(6, 600, "r1"), "got 6 uses, the rule allows 1 to 5"),
        (Scope(0, 600, "r1"), "got 0 uses"),
        (Scope(1, 3601, "r1"), "got 3601 s, the rule allows 1 to 3600 s"),
        (Scope(1, 0, "r1"), "got 0 s"),
        (Scope(1, 600), "no other run"),
        (Scope(1, 600, "r2"), "names another run"),
        (Scope(1, 600, "r1", "true"), "no other arguments"),
    ],
)
def test_a_wider_scope_is_refused(state: AnyState, clock: FrozenClock, scope: Scope, said: str) -> None:
    """In one line, and the request is as it was."""
    token = ask(state)
    before = state.approvals.show(token)
    with pytest.raises(PolicyError) as caught:
        sign(state, clock, token, scope)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert state.approvals.show(token) == before


def test_a_rule_without_scopes_grants_once(state: AnyState, clock: FrozenClock) -> None:
    """A scope is refused there."""
    token = ask(state, TERMS._replace(scopes=None))
    with pytest.raises(PolicyError, match="nobody grant more"):
        sign(state, clock, token, Scope(1, 60, "r1"))


def test_a_rule_that_became_stricter_counts(state: AnyState, clock: FrozenClock) -> None:
    """What is wider than it allows now is worth nothing now."""
    sign(state, clock, ask(state), Scope(5, 600, "r1"))
    assert not use(state, TERMS._replace(scopes=None))
    assert not use(state, TERMS._replace(scopes=GrantScopes(4, 3600.0)))
    assert use(state)


def test_the_scope_is_what_was_signed(state: AnyState, clock: FrozenClock) -> None:
    """A vote with another scope than the signed one does not count."""
    token = ask(state)
    request = state.approvals.show(token)
    vote = sign_vote(
        KEYS["ann"], store_id=state.approvals.store_id, token=token, digest=request.digest, approver="ann",
        time_unix_s=clock.unix_ns() // 10**9, scope=Scope(1, 60, "r1"),
    )  # fmt: skip
    for forged in (Scope(5, 60, "r1"), Scope(1, 61, "r1"), None):
        with pytest.raises(PolicyError, match="the signature is not"):
            state.approvals.grant(token, vote._replace(scope=forged), APPROVERS)
    assert vote_of(vote_document(vote)) == vote
    for wrong in ({"uses": 1}, {"uses": True, "lasts_s": 1, "run": "", "when": ""}, 7):
        with pytest.raises(PolicyError, match="scope"):
            vote_of({**vote_document(vote), "scope": wrong})


def test_all_approvers_sign_the_same_scope(state: AnyState, clock: FrozenClock) -> None:
    """Who signs another one is told, and nothing changes."""
    terms = TERMS._replace(approvals=2)
    token = ask(state, terms)
    assert sign(state, clock, token, Scope(2, 600, "r1")) is RequestState.PENDING
    for other in (Scope(3, 600, "r1"), None):
        with pytest.raises(PolicyError, match="others have signed another scope"):
            sign(state, clock, token, other, "bob")
    assert sign(state, clock, token, Scope(2, 600, "r1"), "bob") is RequestState.GRANTED
    assert use(state, terms)


def test_it_is_listed_and_revoked(state: AnyState, clock: FrozenClock) -> None:
    """With what is left of it; a revoked one grants nothing, and cannot be revoked again."""
    token = ask(state)
    with pytest.raises(PolicyError, match="is pending, not granted"):
        state.approvals.revoke(token, by="op")
    sign(state, clock, token, Scope(3, 600, "r1"))
    use(state)
    (listed,) = state.approvals.scoped()
    assert (listed.request.token, listed.used, listed.scope.uses) == (token, 1, 3)
    assert state.approvals.revoke(token, by="op").denied_by == "op"
    assert not use(state)
    assert state.approvals.scoped() == ()
    with pytest.raises(PolicyError, match="is denied, not granted"):
        state.approvals.revoke(token, by="op")


@given(
    widest=st.builds(
        GrantScopes,
        st.integers(1, 9),
        st.integers(1, 9).map(float),
        any_run=st.booleans(),
        any_arguments=st.booleans(),
    ),
    scope=st.builds(
        Scope,
        st.integers(-1, 10),
        st.integers(-1, 10),
        st.sampled_from(["", "r1", "r2"]),
        st.sampled_from(["", "x"]),
    ),
)
def test_what_is_accepted_is_within_the_rule(widest: GrantScopes, scope: Scope) -> None:
    """For every rule and scope: accepted exactly where it is no wider in anything."""
    is_within = (
        1 <= scope.uses <= widest.uses and 1 <= scope.lasts_s <= widest.lasts_s
        and (scope.run == "r1" or (not scope.run and widest.any_run)) and (not scope.when or widest.any_arguments)
    )  # fmt: skip
    try:
        check_scope(scope, TERMS._replace(scopes=widest), run_id="r1")
        is_accepted = True
    except PolicyError:
        is_accepted = False
    assert is_accepted is is_within


@given(uses=st.integers(1, 5), calls=st.integers(0, 8))
def test_never_one_more(uses: int, calls: int) -> None:
    """For every grant and every number of calls: as many as granted, or as called."""
    clock = FrozenClock()
    state = MemoryState(clock)
    sign(state, clock, ask(state), Scope(uses, 600, "r1"))
    assert sum(use(state) for _ in range(calls)) == min(uses, calls)


def _call(store: Path, tries: int, pipe: Any) -> None:
    """Use a grant from eight threads of one process, as often as there is something left."""
    state = MachineState.open(
        store, open_keystore(store, FileKey(store.parent / "key")), SystemClock(), on_internal_error=lambda *_: None
    )  # fmt: skip
    got: list[bool] = []
    terms = TERMS._replace(scopes=GrantScopes(100, 3600.0))

    def work() -> None:
        got.extend(use(state, terms) for _ in range(tries))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    state.close()
    pipe.send(sum(got))


def test_four_processes_of_eight_threads_never_use_one_more(tmp_path: Path) -> None:
    """64 calls at once on a grant of 40: exactly 40 run."""
    store = tmp_path / "store"
    store.mkdir(mode=0o700)
    keystore = create_keystore(store, create_key_file(tmp_path / "key"))
    state = MachineState.open(store, keystore, SystemClock(), on_internal_error=lambda *_: None)
    terms = TERMS._replace(scopes=GrantScopes(100, 3600.0))
    sign(state, SystemClock(), ask(state, terms), Scope(40, 3600, "r1"))  # type: ignore[arg-type]
    context = multiprocessing.get_context("spawn")
    running = []
    for _ in range(4):
        mine, theirs = context.Pipe()
        child = context.Process(target=_call, args=(store, 2, theirs))
        child.start()
        running.append((mine, child))
    used = sum(mine.recv() for mine, _ in running)
    for mine, child in running:
        child.join()
        mine.close()
    assert used == 40
    assert state.approvals.scoped() == ()
    state.close()


def _vote(state: AnyState, clock: FrozenClock, token: str, who: str = "ann") -> Vote:
    request = state.approvals.show(token)
    return sign_vote(
        KEYS[who], store_id=state.approvals.store_id, token=token, digest=request.digest, approver=who,
        time_unix_s=clock.unix_ns() // 10**9,
    )  # fmt: skip


def test_a_nonce_is_good_for_one_answer(state: AnyState, clock: FrozenClock) -> None:
    """Of its own request; drawn once; a vote that does not count leaves it good."""
    token, other = ask(state), ask(state, usd=8)
    (nonce,) = state.approvals.invite(token)
    assert state.approvals.invite(token) == ()
    state.approvals.invite(other)
    vote = _vote(state, clock, token)
    for wrong, said in (
        ((other, nonce, _vote(state, clock, other)), "of another request"),
        ((token, "0" * 32, vote), "of another request"),
        ((token, nonce, vote._replace(signature=bytes(64))), "the signature is not"),
        ((token[:6], nonce, vote), "of another request"),
    ):
        with pytest.raises(PolicyError, match=said):
            state.approvals.answer(*wrong, APPROVERS)
    assert state.approvals.answer(token, nonce, vote, APPROVERS).state is RequestState.GRANTED
    with pytest.raises(PolicyError, match="the nonce is used"):
        state.approvals.answer(token, nonce, vote, APPROVERS)


def test_an_answer_after_the_expiry_does_not_count(state: AnyState, clock: FrozenClock) -> None:
    """However good its nonce and signature."""
    token = ask(state)
    (nonce,) = state.approvals.invite(token)
    vote = _vote(state, clock, token)
    clock.advance(900)
    with pytest.raises(PolicyError, match="is expired, nobody can vote"):
        state.approvals.answer(token, nonce, vote, APPROVERS)
    assert state.approvals.show(token).votes == ()


def test_of_answers_at_one_time_one_counts(state: AnyState, clock: FrozenClock) -> None:
    """Eight threads send the same answer: one is taken, seven are told so."""
    token = ask(state)
    (nonce,) = state.approvals.invite(token)
    vote = _vote(state, clock, token)
    said: list[str] = []

    def send() -> None:
        try:
            said.append(state.approvals.answer(token, nonce, vote, APPROVERS).state.value)
        except PolicyError:
            said.append("refused")

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(said) == ["granted"] + ["refused"] * 7
