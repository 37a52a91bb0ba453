"""`agentguard policy check` and `test`."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentguard.cli._common import FINDINGS, FINE, UNUSABLE, Place, emit_document, note
from agentguard.cli.policy._shared import (
    CHECKS,
    count,
    format_option,
    load_or_print,
    paths_argument,
    print_notices,
    safe,
    summary,
)

if TYPE_CHECKING:
    from agentguard.review import CaseResult


@click.command()
@paths_argument
@click.option("--strict", is_flag=True, help="Warnings count: exit status 1.")
@format_option(*CHECKS)
@click.pass_obj
def check(place: Place, paths: tuple[Path, ...], strict: bool, output_format: str) -> int:
    """
    Say what is wrong with policy files.

    PATHS are files and folders; by default the configured ones, else ./policies.
    Exit status: 2 where they do not load, 1 for warnings with --strict, else 0.
    """
    from agentguard.policy import lint
    from agentguard.review import Notice

    bundle = load_or_print(place, paths, output_format)
    if bundle is None:
        return UNUSABLE
    today = datetime.datetime.now(tz=datetime.UTC).date()
    notices = [
        Notice(f.place.path, f.place.line, f.place.column, f.level, f.code, f.text, f.hint)
        for f in lint(bundle, today=today)
    ]
    print_notices(notices, output_format, is_err=False)
    warnings = sum(1 for notice in notices if notice.level != "note")
    if output_format == "text":
        note(f"{summary(bundle)}: " + (count(warnings, "warning") if warnings else "fine"))
    return FINDINGS if strict and warnings else FINE


@click.command()
@paths_argument
@format_option(*CHECKS)
@click.pass_obj
def test(place: Place, paths: tuple[Path, ...], output_format: str) -> int:
    """
    Run the test cases that lie beside policies.

    Exit status: 2 where the files do not load, 1 where a case fails, or none is there.
    """
    from agentguard.review import Case, Notice, junit, run_tests

    bundle = load_or_print(place, paths, output_format)
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
        print_notices(failures, output_format, is_err=False)
    return FINE if report.is_passed and report.results else FINDINGS


def _print_case(result: CaseResult) -> None:
    """One line for a case, more where it failed."""
    mark = click.style("ok  ", fg="green") if result.is_passed else click.style("FAIL", fg="red")
    click.echo(f"{mark} {safe(f'{result.test}: {result.case}')}")
    if not result.is_passed:
        click.echo(f"     {safe(f'{result.place.path}:{result.place.line}:{result.place.column}')}")
        for difference in result.differences:
            click.echo(f"     {safe(difference)}")


def _case_row(result: CaseResult) -> dict[str, object]:
    """A case for JSON."""
    return {
        "test": result.test, "case": result.case, "passed": result.is_passed,
        "path": result.place.path, "line": result.place.line, "differences": list(result.differences),
        "decision": str(result.decision.effect) if result.decision else None,
    }  # fmt: skip
