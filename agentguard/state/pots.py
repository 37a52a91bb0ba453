"""
Pots: amounts that many processes draw from, never more than is in them.

A process holds a lease on part of a pot and serves its calls from that, in
memory. What is on disk always covers what runs: spent amounts and leases
together never exceed the limit, whenever a process dies. Far from the limit a
lease is larger than what is asked for, near it exactly as large.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from agentguard.errors import StoreError
from agentguard.state.cells import Document

LEASE_S = 120
"""From when on the lease of a process that says nothing more counts as spent."""
SLICES = 20
"""A sliding window is counted in so many slices; it is never shorter than asked, up to one slice longer."""
MEAN_OVER = 1_000
"""Calls that the mean of a pot remembers."""


class Pot(NamedTuple):
    """What is drawn from: a rule, and what it counts apart."""

    name: str
    """Policy, rule and the values of the key: the name of the document."""
    limit: int
    window_s: float
    is_sliding: bool
    """Any window of that length, or those that follow one another from 1970 on."""

    @property
    def slice_ns(self) -> int:
        """Length of the stretches of time that are counted apart."""
        whole = int(self.window_s * 1e9)
        return max(whole // SLICES, 1) if self.is_sliding else whole

    def slice_at(self, unix_ns: int) -> int:
        """Give the stretch that a moment is in."""
        return unix_ns // self.slice_ns

    def first_counted(self, unix_ns: int) -> int:
        """Give the oldest stretch that counts at a moment."""
        return self.slice_at(unix_ns) - (SLICES if self.is_sliding else 0)


@dataclass(slots=True)
class Content:
    """What the document of a pot says."""

    spent: dict[int, int] = field(default_factory=dict)
    """By stretch of time."""
    leases: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By process: the amount, and the Unix second from when on it counts as spent."""
    settled: tuple[int, int] = (0, 0)
    """How many calls of late, and what they used together."""

    @property
    def mean(self) -> int | None:
        """What a call uses, rounded up; None where none was seen."""
        calls, total = self.settled
        return math.ceil(total / calls) if calls else None

    def document(self) -> dict[str, object]:
        """Write it as plain data."""
        return {
            "spent": {str(index): amount for index, amount in self.spent.items()},
            "leases": {holder: list(lease) for holder, lease in self.leases.items()},
            "settled": list(self.settled),
        }


def read_content(document: Document | None) -> Content:
    """
    Read the document of a pot.

    Raises:
        StoreError: It is none.
    """
    if document is None:
        return Content()
    try:
        spent, leases, settled = document["spent"], document["leases"], document["settled"]
        if not (isinstance(spent, dict) and isinstance(leases, dict) and isinstance(settled, list)):
            raise TypeError("expected mappings")
        calls, total = settled
        return Content(
            {int(index): int(amount) for index, amount in spent.items()},
            {holder: (int(amount), int(expires)) for holder, (amount, expires) in leases.items()},
            (int(calls), int(total)),
        )
    except (LookupError, TypeError, ValueError) as error:
        raise StoreError("state: what was drawn from a limit does not decode") from error


@dataclass(slots=True)
class Account:
    """What this process holds of a pot. All amounts are the pot's units."""

    pot: Pot
    free: int = 0
    """Leased, and not in use."""
    running: int = 0
    """Set aside for calls that run."""
    unsaved: dict[int, int] = field(default_factory=dict)
    """Spent, and not yet in the document, by stretch of time. The lease still covers it."""
    unsaved_settled: tuple[int, int] = (0, 0)
    epoch: int = 0
    """Raised when the lease was lost: amounts set aside before count as spent already."""
    leased: int = 0
    """What the document has for this process."""
    demand: int = 0
    """What waiting calls ask for."""
    drawn: int = 0
    """Drawn since the last look at the document: how much to lease ahead."""
    ahead: int = 0
    """How much was wanted free at that look: what is drawn in about a second."""
    looked_ns: int | None = None
    """Monotonic time when the look at the document began."""
    used: int = 0
    """At that look: what is spent in the window."""
    others: int = 0
    """At that look: what other processes have leased."""
    mean: int | None = None
    spent: Mapping[int, int] = field(default_factory=dict)
    """At that look: what is spent, by stretch of time. It grows until it leaves the window."""
    left: int = 0
    """At that look: what nobody had leased."""
    seen_limit: int = 0
    """The limit at that look: where it was lowered since, the lease is for more than there is."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing of it is held or waits to be saved."""
        return not (self.free or self.running or self.leased or self.demand or self.is_unsaved)

    @property
    def is_unsaved(self) -> bool:
        """Whether something was spent that the document does not say."""
        return bool(self.unsaved or self.unsaved_settled[0])

    @property
    def spent_by_now(self) -> Mapping[int, int]:
        """What is spent for certain, by stretch of time: what was seen, and what this process adds."""
        if not self.unsaved:
            return self.spent
        spent = dict(self.spent)
        for index, amount in self.unsaved.items():
            spent[index] = spent.get(index, 0) + amount
        return spent

    def spend(self, amount: int, unix_ns: int) -> None:
        """Note what was spent."""
        if amount:
            index = self.pot.slice_at(unix_ns)
            self.unsaved[index] = self.unsaved.get(index, 0) + amount


