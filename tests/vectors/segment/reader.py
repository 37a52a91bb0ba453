"""
A second reader of segments, written from `docs/reference/segment-format.md` alone.

It shares no code with the package: the standard library, `cryptography`, and zstd.
It is slow and plain on purpose.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import struct
import sys
import zlib
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LABEL = b"agentguard/v1/seg"
BY_GROUP = {6, 7, 8, 11, 12, 17}
"""Places of the columns that may have a text for each group: name, kinds, status, its description, trace state."""
DICTIONARY = Path(__file__).resolve().parents[3] / "agentguard" / "store" / "content-1.dict"
"""The page names it by its hash."""


class Result(NamedTuple):
    """What was read, and the first thing that was wrong."""

    verdict: str
    spans: list[list[Any]]


def read(
    data: bytes, *, store_id: bytes, roots: dict[int, bytes], keys: dict[bytes, bytes | None] | None = None
) -> Result:
    """
    Read one segment: a verdict, and the spans that could be read, as plain lists with sequence numbers first.

    *keys* has the keys of persons and conversations by reference; None is one that was erased.
    """
    if len(data) < 128:
        return Result("truncated", [])
    header = data[:128]
    if header[:8] != bytes.fromhex("8941475345470d0a") or zlib.crc32(header[:124]) != _u32(header, 124):
        return Result("header failure", [])
    version, state = struct.unpack_from("<HB", header, 8)
    if version > 1 or header[16:32] != store_id:
        return Result("header failure", [])
    root = roots.get(_u32(header, 40))
    if root is None:
        return Result("no key", [])
    k_seg = expand(root, LABEL, b"", 32)
    material = expand(k_seg, LABEL, LABEL + header[16:32] + header[32:40] + header[12:16] + header[48:72], 64)
    if not hmac.compare_digest(material[32:], header[72:104]):
        return Result("tampered", [])
    key = AESGCM(material[:32])
    bound = header[:10] + (b"\0" if state == 3 else header[10:11]) + header[11:72]
    verdicts: list[str] = []
    seen: set[int] = set()
    spans: dict[int, list[Any]] = {}
    last: deque[list[tuple[Any, list[Any]]]] = deque(maxlen=4)
    for head, payload in _frames(data, state, verdicts):
        kind, codec = head[4], head[6]
        try:
            plain = key.decrypt(payload[:12], payload[12:], bound + head[:16])
        except InvalidTag:
            verdicts.append("tampered")
            continue
        number = _u32(head, 8)
        if number in seen:
            verdicts.append("tampered")
            continue
        seen.add(number)
        if kind not in (1, 8):
            continue
        try:
            content = _content(codec, plain)
            parts = _parts(content) if state == 2 else [((header[32:40], _u32(header, 12)), content)]
            if kind == 8:
                last.append([(segment, _said(part)) for segment, part in parts])
                continue
            for segment, part in parts:
                rows = dict(_rows(part))
                for first, count, sets in [
                    said for frame in last for whose, said in frame if whose == segment
                ]:
                    _add_content(rows, range(first, first + count), sets, store_id, keys or {}, verdicts)
                for sequence, row in rows.items():
                    spans.setdefault(sequence, row)
        except (ValueError, IndexError, TypeError, struct.error, zlib.error, zstd.ZstdError):
            verdicts.append("decode failure")
    return Result(verdicts[0] if verdicts else "success", [[k, *spans[k]] for k in sorted(spans)])


def _frames(data: bytes, state: int, verdicts: list[str]) -> list[tuple[bytes, bytes]]:
    """Walk the frames; on damage go on at the next whole one."""
    found, offset = [], 128
    while offset < len(data):
        if len(data) - offset <= 24 and found and found[-1][0][4] == 6:
            break  # The trailer, or what there is of it.
        frame = _frame_at(data, offset)
        if frame is None:
            following = next((o for o in range(offset + 1, len(data)) if _frame_at(data, o)), len(data))
            is_short = len(data) - offset < 20 or offset + 20 + _u32(data, offset + 12) > len(data)
            verdicts.append("truncated" if following == len(data) and is_short else "damaged")
            offset = following
            continue
        found.append(frame)
        offset += 20 + len(frame[1])
    if len(data) == 128:
        verdicts.append("truncated")
    if state >= 1 and not _is_trailer(data[-24:]):
        verdicts.append("no footer")
    return found


def _is_trailer(data: bytes) -> bool:
    """Whether these are the last bytes of a sealed file."""
    return data[:8] == b"AGSEGEND" and zlib.crc32(data[:20]) == _u32(data, 20)


def _frame_at(data: bytes, offset: int) -> tuple[bytes, bytes] | None:
    """Head and payload of the whole frame at a place."""
    head = data[offset : offset + 20]
    if len(head) < 20 or head[:4] != bytes.fromhex("a6414766"):
        return None
    length = _u32(head, 12)
    payload = data[offset + 20 : offset + 20 + length]
    if not 28 <= length <= 33_554_432 or len(payload) != length:
        return None
    return (head, payload) if zlib.crc32(payload, zlib.crc32(head[:16])) == _u32(head, 16) else None


def _content(codec: int, plain: bytes) -> bytes:
    """Decompress, with the bound of the page."""
    if codec == 0:
        return plain
    length = _u32(plain, 0)
    if length > 67_108_864:
        raise ValueError("too long")
    if codec == 1:
        content = zlib.decompressobj().decompress(plain[4:], length + 1)
    elif codec == 2:
        content = zstd.ZstdDecompressor().decompress(plain[4:], length + 1)
    else:
        raise ValueError("unknown codec")
    if len(content) != length:
        raise ValueError("another length than announced")
    return content


def _parts(content: bytes) -> list[tuple[Any, bytes]]:
    """What the parts of a frame of a pack hold, and whose they are."""
    (version, parts), _ = unpack(content, 0)
    if version != 1 or any(len(part) != 5 or len(part[0]) != 8 for part in parts):
        raise ValueError("parts")
    return [((part[0], part[1]), part[4]) for part in parts]


def _rows(content: bytes) -> list[tuple[int, list[Any]]]:
    """Spans of a frame, as rows with their sequence numbers and a map of attributes."""
    fields, _ = unpack(content, 0)
    if len(fields) != 20 or fields[0] != 1:
        raise ValueError("fields")
    first, count, shape, groups = fields[1], fields[2], fields[18], fields[19]
    ids = [_ids(fields[3 + i], size, count) for i, size in enumerate((16, 8, 8))]
    # Events, links, scope and trace state are not released by this reader, and are read all the same.
    numbers = _column(shape, count)
    columns = [
        _column(_by_group(fields[i], numbers, groups) if i in BY_GROUP else fields[i], count)
        for i in range(6, 18)
    ]
    rests: list[Any] = []
    for number, (names, of_group) in enumerate(groups):
        members = [_column(column, numbers.count(number)) for column in of_group]
        if len(names) != len(members):
            raise ValueError("names")
        rests.append(iter([dict(zip(names, [m[i] for m in members], strict=True))
                           for i in range(numbers.count(number))]))  # fmt: skip
    found = []
    for i, number in enumerate(numbers):
        if type(number) is not int or not 0 <= number < len(rests):
            raise ValueError("group")
        found.append((first + i, [*[c[i] for c in ids], *[c[i] for c in columns[:7]], next(rests[number])]))
    return found


def _said(content: bytes) -> list[Any]:
    """First sequence, number of spans and groups of a frame of content."""
    (version, first, count, sets), _ = unpack(content, 0)
    if version != 1 or not 1 <= count <= 1_048_576:
        raise ValueError("version or rows")
    groups = []
    for nonce, heads, blobs in sets:
        for (user, conversation, steps), blob in zip(heads, blobs, strict=True):
            places = list(itertools.accumulate(steps))
            if not places or min(places) < 0 or max(places) >= count or not (user or conversation):
                raise ValueError("a group of nobody or of no span")
            groups.append((nonce, user, conversation, places, blob))
    return [first, count, groups]


def _add_content(
    rows: dict[int, list[Any]], numbers: range, groups: list[Any], store_id: bytes,
    keys: dict[bytes, bytes | None], verdicts: list[str],
) -> None:  # fmt: skip
    """Put the content of groups into rows, or say why not."""
    for nonce, user, conversation, places, blob in groups:
        refs = [ref for ref in (user, conversation) if ref]
        sequences = [numbers[place] for place in places]
        why = ""
        for ref in refs:
            why = why or ("no_key" if ref not in keys else "erased" if keys[ref] is None else "")
        found: list[dict[str, Any]] = [{} for _ in places]
        if not why:
            try:
                found = _opened(nonce, user, conversation, len(places), blob, store_id, keys)
            except (ValueError, IndexError, TypeError, struct.error, zstd.ZstdError, InvalidTag):
                verdicts.append("decode failure")
                why = "damaged"
        for sequence, attributes in zip(sequences, found, strict=True):
            if sequence not in rows:
                continue
            description = attributes.pop("", None)
            rows[sequence][-1].update({"agentguard.content.unreadable": why} if why else attributes)
            if description:
                rows[sequence][9] = description


def _opened(
    nonce: bytes, user: bytes, conversation: bytes, count: int, blob: bytes, store_id: bytes,
    keys: dict[bytes, bytes | None],
) -> list[dict[str, Any]]:  # fmt: skip
    """The attributes of each row of a group; the status description under an empty name."""
    secrets = [keys[ref] or b"" for ref in (user, conversation) if ref]
    secret = secrets[0] if len(secrets) == 1 else hmac.digest(secrets[0], secrets[1], hashlib.sha256)
    context = store_id + bytes([len(user)]) + user + bytes([len(conversation)]) + conversation
    key = expand(secret, b"agentguard/v1/subject", context, 64)[:32]
    parts, _ = unpack(_piece(AESGCM(key).decrypt(nonce, blob, context)), 0)
    found = []
    for rows, names, columns, events, links, descriptions in parts:
        if not len(events) == len(links) == len(descriptions) or len(events) not in {0, rows}:
            raise ValueError("items")
        whole = [_column(column, rows) for column in columns]
        for i in range(rows):
            attributes = dict(zip(names, [column[i] for column in whole], strict=True))
            found.append(attributes | ({"": descriptions[i]} if descriptions else {}))
    if len(found) != count:
        raise ValueError("rows")
    return found


def _piece(packed: bytes) -> bytes:
    """Decompress a piece of content."""
    if packed[0] == 0:
        return packed[1:]
    if packed[0] != 3:
        raise ValueError("unknown codec")
    decompressor = zstd.ZstdDecompressor(zstd_dict=zstd.ZstdDict(DICTIONARY.read_bytes()))
    plain = decompressor.decompress(bytes.fromhex("28b52ffd") + packed[1:], 67_108_865)
    if not decompressor.eof or len(plain) > 67_108_864:
        raise ValueError("no whole piece")
    return plain


def _ids(field: Any, size: int, count: int) -> list[str]:
    """A column of ids, as text."""
    if isinstance(field, list):
        return _column(field, count)
    if len(field) != size * count:
        raise ValueError("ids")
    texts = [field[i : i + size].hex() for i in range(0, len(field), size)]
    return [text if text.strip("0") else "" for text in texts]


def _by_group(field: list[Any], numbers: list[int], groups: list[Any]) -> list[Any]:
    """A column that has a text for each group, with one for each span; any other as it is."""
    if len(field) != 1 or not isinstance(field[0], list):
        return field
    if len(field[0]) != len(groups):
        raise ValueError("texts of other groups")
    return [field[0][number] for number in numbers]


def _column(field: list[Any], count: int) -> list[Any]:
    """A column with a value for each span."""
    if len(field) not in {1, count}:
        raise ValueError("column")
    return field if len(field) == count else field * count


def expand(key: bytes, label: bytes, context: bytes, length: int) -> bytes:
    """HKDF-Expand with SHA-256, RFC 5869, section 2.3."""
    info = bytes([len(label)]) + label + context
    block, out, counter = b"", b"", 1
    while len(out) < length:
        block = hmac.digest(key, block + info + bytes([counter]), hashlib.sha256)
        out += block
        counter += 1
    return out[:length]


def _u32(data: bytes, offset: int) -> int:
    return int(struct.unpack_from("<I", data, offset)[0])


def unpack(data: bytes, at: int) -> tuple[Any, int]:
    """Decode one MessagePack object; returns it and the place behind it."""
    kind = data[at]
    at += 1
    if kind <= 0x7F:
        return kind, at
    if kind >= 0xE0:
        return kind - 256, at
    if 0x80 <= kind <= 0x8F:
        return _map(data, at, kind & 15)
    if 0x90 <= kind <= 0x9F:
        return _list(data, at, kind & 15)
    if 0xA0 <= kind <= 0xBF:
        return _take(data, at, kind & 31).decode(), at + (kind & 31)
    if kind in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[kind], at
    numbers = {
        0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
        0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
    }  # fmt: skip
    if kind in numbers:
        size = struct.calcsize(numbers[kind])
        return struct.unpack(numbers[kind], _take(data, at, size))[0], at + size
    widths = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}
    if kind not in widths:
        raise ValueError("no MessagePack")
    size = int.from_bytes(_take(data, at, widths[kind]), "big")
    at += widths[kind]
    if kind in (0xC4, 0xC5, 0xC6):
        return _take(data, at, size), at + size
    if kind in (0xD9, 0xDA, 0xDB):
        return _take(data, at, size).decode(), at + size
    return _list(data, at, size) if kind in (0xDC, 0xDD) else _map(data, at, size)


def _take(data: bytes, at: int, size: int) -> bytes:
    part = data[at : at + size]
    if len(part) != size:
        raise ValueError("cut")
    return part


def _list(data: bytes, at: int, size: int) -> tuple[list[Any], int]:
    found = []
    for _ in range(size):
        value, at = unpack(data, at)
        found.append(value)
    return found, at


def _map(data: bytes, at: int, size: int) -> tuple[dict[Any, Any], int]:
    found = {}
    for _ in range(size):
        key, at = unpack(data, at)
        found[key], at = unpack(data, at)
    return found, at


def features(block: bytes, description: bytes) -> dict[str, list[Any]]:
    """Read a feature block into its columns; *description* is that of the file, for a block without one."""
    version, count, rows, _, size, _ = struct.unpack_from("<HHIQII", block)
    if version != 1 or rows > 1_048_576:
        raise ValueError("version or rows")
    described = block[24 : 24 + size] or description
    at, names = 0, []
    while at < len(described) and described[at]:
        name_end = at + 1 + described[at]
        kind, unit = described[name_end], described[name_end + 1]
        names.append((described[at + 1 : name_end].decode(), kind))
        at = name_end + 2 + unit + 2
    offset = 24 + size
    forms = block[offset : offset + count]
    offset += -(-count // 8) * 8
    columns: dict[str, list[Any]] = {}
    for (name, kind), form in zip(names, forms, strict=True):
        letter = {(1, 0): "q", (1, 8): "q", (1, 1): "b", (1, 2): "h", (1, 4): "i", (2, 0): "d", (2, 8): "d",
                  (3, 0): "Q", (3, 1): "B", (3, 2): "H"}[kind, form]  # fmt: skip
        base = 0
        if kind == 1 and form in {1, 2, 4}:
            base, offset = struct.unpack_from("<q", block, offset)[0], offset + 8
        number = rows if form else 1
        values = struct.unpack_from(f"<{number}{letter}", block, offset)
        columns[name] = [base + value for value in values] * (1 if form else rows)
        offset += -(-number * struct.calcsize(letter) // 8) * 8
    for name, kind in names:
        if kind == 3:
            entries = []
            number, offset = _u32(block, offset), offset + 4
            for _ in range(number):
                length, offset = _u32(block, offset), offset + 4
                entries.append(_take(block, offset, length).decode())
                offset += length
            columns[name] = [entries[index] for index in columns[name]]
    return columns
