"""Mistakes in conditions: all at once, each with place, caret, code and a way out."""

from __future__ import annotations

import pickle

import pytest

from agentguard.errors import PolicyDocumentError, PolicyProblem
from agentguard.policy.conditions import compile_condition

SCHEMA = {
    "tool.name": "string",
    "tool.calls_5m": "int",
    "cost.usd_today": "double",
    "args": "map<string, dyn>",
    "principal.roles": "list<string>",
    "payee.known": "bool",
    "time.now": "timestamp",
}


def problems(source: str, **options: object) -> tuple[PolicyProblem, ...]:
    """Compile, and give what was refused."""
    with pytest.raises(PolicyDocumentError) as caught:
        compile_condition(source, SCHEMA, **options)  # type: ignore[arg-type]
    return caught.value.problems


@pytest.mark.parametrize(
    ("source", "column", "code", "hint"),
    [
        ("tool.nam == 'a'", 1, "unknown-name", "did you mean `tool.name`?"),
        ("cost.usd_tody > 5", 1, "unknown-name", "did you mean `cost.usd_today`?"),
        ("tool == 'a'", 1, "unknown-name", "`tool` has"),
        ("tool.name == 5", 11, "type", ""),
        ("cost.usd_today > '50'", 16, "type", "write 50 without quotes"),
        ("payee.known == 'true'", 13, "type", "write true without quotes"),
        ("tool.name == null", 11, "type", "a declared fact is never null"),
        ("tool.name.startswith('a')", 11, "unknown-function", "CEL writes `startsWith()`"),
        ("tool.name.startWith('a')", 11, "unknown-function", "did you mean `startsWith`?"),
        ("len(tool.name) > 5", 1, "unknown-function", "CEL writes `size(...)`"),
        ("startsWith(tool.name, 'a')", 1, "unknown-function", "write `value.startsWith(...)`"),
        ("tool.name.size > 5", 11, "unknown-member", "`size` is a function"),
        ("tool.name in 'sql'", 11, "type", "write `text.contains(part)`"),
        ("tool.name in ['sql', 5]", 22, "type", ""),
        ("principal.roles == 'admin'", 17, "type", "`in` looks for one value"),
        ("tool.name = 'a'", 11, "syntax", "`==` compares"),
        ("payee.known & payee.known", 13, "syntax", "`&&` joins"),
        ("payee.known and payee.known", 13, "syntax", "CEL writes `&&`"),
        ("not payee.known", 1, "syntax", "CEL writes `!`"),
        ("payee.known == True", 16, "syntax", "CEL writes `true`"),
        ("tool.name == \u201csql\u201d", 14, "syntax", "straight quotes"),
        ("tool.name.matches(tool.name)", 19, "literal-needed", "constant of the document"),
        ("tool.name.matches('(a')", 19, "literal", ""),
        ("tool.name.matches('(?=a)')", 19, "literal", ""),
        ("time.now.getHours('Mars/Base')", 19, "literal", ""),
        ("time.now > timestamp('yesterday')", 22, "literal", ""),
        ("cidr(tool.name, '10.0.0.1/8')", 17, "literal", ""),
        ("tool.calls_5m + 1.5 > 2.0", 15, "type", "CEL does not mix them"),
        ("has(tool.name)", 5, "arguments", "a declared fact is there"),
        ("principal.roles.exists(r == 'a')", 17, "arguments", "write `list.exists(x, ...)`"),
        ("tool.calls_5m", 1, "type", "compare it with something"),
        ("1u == 1", 1, "unsupported", "write `1`"),
        ("(tool.name == 'a'", 1, "syntax", ""),
        ("for == 1", 1, "reserved", ""),
        ("", 1, "syntax", "write `true` for always"),
    ],
)
def test_one_mistake(source: str, column: int, code: str, hint: str) -> None:
    """One mistake gives one problem, where it stands, with its code and the way out."""
    (problem,) = problems(source)
    assert (problem.line, problem.column, problem.code) == (1, column, code)
    assert hint in problem.hint
    assert problem.excerpt == f"{source}\n{' ' * (column - 1)}^"


def test_several_mistakes_at_once() -> None:
    """Mistakes on both sides of operators, and syntax beside types, come in one go, in order."""
    source = "tol.name == 'a' &&\n cost.usd_today > 'x' || (args.a.startwith('b') &&\n tool.name == )"
    found = problems(source)
    assert [(p.line, p.column, p.code) for p in found] == [
        (1, 1, "unknown-name"),
        (2, 17, "type"),
        (2, 34, "unknown-function"),
        (3, 15, "syntax"),
    ]


def test_places_are_those_of_the_document() -> None:
    """Offsets of the source inside its document move lines, columns and the excerpt."""
    document = ["rules:", "  - when: tool.name == 5", "      || tool.name == 6"]
    found = problems(
        "tool.name == 5\n|| tool.name == 6",
        path="a.yaml", line_offset=1, column_offset=10, indent=6, document=document,
    )  # fmt: skip
    assert [str(p).split(" ")[0] for p in found] == ["a.yaml:2:21:", "a.yaml:3:20:"]
    assert found[0].excerpt.splitlines() == [document[1], " " * 20 + "^"]
    assert found[1].excerpt.splitlines()[0] == document[2]


def test_error_carries_notes_and_pickles() -> None:
    """The exception shows excerpt and hint as notes; problems cross process borders."""
    with pytest.raises(PolicyDocumentError) as caught:
        compile_condition("tool.nme == 'a'", SCHEMA)
    assert "hint: did you mean `tool.name`?" in caught.value.__notes__
    copy = pickle.loads(pickle.dumps(caught.value.problems[0]))
    assert str(copy) == str(caught.value.problems[0])


def test_number_of_problems_is_bounded() -> None:
    """A source of mistakes only reports the first twenty."""
    assert len(problems(" || ".join(f"x{n} == 1" for n in range(100)))) == 20


def test_control_characters_do_not_reach_the_excerpt() -> None:
    """What is shown of a source has no terminal escapes and no direction marks in it."""
    (first, *_) = problems("tool.name == '\x1b[31m\u202e' && tol == 1")
    assert "\x1b" not in first.excerpt
    assert "\u202e" not in first.excerpt


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"arguments": {"amount": "double"}}, "unknown-argument"),
        ({"constants": {"args.amont": float("nan")}}, "constant"),
        ({"constants": {"args.amont": object()}}, "constant"),
        ({"expect": "string", "arguments": {"amont": "double"}}, "type"),
    ],
)
def test_options_are_checked(options: dict[str, object], code: str) -> None:
    """Arguments of a tool, constants and the expected type."""
    assert code in [p.code for p in problems("args.amont > 5.0", **options)]


def test_unknown_argument_names_the_near_one() -> None:
    """A typo in an argument of a typed tool says which one was meant."""
    for source in ("args.amont > 5.0", "args['amont'] > 5.0", "has(args.amont)"):
        (problem,) = problems(source, arguments={"amount": "double"})
        assert problem.hint == "did you mean `amount`?"


def test_a_broken_escape_at_a_line_end_is_told_in_one_line() -> None:
    """What is quoted of the source never breaks the message."""
    for problem in problems("''" + "'a\\\nb''" + "' == tool.name"):
        assert "\n" not in problem.text
