"""Rates of tools, and what was spent today: the two sums that conditions read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from agentguard.errors import StoreError
from agentguard.state.tally import Tally
from agentguard.values import Clock

BUCKET_S = 5
"""A window is counted in buckets of so many seconds; it is never shorter than asked, up to one longer."""
_BUCKET_NS = BUCKET_S * 1_000_000_000
_DAY_NS = 86_400_000_000_000
WINDOW_S_MAX = 900
KNOWN_MAX = 1_024
"""Tools and windows whose shared buckets are not added up anew at each question."""
USD_UNITS = 1_000_000_000
"""Spend is summed in billionths of a dollar, since doubles do not add up."""


class Rates:
    """Calls and errors of each tool, over the machine."""

    KIND = "rate"

    def __init__(self, tally: Tally, clock: Clock, refresh: Callable[[], None]) -> None:
        self._tally = tally
        self._clock = clock
        self._refresh = refresh
        self._known: dict[tuple[str, float], tuple[Mapping[str, list[int]], int, int, int]] = {}
        """By tool and window: the shared buckets, the first one that counts, and their calls and errors."""

    def record(self, tool: str, is_error: bool) -> None:
        """
        Count one call of a tool that ended.

        Args:
            tool:
                Its name.
            is_error:
                Whether it raised.
        """
        self._tally.add(tool, self._clock.unix_ns() // _BUCKET_NS, 1, 1 if is_error else 0)

    def calls(self, tool: str, window_s: float = 300.0) -> int:
        """
        Count the calls of a tool that ended within a window.

        Args:
            tool:
                Its name.
            window_s:
                Seconds, at most 900.

        Returns:
            Calls of all processes of the machine, those of others at most 1 s late.

        Raises:
            StoreError: The shared state cannot be read.
        """
        return self._sums(tool, window_s)[0]

    def error_rate(self, tool: str, window_s: float = 300.0) -> float:
        """
        Share of the calls within a window that raised.

        Args:
            tool:
                Its name.
            window_s:
                Seconds, at most 900.

        Returns:
            0 to 1; 0 where there was no call.

        Raises:
            StoreError: The shared state cannot be read.
        """
        calls, errors = self._sums(tool, window_s)
        return errors / calls if calls else 0.0

    def _sums(self, tool: str, window_s: float) -> tuple[int, int]:
        if not 0 < window_s <= WINDOW_S_MAX:
            raise StoreError(
                f"rates: a window of {window_s:g} s, expected more than 0 and at most {WINDOW_S_MAX}"
            )
        self._refresh()
        first = (self._clock.unix_ns() - int(window_s * 1e9)) // _BUCKET_NS
        shared, recent = self._tally.shared_and_recent(tool)
        known = self._known.get((tool, window_s))
        if known is None or known[0] is not shared or known[1] != first:
            known = (shared, first, *_since(shared, first))
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            self._known[tool, window_s] = known
        _, _, calls, errors = known
        for bucket, (more_calls, more_errors) in recent:
            # Own buckets are numbers as they are.
            if bucket >= first:  # type: ignore[operator]
                calls += more_calls
                errors += more_errors
        return calls, errors

    @staticmethod
    def is_kept(field: str, now_unix_s: int) -> bool:
        """Whether a bucket may still be asked for."""
        return int(field) * BUCKET_S >= now_unix_s - WINDOW_S_MAX - BUCKET_S


def _since(buckets: Mapping[str, list[int]], first: int) -> tuple[int, int]:
    """Add up the calls and errors of the buckets from one on; those of the future count: the clock was set back."""
    calls = errors = 0
    for field, amounts in buckets.items():
        if int(field) >= first:
            calls += amounts[0]
            errors += amounts[1]
    return calls, errors


class Spend:
    """Cost and tokens of the day, over the machine. Days are UTC."""

    KIND = "spend"

    def __init__(self, tally: Tally, clock: Clock, refresh: Callable[[], None]) -> None:
        self._tally = tally
        self._clock = clock
        self._refresh = refresh
        self._today = (-1, "")

    def add(self, usd: float, tokens: int) -> None:
        """
        Add what one call used.

        Args:
            usd:
                US dollars, finite and not negative.
            tokens:
                Input and output tokens, not negative.

        Raises:
            StoreError: A number is none of that: it would open every limit.
        """
        if not (0 <= usd < math.inf and tokens >= 0):
            raise StoreError(f"spend: {usd!r} USD and {tokens!r} tokens, expected finite and not negative")
        number, today = self._clock.unix_ns() // _DAY_NS, self._today
        # Rounded up, but for what is less than a thousandth of a unit: there doubles are not exact.
        units = int(usd * USD_UNITS + 0.9995)
        self._tally.add(today[1] if number == today[0] else self._day(), "sum", units, int(tokens))

    def usd_today(self) -> float:
        """
        Cost since midnight UTC.

        Returns:
            US dollars of all processes of the machine, those of others at most 1 s late.

        Raises:
            StoreError: The shared state cannot be read.
        """
        return self._sum(0) / USD_UNITS

    def tokens_today(self) -> int:
        """
        Tokens since midnight UTC.

        Returns:
            Tokens of all processes of the machine, those of others at most 1 s late.

        Raises:
            StoreError: The shared state cannot be read.
        """
        return self._sum(1)

    def _sum(self, position: int) -> int:
        self._refresh()
        shared, recent = self._tally.shared_and_recent(self._day())
        total = shared["sum"][position] if "sum" in shared else 0
        return total + sum([amounts[position] for _, amounts in recent])

    def _day(self) -> str:
        number = self._clock.unix_ns() // _DAY_NS
        today = self._today
        if number != today[0]:
            today = self._today = (number, datetime.fromtimestamp(number * 86_400, UTC).date().isoformat())
        return today[1]

    @staticmethod
    def is_kept(field: str, now_unix_s: int) -> bool:  # noqa: ARG004 - the protocol of Tally
        """A day has one field, and it is always wanted."""
        return True
