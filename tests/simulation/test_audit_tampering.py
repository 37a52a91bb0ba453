"""Fifty ways to tamper with a decision log, each with its verdict and the first record that is wrong."""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentguard.audit import (
    Answer,
    DecisionJournal,
    Finding,
    Question,
    VerifyReport,
    adopt_abandoned,
    make_anchor,
    prune_journals,
    read_decisions,
    verify,
)
from agentguard.audit import format as layout
from agentguard.audit.checkpoint import parse, sign
from agentguard.audit.disk import Disk, Safeguards
from agentguard.audit.keys import AuditKeys, MacChain
from agentguard.audit.ledger import Ledger
from agentguard.audit.ledger_files import split
from agentguard.audit.reader import load_journal
from agentguard.audit.records import encode_decision
from agentguard.audit.tree import EMPTY_ROOT, Frontier
from agentguard.errors import AuditError
from agentguard.seal import Keystore, has_post_quantum
from tests.support.clock import FrozenClock
from tests.support.decisions import SLOW, decision, make_keystore, open_journal, write_log

Log = tuple[Path, Keystore]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """Two closed journals of six decisions each: 0x10 to 0x15, then 0x20 to 0x25."""
    store, keystore = make_keystore(tmp_path)
    write_log(store, keystore, range(0x10, 0x16))
    write_log(store, keystore, range(0x20, 0x26))
    return store, keystore


def journals(store: Path) -> list[Path]:
    """The journal files in the order the ledger names them."""
    order: list[str] = []
    for note in split(ledger(store).read_bytes()):
        name = parse(note).journal
        if name != "heads" and name not in order:
            order.append(name)
    return [store / "dec" / f"{name}.agd" for name in order]


def ledger(store: Path) -> Path:
    """The one ledger file."""
    return store / "log" / "ledger-00000001.agl"


@contextlib.contextmanager
def flipped(path: Path, position: int, bit: int) -> Iterator[None]:
    """Flip one bit of a file for a while."""
    with path.open("r+b", buffering=0) as file:
        file.seek(position)
        byte = file.read(1)
        os.pwrite(file.fileno(), bytes([byte[0] ^ (1 << bit)]), position)
        try:
            yield
        finally:
            os.pwrite(file.fileno(), byte, position)


def parts(path: Path) -> tuple[bytes, list[bytes]]:
    """Header and frames of a journal."""
    data = path.read_bytes()
    frames = [part for part in layout.scan(data) if isinstance(part, layout.Frame)]
    return data[: layout.HEADER.size], [data[frame.offset : frame.end] for frame in frames]


def rewrite(path: Path, change: Callable[[list[bytes]], object]) -> None:
    """Change the list of frames in place."""
    header, frames = parts(path)
    change(frames)
    path.write_bytes(header + b"".join(frames))


def with_checksums(frame: bytes) -> bytes:
    """Make both checksums of a frame right again."""
    prefix = frame[: layout.PREFIX.size - 4]
    prefix += struct.pack(">I", zlib.crc32(prefix))
    body = frame[layout.PREFIX.size : -4]
    return prefix + body + struct.pack(">I", zlib.crc32(body))


def alter(frame: bytes, position: int) -> bytes:
    """Flip one bit and mend the checksums, as an attacker without the key would."""
    changed = bytearray(frame)
    changed[position] ^= 1
    return with_checksums(bytes(changed))


def bad(report: VerifyReport, question: Question) -> Finding:
    """The first bad finding of a question; that question alone decides."""
    line = report.of(question)
    assert line.answer is Answer.BAD, report
    return next(finding for finding in line.findings if finding.is_bad)


def others_are_fine(report: VerifyReport, question: Question) -> None:
    """No other verdict is bad."""
    assert [line.question for line in report.verdicts if line.answer is Answer.BAD] == [question], report


def test_untouched(log: Log) -> None:
    """The control: nothing is wrong, and nothing is to be noted but the denials' lack of outcome."""
    report = verify(*log)
    assert report.is_good
    assert all(line.answer is Answer.OK for line in report.verdicts)
    assert report.first_bad is None
    assert (report.journals, report.decisions, report.records) == (2, 12, 16)


def test_altered_record(log: Log) -> None:
    """One bit of a sealed record, checksums mended: integrity, that record."""
    first = journals(log[0])[0]
    rewrite(first, lambda frames: frames.__setitem__(3, alter(frames[3], layout.PREFIX.size + 40)))
    report = verify(*log)
    finding = bad(report, Question.INTEGRITY)
    assert (finding.kind, finding.journal, finding.index) == ("altered", first.stem, 3)
    assert f"{0x11:016x}" in finding.sentence
    others_are_fine(report, Question.INTEGRITY)
    assert not report.is_good
    # What is altered is never given out, and the rest still is.
    assert f"{0x12:016x}" not in [entry.record.decision_id for entry in read_decisions(*log)]
    assert len(list(read_decisions(*log))) == 11


