"""What a call leaves behind when it is over, on the fast path and on the long way: nothing."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import context as otel_context

import agentguard
from agentguard.capture import Span
from agentguard.runtime import fast_path
from agentguard.runtime.calls import GuardedCall
from agentguard.runtime.core import Runtime
from agentguard.runtime.fast_call import FastCall

from .conftest import Start

RULES = """
- {id: A-1, title: Much, at: tool.before, when: "args.x == 'much'", then: deny}
- {id: A-2, title: Odd, at: tool.before, when: "args.x == 'odd'", then: warn}
"""


@pytest.fixture(params=["fast", "long"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each test runs both ways."""
    if request.param == "long":
        monkeypatch.setattr(fast_path, "lane_of", lambda *_: None)
    return str(request.param)


@pytest.fixture(params=[RULES, None], ids=["rules", "no-rules"])
def runtime(start: Start, request: pytest.FixtureRequest) -> Iterator[Runtime]:
    """A runtime, with policies and without; the collector of the interpreter is off, and knows of nothing before."""
    made = start(request.param)
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield made
    finally:
        gc.enable()
        gc.unfreeze()


class Payload:
    """An argument or a result that can be watched."""


@agentguard.tool(name="lookup")
def lookup(payload: object, x: str = "", then: Callable[[], object] | None = None) -> object:
    """Do something inside the call, and give back what was given."""
    if then is not None:
        then()
    return payload


@agentguard.tool(name="inner")
def inner(x: str = "") -> None:
    """A call inside the other."""


@agentguard.agent(name="outer")
def outer(payload: object, then: Callable[[], object] | None = None) -> object:
    """An agent around it."""
    lookup(payload, then=then)
    return payload


def _look() -> None:
    assert len(otel_context.get_current()) > 1


def _look_and_note() -> None:
    span = agentguard.current()
    assert span is not None
    span.set("k", "v")


def _raise() -> None:
    raise ValueError("wrong")


def _look_and_raise() -> None:
    _look()
    _raise()


def _with_baggage() -> None:
    token = otel_context.attach(otel_context.set_value("k", 1))
    inner()
    otel_context.detach(token)


def _in_a_run() -> None:
    with agentguard.run(labels={"a": "b"}):
        inner()


def _in_a_thread() -> None:
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(inner,))
    thread.start()
    thread.join()


def _warned() -> None:
    inner("odd")


def _denied() -> None:
    with contextlib.suppress(agentguard.CallDenied):
        inner("much")


INSIDE: dict[str, Callable[[], object] | None] = {
    "nothing": None,
    "call": inner,
    "look": _look,
    "note": _look_and_note,
    "raise": _raise,
    "look-raise": _look_and_raise,
    "baggage": _with_baggage,
    "run": _in_a_run,
    "thread": _in_a_thread,
    "warned": _warned,
    "denied": _denied,
}


def _call(function: Callable[..., Any], then: Callable[[], object] | None, payload: object) -> None:
    with contextlib.suppress(ValueError):
        function(payload, then=then)


_OURS = (FastCall, GuardedCall, Span, Payload)


def _garbage_of(runtime: Runtime, work: Callable[[], object]) -> Counter[str]:
    """Find what of ours only the collector would free."""
    work()
    runtime.flush(10.0)
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in range(5):
            work()
        runtime.flush(10.0)
        gc.collect()
        return Counter(type(found).__name__ for found in gc.garbage if issubclass(type(found), _OURS))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


@pytest.mark.parametrize("function", [lookup, outer], ids=["tool", "agent"])
def test_nothing_is_left_for_the_collector(way: str, runtime: Runtime, function: Callable[..., Any]) -> None:
    """A call makes no circles, whatever happens in it."""
    left = {
        name: _garbage_of(runtime, lambda then=then: _call(function, then, Payload()))  # type: ignore[misc]
        for name, then in INSIDE.items()
    }
    assert left == {name: Counter() for name in INSIDE}


def test_a_look_after_the_end_leaves_nothing(way: str, runtime: Runtime) -> None:
    """A context that outlived its call, and was looked into then, goes without the collector."""

    def work(action: Callable[[], object]) -> None:
        contexts: list[contextvars.Context] = []
        lookup(Payload(), then=lambda: contexts.append(contextvars.copy_context()))
        contexts.pop().run(action)

    looks = {name: INSIDE[name] for name in ("call", "look", "note", "baggage", "run", "warned", "denied")}
    left = {name: _garbage_of(runtime, lambda then=then: work(then)) for name, then in looks.items()}  # type: ignore[misc]
    assert left == {name: Counter() for name in looks}


@pytest.mark.parametrize("is_kept", [False, True], ids=["gone", "kept"])
def test_an_ended_call_keeps_no_arguments(way: str, runtime: Runtime, is_kept: bool) -> None:
    """Arguments and results go when the call is over, even where its context lives on."""
    kept: list[object] = []

    def alive(then: Callable[[], object] | None) -> bool:
        def work() -> None:
            if is_kept:
                kept.append(contextvars.copy_context())
            if then is not None:
                then()

        lookup(Payload(), then=work)
        payload = Payload()
        watched = weakref.ref(payload)
        lookup(payload, then=work)
        del payload
        runtime.flush(10.0)
        return watched() is not None

    assert [name for name, then in INSIDE.items() if "raise" not in name and alive(then)] == []


@pytest.mark.parametrize("is_over", [True, False], ids=["after", "before"])
@pytest.mark.parametrize(
    "inside",
    [
        "mixed",
        *(
            pytest.param(name, marks=pytest.mark.long)
            for name in ("nothing", "call", "look", "note", "baggage", "run", "warned", "denied")
        ),
    ],
)
def test_a_chain_of_successors_does_not_grow(way: str, runtime: Runtime, inside: str, is_over: bool) -> None:
    """A task that makes its own successor inside a call, forever, holds on to none of those before it."""
    counts: list[int] = []
    looks = list(INSIDE.values())

    def then(left: int) -> None:
        do = looks[left % len(looks)] if inside == "mixed" else INSIDE[inside]
        if do is not None:
            with contextlib.suppress(ValueError):
                do()

    async def step(left: int) -> None:
        if not is_over:
            lookup(Payload(), then=lambda: then(left))
        lookup(Payload(), "odd" if inside == "mixed" and left % 3 == 0 else "", then=lambda: begin(left - 1))
        if is_over:
            lookup(Payload(), then=lambda: then(left))

    def begin(left: int) -> None:
        then(left)
        if left:
            tasks.append(asyncio.get_running_loop().create_task(step(left)))

    tasks: list[asyncio.Task[None]] = []

    async def main() -> None:
        await step(60)
        while tasks:
            await tasks.pop()
            if len(counts) in {20, 50}:
                runtime.flush(10.0)
            counts.append(sum(issubclass(type(found), _OURS) for found in gc.get_objects()))

    asyncio.run(main())
    assert len(counts) > 51
    assert counts[50] <= counts[20] + 3
