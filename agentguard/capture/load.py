"""How many calls of each kind run in this process at this moment."""

from __future__ import annotations

import os
import weakref
from typing import Final

_IDLE_KINDS_MAX: Final = 64


class Load:
    """
    Calls in flight by kind.

    Counted without a lock: the interpreter does not switch threads between
    reading an entry of a dict and storing it. A forked child begins with none,
    since the calls of its parent's other threads do not go on there.
    """

    __slots__ = ("__weakref__", "by_kind")

    def __init__(self) -> None:
        self.by_kind: dict[str, int] = {}
        """A kind that was seen keeps its entry at 0, so that the next call finds it."""
        # A weak reference: the registration outlives the object, for fork has no way to undo it.
        this = weakref.ref(self)

        def after_fork() -> None:
            load = this()
            if load is not None:
                load.by_kind.clear()

        os.register_at_fork(after_in_child=after_fork)


def leave(by_kind: dict[str, int], kind: str) -> None:
    """Count a call that is over."""
    try:
        left = by_kind[kind] - 1
        if left > 0:
            by_kind[kind] = left
        elif len(by_kind) <= _IDLE_KINDS_MAX:
            # Below 0 would be a call of before a fork that ends in the child.
            by_kind[kind] = 0
        else:
            del by_kind[kind]
    except KeyError:
        # The same.
        return
