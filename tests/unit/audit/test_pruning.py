"""Retention of the decision log: what goes is stated first, what is held or damaged stays."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from agentguard.audit import (
    Answer,
    NoteKey,
    PrunedJournals,
    Question,
    adopt_abandoned,
    check_against,
    check_proof,
    make_anchor,
    prove,
    prune_journals,
    read_entries,
    verify,
)
from agentguard.audit import format as layout
from agentguard.audit import ledger as ledger_module
from agentguard.audit.checkpoint import Head, Pruning
from agentguard.audit.disk import Disk
from agentguard.audit.keys import AuditKeys
from agentguard.audit.ledger import Ledger, claimed_heads
from agentguard.audit.ledger_files import files
from agentguard.errors import AuditError
from agentguard.seal import Keystore
from tests.support.clock import START_UNIX_NS, FrozenClock
from tests.support.decisions import decision, open_journal, write_log

Log = tuple[Path, Keystore]
DAY_S = 86_400.0


def later(days: float) -> FrozenClock:
    """The tests' clock, so many days after the records were made."""
    clock = FrozenClock()
    clock.advance(days * DAY_S)
    return clock


def fail(error: AuditError) -> None:
    """Hide nothing."""
    raise error


def prune(
    log: Log,
    *,
    days: float = 200.0,
    age_days: float | None = 183.0,
    size_bytes_max: int | None = None,
    held: tuple[int, int] | None = None,
    recorded: list[Mapping[str, object]] | None = None,
    on_failure: object = fail,
) -> PrunedJournals:
    """Make one pass."""
    return prune_journals(
        *log,
        later(days),
        age_s_max=None if age_days is None else age_days * DAY_S,
        size_bytes_max=size_bytes_max,
        is_held=lambda first, last: held is not None and first <= held[1] and last >= held[0],
        record=(recorded if recorded is not None else []).append,
        on_failure=on_failure,  # type: ignore[arg-type]
    )


def names(log: Log) -> set[str]:
    """The journals that are there."""
    return {path.stem for path in (log[0] / "dec").iterdir()}


def test_old_journals_go_and_what_went_is_stated(log: Log) -> None:
    """Size, root, bytes and times are in the ledger and in the event; the verdict is not 'missing'."""
    write_log(*log, range(5))
    (name,) = names(log)
    size_bytes = (log[0] / "dec" / f"{name}.agd").stat().st_size
    head = claimed_heads(log[0])[name]
    recorded: list[Mapping[str, object]] = []
    assert prune(log, days=100, recorded=recorded) == PrunedJournals()
    assert prune(log, recorded=recorded) == PrunedJournals(1, 7, size_bytes)
    assert names(log) == set()
    assert recorded == [
        {
            "journal": name, "records": 7, "size_bytes": size_bytes, "root": head.root.hex(),
            "first_unix_ns": START_UNIX_NS, "last_unix_ns": START_UNIX_NS + 4, "reason": "age",
        }
    ]  # fmt: skip
    stated = claimed_heads(log[0])[name]
    assert (stated.size, stated.root, stated.state) == (7, head.root, "pruned")
    assert Pruning(*stated.numbers).bytes == size_bytes
    report = verify(*log)
    assert report.is_good
    line = report.of(Question.RETENTION)
    assert (line.answer, line.findings[0].kind) == (Answer.NOTED, "pruned")
    assert "1 journal with 7 records from 2026-01-01T00:00:00+00:00" in line.sentence
    assert "200.0 days old" in line.sentence


def test_a_journal_removed_by_hand_is_missing(log: Log) -> None:
    """Beside one that retention took, one that somebody took is still named."""
    write_log(*log, range(3))
    prune(log)
    write_log(*log, range(3))
    (name,) = names(log)
    (log[0] / "dec" / f"{name}.agd").unlink()
    report = verify(*log)
    assert report.of(Question.COMPLETENESS).findings[0].kind == "journal-missing"
    assert report.of(Question.COMPLETENESS).findings[0].journal == name
    assert report.of(Question.RETENTION).answer is Answer.NOTED


def test_size_takes_the_oldest(log: Log) -> None:
    """Beyond the size the oldest ended journals go, and no more of them than need be."""
    for number in range(4):
        journal = open_journal(*log, clock=later(number))
        journal.append(decision(number)._replace(time_unix_ns=later(number).unix_ns()))
        assert journal.close(5.0)
    sizes = {path.stem: path.stat().st_size for path in (log[0] / "dec").iterdir()}
    each = max(sizes.values())
    assert prune(log, days=5, age_days=None, size_bytes_max=2 * each + 10).journals == 2
    left = [entry.time_unix_ns for entry in read_entries(*log) if not hasattr(entry, "record")]
    assert min(left) == later(2).unix_ns()


