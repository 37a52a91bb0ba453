"""Conditions asked together answer as each does by itself."""

from __future__ import annotations

import pytest

from agentguard.errors import PolicyDocumentError, PolicyEvaluationError
from agentguard.policy.conditions import Condition, ask_together, compile_condition
from agentguard.policy.conditions.limits import ITERATIONS_MAX
from tests.differential.cel_generator import SCHEMA as GENERATED
from tests.differential.cel_generator import Generator

SCHEMA = {
    "tool.name": "string",
    "spent": "double",
    "calls": "int",
    "known": "bool",
    "args": "map<string, dyn>",
    "names": "list<string>",
}
FACTS: dict[str, object] = {
    "tool.name": "sql",
    "spent": 12.5,
    "calls": 3,
    "known": True,
    "args": {"n": 5, "text": "abc"},
    "names": ["a", "b"],
}
SOURCES = [
    "tool.name == 'sql' && spent > 50",
    "spent > 10 && calls < 5",
    "known || args.missing > 3",
    "names.exists(x, x == 'b' && spent > 1)",
    "names.all(x, x != tool.name) && calls in [1, 2, 3]",
    "(known ? calls : 0) == 3",
    "args.n >= 5 && args.text.startsWith('a')",
    "!known",
]


def conditions(sources: list[str]) -> list[Condition]:
    """Compile each by itself."""
    return [compile_condition(source, SCHEMA) for source in sources]


def test_the_answers_are_those_of_each() -> None:
    """In order, as bools."""
    made = conditions(SOURCES)
    answers = ask_together([one.tree for one in made])(FACTS)
    assert answers == tuple(one.function(FACTS) for one in made)
    assert answers == (False, True, True, True, True, True, True, False)
    assert all(type(answer) is bool for answer in answers)


@pytest.mark.parametrize("name", FACTS)
def test_one_missing_fact_leaves_no_answer(name: str) -> None:
    """Whoever reads it, all have to be asked by themselves."""
    facts = {known: value for known, value in FACTS.items() if known != name}
    assert ask_together([one.tree for one in conditions(SOURCES)])(facts) is None


@pytest.mark.parametrize("value", ["12.5", None, float("nan"), float("inf"), True, 10**400])
def test_a_wrong_fact_is_no_answer(value: object) -> None:
    """What would be an error in one condition is never an answer of the others."""
    made = conditions(["spent > 10", "calls < 5"])
    facts = {**FACTS, "spent": value}
    assert ask_together([one.tree for one in made])(facts) is None
    with pytest.raises(PolicyEvaluationError):
        made[0].function(facts)


def test_what_may_not_have_been_read_is_read_again() -> None:
    """A fact behind `&&`, `||` or `?:` of one condition is not known to the next."""
    sources = ["known && spent > 1", "spent > 50", "known || calls > 1", "calls > 50", "known ? true : args.n > 1",
               "args.n > 50"]  # fmt: skip
    made = conditions(sources)
    for known in (True, False):
        facts = {**FACTS, "known": known}
        assert ask_together([one.tree for one in made])(facts) == tuple(one.function(facts) for one in made)


def test_each_macro_counts_for_itself() -> None:
    """Two conditions that each look at most of what one may look at do not use up each other's limit."""
    made = conditions(["names.all(x, x != 'z')"] * 3)
    facts = {**FACTS, "names": ["a"] * (ITERATIONS_MAX - 10)}
    assert ask_together([one.tree for one in made])(facts) == (True, True, True)
    facts = {**FACTS, "names": ["a"] * (ITERATIONS_MAX + 10)}
    assert ask_together([one.tree for one in made])(facts) is None


def test_nothing_is_raised() -> None:
    """Facts that cannot be read give no answer, whatever they raise."""

    class Broken(dict[str, object]):
        def __missing__(self, key: str) -> object:
            raise ZeroDivisionError(key)

    assert ask_together([one.tree for one in conditions(SOURCES)])(Broken()) is None


def answers_agree(first: int, groups: int, size: int) -> tuple[int, int]:
    """Ask generated conditions together and one by one; give how many groups had answers, and how many had none."""
    answered = failed = 0
    for group in range(first, first + groups):
        facts = Generator(group).facts()
        made = []
        for seed in range(size):
            try:
                made.append(compile_condition(Generator(group * 1_000 + seed).condition().ours, GENERATED))
            except PolicyDocumentError:
                continue
        quick = [condition for condition in made if _answer(condition, facts) != "error"]
        for conditions_ in (made, quick):
            answers = ask_together([one.tree for one in conditions_])(facts)
            if answers is None:
                failed += 1
                continue
            answered += 1
            assert list(answers) == [_answer(one, facts) for one in conditions_], [
                one.source for one in conditions_
            ]
    return answered, failed


def _answer(condition: Condition, facts: dict[str, object]) -> object:
    try:
        return condition.function(facts)
    except PolicyEvaluationError:
        return "error"


def test_generated_conditions_agree() -> None:
    """As the differential tests generate them, with all kinds of parts and of facts."""
    answered, failed = answers_agree(0, 60, 8)
    assert answered > 20
    assert failed > 20


@pytest.mark.long
def test_many_generated_conditions_agree() -> None:
    """The same fifty times as often."""
    answered, _ = answers_agree(10_000, 3_000, 8)
    assert answered > 1_000
