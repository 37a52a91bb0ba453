"""Large stores, made quickly: real files with ids of their own, from frames that were encoded before."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator

import msgspec
from storage_sample import START_UNIX_NS, make_spans

from agentguard.store import Disk, Store
from agentguard.store._codec import RAW
from agentguard.store._derive import encode_features
from agentguard.store._facts import facts_of
from agentguard.store._grid import Grid, grid_of, pack_grid
from agentguard.store._layout import Kind
from agentguard.store._live import Body, LiveSegment, make_body

FRAME_SPANS = 400
SEGMENT_SPANS = 400 * 50
"""As long as a writer makes them of such spans, where they come quickly."""


def build_large(store: Store, count: int, say: Callable[[str], None]) -> Store:
    """
    Fill a store with this many spans, sealed.

    What was said repeats from segment to segment; ids do not. The frames go into a file
    that is sealed where it lies, like those of a writer.
    """
    sample = make_spans(SEGMENT_SPANS, seed=3)
    grids = [grid_of(sample[i : i + FRAME_SPANS], i) for i in range(0, len(sample), FRAME_SPANS)]
    features = [encode_features(grid) for grid in grids]
    chance = random.Random(5)
    made, told = 0, time.monotonic()
    while made < count:
        frames = min(len(grids), -(-(count - made) // FRAME_SPANS))
        live = LiveSegment(
            store.segments, keystore=store.keystore, writer=chance.randbytes(8), n=0, resource={},
            created_unix_ns=START_UNIX_NS, disk=Disk(),
        )  # fmt: skip
        live.append(list(_bodies(grids[:frames], features, chance)))
        live.finish(START_UNIX_NS)
        live.close()
        made += frames * FRAME_SPANS
        if time.monotonic() - told > 5:
            say(f"{made:,} of {count:,} spans")
            told = time.monotonic()
    return store


def _bodies(grids: list[Grid], features: list[bytes], chance: random.Random) -> Iterator[Body]:
    """Frames of spans with other ids, and their feature blocks."""
    mask = chance.randbytes(16)
    for grid, block in zip(grids, features, strict=False):
        renamed = msgspec.structs.replace(
            grid,
            trace=_other(grid.trace, mask),
            span=_other(grid.span, mask[:8]),
            parent=_other(grid.parent, mask[:8]),
        )
        facts = facts_of(renamed)
        yield make_body(Kind.SPANS, pack_grid(renamed), records=grid.count)._replace(facts=facts)
        yield Body(Kind.FEATURES, RAW, block, facts=facts)


def _other(ids: object, mask: bytes) -> bytes:
    """Ids that differ from these by the mask; an empty one stays empty."""
    assert isinstance(ids, bytes)
    size = len(mask)
    whole = int.from_bytes(ids, "little") ^ int.from_bytes(mask * (len(ids) // size), "little")
    found = bytearray(whole.to_bytes(len(ids), "little"))
    nothing = bytes(size)
    for place in range(0, len(ids), size):
        if ids[place : place + size] == nothing:
            found[place : place + size] = nothing
    return bytes(found)
