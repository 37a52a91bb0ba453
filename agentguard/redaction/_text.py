"""
Finding in one text, also where it is disguised: compatibility characters, percent signs, base64.

A finding in decoded text marks the whole encoded token, since its parts cannot
be told apart there.
"""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import unquote

from agentguard.redaction import _patterns, _presidio, _secrets
from agentguard.redaction._patterns import Span

DETECTORS: Final[Mapping[str, _patterns.Detector]] = {
    "secret": _secrets.secrets,
    "url_credentials": _patterns.url_credentials,
    "email": _patterns.emails,
    "iban": _patterns.ibans,
    "card": _patterns.cards,
    "us_ssn": _patterns.social_security_numbers,
    "phone": _patterns.phones,
    "ipv6": _patterns.ipv6_addresses,
    "ipv4": _patterns.ipv4_addresses,
    **_presidio.DETECTORS,
}
"""By kind, the more specific first: where findings overlap, the first kind names the whole."""

OWN: Final = frozenset(DETECTORS) - frozenset(_presidio.DETECTORS)
"""Kinds that need nothing else, and whose findings do not depend on what stands far away."""

_WITH_DIGITS: Final = frozenset({"card", "iban", "us_ssn", "phone", "ipv4", "ipv6"})
"""Kinds that a text without a digit cannot hold: most texts are words."""

_DIGIT: Final = re.compile(r"[0-9]")
_DECODE_DEPTH_MAX: Final = 3
_PERCENT_TOKEN: Final = re.compile(r"[^\s\"'<>]*%[0-9A-Fa-f]{2}[^\s\"'<>]*")
_BASE64_TOKEN: Final = re.compile(r"[A-Za-z0-9+/_-]{12,}={0,2}")
_URLSAFE: Final = str.maketrans("-_", "+/")
_PASSES_MAX: Final = 4
_MARKER: Final = re.compile(r"\[REDACTED:[a-z0-9_]{1,32}\](?:#[0-9]{1,9})?")


class Finding(NamedTuple):
    """One stretch of a text that is of a kind."""

    kind: str
    start: int
    end: int


class Scan(NamedTuple):
    """What a text holds, and what it cost to look."""

    findings: tuple[Finding, ...]
    """In order, without overlaps."""
    kinds: frozenset[str]
    """All kinds that were found, also those that overlap with a more specific one."""
    work_chars: int
    """Characters looked at, decoded ones included."""


def marker(kind: str) -> str:
    """Give the text that stands for what was removed."""
    return f"[REDACTED:{kind}]"


def is_marker(text: str) -> bool:
    """Whether a text is nothing but such a mark, with a number where two keys became one."""
    return _MARKER.fullmatch(text) is not None


def scan(text: str, kinds: Sequence[str], depth: int = 0) -> Scan:
    """
    Find all kinds in a text.

    Args:
        text:
            Any text; lone surrogates are allowed.
        kinds:
            Names from `DETECTORS`.
        depth:
            How often the text was decoded already.

    Returns:
        The findings by place in *text*, and the work done.

    """
    found: list[Finding] = []
    work = len(text)
    _detect(text, kinds, found)
    if not text.isascii():
        plain, places = normalised(text)
        if plain != text:
            work += len(plain)
            inner: list[Finding] = []
            _detect(plain, kinds, inner)
            found.extend(Finding(kind, places[start], places[end - 1] + 1) for kind, start, end in inner)
    seen = {finding.kind for finding in found}
    if depth < _DECODE_DEPTH_MAX:
        work += _detect_encoded(text, kinds, depth, found, seen)
    return Scan(_without_overlaps(found), frozenset(seen), work)


def _detect(text: str, kinds: Sequence[str], found: list[Finding]) -> None:
    """Run the detectors on plain text."""
    has_digit = _DIGIT.search(text) is not None
    for kind in DETECTORS:
        if kind in kinds and (has_digit or kind not in _WITH_DIGITS):
            found.extend(Finding(kind, start, end) for start, end in DETECTORS[kind](text) if end > start)


def normalised(text: str) -> tuple[str, list[int]]:
    """
    Bring compatibility characters to their plain form, character by character.

    Returns:
        The plain text, and for each of its characters the place in the original.
        Invisible format characters are left out; all decimal digits become ASCII.

    """
    pieces: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        if character.isascii():
            plain = character
        elif character.isdecimal():
            plain = str(unicodedata.decimal(character))
        elif unicodedata.category(character) == "Cf":
            continue
        else:
            plain = unicodedata.normalize("NFKC", character)
        pieces.append(plain)
        places.extend([place] * len(plain))
    return "".join(pieces), places


