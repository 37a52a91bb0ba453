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

from agentguard.audit import Answer, Question, read_decisions, verify
from agentguard.seal import FileKey, Keystore, open_keystore
from tests.support.decisions import make_keystore

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
    """Kill writers of one store at random moments; then all that was acknowledged is there."""
    store, _ = make_keystore(folder)
    moments = random.Random(seed)
    acknowledged: set[int] = set()
    for run in range(times):
        acknowledged |= kill_once(store, folder / "key", run * 1_000_000, moments.uniform(0.0, 0.25))
    keystore: Keystore = open_keystore(store, FileKey(folder / "key"))
    ids = [int(entry.record.decision_id, 16) for entry in read_decisions(store, keystore)]
    assert acknowledged <= set(ids)
    assert len(ids) == len(set(ids))
    report = verify(store, keystore)
    assert report.is_good, report.first_bad
    assert report.of(Question.INTEGRITY).answer is Answer.OK


def test_kill_9(tmp_path: Path) -> None:
    """Killed at any moment, every acknowledged required record is there and the log verifies."""
    kill_many(tmp_path, 5, seed=1)


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_kill_9_often(tmp_path: Path) -> None:
    """The same a thousand times."""
    kill_many(tmp_path, 1000, seed=2)


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
