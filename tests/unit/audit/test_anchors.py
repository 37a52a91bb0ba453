"""Anchors: what is kept elsewhere, where it may go, and that it tells of a store set back."""

from __future__ import annotations

import http.server
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentguard.audit import (
    Anchor,
    Answer,
    DecisionJournal,
    FileAnchor,
    HookAnchor,
    Question,
    Receipts,
    TimestampAnchor,
    WebhookAnchor,
    check_timestamp,
    make_anchor,
    posting,
    read_anchors,
    read_decisions,
    verify,
)
from agentguard.audit.disk import Safeguards
from agentguard.errors import AuditError
from agentguard.seal import Keystore
from tests.support.clock import FrozenClock
from tests.support.decisions import SLOW, decision, make_keystore, raise_it, write_log

Log = tuple[Path, Keystore]


@pytest.fixture
def anchored(log: Log) -> tuple[Log, bytes]:
    """A log of two journals and an anchor over both."""
    write_log(*log, range(5))
    write_log(*log, range(10, 13))
    return log, make_anchor(*log, FrozenClock()).note


class Server:
    """A server on loopback that keeps what was posted, and answers as told."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.status = 200
        self.answer = b""
        self.location = ""
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                answer = outer.reply(outer.bodies[-1])
                self.send_response(outer.status)
                if outer.location:
                    self.send_header("Location", outer.location)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/log"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def reply(self, body: bytes) -> bytes:
        return self.answer

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    """A server for one test."""
    server = Server()
    yield server
    server.close()


def test_an_anchor_verifies(anchored: tuple[Log, bytes]) -> None:
    """An untouched log keeps what its anchor states, and says up to when."""
    log, note = anchored
    report = verify(*log, anchors=[note])
    assert report.is_good
    assert "complete up to anchor 6 of 20" in report.of(Question.COMPLETENESS).sentence
    write_log(*log, range(20, 22))
    assert verify(*log, anchors=[note, make_anchor(*log, FrozenClock()).note]).is_good


def test_a_store_set_back_whole(log: Log, tmp_path: Path) -> None:
    """Without an anchor an older copy of the whole store passes; with it, it does not."""
    write_log(*log, range(5))
    shutil.copytree(log[0], tmp_path / "older")
    write_log(*log, range(10, 13))
    note = make_anchor(*log, FrozenClock()).note
    for folder in ("dec", "log"):
        shutil.rmtree(log[0] / folder)
        shutil.copytree(tmp_path / "older" / folder, log[0] / folder)
    assert verify(*log).is_good
    report = verify(*log, anchors=[note])
    line = report.of(Question.COMPLETENESS)
    assert line.answer is Answer.BAD
    assert {finding.kind for finding in line.findings} == {"rolled-back", "journal-missing"}
    assert [v.question for v in report.verdicts if v.answer is Answer.BAD] == [Question.COMPLETENESS]


def test_a_journal_set_back_with_its_ledger(log: Log, tmp_path: Path) -> None:
    """A journal that is put back while its writer lived, ledger included: the records that are gone are named."""
    journal = write_log(*log, range(3), close=False)
    journal._committer.checkpoint()
    shutil.copytree(log[0], tmp_path / "older")
    for number in range(10, 14):
        journal.append(decision(number))
    assert journal.close(5.0)
    note = make_anchor(*log, FrozenClock()).note
    for folder in ("dec", "log"):
        shutil.rmtree(log[0] / folder)
        shutil.copytree(tmp_path / "older" / folder, log[0] / folder)
    line = verify(*log, anchors=[note]).of(Question.COMPLETENESS)
    assert {"rolled-back", "tail-cut"} <= {finding.kind for finding in line.findings}


def test_another_history_under_the_same_key(log: Log, tmp_path: Path) -> None:
    """Set back, then written on differently by somebody with all keys: the anchor's roots and entry differ."""
    journal = write_log(*log, range(3), close=False)
    journal._committer.checkpoint()
    shutil.copytree(log[0], tmp_path / "older")
    assert journal.close(5.0)
    note = make_anchor(*log, FrozenClock()).note
    for folder in ("dec", "log"):
        shutil.rmtree(log[0] / folder)
        shutil.copytree(tmp_path / "older" / folder, log[0] / folder)
    for _ in range(4):
        write_log(*log, range(10, 13))
    report = verify(*log, anchors=[note])
    assert "forked" in {finding.kind for finding in report.of(Question.APPEND_ONLY).findings}
    assert report.of(Question.COMPLETENESS).answer is Answer.BAD


