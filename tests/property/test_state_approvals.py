"""Laws of approvals: never without n distinct valid signatures, never twice, never for other arguments."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentguard.errors import PolicyError
from agentguard.seal import SigningKey
from agentguard.state import Approver, MachineState, MemoryState, freeze_action, sign_vote
from agentguard.values import ApprovalTerms
from tests.support.clock import FrozenClock
from tests.support.decisions import make_keystore, raise_it

# Newer Pythons warn of forks beside threads; what then happens is what these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

NAMES = ("ann", "bob", "cy", "dee", "eve")
KEYS = {name: SigningKey(bytes([number]) * 32) for number, name in enumerate(NAMES, 1)}
LISTED = {name: Approver(KEYS[name].verify_key.raw, ("pay",)) for name in NAMES[:4]}
"""Eve has a key, and is not listed."""

STEP = st.tuples(
    st.sampled_from(NAMES),  # who says to vote
    st.sampled_from(NAMES),  # whose key signs
    st.sampled_from([0, 1]),  # on which request
    st.sampled_from([0, 1]),  # over which request
    st.sampled_from(["approve", "approve", "approve", "deny"]),
    st.sampled_from([0, 0, 0, 40, 500]),  # seconds that pass before
)


@settings(max_examples=120)
@given(st.lists(STEP, max_size=12), st.integers(1, 3), st.sampled_from(["cy", "zoe"]))
def test_no_grant_without_enough_people(
    steps: list[tuple[str, str, int, int, str, int]], needed: int, requester: str
) -> None:
    """Whatever is voted in whatever order, a grant means so many valid, different, timely signatures, and comes once."""
    clock = FrozenClock()
    state = MemoryState(clock)
    terms = ApprovalTerms(("group:pay",), needed, 600.0)
    actions = [
        freeze_action("tool.before", tool="pay", args={"usd": usd}, principal=requester) for usd in (1, 2)
    ]
    tokens = [state.approvals.request(action, terms) for action in actions]
    valid: list[dict[str, float]] = [{}, {}]
    denied = [False, False]
    begin = clock.unix_ns()
    for approver, signer, on, over, verdict, pause in steps:
        clock.advance(pause)
        vote = sign_vote(
            KEYS[signer],
            store_id=state.approvals.store_id,
            token=tokens[over],
            digest=actions[over].digest,
            approver=approver,
            time_unix_s=clock.unix_ns() // 10**9,
            verdict=verdict,
        )
        try:
            state.approvals.grant(tokens[on], vote, LISTED)
        except PolicyError:
            continue
        assert approver == signer
        assert on == over
        assert approver in LISTED
        assert approver != requester
        assert approver not in valid[on]
        if verdict == "deny":
            denied[on] = True
        else:
            valid[on][approver] = (clock.unix_ns() - begin) / 1e9
    now = (clock.unix_ns() - begin) / 1e9
    for index, action in enumerate(actions):
        granted = state.approvals.find_grant(action.digest, terms, LISTED, requester=requester)
        times = sorted(valid[index].values())
        enough = len(times) >= needed and not denied[index] and now < times[needed - 1] + 600
        assert (granted == tokens[index]) is enough
        assert state.approvals.find_grant(action.digest, terms, LISTED, requester=requester) is None
    other = freeze_action("tool.before", tool="pay", args={"usd": 3}, principal=requester)
    assert state.approvals.find_grant(other.digest, terms, LISTED, requester=requester) is None


def test_four_processes_race_for_each_grant(tmp_path: Path) -> None:
    """Of four processes that see the same grant, one gets it; twenty times."""
    clock = FrozenClock()
    store, keystore = make_keystore(tmp_path)
    state = MachineState.open(store, keystore, clock, on_internal_error=raise_it)
    terms = ApprovalTerms(("group:pay",), 1, 600.0)
    digests = []
    for number in range(20):
        action = freeze_action("tool.before", tool="pay", args={"usd": number}, principal="zoe")
        token = state.approvals.request(action, terms)
        vote = sign_vote(
            KEYS["ann"],
            store_id=keystore.store_id,
            token=token,
            digest=action.digest,
            approver="ann",
            time_unix_s=clock.unix_ns() // 10**9,
        )
        state.approvals.grant(token, vote, LISTED)
        digests.append(action.digest)
    go_read, go_write = os.pipe()
    children = []
    for _ in range(4):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.close(go_write)
                os.read(go_read, 1)
                for digest in digests:
                    found = state.approvals.find_grant(digest, terms, LISTED, requester="zoe")
                    os.write(write, b"%d" % (found is not None))
            finally:
                os._exit(0)
        os.close(write)
        children.append((child, read))
    os.close(go_read)
    os.close(go_write)
    answers = []
    for child, read in children:
        with os.fdopen(read, "rb") as file:
            answers.append(file.read())
        assert os.waitpid(child, 0)[1] == 0
    assert [len(answer) for answer in answers] == [20] * 4
    assert [sum(answer[index] == ord("1") for answer in answers) for index in range(20)] == [1] * 20
    state.close()
