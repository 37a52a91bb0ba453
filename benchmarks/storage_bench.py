"""What the measurements of the storage benchmark share: where they run, and the lines of its table."""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from storage_large import build_large
from storage_rivals import load_orjson
from storage_sample import BATCH_SPANS, Finished, SystemClock

from agentguard.seal import create_key_file
from agentguard.store import SegmentWriter, Store, WriterConfig
from agentguard.values import SpanRecord

ROUNDS = 7
_ALWAYS_AT_ONCE = 2**30


class Row(NamedTuple):
    """One line of the table."""

    name: str
    figure: float
    unit: str
    bar: str
    """At most or at least what; empty where nothing was promised."""
    is_held: bool | None = None
    note: str = ""


class Bench:
    """Where it runs, and how much."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.spans: int = arguments.spans
        self.large: int = arguments.large
        self.huge: int = arguments.huge
        self.folder: str | None = arguments.folder
        memory = Path("/dev/shm")  # CPU is what counts: without a disk there is less noise.
        self.memory: str | None = self.folder or (str(memory) if memory.is_dir() else None)
        self.dumps = load_orjson().dumps
        self._huge_store: Store | None = None
        self.held = contextlib.ExitStack()
        """Folders that last until the end."""

    def huge_store(self) -> Store:
        """The store with the most spans; made once."""
        if self._huge_store is None:
            folder = self.held.enter_context(self.place(on_disk=True))
            self._huge_store = build_large(new_store(folder), self.huge, say)
        return self._huge_store

    @contextlib.contextmanager
    def place(self, *, on_disk: bool = False) -> Iterator[Path]:
        """A folder that is gone afterwards."""
        with tempfile.TemporaryDirectory(dir=self.folder if on_disk else self.memory) as folder:
            yield Path(folder)


def at_most(name: str, figure: float, unit: str, bar: float, note: str = "") -> Row:
    """A line that is held where the figure is small enough."""
    return Row(name, figure, unit, f"≤ {bar:g}", figure <= bar, note)


def at_least(name: str, figure: float, unit: str, bar: float, note: str = "") -> Row:
    """A line that is held where the figure is large enough."""
    return Row(name, figure, unit, f"≥ {bar:,g}" if bar < 1e6 else f"≥ {bar:,.0f}", figure >= bar, note)


def say(text: str) -> None:
    """Tell who waits."""
    print(f"  {text}", file=sys.stderr, flush=True)


def new_store(folder: Path) -> Store:
    """An empty store."""
    folder.mkdir(mode=0o700, exist_ok=True)
    provider = create_key_file(folder / "key")
    return Store.create(folder / "store", provider=provider, clock=SystemClock())


def new_writer(store: Store, **settings: Any) -> SegmentWriter:
    """A writer whose frames are as long as the floor's batches."""

    def fail(where: str, error: BaseException) -> None:
        raise SystemExit(f"storage: {where}: {error!r}")

    settings = {
        "frame_spans_max": BATCH_SPANS,
        "frame_bytes_max": _ALWAYS_AT_ONCE,
        "is_sealing": False,
    } | settings
    return store.writer(resource={}, on_internal_error=fail, config=WriterConfig(**settings))


def write(writer: SegmentWriter, spans: Sequence[SpanRecord]) -> Callable[[], None]:
    """All that writing takes, from the call that ends a span to the sync."""
    sources = [Finished(span) for span in spans]

    def work() -> None:
        # Seven batches at a time: with eight in the queue frames would be longer.
        for first in range(0, len(sources), 7 * BATCH_SPANS):
            for source in sources[first : first + 7 * BATCH_SPANS]:
                writer.append(source)
            result = writer.flush(600)
            if not result.is_complete or result.dropped:
                raise SystemExit(f"storage: got {result}, expected all spans on disk")

    return work


def size_of(store: Store) -> int:
    """Bytes of all segments and packs."""
    return sum(path.stat().st_size for path in store.segments.iterdir())
