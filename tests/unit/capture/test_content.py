"""Content is kept only as far as it was asked for, and never without bounds."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentguard.capture import CAPTURE_MODES, CaptureMode, ContentCapture, narrower, otel_upper_bound
from agentguard.capture.content import render

KEY = bytes(range(32))
ARGUMENTS = {"to": "ann@example.org", "n": 3}


def capture(mode: CaptureMode, *, bytes_max: int = 1_000, hash_key: bytes | None = None) -> ContentCapture:
    """A capture whose internal errors raise."""

    def raise_it(where: str, error: BaseException) -> None:
        raise AssertionError(where) from error

    return ContentCapture(
        mode, bytes_max=bytes_max, kinds=["email"], hash_key=hash_key, on_internal_error=raise_it
    )


@pytest.mark.parametrize("mode", ["none", "metadata"])
def test_off_by_default(mode: CaptureMode) -> None:
    """Without being asked for, nothing is kept."""
    content = capture(mode)
    assert not content.is_on
    assert content.attributes("tool", ARGUMENTS, is_input=True) == {}


def test_redacted() -> None:
    """Redaction comes first; the original arguments are not touched."""
    arguments = dict(ARGUMENTS)
    assert capture("redacted").attributes("tool", arguments, is_input=True) == {
        "gen_ai.tool.call.arguments": '{"to": "[REDACTED:email]", "n": 3}',
        "agentguard.content.redactions": 1,
    }
    assert arguments == ARGUMENTS


def test_full() -> None:
    """As it is; text stays text, and other kinds have names of ours."""
    content = capture("full")
    assert content.attributes("tool", "Paris", is_input=False) == {"gen_ai.tool.call.result": "Paris"}
    assert content.attributes("agent", ["x"], is_input=False) == {"agentguard.output.content": '["x"]'}


def test_hashes() -> None:
    """Equal inputs have equal hashes, in every mode but `none`, and the text is not in them."""
    one = capture("metadata", hash_key=KEY).attributes("tool", ARGUMENTS, is_input=True)
    two = capture("redacted", hash_key=KEY).attributes("tool", dict(ARGUMENTS), is_input=True)
    other = capture("metadata", hash_key=KEY).attributes("tool", {"n": 3}, is_input=True)
    assert set(one) == {"agentguard.input.hash"}
    assert one["agentguard.input.hash"] == two["agentguard.input.hash"] != other["agentguard.input.hash"]
    assert capture("none", hash_key=KEY).attributes("tool", ARGUMENTS, is_input=True) == {}
    assert "agentguard.input.hash" not in capture("metadata", hash_key=KEY).attributes(
        "tool", "x" * 100_000, is_input=True
    )


def test_the_key_is_not_shown() -> None:
    """Neither repr nor attributes show the hash key."""
    content = capture("full", hash_key=b"needle-needle-needle")
    assert "needle" not in repr(content)


@given(st.text(max_size=60), st.integers(0, 60))
def test_cut_to_bytes(text: str, bytes_max: int) -> None:
    """The limit is in bytes, holds exactly, and no character is split."""
    found = capture("full", bytes_max=bytes_max).attributes("tool", text, is_input=False)
    kept = found["gen_ai.tool.call.result"]
    assert isinstance(kept, str)
    assert len(kept.encode()) <= bytes_max
    assert ("agentguard.content.truncated" in found) == (len(text.encode("utf-8", "replace")) > bytes_max)


class Quiet:
    """Its repr must not be asked."""

    def __repr__(self) -> str:
        raise AssertionError("repr was asked")


@dataclasses.dataclass
class Order:
    """Plain data."""

    items: list[Any]


class Model(pydantic.BaseModel):
    """Plain data too."""

    name: str = "x"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Quiet, '"<type>"'),
        ([Quiet()], '["<Quiet>"]'),
        (Order([1, Quiet()]), '{"items": [1, "<Quiet>"]}'),
        (Model(), '{"name": "x"}'),
        (b"secret", '"<6 bytes>"'),
        ((float("nan"), float("inf"), 1e400, -1.5), '["nan", "inf", "inf", -1.5]'),
        (10**400, '"<integer of 1329 bits>"'),
        ({(1, 2): {3}}, '{"[1, 2]": [3]}'),
        ("é", "é"),
        (None, "null"),
    ],
)
def test_render(value: object, text: str) -> None:
    """Everything has a text, and none comes from an object's own repr."""
    assert render(value, chars_max=1_000) == text


def test_render_is_bounded() -> None:
    """Wide, deep, long and endless values end soon."""
    endless: list[Any] = []
    endless.append(endless)
    for value in (
        ["x" * 10] * 100_000,
        {str(n): n for n in range(100_000)},
        endless,
        "x" * 10**6,
        {"x" * 10**6: 1},
    ):
        assert len(render(value, chars_max=1_000)) < 10_000


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(JSON.filter(lambda value: not isinstance(value, str)))
def test_json_stays_json(value: object) -> None:
    """Plain data within the limits is written as JSON that reads back equal."""
    assert json.loads(render(value, chars_max=100_000)) == value


def test_errors_are_reported() -> None:
    """Law 1: an object that raises costs its content, not the call; unredacted it stands as its class."""
    seen: list[str] = []

    class Raising(dict[str, object]):
        def items(self) -> Any:
            raise RuntimeError

    found = [
        ContentCapture(
            mode, bytes_max=99, kinds=["email"], on_internal_error=lambda where, _e: seen.append(where)
        ).attributes("tool", Raising(a=1), is_input=True)
        for mode in ("full", "redacted")
    ]
    assert found == [{"gen_ai.tool.call.arguments": f'"<{Raising.__qualname__}>"'}, {}]
    assert seen == ["capture.content"]


@pytest.mark.parametrize(
    ("setting", "bound"),
    [(None, "full"), ("", "full"), ("NO_CONTENT", "metadata"), ("span_only", "full"), ("SPAN_AND_EVENT", "full"),
     ("event_only", "metadata"), ("nonsense", "metadata")],
)  # fmt: skip
def test_opentelemetry_switch(setting: str | None, bound: str) -> None:
    """The switch can only lessen what is kept."""
    assert otel_upper_bound(setting) == bound


def test_narrower() -> None:
    """Of two modes the one that keeps less."""
    for i, first in enumerate(CAPTURE_MODES):
        for j, second in enumerate(CAPTURE_MODES):
            assert narrower(first, second) == CAPTURE_MODES[min(i, j)]
