"""What a decorator is told is looked at where it stands, not at the first call."""

from __future__ import annotations

from typing import Any

import pytest

import agentguard


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"effect": "wirte"}, ValueError, "effect is `wirte`, expected one of none, read, write"),
        (
            {"capture": "fulll"},
            ValueError,
            "capture is `fulll`, expected one of none, metadata, redacted, full",
        ),
        ({"name": 3}, TypeError, "name is of type int, expected str"),
        ({"attributes": ["x"]}, TypeError, "attributes are a list, expected a mapping"),
    ],
)
def test_options_that_mean_nothing_are_refused(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """Each is named with the function, what was got and what was expected."""

    def pay() -> None:
        """Stand for a tool."""

    with pytest.raises(error, match="pay`: " + message):
        agentguard.tool(**options)(pay)


def test_a_name_by_place_is_told_how_to_be_said() -> None:
    """`@agent("support")` is the mistake of a first day: the answer is what to write."""
    wrong: Any = "support"
    with pytest.raises(TypeError, match="got the text `support`, expected a function") as raised:
        agentguard.agent(wrong)
    assert raised.value.__notes__ == ['hint: write name="support"']
