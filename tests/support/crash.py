"""
Killing a process that writes, again and again.

The child says on a pipe what it was told is safe; the parent kills it in the
middle and then looks whether all of that is there. Any room can bring its own
child function.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

Child = Callable[[Path, Callable[[str], None]], None]
"""Takes a folder and a function that acknowledges one thing as safe; runs until killed."""


def kill_in_the_middle(child: Child, folder: Path, *, seed: int, within_s: float = 0.25) -> list[str]:
    """
    Fork, run *child*, kill it with SIGKILL at a random moment after its first acknowledgement.

    Returns:
        What the child had acknowledged.
    """
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(read_end)
            child(folder, lambda text: os.write(write_end, text.encode() + b"\n") and None)
            status = 0
        except BaseException as error:
            sys.stderr.write(f"child: {error!r}\n")
        finally:
            os._exit(status)
    os.close(write_end)
    chance = random.Random(seed)
    try:
        data = os.read(read_end, 65536)  # wait for the first acknowledgement
        time.sleep(chance.uniform(0, within_s))
        os.kill(pid, signal.SIGKILL)
        while part := os.read(read_end, 65536):
            data += part
    finally:
        os.close(read_end)
        _, status = os.waitpid(pid, 0)
    if not os.WIFSIGNALED(status):
        raise AssertionError(f"the child ended by itself, status {status}")
    # The last line may be cut: it was not acknowledged.
    return data.decode().split("\n")[:-1]