def test_anchors_of_others_say_nothing(anchored: tuple[Log, bytes], tmp_path: Path) -> None:
    """A note of another store, or an altered one, is refused, and not taken for a finding."""
    log, note = anchored
    other = tmp_path / "other"
    other.mkdir()
    theirs = make_keystore(other)
    write_log(*theirs, range(2))
    for wrong in (make_anchor(*theirs, FrozenClock()).note, note.replace(b"seq", b"sep"), b"", b"text"):
        with pytest.raises(AuditError, match="anchor"):
            verify(*log, anchors=[wrong])


def test_a_file_of_anchors(log: Log, tmp_path: Path) -> None:
    """Notes are appended, and all are read."""
    path = tmp_path / "anchors"
    for number in range(3):
        write_log(*log, range(number * 10, number * 10 + 2))
        FileAnchor(path).keep(make_anchor(*log, FrozenClock()))
    notes = read_anchors(path)
    assert len(notes) == 3
    assert verify(*log, anchors=notes).is_good
    path.write_bytes(notes[1])  # One note alone, as it was posted somewhere.
    assert read_anchors(path) == [notes[1]]
    path.write_bytes(b"nothing")
    with pytest.raises(AuditError, match="no checkpoint"):
        read_anchors(path)
    with pytest.raises(AuditError, match="cannot be read"):
        read_anchors(tmp_path / "absent")


def test_a_hook(anchored: tuple[Log, bytes]) -> None:
    """A function takes the value, with attributes that a trace backend keeps; its failure is told."""
    log, _ = anchored
    taken: list[Anchor] = []
    made = make_anchor(*log, FrozenClock())
    HookAnchor("otlp", taken.append).keep(made)
    attributes = taken[0].attributes()
    assert attributes["agentguard.log.records"] == 7 + 5
    assert str(attributes["agentguard.log.checkpoint"]).encode() == made.note
    with pytest.raises(AuditError, match="otlp: not taken"):
        HookAnchor("otlp", lambda anchor: 1 / 0).keep(made)


def test_a_webhook(anchored: tuple[Log, bytes], server: Server) -> None:
    """The note is posted as it is; what is not a 2xx answer is a failure, a redirect too."""
    log, _ = anchored
    made = make_anchor(*log, FrozenClock())
    WebhookAnchor(server.url).keep(made)
    assert server.bodies == [made.note]
    server.status, server.location = 302, server.url
    with pytest.raises(AuditError, match="status 302"):
        WebhookAnchor(server.url).keep(made)
    assert len(server.bodies) == 2
    server.status, server.location, server.answer = 200, "", b"x" * (posting.RESPONSE_BYTES_MAX + 1)
    with pytest.raises(AuditError, match="more than"):
        WebhookAnchor(server.url).keep(made)


