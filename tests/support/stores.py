"""Stores for tests: made quickly, with a key that is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agentguard.store import Disk, SegmentWriter, Store, WriterConfig
from agentguard.values import OutcomeRecord, SpanRecord
from tests.support.clock import FrozenClock
from tests.support.spans import FinishedSpan


class KnownKey:
    """A key provider with a fixed key; nothing to read, nothing to derive."""

    name = "file"

    def __init__(self, byte: int = 7) -> None:
        self._key = bytes([byte]) * 32

    def key(self, salt: bytes) -> bytes:
        return self._key


def raise_error(where: str, error: BaseException) -> None:
    """An internal error that a test does not expect."""
    raise AssertionError(f"internal error in {where}: {error!r}") from error


def new_store(folder: Path, disk: Disk | None = None) -> Store:
    """Make an empty store."""
    return Store.create(folder, provider=KnownKey(), clock=FrozenClock(), disk=disk)


def open_store(folder: Path) -> Store:
    """Open a store that `new_store` made."""
    return Store.open(folder, provider=KnownKey(), clock=FrozenClock())


def new_writer(
    store: Store, on_internal_error: Callable[[str, BaseException], None] = raise_error, **settings: Any
) -> SegmentWriter:
    """Make a writer."""
    return store.writer(
        resource={"service.name": "test"},
        on_internal_error=on_internal_error,
        config=WriterConfig(**settings),
    )


def fill(
    store: Store, spans: Sequence[SpanRecord], *, is_sealed: bool, frame_spans_max: int = 16, **settings: Any
) -> None:
    """Write spans, and one outcome, with a writer of their own."""
    writer = new_writer(store, is_sealing=is_sealed, frame_spans_max=frame_spans_max, **settings)
    for span in spans:
        assert writer.append(FinishedSpan(span))
    writer.append_outcome(OutcomeRecord(spans[0].span_id, 5, "refund", "refund", 0.5, {"by": "person"}))
    assert writer.close(20).is_complete


def segment_files(store: Store) -> list[Path]:
    """The segments of a store, by name."""
    return sorted(store.segments.glob("*.ags"))
