"""Where the current context is found: in OpenTelemetry's own variable, or with whoever keeps contexts instead."""

from __future__ import annotations

import pytest
from opentelemetry import context as otel_context
from opentelemetry.environment_variables import OTEL_PYTHON_CONTEXT

from agentguard.wrapping import attach, current_context, detach, steps


def test_the_variable_is_the_one_of_opentelemetry() -> None:
    """What we attach it sees, and the other way round."""
    mine = otel_context.set_value("whose", "ours", otel_context.Context())
    token = attach(mine)
    try:
        assert otel_context.get_current() is current_context() is mine
        theirs = otel_context.attach(otel_context.set_value("whose", "theirs"))
        assert current_context() is otel_context.get_current()
        assert current_context()["whose"] == "theirs"
        otel_context.detach(theirs)
        assert current_context() is mine
    finally:
        detach(token)
    assert current_context() is otel_context.get_current()


def test_another_keeper_of_contexts_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """An application that names one does so because it is to hear of each step."""
    monkeypatch.setenv(OTEL_PYTHON_CONTEXT, "its_own_context")
    assert steps._steps()[:2] == (otel_context.get_current, otel_context.attach)
