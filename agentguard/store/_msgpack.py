"""MessagePack of plain data, and what becomes of a value that it cannot hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from agentguard.errors import SegmentCorruptError

_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1


def _plain(value: object) -> object:
    """Turn what MessagePack does not know into what it knows: subclasses into their base."""
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Iterable):
        return list(value)
    return f"<{type(value).__name__}>"


_encoder = msgspec.msgpack.Encoder(enc_hook=_plain)
_decoder = msgspec.msgpack.Decoder()
encode: Callable[[object], bytes] = _encoder.encode
"""MessagePack of plain data."""


def encode_plain(document: object) -> bytes:
    """Encode plain data; what cannot be stored is replaced by its nearest text."""
    try:
        return encode(document)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return encode(cleaned(document))


def decode_plain(plain: bytes, what: str) -> Any:
    """
    Decode plain data.

    Raises:
        SegmentCorruptError: The bytes are none.
    """
    try:
        return _decoder.decode(plain)
    except (msgspec.DecodeError, TypeError, ValueError, RecursionError) as error:
        raise SegmentCorruptError(f"{what}: got bytes that do not decode, expected plain data") from error


def decode_map(plain: bytes, what: str) -> dict[str, Any]:
    """
    Decode a frame that holds one map.

    Raises:
        SegmentCorruptError: The bytes are no map.
    """
    try:
        document = _decoder.decode(plain)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise SegmentCorruptError(f"{what}: got bytes that do not decode, expected a map") from error
    if not isinstance(document, dict):
        raise SegmentCorruptError(f"{what}: got no map, expected one")
    return document


def cleaned(value: object, depth: int = 0) -> object:
    """Replace what MessagePack refuses; slow, and only used once encoding has failed."""
    if isinstance(value, str):
        return str.__str__(value).encode("utf-8", "backslashreplace").decode()
    if value is None or isinstance(value, bool | bytes | float):
        return value
    if isinstance(value, int):
        return int(value) if _INT_MIN <= value <= _INT_MAX else str(value)[:400]
    if depth > 8:
        return f"<{type(value).__name__}>"
    if isinstance(value, Mapping):
        return {str(cleaned(str(k))): cleaned(v, depth + 1) for k, v in value.items()}
    if isinstance(value, Iterable):
        return [cleaned(item, depth + 1) for item in value]
    return cleaned(_plain(value), depth + 1)
