"""A second reader of STORE files and boxes, written from `docs/reference/store-file-format.md` alone."""

from __future__ import annotations

import hashlib
import hmac
import struct
import zlib

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap


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


def attached(data: bytes, offset: int, count: int) -> dict[int, bytes] | None:
    """The attachments by slot; None where they do not fill what is before the MAC."""
    found = {}
    for _ in range(count):
        slot_id, length = struct.unpack_from("<II", data, offset)
        found[slot_id] = data[offset + 8 : offset + 8 + length]
        offset += 8 + length
    return found if offset == len(data) - 36 else None


def open_auditor(data: bytes, secret: bytes, pinned: bytes) -> tuple[str, bytes]:
    """Verdict, and the key that reads segments of the newest generation, from an auditor's slot."""
    if zlib.crc32(data[:-4]) != struct.unpack("<I", data[-4:])[0]:
        return "damaged", b""
    _, slots, generations, attachments = struct.unpack_from("<HHHH", data, 8)
    store_id = data[16:32]
    bundles = attached(data, 32 + 156 * slots + 64 * generations, attachments) or {}
    private = X25519PrivateKey.from_private_bytes(secret)
    public = private.public_key().public_bytes_raw()
    for i in range(slots):
        slot = data[32 + 156 * i : 32 + 156 * (i + 1)]
        if slot[4] != 1 or slot[60:92] != public:
            continue
        bundle = bundles[struct.unpack("<I", slot[:4])[0]]
        signature, sender, box = bundle[:64], bundle[64:96], bundle[96:]
        try:
            shared = private.exchange(X25519PublicKey.from_public_bytes(sender))
        except ValueError:
            return "tampered", b""
        key = hmac.digest(sender + public, shared, hashlib.sha256)
        verdict, plain = open_box(box, key, b"auditor", store_id + slot[:4])
        if verdict != "success":
            return "tampered", b""
        try:
            signed = b"agentguard/v1/auditor" + store_id + slot[:4] + public + sender + box
            Ed25519PublicKey.from_public_bytes(pinned or plain[132:164]).verify(signature, signed)
        except InvalidSignature:
            return "tampered", b""
        return "success", plain[-164:][4:36]
    return "no key", b""


def open_keyring(data: bytes, root: bytes, store_id: bytes) -> tuple[str, bytes]:
    """Verdict, and reference, key and state of each entry, from the file of a wrap key and the keyring behind it."""
    wrap, ring = data[:140], data[140:]
    if wrap[:8] != bytes.fromhex("89414757 52500d0a") or wrap[8:10] != b"\1\0":
        return "header failure", b""
    box_key = expand(root, b"agentguard/v1/wrap", b"", 32)
    verdict, key = open_box(wrap[20:], box_key, b"wrap-key", store_id + wrap[:20])
    if verdict != "success":
        return "tampered", b""
    if ring[:8] != bytes.fromhex("8941474b 45590d0a") or ring[16:32] != store_id:
        return "header failure", b""
    if zlib.crc32(ring[:60]) != struct.unpack_from("<I", ring, 60)[0]:
        return "header failure", b""
    if ring[12:16] != wrap[16:20]:
        return "no key", b""
    found = b""
    for at in range(64, len(ring) - 83, 84):
        entry = ring[at : at + 84]
        if zlib.crc32(entry[:80]) != struct.unpack("<I", entry[80:])[0]:
            continue
        inner = aes_key_unwrap(key, entry[8:80])
        if inner[32:40] != entry[:8]:
            return "tampered", b""
        found += entry[:8] + inner[:32] + inner[60:61]
    return "success", found


def open_store(data: bytes, kek: bytes) -> tuple[str, bytes]:
    """Verdict and newest root key of a STORE file."""
    if len(data) < 68:
        return "truncated", b""
    if zlib.crc32(data[:-4]) != struct.unpack("<I", data[-4:])[0]:
        return "damaged", b""
    version, slots, generations, attachments = struct.unpack_from("<HHHH", data, 8)
    if data[:8] != bytes.fromhex("89414753544f0d0a") or version not in (1, 2):
        return "header failure", b""
    if attached(data, 32 + 156 * slots + 64 * generations, attachments if version == 2 else 0) is None:
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
