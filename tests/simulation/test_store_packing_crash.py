"""
A packer that is killed, and readers beside it: every span is there, once, at every moment.

The control arm removes the segments before their pack has its name. Readers must
then miss spans, or the harness sees nothing.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agentguard.store import Disk, Store, _compaction
from tests.support.clock import START_UNIX_NS, FrozenClock
from tests.support.crash import kill_in_the_middle
from tests.support.spans import FinishedSpan, make_span
from tests.support.stores import KnownKey, new_store, new_writer, open_store

# Newer interpreters warn of a fork beside threads: that is what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

BASE = 60
"""Spans that are there from the beginning, each in a segment of its own."""


class _Careless(Disk):
    """Removes what goes into a pack before the pack is there."""

    def rename(self, source: Path, target: Path) -> None:
        if target.suffix == ".agp":
            for path in target.parent.glob("*.ag[sp]"):
                path.unlink()
            time.sleep(0.01)
        super().rename(source, target)


def _write_one(store: Store, number: int) -> None:
    writer = new_writer(store, is_sealing=False)
    assert writer.append(FinishedSpan(make_span(number, start_unix_ns=START_UNIX_NS + number)))
    assert writer.close(20).is_complete


def _packing(disk: Disk) -> Callable[[Path, Callable[[str], None]], None]:
    """A process that writes small segments and packs them, again and again."""

    def run(folder: Path, acknowledge: Callable[[str], None]) -> None:
        _compaction.FILES_MIN = 2  # type: ignore[misc]
        store = Store.open(folder, provider=KnownKey(), clock=FrozenClock(), disk=disk)
        number = 1000 + int.from_bytes(os.urandom(4)) * 10_000
        while True:
            for _ in range(4):
                _write_one(store, number)
                acknowledge(make_span(number).span_id)
                number += 1
            store.seal_segments()
            store.compact()

    return run


def _start_reader(folder: Path) -> int:
    """Fork a process that reads until it is told to stop; it ends with 1 if a span was missing, 2 if one was twice."""
    is_over: list[int] = []
    # Before the fork: on a busy machine a child may be told to stop before its first line.
    before = signal.signal(signal.SIGTERM, lambda *_: is_over.append(1))
    pid = os.fork()
    if pid:
        signal.signal(signal.SIGTERM, before)
        return pid
    status = 3
    try:
        store, base = open_store(folder), {make_span(i).span_id for i in range(BASE)}
        status = 0
        while not is_over and not status:
            for found in (
                [place.span.span_id for place in store.query().positions()],
                [span.span_id for span in store.query().spans(newest_first=True)],
            ):
                if not base <= set(found):
                    status = 1
                elif len(set(found)) < len(found):
                    status = 2
    finally:
        os._exit(status)


def _run(folder: Path, disk: Disk, seeds: range) -> tuple[list[int], int]:
    """Kill a packer again and again beside a reader; gives what readers said, and how many spans are gone."""
    store = new_store(folder / "store")
    for number in range(BASE):
        _write_one(store, number)
    store.seal_segments()
    said, lost = [], 0
    acknowledged = {make_span(number).span_id for number in range(BASE)}
    for seed in seeds:
        reader = _start_reader(store.folder)
        acknowledged |= set(kill_in_the_middle(_packing(disk), store.folder, seed=seed, within_s=0.3))
        os.kill(reader, signal.SIGTERM)
        said.append(os.waitstatus_to_exitcode(os.waitpid(reader, 0)[1]))
        found = [span.span_id for span in open_store(store.folder).query().spans()]
        assert len(set(found)) == len(found), "a span was given twice"
        lost += len(acknowledged - set(found))
        acknowledged &= set(found)
    return said, lost


def _check(folder: Path, kills: int) -> None:
    said, lost = _run(folder, Disk(), range(kills))
    assert (set(said), lost) == ({0}, 0)
    store = open_store(folder / "store")
    store.seal_segments()
    store.compact()
    count, damage = store.verify()
    assert count >= BASE
    assert not set(damage.counts) - {"torn"}
    assert not store.query()._folder.listing().superseded


def test_killed_while_readers_read(tmp_path: Path) -> None:
    """No reader misses a span or gets one twice, and none is lost."""
    _check(tmp_path, 5)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_killed_two_hundred_times(tmp_path: Path) -> None:
    """The same, two hundred times."""
    _check(tmp_path, 200)


def test_the_control_arm_fails(tmp_path: Path) -> None:
    """Removing first is seen by readers, or loses spans."""
    said, lost = _run(tmp_path, _Careless(), range(3))
    assert lost or any(said)
