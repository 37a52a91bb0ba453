"""
What loads, and is still worth a person's eye.

A finding never stops a bundle from loading. `policy check` prints findings,
and `--strict` makes them count.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from datetime import date
from typing import NamedTuple

from agentguard.policy._bundle import Bundle
from agentguard.policy._controls import unknown_control
from agentguard.policy._exceptions import is_expired
from agentguard.policy._model import Place, Policy, PolicyException, Rule
from agentguard.policy._problems import quoted
from agentguard.policy._terms import terms_of
from agentguard.policy.conditions import tree as t
from agentguard.values import Effect, Mode, Point

_RESTRICTING = (Effect.DENY, Effect.REQUIRE_APPROVAL, Effect.REDACT)
_NEAR = 0.75
"""How like each other two names of tools are that are taken for a slip: a share, as `difflib` counts it."""
_MODEL_SUPPLIED_HINT = "allow by names and trusted facts, and deny by what the model wrote"


class Finding(NamedTuple):
    """Something in a bundle that a reviewer should look at."""

    place: Place
    code: str
    """A stable short name of the kind of finding, such as `untested`."""
    rule_id: str
    """Empty where it concerns the document."""
    text: str
    hint: str = ""
    level: str = "warning"
    """`warning`, or `note`, which `--strict` lets pass."""

    def __str__(self) -> str:
        """`path:line:column: text`."""
        return f"{self.place.path}:{self.place.line}:{self.place.column}: {self.text}"


def lint(bundle: Bundle, *, today: date) -> tuple[Finding, ...]:
    """
    Look through a bundle that loaded.

    Args:
        bundle:
            The documents.
        today:
            The day by which `recertify_by` is overdue, in UTC.

    Returns:
        Findings in the order of files and lines.
    """
    found: list[Finding] = []
    found.extend(_overdue(bundle, today))
    found.extend(_untested(bundle))
    found.extend(_twice(bundle))
    found.extend(_excepted(bundle, today))
    found.extend(_uncovered(bundle))
    for policy in bundle.policies:
        found.extend(_unreachable(policy))
        found.extend(_useless_allow(policy))
        found.extend(_never_runs(policy))
        for rule in policy.rules:
            found.extend(_model_supplied(bundle, rule))
            found.extend(_nobody_approves(bundle, rule))
        for rule in (*policy.rules, *policy.budgets):
            found.extend(_unknown_controls(rule))
            found.extend(_unknown_tools(bundle, rule))
    return tuple(sorted(found, key=lambda one: (one.place.path, one.place.line, one.place.column, one.code)))


def _excepted(bundle: Bundle, today: date) -> Iterator[Finding]:
    """Exceptions: the expired ones are in nobody's interest any more, the others are to be seen."""
    for one in bundle.exceptions:
        if is_expired(one, today):
            yield Finding(
                one.place, "expired-exception", one.rule_id,
                f"exception `{one.name}` expired on {one.expires} and is ignored: {one.rule_id} is in force",
                "remove the document, or let it be approved anew",
            )  # fmt: skip
        else:
            yield Finding(
                one.place, "exception", one.rule_id,
                f"{one.rule_id} is NOT ENFORCED for {scope_in_words(one)} until {one.expires} "
                f"(exception `{one.name}`, {one.ticket}, approved by {one.approver})",
                level="note",
            )  # fmt: skip


def scope_in_words(exception: PolicyException) -> str:
    """
    Say for which calls an exception counts.

    Args:
        exception:
            Of a loaded bundle.

    Returns:
        Such as `agents fin-*, environments prod`, or `every call`.
    """
    parts = [
        f"{what} {', '.join(globs)}"
        for what, globs in (
            ("agents", exception.agents), ("environments", exception.environments),
            ("tools", exception.tools), ("principals", exception.principals),
        )
        if globs
    ]  # fmt: skip
    return "; ".join(parts) or "every call"


def _overdue(bundle: Bundle, today: date) -> Iterator[Finding]:
    """Documents whose day of recertification is past."""
    for policy in bundle.policies:
        if policy.recertify_by is not None and policy.recertify_by < today:
            days = (today - policy.recertify_by).days
            yield Finding(
                policy.place, "overdue", "",
                f"policy `{policy.name}` was to be recertified by {policy.recertify_by}, {days} days ago",
                "review it, and write a new `recertify_by`",
            )  # fmt: skip


