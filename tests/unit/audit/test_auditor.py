"""An auditor reads, verifies and proves with a slot of their own, and can sign nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentguard.audit import (
    NoteKey,
    Question,
    check_proof,
    make_anchor,
    prove,
    read_decisions,
    verify,
)
from agentguard.errors import KeyUnavailableError
from agentguard.seal import Keystore, create_auditor_file, open_keystore
from tests.support.clock import FrozenClock
from tests.support.decisions import open_journal, write_log

Log = tuple[Path, Keystore]


@pytest.fixture
def auditor(log: Log, tmp_path: Path) -> Keystore:
    """The store as an auditor opens it, who was let in before it was written on."""
    key = create_auditor_file(tmp_path / "auditor")
    log[1].add_auditor(key.public_key())
    write_log(*log, range(0x11, 0x17))
    return open_keystore(log[0], key)


def test_an_auditor_reads_and_verifies(log: Log, auditor: Keystore) -> None:
    """All records, all verdicts, the same public key."""
    assert len(list(read_decisions(log[0], auditor))) == 6
    report, own = verify(log[0], auditor), verify(*log)
    assert report.verdicts == own.verdicts
    assert report.of(Question.INTEGRITY).answer == "ok"
    assert report.verifier_key == own.verifier_key


def test_an_auditor_proves(log: Log, auditor: Keystore) -> None:
    """A proof needs no signing key where the ledger has the checkpoint."""
    proof = prove(log[0], auditor, f"{0x13:016x}")
    assert check_proof(proof, NoteKey.parse(verify(*log).verifier_key)).entry.index == 3


def test_an_auditor_writes_nothing(log: Log, auditor: Keystore) -> None:
    """No record, no checkpoint: neither a journal nor an anchor can be made."""
    before = sorted(path.name for path in log[0].rglob("*"))
    with pytest.raises(KeyUnavailableError):
        open_journal(log[0], auditor)
    with pytest.raises(KeyUnavailableError):
        make_anchor(log[0], auditor, FrozenClock())
    assert sorted(path.name for path in log[0].rglob("*")) == before
