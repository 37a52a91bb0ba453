"""
A box: a few sealed bytes that carry all that is needed to open them but the key.

For small files and for columns of a database. Layout: magic `AGB1` (4), salt
(24), commitment (32), nonce (12), ciphertext, tag (16).
"""

from __future__ import annotations

import os

from agentguard.errors import TamperedError
from agentguard.seal._root import (
    COMMITMENT_BYTES,
    NONCE_BYTES,
    SALT_BYTES,
    TAG_BYTES,
    RandomBytes,
    RootKey,
    SealKey,
)

MAGIC = b"AGB1"
_LABEL = b"agentguard/v1/box"
_HEAD = len(MAGIC) + SALT_BYTES + COMMITMENT_BYTES
BOX_OVERHEAD_BYTES = _HEAD + NONCE_BYTES + TAG_BYTES


def seal_box(
    root: RootKey,
    plaintext: bytes,
    *,
    purpose: str,
    context: bytes = b"",
    random_bytes: RandomBytes = os.urandom,
) -> bytes:
    """
    Seal *plaintext* for one purpose.

    Args:
        root:
            The key.

        plaintext:
            What to seal.

        purpose:
            A fixed word of the caller, such as `approval`; a box of one purpose
            does not open for another.

        context:
            What the box belongs to, such as the id of its row.

        random_bytes:
            Where salt and nonce come from.
    """
    salt = random_bytes(SALT_BYTES)
    key = SealKey(root, _LABEL, _bound(purpose, salt), random_bytes=random_bytes)
    head = MAGIC + salt + key.commitment
    return head + key.seal(plaintext, head + context)


def open_box(root: RootKey, box: bytes, *, purpose: str, context: bytes = b"") -> bytes:
    """
    Open what `seal_box` sealed with the same key, purpose and context.

    Raises:
        TamperedError: It is something else, or altered.
    """
    if len(box) < BOX_OVERHEAD_BYTES or not box.startswith(MAGIC):
        raise TamperedError("box: got bytes that are no box, expected one")
    salt = box[len(MAGIC) : len(MAGIC) + SALT_BYTES]
    key = SealKey(root, _LABEL, _bound(purpose, salt))
    key.check(box[len(MAGIC) + SALT_BYTES : _HEAD])
    return key.open(box[_HEAD:], box[:_HEAD] + context)


def _bound(purpose: str, salt: bytes) -> bytes:
    """Bind the key of a box to purpose and salt."""
    return salt + purpose.encode()
