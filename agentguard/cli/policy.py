"""`agentguard policy`: check, test, evaluate, show and write policy documents."""

from __future__ import annotations

import datetime
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from agentguard import escape
from agentguard.cli._common import FINDINGS, FINE, UNUSABLE, Place, emit, emit_document, fail, note
from agentguard.errors import ConfigurationError, PolicyDocumentError
from agentguard.values import FACTS

if TYPE_CHECKING:
    from agentguard.policy import Bundle
    from agentguard.review import CaseResult, Evaluation, Notice

_F = TypeVar("_F", bound=Callable[..., object])

_COLORS = {"error": "red", "warning": "yellow", "note": "cyan"}


def _paths_argument(command: _F) -> _F:
    """Add the files and folders to read."""
    return click.argument("paths", nargs=-1, type=click.Path(path_type=Path))(command)


def _format_option(*choices: str) -> Callable[[_F], _F]:
    """Add `--format`."""
    return click.option(
        "--format",
        "output_format",
        type=click.Choice(choices),
        default="text",
        show_default=True,
        help="Output.",
    )


_CHECKS = ("text", "json", "sarif", "junit", "github")


@click.group()
def policy() -> None:
    """Check, test and evaluate policy documents."""


@policy.command()
@_paths_argument
@click.option("--strict", is_flag=True, help="Warnings count: exit status 1.")
@_format_option(*_CHECKS)
@click.pass_obj
def check(place: Place, paths: tuple[Path, ...], strict: bool, output_format: str) -> int:
    """
    Say what is wrong with policy files.

    PATHS are files and folders; by default the configured ones, else ./policies.
    Exit status: 2 where they do not load, 1 for warnings with --strict, else 0.
    """
    from agentguard.policy import lint
    from agentguard.review import Notice

    bundle = _load_or_print(place, paths, output_format)
    if bundle is None:
        return UNUSABLE
    today = datetime.datetime.now(tz=datetime.UTC).date()
    notices = [
        Notice(f.place.path, f.place.line, f.place.column, f.level, f.code, f.text, f.hint)
        for f in lint(bundle, today=today)
    ]
    _print_notices(notices, output_format, is_err=False)
    warnings = sum(1 for notice in notices if notice.level != "note")
    if output_format == "text":
        note(f"{_summary(bundle)}: " + (_count(warnings, "warning") if warnings else "fine"))
    return FINDINGS if strict and warnings else FINE


@policy.command()
@_paths_argument
@_format_option(*_CHECKS)
@click.pass_obj
def test(place: Place, paths: tuple[Path, ...], output_format: str) -> int:
    """
    Run the test cases that lie beside policies.

    Exit status: 2 where the files do not load, 1 where a case fails, or none is there.
    """
    from agentguard.review import Case, Notice, junit, run_tests

    bundle = _load_or_print(place, paths, output_format)
    if bundle is None:
        return UNUSABLE
    report = run_tests(bundle)
    if output_format == "text":
        for result in report.results:
            _print_case(result)
        click.echo(str(report) if report.results else "no test cases found")
    elif output_format == "json":
        emit_document({"passed": report.is_passed, "cases": [_case_row(result) for result in report.results]})
    elif output_format == "junit":
        cases = [Case(r.test, r.case, "\n".join(r.differences)) for r in report.results]
        click.echo(junit(cases, suite="agentguard policy test"))
    else:
        failures = [
            Notice(r.place.path, r.place.line, r.place.column, "error", "test-failed",
                   f"{r.case}: {'; '.join(r.differences)}")
            for r in report.failed
        ]  # fmt: skip
        _print_notices(failures, output_format, is_err=False)
    return FINE if report.is_passed and report.results else FINDINGS


@policy.command("eval")
@_paths_argument
@click.option(
    "-i",
    "--input",
    "call_file",
    type=click.File("r"),
    required=True,
    help="The call as JSON; - reads it from standard input.",
)
@click.option("--fail", "is_status", is_flag=True, help="Exit status 1 where the call is not allowed.")
@_format_option("text", "json")
@click.pass_obj
def evaluate_call(
    place: Place, paths: tuple[Path, ...], call_file: Iterable[str], is_status: bool, output_format: str
) -> int:
    """
    Say what one call would get, and why.

    The call is a JSON object: {"point": "tool.before", "tool": {"name": "refund"},
    "args": {"amount_usd": 250.0}}. Facts that are not given have neutral values.
    """
    from agentguard.review import CALL_BYTES_MAX, evaluate, read_call

    try:
        text = call_file.read(CALL_BYTES_MAX + 1)  # type: ignore[attr-defined]
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyDocumentError(f"the call cannot be read: {type(error).__name__}") from error
    call = read_call(text)
    bundle = _load_or_print(place, paths, output_format)
    if bundle is None:
        return UNUSABLE
    answer = evaluate(bundle, call)
    if output_format == "json":
        emit_document(_decision_row(answer))
    else:
        _print_decision(answer)
    return FINDINGS if is_status and not answer.decision.is_allowed else FINE


