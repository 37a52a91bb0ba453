"""
The gates of a call that only the past can answer, and what it settles when it ends.

The engine names them, `state` answers them, and here is said what the call has
used. What cannot be asked refuses; what cannot be settled stays charged.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from agentguard.errors import AuditError, StoreError
from agentguard.forks import free_in_child
from agentguard.runtime.deciding import ask_people, put_on_record, undecided
from agentguard.runtime.facts import facts_of
from agentguard.runtime.falling_back import send_on_refused
from agentguard.state import Used, answer_gates, give_back, settle_tickets
from agentguard.values import Decision, DecisionRecord, Effect, Usage

if TYPE_CHECKING:
    from agentguard.runtime.known import KnownCall
    from agentguard.runtime.services import Services

UNPRICED_MAX = 256
"""Models without a price that are each named once in the log."""

logger = logging.getLogger("agentguard")


_CHARGE_LOCK: Final = free_in_child(threading.RLock())
"""Calls inside one call may end in several threads, and each tells it what was charged."""


def admission(
    call: KnownCall, record: DecisionRecord
) -> tuple[DecisionRecord, str, Mapping[str, object] | None]:
    """
    Ask state and people what the engine left open, and put the answer on record; may wait.

    Args:
        call:
            The call.
        record:
            What the engine decided.

    Returns:
        The record that holds; the token of a request where people were asked and have not answered;
        the frozen arguments to run with where they have approved.
    """
    token, frozen = "", None
    record = _ask_limits(call, record)
    if record.decision.effect is Effect.REQUIRE_APPROVAL:
        record, token, frozen = ask_people(call, record)
    engine = call.services.engine
    if engine is not None and engine.has_history and record.decision.is_allowed:
        record = remember(call, record)
    return put_on_record(call, record), token, frozen


def _ask_limits(call: KnownCall, record: DecisionRecord) -> DecisionRecord:
    """Ask state, and follow the fallbacks that stand in for what it refuses; at most a few."""
    while record.decision.gates or record.decision.kill_scope:
        asked = ask_state(call, record)
        elsewhere = None if asked.decision.is_allowed else send_on_refused(call, record, asked.decision)
        if elsewhere is None:
            return asked
        record = call.open_gates(elsewhere)
    return record


def ask_state(call: KnownCall, record: DecisionRecord) -> DecisionRecord:
    """
    Answer what the engine left open; may wait for the disk.

    Args:
        call:
            The call; takes the tickets that it must settle.
        record:
            A decision with gates, or one that kills.

    Returns:
        The record with the decision that holds.
    """
    if record.decision.kill_scope:
        return _order_kill(call, record)
    try:
        answer = answer_gates(call.services.state, record.decision, facts_of(call))
    except Exception as error:
        call.services.health("state.gates", error)
        return record._replace(decision=undecided(f"the limits: {type(error).__name__}"))
    if answer.decision.errors != record.decision.errors:
        call.services.health("state.gates", StoreError("a limit could not be asked"))
    call.tickets = answer.tickets
    return record._replace(decision=answer.decision)


def remember(call: KnownCall, record: DecisionRecord) -> DecisionRecord:
    """
    Remember of a tool call that is let run what rules with `history.*` ask for.

    Args:
        call:
            The call.
        record:
            Its decision, which allows.

    Returns:
        The record; a denial where it cannot be remembered, since later rules would ask in vain.
    """
    engine, tool = call.services.engine, call.spec.name
    assert engine is not None
    facts = facts_of(call)
    try:
        call.run.note_tool(tool, call.services.clock.monotonic_ns())
        for tools, argument, key in engine.remembers:
            if tools is not None and tool not in tools:
                continue
            amount = (call.arguments or {}).get(argument, 0) if argument else 0
            is_number = isinstance(amount, int | float) and not isinstance(amount, bool)
            call.services.state.memory.remember(
                tool, argument, str(facts[key]), float(amount) if is_number else 0.0
            )
    except Exception as error:
        call.services.health("state.history", error)
        return record._replace(decision=undecided(f"the history: {type(error).__name__}"))
    return record


def settle(call: KnownCall, usage: Usage | None, usd: float, *, is_error: bool) -> None:
    """
    Say what a call that ran has used.

    Args:
        call:
            With its tickets.
        usage:
            What the call itself was billed for; None where calls inside it reported theirs, or nobody knows.
        usd:
            What *usage* is charged.
        is_error:
            Whether it raised.
    """
    tickets, call.tickets = call.tickets, ()
    tokens: int | None = None
    inner = call.span.totals
    if inner is not None:
        tokens = (inner.input_tokens or 0) + (inner.output_tokens or 0)
        # Known costs alone would leave out what has no price, as soon as one call inside has one.
        known = inner.cost_usd
        usd = (known or 0.0) + call.unpriced_usd
        if known is None and not call.unpriced_usd:
            usd = charged_usd(call.services, None, tokens, "")
    elif usage is not None:
        tokens = (usage.input_tokens or 0) + (usage.output_tokens or 0)
    used = Used(None if tokens is None else usd, tokens, call.duration_ms / 1000)
    for budget in settle_tickets(call.services.state, tickets, used, is_error=is_error):
        logger.warning("agentguard: a call used more than the `call_max` of budget %s", budget)
        call.services.health("budget.call_max", StoreError("a call used more than its budget's call_max"))


def add_unpriced(call: KnownCall, usd: float) -> None:
    """
    Tell the call around one what was charged in it for want of a price.

    Args:
        call:
            One that ends.
        usd:
            What it was charged itself for want of a price.
    """
    usd += call.unpriced_usd
    if usd and call.owner is not None:
        add_unpriced_to(call.owner, usd)


def add_unpriced_to(owner: KnownCall, usd: float) -> None:
    """As `add_unpriced`, of a call inside this one."""
    with _CHARGE_LOCK:
        owner.unpriced_usd += usd


def charged_usd(services: Services, cost_usd: float | None, tokens: int, model: str) -> float:
    """
    Say what tokens are charged: their price, or the ceiling where nobody knows a price.

    Args:
        services:
            For the ceiling.
        cost_usd:
            By the table of prices or the provider; None where neither says.
        tokens:
            Input and output together.
        model:
            For the warning, which is given once for each model.

    Returns:
        US dollars.
    """
    if cost_usd is not None or not tokens:
        return cost_usd or 0.0
    name_unpriced(services, model)
    return ceiling_usd(services, tokens)


def ceiling_usd(services: Services, tokens: int) -> float:
    """Say what tokens are charged for which nobody knows a price."""
    return tokens * services.config.unpriced_usd_per_million / 1_000_000


def name_unpriced(services: Services, model: str) -> None:
    """Warn, once, of a model that has no price."""
    prices = services.environment.price_usd
    # A count that is missing is no missing price: there is nothing that the reader could name.
    is_known = prices is not None and prices(Usage(1, 1, model=model)) is not None
    if not is_known and model not in services.unpriced and len(services.unpriced) < UNPRICED_MAX:
        services.unpriced.add(model)
        logger.warning(
            "agentguard: model %r has no price: it is charged %g USD for a million tokens "
            "(`unpriced_usd_per_million`); name its price in `prices`",
            model or "(unknown)",
            services.config.unpriced_usd_per_million,
        )


def release(call: KnownCall) -> None:
    """Give back what was set aside for a call that did not run."""
    tickets, call.tickets = call.tickets, ()
    give_back(call.services.state, tickets)


def _order_kill(call: KnownCall, record: DecisionRecord) -> DecisionRecord:
    """Stop what a rule says, on the whole machine; the call is stopped whether or not that can be written."""
    services, decision = call.services, record.decision
    scope = decision.kill_scope
    if scope == "agent":
        # Without a name there is no order that would stop this agent but the one for all.
        scope = f"agent:{call.agent}" if call.agent else "all"
    elif scope != "all":
        scope = f"{scope}:{call.model or call.spec.name}"
    by = f"rule {decision.policy}/{decision.rule_id}"
    title = next((rule.title for rule in decision.matched if rule.rule_id == decision.rule_id), "")
    try:
        services.state.kill.set(scope, reason=title, by=by)
    except Exception as error:
        services.health("state.kill", error)
        failed = f"{decision.rule_id}: the kill order could not be written: {type(error).__name__}"
        logger.error("agentguard: %s matched, and its kill order could not be written", decision.rule_id)  # noqa: TRY400 - the health counter has the error
        return record._replace(decision=_with_error(decision, failed))
    logger.warning("agentguard: %s has stopped %s; `agentguard kill clear` lifts it", by, scope)
    try:
        services.journal.append_event(
            "kill.set", {"scope": scope, "reason": title, "by": by, "decision_id": record.decision_id}
        )
    except (AuditError, StoreError, OSError) as error:
        services.health("audit.append", error)
    return record


def _with_error(decision: Decision, error: str) -> Decision:
    return replace(decision, errors=(*decision.errors, error))
