"""
One escaper per sink: whatever is printed passes through exactly one of these.

Takes text that may come from a model, a tool or a stranger, gives text that
does nothing but be read. Pure; knows no sink by itself.
"""

from __future__ import annotations

import html as _html
import re
from typing import Final

_DANGEROUS_RANGES: Final = (
    "\x00-\x1f\x7f-\x9f"  # C0, DEL and C1: escape sequences begin here
    "\u00ad"  # soft hyphen
    "\u034f"  # combining grapheme joiner, invisible
    "\u061c"  # Arabic letter mark
    "\u115f\u1160\u3164\uffa0"  # Hangul fillers, invisible
    "\u17b4\u17b5"  # Khmer inherent vowels, invisible
    "\u180b-\u180f"  # Mongolian selectors and vowel separator
    "\u200b-\u200f"  # zero-width characters and direction marks
    "\u2028-\u202e"  # line and paragraph separator, bidirectional embeddings and overrides
    "\u2060-\u206f"  # word joiner, invisible operators, isolates
    "\ufe00-\ufe0f"  # variation selectors
    "\ufeff"  # byte order mark
    "\ufff9-\ufffb"  # interlinear annotation
    "\ud800-\udfff"  # lone surrogates: they cannot be encoded, so printing them would raise
    "\U0001d173-\U0001d17a"  # musical format characters
    "\U000e0000-\U000e0fff"  # tags and more variation selectors
)

_DANGEROUS: Final = re.compile(f"[{_DANGEROUS_RANGES}]")
_DANGEROUS_BUT_NEWLINE: Final = re.compile(f"(?!\n)[{_DANGEROUS_RANGES}]")
_DANGEROUS_IN_HTML: Final = re.compile(f"(?![\n\t])[{_DANGEROUS_RANGES}]")
_FORMULA_START: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def _visible(match: re.Match[str]) -> str:
    """Show one character by its number."""
    number = ord(match.group())
    if number <= 0xFF:
        return f"\\x{number:02x}"
    if number <= 0xFFFF:
        return f"\\u{number:04x}"
    return f"\\U{number:08x}"


def terminal(text: str, *, keep_newlines: bool = False) -> str:
    r"""
    Make text safe to print on a terminal.

    Control characters (C0, DEL, C1), bidirectional marks, zero-width and other
    invisible characters are shown by their number. Nothing else is changed, so
    a backslash that was in the text looks like one that was put in: the result
    is for reading, not for decoding.

    Args:
        text:
            Anything.
        keep_newlines:
            Leave line feeds as they are, for text that owns its lines.

    Returns:
        Text without characters that move the cursor, hide or reorder.

    Example:
        >>> terminal("a\x1b[31mred")
        'a\\x1b[31mred'
        >>> terminal("user\u202etxt.exe")
        'user\\u202etxt.exe'
    """
    pattern = _DANGEROUS_BUT_NEWLINE if keep_newlines else _DANGEROUS
    return pattern.sub(_visible, text)


def html(text: str) -> str:
    """
    Make text safe inside HTML elements and quoted attribute values.

    Besides the five characters of HTML, controls and invisible characters are
    shown by their number, because a bidirectional override reorders a page too.
    Not for use inside script or style elements, nor for attributes that hold
    URLs or code.

    Example:
        >>> html('<b title="x">')
        '&lt;b title=&quot;x&quot;&gt;'
    """
    return _html.escape(_DANGEROUS_IN_HTML.sub(_visible, text), quote=True)


def csv_cell(text: str) -> str:
    """
    Keep a spreadsheet from reading a cell as a formula.

    A cell that begins with `=`, `+`, `-`, `@`, a tab, a line break or the
    full-width forms of these (also after blanks) gets an apostrophe before it.
    Quoting of commas and quotes stays the work of the csv writer; NUL is
    shown by its number, since csv readers refuse it.

    Returns:
        The cell. A number such as "-3" gets the apostrophe too: format numbers
        as numbers, and pass only text through here.

    Example:
        >>> csv_cell("=HYPERLINK(1)")
        "'=HYPERLINK(1)"
        >>> csv_cell("plain")
        'plain'

    Source: OWASP, CSV Injection.
    """
    safe = text.replace("\x00", "\\x00")
    if safe.startswith(_FORMULA_START) or safe.lstrip().startswith(_FORMULA_START):
        return "'" + safe
    return safe


def log_line(text: str) -> str:
    r"""
    Make text safe inside one line of a log.

    Line feeds become the two characters backslash and n, so that text cannot
    forge a second record; the rest is as in `terminal`.

    Example:
        >>> log_line("ok\nERROR forged")
        'ok\\nERROR forged'
    """
    return terminal(text.replace("\r", "\\r").replace("\n", "\\n").replace("\t", "\\t"))
