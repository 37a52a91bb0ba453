"""
Votes: what an approver signs, and whether a request has enough of them.

Pure. A vote counts only with the listed approver's signature over this request,
this action, this verdict and this time. Who asks can never be who approves.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol, TypeAlias

from agentguard.errors import PolicyError, SealError
from agentguard.seal import SigningKey, VerifyKey
from agentguard.state.canonical import canonical_json
from agentguard.state.scopes import Scope, scope_document, scope_of
from agentguard.values import ApprovalTerms

APPROVE, DENY = "approve", "deny"
CLOCK_SKEW_S_MAX = 300
"""How far the approver's clock may be off."""


class Approver(NamedTuple):
    """One listed approver, from a policy document."""

    public_key: bytes
    """Ed25519, 32 bytes."""
    groups: tuple[str, ...] = ()


Approvers: TypeAlias = Mapping[str, tuple[bytes, tuple[str, ...]]]
"""Approvers by id; `Approver` is such a pair."""


class Vote(NamedTuple):
    """One approver's answer to one request."""

    approver: str
    verdict: str
    """`approve` or `deny`."""
    time_unix_s: int
    """By the approver's clock; signed."""
    signature: bytes
    scope: Scope | None = None
    """For how much, where the rule lets people grant more than this one call; signed."""


class Counted(NamedTuple):
    """Enough approvals."""

    time_unix_s: int
    """When the number was complete."""
    scope: Scope | None
    """What all of them signed."""


class _Person(Protocol):
    """Someone whom a policy document lists."""

    @property
    def id(self) -> str: ...

    @property
    def public_key(self) -> bytes: ...


def approvers_of(named: Mapping[str, Iterable[_Person]]) -> dict[str, Approver]:
    """
    Turn a bundle's people by group into approvers by id.

    Args:
        named:
            `group:NAME` or an id: the people it stands for, as `Bundle.approvers`.

    Returns:
        Key and groups of each person.
    """
    found: dict[str, Approver] = {}
    for name, people in named.items():
        group = name.removeprefix("group:") if name.startswith("group:") else None
        for person in people:
            known = found.get(person.id, Approver(person.public_key))
            groups = known.groups if group is None or group in known.groups else (*known.groups, group)
            found[person.id] = Approver(person.public_key, groups)
    return found


def statement(
    store_id: bytes, token: str, digest: str, approver: str, verdict: str, time_unix_s: int,
    scope: Scope | None = None,
) -> bytes:  # fmt: skip
    """
    Write what an approver signs.

    Args:
        store_id:
            The store of the request: a vote counts nowhere else.
        token:
            The request: a vote counts for no other, even of the same action.
        digest:
            The action.
        approver:
            Who votes.
        verdict:
            `approve` or `deny`.
        time_unix_s:
            When.
        scope:
            For how much; None: for this one call.

    Returns:
        Canonical JSON.
    """
    fields: dict[str, object] = {
        "type": "agentguard/v1/approval",
        "store": store_id.hex(),
        "token": token,
        "action_sha256": digest,
        "approver": approver,
        "verdict": verdict,
        "time_unix_s": time_unix_s,
    }
    if scope is not None:
        fields["scope"] = scope_document(scope)
    return canonical_json(fields)


def sign_vote(
    key: SigningKey,
    *,
    store_id: bytes,
    token: str,
    digest: str,
    approver: str,
    time_unix_s: int,
    verdict: str = APPROVE,
    scope: Scope | None = None,
) -> Vote:
    """
    Sign a vote; done where the approver's key lies, which need not be this machine.

    Args:
        key:
            The approver's private key.
        store_id:
            The store of the request.
        token:
            The request.
        digest:
            SHA-256 of the action, as the approver saw it.
        approver:
            The approver's id in the policy documents.
        time_unix_s:
            Now.
        verdict:
            `approve` or `deny`.
        scope:
            For how much; None: for this one call.

    Returns:
        The vote.
    """
    signature = key.sign(statement(store_id, token, digest, approver, verdict, time_unix_s, scope))
    return Vote(approver, verdict, time_unix_s, signature, scope)


def is_named(approver: str, groups: Iterable[str], terms: ApprovalTerms) -> bool:
    """Whether the terms of a rule name an approver, or a group of theirs."""
    return approver in terms.approvers or any(f"group:{group}" in terms.approvers for group in groups)


