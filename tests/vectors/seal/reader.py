"""A second reader of STORE files and boxes, written from `docs/reference/store-file-format.md` alone."""

from __future__ import annotations

import hashlib
import hmac
import struct
import zlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


def expand(key: bytes, label: bytes, context: bytes, length: int) -> bytes:
    """HKDF-Expand with SHA-256, RFC 5869, section 2.3."""
    info = bytes([len(label)]) + label + context
    block, out, counter = b"", b"", 1
    while len(out) < length:
        block = hmac.digest(key, block + info + bytes([counter]), hashlib.sha256)
        out += block
        counter += 1
    return out[:length]


def open_box(data: bytes, root: bytes, purpose: bytes, context: bytes) -> tuple[str, bytes]:
    """Verdict and plain text of a box."""
    if len(data) < 88 or data[:4] != b"AGB1":
        return "header failure", b""
    keys = expand(root, b"agentguard/v1/box", data[4:28] + purpose, 64)
    if not hmac.compare_digest(keys[32:], data[28:60]):
        return "tampered", b""
    try:
        return "success", AESGCM(keys[:32]).decrypt(data[60:72], data[72:], data[:60] + context)
    except InvalidTag:
        return "tampered", b""


def open_store(data: bytes, kek: bytes) -> tuple[str, bytes]:
    """Verdict and newest root key of a STORE file."""
    if len(data) < 68:
        return "truncated", b""
    if zlib.crc32(data[:-4]) != struct.unpack("<I", data[-4:])[0]:
        return "damaged", b""
    version, slots, generations = struct.unpack_from("<HHH", data, 8)
    if data[:8] != bytes.fromhex("89414753544f0d0a") or version != 1:
        return "header failure", b""
    if len(data) != 32 + 156 * slots + 64 * generations + 36:
        return "header failure", b""
    store_id = data[16:32]
    for i in range(slots):
        slot = data[32 + 156 * i : 32 + 156 * (i + 1)]
        keys = expand(kek, b"agentguard/v1/slot", store_id + slot[32:48], 64)
        if slot[4] != 0 or not hmac.compare_digest(keys[32:], slot[60:92]):
            continue
        try:
            master = AESGCM(keys[:32]).decrypt(slot[92:104], slot[104:152], b"slot" + store_id + slot[:4])
        except InvalidTag:
            return "tampered", b""
        mac = hmac.digest(expand(master, b"agentguard/v1/store-mac", b"", 32), data[:-36], hashlib.sha256)
        if not hmac.compare_digest(mac, data[-36:-4]):
            return "tampered", b""
        last = data[32 + 156 * slots + 64 * (generations - 1) :][:64]
        wrap = expand(master, b"agentguard/v1/generation", store_id, 64)[:32]
        return "success", AESGCM(wrap).decrypt(last[4:16], last[16:], b"generation" + store_id + last[:4])
    return "no key", b""
