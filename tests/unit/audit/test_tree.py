"""RFC 6962 trees against published roots and against brute force."""

from __future__ import annotations

import hashlib

import pytest

from agentguard.audit.tree import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    is_consistent,
    is_included,
    node_hash,
    root_hash,
)

# The eight entries and the roots of the trees over the first n of them: the
# reference values of the certificate-transparency project's merkle tree tests.
ENTRIES = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAVES = [hashlib.sha256(b"\x00" + bytes.fromhex(entry)).digest() for entry in ENTRIES]


def brute(leaves: list[bytes]) -> bytes:
    """MTH as RFC 6962 writes it, by recursion."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(brute(leaves[:split]), brute(leaves[split:]))


@pytest.mark.parametrize("size", range(1, 9))
def test_published_roots(size: int) -> None:
    """The roots that certificate transparency logs agree on."""
    assert root_hash(LEAVES[:size]).hex() == ROOTS[size - 1]


def test_the_empty_tree() -> None:
    """The root without leaves is the hash of nothing."""
    assert root_hash([]) == EMPTY_ROOT == Frontier().root()


def test_published_inclusion_proof() -> None:
    """The audit path of the first of eight leaves, as published."""
    assert [part.hex() for part in inclusion_proof(LEAVES, 0)] == [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]


def test_every_pair_up_to_33() -> None:
    """Roots, inclusion and consistency of all sizes agree with brute force, and wrong ones fail."""
    leaves = [hashlib.sha256(bytes([number])).digest() for number in range(33)]
    roots = [brute(leaves[:size]) for size in range(34)]
    frontier = Frontier()
    for size in range(1, 34):
        frontier.append(leaves[size - 1])
        assert frontier.copy().root() == roots[size]
        for index in range(size):
            proof = inclusion_proof(leaves[:size], index)
            right = {"index": index, "size": size, "proof": proof, "root": roots[size]}
            assert is_included(leaf=leaves[index], **right)
            assert not is_included(leaf=leaves[index - 1] if size > 1 else bytes(32), **right)
            assert not is_included(leaf=leaves[index], **{**right, "proof": [*proof, bytes(32)]})
        for old in range(1, size + 1):
            proof = consistency_proof(leaves[:size], old)
            both = {"old_size": old, "new_size": size, "new_root": roots[size], "proof": proof}
            assert is_consistent(old_root=roots[old], **both)
            assert not is_consistent(old_root=bytes(32), **both)
