"""What the commands about policies share: options, loading, printing."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from agentguard import escape
from agentguard.cli._common import Place, emit_document, fail, note
from agentguard.errors import ConfigurationError, PolicyDocumentError

if TYPE_CHECKING:
    from agentguard.policy import Bundle
    from agentguard.review import Notice

_F = TypeVar("_F", bound=Callable[..., object])

COLORS = {"error": "red", "warning": "yellow", "note": "cyan"}


def paths_argument(command: _F) -> _F:
    """Add the files and folders to read."""
    return click.argument("paths", nargs=-1, type=click.Path(path_type=Path))(command)


def format_option(*choices: str) -> Callable[[_F], _F]:
    """Add `--format`."""
    return click.option(
        "--format",
        "output_format",
        type=click.Choice(choices),
        default="text",
        show_default=True,
        help="Output.",
    )


CHECKS = ("text", "json", "sarif", "junit", "github")


def load_or_print(place: Place, paths: Sequence[Path], output_format: str) -> Bundle | None:
    """Load the documents; where that fails print every problem, and give nothing."""
    from agentguard.policy import check_functions, load_bundle
    from agentguard.review import Notice
    from agentguard.runtime import registered_specs, stand_ins

    chosen = list(paths) or configured(place)
    try:
        bundle = load_bundle(chosen, extra_facts=registered_specs())
        group = click.get_current_context().parent
        if group is not None and group.params.get("app"):
            check_functions(bundle, stand_ins())
    except PolicyDocumentError as error:
        notices = [
            Notice(p.path, p.line, p.column, "error", p.code, p.text, p.hint, p.excerpt)
            for p in error.problems
        ]
        print_notices(notices, output_format, is_err=True)
        if output_format == "text":
            note(f"{count(len(notices), 'error')}: nothing was loaded")
        return None
    return bundle


def import_module(name: str) -> None:
    """
    Import a module of the application, as `python -m` would find it.

    Raises:
        SystemExit: It cannot be imported; whatever it raised is said in one line.
    """
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        importlib.import_module(name)
    except Exception as error:
        # The module is the application's code, which may raise anything.
        fail(PolicyDocumentError(f"module `{name[:80]}` cannot be read: {type(error).__name__}: {error}"))


def configured(place: Place) -> list[Path]:
    """The configured policies, else ./policies."""
    configured = list(place.config.policies)
    if configured:
        return configured
    if not Path("policies").exists():
        raise ConfigurationError("no policies are configured, and there is no folder ./policies").hint(
            "name a file or folder, or `agentguard policy init --template NAME`"
        )
    return [Path("policies")]


def print_notices(
    notices: Sequence[Notice], output_format: str, *, is_err: bool, command: str = "agentguard policy check"
) -> None:
    """Print findings in the format that was asked for; documents go to standard output."""
    import agentguard
    from agentguard.review import Case, github, junit, sarif

    if output_format == "json":
        emit_document([notice.as_dict() for notice in notices])
    elif output_format == "sarif":
        emit_document(sarif(notices, version=agentguard.__version__, command=command))
    elif output_format == "junit":
        cases = [
            Case(n.path, f"{n.code} {n.line}:{n.column}", n.text if n.level != "note" else "")
            for n in notices
        ]
        click.echo(junit(cases, suite=command))
    elif output_format == "github":
        for line in github(notices):
            click.echo(escape.log_line(line))
    else:
        for notice in notices:
            level = click.style(notice.level, fg=COLORS[notice.level])
            place = f"{notice.path}:{notice.line}:{notice.column}" if notice.line else notice.path
            click.echo(f"{safe(place)}: {level}: {safe(notice.text)}", err=is_err)
            for line in notice.excerpt.splitlines():
                click.echo(f"    {safe(line)}", err=is_err)
            if notice.hint:
                click.echo(f"    hint: {safe(notice.hint)}", err=is_err)


def summary(bundle: Bundle) -> str:
    """What was loaded, in words."""
    cases = sum(len(t.cases) for t in bundle.tests)
    policies = "1 policy" if len(bundle.policies) == 1 else f"{len(bundle.policies)} policies"
    return f"{policies}, {count(len(bundle.rules), 'rule')}, {count(cases, 'test case')}"


def count(number: int, what: str) -> str:
    """`1 rule`, `2 rules`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def safe(text: str) -> str:
    """Whatever stood in a file, fit for a terminal."""
    return escape.terminal(text)