def test_damaged_record(log: Log) -> None:
    """One bit without mending: damage, that record."""
    first = journals(log[0])[0]

    def flip(frames: list[bytes]) -> None:
        changed = bytearray(frames[4])
        changed[layout.PREFIX.size + 3] ^= 0x10
        frames[4] = bytes(changed)

    rewrite(first, flip)
    report = verify(*log)
    assert (bad(report, Question.INTEGRITY).kind, bad(report, Question.INTEGRITY).index) == ("damaged", 4)
    others_are_fine(report, Question.INTEGRITY)


@pytest.mark.parametrize("offset", [4, 15, 19, 23, 31, 40, 70])
def test_altered_frame_header(log: Log, offset: int) -> None:
    """Length, index, count, number, ledger sequence, previous leaf or digest, checksums mended: that record."""
    first = journals(log[0])[0]
    rewrite(first, lambda frames: frames.__setitem__(2, alter(frames[2], offset)))
    report = verify(*log)
    assert not report.is_good
    assert bad(report, Question.INTEGRITY).index == 2


def test_altered_mac(log: Log) -> None:
    """The MAC altered, checksums mended: integrity, that decision."""
    first = journals(log[0])[0]
    rewrite(first, lambda frames: frames.__setitem__(3, alter(frames[3], len(frames[3]) - 20)))
    finding = bad(verify(*log), Question.INTEGRITY)
    assert (finding.kind, finding.index, finding.decision_id) == ("mac", 3, f"{0x12:016x}")


def test_removed_record(log: Log) -> None:
    """A record taken out of the middle: append-only, its index, between the two that stood beside it."""
    first = journals(log[0])[0]
    rewrite(first, lambda frames: frames.pop(3))
    report = verify(*log)
    finding = bad(report, Question.APPEND_ONLY)
    assert (finding.kind, finding.journal, finding.index) == ("removed", first.stem, 3)
    assert f"{0x11:016x}" in finding.sentence
    assert f"{0x13:016x}" in finding.sentence
    others_are_fine(report, Question.APPEND_ONLY)


def test_removed_opening(log: Log) -> None:
    """The opening record taken out: append-only, record 0."""
    rewrite(journals(log[0])[0], lambda frames: frames.pop(0))
    assert bad(verify(*log), Question.APPEND_ONLY).index == 0


def test_reordered_records(log: Log) -> None:
    """Two records exchanged: append-only, the first that is not in its place."""

    def swap(frames: list[bytes]) -> None:
        frames[2], frames[4] = frames[4], frames[2]

    rewrite(journals(log[0])[0], swap)
    report = verify(*log)
    assert bad(report, Question.APPEND_ONLY).index == 2
    assert {f.kind for f in report.of(Question.APPEND_ONLY).findings} >= {"removed", "moved"}


def test_duplicated_record(log: Log) -> None:
    """A record that stands there twice: append-only, that decision."""
    rewrite(journals(log[0])[0], lambda frames: frames.insert(5, frames[3]))
    report = verify(*log)
    finding = bad(report, Question.APPEND_ONLY)
    assert (finding.kind, finding.index, finding.decision_id) == ("repeated", 3, f"{0x12:016x}")
    assert len(list(read_decisions(*log))) == 12


def test_spliced_from_another_journal(log: Log) -> None:
    """A record of the same store's other journal put in: integrity, its place."""
    first, second = journals(log[0])
    _, others = parts(second)
    rewrite(first, lambda frames: frames.__setitem__(3, others[3]))
    finding = bad(verify(*log), Question.INTEGRITY)
    assert (finding.kind, finding.index) == ("altered", 3)


def test_spliced_from_another_store(log: Log, tmp_path: Path) -> None:
    """A whole journal of another store put in under a name of its own: integrity."""
    other = tmp_path / "other"
    other.mkdir()
    store, keystore = make_keystore(other)
    write_log(store, keystore, range(3))
    foreign = next((store / "dec").iterdir())
    shutil.copy(foreign, log[0] / "dec" / foreign.name)
    report = verify(*log)
    assert bad(report, Question.INTEGRITY).journal == foreign.stem
    assert "another store" in bad(report, Question.INTEGRITY).sentence


def test_cut_tail(log: Log) -> None:
    """Records cut off before the last checkpoint: completeness, the first that is gone."""
    first = journals(log[0])[0]
    rewrite(first, lambda frames: frames.__delitem__(slice(5, None)))
    report = verify(*log)
    finding = bad(report, Question.COMPLETENESS)
    assert (finding.kind, finding.journal, finding.index) == ("tail-cut", first.stem, 5)
    assert f"after decision {0x13:016x}" in finding.sentence
    others_are_fine(report, Question.COMPLETENESS)