def _detect_encoded(text: str, kinds: Sequence[str], depth: int, found: list[Finding], seen: set[str]) -> int:
    """Decode what is encoded, look there too, and give the characters looked at."""
    work = 0
    if "%" in text:
        for match in _PERCENT_TOKEN.finditer(text):
            work += _look_into(match, unquote(match.group(), errors="replace"), kinds, depth, found, seen)
    for match in _BASE64_TOKEN.finditer(text):
        decoded = _from_base64(match.group())
        if decoded is not None:
            work += _look_into(match, decoded, kinds, depth, found, seen)
    return work


def _look_into(
    match: re.Match[str],
    decoded: str,
    kinds: Sequence[str],
    depth: int,
    found: list[Finding],
    seen: set[str],
) -> int:
    """Scan decoded text; a finding there is one of the whole token."""
    if decoded == match.group():
        return 0
    inner = scan(decoded, kinds, depth + 1)
    if inner.findings:
        found.append(Finding(inner.findings[0].kind, *match.span()))
        seen |= inner.kinds
    return inner.work_chars


def _from_base64(token: str) -> str | None:
    """Decode a token of base64 or its URL-safe form, if text comes out."""
    body = token.rstrip("=").translate(_URLSAFE)
    if len(body) % 4 == 1:
        body = body[:-1]
    try:
        raw = base64.b64decode(body + "=" * (-len(body) % 4), validate=True)
        text = raw.decode("utf-8")
    except (binascii.Error, ValueError):
        return None
    # Random bytes that happen to be UTF-8 are mostly control characters.
    return (
        text
        if sum(character.isprintable() or character in "\r\n\t" for character in text) == len(text)
        else None
    )


def _without_overlaps(found: list[Finding]) -> tuple[Finding, ...]:
    """Join findings that overlap; the more specific kind names the whole."""
    if len(found) < 2:
        return tuple(found)
    order = {kind: place for place, kind in enumerate(DETECTORS)}
    joined: list[Finding] = []
    for finding in sorted(found, key=lambda one: (one.start, -one.end, order[one.kind])):
        if joined and finding.start < joined[-1].end:
            last = joined[-1]
            kind = min(last.kind, finding.kind, key=order.__getitem__)
            joined[-1] = Finding(kind, last.start, max(last.end, finding.end))
        else:
            joined.append(finding)
    return tuple(joined)


class Cleaned(NamedTuple):
    """What is to be replaced in a text, and what it held."""

    edits: tuple[Finding, ...]
    """Stretches of the text to replace by the mark of their kind, in order, without overlaps."""
    findings: tuple[Finding, ...]
    """What the text held, by place in it as it was."""
    kinds: frozenset[str]
    """All kinds that it held."""
    replaced: int
    """Findings replaced, those that came up between replacements included."""
    work_chars: int
    """The most that one look at the text, before or after, cost."""


def clean(text: str, kinds: Sequence[str]) -> Cleaned:
    """
    Find all that is to be replaced, and look again until nothing would be left.

    What remains after a replacement may join into a new finding; where a few
    passes do not end it, the whole text is replaced.
    """
    edits: tuple[Finding, ...] = ()
    first: Scan | None = None
    count = work = 0
    for _ in range(_PASSES_MAX):
        seen = scan(apply(text, edits), kinds)
        work = max(work, seen.work_chars)
        first = first or seen
        if not seen.findings:
            return Cleaned(edits, first.findings, first.kinds, count, work)
        count += len(seen.findings)
        edits = _joined(text, edits, seen.findings)
    assert first is not None
    whole = Finding(first.findings[0].kind, 0, len(text))
    return Cleaned((whole,), first.findings, first.kinds, count, work)


def apply(text: str, edits: Sequence[Finding]) -> str:
    """Replace stretches of a text by the marks of their kinds."""
    if not edits:
        return text
    pieces: list[str] = []
    position = 0
    for kind, start, end in edits:
        pieces += (text[position:start], marker(kind))
        position = end
    return "".join((*pieces, text[position:]))


def _joined(text: str, edits: Sequence[Finding], found: Sequence[Finding]) -> tuple[Finding, ...]:
    """Add findings in an edited text to its edits; a mark that a finding touches goes with it."""
    if not edits:
        return tuple(found)
    origins: list[Span] = []
    position = 0
    for kind, start, end in edits:
        origins += ((place, place + 1) for place in range(position, start))
        origins += [(start, end)] * len(marker(kind))
        position = end
    origins += ((place, place + 1) for place in range(position, len(text)))
    moved = [Finding(kind, origins[start][0], origins[end - 1][1]) for kind, start, end in found]
    return _without_overlaps([*edits, *moved])
