"""The background drift checker takes no more of a core than it may."""

from __future__ import annotations

import time

import pytest

import agentguard.drift

from .conftest import Start


class Busy:
    """A checker of which each pass takes as much CPU as it is told."""

    passes_s: float = 0.0
    began_s: list[float] = []  # noqa: RUF012 - one for all, as the test makes none itself

    def __init__(self, *_: object, **__: object) -> None:
        """Take whatever a checker takes."""

    def check_once(self) -> None:
        """Burn."""
        self.began_s.append(time.monotonic())
        until_s = time.thread_time() + self.passes_s
        while time.thread_time() < until_s:
            pass


@pytest.mark.parametrize(("share", "most"), [(0.05, 5), (1.0, 1000)])
def test_the_checker_waits_after_a_pass_that_took_long(
    start: Start, monkeypatch: pytest.MonkeyPatch, share: float, most: int
) -> None:
    """Passes of 10 ms at a twentieth of a core come every 200 ms at most; without a bound, every interval."""
    monkeypatch.setattr(agentguard.drift, "Checker", Busy)
    monkeypatch.setattr(Busy, "passes_s", 0.01)
    monkeypatch.setattr(Busy, "began_s", [])
    start(None, drift_interval_s=0.01, drift_cpu_share=share)
    deadline_s = time.monotonic() + 10.0
    while len(Busy.began_s) < 4 and time.monotonic() < deadline_s:
        time.sleep(0.01)
    began = Busy.began_s
    assert len(began) >= 4
    between_s = (began[3] - began[0]) / 3
    assert between_s >= 0.01 / share
    assert len(began) <= most
