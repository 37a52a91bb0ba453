"""Pieces of content: compressed with a dictionary that the format page names, bounded on the way back."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentguard.errors import SegmentCorruptError
from agentguard.store import _codec
from agentguard.store._groups import ContentPart

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "segment-format.md"


@given(st.one_of(st.binary(max_size=400), st.text(max_size=400).map(str.encode)), st.integers(1, 40))
def test_content_comes_back(piece: bytes, times: int) -> None:
    """What is compressed comes back, and takes one byte more at most."""
    packed = _codec.compress_content(piece * times)
    assert len(packed) <= len(piece) * times + 1
    assert _codec.decompress_content(packed) == piece * times


def test_the_page_names_the_dictionary() -> None:
    """The dictionary is part of the format: the page has its hash, and it may never change."""
    assert hashlib.sha256(_codec._DICTIONARY.read_bytes()).hexdigest() in PAGE.read_text("utf-8")


def test_the_dictionary_helps_where_pieces_are_small() -> None:
    """A short message takes far less than without the dictionary."""
    piece = b'[{"role": "user", "parts": [{"type": "text", "content": "What does the policy say of this call?"}]}]'
    assert len(_codec.compress_content(piece)) < 0.75 * len(_codec.compress(piece)[1])


@pytest.mark.parametrize(
    "change",
    [
        lambda packed: b"",
        lambda packed: b"\x07" + packed[1:],
        lambda packed: packed[:-1],
        lambda packed: packed + b"x",
        lambda packed: packed[:1] + b"\xff" * 9,
    ],
    ids=["nothing", "codec", "cut", "longer", "noise"],
)
def test_what_is_no_piece_is_refused(change: object) -> None:
    """Bytes that are no whole piece are corrupt, not a surprise."""
    packed = _codec.compress_content(b"What was said, at some length. " * 9)
    with pytest.raises(SegmentCorruptError):
        _codec.decompress_content(change(packed))  # type: ignore[operator]


def test_a_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A piece that grows beyond the limit is not taken."""
    packed = _codec.compress_content(bytes(100_000))
    monkeypatch.setattr(_codec, "PLAIN_BYTES_MAX", 99_999)
    with pytest.raises(SegmentCorruptError, match="at most 99999"):
        _codec.decompress_content(packed)


@pytest.mark.parametrize(
    "document",
    [
        [0, ["a"], [["x"]]],
        [True, ["a"], [["x"]]],
        [2, ["a"], [["x", "y", "z"]]],
        [2, ["a", "b"], [["x"]]],
        [1, ["a"], [["x"]], []],
        [2, [], [], [[]], [[], []], ["", ""]],
        [1],
        7,
    ],
)
def test_parts_of_another_form_are_refused(document: object) -> None:
    """Columns must be as long as the part says."""
    with pytest.raises((TypeError, ValueError)):
        ContentPart.of(document)  # type: ignore[arg-type]