def _untested(bundle: Bundle) -> Iterator[Finding]:
    """Rules that no test case expects to match."""
    tested: set[tuple[str, str]] = set()
    for test in bundle.tests:
        names = test.policies or tuple(policy.name for policy in bundle.policies)
        for case in test.cases:
            ids = {case.expect.rule or "", *(case.expect.matched or ())}
            tested.update((name, rule_id) for name in names for rule_id in ids)
    for rule in bundle.rules:
        if (rule.policy, rule.id) not in tested:
            yield Finding(
                rule.place, "untested", rule.id, f"rule `{rule.id}` has no test that expects it",
                "write a case with `expect: { decision: ..., matched: [...] }`, or `rule:`",
            )  # fmt: skip


def _twice(bundle: Bundle) -> Iterator[Finding]:
    """Ids that several documents use: the decision log then needs both names."""
    seen: dict[str, Rule] = {}
    for rule in bundle.rules:
        first = seen.setdefault(rule.id, rule)
        if first is not rule:
            yield Finding(
                rule.place, "duplicate-id", rule.id,
                f"rule id `{rule.id}` is also used in policy `{first.policy}` ({first.place.path}:{first.place.line})",
                "give it an id of its own",
            )  # fmt: skip


def _uncovered(bundle: Bundle) -> Iterator[Finding]:
    """Every document has a scope: what lies outside all of them is denied."""
    if bundle.policies and all(policy.agents or policy.environments for policy in bundle.policies):
        yield Finding(
            bundle.policies[0].place, "uncovered", "",
            "every policy has a `scope`: calls outside all of them are denied",
            "add a policy without `scope` that says what holds for the rest",
        )  # fmt: skip


def _unreachable(policy: Policy) -> Iterator[Finding]:
    """Rules that can never match, or never decide."""
    unconditional: dict[Point, Rule] = {}
    written: dict[tuple[str, tuple[str, ...], tuple[Point, ...], Effect, Mode], Rule] = {}
    for rule in policy.rules:
        if all(_cannot_hold(rule, point) for point in rule.points):
            yield Finding(
                rule.place,
                "unreachable",
                rule.id,
                f"rule `{rule.id}` can never match",
                "its terms exclude one another",
            )
            continue
        key = (" ".join(rule.when.split()), rule.tools, rule.points, rule.effect, rule.mode)
        first = written.setdefault(key, rule)
        if first is not rule:
            yield Finding(
                rule.place, "unreachable", rule.id,
                f"rule `{rule.id}` asks and does the same as `{first.id}` in line {first.place.line}", "remove one",
            )  # fmt: skip
        for point in rule.points:
            terms = terms_of(rule.conditions[point].tree)
            is_always = terms.is_whole and not terms.names and not rule.tools
            if is_always and rule.effect is Effect.DENY and rule.mode is Mode.ENFORCE:
                unconditional.setdefault(point, rule)
    for rule in policy.rules:
        blockers = [unconditional.get(point) for point in rule.points]
        if (
            rule.effect in (Effect.ALLOW, Effect.REQUIRE_APPROVAL)
            and all(blockers)
            and rule.mode is Mode.ENFORCE
        ):
            assert blockers[0] is not None
            yield Finding(
                rule.place, "unreachable", rule.id,
                f"rule `{rule.id}` never decides: `{blockers[0].id}` denies every call there",
            )  # fmt: skip


def _cannot_hold(rule: Rule, point: Point) -> bool:
    """Whether the names that a rule is about leave no call."""
    terms = terms_of(rule.conditions[point].tree)
    if terms.is_never:
        return True
    pinned = terms.names.get("tool.name")
    return bool(rule.tools) and pinned is not None and not pinned & frozenset(rule.tools)


def _unknown_controls(rule: Rule) -> Iterator[Finding]:
    """Controls that their framework does not have: a report would list them, and an auditor not find them."""
    for name in rule.controls:
        hint = unknown_control(name)
        if hint is not None:
            yield Finding(
                rule.place, "unknown-control", rule.id, f"rule `{rule.id}` names {quoted(name)}, which is no control "
                "of that framework", hint,
            )  # fmt: skip


def _unknown_tools(bundle: Bundle, rule: Rule) -> Iterator[Finding]:
    """Tools that no ToolSchema declares, and that are nearly one that does: a rule about them never matches."""
    declared = bundle.tool_schemas
    named = set(rule.tools)
    for condition in rule.conditions.values():
        named |= terms_of(condition.tree).names.get("tool.name", frozenset())
    for name in sorted(named.difference(declared)):
        near = difflib.get_close_matches(name, declared, n=1, cutoff=_NEAR)
        if near:
            yield Finding(
                rule.when_place, "unknown-tool", rule.id,
                f"rule `{rule.id}` is about tool {quoted(name)}, which no ToolSchema declares",
                f"did you mean `{near[0]}`?",
            )  # fmt: skip


