"""Loading: files and folders, all problems at once, places, and what ties documents together."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from agentguard.errors import PolicyDocumentError, PolicyProblem
from agentguard.policy import Engine, load_bundle, load_texts
from agentguard.values import FactSpec
from tests.support.policies import STARTERS, bundle, call, document

GOOD = document("D | tool.before | args.n > 10 | deny")
PEOPLE = """\
apiVersion: agentguard/v1
kind: Approvers
metadata: { name: people }
groups:
  owners: [{ id: ann@corp.example, public_key: "ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" }]
"""
SCHEMA = """\
apiVersion: agentguard/v1
kind: ToolSchema
metadata: { name: tools }
tools:
  refund: { args: { amount_usd: double, order_id: string } }
"""


def problems(texts: dict[str, str | bytes]) -> list[PolicyProblem]:
    """What the loader says of documents in memory."""
    with pytest.raises(PolicyDocumentError) as caught:
        load_texts(texts)
    return list(caught.value.problems)


def test_a_folder_is_read_with_its_subfolders(tmp_path: Path) -> None:
    """*.yaml and *.yml, hidden names and other files left out."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.yaml").write_text(document("A | tool.before | true | warn", name="a"))
    (tmp_path / "sub" / "b.YML").write_text(document("B | tool.before | true | warn", name="b"))
    (tmp_path / ".hidden.yaml").write_text("nonsense: [")
    (tmp_path / "notes.txt").write_text("nonsense: [")
    loaded = load_bundle([tmp_path, tmp_path / "a.yaml"])
    assert [policy.name for policy in loaded.policies] == ["a", "b"]
    assert len(loaded.paths) == 2


def test_all_problems_of_a_folder_come_at_once(tmp_path: Path) -> None:
    """Every file and every rule is looked at, in order of place."""
    (tmp_path / "a.yaml").write_text(GOOD.replace("deny", "dney").replace("args.n", "arg.n"))
    (tmp_path / "b.yaml").write_text("a: [")
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe")
    (tmp_path / "d.yaml").write_text("")
    (tmp_path / "e.yaml").write_text(GOOD.replace("name: p", "name: q"))
    with pytest.raises(PolicyDocumentError) as caught:
        load_bundle([tmp_path])
    assert [(Path(p.path).name, p.line) for p in caught.value.problems] == [
        ("a.yaml", 9), ("a.yaml", 10), ("b.yaml", 1), ("c.yaml", 1), ("d.yaml", 1)
    ]  # fmt: skip
    assert str(caught.value).endswith("(and 4 more)")
    copy = pickle.loads(pickle.dumps(caught.value.problems[0]))
    assert str(copy) == str(caught.value.problems[0])


def test_the_message_has_place_excerpt_caret_and_hint() -> None:
    """As a compiler would say it."""
    (found,) = problems({"policies/fin.yaml": GOOD.replace("args.n > 10", "cost.usd_tody > 10.0")})
    assert str(found).startswith("policies/fin.yaml:9:12: unknown name `cost.usd_tody`")
    line, caret = found.excerpt.split("\n")
    assert line[caret.index("^") :].startswith("cost.usd_tody")
    assert found.hint == "did you mean `cost.usd_today`?"


@pytest.mark.parametrize(
    ("when", "line", "column"),
    [
        ("    when: args.n > 1 && cost.x > 1\n", 9, 25),
        ("    when: 'args.n > 1 && cost.x > 1'\n", 9, 26),
        ('    when: "args.n > 1 && cost.x > 1"\n', 9, 26),
        ("    when: 'args.s == ''it'' && cost.x > 1'\n", 9, 32),
        ("    when: |\n      args.n > 1\n      && cost.x > 1\n", 11, 10),
        ("    when: |\n\n      args.n > 1\n        && cost.x > 1\n", 12, 12),
        ("    when: >-\n      args.n > 1 &&\n      cost.x > 1\n", 11, 7),
        ("    when: args.n > 1 &&\n      cost.x > 1\n", 10, 7),
        ("    when: \"args.s == 'a\\tb' && cost.x > 1\"\n", 9, 11),
    ],
)
def test_a_caret_stands_under_its_place_in_every_style(when: str, line: int, column: int) -> None:
    """Plain, quoted, literal and folded text; with escapes, at the beginning of the text."""
    text = GOOD.replace("    when: 'args.n > 10'\n", when)
    (found,) = problems({"p.yaml": text})
    assert (found.line, found.column) == (line, column)


def test_yaml_words_of_old_stay_text() -> None:
    """`on`, `no` and `12:30` are text in YAML 1.2."""
    text = GOOD.replace(
        "rules:", "vars: { a: on, b: no, c: 12:30, d: 1_000, e: 0o17, f: 1e3, g: ~x }\nrules:"
    )
    assert bundle(text).policies[0].variables == {
        "a": "on", "b": "no", "c": "12:30", "d": "1_000", "e": 15, "f": 1000.0, "g": "~x"
    }  # fmt: skip


