"""
From rows to feature columns, a column at a time.

Says the same as `numbers_of` and `texts_of` of `_features`, which say it span by
span; a property test compares them. Rows that share a tuple of attribute names
are taken together, and a column whose values are all of the usual type costs a
few nanoseconds a span.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, Final, NamedTuple

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
from agentguard.store._rows import Grid
from agentguard.values import attributes as names

WANTED: Final = frozenset({
    names.TIME_TO_FIRST_CHUNK_S, names.INPUT_TOKENS, names.OUTPUT_TOKENS, names.COST_USD, names.COST_AMOUNT,
    names.COST_CURRENCY, names.HTTP_RESEND_COUNT, names.ATTEMPTS, names.USAGE_MISSING, names.AGENT_NAME,
    names.TOOL_NAME, names.RESPONSE_MODEL, names.REQUEST_MODEL, names.PROMPT_VERSION,
    names.RESPONSE_FINISH_REASONS, names.ERROR_TYPE,
})  # fmt: skip
_INT64_MIN_KEPT: Final = -(2**63) + 1
_PLANS_MAX: Final = 4096
_INT: Final = {int}
_STR: Final = {str}

Texts = Sequence[str]


class Columns(NamedTuple):
    """The columns of some spans, in the order of the catalogue."""

    numbers: list[array[Any]]
    texts: list[Texts]


class _Plan(NamedTuple):
    """Which attributes that matter stand where, for one tuple of attribute names."""

    names: tuple[str, ...]
    pick: Callable[[Sequence[Any]], tuple[Any, ...]]


_plans: dict[tuple[str, ...], _Plan] = {}


def _plan_of(shape: tuple[str, ...]) -> _Plan:
    """Find the plan of a tuple of attribute names; a bounded cache."""
    plan = _plans.get(shape)
    if plan is None:
        places = [i for i, name in enumerate(shape) if name in WANTED]
        pick: Any = itemgetter(*places, *places[:1]) if places else lambda _: ()
        plan = _Plan(tuple(shape[i] for i in places), pick)
        if len(_plans) >= _PLANS_MAX:
            _plans.clear()
        _plans[shape] = plan
    return plan


def derive(grid: Grid) -> Columns:
    """Derive the columns of consecutive spans, at least one."""
    first = grid.shape[0]
    if grid.shape.count(first) == len(grid.shape):
        return _derive_group(tuple(grid.shapes[first]), grid)
    groups: dict[int, list[int]] = {}
    for place, shape in enumerate(grid.shape):
        groups.setdefault(shape, []).append(place)
    parts = [
        _derive_group(tuple(grid.shapes[shape]), _pick(grid, places)) for shape, places in groups.items()
    ]
    order = [0] * len(grid.shape)
    for source, target in enumerate(place for places in groups.values() for place in places):
        order[target] = source
    # At least two spans: of one there is one group.
    in_order: Callable[[Sequence[Any]], tuple[Any, ...]] = itemgetter(*order)
    numbers: list[array[Any]] = []
    for columns in zip(*[part.numbers for part in parts], strict=True):
        joined = columns[0]
        for column in columns[1:]:
            joined.extend(column)
        numbers.append(array(joined.typecode, in_order(joined)))
    texts: list[Texts] = [
        in_order([text for column in columns for text in column])
        for columns in zip(*[part.texts for part in parts], strict=True)
    ]
    return Columns(numbers, texts)


def _pick(grid: Grid, places: Sequence[int]) -> Grid:
    """Take some spans of a grid."""

    def pick(column: Sequence[Any]) -> Sequence[Any]:
        return [column[place] for place in places]

    return Grid(grid.shapes, (), *map(pick, grid[2:]))


def _derive_group(shape: tuple[str, ...], grid: Grid) -> Columns:
    """Derive the columns of spans that have the same attribute names."""
    plan, count = _plan_of(shape), len(grid.values)
    # Of one place `itemgetter` gives no tuple, so that the plan asks for it twice.
    columns = zip(*map(plan.pick, grid.values), strict=True)
    found: dict[str, tuple[Any, ...]] = dict(zip(plan.names, columns, strict=False))
    first_chunk = found.get(names.TIME_TO_FIRST_CHUNK_S)
    inputs = _tokens(found.get(names.INPUT_TOKENS), count)
    outputs = _tokens(found.get(names.OUTPUT_TOKENS), count)
    errors = (
        _constant(1, count) if names.ERROR_TYPE in found else array("q", map("error".__eq__, grid.status))
    )
    numbers: list[array[Any]] = [
        _counts(grid.start, 0),
        _counts(grid.duration, 0),
        _constant(MISSING, count) if first_chunk is None else array("q", map(nanoseconds_of, first_chunk)),
        inputs,
        outputs,
        _costs(found, count),
        _retries(found, count),
        errors,
        _missing_usage(grid.kind, inputs, outputs, found.get(names.USAGE_MISSING)),
    ]
    texts = [
        _texts(grid.kind),
        _text_column(found.get(names.AGENT_NAME), count),
        _text_column(found.get(names.TOOL_NAME), count),
        _models(found, count),
        _text_column(found.get(names.PROMPT_VERSION), count),
        _reasons(found.get(names.RESPONSE_FINISH_REASONS), count),
        _text_column(found.get(names.ERROR_TYPE), count),
        _fingerprints(shape, grid.values),
    ]
    return Columns(numbers, texts)


def _fingerprints(shape: tuple[str, ...], values: Sequence[Sequence[Any]]) -> Texts:
    """Take the fingerprints of names and types, which are mostly the same."""
    first = list(map(type, values[0]))
    if list(map(type, chain.from_iterable(values))) == first * len(values):
        return (fingerprint(shape, first),) * len(values)
    return [fingerprint(shape, list(map(type, each))) for each in values]


def _constant(value: int, count: int) -> array[int]:
    """Repeat one value."""
    return array("q", (value,)) * count


def _counts(column: Sequence[Any], missing: int) -> array[int]:
    """Take numbers that fit 64 bits."""
    if set(map(type, column)) == _INT and min(column) >= _INT64_MIN_KEPT:
        try:
            return array("q", column)
        except OverflowError:
            pass  # One of them is longer than 64 bits: told apart below.
    return array("q", [count_of(value, missing) for value in column])


def _tokens(column: Sequence[Any] | None, count: int) -> array[int]:
    """Take numbers of tokens."""
    return _constant(MISSING, count) if column is None else _counts(column, MISSING)


def _costs(found: dict[str, tuple[Any, ...]], count: int) -> array[float]:
    """Take costs in US dollars."""
    costs, amounts = found.get(names.COST_USD), found.get(names.COST_AMOUNT)
    if costs is None and amounts is None:
        return array("d", (NAN,)) * count
    if costs is not None and set(map(type, costs)) == {float}:
        return array("d", costs)
    nothing = (None,) * count
    currencies = found.get(names.COST_CURRENCY) or ("USD",) * count
    return array("d", map(cost_of, costs or nothing, amounts or nothing, currencies))


def _retries(found: dict[str, tuple[Any, ...]], count: int) -> array[int]:
    """Take numbers of attempts beyond the first."""
    resent, attempts = found.get(names.HTTP_RESEND_COUNT), found.get(names.ATTEMPTS)
    if resent is None and (
        attempts is None or (attempts.count(1) == count and set(map(type, attempts)) == _INT)
    ):
        return _constant(0, count)
    return array("q", map(retries_of, resent or (None,) * count, attempts or (1,) * count))


def _missing_usage(
    kinds: Sequence[str], inputs: array[int], outputs: array[int], marks: Sequence[Any] | None
) -> array[int]:
    """Tell the model calls of which no tokens are known."""
    if "model" not in kinds or (marks is None and MISSING not in inputs):
        return _constant(0, len(kinds))
    return array(
        "q",
        [
            kind == "model" and (has_in == has_out == MISSING or bool(mark))
            for kind, has_in, has_out, mark in zip(
                kinds, inputs, outputs, marks or (None,) * len(kinds), strict=True
            )
        ],
    )


def _text_column(column: Sequence[Any] | None, count: int) -> Texts:
    """Take names; empty where there is none."""
    return ("",) * count if column is None else _texts(column)


def _texts(column: Sequence[Any]) -> Texts:
    """Take names that fit a dictionary."""
    try:
        distinct = set(column)
    except TypeError:
        return [text_of(value) for value in column]  # Values that have no hash are no names.
    if set(map(type, distinct)) == _STR and max(map(len, distinct)) <= TEXT_CHARS_MAX:
        return column
    return [text_of(value) for value in column]


def _models(found: dict[str, tuple[Any, ...]], count: int) -> Texts:
    """Take the model that answered, else the one asked for."""
    answered, asked = found.get(names.RESPONSE_MODEL), found.get(names.REQUEST_MODEL)
    if answered is None or asked is None:
        return _text_column(answered if asked is None else asked, count)
    return _texts([a or b for a, b in zip(answered, asked, strict=True)])


def _reasons(column: Sequence[Any] | None, count: int) -> Texts:
    """Take the first finish reason of each."""
    if column is None:
        return ("",) * count
    if column.count(column[0]) == count:
        return _texts((first_reason_of(column[0]),) * count)
    return _texts(list(map(first_reason_of, column)))


def encode_features(grid: Grid, first_sequence: int) -> bytes:
    """Derive the feature block of consecutive spans."""
    numbers, texts = derive(grid)
    return pack_features(numbers, texts, rows=len(grid.shape), first_sequence=first_sequence)
