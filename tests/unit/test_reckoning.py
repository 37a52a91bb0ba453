"""Calls that have ended are in every sum that anybody reads, whichever thread adds them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from agentguard.reckoning import Reckoning

# Newer Pythons warn of forks beside threads; what then happens is what a test here is about.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


class Call:
    """One that owes a number."""

    def __init__(
        self, sums: list[tuple[int, bool]], number: int, then: Callable[[], object] | None = None
    ) -> None:
        self.sums, self.number, self.then = sums, number, then

    @staticmethod
    def reckon(calls: Sequence[Any], each: Iterator[Any], *, is_ours: bool) -> list[Callable[[], object]]:
        for call in each:
            if call.then is not None:
                call.then()
            call.sums.append((call.number, is_ours))
        return []


def test_in_the_order_in_which_they_ended() -> None:
    """Sums of doubles depend on the order."""
    reckoning, sums = Reckoning(), []  # type: ignore[var-annotated]
    for number in range(5):
        reckoning.add(Call(sums, number))
    reckoning.settle()
    assert sums == [(number, True) for number in range(5)]


def test_what_is_to_be_said_is_said_without_the_lock() -> None:
    """Whoever hears of it may wait for a thread that reads a sum."""
    reckoning, heard = Reckoning(), []  # type: ignore[var-annotated]

    class Loud:
        @staticmethod
        def reckon(calls: Sequence[Any], each: Iterator[Any], *, is_ours: bool) -> list[Callable[[], object]]:
            return [say for _ in each]

    def say() -> None:
        thread = threading.Thread(target=lambda: (reckoning.settle(), heard.append("other")))
        reckoning.add(Call([], 1))
        thread.start()
        thread.join(10.0)
        heard.append("said")

    reckoning.add(Loud())
    reckoning.settle()
    assert heard == ["other", "said"]


def test_who_reads_waits_for_who_adds() -> None:
    """A call that another thread has taken out of the queue, and not yet added, is waited for."""
    reckoning, sums = Reckoning(), []  # type: ignore[var-annotated]
    begun = threading.Event()

    def slowly() -> None:
        begun.set()
        time.sleep(0.1)

    reckoning.add(Call(sums, 7, slowly))
    thread = threading.Thread(target=reckoning.settle)
    thread.start()
    assert begun.wait(10.0)
    reckoning.settle()
    assert sums == [(7, True)]
    thread.join()


def test_a_call_that_ends_while_one_is_added() -> None:
    """What the collector frees at that moment may be a call, which is added too."""
    reckoning, sums = Reckoning(), []  # type: ignore[var-annotated]

    def end_another() -> None:
        reckoning.add(Call(sums, 2))
        reckoning.settle()

    reckoning.add(Call(sums, 1, end_another))
    reckoning.settle()
    assert sorted(sums) == [(1, True), (2, True)]


def test_an_interrupt_forgets_one_at_most() -> None:
    """Those that it kept from being added are added by the next who asks."""
    reckoning, sums = Reckoning(), []  # type: ignore[var-annotated]

    def interrupt() -> None:
        raise KeyboardInterrupt

    for number in range(300):
        reckoning.add(Call(sums, number, interrupt if number == 140 else None))
    with pytest.raises(KeyboardInterrupt):
        reckoning.settle()
    assert sums == [(number, True) for number in range(140)]
    reckoning.settle()
    assert sums == [(number, True) for number in range(300) if number != 140]


def test_a_child_adds_what_ended_in_its_parent_to_its_own_sums_alone() -> None:
    """The parent shares it with others; and the lock may have been held when the child was made."""
    reckoning, sums = Reckoning(), []  # type: ignore[var-annotated]
    go_on, inside = threading.Event(), threading.Event()

    def hold() -> None:
        inside.set()
        go_on.wait(10.0)

    reckoning.add(Call([], 0, hold))
    thread = threading.Thread(target=reckoning.settle)
    thread.start()
    assert inside.wait(10.0)
    reckoning.add(Call(sums, 1))
    pid = os.fork()
    if pid == 0:
        reckoning.begin_in_child()
        reckoning.add(Call(sums, 2))
        reckoning.settle()
        os._exit(0 if sums == [(1, False), (2, True)] else 1)
    assert os.waitpid(pid, 0)[1] == 0
    go_on.set()
    thread.join()
    assert sums == [(1, True)]
