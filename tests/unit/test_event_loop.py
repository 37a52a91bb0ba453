"""What plain functions know of asyncio is what asyncio says."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
import types

import pytest

from agentguard import event_loop


def test_a_loop_runs_on_its_own_thread_only() -> None:
    """True within a coroutine, false in a thread beside it."""

    async def look() -> tuple[bool, bool]:
        return event_loop.runs_here(), await asyncio.to_thread(event_loop.runs_here)

    assert asyncio.run(look()) == (True, False)


def test_no_loop_runs_in_a_plain_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither where asyncio is loaded, nor where it is half loaded, nor where it is not."""
    assert not event_loop.runs_here()
    monkeypatch.setitem(sys.modules, "asyncio.events", types.ModuleType("asyncio.events"))
    assert not event_loop.runs_here()
    monkeypatch.delitem(sys.modules, "asyncio.events")
    assert not event_loop.runs_here()


def test_futures_and_tasks_are_futures(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is while asyncio is not there."""
    assert event_loop.is_future(asyncio.Future)
    assert event_loop.is_future(asyncio.Task)
    assert not event_loop.is_future(dict)
    monkeypatch.delitem(sys.modules, "asyncio")
    assert not event_loop.is_future(dict)


def test_a_thread_has_the_arguments_and_the_context() -> None:
    """As with `asyncio.to_thread`; what it raises comes back."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    main = threading.get_ident()

    def work(one: int, *, two: int) -> tuple[int, str, bool]:
        return one + two, variable.get(), threading.get_ident() == main

    async def ask() -> tuple[int, str, bool]:
        variable.set("here")
        with pytest.raises(ZeroDivisionError):
            await event_loop.in_thread(divmod, 1, 0)
        return await event_loop.in_thread(work, 1, two=2)

    assert asyncio.run(ask()) == (3, "here", False)