def test_cut_in_the_middle_of_a_record(log: Log) -> None:
    """The same where the cut goes through a record."""
    first = journals(log[0])[0]
    data = first.read_bytes()
    first.write_bytes(data[:-40])
    assert not verify(*log).is_good
    assert verify(*log).first_bad is not None


def test_tail_cut_after_the_checkpoint_is_unanchored(tmp_path: Path) -> None:
    """What comes after the last checkpoint is named as unanchored; cutting it does not show, as said."""
    store, keystore = make_keystore(tmp_path)
    journal = write_log(store, keystore, range(4), close=False)
    line = verify(store, keystore).of(Question.UNANCHORED_TAIL)
    assert (line.answer, line.findings[0].index) == (Answer.NOTED, 1)
    assert "4 records stand after its last checkpoint" in line.sentence
    journal._committer._file.abandon()
    rewrite(next((store / "dec").iterdir()), lambda frames: frames.pop())
    report = verify(store, keystore)
    assert report.is_good
    assert "3 records" in report.of(Question.UNANCHORED_TAIL).sentence


def test_deleted_journal(log: Log) -> None:
    """A whole file deleted: completeness, that journal, with how much it held."""
    first = journals(log[0])[0]
    first.unlink()
    report = verify(*log)
    finding = bad(report, Question.COMPLETENESS)
    assert (finding.kind, finding.journal, finding.index) == ("journal-missing", first.stem, 0)
    assert "8 records" in finding.sentence
    others_are_fine(report, Question.COMPLETENESS)


def test_all_journals_deleted(log: Log) -> None:
    """The same for all of them."""
    shutil.rmtree(log[0] / "dec")
    assert len(verify(*log).of(Question.COMPLETENESS).findings) == 2


def test_emptied_journal(log: Log) -> None:
    """A file cut to nothing is a damaged header, and bad."""
    journals(log[0])[0].write_bytes(b"")
    assert bad(verify(*log), Question.INTEGRITY).kind == "header"


def test_older_copy_of_a_journal(tmp_path: Path) -> None:
    """A file replaced by an older copy of itself: completeness, the first record that is gone."""
    store, keystore = make_keystore(tmp_path)
    journal = write_log(store, keystore, range(3), close=False)
    path = next((store / "dec").iterdir())
    old = path.read_bytes()
    for number in range(3, 6):
        journal.append(decision(number))
    assert journal.close(5.0)
    path.write_bytes(old)
    finding = bad(verify(store, keystore), Question.COMPLETENESS)
    assert (finding.kind, finding.index) == ("tail-cut", 4)


def test_exchanged_files(log: Log) -> None:
    """Two journals under each other's names: integrity, both."""
    first, second = journals(log[0])
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)
    report = verify(*log)
    assert len(report.of(Question.INTEGRITY).findings) == 2


def test_copied_file(log: Log) -> None:
    """A journal copied under a new name: integrity."""
    shutil.copy(journals(log[0])[0], log[0] / "dec" / "0123456789abcdef-0.agd")
    finding = bad(verify(*log), Question.INTEGRITY)
    assert (finding.kind, finding.journal) == ("header", "0123456789abcdef-0")


@pytest.mark.parametrize("planted", ["link", "fifo", "folder"])
def test_planted_things(log: Log, planted: str) -> None:
    """A link, FIFO or folder with a journal's name is reported, and nothing hangs."""
    path = log[0] / "dec" / "0123456789abcdef-0.agd"
    if planted == "link":
        path.symlink_to("/etc/passwd")
    elif planted == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    assert bad(verify(*log), Question.INTEGRITY).journal == path.stem
    assert len(list(read_decisions(*log))) == 12


def test_deleted_ledger(log: Log) -> None:
    """The ledger deleted: completeness; the records name entries that are gone."""
    shutil.rmtree(log[0] / "log")
    finding = bad(verify(*log), Question.COMPLETENESS)
    assert (finding.kind, finding.index) == ("journal-unstated", 0)
    # Writing on begins a new ledger, which does not hide that the old one is gone.
    for number in range(3):
        write_log(*log, range(number))
    assert len([f for f in verify(*log).of(Question.COMPLETENESS).findings if f.is_bad]) == 2


def test_cut_ledger(log: Log) -> None:
    """The ledger cut before the second journal began: a record there names an entry that is gone."""
    notes = list(split(ledger(log[0]).read_bytes()))
    ledger(log[0]).write_bytes(b"".join(note + b"\n" for note in notes[:2]))
    finding = bad(verify(*log), Question.COMPLETENESS)
    assert finding.kind == "journal-unstated"
    assert any(f.kind == "ledger-cut" for f in verify(*log).of(Question.COMPLETENESS).findings)


