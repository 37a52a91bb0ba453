"""
A second reader of decision journals, written from docs/reference/decision-log-format.md alone.

Standard library and `cryptography` only; shares no code with the package.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import struct
import zlib
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand


class Failure(Exception):
    """The journal is not whole; the first argument is the class of the failure."""


def expand(root: bytes, label: bytes, context: bytes, length: int) -> bytes:
    info = bytes([len(label)]) + label + context
    return HKDFExpand(algorithm=SHA256(), length=length, info=info).derive(root)


def root_of(leaves: list[bytes]) -> bytes:
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + root_of(leaves[:split]) + root_of(leaves[split:])).digest()


def read(data: bytes, root: bytes, store_id: bytes) -> tuple[list[dict[str, Any]], bytes]:
    """Give the records and the root over their leaves, or raise a Failure."""
    if (
        len(data) < 104
        or data[:8] != b"AGDECJ1\n"
        or zlib.crc32(data[:100]) != int.from_bytes(data[100:104], "big")
    ):
        raise Failure("header failure")
    version, zero, _, its_store, writer, n, salt, commitment = struct.unpack(">HHI16s8sI24s32s", data[8:100])
    if version != 5 or zero or its_store != store_id:
        raise Failure("header failure")
    place = store_id + writer + struct.pack(">I", n)
    material = expand(expand(root, b"agentguard/v1/dec", b"", 32), b"journal", place + salt, 64)
    if not hmac.compare_digest(material[32:], commitment):
        raise Failure("no key")
    aead = AESGCM(material[:32])
    bound = b"AGDL" + struct.pack(">H", 5) + place
    records: list[dict[str, Any]] = []
    leaves: list[bytes] = []
    mac_key = b""
    offset, previous, frames = 104, bytes(32), 0
    while offset < len(data):
        head = data[offset : offset + 68]
        if len(head) < 68:
            raise Failure("truncated")
        if head[:4] != b"AGDF" or zlib.crc32(head[:64]) != int.from_bytes(head[64:], "big"):
            raise Failure("damaged")
        length, index, count, position, _ = struct.unpack(">IQIIQ", head[4:32])
        named = head[32:64]
        if not 1 <= count <= 4096 or length > 1_049_600:
            raise Failure("damaged")
        body_start = offset + 68 + 32 * count
        body_end = body_start + length
        end = body_end + 36
        if end > len(data):
            raise Failure("truncated")
        hashes, sealed, mac = (
            data[offset + 68 : body_start],
            data[body_start:body_end],
            data[body_end : end - 4],
        )
        if zlib.crc32(hashes + sealed + mac) != int.from_bytes(data[end - 4 : end], "big"):
            raise Failure("damaged")
        try:
            body = aead.decrypt(sealed[:12], sealed[12:], bound + head + hashes)
        except InvalidTag:
            raise Failure("tampered") from None
        if index != len(leaves) or named != previous or position != frames:
            raise Failure("tampered")
        previous = hashlib.sha256(head + hashes).digest()
        forms, sizes, at = forms_of(body, count)
        for number in range(count):
            size = int.from_bytes(sizes[4 * number : 4 * number + 4], "big")
            entry, at = body[at : at + 17 + size], at + 17 + size
            leaf = hashes[32 * number : 32 * number + 32]
            if at > len(body) or entry[0] or hashlib.sha256(entry).digest() != leaf:
                raise Failure("tampered")
            try:
                record = record_of(entry[17:], forms)
                if record["v"] != 1:
                    raise Failure("decode failure")
            except (ValueError, KeyError, TypeError, struct.error):
                raise Failure("decode failure") from None
            leaves.append(leaf)
            records.append(record)
        if at != len(body):
            raise Failure("tampered")
        if frames == 0:
            mac_key = first_mac_key(records[0], root, place)
        if not hmac.compare_digest(hmac.digest(mac_key, head + hashes, "sha256"), mac):
            raise Failure("tampered")
        mac_key = hashlib.sha256(mac_key).digest()
        frames += 1
        offset = end
    return records, root_of(leaves)


def forms_of(body: bytes, count: int) -> tuple[dict[bytes, bytes], bytes, int]:
    """The forms of a frame by their SHA-256, the lengths of its records, and where these begin."""
    number = int.from_bytes(body[:4], "big")
    start = 4 + 4 * number + 4 * count
    if start > len(body):
        raise Failure("tampered")
    forms, at = {}, start
    for place in range(number):
        size = int.from_bytes(body[4 + 4 * place : 8 + 4 * place], "big")
        forms[hashlib.sha256(body[at : at + size]).digest()] = body[at : at + size]
        at += size
    return forms, body[start - 4 * count : start], at


def record_of(data: bytes, forms: dict[bytes, bytes]) -> dict[str, Any]:
    """A record, put together with its form where it is short."""
    if data[:1] != b"\x01":
        return json.loads(data)
    if data[1:33] not in forms:
        raise Failure("tampered")
    call, trace, begun, evaluation, ended, outcome, run_size, who_size = struct.unpack(
        ">8s16sQQQBHH", data[33:86]
    )
    if 86 + run_size + who_size != len(data):
        raise ValueError("lengths")
    own = {
        "decision_id": call.hex(),
        "call_id": call.hex(),
        "trace_id": trace.hex(),
        "time_unix_ns": begun,
        "evaluation_ns": evaluation,
        "ended_unix_ns": ended,
        "outcome": dict(enumerate(("", "ok", "error", "cancelled", "abandoned", "denied")))[outcome],
        "run_id": data[86 : 86 + run_size].decode(),
        "principal": data[86 + run_size :].decode(),
    }
    return {**json.loads(forms[data[1:33]]), **{name: value for name, value in own.items() if value}}


def first_mac_key(record: dict[str, Any], root: bytes, place: bytes) -> bytes:
    box = base64.b64decode(
        next(slot["box"] for slot in record["details"]["mac_key"] if slot["for"] == "root")
    )
    salt, commitment = box[4:28], box[28:60]
    mac_root = expand(root, b"agentguard/v1/dec-mac", b"", 32)
    material = expand(mac_root, b"agentguard/v1/box", salt + b"decision-log-mac", 64)
    if box[:4] != b"AGB1" or not hmac.compare_digest(material[32:], commitment):
        raise Failure("tampered")
    try:
        return AESGCM(material[:32]).decrypt(box[60:72], box[72:], box[:60] + place)
    except InvalidTag:
        raise Failure("tampered") from None