@pytest.mark.parametrize(
    ("url", "address", "words"),
    [
        ("https://metadata.example/x", "169.254.169.254", "link-local"),
        ("https://metadata.example/x", "::ffff:169.254.169.254", "link-local"),
        ("https://here.example/x", "fe80::1", "link-local"),
        ("https://many.example/x", "224.0.0.1", "link-local or belongs to nobody"),
        ("https://none.example/x", "0.0.0.0", "link-local or belongs to nobody"),
        ("http://other.example/x", "192.0.2.7", "expected `https`"),
        ("ftp://other.example/x", "", "expected `https://host/path`"),
        ("https://user:secret@other.example/x", "", "without user and password"),
        ("https:///x", "", "expected `https://host/path`"),
        ("https://other.example:99999/x", "", "port"),
    ],
)
def test_addresses_that_are_refused(
    anchored: tuple[Log, bytes], monkeypatch: pytest.MonkeyPatch, url: str, address: str, words: str
) -> None:
    """Judged after the name is resolved, before anything is sent; no secret of the address is told."""
    log, _ = anchored

    def resolve(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(posting.socket, "getaddrinfo", resolve)
    monkeypatch.setattr(posting.socket, "create_connection", lambda *_: pytest.fail("it connected"))
    with pytest.raises(AuditError, match=words) as caught:
        WebhookAnchor(url).keep(make_anchor(*log, FrozenClock()))
    assert "secret" not in str(caught.value)


def test_the_address_that_was_looked_at_is_used(
    anchored: tuple[Log, bytes], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that resolves to something else the second time gains nothing."""
    log, _ = anchored
    port = int(server.url.split(":")[2].split("/")[0])
    answers = iter(["127.0.0.1", "169.254.169.254"])
    monkeypatch.setattr(
        posting.socket,
        "getaddrinfo",
        lambda host, port, *args, **_: [
            (
                socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (next(answers) if host == "twice.example" else host, port),
            )
        ],
    )
    WebhookAnchor(f"http://twice.example:{port}/x").keep(make_anchor(*log, FrozenClock()))
    assert len(server.bodies) == 1


def tsa(folder: Path) -> Path:
    """Make a time-stamping authority with its own root; returns the PEM of the root."""
    config = folder / "tsa.cnf"
    config.write_text(
        f"""
[req]
distinguished_name = dn
prompt = no
[dn]
CN = test
[ca]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
[stamp]
extendedKeyUsage = critical,timeStamping
keyUsage = critical,digitalSignature
[tsa]
default_tsa = one
[one]
serial = {folder}/serial
signer_cert = {folder}/tsa.pem
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4
digests = sha256,sha384,sha512
ess_cert_id_alg = sha256
""",
        encoding="utf-8",
    )
    (folder / "serial").write_text("01\n")

    def run(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "root.key", "-out", "root.pem",
        "-config", "tsa.cnf", "-extensions", "ca", "-subj", "/CN=root", "-days", "3650")  # fmt: skip
    run(
        "req",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "tsa.key",
        "-out",
        "tsa.csr",
        "-config",
        "tsa.cnf",
        "-subj",
        "/CN=tsa",
    )
    run("x509", "-req", "-in", "tsa.csr", "-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial",
        "-out", "tsa.pem", "-extfile", "tsa.cnf", "-extensions", "stamp", "-days", "3650")  # fmt: skip
    return folder / "root.pem"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command as the authority")
def test_a_time_stamp(
    anchored: tuple[Log, bytes], server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A local authority stamps the note; another note, root, or nonce is refused."""
    pytest.importorskip("rfc3161_client", reason="needs the extra `timestamps`")
    log, _ = anchored
    authority = tmp_path / "tsa"
    authority.mkdir()
    root = tsa(authority)

    def stamp(query: bytes) -> bytes:
        (authority / "query").write_bytes(query)
        subprocess.run(
            ["openssl", "ts", "-reply", "-config", "tsa.cnf", "-queryfile", "query", "-out", "reply"],
            cwd=authority, check=True, capture_output=True,
        )  # fmt: skip
        return (authority / "reply").read_bytes()

    monkeypatch.setattr(server, "reply", stamp)
    made = make_anchor(*log, FrozenClock())
    receipts = tmp_path / "receipts"
    receipts.mkdir()
    sink = TimestampAnchor(server.url, receipts, roots=root)
    receipt = sink.keep(made)
    assert sorted(path.suffix for path in receipts.iterdir()) == [".checkpoint", ".tsr"]
    note = next(receipts.glob("*.checkpoint")).read_bytes()
    check_timestamp(receipt, note, roots=root)
    assert verify(*log, anchors=[note]).is_good
    with pytest.raises(AuditError, match="not right"):
        check_timestamp(receipt, note + b"x", roots=root)
    with pytest.raises(AuditError, match="not right"):
        check_timestamp(b"nothing", note, roots=root)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with pytest.raises(AuditError, match="not right"):
        check_timestamp(receipt, note, roots=tsa(elsewhere))
    # What a running process keeps of it is checked with the log, against the certificates that are named.
    kept = TimestampAnchor(server.url, roots=root)
    Receipts(log[0]).keep(made, kept.name, kept.keep(made), 1)
    assert "stamped" not in verify(*log).of(Question.COMPLETENESS).sentence
    sentence = verify(*log, roots=root).of(Question.COMPLETENESS).sentence
    assert f"anchor {made.checkpoint.sequence} stamped at 20" in sentence
    assert f"by {kept.name}" in sentence
    report = verify(*log, roots=elsewhere / "root.pem")
    assert report.of(Question.INTEGRITY).findings[0].kind == "receipt"
    # An answer to another question is not taken.
    monkeypatch.setattr(server, "reply", lambda _: receipt)
    with pytest.raises(AuditError, match="not right"):
        sink.keep(make_anchor(*log, FrozenClock()))


def open_marked(log: Log, mark: Path) -> DecisionJournal:
    """Open a journal with a high-water mark."""
    return DecisionJournal.open(
        log[0],
        keystore=log[1],
        clock=FrozenClock(),
        on_internal_error=lambda where, error: None,
        limits=SLOW,
        safeguards=Safeguards(mark=mark),
    )


def test_the_high_water_mark(log: Log, tmp_path: Path) -> None:
    """A store put back from a backup is not written on, until somebody says that this is meant."""
    mark = tmp_path / "mark"
    journal = open_marked(log, mark)
    journal.append(decision(1))
    assert journal.close(5.0)
    shutil.copytree(log[0], tmp_path / "older")
    journal = open_marked(log, mark)
    journal.append(decision(2))
    assert journal.close(5.0)
    for folder in ("dec", "log"):
        shutil.rmtree(log[0] / folder)
        shutil.copytree(tmp_path / "older" / folder, log[0] / folder)
    journal = open_marked(log, mark)
    with pytest.raises(AuditError, match="set back to an earlier state"):
        journal.append(decision(3))
    journal.close(1.0)
    assert not verify(*log, anchors=read_anchors(mark)).is_good
    mark.unlink()
    journal = open_marked(log, mark)
    journal.append(decision(4))
    assert journal.close(5.0)
    assert [entry.record.decision_id[-1] for entry in read_decisions(*log)] == ["1", "4"]


@pytest.mark.parametrize("content", [b"", b"garbage", b"a\n\nb"])
def test_a_mark_that_is_none(log: Log, tmp_path: Path, content: bytes) -> None:
    """A mark that a power cut emptied is as good as none."""
    mark = tmp_path / "mark"
    mark.write_bytes(content)
    journal = open_marked(log, mark)
    journal.append(decision(1))
    assert journal.close(5.0)
    assert len(read_anchors(mark)) == 1


def test_post_quantum_journals(log: Log) -> None:
    """With the second signature asked for every entry carries it, and the log verifies."""
    journal = DecisionJournal.open(
        log[0],
        keystore=log[1],
        clock=FrozenClock(),
        on_internal_error=raise_it,
        limits=SLOW,
        safeguards=Safeguards(post_quantum=True),
    )
    journal.append(decision(1))
    assert journal.close(5.0)
    assert (log[0] / "log" / "ledger-00000001.agl").read_text().count("\n— ") == 2 * 3
    assert verify(*log).is_good
