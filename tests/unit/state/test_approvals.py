"""Requests, votes and grants: who counts, for what, how often, how long."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from agentguard.errors import KeyUnavailableError, PolicyError, StoreError
from agentguard.seal import SigningKey
from agentguard.state import (
    DENY,
    Action,
    Approver,
    MachineState,
    MemoryState,
    RequestState,
    Vote,
    approvers_of,
    create_approver_key,
    freeze_action,
    load_approver_key,
    sign_vote,
)
from agentguard.values import ApprovalTerms
from tests.support.clock import FrozenClock

AnyState = MachineState | MemoryState

KEYS = {name: SigningKey(bytes([number]) * 32) for number, name in enumerate(("ann", "bob", "cy", "dee"), 1)}
APPROVERS = {
    name: Approver(key.verify_key.raw, ("pay",) if name != "dee" else ("other",))
    for name, key in KEYS.items()
}
TERMS = ApprovalTerms(("group:pay",), 2, 900.0)
ONE = TERMS._replace(approvals=1)


def action(**args: object) -> Action:
    return freeze_action(
        "tool.before", tool="wire", agent="support", principal="cy", args={"usd": 9000, **args}
    )


def vote(state: AnyState, clock: FrozenClock, token: str, approver: str, **fields: object) -> Vote:
    request = state.approvals.show(token)
    return sign_vote(
        KEYS[str(fields.pop("key", approver))],
        store_id=fields.pop("store_id", state.approvals.store_id),  # type: ignore[arg-type]
        token=str(fields.pop("of_token", request.token)),
        digest=str(fields.pop("digest", request.digest)),
        approver=approver,
        time_unix_s=int(str(fields.pop("time_unix_s", clock.unix_ns() // 10**9))),
        **fields,  # type: ignore[arg-type]
    )


def find(state: AnyState, terms: ApprovalTerms = TERMS, **args: object) -> str | None:
    return state.approvals.find_grant(action(**args).digest, terms, APPROVERS, requester="cy")


def test_two_people_one_call(state: AnyState, clock: FrozenClock) -> None:
    """Two different people's signatures let exactly this action run exactly once."""
    token = state.approvals.request(action(), TERMS, rule_id="PAY-010", title="Two people", reason="hurry")
    assert find(state) is None
    assert (
        state.approvals.grant(token, vote(state, clock, token, "ann"), APPROVERS).state
        is RequestState.PENDING
    )
    assert find(state) is None
    assert (
        state.approvals.grant(token, vote(state, clock, token, "bob"), APPROVERS).state
        is RequestState.GRANTED
    )
    assert find(state, usd=9001) is None
    assert state.approvals.find_grant(action().digest, TERMS, APPROVERS, requester="ann") is None
    assert find(state) == token
    assert find(state) is None
    request = state.approvals.show(token)
    assert (request.state, request.title, request.reason) == (RequestState.USED, "Two people", "hurry")


def test_asking_again_is_the_same_request(state: AnyState, clock: FrozenClock) -> None:
    """A loop of calls makes one request; another action, and one after the end, a new one."""
    token = state.approvals.request(action(), ONE)
    assert state.approvals.request(action(), ONE) == token
    assert state.approvals.request(action(usd=1), ONE) != token
    state.approvals.deny(token, by="ann")
    assert state.approvals.request(action(), ONE) != token
    assert len(state.approvals.list()) == 3


