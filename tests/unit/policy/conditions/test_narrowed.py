"""What is known beforehand is worked out beforehand, and changes no answer."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from types import SimpleNamespace
from typing import Any

import pytest

from agentguard.errors import PolicyDocumentError, PolicyEvaluationError
from agentguard.policy.conditions import Condition, CountedFact, FactSources, ask_any, compile_condition
from agentguard.policy.conditions.narrowed import narrow
from agentguard.policy.conditions.tree import Constant
from tests.differential.cel_generator import SCHEMA as GENERATED
from tests.differential.cel_generator import Generator

SCHEMA = {
    "tool.name": "string",
    "model.name": "string",
    "run.calls": "int",
    "spent": "double",
    "labels": "map<string, string>",
    "args": "map<string, dyn>",
}
KNOWN = {"tool.name": "sql", "model.name": "gpt-5"}
CALL = SimpleNamespace(run=SimpleNamespace(calls=3), facts={"spent": 12.5, "labels": {"team": "red"}})


def sources() -> FactSources:
    """Where the facts of a `CALL` are."""
    others: dict[str, Any] = {name: lambda call, name=name: call.facts[name] for name in ("spent", "labels")}
    return FactSources(KNOWN, {"run.calls": CountedFact(("run", "calls"))}, others)


def compiled(source: str) -> Condition:
    """One condition."""
    return compile_condition(source, SCHEMA)


@pytest.mark.parametrize(
    ("source", "left"),
    [
        ("tool.name == 'sql'", True),
        ("'mail' == tool.name", False),
        ("tool.name != 'sql'", False),
        ("!(model.name in ['gpt-5', 'other'])", False),
        ("tool.name in ['a', 'b'] && args.x > 5", False),
        ("args.x > 5 && tool.name == 'mail' && spent > 1", False),
        ("args.x > 5 || tool.name == 'sql'", True),
        ("tool.name == 'mail' || !(tool.name == 'sql')", False),
    ],
)
def test_what_follows_from_names_is_no_question(source: str, left: bool) -> None:
    """Nothing has to be asked, though other parts could not be evaluated."""
    tree = narrow(compiled(source).tree, KNOWN)
    assert isinstance(tree, Constant)
    assert tree.value is left


@pytest.mark.parametrize(
    ("source", "answer", "reads"),
    [
        ("tool.name == 'sql' && args.x > 5", True, {"args"}),
        ("tool.name == 'sql' && args.x > 50", False, {"args"}),
        ("run.calls > 2", True, {"run.calls"}),
        ("run.calls > 3 || run.calls * 2 > 6", False, {"run.calls"}),
        ("spent > 50 && labels.team == 'red'", False, {"spent", "labels"}),
        ("tool.name.startsWith('s') && labels['team'] == 'red'", True, {"tool.name", "labels"}),
        ("[1, 2, 3].exists(n, n == run.calls)", True, {"run.calls"}),
        ("args.gone > 1", None, {"args"}),
        ("args.dyn && tool.name == 'sql'", None, {"args"}),
    ],
)
def test_what_is_left_reads_the_call(source: str, answer: object, reads: set[str]) -> None:
    """Each fact is found where it is; an error is no answer."""
    made = ask_any([compiled(source).tree], sources(), trees_max=4)
    assert made is not None
    question, read = made
    assert question is not None
    assert read == reads
    assert question(CALL, {"x": 7, "dyn": 3}) is answer


def test_of_many_conditions_one_is_enough() -> None:
    """Those that cannot hold are not counted; where none is left there is no question."""
    texts = [f"tool.name == 'other_{number}' && args.x > {number}" for number in range(100)]
    trees = [compiled(text).tree for text in texts]
    assert ask_any(trees, sources(), trees_max=1) == (None, frozenset())
    trees.append(compiled("args.x > 90").tree)
    made = ask_any(trees, sources(), trees_max=1)
    assert made is not None
    assert made[0] is not None
    assert [made[0](CALL, {"x": x}) for x in (90, 91)] == [False, True]
    trees.append(compiled("run.calls > 1").tree)
    assert ask_any(trees, sources(), trees_max=1) is None


def test_a_fact_without_a_source_is_no_question() -> None:
    """Such conditions are asked in the usual way."""
    condition = compile_condition("other > 1", {"other": "int"})
    assert ask_any([condition.tree], sources(), trees_max=4) is None


def answers_agree(first: int, number: int) -> tuple[int, int]:
    """Ask generated conditions both ways; give how many could not hold, and how many were asked and did not."""
    known = {"s", "tool.name"}
    never = silent = 0
    for seed in range(first, first + number):
        facts = Generator(seed // 4).facts()
        try:
            condition = compile_condition(Generator(seed).condition().ours, GENERATED)
        except PolicyDocumentError:
            continue
        others = {name: itemgetter(name) for name in GENERATED if name not in {*known, "args"}}
        given = FactSources({name: facts[name] for name in known}, {}, others)
        made = ask_any([condition.tree], given, trees_max=1)
        assert made is not None
        question, _ = made
        found = False if question is None else question(facts, facts["args"])
        if found is False:
            never += question is None
            silent += question is not None
            assert _answer(condition, facts) is False, condition.source
        elif found is not None:
            assert found is _answer(condition, facts), condition.source
        else:
            # What fails here may have an answer: then `&&` and `||` are asked one by one.
            assert question is not None
    return never, silent


def _answer(condition: Condition, facts: Mapping[str, object]) -> object:
    try:
        return condition.function(facts)
    except PolicyEvaluationError:
        return "error"


def test_generated_conditions_agree() -> None:
    """As the differential tests generate them: where there is an answer, it is the right one."""
    never, silent = answers_agree(0, 800)
    assert never > 5
    assert silent > 100


@pytest.mark.long
def test_many_generated_conditions_agree() -> None:
    """The same thirty times as often."""
    answers_agree(10_000, 25_000)
