"""
asyncio as the application uses it.

asyncio costs 1.7 megabytes of memory and some milliseconds of start. Whoever has a coroutine, a future
or a running loop has paid that already; a program of plain functions never does, so nothing of ours loads it
there. What plain functions must know of it is asked of the module where it is loaded, and here only;
coroutines import it inside.
"""

from __future__ import annotations

from collections.abc import Callable
from sys import modules as _modules
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


def runs_here() -> bool:
    """Whether an event loop runs on this thread."""
    events = _modules.get("asyncio.events")
    # Another thread may have the module half imported; no loop runs before it is whole.
    ask = getattr(events, "_get_running_loop", None)  # `get_running_loop` raises instead.
    return ask is not None and ask() is not None


def is_future(kind: type) -> bool:
    """Whether a type is that of futures, tasks among them."""
    # Not of `asyncio.futures`, which has another one while it is imported.
    return issubclass(kind, getattr(_modules.get("asyncio"), "Future", ()))


async def in_thread(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Do as `asyncio.to_thread`: run a function that may wait, while the loop goes on."""
    from asyncio import to_thread  # Loaded by now: a coroutine runs.

    return await to_thread(function, *args, **kwargs)
