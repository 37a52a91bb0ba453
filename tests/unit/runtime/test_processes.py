"""Forks, threads, tasks and exits: every call is recorded once, wherever it runs."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

import agentguard
from agentguard.audit import verify
from agentguard.runtime import SystemClock
from agentguard.seal import FileKey, create_key_file
from agentguard.store import Store
from tests.unit.runtime.conftest import Start, decisions, spans

RULE = """
- {id: A, title: Recorded, at: tool.before, when: tool.name == 'work', then: allow}
"""


@agentguard.tool
def work(number: int) -> int:
    """Do something."""
    return number


@agentguard.tool(name="work")
async def work_async(number: int) -> int:
    """Do something, with a pause."""
    await asyncio.sleep(0)
    return number


def test_threads(start: Start) -> None:
    """Eight threads, a thousand calls each: all there, no id twice."""
    runtime = start(RULE)
    threads = [threading.Thread(target=lambda: [work(n) for n in range(1000)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = spans(runtime)
    assert len({span.span_id for span in found}) == len(found) == 8000
    assert len(decisions(runtime)) == 16_000


def test_ten_thousand_tasks(start: Start) -> None:
    """Concurrent tasks keep their own context: each call is a root of its own."""
    runtime = start(RULE)

    async def main() -> None:
        results = await asyncio.gather(*(work_async(n) for n in range(10_000)))
        assert results == list(range(10_000))

    asyncio.run(main())
    found = spans(runtime)
    assert len(found) == 10_000
    assert len({span.trace_id for span in found}) == 10_000


def test_fork(start: Start) -> None:
    """A forked child writes its own files; nothing of the parent is lost or doubled."""
    runtime = start(RULE)
    for number in range(50):
        work(number)
    children = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                for number in range(50):
                    work(number)
                status = 0 if agentguard.flush(10).is_complete else 2
            finally:
                os._exit(status)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
    work(50)
    found = spans(runtime)
    assert len({span.span_id for span in found}) == len(found) == 201
    assert len({stored.record.decision_id for stored in decisions(runtime)}) == 402
    assert verify(runtime.store.folder, runtime.store.keystore).is_good


def _child_process(number: int) -> int:
    return work(number)


def test_multiprocessing_children_lose_nothing(start: Start) -> None:
    """Children of multiprocessing end by `os._exit`, and their spans are on disk all the same."""
    runtime = start(RULE)
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_child_process, args=(n,)) for n in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert len(spans(runtime)) == 4


PROGRAM = """
import agentguard, os, sys
agentguard.init(store={store!r}, key={key!r}, drift_interval_s=0, export={export!r})

@agentguard.tool
def work(n): return n

for n in range(100):
    work(n)
{end}
"""


@pytest.mark.parametrize(
    ("end", "export"),
    [
        ("", "none"),
        ("sys.exit(3)", "none"),
        ("raise RuntimeError('x')", "none"),
        ("", "http://127.0.0.1:9"),
    ],
    ids=["end", "exit", "error", "dead backend"],
)
def test_all_is_on_disk_when_the_program_ends(tmp_path: Path, end: str, export: str) -> None:
    """Without any call of flush or shutdown, and bounded in time with a dead backend."""
    create_key_file(tmp_path / "key")
    program = PROGRAM.format(
        store=str(tmp_path / "store"), key=f"file:{tmp_path / 'key'}", end=end, export=export
    )
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, timeout=30, check=False
    )
    store = Store.open(tmp_path / "store", provider=FileKey(tmp_path / "key"), clock=SystemClock())
    assert sum(1 for _ in store.query().spans()) == 100
