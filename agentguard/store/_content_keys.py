"""
The keys of content: seals groups for the writer, opens them for whoever reads.

A group has the key of its user and that of its conversation joined: both are
needed, so that erasing either is enough.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

from agentguard.errors import KeyUnavailableError, SegmentCorruptError, TamperedError
from agentguard.seal import NONCE_BYTES, SealKey
from agentguard.store import _codec
from agentguard.store._content_frame import ContentFrame
from agentguard.store._groups import (
    ERASED,
    NO_KEY,
    ContentPart,
    SealedGroup,
    decode_parts_of,
    encode_content,
    encode_sets,
)
from agentguard.store._keyring import CONVERSATION, USER, Keyring, Subject, SubjectKey
from agentguard.store._layout import Kind
from agentguard.store._live import Body
from agentguard.store._msgpack import decode_plain
from agentguard.store._subjects import PENDING, Placed, encode_group

GROUP_LABEL: Final = b"agentguard/v1/subject"
_GROUP_KEYS_MAX: Final = 1024
_LARGE_ROWS: Final = 32
"""A group of so many rows gains little from more."""


class JoinedContent(NamedTuple):
    """The content of some consecutive spans, as one frame."""

    first_sequence: int
    rows: int
    body: Body


class ContentKeys:
    """
    Seals and opens groups of content.

    Opening is safe for threads. Sealing is for one thread at a time, and waits for
    the disk where a key is new.
    """

    def __init__(
        self, keyring: Keyring, store_id: bytes, random_bytes: Callable[[int], bytes] = os.urandom
    ) -> None:
        self._keyring = keyring
        self._random_bytes = random_bytes
        self._store_id = store_id
        self._keys: dict[tuple[str, str], GroupKey] = {}
        self._state = (0, 0)
        self._opening: dict[tuple[bytes, bytes], tuple[int, GroupKey]] = {}

    def sealed(self, bodies: Sequence[Body]) -> list[Body]:
        """
        Make bodies for a file of those of content that `span_bodies` made; any other one is given back.

        Raises:
            OSError: New keys could not be brought to disk; nothing is sealed.
            StoreError: The keyring is full.
        """
        pending = [decode_plain(body.data, "content") for body in bodies if body.codec == PENDING]
        if not pending:
            return list(bodies)
        state = (self._keyring.number, self._keyring.day)
        wanted = {(user, talk) for _, _, groups in pending for user, talk, *_ in groups}
        if state != self._state or len(self._keys) + len(wanted) > _GROUP_KEYS_MAX:
            # Somebody was erased: no key of theirs stays in memory. Or another day needs other keys.
            self._state = state
            self._keys.clear()
        missing = [pair for pair in wanted if pair not in self._keys]
        if missing:
            self._draw(missing)
        sealed = map(self._sealed, pending)
        return [
            body._replace(codec=_codec.RAW, data=next(sealed)) if body.codec == PENDING else body
            for body in bodies
        ]

    def _sealed(self, content: Sequence[Any]) -> bytes:
        """Seal the content of one frame, for which there are keys."""
        first, rows, groups = content
        # One for all: no key seals two groups of a frame.
        nonce = self._random_bytes(NONCE_BYTES)
        heads, blobs = [], []
        for user, talk, steps, piece in groups:
            key = self._keys[user, talk]
            heads.append((*key.refs, steps))
            blobs.append(key.seal_at(nonce, piece))
        return encode_sets(first, rows, [(nonce, heads, blobs)])

    def _draw(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Have keys for some pairs of user and conversation."""
        named = [(_subject(USER, user), _subject(CONVERSATION, talk)) for user, talk in pairs]
        known = self._keyring.keys_for({subject for pair in named for subject in pair if subject is not None})
        for pair, (user, talk) in zip(pairs, named, strict=True):
            self._keys[pair] = GroupKey(self._store_id, user and known[user], talk and known[talk])

    def open_groups(self, groups: Sequence[SealedGroup]) -> Iterator[list[ContentPart] | Exception | str]:
        """Open the content of groups, as `GroupOpener` says."""
        try:
            number = self._keyring.number
        except OSError:
            number = -1  # It cannot be read just now: whether a key in memory still holds is not known.
        for group in groups:
            key = self._opening_key(group.user, group.conversation, number)
            yield key if isinstance(key, str) else _opened(group, key)

    def joined(self, frames: Sequence[ContentFrame]) -> JoinedContent:
        """
        Make one frame of content of several: what they have of the same user and conversation is one group.

        Large groups compress better, and opening one costs the same as opening a small one; one
        that is large already stays as it is, and so does what cannot be opened, such as what was erased.

        Raises:
            OSError: The keyring cannot be read just now.
        """
        first = min(frame.first_sequence for frame in frames)
        rows = max(frame.following for frame in frames) - first
        found: dict[tuple[bytes, bytes], list[tuple[int, SealedGroup]]] = {}
        for frame in frames:
            moved = frame.first_sequence - first
            for group in frame.groups:
                found.setdefault((group.user, group.conversation), []).append((moved, group))
        nonce, number = self._random_bytes(NONCE_BYTES), self._keyring.number
        groups: list[SealedGroup] = []
        for refs, those in found.items():
            key = self._opening_key(*refs, number)
            parts: list[Placed] = []
            for moved, group in those:
                opened = None if isinstance(key, str) else _opened_to_join(group, key)
                places = [place + moved for place in group.places]
                if opened is None:
                    groups.append(group._replace(places=places))
                elif len(opened) == 1:
                    parts.append((places, opened[0]))
                else:
                    at = iter(places)
                    parts += [(list(islice(at, part.rows)), part) for part in opened]
            if parts and not isinstance(key, str):
                together, plain = encode_group(parts)
                blob = key.seal_at(nonce, _codec.compress_content(plain))
                groups.append(SealedGroup(nonce, *refs, together, blob))
        return JoinedContent(first, rows, Body(Kind.CONTENT, _codec.RAW, encode_content(first, rows, groups)))

    def _opening_key(self, user: bytes, conversation: bytes, number: int) -> GroupKey | str:
        """The key of a group, or why there is none; one that was found holds until somebody is erased."""
        known = self._opening.get((user, conversation))
        if known is not None and known[0] == number:
            return known[1]
        keys = []
        try:
            for ref in (user, conversation):
                found = self._keyring.find(ref) if ref else None
                if ref and found is None:
                    return ERASED
                keys.append(SubjectKey(ref, found) if found is not None else None)
        except KeyUnavailableError:
            return NO_KEY
        if len(self._opening) >= _GROUP_KEYS_MAX or (known is not None and known[0] != number):
            # After an erasure nothing of before stays in memory.
            self._opening.clear()
        key = GroupKey(self._store_id, *keys)
        self._opening[user, conversation] = (number, key)
        return key


