"""
What the policy engine answers, and how the answer is recorded.

A `Decision` is pure: the engine makes it from a bundle and facts, and the same
question always gives the same decision. A `DecisionRecord` adds who, when and
which call; it is what the decision log chains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple


class Point(StrEnum):
    """Where in a call a decision is taken."""

    AGENT_BEFORE = "agent.before"
    AGENT_AFTER = "agent.after"
    MODEL_BEFORE = "model.before"
    MODEL_AFTER = "model.after"
    TOOL_BEFORE = "tool.before"
    TOOL_AFTER = "tool.after"
    DRIFT_ALARM = "drift.alarm"


class Effect(StrEnum):
    """What a rule does. Gates exclude one another, modifiers add up."""

    KILL = "kill"
    DENY = "deny"
    CIRCUIT_BREAK = "circuit_break"
    THROTTLE = "throttle"
    REQUIRE_APPROVAL = "require_approval"
    ALLOW = "allow"
    REDACT = "redact"
    FALLBACK = "fallback"
    WARN = "warn"


GATES: tuple[Effect, ...] = (
    Effect.KILL,
    Effect.DENY,
    Effect.CIRCUIT_BREAK,
    Effect.THROTTLE,
    Effect.REQUIRE_APPROVAL,
    Effect.ALLOW,
)
"""Gates, the most restrictive first: the first one that matched decides."""

MODIFIERS: tuple[Effect, ...] = (Effect.REDACT, Effect.FALLBACK, Effect.WARN)


class Mode(StrEnum):
    """Whether a rule stops a call, speaks up, or only notes what it would have done."""

    ENFORCE = "enforce"
    WARN = "warn"
    SHADOW = "shadow"


class RecordMode(StrEnum):
    """How firmly a decision must be on disk before the call runs."""

    REQUIRED = "required"
    """No durable record, no call."""
    PREFERRED = "preferred"
    """Durable where possible; the call runs anyway, and the gap is counted."""
    ASYNC = "async"
    """Written within the stated window, the call does not wait."""


class DenialKind(StrEnum):
    """What the caller can do about a call that did not run."""

    NONE = ""
    FORBIDDEN = "forbidden"
    NEEDS_APPROVAL = "needs_approval"
    WAIT = "wait"
    FIX_INPUT = "fix_input"


class MatchedRule(NamedTuple):
    """One rule that matched, whether or not it decided."""

    policy: str
    """`metadata.name` of the document."""
    rule_id: str
    title: str
    effect: Effect
    mode: Mode


class GrantScopes(NamedTuple):
    """The widest that people may grant an approval; a rule without it is granted once, for one exact action."""

    uses: int
    """Calls."""
    lasts_s: float
    """Seconds from the grant on."""
    any_run: bool = False
    """Whether other runs than the one that asked may use it."""
    any_arguments: bool = False
    """Whether it may be for other arguments than those that were asked for, by a condition that is signed."""


class ApprovalTerms(NamedTuple):
    """What a rule with `require_approval` asks for."""

    approvers: tuple[str, ...]
    """Names of approvers or `group:NAME`; any of them may approve, never the requester."""
    approvals: int
    """How many different people must approve."""
    expires_s: float
    """Seconds until an unanswered request, or an unused approval, lapses."""
    scopes: GrantScopes | None = None
    """How wide an approval may be granted; None: once."""


class ThrottleTerms(NamedTuple):
    """How many calls a rule with `throttle` lets through, within any window of that length."""

    limit: int
    window_s: float


class BreakerTerms(NamedTuple):
    """How a rule with `circuit_break` rests what fails."""

    open_for_s: float
    """Seconds during which nothing is tried."""
    probe: int = 1
    """Calls that are tried then; all must succeed, or it rests again."""


class BudgetTerms(NamedTuple):
    """What may be used up in each window. Amounts are integers: doubles do not add up."""

    measure: str
    """`cost.usd` in billionths of a dollar, `tokens`, `calls`, or `time.s` in milliseconds."""
    limit: int
    window_s: float
    """Windows follow one another from 1970-01-01T00:00Z on: `1d` is a day of UTC."""
    reserve: str = "estimate"
    """What is set aside before a call: `estimate`, `max` or `none`."""
    call_max: int = 0
    """The most that one call uses; 0: not said."""
    soft: float = 1.0
    """Share of the limit from which on decisions warn."""


class StateGate(NamedTuple):
    """
    A gate of a rule that only the past can answer.

    The engine, which knows no past, names it; `state` answers it. Nothing of
    one call is in it: the key is worked out from the facts it names.
    """

    effect: Effect
    """What holds where it refuses: CIRCUIT_BREAK, THROTTLE, or DENY for a budget."""
    policy: str
    rule_id: str
    title: str
    mode: Mode
    key: tuple[str, ...]
    """Names of the facts whose values are counted apart."""
    terms: ThrottleTerms | BreakerTerms | BudgetTerms
    is_tripped: bool = False
    """For CIRCUIT_BREAK: the condition holds now. Without it an open breaker still refuses."""
    agent_message: str = ""


class Fallback(NamedTuple):
    """Another model or function that a rule with `fallback` sends a call to."""

    policy: str
    rule_id: str
    model: str = ""
    """Name of the model; empty where the call goes to a function."""
    function: str = ""
    """Name that the application registered the function under."""
    instead_of: tuple[str, ...] = ()
    """Ids of throttles, breakers and budgets of its document: only where one of these refuses. Empty: always."""

    @property
    def target(self) -> str:
        """What the call goes to, in words."""
        return f"model {self.model}" if self.model else f"function {self.function}"


@dataclass(frozen=True, slots=True)
class Decision:
    """
    What the engine answers to one question.

    Instances may be shared between calls: nothing of one call is in them but
    `values`, and those only where a rule acted.
    """

    effect: Effect
    """The gate's answer: ALLOW, or the most restrictive gate that matched in mode `enforce`."""
    rule_id: str = ""
    """The rule that decided; empty where the default did."""
    policy: str = ""
    """`metadata.name` of the document of that rule."""
    kind: DenialKind = DenialKind.NONE
    reason: str = ""
    """The reviewer's voice: rule, condition, values, limit. Never shown to a model."""
    agent_message: str = ""
    """The rule author's words to the model, or empty."""
    matched: tuple[MatchedRule, ...] = ()
    """Every rule that matched, in document order, modes `warn` and `shadow` included."""
    errors: tuple[str, ...] = ()
    """What could not be evaluated; where not empty, the effect is not ALLOW by default."""
    values: Mapping[str, object] | None = None
    """Facts that the acting rules read; strings only where they are declared plain."""
    redact: tuple[str, ...] = ()
    """Detectors whose findings are to be replaced before the call, or in its result."""
    warnings: tuple[str, ...] = ()
    """Ids of the rules with effect `warn`, or with another effect in mode `warn`; `exception:NAME` where one was used."""
    record: RecordMode = RecordMode.ASYNC
    approval: ApprovalTerms | None = None
    retry_after_s: float | None = None
    would_be: Effect | None = None
    """What `shadow` and `warn` rules would have answered, where that is more restrictive."""
    gates: tuple[StateGate, ...] = ()
    """What state must still answer before the call may run, the most restrictive first."""
    wait_s: float = 0.0
    """For REQUIRE_APPROVAL: how long the call itself waits for people; 0: it ends with `ApprovalPending`."""
    kill_scope: str = ""
    """For KILL by a rule: what is to be stopped on the whole machine: all, agent, tool or model."""
    fallbacks: tuple[Fallback, ...] = ()
    """Where the call goes instead: at once, or where the gates that they name refuse. Whatever it goes to
    is asked about anew."""
    is_plain: bool = field(init=False, repr=False, compare=False)
    """Whether the call runs as it is, and nobody needs to hear more of it: nearly every decision is that."""

    def __post_init__(self) -> None:
        """Work out once what each call with this decision asks."""
        is_plain = (
            self.effect is Effect.ALLOW
            and not self.matched
            and self.record is RecordMode.ASYNC
            and not self.errors
            and not self.gates
        )
        object.__setattr__(self, "is_plain", is_plain)

    @property
    def is_allowed(self) -> bool:
        """Whether the call may run now."""
        return self.effect is Effect.ALLOW


