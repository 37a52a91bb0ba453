"""Hundreds of wrong documents: each is refused with its place, and none opens anything."""

from __future__ import annotations

import random
import re

import pytest

from agentguard.errors import PolicyDocumentError
from agentguard.policy import load_texts
from agentguard.review import run_tests
from agentguard.values import Effect
from tests.support.policies import STARTERS, Mistake, mistakes, starters

MISTAKES = mistakes()


def test_there_are_hundreds_of_them() -> None:
    """The corpus is as large as promised, and no mistake is in it twice."""
    assert len(MISTAKES) >= 400
    assert len({mistake.data for mistake in MISTAKES}) == len(MISTAKES)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_is_refused_in_words(mistake: Mistake) -> None:
    """One exception with a place, an excerpt and a code; nothing else is raised, and little else is said."""
    check(mistake)


@pytest.mark.long
def test_more_ways_to_misspell_a_word() -> None:
    """The same for every word in four ways."""
    for mistake in mistakes(typos_each=4):
        check(mistake)


def check(mistake: Mistake) -> None:
    """Load, and look at the error."""
    with pytest.raises(PolicyDocumentError) as caught:
        load_texts({"wrong.yaml": mistake.data})
    problems = caught.value.problems
    assert 1 <= len(problems) <= (3 if "existsx" in mistake.name else 2), [
        str(problem) for problem in problems
    ]
    first = problems[0]
    if mistake.code:
        assert mistake.code in {problem.code for problem in problems}
    if mistake.line:
        assert any(problem.line == mistake.line for problem in problems), [str(p) for p in problems]
    for problem in problems:
        assert str(problem).isprintable()
        assert problem.excerpt == "" or problem.excerpt.split("\n")[1].strip() == "^"
        assert re.fullmatch(r"[a-z][a-z-]+", problem.code)
    assert str(caught.value).startswith(f"wrong.yaml:{first.line}:{first.column}: ")
    assert caught.value.__notes__ or not first.hint


@pytest.mark.parametrize("count", [4, pytest.param(100, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
def test_one_character_opens_nothing(count: int) -> None:
    """A slip outside literals is refused, or no case that was stopped runs now."""
    chance = random.Random(20_26)
    for path, text in starters().items():
        tests = (STARTERS / path.replace(".yaml", ".test.yaml")).read_text("utf-8")
        spots = _outside_literals(text)
        for place in chance.sample(spots, count):
            for wrong in (text[:place] + text[place + 1 :], text[:place] + text[place] + text[place:],
                          text[:place] + "q" + text[place + 1 :]):  # fmt: skip
                try:
                    bundle = load_texts({"p.yaml": wrong, "t.yaml": tests})
                except PolicyDocumentError:
                    continue
                for result in run_tests(bundle).results:
                    expected = next(
                        c for t in bundle.tests for c in t.cases if c.name == result.case
                    ).expect.effect
                    assert result.decision is not None
                    if expected is not Effect.ALLOW:
                        assert not result.decision.is_allowed, (path, place, wrong[place - 20 : place + 20])


def _outside_literals(text: str) -> list[int]:
    """Places that are no comment, no variable's value, and in no condition."""
    spots: list[int] = []
    at = 0
    in_vars = in_when = False
    for line in text.split("\n"):
        if not line.startswith(" "):
            in_vars = line.startswith("vars:")
        if line.strip().startswith("when:"):
            in_when = True
        elif line.strip().startswith(("then:", "- id:")):
            in_when = False
        if not in_vars and not in_when and not line.lstrip().startswith("#"):
            spots.extend(range(at, at + len(line)))
        at += len(line) + 1
    return spots
