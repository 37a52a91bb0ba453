"""Findings: what loads and is still worth a person's eye."""

from __future__ import annotations

import datetime

import pytest

from agentguard.policy import lint, load_texts
from agentguard.policy._controls import CONTROLS
from agentguard.values import FactSpec
from tests.support.policies import bundle, document

TODAY = datetime.date(2026, 11, 22)


def codes(*documents: str) -> dict[str, list[str]]:
    """Findings but `untested`: rule ids by code."""
    found: dict[str, list[str]] = {}
    for finding in lint(bundle(*documents), today=TODAY):
        if finding.code != "untested":
            found.setdefault(finding.code, []).append(finding.rule_id)
            assert finding.text
            assert finding.place.line > 0
    return found


def test_a_rule_without_a_test_is_named() -> None:
    """Each rule is, with its place."""
    findings = lint(bundle(document("A | tool.before | args.n > 1 | deny")), today=TODAY)
    assert [(f.code, f.rule_id, f.place.line) for f in findings] == [("untested", "A", 6)]
    assert str(findings[0]).startswith("0.yaml:6:5: ")


@pytest.mark.parametrize(
    "when",
    ["tool.name == 'a' && tool.name == 'b'", "false", "tool.name in ['a'] && args.n > 1 && tool.name == 'b'",
     "false || tool.name == 'a' && tool.name in []"],
)  # fmt: skip
def test_a_rule_that_cannot_match_is_named(when: str) -> None:
    """Its terms exclude one another."""
    assert codes(document(f"A | tool.before | {when} | deny"))["unreachable"] == ["A"]


def test_tools_and_condition_that_exclude_one_another() -> None:
    """`tools:` counts as a term."""
    assert codes(document("A | tool.before | tool.name == 'a' | deny | tools: [b]"))["unreachable"] == ["A"]


def test_a_rule_behind_a_denial_of_everything_is_named() -> None:
    """And one that repeats another."""
    found = codes(
        document("A | tool.before | tool.name == 'a' | allow", "D | tool.before | true | deny",
                 "E | tool.before | args.n > 1 | deny", "F | tool.before | args.n  >  1 | deny", unmatched="deny")
    )  # fmt: skip
    assert found["unreachable"] == ["A", "F"]


def test_an_allow_without_effect_is_named() -> None:
    """Where everything is allowed anyway."""
    assert codes(document("A | tool.before | tool.name == 'a' | allow"))["no-effect"] == ["A"]


def test_kinds_of_calls_that_never_run_are_named() -> None:
    """A rule at model.before, and nothing that allows one."""
    rules = ("A | tool.before | tool.name == 'a' | allow", "M | model.before | run.calls > 9 | deny")
    assert codes(document(*rules, unmatched="deny"))["never-runs"] == [""]


def test_facts_that_the_model_wrote_are_named_where_they_relax() -> None:
    """An allow because of an argument; a denial that ends where an argument is left out."""
    allow = document("A | tool.before | tool.name == 'a' && args.approved == true | allow", unmatched="deny")
    assert codes(allow)["model-supplied"] == ["A"]
    guard = document("D | tool.before | has(args.n) && args.n > 5 | deny")
    assert codes(guard)["model-supplied"] == ["D"]
    assert "model-supplied" not in codes(document("D | tool.before | args.n > 5 | deny"))


def test_overdue_documents_are_named() -> None:
    """From the day after."""
    text = document("A | tool.before | args.n > 1 | deny")
    for day, is_overdue in (("2026-11-22", False), ("2026-11-21", True)):
        found = codes(text.replace("{ name: p }", f"{{ name: p, recertify_by: {day} }}"))
        assert ("overdue" in found) is is_overdue


def test_ids_of_two_documents_and_scopes_that_leave_gaps() -> None:
    """Ids should tell rules apart; a document should cover the rest."""
    rule = "A | tool.before | args.n > 1 | deny"
    found = codes(document(rule, scope="{ agents: [x] }"), document(rule, name="q", scope="{ agents: [y] }"))
    assert found["duplicate-id"] == ["A"]
    assert found["uncovered"] == [""]


def test_an_approval_that_nobody_can_give_is_a_note() -> None:
    """It holds calls back, which is safe, and does not count with --strict."""
    text = document(
        "H | tool.before | args.n > 1 | { require_approval: { from: ['group:owners'], expires: 1h } }"
    )
    findings = [f for f in lint(bundle(text), today=TODAY) if f.code == "no-approver"]
    assert [f.level for f in findings] == ["note"]


@pytest.mark.parametrize(
    ("when", "is_found"),
    [
        ("tool.name == 'pay' && !args.confirmed", True),
        ("tool.name == 'pay' && args.confirmed != true", True),
        ("tool.name == 'pay' && false == args.confirmed", True),
        ("tool.name == 'pay' && !has(args.reason)", True),
        ("tool.name == 'pay' && args.confirmed == true", False),
        ("tool.name == 'pay' && args.force", False),
        ("tool.name == 'pay' && !(args.to in ['a'])", False),
        ("tool.name == 'pay' && !payee.known", False),
        ("args.amount > 5 && !(tool.name == 'x')", False),
    ],
)
def test_a_models_own_word_lifts_no_rule(when: str, is_found: bool) -> None:
    """A denial that ends where an argument says yes, or is there, is named; trusted facts are not."""
    facts = [FactSpec("payee.known", "bool", "")]
    loaded = load_texts({"p.yaml": document(f"A | tool.before | {when} | deny")}, extra_facts=facts)
    found = [one for one in lint(loaded, today=TODAY) if one.code == "model-supplied"]
    assert bool(found) is is_found
    if found:
        assert "the model says so in `args." in found[0].text


def test_controls_that_a_framework_does_not_have_are_named() -> None:
    """With what may have been meant; controls of the author's own are not looked at."""
    controls = (
        "controls: [OWASP-ASI11, OWASP-LLM02, NIST-AI-RMF:MANAGE-2.9, ISO-42001:A.6.2.6, ISO-42001:6.2.6, "
        "EU-AI-Act:14, 'EU-AI-Act:26(5)', EU-AI-Act:114, OUR-7]"
    )
    loaded = bundle(document(f"A | tool.before | args.n > 1 | deny | {controls}"))
    found = [one for one in lint(loaded, today=TODAY) if one.code == "unknown-control"]
    named = [one.text.split("`")[3] for one in found]
    assert named == ["OWASP-ASI11", "NIST-AI-RMF:MANAGE-2.9", "ISO-42001:6.2.6", "EU-AI-Act:114"]
    assert found[0].hint.startswith("did you mean `OWASP-ASI")
    assert len([name for name in CONTROLS if name.startswith("NIST")]) == 72
    assert len([name for name in CONTROLS if name.startswith("ISO")]) == 38


def test_a_tool_that_is_nearly_a_declared_one_is_named() -> None:
    """Where tools are declared; others may well exist, and are not looked at."""
    schema = (
        "apiVersion: agentguard/v1\nkind: ToolSchema\nmetadata: { name: t }\n"
        "tools: { wire_transfer: { args: { n: int } } }\n"
    )
    rules = (
        "A | tool.before | tool.name == 'wire_transfr' && args.n > 1 | deny",
        "B | tool.before | tool.name == 'wire_transfer' && args.n > 1 | deny",
        "C | tool.before | tool.name == 'lookup' && args.n > 1 | deny",
        "D | tool.before | args.n > 2 | deny | tools: [wire_tranfser]",
    )
    assert codes(document(*rules), schema)["unknown-tool"] == ["A", "D"]
    assert "unknown-tool" not in codes(document(*rules))
