"""The starter policies: they load, pass, are free of findings, and their cases kill mutants."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator

import pytest

from agentguard.errors import PolicyDocumentError
from agentguard.policy import lint, load_bundle, load_texts
from agentguard.review import run_tests
from tests.support.policies import STARTERS, starters

TODAY = datetime.date(2026, 11, 22)
_OPERATORS = ((" && ", " || "), (" || ", " && "), (" >= ", " > "), (" > ", " >= "), (" <= ", " < "), (" < ", " <= "),
              (" == ", " != "), ("!(", "("))  # fmt: skip
_EFFECTS = (("then: deny", "then: warn"), ("then: warn", "then: deny"), ("then: allow", "then: deny"),
            ("then: { deny: { kind", "then: { deny: { kid"))[:3]  # fmt: skip


def test_starters_load_pass_and_have_no_findings() -> None:
    """All together, as `policy check --strict` and `policy test` see them."""
    loaded = load_bundle([STARTERS])
    assert run_tests(loaded).is_passed
    assert [finding for finding in lint(loaded, today=TODAY) if finding.level != "note"] == []
    for policy in loaded.policies:
        assert policy.title
        assert all(rule.controls or rule.id.startswith("DRF") for rule in policy.rules)


def mutants() -> Iterator[tuple[str, str, str]]:
    """Each starter with one operator, limit or effect changed: path, what, text."""
    for path, text in starters().items():
        lines = text.split("\n")
        in_when = False
        for number, line in enumerate(lines):
            starts = line.strip().startswith("when:")
            in_when = starts or (in_when and not re.match(r" *[a-z]+:", line))
            changes = list(_OPERATORS) if in_when else [pair for pair in _EFFECTS if pair[0] in line]
            for old, new in changes:
                for found in re.finditer(re.escape(old), line):
                    wrong = [*lines]
                    wrong[number] = line[: found.start()] + new + line[found.end() :]
                    yield path, f"{number + 1}: {old.strip()} as {new.strip()}", "\n".join(wrong)
            found = re.fullmatch(r"  ([a-z_]+): ([0-9]+(?:\.[0-9]+)?)", line)
            if found:
                moved = float(found[2]) * 2 if "." in found[2] else int(found[2]) + 1
                wrong = [*lines]
                wrong[number] = f"  {found[1]}: {moved}"
                yield path, f"{number + 1}: {found[1]} as {moved}", "\n".join(wrong)


MUTANTS = list(mutants())


@pytest.mark.parametrize(
    ("path", "what", "text"), MUTANTS, ids=[f"{path}:{what}" for path, what, _ in MUTANTS]
)
def test_a_mutant_is_killed(path: str, what: str, text: str) -> None:
    """A changed rule does not load, or fails a case."""
    tests = (STARTERS / path.replace(".yaml", ".test.yaml")).read_text("utf-8")
    try:
        loaded = load_texts({"p.yaml": text, "t.yaml": tests})
    except PolicyDocumentError:
        return
    assert not run_tests(loaded).is_passed, what
