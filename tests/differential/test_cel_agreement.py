"""Generated conditions and facts: ours and Google's CEL give the same value, or both an error."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.differential.cel_generator import SCHEMA, Generator
from tests.differential.cel_reference import ERROR, by_reference, by_us, environment, same

# Refusals that the reference page lists, by the message of ours: never another answer.
WANTED = (
    "a text that is no number",
    "a text that is no integer",
    "a text that is no duration",
    "a number that is not finite has no text",
)


def _differences(first: int, count: int) -> tuple[list[str], Counter[str]]:
    env = environment(SCHEMA)
    found: list[str] = []
    seen: Counter[str] = Counter()
    for seed in range(first, first + count):
        generator = Generator(seed)
        pair, facts = generator.condition(), generator.facts()
        ours, theirs = by_us(pair.ours, SCHEMA, facts), by_reference(env, pair.cel, facts)
        seen[f"{ours[0]}/{theirs[0]}"] += 1
        if ours[0] == theirs[0] and (ours[0] != "value" or same(ours[1], theirs[1])):
            continue
        if ours[0] == ERROR and str(ours[1]).endswith(WANTED):
            seen["wanted"] += 1
            continue
        found.append(f"seed {seed}: {pair.ours}\n  ours   {ours}\n  theirs {theirs}")
    return found, seen


def _agrees(first: int, count: int) -> None:
    found, seen = _differences(first, count)
    assert not found, "\n".join(found[:10])
    # The test means something only while both answers and errors are plenty.
    assert seen["value/value"] > count * 0.5
    assert seen["error/error"] > count * 0.1
    assert seen["wanted"] < max(5, count * 0.002)
    assert seen["refused/refused"] < count * 0.02


def test_five_thousand_conditions_agree() -> None:
    """5,000 typed conditions with facts: values, errors and short-circuits alike."""
    _agrees(0, 5_000)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_two_hundred_thousand_conditions_agree() -> None:
    """The same for 200,000 others."""
    _agrees(1_000_000, 200_000)
