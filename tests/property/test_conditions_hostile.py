"""Whatever a source or a fact is: one of two exceptions, soon, or an answer."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentguard.errors import PolicyDocumentError, PolicyEvaluationError
from agentguard.policy import Condition

SCHEMA = {
    "tool.name": "string",
    "n": "int",
    "d": "double",
    "b": "bool",
    "l": "list<string>",
    "li": "list<int>",
    "m": "map<string, int>",
    "args": "map<string, dyn>",
    "x": "dyn",
    "t": "timestamp",
    "u": "duration",
    "y": "bytes",
    "z": "null",
}
_WORDS = (
    "tool.name", "n", "d", "args.a", "args['b']", "x", "l", "m", "==", "!=", "<", ">=", "&&", "||", "!", "-", "+", "*", "/", "%", "?", ":",
    "(", ")", "[", "]", "{", "}", ",", ".", "in", "'a'", "'", '"', "'''", "r'", "b'x'", "1", "0x", "1u", "1e999", "9223372036854775808", ".5",
    "true", "null", ".exists(v, ", ".all(v, v", ".map(", "has(", "size(", ".matches('", "(a+)+$", "duration('1h')", "timestamp(", "\\", "\n",
    "//", ";", "@", "é", "\u202e", "\x00", "`", "for", "\ud800", "${n}", "__class__", "lambda", "import os", "__import__('os')",
)  # fmt: skip
SECONDS_MAX = 5.0


def _only_documented(source: str) -> None:
    begin = time.perf_counter()
    try:
        condition = Condition.compile(source, SCHEMA)
        condition.evaluate({})
    except PolicyDocumentError as error:
        assert error.problems  # noqa: PT017
        for problem in error.problems:
            assert problem.line >= 1
            assert problem.column >= 1
            assert problem.text
            assert "\n" not in problem.text
    except PolicyEvaluationError:
        pass
    assert time.perf_counter() - begin < SECONDS_MAX


@given(st.text(max_size=200))
def test_any_text_is_a_condition_or_a_document_error(source: str) -> None:
    """Arbitrary text."""
    _only_documented(source)


@given(st.lists(st.sampled_from(_WORDS), max_size=40), st.sampled_from(("", " ")))
def test_any_words_are_a_condition_or_a_document_error(words: list[str], between: str) -> None:
    """Words of the language and of its neighbours in any order."""
    _only_documented(between.join(words))


def test_two_thousand_damaged_conditions() -> None:
    """A good condition with one to four characters changed, cut or doubled."""
    good = (
        "tool.name == 'sql' && d > 50.0 && (args.a in ['x', \"y\"] || m['k'] % 2 == 1 ? has(args.b) : l.exists(v, "
        "v.matches('^a+$') || size(v) > 3)) && t - duration('1h') < timestamp('2026-01-01T00:00:00Z')"
    )
    r = random.Random(1)
    for _ in range(2_000):
        text = list(good)
        for _ in range(r.randrange(1, 5)):
            place = r.randrange(len(text))
            match r.randrange(3):
                case 0:
                    text[place] = r.choice("()[]{}'\"\\.,?:=&|!<>+-*/% abc019\n")
                case 1:
                    del text[place]
                case _:
                    text.insert(place, text[place])
        _only_documented("".join(text))


@pytest.mark.parametrize(
    "source",
    [
        "(" * 5_000,
        "[" * 4_000 + "]" * 4_000,
        "-" * 8_000 + "1",
        "!" * 8_000 + "true",
        "n" + " + n" * 2_000,
        "b" + " && b" * 1_600,
        "x" + ".a" * 4_000,
        "x" + "[0]" * 2_700,
        "n == " + "1" * 8_000,
        "'" + "a" * 8_000 + "'",
        "'" + "a" * 80_000 + "'",
        "true ? " * 1_100 + "1",
        "true ? 1 : " * 700 + "1",
        "[" + "1," * 4_000 + "]",
        "{" + "1:1," * 2_000 + "}",
        "x" + ".exists(a, a" * 600,
        "l.map(a, " * 40 + "a" + ")" * 40,
        "args.a.matches('" + "(a*)*" * 150 + "b')",
        "args.a.matches('((((a{1,100}){1,100}){1,100}){1,100})')",
        "args.a.matches('" + "(" * 200 + ")" * 200 + "')",
        "args.a.matches('[" + "a-z" * 300 + "]')",
        "\n" * 8_000 + "n",
        "n // " + "/" * 8_000,
        "a" * 8_000,
        "a." * 4_000 + "a",
    ],
    ids=lambda source: source[:20].replace("\n", "n"),
)
def test_large_sources_end_soon(source: str) -> None:
    """Brackets, chains, digits and patterns without end."""
    _only_documented(source)


@pytest.mark.parametrize("source", [None, 5, b"true", ["true"], object()])
def test_a_source_that_is_no_text(source: Any) -> None:
    """Not even text."""
    with pytest.raises(PolicyDocumentError):
        Condition.compile(source, SCHEMA)


@pytest.mark.parametrize(
    "schema",
    [
        {"n": "integer"},
        {"n": ""},
        {"n": None},
        {"n": "list<"},
        {"n": "map<double, int>"},
        {5: "int"},
        None,
        {"n": "list<" * 100},
    ],
)
def test_a_schema_that_is_none(schema: Any) -> None:
    """Types that do not exist, and schemas that are no mapping."""
    with pytest.raises(PolicyDocumentError):
        Condition.compile("true", schema)


class _Hostile:
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("secret")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("secret")

    def __hash__(self) -> int:
        raise RuntimeError("secret")

    def __bool__(self) -> bool:
        raise RuntimeError("secret")

    def __len__(self) -> int:
        raise RuntimeError("secret")

    def __iter__(self) -> Iterator[int]:
        raise RuntimeError("secret")


class _AlwaysEqual(str):
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 1


class _Liar(dict[str, object]):
    def __getitem__(self, key: str) -> object:
        raise RuntimeError("secret")


class _Endless(Mapping[str, object]):
    def __getitem__(self, key: str) -> object:
        return self

    def __iter__(self) -> Iterator[str]:
        raise RecursionError

    def __len__(self) -> int:
        return 1


class _Number(int):
    def __lt__(self, other: object) -> bool:
        return True

    def __gt__(self, other: object) -> bool:
        return True


class _Color(StrEnum):
    RED = "red"


class _Level(IntEnum):
    LOW = 1


def _deep() -> list[Any]:
    inner: list[Any] = []
    for _ in range(5_000):
        inner = [inner]
    return inner


def _loop() -> dict[str, Any]:
    found: dict[str, Any] = {}
    found["a"] = found
    return found


_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 2**63, 2**70, 10**5000, 0.5, float("nan"), float("inf"), -float("inf"), "", "a", "\ud800", "a" * 100_000, b"x", bytearray(b"x"),
    [], ["a"], [None], [float("nan")], [2**80], (1, "a"), {"a"}, {}, {"a": 1}, {1: 2, True: 3}, {None: 1}, {1.5: 1}, {"a": float("inf")}, {"b": {"c": 1}},  # noqa: F601
    datetime(2024, 1, 1), timedelta(days=999_999_999), timedelta.min, datetime.min, object(), object, len, _Hostile(), [_Hostile()], {"a": _Hostile()},  # noqa: DTZ001, DTZ901
    _AlwaysEqual("zz"), [_AlwaysEqual("zz")], _Liar(a=1), _Endless(), _Number(1), _Color.RED, _Level.LOW, _deep(), _loop(), range(3), iter([1]), 1j, Exception("x"),
)  # fmt: skip

_SOURCES = (
    "tool.name == 'a'", "tool.name in ['a', 'b'] && n > 1", "n + 1 > 0", "d * 2.0 < 1.0 || b", "'a' in l", "l.exists(v, v == 'a')", "li.all(v, v < 3)", "m.a == 1", "m['a'] > 0",
    "'a' in m", "args.a == 'a'", "args.a > 1", "args.a in ['a']", "args.a == args.b", "x == x", "x == [1]", "x == {'a': 1}", "x.a == 1", "x['a'] == 1", "x[0] == 1", "has(x.a)", "has(args.a)",
    "x.exists(v, v == 'a')", "x in x", "size(x) > 1", "x.matches('a')", "x.startsWith('a')", "x + x == x", "-x == x", "x && b", "!x", "x ? 1 : 2", "x", "args", "l + l", "[x, x]", "{'k': x}", "int(x)",
    "double(x)", "string(x)", "t > timestamp('2024-01-01T00:00:00Z')", "t + u", "t - t", "u + u", "u.getHours() > 1", "t.getHours('Europe/Berlin')", "y == b'x'", "z == null", "x in l", "x in m", "n / x == 1",
    "x.map(v, v)", "glob(x, 'a*')", "cidr(x, '10.0.0.0/8')", "x < x || x > x", "args.a.b.c == 1", "x.all(v, x.exists(w, w == v))",
)  # fmt: skip


@pytest.mark.parametrize("source", _SOURCES)
def test_hostile_values_give_an_answer_or_an_evaluation_error(source: str) -> None:
    """Every strange value in the place of every fact; no text of theirs is in the message."""
    condition = Condition.compile(source, SCHEMA)
    for value in _VALUES:
        facts: dict[str, Any] = dict.fromkeys(SCHEMA, value)
        for chosen in (facts, {**facts, "args": {"a": value, "b": value}}):
            begin = time.perf_counter()
            try:
                condition.evaluate(chosen)
            except PolicyEvaluationError as error:
                assert "secret" not in str(error)  # noqa: PT017
                assert len(str(error)) < 400  # noqa: PT017
            assert time.perf_counter() - begin < SECONDS_MAX


def test_facts_that_are_no_mapping() -> None:
    """The mapping itself is not one, or raises."""
    strange: tuple[Any, ...] = (None, 5, "tool.name", [], object(), _Liar(), _Hostile(), _Endless())
    for facts in strange:
        for source in ("tool.name == 'a'", "n > 1 && b", "x.a == 1"):
            with pytest.raises(PolicyEvaluationError):
                Condition.compile(source, SCHEMA).evaluate(facts)


def test_a_value_that_claims_to_equal_everything_does_not() -> None:
    """A text of an own class counts by its characters, not by its methods."""
    condition = Condition.compile("tool.name == 'a' || 'a' in l || args.a == 'a' || x in ['a']", SCHEMA)
    fake = _AlwaysEqual("zz")
    assert condition.evaluate({"tool.name": fake, "l": [fake], "args": {"a": fake}, "x": fake}) is False
    assert Condition.compile("n < 0 || n > 5", SCHEMA).evaluate({"n": _Number(1)}) is False


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "source",
    [
        "args.a > 5",
        "args.a <= 5",
        "!(args.a > 5)",
        "args.a == 5",
        "args.a != 5",
        "args.a in [1, 2]",
        "args.a < d",
        "[args.a] == [1]",
    ],
)
def test_numbers_that_are_not_finite_are_errors(source: str, value: float) -> None:
    """NaN and infinity slip past no comparison: each is an evaluation error."""
    with pytest.raises(PolicyEvaluationError, match="not finite"):
        Condition.compile(source, SCHEMA).evaluate({"args": {"a": value}, "d": 1.0})
    with pytest.raises(PolicyEvaluationError, match="not finite"):
        Condition.compile("d > 5.0", SCHEMA).evaluate({"d": value})


@settings(max_examples=60)
@given(st.text(alphabet="ab", max_size=30).map(lambda text: text * 400))
def test_patterns_that_blow_up_elsewhere_stay_linear(text: str) -> None:
    """Nested repeats on texts that make backtracking explode."""
    begin = time.perf_counter()
    for pattern in ("(a+)+$", "(a|a)*c", "(a|aa)+$c", "(.*)*x", "(a?){50}a{50}c"):
        condition = Condition.compile(f"args.a.matches('{pattern}')", SCHEMA)
        try:
            condition.evaluate({"args": {"a": text}})
        except PolicyEvaluationError as error:
            assert "too long" in str(error)  # noqa: PT017
    assert time.perf_counter() - begin < SECONDS_MAX * 2


def test_work_is_bounded() -> None:
    """Macros inside macros, doubling lists and texts: an end after a bounded amount of work."""
    many = {"x": list(range(5_000)), "l": ["a" * 10_000] * 20, "li": [1] * 9_000}
    for source in (
        "x.all(a, x.all(b, a + b >= 0))",
        "x.exists(a, x == [1])  || x.all(a, [x, x, x] == [x, x, x])",
        "l.map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).exists(a, a == 'b')",
        "(li + li + li + li + li + li + li + li + li + li + li + li + li).all(a, a == 1)",
        "[1]" + "".join(f".map(a{n}, [a{n}, a{n}])" for n in range(40)) + " == [1]",
        "[[1]" + "".join(f".map(a{n}, [a{n}, a{n}])" for n in range(30)) + "].all(c, c == c)",
    ):
        begin = time.perf_counter()
        with contextlib.suppress(PolicyEvaluationError, PolicyDocumentError):
            Condition.compile(source, SCHEMA).evaluate(many)
        assert time.perf_counter() - begin < SECONDS_MAX, source
