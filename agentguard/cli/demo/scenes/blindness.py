"""Blindness: an error that nobody saw, retries that nobody counted."""

from __future__ import annotations

from agentguard.cli.demo.findings import Finding
from agentguard.cli.demo.server import Fault
from agentguard.cli.demo.stage import Stage

_QUESTIONS = tuple(f"Where is my order E-{number}?" for number in range(11, 17))
_BROKEN = frozenset({"E-12", "E-15"})
_REFUSALS = 5


def play(stage: Stage) -> Finding:
    """Break a tool for two orders, refuse five requests; then ask the store what happened."""
    stage.desk.broken_orders = stage.bare_desk.broken_orders = _BROKEN
    errors_before = stage.number("select count(*) from spans where status = 'error' and kind = 'tool'")
    retries_before = stage.number(_RETRIES)

    stage.server.fail_next(*[Fault(429)] * _REFUSALS)
    answers = [stage.bare_agent.answer(question) for question in _QUESTIONS]
    refused_before = stage.server.statuses[429]
    stage.server.fail_next(*[Fault(429)] * _REFUSALS)
    for question in _QUESTIONS:
        stage.talk(question)
    refused = stage.server.statuses[429] - refused_before
    stage.desk.broken_orders = stage.bare_desk.broken_orders = frozenset()

    errors = int(
        stage.number("select count(*) from spans where status = 'error' and kind = 'tool'") - errors_before
    )
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
_CLASSES = "select distinct error_type from spans where status = 'error' and kind = 'tool' order by 1"
