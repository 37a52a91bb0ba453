"""Pieces of content: compressed with a dictionary that the format page names, bounded on the way back."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentguard.errors import SegmentCorruptError
from agentguard.store import _codec
from agentguard.store._content_frame import ContentFrame
from agentguard.store._groups import decode_parts_of
from agentguard.store._msgpack import encode

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
        [[0, ["a"], [["x"]], [], [], []]],
        [[True, ["a"], [["x"]], [], [], []]],
        [[2, ["a"], [["x", "y", "z"]], [], [], []]],
        [[2, ["a", "b"], [["x"]], [], [], []]],
        [[2, ["a"], [["x"]], [[], []], [], []]],
        [[2, [], [], [[]], [[]], [""]]],
        [[1, ["a"], [["x"]], [], [], []]],
        [[1, ["a"], [["x"]], [], [], []]] * 3,
        [[1]],
        7,
    ],
)
def test_parts_of_another_form_are_refused(document: object) -> None:
    """Columns must be as long as the part says, and the parts as many rows as the group has."""
    with pytest.raises(SegmentCorruptError):
        decode_parts_of(encode(document), 2)


GOOD = (1, 7, 3, [(bytes(12), [(bytes(8), b"", [0, 2])], [b"x"])])


@pytest.mark.parametrize(
    "document",
    [
        (2, *GOOD[1:]),
        (1, -1, *GOOD[2:]),
        (1, 7, 0, []),
        (1, 7, 2**40, []),
        (1, 7, 2, GOOD[3]),
        (1, 7, 3, [(bytes(12), [(bytes(8), b"", [-1])], [b"x"])]),
        (1, 7, 3, [(bytes(12), [(bytes(8), b"", [])], [b"x"])]),
        (1, 7, 3, [(bytes(12), [(b"", b"", [0])], [b"x"])]),
        (1, 7, 3, [(bytes(12), [(bytes(8), b"", [0])], [])]),
        (1, 7, 3),
        7,
    ],
)
def test_content_of_another_form_is_refused(document: object) -> None:
    """A frame of content has places of its spans, somebody for each group, and as many groups as it says."""
    assert ContentFrame(encode(GOOD)).groups[0].places == [0, 2]
    with pytest.raises(SegmentCorruptError):
        ContentFrame(encode(document))


def test_small_pieces_wait_until_they_are_sealed() -> None:
    """A live file has small pieces as they are, and large ones compressed; all of them where most are large."""
    piece = b"What was said, at some length. " * 9
    small, short_bytes = _codec.live_content([piece] * 16)
    assert (small, short_bytes) == ([b"\x00" + piece] * 16, 16 * len(piece))
    mixed, short_bytes = _codec.live_content([piece] * 15 + [piece * 20])
    assert (mixed[0], short_bytes) == (b"\x00" + piece, 15 * len(piece))
    assert len(mixed[-1]) < len(piece) * 4
    large, short_bytes = _codec.live_content([piece, piece * 40])
    assert short_bytes == 0
    assert len(large[0]) < len(piece)
    assert [_codec.decompress_content(each) for each in large] == [piece, piece * 40]
