"""SARIF, JUnit and annotations hold what was found, whatever stands in it."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

from agentguard.review import Case, Notice, github, junit, sarif

HOSTILE = "a\n::error::<b>&\"'\x00\x1b[31m%25,:"
NOTICES = [
    Notice("policies/a.yaml", 3, 7, "error", "unknown-field", "unknown field `x`", "did you mean `y`?"),
    Notice(HOSTILE, 0, 0, "warning", "untested", HOSTILE),
    Notice("b.yaml", 1, 1, "note", "no-approver", "nobody"),
]


def test_sarif_names_rule_level_and_place() -> None:
    """The parts that code scanning reads."""
    document = json.loads(json.dumps(sarif(NOTICES, version="1.0")))
    (run,) = document["runs"]
    assert document["version"] == "2.1.0"
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == [
        "no-approver",
        "unknown-field",
        "untested",
    ]
    first, second, third = run["results"]
    assert first["locations"][0]["physicalLocation"]["region"] == {"startLine": 3, "startColumn": 7}
    assert "region" not in second["locations"][0]["physicalLocation"]
    assert [result["level"] for result in run["results"]] == ["error", "warning", "note"]
    assert first["message"]["text"] == "unknown field `x` (hint: did you mean `y`?)"
    assert run["tool"]["driver"]["rules"][third["ruleIndex"]]["id"] == "no-approver"


def test_junit_is_xml_whatever_is_in_it() -> None:
    """Characters that XML cannot hold are replaced."""
    text = junit([Case("t", "passes"), Case(HOSTILE, HOSTILE, HOSTILE)], suite="s")
    suite = ET.fromstring(text)
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert suite[1].get("name") is not None
    assert len(suite[1]) == 1


def test_annotations_are_one_line_each() -> None:
    """No text can begin a command of its own."""
    lines = github(NOTICES)
    assert lines[0] == (
        "::error file=policies/a.yaml,line=3,col=7,title=unknown-field::unknown field `x` (hint: did you mean `y`?)"
    )
    assert all("\n" not in line for line in lines)
    assert lines[2].startswith("::notice ")
