"""`agentguard policy`: check, test, evaluate, show and write policy documents."""

import click

from agentguard.cli.policy._asking import evaluate_call, show
from agentguard.cli.policy._checking import check, test
from agentguard.cli.policy._explaining import explain
from agentguard.cli.policy._formatting import fmt
from agentguard.cli.policy._measuring import bench, history
from agentguard.cli.policy._replaying import replay
from agentguard.cli.policy._shared import import_module
from agentguard.cli.policy._signing import sign, verify
from agentguard.cli.policy._writing import init, schema

__all__ = ["policy"]


@click.group()
@click.option(
    "--app", metavar="MODULE", help="Import MODULE first: facts that it registers are known to rules."
)
def policy(app: str | None) -> None:
    """Check, test and evaluate policy documents."""
    if app is not None:
        import_module(app)


for command in (
    bench,
    history,
    replay,
    check,
    fmt,
    test,
    evaluate_call,
    explain,
    show,
    schema,
    sign,
    verify,
    init,
):
    policy.add_command(command)
