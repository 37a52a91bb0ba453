"""Laws of sealing: opening undoes sealing, and any other bytes do not open."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentguard.errors import TamperedError
from agentguard.seal import RootKey, SealKey, open_box, seal_box

ROOT = RootKey(bytes(range(32)))
KEY = SealKey(ROOT, b"test", b"")


@given(st.binary(max_size=2000), st.binary(max_size=50))
def test_open_undoes_seal(plain: bytes, aad: bytes) -> None:
    """open(seal(x)) == x for every x and every associated text."""
    assert KEY.open(KEY.seal(plain, aad), aad) == plain


@given(st.binary(max_size=200), st.data())
def test_any_flipped_bit_is_tampering(plain: bytes, data: st.DataObject) -> None:
    """Flipping any bit of nonce, ciphertext or tag makes opening fail."""
    sealed = bytearray(KEY.seal(plain, b"aad"))
    place = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[place // 8] ^= 1 << place % 8
    with pytest.raises(TamperedError):
        KEY.open(bytes(sealed), b"aad")


@given(st.binary(max_size=200), st.data())
def test_any_cut_of_a_box_is_tampering(plain: bytes, data: st.DataObject) -> None:
    """A box that is cut anywhere, or flipped anywhere, does not open."""
    box = seal_box(ROOT, plain, purpose="test")
    assert open_box(ROOT, box, purpose="test") == plain
    with pytest.raises(TamperedError):
        open_box(ROOT, box[: data.draw(st.integers(0, len(box) - 1))], purpose="test")
    flipped = bytearray(box)
    flipped[data.draw(st.integers(0, len(box) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(TamperedError):
        open_box(ROOT, bytes(flipped), purpose="test")


@given(st.binary(max_size=300))
def test_arbitrary_bytes_do_not_open(data: bytes) -> None:
    """Bytes that nobody sealed are refused with one kind of error."""
    with pytest.raises(TamperedError):
        KEY.open(data, b"")
    with pytest.raises(TamperedError):
        open_box(ROOT, data, purpose="test")