def _useless_allow(policy: Policy) -> Iterator[Finding]:
    """An allow where everything is allowed anyway."""
    for rule in policy.rules:
        if rule.effect is Effect.ALLOW and all(policy.unmatched.get(point, True) for point in rule.points):
            yield Finding(
                rule.place, "no-effect", rule.id,
                f"rule `{rule.id}` allows what is allowed anyway: `unmatched` is allow there",
                "an allow overrules no deny; write `unmatched: deny`, or remove the rule",
            )  # fmt: skip


def _never_runs(policy: Policy) -> Iterator[Finding]:
    """Kinds of calls that nothing of a document can permit, although it has rules for them."""
    for point, may_run in policy.unmatched.items():
        rules = [rule for rule in policy.rules if point in rule.points]
        if may_run or any(rule.effect in (Effect.ALLOW, Effect.REQUIRE_APPROVAL) for rule in rules):
            continue
        kind = point.partition(".")[0]
        yield Finding(
            policy.place, "never-runs", "",
            f"policy `{policy.name}` denies every {kind} call: `unmatched` is deny, and no rule at {point} allows",
            f"write an allow rule, or `unmatched: {{ agent: ..., model: ..., tool: ... }}` with `{kind}: allow`",
        )  # fmt: skip


def _model_supplied(bundle: Bundle, rule: Rule) -> Iterator[Finding]:
    """
    Facts that a model wrote, where they relax a rule.

    An allow that reads one can be talked into by writing it. A rule that
    restricts is relaxed where the model may leave an argument out, and where
    its own yes or no lifts the rule.
    """
    tree = rule.conditions[rule.points[0]].tree
    specs = bundle.facts
    read = {name for condition in rule.conditions.values() for name in condition.reads}
    supplied = sorted(name for name in read if name in specs and not specs[name].is_trusted)
    if rule.effect is Effect.ALLOW and supplied:
        keys = sorted(f"args.{key}" for condition in rule.conditions.values() for key in condition.arg_keys)
        names = ", ".join(f"`{name}`" for name in (keys or supplied))
        yield Finding(
            rule.when_place, "model-supplied", rule.id,
            f"rule `{rule.id}` allows because of {names}, which the model wrote", _MODEL_SUPPLIED_HINT,
        )  # fmt: skip
    elif rule.effect in _RESTRICTING:
        for term in _conjuncts(tree):
            name = _asked_for(term)
            if name:
                yield Finding(
                    rule.when_place, "model-supplied", rule.id,
                    f"rule `{rule.id}` does not hold where the model leaves `args.{name}` out",
                    f"drop `has(args.{name}) &&`: a missing argument is then an evaluation error, and denies",
                )  # fmt: skip
            name = _own_word(term)
            if name:
                yield Finding(
                    rule.when_place, "model-supplied", rule.id,
                    f"rule `{rule.id}` does not hold where the model says so in `args.{name}`",
                    "a model's own word lifts no rule: ask for approval, or read a trusted fact",
                )  # fmt: skip


def _conjuncts(tree: t.Tree) -> tuple[t.Tree, ...]:
    """The terms that must all hold."""
    return tree.terms if isinstance(tree, t.Logic) and tree.operator == "&&" else (tree,)


def _asked_for(term: t.Tree) -> str:
    """The argument whose absence makes a term false; empty: none."""
    is_asked = isinstance(term, t.Has) and isinstance(term.operand, t.Fact) and term.operand.name == "args"
    return term.name if is_asked and isinstance(term, t.Has) else ""


def _own_word(term: t.Tree) -> str:
    """The argument that makes a term false by being true, or by being there; empty: none."""
    if isinstance(term, t.Not):
        return _asked_for(term.operand) or _argument(term.operand)
    if isinstance(term, t.Comparison) and term.operator in ("==", "!="):
        for one, other in ((term.left, term.right), (term.right, term.left)):
            if isinstance(other, t.Constant) and other.value is (term.operator == "!="):
                return _argument(one)
    return ""


def _argument(tree: t.Tree) -> str:
    """The argument that a part reads and is nothing but; empty: none."""
    if isinstance(tree, t.Fact) and tree.name.startswith("args."):
        return tree.name.removeprefix("args.")
    if isinstance(tree, t.Member) and isinstance(tree.operand, t.Fact) and tree.operand.name == "args":
        return str(tree.key.value) if isinstance(tree.key, t.Constant) else ""
    return ""


def _nobody_approves(bundle: Bundle, rule: Rule) -> Iterator[Finding]:
    """Approval that nobody is declared to give."""
    terms = rule.action.approval
    if terms is not None and not bundle.approver_documents:
        yield Finding(
            rule.place, "no-approver", rule.id,
            f"rule `{rule.id}` waits for {', '.join(terms.approvers)}, and no Approvers document declares anybody",
            "write a document of kind Approvers with their public keys; until then nobody can grant it",
            level="note",
        )  # fmt: skip
