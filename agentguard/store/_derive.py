"""
From columns of spans to columns of features.

Says the same as `numbers_of` and `texts_of` of `_features`, which say it span by
span; a property test compares them. Each group of spans is derived by itself, since there
most columns have one value for all; then what the groups have is put into the order of the spans.
"""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import repeat
from typing import Any, Final, NamedTuple

from agentguard.store._features import (
    MISSING,
    NAN,
    Coded,
    cost_of,
    count_of,
    fingerprint,
    first_reason_of,
    nanoseconds_of,
    pack_features,
    retries_of,
    text_of,
)
from agentguard.store._grid import Column, Grid, Group
from agentguard.store._order import Order
from agentguard.values import attributes as names

_ABSENT: Final = object()
_NONE: Final[Column] = (None,)
_ONE: Final[Column] = (1,)
_NO_ERROR: Final[Column] = (_ABSENT,)
_MISSING: Final = array("q", (MISSING,))
_ZERO: Final = array("q", (0,))
_UNKNOWN: Final = array("d", (NAN,))
_SAME: Final = array("B", (0,))

_READ: Final[tuple[tuple[str, Column], ...]] = (
    (names.TIME_TO_FIRST_CHUNK_S, _NONE),
    (names.INPUT_TOKENS, _NONE),
    (names.OUTPUT_TOKENS, _NONE),
    (names.COST_USD, _NONE),
    (names.COST_AMOUNT, _NONE),
    (names.COST_CURRENCY, ("USD",)),
    (names.HTTP_RESEND_COUNT, _NONE),
    (names.ATTEMPTS, _ONE),
    (names.ERROR_TYPE, _NO_ERROR),
    (names.USAGE_MISSING, _NONE),
    (names.AGENT_NAME, _NONE),
    (names.TOOL_NAME, _NONE),
    (names.RESPONSE_MODEL, _NONE),
    (names.REQUEST_MODEL, _NONE),
    (names.PROMPT_VERSION, _NONE),
    (names.LABEL_TENANT, _NONE),
    (names.RESPONSE_FINISH_REASONS, _NONE),
)
"""The attributes that features are made of, and what stands for one that a span has not."""


class Columns(NamedTuple):
    """The columns of some spans, in the order of the catalogue; each has a value for every span, or one for all."""

    numbers: list[array[Any]]
    texts: list[Coded]


class _Derived(NamedTuple):
    """What the spans of one group have, but for start, duration and kind."""

    numbers: tuple[array[Any], ...]
    texts: tuple[Column, ...]
    """Not yet cut to what fits a dictionary."""


def derive(grid: Grid) -> Columns:
    """Derive the columns of consecutive spans, at least one."""
    order = Order(grid)
    kinds, statuses = order.parts(grid.kind), order.parts(grid.status)
    groups = list(map(_derived, grid.groups, kinds, statuses, order.counts))
    numbers = [order.numbers(parts) for parts in zip(*[group.numbers for group in groups], strict=True)]
    texts = [_coded(parts, order) for parts in zip(*[group.texts for group in groups], strict=True)]
    return Columns(
        [_counts(grid.start, 0), _counts(grid.duration, 0), *numbers], [_coded(kinds, order), *texts]
    )


def _derived(group: Group, kinds: Column, statuses: Column, count: int) -> _Derived:
    """Derive what the attributes of one group say."""
    columns = group.columns
    (waits, inputs, outputs, costs, amounts, currencies, resent, attempts, errors, marks, agents, tools,
     answered, asked, prompts, tenants, reasons) = [
        absent if place is None else columns[place] for place, absent in _places(tuple(group.names))
    ]  # fmt: skip
    input_counts, output_counts = _counts(inputs, MISSING), _counts(outputs, MISSING)
    return _Derived(
        (
            _MISSING if waits is _NONE else _nanoseconds(waits),
            input_counts,
            output_counts,
            _costs(costs, amounts, currencies, count),
            _ZERO
            if resent is _NONE and attempts is _ONE
            else array("q", _each(count, retries_of, resent, attempts)),
            _ZERO
            if errors is _NO_ERROR and "error" not in statuses
            else array("q", _each(count, _is_error, statuses, errors)),
            _missing_usage(count, kinds, input_counts, output_counts, marks),
        ),
        (
            agents,
            tools,
            asked if answered is _NONE else _each(count, _either, answered, asked),
            prompts,
            tenants,
            reasons if reasons is _NONE else list(map(first_reason_of, reasons)),
            _NONE if errors is _NO_ERROR else errors,
            _fingerprints(group),
        ),
    )


