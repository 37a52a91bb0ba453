"""What is printed does nothing but be read."""

from __future__ import annotations

import csv
import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentguard import escape

ANY_TEXT = st.text(alphabet=st.characters(), max_size=60)
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@given(ANY_TEXT)
def test_terminal_leaves_nothing_that_acts(text: str) -> None:
    """No C0, C1, bidirectional or format character survives, and the output can be encoded."""
    shown = escape.terminal(text)
    shown.encode("utf-8")
    for character in shown:
        number = ord(character)
        assert number >= 0x20
        assert not 0x7F <= number <= 0x9F
        assert character not in BIDI
        assert unicodedata.category(character) not in {"Cc", "Cs", "Zl", "Zp"}


def test_terminal_shows_every_format_character() -> None:
    """Of the format characters of Unicode only visible ones (prepended number marks and such) pass."""
    passed = [
        character
        for character in map(chr, range(0x110000))
        if unicodedata.category(character) == "Cf" and escape.terminal(character) == character
    ]
    # Arabic, Syriac, Kaithi number and poetry marks are drawn; hieroglyph and shorthand controls join signs.
    assert all(
        "\u0600" <= c <= "\u06dd" or c in "\u070f\u0890\u0891\u08e2\U000110bd\U000110cd" or c >= "\U00013430"
        for c in passed
    )


@given(ANY_TEXT)
def test_keeping_newlines_keeps_only_newlines(text: str) -> None:
    """With keep_newlines each line is what it would be alone."""
    assert escape.terminal(text, keep_newlines=True).split("\n") == [
        escape.terminal(line) for line in text.split("\n")
    ]


@given(st.text(alphabet=st.characters(codec="ascii", exclude_categories=("Cc",))))
def test_plain_text_is_unchanged(text: str) -> None:
    """Printable ASCII passes through terminal and log_line as it is."""
    assert escape.terminal(text) == text
    assert escape.log_line(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("a\u200bb", "a\\u200bb"),
        ("\U000e0041", "\\U000e0041"),
        ("\ud800", "\\ud800"),
        ("日本 é 👍", "日本 é 👍"),
    ],
)
def test_terminal_examples(text: str, shown: str) -> None:
    """Escape sequences, C1, invisible characters and lone surrogates are shown by number."""
    assert escape.terminal(text) == shown


@given(ANY_TEXT)
def test_html_leaves_no_markup(text: str) -> None:
    """No angle bracket, quote or bare ampersand is left, and no bidirectional character."""
    shown = escape.html(text)
    assert not set(shown) & (set("<>\"'") | set(BIDI))
    for part in shown.split("&")[1:]:
        assert part.startswith(("amp;", "lt;", "gt;", "quot;", "#x27;"))


@given(st.text(alphabet=st.characters(exclude_categories=("Cs",))))
def test_csv_cell_is_no_formula_and_round_trips(text: str) -> None:
    """A cell never begins as a formula, and the csv module gives it back."""
    cell = escape.csv_cell(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerow([cell, "next"])
    buffer.seek(0)
    assert next(csv.reader(buffer)) == [cell, "next"]
    assert cell.removeprefix("'") == text.replace("\x00", "\\x00") or cell == text.replace("\x00", "\\x00")


@given(ANY_TEXT)
def test_log_line_is_one_line(text: str) -> None:
    """No text can begin a second record."""
    assert len(escape.log_line(text).splitlines()) <= 1
