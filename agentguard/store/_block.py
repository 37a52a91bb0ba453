"""
Writing a feature block: columns as narrow as their values allow. `_features` says the layout and reads it.

A column of a frame comes in parts, one for each group of spans that have the same attributes. Mostly each part
has one value: then it is written once for each group, and the pieces are put in the order of the spans. What a
column becomes is its form, its bytes and its dictionary.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias

from agentguard.store._features import (
    HEAD,
    I64,
    IS_BIG_ENDIAN,
    NARROW,
    U32,
    padded,
    text_of,
)
from agentguard.store._order import Order
from agentguard.values import FEATURE_BLOCK_VERSION, FEATURES

Packed: TypeAlias = tuple[int, bytes, bytes]
"""Form, values and dictionary, which is empty for numbers."""
_F64: Final = struct.Struct("<d")
_NO_BASE: Final = bytes(8)
_INT32: Final = 2**31
_TURNED: Final = bytes([value ^ 0x80 for value in range(256)])
"""The highest bit of a byte turned."""


def pack_block(columns: Sequence[Packed], *, rows: int, first_sequence: int) -> bytes:
    """Write the block of consecutive spans, of columns in the order of the catalogue."""
    forms, values, dictionaries = zip(*columns, strict=True)
    head = HEAD.pack(FEATURE_BLOCK_VERSION, len(FEATURES), rows, first_sequence, 0, 0)
    return b"".join((head, padded(bytes(forms)), *values, *dictionaries))


def same_integer(value: int) -> Packed:
    """One integer that all spans have."""
    return 0, I64.pack(value), b""


def same_float(value: float) -> Packed:
    """One number that all spans have, with a fraction."""
    return 0, _F64.pack(value), b""


def pack_integers(column: Sequence[int]) -> Packed:
    """
    Write a column of integers.

    Raises:
        TypeError: One is something else.
        OverflowError: One does not fit 64 bits.
    """
    first = column[0]
    if column[-1] == first and column.count(first) == len(column):
        return 0, _bytes_of(array("q", (first,))), b""
    # The array itself finds out how wide it must be, in less time than least and greatest are looked for.
    found = _narrow(column) if first < _INT32 else None
    if found is not None:
        width, data = found
        return width, _NO_BASE + data, b""
    whole = _bytes_of(array("q", column))
    if first >= _INT32:
        near = _near(whole)
        if near is not None:
            return near
    if first >= _INT32 or max(column) >= _INT32:
        least = min(column)
        found = _narrow([value - least for value in column])
        if found is not None:
            width, data = found
            return width, I64.pack(least) + data, b""
    return 8, whole, b""


def _near(whole: bytes) -> Packed | None:
    """Halve integers of 8 bytes whose upper halves are the same: of times of a few seconds they mostly are."""
    halves = memoryview(whole).cast("I")
    upper = halves[1::2].tobytes()
    if upper != upper[:4] * (len(upper) // 4):
        return None
    lower = bytearray(halves[::2].tobytes())
    # What is written has a sign: a number without one is half the range above it, which turns its highest bit.
    lower[3::4] = lower[3::4].translate(_TURNED)
    return (
        4,
        I64.pack((int.from_bytes(upper[:4], "little", signed=True) << 32) + _INT32) + padded(bytes(lower)),
        b"",
    )


def _narrow(column: Sequence[int]) -> tuple[int, bytes] | None:
    """Width and bytes of a column of integers that fit 4 bytes; None where they do not."""
    for width, code in NARROW.items():
        try:
            return width, _bytes_of(array(code, column))
        except OverflowError:
            continue
    return None


def integers(parts: Sequence[Sequence[int]], order: Order) -> Packed:
    """Write integers that fit 64 bits, of each group one for all its spans or one for each."""
    if max(map(len, parts)) > 1:
        return pack_integers(order.merged(parts))
    values = [part[0] for part in parts]
    least, greatest = min(values), max(values)
    if least == greatest:
        return same_integer(least)
    base = least if greatest - least < _INT32 <= greatest else 0
    for width in NARROW:
        limit = 1 << (8 * width - 1)
        if -limit <= least - base and greatest - base < limit:
            pieces = [(value - base).to_bytes(width, "little", signed=True) for value in values]
            return width, padded(I64.pack(base) + order.spread(pieces)), b""
    return 8, order.spread(list(map(I64.pack, values))), b""


def floats(parts: Sequence[Sequence[float]], order: Order) -> Packed:
    """Write numbers that may have fractions, likewise."""
    if max(map(len, parts)) > 1:
        return 8, _bytes_of(array("d", order.merged(parts))), b""
    # By their bits: not a number is equal to nothing, and 0.0 to -0.0.
    pieces = [_F64.pack(part[0]) for part in parts]
    if pieces.count(pieces[0]) == len(pieces):
        return 0, pieces[0], b""
    return 8, order.spread(pieces), b""


def texts(parts: Sequence[Sequence[object]], order: Order) -> Packed:
    """Write texts, likewise, with a dictionary of what fits one."""
    if max(map(len, parts)) > 1:
        return _merged_texts(order.merged(parts))
    form, codes, dictionary = _numbered(tuple([text_of(part[0]) for part in parts]))
    return form, padded(order.spread(codes)) if form else bytes(8), dictionary


def same_text(text: str) -> Packed:
    """One text that all spans have."""
    return 0, bytes(8), _pack_dictionary((text,))


@lru_cache(maxsize=256)
def _numbered(found: tuple[str, ...]) -> tuple[int, list[bytes], bytes]:
    """Number the distinct texts of some groups: gives the form, each group's number in it, and the dictionary."""
    numbers: dict[str, int] = {}
    codes = [numbers.setdefault(text, len(numbers)) for text in found]
    form = _form_of(numbers)
    return form, [code.to_bytes(max(form, 1), "little") for code in codes], _pack_dictionary(tuple(numbers))


def _merged_texts(column: Sequence[Any]) -> Packed:
    """Write a column of texts."""
    numbers: dict[str, int] = {}
    try:
        # Each distinct value is looked at once; a text equals nothing else.
        number_of = {
            value: numbers.setdefault(text_of(value), len(numbers)) for value in dict.fromkeys(column)
        }
    except TypeError:  # Values that have no hash are no names.
        return _merged_texts(list(map(text_of, column)))
    form = _form_of(numbers)
    if not form:
        return form, bytes(8), _pack_dictionary(tuple(numbers))
    codes = array("B" if form == 1 else "H", list(map(number_of.__getitem__, column)))
    return form, _bytes_of(codes), _pack_dictionary(tuple(numbers))


def _form_of(numbers: Mapping[str, int]) -> int:
    """How many bytes an index into a dictionary has."""
    return 0 if len(numbers) == 1 else 1 if len(numbers) <= 256 else 2


def _bytes_of(column: array[Any]) -> bytes:
    """Numbers in the byte order of the format, padded."""
    if IS_BIG_ENDIAN:
        column.byteswap()
    return padded(column.tobytes())


def _pack_dictionary(entries: Sequence[str]) -> bytes:
    """Write a dictionary in the order of its indices."""
    return b"".join([U32.pack(len(entries)), *map(_pack_entry, entries)])


@lru_cache(maxsize=512)
def _pack_entry(text: str) -> bytes:
    """Write one text of a dictionary; most frames have the same ones."""
    data = text.encode("utf-8", "backslashreplace")
    return U32.pack(len(data)) + data
