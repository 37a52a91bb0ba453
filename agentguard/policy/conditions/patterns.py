"""
Patterns of `matches` and `glob`: RE2's language, matched in linear time.

The pattern is read by an own parser, since the text may come from a model and
Python's `re` can take time exponential in it. It becomes an automaton whose
steps are found as the text needs them, remembered, and bounded. Whether a text
holds a match is all that is asked, so that greedy and lazy are the same.

Source: github.com/google/re2/wiki/Syntax. R. Cox, Regular Expression Matching
Can Be Simple And Fast (2007): simulation by sets of states.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from agentguard.policy.conditions.faults import Fault
from agentguard.policy.conditions.limits import PATTERN_CACHE_MAX, PATTERN_STATES_MAX, PATTERN_WORK_MAX
from agentguard.policy.conditions.regex import (
    ANY,
    Alternatives,
    Assertion,
    CharSet,
    Repeat,
    Sequence,
    Syntax,
    chars,
    negated,
    parse_regex,
)

_WORD: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_BEGIN, _END = "begin", "end"
_MATCH: Final = -1


class _State(dict[str, "_State"]):
    """A set of places in the automaton, and the steps from it that are known."""

    __slots__ = ("before", "holds_at_end", "places")

    def __init__(self, places: frozenset[int], before: str) -> None:
        super().__init__()
        self.places = places
        self.before = before
        self.holds_at_end: bool | None = None
        """Whether the text may end here with a match; None: not looked at yet."""


_FOUND: Final = _State(frozenset(), "")


class _Automaton:
    """Places and the ways between them: characters, and empty ways with a condition."""

    def __init__(self, syntax: Syntax) -> None:
        self.consuming: dict[int, tuple[CharSet, int]] = {}
        self.empty: dict[int, list[tuple[str, int]]] = {}
        self._count = 0
        self.start = self._build(syntax, _MATCH)

    def _new(self) -> int:
        self._count += 1
        if self._count > PATTERN_STATES_MAX:
            raise ValueError(f"larger than {PATTERN_STATES_MAX} states, its counts written out")
        return self._count

    def _build(self, part: Syntax, then: int) -> int:
        """Add the ways through a part that end at *then*, and return where they begin."""
        match part:
            case Sequence(parts=parts):
                for inner in reversed(parts):
                    then = self._build(inner, then)
                return then
            case Alternatives(options=options):
                place = self._new()
                self.empty[place] = [("", self._build(option, then)) for option in options]
                return place
            case Assertion(kind=kind):
                place = self._new()
                self.empty[place] = [(kind, then)]
                return place
            case Repeat(part=inner, least=least, most=most):
                return self._repeat(inner, least, most, then)
            case CharSet():
                place = self._new()
                self.consuming[place] = (part, then)
                return place

    def _repeat(self, inner: Syntax, least: int, most: int | None, then: int) -> int:
        if most is None:
            loop = self._new()
            self.empty[loop] = [("", then)]
            self.empty[loop].append(("", self._build(inner, loop)))
            then = loop
        else:
            end = then
            for _ in range(most - least):
                place = self._new()
                self.empty[place] = [("", end), ("", self._build(inner, then))]
                then = place
        for _ in range(least):
            then = self._build(inner, then)
        return then

    def reach(self, places: frozenset[int], before: str, after: str) -> set[int]:
        """All places reached by empty ways between two characters; the start is always one."""
        reached: set[int] = set()
        waiting = [*places, self.start]
        while waiting:
            place = waiting.pop()
            if place in reached:
                continue
            reached.add(place)
            for condition, to in self.empty.get(place, ()):
                if not condition or _holds(condition, before, after):
                    waiting.append(to)
        return reached


def _holds(condition: str, before: str, after: str) -> bool:
    """Whether a place between two characters is a border of the kind asked for."""
    match condition:
        case "^":
            return before == _BEGIN
        case "$":
            return after == _END
        case "m^":
            return before in (_BEGIN, "\n")
        case "m$":
            return after in (_END, "\n")
        case _:
            return (before in _WORD) != (after in _WORD)


class Pattern:
    """One pattern, ready to be looked for."""

    def __init__(self, syntax: Syntax) -> None:
        self._automaton = _Automaton(syntax)
        self._first = _State(frozenset(), _BEGIN)
        self._states: dict[tuple[frozenset[int], str], _State] = {(frozenset(), _BEGIN): self._first}
        self._known = 0

    def found_in(self, text: str) -> bool:
        """
        Whether some part of the text matches.

        Raises:
            Fault: The work grew beyond its limit, which only large counts on long
                texts do.
        """
        state = self._first
        work = PATTERN_WORK_MAX
        for char in text:
            try:
                state = state[char]
            except KeyError:
                state, cost = self._step(state, char)
                work -= cost
                if work < 0:
                    raise Fault("a pattern takes too long on this text") from None
            if state is _FOUND:
                return True
        if state.holds_at_end is None:
            state.holds_at_end = _MATCH in self._automaton.reach(state.places, state.before, _END)
        return state.holds_at_end

    def _step(self, state: _State, char: str) -> tuple[_State, int]:
        automaton = self._automaton
        reached = automaton.reach(state.places, state.before, char)
        if _MATCH in reached:
            step = _FOUND
        else:
            code = ord(char)
            places = frozenset(
                automaton.consuming[place][1]
                for place in reached
                if place in automaton.consuming and automaton.consuming[place][0].holds(code)
            )
            # Only whether the last character was a line end or of a word can matter later.
            before = char if char == "\n" else "a" if char in _WORD else " "
            if self._known >= PATTERN_CACHE_MAX:
                # Other threads go on with the states that they hold; those are only forgotten here.
                self._states = {(self._first.places, _BEGIN): self._first}
                self._first.clear()
                self._known = 0
            key = (places, before)
            step = self._states.get(key) or _State(places, before)
            self._states[key] = step
        self._known += 20 + len(step.places)
        state[char] = step
        return step, len(reached) + 1


@lru_cache(maxsize=64)
def compile_pattern(text: str) -> Pattern:
    r"""
    Read a regular expression.

    Raises:
        ValueError: It is none, is outside the part that is supported, or too large.

    Example:
        >>> compile_pattern(r"\bdrop\s+table\b").found_in("please drop  table x")
        True
    """
    return Pattern(parse_regex(text))


@lru_cache(maxsize=64)
def compile_glob(text: str) -> Pattern:
    """
    Read a glob.

    `*` is any text without `/`, `**` any text, `?` one character but `/`, `[abc]`
    and `[!a-c]` one of a set; a backslash takes the next character as it is.

    Raises:
        ValueError: A set is not closed, or the pattern is too large.

    Example:
        >>> compile_glob("/etc/**").found_in("/etc/ssh/config")
        True
        >>> compile_glob("finance-*").found_in("ops-finance-1")
        False
    """
    parts: list[Syntax] = [Assertion("^")]
    no_slash = negated(chars("/"))
    at = 0
    while at < len(text):
        char = text[at]
        at += 1
        if char == "*":
            is_deep = text.startswith("*", at)
            while text.startswith("*", at):
                at += 1
            parts.append(Repeat(ANY if is_deep else no_slash, 0, None))
        elif char == "?":
            parts.append(no_slash)
        elif char == "[":
            found, at = _glob_set(text, at)
            parts.append(found)
        elif char == "\\" and at < len(text):
            parts.append(chars(text[at]))
            at += 1
        else:
            parts.append(chars(char))
    parts.append(Assertion("$"))
    return Pattern(Sequence(tuple(parts)))


def _glob_set(text: str, at: int) -> tuple[CharSet, int]:
    end = text.find("]", at + (2 if text.startswith("!", at) else 1))
    if end < 0:
        raise ValueError("a `[` that is not closed")
    body = text[at:end]
    is_negated = body.startswith("!")
    body = body[1:] if is_negated else body
    ranges: list[tuple[int, int]] = []
    place = 0
    while place < len(body):
        if body[place + 1 : place + 2] == "-" and place + 2 < len(body):
            low, high = ord(body[place]), ord(body[place + 2])
            if low > high:
                raise ValueError("a range that runs backwards")
            ranges.append((low, high))
            place += 3
        else:
            ranges.append((ord(body[place]), ord(body[place])))
            place += 1
    found = CharSet(tuple(ranges))
    return negated(CharSet((*ranges, (ord("/"), ord("/"))))) if is_negated else found, end + 1
