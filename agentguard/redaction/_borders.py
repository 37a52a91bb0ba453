"""
Where a text can be cut without changing what is found in it.

Every detector looks only at stretches of a text that its own characters make up:
a word, a run of digits and separators, a value after `password:`, a private key.
Between two such stretches of every detector is a border: what is found before it
and after it is what is found in the whole, whatever follows. So a text that
arrives in pieces can be looked at up to its last border.

The stretches here are at least as long as what the detectors of `_patterns`,
`_secrets` and `_text` can match or look around at; a test holds them to that.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Final

from agentguard.redaction._patterns import IBAN_LENGTHS, IBAN_START, SEPARATOR, Span
from agentguard.redaction._secrets import PEM_BEGIN, PEM_END, SAID_BEFORE_VALUES
from agentguard.redaction._text import normalised

_WORD: Final = re.compile(r"[^\s\"'<>]+")
"""Tokens, URLs, addresses, and what is percent-encoded or base64: no detector of these crosses a blank."""
_MAIL: Final = re.compile(r"[\w@!#$%&'*+^~.-]+")
_DIGITS: Final = re.compile(rf"[0-9](?:[0-9]|{SEPARATOR})*")
_DIALLED: Final = re.compile(r"[-0-9+(][-0-9+ .()]*")
# The next two begin inside each other: `bearer basic ...`, `token: password=...`.
_CREDENTIAL: Final = re.compile(r"(?i)(?=((?:bearer|basic)[ \t]{1,4}[A-Za-z0-9._~+/=-]{0,4097}))")
_SAID: Final = re.compile(
    rf"(?i)(?=({SAID_BEFORE_VALUES}[\"']?[ \t]{{0,4}}"
    rf"(?:(?::=|=>|[:=])[ \t]{{0,4}}[\"']?[^\s\"'`,;&<>\[\]{{}}()]{{0,513}}|\Z)))"
)
_PEM_OPENING: Final = re.compile(r"-----BEGIN[A-Z0-9 ]*-*\Z")
_IBAN_CHARS: Final = re.compile(r"[A-Za-z0-9]*(?:[ .\t\u00a0-]{1,2}[A-Za-z0-9]+)*[ .\t\u00a0-]{0,3}")


def last_border(text: str, kinds: Collection[str]) -> int:
    """
    Find the last place at which a text may be cut while more of it is to come.

    Args:
        text:
            What has arrived since the last border.
        kinds:
            Detectors that look at it.

    Returns:
        Characters before the border; 0 where the whole text still belongs
        together. For any *rest*, the findings in ``text[:border]`` and in
        ``text[border:] + rest`` together are those in ``text + rest``.

    Example:
        >>> last_border("my card is 4111 11", ["card"])
        11
        >>> last_border("not a number. ", ["card"])
        14

    """
    stretches = list(_stretches(text, kinds))
    if not text.isascii():
        plain, places = normalised(text)
        if plain != text:
            for start, end in _stretches(plain, kinds):
                last = len(text) if end == len(plain) else places[end - 1] + 1
                stretches.append((places[start], last))
    border = len(text)
    for start, end in sorted(stretches, reverse=True):
        if start < border and (end > border or end == len(text)):
            border = start
    return border


def _stretches(text: str, kinds: Collection[str]) -> Iterator[Span]:
    """Give what belongs together for one detector or another."""
    yield from (match.span() for match in _WORD.finditer(text))
    if "email" in kinds:
        yield from (match.span() for match in _MAIL.finditer(text))
    if "card" in kinds:
        yield from (match.span() for match in _DIGITS.finditer(text))
    if "phone" in kinds or "us_ssn" in kinds:
        yield from (match.span() for match in _DIALLED.finditer(text))
    if "iban" in kinds:
        yield from _accounts(text)
    if "secret" in kinds:
        yield from (match.span(1) for match in _CREDENTIAL.finditer(text))
        yield from (match.span(1) for match in _SAID.finditer(text))
        yield from _private_keys(text)


def _accounts(text: str) -> Iterator[Span]:
    """Bank accounts from where one may begin, each with the character behind it."""
    position = 0
    while match := IBAN_START.search(text, position):
        position = match.start() + 1
        length = IBAN_LENGTHS.get(match.group()[:2].upper())
        if length is not None:
            # Between two characters of an account may stand two separators.
            part = text[match.start() : match.start() + 3 * length + 4]
            reach = _IBAN_CHARS.match(part)
            assert reach is not None
            yield match.start(), match.start() + reach.end()


def _private_keys(text: str) -> Iterator[Span]:
    """Private keys, and the beginning of one at the end."""
    position = 0
    while begin := PEM_BEGIN.search(text, position):
        end = PEM_END.search(text, begin.end())
        position = len(text) if end is None else end.end()
        yield begin.start(), position
    opening = _PEM_OPENING.search(text, max(0, len(text) - 128))
    if opening is not None:
        yield opening.span()
