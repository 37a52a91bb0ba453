"""`agentguard policy`: check, test, evaluate, show and write policy documents."""

import click

from agentguard.cli.policy._asking import evaluate_call, show
from agentguard.cli.policy._checking import check, test
from agentguard.cli.policy._exceptions import exceptions
from agentguard.cli.policy._explaining import explain
from agentguard.cli.policy._formatting import fmt
from agentguard.cli.policy._signing import sign, verify
from agentguard.cli.policy._writing import init, schema

__all__ = ["policy"]


@click.group()
def policy() -> None:
    """Check, test and evaluate policy documents."""


for command in (check, fmt, test, evaluate_call, exceptions, explain, show, schema, sign, verify, init):
    policy.add_command(command)
