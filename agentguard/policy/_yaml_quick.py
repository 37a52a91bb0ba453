"""
The way in which policy files are mostly written, read quickly.

A general parser of YAML looks at every character, and takes most of the time of
a load. What is read here is a small part of the language: block mappings and
lists, plain and quoted text on one line, `|` and `>`, flow collections on one
line, comments. Whatever is written in another way, and whatever is wrong, is
not judged here: the answer is None, and the general parser reads the whole file.
So what is read, and what is refused, is the same with and without this module;
tests compare the nodes of both, place by place.
"""

from __future__ import annotations

import re

from agentguard.policy._nodes import DEPTH_MAX, NODES_MAX, Fields, Items, Node, Scalar

_PRINTABLE = re.compile("[\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")
_START = r"(?:[A-Za-z0-9_./~($+]|-(?=[0-9]))"
_PLAIN = re.compile(_START + r"(?:[^ :#]|:(?=[^ ])|(?<=[^ ])#| +(?=[^ :#]))*+(?= *$| +#)")
_FLOW_PLAIN = re.compile(
    _START + r"(?:[^ :#,\[\]{}?]|:(?=[A-Za-z0-9_./])| +(?=[^ :#,\[\]{}?]))*+(?= *[,\]}])"
)
_KEY = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]{0,100}):(?: +(?=[^ #])|(?= *$| +#))")
_FLOW_KEY = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]{0,100}): +(?=[^ #])")
_SINGLE = re.compile(r"'((?:[^']|'')*+)'")
_DOUBLE = re.compile(r'"([^"\\]*+)"')
_BLOCK = re.compile(r"([|>])(-?)(?= *$| +#)")
_END = re.compile(r" *(?: #.*)?")
_SPACES = re.compile(r" *")


class _OtherwiseError(Exception):
    """Something is written in a way that is not read here."""


def parse_quickly(text: str) -> list[Node] | None:
    """
    Read a file of one document, where it is written in the usual way.

    Args:
        text:
            The content of the file.

    Returns:
        Its document, as the general parser would give it; None where that one has to look.
    """
    if not text.endswith("\n") or not _PRINTABLE.fullmatch(text):
        return None
    try:
        return [_Quick(text).document()]
    except _OtherwiseError:
        return None


class _Quick:
    """Reads one text, line by line."""

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        self._nodes = 0
        self._depth = 0

    def document(self) -> Node:
        """Read the one mapping of which the file consists."""
        at = self._content(0)
        if at == len(self._lines) or self._indent(at):
            raise _OtherwiseError
        node, after = self._mapping(at, 0)
        if after != len(self._lines):
            raise _OtherwiseError
        return node

    def _content(self, at: int) -> int:
        """The next line that holds more than a comment, from *at* on."""
        lines = self._lines
        while at < len(lines):
            text = lines[at].lstrip(" ")
            if text and text[0] != "#":
                return at
            at += 1
        return at

    def _indent(self, at: int) -> int:
        """Spaces before the content of a line; -1 behind the last."""
        if at == len(self._lines):
            return -1
        line = self._lines[at]
        return len(line) - len(line.lstrip(" "))

    def _count(self) -> None:
        """One more node; what may be too large is left to the general parser."""
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise _OtherwiseError

    def _deeper(self) -> None:
        self._count()
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise _OtherwiseError

    def _mapping(self, at: int, column: int) -> tuple[Fields, int]:
        """Read a block mapping whose keys stand in *column*; give it and the line after it."""
        self._deeper()
        found = Fields(at + 1, column + 1)
        while True:
            match = _KEY.match(self._lines[at], column)
            if match is None or match[1] in found.entries:
                raise _OtherwiseError
            self._count()
            key = Scalar(match[1], at + 1, column + 1)
            value: Node
            if match.end() < len(self._lines[at]) and self._lines[at][match.end()] != " ":
                value, after = self._value(at, match.end(), column)
            else:
                after = self._content(at + 1)
                inner = self._indent(after)
                if inner >= column and self._lines[after].startswith("- ", inner):
                    value, after = self._sequence(after, inner)
                elif inner > column:
                    value, after = self._mapping(after, inner)
                else:
                    raise _OtherwiseError
            found.entries[key.text] = (key, value)
            at = after
            indent = self._indent(at)
            if indent != column:
                break
        if indent > column:
            raise _OtherwiseError
        self._depth -= 1
        return found, at

    def _sequence(self, at: int, column: int) -> tuple[Items, int]:
        """Read a block list whose dashes stand in *column*; give it and the line after it."""
        self._deeper()
        found = Items(at + 1, column + 1)
        while True:
            line = self._lines[at]
            inner = _end_of(_SPACES, line, column + 1)
            if inner == len(line) or line[inner] == "#":
                raise _OtherwiseError
            item: Node
            if _KEY.match(line, inner):
                item, at = self._mapping(at, inner)
            else:
                item, at = self._value(at, inner, column)
            found.items.append(item)
            indent = self._indent(at)
            if indent != column or not self._lines[at].startswith("- ", column):
                break
        if indent > column:
            raise _OtherwiseError
        self._depth -= 1
        return found, at

    def _value(self, at: int, column: int, parent: int) -> tuple[Node, int]:
        """Read what begins at one place of a line, below a collection that stands in column *parent*."""
        line = self._lines[at]
        node: Node
        if line[column] in "|>":
            return self._block(at, column, parent)
        if line[column] in "[{":
            node, end = self._flow(at, column)
        else:
            node, end = self._scalar(_PLAIN, at, column)
        if _END.fullmatch(line, end) is None:
            raise _OtherwiseError
        after = self._content(at + 1)
        if self._indent(after) > parent:
            # The text goes on, or it is a mistake.
            raise _OtherwiseError
        return node, after

    def _scalar(self, plain: re.Pattern[str], at: int, column: int) -> tuple[Scalar, int]:
        """Read a text of one line; give it and the column after it."""
        self._count()
        line = self._lines[at]
        style = line[column]
        if style not in "'\"":
            match = plain.match(line, column)
            if match is None:
                raise _OtherwiseError
            return Scalar(match[0], at + 1, column + 1), match.end()
        match = (_SINGLE if style == "'" else _DOUBLE).match(line, column)
        if match is None:
            raise _OtherwiseError
        text = match[1].replace("''", "'") if style == "'" else match[1]
        return Scalar(text, at + 1, column + 1, style), match.end()

    def _block(self, at: int, column: int, parent: int) -> tuple[Scalar, int]:
        """Read a text of several lines, after `|` or `>`."""
        self._count()
        head = _BLOCK.match(self._lines[at], column)
        first = at + 1
        if head is None or first >= len(self._lines) or not self._lines[first].strip(" "):
            raise _OtherwiseError
        indent = self._indent(first)
        if indent <= parent:
            raise _OtherwiseError
        after = first
        found: list[str] = []
        for after in range(first, len(self._lines)):
            line = self._lines[after]
            if line and not line.strip(" "):
                raise _OtherwiseError
            if line and self._indent(after) < indent:
                break
            found.append(line[indent:])
        while found and not found[-1]:
            found.pop()
        if head[1] == ">":
            if any(not text or text[0] == " " for text in found):
                raise _OtherwiseError
            text = " ".join(found)
        else:
            text = "\n".join(found)
        rest = self._lines[after].lstrip(" ")
        if (rest and self._indent(after) > parent) or rest.startswith("#"):
            raise _OtherwiseError
        return Scalar(text + ("" if head[2] else "\n"), at + 1, column + 1, head[1]), self._content(after)

    def _flow(self, at: int, column: int) -> tuple[Node, int]:
        """Read a list or mapping that begins and ends in one line; give it and the column after it."""
        self._deeper()
        line = self._lines[at]
        is_list = line[column] == "["
        end = "]" if is_list else "}"
        items = Items(at + 1, column + 1)
        fields = Fields(at + 1, column + 1)
        place = _end_of(_SPACES, line, column + 1)
        if line.startswith(end, place):
            self._depth -= 1
            return items if is_list else fields, place + 1
        while True:
            key: Scalar | None = None
            if not is_list:
                match = _FLOW_KEY.match(line, place)
                if match is None or match[1] in fields.entries:
                    raise _OtherwiseError
                self._count()
                key = Scalar(match[1], at + 1, place + 1)
                place = match.end()
            if place >= len(line):
                raise _OtherwiseError
            value: Node
            if line[place] in "[{":
                value, place = self._flow(at, place)
            else:
                value, place = self._scalar(_FLOW_PLAIN, at, place)
            if key is None:
                items.items.append(value)
            else:
                fields.entries[key.text] = (key, value)
            place = _end_of(_SPACES, line, place)
            if line.startswith(end, place):
                self._depth -= 1
                return items if is_list else fields, place + 1
            if not line.startswith(",", place):
                raise _OtherwiseError
            place = _end_of(_SPACES, line, place + 1)


def _end_of(pattern: re.Pattern[str], line: str, start: int) -> int:
    """Where a pattern that always fits ends."""
    match = pattern.match(line, start)
    return match.end() if match else start
