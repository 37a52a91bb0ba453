"""Rules that are asked often are asked together: the decisions are those of rules asked one by one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agentguard.policy import Engine, _plan, load_bundle
from agentguard.values import Decision
from tests.support.policies import STARTERS, call, engine


def questions() -> Iterator[tuple[str, dict[str, object]]]:
    """What the cases of the starters ask, and the same with one fact missing or of another type."""
    for test in load_bundle([STARTERS]).tests:
        for case in test.cases:
            facts = dict(case.given)
            yield case.point, facts
            for name, value in facts.items():
                yield case.point, {known: facts[known] for known in facts if known != name}
                yield case.point, {**facts, name: 7 if isinstance(value, str) else "7"}


def ask(asked: Engine, times: int) -> list[Decision]:
    """The last decision of each question."""
    return [[asked.decide(point, facts) for _ in range(times)][-1] for point, facts in questions()]


def test_decisions_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every decision with all that is in it, over all starters, whether or not a fact can be read."""
    loaded = load_bundle([STARTERS])
    monkeypatch.setattr(_plan, "OFTEN", 10**9)
    one_by_one = ask(Engine(loaded), 1)
    monkeypatch.setattr(_plan, "OFTEN", 1)
    together = ask(Engine(loaded), 2)
    assert len(one_by_one) > 1_000
    assert together == one_by_one
    assert sum(bool(decision.errors) for decision in one_by_one) > 100
    assert sum(len(decision.matched) > 1 for decision in one_by_one) > 100


def test_small_groups_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule more than one function may hold stands in the next one; order and errors stay."""
    rules = [f"R{n} | tool.before | args.n > {n} | warn" for n in range(7)]
    rules[3] = "R3 | tool.before | args.missing > 1 | warn"
    monkeypatch.setattr(_plan, "GROUP_RULES_MAX", 2)
    monkeypatch.setattr(_plan, "OFTEN", 1)
    asked = engine(*rules)
    for _ in range(20):
        decision = asked.decide("tool.before", call(args={"n": 6}))
    assert [rule.rule_id for rule in decision.matched] == ["R0", "R1", "R2", "R4", "R5"]
    assert [error.partition(":")[0] for error in decision.errors] == ["R3"]


def test_groups_are_shared_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that ask the same rules share what was prepared; what is kept has a limit."""
    monkeypatch.setattr(_plan, "GROUPINGS_MAX", 3)
    asked = engine("A | tool.before | args.n > 1 | deny", "B | tool.before | tool.name == 'b' && args.n > 0 | deny",
                   "C | tool.before | agent.name == 'c' && args.n > 0 | deny")  # fmt: skip
    for number in range(50):
        assert asked.decide("tool.before", call(f"t{number}", args={"n": 2})).rule_id == "A"
    shelf = asked._shelves["tool.before"]  # type: ignore[index] # a StrEnum has the hash of its text
    assert len(shelf._groups) == 1
    for tool in "ab":
        for agent in "ac":
            asked.decide("tool.before", {**call(tool, args={"n": 2}), "agent.name": agent})
    assert len(shelf._groups) <= 3


def test_a_function_that_cannot_be_made_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules are then asked one by one, and the decision is the same."""

    def fails(trees: object) -> None:
        raise RecursionError

    monkeypatch.setattr(_plan, "ask_together", fails)
    monkeypatch.setattr(_plan, "OFTEN", 1)
    asked = engine("A | tool.before | args.n > 1 | deny")
    assert [asked.decide("tool.before", call(args={"n": 2})).rule_id for _ in range(5)] == ["A"] * 5
