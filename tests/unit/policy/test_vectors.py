"""The language-neutral vectors: what is decided, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentguard.errors import PolicyDocumentError
from agentguard.policy import Engine, load_texts

FOLDER = Path(__file__).resolve().parents[2] / "vectors" / "policy"


def vectors(name: str) -> list[Any]:
    """The vectors of one file, named."""
    found = json.loads((FOLDER / name).read_text("ascii"))
    return [pytest.param(vector, id=vector["name"]) for vector in found]


@pytest.mark.parametrize("vector", vectors("decisions.json"))
def test_decision(vector: dict[str, Any]) -> None:
    """Documents and facts give this decision."""
    loaded = load_texts({f"{number}.yaml": text for number, text in enumerate(vector["documents"])})
    decision = Engine(loaded).decide(vector["point"], vector["facts"])
    expect = vector["expect"]
    assert decision.effect == expect["decision"]
    assert decision.rule_id == expect["rule"]
    assert [rule.rule_id for rule in decision.matched] == expect["matched"]
    assert len(decision.errors) == expect["errors"]
    assert list(decision.redact) == expect["redact"]
    assert decision.would_be == expect["would_be"]


@pytest.mark.parametrize("vector", vectors("refusals.json"))
def test_refusal(vector: dict[str, Any]) -> None:
    """A wrong document gives these problems, at these places."""
    with pytest.raises(PolicyDocumentError) as caught:
        load_texts({"p.yaml": vector["document"]})
    found = [{"line": p.line, "column": p.column, "code": p.code} for p in caught.value.problems]
    assert found == vector["expect"]
    assert found
