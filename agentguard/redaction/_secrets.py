"""
Detectors of secrets: keys and tokens by their prefix, and values that are said to be secret.

Source: the formats that AWS, GitHub, GitLab, Slack, Stripe, Google, OpenAI,
Anthropic, Hugging Face, npm and PyPI document for secret scanning; RFC 7519 (JWT),
RFC 7468 (PEM), RFC 6750 (bearer).
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from agentguard.redaction._patterns import Span

_TOKENS: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?:AKIA|ASIA|AROA|AIDA|AGPA|ANPA|ANVA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])"
    r"|gh[pousr]_[A-Za-z0-9]{30,255}"
    r"|github_pat_[A-Za-z0-9_]{22,255}"
    r"|gl(?:pat|rt|dt|ptt|soat)-[A-Za-z0-9_.-]{20,255}"
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,255}"
    r"|xapp-[A-Za-z0-9-]{10,255}"
    r"|sk-[A-Za-z0-9_-]{16,255}"
    r"|[rs]k_(?:live|test)_[A-Za-z0-9]{16,255}"
    r"|whsec_[A-Za-z0-9+/=]{16,255}"
    r"|AIza[A-Za-z0-9_-]{35}"
    r"|ya29\.[A-Za-z0-9_-]{20,255}"
    r"|hf_[A-Za-z0-9]{30,255}"
    r"|npm_[A-Za-z0-9]{36}"
    r"|pypi-[A-Za-z0-9_-]{50,255}"
    r"|eyJ[A-Za-z0-9_-]{8,4096}\.[A-Za-z0-9_-]{8,8192}\.[A-Za-z0-9_-]{0,2048}"
    r")"
)
_SLACK_HOOK: Final = re.compile(r"hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9/_-]{20,255}")
_BEARER: Final = re.compile(r"(?i)(?<![a-z0-9])bearer[ \t]{1,4}([A-Za-z0-9._~+/=-]{8,4096})")
_BASIC: Final = re.compile(r"(?i)(?<![a-z0-9])basic[ \t]{1,4}([A-Za-z0-9+/]{8,4096}={0,2})")
PEM_BEGIN: Final = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
PEM_END: Final = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")

SAID_BEFORE_VALUES: Final = (
    r"(?:password|passwd|passphrase|pwd|secret|client[_-]?secret|secret[_-]?key|api[_-]?key|apikey|access[_-]?key"
    r"|private[_-]?key|auth[_-]?token|access[_-]?token|refresh[_-]?token|session[_-]?token|bearer[_-]?token"
    r"|account[_-]?key|connection[_-]?string|token)"
)
_ASSIGNMENT: Final = re.compile(
    rf"(?i){SAID_BEFORE_VALUES}[\"']?[ \t]{{0,4}}(?::=|=>|[:=])[ \t]{{0,4}}[\"']?([^\s\"'`,;&<>\[\]{{}}()]{{8,512}})"
)
_SECRET_KEY: Final = re.compile(
    r"(?i)(?:.{0,40}[_.\- ])?(?:password|passwd|passphrase|pwd|secret|client[_-]?secret|secret[_-]?key"
    r"|(?:x-)?api[_-]?key|apikey|access[_-]?key|private[_-]?key|auth[_-]?token|access[_-]?token"
    r"|refresh[_-]?token|session[_-]?token|authorization|proxy-authorization)"
)
_ENTROPY_BITS_MIN: Final = 2.75
"""Bits a character; English words of eight letters and more mostly have less, random text has more."""


def secrets(text: str) -> Iterator[Span]:
    """Keys, tokens, private keys, and values that are assigned to a secret name."""
    for pattern in (_TOKENS, _SLACK_HOOK):
        for match in pattern.finditer(text):
            yield match.span()
    for match in _BEARER.finditer(text):
        if _is_random(match.group(1)):
            yield match.span(1)
    for match in _BASIC.finditer(text):
        if _is_basic(match.group(1)):
            yield match.span(1)
    yield from _private_keys(text)
    if "=" in text or ":" in text:
        for match in _ASSIGNMENT.finditer(text):
            if _is_random(match.group(1)):
                yield match.span(1)


def is_secret_key(key: str) -> bool:
    """
    Whether a key of a mapping says that its value is secret.

    Example:
        >>> is_secret_key("db_password"), is_secret_key("max_tokens")
        (True, False)

    """
    return len(key) <= 64 and _SECRET_KEY.fullmatch(key) is not None


def entropy_bits(text: str) -> float:
    """
    Measure the Shannon entropy of the characters, in bits a character.

    Example:
        >>> entropy_bits("aaaa")
        0.0
        >>> entropy_bits("abcd")
        2.0

    """
    if not text:
        return 0.0
    total = len(text)
    return -sum(count / total * math.log2(count / total) for count in Counter(text).values()) + 0.0


def _is_random(value: str) -> bool:
    """Whether a value looks made by a machine or chosen as a password."""
    kinds = sum(
        (
            any(character.isdigit() for character in value),
            any(character.islower() for character in value),
            any(character.isupper() for character in value),
            any(not character.isalnum() for character in value),
        )
    )
    return entropy_bits(value) >= _ENTROPY_BITS_MIN and kinds >= 2


def _is_basic(value: str) -> bool:
    """Whether the value of basic authentication holds a user and a password."""
    try:
        return b":" in base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError):
        return False


def _private_keys(text: str) -> Iterator[Span]:
    """Private keys in PEM; one without an end reaches to the end of the text."""
    position = 0
    while begin := PEM_BEGIN.search(text, position):
        end = PEM_END.search(text, begin.end())
        position = len(text) if end is None else end.end()
        yield begin.start(), position
