"""
From source text to tokens, as the CEL grammar has them.

Strings and numbers are decoded here. What is not CEL is a problem with its
place, and reading goes on behind it.

Source: google/cel-spec, doc/langdef.md, Syntax.
"""

from __future__ import annotations

import re
from math import inf
from typing import Final, NamedTuple

from agentguard.policy.conditions.limits import LITERAL_CHARS_MAX
from agentguard.policy.conditions.problems import Problems


class Token(NamedTuple):
    """One word of the source."""

    kind: str
    """`name`, `int`, `double`, `string`, `bytes`, `op` or `end`."""
    value: object
    """The decoded literal, the name, or the operator's text."""
    start: int
    """Characters before it."""
    end: int


RESERVED: Final = frozenset(
    [
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ]
)
"""Names that CEL keeps: they can be members, never names of their own."""

KEYWORDS: Final = frozenset(("true", "false", "null", "in"))

_SPACE = re.compile(r"(?:[ \t\r\n\f]+|//[^\n]*)+")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NUMBER = re.compile(
    r"(?P<hex>0x[0-9a-fA-F]+)(?P<hexu>[uU]?)|(?P<double>[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+"
    r"|\.[0-9]+(?:[eE][+-]?[0-9]+)?)|(?P<int>[0-9]+)(?P<intu>[uU]?)"
)
_OPERATOR = re.compile(r"&&|\|\||==|!=|<=|>=|[-+*/%!<>?:.,()\[\]{}]")
_STRING = re.compile(r"(?P<prefix>[rR]|[bB][rR]?)?(?P<quote>\"\"\"|'''|\"|')")
_ESCAPES = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", "?": "?", '"': '"', "'": "'", "`": "`",
}  # fmt: skip
_CURLY = "\u2018\u2019\u201c\u201d"
_WRONG = {
    "=": "`==` compares",
    "&": "`&&` joins two conditions",
    "|": "`||` joins two conditions",
    ";": "a condition is one expression",
    "~": "a pattern is matched with `.matches('...')`",
}


def tokens(source: str, problems: Problems) -> list[Token]:
    """
    Split a source into tokens, the last one of kind `end`.

    Args:
        source:
            The text, already bounded in length.

        problems:
            Takes what is not a token.
    """
    found: list[Token] = []
    at = 0
    while True:
        space = _SPACE.match(source, at)
        if space:
            at = space.end()
        if at >= len(source):
            found.append(Token("end", "", at, at))
            return found
        string = _STRING.match(source, at)
        if string:
            token = _string(source, string, problems)
        else:
            token = _name(source, at) or _number(source, at, problems) or _operator(source, at, problems)
        if token.kind != "skip":
            found.append(token)
        at = token.end


def _name(source: str, at: int) -> Token | None:
    found = _NAME.match(source, at)
    return Token("name", found.group(), at, found.end()) if found else None


def _number(source: str, at: int, problems: Problems) -> Token | None:
    found = _NUMBER.match(source, at)
    if not found:
        return None
    text, end = found.group(), found.end()
    follow = _NAME.match(source, end)
    if follow:
        # `1a` and `0XFF` are two words to CEL and never a sentence; one clear problem is kinder.
        problems.add(at, f"`{text}{follow.group()[:20]}` is not a number", code="syntax")
        return Token("int", 0, at, follow.end())
    if found.group("double"):
        value = float(text)
        if value == inf:
            problems.add(at, f"`{text[:40]}` is larger than a double can be", code="literal-range")
        return Token("double", value, at, end)
    if found.group("hexu") or found.group("intu"):
        problems.add(
            at,
            f"`{text[:40]}` is an unsigned integer, which conditions do not have",
            code="unsupported",
            hint=f"write `{text[:-1][:40]}`",
        )
        return Token("int", 0, at, end)
    # 2^63 itself is only valid behind a minus: the parser knows which. Longer digits than any
    # 64-bit number has are not converted at all.
    digits = text[2:] if found.group("hex") else text
    base = 16 if found.group("hex") else 10
    number = int(digits, base) if len(digits.lstrip("0")) <= 20 else 1 << 64
    return Token("int", number, at, end)


