"""Root keys, derived keys, sealed boxes, signatures."""

from __future__ import annotations

import pickle

import pytest

from agentguard.errors import SealError, TamperedError
from agentguard.seal import RootKey, SealKey, SigningKey, VerifyKey, open_box, seal_box

ROOT = RootKey(bytes(range(32)))


def test_derive_is_hkdf_expand() -> None:
    """The derived bytes are those of RFC 5869, test case 1, step two, with its own info."""
    import hashlib
    import hmac

    info = b"\x03abcdef"
    first = hmac.digest(bytes(range(32)), info + b"\x01", hashlib.sha256)
    second = hmac.digest(bytes(range(32)), first + info + b"\x02", hashlib.sha256)
    assert ROOT.derive(b"abc", b"def", 40) == (first + second)[:40]


def test_label_and_context_do_not_run_together() -> None:
    """Moving the border between label and context gives another key."""
    assert ROOT.derive(b"ab", b"c") != ROOT.derive(b"a", b"bc")


def test_keys_hide_themselves() -> None:
    """Neither repr nor str nor pickle gives a key away."""
    key = SealKey(ROOT, b"label", b"context")
    for secret in (ROOT, key, SigningKey.generate()):
        assert "hidden" in repr(secret)
        assert "hidden" in str(secret)
        assert bytes(range(32)).hex() not in repr(secret)
        with pytest.raises(SealError):
            pickle.dumps(secret)


def test_a_key_has_32_bytes() -> None:
    """Another length is refused, and not repeated in the message."""
    with pytest.raises(SealError, match="got 5 bytes, expected 32") as caught:
        RootKey(b"hello")
    assert "hello" not in str(caught.value)


def test_seal_and_open() -> None:
    """What was sealed comes back; a changed associated text does not open."""
    key = SealKey(ROOT, b"label", b"context")
    sealed = key.seal(b"text", b"aad")
    assert key.open(sealed, b"aad") == b"text"
    with pytest.raises(TamperedError):
        key.open(sealed, b"AAD")


def test_nonces_differ() -> None:
    """Sealing the same twice gives different bytes."""
    key = SealKey(ROOT, b"label", b"context")
    assert len({key.seal(b"text", b"")[:12] for _ in range(1000)}) == 1000


def test_commitment_tells_keys_apart() -> None:
    """The commitment of another context is refused."""
    key, other = SealKey(ROOT, b"label", b"1"), SealKey(ROOT, b"label", b"2")
    key.check(key.commitment)
    with pytest.raises(TamperedError):
        key.check(other.commitment)


def test_box_is_bound_to_purpose_and_context() -> None:
    """A box opens for its own purpose and context only, and with its own key."""
    box = seal_box(ROOT, b"text", purpose="approval", context=b"row 1")
    assert open_box(ROOT, box, purpose="approval", context=b"row 1") == b"text"
    for purpose, context, root in (
        ("approval", b"row 2", ROOT),
        ("other", b"row 1", ROOT),
        ("approval", b"row 1", RootKey(bytes(32))),
    ):
        with pytest.raises(TamperedError):
            open_box(root, box, purpose=purpose, context=context)


def test_signatures() -> None:
    """A signature holds for its message and key, and the key's text form comes back."""
    key = SigningKey.generate()
    signature = key.sign(b"message")
    public = VerifyKey.from_text(key.verify_key.to_text())
    assert public == key.verify_key
    assert public.key_id == key.key_id
    assert public.verify(signature, b"message")
    assert not public.verify(signature, b"massage")
    assert not SigningKey.generate().verify_key.verify(signature, b"message")
    assert SigningKey(key.seed).sign(b"message") == signature


@pytest.mark.parametrize("text", ["", "ed25519:", "ed25519:!!!", "rsa:AAAA", "ed25519:AAAA"])
def test_bad_verification_keys_are_refused(text: str) -> None:
    """Whatever is not the base64 of 32 bytes is refused with one line."""
    with pytest.raises(SealError, match="verification key"):
        VerifyKey.from_text(text)
