"""Published vectors of RFC 6962 trees and C2SP notes and tiles."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from agentguard.audit import NoteKey
from agentguard.audit.tiles import tile_path
from agentguard.audit.tree import consistency_proof, inclusion_proof, is_consistent, is_included, root_hash

FOLDER = Path(__file__).parents[2] / "vectors" / "log"
TREE: dict[str, Any] = json.loads((FOLDER / "rfc6962.json").read_text(encoding="utf-8"))
C2SP: dict[str, Any] = json.loads((FOLDER / "c2sp.json").read_text(encoding="utf-8"))
LEAVES = [hashlib.sha256(b"\x00" + bytes.fromhex(entry)).digest() for entry in TREE["entries"]]
ROOTS = [bytes.fromhex(root) for root in TREE["roots"]]


def test_roots() -> None:
    """The root over the first n entries, for each n."""
    assert [root_hash(LEAVES[:size]) for size in range(1, 9)] == ROOTS


@pytest.mark.parametrize("vector", TREE["inclusion"], ids=lambda v: f"{v['leaf_index']}-{v['size']}")
def test_inclusion(vector: dict[str, Any]) -> None:
    """The published path is the one that is made, and the one that is accepted."""
    index, size = vector["leaf_index"], vector["size"]
    path = [bytes.fromhex(part) for part in vector["path"]]
    assert inclusion_proof(LEAVES[:size], index) == path
    assert is_included(leaf=LEAVES[index], index=index, size=size, proof=path, root=ROOTS[size - 1])


@pytest.mark.parametrize("vector", TREE["consistency"], ids=lambda v: f"{v['old']}-{v['new']}")
def test_consistency(vector: dict[str, Any]) -> None:
    """The same of consistency."""
    old, new = vector["old"], vector["new"]
    path = [bytes.fromhex(part) for part in vector["path"]]
    assert consistency_proof(LEAVES[:new], old) == path
    assert is_consistent(
        old_size=old, old_root=ROOTS[old - 1], new_size=new, new_root=ROOTS[new - 1], proof=path
    )


@pytest.mark.parametrize("vector", C2SP["notes"], ids=lambda v: str(v["is_right"]))
def test_notes(vector: dict[str, Any]) -> None:
    """Right, wrong and unknown signatures are told apart."""
    assert NoteKey.parse(vector["key"]).checks(vector["note"].encode()) is vector["is_right"]


@pytest.mark.parametrize("vector", C2SP["tiles"], ids=lambda v: v["path"])
def test_tiles(vector: dict[str, Any]) -> None:
    """Tiles have the names that others look for."""
    assert tile_path(vector["level"], vector["index"], vector["width"]) == vector["path"]
