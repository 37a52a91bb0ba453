"""Every segment vector, read by two readers that share no code."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, cast

import pytest

from agentguard.errors import KeyUnavailableError, SegmentCorruptError
from agentguard.seal import Keystore, RootKey
from agentguard.store._content_frame import attach_content
from agentguard.store._content_keys import ContentKeys
from agentguard.store._content_shelf import ContentShelf
from agentguard.store._damage import DamageReport
from agentguard.store._derive import encode_features
from agentguard.store._features import DESCRIPTION, decode_features
from agentguard.store._grid import grid_of
from agentguard.store._keyring import Keyring
from agentguard.store._layout import Kind, unpack_header
from agentguard.store._rows import decode_spans, span_record
from agentguard.store._segment import SegmentFile
from tests.support.spans import make_span
from tests.vectors.segment import generate, reader

VECTORS = sorted(generate.FOLDER.glob("*.txt"))
EXPECTED_KINDS = {
    "success": set(),
    "no key": {"no-key"},
    "header failure": {"header", "foreign", "newer"},
    "tampered": {"tampered", "duplicate"},
    "truncated": {"torn"},
    "no footer": {"footer"},
    "damaged": {"damaged"},
    "decode failure": {"undecodable"},
}


class _Keys:
    """A keystore with one root."""

    def __init__(self, store_id: bytes, root: bytes, generation: int) -> None:
        self.store_id, self._root, self._generation = store_id, root, generation

    def root_of(self, generation: int) -> RootKey:
        if generation != self._generation:
            raise KeyUnavailableError("no such generation")
        return RootKey(self._root)


class _SubjectKeys:
    """A keyring with some keys."""

    number = 1
    day = 0

    def __init__(self, keys: dict[bytes, bytes | None]) -> None:
        self._keys = keys

    def find(self, ref: bytes) -> RootKey | None:
        if ref not in self._keys:
            raise KeyUnavailableError("no such key")
        key = self._keys[ref]
        return None if key is None else RootKey(key)


def test_all_kinds_of_failure_have_a_vector() -> None:
    """There are vectors for each verdict."""
    assert {generate.load(path)[0]["expect"] for path in VECTORS} == set(EXPECTED_KINDS)


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_second_reader(path: Path) -> None:
    """The reader that was written from the page alone agrees."""
    generate.check(path)


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_own_reader(path: Path, tmp_path: Path) -> None:
    """Our reader releases the same spans, and reports the same kind of failure."""
    head, data = generate.load(path)
    keys = _Keys(bytes.fromhex(head["store"]), bytes.fromhex(head["root"]), int(head["generations"]))
    header = unpack_header(data)
    file = tmp_path / (header.name if header else "0000000000000000-00000000.ags")
    file.write_bytes(data)
    damage = DamageReport()
    content = ContentKeys(cast("Keyring", _SubjectKeys(generate.subject_keys(head))), keys.store_id)
    records: dict[int, Any] = {}
    segment = SegmentFile.open(file, cast("Keystore", keys), damage.add)
    if segment is not None:
        with segment:
            shelf = ContentShelf(segment, content)
            for frame in segment.frames({Kind.SPANS, Kind.CONTENT}):
                if frame.kind == Kind.CONTENT:
                    shelf.put(frame)
                    continue
                try:
                    rows = decode_spans(frame.plain)
                    contents = shelf.of(frame, rows.first_sequence, len(rows.rows))
                    attach_content(contents, rows.first_sequence, rows.rows)
                    for sequence, row in enumerate(rows.rows, rows.first_sequence):
                        records.setdefault(sequence, span_record(row, rows.shapes))
                except SegmentCorruptError as error:
                    segment.note_undecodable(frame, error)
    assert generate.released(sorted(records.items())) == head["payload"]
    assert set(damage.counts) <= EXPECTED_KINDS[head["expect"]], damage.first
    assert bool(damage) == (head["expect"] != "success")


def test_vectors_are_what_the_generator_writes() -> None:
    """The files in the tree are those of this version of the format, byte for byte but for compression."""
    for name, vector in generate.vectors():
        head, data = generate.load(generate.FOLDER / f"{name}.txt")
        assert (head["expect"], head["payload"]) == (vector.expect, vector.payload)
        # Another release of zstd may compress differently; the clear parts stay the same.
        digest = hashlib.sha256(data[:128]).hexdigest()
        assert digest == hashlib.sha256(vector.data[:128]).hexdigest(), name


_ODD: tuple[dict[str, Any], ...] = (
    {"duration_ns": 0}, {"duration_ns": 2**40}, {"duration_ns": -5, "start_unix_ns": -(2**63)},
    {"attributes": {"agentguard.cost.usd": 0.5, "gen_ai.usage.input_tokens": 70_000}},
    {"attributes": {"gen_ai.agent.name": "é" * 40, "error.type": "Timeout"}}, {"kind": "tool"},
)  # fmt: skip


@pytest.mark.parametrize("odd", [*range(len(_ODD) + 1)])
@pytest.mark.parametrize("count", [1, 7, 300])
def test_features_by_two_readers(count: int, odd: int) -> None:
    """Feature blocks of every form say the same to the reader that was written from the page alone."""
    spans = [make_span(i, name=f"n{i}", attributes={"gen_ai.tool.name": f"t{i}"}) for i in range(count)]
    for place, changes in enumerate(_ODD[:odd]):
        spans[place % count] = spans[place % count]._replace(**changes)
    plain = encode_features(grid_of(spans, 5))
    columns = reader.features(plain, DESCRIPTION)
    found = decode_features(plain).columns
    assert list(columns) == list(found)
    for name, column in found.items():
        own = column.texts() if column.dictionary else list(column.values)
        assert list(map(repr, columns[name])) == list(map(repr, own)), name