class Balance(NamedTuple):
    """What one exchange with the document came to."""

    content: Content
    granted: int
    """What is free for this process from now on."""
    is_lost: bool
    """Whether the lease had run out, and counts as spent."""
    used: int
    others: int
    left: int


def balance(
    account: Account, content: Content, holder: str, *, unix_ns: int, unsaved: Mapping[int, int],
    settled: tuple[int, int], running: int, wanted: int, demand: int, keep: int = 0,
) -> Balance:  # fmt: skip
    """
    Exchange with the document of a pot: save what was spent, lease anew.

    Pure. The rule that all rests on: what is spent in the window and all leases
    together never exceed the limit by a lease that is granted here.

    Args:
        account:
            For its pot, and what it had leased.
        content:
            What the document says; it is changed.
        holder:
            This process.
        unix_ns:
            Now.
        unsaved:
            Spent by this process since the last exchange.
        settled:
            Calls and amounts, for the mean.
        running:
            What calls that run have set aside.
        wanted:
            How much to have free, if there is plenty.
        demand:
            How much of it calls wait for.
        keep:
            How much of the old lease calls draw from meanwhile: the new one is no smaller.

    Returns:
        The new content, and what this process may use.
    """
    pot, now_s = account.pot, unix_ns // 1_000_000_000
    current, first = pot.slice_at(unix_ns), pot.first_counted(unix_ns)
    mine = content.leases.pop(holder, None)
    for other, (amount, expires) in list(content.leases.items()):
        if expires <= now_s:
            # Nobody says what became of it: it counts as spent.
            del content.leases[other]
            content.spent[current] = content.spent.get(current, 0) + amount
    is_lost = mine is None and account.leased > 0
    if is_lost:
        # Somebody else has counted the lease as spent, and with it all that it covered.
        beyond = max(sum(unsaved.values()) + running - account.leased, 0)
        unsaved, running = {current: beyond} if beyond else {}, 0
    for index, amount in unsaved.items():
        content.spent[index] = content.spent.get(index, 0) + amount
    content.spent = {index: amount for index, amount in content.spent.items() if index >= first}
    calls, total = content.settled[0] + settled[0], content.settled[1] + settled[1]
    content.settled = (calls // 2, total // 2) if calls > MEAN_OVER else (calls, total)
    used = sum(content.spent.values())
    others = sum(amount for amount, _ in content.leases.values())
    available = max(pot.limit - used - others - running, 0)
    # Near the limit a lease is what is asked for: what one holds idle, another would be refused.
    spare = max(available - demand, 0) // 16 if available > 16 * max(demand, 1) else 0
    granted = min(available, demand + min(spare, max(wanted - demand, 0)))
    if keep and not is_lost:
        # The old lease covered it, and nothing but this process took from that: it is available for certain.
        granted = max(granted, keep)
    if granted + running:
        content.leases[holder] = (granted + running, now_s + LEASE_S)
    return Balance(content, granted, is_lost, used, others, available - granted)


def room_at(pot: Pot, spent: Mapping[int, int], amount: int, unix_ns: int) -> int:
    """
    Say from when on an amount could fit beside what is spent.

    Args:
        pot:
            For its limit and window.
        spent:
            By stretch of time.
        amount:
            What is asked for.
        unix_ns:
            Now.

    Returns:
        Unix time in nanoseconds; 0 where what is spent leaves room already.
    """
    first = pot.first_counted(unix_ns)
    counted = sorted(index for index in spent if index >= first)
    left = sum(spent[index] for index in counted)
    free_at = 0
    for index in counted:
        if left + amount <= pot.limit:
            break
        left -= spent[index]
        free_at = (index + 1 + (SLICES if pot.is_sliding else 0)) * pot.slice_ns
    return free_at
