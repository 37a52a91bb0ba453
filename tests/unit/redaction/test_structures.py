"""Whatever holds a text, it is looked at; the original is never touched."""

from __future__ import annotations

import collections
import copy
import dataclasses
import enum
from decimal import Decimal
from pathlib import PurePosixPath
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import pydantic
import pytest

from agentguard.redaction import Bounds, detect, is_marker, keyed_hash, redact

A, R = "ann@example.org", "[REDACTED:email]"


class Point(NamedTuple):
    """A named tuple."""

    to: str
    n: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Mail:
    """A frozen dataclass."""

    to: str
    copies: tuple[str, ...] = ()


class Model(pydantic.BaseModel):
    """A model of pydantic."""

    to: str
    inner: list[str] = []


class Colour(enum.StrEnum):
    """An enumeration."""

    RED = "red"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([A, 1, None], [R, 1, None]),
        ((A,), (R,)),
        ({A, "x"}, {R, "x"}),
        (frozenset([A]), frozenset([R])),
        ({"a": {"b": [A]}}, {"a": {"b": [R]}}),
        ({A: 1, "b@example.org": 2}, {R: 1, f"{R}#2": 2}),
        ({("x", A): 1}, {("x", R): 1}),
        (Point(A, 5), Point(R, 5)),
        (Mail(A, (A, "x")), Mail(R, (R, "x"))),
        (Model(to=A, inner=[A]), Model(to=R, inner=[R])),
        (SimpleNamespace(a=A), SimpleNamespace(a=R)),
        (collections.OrderedDict(a=A), collections.OrderedDict(a=R)),
        (collections.defaultdict(list, a=A), collections.defaultdict(list, a=R)),
        (collections.deque([A], maxlen=3), collections.deque([R], maxlen=3)),
        (MappingProxyType({"a": A}), {"a": R}),
        (A.encode(), R.encode()),
        (bytearray(A.encode()), bytearray(R.encode())),
        (b"\xff" + b" " + A.encode(), b"\xff" + b" " + R.encode()),
        (PurePosixPath(f"/home/{A}"), f"/home/{R}"),
    ],
)
def test_containers(value: Any, expected: Any) -> None:
    """A copy of the same type without the address; the original stays as it was."""
    before = copy.deepcopy(value) if not isinstance(value, MappingProxyType) else dict(value)
    found, count = redact(value, ["email"])
    assert found == expected
    assert type(found) is type(expected)
    assert count >= 1
    assert value == before
    assert detect(found, ["email"]) == ()


@pytest.mark.parametrize(
    "value",
    [[1], {"a": (1, "x")}, Colour.RED, Mail("x"), b"x", None, 1.5, Decimal(1), object(), len, Point("x")],
)
def test_without_findings_it_is_the_original(value: Any) -> None:
    """Nothing is copied where nothing is found."""
    found, count = redact(value, ["email", "card"])
    assert found is value
    assert count == 0


@pytest.mark.parametrize("number", [4111111111111111, 4111111111111111.0, Decimal(4111111111111111)])
def test_a_card_as_a_number(number: Any) -> None:
    """A card number need not be a text."""
    assert redact({"n": number}, ["card"]) == ({"n": "[REDACTED:card]"}, 1)
    assert redact(float("nan"), ["card"])[1] == 0
    assert redact(True, ["card"]) == (True, 0)


@pytest.mark.parametrize("key", ["password", "db_password", "API-Key", "client_secret", "Authorization"])
def test_keys_say_that_a_value_is_secret(key: str) -> None:
    """The value under a secret name goes, whatever it looks like."""
    cleaned, _ = redact({key: "x", "n": 1, "max_tokens": 5}, ["secret"])
    assert cleaned == {key: "[REDACTED:secret]", "n": 1, "max_tokens": 5}
    assert redact({key: [1, {"a": "b"}]}, ["secret"])[0] == {
        key: ["[REDACTED:secret]", {"a": "[REDACTED:secret]"}]
    }
    assert redact({key: "x"}, ["email"])[1] == 0


def test_paths() -> None:
    """A detection names the place, and never the text."""
    found = detect({"to": ["x", A], "body": {A: A}, "m": Mail(A)}, ["email"])
    assert [one.path for one in found] == ["to[1]", "body{0}", "body{0}", "m.to"]
    assert A not in repr(found)


def test_depth_bound() -> None:
    """Beyond the depth nothing is let through in clear."""
    value: Any = A
    for _ in range(50):
        value = [value]
    found, count = redact(value, ["email"])
    assert A not in repr(found)
    assert "[REDACTED:unsearched]" in repr(found)
    assert count == 1
    assert detect(value, ["email"])[0].kind == "unsearched"
    assert detect(found, ["email"]) == ()


def test_a_loop_in_the_data() -> None:
    """A list that holds itself ends at the bound."""
    value: list[Any] = [A]
    value.append(value)
    found, _ = redact(value, ["email"])
    assert A not in repr(found)


def test_size_bounds() -> None:
    """Too many values, too many characters: replaced as a whole, the rest is kept."""
    many, count = redact({"a": ["x"] * 200, "b": "y"}, ["email"], bounds=Bounds(values_max=100))
    assert many == {"a": "[REDACTED:unsearched]", "b": "y"}
    assert count == 1
    long, _ = redact(["x" * 200, "y"], ["email"], bounds=Bounds(chars_max=100))
    assert long == ["[REDACTED:unsearched]", "y"]


def test_objects_that_are_no_plain_data() -> None:
    """They are kept as they are, or refused if so asked."""
    thing = object()
    assert redact([thing], ["email"]) == ([thing], 0)
    with pytest.raises(TypeError, match="`object`, expected plain data"):
        redact([thing], ["email"], opaque="refuse")


def test_keyed_hash() -> None:
    """Equal under one key, different under another; short keys are refused."""
    one, two = bytes(32), bytes([1]) * 32
    assert keyed_hash("a", one) == keyed_hash(b"a", one)
    assert keyed_hash("a", one) != keyed_hash("a", two) != keyed_hash("b", two)
    assert len(keyed_hash("\ud800", one)) == 32
    with pytest.raises(ValueError, match="8 bytes"):
        keyed_hash("a", bytes(8))


def test_markers() -> None:
    """A mark is told from a text that only begins like one."""
    assert is_marker("[REDACTED:email]")
    assert not is_marker("[REDACTED:email] ann@example.org")
