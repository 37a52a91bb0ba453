"""kill -9 of a writing process: what it was told is safe is there, and the store opens."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.crash import kill_in_the_middle
from tests.support.spans import FinishedSpan, make_span
from tests.support.stores import new_store, new_writer, open_store

# Newer interpreters warn of a fork beside threads: that is what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def _write_until_killed(folder: Path, acknowledge: Callable[[str], None]) -> None:
    """Write spans in steps, with rotation and sealing in between; say after each flush how far it is."""
    store = open_store(folder)
    first = len(list(store.query().spans()))
    writer = new_writer(store, segment_spans_max=60, frame_spans_max=16)
    for number in itertools.count(first):
        writer.append(FinishedSpan(make_span(number)))
        if number % 7 == 0:
            assert writer.flush(10).is_complete
            acknowledge(str(number))


_LIVES_MAX = 20
"""So many lives of one store; with all of them each would have to read what thousands of spans left."""


def kill_store(folder: Path, times: int) -> None:
    """Kill a writer *times* times, and look each time; a new store every twenty times."""
    for first in range(0, times, _LIVES_MAX):
        _kill_one(folder / str(first), range(first, min(first + _LIVES_MAX, times)))


def _kill_one(folder: Path, seeds: range) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    new_store(folder)
    for seed in seeds:
        acknowledged = kill_in_the_middle(_write_until_killed, folder, seed=seed, within_s=0.12)
        store = open_store(folder)
        query = store.query()
        numbers = [int(span.span_id, 16) - 0xB000_0000_0000_0000 for span in query.spans()]
        assert sorted(numbers) == list(range(len(numbers))), "a span is lost or there twice"
        assert len(numbers) > int(acknowledged[-1]), "an acknowledged span is lost"
        assert set(query.damage.counts) <= {"torn"}, query.damage.first
    store.seal_segments()
    assert store.info().live_segments == 0
    assert len(list(store.query().spans())) == len(numbers)


def test_kill_while_writing(tmp_path: Path) -> None:
    """A few kills in the core suite."""
    kill_store(tmp_path / "store", 8)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_kill_while_writing_often(tmp_path: Path) -> None:
    """A thousand kills."""
    kill_store(tmp_path / "store", 1000)
