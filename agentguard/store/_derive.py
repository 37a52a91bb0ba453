"""
From columns of spans to columns of features.

Says the same as `numbers_of` and `texts_of` of `_features`, which say it span by
span; a property test compares them. A column that has one value for all spans stays
one value, and one whose values are of the usual type costs a few nanoseconds a span.
"""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from agentguard.store._features import (
    MISSING,
    NAN,
    TEXT_CHARS_MAX,
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
from agentguard.values import attributes as names

_ABSENT = object()
Texts = Sequence[str]


class Columns(NamedTuple):
    """The columns of some spans, in the order of the catalogue; each has a value for every span, or one for all."""

    numbers: list[array[Any]]
    texts: list[Texts]


def derive(grid: Grid) -> Columns:
    """Derive the columns of consecutive spans, at least one."""
    find = grid.attribute
    inputs = _counts(find(names.INPUT_TOKENS), MISSING)
    outputs = _counts(find(names.OUTPUT_TOKENS), MISSING)
    numbers: list[array[Any]] = [
        _counts(grid.start, 0),
        _counts(grid.duration, 0),
        array("q", map(nanoseconds_of, find(names.TIME_TO_FIRST_CHUNK_S))),
        inputs,
        outputs,
        _costs(grid),
        _retries(grid),
        _errors(grid),
        _missing_usage(grid, inputs, outputs),
    ]
    texts = [
        _texts(grid.kind),
        _texts(find(names.AGENT_NAME)),
        _texts(find(names.TOOL_NAME)),
        _texts(_each(grid, _either, find(names.RESPONSE_MODEL), find(names.REQUEST_MODEL))),
        _texts(find(names.PROMPT_VERSION)),
        _texts(find(names.LABEL_TENANT)),
        _texts(list(map(first_reason_of, find(names.RESPONSE_FINISH_REASONS)))),
        _texts(find(names.ERROR_TYPE)),
        grid.merged(list(map(_fingerprints, grid.groups))),
    ]
    return Columns(numbers, texts)


def _each(grid: Grid, combine: Callable[..., Any], *columns: Column) -> Column:
    """Combine columns value by value; all of one value give one."""
    if all(len(column) == 1 for column in columns):
        return [combine(*[column[0] for column in columns])]
    return list(map(combine, *map(grid.expanded, columns)))


def _either(first: object, second: object) -> object:
    return first or second


def _counts(column: Column, missing: int) -> array[int]:
    """Take numbers that fit 64 bits."""
    try:
        return array("q", column)
    except (TypeError, OverflowError):
        return array("q", [count_of(value, missing) for value in column])


def _costs(grid: Grid) -> array[float]:
    """Take costs in US dollars."""
    costs, amounts = grid.attribute(names.COST_USD), grid.attribute(names.COST_AMOUNT)
    if costs[0] is amounts[0] is None and len(costs) == len(amounts) == 1:
        return array("d", (NAN,))
    with contextlib.suppress(TypeError, OverflowError):
        return array("d", costs)  # Some have none, or what is no number: told apart below.
    return array("d", _each(grid, cost_of, costs, amounts, grid.attribute(names.COST_CURRENCY, "USD")))


def _retries(grid: Grid) -> array[int]:
    """Take numbers of attempts beyond the first."""
    return array(
        "q",
        _each(grid, retries_of, grid.attribute(names.HTTP_RESEND_COUNT), grid.attribute(names.ATTEMPTS, 1)),
    )


def _errors(grid: Grid) -> array[int]:
    """Tell the calls that raised or said error."""
    types = grid.attribute(names.ERROR_TYPE, _ABSENT)
    return array("q", _each(grid, _is_error, grid.status, types))


def _is_error(status: str, kind: object) -> bool:
    return status == "error" or kind is not _ABSENT


def _missing_usage(grid: Grid, inputs: array[int], outputs: array[int]) -> array[int]:
    """Tell the model calls of which no tokens are known."""
    marks = grid.attribute(names.USAGE_MISSING)
    if "model" not in grid.kind or (
        len(marks) == 1 and not marks[0] and MISSING not in inputs and MISSING not in outputs
    ):
        return array("q", (0,))
    return array("q", _each(grid, _is_missing, grid.kind, inputs, outputs, marks))


def _is_missing(kind: str, inputs: int, outputs: int, mark: object) -> bool:
    return kind == "model" and (inputs == outputs == MISSING or bool(mark))


def _texts(column: Column) -> Texts:
    """Take names that fit a dictionary."""
    try:
        distinct = set(column)
    except TypeError:
        return [text_of(value) for value in column]  # Values that have no hash are no names.
    if set(map(type, distinct)) == {str} and max(map(len, distinct)) <= TEXT_CHARS_MAX:
        return column
    return [text_of(value) for value in column]


def _fingerprints(group: Group) -> Texts:
    """Take the fingerprints of names and types, which are mostly the same."""
    keys = tuple(group.names)
    kinds = [type(column[0]) for column in group.columns]
    if all(
        len(column) == 1 or list(map(type, column)).count(kind) == len(column)
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
