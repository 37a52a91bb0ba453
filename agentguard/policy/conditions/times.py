"""
Timestamps and durations: reading them from text, writing them, asking their parts.

Both have microseconds; text that says more is a fault, never rounded. Months
and days of `getMonth`, `getDayOfMonth`, `getDayOfYear`, `getDayOfWeek` begin at 0
(Sunday), as CEL has it; `getDate` begins at 1.

Source: RFC 3339; google/cel-spec, doc/langdef.md, Abstract Types.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final

from agentguard.policy.conditions.faults import Fault
from agentguard.policy.conditions.values import DURATION_MAX

_TEXT_CHARS_MAX: Final = 100
_MOMENT = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))",
    re.ASCII,
)
_SPAN = re.compile(r"([+-]?)((?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:h|ms|us|ns|m|s))+|0)", re.ASCII)
_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?(h|ms|us|ns|m|s)", re.ASCII)
_NANOSECONDS: Final = {"h": 3_600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_OFFSET = re.compile(r"([+-])([0-9]{2}):([0-9]{2})", re.ASCII)
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+)*", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def timestamp(text: str) -> datetime:
    """
    Read an RFC 3339 time.

    Raises:
        Fault: It is none, lies outside the years 1 to 9999, or says more than
            microseconds.

    Example:
        >>> timestamp("2026-03-01T12:00:00+01:00").isoformat()
        '2026-03-01T11:00:00+00:00'
    """
    found = _MOMENT.fullmatch(text) if len(text) <= _TEXT_CHARS_MAX else None
    if found is None:
        raise Fault("a text that is no RFC 3339 time, such as 2026-03-01T12:00:00Z")
    year, month, day, hour, minute, second = (int(found.group(n)) for n in range(1, 7))
    fraction = (found.group(7) or "").ljust(9, "0")
    if fraction[6:].strip("0"):
        raise Fault("a time finer than microseconds")
    hours, minutes = int(found.group(9) or 0), int(found.group(10) or 0)
    if hours > 23 or minutes > 59:
        raise Fault("a time with an offset of more than a day")
    offset = timedelta(hours=hours, minutes=minutes)
    try:
        local = datetime(year, month, day, hour, minute, second, int(fraction[:6]), tzinfo=UTC)
        return local + offset if found.group(8) == "-" else local - offset
    except (ValueError, OverflowError):
        raise Fault("a time that does not exist") from None


def timestamp_of_seconds(seconds: int) -> datetime:
    """The moment so many seconds after 1970-01-01 UTC."""
    try:
        return _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        raise Fault("a timestamp outside the years 1 to 9999") from None


def seconds_of(moment: datetime) -> int:
    """Whole seconds since 1970-01-01 UTC, rounded down."""
    return (moment - _EPOCH) // timedelta(seconds=1)


def duration(text: str) -> timedelta:
    """
    Read a duration, such as `1h30m`, `-1.5s` or `250ms`.

    Raises:
        Fault: It is none, is longer than 10000 years, or says more than
            microseconds.

    Example:
        >>> duration("1h30m").total_seconds()
        5400.0
    """
    found = _SPAN.fullmatch(text) if len(text) <= _TEXT_CHARS_MAX else None
    if found is None:
        raise Fault("a text that is no duration, such as 1h30m")
    nanoseconds = 0
    for whole, fraction, unit in _PART.findall(found.group(2)):
        digits = int((whole or "0") + fraction) * _NANOSECONDS[unit]
        part, rest = divmod(digits, 10 ** len(fraction))
        if rest:
            raise Fault("a duration finer than microseconds")
        nanoseconds += part
    if nanoseconds % 1000:
        raise Fault("a duration finer than microseconds")
    if found.group(1) == "-":
        nanoseconds = -nanoseconds
    try:
        result = timedelta(microseconds=nanoseconds // 1000)
    except OverflowError:
        raise Fault("a duration longer than 10000 years") from None
    if not -DURATION_MAX <= result <= DURATION_MAX:
        raise Fault("a duration longer than 10000 years")
    return result


def timestamp_text(moment: datetime) -> str:
    """RFC 3339 in UTC, with no, three or six digits of the second."""
    whole = f"{moment.year:04d}-{moment.month:02d}-{moment.day:02d}T{moment:%H:%M:%S}"
    return f"{whole}{_digits(moment.microsecond)}Z"


def duration_text(span: timedelta) -> str:
    """Seconds, with no, three or six digits behind the point, and `s`."""
    microseconds = span // timedelta(microseconds=1)
    sign = "-" if microseconds < 0 else ""
    whole, rest = divmod(abs(microseconds), 1_000_000)
    return f"{sign}{whole}{_digits(rest)}s"


def _digits(microseconds: int) -> str:
    if not microseconds:
        return ""
    thousand = f".{microseconds:06d}"
    return thousand[:4] if microseconds % 1000 == 0 else thousand


def zone(name: str) -> tzinfo:
    """
    The time zone of a name of the IANA data base, or of an offset such as `-08:00`.

    Raises:
        ValueError: There is none.
    """
    found = _OFFSET.fullmatch(name)
    if found:
        hours, minutes = int(found.group(2)), int(found.group(3))
        if hours > 23 or minutes > 59:
            raise ValueError(f"`{name}` is no offset of a time zone")
        offset = timedelta(hours=hours, minutes=minutes)
        return timezone(-offset if found.group(1) == "-" else offset)
    if name == "UTC":
        return UTC
    if len(name) <= _TEXT_CHARS_MAX and _ZONE.fullmatch(name):
        # Late: it brings the table of `sysconfig`, half a megabyte.
        from zoneinfo import ZoneInfo

        try:
            return ZoneInfo(name)
        except (ValueError, OSError, KeyError):
            pass
    raise ValueError(f"`{name[:60]}` is no time zone")


def _in(moment: datetime, place: tzinfo) -> datetime:
    try:
        return moment if place is UTC else moment.astimezone(place)
    except (OverflowError, ValueError):
        raise Fault("a timestamp outside the years 1 to 9999") from None


MOMENT_PARTS: Final[dict[str, Callable[[datetime, tzinfo], int]]] = {
    "getFullYear": lambda t, z: _in(t, z).year,
    "getMonth": lambda t, z: _in(t, z).month - 1,
    "getDate": lambda t, z: _in(t, z).day,
    "getDayOfMonth": lambda t, z: _in(t, z).day - 1,
    "getDayOfWeek": lambda t, z: _in(t, z).isoweekday() % 7,
    "getDayOfYear": lambda t, z: _in(t, z).timetuple().tm_yday - 1,
    "getHours": lambda t, z: _in(t, z).hour,
    "getMinutes": lambda t, z: _in(t, z).minute,
    "getSeconds": lambda t, z: _in(t, z).second,
    "getMilliseconds": lambda t, z: _in(t, z).microsecond // 1000,
}


def _truncate(span: timedelta, microseconds: int) -> int:
    """Whole units in a duration, towards zero."""
    total = span // timedelta(microseconds=1)
    return -(-total // microseconds) if total < 0 else total // microseconds


def _milliseconds(span: timedelta) -> int:
    total = span // timedelta(microseconds=1)
    rest = abs(total) % 1_000_000 // 1000
    return -rest if total < 0 else rest


SPAN_PARTS: Final[dict[str, Callable[[timedelta], int]]] = {
    "getHours": lambda d: _truncate(d, 3_600_000_000),
    "getMinutes": lambda d: _truncate(d, 60_000_000),
    "getSeconds": lambda d: _truncate(d, 1_000_000),
    "getMilliseconds": _milliseconds,
}
