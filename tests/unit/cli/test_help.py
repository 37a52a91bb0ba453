"""Help of every command is as it was written."""

from collections.abc import Iterator

import click
import pytest

from agentguard.cli._main import COMMANDS, root


def _commands(
    command: click.Command, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """A command and all below it."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _commands(inner, (*path, name))


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_keep_their_lines(name: str) -> None:
    """No help shows a mark of its own layout, and each example stands on a line of its own."""
    context = click.Context(root)
    command = root.get_command(context, name)
    assert command is not None
    for path, one in _commands(command, (name,)):
        text = one.get_help(click.Context(one, info_name=" ".join(path), parent=context))
        assert "\\b" not in text, path
        for line in (one.help or "").splitlines():
            if line.startswith("agentguard "):
                assert f"  {line}\n" in text, path
