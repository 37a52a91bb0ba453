"""Types in the notation of schemas."""

from __future__ import annotations

import pytest

from agentguard.policy.conditions.types import DYN, INT, STRING, goes_with, join, list_of, map_of, parse_type


@pytest.mark.parametrize("text", ["int", "list<string>", "map<string, list<dyn>>", "map<int, bool>", "null"])
def test_reads_back(text: str) -> None:
    """A type is written as it is read."""
    assert str(parse_type(text)) == text


def test_short_forms_hold_dyn() -> None:
    """`list` and `map` alone."""
    assert parse_type("list") == list_of(DYN)
    assert parse_type(" map ") == map_of(DYN, DYN)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Int",
        "integer",
        "list<",
        "list<>",
        "list<int",
        "list<int>>",
        "map<int>",
        "map<double, int>",
        "map<string; int>",
        "int int",
        "list<" * 20,
        "x" * 500,
    ],
)
def test_is_no_type(text: str) -> None:
    """Everything else is refused."""
    with pytest.raises(ValueError, match=r"no type|keys of a map|longer"):
        parse_type(text)


def test_dyn_goes_with_everything_and_joins_differences() -> None:
    """Inside lists and maps, too."""
    assert goes_with(list_of(DYN), list_of(INT))
    assert not goes_with(list_of(STRING), list_of(INT))
    assert join(list_of(STRING), list_of(INT)) == list_of(DYN)
    assert join(map_of(STRING, INT), STRING) == DYN
