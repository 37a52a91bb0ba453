"""
A rule in English: where it is asked, when it matches, what it does, whether it is enforced.

Rendered from what was compiled, never from a title or a comment: a reviewer
reads what is enforced.
"""

from __future__ import annotations

from agentguard.policy._model import Action, Policy, Rule
from agentguard.policy.conditions import render_plain, say_detectors
from agentguard.values import (
    BreakerTerms,
    BudgetTerms,
    DenialKind,
    Effect,
    GrantScopes,
    Mode,
    Point,
    ThrottleTerms,
)

_AT = {
    Point.AGENT_BEFORE: "Before an agent runs",
    Point.AGENT_AFTER: "After an agent has run",
    Point.MODEL_BEFORE: "Before a model is called",
    Point.MODEL_AFTER: "After a model has answered",
    Point.TOOL_BEFORE: "Before a tool runs",
    Point.TOOL_AFTER: "After a tool has run",
    Point.DRIFT_ALARM: "When drift is found",
}
_KINDS = {
    DenialKind.FIX_INPUT: ", and may be tried again with other arguments",
    DenialKind.WAIT: ", and may be tried again later",
}
_MODES = {
    Mode.WARN: "NOT ENFORCED (mode warn: the call runs, and the decision warns)",
    Mode.SHADOW: "NOT ENFORCED (mode shadow: the call runs, and only the log says what would have been)",
}


def rule_in_plain_words(rule: Rule) -> str:
    """
    Say in English what a rule does.

    Args:
        rule:
            Of a loaded bundle.

    Returns:
        One or two sentences.

    Example:
        >>> from agentguard.policy import load_texts
        >>> text = '''
        ... apiVersion: agentguard/v1
        ... kind: Policy
        ... metadata: { name: p }
        ... defaults: { unmatched: allow, mode: enforce, timezone: UTC }
        ... rules:
        ...   - { id: A, title: Anything but this, at: tool.before, when: cost.usd_today > 50, then: deny }
        ... '''
        >>> rule_in_plain_words(load_texts({"p.yaml": text}).rules[0])
        'Before a tool runs: if cost.usd_today is greater than 50, the call is denied.'
    """
    sentences = []
    by_words: dict[str, list[Point]] = {}
    for point in rule.points:
        by_words.setdefault(render_plain(rule.conditions[point].tree), []).append(point)
    for words, points in by_words.items():
        where = " or ".join(
            _AT[point] if not index else _AT[point][0].lower() + _AT[point][1:]
            for index, point in enumerate(points)
        )
        tools = f" (only {', '.join(rule.tools)})" if rule.tools else ""
        when = "always" if words == "always" else f"if {words}"
        is_after = all(point.endswith(".after") for point in points)
        sentences.append(f"{where}{tools}: {when}, {action_in_plain_words(rule.action, is_after=is_after)}.")
    if rule.mode in _MODES:
        sentences.append(f"{_MODES[rule.mode]}.")
    return " ".join(sentences)


def action_in_plain_words(action: Action, *, is_after: bool = False) -> str:
    """
    Say in English what happens when a rule matches.

    Args:
        action:
            Its `then`.
        is_after:
            Whether the call has run already.

    Returns:
        A clause.
    """
    if action.limit is not None:
        return _limit(action)
    if action.effect is Effect.ALLOW:
        return "the call may run, where nothing stricter matches"
    if action.effect is Effect.DENY:
        if is_after:
            return "its result is withheld"
        return f"the call is denied{_KINDS.get(action.kind, '')}" + (
            f" (after {_duration(action.retry_after_s)})" if action.retry_after_s is not None else ""
        )
    if action.approval is not None:
        terms = action.approval
        people = " or ".join(
            f"the group {name.removeprefix('group:')}" if name.startswith("group:") else name
            for name in terms.approvers
        )
        count = "one person" if terms.approvals == 1 else f"{terms.approvals} different people"
        return (
            f"the call waits until {count} of {people}, never the requester, approve{'s' if terms.approvals == 1 else ''} it"
            f" within {_duration(terms.expires_s)}{_scope(terms.scopes)}"
        )
    if action.fallback is not None:
        limits = action.fallback.instead_of
        when = f" where {' or '.join(limits)} refuses it" if limits else " instead"
        return f"a call that may run goes to the {action.fallback.target}{when}, and is judged anew as that"
    if action.redact:
        where = "its result" if is_after else "its arguments"
        return f"what {say_detectors(action.redact)} is replaced in {where}"
    if action.effect is Effect.WARN:
        return "the decision warns"
    if action.kill_scope:
        what = "everything" if action.kill_scope == "all" else f"this {action.kill_scope}"
        return f"{what} is stopped on the whole machine, until a person lifts it"
    return f"the effect is {action.effect}"


def _scope(scopes: GrantScopes | None) -> str:
    """How wide they may approve."""
    if scopes is None:
        return ""
    what = " of other arguments that they describe" if scopes.any_arguments else " of the same arguments"
    runs = "any run" if scopes.any_run else "the same run"
    return (
        f", for up to {scopes.uses} call{'' if scopes.uses == 1 else 's'} of {runs}{what}"
        f" within {_duration(scopes.lasts_s)}"
    )


def _limit(action: Action) -> str:
    """What a throttle, a breaker or a budget does."""
    limit = action.limit
    each = f" for each {' and '.join(action.key)}" if action.key else ""
    if isinstance(limit, ThrottleTerms):
        return f"at most {limit.limit} calls begin{each} in any {_duration(limit.window_s)}, and others are denied"
    if isinstance(limit, BreakerTerms):
        return f"calls{each} are rested for {_duration(limit.open_for_s)}, and then {limit.probe} tried"
    if isinstance(limit, BudgetTerms):
        amount = {"cost.usd": f"USD {limit.limit / 1e9:g}", "time.s": f"{limit.limit / 1e3:g} seconds"}.get(
            limit.measure, f"{limit.limit} {limit.measure}"
        )
        return f"no more than {amount} is used{each} within {_duration(limit.window_s)}, and calls beyond are denied"
    return f"the effect is {action.effect}"


def defaults_in_plain_words(policy: Policy) -> str:
    """
    Say in English what a document does with calls that none of its rules decides, and which it covers.

    Args:
        policy:
            Of a loaded bundle.

    Returns:
        Two sentences.
    """
    who = f"agents {' or '.join(policy.agents)}" if policy.agents else "every agent"
    where = f" in {' or '.join(policy.environments)}" if policy.environments else ""
    denied = [point.partition(".")[0] for point, may in policy.unmatched.items() if not may]
    if not denied:
        rest = "A call that no rule decides runs."
    else:
        rest = (
            f"Of the calls to {' and '.join(f'{kind}s' for kind in denied)}, what no rule allows is denied."
        )
    note = f" {_MODES[policy.mode]}." if policy.mode in _MODES and denied else ""
    return f"Covers {who}{where}; a call without a name is covered too. {rest}{note}"


def _duration(seconds: float) -> str:
    """Seconds as people say them."""
    for size, word in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size and seconds % size == 0:
            count = int(seconds // size)
            return f"{count} {word}{'' if count == 1 else 's'}"
    return f"{seconds:g} seconds"
