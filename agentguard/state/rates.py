"""Rates of tools: how many calls ended of late, and how many of them raised."""

from __future__ import annotations

from collections.abc import Callable

from agentguard.errors import StoreError
from agentguard.state.tally import OVERFLOW_KEY, Tally
from agentguard.state.tray import SLICE_NS, SLICE_S, Tray
from agentguard.values import Clock

BUCKET_S = SLICE_S
"""A window is counted in buckets of so many seconds; it is never shorter than asked, up to one longer."""
WINDOW_S_MAX = 900
TOOLS_MAX = 4_096
"""Tools that a process tells apart."""
WINDOWS_MAX = 64
"""Windows of one tool that are kept at hand; then they are made anew."""


class ToolRates(Tray):
    """
    Calls and errors of one tool, over the machine; as `Rates.of` gives it, to be kept.

    Times are Unix nanoseconds of now, as the caller has just read them from the state's clock.
    """

    __slots__ = ("_refresh", "_windows", "ended", "failed", "tool")

    def __init__(self, tool: str, tally: Tally, clock: Clock, refresh: Callable[[], int]) -> None:
        super().__init__(tally, clock)
        self.tool = tool
        self._refresh = refresh
        self.ended: list[None] = []
        """One item for each call of the bucket that is not yet taken."""
        self.failed: list[None] = []
        """One item for each of them that raised; appended later than the call, so never more."""
        self._windows: dict[float, Window] = {}

    def record(self, is_error: bool, now_unix_ns: int) -> None:
        """
        Count one call that ended.

        Args:
            is_error:
                Whether it raised.
            now_unix_ns:
                When it ended.
        """
        if self.mark[0] and self._from_ns <= now_unix_ns < self._until_ns:
            self.ended.append(None)
            if is_error:
                self.failed.append(None)
            if self._is_resting:
                self.awake()
        else:
            self._record_first(is_error, now_unix_ns)

    def _record_first(self, is_error: bool, now_unix_ns: int) -> None:
        """Count the first call of a bucket, or in this process, or after a rest."""
        tally = self._tally
        tally.added()
        with tally.lock:
            self.turn(now_unix_ns)
            tally.put(self.tool, now_unix_ns // SLICE_NS, 1, int(is_error))
        tally.added()

    def window(self, window_s: float) -> Window:
        """
        Give the counts of a window, to be kept.

        Args:
            window_s:
                Seconds, at most 900.

        Raises:
            StoreError: The window is none.
        """
        known = self._windows.get(window_s)
        if known is None:
            if not 0 < window_s <= WINDOW_S_MAX:
                raise StoreError(
                    f"rates: a window of {window_s:g} s, expected more than 0 and at most {WINDOW_S_MAX}"
                )
            if len(self._windows) >= WINDOWS_MAX:
                self._windows = {}
            known = self._windows[window_s] = Window(self, self._tally, self._refresh, window_s)
        return known

    def take(self) -> bool:
        """Put what was counted into the tally, whose lock is held; False where there was nothing."""
        # In this order, since a call is appended before its error.
        errors = len(self.failed)
        calls = len(self.ended)
        if not (calls or errors):
            return False
        self._tally.put(self.tool, self.number, calls, errors)
        del self.ended[:calls], self.failed[:errors]
        return True

    def _clear(self) -> None:
        self.ended.clear()
        self.failed.clear()


class Window:
    """Calls and errors of one tool within a window; as `ToolRates.window` gives it, to be kept."""

    __slots__ = ("_calls", "_errors", "_from_ns", "_rates", "_refresh", "_tally", "_until_ns", "_version",
                 "_width_ns")  # fmt: skip

    def __init__(self, rates: ToolRates, tally: Tally, refresh: Callable[[], int], window_s: float) -> None:
        self._rates = rates
        self._tally = tally
        self._refresh = refresh
        self._width_ns = int(window_s * 1e9)
        self._calls = self._errors = 0
        """What counts but for what lies in the tray: in this version of the tally, from and until these times."""
        self._version = -1
        self._from_ns = self._until_ns = 0

    def calls(self, now_unix_ns: int) -> int:
        """
        Count the calls that ended within the window.

        Args:
            now_unix_ns:
                Its end.

        Returns:
            Calls of all processes of the machine, those of others at most 1 s late.

        Raises:
            StoreError: The shared state cannot be read.
        """
        rates = self._rates
        if rates.mark[0]:
            with self._tally.lock:
                if self._from_ns <= now_unix_ns < self._until_ns and self._version == self._tally.version:
                    return self._calls + len(rates.ended)
        return self._add_up(now_unix_ns)[0]

    def error_rate(self, now_unix_ns: int) -> float:
        """
        Share of the calls within the window that raised.

        Args:
            now_unix_ns:
                Its end.

        Returns:
            0 to 1; 0 where there was no call.

        Raises:
            StoreError: The shared state cannot be read.
        """
        rates = self._rates
        if rates.mark[0]:
            with self._tally.lock:
                if self._from_ns <= now_unix_ns < self._until_ns and self._version == self._tally.version:
                    # In this order: a call is appended before its error.
                    errors = self._errors + len(rates.failed)
                    return errors / (self._calls + len(rates.ended)) if errors else 0.0
        calls, errors = self._add_up(now_unix_ns)
        return errors / calls if calls else 0.0

    def _add_up(self, now_unix_ns: int) -> tuple[int, int]:
        """Add up buckets, and keep the sum for as long as it holds."""
        fresh_ns = self._refresh()
        rates, tally = self._rates, self._tally
        first = (now_unix_ns - self._width_ns) // SLICE_NS
        with tally.lock:
            rates.heal()
            is_told_apart = tally.is_told_apart(rates.tool)
            if not is_told_apart:
                # The answer is that of many tools together.
                tally.empty_trays()
            elif rates.number < first:
                rates.rest()
            shared, recent = tally.shared_and_recent(rates.tool)
            calls = errors = 0
            # Buckets of the future count: the clock was set back.
            for bucket, (more_calls, more_errors) in (*shared.items(), *recent):
                if int(bucket) >= first:
                    calls += more_calls
                    errors += more_errors
            self._calls, self._errors, self._version = calls, errors, tally.version
            # From the moment on that the first bucket is the first, until the next one is.
            begin_ns = first * SLICE_NS + self._width_ns
            self._from_ns = max(begin_ns, now_unix_ns - fresh_ns)
            self._until_ns = min(begin_ns + SLICE_NS, now_unix_ns + fresh_ns) if is_told_apart else 0
            errors += len(rates.failed)
            return calls + len(rates.ended), errors


class Rates:
    """Calls and errors of each tool, over the machine."""

    KIND = "rate"

    def __init__(self, tally: Tally, clock: Clock, refresh: Callable[[], int]) -> None:
        self._tally = tally
        self._clock = clock
        self._refresh = refresh
        self._tools: dict[str, ToolRates] = {}

    def of(self, tool: str) -> ToolRates:
        """
        Give the rates of one tool, to be kept by who asks often.

        Args:
            tool:
                Its name.
        """
        known = self._tools.get(tool)
        if known is None:
            if len(self._tools) >= TOOLS_MAX:
                tool = OVERFLOW_KEY
            # Of two threads that are first at one time one gives way: what a tool's calls count in is one.
            known = self._tools.setdefault(tool, ToolRates(tool, self._tally, self._clock, self._refresh))
        return known

    def record(self, tool: str, is_error: bool) -> None:
        """
        Count one call of a tool that ended.

        Args:
            tool:
                Its name.
            is_error:
                Whether it raised.
        """
        self.of(tool).record(is_error, self._clock.unix_ns())

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
        return self.of(tool).window(window_s).calls(self._clock.unix_ns())

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
        return self.of(tool).window(window_s).error_rate(self._clock.unix_ns())

    @staticmethod
    def is_kept(field: str, now_unix_s: int) -> bool:
        """Whether a bucket may still be asked for."""
        return int(field) * BUCKET_S >= now_unix_s - WINDOW_S_MAX - BUCKET_S
