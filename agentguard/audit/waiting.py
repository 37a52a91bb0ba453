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


class Weighed(NamedTuple):
    """Something queued that holds more memory than most, and how much."""

    payload: DecisionRecord | Event
    bytes: int


Item = DecisionRecord | DecisionSource | Event | Ticket | Weighed


class WaitingRecords:
    """What waits to be written. Any thread puts in; one at a time takes out."""

    def __init__(self, bytes_max: int) -> None:
        self.items: deque[Item] = deque()
        self.records_max = max(bytes_max // RECORD_BYTES, 1)
        """How many may wait that hold little."""
        self.heavy_bytes = 0
        """Memory of those that wait beyond `RECORD_BYTES` each."""
        self._heavy_lock = threading.Lock()

    def has_room(self, weight: int) -> bool:
        """Whether a record of that weight may still wait."""
        return len(self.items) + (self.heavy_bytes + weight) // RECORD_BYTES < self.records_max

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

    def take(self, records_max: int) -> list[Item]:
        """Take out the oldest, at most so many."""
        # Only one takes, so what is there stays there.
        popleft = self.items.popleft
        items = [popleft() for _ in range(min(len(self.items), records_max))]
        if self.heavy_bytes:
            weight = sum(item.bytes for item in items if type(item) is Weighed)
            with self._heavy_lock:
                self.heavy_bytes -= weight
        return items


def encode_all(items: list[Item], on_failure: Callable[[AuditError], None]) -> list[bytes]:
    """
    Make the bytes of each record; one that cannot be written fails alone.

    Args:
        items:
            What was taken out. Tickets that cannot be written are finished here.
        on_failure:
            Told of a record that nobody waits for, and that cannot be written.

    Returns:
        Records in the order of the items.
    """
    records = []
    for item in items:
        try:
            if callable(item):  # A source, as nearly every item is.
                record = item()
                if record is not None:
                    records.append(encode_decision(record))
                continue
            payload = item.payload if isinstance(item, Ticket | Weighed) else item
            if isinstance(payload, Event):
                records.append(encode_event(payload.kind, payload.time_unix_ns, payload.details))
            elif payload is not None:
                records.append(encode_decision(payload))
        except AuditError as error:
            if isinstance(item, Ticket):
                item.finish(error)
            else:
                on_failure(error)
        except Exception as error:
            failure = AuditError(f"decision log: a record could not be made ({type(error).__name__})")
            failure.__cause__ = error
            on_failure(failure)
    return records
