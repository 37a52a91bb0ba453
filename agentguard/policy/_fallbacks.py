"""
Fallbacks: whether they can work, which one takes a call, and what then holds.

A call that goes elsewhere is asked about anew, as what it goes to. What the
first question demanded stays demanded: a fallback is no way round an approval.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence

from agentguard.policy._bundle import Bundle
from agentguard.policy._model import Policy, Rule
from agentguard.policy._problems import Problems, Source, did_you_mean
from agentguard.policy._terms import Terms, terms_of
from agentguard.policy._verdict import firmest, join_terms
from agentguard.values import GATES, Decision, DenialKind, Effect, Fallback, Mode, Point

FALLBACKS_MAX = 3
"""How often one call may be sent on."""

_RANK = {effect: rank for rank, effect in enumerate(GATES)}
_MAY_RUN = (Effect.ALLOW, Effect.REQUIRE_APPROVAL)


def fallback_of(decision: Decision, *, name: str, refused_by: str = "", policy: str = "") -> Fallback | None:
    """
    Say where a call goes instead.

    Args:
        decision:
            Of the engine, before its gates were asked.
        name:
            Of the model, tool or agent that is called: going to itself is going nowhere.
        refused_by:
            Id of the throttle, breaker or budget that refuses; empty: none was asked yet.
        policy:
            Its document.

    Returns:
        The first that fits, by document and id, so that the order of files changes nothing; None where it stays.
    """
    if decision.effect not in _MAY_RUN:
        return None
    for fallback in decision.fallbacks:
        if name == (fallback.model or fallback.function):
            continue
        if not refused_by and not fallback.instead_of:
            return fallback
        if refused_by and fallback.policy == policy and refused_by in fallback.instead_of:
            return fallback
    return None


def carried(bundle: Bundle, first: Decision, second: Decision, why: str) -> Decision:
    """
    Join what was demanded of a call with what is said of what it goes to.

    Args:
        bundle:
            For the people whom both ask.
        first:
            The engine's decision about the call as it was asked for.
        second:
            That about what it goes to.
        why:
            Where it goes and by which rule, for the reviewer.

    Returns:
        The second decision, with approval, redaction and record as the stricter of both ask for. Limits are
        those of what really runs.
    """
    matched = tuple(dict.fromkeys((*first.matched, *second.matched)))
    reason = "; ".join(part for part in (why, second.reason) if part)
    values = {**(first.values or {}), **(second.values or {})} or None
    both = dataclasses.replace(
        second,
        reason=reason,
        matched=matched,
        errors=tuple(dict.fromkeys((*first.errors, *second.errors))),
        values=values,
        warnings=tuple(dict.fromkeys((*first.warnings, *second.warnings))),
        redact=tuple(dict.fromkeys((*first.redact, *second.redact))),
        record=firmest((first.record, second.record)),
        would_be=_stricter(first.would_be, second.would_be),
    )
    if second.effect not in _MAY_RUN or first.approval is None:
        return both
    terms = first.approval
    if second.approval is not None:
        joined = join_terms(bundle, first.approval, second.approval)
        if joined is None:
            return dataclasses.replace(
                both, effect=Effect.DENY, kind=DenialKind.FORBIDDEN, approval=None, wait_s=0.0, gates=(), fallbacks=(),
                reason=f"denied because {first.rule_id} and {second.rule_id} ask for the approval of different "
                f"people, and nobody is named by both; {reason}",
            )  # fmt: skip
        return dataclasses.replace(both, approval=joined, wait_s=min(first.wait_s, second.wait_s))
    return dataclasses.replace(
        both, effect=Effect.REQUIRE_APPROVAL, rule_id=first.rule_id, policy=first.policy, kind=first.kind,
        agent_message=first.agent_message, approval=terms, wait_s=first.wait_s,
        reason="; ".join(part for part in (why, first.reason, second.reason) if part),
    )  # fmt: skip


def _stricter(one: Effect | None, other: Effect | None) -> Effect | None:
    found = [effect for effect in (one, other) if effect is not None]
    return min(found, key=_RANK.__getitem__) if found else None


# -- whether they can work -----------------------------------------------------------------------


def fallbacks_agree(policies: Sequence[Policy], problems: Problems) -> None:
    """
    Refuse fallbacks that cannot work: to themselves, in a circle, to what is denied, for limits that are none.

    Args:
        policies:
            All loaded documents.
        problems:
            Where the mistakes go.
    """
    ways: dict[tuple[Point, str], dict[str, Rule]] = {}
    for policy in policies:
        limits = {rule.id: rule for rule in (*policy.rules, *policy.budgets) if rule.action.limit is not None}
        for rule in policy.rules:
            fallback = rule.action.fallback
            if fallback is None:
                continue
            _limits_exist(rule, policy, limits, problems)
            for point in rule.points:
                _can_work(rule, point, policies, limits, problems)
                if not fallback.instead_of and rule.mode is Mode.ENFORCE:
                    for name in _certain(rule, point):
                        ways.setdefault((point, _kind(rule)), {}).setdefault(name, rule)
    for found in ways.values():
        _no_circles(found, problems)


def check_functions(bundle: Bundle, known: Collection[str]) -> None:
    """
    Refuse fallbacks to functions that the application has not registered.

    Args:
        bundle:
            As it was loaded.
        known:
            Names of the registered functions.

    Raises:
        PolicyDocumentError: There are such.
    """
    problems = Problems()
    for rule in bundle.rules:
        fallback = rule.action.fallback
        if fallback is not None and fallback.function and fallback.function not in known:
            _problem(
                problems, rule, f"fallback to function `{fallback.function}`, which is not registered",
                code="unknown-function",
                hint=did_you_mean(fallback.function, sorted(known))
                or "`agentguard.register_fallback(name, function)` before `init()`",
            )  # fmt: skip
    if problems.count:
        raise problems.error()


def _limits_exist(rule: Rule, policy: Policy, limits: Mapping[str, Rule], problems: Problems) -> None:
    """What `instead_of` names are throttles, breakers and budgets of this document, asked at the same point."""
    fallback = rule.action.fallback
    assert fallback is not None
    known = {other.id for other in policy.rules}
    for name in fallback.instead_of:
        limit = limits.get(name)
        if limit is None and name in known:
            _problem(
                problems, rule, f"instead_of names `{name}`, which is no throttle, breaker or budget",
                code="not-supported", hint="a fallback stands in for limits, and for no other rule that says no",
            )  # fmt: skip
        elif limit is None:
            _problem(
                problems, rule, f"instead_of names `{name}`, which is not in this document", code="unknown-rule",
                hint=did_you_mean(name, sorted(limits)),
            )  # fmt: skip
        elif not set(rule.points) & set(limit.points):
            _problem(
                problems, rule, f"instead_of names `{name}`, which is asked at {', '.join(limit.points)}",
                code="wrong-point", hint="a fallback stands at the point of its limits",
            )  # fmt: skip


def _can_work(
    rule: Rule, point: Point, policies: Sequence[Policy], limits: Mapping[str, Rule], problems: Problems
) -> None:
    """What it goes to is something else, is not denied for certain, and not held by the very same limit."""
    fallback = rule.action.fallback
    assert fallback is not None
    name, fact = fallback.model or fallback.function, _fact(point)
    if _pinned(rule, point, fact) == frozenset((name,)):
        _problem(problems, rule, f"the call goes to `{name}`, which it is already", code="fallback-circle")
        return
    for policy in policies:
        if policy.name != rule.policy and (policy.agents or policy.environments):
            continue
        for other in policy.rules:
            if other.mode is Mode.ENFORCE and other.effect in (Effect.DENY, Effect.KILL):
                pinned = _pinned(other, point, fact, is_certain=True)
                if pinned is not None and (not pinned or name in pinned):
                    _problem(
                        problems, rule, f"the call goes to `{name}`, which {other.id} of {other.policy} always denies",
                        code="fallback-denied",
                    )  # fmt: skip
    for limit_id in fallback.instead_of:
        limit = limits.get(limit_id)
        if limit is None or point not in limit.points or fact in limit.action.key:
            continue
        pinned = _pinned(limit, point, fact)
        if pinned is None or name in pinned:
            _problem(
                problems, rule, f"{limit_id} counts calls of `{name}` too, so it would refuse that as well",
                code="fallback-denied",
                hint=f"give {limit_id} the key `{fact}`, or a condition such as `{fact} == 'NAME'`",
            )  # fmt: skip


def _no_circles(ways: Mapping[str, Rule], problems: Problems) -> None:
    """Follow what goes on for certain; who comes back to where it was is in a circle."""
    seen: set[str] = set()
    for start in ways:
        path: list[str] = []
        name = start
        while name in ways and name not in seen and name not in path:
            path.append(name)
            fallback = ways[name].action.fallback
            assert fallback is not None
            name = fallback.model or fallback.function
        if name in path and len(path) > 1:
            circle = [*path[path.index(name) :], name]
            _problem(
                problems,
                ways[name],
                f"fallbacks go in a circle: {' to '.join(circle)}",
                code="fallback-circle",
            )
        seen.update(path)


def _certain(rule: Rule, point: Point) -> frozenset[str]:
    """Names that a rule takes for certain, whatever else the call is."""
    return _pinned(rule, point, _fact(point), is_certain=True) or frozenset()


def _pinned(rule: Rule, point: Point, fact: str, *, is_certain: bool = False) -> frozenset[str] | None:
    """
    The only names that a rule is about; None where it is about any.

    With *is_certain*: names for which it matches whatever else the call is, empty for all names; None where
    it depends on something else.
    """
    condition = rule.conditions.get(point)
    if condition is None:
        return None
    terms = terms_of(condition.tree)
    names = dict(terms.names)
    if rule.tools and fact == "tool.name":
        own = frozenset(rule.tools)
        names[fact] = names[fact] & own if fact in names else own
    if is_certain:
        whole = Terms(names, is_whole=terms.is_whole)
        if not whole.is_whole or whole.is_never or not names.keys() <= {fact}:
            return None
        return names.get(fact, frozenset())
    return names.get(fact)


def _fact(point: Point) -> str:
    return f"{point.partition('.')[0]}.name"


def _kind(rule: Rule) -> str:
    fallback = rule.action.fallback
    return "model" if fallback is not None and fallback.model else "function"


def _problem(problems: Problems, rule: Rule, text: str, *, code: str, hint: str = "") -> None:
    place = rule.place
    problems.add(Source(place.path), place.line, place.column, f"{rule.id}: {text}", code=code, hint=hint)
