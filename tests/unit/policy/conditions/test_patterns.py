"""Patterns: what is refused, with its reason, and what stays bounded."""

from __future__ import annotations

import random

import pytest

from agentguard.policy.conditions.faults import Fault
from agentguard.policy.conditions.patterns import compile_pattern


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(a", "not closed"), ("a)", "closes nothing"), ("[a", "not closed"), ("[b-a]", "backwards"), ("*a", "nothing to repeat"), ("a|*", "nothing to repeat"),
        ("a**", "repeat of a repeat"), ("a++", "repeat of a repeat"), ("a{1}{2}", "repeat of a repeat"), ("a{2,1}", "count"), ("a{1001}", "count"),
        ("(?=a)", "look-around"), ("(?<!a)b", "look-around"), ("(?>a)", "look-around"), ("\\1", "escape"), ("\\Z", "escape"), ("\\pL", "Unicode classes"), ("\\Qa\\E", "escape"),
        ("\\C", "escape"), ("a\\B", "not supported"), ("\\", "backslash at the end"), ("\\x{110000}", "code"), ("\\xg", "code"), ("[[:nope:]]", "no class"),
        ("[a-\\d]", "end of a range"), ("(?P<n>a)(?P<n>b)", "twice"), ("(?i)é", "ASCII"), ("(?)", "no flag"), ("(" * 60 + ")" * 60, "nested deeper"), ("a" * 1_001, "longer"),
        ("((a{1,90}){1,90}){1,90}", "states"),
    ],
)  # fmt: skip
def test_refused(pattern: str, reason: str) -> None:
    """Each pattern outside the language is refused by name."""
    with pytest.raises(ValueError, match=reason):
        compile_pattern(pattern)


def test_search_gives_up_after_bounded_work() -> None:
    """A pattern of many states on a text that keeps them all alive ends in a fault, soon."""
    pattern = compile_pattern("a[ab]{300}c")
    text = "".join(random.Random(1).choices("ab", k=20_000))
    with pytest.raises(Fault, match="too long"):
        pattern.found_in(text)


def test_full_memory_does_not_change_the_answer() -> None:
    """Thousands of different characters overflow the remembered steps."""
    pattern = compile_pattern("[^x]*y$")
    text = "".join(chr(0x4E00 + n % 15_000) for n in range(40_000))
    assert pattern.found_in(text + "y") is True
    assert pattern.found_in(text + "z") is False
    assert pattern.found_in(text + "xy") is True
