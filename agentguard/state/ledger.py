"""
The ledger: draws from pots, exact over threads and processes.

Drawing from what this process has leased takes no system call. What is not
leased is asked for under the lock of the machine, once for all threads that
wait. A thread of the state saves, renews and leases ahead.
"""

from __future__ import annotations

import os
import threading
import time
from typing import NamedTuple, Protocol

from agentguard.errors import StoreError
from agentguard.state.cells import Cells
from agentguard.state.pots import (
    LEASE_S,
    SLICES,
    Account,
    Balance,
    Content,
    Pot,
    balance,
    read_content,
    room_at,
)
from agentguard.values import Clock

POTS_MAX = 4_096
"""Pots that a process draws from at one time."""
FRESH_NS = 2_000_000_000
"""How long a lease may be drawn from without a look at the document."""
FULL_NS = 50_000_000
"""How long a pot that was full is taken to be so: others may have given back meanwhile."""
FAR = 64
"""How many times what is drawn in a second nobody must have leased, for a pot to be far from its limit."""
AHEAD = 32
"""How many draws are leased ahead at least, where there is plenty."""

YIELD_S = 0.001
TRIES_MAX = 8
"""How often a draw asks again because others took what was leased for it."""
TRY_NS_MAX = 200_000_000
"""How long it does so: then it is refused, since whoever asks again later is served sooner than who holds the disk."""

_KIND = "pot"


class Wake(Protocol):
    """Wakes the thread that saves."""

    def __call__(self, *, is_urgent: bool = False) -> None:
        """Say that there is something to save, or that what is leased runs out."""
        ...


class Drawn(NamedTuple):
    """An amount that is set aside for one call."""

    account: Account
    amount: int
    epoch: int
    unix_ns: int
    """When it was drawn: the call is counted there."""
    used: int
    """What the pot has spent and set aside with it, as far as known here."""


class Refused(NamedTuple):
    """The pot has not enough left."""

    used: int
    """What is spent and set aside, as far as known here."""
    retry_after_s: float
    """When it is worth another try."""


