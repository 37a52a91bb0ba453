"""Runs go on in threads, tasks and processes."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import threading
import time
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

import agentguard
from agentguard.integrations.concurrency import ContextThreadPoolExecutor, carry, in_context, submit
from agentguard.values import attributes as names
from tests.support.governed import Governed


@agentguard.tool(effect="read")
def work(n: int) -> int:
    """One piece of work."""
    return n * n


@agentguard.agent(name="boss")
def through(executor: Executor, count: int) -> list[int]:
    """Hand out work with `submit`."""
    return [future.result() for future in [submit(executor, work, n) for n in range(count)]]


def check(governed: Governed, count: int) -> None:
    """All work is below the one agent, in its run."""
    agents = [span for span in governed.spans() if span.kind == "agent"]
    tools = [span for span in governed.spans() if span.kind == "tool"]
    (boss,) = agents
    assert len(tools) == count
    assert {tool.parent_span_id for tool in tools} == {boss.span_id}
    assert {tool.trace_id for tool in tools} == {boss.trace_id}
    assert {tool.attributes[names.RUN_ID] for tool in tools} == {boss.attributes[names.RUN_ID]}
    assert {tool.attributes[names.CONVERSATION_ID] for tool in tools} == {"c1"}


def test_a_plain_pool_loses_the_run(governed: Governed) -> None:
    """Why this room exists: without it the spans stand alone."""
    governed.start()
    with agentguard.run(conversation_id="c1"), ThreadPoolExecutor(2) as pool:
        pool.submit(work, 1).result()
    assert names.CONVERSATION_ID not in governed.only().attributes


def test_submit_to_threads(governed: Governed) -> None:
    """Any pool of threads."""
    governed.start()
    with agentguard.run(conversation_id="c1") as this, ThreadPoolExecutor(4) as pool:
        assert through(pool, 20) == [n * n for n in range(20)]
        assert this.tool_calls == 20
    check(governed, 20)


def test_executor_that_carries(governed: Governed) -> None:
    """`submit` and `map` of our own executor."""
    governed.start()

    @agentguard.agent(name="boss")
    def boss(pool: ThreadPoolExecutor) -> list[int]:
        return [*pool.map(work, range(10)), *(pool.submit(work, n=n).result() for n in range(10))]

    with agentguard.run(conversation_id="c1"), ContextThreadPoolExecutor(4) as pool:
        assert boss(pool) == [n * n for n in range(10)] * 2
    check(governed, 20)


def test_time_in_the_queue_is_on_the_span(governed: Governed) -> None:
    """The first call of submitted work says how long it waited for a thread of the pool."""
    governed.start()
    begun, gate = threading.Event(), threading.Event()

    def block() -> None:
        begun.set()
        gate.wait(10)

    with ContextThreadPoolExecutor(1) as carrying, ThreadPoolExecutor(1) as plain:
        for pool in (carrying, plain):
            begun.clear()
            gate.clear()
            submit(pool, block)
            assert begun.wait(10)
            waiting = pool.submit(work, 1) if pool is carrying else submit(pool, work, 1)
            time.sleep(0.05)
            gate.set()
            waiting.result()
    waits = [span.attributes[names.LOAD_WAITED_S] for span in governed.spans()]
    assert len(waits) == 2
    assert all(0.04 < waited < 5 for waited in waits)


def test_threads(governed: Governed) -> None:
    """One bound function, several threads at once."""
    governed.start()
    barrier = threading.Barrier(4)

    @agentguard.agent(name="boss")
    def boss() -> None:
        def job() -> None:
            barrier.wait(10)
            work(1)

        bound = in_context(job)
        threads = [threading.Thread(target=bound) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    with agentguard.run(conversation_id="c1"):
        boss()
    check(governed, 4)


def test_asyncio_carries_by_itself(governed: Governed) -> None:
    """`to_thread`, tasks and `run_in_executor` with a bound function."""
    governed.start()

    @agentguard.agent(name="boss")
    async def boss() -> None:
        loop = asyncio.get_running_loop()
        await asyncio.gather(
            asyncio.to_thread(work, 1),
            asyncio.create_task(asyncio.to_thread(work, 2)),
            loop.run_in_executor(None, in_context(work), 3),
        )

    async def scene() -> None:
        with agentguard.run(conversation_id="c1"):
            await boss()

    asyncio.run(scene())
    check(governed, 3)


def set_up(folder: str, key: str) -> None:
    """Set agentguard up in a process of a pool."""
    agentguard.init(store=folder, key=key, drift_interval_s=0, strict=True)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_processes(governed: Governed, tmp_path: Path, method: str) -> None:
    """A pool of processes: run and trace go along, the spans lie in the one store."""
    runtime = governed.start()
    context = multiprocessing.get_context(method)
    arguments = (str(tmp_path / "store"), runtime.config.key)
    with (
        agentguard.run(conversation_id="c1"),
        ProcessPoolExecutor(1, mp_context=context, initializer=set_up, initargs=arguments) as pool,
    ):
        assert through(pool, 3) == [0, 1, 4]
    check(governed, 3)


def in_child() -> None:
    """Work in a child, which ends as children of multiprocessing do."""
    work(1)


def test_a_forked_child_inherits(governed: Governed) -> None:
    """After a fork context and runtime are there."""
    governed.start()

    @agentguard.agent(name="boss")
    def boss() -> None:
        process = multiprocessing.get_context("fork").Process(target=in_child)
        process.start()
        process.join(30)
        assert process.exitcode == 0

    with agentguard.run(conversation_id="c1"):
        boss()
    check(governed, 1)


def test_carried_is_data(governed: Governed) -> None:
    """It is picklable, can be entered again, and says nothing more than the run."""
    governed.start()
    with agentguard.run(principal="ann", roles=["r"], labels={"a": "b"}, conversation_id="c1") as this:
        carried = pickle.loads(pickle.dumps(carry()))
    with carried, carried:
        work(1)
        assert carry()._facts == {
            "run_id": this.run_id,
            "conversation_id": "c1",
            "principal": "ann",
            "roles": ("r",),
            "labels": {"a": "b"},
        }
    assert governed.only().attributes[names.RUN_ID] == this.run_id


def test_carry_outside_any_run(governed: Governed) -> None:
    """Nothing to carry is no error."""
    governed.start()
    assert pickle.loads(pickle.dumps(carry())).call(os.getpid) == os.getpid()