def test_entry_removed_from_the_ledger(log: Log) -> None:
    """An entry taken out of the ledger: append-only, the one after it."""
    notes = list(split(ledger(log[0]).read_bytes()))
    ledger(log[0]).write_bytes(b"".join(note + b"\n" for note in notes[:2] + notes[3:]))
    finding = bad(verify(*log), Question.APPEND_ONLY)
    assert (finding.kind, finding.journal) == ("ledger-chain", "ledger")


def test_entries_of_the_ledger_exchanged(log: Log) -> None:
    """Two entries of the ledger exchanged: append-only."""
    notes = list(split(ledger(log[0]).read_bytes()))
    notes[2], notes[3] = notes[3], notes[2]
    ledger(log[0]).write_bytes(b"".join(note + b"\n" for note in notes))
    assert bad(verify(*log), Question.APPEND_ONLY).kind == "ledger-chain"


def test_ledger_without_its_beginning(log: Log) -> None:
    """The first entry taken out: completeness."""
    notes = list(split(ledger(log[0]).read_bytes()))
    ledger(log[0]).write_bytes(b"".join(note + b"\n" for note in notes[1:]))
    assert bad(verify(*log), Question.COMPLETENESS).kind == "ledger-cut"


def test_ledger_signed_by_another_key(log: Log, tmp_path: Path) -> None:
    """An entry with fewer records, signed by another store's key: integrity of the ledger."""
    other = tmp_path / "other"
    other.mkdir()
    keys = AuditKeys(make_keystore(other)[1])
    notes = list(split(ledger(log[0]).read_bytes()))
    forged = parse(notes[-1])._replace(size=2)
    notes[-1] = sign(forged, keys.signing_key, log[1].store_id)
    ledger(log[0]).write_bytes(b"".join(note + b"\n" for note in notes))
    assert bad(verify(*log), Question.INTEGRITY).kind == "ledger-altered"


def test_a_thief_of_the_root_key_cannot_continue_an_old_journal_unseen(log: Log) -> None:
    """A record sealed anew with the right key but a guessed MAC key, and all after it: integrity and roots."""
    first = journals(log[0])[0]
    keys = AuditKeys(log[1])
    journal = load_journal(first, keys)
    frames = [part for part in layout.scan(journal.data) if isinstance(part, layout.Frame)]
    target = frames[3]
    record = journal.open(target)[0][1].replace(b"refund", b"lookup")
    pieces, (leaf,) = layout.pack_body([record], bytes(17))
    body, nonce = b"".join(pieces), bytes(12)
    prefix = layout.pack_prefix(
        sealed_bytes=len(body) + 28,
        index=3,
        count=1,
        position=target.position,
        ledger_sequence=target.ledger_sequence,
        previous=target.previous,
    )
    sealed = journal._key.seal_at(nonce, body, journal.place + prefix + leaf)
    guessed = MacChain(bytes(32)).mac(prefix + leaf)
    forged = prefix + leaf + nonce + sealed + layout.pack_trailer(leaf, nonce, sealed, guessed)
    rewrite(first, lambda raw: raw.__setitem__(3, forged))
    report = verify(*log)
    assert bad(report, Question.INTEGRITY).kind == "mac"
    assert bad(report, Question.APPEND_ONLY).kind in {"chain", "root"}


def test_a_torn_tail_is_no_tampering(tmp_path: Path) -> None:
    """What a crash leaves behind the last record is noted with its length, and reading goes on."""
    store, keystore = make_keystore(tmp_path)
    journal = write_log(store, keystore, range(4), close=False)
    journal._committer._file.abandon()
    path = next((store / "dec").iterdir())
    whole = path.read_bytes()
    _, frames = parts(path)
    for cut in (1, 50, 200, len(frames[-1]) - 1):
        path.write_bytes(whole[:-cut])
        report = verify(store, keystore)
        assert report.is_good, cut
        assert report.of(Question.UNANCHORED_TAIL).findings[0].kind == "torn"
        assert len(list(read_decisions(store, keystore))) == 3
    for filling in (bytes(4096), whole[-300:-100]):
        path.write_bytes(whole + filling)
        report = verify(store, keystore)
        assert len(list(read_decisions(store, keystore))) == 4
        assert report.is_good is (filling == bytes(4096))


def test_a_torn_ledger_is_mended(log: Log) -> None:
    """An entry that a crash cut off is no tampering; the next writer goes on behind the last whole one."""
    path = ledger(log[0])
    with path.open("ab") as file:
        file.write(b"agentguard/half of an ent")
    assert verify(*log).is_good
    write_log(*log, range(3))
    report = verify(*log)
    assert report.is_good
    assert report.journals == 3


def test_an_unborn_journal_is_no_tampering(log: Log) -> None:
    """A file without a whole header, that the ledger does not name, is what a crash leaves."""
    (log[0] / "dec" / "0123456789abcdef-0.agd").write_bytes(b"AGDEC")
    assert verify(*log).is_good


