"""How one decision is shown: as a row, as a document, and whole, for a reviewer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from agentguard import escape
from agentguard.cli._times import moment
from agentguard.values import StateGate

if TYPE_CHECKING:
    from agentguard.audit import StoredDecision

COLORS = {
    "allow": "green",
    "deny": "red",
    "kill": "red",
    "require_approval": "yellow",
    "throttle": "yellow",
    "circuit_break": "yellow",
}


def row_of(entry: StoredDecision) -> dict[str, object]:
    record = entry.record
    decision = record.decision
    effect = decision.effect.value
    if decision.would_be is not None:
        effect += f" (would be {decision.would_be.value})"
    target = record.tool or record.model or record.agent
    if record.agent and target != record.agent:
        target = f"{record.agent} > {target}"
    return {
        "time": moment(record.time_unix_ns),
        "decision": record.decision_id[:8],
        "effect": effect,
        "rule": decision.rule_id or "(default)",
        "target": target,
        "reason": decision.reason,
    }


def document_of(entry: StoredDecision, outcome: str) -> dict[str, object]:
    """Write everything that is stored of a decision."""
    record = entry.record
    decision = record.decision
    return {
        "decision_id": record.decision_id,
        "time": datetime.fromtimestamp(record.time_unix_ns / 1e9, UTC).isoformat(),
        "time_unix_ns": record.time_unix_ns,
        "point": record.point,
        "effect": decision.effect.value,
        "rule_id": decision.rule_id,
        "policy": decision.policy,
        "kind": decision.kind.value,
        "reason": decision.reason,
        "message": record.message if not decision.is_allowed else "",
        "matched": [
            {**m._asdict(), "effect": m.effect.value, "mode": m.mode.value} for m in decision.matched
        ],
        "errors": list(decision.errors),
        "values": dict(decision.values or {}),
        "redact": list(decision.redact),
        "warnings": list(decision.warnings),
        "record": decision.record.value,
        "would_be": decision.would_be.value if decision.would_be else None,
        "retry_after_s": decision.retry_after_s,
        "approval": decision.approval._asdict() if decision.approval else None,
        "gates": [_gate_document(gate) for gate in decision.gates],
        "fallbacks": [one._asdict() for one in decision.fallbacks],
        "wait_s": decision.wait_s,
        "kill_scope": decision.kill_scope,
        "approval_id": record.approval_id,
        "call_id": record.call_id,
        "trace_id": record.trace_id,
        "run_id": record.run_id,
        "agent": record.agent,
        "tool": record.tool,
        "model": record.model,
        "requested": record.requested,
        "fallback": record.fallback,
        "principal": record.principal,
        "bundle": record.bundle,
        "facts": entry.facts,
        "evaluation_ns": record.evaluation_ns,
        "enforcement": record.enforcement,
        "outcome": outcome,
        "journal": entry.journal,
        "index": entry.index,
    }


def _gate_document(gate: StateGate) -> dict[str, object]:
    """Write one limit that was asked."""
    return {
        **gate._asdict(),
        "effect": gate.effect.value,
        "mode": gate.mode.value,
        "key": list(gate.key),
        "terms": gate.terms._asdict(),
    }


def print_decision(entry: StoredDecision, outcome: str) -> None:
    """Print one decision for a reviewer; every value passes the terminal escaper."""
    record = entry.record
    decision = record.decision
    color = COLORS.get(decision.effect.value, "")
    by = f"by {decision.rule_id} of {decision.policy}" if decision.rule_id else "by the default"
    click.echo(
        f"decision {record.decision_id}: {click.style(decision.effect.value, fg=color or None, bold=True)} "
        + escape.terminal(by)
    )
    if decision.reason:
        click.echo(f"  {escape.terminal(decision.reason)}")
    if decision.would_be is not None:
        click.echo(f"  rules in shadow or warn mode would have answered {decision.would_be.value}")
    for error in decision.errors:
        click.echo(f"  {click.style('could not be evaluated', fg='red')}: {escape.terminal(error)}")
    facts: Mapping[str, object] = {
        "time": moment(record.time_unix_ns),
        "point": record.point,
        "tool": record.tool,
        "model": record.model,
        "asked for": record.requested,
        "sent on by": record.fallback,
        "agent": record.agent,
        "principal": record.principal,
        "call": record.call_id,
        "trace": record.trace_id,
        "run": record.run_id,
        "kind": decision.kind.value,
        "outcome": outcome,
        "record": decision.record.value,
        "approval": record.approval_id,
        "waits for people": f"{decision.wait_s:g} s" if decision.wait_s else "",
        "stops": decision.kill_scope,
        "redact": ", ".join(decision.redact),
        "bundle": record.bundle,
        "evaluated in": f"{record.evaluation_ns / 1000:.1f} us" if record.evaluation_ns else "",
        "enforcement": record.enforcement,
        "stands in": f"journal {entry.journal}, record {entry.index}",
    }
    _print_block("", {name: value for name, value in facts.items() if value})
    if decision.values:
        _print_block("values read", decision.values)
    if decision.matched:
        click.echo("matched rules")
        for rule in decision.matched:
            enforced = "" if rule.mode.value == "enforce" else f" [{rule.mode.value}: NOT ENFORCED]"
            click.echo(
                escape.terminal(
                    f"  {rule.rule_id} ({rule.policy}): {rule.effect.value}{enforced}  {rule.title}"
                )
            )
    if decision.gates:
        click.echo("limits asked")
        for gate in decision.gates:
            terms = ", ".join(f"{name} {value}" for name, value in gate.terms._asdict().items())
            by = f" for each {', '.join(gate.key)}" if gate.key else ""
            enforced = "" if gate.mode.value == "enforce" else f" [{gate.mode.value}: NOT ENFORCED]"
            click.echo(escape.terminal(f"  {gate.rule_id} ({gate.policy}): {terms}{by}{enforced}"))
    for fallback in decision.fallbacks:
        only = f", instead of {', '.join(fallback.instead_of)}" if fallback.instead_of else ""
        click.echo(escape.terminal(f"goes to {fallback.target} by {fallback.rule_id}{only}"))
    if not decision.is_allowed:
        click.echo("what the model was told")
        click.echo(f"  {escape.terminal(record.message)}")


def _print_block(title: str, values: Mapping[str, object]) -> None:
    if title:
        click.echo(title)
    width = max((len(str(name)) for name in values), default=0)
    for name, value in values.items():
        click.echo(f"  {escape.terminal(str(name)):<{width}}  {escape.terminal(str(value))}")
