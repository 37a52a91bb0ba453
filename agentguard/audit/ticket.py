"""What waits in the queue of a journal, and the limits of that queue."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from agentguard.errors import AuditError
from agentguard.values import DecisionRecord

if TYPE_CHECKING:
    # Only the types: plain programs never load it, see `event_loop`.
    import asyncio


class JournalLimits(NamedTuple):
    """How long and how much a journal holds back, and how large its files grow."""

    window_s: float = 0.1
    """How long an `async` record may wait for others before it is written."""
    checkpoint_interval_s: float = 1.0
    """At most so long a written record stays unsynced and without checkpoint."""
    checkpoint_records_max: int = 10_000
    """After so many records a checkpoint comes at once."""
    queue_bytes_max: int = 24 << 20
    """Memory of `async` records that may wait; what comes when it is used up waits, or is dropped and counted. Threads
    wait from a twelfth of it on, so that all of it is for the bursts of event loops, which cannot wait."""
    backpressure_s_max: float = 1.0
    """How long a thread waits for room, writing itself if need be; an event loop never waits."""
    batch_records_max: int = 512
    """Records written at one time; more takes memory, several times over, and saves nothing."""
    journal_bytes_max: int = 16 << 20
    """A file that has grown to it is closed, and the next one begins."""
    journal_age_s_max: float = 86_400.0
    """So is one that is older and holds anything: retention removes whole files, and none that is written to."""
    commit_wait_s_max: float = 30.0
    """A `required` record that is not on disk after it fails."""


RECORD_BYTES = 1024
"""About how much memory a queued record without values of its own holds."""


class Event(NamedTuple):
    """Something to chain that is not a decision."""

    kind: str
    time_unix_ns: int
    details: Mapping[str, object]


class Ticket:
    """A record that somebody waits for, and how it went."""

    __slots__ = ("_done", "error", "is_done", "must_lead", "notify", "payload")

    def __init__(self, payload: DecisionRecord | Event | None) -> None:
        self.payload = payload
        """None: no record, only that all before it is on disk."""
        self.error: AuditError | None = None
        self.is_done = False
        self.must_lead = False
        """It is this one's turn to commit for all that wait."""
        self.notify: Callable[[], None] | None = None
        self._done = threading.Lock()
        self._done.acquire()

    def __call__(self) -> Ticket:
        """Give itself: whoever empties the queue calls what stands in it."""
        return self

    def finish(self, error: AuditError | None = None) -> None:
        """Say how it went, once, and wake who waits."""
        if self.is_done:
            return
        self.error = error
        self.is_done = True
        self.wake()
        if self.notify is not None:
            self.notify()

    def future(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """Make a future of a loop that is done once this is; the error stays here."""
        future: asyncio.Future[None] = loop.create_future()

        def settle() -> None:
            if not future.done():
                future.set_result(None)

        def notify() -> None:
            with contextlib.suppress(RuntimeError):  # The loop has ended, and nobody waits any more.
                loop.call_soon_threadsafe(settle)

        self.notify = notify
        return future

    def wake(self) -> None:
        """Let the waiting thread look."""
        with contextlib.suppress(RuntimeError):  # It was woken already.
            self._done.release()

    def wait(self, timeout_s: float) -> bool:
        """Wait until woken; False where the time ran out."""
        return self._done.acquire(timeout=max(timeout_s, 0.0))


def weight_of(payload: DecisionRecord | Event) -> int:
    """
    Estimate how much memory a record holds beyond `RECORD_BYTES`.

    Only what belongs to the record alone counts: decisions without values are shared.
    """
    if isinstance(payload, Event):
        return _weight(payload.details, 0)
    decision = payload.decision
    if decision.values is None:
        return 0
    return len(decision.reason) + len(decision.agent_message) + _weight(decision.values, 0)


def _weight(value: object, depth: int) -> int:
    if isinstance(value, str | bytes):
        return 64 + len(value)
    if depth < 4:
        if isinstance(value, Mapping):
            return 64 + sum(64 + len(str(key)) + _weight(item, depth + 1) for key, item in value.items())
        if isinstance(value, list | tuple | set | frozenset):
            return 64 + sum(_weight(item, depth + 1) for item in value)
    return 64


def not_durable(error: BaseException) -> AuditError:
    """Say that a record is not on disk, and why, without paths and payloads."""
    why = (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
    return AuditError(f"decision log: a record could not be brought to disk ({why})").hint(
        "`agentguard doctor` looks at the store's disk and permissions"
    )


def too_slow(wait_s_max: float) -> AuditError:
    """Say that a record is not on disk after a wait."""
    return AuditError(f"decision log: a record is not on disk after {wait_s_max:g} s").hint(
        "the disk hangs, or another process holds the ledger"
    )
