"""The real clock; tests hand in another."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime

from agentguard.values import Clock


class SystemClock:
    """The clocks of the operating system."""

    __slots__ = ()

    unix_ns = staticmethod(time.time_ns)
    monotonic_ns = staticmethod(time.perf_counter_ns)


def utc_day(clock: Clock) -> date:
    """Say which day it is in UTC."""
    return datetime.fromtimestamp(clock.unix_ns() / 1e9, UTC).date()
