"""
Between queue and disk: finished spans become frames, by whoever has the time.

The writer's thread encodes; a calling thread helps where the queue is a quarter full,
since a thread that runs Python all the time gets the interpreter more often than
one that comes back from the disk. An encoded span takes a tenth of the memory.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import deque
from itertools import accumulate, repeat, starmap
from operator import attrgetter
from typing import Final

from agentguard.store._batch import Batcher
from agentguard.store._config import WriterConfig
from agentguard.store._live import Body
from agentguard.values import Clock, OutcomeRecord, SpanSource

_OUTCOME_BYTES: Final = 512
NOTHING: Final = -(2**62)
_size_of: Final = attrgetter("bytes_estimate")


class QueuedOutcome:
    """An outcome in the queue, with the size that a span has by itself."""

    __slots__ = ("bytes_estimate", "outcome")

    def __init__(self, outcome: OutcomeRecord) -> None:
        self.outcome = outcome
        self.bytes_estimate = _OUTCOME_BYTES


class Encoding:
    """
    The queue of finished spans, and the frames made of them.

    Any thread may encode at any time. Each takes a numbered batch, and frames are
    handed out in the order of these numbers, which is that of the sequence numbers
    in them. No I/O happens here, and the lock is held only to take a batch.
    """

    def __init__(self, batcher: Batcher, config: WriterConfig, clock: Clock) -> None:
        self.queue: deque[SpanSource | QueuedOutcome] = deque()
        self._batcher = batcher
        self._clock = clock
        self._spans_max = config.frame_spans_max
        self._bytes_max = config.frame_bytes_max
        self._lock = threading.Lock()
        self._spans = self._outcomes = 0
        self._left = 0
        """Spans and outcomes that left the queue, or are about to, and did not come back."""
        self._taken = 0
        """Batches taken out of the queue."""
        self._given = 0
        """Batches whose frames were handed out."""
        self._ready: dict[int, list[Body]] = {}

    @property
    def taken(self) -> int:
        """How many batches were taken out of the queue."""
        return self._taken

    @property
    def accepted(self) -> int:
        """How many spans and outcomes ever came into the queue; for a moment more, never fewer."""
        # The queue first: what is taken out meanwhile is counted before.
        return len(self.queue) + self._left

    @property
    def items(self) -> int:
        """How many spans and outcomes were taken out of the queue."""
        return self._spans + self._outcomes

    @property
    def is_pending(self) -> bool:
        """Whether batches were taken that are not handed out yet."""
        return self._given < self._taken

    def is_waiting_for(self, taken: int) -> bool:
        """Whether of the first *taken* batches some are still being encoded."""
        return any(number not in self._ready for number in range(self._given, taken))

    def encode(self, *, spans_max: int | None = None, can_wait: bool = False) -> int:
        """
        Take one frame's worth out of the queue and encode it.

        Args:
            spans_max:
                How many at most; without it as many as a frame may have.
            can_wait:
                Wait for a thread that is just taking a batch; only for the writer's thread.

        Returns:
            Estimated bytes of memory that this freed; `NOTHING` where nothing was done.

        """
        if not self._lock.acquire(blocking=can_wait):
            return NOTHING
        try:
            sources, outcomes, size = self._take(spans_max or self._spans_max, self._bytes_max)
            if not sources and not outcomes:
                return NOTHING
            number, first_span, first_outcome = self._taken, self._spans, self._outcomes
            self._taken += 1
            self._spans += len(sources)
            self._outcomes += len(outcomes)
        finally:
            self._lock.release()
        bodies: list[Body] = []
        try:
            bodies = self._batcher.bodies(
                sources, outcomes, first_span=first_span, first_outcome=first_outcome,
                now_unix_ns=self._clock.unix_ns(),
            )  # fmt: skip
        except BaseException:
            # A signal handler raised on the calling thread, in the midst of its help.
            self.queue.extendleft(reversed([*sources, *map(QueuedOutcome, outcomes)]))
            self._left -= len(sources) + len(outcomes)
            size = 0
            raise
        finally:
            # Always: the batches behind this one wait for it.
            self._ready[number] = bodies
        return size - sum([len(body.data) for body in bodies])

    def _take(self, spans_max: int, bytes_max: int) -> tuple[list[SpanSource], list[OutcomeRecord], int]:
        """Take from the queue until one of the two limits."""
        take = self.queue.popleft
        count = min(spans_max, len(self.queue))
        self._left += count
        items = list(starmap(take, repeat((), count)))
        kinds = set(map(type, items))
        # Short spans hold the same, all of them: their class says how much.
        each = getattr(next(iter(kinds)), "bytes_estimate", None) if len(kinds) == 1 else None
        size = each * count if type(each) is int else sum(map(_size_of, items))
        if size > bytes_max:
            count = bisect_left(list(accumulate(map(_size_of, items))), bytes_max) + 1
            self.queue.extendleft(reversed(items[count:]))
            self._left -= len(items) - count
            del items[count:]
            size = sum(map(_size_of, items))
        if QueuedOutcome not in kinds:
            return items, [], size  # type: ignore[return-value] # all of them are spans
        outcomes = [item.outcome for item in items if type(item) is QueuedOutcome]
        return [item for item in items if type(item) is not QueuedOutcome], outcomes, size  # type: ignore[misc]

    def hand_out(self) -> list[Body]:
        """Give the frames that are ready, in their order; only for the writer's thread."""
        bodies: list[Body] = []
        while (batch := self._ready.pop(self._given, None)) is not None:
            self._given += 1
            bodies += batch
        return bodies