def test_votes_that_do_not_count(state: AnyState, clock: FrozenClock) -> None:
    """Each is refused with its reason, and the request stays as it was."""
    token = state.approvals.request(action(), TERMS)
    other = state.approvals.request(action(usd=1), TERMS)
    now = clock.unix_ns() // 10**9
    cases = {
        "no listed approver": sign_vote(
            KEYS["ann"],
            store_id=state.approvals.store_id,
            token=token,
            digest=action().digest,
            approver="eve",
            time_unix_s=now,
        ),
        "asked for it": vote(state, clock, token, "cy"),
        "not among those": vote(state, clock, token, "dee"),
        "is not `ann`'s": vote(state, clock, token, "ann", key="bob"),
        "is not `ann`'s over": vote(state, clock, token, "ann", of_token=other),
        "is not `ann`'s over this": vote(state, clock, token, "ann", digest=action(usd=1).digest),
        "is not `ann`'s over this r": vote(state, clock, token, "ann", store_id=bytes([9]) * 16),
        "before the request": vote(state, clock, token, "ann", time_unix_s=now - 301),
        "in the future": vote(state, clock, token, "ann", time_unix_s=now + 301),
        "verdict": vote(state, clock, token, "ann", verdict="maybe"),
        "`ann`'s": vote(state, clock, token, "ann", verdict=DENY)._replace(verdict="approve"),
        "is not": vote(state, clock, token, "ann")._replace(time_unix_s=now + 1),
    }
    for message, bad in cases.items():
        with pytest.raises(PolicyError, match=message):
            state.approvals.grant(token, bad, APPROVERS)
    assert state.approvals.show(token).votes == ()
    state.approvals.grant(token, vote(state, clock, token, "ann"), APPROVERS)
    with pytest.raises(PolicyError, match="has voted"):
        state.approvals.grant(token, vote(state, clock, token, "ann", time_unix_s=now + 1), APPROVERS)
    assert find(state) is None


def test_one_key_is_one_person(state: AnyState, clock: FrozenClock) -> None:
    """Somebody who is listed twice with one key has one vote."""
    twice = {**APPROVERS, "ann2": Approver(APPROVERS["ann"].public_key, ("pay",))}
    token = state.approvals.request(action(), TERMS)
    state.approvals.grant(token, vote(state, clock, token, "ann"), twice)
    again = vote(state, clock, token, "ann2", key="ann")
    assert state.approvals.grant(token, again, twice).state is RequestState.PENDING
    assert state.approvals.find_grant(action().digest, TERMS, twice, requester="cy") is None


def test_a_signed_denial_ends_it(state: AnyState, clock: FrozenClock) -> None:
    """One denial outweighs the approvals, also one that came before."""
    token = state.approvals.request(action(), TERMS)
    state.approvals.grant(token, vote(state, clock, token, "ann"), APPROVERS)
    denied = state.approvals.grant(token, vote(state, clock, token, "bob", verdict=DENY), APPROVERS)
    assert (denied.state, denied.denied_by) == (RequestState.DENIED, "bob")
    with pytest.raises(PolicyError, match="is denied"):
        state.approvals.grant(token, vote(state, clock, token, "bob"), APPROVERS)
    with pytest.raises(PolicyError, match="is denied, and cannot be refused"):
        state.approvals.deny(token, by="x")
    assert find(state) is None


def test_a_granted_request_can_be_taken_back(state: AnyState, clock: FrozenClock) -> None:
    """As long as it is not used."""
    token = state.approvals.request(action(), ONE)
    state.approvals.grant(token, vote(state, clock, token, "ann"), APPROVERS)
    state.approvals.deny(token, by="ann")
    assert find(state, ONE) is None


def test_expiry(state: AnyState, clock: FrozenClock) -> None:
    """Neither an unanswered request nor an unused approval lives longer than the terms say."""
    token = state.approvals.request(action(), ONE)
    clock.advance(900)
    assert state.approvals.show(token).state is RequestState.EXPIRED
    with pytest.raises(PolicyError, match="is expired"):
        state.approvals.grant(token, vote(state, clock, token, "ann"), APPROVERS)
    token = state.approvals.request(action(), ONE)
    clock.advance(800)
    state.approvals.grant(token, vote(state, clock, token, "ann"), APPROVERS)
    clock.advance(899)
    assert state.approvals.show(token).state is RequestState.GRANTED
    clock.advance(1)
    assert find(state, ONE) is None
    assert state.approvals.show(token).state is RequestState.EXPIRED


