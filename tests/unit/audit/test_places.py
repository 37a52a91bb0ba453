"""Places: what comes later is queued without a look at anything, and is bounded, counted and written all the same."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from agentguard.audit import DecisionJournal, JournalLimits, read_decisions
from agentguard.audit.records import encode_decision
from agentguard.errors import AuditError
from agentguard.seal import Keystore
from agentguard.values import DecisionRecord, RecordMode
from tests.support.decisions import SLOW, decision, open_journal

Log = tuple[Path, Keystore]
OPCODES_MAX = 20

# Newer Pythons warn of forks beside threads; what then happens is what these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def source(number: int) -> Callable[[], bytes]:
    """A source of a record that can be told from others."""
    record = decision(number, mode=RecordMode.ASYNC)
    return lambda: encode_decision(record)


def numbers(log: Log) -> list[int]:
    """The numbers of all decisions, in order."""
    return [int(entry.record.decision_id, 16) for entry in read_decisions(*log)]


def wait_for(is_so: Callable[[], bool]) -> None:
    """Wait a few seconds at most."""
    deadline = time.monotonic() + 5.0
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def awake(journal: DecisionJournal) -> None:
    """Have the thread of a journal awake, so that there are places."""
    journal.append_later(lambda: None)
    wait_for(lambda: journal._put != journal._enqueue)


def test_what_it_costs(log: Log) -> None:
    """While there are places, queueing is so many steps of the interpreter, and no more."""
    journal = open_journal(*log, limits=SLOW._replace(window_s=60.0))
    awake(journal)
    steps = 0

    def watch(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal steps
        frame.f_trace = watch  # Python 3.13 counts nothing in a frame that asks for it before.
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        steps += event == "opcode"
        return watch

    one, before = source(1), sys.gettrace()
    sys.settrace(watch)
    try:
        journal.append_later(one)
    finally:
        sys.settrace(before)
    assert 0 < steps <= OPCODES_MAX
    assert journal.close(5.0)
    assert numbers(log) == [1]


def test_nothing_is_left_behind(log: Log) -> None:
    """Threads that come whenever the thread goes to sleep: each record is written soon, without a flush."""
    journal = open_journal(*log, limits=SLOW._replace(window_s=0.0))

    def bring(first: int) -> None:
        for number in range(first, first + 150):
            journal.append_later(source(number))
            time.sleep(0.0005 * (number % 3))

    threads = [threading.Thread(target=bring, args=(1000 * index,)) for index in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_for(lambda: journal.stored == 600)
    finally:
        sys.setswitchinterval(interval)
    assert journal.close(5.0)
    brought = numbers(log)
    assert sorted(brought) == [1000 * index + number for index in range(4) for number in range(150)]
    for index in range(4):
        assert [number for number in brought if number // 1000 == index] == sorted(
            number for number in brought if number // 1000 == index
        )


@pytest.mark.parametrize("is_async", [False, True])
def test_the_queue_is_bounded(log: Log, is_async: bool) -> None:
    """With the disk hanging no more waits than was allowed, from threads and from event loops; losses are counted."""
    limits = SLOW._replace(queue_bytes_max=64 * 1024, window_s=60.0, backpressure_s_max=0.0)
    journal = open_journal(*log, limits=limits)
    awake(journal)

    async def burst() -> None:
        for number in range(500):
            journal.append_later(source(number))

    with journal._committer.lock:
        if is_async:
            asyncio.run(burst())
        else:
            for number in range(500):
                journal.append_later(source(number))
        assert len(journal._queue) <= 65
    assert journal.close(5.0)
    assert len(numbers(log)) + journal.dropped["queue full"] == 500


def test_heavy_records_leave_room_for_places(log: Log) -> None:
    """Records with values fill no more of the queue than what places were not given for."""
    limits = JournalLimits(queue_bytes_max=120 * 1024, window_s=60.0, backpressure_s_max=0.0)
    journal = open_journal(*log, limits=limits)
    awake(journal)
    heavy = decision(1, mode=RecordMode.ASYNC)
    values = {"args.text": "x" * 2000}
    heavy = heavy._replace(decision=heavy.decision.__class__(effect=heavy.decision.effect, values=values))
    with journal._committer.lock:
        for _ in range(100):
            journal.append(heavy)
            journal.append_later(source(2))
        held = len(journal._queue) + journal._records.heavy_bytes // 1024
        assert held <= 121
    assert journal.close(5.0)
    assert len(numbers(log)) + journal.dropped["queue full"] == 200
    assert journal._records.heavy_bytes == 0


def test_a_source_that_fails_is_alone(log: Log) -> None:
    """It is counted and told; what was taken before and after it, and who waits, are as if it had not been."""
    told: list[str] = []
    journal = open_journal(
        *log,
        limits=SLOW._replace(window_s=60.0),
        on_internal_error=lambda where, error: told.append(f"{where}: {error}"),
    )

    def fails() -> bytes:
        raise ZeroDivisionError

    def refuses() -> DecisionRecord:
        raise AuditError("cannot be written")

    for item in (source(1), fails, source(2), lambda: None, refuses, lambda: decision(3)):
        journal.append_later(item)
    journal.append(decision(4))
    assert numbers(log) == [1, 2, 3, 4]
    assert journal.dropped == {"cannot be encoded": 2}
    assert [line.partition(" (")[0] for line in told] == [
        "audit.encode: decision log: a record could not be made",
        "audit.encode: cannot be written",
    ]
    assert journal.close(5.0)


def test_after_the_end(log: Log) -> None:
    """What comes once the journal is closed is counted, also where it had its place before."""
    journal = open_journal(*log)
    awake(journal)
    put = journal._put
    assert journal.close(5.0)
    journal.append_later(source(1))
    assert journal.dropped == {"after close": 1}
    put(source(2))
    journal._without_place()
    assert journal.dropped == {"after close": 2}
    assert not journal._queue
    assert numbers(log) == []


def test_a_child_has_places_of_its_own(log: Log) -> None:
    """A child that is forked while there are places begins its own queue, and its records are written."""
    journal = open_journal(*log, limits=SLOW._replace(window_s=0.2))
    awake(journal)
    journal.append_later(source(1))
    child = os.fork()
    if not child:
        journal.append_later(source(2))
        journal.append_later(source(3))
        os._exit(not journal.close(5.0))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert journal.close(5.0)
    assert sorted(numbers(log)) == [1, 2, 3]
