r"""
Reading a regular expression of RE2 into its parts.

What RE2 has and this does not (Unicode classes, `\Q...\E`, `\C`, `\B`, folding of other
letters than ASCII) is refused with its name; what RE2 refuses (look-around,
back references, possessive repeats) is refused, too.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from agentguard.policy.conditions.limits import PATTERN_CHARS_MAX, PATTERN_REPEAT_MAX

_LAST: Final = 0x10FFFF
_GROUPS_MAX: Final = 40


@dataclass(frozen=True, slots=True)
class CharSet:
    """One character out of ranges of code points."""

    ranges: tuple[tuple[int, int], ...]
    lows: tuple[int, ...] = field(init=False, repr=False, compare=False)
    highs: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        merged: list[tuple[int, int]] = []
        for low, high in sorted(self.ranges):
            if merged and low <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(merged[-1][1], high))
            else:
                merged.append((low, high))
        object.__setattr__(self, "ranges", tuple(merged))
        object.__setattr__(self, "lows", tuple(low for low, _ in merged))
        object.__setattr__(self, "highs", tuple(high for _, high in merged))

    def holds(self, code: int) -> bool:
        """Whether a code point is in the set."""
        place = bisect_right(self.lows, code) - 1
        return place >= 0 and code <= self.highs[place]


@dataclass(frozen=True, slots=True)
class Assertion:
    """A border: `^`, `$` of the text, `m^`, `m$` of a line, `b` of a word."""

    kind: str


@dataclass(frozen=True, slots=True)
class Sequence:
    """One part after the other."""

    parts: tuple[Syntax, ...]


@dataclass(frozen=True, slots=True)
class Alternatives:
    """One part or the other."""

    options: tuple[Syntax, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """A part several times; `most` None: without end."""

    part: Syntax
    least: int
    most: int | None


Syntax: TypeAlias = CharSet | Assertion | Sequence | Alternatives | Repeat


def chars(text: str) -> CharSet:
    """The set of the characters of a text."""
    return CharSet(tuple((ord(char), ord(char)) for char in text))


def span(low: str, high: str) -> tuple[int, int]:
    """A range by its ends."""
    return ord(low), ord(high)


def negated(of: CharSet) -> CharSet:
    """All characters that are not in the set."""
    found: list[tuple[int, int]] = []
    at = 0
    for low, high in of.ranges:
        if low > at:
            found.append((at, low - 1))
        at = high + 1
    if at <= _LAST:
        found.append((at, _LAST))
    return CharSet(tuple(found))


ANY: Final = CharSet(((0, _LAST),))
_NOT_NEWLINE: Final = negated(chars("\n"))
_DIGIT = CharSet((span("0", "9"),))
_WORD = CharSet((span("0", "9"), span("A", "Z"), span("a", "z"), (95, 95)))
_SPACE = chars("\t\n\f\r ")
_PERL: Final = {"d": _DIGIT, "w": _WORD, "s": _SPACE}
_POSIX: Final = {
    "alnum": CharSet((span("0", "9"), span("A", "Z"), span("a", "z"))),
    "alpha": CharSet((span("A", "Z"), span("a", "z"))),
    "ascii": CharSet(((0, 127),)),
    "blank": chars("\t "),
    "cntrl": CharSet(((0, 31), (127, 127))),
    "digit": _DIGIT,
    "graph": CharSet((span("!", "~"),)),
    "lower": CharSet((span("a", "z"),)),
    "print": CharSet((span(" ", "~"),)),
    "punct": CharSet((span("!", "/"), span(":", "@"), span("[", "`"), span("{", "~"))),
    "space": chars("\t\n\v\f\r "),
    "upper": CharSet((span("A", "Z"),)),
    "word": _WORD,
    "xdigit": CharSet((span("0", "9"), span("A", "F"), span("a", "f"))),
}
_CONTROL: Final = {"a": 7, "f": 12, "t": 9, "n": 10, "r": 13, "v": 11}
_COUNT = re.compile(r"\{(\d+)(?:(,)(\d*))?\}", re.ASCII)
_GROUP = re.compile(
    r"\(\?(?:P?<(?P<name>[A-Za-z_][A-Za-z0-9_]*)>|(?P<on>[imsU]*)(?P<off>-[imsU]+)?(?P<end>[:)]))"
)
_FOLD_EXTRA: Final = {"k": 0x212A, "s": 0x17F}
"""Letters outside ASCII that fold to ASCII ones: the Kelvin sign and the long s."""


def parse_regex(text: str) -> Syntax:
    """
    Read a regular expression.

    Raises:
        ValueError: It is none, or uses what is not supported; the text says which.
    """
    if len(text) > PATTERN_CHARS_MAX:
        raise ValueError(f"longer than {PATTERN_CHARS_MAX} characters")
    reader = _Reader(text)
    found = reader.alternatives("")
    if reader.at < len(text):
        raise ValueError("a `)` that closes nothing")
    return found


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self._depth = 0
        self._names: set[str] = set()

    def _next(self) -> str:
        char = self.text[self.at]
        self.at += 1
        return char

    def alternatives(self, flags: str) -> Syntax:
        """Read up to the closing bracket, or the end."""
        self._depth += 1
        if self._depth > _GROUPS_MAX:
            raise ValueError(f"groups nested deeper than {_GROUPS_MAX}")
        options: list[Syntax] = []
        parts: list[Syntax] = []
        while self.at < len(self.text) and self.text[self.at] != ")":
            if self.text[self.at] == "|":
                self.at += 1
                options.append(Sequence(tuple(parts)))
                parts = []
                continue
            part, flags = self._part(flags)
            if part is not None:
                parts.append(part)
        options.append(Sequence(tuple(parts)))
        self._depth -= 1
        return options[0] if len(options) == 1 else Alternatives(tuple(options))

    def _part(self, flags: str) -> tuple[Syntax | None, str]:
        char = self.text[self.at]
        if char in "*+?":
            raise ValueError(f"nothing to repeat before `{char}`")
        if char == "(":
            group, flags = self._group(flags)
            if group is None:
                return None, flags
            return self._repeats(group), flags
        return self._repeats(self._single(flags)), flags

    def _group(self, flags: str) -> tuple[Syntax | None, str]:
        inner = flags
        if self.text.startswith("(?", self.at):
            found = _GROUP.match(self.text, self.at)
            if found is None:
                shown = self.text[self.at : self.at + 4]
                raise ValueError(f"`{shown}`: look-around and other extensions do not exist in RE2")
            if found.group("name"):
                if found.group("name") in self._names:
                    raise ValueError("a group name that stands twice")
                self._names.add(found.group("name"))
            else:
                off = (found.group("off") or "").replace("-", "")
                if not (found.group("on") or off) and found.group("end") == ")":
                    raise ValueError("`(?)` sets no flag")
                inner = "".join(sorted((set(flags) | set(found.group("on"))) - set(off)))
                if found.group("end") == ")":
                    self.at = found.end()
                    return None, inner
            self.at = found.end()
        else:
            self.at += 1
        group = self.alternatives(inner)
        if self.at >= len(self.text):
            raise ValueError("a `(` that is not closed")
        self.at += 1
        return group, flags

    def _repeats(self, part: Syntax) -> Syntax:
        repeated = False
        while self.at < len(self.text):
            char = self.text[self.at]
            least, most = 0, None
            if char in "*+?":
                self.at += 1
                least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}[char]
            else:
                found = _COUNT.match(self.text, self.at) if char == "{" else None
                if found is None:
                    break
                self.at = found.end()
                least = int(found.group(1)[:9])
                most = least if not found.group(2) else int(found.group(3)[:9]) if found.group(3) else None
                if max(least, most or 0) > PATTERN_REPEAT_MAX or (most is not None and most < least):
                    raise ValueError(f"`{found.group()[:20]}`: a count goes up to {PATTERN_REPEAT_MAX}")
            if repeated:
                raise ValueError("a repeat of a repeat; put the first one in brackets")
            repeated = True
            if self.text.startswith("?", self.at):
                self.at += 1  # lazy: it finds another match, and the same answer
            part = Repeat(part, least, most)
        return part

    def _single(self, flags: str) -> Syntax:
        char = self._next()
        if char == ".":
            return ANY if "s" in flags else _NOT_NEWLINE
        if char in "^$":
            return Assertion(("m" if "m" in flags else "") + char)
        if char == "[":
            return self._set(flags)
        if char == "\\":
            border = self.text[self.at : self.at + 1]
            if border == "B":
                # RE2 looks at bytes, so that it finds this border inside a letter such as `é`.
                raise ValueError("`\\B` is not supported")
            if border in ("b", "A", "z"):
                self.at += 1
                return Assertion({"A": "^", "z": "$"}.get(border, border))
            if border and border.lower() in _PERL:
                self.at += 1
                found = _folded(_PERL[border.lower()], flags)
                return found if border.islower() else negated(found)
            return _folded(self._escape(), flags)
        return _folded(chars(char), flags)

    def _escape(self) -> CharSet:
        if self.at >= len(self.text):
            raise ValueError("a backslash at the end")
        char = self._next()
        if char in _CONTROL:
            return CharSet(((_CONTROL[char], _CONTROL[char]),))
        if char.lower() in _PERL:
            return _PERL[char] if char in _PERL else negated(_PERL[char.lower()])
        if char == "x":
            found = re.compile(r"\{([0-9a-fA-F]{1,6})\}|([0-9a-fA-F]{2})").match(self.text, self.at)
            code = int(found.group(1) or found.group(2), 16) if found else _LAST + 1
            if found is None or code > _LAST:
                raise ValueError("`\\x` without a code such as `\\x41` or `\\x{1F600}`")
            self.at = found.end()
            return CharSet(((code, code),))
        if char.isascii() and not char.isalnum() and char.isprintable():
            return chars(char)
        if char in "pP":
            raise ValueError("Unicode classes are not supported, write the ranges")
        raise ValueError(f"the escape `\\{char}` is not supported")

    def _set(self, flags: str) -> CharSet:
        start = self.at - 1
        is_negated = self.text.startswith("^", self.at)
        if is_negated:
            self.at += 1
        ranges: list[tuple[int, int]] = []
        first = True
        while True:
            if self.at >= len(self.text):
                raise ValueError(f"a `[` that is not closed: `{self.text[start : start + 20]}`")
            if self.text[self.at] == "]" and not first:
                self.at += 1
                break
            first = False
            ranges.extend(self._range(flags))
        found = CharSet(tuple(ranges))
        return negated(found) if is_negated else found

    def _range(self, flags: str) -> tuple[tuple[int, int], ...]:
        text = self.text
        if text.startswith("[:", self.at):
            end = text.find(":]", self.at)
            if end >= 0:
                name = text[self.at + 2 : end]
                is_negated = name.startswith("^")
                if name.removeprefix("^") not in _POSIX:
                    raise ValueError(f"`[:{name[:20]}:]` is no class")
                self.at = end + 2
                found = _folded(_POSIX[name.removeprefix("^")], flags)
                return (negated(found) if is_negated else found).ranges
        if text.startswith("\\", self.at) and text[self.at + 1 : self.at + 2].lower() in ("d", "w", "s"):
            char = text[self.at + 1]
            self.at += 2
            found = _folded(_PERL[char.lower()], flags)
            return (found if char.islower() else negated(found)).ranges
        low = self._bound()
        if text.startswith("-", self.at) and text[self.at + 1 : self.at + 2] not in ("]", ""):
            self.at += 1
            high = self._bound()
            if high < low:
                raise ValueError("a range that runs backwards")
            return _folded(CharSet(((low, high),)), flags).ranges
        return _folded(CharSet(((low, low),)), flags).ranges

    def _bound(self) -> int:
        char = self._next()
        if char != "\\":
            return ord(char)
        found = self._escape()
        if found.ranges[0][0] != found.ranges[-1][1]:
            raise ValueError("a class as the end of a range")
        return found.ranges[0][0]


def _folded(of: CharSet, flags: str) -> CharSet:
    """Under `(?i)`, the set with both cases of its ASCII letters."""
    if "i" not in flags:
        return of
    extra: list[tuple[int, int]] = []
    if of.ranges[-1][1] > 127:
        raise ValueError("`(?i)` works on ASCII only, write both cases of other letters")
    for low, high in of.ranges:
        for code in range(max(low, ord("A")), min(high, ord("z")) + 1):
            char = chr(code)
            if char.isalpha():
                extra.append((ord(char.swapcase()), ord(char.swapcase())))
                if char.lower() in _FOLD_EXTRA:
                    extra.append((_FOLD_EXTRA[char.lower()], _FOLD_EXTRA[char.lower()]))
    return CharSet((*of.ranges, *extra))