class Ledger:
    """Draws, settles, and keeps what is on disk ahead of what runs."""

    def __init__(self, cells: Cells, clock: Clock, *, is_shared: bool, wake: Wake) -> None:
        """
        Begin with nothing drawn.

        Args:
            cells:
                Where the pots are.
            clock:
                Tells windows and leases.
            is_shared:
                Whether other processes draw too, so that leasing ahead pays.
            wake:
                Told that there is something to save.
        """
        self._cells = cells
        self._clock = clock
        self._is_shared = is_shared
        self.wake = wake
        self._accounts: dict[str, Account] = {}
        self._begin()

    def _begin(self) -> None:
        self._holder = os.urandom(8).hex()
        self._lock = threading.Lock()
        self._exchange_lock = threading.Lock()

    # -- calls ---------------------------------------------------------------------------------

    def draw(self, pot: Pot, amount: int) -> Drawn | Refused:
        """
        Set an amount aside for a call, if the pot has it.

        Args:
            pot:
                What to draw from.
            amount:
                In the pot's units; 0 asks whether anything is left.

        Returns:
            What was set aside, or that it was refused.

        Raises:
            StoreError: The pot cannot be read or written: nothing may run on it.
        """
        account = self._account(pot)
        need = max(amount, 1)
        with self._lock:
            answer = self._take(account, amount, need)
            if answer is None:
                account.demand += need
        if answer is not None:
            if self._is_shared and isinstance(answer, Refused):
                # Threads that are refused and ask again at once would keep the one that exchanges from the processor.
                time.sleep(YIELD_S)
            return answer
        arrived_ns = self._clock.monotonic_ns()
        try:
            with self._exchange_lock:
                for tries in range(TRIES_MAX):
                    with self._lock:
                        # Another thread may have leased for this one while it waited, or drawn what was for it.
                        answer = self._take(account, amount, need, since_ns=arrived_ns)
                    if answer is not None:
                        return answer
                    if tries and self._clock.monotonic_ns() - arrived_ns > TRY_NS_MAX:
                        break
                    self._exchange([account])
        finally:
            with self._lock:
                account.demand -= need
        return Refused(self._known(account), _soon(pot))

    def settle(self, drawn: Drawn, actual: int, *, has_run: bool = True) -> None:
        """
        Say what a call has used of what was set aside; more than that is spent all the same.

        Args:
            drawn:
                As `draw` gave it; once.
            actual:
                In the pot's units.
            has_run:
                False where the call did not run: everything goes back.
        """
        account, amount = drawn.account, drawn.amount
        with self._lock:
            if drawn.epoch == account.epoch:
                account.running -= amount
                account.spend(actual, drawn.unix_ns)
                account.free += max(amount - actual, 0)
                # What goes beyond is taken from what is free here, before it goes beyond the limit.
                account.free -= min(max(actual - amount, 0), account.free)
            else:
                account.spend(max(actual - amount, 0), drawn.unix_ns)
            if has_run:
                calls, total = account.unsaved_settled
                account.unsaved_settled = (calls + 1, total + actual)
        self.wake()

    def mean(self, pot: Pot) -> int | None:
        """Give what a call of a pot uses on average, rounded up; None where none was seen."""
        account = self._accounts.get(pot.name)
        if account is None:
            return read_content(self._cells.get(_KIND, pot.name)).mean
        calls, total = account.unsaved_settled
        if account.mean is None:
            return -(-total // calls) if calls else None
        return account.mean

    def status(self, pot: Pot) -> tuple[int, int]:
        """
        Give what is spent in the window and what is set aside, by the document.

        Raises:
            StoreError: It cannot be read.
        """
        content = read_content(self._cells.get(_KIND, pot.name))
        first = pot.first_counted(self._clock.unix_ns())
        spent = sum(amount for index, amount in content.spent.items() if index >= first)
        return spent, sum(amount for amount, _ in content.leases.values())

    # -- the thread of the state ---------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Whether anything is held, so that leases must be renewed."""
        return any(not account.is_idle for account in list(self._accounts.values()))

    def tidy(self, *, is_last: bool = False) -> None:
        """
        Save what was spent, renew leases, give back what nobody used.

        Args:
            is_last:
                Nothing is leased ahead any more.

        Raises:
            StoreError: It cannot be written; it is tried again with the next.
        """
        with self._exchange_lock:
            with self._lock:
                accounts = [account for account in self._accounts.values() if not account.is_idle]
            if accounts:
                self._exchange(accounts, is_last=is_last)
            with self._lock:
                for name in [name for name, account in self._accounts.items() if self._is_done(account)]:
                    del self._accounts[name]

    def forget(self) -> None:
        """Begin anew in a forked child: what is drawn is the parent's."""
        self._begin()
        self._accounts = {}

    # -- inside --------------------------------------------------------------------------------

    def _account(self, pot: Pot) -> Account:
        account = self._accounts.get(pot.name)
        if account is not None and account.pot == pot:
            return account
        with self._lock:
            account = self._accounts.get(pot.name)
            if account is None:
                if len(self._accounts) >= POTS_MAX:
                    raise StoreError(f"limits: {POTS_MAX} keys are counted apart already").hint(
                        "count fewer things apart: a `key` should have few values"
                    )
                account = self._accounts[pot.name] = Account(pot)
            account.pot = pot
        return account

    def _take(
        self, account: Account, amount: int, need: int, *, since_ns: int | None = None
    ) -> Drawn | Refused | None:
        """Serve a draw from memory, if that can be; the lock is held."""
        now_ns, looked_ns = self._clock.monotonic_ns(), account.looked_ns
        if looked_ns is None:
            return None
        unix_ns = self._clock.unix_ns()
        if account.free >= need and now_ns - looked_ns <= FRESH_NS:
            account.free -= amount
            account.running += amount
            account.drawn += amount
            if 2 * account.free < account.ahead and account.left:
                self.wake(is_urgent=True)
            return Drawn(account, amount, account.epoch, unix_ns, self._known(account))
        room_ns = room_at(account.pot, account.spent_by_now, need, unix_ns)
        if room_ns > unix_ns:
            # What is spent stays spent until it leaves the window: nobody need be asked.
            return Refused(self._known(account), (room_ns - unix_ns) / 1e9)
        is_recent = now_ns - looked_ns <= FULL_NS if since_ns is None else looked_ns >= since_ns
        if is_recent and account.free + account.left < need:
            return Refused(self._known(account), _soon(account.pot))
        return None

    @staticmethod
    def _known(account: Account) -> int:
        return account.used + account.others + account.running + sum(account.unsaved.values())

    def _is_done(self, account: Account) -> bool:
        window_ns = int(2 * account.pot.window_s * 1e9)
        looked_ns = account.looked_ns or 0
        return account.is_idle and self._clock.monotonic_ns() - looked_ns > max(window_ns, FRESH_NS)

    def _exchange(self, accounts: list[Account], *, is_last: bool = False) -> None:
        """Exchange with the documents, in one transaction; the exchange lock is held."""
        began_ns, unix_ns = self._clock.monotonic_ns(), self._clock.unix_ns()
        with self._lock:
            taken = [self._open(account, is_last=is_last) for account in accounts]
        balances: list[Balance] = []
        try:
            with self._cells.transaction():
                for account, (_, keep, unsaved, settled, running) in zip(accounts, taken, strict=True):
                    pot = account.pot
                    wanted = 0
                    if self._is_shared and not is_last and account.drawn:
                        wanted = self._wanted(account, began_ns)
                    content = read_content(self._cells.get(_KIND, pot.name))
                    _check_not_set_back(account, content, unix_ns)
                    answer = balance(
                        account, content, self._holder, unix_ns=unix_ns, unsaved=unsaved, settled=settled,
                        running=running, wanted=wanted, demand=account.demand, keep=keep,
                    )  # fmt: skip
                    keep_s = int(2 * pot.window_s) + 2 * LEASE_S
                    self._cells.put(
                        _KIND, pot.name, content.document(), expires_unix_s=unix_ns // 1_000_000_000 + keep_s
                    )
                    balances.append(answer)
        except BaseException:
            with self._lock:
                for account, (free, _, unsaved, settled, _) in zip(accounts, taken, strict=True):
                    account.free += free
                    for index, amount in unsaved.items():
                        account.unsaved[index] = account.unsaved.get(index, 0) + amount
                    calls, total = account.unsaved_settled
                    account.unsaved_settled = (calls + settled[0], total + settled[1])
            raise
        with self._lock:
            for account, answer, (_, keep, _, _, running) in zip(accounts, balances, taken, strict=True):
                self._close(account, answer, running, keep, began_ns)

    @staticmethod
    def _wanted(account: Account, now_ns: int) -> int:
        """Say how much to have free: what was drawn of late in a second, and several draws at least."""
        elapsed_ns = max(now_ns - (account.looked_ns or 0), 50_000_000)
        in_a_second = account.drawn * 1_000_000_000 // elapsed_ns
        account.ahead = max(in_a_second, account.ahead * 3 // 4, AHEAD * max(account.demand, 1))
        return account.ahead

    @staticmethod
    def _open(account: Account, *, is_last: bool) -> tuple[int, int, dict[int, int], tuple[int, int], int]:
        """
        Take out what the exchange is about.

        Far from the limit what is free stays there to be drawn from, so that no call waits for the disk: the
        lease on disk covers it now, and the next one will.
        """
        is_far = account.left > FAR * account.ahead and account.seen_limit == account.pot.limit
        keep = account.free if is_far and account.drawn and not is_last else 0
        taken = account.free - keep, keep, account.unsaved, account.unsaved_settled, account.running
        account.free, account.unsaved, account.unsaved_settled = keep, {}, (0, 0)
        return taken

    @staticmethod
    def _close(account: Account, answer: Balance, running: int, keep: int, began_ns: int) -> None:
        """Put in what the exchange gave."""
        if answer.is_lost:
            # What was given back while this went on was part of the lost lease.
            account.epoch += 1
            account.running = account.free = 0
            running = keep = 0
        # Of what stayed some was drawn meanwhile: it runs now, and the new lease covers it.
        account.free += answer.granted - keep
        account.leased = answer.granted + running
        account.used, account.others = answer.used, answer.others
        account.mean = answer.content.mean
        account.drawn = 0
        account.looked_ns = began_ns
        account.spent = answer.content.spent
        account.left = answer.left
        account.seen_limit = account.pot.limit


def _check_not_set_back(account: Account, content: Content, unix_ns: int) -> None:
    """
    Refuse a document that says less than it did: what is spent stays spent until it leaves the window.

    Raises:
        StoreError: Its row was removed, or an older one was put in its place.
    """
    first = account.pot.first_counted(unix_ns)
    for index, amount in account.spent.items():
        if index >= first and content.spent.get(index, 0) < amount:
            raise StoreError("limits: what was spent was set back").hint(
                "somebody has changed the state file; calls under this limit are denied until its window is over"
            )


def _soon(pot: Pot) -> float:
    """Say when to try again: what calls have set aside comes back when they end, and nobody knows when."""
    return min(1.0, pot.window_s / SLICES)
