"""`agentguard policy eval` and `show`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentguard.cli._common import FINDINGS, FINE, UNUSABLE, Place, emit_document
from agentguard.cli.policy._shared import format_option, load_or_print, paths_argument, safe
from agentguard.errors import PolicyDocumentError

if TYPE_CHECKING:
    from agentguard.policy import Bundle
    from agentguard.review import Evaluation
    from agentguard.values import Fallback


@click.command("eval")
@paths_argument
@click.option(
    "-i",
    "--input",
    "call_file",
    type=click.File("r"),
    required=True,
    help="The call as JSON; - reads it from standard input.",
)
@click.option("--fail", "is_status", is_flag=True, help="Exit status 1 where the call is not allowed.")
@format_option("text", "json")
@click.pass_obj
def evaluate_call(
    place: Place, paths: tuple[Path, ...], call_file: Iterable[str], is_status: bool, output_format: str
) -> int:
    """
    Say what one call would get, and why.

    The call is a JSON object: {"point": "tool.before", "tool": {"name": "refund"},
    "args": {"amount_usd": 250.0}}. Facts that are not given have neutral values.
    """
    from agentguard.review import CALL_BYTES_MAX, evaluate, explain_decision, read_call
    from agentguard.values import DecisionRecord

    try:
        text = call_file.read(CALL_BYTES_MAX + 1)  # type: ignore[attr-defined]
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyDocumentError(f"the call cannot be read: {type(error).__name__}") from error
    call = read_call(text)
    bundle = load_or_print(place, paths, output_format)
    if bundle is None:
        return UNUSABLE
    answer = evaluate(bundle, call)
    record = DecisionRecord("", 0, answer.point, answer.decision, bundle.revision)
    flip = explain_decision(record, bundle, answer.facts).flip
    if output_format == "json":
        emit_document({**_decision_row(answer), "flip": flip or None})
    else:
        _print_decision(answer)
        if flip:
            click.echo(safe(f"  {flip}"))
    return FINDINGS if is_status and not answer.decision.is_allowed else FINE


@click.command()
@paths_argument
@click.option("--plain", "is_plain", is_flag=True, help="Each rule in English, from what was compiled.")
@format_option("text", "json")
@click.pass_obj
def show(place: Place, paths: tuple[Path, ...], is_plain: bool, output_format: str) -> int:
    """
    Show the rules that would be in force.

    With --plain in English, rendered from the compiled conditions and never from titles.
    """
    bundle = load_or_print(place, paths, output_format)
    if bundle is None:
        return UNUSABLE
    if output_format == "json":
        emit_document(
            {"revision": bundle.revision, "policies": [_policy_row(bundle, p.name) for p in bundle.policies]}
        )
        return FINE
    if is_plain:
        _print_plain(bundle)
        return FINE
    for document in bundle.policies:
        row = _policy_row(bundle, document.name)
        click.echo(
            click.style(safe(f"{document.name} {document.version}".strip()), bold=True)
            + safe(f"  {document.title}")
        )
        click.echo(safe(f"  scope: {row['scope']}; unmatched: {row['unmatched']}; mode: {document.mode}"))
        for rule in document.rules:
            mode = "" if rule.mode == "enforce" else f"  NOT ENFORCED ({rule.mode})"
            click.echo(safe(f"  {rule.id}  {rule.title}") + click.style(mode, fg="yellow"))
            click.echo(safe(f"      {', '.join(rule.points)}: {_terms(rule)}"))
            click.echo(safe(f"      when {' '.join(rule.when.split())}"))
    click.echo(f"revision {bundle.revision}")
    return FINE


def _print_plain(bundle: Bundle) -> None:
    """Every document and rule in English."""
    from agentguard.policy import defaults_in_plain_words, rule_in_plain_words

    for document in bundle.policies:
        click.echo(click.style(safe(f"{document.name} {document.version}".strip()), bold=True))
        click.echo(f"  {safe(defaults_in_plain_words(document))}")
        for rule in (*document.rules, *document.budgets):
            color = None if rule.mode == "enforce" else "yellow"
            click.echo(click.style(f"  {safe(rule.id)}: {safe(rule_in_plain_words(rule))}", fg=color))
    click.echo(f"revision {bundle.revision}")


def _print_decision(answer: Evaluation) -> None:
    """The answer in words."""
    decision = answer.decision
    color = "green" if decision.is_allowed else "red"
    by = f"{decision.rule_id} ({decision.policy})" if decision.rule_id else "the defaults"
    click.echo(f"{click.style(str(decision.effect), fg=color, bold=True)} at {answer.point}, by {safe(by)}")
    rows = {
        "reason": decision.reason,
        "kind": str(decision.kind),
        "agent": decision.agent_message,
        "redact": ", ".join(decision.redact),
        "goes to": ", ".join(_way(one) for one in decision.fallbacks),
        "warnings": ", ".join(decision.warnings),
        "would be": f"{decision.would_be} (NOT ENFORCED)" if decision.would_be else "",
        "record": str(decision.record),
    }
    for name, text in rows.items():
        if text:
            click.echo(f"  {name}: {safe(text)}")
    for rule in decision.matched:
        click.echo(safe(f"  matched: {rule.rule_id} {rule.effect} ({rule.mode}) {rule.title}"))
    for error in decision.errors:
        click.echo(safe(f"  error: {error}"))
    for name, value in (decision.values or {}).items():
        click.echo(safe(f"  value: {name} = {json.dumps(value, default=str)}"))
    for name, value in answer.assumed.items():
        click.echo(safe(f"  assumed: {name} = {json.dumps(value, default=str)}"))


def _decision_row(answer: Evaluation) -> dict[str, object]:
    """The answer for JSON."""
    decision = answer.decision
    return {
        "point": answer.point,
        "decision": str(decision.effect),
        "rule": decision.rule_id,
        "policy": decision.policy,
        "kind": str(decision.kind),
        "reason": decision.reason,
        "agent_message": decision.agent_message,
        "matched": [rule._asdict() for rule in decision.matched],
        "errors": list(decision.errors),
        "values": dict(decision.values or {}),
        "redact": list(decision.redact),
        "fallbacks": [one._asdict() for one in decision.fallbacks],
        "warnings": list(decision.warnings),
        "would_be": str(decision.would_be) if decision.would_be else None,
        "record": str(decision.record),
        "approval": decision.approval._asdict() if decision.approval else None,
        "retry_after_s": decision.retry_after_s,
        "assumed": dict(answer.assumed),
    }


def _policy_row(bundle: Bundle, name: str) -> dict[str, object]:
    """A document for JSON and for the listing."""
    from agentguard.policy import rule_in_plain_words

    document = next(p for p in bundle.policies if p.name == name)
    words = {point.partition(".")[0]: "allow" if may else "deny" for point, may in document.unmatched.items()}
    return {
        "name": document.name, "version": document.version, "title": document.title, "owner": document.owner,
        "path": document.place.path, "mode": str(document.mode),
        "scope": _scope(document.agents, document.environments),
        "unmatched": ", ".join(f"{kind} {word}" for kind, word in words.items()),
        "rules": [
            {
                "id": rule.id, "title": rule.title, "at": list(rule.points), "when": rule.when,
                "then": _terms(rule), "mode": str(rule.mode), "severity": rule.severity,
                "controls": list(rule.controls), "line": rule.place.line, "plain": rule_in_plain_words(rule),
            }
            for rule in document.rules
        ],
    }  # fmt: skip


def _scope(agents: Sequence[str], environments: Sequence[str]) -> str:
    """Whom a document covers, in words."""
    parts = [
        f"{what} {', '.join(globs)}"
        for what, globs in (("agents", agents), ("environments", environments))
        if globs
    ]
    return "; ".join(parts) or "every call"


def _way(fallback: Fallback) -> str:
    """Where a call goes, and in place of which limits."""
    limits = f" where {' or '.join(fallback.instead_of)} refuses" if fallback.instead_of else ""
    return f"{fallback.target} ({fallback.rule_id}){limits}"


def _terms(rule: object) -> str:
    """What a rule does, in words."""
    action = rule.action  # type: ignore[attr-defined]
    if action.redact:
        return f"redact {', '.join(action.redact)}"
    if action.fallback:
        return f"fallback: {action.fallback.target}"
    if action.approval:
        terms = action.approval
        return f"require_approval: {terms.approvals} of {', '.join(terms.approvers)} within {terms.expires_s:g} s"
    return str(action.effect)