@lru_cache(maxsize=4096)
def _places(keys: tuple[str, ...]) -> Sequence[tuple[int | None, Column]]:
    """Where the attributes of `_READ` stand among some names, and what stands for those that do not."""
    found = {name: place for place, name in enumerate(keys)}
    return [(found.get(name), absent) for name, absent in _READ]


def _each(count: int, combine: Callable[..., Any], *columns: Column) -> Column:
    """Combine columns value by value; all of one value give one."""
    if all(len(column) == 1 for column in columns):
        return [combine(*[column[0] for column in columns])]
    return list(map(combine, *[c if len(c) == count else repeat(c[0], count) for c in columns]))


def _either(first: object, second: object) -> object:
    return first or second


def _counts(column: Column, missing: int) -> array[int]:
    """Take numbers that fit 64 bits."""
    if column is _NONE:
        return _MISSING
    try:
        return array("q", column)
    except (TypeError, OverflowError):
        return array("q", [count_of(value, missing) for value in column])


def _nanoseconds(seconds: Column) -> array[int]:
    """Take seconds."""
    try:
        return array("q", list(map(int, map((1e9).__mul__, seconds))))
    except (TypeError, ValueError, OverflowError):
        return array("q", list(map(nanoseconds_of, seconds)))


def _costs(costs: Column, amounts: Column, currencies: Column, count: int) -> array[float]:
    """Take costs in US dollars."""
    if costs is _NONE and amounts is _NONE:
        return _UNKNOWN
    with contextlib.suppress(TypeError, OverflowError):
        return array("d", costs)  # Some have none, or what is no number: told apart below.
    return array("d", _each(count, cost_of, costs, amounts, currencies))


def _is_error(status: str, kind: object) -> bool:
    return status == "error" or kind is not _ABSENT


def _missing_usage(
    count: int, kinds: Column, inputs: array[int], outputs: array[int], marks: Column
) -> array[int]:
    """Tell the model calls of which no tokens are known."""
    if "model" not in kinds or (marks is _NONE and MISSING not in inputs and MISSING not in outputs):
        return _ZERO
    return array("q", _each(count, _is_missing, kinds, inputs, outputs, marks))


def _is_missing(kind: str, inputs: int, outputs: int, mark: object) -> bool:
    return kind == "model" and (inputs == outputs == MISSING or bool(mark))


def _coded(parts: Sequence[Column], order: Order) -> Coded:
    """Put what the groups have into one column with a dictionary of what fits one."""
    if max(map(len, parts)) == 1:
        entries, codes = _numbered(tuple([text_of(part[0]) for part in parts]))
        return Coded(entries, _SAME if len(entries) == 1 else order.codes(codes))
    numbers: dict[str, int] = {}
    column = order.merged(parts)
    try:
        # Each distinct value is looked at once; a text equals nothing else.
        number_of = {
            value: numbers.setdefault(text_of(value), len(numbers)) for value in dict.fromkeys(column)
        }
    except TypeError:
        return Coded.of(list(map(text_of, column)))  # Values that have no hash are no names.
    if len(numbers) == 1:
        return Coded(tuple(numbers), _SAME)
    return Coded(
        list(numbers), array("B" if len(numbers) <= 256 else "H", list(map(number_of.__getitem__, column)))
    )


@lru_cache(maxsize=256)
def _numbered(texts: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Number the distinct texts of some groups: gives them, and the number of each group's."""
    numbers: dict[str, int] = {}
    codes = tuple([numbers.setdefault(text, len(numbers)) for text in texts])
    return tuple(numbers), codes


def _fingerprints(group: Group) -> Column:
    """Take the fingerprints of names and types, which are mostly the same."""
    keys = tuple(group.names)
    kinds = [type(column[0]) for column in group.columns]
    if all(
        len(column) == 1 or set(map(type, column)) == {kind}
        for kind, column in zip(kinds, group.columns, strict=True)
    ):
        return (fingerprint(keys, kinds),)
    count = max(map(len, group.columns))
    rows = zip(*[c if len(c) == count else list(c) * count for c in group.columns], strict=True)
    return [fingerprint(keys, list(map(type, row))) for row in rows]


def encode_features(grid: Grid) -> bytes:
    """Derive the feature block of consecutive spans."""
    numbers, texts = derive(grid)
    return pack_features(numbers, texts, rows=grid.count, first_sequence=grid.first_sequence)
