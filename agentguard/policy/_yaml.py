"""
Strict YAML 1.2 into nodes that know their place.

Nothing is constructed: every scalar stays the text that it was. What a policy file needs not have is refused: anchors and
aliases (bombs), tags, merge keys, duplicate keys, directives of other versions,
invisible characters that make a file read otherwise than it is.
"""

from __future__ import annotations

import re

from agentguard.policy._nodes import Node, Scalar
from agentguard.policy._problems import Problems, Source
from agentguard.policy._yaml_quick import parse_quickly

DOCUMENT_BYTES_MAX = 1 << 20
"""Size of one file."""

LINE_CHARACTERS_MAX = 20_000
"""Characters of one line: longer ones are for no reader, and slow to scan."""

_HIDDEN = re.compile("[\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff\x85\u2028\u2029]")


def decode(source_path: str, data: bytes, problems: Problems) -> str | None:
    """
    Turn bytes into text, or note why they are none.

    Args:
        source_path:
            The file as it was named.
        data:
            At most `DOCUMENT_BYTES_MAX` bytes are taken.
        problems:
            Where a problem goes.

    Returns:
        The text, or None after a problem.
    """
    source = Source(source_path)
    if len(data) > DOCUMENT_BYTES_MAX:
        problems.add(
            source, 0, 0, f"more than {DOCUMENT_BYTES_MAX} bytes", code="file-too-large",
            hint="split it; every file of the folder is loaded",
        )  # fmt: skip
        return None
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        problems.add(
            source, 1, 1, "encoded in UTF-16, expected UTF-8", code="encoding", hint="save the file as UTF-8"
        )
        return None
    if data.startswith(b"\xef\xbb\xbf"):
        problems.add(
            source, 1, 1, "begins with a byte order mark, expected plain UTF-8", code="byte-order-mark",
            hint="save the file as UTF-8 without BOM",
        )  # fmt: skip
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        line = before.count("\n") + 1
        column = len(before) - (before.rfind("\n") + 1) + 1
        problems.add(
            source, line, column, f"byte 0x{data[error.start]:02x} is not UTF-8", code="encoding",
            hint="save the file as UTF-8",
        )  # fmt: skip
        return None


def parse(source: Source, text: str, problems: Problems) -> list[Node]:
    """
    Read all documents of one file.

    Args:
        source:
            The file, for excerpts.
        text:
            Its content.
        problems:
            Where problems go; after one in the syntax nothing more of the file is read.

    Returns:
        One node a document; empty after a problem in the syntax.
    """
    hidden = _HIDDEN.search(text)
    if hidden:
        line = text.count("\n", 0, hidden.start()) + 1
        column = hidden.start() - text.rfind("\n", 0, hidden.start())
        problems.add(
            source, line, column, f"invisible character U+{ord(hidden[0]):04X}", code="hidden-character",
            hint="remove it: it can make a rule read otherwise than it is",
        )  # fmt: skip
        return []
    for number, line_text in enumerate(source.lines, 1):
        if len(line_text) > LINE_CHARACTERS_MAX:
            problems.add(
                source,
                number,
                1,
                f"a line of more than {LINE_CHARACTERS_MAX} characters",
                code="file-too-large",
            )
            return []
    quick = parse_quickly(text)
    if quick is not None:
        return quick
    # Late: most files are written in the usual way, and the general parser is a megabyte of code.
    from agentguard.policy._yaml_events import parse_generally

    return parse_generally(source, text, problems)


def positions(source: Source, scalar: Scalar) -> list[tuple[int, int]] | None:
    """
    Find where each character of a scalar stands in its file.

    Folding and indentation change white space only, so the other characters
    are met in the same order; a single quote within single quotes is written
    twice.

    Args:
        source:
            The file.
        scalar:
            A text of it.

    Returns:
        Line and column from 1 of each character, one more for the end; None where the text has
        escapes, so that only its beginning has a place.
    """
    line, column = scalar.line - 1, scalar.column - 1
    if scalar.style in ("|", ">"):
        line, column = line + 1, 0
    elif scalar.style:
        column += 1
    places: list[tuple[int, int]] = []
    lines = source.lines
    last = (scalar.line, scalar.column)
    for character in scalar.text:
        if character.isspace():
            places.append((last[0], last[1] + 1))
            last = places[-1]
            continue
        while line < len(lines) and (column >= len(lines[line]) or lines[line][column].isspace()):
            if column >= len(lines[line]):
                line, column = line + 1, 0
            else:
                column += 1
        if line >= len(lines) or lines[line][column] != character:
            return None
        last = (line + 1, column + 1)
        places.append(last)
        column += 2 if character == "'" and scalar.style == "'" else 1
    places.append((last[0], last[1] + 1) if places else last)
    return places
