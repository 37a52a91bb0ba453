"""
Waiting for people: a call that stands still until its approval is given or refused.

What holds when the answer comes is asked anew: the kill switch and every rule
may say otherwise by then. Coroutines wait in threads of their own, so that the
loop and its pool stay free.
"""

from __future__ import annotations

import contextvars
import threading
import time
from typing import TYPE_CHECKING, Protocol

from agentguard.event_loop import in_thread
from agentguard.state import RequestState
from agentguard.values import DecisionRecord, Effect

if TYPE_CHECKING:
    from agentguard.runtime.known import KnownCall

WAITING_MAX = 256
"""Calls that wait for people at one time in a process; one more ends with `ApprovalPending` at once."""
POLL_FIRST_S, POLL_MAX_S = 0.05, 0.5

_places = threading.BoundedSemaphore(WAITING_MAX)


class _Admitted(Protocol):
    """A call that can be admitted."""

    is_cancelled: bool

    def admit(self, record: DecisionRecord) -> None:
        """Let the call run, or raise."""
        ...


async def admit_in_thread(call: _Admitted, record: DecisionRecord) -> None:
    """
    Admit a call of a coroutine: the disk, and people, are waited for in a thread.

    Args:
        call:
            The call.
        record:
            What the engine decided.

    Raises:
        CallDenied: It must not run.
        ApprovalPending: A person must decide first.
    """
    if record.decision.effect is not Effect.REQUIRE_APPROVAL:
        await in_thread(call.admit, record)
        return
    import asyncio  # Loaded by now, see `event_loop`.

    # Not in the loop's pool: it is small, and people are slow.
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    context = contextvars.copy_context()

    def tell(error: BaseException | None) -> None:
        if not done.done():
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

    def work() -> None:
        failed: BaseException | None = None
        try:
            context.run(call.admit, record)
        except BaseException as error:
            failed = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, failed)

    threading.Thread(target=work, name="agentguard-approval", daemon=True).start()
    try:
        await done
    except asyncio.CancelledError:
        call.is_cancelled = True
        raise


def wait_for_answer(call: KnownCall, token: str, wait_s: float) -> RequestState:
    """
    Wait until people have answered a request.

    Args:
        call:
            The call; where its task goes away, the waiting ends.
        token:
            The request.
        wait_s:
            Longest wait.

    Returns:
        Where the request stands: pending where nobody has answered, or too many calls wait already.

    Raises:
        StoreError: The state cannot be read.
    """
    clock, approvals = call.services.clock, call.services.state.approvals
    until_ns = clock.monotonic_ns() + int(wait_s * 1e9)
    pause_s = POLL_FIRST_S
    state = RequestState.PENDING
    if not _places.acquire(blocking=False):
        return state
    try:
        while not call.is_cancelled:
            state = approvals.show(token).state
            left_s = (until_ns - clock.monotonic_ns()) / 1e9
            if state is not RequestState.PENDING or left_s <= 0:
                break
            time.sleep(min(pause_s, left_s))
            pause_s = min(pause_s * 1.5, POLL_MAX_S)
    finally:
        _places.release()
    return state
