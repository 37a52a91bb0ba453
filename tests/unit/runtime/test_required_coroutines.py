"""Coroutines whose decisions must be on disk: they share syncs, without threads and without holding the loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

import agentguard
from tests.unit.runtime.conftest import Start, decisions

RULE = """
- {id: A, title: Required, at: tool.before, when: tool.name == 'work_required', then: allow, record: required}
"""


@agentguard.tool
async def work_required(number: int) -> int:
    """Do something."""
    return number


def test_two_hundred_tasks(start: Start) -> None:
    """Two hundred required decisions: few syncs, no thread for each, and a loop that keeps its pace."""
    runtime = start(RULE)
    most = 0

    async def main() -> float:
        nonlocal most
        worst = 0.0

        async def watch() -> None:
            nonlocal worst, most
            while True:
                before = time.monotonic()
                await asyncio.sleep(0.001)
                worst = max(worst, time.monotonic() - before)
                most = max(most, threading.active_count())

        await work_required(0)
        watching = asyncio.create_task(watch())
        before = threading.active_count()
        results = await asyncio.gather(*(work_required(n) for n in range(200)))
        watching.cancel()
        assert results == list(range(200))
        assert most <= before + 1
        return worst

    syncs = runtime.journal.syncs
    assert asyncio.run(main()) < 1.0
    assert runtime.journal.syncs - syncs <= 40
    assert len(decisions(runtime)) == 402
    assert all(
        stored.record.outcome == "ok" for stored in decisions(runtime) if stored.record.point == "outcome"
    )


def test_a_cancelled_call_has_its_outcome(start: Start) -> None:
    """A task that is cancelled while its admission is written leaves no call without outcome."""
    runtime = start(RULE)

    async def main() -> None:
        await work_required(0)
        task = asyncio.create_task(work_required(1))
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.2)

    asyncio.run(main())
    found = decisions(runtime)
    admitted = {stored.record.call_id for stored in found if stored.record.point == "tool.before"}
    ended = {stored.record.call_id for stored in found if stored.record.point == "outcome"}
    assert admitted == ended
