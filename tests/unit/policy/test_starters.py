"""The starter policies: they load, pass, are free of findings, and their cases notice changes."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator

import pytest

from agentguard.policy import lint, load_bundle, load_texts
from agentguard.review import coverage, mutate, run_tests
from tests.support.policies import STARTERS, starters

TODAY = datetime.date(2026, 11, 22)


def test_starters_load_pass_and_have_no_findings() -> None:
    """All together, as `policy check --strict` and `policy test` see them."""
    loaded = load_bundle([STARTERS])
    assert run_tests(loaded).is_passed
    assert [finding for finding in lint(loaded, today=TODAY) if finding.level != "note"] == []
    for policy in loaded.policies:
        assert policy.title
        assert all(rule.controls or rule.id.startswith("DRF") for rule in policy.rules)


def test_the_cases_notice_changes() -> None:
    """Every rule is reached, and hardly a changed operator, limit, term, effect or default goes unnoticed."""
    loaded = load_bundle([STARTERS])
    assert [one.rule.id for one in coverage(loaded, run_tests(loaded)) if not one.is_covered] == []
    report = mutate(loaded)
    assert report.killed > 200
    assert report.score >= 0.95, [f"{m.policy} {m.rule_id}: {m.what}" for m in report.survived]


def variables() -> Iterator[tuple[str, str, str]]:
    """Each starter with one constant moved: path, what, text."""
    for path, text in starters().items():
        lines = text.split("\n")
        for number, line in enumerate(lines):
            found = re.fullmatch(r"  ([a-z_]+): ([0-9]+(?:\.[0-9]+)?)", line)
            if found:
                moved = float(found[2]) * 2 if "." in found[2] else int(found[2]) + 1
                wrong = [*lines]
                wrong[number] = f"  {found[1]}: {moved}"
                yield path, f"{found[1]} as {moved}", "\n".join(wrong)


MOVED = list(variables())


@pytest.mark.parametrize(("path", "what", "text"), MOVED, ids=[f"{path}:{what}" for path, what, _ in MOVED])
def test_a_moved_constant_is_noticed(path: str, what: str, text: str) -> None:
    """All rules that read it with it."""
    tests = (STARTERS / path.replace(".yaml", ".test.yaml")).read_text("utf-8")
    loaded = load_texts({"p.yaml": text, "t.yaml": tests})
    assert not run_tests(loaded).is_passed, what
