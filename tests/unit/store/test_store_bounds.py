"""Reading takes no more memory because there is more to read."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from agentguard.store import Query, Store, _cache, _sealing, stats_of
from agentguard.store._cache import FooterCache
from agentguard.store._layout import Kind
from tests.support.clock import START_UNIX_NS
from tests.support.faulty_disk import FaultyDisk
from tests.support.spans import make_span
from tests.support.stores import fill, new_store


def _store(folder: Path, segments: int) -> Store:
    """A store of sealed segments of a hundred spans."""
    store = new_store(folder, FaultyDisk())
    for n in range(segments):
        start = START_UNIX_NS + n * 100_000
        spans = [make_span(n * 100 + i, start_unix_ns=start + i) for i in range(100)]
        fill(store, spans, is_sealed=True, frame_spans_max=50)
    store.seal_segments()
    return store


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Store]:
    """A store, and one that is five times as large."""
    base = tmp_path_factory.mktemp("bounds")
    return _store(base / "small", 8), _store(base / "large", 40)


def _peak(work: Callable[[Query], object], store: Store) -> int:
    """Most bytes that reading took at a time, without what the footers take."""
    list(store.query().spans(trace_id="f" * 32))
    work(store.query())
    gc.collect()
    tracemalloc.start()
    try:
        work(store.query())
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "work",
    [
        lambda query: sum(1 for _ in query.spans()),
        lambda query: sum(1 for _ in query.positions()),
        lambda query: sum(1 for _ in query.features()),
        lambda query: len(list(query.spans(newest_first=True, limit=10))),
        stats_of,
    ],
    ids=["spans", "positions", "features", "newest", "stats"],
)
def test_memory_is_flat(stores: tuple[Store, Store], work: Callable[[Query], object]) -> None:
    """Five times the spans take the same memory, but for the list of files."""
    small, large = (_peak(work, store) for store in stores)
    assert large < small * 1.3 + 60_000, (small, large)


def test_the_control_arm_grows(stores: tuple[Store, Store]) -> None:
    """Keeping all spans is seen by this measure."""
    small, large = (_peak(lambda query: len(list(query.spans())), store) for store in stores)
    assert large > small * 3


def test_footers_are_bounded(stores: tuple[Store, Store]) -> None:
    """The cache gives up footers that were not used for longest, and reading goes on as before."""
    _, store = stores
    cache = FooterCache(bytes_max=20_000)
    for _ in range(2):
        assert sum(1 for _ in Query(store.segments, store.keystore, cache).spans()) == 4000
    assert 1 < len(cache._known) < 12
    assert sum(known.footer.memory_bytes for known in cache._known.values()) == cache._bytes <= 20_000


def test_keys_are_bounded(stores: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of the files that were opened again last are kept, of no more files than so many."""
    _, store = stores
    monkeypatch.setattr(_cache, "_KEYS_MAX", 3)
    cache = FooterCache()
    for _ in range(3):
        assert sum(1 for _ in Query(store.segments, store.keystore, cache).spans()) == 4000
    assert len(cache._keys) == 3
    assert set(cache._keys) <= set(cache._known)


def test_sealing_keeps_few_feature_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are written side by side once they are many, not kept until the end; all are found again."""
    monkeypatch.setattr(_sealing, "_FEATURES_BYTES_MAX", 20_000)
    store = new_store(tmp_path / "store", FaultyDisk())
    fill(store, [make_span(i, start_unix_ns=START_UNIX_NS + i) for i in range(2000)], is_sealed=False)
    assert store.seal_segments() == 1
    blocks = list(store.query().features(["start_unix_ns"]))
    starts = [start for block in blocks for start in block.columns["start_unix_ns"].values]
    assert starts == [START_UNIX_NS + i for i in range(2000)]
    cache = FooterCache()
    (path,) = store.segments.iterdir()
    with cache.open(path, store.keystore, pytest.fail) as segment:  # type: ignore[union-attr, arg-type]
        kinds = [place.kind for place in segment.footer.places]  # type: ignore[union-attr]
    places = [i for i, kind in enumerate(kinds) if kind == Kind.FEATURES]
    runs = 1 + sum(after - before > 1 for before, after in pairwise(places))
    assert 1 < runs < len(places) / 2, (runs, len(places))
