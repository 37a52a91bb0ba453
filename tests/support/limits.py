"""Many processes and threads at one limit: what ran, and whether it was ever too much."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from agentguard.runtime import SystemClock
from agentguard.seal import FileKey, open_keystore
from agentguard.state import MachineState, Used, answer_gates, settle_tickets
from agentguard.values import BudgetTerms, Decision, Effect, Mode, StateGate, ThrottleTerms
from tests.support.decisions import raise_it


class Tried(NamedTuple):
    """What one process did."""

    admitted: int
    refused: int
    used: int
    latencies_s: list[float]


def gate(
    terms: BudgetTerms | ThrottleTerms, *, key: tuple[str, ...] = (), mode: Mode = Mode.ENFORCE
) -> StateGate:
    """A gate of a rule `p/B`."""
    effect = Effect.THROTTLE if isinstance(terms, ThrottleTerms) else Effect.DENY
    return StateGate(effect, "p", "B", "About B", mode, key, terms)


def asked(*gates: StateGate) -> Decision:
    """A decision that lets a call run, but for these gates."""
    return Decision(Effect.ALLOW, gates=gates)


def hammer(
    store: Path, terms: BudgetTerms | ThrottleTerms, *, threads: int, calls: int, amount: Callable[[int], int],
    pause_s: float = 0.0, start_at: float = 0.0,
) -> Tried:  # fmt: skip
    """Make calls from several threads of this process; each uses `amount(number of the call)` tokens."""
    keystore = open_keystore(store, FileKey(store.parent / "key"))
    state = MachineState.open(store, keystore, SystemClock(), on_internal_error=raise_it)
    lock = threading.Lock()
    found: list[tuple[int, int, int, list[float]]] = []
    time.sleep(max(start_at - time.time(), 0))

    def work(number: int) -> None:
        admitted = refused = used = 0
        latencies: list[float] = []
        decision = asked(gate(terms))
        for index in range(calls):
            began = time.perf_counter()
            answer = answer_gates(state, decision, {})
            latencies.append(time.perf_counter() - began)
            if answer.decision.is_allowed:
                admitted += 1
                tokens = amount(number * calls + index)
                used += tokens
                settle_tickets(state, answer.tickets, Used(tokens=tokens), is_error=False)
            else:
                refused += 1
            if pause_s:
                time.sleep(max(pause_s - (time.perf_counter() - began), 0))
        with lock:
            found.append((admitted, refused, used, latencies))

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    state.close()
    return Tried(
        sum(one[0] for one in found), sum(one[1] for one in found), sum(one[2] for one in found),
        [latency for one in found for latency in one[3]],
    )  # fmt: skip


def three(_number: int) -> int:
    """Each call uses three."""
    return 3


def uneven(number: int) -> int:
    """Calls use one to five."""
    return 1 + number % 5


def _child(pipe: object, store: Path, options: dict[str, object]) -> None:
    pipe.send(hammer(store, **options))  # type: ignore[attr-defined, arg-type]


def in_processes(store: Path, processes: int, **options: object) -> list[Tried]:
    """Run `hammer` in so many processes at once."""
    context = multiprocessing.get_context("spawn")
    options["start_at"] = time.time() + 1.5
    running = []
    for _ in range(processes):
        mine, theirs = context.Pipe()
        child = context.Process(target=_child, args=(theirs, store, options))
        child.start()
        running.append((mine, child))
    found = [mine.recv() for mine, _ in running]
    for _, child in running:
        child.join(30)
        assert child.exitcode == 0
    return found
