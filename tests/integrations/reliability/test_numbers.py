"""The tests of `tests/simulation` in the numbers that a store is trusted for; thousands more are behind `long`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from tests.simulation import (
    test_audit_crash_states,
    test_audit_crashes,
    test_runtime_crash,
    test_store_crash,
    test_store_crash_states,
    test_store_power,
    test_whole_store_crash_states,
)
from tests.support.power import PowerRig, why_not

# Newer interpreters warn of a fork beside threads: that is what is tested here.
pytestmark = [pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"), pytest.mark.timeout(400)]

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory, where there is one."""
    folder = Path(tempfile.mkdtemp(dir=MEMORY))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_two_hundred_kills_of_a_writer(memory: Path) -> None:
    """Spans."""
    test_store_crash.kill_store(memory / "store", 200)


def test_sixty_kills_of_a_journal(memory: Path) -> None:
    """Decisions, from three threads; two hundred more kills of the log are those of governed processes."""
    test_audit_crashes.kill_many(memory, 60, seed=2)


def test_two_hundred_kills_of_a_governed_process(memory: Path) -> None:
    """Decisions that must be there before the call, made through the decorators."""
    test_runtime_crash.check_kills(memory, 200)


@pytest.mark.parametrize(("kind", "times"), [("ext4", 40), ("xfs", 20), ("btrfs", 20)])
def test_power_cuts(memory: Path, kind: str, times: int) -> None:
    """Spans and decisions."""
    if why_not(kind):
        pytest.skip(why_not(kind))
    total, lost = test_store_power.cut_store(PowerRig(memory, kind), times)
    assert total > times
    assert lost == 0


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_power_cuts_of_the_control_arm(memory: Path, kind: str) -> None:
    """SQLite with `synchronous=OFF` must lose, or the cuts cut nothing."""
    if why_not(kind):
        pytest.skip(why_not(kind))
    total, lost = test_store_power.cut_sqlite(PowerRig(memory, kind), 10)
    assert total > 0
    assert lost > 0


def _spans(seed: int) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        test_store_crash_states.explore(Path(folder), 10_000, seed)


def _decisions(seed: int) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder, pytest.MonkeyPatch.context() as patch:
        disk = test_audit_crash_states.record(Path(folder), patch)
        test_audit_crash_states.explore(Path(folder), disk, 10_000, seed, verify_each=100)


def _whole(seed: int) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder, pytest.MonkeyPatch.context() as patch:
        disk = test_whole_store_crash_states.record(Path(folder), patch)
        test_whole_store_crash_states.explore(Path(folder), disk, 10_000, seed)


@pytest.mark.parametrize(("explore", "times"), [(_spans, 5), (_decisions, 3), (_whole, 2)])
def test_a_hundred_thousand_crash_states(explore: Callable[[int], None], times: int) -> None:
    """50,000 of the segments, 30,000 of the decision log, 20,000 of the whole folder; each seed is another life."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(explore, range(times)))
