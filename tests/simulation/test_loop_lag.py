"""On a slow disk coroutines wait for their decision, and the event loop does not wait with them."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from agentguard.audit import DecisionJournal
from agentguard.audit.disk import Disk
from tests.support.clock import FrozenClock
from tests.support.decisions import SLOW, decision, make_keystore, raise_it

_SYNC_S = 0.6


class SlowDisk(Disk):
    """Each sync takes its time."""

    def sync(self, fd: int) -> None:
        time.sleep(_SYNC_S)
        super().sync(fd)


async def worst_lag_s(journal: DecisionJournal, *, is_blocking: bool) -> float:
    """The longest time in which the loop did nothing while three required decisions were written."""
    worst = 0.0

    async def watch() -> None:
        nonlocal worst
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            worst = max(worst, time.monotonic() - before - 0.005)

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0.02)
    for number in range(3):
        if is_blocking:
            journal.append(decision(100 + number))
            await asyncio.sleep(0.01)
        else:
            await journal.append_async(decision(number))
    watching.cancel()
    return worst


def test_the_loop_goes_on(tmp_path: Path) -> None:
    """Half of one sync is never spent in the loop; the control arm, which waits in it, is seen."""
    store, keystore = make_keystore(tmp_path)
    journal = DecisionJournal.open(
        store,
        keystore=keystore,
        clock=FrozenClock(),
        on_internal_error=raise_it,
        limits=SLOW,
        disk=SlowDisk(),
    )
    began = time.monotonic()
    assert asyncio.run(worst_lag_s(journal, is_blocking=False)) < _SYNC_S / 2
    assert time.monotonic() - began > 3 * _SYNC_S, "nothing was waited for at all"
    assert asyncio.run(worst_lag_s(journal, is_blocking=True)) > _SYNC_S * 0.9
    assert journal.close(10.0)