def test_several_documents_in_one_file() -> None:
    """Each is read; a mistake in one names its line."""
    loaded = load_texts({"all.yaml": GOOD + "---\n" + PEOPLE + "---\n" + SCHEMA})
    assert set(loaded.approvers) == {"group:owners", "ann@corp.example"}
    assert loaded.tool_schemas == {"refund": {"amount_usd": "double", "order_id": "string"}}
    (found,) = problems(
        {"all.yaml": GOOD + "---\n" + GOOD.replace("name: p", "name: q").replace("deny", "dny")}
    )
    assert found.line == 21


@pytest.mark.parametrize("kind", ["missing", "empty", "no policy", "fifo", "link out", "folder link", "loop"])
def test_what_is_no_policy_folder_is_an_error(tmp_path: Path, kind: str) -> None:
    """Nothing configured is ever read as nothing to enforce."""
    folder = tmp_path / "policies"
    folder.mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x.yaml").write_text(GOOD)
    path = folder
    code = {
        "missing": "unreadable",
        "empty": "empty-folder",
        "no policy": "no-policy",
        "fifo": "unreadable",
    }.get(kind, "symlink")
    if kind == "missing":
        path = tmp_path / "nowhere"
    elif kind == "no policy":
        (folder / "people.yaml").write_text(PEOPLE)
    elif kind == "fifo":
        os.mkfifo(folder / "pipe.yaml")
    elif kind == "link out":
        (folder / "x.yaml").symlink_to(tmp_path / "outside" / "x.yaml")
    elif kind == "folder link":
        (folder / "sub").symlink_to(tmp_path / "outside", target_is_directory=True)
        (folder / "a.yaml").write_text(GOOD)
    elif kind == "loop":
        (folder / "again").symlink_to(folder, target_is_directory=True)
        (folder / "a.yaml").write_text(GOOD)
    with pytest.raises(PolicyDocumentError) as caught:
        load_bundle([path])
    assert caught.value.problems[0].code == code


