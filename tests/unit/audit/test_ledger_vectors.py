"""Every ledger vector, read by two readers that share no code."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentguard.audit.keys import AuditKeys
from agentguard.audit.ledger_reader import read_ledger
from tests.vectors.audit.generate import keys
from tests.vectors.ledger import generate, reader

VECTORS = sorted(generate.FOLDER.glob("*.txt"))
KINDS = {
    "ledger-altered": "altered",
    "ledger-chain": "chain",
    "ledger-cut": "cut",
    "ledger-shrinks": "shrinks",
    "ledger-pruned": "pruned",
    "ledger-left-out": "left out",
}


def load(path: Path) -> tuple[dict[str, str], str]:
    """Header lines and the ledger."""
    head, _, body = path.read_text(encoding="utf-8").partition("\n\n")
    return dict(line.split(": ", 1) for line in head.split("\n")), body


def test_vectors_are_what_the_generator_writes() -> None:
    """The format has not changed by accident, and there are vectors."""
    made = generate.vectors()
    assert {path.stem for path in VECTORS} == set(made)
    assert {path.stem: load(path)[1] for path in VECTORS} == {name: one[2] for name, one in made.items()}


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_both_readers(path: Path, tmp_path: Path) -> None:
    """The reader that was written from the page alone, and ours, give the expected verdict and the same heads."""
    fields, text = load(path)
    heads = {}
    try:
        heads = reader.read(text, fields["key"], bytes.fromhex(fields["store"]))
        verdict = "success"
    except reader.Failure as failure:
        verdict = failure.args[0]
    assert verdict == fields["expect"]
    (tmp_path / "log").mkdir(mode=0o700)
    (tmp_path / "log" / "ledger-00000001.agl").write_text(text, encoding="utf-8")
    own: AuditKeys = keys()
    reading = read_ledger(tmp_path, own)
    assert [KINDS[kind] for _, kind, _, _ in reading.problems][:1] == (
        [] if verdict == "success" else [verdict]
    )
    if verdict == "success":
        stated = {name: one.last for name, one in reading.stated.items()}
        assert {n: (s.size, s.root, s.state, s.numbers) for n, s in stated.items()} == {
            name: tuple(one) for name, one in heads.items()
        }
