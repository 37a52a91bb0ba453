"""
The engine: one question, one decision.

Pure: no clock, no files, no randomness. The same bundle and facts give the same
decision, and nothing is learned from one question for the next but which rules
a kind of question goes to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from agentguard.errors import PolicyEvaluationError
from agentguard.policy._bundle import Bundle
from agentguard.policy._finite import find_not_finite
from agentguard.policy._history import NAMES, remembered
from agentguard.policy._partly import kinds_looked_for
from agentguard.policy._plan import GROUP_RULES_MAX, Asked, Group, Plan, Shelf, shelve
from agentguard.policy._terms import terms_of
from agentguard.policy._verdict import Fault, conclude
from agentguard.policy.conditions import FactSources, ask_any
from agentguard.values import Decision, Effect, Mode, Point

PLANS_MAX = 2_048
"""Kinds of questions whose plan is remembered; then the memory starts anew."""

ANSWERS_MAX = 256
"""Decisions without values that one plan remembers."""


class Silence(NamedTuple):
    """
    How to find out that no rule has anything to say.

    Holds for calls of which no number in `args` is anything but finite, and for which `FactSources.known` is so.
    """

    question: Callable[[Any, object], object] | None
    """Takes the call and its `args`. Where it gives False, the decision is `decision`; for anything else
    `Engine.follow` says what it is. It raises nothing. None: the decision is `decision`."""
    decision: Decision


class _Book(NamedTuple):
    """What belongs to one point."""

    shelf: Shelf
    fact: str
    """The fact that names what is called, or empty."""
    plans: dict[tuple[object, object, object], Plan]
    """By agent, environment and name; None: it is not known."""


class Engine:
    """
    Decides calls by one bundle.

    Args:
        bundle:
            The loaded documents. An engine is as immutable as its bundle, and
            safe to use from many threads.
    """

    __slots__ = (
        "_acting", "_books", "_looked_for", "_shelves", "bundle", "counts_repeats", "has_history", "reads", "remembers"
    )  # fmt: skip

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.reads: frozenset[str] = frozenset(
            name
            for rule in (*bundle.rules, *bundle.budgets)
            for condition in rule.conditions.values()
            for name in (*condition.reads, *rule.action.key)
        )
        """Names of the facts that any rule reads: what need not be computed for others."""
        found = frozenset(
            (terms_of(condition.tree).names.get("tool.name"), what)
            for rule in (*bundle.rules, *bundle.budgets)
            for condition in rule.conditions.values()
            for what in remembered(condition.tree)
        )
        self.remembers: tuple[tuple[frozenset[str] | None, str, str], ...] = tuple(
            (tools, what.argument, what.key) for tools, what in found
        )
        """What must be remembered of calls that are let run: of which tools (None: all), the argument
        whose values are added up (empty: calls are counted), and the fact that is counted by."""
        self.has_history = not self.reads.isdisjoint(NAMES)
        """Whether any rule asks for what was let run before."""
        self.counts_repeats = "run.repeats" in self.reads
        """Whether any rule asks how often a run has made the same call."""
        self._looked_for: dict[tuple[str, str], frozenset[str] | None] = {}
        self._shelves = shelve(bundle.policies)
        self._acting: dict[tuple[str, str], bool] = {}
        """What `acts_after` has answered before."""
        facts = {"tool": "tool.name", "model": "model.name"}
        # Found by the point's text as well: a StrEnum is equal to it and has its hash.
        self._books = {
            point: _Book(shelf, facts.get(point.partition(".")[0], ""), {})
            for point, shelf in self._shelves.items()
        }

    def decide(self, point: str, facts: Mapping[str, object]) -> Decision:
        """
        Answer one question.

        Every document in scope answers for itself, and the most restrictive
        answer holds: adding a document never lets a call run that did not.
        What cannot be evaluated denies, in mode `enforce`. Before a call,
        numbers in `args` that are not finite deny, whether or not a rule
        reads them.

        Args:
            point:
                A `Point`, or its text.
            facts:
                Values by the names of the catalogue. A `KeyError` means that
                there is no value, and is an evaluation error for the rules
                that read it. A subclass of dict may compute values when asked.

        Returns:
            The decision. Instances may be shared between calls.

        Raises:
            PolicyEvaluationError: There is no such point. Nothing else is raised.
        """
        book = self._books.get(point)  # type: ignore[call-overload]
        if book is None:
            raise PolicyEvaluationError(f"`{point}` is no intervention point")
        try:
            agent, environment = facts["agent.name"], facts["env.name"]
            name = facts[book.fact] if book.fact else ""
            plan = book.plans.get((agent, environment, name))
        except Exception:
            return self._decide_slowly(book, facts)
        return self._decide_slowly(book, facts) if plan is None else self.follow(plan, facts)

    def decide_named(
        self, point: str, agent: str, environment: str, name: str, facts: Mapping[str, object]
    ) -> Decision:
        """
        Answer one question as `decide`, for a caller who has the names at hand.

        Args:
            point:
                A `Point`, or its text.
            agent:
                The fact `agent.name`.
            environment:
                The fact `env.name`.
            name:
                The fact `tool.name` or `model.name`, by the point; anything at others.
            facts:
                All facts, these among them.

        Returns:
            The decision.

        Raises:
            PolicyEvaluationError: There is no such point. Nothing else is raised.
        """
        book = self._books.get(point)  # type: ignore[call-overload]
        if book is None:
            raise PolicyEvaluationError(f"`{point}` is no intervention point")
        plan = book.plans.get((agent, environment, name if book.fact else ""))
        return self._decide_slowly(book, facts) if plan is None else self.follow(plan, facts)

    def has_rules(self, point: str, name: str = "") -> bool:
        """
        Say whether a decision at a point can be anything but a plain allow.

        Args:
            point:
                A `Point`, or its text.
            name:
                Of the tool or model; empty: any.

        Returns:
            False only where `decide` would allow every such call without a word.
        """
        shelf = self._shelves[Point(point)]
        if point.endswith(".before"):
            # NaN in arguments, a default of deny, or a call that no document covers can each deny.
            return True
        return bool(shelf.candidates(name) if name else shelf.every())

    def acts_after(self, point: str, name: str = "") -> bool:
        """
        Say whether a rule after the call could withhold or change its result.

        Args:
            point:
                `tool.after`, `model.after` or `agent.after`.
            name:
                Of the tool or model; empty: any.

        Returns:
            True where a result must be held back until it was judged.
        """
        known = self._acting.get((point, name))
        if known is not None:
            return known
        shelf = self._shelves[Point(point)]
        acts = any(
            asked.rule.mode is Mode.ENFORCE and asked.rule.effect in (Effect.KILL, Effect.DENY, Effect.REDACT)
            for asked in (shelf.candidates(name) if name else shelf.every())
        )
        if len(self._acting) >= PLANS_MAX:
            self._acting.clear()
        self._acting[point, name] = acts
        return acts

    def looks_for(self, point: str, name: str = "") -> frozenset[str] | None:
        """
        Say what the rules after a call look for in its result, where they can judge it piece by piece.

        Args:
            point:
                `tool.after`, `model.after` or `agent.after`.
            name:
                Of the tool or model; empty: any.

        Returns:
            Kinds of `redaction`; None where a rule needs the whole result, or
            the end of the call.
        """
        key = (str(point), name)
        if key not in self._looked_for:
            if len(self._looked_for) >= PLANS_MAX:
                self._looked_for.clear()
            shelf = self._shelves[Point(point)]
            rules = shelf.candidates(name) if name else shelf.every()
            self._looked_for[key] = kinds_looked_for(rules, Point(point))
        return self._looked_for[key]

    def _decide_slowly(self, book: _Book, facts: Mapping[str, object]) -> Decision:
        """Decide a kind of question for the first time, or one with a name missing."""
        faults: list[Fault] = []
        names: list[str | None] = []
        for fact in ("agent.name", "env.name", book.fact):
            value: object = None
            try:
                value = facts[fact] if fact else ""
            except KeyError:
                # Rules about that name are then asked, and cannot be evaluated. A tool has a name in any case.
                if fact == "tool.name":
                    faults.append(Fault(f"`{fact}` has no value", None))
            except Exception as error:
                faults.append(Fault(f"`{fact}` could not be had: {type(error).__name__}", None))
            else:
                if not isinstance(value, str):
                    faults.append(Fault(f"`{fact}` has no value", None))
            names.append(str(value) if isinstance(value, str) else None)
        key = (names[0], names[1], names[2])
        plan = book.plans.get(key) or book.shelf.plan(*key)
        if faults:
            return conclude(self.bundle, plan, [], faults, facts)
        if len(book.plans) >= PLANS_MAX:
            book.plans.clear()
        book.plans[key] = plan
        return self.follow(plan, facts)

    def plan_of(self, point: str, agent: str, environment: str, name: str) -> Plan | None:
        """
        Give the plan of a kind of question that was asked before.

        Args:
            point:
                A `Point`, or its text.
            agent:
                The fact `agent.name`.
            environment:
                The fact `env.name`.
            name:
                The fact `tool.name` or `model.name`, by the point; anything at others.

        Returns:
            What `follow` takes; None where it was not asked yet.
        """
        book = self._books[Point(point)]
        return book.plans.get((agent, environment, name if book.fact else ""))

    def reads_of(self, plan: Plan) -> frozenset[str]:
        """
        Name the facts that are read to answer one kind of question.

        Args:
            plan:
                Given by `plan_of`, of this engine.
        """
        asked = [one for group in plan.groups for _, one in group.asked]
        return frozenset(name for one in asked for name in one.rule.conditions[one.point].reads)

    def silence_of(self, plan: Plan, sources: FactSources) -> Silence | None:
        """
        Make what says at once that no rule of a plan has anything to say; worth it for what is asked often.

        Args:
            plan:
                Given by `plan_of`, of this engine.
            sources:
                Where the facts of these questions are found.

        Returns:
            What to ask; None where `follow` is to be asked, always.
        """
        decision = plan.answers.get(())
        if decision is None:
            return None
        trees = [one.rule.conditions[one.point].tree for group in plan.groups for _, one in group.asked]
        made = ask_any(trees, sources, trees_max=GROUP_RULES_MAX)
        if made is None:
            return None
        return Silence(made[0], decision)

    def follow(self, plan: Plan, facts: Mapping[str, object]) -> Decision:
        """
        Answer one question of a kind whose plan is known.

        Args:
            plan:
                Given by `plan_of`, of this engine.
            facts:
                As for `decide_named`.

        Returns:
            The decision.
        """
        matched: list[Asked] | None = None
        faults: list[Fault] | None = None
        if plan.checks_args:
            try:
                wrong = find_not_finite(facts["args"])
            except KeyError:
                wrong = ""
            except Exception as error:
                wrong = f"args could not be read: {type(error).__name__}"
            if wrong:
                faults = [Fault(wrong, None)]
        for group in plan.groups:
            found = group.matching(facts)
            if found is None:
                found, failed = _one_by_one(group, facts)
                if failed:
                    faults = [*(faults or ()), *failed]
            if found:
                matched = [*(matched or ()), *found]
        if faults is not None:
            return conclude(self.bundle, plan, matched or [], faults, facts)
        key = () if matched is None else tuple([asked.order for asked in matched])
        known = plan.answers.get(key)
        if known is not None:
            return known
        decision = conclude(self.bundle, plan, matched or [], [], facts)
        if decision.effect is Effect.ALLOW and decision.values is None and len(plan.answers) < ANSWERS_MAX:
            plan.answers[key] = decision
        return decision


def _one_by_one(group: Group, facts: Mapping[str, object]) -> tuple[list[Asked], list[Fault]]:
    """Ask each rule by itself: those that match, and those that cannot be evaluated."""
    matched: list[Asked] = []
    faults: list[Fault] = []
    for function, asked in group.asked:
        try:
            answer = function(facts)
        except PolicyEvaluationError as error:
            faults.append(Fault(_said(error, asked, asked.point, facts), asked))
            continue
        except Exception as error:
            # A fact that is computed when asked may fail in any way; its words may hold user data.
            faults.append(Fault(f"a fact could not be had: {type(error).__name__}", asked))
            continue
        if answer is True:
            matched.append(asked)
        elif answer is not False:
            faults.append(Fault(f"the condition gave a {type(answer).__name__}, expected a bool", asked))
    return matched, faults


def _said(error: PolicyEvaluationError, asked: Asked, point: Point, facts: Mapping[str, object]) -> str:
    """What a condition says of its failure, without its own text, and which arguments it missed."""
    text = str(error)
    if text.startswith("`"):
        # The rule is named beside it, so its source need not be.
        text = text.partition("`: ")[2] or text
    try:
        args = facts["args"]
    except Exception:
        return text
    keys = asked.rule.conditions[point].arg_keys
    missing = sorted(key for key in keys if key not in args) if isinstance(args, Mapping) else []
    return f"{text} (args has no {', '.join(f'`{key}`' for key in missing)})" if missing else text
