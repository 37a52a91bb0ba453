"""What all commands share: where the store is, how rows are printed, how errors end."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

import click

from agentguard import escape
from agentguard.errors import AgentGuardError, PolicyDocumentError
from agentguard.runtime import Config, SystemClock, load_config

if TYPE_CHECKING:
    from agentguard.seal import Keystore
    from agentguard.store import Store
    from agentguard.values import KeyProvider

FINE, FINDINGS, UNUSABLE = 0, 1, 2
"""Exit statuses of every command."""

_F = TypeVar("_F", bound=Callable[..., object])


@dataclass
class Place:
    """Which store the commands work on; opened when first asked for."""

    store: Path | None = None
    key: str | None = None
    has_told_of_key: bool = False
    """Whether the decision log knows which key this command was run with."""

    @cached_property
    def config(self) -> Config:
        """The configuration, with the options of the command line before all else."""
        return load_config({"store": self.store and str(self.store.absolute()), "key": self.key})

    @cached_property
    def provider(self) -> KeyProvider:
        """
        Where the key comes from; made once, since a descriptor can be read once.

        Raises:
            ConfigurationError: The setting names no provider.
        """
        # Imported late: help and errors of other commands need no cryptography.
        from agentguard.seal import provider_from

        return provider_from(self.config.key, environ=os.environ)

    def open_store(self) -> Store:
        """
        Open the store for reading.

        Raises:
            StoreError: There is none.
            KeyUnavailableError: The key cannot be had, or is not the store's.
        """
        # Imported late, as above.
        from agentguard.store import Store

        return Store.open(self.config.store, provider=self.provider, clock=SystemClock())

    def open_keystore(self) -> Keystore:
        """Open the keys of the store; raises as `open_store`."""
        return self.open_store().keystore


def listing_options(default_limit: int = 50) -> Callable[[_F], _F]:
    """Add `--format` and `--limit` to a command that lists rows."""

    def add(command: _F) -> _F:
        command = click.option(
            "--limit",
            type=click.IntRange(min=0),
            default=default_limit,
            show_default=True,
            help="Most rows; 0: all.",
        )(command)
        return format_option()(command)

    return add


def format_option(*more: str) -> Callable[[_F], _F]:
    """Add `--format text|json|jsonl` (and others) to a command."""
    return click.option(
        "--format",
        "output_format",
        type=click.Choice(["text", "json", "jsonl", *more]),
        default="text",
        show_default=True,
        help="json: one document; jsonl: one object a line.",
    )


def emit(
    rows: Iterable[Mapping[str, object]],
    *,
    columns: Sequence[str],
    output_format: str = "text",
    limit: int = 0,
    styles: Mapping[str, Callable[[object], str]] | None = None,
    empty: str = "nothing found",
) -> int:
    """
    Print rows to standard output.

    Args:
        rows:
            Plain mappings; read no further than the limit.
        columns:
            Keys shown as text, in order; json and jsonl have all keys.
        output_format:
            text, json or jsonl.
        limit:
            Most rows; 0: all.
        styles:
            For a column, what turns its value into a rich style name.
        empty:
            Said on standard error where there are no rows, as text only.

    Returns:
        How many rows were printed.
    """
    shown = islice(rows, limit) if limit else iter(rows)
    if output_format == "jsonl":
        count = 0
        for row in shown:
            click.echo(json.dumps(row, default=str, ensure_ascii=True))
            count += 1
        return count
    listed = list(shown)
    if output_format == "json":
        click.echo(json.dumps(listed, default=str, ensure_ascii=True, indent=2))
    elif listed:
        _table(listed, columns, styles or {})
        if limit and len(listed) == limit:
            note(f"showing {limit}; --limit 0 shows all")
    else:
        note(empty)
    return len(listed)


def emit_document(document: object) -> None:
    """Print one JSON document to standard output."""
    click.echo(json.dumps(document, default=str, ensure_ascii=True, indent=2))


def emit_result(document: Mapping[str, object], output_format: str, text: str) -> None:
    """Print what a command did: one line for people, or one document."""
    if output_format == "text":
        click.echo(escape.terminal(text))
    elif output_format == "jsonl":
        emit([document], columns=(), output_format="jsonl")
    else:
        emit_document(document)


def note(text: str) -> None:
    """Say something to the person, on standard error."""
    click.echo(text, err=True)


def progress(what: str) -> Callable[[int], None]:
    """Make something that says on one line of the terminal how far a long work is."""

    def say(count: int) -> None:
        click.echo(f"\r{count:,} {what}\r", err=True, nl=False)

    return say


def fail(error: AgentGuardError, status: int = UNUSABLE) -> NoReturn:
    """
    End with the message of an error and its notes, without a traceback.

    Args:
        error:
            Printed through the terminal escaper: it may quote user data.
        status:
            Exit status.

    Raises:
        SystemExit: Always.
    """
    if isinstance(error, PolicyDocumentError) and error.problems:
        for problem in error.problems:
            note(f"{click.style('error', fg='red')}: {escape.terminal(str(problem))}")
            if problem.excerpt:
                note(escape.terminal(problem.excerpt, keep_newlines=True))
            if problem.hint:
                note(f"hint: {escape.terminal(problem.hint)}")
    else:
        note(f"{click.style('error', fg='red')}: {escape.terminal(str(error))}")
        # The notes of problems say once more what was just printed.
        for line in getattr(error, "__notes__", ()):
            note(escape.terminal(line, keep_newlines=True))
    sys.exit(status)


def report_damage(damage: Sequence[str]) -> None:
    """Say what of the decision log could not be read, and who says more."""
    if damage:
        note(f"{escape.terminal(damage[0])}" + (f" (and {len(damage) - 1} more)" if len(damage) > 1 else ""))
        note("hint: `agentguard decisions verify` says what is wrong")


def console_width() -> int:
    """Columns of the terminal; plenty where the output goes to a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 240


def _table(
    rows: Sequence[Mapping[str, object]],
    columns: Sequence[str],
    styles: Mapping[str, Callable[[object], str]],
) -> None:
    """Print rows as a table; every cell passes the terminal escaper."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        numbers = all(isinstance(row.get(column), (int, float, type(None))) for row in rows)
        table.add_column(column.replace("_", " "), justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        cells = []
        for column in columns:
            value = row.get(column)
            written = "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
            style = styles[column](value) if column in styles else ""
            cells.append(Text(escape.terminal(written), style=style))
        table.add_row(*cells)
    Console(width=console_width(), highlight=False, soft_wrap=False).print(table)
