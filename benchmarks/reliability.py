"""
What the store survives, counted: makes the table of `docs/explanation/reliability.md`.

Run by hand, as root where power cuts are wanted:
`python benchmarks/reliability.py [--kills 200] [--cuts 40] [--states 50000]
[--schedules 5000] [--spans 4320000] [--write]`; a quarter of an hour.
Each row has a control arm where one is possible: a store that must fail the same test.
"""

from __future__ import annotations

import argparse
import errno
import logging
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
# The harness is that of the tests, so that what is published is what is tested.
sys.path.insert(0, str(ROOT))

import pytest  # noqa: E402

from tests.integrations.reliability import test_endings  # noqa: E402
from tests.simulation import (  # noqa: E402
    test_audit_crash_states,
    test_audit_crashes,
    test_audit_faults,
    test_runtime_crash,
    test_soak,
    test_store_crash,
    test_store_crash_states,
    test_store_faults,
    test_store_hostile,
    test_store_power,
    test_store_schedules,
    test_whole_store_crash_states,
)
from tests.support.crash_site import Site  # noqa: E402
from tests.support.power import PowerRig, why_not  # noqa: E402
from tests.support.sim_disk import SimDisk  # noqa: E402

PAGE = ROOT / "docs" / "explanation" / "reliability.md"
BEGIN, END = "<!-- results -->", "<!-- end of results -->"


class Result(NamedTuple):
    """One row of the table."""

    test: str
    runs: str
    found: str


@contextmanager
def memory() -> Iterator[Path]:
    """A folder in memory, where there is one."""
    base = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=base if base.is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def kills(times: int) -> Iterator[Result]:
    """SIGKILL at random moments, and the control arm."""
    with memory() as folder:
        test_store_crash.kill_store(folder / "store", times)
    yield Result(
        "`kill -9` of a process that writes spans", f"{times:,} kills", "0 acknowledged spans lost, 0 doubled"
    )
    with memory() as folder:
        test_audit_crashes.kill_many(folder, times, seed=2)
    yield Result(
        "`kill -9` of a process that writes decisions from three threads",
        f"{times:,} kills",
        "0 acknowledged decisions lost, 0 doubled, the log verifies",
    )
    with memory() as folder:
        test_runtime_crash.check_kills(folder, times)
    yield Result(
        "`kill -9` of a governed process, `record: required`",
        f"{times:,} kills",
        "no call ran without its decision on disk; calls cut off are noted as such",
    )
    with memory() as folder:
        control, ours = Site(folder / "control").prepare(), Site(folder / "ours").prepare()
        made, ids = test_endings.kill_after_calls(control, test_endings.BATCHED, 400)
        exported = control.folder / "exported"
        lost = len(ids - set(exported.read_text(encoding="ascii").split() if exported.exists() else ()))
        made_here, _ = test_endings.kill_after_calls(ours, "site.start()\ncalls(10**6, 0.005)", 400)
        lost_here = len(ours.look().lost)
    assert lost > made / 2, "the control arm kept its spans"
    yield Result(
        "spans of a process that is killed after two seconds without a flush, 200 a second",
        f"{made_here:,} spans",
        f"{lost_here} lost, all younger than the window",
    )
    yield Result(
        "*control*: the same with OpenTelemetry's `BatchSpanProcessor`",
        f"{made:,} spans",
        f"**{lost} lost**, as it must",
    )


