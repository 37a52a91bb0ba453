"""How people decide: figures that show whether approvals are read, or waved through. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import NamedTuple

from agentguard.state.approval_request import ApprovalRequest, RequestState
from agentguard.state.votes import APPROVE

FAST_S = 2
"""An answer within less than this was hardly read."""


class Reviewing(NamedTuple):
    """How one person, or all together, have answered."""

    answers: int
    approved: int
    median_s: float | None
    """From request to answer, by the approver's clock; None without answers."""
    fast: int
    """Approvals given in less than 2 s."""

    @property
    def approve_rate(self) -> float | None:
        """Share of the answers that approved; None without answers."""
        return self.approved / self.answers if self.answers else None


class Oversight(NamedTuple):
    """What became of the requests that are kept, and how they were answered."""

    requests: int
    pending: int
    expired: int
    """Nobody answered in time, or a grant was not used in time."""
    used: int
    everyone: Reviewing
    by_approver: dict[str, Reviewing]


def oversight(requests: Iterable[ApprovalRequest], *, since_unix_s: int = 0) -> Oversight:
    """
    Count how people have answered.

    Args:
        requests:
            As `Approvals.list` gives them: what is over is kept for a week.
        since_unix_s:
            Only requests made from then on.

    Returns:
        The figures. Refusals without a signature name nobody and are not among the answers.
    """
    chosen = [request for request in requests if request.created_unix_s >= since_unix_s]
    answers: dict[str, list[tuple[bool, int]]] = {}
    for request in chosen:
        for vote in request.votes:
            took_s = max(vote.time_unix_s - request.created_unix_s, 0)
            answers.setdefault(vote.approver, []).append((vote.verdict == APPROVE, took_s))
    states = [request.state for request in chosen]
    return Oversight(
        requests=len(chosen),
        pending=states.count(RequestState.PENDING),
        expired=states.count(RequestState.EXPIRED),
        used=states.count(RequestState.USED),
        everyone=_reviewing([answer for given in answers.values() for answer in given]),
        by_approver={approver: _reviewing(given) for approver, given in sorted(answers.items())},
    )


def _reviewing(answers: list[tuple[bool, int]]) -> Reviewing:
    return Reviewing(
        len(answers),
        sum(1 for is_approved, _ in answers if is_approved),
        statistics.median(took_s for _, took_s in answers) if answers else None,
        sum(1 for is_approved, took_s in answers if is_approved and took_s < FAST_S),
    )