def test_holds_win_over_age_and_size(log: Log) -> None:
    """A journal with a record in a held time stays, whole, and is counted."""
    write_log(*log, range(5))
    held = (START_UNIX_NS + 2, START_UNIX_NS + 2)
    assert prune(log, held=held) == PrunedJournals(held_journals=1)
    assert prune(log, held=held, size_bytes_max=1) == PrunedJournals(held_journals=1)
    assert prune(log, held=(START_UNIX_NS - 9, START_UNIX_NS - 1)).journals == 1


def test_what_lives_or_was_not_ended_stays(log: Log) -> None:
    """A running writer's journal stays; a crashed one's goes once it is adopted."""
    living = open_journal(*log)
    living.append(decision(1))
    crashed = write_log(*log, range(3), close=False)
    file = crashed._committer._file
    assert file is not None
    file.abandon()
    assert prune(log).journals == 0
    adopt_abandoned(*log, FrozenClock(), on_failure=fail)
    assert prune(log).journals == 1
    assert Pruning(*claimed_heads(log[0])[file.path.stem].numbers).own_records == 1
    assert living.close(5.0)
    assert verify(*log).is_good


def test_evidence_stays(log: Log) -> None:
    """A journal that was tampered with is not removed, however old; nor is one in a changed ledger."""
    write_log(*log, range(3))
    (name,) = names(log)
    path = log[0] / "dec" / f"{name}.agd"
    data = bytearray(path.read_bytes())
    data[-300] ^= 1
    path.write_bytes(data)
    failures: list[AuditError] = []
    assert prune(log, on_failure=failures.append) == PrunedJournals(damaged_journals=1)
    assert name in str(failures[0])
    assert path.exists()
    ledger = next((log[0] / "log").glob("*.agl"))
    ledger.write_bytes(ledger.read_bytes().replace(b"state open", b"state 0pen", 1))
    with pytest.raises(AuditError, match="nothing is removed"):
        prune(log)


