"""What a compiled condition knows of itself, and what it can be given."""

from __future__ import annotations

import threading
from types import MappingProxyType
from typing import Any

import pytest

from agentguard.errors import PolicyEvaluationError
from agentguard.policy.conditions import Condition, FunctionSpec, compile_condition

SCHEMA = {
    "tool.name": "string",
    "n": "int",
    "d": "double",
    "b": "bool",
    "args": "map<string, dyn>",
    "labels": "map<string, string>",
    "l": "list<string>",
}


def test_reads_and_argument_keys() -> None:
    """Every fact that may be read, and every key of args that is named."""
    condition = compile_condition("tool.name == 'a' && (args.x > 1 || has(args.y)) && args['z'] == n", SCHEMA)
    assert condition.reads == {"tool.name", "args", "n"}
    assert condition.arg_keys == {"x", "y", "z"}
    assert condition.type == "bool"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("tool.name == 'a'", {"tool.name": {"a"}}),
        ("'a' == tool.name && b", {"tool.name": {"a"}}),
        ("tool.name in ['a', 'b'] && n == 1", {"tool.name": {"a", "b"}, "n": {1}}),
        ("tool.name in ['a', 'b'] && (tool.name in ['b', 'c'] && b)", {"tool.name": {"b"}}),
        ("tool.name in vars.tools", {"tool.name": {"x", "y"}}),
        ("tool.name == 'a' || b", {}),
        ("!(tool.name == 'a')", {}),
        ("tool.name != 'a'", {}),
        ("b ? tool.name == 'a' : false", {}),
        ("args.x == 'a'", {}),
    ],
)
def test_conjuncts(source: str, expected: dict[str, set[object]]) -> None:
    """Only terms of the outermost `&&` count: without one of these values the condition is false."""
    condition = compile_condition(source, SCHEMA, constants={"vars.tools": ["x", "y"]})
    assert condition.conjuncts == expected


def test_a_condition_is_false_outside_its_conjuncts_whatever_else_fails() -> None:
    """The index may skip it: an error on another term gives way."""
    condition = compile_condition("args.missing > 1 && tool.name == 'a'", SCHEMA)
    assert condition.function({"tool.name": "b", "args": {}}) is False
    with pytest.raises(PolicyEvaluationError, match="no such key"):
        condition.function({"tool.name": "a", "args": {}})


def test_constants_are_typed_and_frozen() -> None:
    """Constants of a document: numbers, texts, lists, maps; later changes do not show."""
    constants: dict[str, Any] = {"vars.cap": 50, "vars.names": ["a"], "vars.by": {"x": 1.5}}
    condition = compile_condition(
        "d > vars.cap && tool.name in vars.names && vars.by.x < d", SCHEMA, constants=constants
    )
    constants["vars.names"].append("b")
    assert condition.function({"d": 51.0, "tool.name": "a"}) is True
    assert condition.function({"d": 51.0, "tool.name": "b"}) is False


def test_typed_arguments() -> None:
    """Types of a tool's arguments replace dyn; a value of another type is an error."""
    condition = compile_condition(
        "args.amount > 5 && has(args.note)", SCHEMA, arguments={"amount": "double", "note": "string"}
    )
    assert condition.function({"args": {"amount": 6, "note": ""}}) is True
    with pytest.raises(PolicyEvaluationError, match="got string, expected double"):
        condition.function({"args": {"amount": "6", "note": ""}})


def test_declared_names_with_dots_win_over_maps() -> None:
    """`args.n` that is declared itself is read under its full name."""
    condition = Condition.compile("args.n == 1 && args.m == 2", {"args": "map<string, dyn>", "args.n": "int"})
    assert condition.evaluate({"args.n": 1, "args": {"n": 5, "m": 2}}) is True


