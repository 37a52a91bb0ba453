"""
The keys of content: seals groups for the writer, opens them for whoever reads.

A group has the key of its user and that of its conversation joined: both are
needed, so that erasing either is enough.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final, cast

import msgspec

from agentguard.errors import KeyUnavailableError, SegmentCorruptError, TamperedError
from agentguard.seal import NONCE_BYTES, SealKey
from agentguard.store import _codec
from agentguard.store._grid import ELSEWHERE, Grid, content_of, with_content
from agentguard.store._groups import ERASED, NO_KEY, ContentPart, SealedGroup, groups_of
from agentguard.store._keyring import CONVERSATION, USER, Keyring, Subject, SubjectKey
from agentguard.store._layout import Kind
from agentguard.store._live import Body, make_body
from agentguard.store._msgpack import decode_plain
from agentguard.store._subjects import PENDING, ContentGroup

GROUP_LABEL: Final = b"agentguard/v1/subject"
_GROUP_KEYS_MAX: Final = 1024


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
        self._keys: dict[tuple[bytes, bytes], tuple[SealKey, bytes]] = {}
        self._number = 0
        self._opening: dict[tuple[bytes, bytes], tuple[int, SealKey]] = {}

    def sealed(self, body: Body) -> Body:
        """
        Make a body for a file of one that `spans_body` made; any other one is given back.

        Raises:
            OSError: New keys could not be brought to disk; nothing is sealed.
            StoreError: The keyring is full.
        """
        if body.codec != PENDING:
            return body
        if self._keyring.number != self._number:
            # Somebody was erased: no key of theirs stays in memory.
            self._number = self._keyring.number
            self._keys.clear()
        plain, groups = decode_plain(body.data, "content")
        named = [(_subject(USER, user), _subject(CONVERSATION, text)) for user, text, *_ in groups]
        known = self._keyring.keys_for({subject for pair in named for subject in pair if subject is not None})
        sealed = []
        # One for all: no key seals two groups of a frame.
        nonce = self._random_bytes(NONCE_BYTES)
        for (user, conversation), (_, _, places, packed) in zip(named, groups, strict=True):
            of_user = known[user] if user else None
            of_conversation = known[conversation] if conversation else None
            refs = (of_user.ref if of_user else b"", of_conversation.ref if of_conversation else b"")
            found = self._keys.get(refs)
            if found is None:
                if len(self._keys) >= _GROUP_KEYS_MAX:
                    self._keys.clear()
                key = group_key(self._store_id, of_user, of_conversation)
                found = self._keys[refs] = key, group_context(self._store_id, *refs)
            key, context = found
            sealed.append((*refs, places, key.seal_at(nonce, packed, context)))
        codec, data = _codec.compress_two(*with_content(plain, nonce, sealed))
        return Body(Kind.SPANS, codec, data, body.records)

    @staticmethod
    def bare(body: Body) -> Body:
        """Make a body for a file without the content that would have to be sealed."""
        plain, _ = decode_plain(body.data, "content")
        return make_body(Kind.SPANS, plain, records=body.records)

    def open_group(self, group: SealedGroup) -> list[ContentPart] | str:
        """Open the content of a group, as `GroupOpener` says."""
        key = self._opening_key(group.user, group.conversation)
        if isinstance(key, str):
            return key
        context = group_context(self._store_id, group.user, group.conversation)
        plain = _codec.decompress_content(key.open(group.nonce + group.blob, context))
        try:
            parts = [ContentPart.of(part) for part in decode_plain(plain, "content")]
        except (TypeError, ValueError) as error:
            raise SegmentCorruptError("content: got parts of another form, expected columns") from error
        if sum(part.rows for part in parts) != len(group.places):
            raise SegmentCorruptError("content: got rows of another number, expected one for each place")
        return parts

    def regrouped(self, grid: Grid) -> Grid:
        """
        Put groups together that small frames have of the same user and conversation.

        Large groups compress better, and each costs its seal once. What cannot be opened,
        such as what was erased, stays as it is; of a group that was cut, what is elsewhere goes.
        """
        groups: dict[tuple[bytes, bytes], list[SealedGroup]] = {}
        for group in groups_of(grid.content, grid.count, self):
            groups.setdefault((group.user, group.conversation), []).append(group)
        nonce = self._random_bytes(NONCE_BYTES)
        content: dict[bytes, list[Sequence[object]]] = {}
        for refs, parts in groups.items():
            is_whole = len(parts) == 1 and ELSEWHERE not in parts[0].places
            together = None if is_whole else self._together(nonce, *refs, parts)
            if together:
                content.setdefault(nonce, []).append(together)
            else:
                for part in parts:
                    content.setdefault(part.nonce, []).append((*refs, part.places, part.blob))
        return msgspec.structs.replace(grid, content=content_of(content.items()))

    def _together(
        self, nonce: bytes, user: bytes, conversation: bytes, parts: Sequence[SealedGroup]
    ) -> Sequence[object] | None:
        """Seal the rows of some groups as one; `None` where one of them does not open."""
        key = self._opening_key(user, conversation)
        if isinstance(key, str):
            return None
        whole = ContentGroup()
        try:
            for part in parts:
                places = iter(part.places)
                for piece in cast("list[ContentPart]", part.opened()):
                    there = list(islice(places, piece.rows))
                    kept = [i for i, place in enumerate(there) if place != ELSEWHERE]
                    if kept:
                        whole.add([there[i] for i in kept], piece.only(kept))
        except (SegmentCorruptError, TamperedError):
            return None  # Whoever reads it is told.
        packed, _ = whole.packed()
        context = group_context(self._store_id, user, conversation)
        return user, conversation, whole.places, key.seal_at(nonce, packed, context)

    def _opening_key(self, user: bytes, conversation: bytes) -> SealKey | str:
        """The key of a group, or why there is none; one that was found holds until somebody is erased."""
        number = self._keyring.number
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
        if not any(keys):
            raise SegmentCorruptError("content: got a group of nobody, expected a user or a conversation")
        if len(self._opening) >= _GROUP_KEYS_MAX or (known is not None and known[0] != number):
            # After an erasure nothing of before stays in memory.
            self._opening.clear()
        key = group_key(self._store_id, *keys)
        self._opening[user, conversation] = (number, key)
        return key


def _subject(kind: str, text: str) -> Subject | None:
    return Subject(kind, text) if text else None


def group_key(store_id: bytes, user: SubjectKey | None, conversation: SubjectKey | None) -> SealKey:
    """
    Derive the key of a group from those of its user and its conversation.

    Both are needed where there are both, so that erasing either is enough; a key that
    is derived takes no room, where one that is wrapped twice takes 80 bytes.

    Source:
        RFC 5869, section 2.2: HMAC of one secret under another is HKDF-Extract; that
        it holds while either is secret, as in TLS 1.3 (RFC 8446, section 7.1).
    """
    keys = [one.key for one in (user, conversation) if one is not None]
    secret = keys[0] if len(keys) == 1 else keys[0].joined(keys[1])
    refs = (user.ref if user else b"", conversation.ref if conversation else b"")
    return SealKey(secret, GROUP_LABEL, group_context(store_id, *refs))


def group_context(store_id: bytes, user: bytes, conversation: bytes) -> bytes:
    """What the key and the seal of a group are bound to: the store, and the references with their lengths."""
    return store_id + b"".join([bytes([len(ref)]) + ref for ref in (user, conversation)])
