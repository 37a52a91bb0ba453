"""The corpus of single mistakes, as `benchmarks/fail_open.py` shows it beside other engines: ours opens nothing."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def corpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The benchmark as a module; other engines need not be installed."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module("fail_open")
    for name in ("fail_open", "policy_rivals"):
        sys.modules.pop(name, None)


def test_no_mistake_opens_anything(corpus: ModuleType) -> None:
    """Each is refused, or denies, or changes nothing; and a policy without a mistake answers as intended."""
    (ours,) = [rival for rival in corpus.RIVALS if rival.distribution == "agentguard"]
    ask = ours.load(ours.text)
    for facts, may in corpus.CALLS.values():
        assert ask({**corpus.NOBODY, **facts})() is may
    tried = 0
    for make in corpus.MISTAKES.values():
        for text in dict.fromkeys(make(ours)):
            tried += 1
            assert corpus.of_policy(ours, text) != corpus.OPENED, corpus._changed(ours.text, text)
    assert tried > 400
    found = corpus.of_facts(ours)
    assert found[corpus.OPENED] == 0
    assert found[corpus.DENIED] > 200


def test_the_page_says_the_same(corpus: ModuleType) -> None:
    """The table in the docs has a row for every engine, and ours has no mistake that opened it."""
    page = (ROOT / "docs" / "explanation" / "failing-closed.md").read_text("utf-8")
    made = page.partition(corpus.BEGIN)[2].partition(corpus.END)[0]
    for rival in corpus.RIVALS:
        assert re.search(rf"^\| {re.escape(rival.name)} [0-9][^|]* \|", made, re.MULTILINE), rival.name
    ours = next(line for line in made.split("\n") if line.startswith("| agentguard "))
    assert "| **0** (0.0%) |" in ours
