"""
`agentguard demo`: six ways an agent dies, and what stops each.

Takes nothing from the user's own setting, touches nothing but one folder, and
connects to nothing but loopback. Every figure it prints is measured in the run.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

from agentguard.cli._common import FINDINGS, UNUSABLE


@click.command()
@click.option(
    "--keep", type=click.Path(path_type=Path), help="Keep store, key and policies in this new folder."
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json: one document at the end.",
)
@click.option(
    "--model",
    type=click.Choice(["scripted", "smollm2"]),
    default="scripted",
    show_default=True,
    help="smollm2: a real small language model on this machine; some three minutes.",
)
def demo(keep: Path | None, output_format: str, model: str) -> None:
    """
    Show six ways an agent dies, and what stops each; about half a minute.

    A support agent made with the openai SDK talks to a model server on loopback.
    No network, no account. Exit status 0 only if all six were caught.
    """
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise _NotEmptyError(f"--keep {keep}: the folder exists and is not empty")
    # Imported late: `agentguard --help` needs neither numpy nor the exporters.
    from agentguard.cli.demo.play import play

    with _folder(keep) as folder:
        all_caught = play(folder, is_kept=keep is not None, output_format=output_format, model=model)
    sys.exit(0 if all_caught else FINDINGS)


class _NotEmptyError(click.ClickException):
    exit_code = UNUSABLE


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """Give the folder to keep, or one that goes away."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True, mode=0o700)
        yield keep.resolve()
    else:
        with tempfile.TemporaryDirectory(prefix="agentguard-demo-") as folder:
            yield Path(folder)
