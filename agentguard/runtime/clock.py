"""The real clock; tests hand in another."""

from __future__ import annotations

import time


class SystemClock:
    """The clocks of the operating system."""

    __slots__ = ()

    unix_ns = staticmethod(time.time_ns)
    monotonic_ns = staticmethod(time.perf_counter_ns)
