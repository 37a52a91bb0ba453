"""
Detectors of personal data: where in a text each kind stands.

Each detector is pure and takes time in proportion to the text: patterns are
bounded, and what needs arithmetic (Luhn, mod 97) is checked after the match.
A detector gives half-open spans, in order.

Source: ISO/IEC 7812-1 (Luhn), ISO 13616-1 (IBAN), SSA rules for social security
numbers, RFC 3986 3.2.1 (userinfo).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeAlias

Span: TypeAlias = tuple[int, int]
Detector: TypeAlias = Callable[[str], Iterator[Span]]

_LABEL: Final = r"[^\W_](?:[\w-]{0,61}[^\W_])?"
_EMAIL_DOMAIN: Final = re.compile(rf"@(?:{_LABEL}\.){{1,10}}[^\W\d_]{{2,24}}")
_EMAIL_LOCAL: Final = frozenset("!#$%&'*+-^_~.")
"""What an address may have before the at sign; a slash, an equals sign and braces more often delimit it."""
_LOCAL_CHARS_MAX: Final = 256

SEPARATOR: Final = r"[ \t._/\u2010-\u2015\u2212\u00b7-]"
_DIGIT_GROUPS: Final = re.compile(rf"(?<![0-9])[0-9]+(?:{SEPARATOR}{{1,3}}[0-9]+)*")
_DIGITS: Final = re.compile(r"[0-9]+")
_CARD_DIGITS: Final = (13, 19)
_CARD_FIRST: Final = frozenset("234568")
"""First digits of payment cards; numbers that begin with 1 are mostly times in milliseconds."""

IBAN_START: Final = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}")
_IBAN_SEPARATORS: Final = frozenset(" -.\t\u00a0")
IBAN_LENGTHS: Final[Mapping[str, int]] = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27,
    "BR": 29, "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28,
    "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23,
    "GL": 18, "GR": 27, "GT": 28, "HN": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26,
    "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21,
    "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28,
    "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22,
    "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "SO": 23, "ST": 25,
    "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20, "YE": 30,
}  # fmt: skip
"""Length by country, from the IBAN registry."""

_OCTET: Final = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4: Final = re.compile(rf"(?<![0-9.])(?:{_OCTET}\.){{3}}{_OCTET}(?![0-9]|\.[0-9])")
_IPV6: Final = re.compile(r"(?<![0-9A-Za-z:.])[0-9A-Fa-f:]{2,39}(?:\.[0-9.]{5,11})?(?![0-9A-Za-z:])")
_PHONE: Final = re.compile(
    r"(?<![0-9+])\+[1-9](?:[ \-.()]{0,2}[0-9]){7,14}(?![0-9])"
    r"|(?<![0-9])(?:\([0-9]{3}\)[ ]?|[0-9]{3}[-.])[0-9]{3}[-.][0-9]{4}(?![0-9])"
)
_SSN: Final = re.compile(
    r"(?<![0-9-])(?!000|666|9)[0-9]{3}([- ])(?!00)[0-9]{2}\1(?!0000)[0-9]{4}(?![0-9]|-[0-9])"
)
_URL_CREDENTIALS: Final = re.compile(
    r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{1,20}://(?!\[REDACTED:[a-z0-9_]{1,32}\]@)([^\s/?#@\"'<>:]{0,256}:[^\s/?#@\"'<>]{1,256})@"
)


def emails(text: str) -> Iterator[Span]:
    """Mail addresses; the local part is found backwards from the at sign."""
    if "@" not in text:
        return
    for match in _EMAIL_DOMAIN.finditer(text):
        start = at = match.start()
        while start > 0 and at - start < _LOCAL_CHARS_MAX:
            character = text[start - 1]
            if not (character.isalnum() or character in _EMAIL_LOCAL):
                break
            start -= 1
        if start < at:
            yield start, match.end()


def passes_luhn(digits: str) -> bool:
    """
    Whether the last digit is the check digit of the others.

    Example:
        >>> passes_luhn("4111111111111111")
        True
        >>> passes_luhn("4111111111111112")
        False

    """
    total = 0
    for place, digit in enumerate(reversed(digits)):
        number = ord(digit) - 48
        if place % 2:
            number = number * 2 - 9 if number > 4 else number * 2
        total += number
    return total % 10 == 0


def cards(text: str) -> Iterator[Span]:
    """Payment card numbers: 13 to 19 digits with a right check digit, also in groups."""
    shortest, longest = _CARD_DIGITS
    for run in _DIGIT_GROUPS.finditer(text):
        if run.end() - run.start() < shortest:
            continue
        groups = [match.span() for match in _DIGITS.finditer(text, run.start(), run.end())]
        first = 0
        while first < len(groups):
            # Only whole groups are joined, so that a part of a longer number is no card.
            digits = ""
            end = 0
            for last in range(first, len(groups)):
                digits += text[slice(*groups[last])]
                if len(digits) > longest:
                    break
                if len(digits) >= shortest and _is_card(digits):
                    end = last + 1
            if end:
                yield groups[first][0], groups[end - 1][1]
                first = end
            else:
                first += 1


def _is_card(digits: str) -> bool:
    """Whether digits are those of a card; the same digit over and over is not."""
    return digits[0] in _CARD_FIRST and len(set(digits)) > 1 and passes_luhn(digits)


def ibans(text: str) -> Iterator[Span]:
    """International bank account numbers of the right length and with right check digits."""
    position = 0
    while match := IBAN_START.search(text, position):
        position = match.start() + 1
        length = IBAN_LENGTHS.get(match.group()[:2].upper())
        if length is None:
            continue
        compact: list[str] = []
        index = match.start()
        gap = 0
        while index < len(text) and len(compact) < length:
            character = text[index]
            if character.isascii() and character.isalnum():
                compact.append(character)
                gap = 0
            elif character in _IBAN_SEPARATORS and gap < 2:
                gap += 1
            else:
                break
            index += 1
        is_alone = index >= len(text) or not (text[index].isascii() and text[index].isalnum())
        if len(compact) == length and is_alone and passes_mod_97("".join(compact)):
            yield match.start(), index
            position = index


def passes_mod_97(iban: str) -> bool:
    """
    Whether the check digits of a compact IBAN are right.

    Example:
        >>> passes_mod_97("DE89370400440532013000")
        True

    """
    return int("".join(str(int(character, 36)) for character in iban[4:] + iban[:4])) % 97 == 1


def ipv4_addresses(text: str) -> Iterator[Span]:
    """Addresses of IPv4 in dotted form."""
    for match in _IPV4.finditer(text):
        yield match.span()


def ipv6_addresses(text: str) -> Iterator[Span]:
    """Addresses of IPv6; names with a double colon, as in code, are not taken for one."""
    if text.count(":") < 2:
        return
    for match in _IPV6.finditer(text):
        found = match.group().rstrip(".")
        # A sentence may end after the address; a colon may follow it.
        if found.endswith(":") and not found.endswith("::"):
            found = found[:-1]
        if found.count(":") < 2 or not any(character.isdigit() for character in found):
            continue
        try:
            ipaddress.IPv6Address(found)
        except ValueError:
            continue
        yield match.start(), match.start() + len(found)


def phones(text: str) -> Iterator[Span]:
    """Telephone numbers with a plus sign, or in the North American form with separators."""
    for match in _PHONE.finditer(text):
        yield match.span()


def social_security_numbers(text: str) -> Iterator[Span]:
    """Social security numbers of the United States, with separators."""
    for match in _SSN.finditer(text):
        yield match.span()


def url_credentials(text: str) -> Iterator[Span]:
    """User and password in a URL, without the host."""
    if "://" not in text:
        return
    for match in _URL_CREDENTIALS.finditer(text):
        yield match.span(1)