def test_an_unreadable_file_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where only one of many cannot be read."""
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text(GOOD)
    opened = os.open

    def refuse(path: object, *args: int, **more: int) -> int:
        if str(path).endswith("b.yaml"):
            raise PermissionError(13, "Permission denied")
        return opened(path, *args, **more)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(PolicyDocumentError, match="cannot be read: Permission denied"):
        load_bundle([tmp_path])


def test_a_configuration_map_with_linked_files_loads(tmp_path: Path) -> None:
    """Mounted files are links to a hidden folder beside them."""
    hidden = tmp_path / "..data"
    hidden.mkdir()
    (hidden / "p.yaml").write_text(GOOD)
    (tmp_path / "p.yaml").symlink_to(hidden / "p.yaml")
    assert len(load_bundle([tmp_path]).policies) == 1


def test_the_revision_is_of_the_content() -> None:
    """Names of files, comments, layout and tests do not change it; a limit does."""
    first = load_texts({"a.yaml": GOOD}).revision
    assert len(first) == 64
    assert load_texts({"b.yaml": "# new\n" + GOOD.replace("{ name: p }", "\n  name: p")}).revision == first
    assert load_texts({"a.yaml": GOOD.replace("10", "11")}).revision != first
    people = load_texts({"a.yaml": GOOD, "b.yaml": PEOPLE}).revision
    assert people != first


def test_arguments_are_typed_by_the_schema_of_their_tool() -> None:
    """Undeclared arguments and wrong types do not load where the tool is known."""
    for when, code in (
        ("tool.name == 'refund' && args.amont_usd > 1.0", "unknown"),
        ("tool.name == 'refund' && args.order_id > 1.0", "type"),
    ):
        found = problems({"p.yaml": document(f"R | tool.before | {when} | deny"), "s.yaml": SCHEMA})
        assert code in found[0].code
    fine = document("R | tool.before | tool.name == 'refund' && args.amount_usd > 1 | deny")
    assert not Engine(bundle(fine, SCHEMA)).decide("tool.before", call(args={"amount_usd": 2.0})).is_allowed
    listed = document("R | tool.before | args.amont > 1 | deny | tools: [refund]")
    assert problems({"p.yaml": listed, "s.yaml": SCHEMA})[0].hint == "did you mean `amount_usd`?"
    unknown_tool = document("R | tool.before | tool.name == 'other' && args.anything > 1 | deny")
    assert bundle(unknown_tool, SCHEMA).rules


def test_approvers_are_checked_where_they_are_declared() -> None:
    """Unknown groups, too few people, one key for two people."""
    held = document("H | tool.before | true | { require_approval: { from: ['group:ownrs'], expires: 1h } }")
    (found,) = problems({"p.yaml": held, "a.yaml": PEOPLE})
    assert (found.code, found.hint) == ("unknown-approver", "did you mean `group:owners`?")
    two = document(
        "H | tool.before | true | { require_approval: { from: ['group:owners'], approvals: 2, expires: 1h } }"
    )
    assert "2 approvals of 1 people" in problems({"p.yaml": two, "a.yaml": PEOPLE})[0].text
    key = 'public_key: "ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="'
    same = PEOPLE + f"  b: [{{ id: bob, {key} }}]\n"
    assert "same key" in problems({"p.yaml": GOOD, "a.yaml": same})[0].text
    assert problems({"p.yaml": GOOD, "a.yaml": PEOPLE.replace("AAAA", "")})[0].code == "wrong-form"


def test_an_unknown_detector_does_not_load() -> None:
    """In a condition and in an effect alike, with a hint."""
    (one,) = problems({"p.yaml": document("R | tool.before | detects(args, ['crad']) | deny")})
    (two,) = problems({"p.yaml": document("R | tool.before | true | { redact: [crad] }")})
    assert one.code == two.code == "unknown-detector"
    assert one.hint == two.hint == "did you mean `card`?"


def test_a_fact_of_another_point_is_named_with_its_points() -> None:
    """The hint says where the fact exists."""
    (found,) = problems({"p.yaml": document("R | tool.before | usage.input_tokens > 5 | deny")})
    assert "is a fact at model.after, agent.after" in found.hint


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ("R | tool.after | true | allow", "wrong-point"),
        ("R | tool.after | true | { require_approval: { from: [a], expires: 1h } }", "wrong-point"),
        ("R | drift.alarm | true | warn", "not-supported"),
        ("R | model.before | true | deny | tools: [a]", "wrong-point"),
        ("R | tool.before | args.n | deny", ""),
        ("R | tool.before | tool.name | deny", ""),
        ("R | tool.before | args.n > '5' | deny", "number-as-text"),
        ("R | tool.before | drift.status == 'drfit' | deny", "unknown-value"),
        ("R | tool.before | 'reed' != tool.effect | deny", "unknown-value"),
        ("R | tool.before | 'tool.eror_rate' in drift.alarmed | deny", "unknown-value"),
        ("R | tool.before | drift.alarmed['tool.eror_rate'] == 'drift' | deny", "unknown-value"),
        ("R | tool.before | has(drift.alarmed.silense) | deny", "unknown-value"),
        ("R | tool.before | drift.alarmed['silence'] == 'dritf' | deny", "unknown-value"),
        ("R | tool.before | tool.effect in ['read', 'non'] | deny", "unknown-value"),
        ("R | tool.before | true | { deny: { kind: wait } }", "missing-field"),
        ("R | tool.before | true | { deny: { kind: forbidden, retry_after: 5m } }", "missing-field"),
        ("R | tool.before | true | { allow: {} }", "wrong-type"),
        ("R | tool.before | true | { deny: { kind: forbidden }, warn: {} }", "wrong-type"),
        ("R | tool.before | true | redact", "missing-field"),
        ("R | tool.before | true | deny | promote: { after: 14d }", "not-supported"),
        ("R | [tool.before, tool.before] | true | deny", "duplicate-entry"),
        ("R | tool.before | true | deny | message: { agnt: no }", "unknown-field"),
    ],
)
def test_rules_that_could_not_act_do_not_load(rule: str, code: str) -> None:
    """An effect that is accepted is an effect that acts."""
    if rule == "R | tool.before | args.n | deny":
        # An argument may be a boolean: whether it is one shows at run time, and denies.
        assert not Engine(bundle(document(rule))).decide("tool.before", call(args={"n": 3})).is_allowed
        return
    found = problems({"p.yaml": document(rule)})
    assert len(found) == 1
    assert not code or found[0].code == code


def test_a_time_zone_counts_only_where_days_do_not() -> None:
    """A policy in another zone may not read what is counted by UTC days."""
    berlin = document("R | tool.before | run.repeats > 1 | deny").replace("UTC", "Europe/Berlin")
    assert bundle(berlin).policies[0].timezone == "Europe/Berlin"
    (found,) = problems({"p.yaml": berlin.replace("run.repeats > 1", "cost.usd_today > 1.0")})
    assert found.code == "not-supported"


def test_registered_facts_are_facts() -> None:
    """The application's own, with their type."""
    text = document("R | tool.before | !payee.known | deny")
    assert problems({"p.yaml": text})[0].code.startswith("unknown")
    loaded = load_texts(
        {"p.yaml": text}, extra_facts=[FactSpec("payee.known", "bool", "Whether we paid them before.")]
    )
    assert not Engine(loaded).decide("tool.before", call(payee__known=False)).is_allowed


def test_names_are_unique_over_files() -> None:
    """Two policies of one name could not be told apart."""
    assert problems({"a.yaml": GOOD, "b.yaml": GOOD})[0].code == "duplicate-policy"


def test_one_hostile_name_does_not_reach_a_terminal() -> None:
    """Messages and excerpts hold no control characters."""
    found = problems({"p.yaml": GOOD.replace("then: deny", 'then: "\\e[31mdeny"')})
    assert all(str(one).isprintable() for one in found)


def test_the_starters_load_together() -> None:
    """As `agentguard init` copies them."""
    documents = [path for path in STARTERS.rglob("*.yaml") if not path.name.endswith(".test.yaml")]
    assert len(load_bundle([STARTERS]).policies) == len(documents) >= 5