def check_vote(
    vote: Vote,
    *,
    store_id: bytes,
    token: str,
    digest: str,
    requester: str,
    terms: ApprovalTerms,
    approvers: Approvers,
    created_unix_s: int,
) -> bytes:
    """
    Check that a vote counts for a request.

    Args:
        vote:
            The vote.
        store_id:
            The store of the request.
        token:
            The request.
        digest:
            Its action.
        requester:
            On whose behalf the action runs; empty where that is not known.
        terms:
            Who may approve.
        approvers:
            The listed approvers.
        created_unix_s:
            When the request was made.

    Returns:
        The public key that signed: two ids with one key are one person.

    Raises:
        PolicyError: It does not count; the message says why.
    """
    entry = approvers.get(vote.approver)
    if entry is None:
        raise PolicyError(f"approval: `{vote.approver}` is no listed approver").hint(
            "approvers stand in policy documents of kind Approvers"
        )
    public_key, groups = entry
    if vote.verdict not in (APPROVE, DENY):
        raise PolicyError(f"approval: verdict `{vote.verdict}`, expected approve or deny")
    if requester and vote.approver == requester:
        raise PolicyError(f"approval: `{vote.approver}` asked for it and cannot decide on it")
    if not is_named(vote.approver, groups, terms):
        raise PolicyError(f"approval: `{vote.approver}` is not among those the rule names").hint(
            f"expected one of {', '.join(terms.approvers)}"
        )
    if vote.time_unix_s < created_unix_s - CLOCK_SKEW_S_MAX:
        raise PolicyError("approval: signed before the request was made")
    message = statement(store_id, token, digest, vote.approver, vote.verdict, vote.time_unix_s, vote.scope)
    try:
        is_right = VerifyKey(bytes(public_key)).verify(vote.signature, message)
    except (SealError, ValueError):
        is_right = False
    if not is_right:
        raise PolicyError(f"approval: the signature is not `{vote.approver}`'s over this request").hint(
            "the request, the action or the key is another one"
        )
    return bytes(public_key)


def counted_at(
    votes: Iterable[Vote],
    *,
    store_id: bytes,
    token: str,
    digest: str,
    requester: str,
    terms: ApprovalTerms,
    approvers: Approvers,
    created_unix_s: int,
) -> Counted | None:
    """
    Say when a request had enough approvals, and for how much.

    Args:
        votes:
            All votes, in the order given; those that do not count are passed over.
        store_id:
            The store of the request.
        token:
            The request.
        digest:
            Its action.
        requester:
            On whose behalf the action runs.
        terms:
            Who may approve, and how many.
        approvers:
            The listed approvers.
        created_unix_s:
            When the request was made.

    Returns:
        When the number was complete, and the scope that all of them signed; None where there are not enough
        different people, where one denied, or where the terms ask for none.
    """
    if terms.approvals < 1:
        return None
    seen: dict[bytes, str] = {}
    names: set[str] = set()
    scope: Scope | None = None
    complete: Counted | None = None
    for vote in votes:
        try:
            key = check_vote(
                vote,
                store_id=store_id,
                token=token,
                digest=digest,
                requester=requester,
                terms=terms,
                approvers=approvers,
                created_unix_s=created_unix_s,
            )
        except PolicyError:
            continue
        if vote.verdict == DENY:
            return None
        if key in seen or vote.approver in names:
            continue
        if not seen:
            scope = vote.scope
        elif vote.scope != scope:
            # Nobody has signed for as much as another: they have not agreed.
            continue
        seen[key] = vote.approver
        names.add(vote.approver)
        if len(seen) == terms.approvals:
            complete = Counted(vote.time_unix_s, scope)
    return complete


def vote_document(vote: Vote) -> dict[str, object]:
    """Write a vote as plain data."""
    return {
        "approver": vote.approver,
        "verdict": vote.verdict,
        "time_unix_s": vote.time_unix_s,
        "signature": base64.b64encode(vote.signature).decode("ascii"),
        **({} if vote.scope is None else {"scope": scope_document(vote.scope)}),
    }


def vote_of(document: Mapping[str, object]) -> Vote:
    """
    Read what `vote_document` wrote.

    Raises:
        PolicyError: It is no vote.
    """
    try:
        signature = base64.b64decode(str(document["signature"]), validate=True)
        time_unix_s = document["time_unix_s"]
        if type(time_unix_s) is not int:
            raise TypeError("expected an integer")
        scope = scope_of(document.get("scope"))
        return Vote(str(document["approver"]), str(document["verdict"]), time_unix_s, signature, scope)
    except (LookupError, TypeError, ValueError, binascii.Error) as error:
        raise PolicyError("approval: not a signed vote") from error