def test_every_flip_of_a_journal(tmp_path: Path) -> None:
    """Every byte of a journal flipped: bad verdict, right class, never a traceback, never wrong data."""
    store, keystore = make_keystore(tmp_path)
    write_log(store, keystore, range(1))
    path = next((store / "dec").iterdir())
    right = set(texts(store, keystore))
    for position in range(path.stat().st_size):
        with flipped(path, position, position % 8):
            assert verify(store, keystore).of(Question.INTEGRITY).answer is Answer.BAD, position
            assert set(texts(store, keystore)) <= right


def test_every_flip_of_an_unanchored_tail(tmp_path: Path) -> None:
    """The same where no checkpoint covers the records: only a cut would not show, a flip always does."""
    store, keystore = make_keystore(tmp_path)
    journal = write_log(store, keystore, range(1), close=False)
    journal._committer._file.abandon()
    path = next((store / "dec").iterdir())
    for position in range(path.stat().st_size):
        with flipped(path, position, 7 - position % 8):
            assert verify(store, keystore).of(Question.INTEGRITY).answer is Answer.BAD, position


def test_every_flip_of_a_ledger(tmp_path: Path) -> None:
    """Every byte of the ledger flipped: a bad verdict, never a traceback."""
    store, keystore = make_keystore(tmp_path)
    write_log(store, keystore, range(1))
    path = ledger(store)
    for position in range(path.stat().st_size):
        with flipped(path, position, position % 7):
            assert not verify(store, keystore).is_good, position


def test_every_cut_of_a_journal(tmp_path: Path) -> None:
    """A closed journal cut at every byte: never good, never a traceback."""
    store, keystore = make_keystore(tmp_path)
    write_log(store, keystore, range(1))
    path = next((store / "dec").iterdir())
    for length in range(path.stat().st_size - 1, -1, -1):
        os.truncate(path, length)
        assert not verify(store, keystore).is_good, length


def texts(store: Path, keystore: Keystore) -> list[str]:
    """Decisions in a form that can be put into a set."""
    return [repr(entry.record) for entry in read_decisions(store, keystore)]


def test_reading_while_it_is_written(tmp_path: Path) -> None:
    """Verification beside a running writer never finds anything bad."""
    store, keystore = make_keystore(tmp_path)
    journal = open_journal(store, keystore, limits=None)
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            journal.append(decision(number))
            number += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(25):
            report = verify(store, keystore)
            assert report.is_good, report.first_bad
    finally:
        stop.set()
        thread.join()
    assert journal.close(5.0)
    assert verify(store, keystore).of(Question.UNANCHORED_TAIL).answer is Answer.OK


def forge(path: Path, keystore: Keystore, records: list[bytes], *, mac_key: bytes = bytes(32)) -> None:
    """Append a frame as somebody would who has the root key, but not the present MAC key."""
    journal = load_journal(path, AuditKeys(keystore))
    last = [part for part in layout.scan(journal.data) if isinstance(part, layout.Frame)][-1]
    pieces, leaves = layout.pack_body(records, bytes(17 * len(records)))
    body, nonce = b"".join(pieces), bytes(12)
    prefix = layout.pack_prefix(
        sealed_bytes=len(body) + 28,
        index=last.number + last.records,
        count=len(records),
        position=last.position + 1,
        ledger_sequence=last.ledger_sequence,
        previous=layout.link_of(last.attested),
    )
    joined = b"".join(leaves)
    sealed = journal._key.seal_at(nonce, body, journal.place + prefix + joined)
    mac = MacChain(mac_key).mac(prefix + joined)
    frame = prefix + joined + nonce + sealed + layout.pack_trailer(joined, nonce, sealed, mac)
    path.write_bytes(journal.data + frame)


def test_a_record_after_the_closing_one(log: Log) -> None:
    """A record appended to a closed journal with the root key: append-only, and its MAC is wrong."""
    first = journals(log[0])[0]
    forge(first, log[1], [encode_decision(decision(0x99))])
    report = verify(*log)
    assert bad(report, Question.APPEND_ONLY).kind == "after-close"
    assert bad(report, Question.INTEGRITY).kind == "mac"


def test_a_batch_put_in_by_a_thief(tmp_path: Path) -> None:
    """Many records in one frame, appended to a journal that a crash left: integrity, whatever they say."""
    store, keystore = make_keystore(tmp_path)
    journal = write_log(store, keystore, range(3), close=False)
    journal._committer._file.abandon()
    path = next((store / "dec").iterdir())
    forge(path, keystore, [encode_decision(decision(number)) for number in range(50, 60)])
    assert bad(verify(store, keystore), Question.INTEGRITY).kind == "mac"


