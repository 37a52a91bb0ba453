"""
Personal data and secrets: found in texts and structures, replaced in copies.

Takes a value and the kinds to look for, gives detections or a copy without
them. Pure: no clock, no I/O, no randomness; the original is never changed. What
cannot be looked at within the bounds counts as found.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final, Literal, TypeVar

from agentguard.redaction import _items
from agentguard.redaction._items import HELD_CHARS_MAX, HELD_ITEMS_MAX, StreamScanner
from agentguard.redaction._patterns import passes_luhn, passes_mod_97
from agentguard.redaction._presidio import why_not
from agentguard.redaction._streamed import Pieces, Seen
from agentguard.redaction._text import DETECTORS as _DETECTORS
from agentguard.redaction._text import OWN as _OWN
from agentguard.redaction._text import is_marker, marker
from agentguard.redaction._walk import UNSEARCHED, Bounds, Detection

_T = TypeVar("_T")

KINDS: Final[tuple[str, ...]] = tuple(sorted(_OWN))
"""All kinds that need nothing else."""
EXTRA_KINDS: Final[tuple[str, ...]] = tuple(sorted(set(_DETECTORS) - _OWN))
"""Kinds of the extra `agentguard[presidio]`, looked for only where they are named."""

DEFAULT_BOUNDS: Final = Bounds()
_HASH_HEX_DIGITS: Final = 32
_EXTRA: Final = frozenset(EXTRA_KINDS)


def _checked(kinds: Sequence[str]) -> tuple[str, ...]:
    """Refuse kinds that do not exist: a misspelt kind would find nothing, in silence."""
    for kind in kinds:
        if kind in _EXTRA and (missing := why_not(kind)):
            raise ValueError(f"redaction: {missing}")
        if kind not in _DETECTORS:
            error = ValueError(f"redaction: got unknown kind `{kind}`, expected one of {', '.join(KINDS)}")
            # Imported here: only a mistake needs it, and it stays in memory.
            import difflib

            near = difflib.get_close_matches(kind, [*KINDS, *EXTRA_KINDS], n=1)
            if near:
                error.add_note(f"hint: did you mean `{near[0]}`?")
            raise error
    return tuple(kinds)


def detect(value: object, kinds: Sequence[str], *, bounds: Bounds = DEFAULT_BOUNDS) -> tuple[Detection, ...]:
    """
    Find kinds of data in a value.

    Args:
        value:
            Text, bytes, numbers, and any nesting of dicts, lists, tuples, sets,
            dataclasses and pydantic models. Other objects are not looked into.
        kinds:
            Names from `KINDS` or `EXTRA_KINDS`.
        bounds:
            How much is looked at.

    Returns:
        What was found, in order. The kind `unsearched` marks what lies beyond
        the bounds. An empty answer does not mean that a person sees nothing
        there: text that is split over several values is not joined.

    Raises:
        ValueError: A kind is unknown.

    Example:
        >>> [found.kind for found in detect({"to": "ann@example.org"}, ["email", "card"])]
        ['email']

    """
    walk = _items.PieceWalk(_checked(kinds), bounds, opaque="keep")
    walk.visit(value, "", 0)
    return tuple(walk.detections)


def redact(
    value: _T,
    kinds: Sequence[str],
    *,
    bounds: Bounds = DEFAULT_BOUNDS,
    opaque: Literal["keep", "refuse"] = "keep",
) -> tuple[_T, int]:
    """
    Copy a value without the kinds of data in it.

    Args:
        value:
            As for `detect`.
        kinds:
            Names from `KINDS`.
        bounds:
            How much is looked at; what lies beyond is replaced as a whole.
        opaque:
            What to do with objects that cannot be looked into: keep them as
            they are (they are the application's own, a model cannot write
            one), or refuse the value.

    Returns:
        A copy in which each finding stands as `[REDACTED:kind]`, and how many
        were replaced. Parts without a finding are shared with the original; a
        value without any is the original itself. After this `detect` finds
        nothing.

    Raises:
        ValueError: A kind is unknown.
        TypeError: *opaque* is `refuse`, and there is an object that is no plain data.

    Example:
        >>> redact({"note": "card 4111 1111 1111 1111"}, ["card"])
        ({'note': 'card [REDACTED:card]'}, 1)
        >>> redact("nothing here", ["card"])
        ('nothing here', 0)

    """
    walk = _items.PieceWalk(_checked(kinds), bounds, opaque=opaque)
    return walk.visit(value, "", 0), walk.count


def keyed_hash(text: str | bytes, key: bytes) -> str:
    """
    Hash a text under a key: equal texts can be told, and not guessed without the key.

    HMAC-SHA-256, cut to 128 bits.

    Args:
        text:
            What is to be compared later.
        key:
            At least 16 bytes, secret.

    Returns:
        32 hexadecimal digits.

    Raises:
        ValueError: The key is too short.

    Example:
        >>> keyed_hash("Paris", bytes(32))
        '0e8ae27fe513bdffd2c899bd1860f2dc'

    Source: RFC 2104, section 5 (truncation).
    """
    if len(key) < 16:
        raise ValueError(f"redaction: got a hash key of {len(key)} bytes, expected at least 16")
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return hmac.new(key, data, hashlib.sha256).hexdigest()[:_HASH_HEX_DIGITS]


__all__ = [
    "DEFAULT_BOUNDS",
    "EXTRA_KINDS",
    "HELD_CHARS_MAX",
    "HELD_ITEMS_MAX",
    "KINDS",
    "UNSEARCHED",
    "Bounds",
    "Detection",
    "Pieces",
    "Seen",
    "StreamScanner",
    "detect",
    "is_marker",
    "keyed_hash",
    "marker",
    "passes_luhn",
    "passes_mod_97",
    "redact",
    "why_not",
]
