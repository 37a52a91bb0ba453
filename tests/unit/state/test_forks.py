"""A fork at the worst moment: another thread is in the middle of a change."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agentguard.forks import FORK_WAIT_S_MAX
from agentguard.seal import Keystore
from agentguard.state import MachineState
from agentguard.state.database import SqliteCells

Open = Callable[..., MachineState]

# Newer Pythons warn of forks beside threads; what then happens is what these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def in_a_child(work: Callable[[], object]) -> int:
    """Fork, do it in the child, and give its exit code; a child that hangs is ended."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(int(FORK_WAIT_S_MAX) * 4)
        try:
            work()
        except BaseException as error:
            os.write(2, f"{error!r}\n".encode())
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def change(cells: SqliteCells) -> None:
    """Change something, as sharing sums does."""
    with cells.transaction():
        cells.put("sum", "b", {"n": 2})


@pytest.mark.parametrize("in_time", [True, False])
def test_a_child_of_a_change_is_not_locked_out(
    place: tuple[Path, Keystore], monkeypatch: pytest.MonkeyPatch, in_time: bool
) -> None:
    """The fork waits for the change; where it would not, the child finds the database locked by itself."""
    if not in_time:  # The control arm.
        monkeypatch.setattr("agentguard.state.database.FORK_WAIT_S_MAX", 0.0)
        monkeypatch.setattr("agentguard.state.database.LOCK_WAIT_S_MAX", 0.5)
    cells = SqliteCells(*place)
    inside = threading.Event()

    def slow() -> None:
        with cells.transaction():
            cells.put("sum", "a", {"n": 1})
            inside.set()
            time.sleep(0.3)

    thread = threading.Thread(target=slow)
    thread.start()
    inside.wait()
    assert (in_a_child(lambda: change(cells)) == 0) is in_time
    thread.join()
    change(cells)
    assert cells.count("sum") == 2
    cells.close()


def test_a_fork_does_not_wait_for_other_processes(place: tuple[Path, Keystore]) -> None:
    """While a thread waits for the lock of another process, a fork and all reads go on."""
    cells, others = SqliteCells(*place), SqliteCells(*place)
    change(cells)
    with others._file_lock():
        thread = threading.Thread(target=change, args=(cells,))
        thread.start()
        while cells._turn.acquire(blocking=False):
            cells._turn.release()
            time.sleep(0.001)
        began = time.monotonic()
        assert in_a_child(lambda: cells.get("sum", "b")) == 0
        assert cells.get("sum", "b") == {"n": 2}
        assert thread.is_alive()
        assert time.monotonic() - began < FORK_WAIT_S_MAX / 2
    thread.join()
    cells.close()
    others.close()


def test_a_child_does_not_keep_the_lock_of_a_dead_parent(
    place: tuple[Path, Keystore], tmp_path: Path
) -> None:
    """A parent dies in the middle of a change while a child of it lives on: others get their turn."""
    cells = SqliteCells(*place)
    ready = tmp_path / "ready"
    pid = os.fork()
    if pid == 0:
        inside = threading.Event()

        def stuck() -> None:
            with cells._file_lock():
                inside.set()
                time.sleep(60)

        threading.Thread(target=stuck, daemon=True).start()
        inside.wait()
        if os.fork() == 0:
            ready.write_text(str(os.getpid()))
            time.sleep(60)
        while not ready.exists():
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    try:
        change(cells)
        assert cells.count("sum") == 1
    finally:
        os.kill(int(ready.read_text()), signal.SIGKILL)
        cells.close()
