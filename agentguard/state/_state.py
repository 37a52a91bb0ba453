"""The state of a machine, or of one process: rates, spend, approvals, kill over the same cells."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from pathlib import Path
from typing import Protocol, Self

from agentguard.errors import AgentGuardError
from agentguard.forks import is_outdated, process_mark
from agentguard.seal import Keystore, check_private_folder
from agentguard.state.approvals import Approvals
from agentguard.state.breakers import Breakers
from agentguard.state.cells import Cells, MemoryCells
from agentguard.state.database import SqliteCells
from agentguard.state.keeper import Keeper
from agentguard.state.kill import Kill
from agentguard.state.ledger import Ledger
from agentguard.state.memory import WINDOW_S_MAX as MEMORY_S_MAX
from agentguard.state.memory import Memory
from agentguard.state.page import KILL, MappedPage, MemoryPage, Page
from agentguard.state.rates import WINDOW_S_MAX, Rates
from agentguard.state.spend import Spend
from agentguard.state.tally import Tally
from agentguard.values import Clock, InternalErrorHook

STALE_NS_MAX = 1_000_000_000
LOOK_S = 0.25
"""How often the thread reads what others shared, while somebody asks."""
ASKED_NS = 200_000_000
"""How long whoever asks need not say so again; less than that, so that each look sees whether somebody asks."""
SHARE_LOOKS = 3
"""At which look it shares what was counted here: seldom, for most of what that costs is the disk's work."""
QUIET_LOOKS = 9
"""After so many looks with nothing to do it sleeps until there is."""
_SPEND_KEEP_S = 40 * 86_400
_machines: weakref.WeakSet[MachineState] = weakref.WeakSet()


class State(Protocol):
    """What policy asks about the past: the same questions to a machine and to a replay."""

    rates: Rates
    spend: Spend
    approvals: Approvals
    kill: Kill
    ledger: Ledger
    breakers: Breakers
    memory: Memory

    def flush(self) -> None:
        """Share all sums now."""
        ...

    def close(self) -> None:
        """Share all sums and let go of everything."""
        ...


class _Shared:
    """Rates, spend, approvals, kill, limits and breakers over cells."""

    def __init__(
        self, cells: Cells, page: Page, clock: Clock, store_id: bytes, *, is_shared: bool = False
    ) -> None:
        self._cells = cells
        self._page = page
        self._clock = clock
        refresh, added = self._refresh_if_stale, self._added
        rates = Tally(cells, Rates.KIND, is_kept=Rates.is_kept, keep_s=2 * WINDOW_S_MAX, added=added)
        spend = Tally(cells, Spend.KIND, is_kept=Spend.is_kept, keep_s=_SPEND_KEEP_S, added=added)
        memory = Tally(cells, Memory.KIND, is_kept=Memory.is_kept, keep_s=2 * MEMORY_S_MAX, added=added)
        self._tallies = (rates, spend, memory)
        self.rates = Rates(rates, clock, refresh)
        self.spend = Spend(spend, clock, refresh)
        self.memory = Memory(memory, clock, refresh)
        self.approvals = Approvals(cells, clock, store_id)
        self.kill = Kill(cells, page, clock)
        self.ledger = Ledger(cells, clock, is_shared=is_shared, wake=self._drawn)
        self.breakers = Breakers(cells, page, clock)

    def _drawn(self, *, is_urgent: bool = False) -> None:
        """Hear that something was drawn, or that what is leased runs out."""

    def _refresh_if_stale(self) -> int:
        """See to it that what others shared is at most a second old; give the ns until it is to be asked again."""
        return ASKED_NS

    def _added(self) -> None:
        """Hear that there is something to share."""

    def _tidy(self) -> None:
        """Save what was drawn and what breakers heard."""
        self.breakers.tidy()
        self.ledger.tidy()

    def flush(self) -> None:
        """Share all sums now."""

    def close(self) -> None:
        """Let go of everything."""
        self._cells.close()
        self._page.close()


