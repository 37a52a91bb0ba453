"""Points in time on the command line: `1h` ago, or a date; and how they are shown."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

import click

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)", re.ASCII)
_UNIT_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class Since(click.ParamType[int]):
    """A point in time: `1h` ago, or an ISO date, as nanoseconds."""

    name = "since"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it; anything else is a usage error."""
        if isinstance(value, int):
            return value
        text = str(value)
        match = _DURATION.fullmatch(text)
        if match is not None:
            return time.time_ns() - int(float(match[1]) * _UNIT_S[match[2]] * 1e9)
        try:
            date = datetime.fromisoformat(text)
        except ValueError:
            self.fail(f"got {text!r}, expected a duration such as 90s, 15m, 1h, 7d, or a date", param, ctx)
        return int((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() * 1e9)


SINCE = Since()


class DurationS(click.ParamType[int]):
    """A length of time such as `30m`, as whole seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it; anything else is a usage error."""
        if isinstance(value, int):
            return value
        match = _DURATION.fullmatch(str(value))
        seconds = int(float(match[1]) * _UNIT_S[match[2]]) if match is not None else 0
        if seconds < 1:
            self.fail(f"got {value!r}, expected a duration such as 90s, 15m, 1h, 7d", param, ctx)
        return seconds


DURATION_S = DurationS()


def moment(unix_ns: int) -> str:
    """Write a moment in UTC, to the second; one that no calendar has as the number that it is."""
    try:
        return datetime.fromtimestamp(unix_ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return f"{unix_ns} ns"