def test_the_rule_of_now_counts(state: AnyState, clock: FrozenClock) -> None:
    """A rule that became stricter, and an approver who left, take an unused grant away."""
    token = state.approvals.request(action(), ONE)
    state.approvals.grant(token, vote(state, clock, token, "ann"), APPROVERS)
    assert find(state, TERMS) is None
    assert find(state, ONE._replace(approvers=("bob",))) is None
    left = {name: entry for name, entry in APPROVERS.items() if name != "ann"}
    assert state.approvals.find_grant(action().digest, ONE, left, requester="cy") is None
    clock.advance(60)
    assert find(state, ONE._replace(expires_s=30.0)) is None
    assert find(state, ONE._replace(approvals=0)) is None
    assert find(state, ONE) == token


@pytest.mark.parametrize(
    "terms",
    [
        ApprovalTerms((), 1, 60),
        ApprovalTerms(("a",), 0, 60),
        ApprovalTerms(("a",), 1, 0),
        ApprovalTerms(("a",), 1, float("nan")),
        ApprovalTerms(("a",), 1, float("inf")),
    ],
)
def test_terms_that_nobody_can_meet(state: AnyState, terms: ApprovalTerms) -> None:
    """Terms without people, number or bounded time are refused."""
    with pytest.raises(PolicyError, match="terms"):
        state.approvals.request(action(), terms)


def test_tokens_by_their_beginning(state: AnyState) -> None:
    """A unique beginning will do; none and several are errors."""
    numbers = itertools.count(1)
    state.approvals._random_bytes = lambda length: bytes([0xAB, next(numbers)]).ljust(length, b"\0")
    first = state.approvals.request(action(), ONE)
    state.approvals.request(action(usd=2), ONE)
    assert state.approvals.show(first[:4]).token == first
    with pytest.raises(PolicyError, match="2 requests begin"):
        state.approvals.show("ab")
    for token in ("", "ff"):
        with pytest.raises(PolicyError, match="no request"):
            state.approvals.show(token)


def test_requests_are_bounded(clock: FrozenClock) -> None:
    """A flood of requests is stopped, and ends when they lapse."""
    state = MemoryState(clock)
    for number in range(1000):
        state.approvals.request(action(usd=number), ONE)
    with pytest.raises(StoreError, match="1000 requests"):
        state.approvals.request(action(usd=-1), ONE)
    clock.advance(900 + 7 * 86_400)
    state.approvals.request(action(usd=-1), ONE)
    assert len(state.approvals.list()) == 1


def test_people_of_a_bundle() -> None:
    """Groups of several documents come together by id."""
    from agentguard.policy import Approver as Listed

    ann, bob = Listed("ann", b"a" * 32), Listed("bob", b"b" * 32)
    assert approvers_of({"group:pay": (ann, bob), "ann": (ann,), "group:ops": (ann,)}) == {
        "ann": Approver(b"a" * 32, ("pay", "ops")),
        "bob": Approver(b"b" * 32, ("pay",)),
    }


def test_key_files(tmp_path: Path) -> None:
    """A key file is private, is not overwritten, and is refused once others could read it."""
    path = tmp_path / "ann.key"
    public = create_approver_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_approver_key(path).verify_key == public
    with pytest.raises(KeyUnavailableError, match="not overwritten"):
        create_approver_key(path)
    path.chmod(0o640)
    with pytest.raises(KeyUnavailableError, match="mode 0640"):
        load_approver_key(path)
    for text in ("", "agentguard-approver-key-1 AAAA\n", "x" * 300):
        other = tmp_path / "other.key"
        other.write_text(text)
        other.chmod(0o600)
        with pytest.raises(KeyUnavailableError, match="not an approver's key"):
            load_approver_key(other)
    with pytest.raises(KeyUnavailableError, match="cannot be read"):
        load_approver_key(tmp_path / "missing")
