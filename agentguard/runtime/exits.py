"""
Children of multiprocessing end by `os._exit`, which runs no `atexit`: they flush through its own finalizers.

Nothing of multiprocessing is imported here; it is used where the application has it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any


class ChildExits:
    """Sees to it that a function runs when a child of multiprocessing ends."""

    def __init__(self, at_exit: Callable[[], object]) -> None:
        """
        Watch the forks of this process.

        Args:
            at_exit:
                Runs in the child; bounded in time, and raises nothing.
        """
        self._at_exit = at_exit
        self._is_registered = False
        os.register_at_fork(before=self._before_fork)
        process: Any = sys.modules.get("multiprocessing.process")
        if process is not None and process.parent_process() is not None:
            # Set up in a child itself, as the workers of a pool are.
            ChildExits._in_child(self)

    def _before_fork(self) -> None:
        # The child clears all finalizers when it begins, and then runs what was registered here.
        util: Any = sys.modules.get("multiprocessing.util")
        if util is not None and not self._is_registered:
            self._is_registered = True
            util.register_after_fork(self, ChildExits._in_child)

    def _in_child(self) -> None:
        util: Any = sys.modules.get("multiprocessing.util")
        if util is None:
            return
        util.Finalize(self, self._at_exit, exitpriority=100)
