"""Parameters of requests: typed, bounded, and never content."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentguard.integrations.parameters import request_attributes
from agentguard.values import attributes as names


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"max_tokens": 5}, {names.REQUEST_MAX_TOKENS: 5}),
        ({"max_completion_tokens": 6}, {names.REQUEST_MAX_TOKENS: 6}),
        ({"max_output_tokens": 7}, {names.REQUEST_MAX_TOKENS: 7}),
        ({"max_tokens": True}, {}),
        ({"max_tokens": "5"}, {}),
        ({"temperature": 1}, {names.REQUEST_TEMPERATURE: 1.0}),
        ({"stop": "a"}, {names.REQUEST_STOP_SEQUENCES: ("a",)}),
        ({"stop_sequences": ["a", "b"]}, {names.REQUEST_STOP_SEQUENCES: ("a", "b")}),
        ({"stop": ["a", 1]}, {}),
        ({"n": 1}, {}),
        ({"n": 3}, {names.REQUEST_CHOICE_COUNT: 3}),
        ({"stream": False}, {}),
        ({"stream": True}, {names.REQUEST_STREAM: True}),
        ({"reasoning": {"effort": "high"}}, {names.REQUEST_REASONING_LEVEL: "high"}),
        ({"reasoning": "odd"}, {}),
        ({"response_format": {"type": "json_schema"}}, {names.OUTPUT_TYPE: "json"}),
        ({"text": {"format": {"type": "text"}}}, {names.OUTPUT_TYPE: "text"}),
        ({"response_mime_type": "image/png"}, {}),
        ({"messages": [{"content": "secret"}], "model": "m"}, {}),
        (None, {}),
    ],
)
def test_parameters(body: Any, expected: dict[str, object]) -> None:
    """Each under its name, with its type; the same from an object."""
    assert request_attributes(body) == expected
    if body is not None:
        assert request_attributes(SimpleNamespace(**body)) == expected


def test_an_object_that_raises() -> None:
    """What cannot be read is left out."""

    class Odd:
        max_tokens = 4

        @property
        def temperature(self) -> float:
            raise RuntimeError("no")

    assert request_attributes(Odd()) == {names.REQUEST_MAX_TOKENS: 4}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["max_tokens", "temperature", "stop", "n", "stream", "reasoning", "text", "seed", "x"])


@given(st.dictionaries(KEYS, JSON, max_size=6))
def test_any_body_is_read(body: dict[str, Any]) -> None:
    """Whatever a caller sends, the attributes are clean and few."""
    found = request_attributes(body)
    assert len(found) <= 20
    for value in found.values():
        assert isinstance(value, (bool, int, float, str, tuple))
