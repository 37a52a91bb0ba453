"""
Deciding about a call: the question to the engine, the answer on record, the people who are asked.

Errors of deciding end in a denial that names them; errors of recording deny
where a rule requires the record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from agentguard.errors import AuditError, PolicyError, SealError, StoreError
from agentguard.runtime.declaration import Declaration
from agentguard.runtime.facts import facts_of
from agentguard.runtime.known import KnownCall
from agentguard.runtime.later import Admitted, Ended
from agentguard.runtime.plain import plain
from agentguard.runtime.services import Services
from agentguard.runtime.waiting import wait_for_answer
from agentguard.state import Action, RequestState, freeze_action
from agentguard.values import (
    ApprovalTerms,
    AttributeValue,
    Decision,
    DecisionRecord,
    DenialKind,
    Effect,
    Point,
    RecordMode,
)
from agentguard.values import attributes as names

if TYPE_CHECKING:
    # Only the type: without policies neither YAML nor pydantic is loaded.
    from agentguard.policy import Engine


def decide(call: KnownCall, point: Point) -> DecisionRecord | None:
    """As `judge`, with what the decision log wants to know of the call."""
    services = call.services
    engine, started_ns = services.engine, services.clock.monotonic_ns()
    decision = judge(call, point, engine)
    if decision is None:
        return None
    revision = engine.bundle.revision if engine is not None else ""
    return record_of(call, point, decision, revision, services.clock.monotonic_ns() - started_ns)


def judge(call: KnownCall, point: Point, engine: Engine | None) -> Decision | None:
    """
    Say what holds for a call; None where no policies are loaded and nothing is killed.

    Args:
        call:
            The call.
        point:
            Where it is.
        engine:
            What is in force: the caller notes its revision, and another one may come meanwhile.

    Returns:
        The decision; a denial where none can be made.
    """
    services, spec = call.services, call.spec
    try:
        orders = services.state.kill.in_force()
        stopped = _killed(call) if orders else None
    except Exception as error:
        # Orders that cannot be read stop everything.
        services.health("state.kill", error)
        return undecided(f"the kill switch: {type(error).__name__}")
    if stopped is not None or engine is None:
        return stopped
    try:
        kind = spec.governed_as
        if kind == "tool" and (refusal := services.declared.refusal(spec)):
            return undecided(refusal)
        return engine.decide_named(
            point,
            call.agent,
            services.config.environment,
            call.model if kind == "model" else spec.name,
            facts_of(call),
        )
    except Exception as error:
        # The engine promises not to raise; where it does, silence must not become consent.
        services.health("policy.decide", error)
        return undecided(f"{point}: {type(error).__name__}")


def record_of(
    call: KnownCall, point: Point, decision: Decision, revision: str, evaluation_ns: int
) -> DecisionRecord:
    """
    Put a decision down as the decision log keeps it.

    Args:
        call:
            What was decided about.
        point:
            Where.
        decision:
            The answer.
        revision:
            Of the bundle that gave it.
        evaluation_ns:
            How long that took.

    Returns:
        A record with a new id, of this moment.
    """
    return Admitted(call, point, decision, revision, evaluation_ns).record()


def _decide_anew(call: KnownCall, point: Point) -> DecisionRecord | None:
    """Ask again about a call that stood still, with what was demanded of it before it was sent elsewhere."""
    record, detour, engine = decide(call, point), call.detour, call.services.engine
    if record is None or engine is None:
        return record
    if record.decision.fallbacks:
        # Imported here, as below: a decision with fallbacks comes of documents, so `policy` is loaded already.
        from agentguard.policy import fallback_of

        name = call.model if call.spec.governed_as == "model" else call.spec.name
        if fallback_of(record.decision, name=name) is not None:
            return record._replace(decision=undecided("the rules that send calls elsewhere have changed"))
    if detour is None:
        return record
    from agentguard.policy import carried

    return record._replace(decision=carried(engine.bundle, detour.demanded, record.decision, detour.why))


def _killed(call: KnownCall) -> Decision | None:
    """Say whether an order stops this call; raises where the orders cannot be read."""
    order = call.services.state.kill.find(
        f"agent:{call.agent}", f"{call.spec.governed_as}:{call.model or call.spec.name}"
    )
    if order is None:
        return None
    return Decision(
        effect=Effect.KILL,
        kind=DenialKind.FORBIDDEN,
        reason=f"stopped by the kill switch ({order.scope}) of {order.by}: {order.reason}",
        record=RecordMode.PREFERRED,
    )


def put_on_record(call: KnownCall, record: DecisionRecord) -> DecisionRecord:
    """Hand the record to the decision log; where a required one cannot be kept, deny."""
    try:
        call.services.journal.append(record)
    except (AuditError, StoreError, SealError, OSError) as error:
        return _not_recorded(call, record, error)
    _note_admission(call, record)
    return record


async def put_on_record_async(call: KnownCall, record: DecisionRecord) -> DecisionRecord:
    """As `put_on_record`, for coroutines: the event loop goes on while the disk is waited for."""
    try:
        await call.services.journal.append_async(record)
    except (AuditError, StoreError, SealError, OSError) as error:
        return _not_recorded(call, record, error)
    except BaseException as error:
        if not isinstance(error, Exception):
            # Cancelled, or closed. It is written all the same: the log shall hold an outcome too.
            _note_admission(call, record)
        raise
    _note_admission(call, record)
    return record


def _note_admission(call: KnownCall, record: DecisionRecord) -> None:
    """Where the record lets the call run, the log is to hear of its end."""
    if record.decision.is_allowed and call.ending is None:
        call.ending = Ended(call)


def _not_recorded(call: KnownCall, record: DecisionRecord, error: Exception) -> DecisionRecord:
    call.services.health("audit.append", error)
    if record.decision.record is RecordMode.REQUIRED and record.decision.is_allowed:
        return record._replace(decision=undecided("the decision could not be recorded"))
    return record


def note(call: KnownCall, record: DecisionRecord) -> None:
    """Put the decision on the span, so that a trace shows what governed it."""
    decision = record.decision
    noted: dict[str, AttributeValue] = {
        names.DECISION_ID: record.decision_id,
        names.POLICY_VERDICT: str(decision.would_be or decision.effect),
        names.POLICY_ACTION: str(decision.effect),
        names.POLICY_LATENCY_US: record.evaluation_ns / 1000,
    }
    if decision.rule_id:
        noted[names.POLICY_RULE_ID] = decision.rule_id
        noted[names.POLICY_ID] = decision.policy
    if decision.kind:
        noted[names.POLICY_REASON_CODE] = str(decision.kind)
    call.span.add_event(names.EVENT_POLICY, noted)


def ask_people(
    call: KnownCall, record: DecisionRecord
) -> tuple[DecisionRecord, str, Mapping[str, object] | None]:
    """
    Look for a granted approval of exactly this call; without one, ask for it.

    Args:
        call:
            The call.
        record:
            A decision that requires an approval.

    Returns:
        The record, allowing where an approval was found and used up; the token
        of the request where people are asked; the frozen arguments to run with
        where it is allowed.
    """
    terms = record.decision.approval
    assert terms is not None
    try:
        if call.arguments is None:
            raise ValueError("the arguments do not fit the signature")
        arguments = plain(call.arguments)
        assert isinstance(arguments, dict)
        action = freeze_action(
            record.point,
            args=arguments,
            tool=record.tool,
            model=record.model,
            agent=record.agent,
            principal=record.principal,
        )
        approvals = call.services.state.approvals
        approval_id = _find_grant(call, record, action, terms)
        if approval_id is not None:
            decision = _allowed_by_approval(record.decision, approval_id)
            return record._replace(decision=decision, approval_id=approval_id), "", action.args
        token = approvals.request(
            action,
            terms,
            rule_id=record.decision.rule_id,
            policy=record.decision.policy,
            title=record.decision.matched[0].title if record.decision.matched else "",
            decision_id=record.decision_id,
            run_id=record.run_id,
        )
        if call.services.webhook is not None:
            call.services.webhook.tell(token)
        wait_s = record.decision.wait_s or call.services.config.approval_wait_s
        if wait_s:
            call.arguments = dict(action.args)
            put_on_record(call, record)
            return _waited(call, record, token, action, wait_s)
    except Exception as error:
        # What cannot be frozen cannot be approved.
        call.services.health("state.approvals", error)
        decision = undecided(f"{record.decision.rule_id}: no approval possible: {error}")
        return record._replace(decision=decision), "", None
    return record, token, None


def _find_grant(call: KnownCall, record: DecisionRecord, action: Action, terms: ApprovalTerms) -> str | None:
    """Use up a grant of exactly this call, or one use of a grant that is for more than that."""
    services = call.services
    found = services.state.approvals.find_grant(
        action.digest, terms, services.approvers, requester=record.principal
    )
    if found is not None or terms.scopes is None:
        return found

    def covers(when: str, args: Mapping[str, object]) -> bool:
        # Imported here: a decision that asks for people comes of documents, so `policy` is loaded already.
        from agentguard.policy import grant_condition

        engine = services.engine
        declared = engine.bundle.tool_schemas.get(record.tool) if engine is not None else None
        try:
            return grant_condition(when, declared).evaluate({"args": args}) is True
        except PolicyError:
            # What cannot be evaluated for these arguments is not granted for them: people are asked.
            return False

    return services.state.approvals.use_scoped(
        action, terms, services.approvers, policy=record.decision.policy, rule_id=record.decision.rule_id,
        run_id=record.run_id, covers=covers,
    )  # fmt: skip


def _waited(
    call: KnownCall, record: DecisionRecord, token: str, action: Action, wait_s: float
) -> tuple[DecisionRecord, str, Mapping[str, object] | None]:
    """Wait for people; then ask everything anew, since it may have changed, and use the grant up."""
    state = wait_for_answer(call, token, wait_s)
    rule = record.decision.rule_id
    if state is not RequestState.GRANTED:
        why = {
            RequestState.PENDING: f"nobody has answered within {wait_s:g} s",
            RequestState.DENIED: "a person has refused",
        }.get(state, f"the request is {state.value}")
        refused = replace(
            record.decision, effect=Effect.DENY, reason=f"denied by {rule}: {why} (request {token})",
            kind=DenialKind.FORBIDDEN if state is RequestState.DENIED else DenialKind.NEEDS_APPROVAL,
            approval=None, wait_s=0.0, gates=(),
        )  # fmt: skip
        return record._replace(decision=refused), "", None
    call.facts = None
    again = _decide_anew(call, Point(record.point))
    if again is None:
        raise ValueError("no policies are in force any more")
    terms = again.decision.approval
    if again.decision.effect is not Effect.REQUIRE_APPROVAL or terms is None:
        # What was set aside before the wait is still set aside: gates are not asked twice.
        return again._replace(decision=replace(again.decision, gates=())), "", action.args
    approval_id = _find_grant(call, again, action, terms)
    if approval_id is None:
        return again, token, None
    decision = _allowed_by_approval(again.decision, approval_id)
    return again._replace(decision=decision, approval_id=approval_id), "", action.args


def undecidable(services: Services, declaration: Declaration, what: str) -> DecisionRecord:
    """Record the denial of a call that failed before it could be judged."""
    record = DecisionRecord(
        decision_id=f"{services.ids.span_id():016x}",
        time_unix_ns=services.clock.unix_ns(),
        point="",
        decision=undecided(f"the call could not be described: {what}"),
        bundle=services.revision,
        tool=getattr(declaration.function, "__name__", ""),
    )
    try:
        services.journal.append(record)
    except (AuditError, OSError) as error:
        services.health("audit.append", error)
    return record


def undecided(what: str) -> Decision:
    """Deny, because something could not be evaluated."""
    return Decision(
        effect=Effect.DENY,
        kind=DenialKind.FORBIDDEN,
        reason=f"denied: could not be evaluated: {what}",
        errors=(what,),
        record=RecordMode.PREFERRED,
    )


def _allowed_by_approval(decision: Decision, approval_id: str) -> Decision:
    """Turn the demand for an approval into the permission that a person gave."""
    return Decision(
        effect=Effect.ALLOW,
        rule_id=decision.rule_id,
        policy=decision.policy,
        reason=f"allowed by approval {approval_id[:8]} under {decision.rule_id}",
        matched=decision.matched,
        errors=decision.errors,
        values=decision.values,
        redact=decision.redact,
        warnings=decision.warnings,
        record=decision.record,
        would_be=decision.would_be,
    )
