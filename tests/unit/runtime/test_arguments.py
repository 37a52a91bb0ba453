"""Arguments become the map that policies read, and go back unchanged."""

from __future__ import annotations

import dataclasses
import enum
import functools
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentguard.runtime.arguments import Binder
from agentguard.runtime.plain import fingerprint, plain


def test_names_defaults_and_receivers() -> None:
    """Positional, keyword and default values have their names; `self` is left out."""

    class Account:
        def pay(self, to: str, usd: float = 5.0, *, note: str = "") -> None: ...

    binder = Binder(Account.pay)
    assert binder.bind((object(), "ann"), {}) == {"to": "ann", "usd": 5.0, "note": ""}
    assert binder.bind((object(),), {"to": "bob", "note": "x"}) == {"to": "bob", "usd": 5.0, "note": "x"}
    assert Binder(Account().pay).bind(("ann",), {})["to"] == "ann"  # type: ignore[index]


def test_variable_arguments() -> None:
    """Further positional arguments are a list, further keywords stand by their names."""

    def call(first: int, *rest: int, **more: int) -> None: ...

    assert Binder(call).bind((1, 2, 3), {"x": 4}) == {"first": 1, "rest": [2, 3], "x": 4}
    assert Binder(call).bind((1,), {}) == {"first": 1}


@pytest.mark.parametrize(("args", "kwargs"), [((), {}), ((1, 2, 3), {}), ((1,), {"a": 2}), ((1,), {"c": 3})])
def test_what_does_not_fit_is_none(args: Any, kwargs: Any) -> None:
    """Missing, too many, doubled and unknown arguments do not bind."""

    def call(a: int, b: int = 0) -> None: ...

    with pytest.raises(TypeError):
        call(*args, **kwargs)
    assert Binder(call).bind(args, kwargs) is None


def test_builtins_without_a_signature_have_a_list() -> None:
    """A callable without a signature still shows its arguments."""
    binder = Binder(functools.partial)
    assert not binder.is_exact
    assert Binder(max).bind((1, 2), {}) == {"args": [1, 2]}


@given(
    st.lists(st.integers(), min_size=2, max_size=5), st.dictionaries(st.sampled_from("xyz"), st.integers())
)
def test_unbind_undoes_bind(args: list[int], kwargs: dict[str, int]) -> None:
    """The function gets the same values through the names as directly."""

    def call(a: int, /, b: int, *rest: int, **more: int) -> Any:
        return a, b, rest, more

    binder = Binder(call)
    values = binder.bind(tuple(args), kwargs)
    assert values is not None
    again, more = binder.unbind(values, receiver=tuple(args))
    assert call(*again, **more) == call(*args, **kwargs)


def test_plain_data() -> None:
    """Known kinds of objects become data; unknown ones stay, and no method of theirs runs."""

    class Colour(enum.Enum):
        RED = "red"

    @dataclasses.dataclass
    class Order:
        amount: Decimal
        colour: Colour
        tags: tuple[str, ...]

    class Evil:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

        def __iter__(self) -> Any:
            raise RuntimeError("iterated")

    evil = Evil()
    read = plain({"order": Order(Decimal("1.5"), Colour.RED, ("a",)), "evil": evil})
    assert read == {"order": {"amount": 1.5, "colour": "red", "tags": ["a"]}, "evil": evil}


def test_plain_is_bounded() -> None:
    """A structure that contains itself ends at the depth limit."""
    loop: list[Any] = []
    loop.append(loop)
    assert isinstance(plain(loop), list)


def test_fingerprint_never_raises() -> None:
    """Equal arguments are equal, strange ones are some number."""
    loop: list[Any] = []
    loop.append(loop)
    assert fingerprint({"a": [1, 2]}) == fingerprint({"a": (1, 2)})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    for strange in (loop, {("t",): 1, 2: 3}, {"x": object()}, float("nan")):
        assert isinstance(fingerprint(strange), int)
