"""`agentguard policy check` and `test`."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
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
    from agentguard.policy import Mutant
    from agentguard.review import CaseResult, MutationReport, Notice, RuleCoverage


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
@click.option("--coverage", "is_coverage", is_flag=True, help="Say which rules the cases reach.")
@click.option(
    "--mutate",
    "is_mutate",
    is_flag=True,
    help="Change every rule in every way: which changes does no case notice?",
)
@click.option(
    "--min-score",
    type=click.FloatRange(0, 1),
    default=None,
    help="With --mutate: exit status 1 below this share of noticed changes.",
)
@format_option(*CHECKS)
@click.pass_obj
def test(
    place: Place,
    paths: tuple[Path, ...],
    is_coverage: bool,
    is_mutate: bool,
    min_score: float | None,
    output_format: str,
) -> int:
    """
    Run the test cases that lie beside policies.

    Exit status: 2 where the files do not load, 1 where a case fails, or none is there; with
    --coverage also where a rule is reached by no case.
    """
    from agentguard.review import Case, Notice, coverage, junit, mutate, run_tests

    bundle = load_or_print(place, paths, output_format)
    if bundle is None:
        return UNUSABLE
    report = run_tests(bundle)
    covered = coverage(bundle, report) if is_coverage else ()
    # A mutant that fails a case proves nothing where the rule itself fails one.
    mutation = mutate(bundle) if is_mutate and report.is_passed and report.results else None
    found = [_uncovered(one) for one in covered if not one.is_covered]
    found.extend(_survivor(one) for one in (mutation.survived if mutation else ()))
    if output_format == "text":
        for result in report.results:
            _print_case(result)
        click.echo(str(report) if report.results else "no test cases found")
        _print_quality(covered, mutation, is_asked=is_mutate)
    elif output_format == "json":
        emit_document(
            {"passed": report.is_passed, "cases": [_case_row(result) for result in report.results],
             **_quality_row(covered, mutation)}
        )  # fmt: skip
    elif output_format == "junit":
        cases = [Case(r.test, r.case, "\n".join(r.differences)) for r in report.results]
        click.echo(junit(cases, suite="agentguard policy test"))
    else:
        failures = [
            Notice(r.place.path, r.place.line, r.place.column, "error", "test-failed",
                   f"{r.case}: {'; '.join(r.differences)}")
            for r in report.failed
        ]  # fmt: skip
        print_notices([*failures, *found], output_format, is_err=False, command="agentguard policy test")
    is_fine = report.is_passed and bool(report.results) and all(one.is_covered for one in covered)
    if min_score is not None and (mutation is None or mutation.score < min_score):
        is_fine = False
    return FINE if is_fine else FINDINGS


def _uncovered(one: RuleCoverage) -> Notice:
    """A rule that no case reaches."""
    from agentguard.review import Notice

    place = one.rule.place
    return Notice(
        place.path, place.line, place.column, "warning", "untested", f"no case reaches {one.rule.id}"
    )


def _survivor(mutant: Mutant) -> Notice:
    """A change that no case notices."""
    from agentguard.review import Notice

    place, who = mutant.place, mutant.rule_id or f"the default of {mutant.policy}"
    return Notice(
        place.path,
        place.line,
        place.column,
        "warning",
        "mutant-survived",
        f"{who}: no case notices {mutant.what}",
    )


def _print_quality(
    covered: Sequence[RuleCoverage], mutation: MutationReport | None, *, is_asked: bool
) -> None:
    """What the cases reach and notice, in words."""
    if covered:
        reached = sum(1 for one in covered if one.is_covered)
        click.echo(f"coverage: {reached} of {count(len(covered), 'rule')} reached")
        for one in covered:
            if not one.is_covered:
                click.echo(safe(f"     {_uncovered(one).text} ({one.rule.place.path}:{one.rule.place.line})"))
    if mutation is not None:
        click.echo(str(mutation) + (" (cut: too many)" if mutation.is_cut else ""))
        for mutant in mutation.survived:
            click.echo(safe(f"     {_survivor(mutant).text} ({mutant.place.path}:{mutant.place.line})"))
    elif is_asked:
        click.echo("no mutants are tried while cases fail or are missing")


def _quality_row(covered: Sequence[RuleCoverage], mutation: MutationReport | None) -> dict[str, object]:
    """The same for JSON; only what was asked for."""
    row: dict[str, object] = {}
    if covered:
        row["coverage"] = [
            {"policy": one.rule.policy, "rule": one.rule.id, "matched": one.matched, "decided": one.decided}
            for one in covered
        ]
    if mutation is not None:
        row["mutation"] = {
            "score": mutation.score, "killed": mutation.killed,
            "survived": [
                {"policy": m.policy, "rule": m.rule_id, "change": m.what, "path": m.place.path, "line": m.place.line}
                for m in mutation.survived
            ],
        }  # fmt: skip
    return row


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
