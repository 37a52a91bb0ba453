"""Anchoring by itself: who is due, what is kept of it, and what verification makes of that."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from agentguard.audit import (
    Anchor,
    FileAnchor,
    HookAnchor,
    Kept,
    Question,
    Receipts,
    TimestampAnchor,
    WebhookAnchor,
    anchor_due,
    is_target,
    last_kept_unix_ns,
    read_anchors,
    receipts,
    sink_for,
    verify,
)
from agentguard.audit.receipts import short
from agentguard.errors import AuditError
from agentguard.seal import Keystore
from tests.support.clock import START_UNIX_NS, FrozenClock
from tests.support.decisions import write_log

Log = tuple[Path, Keystore]


def fail(name: str, error: AuditError) -> None:
    """Hide nothing."""
    raise error


def test_each_sink_has_its_own_turn(log: Log, tmp_path: Path) -> None:
    """A sink that took a checkpoint waits for its interval; one that failed does not, nor is it waited for."""
    write_log(*log, range(3))
    clock, taken, failed = FrozenClock(), [], []
    refuses = [True]

    def take(anchor: Anchor) -> None:
        if refuses[0]:
            raise OSError("away")
        taken.append(anchor)

    sinks = [HookAnchor("hook", take), FileAnchor(tmp_path / "kept")]

    def run() -> list[Kept]:
        return anchor_due(
            *log,
            clock,
            sinks,
            interval_s=60,
            on_failure=lambda name, error: failed.append((name, str(error))),
        )

    assert [kept.to for kept in run()] == [f"file:{tmp_path / 'kept'}"]
    assert failed == [("hook", "anchor hook: not taken (OSError)")]
    clock.advance(5)
    refuses[0] = False
    assert [kept.to for kept in run()] == ["hook"]
    assert run() == []
    assert last_kept_unix_ns(log[0], "hook") == START_UNIX_NS + 5_000_000_000
    assert last_kept_unix_ns(log[0], "nobody") is None
    clock.advance(56)
    assert [kept.to for kept in run()] == [f"file:{tmp_path / 'kept'}"]
    assert len(read_anchors(tmp_path / "kept")) == 2
    clock.set_unix_ns(START_UNIX_NS - 10**18)
    assert len(run()) == 2


def test_another_process_hands_it_over(log: Log, tmp_path: Path) -> None:
    """A sink whose lock is held by somebody else is left to them; a log without entries is not anchored."""
    sinks = [FileAnchor(tmp_path / "kept")]
    assert anchor_due(*log, FrozenClock(), sinks, interval_s=1, on_failure=fail) == []
    write_log(*log, range(2))
    fd = os.open(log[0] / "log" / f"anchor-{short(sinks[0].name)}.lock", os.O_RDWR | os.O_CREAT)
    os.utime(fd, (0, 0))
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert anchor_due(*log, FrozenClock(), sinks, interval_s=1, on_failure=fail) == []
    os.close(fd)
    assert len(anchor_due(*log, FrozenClock(), sinks, interval_s=1, on_failure=fail)) == 1


def test_receipts_hold_the_log_to_what_was_said(log: Log) -> None:
    """Verification says up to which anchor the log is complete, and where that is kept."""
    write_log(*log, range(3))
    clock = FrozenClock()
    (kept,) = anchor_due(*log, clock, [HookAnchor("otlp:x", print)], interval_s=1, on_failure=fail)
    (receipt,) = Receipts(log[0]).read()
    assert (receipt.sequence, receipt.to, receipt.time_unix_ns) == (kept.seq, "otlp:x", START_UNIX_NS)
    report = verify(*log)
    assert report.is_good
    sentence = report.of(Question.COMPLETENESS).sentence
    assert f"complete up to anchor {kept.seq} of 2026-01-01T00:00:00+00:00, kept at otlp:x" in sentence
    # The same one, handed in: still one.
    assert verify(*log, anchors=[receipt.note]).of(Question.COMPLETENESS).sentence == sentence
    ledger = next((log[0] / "log").glob("*.agl"))
    data = ledger.read_bytes()
    ledger.write_bytes(data[: data.rindex(b"agentguard/", 0, data.rindex(b"/heads\n"))])
    assert {f.kind for f in verify(*log).of(Question.COMPLETENESS).findings} >= {"rolled-back"}


def test_a_receipt_that_was_changed(log: Log) -> None:
    """A note in the receipts that this store did not sign is a finding; a file that is none is passed over."""
    write_log(*log, range(3))
    anchor_due(*log, FrozenClock(), [HookAnchor("x", print)], interval_s=1, on_failure=fail)
    folder = log[0] / "log" / "anchors"
    note = next(folder.glob("*.checkpoint"))
    note.write_bytes(note.read_bytes().replace(b"time 1", b"time 2"))
    finding = verify(*log).of(Question.INTEGRITY).findings[0]
    assert (finding.kind, finding.journal) == ("receipt", "ledger")
    assert "receipt of anchor" in finding.sentence
    next(folder.glob("*.receipt")).write_bytes(b"nothing")
    assert Receipts(log[0]).read() == []
    assert verify(*log).is_good


def test_receipts_are_bounded(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go, all files of one anchor together."""
    monkeypatch.setattr(receipts, "KEPT_MAX", 4)
    write_log(*log, range(2))
    clock = FrozenClock()
    for _ in range(6):
        clock.advance(10)
        sinks = [HookAnchor("one", print), HookAnchor("two", print)]
        assert len(anchor_due(*log, clock, sinks, interval_s=5, on_failure=fail)) == 2
    names = sorted(path.name for path in (log[0] / "log" / "anchors").iterdir())
    assert len(names) == 6
    assert len({name[:12] for name in names}) == 2
    assert len(Receipts(log[0]).read()) == 4
    monkeypatch.setattr(receipts, "KEPT_BYTES_MAX", 1)
    clock.advance(10)
    anchor_due(*log, clock, [HookAnchor("one", print)], interval_s=5, on_failure=fail)
    assert len(Receipts(log[0]).read()) == 1


def test_targets(tmp_path: Path) -> None:
    """What a setting may say, and what becomes of it."""
    roots = tmp_path / "roots.pem"
    assert isinstance(sink_for(f"file:{tmp_path}/a"), FileAnchor)
    assert isinstance(sink_for("https://keeper.example/x"), WebhookAnchor)
    pytest.importorskip("rfc3161_client", reason="needs the extra `timestamps`")
    assert isinstance(sink_for("rfc3161:https://tsa.example", roots=roots), TimestampAnchor)
    with pytest.raises(AuditError, match="without certificates"):
        sink_for("rfc3161:https://tsa.example")
    for text in ("otlp", "", "file:", "ftp://x", "rfc3161:", "nothing", "https://"):
        assert is_target(text) is (text == "otlp")
        with pytest.raises(AuditError, match="expected file:PATH"):
            sink_for(text, roots=roots)