def test_an_older_copy_of_the_ledger(log: Log) -> None:
    """The ledger alone replaced by an older copy of itself: completeness, the first entry that is gone."""
    old = ledger(log[0]).read_bytes()
    write_log(*log, range(0x30, 0x33))
    ledger(log[0]).write_bytes(old)
    line = verify(*log).of(Question.COMPLETENESS)
    assert {finding.kind for finding in line.findings} == {"journal-unstated", "ledger-cut"}


def test_a_file_of_the_ledger_deleted(log: Log) -> None:
    """A ledger file between two others is gone: completeness."""
    keys = AuditKeys(log[1])
    writing = Ledger(log[0], keys, FrozenClock(), disk=Disk(), bytes_max=1)
    for _ in range(40):
        writing.append(journal="0123456789abcdef-0", size=0, root=EMPTY_ROOT, state="open")
    files = sorted((log[0] / "log").glob("*.agl"))
    assert len(files) == 2
    number = int(files[-1].stem.split("-")[1])
    files[-1].rename(files[-1].with_name(f"ledger-{number + 1:08d}.agl"))
    assert bad(verify(*log), Question.COMPLETENESS).kind == "ledger-file-missing"


def test_an_insider_states_fewer_records(log: Log) -> None:
    """An entry with the right signature that takes records back: append-only, the ledger shrinks."""
    first = journals(log[0])[0]
    rewrite(first, lambda frames: frames.__delitem__(slice(4, None)))
    rest = load_journal(first, AuditKeys(log[1]))
    tree = Frontier()
    for part in layout.scan(rest.data):
        assert isinstance(part, layout.Frame)
        tree.extend(part.leaves)
    Ledger(log[0], AuditKeys(log[1]), FrozenClock(), disk=Disk()).append(
        journal=first.stem, size=tree.size, root=tree.root(), state="closed"
    )
    report = verify(*log)
    assert bad(report, Question.APPEND_ONLY).kind == "ledger-shrinks"
    assert bad(report, Question.COMPLETENESS).kind == "tail-cut"


def test_a_journal_renamed(log: Log) -> None:
    """A journal under another number: integrity there, completeness where it was."""
    first = journals(log[0])[0]
    first.rename(first.with_name(first.name.replace("-0.", "-7.")))
    report = verify(*log)
    assert bad(report, Question.INTEGRITY).kind == "header"
    assert bad(report, Question.COMPLETENESS).kind == "journal-missing"


@pytest.mark.parametrize("position", [10, 12, 16, 36, 44, 70])
def test_an_altered_header(log: Log, position: int) -> None:
    """Flags, generation, store, writer, salt or commitment altered, checksum mended: integrity."""
    first = journals(log[0])[0]
    data = bytearray(first.read_bytes())
    data[position] ^= 1
    data[100:104] = struct.pack(">I", zlib.crc32(data[:100]))
    first.write_bytes(data)
    assert bad(verify(*log), Question.INTEGRITY).kind == "header"


@pytest.mark.skipif(not has_post_quantum(), reason="cryptography without ML-DSA")
@pytest.mark.parametrize("change", ["altered", "stripped"])
def test_the_second_signature(tmp_path: Path, change: str) -> None:
    """A second signature that is altered, or taken away, shows: in itself, or in the next entry's link."""
    store, keystore = make_keystore(tmp_path)
    journal = DecisionJournal.open(
        store,
        keystore=keystore,
        clock=FrozenClock(),
        on_internal_error=lambda where, error: None,
        limits=SLOW,
        safeguards=Safeguards(post_quantum=True),
    )
    journal.append(decision(1))
    assert journal.close(5.0)
    notes = list(split(ledger(store).read_bytes()))
    lines = notes[1].split(b"\n")
    if change == "stripped":
        del lines[-2]
    else:
        lines[-2] = lines[-2][:-100] + (b"A" if lines[-2][-100:-99] != b"A" else b"B") + lines[-2][-99:]
    notes[1] = b"\n".join(lines)
    ledger(store).write_bytes(b"".join(note + b"\n" for note in notes))
    report = verify(store, keystore)
    if change == "stripped":
        assert bad(report, Question.APPEND_ONLY).kind == "ledger-chain"
    else:
        assert bad(report, Question.INTEGRITY).kind == "ledger-altered"


def test_erasures_are_told_apart(log: Log) -> None:
    """A recorded erasure is noted under its own question; taking its record out is tampering."""
    journal = open_journal(*log)
    journal.append_event("store.erased", {"sessions": 3, "generation": 2}, is_durable=True)
    assert journal.close(5.0)
    report = verify(*log)
    assert report.is_good
    line = report.of(Question.ERASURES)
    assert (line.answer, line.findings[0].kind) == (Answer.NOTED, "erased")
    rewrite(journals(log[0])[2], lambda frames: frames.pop(1))
    assert bad(verify(*log), Question.APPEND_ONLY).kind == "removed"


