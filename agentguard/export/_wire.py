"""
Protocol Buffers as bytes: what OTLP needs of the format, a value at a time and a column at a time.

A message object for each attribute of each span costs ten times as much as the bytes that it
becomes; so the bytes are written at once. What the library of Protocol Buffers makes of the
same values is what the tests compare with.

Source:
    Protocol Buffers, "Encoding": varints, tags, length-delimited fields.
    opentelemetry-proto 1.10: common/v1/common.proto (AnyValue, KeyValue).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from struct import Struct
from typing import Any, Final

_UINT64_MAX: Final = 2**64 - 1
_INT64: Final = range(-(2**63), 2**63)
_LENGTHS_KEPT: Final = 4096
pack_double: Final = Struct("<d").pack


def varint(number: int) -> bytes:
    """
    Write a number that is not negative: seven bits a byte, the lowest first.

    Example:
        >>> varint(300).hex()
        'ac02'
    """
    if number < 0x80:
        return bytes((number,))
    if number < 0x4000:
        return bytes((number & 127 | 128, number >> 7))
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    parts.append(number)
    return bytes(parts)


length: Final = lru_cache(_LENGTHS_KEPT)(varint)
"""The same of a length: there are few of them, and they come again."""


def delimited(tag: bytes, data: bytes) -> bytes:
    """Write a field that is text, bytes or a message."""
    return b"".join((tag, length(len(data)), data))


def utf8(text: object) -> bytes:
    """Write text; what UTF-8 cannot say (a lone surrogate) becomes its escape."""
    try:
        return str.encode(text)  # type: ignore[arg-type]
    except (UnicodeEncodeError, TypeError):
        return str(text).encode("utf-8", "backslashreplace")


def any_value(value: object) -> bytes:
    """Write one value as `AnyValue`; what OTLP cannot say becomes its text."""
    if isinstance(value, str):
        return delimited(b"\x0a", utf8(value))
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int) and value in _INT64:
        return b"\x18" + varint(value & _UINT64_MAX)
    if isinstance(value, float):
        return b"\x21" + pack_double(value)
    if isinstance(value, Iterable) and not isinstance(value, (bytes, Mapping)):
        return delimited(b"\x2a", b"".join([delimited(b"\x0a", any_value(part)) for part in value]))
    return delimited(b"\x0a", utf8(str(value)))


def key_value(tag: bytes, name: str, value: object) -> bytes:
    """Write one attribute as a field of this tag."""
    written = any_value(value)
    return delimited(tag, b"".join((_key(name), b"\x12", length(len(written)), written)))


def key_values(tag: bytes, attributes: Mapping[str, object]) -> bytes:
    """Write all attributes, each as a field of this tag."""
    return b"".join([key_value(tag, name, value) for name, value in attributes.items()])


def attribute_column(tag: bytes, name: str, column: Sequence[Any]) -> list[bytes]:
    """
    Write one attribute of many spans, each as `key_value` does.

    Name, tags and lengths are made once for all values of one length.
    """
    kinds = set(map(type, column))
    kind = kinds.pop() if len(kinds) == 1 else None
    if kind is str:
        try:
            texts = list(map(str.encode, column))
        except UnicodeEncodeError:
            texts = list(map(utf8, column))
        heads = _Heads(tag, name, lambda size: b"\x0a" + length(size))
        return [heads[len(text)] + text for text in texts]
    if kind is int:
        # One beyond 64 bits is text: it goes the slow way.
        if min(column) >= 0 and max(column) in _INT64:
            numbers = list(map(varint, column))
            heads = _Heads(tag, name, lambda _: b"\x18")
            return [heads[len(number)] + number for number in numbers]
    elif kind is float:
        head = _Heads(tag, name, lambda _: b"\x21")[8]
        return [head + number for number in map(pack_double, column)]
    return [key_value(tag, name, value) for value in column]


class _Heads(dict[int, bytes]):
    """What stands before the value of one attribute, by the length of the value."""

    def __init__(self, tag: bytes, name: str, inner: Callable[[int], bytes]) -> None:
        self._tag, self._key, self._inner = tag, _key(name), inner

    def __missing__(self, size: int) -> bytes:
        inner = self._inner(size)
        of_value = b"".join((self._key, b"\x12", length(len(inner) + size), inner))
        head = self[size] = b"".join((self._tag, length(len(of_value) + size), of_value))
        return head


def _key(name: str) -> bytes:
    """Write the name of an attribute; an empty one is left out, as the format has it."""
    return delimited(b"\x0a", utf8(name)) if name else b""