def test_a_crash_between_the_statement_and_the_removal(log: Log) -> None:
    """The next pass removes the file; until then nothing is wrong."""
    write_log(*log, range(3))
    (name,) = names(log)

    def die(details: Mapping[str, object]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prune_journals(
            *log, later(200), age_s_max=DAY_S, size_bytes_max=None, is_held=lambda *_: False,
            record=die, on_failure=fail,
        )  # fmt: skip
    assert names(log) == {name}
    assert verify(*log).is_good
    before = len(claimed_heads(log[0]))
    assert prune(log).journals == 1
    assert names(log) == set()
    assert len(claimed_heads(log[0])) == before


def test_a_later_journal_waits_for_an_earlier_one_of_its_writer(log: Log) -> None:
    """What continues a journal says how many of its records count, so it does not go first."""
    from agentguard.audit import JournalLimits

    journal = open_journal(*log, limits=JournalLimits(journal_bytes_max=1))
    for number in range(3):
        journal.append(decision(number))
    assert journal.close(5.0)
    first = min(names(log), key=lambda name: int(name.partition("-")[2]))
    broken = log[0] / "dec" / f"{first}.agd"
    kept = broken.read_bytes()
    broken.write_bytes(kept[:-5] + bytes([kept[-5] ^ 1]) + kept[-4:])
    failures: list[AuditError] = []
    assert prune(log, on_failure=failures.append).journals == 0
    broken.write_bytes(kept)
    assert prune(log).journals == 3


def test_old_proofs_and_anchors_still_hold(log: Log) -> None:
    """A proof from before checks against an anchor from after, and the old anchor against the log."""
    write_log(*log, range(6))
    anchor = make_anchor(*log, FrozenClock())
    proof = prove(*log, f"{3:016x}")
    prune(log)
    write_log(*log, range(0x20, 0x22))
    key = NoteKey.parse(verify(*log).verifier_key)
    check_against(check_proof(proof, key), make_anchor(*log, later(200)).note, key)
    assert verify(*log, anchors=[anchor.note]).is_good


def test_an_insider_states_another_root_as_removed(log: Log, tmp_path: Path) -> None:
    """A removal that does not say what the last checkpoint says is a ledger that was changed."""
    write_log(*log, range(4))
    anchor = make_anchor(*log, FrozenClock())
    (name,) = names(log)
    shutil.copytree(log[0], tmp_path / "copy")
    ledger = Ledger(log[0], AuditKeys(log[1]), FrozenClock(), disk=Disk())
    ledger.append(journal=name, size=6, root=bytes(32), state="pruned", numbers=Pruning(1, 2, 3, 4, 6))
    (log[0] / "dec" / f"{name}.agd").unlink()
    report = verify(*log, anchors=[anchor.note])
    assert report.of(Question.APPEND_ONLY).findings[0].kind == "ledger-pruned"
    assert report.of(Question.COMPLETENESS).findings[0].kind == "journal-missing"


def test_verifying_while_journals_go(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal that goes between the look at the ledger and the look at the files is no gap."""
    from agentguard.audit import verification

    write_log(*log, range(3))
    own = verification.journal_paths

    def paths(folder: Path) -> list[Path]:
        found = own(folder)
        prune(log)
        return found

    monkeypatch.setattr(verification, "journal_paths", paths)
    report = verify(*log)
    assert report.is_good
    assert report.of(Question.RETENTION).answer is Answer.NOTED


def test_the_event_that_cannot_be_written_keeps_the_file(log: Log) -> None:
    """Without its record nothing is removed."""
    write_log(*log, range(3))

    def refuse(details: Mapping[str, object]) -> None:
        raise AuditError("the disk is full")

    with pytest.raises(AuditError):
        prune_journals(
            *log, later(200), age_s_max=DAY_S, size_bytes_max=None, is_held=lambda *_: False,
            record=refuse, on_failure=fail,
        )  # fmt: skip
    assert len(names(log)) == 1
    assert verify(*log).is_good


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Summaries name two removed journals at most, and each file of the ledger is short."""
    monkeypatch.setattr(ledger_module, "PRUNED_HEADS_MAX", 2)
    monkeypatch.setattr(ledger_module, "PRUNED_HEADS_S_MIN", 0.0)
    monkeypatch.setattr(ledger_module, "LEDGER_BYTES_MAX", 1)
    own = ledger_module.Ledger.__init__
    monkeypatch.setattr(
        ledger_module.Ledger,
        "__init__",
        lambda self, *args, **words: own(self, *args, **{**words, "bytes_max": 1}),
    )


@pytest.mark.usefixtures("few")
def test_what_went_long_ago_is_only_counted(log: Log) -> None:
    """The ledger does not grow with every journal there ever was; what it leaves out is chained into one hash."""
    anchors = []
    for number in range(7):
        write_log(*log, range(0x10 * number, 0x10 * number + 2))
        anchors.append(make_anchor(*log, FrozenClock()).note)
        assert prune(log, days=200 + number).journals == 1
    write_log(*log, range(0x90, 0x92))
    for _ in range(12):
        make_anchor(*log, later(300))
    heads = claimed_heads(log[0])
    assert sum(head.state == "pruned" for head in heads.values()) == 2
    report = verify(*log)
    assert report.is_good, report
    line = report.of(Question.RETENTION)
    assert (
        line.findings[0].sentence == "5 journals with 20 records removed as recorded, before all that follow"
    )
    # An anchor of then names a journal that nobody names any more: it is among those that are counted.
    assert verify(*log, anchors=anchors).is_good
    # One that was there and is gone is still missed.
    next((log[0] / "dec").iterdir()).unlink()
    assert verify(*log, anchors=anchors).of(Question.COMPLETENESS).findings[0].kind == "journal-missing"


def test_a_summary_that_leaves_a_journal_out(log: Log) -> None:
    """Whoever can sign cannot let go of a journal with the next file of the ledger."""
    keys = AuditKeys(log[1])
    write_log(*log, range(3))
    (name,) = names(log)
    own = ledger_module._collect

    def forgetful(heads: dict[str, Head], data: bytes) -> object:
        past = own(heads, data)
        heads.pop(name)
        return past

    ledger = Ledger(log[0], keys, FrozenClock(), disk=Disk(), bytes_max=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger_module, "_collect", forgetful)
        while len(files(log[0] / "log")) < 2:
            ledger.append(journal=f"{7:016x}-0", size=1, root=bytes(32), state="open")
    finding = next(f for f in verify(*log).of(Question.COMPLETENESS).findings if f.kind == "ledger-left-out")
    assert name in finding.sentence


def test_files_that_were_never_used_go(log: Log) -> None:
    """What a crash leaves before a journal is entered in the ledger goes after a day; anything else stays."""
    write_log(*log, range(2))
    notes = next((log[0] / "log").glob("*.agl"))
    entered = notes.read_bytes()
    write_log(*log, range(0))
    journal = open_journal(*log)
    journal.append_event("x.y", {})
    assert journal.close(5.0)
    one, *others = sorted((log[0] / "dec").iterdir(), key=lambda path: path.stat().st_size)
    used = others[0]
    opening = next(part for part in layout.scan(used.read_bytes()))
    unused = used.with_name(f"{9:016x}-0.agd")
    unused.write_bytes(b"AGDEC")
    one.write_bytes(one.read_bytes()[: opening.end] + b"AGDF")
    notes.write_bytes(entered)
    for path in (one, unused, used):
        os.utime(path, ns=(START_UNIX_NS, START_UNIX_NS))
    prune(log, days=0.5)
    assert one.exists()
    prune(log, days=2)
    assert not one.exists()
    assert not unused.exists()
    assert used.exists()
