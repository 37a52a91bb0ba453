"""
What the store survives, counted: makes the table of `docs/explanation/reliability.md`.

Run by hand, as root where power cuts are wanted:
`python benchmarks/reliability.py [--kills 200] [--cuts 40] [--states 100000] [--write]`.
Each row has a control arm where one is possible: a store that must fail the same test.
"""

from __future__ import annotations

import argparse
import errno
import platform
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
# The harness is that of the tests, so that what is published is what is tested.
sys.path.insert(0, str(ROOT))

from tests.simulation import (  # noqa: E402
    test_store_crash,
    test_store_crash_states,
    test_store_faults,
    test_store_hostile,
    test_store_power,
)
from tests.support.power import PowerRig, why_not  # noqa: E402
from tests.support.sim_disk import SimDisk  # noqa: E402

PAGE = ROOT / "docs" / "explanation" / "reliability.md"
BEGIN, END = "<!-- results -->", "<!-- end of results -->"


class Result(NamedTuple):
    """One row of the table."""

    test: str
    runs: str
    found: str
    seconds: float


@contextmanager
def memory() -> Iterator[Path]:
    """A folder in memory, where there is one."""
    base = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=base if base.is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def kills(times: int) -> Result:
    """SIGKILL at random moments."""
    with memory() as folder:
        test_store_crash.kill_store(folder / "store", times)
    return Result(
        "`kill -9` of a writing process", f"{times:,} kills", "0 acknowledged spans lost, 0 doubled", 0
    )


def cuts(times: int) -> Iterator[Result]:
    """Power cuts, and the control arm."""
    if why_not():
        yield Result("power cut under ext4", "0", f"not run: {why_not()}", 0)
        return
    with memory() as folder:
        total, lost = test_store_power.cut_store(PowerRig(folder), times)
    yield Result(
        "power cut under ext4, spans and decisions",
        f"{times:,} cuts, {total:,} acknowledgements",
        f"{lost} acknowledged records lost, the decision log verifies after each",
        0,
    )
    with memory() as folder:
        total, lost = test_store_power.cut_sqlite(PowerRig(folder), min(times, 40))
    assert lost, "the control arm lost nothing: the cuts cut nothing"
    yield Result(
        "*control*: SQLite with `synchronous=OFF`",
        f"{min(times, 40):,} cuts, {total:,} acknowledgements",
        f"**{lost:,} acknowledged rows lost**, as it must",
        0,
    )


def states(count: int) -> Iterator[Result]:
    """States of a simulated disk, and the control arms."""
    with memory() as folder:
        seen = test_store_crash_states.explore(folder, count)
    yield Result(
        "states of a simulated disk after a cut (any unsynced sectors, lengths, names)",
        f"{seen['states']:,} states",
        f"0 acknowledged spans lost, 0 invented; a torn end reported in {seen['torn']:,}",
        0,
    )
    for name in ("sync", "sync_folder"):
        kept = getattr(SimDisk, name)
        setattr(SimDisk, name, lambda *_: None)
        try:
            with memory() as folder:
                test_store_crash_states.explore(folder, 1000)
        except AssertionError as error:
            if "acknowledged and lost" not in str(error):
                raise
        else:
            raise AssertionError(f"the control arm without {name} lost nothing")
        finally:
            setattr(SimDisk, name, kept)
    yield Result(
        "*control*: the same without syncs of files, or of folders",
        "2 arms",
        "**both lose**, as they must",
        0,
    )


def failing_writes() -> Result:
    """Every write fails once."""
    points = 0
    for number, share in ((errno.ENOSPC, 0.5), (errno.EIO, 0.0), (errno.EDQUOT, 1.0)):
        with memory() as folder:
            points += test_store_faults.fail_every_write(folder, number, share)
    return Result(
        "each write fails once (full disk, quota, input/output error; none, half or all of it written)",
        f"{points:,} points",
        "0 spans lost, 0 doubled, whole frames only",
        0,
    )


def flips() -> Result:
    """Every byte of a live and of a sealed segment."""
    with memory() as folder:
        (folder / "live").mkdir()
        (folder / "sealed").mkdir()
        test_store_hostile.test_every_byte_of_a_live_segment(folder / "live")
        test_store_hostile.test_every_byte_of_a_sealed_segment(folder / "sealed")
        size = sum(path.stat().st_size for path in folder.rglob("*.ags"))
    return Result(
        "every byte of a segment flipped, and every truncation",
        f"{size:,} bytes",
        "0 wrong data, each reported",
        0,
    )


def timed(work: Callable[[], Result]) -> Result:
    """Say how long it took."""
    begin = time.monotonic()
    return work()._replace(seconds=time.monotonic() - begin)


def table(results: list[Result]) -> str:
    """The table, with where and when it was made."""
    lines = ["| test | how often | found |", "|---|---|---|"]
    lines += [f"| {row.test} | {row.runs} | {row.found} |" for row in results]
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return "\n".join([*lines, "", f"Made by `python benchmarks/reliability.py` on {system}.", ""])


def main() -> None:
    """Run all, print the table, and put it into the page where asked."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--cuts", type=int, default=40)
    parser.add_argument("--states", type=int, default=100_000)
    parser.add_argument("--write", action="store_true", help="put the table into the page")
    wanted = parser.parse_args()
    random.seed(0)
    results: list[Result] = []
    for work in (
        lambda: [timed(lambda: kills(wanted.kills))],
        lambda: cuts(wanted.cuts),
        lambda: states(wanted.states),
        lambda: [timed(failing_writes)],
        lambda: [timed(flips)],
    ):
        for result in work():
            print(f"{result.test}: {result.runs}: {result.found}", flush=True)
            results.append(result)
    made = table(results)
    print(made)
    if wanted.write:
        text = PAGE.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        _, _, after = rest.partition(END)
        PAGE.write_text(f"{before}{BEGIN}\n\n{made}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
