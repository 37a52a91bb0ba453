"""What was spent today: cost and tokens, over the machine."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import TypeAlias

from agentguard.errors import StoreError
from agentguard.reckoning import RECKONING
from agentguard.state.tally import Tally
from agentguard.state.tray import SLICE_S, Tray
from agentguard.values import Clock

_DAY_S = 86_400
_DAY_NS = _DAY_S * 1_000_000_000
_DAY_SLICES = _DAY_S // SLICE_S
USD_UNITS = 1_000_000_000
"""Spend is summed in billionths of a dollar, since doubles do not add up."""
_INFINITE = math.inf

Spent: TypeAlias = tuple[float, int, int]
"""What one call used: US dollars and tokens; and when it ended, in Unix nanoseconds."""


class Spend(Tray):
    """
    Cost and tokens of the day, over the machine. Days are UTC.

    The methods that end in `_at` are for who has just read the state's clock, in Unix nanoseconds.
    """

    KIND = "spend"

    __slots__ = ("_known_day", "_known_from_ns", "_known_tokens", "_known_units", "_known_until_ns", "_known_version",
                 "_refresh", "_tokens", "_usd")  # fmt: skip

    def __init__(self, tally: Tally, clock: Clock, refresh: Callable[[], int]) -> None:
        super().__init__(tally, clock)
        self._refresh = refresh
        self._usd: list[float] = []
        """One item for each call of the day that is not yet taken."""
        self._tokens: list[int] = []
        self._known_day = 0
        self._known_units = self._known_tokens = 0
        """What was spent that day but for what lies in the tray: in this version of the tally, from and until these times."""
        self._known_version = -1
        self._known_from_ns = self._known_until_ns = 0

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
        self.add_at(usd, int(tokens), self._clock.unix_ns())

    def add_at(self, usd: float, tokens: int, now_unix_ns: int) -> None:
        """
        Add what one call used; as `add`.

        Args:
            usd:
                US dollars, finite and not negative.
            tokens:
                Input and output tokens, not negative.
            now_unix_ns:
                When it ended.

        Raises:
            StoreError: A number is none of that: it would open every limit.
        """
        if not (0 <= usd < _INFINITE and tokens >= 0):
            raise StoreError(f"spend: {usd!r} USD and {tokens!r} tokens, expected finite and not negative")
        if self.mark[0] and self._from_ns <= now_unix_ns < self._until_ns:
            self._usd.append(usd)
            self._tokens.append(tokens)
            if self._is_resting:
                self.awake()
        else:
            tally = self._tally
            tally.added()
            with tally.lock:
                self.turn(now_unix_ns)
                tally.put(_name(now_unix_ns // _DAY_NS), "sum", _units([usd]), tokens)
            tally.added()

    def add_all(self, amounts: Sequence[Spent]) -> bool:
        """
        Add what some calls used, at less cost than `add_at` of each.

        Returns:
            False where they are to be added one by one: nothing has been added then.
        """
        usd, tokens, ended = zip(*amounts, strict=True)
        if (
            isfinite(sum(usd))
            and min(usd) >= 0
            and min(tokens) >= 0
            and self.mark[0]
            and self._from_ns <= min(ended)
            and max(ended) < self._until_ns
        ):
            self._usd += usd
            self._tokens += tokens
            if self._is_resting:
                self.awake()
            return True
        return False

    def usd_today(self) -> float:
        """
        Cost since midnight UTC.

        Returns:
            US dollars of all processes of the machine, those of others at most 1 s late.

        Raises:
            StoreError: The shared state cannot be read.
        """
        return self.usd_at(self._clock.unix_ns())

    def usd_at(self, now_unix_ns: int) -> float:
        """
        Cost since midnight UTC; as `usd_today`.

        Args:
            now_unix_ns:
                Of which day.

        Raises:
            StoreError: The shared state cannot be read.
        """
        RECKONING.settle()
        if self.mark[0]:
            with self._tally.lock:
                if self._known_from_ns <= now_unix_ns < self._known_until_ns:
                    if self._usd:
                        self.take()
                    if self._known_version == self._tally.version:
                        return self._known_units / USD_UNITS
        return self._add_up(now_unix_ns)[0] / USD_UNITS

    def tokens_today(self) -> int:
        """
        Tokens since midnight UTC.

        Returns:
            Tokens of all processes of the machine, those of others at most 1 s late.

        Raises:
            StoreError: The shared state cannot be read.
        """
        return self.tokens_at(self._clock.unix_ns())

    def tokens_at(self, now_unix_ns: int) -> int:
        """
        Tokens since midnight UTC; as `tokens_today`.

        Args:
            now_unix_ns:
                Of which day.

        Raises:
            StoreError: The shared state cannot be read.
        """
        RECKONING.settle()
        if self.mark[0]:
            with self._tally.lock:
                if self._known_from_ns <= now_unix_ns < self._known_until_ns:
                    if self._tokens:
                        self.take()
                    if self._known_version == self._tally.version:
                        return self._known_tokens
        return self._add_up(now_unix_ns)[1]

    def _add_up(self, now_unix_ns: int) -> tuple[int, int]:
        """Add up what is known of a day, and keep the sum for as long as it holds."""
        fresh_ns = self._refresh()
        tally, day = self._tally, now_unix_ns // _DAY_NS
        with tally.lock:
            self.heal()
            self.take()
            shared, recent = tally.shared_and_recent(_name(day))
            units, tokens = shared.get("sum", (0, 0))
            for _, amounts in recent:
                units += amounts[0]
                tokens += amounts[1]
            self._known_day, self._known_version = day, tally.version
            self._known_units, self._known_tokens = units, tokens
            self._known_from_ns = max(day * _DAY_NS, now_unix_ns - fresh_ns)
            self._known_until_ns = min((day + 1) * _DAY_NS, now_unix_ns + fresh_ns)
            return units, tokens

    def take(self) -> bool:
        """Put what was counted into the tally, whose lock is held; False where there was nothing."""
        usd, tokens = self._usd[:], self._tokens[:]
        if not (usd or tokens):
            return False
        tally, day = self._tally, self.number // _DAY_SLICES
        is_known = self._known_version == tally.version and self._known_day == day
        units, total = _units(usd), sum(tokens)
        tally.put(_name(day), "sum", units, total)
        # What others append meanwhile stays.
        del self._usd[: len(usd)], self._tokens[: len(tokens)]
        if is_known:
            self._known_units += units
            self._known_tokens += total
            self._known_version = tally.version
        return True

    def _clear(self) -> None:
        self._usd.clear()
        self._tokens.clear()

    @staticmethod
    def is_kept(field: str, now_unix_s: int) -> bool:  # noqa: ARG004 - the protocol of Tally
        """A day has one field, and it is always wanted."""
        return True


def _units(usd: list[float]) -> int:
    """Add up, each rounded up, but for what is less than a thousandth of a unit: there doubles are not exact."""
    return sum([int(amount * USD_UNITS + 0.9995) for amount in usd])


@functools.lru_cache(maxsize=8)
def _name(day: int) -> str:
    return datetime.fromtimestamp(day * _DAY_S, UTC).date().isoformat()
