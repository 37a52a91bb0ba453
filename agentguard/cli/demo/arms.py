"""Runs the control arms beside the scenes, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, cast

import click

_WAIT_S = 50.0
ARMS = ("spans", "quiet-days")


class ControlArmError(click.ClickException):
    """An arm did not end as it should: a fault of the demo, exit status 1."""


class ControlArms:
    """The arms as running processes; a context manager that leaves none behind."""

    def __init__(self) -> None:
        self._running: dict[str, subprocess.Popen[str]] = {}

    def __enter__(self) -> Self:
        """Begin with none running."""
        return self

    def start(self) -> None:
        """Start them, in the background of a machine with few cores."""
        for arm in ARMS:
            self._running[arm] = subprocess.Popen(
                [sys.executable, "-m", "agentguard.cli.demo.controls", arm],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=_clean_environment(),
            )

    def result(self, arm: str) -> Mapping[str, Any]:
        """
        Wait for an arm.

        Args:
            arm:
                One of `ARMS`.

        Returns:
            What it printed.

        Raises:
            ControlArmError: It failed, or took too long.
        """
        process = self._running[arm]
        try:
            output, errors = process.communicate(timeout=_WAIT_S)
        except subprocess.TimeoutExpired:
            raise ControlArmError(f"control arm `{arm}` took more than {_WAIT_S:g} s") from None
        if process.returncode != 0:
            raise ControlArmError(f"control arm `{arm}` ended with {process.returncode}: {errors[-500:]}")
        return cast("Mapping[str, Any]", json.loads(output))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop whatever still runs."""
        for process in self._running.values():
            if process.poll() is None:
                process.kill()
            process.communicate()


def _clean_environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AGENTGUARD_", "OTEL_")) and not name.upper().endswith("_PROXY")
    }
