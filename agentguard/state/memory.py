"""
What was let run before: sums of arguments and counts of calls, over the machine.

Counted when a call is let run, so that a call which fails counts too. Other
processes see it at most a second later; where that is too late, use a budget.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable

from agentguard.errors import StoreError
from agentguard.state.tally import Tally
from agentguard.values import Clock

FINE_S, COARSE_S = 60, 900
"""Windows of up to an hour are counted in minutes, longer ones in quarters of an hour."""
FINE_WINDOW_S_MAX = 3_600
WINDOW_S_MAX = 7 * 86_400
UNITS = 1_000_000
"""Amounts are summed in millionths: doubles do not add up."""
AMOUNT_MAX = 1e12


class Memory:
    """Sums and counts of calls by tool, argument and key."""

    KIND = "history"

    def __init__(self, tally: Tally, clock: Clock, refresh: Callable[[], object]) -> None:
        self._tally = tally
        self._clock = clock
        self._refresh = refresh

    def remember(self, tool: str, argument: str, key: str, amount: float) -> None:
        """
        Count a call that is let run.

        Args:
            tool:
                Its name.
            argument:
                Whose value *amount* is; empty where only the call counts.
            key:
                The value of the fact that is counted by.
            amount:
                What is less than nothing takes nothing back: it counts as 0.

        Raises:
            StoreError: The amount is not finite.
        """
        if not math.isfinite(amount):
            raise StoreError("history: an amount that is not finite")
        units = math.ceil(round(min(max(amount, 0.0), AMOUNT_MAX) * UNITS, 3))
        now_s = self._clock.unix_ns() // 1_000_000_000
        name = _name(tool, argument, key)
        self._tally.add(name, {f"m{now_s // FINE_S}": (1, units), f"q{now_s // COARSE_S}": (1, units)})

    def total(self, tool: str, argument: str, key: str, window_s: float) -> float:
        """
        Add up an argument over the calls of a tool within a window.

        Args:
            tool:
                Its name.
            argument:
                Of the calls.
            key:
                The value of the fact that is counted by.
            window_s:
                Seconds, at most 7 days; what is counted is never shorter, and up to a minute longer, or
                a quarter of an hour for windows of more than one hour.

        Returns:
            The sum; negative amounts count as 0.

        Raises:
            StoreError: The shared state cannot be read, or the window is none.
        """
        return self._sums(_name(tool, argument, key), window_s)[1] / UNITS

    def count(self, tool: str, key: str, window_s: float) -> int:
        """
        Count the calls of a tool within a window; as `total`.

        Args:
            tool:
                Its name.
            key:
                The value of the fact that is counted by.
            window_s:
                Seconds, at most 7 days.

        Returns:
            Calls that were let run.

        Raises:
            StoreError: The shared state cannot be read, or the window is none.
        """
        return self._sums(_name(tool, "", key), window_s)[0]

    def _sums(self, name: str, window_s: float) -> tuple[int, int]:
        if not 0 < window_s <= WINDOW_S_MAX:
            raise StoreError(f"history: a window of {window_s:g} s, expected at most {WINDOW_S_MAX}")
        self._refresh()
        mark, bucket_s = ("m", FINE_S) if window_s <= FINE_WINDOW_S_MAX else ("q", COARSE_S)
        first = int(self._clock.unix_ns() / 1e9 - window_s) // bucket_s
        calls = units = 0
        with self._tally.lock:
            shared, recent = self._tally.shared_and_recent(name)
        for field, amounts in (*shared.items(), *recent):
            # Buckets of the future count: the clock was set back, the calls were made.
            bucket = str(field)
            if bucket[0] == mark and int(bucket[1:]) >= first:
                calls += amounts[0]
                units += amounts[1]
        return calls, units

    @staticmethod
    def is_kept(field: str, now_unix_s: int) -> bool:
        """Whether a bucket may still be asked for."""
        bucket_s, kept_s = (FINE_S, FINE_WINDOW_S_MAX) if field[0] == "m" else (COARSE_S, WINDOW_S_MAX)
        return int(field[1:]) * bucket_s >= now_unix_s - kept_s - bucket_s


def _name(tool: str, argument: str, key: str) -> str:
    return json.dumps([tool, argument, key])
