"""Processes that die: kill -9, forks in the middle, many writers at once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agentguard.audit import (
    Answer,
    NoteKey,
    PrunedJournals,
    Question,
    StoredDecision,
    VerifyReport,
    adopt_abandoned,
    check_proof,
    prove,
    prune_journals,
    read_decisions,
    verify,
)
from agentguard.errors import AuditError
from agentguard.runtime.clock import SystemClock
from agentguard.seal import FileKey, Keystore, open_keystore
from tests.support.decisions import make_keystore, open_journal

WRITER = """
import os, sys, threading
from pathlib import Path
from agentguard.audit import DecisionJournal, JournalLimits
from agentguard.runtime.clock import SystemClock
from agentguard.seal import FileKey, open_keystore
from agentguard.values import RecordMode
from tests.support.decisions import decision, raise_it

store, key, base = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
journal = DecisionJournal.open(
    store,
    keystore=open_keystore(store, FileKey(key)),
    clock=SystemClock(),
    on_internal_error=raise_it,
    limits=JournalLimits(window_s=0.005, checkpoint_interval_s=0.02, journal_bytes_max=20_000),
)

def work(thread):
    number = 0
    while True:
        identity = base + thread * 100_000 + number
        journal.append(decision(identity))
        os.write(1, b"%d\\n" % identity)
        journal.append(decision(identity + 50_000, mode=RecordMode.ASYNC))
        number += 1

for thread in range(3):
    threading.Thread(target=work, args=(thread,), daemon=True).start()
threading.Event().wait()
"""


def kill_once(store: Path, key: Path, base: int, delay_s: float) -> set[int]:
    """Start a writer, kill it after a while of writing, and return what it was told is on disk."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(store), str(key), str(base)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(delay_s)
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read()
    process.wait()
    process.stdout.close()
    return {int(line) for line in (first + rest).split(b"\n")[:-1]}


def kill_many(folder: Path, times: int, seed: int) -> None:
    """Kill writers at random moments, twenty of each store; then all that was acknowledged is there."""
    for first in range(0, times, 20):
        place = folder / str(first)
        place.mkdir(parents=True)
        _kill_of_one(place, min(20, times - first), seed + first)


def _kill_of_one(folder: Path, times: int, seed: int) -> None:
    store, _ = make_keystore(folder)
    moments = random.Random(seed)
    acknowledged: set[int] = set()
    keystore: Keystore = open_keystore(store, FileKey(folder / "key"))
    adopted = 0
    for run in range(times):
        acknowledged |= kill_once(store, folder / "key", run * 1_000_000, moments.uniform(0.0, 0.25))
        adopted += len(adopt_abandoned(store, keystore, SystemClock(), on_failure=fail))
    assert adopted  # Not each time: some die between one file and the next.
    ids = [int(entry.record.decision_id, 16) for entry in read_decisions(store, keystore)]
    assert acknowledged <= set(ids)
    assert len(ids) == len(set(ids))
    report = verify(store, keystore)
    assert report.is_good, report.first_bad
    assert report.of(Question.INTEGRITY).answer is Answer.OK
    # Whatever was acknowledged is stated by now, and can be proven.
    assert_all_is_stated(report)
    key = NoteKey.parse(report.verifier_key)
    for number in moments.sample(sorted(acknowledged), 3):
        proven = check_proof(prove(store, keystore, f"{number:016x}"), key)
        assert isinstance(proven.entry, StoredDecision)
        assert int(proven.entry.record.decision_id, 16) == number


def test_kill_9(tmp_path: Path) -> None:
    """Killed at any moment, every acknowledged required record is there and the log verifies."""
    kill_many(tmp_path, 5, seed=1)


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_kill_9_often(tmp_path: Path) -> None:
    """The same a thousand times."""
    kill_many(tmp_path, 1000, seed=2)


def assert_all_is_stated(report: VerifyReport) -> None:
    """No record is without a checkpoint, but the opening ones of files that a kill left before their entry."""
    tails = report.of(Question.UNANCHORED_TAIL).findings
    assert {finding.index for finding in tails if finding.kind == "unanchored"} <= {0}
    assert report.tail_records == sum(finding.kind == "unanchored" for finding in tails)


def fail(error: AuditError) -> None:
    """Hide nothing."""
    raise error


def test_looking_after_a_log_that_is_written(tmp_path: Path) -> None:
    """Adoption, removal by size and verification beside two writers that are killed: never a false alarm."""
    store, keystore = make_keystore(tmp_path)
    clock, removed = SystemClock(), PrunedJournals()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(store), str(tmp_path / "key"), str(number * 1_000_000)],
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for number in range(2)
    ]
    own = open_journal(store, keystore, clock=clock)
    deadline = time.monotonic() + 60

    def look() -> PrunedJournals:
        for one in adopt_abandoned(store, keystore, clock, on_failure=fail):
            own.append_event("log.adopted", one._asdict())
        found = prune_journals(
            store, keystore, clock, age_s_max=None, size_bytes_max=100_000, is_held=lambda *_: False,
            record=lambda details: own.append_event("log.pruned", details, is_durable=True), on_failure=fail,
        )  # fmt: skip
        report = verify(store, keystore)
        assert report.is_good, report.first_bad
        return found

    while removed.journals < 6:
        assert time.monotonic() < deadline, removed
        removed = PrunedJournals(*map(sum, zip(removed, look(), strict=True)))
    for process in processes:
        process.kill()
        process.wait()
        look()
    assert own.close(5.0)
    report = verify(store, keystore)
    assert report.is_good, report.first_bad
    assert_all_is_stated(report)
    assert report.of(Question.RETENTION).answer is Answer.NOTED


def test_many_writers_at_once(tmp_path: Path) -> None:
    """Four processes with three threads each, killed together, share one ledger without a false alarm."""
    store, keystore = make_keystore(tmp_path)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(store), str(tmp_path / "key"), str(number * 1_000_000)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for number in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for _ in range(5):
        report = verify(store, keystore)
        assert report.is_good, report.first_bad
    for process in processes:
        process.kill()
        process.communicate()
    report = verify(store, keystore)
    assert report.is_good, report.first_bad
    ids = [entry.record.decision_id for entry in read_decisions(store, keystore)]
    assert len(ids) == len(set(ids))