class DecisionRecord(NamedTuple):
    """One decision as the decision log keeps it: the answer, and to what question."""

    decision_id: str
    """16 hexadecimal digits, random. A call that was let run without a word gives its own id to its decision, and to
    its outcome."""
    time_unix_ns: int
    point: str
    """A `Point`, or `outcome` for the record that closes an admitted call."""
    decision: Decision
    bundle: str
    """Revision of the bundle: SHA-256 in hexadecimal, or empty where none is loaded."""
    call_id: str = ""
    trace_id: str = ""
    run_id: str = ""
    agent: str = ""
    tool: str = ""
    model: str = ""
    principal: str = ""
    evaluation_ns: int = 0
    approval_id: str = ""
    outcome: str = ""
    """For `point == "outcome"`: ok, error, cancelled or abandoned."""
    enforcement: str = "cooperative"
    """`cooperative`: decided in the process that it governs."""
    requested: str = ""
    """What the caller asked for, where a rule sent the call elsewhere: the name of a model, tool or agent. The
    other fields say what the decision is about: what the call was sent to."""
    fallback: str = ""
    """Which rules sent it there: `policy/rule`, joined with commas."""
    ended_unix_ns: int = 0
    """For a decision that let a call run: when the call ended, where that was known as the record was
    written. `outcome` then says how, and no other record does."""

    @property
    def message(self) -> str:
        """
        The agent's voice: what a model may read of this decision.

        The shape is fixed: rule, decision, that it is a rule and no fault, the
        kind, and what stays open. No threshold, no value, no argument is in it
        unless the author of the rule wrote one into `message.agent`.
        """
        decision = self.decision
        by = f"policy {decision.rule_id}" if decision.rule_id else "the default of the policies"
        short = self.decision_id[:4]
        kind = decision.kind or DenialKind.FORBIDDEN
        wait = (
            f" Retry after {decision.retry_after_s:g} s."
            if kind is DenialKind.WAIT and decision.retry_after_s is not None
            else ""
        )
        text = (
            f"Denied by {by} (decision {short}). This is a rule, not a fault. "
            f"Kind: {kind}.{wait} {WAYS_OUT[kind]}"
        )
        return f"{text} {decision.agent_message}" if decision.agent_message else text


WAYS_OUT: Mapping[DenialKind, str] = {
    DenialKind.FORBIDDEN: (
        "Do not retry, split, or use another tool for it. You may: tell the user, continue without it."
    ),
    DenialKind.NEEDS_APPROVAL: (
        "Do not retry, split, or use another tool for it. "
        "You may: request approval, tell the user, continue without it."
    ),
    DenialKind.WAIT: "You may: wait and try once more, tell the user, continue without it.",
    DenialKind.FIX_INPUT: (
        "You may: correct the arguments and try once more, tell the user, continue without it."
    ),
}
"""What a model is told to do, by the kind of denial."""
