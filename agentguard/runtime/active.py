"""
The one runtime of this process: which it is, and what a call does before there is one.

Where policies are configured nothing runs ungoverned: the first decorated call
initialises, or fails. Without policies it is a plain call until `init()`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from agentguard.forks import free_in_child
from agentguard.runtime.declaration import IN_CHARGE, Declaration

if TYPE_CHECKING:
    # Only the types: they need the store and its keys, `import agentguard` does not.
    from agentguard.runtime.calls import GuardedCall
    from agentguard.runtime.core import Runtime


class _Active:
    """What this process has been set up with."""

    __slots__ = ("is_off", "lock", "start")

    def __init__(self) -> None:
        self.lock = free_in_child(threading.RLock())
        self.is_off = False
        """Whether calls before `init()` are known to run as they are."""
        self.start: Callable[[], Runtime | None] | None = None
        """Initialises without arguments; set by the module that has `init`."""

    @property
    def runtime(self) -> Runtime | None:
        """The one that governs now."""
        return IN_CHARGE.runtime  # type: ignore[no-any-return] # nothing else is put there

    @runtime.setter
    def runtime(self, runtime: Runtime | None) -> None:
        IN_CHARGE.runtime = runtime


ACTIVE = _Active()


def begin_call(
    declaration: Declaration, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> GuardedCall | None:
    """
    Begin a call of a decorated callable that did not take the fast path.

    Returns:
        The call, or None where the function runs as if it were not wrapped.

    Raises:
        CallDenied: Policy said no.
        ApprovalPending: A person must decide first.
        ConfigurationError: Policies are configured, and cannot be put in force.
    """
    runtime = ACTIVE.runtime
    if runtime is None:
        runtime = governing()
        if runtime is None:
            return None
    return runtime.begin(declaration, args, kwargs)


def governing() -> Runtime | None:
    """
    Give the runtime that governs a call now, set up on the first call where policies are configured.

    Returns:
        None where calls run as if nothing were wrapped.

    Raises:
        ConfigurationError: Policies are configured, and cannot be put in force.
    """
    runtime = ACTIVE.runtime
    if runtime is None and not ACTIVE.is_off:
        runtime = _first_call()
    return runtime


def _first_call() -> Runtime | None:
    """Decide once what calls before `init()` do."""
    # Imported here: only a call before `init()` asks.
    from pathlib import Path

    from agentguard.runtime.config import policies_configured

    with ACTIVE.lock:
        if ACTIVE.runtime is not None:
            return ACTIVE.runtime
        if not policies_configured(os.environ, Path.cwd()):
            ACTIVE.is_off = True
            return None
    assert ACTIVE.start is not None
    return ACTIVE.start()