def test_the_tail_is_told_in_records_and_seconds(tmp_path: Path) -> None:
    """How many records stand after the last checkpoint, and how long after it."""
    store, keystore = make_keystore(tmp_path)
    clock = FrozenClock()
    journal = open_journal(store, keystore, clock=clock)
    journal.append(decision(1)._replace(time_unix_ns=clock.unix_ns()))
    journal._committer.checkpoint()
    journal.append(decision(2)._replace(time_unix_ns=clock.unix_ns() + 2_500_000_000))
    report = verify(store, keystore)
    assert (report.tail_records, report.tail_s) == (1, 2.5)
    assert "up to 2.5 s after it" in report.of(Question.UNANCHORED_TAIL).sentence
    assert journal.close(5.0)
    assert (verify(store, keystore).tail_records, verify(store, keystore).tail_s) == (0, 0.0)


DAY_S = 86_400.0


def after(days: float) -> FrozenClock:
    """The tests' clock, so many days on."""
    clock = FrozenClock()
    clock.advance(days * DAY_S)
    return clock


def fail(error: AuditError) -> None:
    """Hide nothing."""
    raise error


def retain(log: Log, size_bytes_max: int | None = None, age_days: float | None = 30.0) -> int:
    """Let retention take what is old; returns how many journals went."""
    return prune_journals(
        *log, after(200), age_s_max=None if age_days is None else age_days * DAY_S,
        size_bytes_max=size_bytes_max, is_held=lambda *_: False, record=lambda _: None, on_failure=fail,
    ).journals  # fmt: skip


@pytest.fixture
def pruned(log: Log) -> Log:
    """Two journals that retention took, and one that was written after."""
    assert retain(log) == 2
    write_log(*log, range(0x40, 0x44))
    return log


@pytest.fixture
def adopted(tmp_path: Path) -> tuple[Log, Path]:
    """A journal of five records whose writer died having stated one; another process stated all."""
    log = make_keystore(tmp_path)
    journal = write_log(*log, range(0x10, 0x14), close=False)
    file = journal._committer._file
    assert file is not None
    file.abandon()
    assert len(adopt_abandoned(*log, FrozenClock(), on_failure=fail)) == 1
    return log, file.path


def test_untouched_after_retention(pruned: Log) -> None:
    """The control: what retention took is noted as recorded, and nothing is missing."""
    report = verify(*pruned)
    assert report.is_good
    assert report.of(Question.COMPLETENESS).answer is Answer.OK
    assert (report.of(Question.RETENTION).answer, report.journals) == (Answer.NOTED, 1)


def test_removed_under_the_name_of_retention(pruned: Log) -> None:
    """A journal removed by hand beside those that retention took: completeness, that one."""
    (gone,) = (pruned[0] / "dec").iterdir()
    gone.unlink()
    report = verify(*pruned)
    assert (bad(report, Question.COMPLETENESS).kind, bad(report, Question.COMPLETENESS).journal) == (
        "journal-missing",
        gone.stem,
    )
    others_are_fine(report, Question.COMPLETENESS)


def test_the_statement_of_a_removal_taken_out(pruned: Log) -> None:
    """Without its entry the removal is no removal: append-only, and the journal is missing."""
    notes = list(split(ledger(pruned[0]).read_bytes()))
    at = next(number for number, note in enumerate(notes) if parse(note).state == "pruned")
    name = parse(notes.pop(at)).journal
    ledger(pruned[0]).write_bytes(b"".join(note + b"\n" for note in notes))
    report = verify(*pruned)
    assert bad(report, Question.APPEND_ONLY).kind == "ledger-chain"
    assert bad(report, Question.COMPLETENESS).journal == name


def test_another_number_of_records_stated_as_removed(pruned: Log) -> None:
    """The numbers of a removal altered: integrity of the ledger."""
    data = ledger(pruned[0]).read_bytes()
    at = data.index(b"state pruned ") + 15
    ledger(pruned[0]).write_bytes(data[:at] + (b"8" if data[at : at + 1] != b"8" else b"9") + data[at + 1 :])
    assert bad(verify(*pruned), Question.INTEGRITY).kind == "ledger-altered"


def test_a_removed_journal_that_comes_back_otherwise(log: Log) -> None:
    """A file under the name of a removed journal, with fewer records: completeness; altered: integrity."""
    first = journals(log[0])[0]
    whole = first.read_bytes()
    retain(log)
    first.write_bytes(whole)
    assert verify(*log).is_good
    rewrite(first, lambda frames: frames.__delitem__(slice(4, None)))
    assert bad(verify(*log), Question.COMPLETENESS).kind == "tail-cut"
    first.write_bytes(whole)
    rewrite(first, lambda frames: frames.__setitem__(3, alter(frames[3], layout.PREFIX.size + 40)))
    assert bad(verify(*log), Question.INTEGRITY).kind == "altered"


