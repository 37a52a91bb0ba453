"""
The queue of a journal: bounded by the memory of what waits, emptied in batches.

Appending is one deque append for a record that holds little; only records with
values of their own are weighed.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from agentguard.audit.records import encode_decision, encode_event
from agentguard.audit.ticket import RECORD_BYTES, Event, Ticket
from agentguard.errors import AuditError
from agentguard.values import DecisionRecord, DecisionSource

_BREATH_S = 0.001
_PAUSE_S = 10.0
"""After a wait in vain threads are not held up again for so long, while there is room."""


class Weighed(NamedTuple):
    """Something queued that holds more memory than most, and how much."""

    payload: DecisionRecord | Event
    bytes: int


class Batch(NamedTuple):
    """What is written at one time."""

    records: list[bytes]
    """In their order."""
    tickets: list[Ticket]
    """Who waits for some of them."""


Item = DecisionRecord | DecisionSource | Event | Ticket | Weighed


class WaitingRecords:
    """What waits to be written. Any thread puts in; one at a time takes out."""

    def __init__(self, bytes_max: int) -> None:
        self.items: deque[Item] = deque()
        self.records_max = max(bytes_max // RECORD_BYTES, 1)
        """How many may wait that hold little."""
        self.calm_max = max(self.records_max // 6, 1)
        """How many may wait before the threads that bring more help to write them."""
        self.heavy_bytes = 0
        """Memory of those that wait beyond `RECORD_BYTES` each."""
        self._heavy_lock = threading.Lock()
        self._no_wait_until_s = 0.0

    def has_room(self, weight: int) -> bool:
        """Whether a record of that weight may still wait."""
        return len(self.items) + (self.heavy_bytes + weight) // RECORD_BYTES < self.records_max

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

    def put(self, item: DecisionRecord | DecisionSource | Event, weight: int) -> None:
        """Put a record in, whether there is room or not."""
        if weight and not callable(item):
            with self._heavy_lock:
                self.heavy_bytes += weight
            self.items.append(Weighed(item, weight))
        else:
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
        records, tickets = batch
        # One after the other, so each is let go of while the processor still has it at hand. Only one takes:
        # what is there stays there.
        count = min(len(self.items), records_max)
        popleft, add = self.items.popleft, records.append
        for _ in range(count):
            item = popleft()
            try:
                if callable(item):  # A source, as nearly every item is.
                    made = item()
                    if isinstance(made, bytes):
                        add(made)
                    elif made is not None:
                        add(encode_decision(made))
                    continue
                payload: DecisionRecord | Event | None
                if isinstance(item, Ticket):
                    tickets.append(item)
                    payload = item.payload
                elif isinstance(item, Weighed):
                    with self._heavy_lock:
                        self.heavy_bytes -= item.bytes
                    payload = item.payload
                else:
                    payload = item
                if isinstance(payload, Event):
                    add(encode_event(payload.kind, payload.time_unix_ns, payload.details))
                elif payload is not None:
                    add(encode_decision(payload))
            except AuditError as error:
                if isinstance(item, Ticket):
                    item.finish(error)
                else:
                    on_failure(error)
            except Exception as error:
                failure = AuditError(f"decision log: a record could not be made ({type(error).__name__})")
                failure.__cause__ = error
                on_failure(failure)
        return count
