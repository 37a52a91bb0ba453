"""
Merkle tree hashes, inclusion and consistency proofs of RFC 6962.

Pure functions over leaf hashes. `Frontier` grows a tree one leaf at a time and
keeps only its O(log n) roots of full subtrees.

Source: RFC 6962 section 2.1; verification as in RFC 9162 section 2.1.3.2 and 2.1.4.2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

EMPTY_ROOT = hashlib.sha256(b"").digest()
"""Root of the tree without leaves."""
_INNER = hashlib.sha256(b"\x01")


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node: SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """
    A growing tree, kept as the roots of its full subtrees.

    Example:
        >>> frontier = Frontier()
        >>> frontier.root() == EMPTY_ROOT
        True
        >>> frontier.append(bytes(32))
        >>> frontier.root() == bytes(32), frontier.size
        (True, 1)
    """

    __slots__ = ("_levels", "size")

    def __init__(self) -> None:
        self._levels: list[bytes | None] = []
        """Root of the full subtree of 2^i leaves at place i, where the size has that bit."""
        self.size = 0
        """Leaves so far."""

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        self.extend((leaf,))

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Add leaf hashes in order; level by level, which is cheaper than one by one."""
        levels, level = self._levels, 0
        self.size += len(leaves)
        nodes = list(leaves)
        while nodes:
            if level == len(levels):
                levels.append(None)
            left = levels[level]
            if left is not None:
                nodes.insert(0, left)
            levels[level] = nodes.pop() if len(nodes) & 1 else None
            each = iter(nodes)
            nodes = []
            for one, other in zip(each, each, strict=True):
                # As `node_hash`; to copy a hash is cheaper than to make one.
                node = _INNER.copy()
                node.update(one)
                node.update(other)
                nodes.append(node.digest())
            level += 1

    def root(self) -> bytes:
        """Root of the tree as it is now."""
        root: bytes | None = None
        for node in self._levels:
            if node is not None:
                root = node if root is None else node_hash(node, root)
        return EMPTY_ROOT if root is None else root

    def copy(self) -> Frontier:
        """Return an independent tree of the same leaves."""
        twin = Frontier()
        twin._levels = list(self._levels)
        twin.size = self.size
        return twin


def root_hash(leaves: Sequence[bytes]) -> bytes:
    """
    Root of a tree: MTH(D[n]) of RFC 6962 section 2.1.

    Args:
        leaves:
            Leaf hashes, 32 bytes each.

    Returns:
        32 bytes.
    """
    frontier = Frontier()
    frontier.extend(leaves)
    return frontier.root()


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """
    Make the audit path of one leaf: PATH(m, D[n]).

    Args:
        leaves:
            Leaf hashes of the whole tree.
        index:
            Which leaf, from 0.

    Returns:
        Hashes from the leaf's sibling up to the root's child.
    """
    if len(leaves) == 1:
        return []
    split = _split(len(leaves))
    if index < split:
        return [*inclusion_proof(leaves[:split], index), root_hash(leaves[split:])]
    return [*inclusion_proof(leaves[split:], index - split), root_hash(leaves[:split])]


def is_included(*, leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """
    Whether a proof shows that a leaf stands at an index of the tree with a root.

    Args:
        leaf:
            Leaf hash.
        index:
            Which leaf, from 0.
        size:
            Leaves of the tree.
        proof:
            As `inclusion_proof` makes it; any bytes are safe.
        root:
            Root of the tree, from a signed checkpoint.

    Returns:
        True only for a right proof.
    """
    if not 0 <= index < size:
        return False
    node, last, computed = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if node & 1 or node == last:
            computed = node_hash(sibling, computed)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            computed = node_hash(computed, sibling)
        node >>= 1
        last >>= 1
    return last == 0 and computed == root


def consistency_proof(leaves: Sequence[bytes], old_size: int) -> list[bytes]:
    """
    Make the proof that a tree extends an older one: PROOF(m, D[n]).

    Args:
        leaves:
            Leaf hashes of the newer tree.
        old_size:
            Leaves of the older one, 1 to `len(leaves)`.

    Returns:
        Hashes, empty where both are one.
    """
    return _subproof(leaves, old_size, is_whole=True)


def is_consistent(
    *, old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """
    Whether a proof shows that the newer tree begins with all leaves of the older one.

    Args:
        old_size:
            Leaves of the older tree.
        old_root:
            Its root.
        new_size:
            Leaves of the newer tree.
        new_root:
            Its root.
        proof:
            As `consistency_proof` makes it; any bytes are safe.

    Returns:
        True only for a right proof.
    """
    if not 0 < old_size <= new_size:
        return old_size == 0 and old_root == EMPTY_ROOT and not proof
    if old_size == new_size:
        return not proof and old_root == new_root
    path = list(proof)
    if old_size & (old_size - 1) == 0:
        path.insert(0, old_root)
    if not path:
        return False
    node, last = old_size - 1, new_size - 1
    while node & 1:
        node >>= 1
        last >>= 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            new = node_hash(new, sibling)
        node >>= 1
        last >>= 1
    return last == 0 and old == old_root and new == new_root


def _split(size: int) -> int:
    """Return the largest power of two below a size of at least 2."""
    return 1 << ((size - 1).bit_length() - 1)


def _subproof(leaves: Sequence[bytes], old_size: int, *, is_whole: bool) -> list[bytes]:
    """SUBPROOF(m, D[n], b) of RFC 6962 section 2.1.2."""
    if old_size == len(leaves):
        return [] if is_whole else [root_hash(leaves)]
    split = _split(len(leaves))
    if old_size <= split:
        return [*_subproof(leaves[:split], old_size, is_whole=is_whole), root_hash(leaves[split:])]
    return [*_subproof(leaves[split:], old_size - split, is_whole=False), root_hash(leaves[:split])]