def test_an_insider_removes_what_was_tampered_with(log: Log) -> None:
    """Retention itself does not take the evidence away, not even for room."""
    first, second = journals(log[0])
    rewrite(first, lambda frames: frames.pop(3))
    failures: list[AuditError] = []
    prune_journals(
        *log, after(200), age_s_max=DAY_S, size_bytes_max=1, is_held=lambda *_: False,
        record=lambda _: None, on_failure=failures.append,
    )  # fmt: skip
    assert (first.exists(), second.exists(), len(failures)) == (True, False, 1)
    assert bad(verify(*log), Question.APPEND_ONLY).kind == "removed"


def test_set_back_to_before_a_removal(log: Log, tmp_path: Path) -> None:
    """The store of before the removal put back: only an anchor tells, and it does."""
    shutil.copytree(log[0], tmp_path / "older")
    retain(log)
    anchor = make_anchor(*log, FrozenClock())
    for folder in ("dec", "log"):
        shutil.rmtree(log[0] / folder)
        shutil.copytree(tmp_path / "older" / folder, log[0] / folder)
    assert verify(*log).is_good
    assert bad(verify(*log, anchors=[anchor.note]), Question.COMPLETENESS).kind == "rolled-back"


def test_an_adopted_tail_that_is_cut(adopted: tuple[Log, Path]) -> None:
    """What did not show before the adoption shows after it: completeness, the first that is gone."""
    log, path = adopted
    report = verify(*log)
    assert report.is_good
    assert report.of(Question.UNANCHORED_TAIL).findings[0].kind == "adopted"
    rewrite(path, lambda frames: frames.pop())
    report = verify(*log)
    assert (bad(report, Question.COMPLETENESS).kind, bad(report, Question.COMPLETENESS).index) == (
        "tail-cut",
        4,
    )


def test_a_tail_cut_before_it_is_adopted(tmp_path: Path) -> None:
    """The limit, as it is said: the cut does not show, but that the tail was nobody's word stays noted."""
    log = make_keystore(tmp_path)
    journal = write_log(*log, range(0x10, 0x14), close=False)
    file = journal._committer._file
    assert file is not None
    file.abandon()
    rewrite(file.path, lambda frames: frames.pop())
    adopt_abandoned(*log, FrozenClock(), on_failure=fail)
    line = verify(*log).of(Question.UNANCHORED_TAIL)
    assert (line.answer, line.findings[0].kind) == (Answer.NOTED, "adopted")
    assert "a cut before that does not show" in line.sentence


def test_a_record_put_behind_an_adopted_tail(adopted: tuple[Log, Path]) -> None:
    """Sealed with the root key: append-only, since nothing may follow, and its MAC is not the writer's."""
    log, path = adopted
    forge(path, log[1], [encode_decision(decision(0x99))])
    report = verify(*log)
    assert bad(report, Question.APPEND_ONLY).kind == "after-end"
    assert bad(report, Question.INTEGRITY).kind == "mac"


def test_an_adopted_record_altered(adopted: tuple[Log, Path]) -> None:
    """One bit of a record that only the adoption states: integrity, that record."""
    log, path = adopted
    rewrite(path, lambda frames: frames.__setitem__(4, alter(frames[4], layout.PREFIX.size + 40)))
    assert (bad(verify(*log), Question.INTEGRITY).kind, bad(verify(*log), Question.INTEGRITY).index) == (
        "altered",
        4,
    )


def test_the_adoption_taken_out(adopted: tuple[Log, Path]) -> None:
    """Cut off the end of the ledger it leaves a tail that is nobody's word; out of the middle it is missed."""
    log, _ = adopted
    write_log(*log, range(0x30, 0x32))
    notes = list(split(ledger(log[0]).read_bytes()))
    at = next(number for number, note in enumerate(notes) if parse(note).state == "adopted")
    ledger(log[0]).write_bytes(b"".join(note + b"\n" for note in notes[:at] + notes[at + 1 :]))
    assert bad(verify(*log), Question.APPEND_ONLY).kind == "ledger-chain"
    ledger(log[0]).write_bytes(b"".join(note + b"\n" for note in notes[:at]))
    assert {finding.kind for finding in verify(*log).of(Question.COMPLETENESS).findings} >= {"ledger-cut"}


def test_tampering_before_the_adoption_is_not_blessed(tmp_path: Path) -> None:
    """A tail that was altered while its writer was dead is not adopted, and verifies no better for it."""
    log = make_keystore(tmp_path)
    journal = write_log(*log, range(0x10, 0x14), close=False)
    file = journal._committer._file
    assert file is not None
    file.abandon()
    rewrite(file.path, lambda frames: frames.pop(2))
    failures: list[AuditError] = []
    assert adopt_abandoned(*log, FrozenClock(), on_failure=failures.append) == ()
    assert len(failures) == 1
    assert bad(verify(*log), Question.APPEND_ONLY).kind == "removed"
