"""Adoption: what a crashed writer left is stated by a later process, marked as such, and provable."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from agentguard.audit import (
    AdoptedJournal,
    Answer,
    NoteKey,
    Question,
    Safeguards,
    adopt_abandoned,
    check_proof,
    prove,
    verify,
)
from agentguard.audit.checkpoint import parse
from agentguard.audit.disk import Disk
from agentguard.audit.keys import AuditKeys
from agentguard.audit.ledger import Ledger
from agentguard.audit.ledger_files import files, split
from agentguard.errors import AuditError, KeyUnavailableError
from agentguard.seal import Keystore, create_auditor_file, open_keystore
from tests.support.clock import FrozenClock
from tests.support.decisions import decision, open_journal, write_log

Log = tuple[Path, Keystore]


def fail(error: AuditError) -> None:
    """Hide nothing."""
    raise error


def crashed(log: Log, numbers: range) -> Path:
    """A journal whose writer died; only its opening is stated."""
    journal = write_log(*log, numbers, close=False)
    file = journal._committer._file
    assert file is not None
    file.abandon()
    return file.path


def adopt(log: Log, **settings: object) -> tuple[AdoptedJournal, ...]:
    """Look after the log once."""
    return adopt_abandoned(*log, FrozenClock(), on_failure=fail, **settings)  # type: ignore[arg-type]


def test_what_a_crash_left_can_be_proven(log: Log) -> None:
    """Nothing states the records before; afterwards a proof of one checks, and says who stated it."""
    path = crashed(log, range(4))
    with pytest.raises(AuditError, match="no checkpoint states record 3 yet"):
        prove(*log, f"{2:016x}")
    (adopted,) = adopt(log)
    assert (adopted.journal, adopted.records, adopted.own_records) == (path.stem, 5, 1)
    proven = check_proof(prove(*log, f"{2:016x}"), NoteKey.parse(verify(*log).verifier_key))
    assert (proven.entry.index, proven.checkpoint.state, proven.checkpoint.numbers[0]) == (3, "adopted", 1)
    assert proven.checkpoint.root.hex() == adopted.root


def test_the_verdict_tells_it_from_what_the_writer_stated(log: Log) -> None:
    """The tail stays noted, with the time of the adoption, also when the ledger has gone on to a new file."""
    crashed(log, range(4))
    adopt(log)
    for is_rotated in (False, True):
        assert (files(log[0] / "log")[0][0] > 1) is is_rotated
        line = verify(*log).of(Question.UNANCHORED_TAIL)
        assert (line.answer, line.findings[0].kind, line.findings[0].index) == (Answer.NOTED, "adopted", 1)
        assert "unanchored tail adopted at 2026-01-01T00:00:00+00:00" in line.sentence
        assert "4 whole records" in line.sentence
        small = Ledger(log[0], AuditKeys(log[1]), FrozenClock(), disk=Disk(), bytes_max=1)
        for size in range(1, 30):
            small.append(journal=f"{7:016x}-0", size=size, root=bytes(32), state="open")
    assert not verify(*log).of(Question.APPEND_ONLY).findings


def test_it_is_done_once(log: Log) -> None:
    """The second pass finds nothing; a writer that lives, or ended in order, is left alone."""
    write_log(*log, range(2))
    living = open_journal(*log)
    living.append(decision(9))
    crashed(log, range(0x20, 0x23))
    assert len(adopt(log)) == 1
    assert adopt(log) == ()
    assert living.close(5.0)
    assert verify(*log).is_good


def test_a_torn_end_is_left_out(log: Log) -> None:
    """Whole records are adopted, and the half one that the crash cut off stays noted as torn."""
    path = crashed(log, range(4))
    os.truncate(path, path.stat().st_size - 30)
    assert adopt(log)[0].records == 4
    report = verify(*log)
    assert report.is_good
    assert {f.kind for f in report.of(Question.UNANCHORED_TAIL).findings} == {"torn", "adopted"}


@pytest.mark.parametrize("damage", ["flip", "cut", "put in"])
def test_what_is_not_whole_is_evidence(log: Log, damage: str) -> None:
    """A journal with anything wrong in it is not adopted, and the failure says what."""
    path = crashed(log, range(4))
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    elif damage == "cut":
        del data[200:]
    else:
        data += data[-400:]
    path.write_bytes(data)
    failures: list[AuditError] = []
    before = files(log[0] / "log")[-1][1].read_bytes()
    assert adopt_abandoned(*log, FrozenClock(), on_failure=failures.append) == ()
    assert path.stem in str(failures[0])
    assert files(log[0] / "log")[-1][1].read_bytes() == before
    assert not verify(*log).is_good


def test_nothing_is_adopted_under_a_ledger_that_was_changed(log: Log) -> None:
    """An entry altered: all abandoned journals stay as they are."""
    write_log(*log, range(3))
    crashed(log, range(0x20, 0x24))
    path = files(log[0] / "log")[-1][1]
    notes = list(split(path.read_bytes()))
    path.write_bytes(b"".join(note + b"\n" for note in notes[:2] + notes[3:]))
    with pytest.raises(AuditError, match="nothing is adopted"):
        adopt(log)


def test_nothing_is_adopted_in_a_store_that_was_set_back(log: Log, tmp_path: Path) -> None:
    """The high-water mark refuses it, as it refuses a new journal."""
    safeguards = Safeguards(mark=tmp_path / "mark")
    crashed(log, range(3))
    shutil.copytree(log[0], tmp_path / "older")
    adopt(log, safeguards=safeguards)
    shutil.rmtree(log[0] / "log")
    shutil.copytree(tmp_path / "older" / "log", log[0] / "log")
    with pytest.raises(AuditError, match="set back"):
        adopt(log, safeguards=safeguards)


def test_an_auditor_adopts_nothing(log: Log, tmp_path: Path) -> None:
    """Whoever cannot sign cannot state."""
    key = create_auditor_file(tmp_path / "auditor")
    log[1].add_auditor(key.public_key())
    crashed(log, range(3))
    with pytest.raises(KeyUnavailableError):
        adopt((log[0], open_keystore(log[0], key)))


def test_another_process_has_the_turn(log: Log) -> None:
    """Who finds the lock taken leaves the work to whoever has it."""
    from agentguard.audit.lone_check import turn

    crashed(log, range(3))
    with turn(log[0] / "log") as is_mine:
        assert is_mine
        assert adopt(log) == ()
    assert len(adopt(log)) == 1


def test_a_state_that_is_unknown_is_no_checkpoint(log: Log) -> None:
    """A word that this program does not know, or one without its numbers, is refused."""
    from agentguard.audit.notes import NoteError

    write_log(*log, range(1))
    note = list(split(files(log[0] / "log")[-1][1].read_bytes()))[-1]
    assert parse(note).state == "closed"
    for said in (b"state lost\n", b"state adopted 1\n", b"state closed 1\n", b"state pruned 1 2 3 4\n"):
        with pytest.raises(NoteError):
            parse(note.replace(b"state closed\n", said))
