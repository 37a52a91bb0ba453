"""Ids do not repeat, not even after a fork."""

from __future__ import annotations

import os
import threading

import pytest

from agentguard.capture import RandomIds


def test_ids_are_in_range_and_differ() -> None:
    """64 and 128 bits, never 0, no repetition in many."""
    ids = RandomIds()
    spans = {ids.span_id() for _ in range(10_000)}
    traces = {ids.trace_id() for _ in range(10_000)}
    assert len(spans) == len(traces) == 10_000
    assert all(0 < span < 2**64 for span in spans)
    assert all(0 < trace < 2**128 for trace in traces)


def test_threads_do_not_repeat() -> None:
    """Draws from several threads are all different."""
    ids = RandomIds()
    drawn: list[int] = []
    threads = [
        threading.Thread(target=lambda: drawn.extend(ids.span_id() for _ in range(5_000))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(drawn)) == 20_000


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_fork_begins_anew() -> None:
    """Parent and children, seeded before the fork, draw different ids."""
    ids = RandomIds()
    ids.span_id()
    drawn: set[int] = set()
    for _ in range(3):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writer, ids.span_id().to_bytes(8, "big"))
            os._exit(0)
        os.waitpid(child, 0)
        os.close(writer)
        drawn.add(int.from_bytes(os.read(reader, 8), "big"))
        os.close(reader)
    drawn.add(ids.span_id())
    assert len(drawn) == 4
