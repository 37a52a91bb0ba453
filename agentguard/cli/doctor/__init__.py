"""`agentguard doctor`: what is set up, what is not, and how to mend it."""

from __future__ import annotations

from pathlib import Path

import click

from agentguard import escape
from agentguard.cli._common import FINDINGS, FINE, Place, emit, emit_document, format_option, note
from agentguard.cli.doctor.checks import Level, look
from agentguard.cli.doctor.dependencies import apply_advisories, cyclonedx, installed, run_pip_audit
from agentguard.version import __version__

__all__ = ["doctor"]

_COLOURS = {Level.OK: "green", Level.WARN: "yellow", Level.BAD: "red"}


@click.command()
@click.option("--deps", is_flag=True, help="Look at the installed distributions instead.")
@click.option(
    "--advisories",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="With --deps: a file of OSV records, or the output of pip-audit.",
)
@click.option("--audit", is_flag=True, help="With --deps: run pip-audit, which asks the network.")
@format_option("cyclonedx")
@click.pass_obj
def doctor(place: Place, deps: bool, advisories: Path | None, audit: bool, output_format: str) -> int:
    """
    Say what is set up, what is not, and how to mend it.

    Exit status: 0 nothing bad, 1 something is.
    """
    if deps:
        return _dependencies(place, advisories, output_format, audit=audit)
    findings = list(look(place))
    if output_format == "text":
        for finding in findings:
            level = click.style(f"{finding.level:<5}", fg=_COLOURS[finding.level])
            click.echo(f"{level} {finding.part:<10} {escape.terminal(finding.text)}")
            if finding.mend:
                click.echo(f"{'':<16} mend: {escape.terminal(finding.mend)}")
    else:
        emit((f._asdict() for f in findings), columns=(), output_format=output_format)
    return FINDINGS if any(f.level is Level.BAD for f in findings) else FINE


def _dependencies(place: Place, advisories: Path | None, output_format: str, *, audit: bool) -> int:
    distributions = installed()
    is_known = False
    if advisories is not None:
        apply_advisories(distributions, advisories)
        is_known = True
    if audit:
        problem = run_pip_audit(distributions)
        if problem:
            note(problem)
        is_known = is_known or not problem
    vulnerable = [d for d in distributions if d.vulnerabilities]
    if output_format == "cyclonedx":
        emit_document(cyclonedx(distributions, version=__version__))
    else:
        emit(
            (
                {
                    "name": d.name,
                    "version": d.version,
                    "installed_days": d.age_days,
                    "vulnerabilities": ", ".join(d.vulnerabilities),
                }
                for d in distributions
            ),
            columns=("name", "version", "installed_days", "vulnerabilities"),
            output_format=output_format,
        )
    if not is_known:
        note("vulnerabilities: not known; give --advisories FILE, or --audit to ask pip-audit")
    elif (place.config.store / "STORE").exists():
        ages = [d.age_days for d in distributions if d.age_days is not None]
        facts = {"vulnerable": len(vulnerable), "age_days_max": max(ages, default=0)}
        place.open_store().sealed_blob("dependencies").write(_json(facts))
        note(
            f"kept as facts for policies: deps.vulnerable = {len(vulnerable)}, deps.age_days_max = {facts['age_days_max']}"
        )
    return FINDINGS if vulnerable else FINE


def _json(document: object) -> bytes:
    import json

    return json.dumps(document).encode()
