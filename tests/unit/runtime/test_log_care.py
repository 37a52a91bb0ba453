"""The decision log looked after by a running process: anchors, adoption, retention, what is chained of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import agentguard
from agentguard.audit import StoredEvent, read_anchors, read_entries, verify
from agentguard.errors import AuditError, ConfigurationError, PolicyDocumentError
from agentguard.runtime import background, log_care
from agentguard.runtime.core import Runtime
from agentguard.seal import has_post_quantum
from tests.support.otlp import Receiver
from tests.unit.runtime.conftest import HEAD, Start

RULE = """
- id: PAY-1
  title: Small refunds only
  at: tool.before
  when: args.usd > 50
  then: deny
  mode: {mode}
"""
EXCEPTION = """\
---
apiVersion: agentguard/v1
kind: Exception
metadata: {{name: {name}}}
owner: o@corp.example
policy: test
rule: PAY-1
scope: {{tools: [refund]}}
expires: {expires}
ticket: SEC-1
reason: a migration
approver: a@corp.example
"""


def events(runtime: Runtime, kind: str = "") -> list[StoredEvent]:
    """Events of the log, flushed first."""
    runtime.journal.flush(5.0)
    return [
        entry
        for entry in read_entries(runtime.store.folder, runtime.store.keystore)
        if isinstance(entry, StoredEvent) and entry.kind.startswith(kind)
    ]


def until(found: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until something is there."""
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Background work begins at once."""
    monkeypatch.setattr(background, "KEEP_AFTER_S", 0.01)
    monkeypatch.setattr(log_care, "ANCHOR_AFTER_S", 0.01)
    monkeypatch.setattr(log_care, "_ANCHOR_AGAIN_S_MAX", 0.1)


@pytest.mark.usefixtures("soon")
def test_checkpoints_go_out_by_themselves(start: Start, tmp_path: Path) -> None:
    """A file and the OTLP destination take them from a thread of ours; each is chained."""
    with Receiver() as receiver:
        runtime = start(
            export=receiver.endpoint,
            decisions_anchors=[f"file:{tmp_path / 'kept'}", "otlp"],
            decisions_mark=tmp_path / "mark",
        )
        until(lambda: len(events(runtime, "log.anchored")) == 2)
        assert {event.details["to"] for event in events(runtime, "log.anchored")} == {
            f"file:{tmp_path / 'kept'}",
            f"otlp:{receiver.endpoint}/v1/traces",
        }
        (span,) = [span for span in receiver.taken if span.name == "agentguard.log.checkpoint"]
        attributes = {item.key: item.value for item in span.attributes}
        note = attributes["agentguard.log.checkpoint"].string_value.encode()
        agentguard.shutdown(5.0)
    assert read_anchors(tmp_path / "kept") == [note]
    assert (tmp_path / "mark").exists()
    assert verify(runtime.store.folder, runtime.store.keystore, anchors=[note]).is_good


@pytest.mark.usefixtures("soon")
def test_an_anchor_that_fails_is_counted(start: Start, tmp_path: Path) -> None:
    """Nobody's call notices; the failure has a name and a count."""
    runtime = start(decisions_anchors=[f"file:{tmp_path / 'no' / 'folder'}"], strict=False)
    until(lambda: any(kind.startswith("audit.anchor file:") for kind in runtime.health.counts))
    assert events(runtime, "log.anchored") == []


def test_anchors_that_cannot_be(start: Start, tmp_path: Path) -> None:
    """All problems at once, when the process starts."""
    with pytest.raises(ConfigurationError) as caught:
        start(decisions_anchors=["otlp", "rfc3161:https://tsa.example"])
    assert "needs a destination" in str(caught.value)
    assert "without certificates" in str(caught.value)
    with pytest.raises(
        ConfigurationError, match="decisions_anchors is `ftp://x`, expected a list of file:PATH"
    ):
        start(decisions_anchors="ftp://x")


@pytest.mark.usefixtures("soon")
def test_what_a_crash_left_is_adopted(start: Start) -> None:
    """The next process that lives for a moment states it, and chains that it did."""
    runtime = start(RULE.format(mode="enforce"))
    with pytest.raises(agentguard.CallDenied):
        refund(60)
    runtime.journal.flush(5.0)
    file = runtime.journal._committer._file
    assert file is not None
    file.abandon()  # As a process that died lets go of it: no closing record, no checkpoint.
    runtime.journal._committer._file = None
    agentguard.shutdown(5.0)
    following = start(RULE.format(mode="enforce"))
    until(lambda: events(following, "log.adopted"))
    assert events(following, "log.adopted")[0].details["journal"] == file.journal.name
    assert verify(following.store.folder, following.store.keystore).is_good


@agentguard.tool
def refund(usd: float) -> float:
    """Send money back."""
    return usd


@pytest.mark.usefixtures("soon")
def test_old_journals_go_unless_held(start: Start) -> None:
    """By size, as by age, and not while a hold has a time in it."""
    first = start()
    agentguard.shutdown(5.0)
    hold = first.store.holds.add(reason="case", by="me", now_unix_ns=first.clock.unix_ns())
    runtime = start(decisions_bytes_max=1)
    until(lambda: runtime.background._care.look_after() is None)
    time.sleep(0.05)
    assert events(runtime, "log.pruned") == []
    first.store.holds.remove(hold.hold_id)
    runtime.background._care.look_after()
    (event,) = events(runtime, "log.pruned")
    assert event.details["reason"] == "size"
    assert [path.name for path in (runtime.store.folder / "dec").iterdir()] != []
    assert "removed as recorded" in str(verify(runtime.store.folder, runtime.store.keystore).verdicts)