class MemoryState(_Shared):
    """
    State of this process alone, on a handed-in clock: for replay, simulation and tests.

    Nothing is written anywhere; the answers are the same as a machine's.
    """

    def __init__(self, clock: Clock, *, store_id: bytes = bytes(16)) -> None:
        """
        Begin with nothing.

        Args:
            clock:
                Tells the time of buckets, days and expiries.
            store_id:
                What votes are bound to.
        """
        super().__init__(MemoryCells(), MemoryPage(), clock, store_id)
        self.kill.begin()
        self._merged_ns = clock.monotonic_ns()

    def _refresh_if_stale(self) -> int:
        # Merging is what lets go of old buckets; a replay of a year must not keep them all.
        if self._clock.monotonic_ns() - self._merged_ns > 60 * STALE_NS_MAX:
            self.flush()
        return ASKED_NS

    def flush(self) -> None:
        """Share all sums now."""
        self._merged_ns = self._clock.monotonic_ns()
        now = self._clock.unix_ns() // 1_000_000_000
        with self._cells.transaction():
            for tally in self._tallies:
                tally.gather()
                tally.begin_merge()
                tally.read()
                tally.write_merge(now)
            self._cells.remove_expired(now)
        for tally in self._tallies:
            tally.end_merge()
        self._tidy()


