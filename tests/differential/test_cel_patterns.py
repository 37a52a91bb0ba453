"""Generated patterns and texts: `matches` answers as RE2 does behind the reference."""

from __future__ import annotations

import random

import pytest

from agentguard.errors import PolicyDocumentError
from agentguard.policy import Condition
from tests.differential.cel_generator import literal
from tests.differential.cel_reference import by_reference, environment

_ATOMS = (
    "a", "b", "c", "ab", ".", "\\d", "\\w", "\\s", "\\D", "\\W", "\\S", "[a-c]", "[^ab]", "[\\d_]", "[[:alpha:]-]", "[^\\w]",
    "\\.", "\\x61", "\\x{e9}", "é", "😀", "\\n", "\\t", "[]a]", "[a-]", "\\-", "[\\^b]", "K", "s", "{", "x{", "]", "\\_",
)  # fmt: skip
_BORDERS = ("^", "$", "\\b", "\\b", "\\A", "\\z")
_REPEATS = ("*", "+", "?", "*?", "+?", "??", "{2}", "{1,3}", "{0,2}", "{2,}", "{0}", "{1,2}?")
_FLAGS = ("(?i)", "(?s)", "(?m)", "(?im)", "(?U)")
_ALPHABET = "aabbcABkKsS1_ .é😀\n\t-x{}]^\u212a\u017f"


def _pattern(r: random.Random, depth: int) -> str:
    parts = []
    for _ in range(r.randrange(1, 4)):
        choice = r.random()
        if choice < 0.15:
            parts.append(r.choice(_BORDERS))
            continue
        if choice < 0.35 and depth:
            inner = "|".join(_pattern(r, depth - 1) for _ in range(r.randrange(1, 3)))
            opening = r.choice(("(", "(?:", "(", "(?i:", "(?s:", "(?-i:"))
            part = f"{opening}{inner})"
        elif choice < 0.4:
            part = ""
        else:
            part = r.choice(_ATOMS)
        if part and r.random() < 0.4:
            part = (f"(?:{part})" if len(part) > 1 and part[0] not in "[(\\" else part) + r.choice(_REPEATS)
        parts.append(part)
    return "".join(parts)


def _text(r: random.Random) -> str:
    return "".join(r.choice(_ALPHABET) for _ in range(r.randrange(12)))


def _agree(first: int, count: int) -> tuple[int, int]:
    env = environment({"s": "string"})
    compared = refused = 0
    for seed in range(first, first + count):
        r = random.Random(seed)
        pattern = (r.choice(_FLAGS) if r.random() < 0.25 else "") + _pattern(r, 2)
        source = f"s.matches({literal(pattern)})"
        try:
            condition = Condition.compile(source, {"s": "string"})
        except PolicyDocumentError as error:
            assert [problem.code for problem in error.problems] == ["literal"], pattern  # noqa: PT017
            condition = None
        for _ in range(4):
            text = _text(r)
            kind, theirs = by_reference(env, source, {"s": text})
            if condition is None:
                refused += kind == "value"
                continue
            assert kind == "value", (pattern, theirs)
            ours = condition.evaluate({"s": text})
            assert ours == theirs, f"seed {seed}: {pattern!r} in {text!r}: ours {ours}, RE2 {theirs}"
            compared += 1
    return compared, refused


def test_patterns_match_what_re2_matches() -> None:
    """2,000 patterns on four texts each; what RE2 knows and we do not is refused, and rare."""
    compared, refused = _agree(0, 2_000)
    assert compared > 5_000
    assert refused < compared * 0.2


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_many_patterns_match_what_re2_matches() -> None:
    """The same for 50,000 others."""
    compared, _ = _agree(10_000, 50_000)
    assert compared > 100_000
