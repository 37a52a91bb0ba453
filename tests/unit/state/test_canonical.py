"""RFC 8785: the standard's own examples, and what is refused."""

from __future__ import annotations

import json
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentguard.errors import PolicyEvaluationError
from agentguard.state import canonical_json, freeze_action

# RFC 8785 appendix B: IEEE 754 bits and the text they must become.
NUMBERS = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555554": "333333333.33333325",
    "41b3de4355555555": "333333333.3333333",
    "41b3de4355555556": "333333333.3333334",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}


@pytest.mark.parametrize(("bits", "text"), NUMBERS.items())
def test_numbers_of_the_standard(bits: str, text: str) -> None:
    """RFC 8785 appendix B."""
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical_json(value).decode() == text


def test_keys_of_the_standard() -> None:
    """RFC 8785 section 3.2.3: keys stand in the order of their UTF-16 code units."""
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\x80", "\xf6"]
    written = canonical_json(dict.fromkeys(keys, 0))
    assert list(json.loads(written)) == ["\r", "1", "\x80", "\xf6", "\u20ac", "\U0001f600", "\ufb33"]


def test_strings_of_the_standard() -> None:
    """RFC 8785 section 3.2.2: short escapes where there are any, else \\u and small letters, else the character."""
    assert (
        canonical_json({"string": '\u20ac$\x0f\nA\'B"\\\\"/'}).decode()
        == '{"string":"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (2**53, "beyond"),
        (-(2**53), "beyond"),
        (math.nan, "finite"),
        (math.inf, "finite"),
        ("\ud800", "UTF-8"),
        ({"\ud800": 1}, "UTF-8"),
        ({1: 2}, "key of type int"),
        (b"x", "bytes"),
        ({1, 2}, "set"),
        (object(), "object"),
        (type("Text", (str,), {})("x"), "Text"),
        (type("Number", (int,), {})(1), "Number"),
        (type("Map", (dict,), {})(), "Map"),
        ("x" * (1 << 20), "bytes as JSON"),
    ],
)
def test_what_is_refused(value: object, message: str) -> None:
    """What two programs could read differently has no canonical text."""
    with pytest.raises(PolicyEvaluationError, match=message):
        canonical_json({"v": value})


def test_depth_is_bounded() -> None:
    """A list that holds itself ends in a refusal."""
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(PolicyEvaluationError, match="deep"):
        canonical_json(loop)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(PLAIN)
def test_it_reads_back(value: object) -> None:
    """JSON readers get the same value, and writing that again gives the same bytes."""
    written = canonical_json(value)
    # Large whole doubles are written without a point; ECMAScript reads every number as a double.
    again = json.loads(written, parse_int=lambda text: float(text) if abs(int(text)) >= 2**53 else int(text))
    assert again == value
    assert canonical_json(again) == written


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), PLAIN, max_size=4))
def test_order_of_keys_does_not_matter(value: dict[str, object]) -> None:
    """Two dicts that are equal have one text."""
    assert canonical_json(dict(reversed(value.items()))) == canonical_json(value)


def test_the_action_is_a_copy() -> None:
    """Whoever changes the arguments afterwards changes nothing of what was hashed and will run."""
    args = {"to": ["bob"], "usd": 5.0}
    action = freeze_action("tool.before", tool="pay", args=args, principal="al")
    args["to"].append("eve")
    assert action.args == {"to": ["bob"], "usd": 5.0}
    assert action.digest != freeze_action("tool.before", tool="pay", args=args, principal="al").digest


@pytest.mark.parametrize("field", ["tool", "model", "agent", "principal"])
def test_every_field_counts(field: str) -> None:
    """The digest covers what is called, by whom and for whom."""
    plain = freeze_action("tool.before", args={"a": 1})
    assert plain.digest != freeze_action("tool.before", args={"a": 1}, **{field: "x"}).digest
    assert plain.digest != freeze_action("tool.after", args={"a": 1}).digest


def test_names_of_arguments_are_text() -> None:
    """A key that only looks like text is refused."""
    with pytest.raises(PolicyEvaluationError, match="key"):
        freeze_action("tool.before", args={type("Text", (str,), {})("x"): 1})
