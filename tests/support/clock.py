"""A clock that stands still until it is told to move."""

from __future__ import annotations

START_UNIX_NS = 1_767_225_600_000_000_000
"""2026-01-01T00:00:00Z."""


class FrozenClock:
    """
    A `Clock` whose two hands move only by `advance` and `set_unix_ns`.

    The monotonic hand starts at 1 s, so that a difference to 0 is never taken for
    an unset value, and it never goes back: `set_unix_ns` moves the wall clock alone,
    as an administrator or NTP would.
    """

    def __init__(self, unix_ns: int = START_UNIX_NS, monotonic_ns: int = 1_000_000_000) -> None:
        self._unix_ns = unix_ns
        self._monotonic_ns = monotonic_ns

    def unix_ns(self) -> int:
        return self._unix_ns

    def monotonic_ns(self) -> int:
        return self._monotonic_ns

    def advance(self, seconds: float = 0.0, *, ns: int = 0) -> None:
        """Move both hands forward."""
        step_ns = round(seconds * 1e9) + ns
        if step_ns < 0:
            raise ValueError(f"advance: got {step_ns} ns, a clock goes forward")
        self._unix_ns += step_ns
        self._monotonic_ns += step_ns

    def set_unix_ns(self, unix_ns: int) -> None:
        """Let the wall clock jump; the monotonic hand stays."""
        self._unix_ns = unix_ns