def cuts(times: int) -> Iterator[Result]:
    """Power cuts, and the control arm."""
    for kind, share in (("ext4", 1), ("xfs", 2), ("btrfs", 2)):
        test = f"power cut under {kind}, spans and decisions"
        if why_not(kind):
            yield Result(test, "0", f"not run: {why_not(kind)}")
            continue
        with memory() as folder:
            total, lost = test_store_power.cut_store(PowerRig(folder, kind), times // share)
        yield Result(
            test,
            f"{times // share:,} cuts, {total:,} acknowledgements",
            f"{lost} acknowledged records lost, the decision log verifies after each",
        )
        if kind == "btrfs":
            continue
        with memory() as folder:
            total, lost = test_store_power.cut_sqlite(PowerRig(folder, kind), min(times, 40) // share)
        assert lost, "the control arm lost nothing: the cuts cut nothing"
        yield Result(
            f"*control*: SQLite with `synchronous=OFF` under {kind}",
            f"{min(times, 40) // share:,} cuts, {total:,} acknowledgements",
            f"**{lost:,} acknowledged rows lost**, as it must",
        )


def states(count: int) -> Iterator[Result]:
    """States of a simulated disk, and the control arms."""
    with memory() as folder:
        seen = test_store_crash_states.explore(folder, count)
    yield Result(
        "states of a simulated disk after a cut (any unsynced sectors, lengths, names)",
        f"{seen['states']:,} states",
        f"0 acknowledged spans lost, 0 invented; a torn end reported in {seen['torn']:,}",
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
    )
    with memory() as folder, pytest.MonkeyPatch.context() as patch:
        disk = test_audit_crash_states.record(folder, patch)
        test_audit_crash_states.explore(folder, disk, count // 2, verify_each=100)
    yield Result(
        "the same of the decision log, with rotation and checkpoints",
        f"{count // 2:,} states",
        "0 acknowledged decisions lost, 0 invented, the log verifies",
    )
    with memory() as folder, pytest.MonkeyPatch.context() as patch:
        disk = test_whole_store_crash_states.record(folder, patch)
        test_whole_store_crash_states.explore(folder, disk, count // 2)
    yield Result(
        "the same of the whole folder: content under keys of its own, sealing, packing, erasure",
        f"{count // 2:,} states",
        "0 acknowledged spans or contents lost, nothing erased came back",
    )


def schedules(count: int) -> Result:
    """Interleavings by seed, each with a cut at its end."""
    with memory() as folder, pytest.MonkeyPatch.context() as patch:
        test_store_schedules.run_schedules(range(count), folder, patch)
    return Result(
        "writers, sealing, packing and readers interleaved by a seed, then cut off",
        f"{count:,} schedules",
        "no reader missed or met twice what was safe, all was finished",
    )


def log_faults() -> Result:
    """Every operation of the decision log fails once."""
    points = refused = 0
    for number, share in test_audit_faults.FAULTS:
        with memory() as folder:
            found = list(test_audit_faults.fail_every_operation(folder, number, share))
        points, refused = points + len(found), refused + sum(found)
    return Result(
        "each write and sync of the decision log fails once (full disk, quota, input/output error)",
        f"{points:,} points",
        f"0 acknowledged decisions lost; {refused} calls denied because theirs could not be kept",
    )


def soak(spans: int) -> Result:
    """Half an hour to a day of spans, with all that happens in a day."""
    with memory() as folder:
        soaked = test_soak.soak_day(folder, spans)
    soaked.check()
    return Result(
        f"{spans:,} spans at 50 a second by the clock, with sealing, packing and retention by size",
        f"{spans / 50 / 3600:.1f} h",
        f"made = stored + dropped ({soaked.dropped}); memory {soaked.slope_bytes / 2**20:+.1f} MiB and open files "
        f"{soaked.more_files:+d} over the second half; the store within its bound",
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
    )


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
    parser.add_argument("--states", type=int, default=50_000)
    parser.add_argument("--schedules", type=int, default=5_000)
    parser.add_argument("--spans", type=int, default=4_320_000)
    parser.add_argument("--write", action="store_true")
    wanted = parser.parse_args()
    logging.getLogger("agentguard").setLevel(logging.ERROR)
    results: list[Result] = []
    for work in (
        lambda: kills(wanted.kills),
        lambda: cuts(wanted.cuts),
        lambda: states(wanted.states),
        lambda: [schedules(wanted.schedules)],
        lambda: [failing_writes()],
        lambda: [log_faults()],
        lambda: [flips()],
        lambda: [soak(wanted.spans)],
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
