"""
The functions of conditions: signatures, and what they do with plain values.

A function is looked up by name, by whether it is a method, and by the types of
its arguments; an argument of type `dyn` is tried against every signature, and
the right one is found when the condition runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from decimal import Decimal
from math import isfinite
from typing import Any, Final

from agentguard.policy.conditions import network, patterns, times
from agentguard.policy.conditions.faults import Fault
from agentguard.policy.conditions.limits import TEXT_CHARS_MAX
from agentguard.policy.conditions.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    STRING,
    TIMESTAMP,
    Type,
    list_of,
    map_of,
    parse_type,
)
from agentguard.policy.conditions.values import INT_MAX, INT_MIN, kind


@dataclass(frozen=True, slots=True)
class Signature:
    """One way to call a function."""

    params: tuple[Type, ...]
    result: Type
    run: Callable[..., Any] | None
    """Called with the arguments, then `extra`; None: the callable is a fact."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A function of which one argument is a literal, made ready at compile."""

    name: str
    params: tuple[Type, ...]
    result: Type
    literal: int
    """Which argument it is, from 0, the target of a method counted."""
    make: Callable[[str], object]
    """Reads the literal; raises ValueError with the reason."""
    run: Callable[..., Any]
    """Called with the other arguments, then with what `make` gave."""
    what: str
    """What the literal is, such as `pattern`."""


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """
    A function that the application brings, declared with its types.

    Args of the constructor: the name (dots allowed, such as `history.sum`); one
    or more signatures as (parameter types, result type), each type in the
    notation of schemas; and the callable. Without a callable the evaluation
    takes it from the facts, under the same name. It must be free of side
    effects: an evaluation that meets an error may call it twice. What it
    raises is an evaluation error.
    """

    name: str
    signatures: tuple[tuple[tuple[str, ...], str], ...]
    run: Callable[..., object] | None = None
    parsed: tuple[Signature, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(
            self,
            "parsed",
            tuple(
                Signature(tuple(parse_type(param) for param in params), parse_type(result), self.run)
                for params, result in self.signatures
            ),
        )


# Conversions


_INTEGER = re.compile(r"[+-]?[0-9]{1,40}", re.ASCII)
_DOUBLE = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_NUMBER_CHARS_MAX: Final = 400


def _int_of_double(value: float) -> int:
    if not isfinite(value) or not -(2.0**63) < value < 2.0**63:
        raise Fault("a double that no integer of 64 bits holds")
    return int(value)


def _int_of_text(value: str) -> int:
    if not _INTEGER.fullmatch(value):
        raise Fault("a text that is no integer")
    number = int(value)
    if not INT_MIN <= number <= INT_MAX:
        raise Fault("a text that is an integer of more than 64 bits")
    return number


def _double_of_text(value: str) -> float:
    if len(value) > _NUMBER_CHARS_MAX or not _DOUBLE.fullmatch(value):
        raise Fault("a text that is no number")
    number = float(value)
    if not isfinite(number):
        raise Fault("a text that is a number larger than a double")
    return number


def _text_of_double(value: float) -> str:
    """The shortest digits that read back as the same double; with an exponent from 1e+06 on."""
    if not isfinite(value):
        raise Fault("a number that is not finite has no text")
    sign, digits, exponent = Decimal(repr(value)).as_tuple()
    shown = "".join(map(str, digits)).rstrip("0") or "0"
    assert isinstance(exponent, int)
    power = len(digits) + exponent - 1 if value else 0
    prefix = "-" if sign else ""
    if -4 <= power < 6:
        if power < 0:
            return f"{prefix}0.{'0' * (-power - 1)}{shown}"
        whole = shown[: power + 1].ljust(power + 1, "0")
        return f"{prefix}{whole}.{shown[power + 1 :]}" if shown[power + 1 :] else f"{prefix}{whole}"
    point = f".{shown[1:]}" if shown[1:] else ""
    return f"{prefix}{shown[0]}{point}e{'-' if power < 0 else '+'}{abs(power):02d}"


def _text_of_bytes(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Fault("bytes that are no UTF-8") from None


def _bytes_of_text(value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise Fault("a text that UTF-8 cannot hold") from None


def _same(value: Any) -> Any:
    return value


def _text_of_bool(value: bool) -> str:
    return "true" if value else "false"


# Texts

_LOWER: Final = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
_UPPER: Final = {code: code - 32 for code in range(ord("a"), ord("z") + 1)}
_SPACES: Final = (
    "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
)


def _lower(value: str) -> str:
    return value.lower() if value.isascii() else value.translate(_LOWER)


def _upper(value: str) -> str:
    return value.upper() if value.isascii() else value.translate(_UPPER)


def _trim(value: str) -> str:
    return value.strip(_SPACES)


def _contains(value: str, part: str) -> bool:
    return part in value


def _matches(value: str, pattern: patterns.Pattern) -> bool:
    if len(value) > TEXT_CHARS_MAX:
        raise Fault(f"a text of more than {TEXT_CHARS_MAX} characters")
    return pattern.found_in(value)


# The tables

_LIST, _MAP = list_of(DYN), map_of(DYN, DYN)


def _signatures(*rows: tuple[tuple[Type, ...], Type, Callable[..., Any]]) -> tuple[Signature, ...]:
    return tuple(Signature(params, result, run) for params, result, run in rows)


_SIZE = _signatures(((STRING,), INT, len), ((BYTES,), INT, len), ((_LIST,), INT, len), ((_MAP,), INT, len))

GLOBALS: Final[Mapping[str, tuple[Signature, ...]]] = {
    "size": _SIZE,
    "int": _signatures(
        ((INT,), INT, _same),
        ((DOUBLE,), INT, _int_of_double),
        ((STRING,), INT, _int_of_text),
        ((TIMESTAMP,), INT, times.seconds_of),
    ),
    "double": _signatures(
        ((DOUBLE,), DOUBLE, _same), ((INT,), DOUBLE, float), ((STRING,), DOUBLE, _double_of_text)
    ),
    "string": _signatures(
        ((STRING,), STRING, _same),
        ((INT,), STRING, str),
        ((DOUBLE,), STRING, _text_of_double),
        ((BOOL,), STRING, _text_of_bool),
        ((BYTES,), STRING, _text_of_bytes),
        ((TIMESTAMP,), STRING, times.timestamp_text),
        ((DURATION,), STRING, times.duration_text),
    ),
    "bytes": _signatures(((BYTES,), BYTES, _same), ((STRING,), BYTES, _bytes_of_text)),
    "timestamp": _signatures(
        ((STRING,), TIMESTAMP, times.timestamp),
        ((INT,), TIMESTAMP, times.timestamp_of_seconds),
        ((TIMESTAMP,), TIMESTAMP, _same),
    ),
    "duration": _signatures(((STRING,), DURATION, times.duration), ((DURATION,), DURATION, _same)),
    "dyn": _signatures(((DYN,), DYN, _same)),
}

METHODS: Final[Mapping[str, tuple[Signature, ...]]] = {
    "size": _SIZE,
    "startsWith": _signatures(((STRING, STRING), BOOL, str.startswith)),
    "endsWith": _signatures(((STRING, STRING), BOOL, str.endswith)),
    "contains": _signatures(((STRING, STRING), BOOL, _contains)),
    "lowerAscii": _signatures(((STRING,), STRING, _lower)),
    "upperAscii": _signatures(((STRING,), STRING, _upper)),
    "trim": _signatures(((STRING,), STRING, _trim)),
    **{
        name: _signatures(
            ((TIMESTAMP,), INT, lambda value, part=part: part(value, UTC)),
            *([((DURATION,), INT, times.SPAN_PARTS[name])] if name in times.SPAN_PARTS else []),
        )
        for name, part in times.MOMENT_PARTS.items()
    },
}

_MATCHES = Prepared("matches", (STRING, STRING), BOOL, 1, patterns.compile_pattern, _matches, "pattern")

PREPARED_GLOBALS: Final[Mapping[str, Prepared]] = {
    "matches": _MATCHES,
    "glob": Prepared("glob", (STRING, STRING), BOOL, 1, patterns.compile_glob, _matches, "pattern"),
    "cidr": Prepared("cidr", (STRING, STRING), BOOL, 1, network.parse_network, network.is_inside, "network"),
}

PREPARED_METHODS: Final[Mapping[str, Prepared]] = {
    "matches": _MATCHES,
    **{
        name: Prepared(name, (TIMESTAMP, STRING), INT, 1, times.zone, part, "time zone")
        for name, part in times.MOMENT_PARTS.items()
    },
}

MACROS: Final = {"exists": 2, "all": 2, "exists_one": 2, "filter": 2, "map": 2}

ELSEWHERE: Final[Mapping[str, str]] = {
    "len": "CEL writes `size(...)`",
    "lower": "CEL writes `lowerAscii()`",
    "upper": "CEL writes `upperAscii()`",
    "toLowerCase": "CEL writes `lowerAscii()`",
    "toUpperCase": "CEL writes `upperAscii()`",
    "strip": "CEL writes `trim()`",
    "startswith": "CEL writes `startsWith()`",
    "endswith": "CEL writes `endsWith()`",
    "includes": "CEL writes `contains()`",
    "any": "CEL writes `list.exists(x, ...)`",
    "regex": "CEL writes `text.matches('pattern')`",
    "match": "CEL writes `text.matches('pattern')`",
    "float": "CEL writes `double(...)`",
    "str": "CEL writes `string(...)`",
    "now": "the fact `time.now` has the time of the decision",
    "uint": "conditions have no unsigned integers, use `int(...)`",
    "bool": "compare with the text instead",
    "type": "conditions do not ask for types",
    "existsOne": "CEL writes `exists_one`",
}
"""What other languages call it, and the way CEL does."""

_BY_KIND: Final = {
    "int": INT, "double": DOUBLE, "string": STRING, "bool": BOOL, "bytes": BYTES,
    "timestamp": TIMESTAMP, "duration": DURATION, "list": _LIST, "map": _MAP,
}  # fmt: skip


def dispatch(name: str, signatures: tuple[Signature, ...]) -> Callable[..., Any]:
    """
    Make the callable that finds the signature when the condition runs.

    Args:
        name:
            The function, for the message.

        signatures:
            Those that may fit.
    """
    table = {signature.params: signature.run for signature in signatures}

    def run(*args: object) -> Any:
        chosen = table.get(tuple(_BY_KIND.get(kind(arg), DYN) for arg in args))
        if chosen is None:
            raise Fault(f"`{name}` does not take {' and '.join(kind(arg) for arg in args)}")
        return chosen(*args)

    return run


def check_kinds(name: str, params: tuple[Type, ...], run: Callable[..., Any]) -> Callable[..., Any]:
    """Make a callable that first checks the kinds of its leading arguments."""
    wanted = tuple(param.kind for param in params)

    def checked(*args: object) -> Any:
        for arg, want in zip(args, wanted, strict=False):
            if want not in ("dyn", kind(arg)):
                raise Fault(f"`{name}` does not take {kind(arg)}")
        return run(*args)

    return checked


def known_names() -> tuple[str, ...]:
    """All functions and macros, for did-you-mean."""
    return tuple({*GLOBALS, *METHODS, *PREPARED_GLOBALS, *PREPARED_METHODS, *MACROS, "has"})
