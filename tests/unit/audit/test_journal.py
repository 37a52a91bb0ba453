"""The journal: durability modes, group commit, rotation, gaps, forks, closing."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import os
import threading
import time
import zlib
from pathlib import Path

import pytest

from agentguard.audit import (
    Answer,
    DecisionJournal,
    JournalLimits,
    Question,
    StoredEvent,
    read_decisions,
    read_entries,
    verify,
)
from agentguard.audit import format as layout
from agentguard.audit.disk import Disk
from agentguard.errors import AuditError
from agentguard.seal import Keystore
from agentguard.values import Effect, RecordMode
from tests.support.clock import FrozenClock
from tests.support.decisions import SLOW, decision, open_journal, write_log

Log = tuple[Path, Keystore]

# Newer Pythons warn of forks beside threads; what then happens is what these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def ids(log: Log) -> list[str]:
    """The ids of all decisions, in order."""
    return [entry.record.decision_id for entry in read_decisions(*log)]


class FaultyDisk(Disk):
    """A disk that fails the next operations of a kind, as listed."""

    def __init__(self) -> None:
        self.write_errors: list[int] = []
        self.sync_errors: list[int] = []
        self.truncate_errors: list[int] = []
        self.part = 0

    def write(self, fd: int, data: bytes) -> None:
        if self.write_errors:
            os.write(fd, data[: self.part])
            raise OSError(self.write_errors.pop(0), "test")
        super().write(fd, data)

    def sync(self, fd: int) -> None:
        if self.sync_errors:
            raise OSError(self.sync_errors.pop(0), "test")
        super().sync(fd)

    def truncate(self, fd: int, length: int) -> None:
        if self.truncate_errors:
            raise OSError(self.truncate_errors.pop(0), "test")
        super().truncate(fd, length)


def test_required_is_on_disk_when_append_returns(log: Log) -> None:
    """Another reader sees the record at once, before any flush."""
    journal = open_journal(*log)
    for number in range(3):
        journal.append(decision(number))
        assert ids(log)[-1] == f"{number:016x}"
    assert journal.close(5.0)
    assert verify(*log).is_good


def test_async_is_written_within_the_window(log: Log) -> None:
    """The thread writes what nobody waits for."""
    journal = open_journal(*log)
    journal.append(decision(1, mode=RecordMode.ASYNC))
    deadline = time.monotonic() + 5
    while not ids(log) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert ids(log) == [f"{1:016x}"]
    assert journal.close(5.0)


def test_checkpoints_come_by_time(log: Log) -> None:
    """A written record has a checkpoint within the interval, without anybody asking."""
    journal = open_journal(*log, limits=JournalLimits(window_s=0.01, checkpoint_interval_s=0.05))
    journal.append(decision(1))
    deadline = time.monotonic() + 5
    while verify(*log).of(Question.UNANCHORED_TAIL).answer is not Answer.OK and time.monotonic() < deadline:
        time.sleep(0.02)
    assert verify(*log).of(Question.UNANCHORED_TAIL).answer is Answer.OK
    assert journal.close(5.0)


def test_flush_brings_everything_to_disk(log: Log) -> None:
    """After flush nothing is queued."""
    journal = open_journal(*log)
    for number in range(100):
        journal.append(decision(number, mode=RecordMode.ASYNC))
    assert journal.flush(5.0)
    assert len(ids(log)) == 100
    assert journal.close(5.0)


def test_flush_and_close_without_records_make_no_file(log: Log) -> None:
    """A journal that was never used leaves nothing behind."""
    journal = open_journal(*log)
    assert journal.flush(1.0)
    assert journal.close(1.0)
    assert journal.close(1.0)
    assert list((log[0] / "dec").iterdir()) == []
    assert verify(*log).is_good


def test_threads_share_one_sync(log: Log) -> None:
    """Thirty-two threads of required records: at least ten records a sync, all there, in one chain."""
    journal = open_journal(*log)
    journal.append(decision(0))
    before, synced = journal.stored, journal.syncs
    barrier = threading.Barrier(32)

    class SlowSync(Disk):
        def sync(self, fd: int) -> None:
            time.sleep(0.001)  # A disk of its own speed: the figure must not hang on this machine's.
            super().sync(fd)

    journal._committer._disk = journal._committer._file._disk = SlowSync()

    def work(thread: int) -> None:
        barrier.wait()
        for number in range(12):
            journal.append(decision(1000 * (thread + 1) + number))

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert journal.stored - before == 32 * 12
    assert (journal.stored - before) / (journal.syncs - synced) >= 10
    assert journal.close(5.0)
    assert len(set(ids(log))) == 32 * 12 + 1
    assert verify(*log).is_good


class SyncsWhileTheLoopTurns(Disk):
    """A disk whose syncs last until the event loop has turned; a loop that waits for one is seen, not timed."""

    def __init__(self) -> None:
        self.is_slow = False
        self.has_turned = threading.Event()
        self.times_held = 0

    def sync(self, fd: int) -> None:
        if self.is_slow:
            self.has_turned.clear()
            self.times_held += not self.has_turned.wait(20)
        super().sync(fd)

    async def run(self, journal: DecisionJournal, count: int) -> None:
        """Append so many required records at once, and turn the loop meanwhile."""

        async def turn() -> None:
            while True:
                await asyncio.sleep(0.001)
                self.has_turned.set()

        turning = asyncio.create_task(turn())
        self.is_slow = True
        await asyncio.gather(*(journal.append_async(decision(number)) for number in range(count)))
        self.is_slow = False
        turning.cancel()


@pytest.mark.parametrize("count", [1, 200])
def test_the_event_loop_goes_on(log: Log, count: int) -> None:
    """The loop turns while records are brought to disk, and many tasks share a sync."""
    disk = SyncsWhileTheLoopTurns()
    journal = open_journal(*log, disk=disk, limits=SLOW)
    asyncio.run(disk.run(journal, count))
    assert disk.times_held == 0
    assert len(ids(log)) == count
    assert journal.syncs <= 1 + count / 10
    assert journal.close(5.0)


def test_coroutines_learn_of_a_failure(log: Log) -> None:
    """A required record that cannot be written raises in the coroutine that waits."""
    seen: list[str] = []
    disk = FaultyDisk()
    journal = open_journal(*log, disk=disk, on_internal_error=lambda where, error: seen.append(where))
    journal.append(decision(0))
    disk.write_errors = [errno.ENOSPC] * 2
    with pytest.raises(AuditError, match="could not be brought to disk"):
        asyncio.run(journal.append_async(decision(1)))
    asyncio.run(journal.append_async(decision(2)))
    assert journal.close(5.0)
    assert ids(log) == [f"{0:016x}", f"{2:016x}"]
    assert seen == ["audit.write"] * 2


@pytest.mark.parametrize("part", [0, 1, 150])
def test_a_full_disk(log: Log, part: int) -> None:
    """A write that fails twice, wholly or in the middle, denies its record and harms no other."""
    disk = FaultyDisk()
    journal = open_journal(*log, disk=disk, on_internal_error=lambda where, error: None)
    journal.append(decision(0))
    disk.write_errors, disk.part = [errno.ENOSPC] * 2, part
    with pytest.raises(AuditError, match="could not be brought to disk"):
        journal.append(decision(1))
    journal.append(decision(2))
    assert journal.close(5.0)
    assert ids(log) == [f"{0:016x}", f"{2:016x}"]
    assert verify(*log).is_good


@pytest.mark.parametrize(("error", "files"), [(errno.ENOSPC, 1), (errno.EIO, 2)])
def test_a_write_that_fails_once(log: Log, error: int, files: int) -> None:
    """It is tried again, on a full disk in the same file, else in the next; what waited unsynced is kept."""
    disk = FaultyDisk()
    journal = open_journal(*log, disk=disk, on_internal_error=lambda where, error: None, limits=SLOW)
    journal.append(decision(0))
    journal.append(decision(1, mode=RecordMode.ASYNC))
    disk.write_errors, disk.part = [error], 150
    journal.append(decision(2))
    journal.append(decision(3))
    assert journal.close(5.0)
    assert ids(log) == [f"{number:016x}" for number in range(4)]
    assert len(list((log[0] / "dec").iterdir())) == files
    assert journal.dropped == {}
    assert verify(*log).is_good


def test_a_sync_that_fails_is_never_tried_again(log: Log) -> None:
    """After EIO the batch goes to a new file, together with what was not yet synced; each record comes once."""
    disk = FaultyDisk()
    journal = open_journal(*log, disk=disk, on_internal_error=lambda where, error: None)
    journal.append(decision(0))
    journal.append(decision(1, mode=RecordMode.ASYNC))
    time.sleep(0.1)
    disk.sync_errors = [errno.EIO]
    journal.append(decision(2))
    journal.append(decision(3))
    assert journal.close(5.0)
    assert ids(log) == [f"{number:016x}" for number in range(4)]
    assert len(list((log[0] / "dec").iterdir())) == 2
    assert verify(*log).is_good


def test_a_sync_that_fails_where_nothing_can_be_cut(log: Log) -> None:
    """Records that stand in the left file and in the next one are read once, and verify knows."""
    disk = FaultyDisk()
    journal = open_journal(*log, disk=disk, on_internal_error=lambda where, error: None)
    journal.append(decision(0))
    disk.sync_errors, disk.truncate_errors = [errno.EIO], [errno.EIO]
    journal.append(decision(1))
    assert journal.close(5.0)
    assert ids(log) == [f"{0:016x}", f"{1:016x}"]
    assert verify(*log).is_good


def test_preferred_runs_on_and_counts(log: Log) -> None:
    """A preferred record that cannot be made durable is counted and told, not raised."""
    seen: list[str] = []
    disk = FaultyDisk()
    journal = open_journal(*log, disk=disk, on_internal_error=lambda where, error: seen.append(where))
    journal.append(decision(0))
    disk.write_errors = [errno.ENOSPC] * 2
    journal.append(decision(1, mode=RecordMode.PREFERRED))
    assert (journal.preferred_failures, seen) == (1, ["audit.write", "audit.write", "audit.append"])
    journal.append(decision(2, mode=RecordMode.PREFERRED))
    assert journal.close(5.0)
    assert ids(log) == [f"{0:016x}", f"{2:016x}"]


def gaps(log: Log) -> dict[str, int]:
    """What the log itself says was lost, by reason."""
    found: dict[str, int] = {}
    for entry in read_entries(*log):
        if isinstance(entry, StoredEvent) and entry.kind == "journal.gap":
            reason, count = str(entry.details["reason"]), int(str(entry.details["count"]))
            found[reason] = found.get(reason, 0) + count
    return found


def test_losses_are_counted_and_written(log: Log) -> None:
    """What the queue cannot hold, and an event loop cannot wait for, is a gap record in the next frame."""
    journal = open_journal(*log, limits=SLOW._replace(queue_bytes_max=8 * 1024, window_s=60.0))

    async def burst() -> None:
        for number in range(40):
            journal.append(decision(number, mode=RecordMode.ASYNC))

    asyncio.run(burst())
    assert journal.close(5.0)
    lost = journal.dropped["queue full"]
    assert lost >= 20
    assert len(ids(log)) == 40 - lost
    assert gaps(log) == {"queue full": lost}
    report = verify(*log)
    assert report.is_good
    assert report.of(Question.GAPS).answer is Answer.NOTED
    assert f"{lost} records were dropped" in report.of(Question.GAPS).sentence


def test_memory_of_what_waits_is_bounded(log: Log) -> None:
    """A record with long values counts with them: few of those fill the queue."""
    journal = open_journal(*log, limits=SLOW._replace(queue_bytes_max=1 << 20, window_s=60.0))
    record = decision(1, mode=RecordMode.ASYNC)
    heavy = record._replace(
        decision=dataclasses.replace(record.decision, values={"args.text": "x" * 100_000})
    )

    async def burst() -> None:
        for _ in range(100):
            journal.append(heavy)

    asyncio.run(burst())
    assert journal.dropped["queue full"] >= 80
    assert journal.close(5.0)


def test_threads_wait_instead_of_losing(log: Log) -> None:
    """A thread that finds much in the queue leaves the interpreter to the one that writes: nothing is lost."""
    journal = open_journal(*log, limits=SLOW._replace(queue_bytes_max=16 * 1024, window_s=60.0))

    def work(thread: int) -> None:
        for number in range(500):
            journal.append(decision(1000 * thread + number, mode=RecordMode.ASYNC))

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert journal.close(5.0)
    assert journal.dropped == {}
    assert len(set(ids(log))) == 2000
    assert verify(*log).is_good


def test_what_is_not_synced_is_bounded(log: Log) -> None:
    """Where records come without a pause a file is synced all the same: until then all of them are in memory."""
    journal = open_journal(*log, limits=SLOW._replace(batch_records_max=64))
    record = decision(1, mode=RecordMode.ASYNC)
    long = record._replace(agent="a" * 4000)
    most = 0
    for _ in range(20):
        for _ in range(50):
            journal.append(long)
        with journal._committer.lock:
            while journal._queue:
                journal._batches.write(must_sync=False)
        file = journal._committer._file
        assert file is not None
        most = max(most, sum(map(len, file.unsynced)))
    assert 1 << 19 <= most <= (1 << 19) + 64 * 5000 < 20 * 50 * 4000
    assert journal.close(5.0)


def test_checkpoints_come_while_records_come(log: Log) -> None:
    """A thread that never finds its queue empty states checkpoints within the interval."""
    limits = SLOW._replace(checkpoint_interval_s=0.05, batch_records_max=1, queue_bytes_max=1 << 20)
    journal = open_journal(*log, limits=limits)
    stated: list[int] = []
    checkpoint = journal._committer.checkpoint

    def watch() -> None:
        stated.append(len(journal._queue))
        checkpoint()

    journal._committer.checkpoint = watch  # type: ignore[method-assign]
    deadline = time.monotonic() + 5.0
    while len(stated) < 3 and time.monotonic() < deadline:
        journal.append(decision(1, mode=RecordMode.ASYNC))
    assert len(stated) >= 3
    assert max(stated) > 0
    assert journal.close(5.0)


def test_threads_leave_the_rest_of_the_queue_to_those_that_cannot_wait(log: Log) -> None:
    """A thread waits from a quarter of the queue on, where the log is written; an event loop may fill it."""
    journal = open_journal(*log, limits=SLOW._replace(queue_bytes_max=64 * 1024, window_s=0.0))
    most = 0
    for number in range(1000):
        journal.append(decision(number, mode=RecordMode.ASYNC))
        most = max(most, len(journal._queue))
    assert most <= 16
    assert journal.close(5.0)
    assert journal.dropped == {}


def test_coroutines_wait_instead_of_losing(log: Log) -> None:
    """A coroutine that awaits its record waits for room, and the event loop goes on."""
    limits = SLOW._replace(queue_bytes_max=64 * 1024, window_s=60.0, backpressure_s_max=20.0)
    journal = open_journal(*log, limits=limits)

    async def main() -> None:
        await asyncio.gather(
            *(journal.append_async(decision(number, mode=RecordMode.ASYNC)) for number in range(1000))
        )

    asyncio.run(main())
    assert journal.close(5.0)
    assert journal.dropped == {}
    assert len(set(ids(log))) == 1000


def test_a_disk_that_hangs_bounds_the_wait(log: Log) -> None:
    """With the disk hanging a thread waits no longer than told; then the record is dropped and counted."""
    journal = open_journal(
        *log, limits=SLOW._replace(queue_bytes_max=1024, window_s=60.0, backpressure_s_max=0.05)
    )
    with journal._committer.lock:
        started = time.monotonic()
        for number in range(4):
            journal.append(decision(number, mode=RecordMode.ASYNC))
        assert time.monotonic() - started < 1.0
    assert journal.dropped["queue full"] >= 2
    assert journal.close(5.0)
    assert gaps(log) == journal.dropped


def test_a_burst_of_twenty_thousand(log: Log) -> None:
    """Twenty thousand records of one moment fit the usual limits, from an event loop too."""
    journal = open_journal(*log, limits=None)
    shared = dataclasses.replace(decision(0, mode=RecordMode.ASYNC).decision, values=None)

    async def burst() -> None:
        for number in range(20_000):
            journal.append(decision(number)._replace(decision=shared))

    asyncio.run(burst())
    assert journal.close(20.0)
    assert journal.dropped == {}
    assert len(set(ids(log))) == 20_000


def test_records_share_frames(log: Log) -> None:
    """What is written at one moment stands in few frames, each record a leaf of its own."""
    journal = open_journal(*log, limits=SLOW._replace(window_s=60.0))
    for number in range(600):
        journal.append(decision(number, mode=RecordMode.ASYNC))
    assert journal.close(5.0)
    data = next((log[0] / "dec").iterdir()).read_bytes()
    counts = [part.records for part in layout.scan(data) if isinstance(part, layout.Frame)]
    assert sum(counts) == 602
    assert max(counts) == layout.FRAME_RECORDS_MAX
    assert len(counts) <= 6
    assert verify(*log).is_good


def test_files_rotate(log: Log) -> None:
    """A full file is closed in order, and the next one begins; the order is kept."""
    journal = open_journal(*log, limits=SLOW._replace(journal_bytes_max=4000))
    for number in range(30):
        journal.append(decision(number))
    assert journal.close(5.0)
    assert len(list((log[0] / "dec").iterdir())) > 3
    assert sorted(ids(log)) == [f"{number:016x}" for number in range(30)]
    report = verify(*log)
    assert report.is_good
    assert report.of(Question.UNANCHORED_TAIL).answer is Answer.OK


@pytest.mark.parametrize("is_quiet", [True, False])
def test_files_end_with_the_day(log: Log, is_quiet: bool) -> None:
    """A file a day old is ended by the next record, or by whoever looks after the log; an empty one goes on."""
    clock = FrozenClock()
    journal = open_journal(*log, clock=clock)
    clock.advance(2 * 86_400.0)
    journal.end_old()
    journal.append(decision(1))
    clock.advance(86_399.0)
    journal.end_old()
    assert len(list((log[0] / "dec").iterdir())) == 1
    clock.advance(1.0)
    if is_quiet:
        journal.end_old()
        assert [e.kind for e in read_entries(*log) if isinstance(e, StoredEvent)][-1] == "journal.close"
        journal.end_old()
    journal.append(decision(2))
    assert len(list((log[0] / "dec").iterdir())) == 2
    assert journal.close(5.0)
    assert ids(log) == [f"{number:016x}" for number in (1, 2)]
    assert verify(*log).is_good


def test_after_close(log: Log) -> None:
    """A closed journal denies required records and counts the others."""
    journal = write_log(*log, range(2))
    with pytest.raises(AuditError, match="closed"):
        journal.append(decision(3))
    journal.append(decision(4, mode=RecordMode.ASYNC))
    assert journal.dropped == {"after close": 1}


def test_events_are_chained(log: Log) -> None:
    """Loads, refusals and kills stand between the decisions, durable where asked."""
    journal = open_journal(*log, clock=FrozenClock())
    journal.append_event("policy.loaded", {"revision": "ab"}, is_durable=True)
    entry = [e for e in read_entries(*log) if isinstance(e, StoredEvent)][-1]
    assert (entry.kind, entry.details) == ("policy.loaded", {"revision": "ab"})
    journal.append_event("kill.set", {"scope": "all"})
    assert journal.close(5.0)
    kinds = [e.kind for e in read_entries(*log) if isinstance(e, StoredEvent)]
    assert kinds == ["journal.open", "policy.loaded", "kill.set", "journal.close"]


def test_a_crash_shows_as_admitted_without_outcome(log: Log) -> None:
    """A call that was admitted and never ended is a gap, and no bad verdict."""
    journal = open_journal(*log)
    journal.append(decision(1, effect=Effect.ALLOW))
    journal.append(decision(2, effect=Effect.ALLOW))
    journal.append(decision(2, effect=Effect.ALLOW, point="outcome", outcome="ok"))
    journal._committer._file.abandon()
    report = verify(*log)
    assert report.is_good
    line = report.of(Question.GAPS)
    assert (line.answer, line.findings[0].decision_id) == (Answer.NOTED, f"{1:016x}")


def test_a_call_outlasts_the_file_that_admitted_it(log: Log) -> None:
    """An outcome in a later file of the same writer answers an admission; without it the call runs, or is a gap."""
    journal = open_journal(*log, limits=SLOW._replace(journal_bytes_max=4000))
    for number in (1, 2):
        journal.append(decision(number, effect=Effect.ALLOW))
    for number in range(10, 30):
        journal.append(decision(number))
    journal.append(decision(2, effect=Effect.ALLOW, point="outcome", outcome="ok"))
    line = verify(*log).of(Question.GAPS)
    assert [(found.kind, found.decision_id) for found in line.findings] == [("running", f"{1:016x}")]
    assert "-0: 1 calls still run" in line.sentence
    assert journal.close(5.0)
    line = verify(*log).of(Question.GAPS)
    assert [(found.kind, found.journal[-2:], found.decision_id) for found in line.findings] == [
        ("no-outcome", "-0", f"{1:016x}")
    ]


def test_a_journal_of_an_older_format_is_named_so(log: Log) -> None:
    """Who reads an older journal learns that its format is old, and who can check it."""
    write_log(*log, range(2))
    path = next((log[0] / "dec").iterdir())
    header = bytearray(path.read_bytes()[: layout.HEADER.size])
    header[8:10] = (layout.FORMAT_VERSION - 1).to_bytes(2, "big")
    header[-4:] = zlib.crc32(header[:-4]).to_bytes(4, "big")
    assert layout.parse_header(path.read_bytes()[: layout.HEADER.size])
    with pytest.raises(layout.HeaderDamagedError, match="that an older agentguard wrote, this one reads"):
        layout.parse_header(bytes(header))


def test_a_fork_gets_its_own_file(log: Log) -> None:
    """Parent and child go on, each in its own journal; nothing is lost and nothing comes twice."""
    journal = open_journal(*log, limits=SLOW._replace(window_s=60.0))
    journal.append(decision(1))
    journal.append(decision(2, mode=RecordMode.ASYNC))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            journal.append(decision(3))
            journal.append(decision(4, mode=RecordMode.ASYNC))
            status = 0 if journal.close(5.0) else 2
        finally:
            os._exit(status)
    journal.append(decision(5))
    assert os.waitpid(child, 0)[1] == 0
    assert journal.close(5.0)
    assert sorted(ids(log)) == [f"{number:016x}" for number in range(1, 6)]
    assert len(list((log[0] / "dec").iterdir())) == 2
    assert verify(*log).is_good


def test_two_writers_share_the_ledger(log: Log) -> None:
    """Journals of several processes have their checkpoints in one chain."""
    first, second = open_journal(*log), open_journal(*log)
    for number in range(5):
        first.append(decision(number))
        second.append(decision(100 + number))
    assert first.close(5.0)
    assert second.close(5.0)
    report = verify(*log)
    assert report.is_good
    assert (report.journals, report.decisions) == (2, 10)


def test_nothing_readable_on_disk(log: Log) -> None:
    """Neither rule nor tool nor reason nor decision id stands in clear in any file."""
    write_log(*log, range(3))
    for path in log[0].rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            for needle in (b"refund", b"PAY-1", b"amount", b"support", f"{1:016x}".encode()):
                assert needle not in data, (path, needle)
            assert path.stat().st_mode & 0o077 == 0


def test_a_refused_folder(log: Log) -> None:
    """A decision folder that others may write to is refused, and required records are denied."""
    journal = open_journal(*log, on_internal_error=lambda where, error: None)
    (log[0] / "dec").chmod(0o777)
    with pytest.raises(AuditError, match="could not be brought to disk"):
        journal.append(decision(1))
    (log[0] / "dec").chmod(0o700)
    journal.append(decision(2))
    assert journal.close(5.0)


def test_a_checkpoint_in_the_middle_of_a_batch(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record says one ledger sequence, even where a checkpoint sets it while the record is written."""
    journal = open_journal(*log)
    journal.append(decision(0))
    file = journal._committer._file

    class Restless(type(file)):  # type: ignore[misc]
        @property
        def ledger_sequence(self) -> int:
            self.__dict__["n"] = self.__dict__.get("n", 2) - 1
            return self.__dict__["n"] % 2 + 1

        @ledger_sequence.setter
        def ledger_sequence(self, value: int) -> None:
            pass

    monkeypatch.setattr(file, "__class__", Restless)
    for number in range(1, 5):
        journal.append(decision(number))
    assert verify(*log).is_good


def test_a_new_generation_of_keys(log: Log) -> None:
    """After a rotation new journals use the new root; old journals and old checkpoints still verify."""
    write_log(*log, range(3))
    log[1].add_generation()
    write_log(*log, range(3, 6))
    assert sorted(ids(log)) == [f"{number:016x}" for number in range(6)]
    assert verify(*log).is_good


def test_the_door() -> None:
    """The journal offers what the port asks for."""
    for name in ("append", "flush", "close", "append_async", "append_event"):
        assert callable(getattr(DecisionJournal, name))
