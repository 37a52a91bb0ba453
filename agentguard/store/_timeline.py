"""
Whether the clock fits what the segments say: a clock a year ahead must not make everything old.

Time that passed leaves traces: spans that began, or this process, which saw it
pass. A long hole without either may be a long rest, or a clock that jumped; the
two look the same. It is believed once enough happened behind it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_DAY_NS: Final = 86_400 * 10**9
HOLE_NS_MAX: Final = 7 * _DAY_NS
"""A rest of this length needs no explanation."""
DAYS_BEHIND: Final = 3
"""On so many days spans must have begun behind a longer one."""


def believed_now(
    ranges_unix_ns: Iterable[tuple[int, int]], *, now_unix_ns: int, witnessed_s: float = 0.0
) -> int:
    """
    Say up to when the passing of time is believed.

    Args:
        ranges_unix_ns:
            For each file the earliest and the latest start of its spans.

        now_unix_ns:
            What the clock says.

        witnessed_s:
            For how long this process has been there, by a clock that nobody can set.

    Returns:
        *now_unix_ns*; or, where a hole before it is not believed, the beginning of that hole.

    Example:
        >>> day = 86_400 * 10**9
        >>> believed_now([(i * day, i * day) for i in range(30)], now_unix_ns=30 * day) // day
        30
        >>> believed_now([(i * day, i * day) for i in range(30)], now_unix_ns=395 * day) // day
        29
        >>> believed_now([(0, 0), (90 * day, 92 * day)], now_unix_ns=93 * day) // day
        93
    """
    begin = now_unix_ns - int(witnessed_s * 1e9)
    witnessed_days = int(witnessed_s * 1e9) // _DAY_NS
    covered: list[tuple[int, int]] = []
    for low, high in ranges_unix_ns:
        if high > now_unix_ns:
            continue  # Of a time to come: no trace of a time that passed.
        # A range that is longer than the longest rest has a hole somewhere in it.
        covered += [(low, low), (high, high)] if high - low > HOLE_NS_MAX else [(low, high)]
    days: set[int] = set()
    for low, high in sorted(covered, reverse=True):
        if witnessed_days + len(days) >= DAYS_BEHIND:
            break  # Whatever hole comes before it: enough happened since.
        if begin - high > HOLE_NS_MAX:
            return high
        begin = min(begin, low)
        days.update(range(low // _DAY_NS, high // _DAY_NS + 1))  # Eight at most: see above.
    return now_unix_ns