def _operator(source: str, at: int, problems: Problems) -> Token:
    found = _OPERATOR.match(source, at)
    if found:
        return Token("op", found.group(), at, found.end())
    char = source[at]
    if char == "=":
        problems.add(at, "`=` is no operator", code="syntax", hint="`==` compares")
        return Token("op", "==", at, at + 1)
    if char in "&|":
        problems.add(at, f"`{char}` is no operator", code="syntax", hint=_WRONG[char])
        return Token("op", char * 2, at, at + 1)
    end = at + 1
    shown = char if char.isprintable() else f"U+{ord(char):04X}"
    hint = _WRONG.get(char, "")
    if char in _CURLY:
        hint = "text stands in straight quotes"
        end = next((n + 1 for n in range(end, len(source)) if source[n] in _CURLY or source[n] == "\n"), end)
        problems.add(at, f"`{shown}` is no quote", code="syntax", hint=hint)
        return Token("string", source[at + 1 : end - 1], at, end)
    problems.add(at, f"`{shown}` has no place in a condition", code="syntax", hint=hint)
    return Token("skip", "", at, end)


def _string(source: str, opening: re.Match[str], problems: Problems) -> Token:
    """Read one string or bytes literal; an unclosed one ends with its line."""
    start, quote = opening.start(), opening.group("quote")
    prefix = (opening.group("prefix") or "").lower()
    is_raw, is_bytes = "r" in prefix, "b" in prefix
    at = opening.end()
    while True:
        if at >= len(source) or (len(quote) == 1 and source[at] in "\r\n"):
            problems.add(start, f"a text that begins with {quote} does not end", code="syntax")
            return Token("bytes" if is_bytes else "string", b"" if is_bytes else "", start, at)
        if source.startswith(quote, at):
            break
        at += 2 if source[at] == "\\" and not is_raw and at + 1 < len(source) else 1
    body, end = source[opening.end() : at], at + len(quote)
    if is_raw and (len(body) - len(body.rstrip("\\"))) % 2:
        # To CEL's grammar the quote ends the text, to its readers the backslash keeps it open.
        problems.add(start, "a raw text cannot end in a single backslash", code="syntax")
    text = body if is_raw else _unescape(body, opening.end(), is_bytes=is_bytes, problems=problems)
    if isinstance(text, str) and is_bytes:
        try:
            value: str | bytes = text.encode()
        except UnicodeEncodeError:
            problems.add(start, "bytes hold a character that UTF-8 does not have", code="syntax")
            value = b""
    else:
        value = text
    if isinstance(value, str) and not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
        problems.add(start, "a text holds half of a surrogate pair", code="syntax")
        value = ""
    if len(value) > LITERAL_CHARS_MAX:
        problems.add(
            start, f"a literal of {len(value)} characters, at most {LITERAL_CHARS_MAX} fit", code="too-large"
        )
        value = value[:0]
    return Token("bytes" if is_bytes else "string", value, start, end)


_ESCAPE = re.compile(
    r"\\(?:[xX](?P<x>[0-9a-fA-F]{2})|u(?P<u>[0-9a-fA-F]{4})|U(?P<U>[0-9a-fA-F]{8})|(?P<o>[0-3][0-7]{2})"
    r"|(?P<c>[abfnrtv\\?\"'`]))"
)


def _unescape(body: str, start: int, *, is_bytes: bool, problems: Problems) -> str | bytes:
    r"""Decode escapes; in bytes `\xff` and `\377` are one byte, elsewhere one code point."""
    if "\\" not in body:
        return body
    text: list[str] = []
    raw = bytearray()
    at = 0
    while at < len(body):
        cut = body.find("\\", at)
        plain = body[at : cut if cut >= 0 else None]
        if is_bytes:
            raw += plain.encode("utf-8", "replace")
        else:
            text.append(plain)
        if cut < 0:
            break
        found = _ESCAPE.match(body, cut)
        if found is None:
            problems.add(
                start + cut,
                f"`{body[cut : cut + 2]}` is no escape",
                code="syntax",
                hint="write `\\\\` for a backslash, or r'...' for text without escapes",
            )
            at = cut + 2
            continue
        at = found.end()
        if found.group("c"):
            char = _ESCAPES[found.group("c")]
            raw += char.encode()
            text.append(char)
            continue
        wide = found.group("u") or found.group("U")
        if wide and is_bytes:
            problems.add(start + cut, "bytes have no `\\u` escapes", code="syntax", hint="write `\\x..`")
            continue
        code = int(found.group("o"), 8) if found.group("o") else int(found.group("x") or wide, 16)
        if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            problems.add(start + cut, "an escape that is no Unicode character", code="syntax")
            continue
        if is_bytes:
            raw.append(code)
        else:
            text.append(chr(code))
    return bytes(raw) if is_bytes else "".join(text)
