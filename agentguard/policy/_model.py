"""What documents say, as frozen values, once every part of them was found right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from agentguard.policy.conditions import Condition
from agentguard.values import (
    ApprovalTerms,
    BreakerTerms,
    BudgetTerms,
    DenialKind,
    Effect,
    Fallback,
    Mode,
    Point,
    RecordMode,
    ThrottleTerms,
)

API_VERSION = "agentguard/v1"
"""The only value of `apiVersion`; raised when a document changes its meaning."""

BEFORE_POINTS: tuple[Point, ...] = (Point.AGENT_BEFORE, Point.MODEL_BEFORE, Point.TOOL_BEFORE)
"""Points at which a call can still be kept from running: `unmatched` speaks of these."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands."""

    path: str
    """The file, as it was named to the loader."""
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Action:
    """The `then` of a rule."""

    effect: Effect
    kind: DenialKind = DenialKind.NONE
    """For `deny`: what the caller can do about it."""
    retry_after_s: float | None = None
    """For `deny` of kind `wait`."""
    approval: ApprovalTerms | None = None
    """For `require_approval`."""
    wait_s: float = 0.0
    """For `require_approval`: how long the call itself waits for people."""
    redact: tuple[str, ...] = ()
    """For `redact`: detectors."""
    limit: ThrottleTerms | BreakerTerms | BudgetTerms | None = None
    """For `throttle`, `circuit_break` and budgets: what state answers."""
    key: tuple[str, ...] = ()
    """For those: the facts whose values are counted apart."""
    kill_scope: str = ""
    """For `kill`: what is to be stopped."""
    fallback: Fallback | None = None
    """For `fallback`: what the call goes to; of a rule that the engine names later."""

    @property
    def is_budget(self) -> bool:
        """Whether it stands under `budgets`: it says nothing where it is not used up."""
        return isinstance(self.limit, BudgetTerms)


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """One clause: where it is asked, when it matches, what it does then."""

    id: str
    title: str
    policy: str
    """`metadata.name` of its document."""
    points: tuple[Point, ...]
    when: str
    """The source of the condition."""
    conditions: Mapping[Point, Condition]
    """The compiled condition; one for each point, since their facts differ."""
    action: Action
    mode: Mode
    """Its own, or that of the document."""
    tools: tuple[str, ...]
    """The only tools that it is about; empty: any."""
    record: RecordMode | None
    agent_message: str
    controls: tuple[str, ...]
    severity: str
    place: Place
    when_place: Place

    @property
    def effect(self) -> Effect:
        """What it does when it matches."""
        return self.action.effect


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """A document of kind Policy."""

    name: str
    version: str
    title: str
    owner: str
    reviewers: tuple[str, ...]
    recertify_by: date | None
    agents: tuple[str, ...]
    """Globs of agent names; empty: all agents."""
    environments: tuple[str, ...]
    """Globs of environment names; empty: all."""
    unmatched: Mapping[Point, bool]
    """For each point before a call: whether it may run where no rule of this document matched."""
    mode: Mode
    timezone: str
    variables: Mapping[str, object]
    rules: tuple[Rule, ...]
    place: Place
    content: object
    """The document as plain data, for the revision."""
    budgets: tuple[Rule, ...] = ()
    """What may be used up, as rules that only speak where it is."""


@dataclass(frozen=True, slots=True)
class Approver:
    """A person who may approve, by a key."""

    id: str
    public_key: bytes
    """Ed25519, 32 bytes."""


@dataclass(frozen=True, slots=True, eq=False)
class Approvers:
    """A document of kind Approvers."""

    name: str
    groups: Mapping[str, tuple[Approver, ...]]
    place: Place
    content: object


@dataclass(frozen=True, slots=True, eq=False)
class ToolSchema:
    """A document of kind ToolSchema: arguments of tools with their types."""

    name: str
    tools: Mapping[str, Mapping[str, str]]
    """Tool: argument: type, in the notation of conditions."""
    place: Place
    content: object


@dataclass(frozen=True, slots=True, eq=False)
class PolicyException:
    """A document of kind Exception: one rule is lifted for some calls, until a day."""

    name: str
    policy: str
    rule_id: str
    owner: str
    ticket: str
    reason: str
    approver: str
    """Another person than the owner."""
    expires: date
    """The last day on which it counts, in UTC."""
    agents: tuple[str, ...]
    """Globs; empty: any. A name that is not known is no name that fits."""
    environments: tuple[str, ...]
    tools: tuple[str, ...]
    principals: tuple[str, ...]
    place: Place
    content: object


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a test case expects; None: not looked at."""

    effect: Effect
    rule: str | None = None
    """Id of the rule that decides; empty: the default."""
    matched: tuple[str, ...] | None = None
    """Ids of exactly the rules that match."""
    redact: tuple[str, ...] | None = None
    would_be: Effect | None = None
    kind: DenialKind | None = None
    error: str | None = None
    """Text that one of the evaluation errors holds."""
    fallback: str | None = None
    """Name of the model or function that the call goes to; empty: to none."""


@dataclass(frozen=True, slots=True, eq=False)
class TestCase:
    """One question, and the answer that it must get."""

    __test__ = False

    name: str
    point: Point
    given: Mapping[str, object]
    """Facts by name."""
    expect: Expectation
    place: Place
    repeat: int = 1
    """How often the question is asked, one call after the other; the last answer counts."""


@dataclass(frozen=True, slots=True, eq=False)
class PolicyTest:
    """A document of kind PolicyTest."""

    name: str
    policies: tuple[str, ...]
    """Names of the documents that are asked; empty: all of the bundle."""
    cases: tuple[TestCase, ...]
    place: Place


@dataclass(frozen=True, slots=True, eq=False)
class Documents:
    """All that one load found, before it becomes a bundle."""

    policies: list[Policy] = field(default_factory=list)
    approvers: list[Approvers] = field(default_factory=list)
    schemas: list[ToolSchema] = field(default_factory=list)
    tests: list[PolicyTest] = field(default_factory=list)
