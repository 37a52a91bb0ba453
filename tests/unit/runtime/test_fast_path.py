"""The fast path says exactly what the long way says: programs of calls, each run with and without it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentguard.runtime.active import ACTIVE
from tests.support.two_ways import World, program_of, register_mood

PROGRAMS = st.binary(min_size=1, max_size=150).map(program_of)
PATTERNS = st.lists(st.booleans(), min_size=1, max_size=5)

Pair = tuple[World, World]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Pair]]:
    """Worlds in pairs, the first with the fast path."""
    register_mood()
    settings_of: dict[str, dict[str, Any]] = {
        "usual": {"rules": "usual"},
        "agents": {"rules": "agents"},
        "none": {"rules": None},
        "off": {"rules": "usual", "otel": "off"},
        "compat": {"rules": None, "otel": "isolated", "semconv": "compat"},
        "metadata": {"rules": "agents", "capture": "metadata"},
        "after": {"rules": "after"},
        "counting": {"rules": "counting"},
        "real": {"rules": "agents", "is_real": True},
    }
    made: dict[str, Pair] = {}
    for name, given_ in settings_of.items():
        fast, slow = (
            World(tmp_path_factory.mktemp(name), is_fast=is_fast, **given_) for is_fast in (True, False)
        )
        made[name] = fast, slow
    yield made
    for pair in made.values():
        for world in pair:
            world.close()
    ACTIVE.runtime, ACTIVE.is_off = None, False


def _check(pair: Pair, seeds: range) -> None:
    """Compare two worlds in programs drawn at random, then in those that hypothesis thinks of."""
    fast, slow = pair
    for seed in seeds:
        draw = random.Random(seed)
        program = program_of(draw.randbytes(draw.choice([10, 40, 100, 200])))
        pattern = [draw.random() < 0.5 for _ in range(5)]
        assert fast.play(program, pattern) == slow.play(program, pattern), seed

    # The functions have been called by now, so that most calls can take the fast path.
    @settings(max_examples=len(seeds))
    @given(PROGRAMS, PATTERNS)
    def check(program: Any, pattern: Any) -> None:
        assert fast.play(program, pattern) == slow.play(program, pattern)

    check()


@pytest.mark.parametrize("name", ["usual", "agents", "none", "off", "compat"])
def test_the_fast_path_says_what_the_long_way_says(pairs: dict[str, Pair], name: str) -> None:
    """Spans, records, results, errors, counters and rates of a program are the same both ways."""
    _check(pairs[name], range(25))


def test_the_store_and_the_log_keep_the_same(pairs: dict[str, Pair]) -> None:
    """What is read back from the disk is the same too: the store's writer reads short spans by another way."""
    _check(pairs["real"], range(15))


@pytest.mark.parametrize("name", ["secretive", "aio", "a", "priced"])
def test_rules_that_come_into_force_while_a_call_runs_judge_its_result(
    pairs: dict[str, Pair], name: str
) -> None:
    """A call that began before there were rules about results is judged by those there are when it ends."""
    fast, slow = pairs["agents"]
    usual = ("call", name, [], "secret", "one", True)
    changing = ("call", name, [("rules", "after")], "secret", "one", True)
    before = fast.fast_calls
    told = fast.play([usual, usual, changing, usual])
    assert told == slow.play([usual, usual, changing, usual])
    assert fast.fast_calls > before
    assert (name != "secretive") or "CallDenied" in repr(told[0])


@pytest.mark.long
@pytest.mark.parametrize(
    "name", ["usual", "agents", "none", "off", "compat", "metadata", "after", "counting", "real"]
)
def test_the_two_ways_agree_in_many_programs(pairs: dict[str, Pair], name: str) -> None:
    """The same of many more programs, under other rules too; most calls could have been on the fast path."""
    fast, slow = pairs[name]
    calls, fast_calls = fast.calls, fast.fast_calls
    # What is on the disk is read whole after each program, so there are fewer of those.
    _check(pairs[name], range(100, 140 if fast.is_real else 500))
    # A test of two long ways would say nothing.
    assert slow.fast_calls == 0
    assert fast.is_real or fast.fast_calls - fast_calls > (fast.calls - calls) // 20