class MachineState(_Shared):
    """
    State that all processes of a machine share, sealed in the store's folder.

    Counting is cheap; a thread shares the sums at most every second. The thread
    runs only while there is something to share or somebody asks.
    """

    def __init__(
        self,
        cells: SqliteCells,
        page: MappedPage,
        clock: Clock,
        store_id: bytes,
        on_internal_error: InternalErrorHook,
    ) -> None:
        super().__init__(cells, page, clock, store_id, is_shared=True)
        self._keeper = Keeper(
            self._tidy, lambda: self.ledger.is_busy or self.breakers.is_busy, on_internal_error
        )
        self._sqlite = cells
        self._on_internal_error = on_internal_error
        self._refreshed_ns: int | None = None
        self._read_version: object = None
        self._is_closed: bool
        self._begin()
        _machines.add(self)

    @classmethod
    def open(
        cls,
        folder: Path,
        keystore: Keystore,
        clock: Clock,
        *,
        on_internal_error: InternalErrorHook,
        accept_reset: bool = False,
    ) -> Self:
        """
        Open the state of a store, or make it where the store has none yet.

        Args:
            folder:
                The store's folder.
            keystore:
                Its keys.
            clock:
                Tells the time of buckets, days and expiries.
            on_internal_error:
                Told when sums cannot be shared; they are kept and tried again.
            accept_reset:
                Begin anew where the state was removed or replaced: counters at zero, no approvals,
                no kill orders. Only ever on a person's word.

        Returns:
            The state.

        Raises:
            StoreError: The state was removed, replaced, altered, or cannot be opened.
            KeyUnavailableError: It was made with another key.
        """
        check_private_folder(folder)
        cells = SqliteCells(folder, keystore, accept_reset=accept_reset)
        try:
            page = MappedPage(folder)
            state = cls(cells, page, clock, keystore.store_id, on_internal_error)
            if accept_reset:
                page.write(KILL, 0)
            state.kill.begin()
        except BaseException:
            cells.close()
            raise
        return state

    def flush(self) -> None:
        """
        Share all sums now, and read what others shared.

        Raises:
            StoreError: The state cannot be read or written; the sums are kept.
        """
        with self._io_lock:
            if self._gather():
                self._merge()
            else:
                self._read()
        self._tidy()

    def close(self) -> None:
        """Share all sums and let go of everything; errors are told to the hook."""
        if self._is_closed:
            return
        self._is_closed = True
        self._work.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(5.0)
        self._keeper.close(5.0)
        try:
            self.flush()
            self.ledger.tidy(is_last=True)
        except AgentGuardError as error:
            self._on_internal_error("state.close", error)
        super().close()

    def _drawn(self, *, is_urgent: bool = False) -> None:
        self._keeper.wake(is_urgent=is_urgent)

    def _refresh_if_stale(self) -> int:
        if not self._mark[0]:
            self._after_fork()
        now = self._clock.monotonic_ns()
        self._asked_ns = now
        if self._is_idle:
            self._wake()
        refreshed = self._refreshed_ns
        if refreshed is None or now - refreshed > STALE_NS_MAX:
            with self._io_lock:
                # Another thread may have done it while this one waited.
                if self._refreshed_ns is None or now - self._refreshed_ns > STALE_NS_MAX:
                    self._read()
            refreshed = self._refreshed_ns or now
        return min(ASKED_NS, refreshed + STALE_NS_MAX - now)

    def _added(self) -> None:
        if self._is_idle or not self._mark[0]:
            if not self._mark[0]:
                self._after_fork()
            self._wake()

    def _read(self) -> None:
        """Read what others have shared, if they have; the I/O lock is held."""
        began = self._clock.monotonic_ns()
        # The version first: what comes after it is read with the next.
        version = self._cells.version()
        if version != self._read_version:
            for tally in self._tallies:
                tally.read()
            self._read_version = version
        self._refreshed_ns = began

    def _gather(self) -> bool:
        """Take what calls have counted, and say whether there is something to share."""
        dirty = [tally for tally in self._tallies if tally.gather()]
        return bool(dirty)

    def _merge(self) -> None:
        """Write what was gathered, and read what others have shared; the I/O lock is held."""
        now = self._clock.unix_ns() // 1_000_000_000
        for tally in self._tallies:
            tally.begin_merge()
        with self._cells.transaction():
            self._read()
            for tally in self._tallies:
                tally.write_merge(now)
            self._cells.remove_expired(now)
        for tally in self._tallies:
            tally.end_merge()

    # -- thread and fork -----------------------------------------------------------------------

    def _begin(self) -> None:
        self._mark = process_mark()
        self._io_lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._thread_lock = threading.Lock()
        self._work = threading.Event()
        self._is_idle = True
        self._is_closed = False
        self._asked_ns = 0

    def _wake(self) -> None:
        if self._thread is None and not self._is_closed:
            with self._thread_lock:
                if self._thread is None:
                    if is_outdated(self._thread_lock):
                        self._io_lock, self._work = threading.Lock(), threading.Event()
                    thread = threading.Thread(target=self._run, name="agentguard-state", daemon=True)
                    try:
                        thread.start()
                    except RuntimeError as error:
                        # The system has none left: the sums stay here until the next call tries again.
                        self._on_internal_error("state.thread", error)
                        return
                    self._thread = thread
        self._is_idle = False
        self._work.set()

    def _run(self) -> None:
        """Share and read while there is need, then sleep until there is."""
        asked, unasked = 0, QUIET_LOOKS
        while not self._is_closed:
            self._work.wait()
            self._work.clear()
            looks = quiet = 0
            while not self._is_closed and quiet < QUIET_LOOKS:
                self._work.wait(LOOK_S)
                self._work.clear()
                looks += 1
                asked_before, asked = asked, self._asked_ns
                unasked = 0 if asked != asked_before else unasked + 1
                is_dirty = False
                try:
                    with self._io_lock:
                        is_dirty = looks % SHARE_LOOKS == 0 and self._gather()
                        if is_dirty:
                            self._merge()
                        elif unasked < QUIET_LOOKS:
                            self._read()
                except Exception as error:  # The thread must live; the sums are kept and tried again.
                    self._on_internal_error("state.merge", error)
                quiet = 0 if is_dirty or not unasked else quiet + 1
            self._is_idle = True
            if self._gather():
                self._wake()

    def _after_fork(self) -> None:
        """Begin in a child: what is not merged is the parent's to merge."""
        self._begin()
        for tally in self._tallies:
            tally.forget()
        self.ledger.forget()
        self.breakers.after_fork()
        self._keeper.after_fork()
        self.kill.after_fork()


def _after_fork_in_child() -> None:
    for state in list(_machines):
        state._after_fork()  # noqa: SLF001 - the same module


def _close_at_exit() -> None:
    """After a shutdown policies stay in force and ask it; no thread of it may live on into the interpreter's end."""
    for state in list(_machines):
        state.close()


os.register_at_fork(after_in_child=_after_fork_in_child)
# What is registered first runs last: the runtime that uses it is shut down by then.
atexit.register(_close_at_exit)
