"""
A million decorated calls, and a day of spans: what grows, and whether every span is accounted for.

Run by hand: `python benchmarks/soak.py [--calls 1000000] [--day-spans 4320000]`; 0 leaves one out.
Fails where memory grows by a mebibyte or more over the second half, where a file stays open, or
where spans made are not exactly spans stored and counted drops.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The harness is that of the tests, so that what is published is what is tested.
sys.path.insert(0, str(ROOT))

from tests.simulation.test_soak import Soaked, soak_calls, soak_day  # noqa: E402


def report(name: str, soak: Callable[[Path, int], Soaked], count: int) -> Soaked:
    """Run one, and say how it went."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HOME"] = os.environ["XDG_CONFIG_HOME"] = folder
        begin, cpu = time.monotonic(), time.process_time()
        soaked = soak(Path(folder), count)
        wall_s, cpu_s = time.monotonic() - begin, time.process_time() - cpu
    last = soaked.samples[-1]
    print(
        f"{name}: {soaked.made:,} made = {soaked.stored:,} stored + {soaked.dropped:,} dropped and counted; "
        f"{soaked.found:,} there, {soaked.removed:,} removed by retention; memory {last.rss_bytes / 2**20:.0f} MiB, "
        f"{soaked.slope_bytes / 2**20:+.2f} MiB over the second half; {last.files} open files "
        f"({soaked.more_files:+d}); {cpu_s:.0f} s of CPU, {wall_s:.0f} s",
        flush=True,
    )
    soaked.check()
    return soaked


def main() -> None:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--day-spans", type=int, default=4_320_000)
    wanted = parser.parse_args()
    logging.getLogger("agentguard").setLevel(logging.ERROR)
    if wanted.calls:
        report("calls", soak_calls, wanted.calls)
    if wanted.day_spans:
        report("day", soak_day, wanted.day_spans)


if __name__ == "__main__":
    main()
