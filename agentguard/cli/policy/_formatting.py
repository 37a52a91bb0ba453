"""`agentguard policy fmt`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import click

from agentguard.cli._common import FINDINGS, FINE, UNUSABLE, Place, fail, note
from agentguard.cli.policy._shared import configured, count, paths_argument, safe
from agentguard.errors import PolicyDocumentError


@click.command()
@paths_argument
@click.option(
    "--check", "is_check", is_flag=True, help="Write nothing; exit status 1 where a file would change."
)
@click.pass_obj
def fmt(place: Place, paths: tuple[Path, ...], is_check: bool) -> int:
    """
    Lay policy files out canonically: indentation, white space, line width.

    Comments, the order of keys and what a document says stay as they are. Exit status: 2 where a file
    cannot be read as YAML (it is left as it is, the others are written), 1 with --check where one would change.
    """
    from agentguard.policy import format_document, policy_files

    changed = broken = 0
    files = policy_files(list(paths) or configured(place))
    for file in files:
        try:
            data = file.read_bytes()
            text = format_document(data, str(file)).encode()
        except (PolicyDocumentError, OSError) as error:
            broken += 1
            note(f"{click.style('error', fg='red')}: {safe(str(error))}")
            continue
        if text == data:
            continue
        changed += 1
        if is_check:
            click.echo(f"{safe(str(file))}: would be laid out anew")
        else:
            _write(file, text)
            click.echo(f"{safe(str(file))}: laid out anew")
    said = f"{changed} {'would change' if is_check else 'changed'}"
    note(f"{count(len(files), 'file')}: {said}" + (f", {broken} cannot be read" if broken else ""))
    if broken:
        return UNUSABLE
    return FINDINGS if is_check and changed else FINE


def _write(file: Path, data: bytes) -> None:
    """Put a whole file in place of another, with its mode."""
    target = Path(os.path.realpath(file))
    try:
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".fmt-", delete=False) as new:
            try:
                new.write(data)
                new.flush()
                os.fchmod(new.fileno(), target.stat().st_mode & 0o777)
                Path(new.name).replace(target)
            except OSError:
                Path(new.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        fail(PolicyDocumentError(f"{file}: cannot be written: {error.strerror}"))
