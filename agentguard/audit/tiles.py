"""
The tile layout of C2SP tlog-tiles: a tree as static files that anyone can serve.

Pure: leaves in, paths and bytes out.

Source: C2SP tlog-tiles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agentguard.audit.tree import root_hash

TILE_HASHES = 256
"""Hashes in a full tile."""


def tile_path(level: int, index: int, width: int = TILE_HASHES) -> str:
    """
    Name a tile.

    Args:
        level:
            0 for leaves; each level above holds one hash for 256 below it.
        index:
            Which tile of the level.
        width:
            Hashes in it; fewer than 256 give a partial tile.

    Returns:
        A relative path.

    Example:
        >>> tile_path(0, 1234067)
        'tile/0/x001/x234/067'
        >>> tile_path(1, 0, 3)
        'tile/1/000.p/3'
    """
    return f"tile/{level}/{_index_path(index)}{_partial(width)}"


def hash_tiles(leaves: Sequence[bytes]) -> Iterator[tuple[str, bytes]]:
    """
    Cut a tree into its tiles.

    Args:
        leaves:
            Leaf hashes of the whole tree.

    Yields:
        Path and bytes of every tile, the rightmost of a level partial where it is not full.
    """
    hashes, level = list(leaves), 0
    while hashes:
        for index, start in enumerate(range(0, len(hashes), TILE_HASHES)):
            tile = hashes[start : start + TILE_HASHES]
            yield tile_path(level, index, len(tile)), b"".join(tile)
        full = len(hashes) // TILE_HASHES * TILE_HASHES
        hashes = [root_hash(hashes[start : start + TILE_HASHES]) for start in range(0, full, TILE_HASHES)]
        level += 1


def _index_path(index: int) -> str:
    groups = [f"{index % 1000:03d}"]
    while index := index // 1000:
        groups.insert(0, f"x{index % 1000:03d}")
    return "/".join(groups)


def _partial(width: int) -> str:
    return "" if width == TILE_HASHES else f".p/{width}"
