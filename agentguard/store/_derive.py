"""
From columns of spans to the feature block.

Says the same as `numbers_of` and `texts_of` of `_features`, which say it span by
span; a property test compares them. Columns come in parts, one for each group of spans that have the
same attributes, since there most of them have one value for all. An attribute that no group has costs nothing.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain, count, repeat
from operator import itemgetter
from typing import Any, Final, TypeAlias

from agentguard.store._block import (
    Packed,
    floats,
    integers,
    pack_block,
    pack_integers,
    same_float,
    same_integer,
    same_text,
    texts,
)
from agentguard.store._features import (
    INT64,
    MISSING,
    NAN,
    cost_of,
    count_of,
    fingerprint,
    first_reason_of,
    nanoseconds_of,
    retries_of,
)
from agentguard.store._grid import Column, Grid, Group
from agentguard.store._order import Order
from agentguard.values import attributes as names

Parts: TypeAlias = Sequence[Column]
"""A column for each group: a value for each of its spans, or one for all of them."""
_FEW: Final = 8
"""Where the attributes of up to so many groups stand is remembered."""
_ABSENT: Final = object()
_NONE: Final[Column] = (None,)
_ONE: Final[Column] = (1,)
_USD: Final[Column] = ("USD",)
_NO_ERROR: Final[Column] = (_ABSENT,)
_UNKNOWN: Final[Column] = (MISSING,)
_ZERO: Final[Column] = (0,)
_NO_AMOUNT: Final[Column] = (NAN,)
_NO_NUMBER: Final = same_integer(MISSING)
_NO: Final = same_integer(0)
_NO_COST: Final = same_float(NAN)
_NO_TEXT: Final = same_text("")

_first: Final = itemgetter(0)

_READ: Final[tuple[tuple[str, Column], ...]] = (
    (names.TIME_TO_FIRST_CHUNK_S, _NONE),
    (names.INPUT_TOKENS, _NONE),
    (names.OUTPUT_TOKENS, _NONE),
    (names.COST_USD, _NONE),
    (names.COST_AMOUNT, _NONE),
    (names.COST_CURRENCY, _USD),
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
_STAND_INS: Final = tuple([absent for _, absent in _READ])


def encode_features(grid: Grid) -> bytes:
    """Derive the feature block of consecutive spans, at least one."""
    order, groups = Order(grid), grid.groups
    keys = tuple([tuple(group.names) for group in groups])
    columns = [*_STAND_INS, *chain.from_iterable([group.columns for group in groups])]
    (waits, inputs, outputs, costs, amounts, currencies, resent, attempts, errors, marks, agents, tools,
     answered, asked, prompts, tenants, reasons) = [
        pick and pick(columns) for pick in (_picks if len(keys) > _FEW else _known_picks)(keys)
    ]  # fmt: skip
    kinds, statuses = order.parts(grid.kind), order.parts(grid.status)
    input_counts, output_counts = list(map(_counts, inputs or ())), list(map(_counts, outputs or ()))
    return pack_block(
        (
            _times(grid.start),
            _times(grid.duration),
            integers(list(map(_nanoseconds, waits)), order) if waits else _NO_NUMBER,
            integers(input_counts, order) if inputs else _NO_NUMBER,
            integers(output_counts, order) if outputs else _NO_NUMBER,
            floats(_costs(order, costs, amounts, currencies), order) if costs or amounts else _NO_COST,
            integers(_retries(order, resent, attempts), order) if resent or attempts else _NO,
            integers(_errors(order, statuses, errors), order)
            if errors or any("error" in part for part in statuses)
            else _NO,
            integers(_missing_usage(order, kinds, input_counts, output_counts, marks), order)
            if any("model" in part for part in kinds)
            else _NO,
            texts(kinds, order),
            _texts(agents, order),
            _texts(tools, order),
            _texts(_models(order, answered, asked), order),
            _texts(prompts, order),
            _texts(tenants, order),
            texts([list(map(first_reason_of, part)) for part in reasons], order) if reasons else _NO_TEXT,
            _texts(errors, order),
            texts(list(map(_fingerprints, keys, groups)), order),
        ),
        rows=grid.count,
        first_sequence=grid.first_sequence,
    )


def _picks(keys: tuple[tuple[str, ...], ...]) -> list[Callable[[list[Column]], Parts] | None]:
    """
    Say how the parts of each attribute of `_READ` are picked out of the columns of all groups, one after the other.

    Args:
        keys:
            The names of each group.

    Returns:
        For each attribute what picks; nothing where no group has it.
    """
    place = count(len(_STAND_INS))
    by_group = [dict(zip(names_of, place, strict=False)) for names_of in keys]
    found = [[places.get(name, absent) for places in by_group] for absent, (name, _) in enumerate(_READ)]
    return [None if set(places) == {absent} else _pick(places) for absent, places in enumerate(found)]


def _pick(places: Sequence[int]) -> Callable[[list[Column]], Parts]:
    """Give what picks some items of a list: several also where it is one."""
    return itemgetter(*places) if len(places) > 1 else itemgetter(slice(places[0], places[0] + 1))


_known_picks = lru_cache(maxsize=512)(_picks)


def _given(order: Order, parts: Parts | None, absent: Column) -> Parts:
    """The parts of an attribute, or what stands for one that no group has."""
    return parts or [absent] * order.size


def _each(size: int, combine: Callable[..., Any], *columns: Column) -> Column:
    """Combine columns value by value; all of one value give one."""
    if max(map(len, columns)) == 1:
        return (combine(*[column[0] for column in columns]),)
    return list(map(combine, *[c if len(c) == size else repeat(c[0], size) for c in columns]))


def _times(column: Column) -> Packed:
    """Write times that the grid has as they are."""
    try:
        return pack_integers(column)
    except (TypeError, OverflowError):
        return pack_integers([count_of(value, 0) for value in column])


def _counts(column: Column) -> Column:
    """Take numbers that fit 64 bits."""
    if len(column) == 1:
        return column if type(column[0]) is int and column[0] in INT64 else (count_of(column[0]),)
    try:
        array("q", column)
    except (TypeError, OverflowError):
        return list(map(count_of, column))
    return column


def _nanoseconds(seconds: Column) -> Column:
    """Take seconds."""
    if seconds is _NONE:
        return _UNKNOWN
    try:
        return _counts(list(map(int, map((1e9).__mul__, seconds))))
    except (TypeError, ValueError, OverflowError):
        return list(map(nanoseconds_of, seconds))


def _costs(order: Order, costs: Parts | None, amounts: Parts | None, currencies: Parts | None) -> Parts:
    """Take costs in US dollars."""
    found: list[Column] = []
    for cost, amount, currency, size in zip(
        _given(order, costs, _NONE), _given(order, amounts, _NONE), _given(order, currencies, _USD), order.counts,
        strict=True,
    ):  # fmt: skip
        if cost is _NONE and amount is _NONE:
            found.append(_NO_AMOUNT)
            continue
        try:
            found.append(array("d", cost))
        except (TypeError, OverflowError):
            # Some have none, or what is no number.
            found.append(_each(size, cost_of, cost, amount, currency))
    return found


def _retries(order: Order, resent: Parts | None, attempts: Parts | None) -> Parts:
    """Count the attempts beyond the first."""
    each = zip(order.counts, _given(order, resent, _NONE), _given(order, attempts, _ONE), strict=True)
    return [_each(size, retries_of, one, other) for size, one, other in each]


def _errors(order: Order, statuses: Parts, errors: Parts | None) -> Parts:
    """Tell the spans that failed."""
    each = zip(order.counts, statuses, _given(order, errors, _NO_ERROR), strict=True)
    return [_each(size, _is_error, status, kind) for size, status, kind in each]


def _is_error(status: str, kind: object) -> bool:
    return status == "error" or kind is not _ABSENT


def _missing_usage(order: Order, kinds: Parts, inputs: Parts, outputs: Parts, marks: Parts | None) -> Parts:
    """Tell the model calls of which no tokens are known."""
    found: list[Column] = []
    for kind, ins, outs, mark, size in zip(
        kinds, _given(order, inputs, _UNKNOWN), _given(order, outputs, _UNKNOWN), _given(order, marks, _NONE),
        order.counts, strict=True,
    ):  # fmt: skip
        if "model" not in kind or (mark is _NONE and MISSING not in ins and MISSING not in outs):
            found.append(_ZERO)
        else:
            found.append(_each(size, _is_missing, kind, ins, outs, mark))
    return found


def _is_missing(kind: str, inputs: int, outputs: int, mark: object) -> bool:
    return kind == "model" and (inputs == outputs == MISSING or bool(mark))


def _models(order: Order, answered: Parts | None, asked: Parts | None) -> Parts | None:
    """Take the model that answered, else the one that was asked."""
    if not answered:
        return asked
    if not asked:
        return answered
    return [
        (one if one[0] else other) if len(one) == 1 else _each(size, _either, one, other)
        for one, other, size in zip(answered, asked, order.counts, strict=True)
    ]


def _either(first: object, second: object) -> object:
    return first or second


def _texts(parts: Parts | None, order: Order) -> Packed:
    """Write the texts of an attribute."""
    return texts(parts, order) if parts else _NO_TEXT


def _fingerprints(keys: tuple[str, ...], group: Group) -> Column:
    """Take the fingerprints of names and types, which are mostly the same."""
    columns = group.columns
    for column in columns:
        if len(column) > 1 and len(set(map(type, column))) > 1:
            size = max(map(len, columns))
            rows = zip(*[c if len(c) == size else repeat(c[0], size) for c in columns], strict=True)
            return [fingerprint(keys, list(map(type, row))) for row in rows]
    return (fingerprint(keys, list(map(type, map(_first, columns)))),)
