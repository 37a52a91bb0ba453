"""
The queue of a journal: bounded by the memory of what waits, emptied in batches.

Whatever stands in it can be called, and gives its record or itself; sources of one class may be written together. Only
records with values of their own are weighed.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

from agentguard.audit.records import CallRecord, encode_decision, encode_event
from agentguard.audit.ticket import RECORD_BYTES, Event, Ticket
from agentguard.errors import AuditError
from agentguard.values import DecisionRecord, DecisionSource

_BREATH_S = 0.001
_PAUSE_S = 10.0
"""After a wait in vain threads are not held up again for so long, while there is room."""


class Given(NamedTuple):
    """A record or event that is queued as it is, and how much memory it holds beyond most."""

    payload: DecisionRecord | Event
    bytes: int

    def __call__(self) -> Given:
        """Give itself: its bytes are made together with its weight being taken off."""
        return self


class Batch(NamedTuple):
    """What is written at one time."""

    records: list[bytes]
    """In their order."""
    tickets: list[Ticket]
    """Who waits for some of them."""
    forms: dict[bytes, bytes]
    """Of the short records, by their digest."""


Item = DecisionSource | Given | Ticket
WriteAll = Callable[[Iterator[Any], list[bytes], dict[bytes, bytes]], None]
"""What the class of a source may have as `write_all`: takes sources of this class, as many as there are, and adds the
record of each to the list, and the forms of short ones, by their digest, to the dict. Called again where it raises."""
_CHUNK_RECORDS = 256


class WaitingRecords:
    """What waits to be written. Any thread puts in; one at a time takes out."""

    def __init__(self, bytes_max: int) -> None:
        self.items: deque[Item] = deque()
        self.records_max = max(bytes_max // RECORD_BYTES, 1)
        """How many may wait that hold little."""
        self.calm_max = max(self.records_max // 12, 1)
        """How many may wait before the threads that bring more help to write them."""
        self._heavy_max = max(self.records_max - self.calm_max, 1)
        """How many may wait where one more comes that holds much: light ones may have been given places already."""
        self.heavy_bytes = 0
        """Memory of those that wait beyond `RECORD_BYTES` each."""
        self._heavy_lock = threading.Lock()
        self._no_wait_until_s = 0.0

    def has_room(self, weight: int) -> bool:
        """Whether a record of that weight may still wait."""
        count_max = self._heavy_max if weight else self.records_max
        return len(self.items) + (self.heavy_bytes + weight) // RECORD_BYTES < count_max

    def is_calm(self, weight: int) -> bool:
        """Whether so little waits, that record included, that nobody needs to help."""
        return len(self.items) + (self.heavy_bytes + weight) // RECORD_BYTES < self.calm_max

    def wait_until_calm(self, weight: int, hurry_up: Callable[[], bool], wait_s_max: float) -> bool:
        """
        Hold up a thread that brings more than is written, and leave the interpreter to the one that writes.

        Args:
            weight:
                Of the record that it brings.
            hurry_up:
                Has a batch written; False where that cannot be.
            wait_s_max:
                How long to wait.

        Returns:
            Whether there is room.
        """
        now = time.monotonic()
        if self.has_room(weight) and now < self._no_wait_until_s:
            return True
        while not self.is_calm(weight):
            # Each time: others have brought more, perhaps, since the thread was called.
            if not hurry_up():
                return self.has_room(weight)
            if time.monotonic() >= now + wait_s_max:
                self._no_wait_until_s = time.monotonic() + _PAUSE_S
                return self.has_room(weight)
            time.sleep(_BREATH_S)
        return True

    def places(self) -> int:
        """How many more may come before threads help: so many need not look at the queue first."""
        return max(self.calm_max - len(self.items) - self.heavy_bytes // RECORD_BYTES, 0)

    def put(self, item: DecisionSource | Given, weight: int) -> None:
        """Put a record in, whether there is room or not."""
        if weight:
            with self._heavy_lock:
                self.heavy_bytes += weight
        self.items.append(item)

    def gather(self, expected: int) -> None:
        """
        Wait a moment for the threads of the last group, which are about to come again.

        A lone caller never waits: its group was one.
        """
        if expected <= 1:
            return
        for _ in range(20):
            if len(self.items) >= expected:
                return
            time.sleep(0.00005)

    def take(self, records_max: int, batch: Batch, on_failure: Callable[[AuditError], None]) -> int:
        """
        Take out the oldest, and make the bytes of each record; one that cannot be written fails alone.

        Args:
            records_max:
                How many to take at most.
            batch:
                Where they go. A ticket whose record cannot be written is finished here.
            on_failure:
                Told of a record that nobody waits for, and that cannot be written.

        Returns:
            How many were taken out.
        """
        # Only one takes: what is there stays there.
        count = min(len(self.items), records_max)
        popleft = self.items.popleft
        for left in range(count, 0, -_CHUNK_RECORDS):
            # A few at a time: each is let go of while the processor still has it at hand.
            chunk = [popleft() for _ in range(min(left, _CHUNK_RECORDS))]
            rest = iter(chunk)
            try:
                write: WriteAll | None = getattr(chunk[0], "write_all", None)
                if write is not None and len(set(map(type, chunk))) == 1:
                    _write_all(write, rest, batch, on_failure)
                else:
                    for item in rest:
                        try:
                            made = item()
                        except Exception as error:
                            on_failure(_not_made(error))
                        else:
                            self._sort(made, batch, on_failure)
            except BaseException:
                # A thread of the program's own was interrupted: the others wait on, in their order.
                self.items.extendleft(reversed(list(rest)))
                raise
        return count

    def _sort(self, made: object, batch: Batch, on_failure: Callable[[AuditError], None]) -> None:
        """Put what an item gave where it belongs."""
        ticket: Ticket | None = None
        if isinstance(made, Ticket):
            batch.tickets.append(made)
            ticket, made = made, made.payload
        elif isinstance(made, Given):
            if made.bytes:
                with self._heavy_lock:
                    self.heavy_bytes -= made.bytes
            made = made.payload
        try:
            if isinstance(made, CallRecord):
                batch.forms[made.form.digest] = made.form.text
                batch.records.append(made.record)
            elif isinstance(made, bytes):
                batch.records.append(made)
            elif isinstance(made, Event):
                batch.records.append(encode_event(made.kind, made.time_unix_ns, made.details))
            elif made is not None:
                batch.records.append(encode_decision(cast("DecisionRecord", made)))
        except Exception as error:
            if ticket is not None and isinstance(error, AuditError):
                ticket.finish(error)
            else:
                on_failure(_not_made(error))


def _write_all(
    write: WriteAll, rest: Iterator[Any], batch: Batch, on_failure: Callable[[AuditError], None]
) -> None:
    """Have sources of one class written together; one that cannot be written fails alone."""
    while True:
        try:
            write(rest, batch.records, batch.forms)
        except Exception as error:
            on_failure(_not_made(error))
        else:
            return


def _not_made(error: Exception) -> AuditError:
    """Say that a record could not be made."""
    if isinstance(error, AuditError):
        return error
    failure = AuditError(f"decision log: a record could not be made ({type(error).__name__})")
    failure.__cause__ = error
    return failure
