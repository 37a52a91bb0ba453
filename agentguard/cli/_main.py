"""The root of the commands: loads the one that is asked for, and turns errors into one line."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from pathlib import Path

import click

import agentguard
from agentguard import escape
from agentguard.cli._common import UNUSABLE, Place, fail
from agentguard.errors import AgentGuardError

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("agentguard.cli.demo", "Six ways an agent dies, and what stops each; about half a minute."),
    "init": ("agentguard.cli.init", "Set up a project: key, encrypted store, starter policies."),
    "doctor": ("agentguard.cli.doctor", "Say what is set up, what is not, and how to mend it."),
    "spans": ("agentguard.cli.store", "List recorded calls."),
    "trace": ("agentguard.cli.store", "Show one trace as a tree."),
    "stats": ("agentguard.cli.stats", "Calls, errors, latency, tokens and cost; throughput against load."),
    "sql": ("agentguard.cli.store", "Ask the store in SQL."),
    "store": ("agentguard.cli.store", "Look after the encrypted store."),
    "policy": ("agentguard.cli.policy", "Check, test and evaluate policy documents."),
    "decisions": ("agentguard.cli.decisions", "List, show and verify the decision log."),
    "approvals": ("agentguard.cli.approvals", "Requests that wait for a person."),
    "exceptions": ("agentguard.cli.exceptions", "Rules that are lifted for a time, on somebody's word."),
    "kill": ("agentguard.cli.kill", "Stop agents at once, on the whole machine."),
    "incident": ("agentguard.cli.incident", "Keep what an incident touched, and see its timeline."),
    "drift": ("agentguard.cli.drift", "Is it still the agent that was tested?"),
    "export": ("agentguard.cli.export", "Send spans to an OTLP backend, write tables."),
}
"""Name of each command: the module that has it, under its own name, and its one-line help."""


class _LazyGroup(click.Group):
    """A group that knows its commands by name and imports only the one that runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in COMMANDS:
            return None
        module, _ = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), cmd_name)
        assert isinstance(command, click.Command)
        _keep_lines(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """List the commands from the table, so that help imports none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _keep_lines(command: click.Command) -> None:
    """Let help keep the lines of examples: click looks for a character that a raw docstring has by name."""
    if command.help:
        command.help = command.help.replace("\\b\n", "\b\n")
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        _keep_lines(inner)


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit status: 0 fine, 1 findings, 2 unusable input. Settings: agentguard.toml or AGENTGUARD_*.",
)
@click.version_option(agentguard.__version__, prog_name="agentguard")
@click.option(
    "--store", type=click.Path(path_type=Path), help="Folder of the store, instead of the configured one."
)
@click.option(
    "--key",
    help="Where the key comes from: file:PATH, passphrase, keyring:SERVICE …; auditor:FILE to read only.",
)
@click.pass_context
def root(ctx: click.Context, store: Path | None, key: str | None) -> None:
    """Wrap AI agents and govern them."""
    ctx.obj = Place(store=store, key=key)


def main(arguments: list[str] | None = None) -> None:
    """
    Run one command and exit.

    Args:
        arguments:
            Words after `agentguard`; those of the process by default.

    Raises:
        SystemExit: Always, with the exit status.
    """
    try:
        status = root.main(args=arguments, prog_name="agentguard", standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except AgentGuardError as error:
        fail(error)
    except BrokenPipeError:
        # The reader went away (`| head`): not our failure, and nothing is left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        # A full disk, a folder that may not be read: the machine's answer is the whole message.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        where = str(error.filename) if error.filename is not None else "input or output"
        click.echo(f"error: {escape.terminal(where)}: {error.strerror or type(error).__name__}", err=True)
        sys.exit(UNUSABLE)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(status if isinstance(status, int) else 0)
