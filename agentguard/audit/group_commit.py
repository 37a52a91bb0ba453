"""
Group commit: whoever comes first commits for all that wait, so many threads share one sync.

No lock that a waiting thread takes is ever held over I/O.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from agentguard.audit.batches import Batches
from agentguard.audit.ticket import Ticket, too_slow


class GroupCommit:
    """The threads that wait until their records are on disk."""

    def __init__(self, batches: Batches, on_led: Callable[[], None]) -> None:
        """
        Args:
            batches:
                Write what is queued.
            on_led:
                Called when a group was committed: there is something to state.
        """  # noqa: D205 - the arguments say it all
        self._batches = batches
        self._on_led = on_led
        self._waiting: deque[Ticket] = deque()
        self._mutex = threading.Lock()
        self._has_leader = False

    def append(self, ticket: Ticket, wait_s_max: float) -> None:
        """
        Queue, and lead the commit or wait for the one who does.

        Raises:
            AuditError: It is not on disk.
        """
        deadline = time.monotonic() + wait_s_max
        with self._mutex:
            self._batches.records.items.append(ticket)
            leads = not self._has_leader
            if leads:
                self._has_leader = True
            else:
                self._waiting.append(ticket)
        if not leads:
            while not ticket.wait(deadline - time.monotonic()):
                with self._mutex:
                    if not ticket.must_lead and not ticket.is_done:
                        ticket.finish(too_slow(self._batches.limits.commit_wait_s_max))
                        break
            leads = ticket.must_lead
        if leads:
            self._lead(ticket)
        if ticket.error is not None:
            raise ticket.error

    def _lead(self, ticket: Ticket) -> None:
        """Commit for all that wait, then hand over to the next who waits."""
        batches = self._batches
        try:
            batches.records.gather(batches.group_size)
            with batches.committer.lock:
                while not ticket.is_done:
                    batches.write(must_sync=False)  # Its batch is synced.
        finally:
            with self._mutex:
                following = None
                while self._waiting:
                    candidate = self._waiting.popleft()
                    if not candidate.is_done:
                        following = candidate
                        break
                if following is None:
                    self._has_leader = False
                else:
                    following.must_lead = True
                    following.wake()
            self._on_led()
