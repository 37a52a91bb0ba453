"""Blindness: an error that nobody saw, retries that nobody counted."""

from __future__ import annotations

from collections.abc import Callable

from agentguard.cli.demo.findings import Finding
from agentguard.cli.demo.server import Fault
from agentguard.cli.demo.stage import Stage

_QUESTIONS = tuple(f"Where is my order E-{number}?" for number in range(11, 17))
_BROKEN = frozenset({"E-12", "E-15"})
_REFUSALS = (1, 0, 2, 0, 1, 1)
"""How many requests are refused for each customer; the SDK gives up after three."""


def play(stage: Stage) -> Finding:
    """Break a tool for two orders, refuse five requests; then ask the store what happened."""
    stage.desk.broken_orders = stage.bare_desk.broken_orders = _BROKEN
    errors_before = stage.number(_ERRORS)
    retries_before = stage.number(_RETRIES)

    answers = [_ask(stage, stage.bare_agent.answer, i) for i in range(len(_QUESTIONS))]
    refused_before = stage.server.statuses[429]
    for i in range(len(_QUESTIONS)):
        _ask(stage, stage.talk, i)
    refused = stage.server.statuses[429] - refused_before
    stage.desk.broken_orders = stage.bare_desk.broken_orders = frozenset()

    errors = int(stage.number(_ERRORS) - errors_before)
    retries = int(stage.number(_RETRIES) - retries_before)
    classes = [str(row[0]) for row in stage.sql(_CLASSES)]
    return Finding(
        title="Blindness",
        story="The order database fails for two customers; the model service refuses five requests.",
        without=f"{len(answers)} polite answers, no error, no retry on any screen: the tool's exception "
        "became a sentence, the SDK retried in silence",
        with_guard=(
            (
                f"found in the store by query: {errors} failed tool calls ({', '.join(classes)}) and "
                f"{retries} retries"
            ),
            f"the server's own count says {len(_BROKEN)} and {refused}",
        ),
        command="agentguard spans --status error",
        caught=errors == len(_BROKEN) and retries == refused > 0 and "TimeoutError" in classes,
        short=f"{errors} errors, {retries} retries found by query",
        figures={
            "errors": errors,
            "retries": retries,
            "refused_by_server": refused,
            "error_classes": classes,
        },
    )


_RETRIES = "select coalesce(sum(retries), 0) from spans where kind = 'model'"
_ERRORS = "select count(*) from spans where kind = 'tool' and status = 'error' and error_type <> 'denied'"
_CLASSES = (
    "select distinct error_type from spans "
    "where kind = 'tool' and status = 'error' and error_type <> 'denied' order by 1"
)


def _ask(stage: Stage, answer: Callable[[str], str], place: int) -> str:
    """Ask one question, while the model service refuses as often as planned."""
    stage.server.fail_next(*[Fault(429)] * _REFUSALS[place])
    return answer(_QUESTIONS[place])
