"""
Which rules one kind of question goes to, worked out once for each kind.

A plan belongs to a point, an agent, an environment, and a tool or model. It
holds the rules that could match there, those that match for certain, and what
the documents in scope say of a call that no rule matched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias

from agentguard.policy._model import BEFORE_POINTS, Policy, Rule
from agentguard.policy._terms import Terms, terms_of
from agentguard.policy.conditions import ask_together
from agentguard.values import Decision, Effect, Mode, Point

GROUP_RULES_MAX = 64
"""Rules that one function answers for: what it takes to make it delays one question."""

OFTEN = 256
"""Questions after which a group of rules gets its one function."""

GROUPINGS_MAX = 1_024
"""Sets of rules of one point whose groups are kept; then the memory starts anew."""

ConditionFunction: TypeAlias = Callable[[Mapping[str, object]], object]


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """One rule at one point, ready to be asked."""

    order: int
    """Place among all rules of the bundle."""
    document: int
    """Place of its document in the bundle."""
    point: Point
    rule: Rule
    function: ConditionFunction
    terms: Terms


class Group:
    """
    Rules that are asked one after the other.

    A group that is asked often gets one function for all of its rules, which
    reads every fact once. Making that function takes as long as some hundred
    questions; so it is not made for a few.
    """

    __slots__ = ("_left", "asked", "nothing", "together")

    def __init__(self, asked: Sequence[Asked], *, often: int) -> None:
        self.asked = tuple((one.function, one) for one in asked)
        """The rules, each with its own function."""
        self._left = often
        self.nothing = (False,) * len(asked)
        """What `together` gives where none matches."""
        self.together: Callable[[Mapping[str, object]], tuple[bool, ...] | None] | None = None
        """Asks all of them, and gives None where one could not answer; None until it is asked often."""

    def matching(self, facts: Mapping[str, object]) -> Sequence[Asked] | None:
        """
        Ask all rules at once, where that can be done.

        Args:
            facts:
                Values by the names of the catalogue.

        Returns:
            The rules that match; None where each has to be asked by itself.
        """
        together = self.together
        if together is None:
            self._left -= 1
            if self._left <= 0:
                self._prepare()
            return None
        answers = together(facts)
        if answers == self.nothing:
            return ()
        if answers is None or any(answer is not True and answer is not False for answer in answers):
            return None
        return [asked for answer, (_, asked) in zip(answers, self.asked, strict=True) if answer]

    def _prepare(self) -> None:
        """Make the one function; two threads may both do so, to the same end."""
        try:
            self.together = ask_together([one.rule.conditions[one.point].tree for _, one in self.asked])
        except Exception:
            # A caller's stack that is nearly full, say: the rules are asked one by one as before.
            self._left = OFTEN


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What is asked, and what holds without asking."""

    point: Point
    groups: tuple[Group, ...]
    """Rules that may match."""
    certain: tuple[Asked, ...]
    """Rules that match every call of this kind."""
    needy: tuple[int, ...]
    """Documents in scope that deny what none of their rules lets run."""
    is_covered: bool
    """Whether a document is in scope at all."""
    checks_args: bool
    """Whether numbers that are not finite matter: before a call, where a rule or a default enforces."""
    standing: tuple[Asked, ...] = ()
    """Breakers: state is asked about them whether or not their condition holds."""
    answers: dict[tuple[int, ...], Decision] = field(default_factory=dict)
    """Decisions that hold nothing of one call, by the asked rules that matched."""