@policy.command()
@_paths_argument
@_format_option("text", "json")
@click.pass_obj
def show(place: Place, paths: tuple[Path, ...], output_format: str) -> int:
    """Show the rules that would be in force."""
    bundle = _load_or_print(place, paths, output_format)
    if bundle is None:
        return UNUSABLE
    if output_format == "json":
        emit_document(
            {"revision": bundle.revision, "policies": [_policy_row(bundle, p.name) for p in bundle.policies]}
        )
        return FINE
    for document in bundle.policies:
        row = _policy_row(bundle, document.name)
        click.echo(
            click.style(_safe(f"{document.name} {document.version}".strip()), bold=True)
            + _safe(f"  {document.title}")
        )
        click.echo(_safe(f"  scope: {row['scope']}; unmatched: {row['unmatched']}; mode: {document.mode}"))
        for rule in document.rules:
            mode = "" if rule.mode == "enforce" else f"  NOT ENFORCED ({rule.mode})"
            click.echo(_safe(f"  {rule.id}  {rule.title}") + click.style(mode, fg="yellow"))
            click.echo(_safe(f"      {', '.join(rule.points)}: {_terms(rule)}"))
            click.echo(_safe(f"      when {' '.join(rule.when.split())}"))
    click.echo(f"revision {bundle.revision}")
    return FINE


@policy.command()
@_format_option("text", "json", "json-schema")
def schema(output_format: str) -> int:
    """Print the facts that conditions may read, or the JSON Schema of policy files for editors."""
    from agentguard.policy import json_schema

    if output_format == "json-schema":
        emit_document(json_schema())
        return FINE
    rows = [
        {
            "fact": spec.name,
            "type": spec.type,
            "trusted": "yes" if spec.is_trusted else "model-supplied",
            "points": ", ".join(spec.points) or "all",
            "missing": spec.missing,
            "description": spec.description + (f" Unit: {spec.unit}." if spec.unit else ""),
        }
        for spec in FACTS.values()
    ]
    emit(
        rows,
        columns=("fact", "type", "trusted", "points", "missing", "description"),
        output_format=output_format,
    )
    return FINE


