"""Every decision-log vector, read by two readers that share no code."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from agentguard.audit import Question
from agentguard.audit.records import StoredDecision, decode
from agentguard.audit.verification import verify
from tests.vectors.audit import generate, reader

VECTORS = sorted(generate.FOLDER.glob("*.txt"))


def load(path: Path) -> tuple[dict[str, str], bytes]:
    """Header lines and the journal."""
    head, _, body = path.read_text().partition("\n\n")
    return dict(line.split(": ", 1) for line in head.split("\n")), base64.b64decode(body)


def test_vectors_are_what_the_generator_writes() -> None:
    """The format has not changed by accident."""
    made = generate.vectors()
    assert {path.stem for path in VECTORS} == set(made)
    for path in VECTORS:
        assert load(path)[1] == made[path.stem][3], path.stem


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_second_reader(path: Path) -> None:
    """The reader that was written from the page alone gives the expected verdict."""
    fields, data = load(path)
    try:
        reader.read(data, bytes.fromhex(fields["root"]), bytes.fromhex(fields["store"]))
        verdict = "success"
    except reader.Failure as failure:
        verdict = failure.args[0]
    assert verdict == fields["expect"]


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_verify(path: Path, tmp_path: Path) -> None:
    """Our own verification agrees on good and bad."""
    fields, data = load(path)
    (tmp_path / "dec").mkdir(mode=0o700)
    (tmp_path / "dec" / f"{generate.WRITER.hex()}-0.agd").write_bytes(data)
    report = verify(tmp_path, generate.Keys(bytes.fromhex(fields["root"])))  # type: ignore[arg-type]
    kinds = {f.kind for line in report.verdicts for f in line.findings if f.question is not Question.GAPS}
    kinds -= {"unanchored", "journal-unstated", "ledger-cut", "no-outcome"}
    expected = {
        "success": set(),
        "truncated": {"torn"},
        "header failure": {"header"},
        "no key": {"header"},
        "damaged": {"damaged"},
        "decode failure": {"undecodable"},
    }
    if fields["expect"] == "tampered":
        assert kinds & {"altered", "mac", "removed", "moved", "repeated"}
    elif path.stem == "cut-header":
        assert kinds == {"unborn"}
    else:
        assert kinds == expected[fields["expect"]], path.stem


def test_roots_agree(tmp_path: Path) -> None:
    """Both readers compute the same root, which is what checkpoints state."""
    _, data = load(generate.FOLDER / "batch.txt")
    records, root = reader.read(data, generate.ROOT, generate.STORE_ID)
    assert [record["kind"] for record in records] == ["journal.open", *["decision"] * 10]
    from agentguard.audit import format as layout
    from agentguard.audit.tree import root_hash

    leaves = []
    for frame in layout.scan(data):
        assert isinstance(frame, layout.Frame)
        leaves += frame.leaves
    assert root_hash(leaves) == root


def test_short_records_say_the_same_to_both() -> None:
    """What a short record and its form say together."""
    _, data = load(generate.FOLDER / "short.txt")
    records, _ = reader.read(data, generate.ROOT, generate.STORE_ID)
    made = (generate.short(4, outcome="error", principal="käthe"), generate.short(5))
    for fields, own in zip((records[1], records[3]), made, strict=True):
        stored = decode(own.whole, journal="j-0", index=0)
        assert isinstance(stored, StoredDecision)
        record = stored.record
        plain = record._asdict() | {"decision": None}
        assert {**plain, **fields, "decision": None} == plain | {"v": 1, "kind": "decision", "facts": "1"}
        assert record.decision.effect.value == fields["decision"]["effect"]
        assert record.call_id == record.decision_id == fields["call_id"]