class Shelf:
    """The rules of one point, found by the names of a call."""

    __slots__ = ("_by_name", "_everywhere", "_fact", "_groups", "_point", "_policies")

    def __init__(self, policies: Sequence[Policy], point: Point, rules: Sequence[Asked], fact: str) -> None:
        self._policies = policies
        self._point = point
        self._fact = fact
        by_name: dict[str, list[Asked]] = {}
        everywhere: list[Asked] = []
        for asked in rules:
            names = asked.terms.names.get(fact) if fact else None
            if names is None:
                everywhere.append(asked)
            else:
                for name in names:
                    by_name.setdefault(name, []).append(asked)
        self._by_name = {name: tuple(found) for name, found in by_name.items()}
        self._everywhere = tuple(everywhere)
        self._groups: dict[tuple[int, ...], tuple[Group, ...]] = {}

    def plan(self, agent: str | None, environment: str | None, name: str | None) -> Plan:
        """
        Work out what is asked.

        What is None is not known: it is in every scope, and rules about it are
        asked, since leaving them out could let a call run that they stop.

        Args:
            agent:
                Name of the agent; empty: it has none, and is in every scope.
            environment:
                Name of the environment; empty: it has none, and is in every scope.
            name:
                Of the tool or model; empty at other points.

        Returns:
            A new plan.
        """
        in_scope = [
            index
            for index, policy in enumerate(self._policies)
            if _covers(policy, agent or "", environment or "")
        ]
        scope = set(in_scope)
        said = {"agent.name": agent, "env.name": environment, self._fact: name}
        known = {fact: value for fact, value in said.items() if fact and value is not None}
        certain: list[Asked] = []
        asked: list[Asked] = []
        candidates = self.every() if name is None else self.candidates(name)
        for candidate in sorted(candidates, key=lambda one: one.order):
            if candidate.document not in scope:
                continue
            if any(
                known[fact] not in values for fact, values in candidate.terms.names.items() if fact in known
            ):
                continue
            # A fact that is indexed elsewhere (a model's name in a rule about tools) is asked at run time.
            if candidate.terms.is_whole and all(fact in known for fact in candidate.terms.names):
                certain.append(candidate)
            else:
                asked.append(candidate)
        is_before = self._point in BEFORE_POINTS
        needy = tuple(
            index for index in in_scope if is_before and not self._policies[index].unmatched[self._point]
        )
        enforces = any(one.rule.mode is Mode.ENFORCE for one in (*asked, *certain)) or any(
            self._policies[index].mode is Mode.ENFORCE for index in in_scope
        )
        return Plan(
            point=self._point,
            groups=self._grouped(asked),
            certain=tuple(certain),
            needy=needy,
            is_covered=bool(in_scope),
            checks_args=is_before and enforces,
            standing=tuple(
                one
                for one in sorted((*certain, *asked), key=lambda one: one.order)
                if one.rule.effect is Effect.CIRCUIT_BREAK
            ),
        )

    def _grouped(self, asked: Sequence[Asked]) -> tuple[Group, ...]:
        """The groups of some rules, shared by all plans that ask the same."""
        key = tuple(one.order for one in asked)
        found = self._groups.get(key)
        if found is None:
            if len(self._groups) >= GROUPINGS_MAX:
                self._groups.clear()
            # One function after the other is made, each at another question.
            found = tuple(
                Group(asked[start : start + GROUP_RULES_MAX], often=OFTEN + start)
                for start in range(0, len(asked), GROUP_RULES_MAX)
            )
            self._groups[key] = found
        return found

    def every(self) -> tuple[Asked, ...]:
        """All rules of the point."""
        return self._everywhere + tuple(
            {one.order: one for found in self._by_name.values() for one in found}.values()
        )

    def candidates(self, name: str) -> tuple[Asked, ...]:
        """Rules that a call of this name could match, whatever its agent."""
        return self._by_name.get(name, ()) + self._everywhere


def shelve(policies: Sequence[Policy]) -> Mapping[Point, Shelf]:
    """
    Sort all rules by point and by the names that they are about.

    Args:
        policies:
            Documents of a bundle.

    Returns:
        One shelf for each point, also for those without rules.
    """
    at: dict[Point, list[Asked]] = {point: [] for point in Point}
    order = 0
    for document, policy in enumerate(policies):
        for rule in (*policy.rules, *policy.budgets):
            order += 1
            for point in rule.points:
                condition = rule.conditions[point]
                terms = terms_of(condition.tree)
                if rule.tools:
                    pinned = frozenset(rule.tools)
                    names = dict(terms.names)
                    names["tool.name"] = names["tool.name"] & pinned if "tool.name" in names else pinned
                    terms = Terms(names, is_whole=terms.is_whole)
                if not terms.is_never:
                    at[point].append(Asked(order, document, point, rule, condition.function, terms))
    return {point: Shelf(policies, point, rules, _fact_of(point)) for point, rules in at.items()}


def _fact_of(point: Point) -> str:
    """The fact that names what is called at a point."""
    kind = point.partition(".")[0]
    return f"{kind}.name" if kind in ("tool", "model") else ""


def _covers(policy: Policy, agent: str, environment: str) -> bool:
    """
    Whether a document speaks of this agent in this environment.

    What is unknown is in every scope: a missing name must never take a call
    out of a policy's reach.
    """
    return (not policy.agents or not agent or any(glob(g).fullmatch(agent) for g in policy.agents)) and (
        not policy.environments
        or not environment
        or any(glob(g).fullmatch(environment) for g in policy.environments)
    )


@lru_cache(maxsize=512)
def glob(pattern: str) -> re.Pattern[str]:
    """A pattern with `*` and `?`, everything else literal."""
    collapsed = re.sub(r"\*+", "*", pattern)
    return re.compile(
        "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in collapsed), re.DOTALL
    )