def test_policies_that_are_refused(start: Start, tmp_path: Path) -> None:
    """A process that does not come up is on record, without what its documents say; a new store is not made for it."""
    with pytest.raises(PolicyDocumentError):
        start(RULE.format(mode="enforce").replace("deny", "secret-effect"))
    assert not (tmp_path / "store").exists()
    start(RULE.format(mode="enforce"))
    agentguard.shutdown(5.0)
    with pytest.raises(PolicyDocumentError):
        start(RULE.format(mode="enforce").replace("deny", "secret-effect"))
    runtime = start(RULE.format(mode="enforce"))
    (refused,) = events(runtime, "policies.refused")
    assert refused.details["error"] == "PolicyDocumentError"
    assert "test.yaml" in str(refused.details["problem"])
    assert verify(runtime.store.folder, runtime.store.keystore).is_good


def test_modes_and_exceptions_are_chained(start: Start, tmp_path: Path) -> None:
    """What is in force at the start, what a reload changes, and what ran out."""
    day = datetime.now(UTC).date()
    exception = EXCEPTION.format(name="migration", expires=day + timedelta(days=30))
    runtime = start(RULE.format(mode="shadow"), more=exception, reload_interval_s=3600)
    (loaded,) = events(runtime, "policies.loaded")
    assert loaded.details["not_enforced"] == ["PAY-1"]
    (granted,) = events(runtime, "exception.granted")
    assert granted.details == {
        **granted.details, "exception": "migration", "rule": "test/PAY-1", "by": "a@corp.example",
        "until": (day + timedelta(days=30)).isoformat(),
    }  # fmt: skip
    body = "  " + RULE.format(mode="enforce").strip("\n").replace("\n", "\n  ")
    (tmp_path / "policies" / "test.yaml").write_text(
        HEAD.format(unmatched="allow") + body + "\n" + EXCEPTION.format(name="other", expires=day)
    )
    assert runtime._reloader is not None
    until(runtime._reloader.look)
    (mode,) = events(runtime, "policies.mode")
    assert (mode.details["rule"], mode.details["before"], mode.details["mode"]) == (
        "test/PAY-1",
        "shadow",
        "enforce",
    )
    (reloaded,) = events(runtime, "policies.reloaded")
    assert reloaded.details["before"] == loaded.details["revision"]
    (ended,) = events(runtime, "exception.ended")
    assert (ended.details["exception"], ended.details["reason"]) == ("migration", "taken back")
    assert [event.details["exception"] for event in events(runtime, "exception.granted")] == [
        "migration",
        "other",
    ]
    from agentguard.runtime.chained import ran_out

    assert runtime.bundle is not None
    (out,) = ran_out(runtime.bundle, day, day + timedelta(days=1))
    assert (out[0], out[1]["exception"], out[1]["reason"]) == ("exception.ended", "other", "ran out")
    assert list(ran_out(runtime.bundle, day - timedelta(days=1), day)) == []


def test_the_key_and_the_export_are_chained(start: Start) -> None:
    """Once a process, which key opened the store; when an export begins, and what it had sent at its end."""
    with Receiver() as receiver:
        runtime = start(export=receiver.endpoint)
        with agentguard.span("a step"):
            pass
        agentguard.shutdown(10.0)
    (used,) = events(runtime, "key.used")
    assert (used.details["key_provider"], used.details["key_slot"], used.details["command"]) == (
        "file",
        1,
        "init",
    )
    (began,) = events(runtime, "export.otlp")
    assert began.details["destination"] == f"{receiver.endpoint}/v1/traces"
    (ended,) = events(runtime, "export.stopped")
    assert ended.details["sent"] == len(receiver.taken) == 1


@pytest.mark.skipif(not has_post_quantum(), reason="cryptography without ML-DSA")
def test_safeguards_of_the_settings(start: Start, tmp_path: Path) -> None:
    """A second signature on every checkpoint, and as much room kept on the disk as was asked for."""
    runtime = start(decisions_post_quantum=True, decisions_reserve_bytes=8192)
    runtime.journal.flush(5.0)
    until((tmp_path / "store" / "reserve.bin").exists)
    agentguard.shutdown(5.0)
    assert (tmp_path / "store" / "reserve.bin").stat().st_size == 8192
    ledger = (tmp_path / "store" / "log" / "ledger-00000001.agl").read_text()
    assert ledger.count("\n— ") == 2 * (ledger.count("\nseq "))


def test_a_store_that_was_set_back_is_not_written_on(start: Start, tmp_path: Path) -> None:
    """The high-water mark of the settings refuses required decisions."""
    import shutil

    mark = tmp_path / "mark"
    required = RULE.format(mode="enforce") + "  record: required\n"
    start(required, decisions_mark=mark)
    agentguard.shutdown(5.0)
    shutil.copytree(tmp_path / "store", tmp_path / "older")
    start(required, decisions_mark=mark)
    agentguard.shutdown(5.0)
    shutil.rmtree(tmp_path / "store")
    (tmp_path / "older").rename(tmp_path / "store")
    runtime = start(required, decisions_mark=mark, strict=False)
    with pytest.raises(agentguard.CallDenied):
        refund(60)
    with pytest.raises(AuditError, match="set back"):
        runtime.journal.append_event("x.y", {}, is_durable=True)
