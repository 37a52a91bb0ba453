"""What the store does for a span, counted: bytes, compressions, seals, objects; never time."""

from __future__ import annotations

import random
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentguard.seal import SealKey
from agentguard.store import _codec
from agentguard.store._derive import encode_features
from agentguard.store._features import decode_features, numbers_of, texts_of
from agentguard.store._grid import grid_of, pack_grid, unpack_grid
from agentguard.values import SpanRecord
from agentguard.values import attributes as names
from tests.support.spans import FinishedSpan
from tests.support.stores import new_store, new_writer

TEXT = (
    "the customer asks for a refund of an order that has not arrived after ten days and wants to know when the "
    "money will be on the account again since the parcel was returned to the sender by mistake"
)
WORDS = TEXT.split()


def spans_of(count: int) -> list[SpanRecord]:
    """Model calls of one agent, with text and random ids; the same in every run."""
    chance = random.Random(1)
    return [
        SpanRecord(
            chance.randbytes(16).hex(), chance.randbytes(8).hex(), "", "chat gpt-5", "model", "client",
            1_767_225_600_000_000_000 + number * 50_000, chance.randrange(10**9), "ok", "",
            {
                "gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-5", "gen_ai.agent.name": "support",
                "gen_ai.usage.input_tokens": chance.randrange(4000),
                "gen_ai.usage.output_tokens": chance.randrange(900),
                "gen_ai.response.finish_reasons": ("stop",), "agentguard.attempts": 1, "server.port": 443,
                "agentguard.input.content": " ".join(chance.choices(WORDS, k=30)),
            },
        )
        for number in range(count)
    ]  # fmt: skip


SPANS = spans_of(1000)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often something is compressed, decompressed, sealed or opened."""
    counts: Counter[str] = Counter()

    def count(owner: Any, name: str) -> None:
        work: Callable[..., Any] = getattr(owner, name)

        def counting(*args: Any, **settings: Any) -> Any:
            counts[name.strip("_")] += 1
            return work(*args, **settings)

        monkeypatch.setattr(owner, name, counting)

    count(_codec, "_packed")
    count(SealKey, "seal")
    count(SealKey, "seal_at")
    count(SealKey, "open")
    return counts


def test_bytes_of_a_frame() -> None:
    """A hundred spans take no more bytes than they did, before and after compression."""
    grid = grid_of(SPANS[:100], 0)
    plain = pack_grid(grid)
    assert len(plain) <= 100 * 212
    assert len(_codec.compress(plain)[1]) <= 100 * 95
    # Start 4, duration 4, tokens 2 and 2; what is the same for all takes nothing.
    assert len(encode_features(grid)) <= 100 * 12 + 320


def test_values_that_are_shared_are_written_once() -> None:
    """Ten times the spans take no more room for what all of them have."""
    grid = unpack_grid(pack_grid(grid_of(SPANS, 0)))
    shared = [len(column) for group in grid.groups for column in group.columns].count(1)
    assert shared == 6
    assert [len(column) for column in (grid.name, grid.kind, grid.status, grid.event, grid.scope)] == [1] * 5


def test_a_frame_is_compressed_once_and_sealed_once(tmp_path: Path, counted: Counter[str]) -> None:
    """Of a batch: one compression, one seal for spans and one for features; sealing a segment compresses none again."""
    store = new_store(tmp_path / "store")
    writer = new_writer(store, frame_spans_max=100, frame_bytes_max=2**30, is_sealing=False)
    writer.append(FinishedSpan(SPANS[0]))
    writer.flush(10)
    counted.clear()
    for first in range(1, 701, 350):  # Fewer than eight batches at a time: those share a frame.
        for span in SPANS[first : first + 350]:
            writer.append(FinishedSpan(span))
        writer.flush(10)
    assert counted == {"packed": 8, "seal_at": 16}  # 100, 100, 100, 50, twice.
    writer.close(10)
    counted.clear()
    store.seal_segments()
    # 100 as they are; 50 and 100 are no chunk together; the resource and the footer.
    assert counted["packed"] <= 4
    assert counted["open"] <= 20
    assert counted["seal"] <= 21
    assert sum(1 for _ in store.query().spans()) == 701


def test_a_scan_of_features_opens_nothing_else(tmp_path: Path, counted: Counter[str]) -> None:
    """One feature over a sealed segment opens its feature blocks and the footer, no frame of spans."""
    store = new_store(tmp_path / "store")
    writer = new_writer(store, is_sealing=True)
    for span in SPANS:
        writer.append(FinishedSpan(span))
    writer.close(10)
    query = store.query()
    assert sum(block.rows for block in query.features(["duration_ns"])) == 1000
    counted.clear()
    assert sum(block.rows for block in query.features(["duration_ns"])) == 1000
    assert counted["open"] <= 1000 / 96 + 1


def test_one_feature_of_a_block_makes_few_objects() -> None:
    """A column that is asked for is a view or one array, whatever else the block holds."""
    plain = encode_features(grid_of(SPANS, 0))
    wanted = frozenset({"duration_ns"})
    decode_features(plain, wanted)
    tracemalloc.start()
    try:
        block = decode_features(plain, wanted)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert block.rows == 1000
    assert peak <= 1000 * 8 * 2 + 4096


def test_features_where_each_span_has_attributes_of_its_own() -> None:
    """With more groups than a byte can number, features are still what they are span by span."""
    spans = [
        span._replace(
            attributes={f"own.{i}": i, names.AGENT_NAME: f"agent {i}", names.INPUT_TOKENS: i * 1000},
            kind="model" if i % 3 else "tool",
        )
        for i, span in enumerate(SPANS[:300])
    ]
    columns = decode_features(encode_features(grid_of(spans, 0))).columns.values()
    whole = [column.texts() if column.dtype == "dict" else column.values.tolist() for column in columns]
    found = [list(map(repr, row)) for row in zip(*whole, strict=True)]
    assert found == [list(map(repr, (*numbers_of(span), *texts_of(span)))) for span in spans]