def test_functions_of_the_application() -> None:
    """Declared functions: by callable, or out of the facts; wrong calls do not compile, failures are errors."""
    total = FunctionSpec("history.sum", ((("string", "string"), "double"), (("string",), "double")))
    known = FunctionSpec("is_known", ((("string",), "bool"),), run=lambda name: name == "a")
    condition = compile_condition(
        "history.sum('x', '1d') + 1.0 > 5.0 && is_known(args.who)", SCHEMA, functions=[total, known]
    )
    assert condition.reads == {"history.sum", "args"}
    facts: dict[str, Any] = {"history.sum": lambda *_: 4.5, "args": {"who": "a"}}
    assert condition.function(facts) is True
    assert condition.function({**facts, "args": {"who": "b"}}) is False
    for strange in (lambda *_: "much", lambda *_: float("nan"), lambda *_: 1 / 0, None, 5):
        with pytest.raises(PolicyEvaluationError):
            condition.function({**facts, "history.sum": strange})
    with pytest.raises(PolicyEvaluationError, match="does not take int"):
        condition.function({**facts, "args": {"who": 5}})
    for source, code in (
        ("history.sum(5) > 1.0", "arguments"),
        ("history.smu('a') > 1.0", "unknown-function"),
        ("is_known() || b", "arguments"),
    ):
        with pytest.raises(Exception, match=r"expected|unknown") as caught:
            compile_condition(source, SCHEMA, functions=[total, known])
        assert [p.code for p in caught.value.problems] == [code]  # type: ignore[attr-defined]


def test_an_error_of_a_function_gives_way_to_an_answer() -> None:
    """As any other error does."""
    failing = FunctionSpec("f", (((), "bool"),), run=lambda: 1 / 0)  # type: ignore[arg-type,return-value]
    assert compile_condition("f() || true", SCHEMA, functions=[failing]).function({}) is True


def test_facts_may_be_lazy_and_missing_ones_are_errors() -> None:
    """A dict with `__missing__` is asked only for what is needed; KeyError says which fact."""
    asked: list[str] = []

    class Lazy(dict[str, object]):
        def __missing__(self, name: str) -> object:
            asked.append(name)
            raise KeyError(name)

    condition = compile_condition("tool.name == 'a' && n > 1", SCHEMA)
    assert condition.function(Lazy({"tool.name": "b"})) is False
    assert asked == []
    with pytest.raises(PolicyEvaluationError, match="the fact `n` has no value"):
        condition.function(Lazy({"tool.name": "a"}))


def test_read_only_and_other_mappings_hold_facts() -> None:
    """Mappings that are no dicts, as facts and inside them."""
    facts = MappingProxyType({"args": MappingProxyType({"x": MappingProxyType({"y": 1})})})
    assert Condition.compile("args.x.y == 1 && 'x' in args && has(args.x)", SCHEMA).evaluate(facts) is True


def test_message_names_the_place_and_no_value() -> None:
    """`path:line`, the condition, the reason; nothing of the facts."""
    condition = compile_condition("args.secret > 5", SCHEMA, path="a.yaml", line_offset=6)
    with pytest.raises(PolicyEvaluationError) as caught:
        condition.function({"args": {"secret": "hunter2"}})
    assert str(caught.value) == "a.yaml:7: `args.secret > 5`: `>` does not compare string with int"


def test_results_of_every_type() -> None:
    """`evaluate` gives plain values back, copied and checked where they came from facts."""
    inner = {"x": [1, (2, 3)]}
    found = Condition.compile("args", SCHEMA).evaluate({"args": inner})
    assert found == {"x": [1, [2, 3]]}
    assert found is not inner
    with pytest.raises(PolicyEvaluationError, match="not finite"):
        Condition.compile("args", SCHEMA).evaluate({"args": {"x": [float("inf")]}})
    literal = Condition.compile("['a']", SCHEMA)
    literal.evaluate({}).append("b")  # type: ignore[attr-defined] # it is a list
    assert literal.evaluate({}) == ["a"]
    assert Condition.compile("[1.0 / 0.0]", SCHEMA).evaluate({}) == [float("inf")]


def test_one_condition_in_many_threads() -> None:
    """The exact function is made on the first error; many threads may do so at once."""
    condition = compile_condition("1 / n > 0 || b", SCHEMA)
    seen: list[object] = []

    def work() -> None:
        seen.extend(condition.function({"n": 0, "b": True}) for _ in range(200))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True] * 1_600


def test_compiled_functions_have_no_builtins_and_no_names_of_the_source() -> None:
    """What a condition may call was put there; its own words are constants only."""
    condition = compile_condition("tool.name == '__import__' || args.__class__ == 'os'", SCHEMA)
    function: Any = condition.function
    assert function.__globals__["__builtins__"] == {}
    names = set(function.__code__.co_names) | set(function.__code__.co_varnames)
    assert all(name == "facts" or (name[0] in "gvx" and name[1:].isdigit()) for name in names)