def _subject(kind: str, text: str) -> Subject | None:
    return Subject(kind, text) if text else None


def _opened(group: SealedGroup, key: GroupKey) -> list[ContentPart] | Exception:
    """Open a group with its key; or say what is wrong with it."""
    try:
        return _parts(group, key.open(group.nonce, group.blob))
    except (SegmentCorruptError, TamperedError) as error:
        return error


def _opened_to_join(group: SealedGroup, key: GroupKey) -> list[ContentPart] | None:
    """Open a group that gains from others beside it; `None` for a large one, and one that does not open."""
    try:
        piece = key.open(group.nonce, group.blob)
        is_large = len(group.places) >= _LARGE_ROWS and _codec.is_compressed(piece)
        return None if is_large else _parts(group, piece)
    except (SegmentCorruptError, TamperedError):
        return None  # Whoever reads it is told.


def _parts(group: SealedGroup, piece: bytes) -> list[ContentPart]:
    return decode_parts_of(_codec.decompress_content(piece), len(group.places))


class GroupKey:
    """
    The key of a group, derived from those of its user and its conversation.

    Both are needed where there are both, so that erasing either is enough; a key that
    is derived takes no room, where one that is wrapped twice takes 80 bytes.

    Source:
        RFC 5869, section 2.2: HMAC of one secret under another is HKDF-Extract; that
        it holds while either is secret, as in TLS 1.3 (RFC 8446, section 7.1).
    """

    __slots__ = ("_context", "_key", "refs")

    def __init__(self, store_id: bytes, user: SubjectKey | None, conversation: SubjectKey | None) -> None:
        keys = [one.key for one in (user, conversation) if one is not None]
        secret = keys[0] if len(keys) == 1 else keys[0].joined(keys[1])
        self.refs = refs = (user.ref if user else b"", conversation.ref if conversation else b"")
        # What key and seal are bound to: the store, and the references with their lengths.
        self._context = store_id + b"".join([bytes([len(ref)]) + ref for ref in refs])
        self._key = SealKey(secret, GROUP_LABEL, self._context)

    def seal_at(self, nonce: bytes, piece: bytes) -> bytes:
        """Seal a piece of content; never two under one nonce."""
        return self._key.seal_at(nonce, piece, self._context)

    def open(self, nonce: bytes, blob: bytes) -> bytes:
        """
        Open what was sealed.

        Raises:
            TamperedError: It is not what was sealed.
        """
        return self._key.open_at(nonce, blob, self._context)
