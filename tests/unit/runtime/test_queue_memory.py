"""
What waits to be written is counted as what it takes in memory: the bounds are of bytes, not of guesses.

Spans and records are kept from being written, and what the process holds more is compared with what
the two queues count.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable

import pytest

import agentguard
from agentguard.audit.ticket import RECORD_BYTES
from agentguard.store import SegmentWriter

from .conftest import Start

RULES = """
- id: A-1
  title: Refunds over the limit
  at: tool.before
  when: tool.name == 'refund' && args.amount_usd > 100.0
  then: deny
"""
CALLS = 300


@agentguard.tool(effect="read", name="refund")
def plain(order_id: str, amount_usd: float) -> str:
    """Take little."""
    return order_id


@agentguard.tool(effect="read", name="note")
def long(order_id: str, amount_usd: float) -> str:
    """Put much on its span."""
    span = agentguard.current()
    assert span is not None
    for number in range(20):
        span.set_attribute(f"note.{number}", order_id + str(amount_usd) * 40)
    return order_id


@pytest.mark.parametrize("call", [plain, long])
def test_the_queues_count_what_they_hold(start: Start, call: Callable[[str, float], str]) -> None:
    """Of spans and records that wait, no more is in memory than is counted, and not much less."""
    runtime = start(RULES)
    writer, journal = runtime.sink, runtime.journal
    assert isinstance(writer, SegmentWriter)
    for number in range(50):
        call("o", number % 64)
    assert runtime.flush(10.0).is_complete
    assert journal.flush(10.0)
    with writer._stepping, journal._committer.lock:
        gc.collect()
        counted = writer._bytes_in - writer._bytes_out + RECORD_BYTES * len(journal._queue)
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for number in range(CALLS):
                call("o", number % 64)
            gc.collect()
            real = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        counted = writer._bytes_in - writer._bytes_out + RECORD_BYTES * len(journal._queue) - counted
        assert len(writer._queue) >= CALLS
    assert 0.4 * counted < real < 1.1 * counted, (real / CALLS, counted / CALLS)
