"""Locks that a child of a fork finds free."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from agentguard.forks import IMPORTS, free_in_child

# Newer Pythons warn of forks beside threads; what then happens is what these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def is_free_in_child(lock: Any) -> bool:
    """Fork, and try to take the lock there."""
    pid = os.fork()
    if pid == 0:
        os._exit(0 if lock.acquire(timeout=0.2) else 1)
    return os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize("make", [threading.Lock, threading.RLock])
@pytest.mark.parametrize("is_ours", [True, False])
def test_a_lock_that_another_thread_holds(make: Callable[[], Any], is_ours: bool) -> None:
    """A child has it; the control arm is a lock that nobody told us of."""
    lock = free_in_child(make()) if is_ours else make()
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    assert is_free_in_child(lock) is is_ours
    assert not lock.acquire(blocking=False), "the parent's is as it was"
    done.set()
    thread.join()


def test_a_lock_that_the_forking_thread_holds() -> None:
    """It still holds it in the child, and can give it back there."""
    lock = free_in_child(threading.RLock())
    with lock:
        pid = os.fork()
        if pid == 0:
            lock.release()
            os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


def test_every_thread_of_a_child_can_import() -> None:
    """What the fork itself waited with is free there."""
    pid = os.fork()
    if pid == 0:
        taken: list[bool] = []
        thread = threading.Thread(target=lambda: taken.append(IMPORTS.acquire(timeout=1.0)))
        thread.start()
        thread.join()
        os._exit(0 if taken == [True] else 1)
    assert os.waitpid(pid, 0)[1] == 0