@policy.command()
@click.option("--template", help="Name of a starter policy; without it they are listed.")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=Path("policies"))
def init(template: str | None, folder: Path) -> int:
    """Copy a starter policy and its tests into FOLDER (./policies)."""
    templates = _templates()
    if template is None:
        rows = [{"template": name, "title": _title_of(files[0])} for name, files in templates.items()]
        emit(rows, columns=("template", "title"))
        note("agentguard policy init --template NAME copies one")
        return FINE
    if template not in templates:
        from difflib import get_close_matches

        near = get_close_matches(template, list(templates), n=1)
        error = PolicyDocumentError(f"unknown template `{template[:80]}`")
        fail(error.hint(f"did you mean `{near[0]}`?" if near else "one of " + ", ".join(templates)))
    targets = [folder / source.name for source in templates[template]]
    for target in targets:
        if target.exists():
            fail(
                PolicyDocumentError(f"{target}: is there already").hint(
                    "move it away first, nothing is overwritten"
                )
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for source, target in zip(templates[template], targets, strict=True):
            shutil.copyfile(source, target)
            note(f"made {target}")
    except OSError as error:
        fail(PolicyDocumentError(f"{folder}: cannot be written: {error.strerror}"))
    return FINE


# Loading


def _load_or_print(place: Place, paths: Sequence[Path], output_format: str) -> Bundle | None:
    """Load the documents; where that fails print every problem, and give nothing."""
    from agentguard.policy import load_bundle
    from agentguard.review import Notice

    chosen = list(paths) or _configured(place)
    try:
        return load_bundle(chosen)
    except PolicyDocumentError as error:
        notices = [
            Notice(p.path, p.line, p.column, "error", p.code, p.text, p.hint, p.excerpt)
            for p in error.problems
        ]
        _print_notices(notices, output_format, is_err=True)
        if output_format == "text":
            note(f"{_count(len(notices), 'error')}: nothing was loaded")
        return None


def _configured(place: Place) -> list[Path]:
    """The configured policies, else ./policies."""
    configured = list(place.config.policies)
    if configured:
        return configured
    if not Path("policies").exists():
        raise ConfigurationError("no policies are configured, and there is no folder ./policies").hint(
            "name a file or folder, or `agentguard policy init --template NAME`"
        )
    return [Path("policies")]


def _templates() -> dict[str, list[Path]]:
    """Starter policies by name: the policy, then its tests."""
    from agentguard.cli.init import starter_folder

    found: dict[str, list[Path]] = {}
    for file in sorted(starter_folder().rglob("*.yaml")):
        if not file.name.endswith(".test.yaml"):
            tests = file.with_name(f"{file.stem}.test.yaml")
            found[file.stem] = [file, tests] if tests.exists() else [file]
    return found


def _title_of(file: Path) -> str:
    """The title of a starter policy, as it loads."""
    from agentguard.policy import load_bundle

    return load_bundle([file]).policies[0].title


# Printing


def _print_notices(notices: Sequence[Notice], output_format: str, *, is_err: bool) -> None:
    """Print findings in the format that was asked for; documents go to standard output."""
    import agentguard
    from agentguard.review import Case, github, junit, sarif

    if output_format == "json":
        emit_document([notice.as_dict() for notice in notices])
    elif output_format == "sarif":
        emit_document(sarif(notices, version=agentguard.__version__))
    elif output_format == "junit":
        cases = [
            Case(n.path, f"{n.code} {n.line}:{n.column}", n.text if n.level != "note" else "")
            for n in notices
        ]
        click.echo(junit(cases, suite="agentguard policy check"))
    elif output_format == "github":
        for line in github(notices):
            click.echo(escape.log_line(line))
    else:
        for notice in notices:
            level = click.style(notice.level, fg=_COLORS[notice.level])
            place = f"{notice.path}:{notice.line}:{notice.column}" if notice.line else notice.path
            click.echo(f"{_safe(place)}: {level}: {_safe(notice.text)}", err=is_err)
            for line in notice.excerpt.splitlines():
                click.echo(f"    {_safe(line)}", err=is_err)
            if notice.hint:
                click.echo(f"    hint: {_safe(notice.hint)}", err=is_err)


def _print_case(result: CaseResult) -> None:
    """One line for a case, more where it failed."""
    mark = click.style("ok  ", fg="green") if result.is_passed else click.style("FAIL", fg="red")
    click.echo(f"{mark} {_safe(f'{result.test}: {result.case}')}")
    if not result.is_passed:
        click.echo(f"     {_safe(f'{result.place.path}:{result.place.line}:{result.place.column}')}")
        for difference in result.differences:
            click.echo(f"     {_safe(difference)}")


def _print_decision(answer: Evaluation) -> None:
    """The answer in words."""
    decision = answer.decision
    color = "green" if decision.is_allowed else "red"
    by = f"{decision.rule_id} ({decision.policy})" if decision.rule_id else "the defaults"
    click.echo(f"{click.style(str(decision.effect), fg=color, bold=True)} at {answer.point}, by {_safe(by)}")
    rows = {
        "reason": decision.reason,
        "kind": str(decision.kind),
        "agent": decision.agent_message,
        "redact": ", ".join(decision.redact),
        "warnings": ", ".join(decision.warnings),
        "would be": f"{decision.would_be} (NOT ENFORCED)" if decision.would_be else "",
        "record": str(decision.record),
    }
    for name, text in rows.items():
        if text:
            click.echo(f"  {name}: {_safe(text)}")
    for rule in decision.matched:
        click.echo(_safe(f"  matched: {rule.rule_id} {rule.effect} ({rule.mode}) {rule.title}"))
    for error in decision.errors:
        click.echo(_safe(f"  error: {error}"))
    for name, value in (decision.values or {}).items():
        click.echo(_safe(f"  value: {name} = {json.dumps(value, default=str)}"))
    for name, value in answer.assumed.items():
        click.echo(_safe(f"  assumed: {name} = {json.dumps(value, default=str)}"))


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
        "warnings": list(decision.warnings),
        "would_be": str(decision.would_be) if decision.would_be else None,
        "record": str(decision.record),
        "approval": decision.approval._asdict() if decision.approval else None,
        "retry_after_s": decision.retry_after_s,
        "assumed": dict(answer.assumed),
    }


def _case_row(result: CaseResult) -> dict[str, object]:
    """A case for JSON."""
    return {
        "test": result.test, "case": result.case, "passed": result.is_passed,
        "path": result.place.path, "line": result.place.line, "differences": list(result.differences),
        "decision": str(result.decision.effect) if result.decision else None,
    }  # fmt: skip


def _policy_row(bundle: Bundle, name: str) -> dict[str, object]:
    """A document for JSON and for the listing."""
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
                "controls": list(rule.controls), "line": rule.place.line,
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


def _terms(rule: object) -> str:
    """What a rule does, in words."""
    action = rule.action  # type: ignore[attr-defined]
    if action.redact:
        return f"redact {', '.join(action.redact)}"
    if action.approval:
        terms = action.approval
        return f"require_approval: {terms.approvals} of {', '.join(terms.approvers)} within {terms.expires_s:g} s"
    return str(action.effect)


def _summary(bundle: Bundle) -> str:
    """What was loaded, in words."""
    cases = sum(len(t.cases) for t in bundle.tests)
    policies = "1 policy" if len(bundle.policies) == 1 else f"{len(bundle.policies)} policies"
    return f"{policies}, {_count(len(bundle.rules), 'rule')}, {_count(cases, 'test case')}"


def _count(number: int, what: str) -> str:
    """`1 rule`, `2 rules`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _safe(text: str) -> str:
    """Whatever stood in a file, fit for a terminal."""
    return escape.terminal(text)
