"""
Where each microsecond of a governed call goes, by thread and by stage.

    python benchmarks/overhead_stages.py [--calls 60000]

A thread of the benchmark looks every millisecond at what each other thread runs, and charges to that
stage the CPU time that the thread has used since the look before. So the sum of a thread is measured, by
its own CPU clock, and its division into stages is sampled. A stage is known by the files and functions of the
package; what none of them claims is `other`, and a large `other` means that this table needs a look. The floor is
the sketch of `overhead.py`, which keeps an encrypted trace and does nothing else.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import overhead
from overhead_parts import Report, ask, parser_of, refund, run_arm, say, start_governed

LOOK_S = 0.001
PACKAGE = f"{Path(__file__).parents[1] / 'agentguard'}/"

CALLER = (
    ("record: queue the decision and the outcome", ("audit/", "runtime/later.py")),
    (
        "decide: facts, rules",
        (
            ":is_as_ever",
            ":is_answer",
            "policy/",
            "runtime/deciding.py",
            "runtime/facts.py",
            "runtime/gates.py",
        ),
    ),
    ("decide: rates and spending", ("state/",)),
    (
        "usage: tokens and price",
        (
            "capture/usage",
            "capture/cost.py",
            ":take_usage",
            ":record_usage",
            "runtime/fast_owing.py",
            "reckoning.py",
        ),
    ),
    ("end: queue the span", ("store/",)),
    ("end: time, outcome, counters", (":_end", ":end", ":_finish", ":finish", ":complete")),
    (
        "begin: span, context, arguments",
        (":begin", ":__init__", ":begin_call", "runtime/", "capture/"),
    ),
    ("wrapper", ("wrapping/",)),
    ("the function itself, and the loop", ("!ask", "!refund", "!call", "!turn", "!rest", "!profile_arm")),
)
WRITER = (
    ("sync", (":sync", ":sync_folder")),
    (
        "price what calls used, and add it to sums",
        ("reckoning.py", "runtime/fast_owing.py", "runtime/runs.py", "capture/usage", "state/"),
    ),
    (
        "write and seal a frame",
        ("store/_live.py", "store/_outlet.py", "seal/", "store/_disk.py", "store/_blob.py"),
    ),
    ("read and encode: columns, features, zstd", ("store/", "capture/", "values/")),
)
LOG = (
    ("sync", (":sync",)),
    ("make the record", ("runtime/", "values/", "capture/")),
    ("encode", ("audit/records.py", "audit/decision_fields.py", "audit/events.py", "audit/format.py")),
    (
        "chain, seal and write",
        (
            "audit/writer.py",
            "audit/tree.py",
            "audit/ledger.py",
            "audit/ledger_files.py",
            "seal/",
            "audit/disk.py",
        ),
    ),
    ("queue and batches", ("audit/",)),
)
THREADS = {
    "MainThread": ("calling thread", CALLER),
    "agentguard-store": ("writer", WRITER),
    "agentguard-decision-log": ("decision log", LOG),
}
Stages = tuple[tuple[str, tuple[str, ...]], ...]


def stage_of(frame: FrameType | None, stages: Stages) -> str:
    """The stage of the innermost frame that one of them claims."""
    while frame is not None:
        code = frame.f_code
        is_ours = code.co_filename.startswith(PACKAGE)
        for stage, claims in stages:
            for claim in claims:
                if claim[0] == "!":
                    is_claimed = not is_ours and code.co_name == claim[1:]
                elif claim[0] == ":":
                    is_claimed = is_ours and code.co_name == claim[1:]
                else:
                    is_claimed = is_ours and code.co_filename.startswith(claim, len(PACKAGE))
                if is_claimed:
                    return stage
        frame = frame.f_back
    return "other"


class Sampler(threading.Thread):
    """Charges the CPU of every thread to what it runs."""

    def __init__(self) -> None:
        super().__init__(name="sampler", daemon=True)
        self.is_over = threading.Event()
        self.spent_ns: Counter[tuple[str, str]] = Counter()
        self._seen: dict[int, int] = {}

    def run(self) -> None:
        """Look until told to stop."""
        while not self.is_over.wait(LOOK_S):
            self.look()

    def look(self) -> None:
        """Charge what was used since the last look."""
        frames = sys._current_frames()  # noqa: SLF001 - documented, for this
        for thread in threading.enumerate():
            ident = thread.ident
            if ident is None or thread is self:
                continue
            try:
                now = time.clock_gettime_ns(time.pthread_getcpuclockid(ident))
            except OSError:
                continue  # It has just ended.
            used = now - self._seen.get(ident, now)
            self._seen[ident] = now
            if used:
                title, stages = THREADS.get(thread.name, (thread.name, ()))
                self.spent_ns[title, stage_of(frames.get(ident), stages)] += used


def rest(runtime: Any) -> None:
    """
    Wait until the threads have written everything.

    With a backlog callers help the writer to encode, and in a flush the caller writes the log itself: their work would
    show as that of the calling thread.
    """
    before = -1
    while runtime.sink.pending or runtime.journal.stored != before:
        before = runtime.journal.stored
        time.sleep(0.3)


def profile_arm(options: argparse.Namespace) -> dict[str, Any]:
    """Make calls under the sampler."""
    import agentguard

    with tempfile.TemporaryDirectory() as folder:
        runtime = start_governed(Path(folder))
        model = agentguard.model(provider="openai", model="gpt-5")(ask)
        tool = agentguard.tool(effect="write", name="refund")(refund)

        def call(count: int) -> None:
            for _ in range(count // 4):
                turn(0)

        turn = agentguard.agent(name="support")(overhead.turn_of(model, tool))
        call(2_000)
        runtime.flush(60)
        sampler = Sampler()
        sampler.look()
        sampler.start()
        for _ in range(options.calls // 2_000):
            call(2_000)
            rest(runtime)
        sampler.is_over.set()
        sampler.join()
        sampler.look()
        agentguard.shutdown(60)
    calls = options.calls // 2_000 * 2_000
    return {f"{thread}\t{stage}": ns / calls / 1e3 for (thread, stage), ns in sampler.spent_ns.items()}


def main(options: argparse.Namespace) -> None:
    report = Report("stages", "python benchmarks/overhead_stages.py")
    found = {
        tuple(key.split("\t")): us for key, us in run_arm(__file__, "profile", calls=options.calls).items()
    }
    say("stages: profiled")
    with tempfile.TemporaryDirectory() as folder:
        sketch = run_arm(overhead.__file__, "sketch", turns=5_000, sink="", folder=folder)
    rows: list[list[object]] = []
    known = [title for title, _ in THREADS.values()]
    for thread in (*known, *sorted({key[0] for key in found} - set(known))):
        stages = {key[1]: us for key, us in found.items() if key[0] == thread}
        rows.append([thread, "all of it", sum(stages.values())])
        if thread in known:
            rows += [["", stage, us] for stage, us in sorted(stages.items(), key=lambda item: -item[1])]
    rows.append(["whole process", "all of it", sum(found.values())])
    rows.append(["the floor", "calling thread", sketch["hot_us"]])
    rows.append(["", "background thread", sketch["process_us"] - sketch["hot_us"]])
    report.table("Where each microsecond of a call goes, CPU", ("thread", "stage", "us a call"), rows)
    report.print(options.format)


def read_options() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--calls", type=int, default=60_000, help="default 60000")
    return parser.parse_args()


if __name__ == "__main__":
    given = read_options()
    if given.arm:
        print(json.dumps(profile_arm(given)))
    else:
        main(given)
