"""The thread that seals: one for all passes, which outlives errors and misses nothing that it was asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from agentguard.store._sealing_thread import SealingThread


class Sealer:
    """Seals when it is let to, and says on which thread."""

    def __init__(self) -> None:
        self.threads: list[int] = []
        self.may_go_on = threading.Event()
        self.error: Exception | None = None

    def seal_all(self) -> int:
        """Make one pass."""
        self.threads.append(threading.get_ident())
        assert self.may_go_on.wait(10)
        if self.error is not None:
            raise self.error
        return 0


@pytest.fixture
def sealer() -> Iterator[Sealer]:
    """Give one that is free in the end."""
    made = Sealer()
    yield made
    made.may_go_on.set()


def _wait_until_idle(sealing: SealingThread) -> None:
    deadline = time.monotonic() + 10
    while not sealing.is_idle:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_all_passes_are_made_by_one_thread(sealer: Sealer) -> None:
    """The second pass begins no other one, and closing ends it."""
    sealer.may_go_on.set()
    sealing = SealingThread(sealer, lambda *_: None)  # type: ignore[arg-type]
    assert sealing.is_idle
    for _ in range(3):
        sealing.ask()
        _wait_until_idle(sealing)
    sealing.close(10)
    assert len(sealer.threads) == 3
    assert len(set(sealer.threads)) == 1
    assert sealer.threads[0] not in {thread.ident for thread in threading.enumerate()}


def test_who_asks_during_a_pass_gets_another(sealer: Sealer) -> None:
    """What was closed after the pass looked at the folder is sealed too."""
    sealing = SealingThread(sealer, lambda *_: None)  # type: ignore[arg-type]
    sealing.ask()
    while not sealer.threads:
        time.sleep(0.001)
    sealing.ask()
    sealing.ask()
    assert not sealing.is_idle
    sealer.may_go_on.set()
    _wait_until_idle(sealing)
    sealing.close(10)
    assert len(sealer.threads) == 2


def test_an_error_is_told_and_the_thread_goes_on(sealer: Sealer) -> None:
    """A disk that refuses today may take it tomorrow."""
    told: list[tuple[str, BaseException]] = []
    sealer.may_go_on.set()
    sealer.error = OSError("full")
    sealing = SealingThread(sealer, lambda where, error: told.append((where, error)))  # type: ignore[arg-type]
    for _ in range(2):
        sealing.ask()
        _wait_until_idle(sealing)
    sealing.close(10)
    assert told == [("store.seal", sealer.error)] * 2


def test_closing_waits_for_the_pass_and_makes_no_other(sealer: Sealer) -> None:
    """A pass that hangs is waited for as long as was said."""
    sealing = SealingThread(sealer, lambda *_: None)  # type: ignore[arg-type]
    sealing.close(0)  # It has never begun.
    sealing = SealingThread(sealer, lambda *_: None)  # type: ignore[arg-type]
    sealing.ask()
    while not sealer.threads:
        time.sleep(0.001)
    sealing.ask()
    began_s = time.monotonic()
    sealing.close(0.05)
    assert time.monotonic() - began_s >= 0.05
    sealer.may_go_on.set()
    sealing.close(10)
    assert len(sealer.threads) == 1
