"""Spans that hold content of persons, and ways to look for what must not be there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from agentguard.errors import TamperedError
from agentguard.seal import open_wrap_key, read_wrap_key
from agentguard.store import CONVERSATION, USER, Store, Subject
from agentguard.store import _keyring_file as layout
from agentguard.store._layout import Kind
from agentguard.store._segment import SegmentFile
from agentguard.values import SpanRecord
from agentguard.values import attributes as names
from tests.support.spans import make_span

UNREADABLE = names.CONTENT_UNREADABLE


def user(text: str) -> Subject:
    """A user."""
    return Subject(USER, text)


def conversation(text: str) -> Subject:
    """A conversation."""
    return Subject(CONVERSATION, text)


def content_span(
    number: int, *, of_user: str = "", of_conversation: str = "", says: str = "", **more: Any
) -> SpanRecord:
    """Make a span with content, of a user and a conversation where they are named."""
    span = make_span(number, **more)
    named = {names.USER_ID: of_user, names.CONVERSATION_ID: of_conversation}
    attributes = {
        **span.attributes,
        **{name: text for name, text in named.items() if text},
        names.INPUT_MESSAGES: says or f"number {number} from {of_user} in {of_conversation}",
    }
    return span._replace(attributes=attributes)


def by_id(spans: Iterable[SpanRecord]) -> dict[str, SpanRecord]:
    """Spans by their ids."""
    return {span.span_id: span for span in spans}


def unsealed_frames(store: Store) -> bytes:
    """All that the keys of the segments open, one after the other."""
    opened = []
    for path in sorted([*store.segments.glob("*.ags"), *store.segments.glob("*.agp")]):
        segment = SegmentFile.open(path, store.keystore, lambda damage: None)
        if segment is not None:
            with segment:
                opened += [frame.plain for frame in segment.frames(frozenset(Kind))]
    return b"\n".join(opened)


def opens_with(store: Store, keyring: bytes, wrap_files: Iterable[Path]) -> dict[bytes, bytes]:
    """All keys, by reference, that a copy of a keyring gives with any of these wrap keys."""
    found = {}
    for path in wrap_files:
        if not path.stat().st_size:
            continue  # Its writer was killed before the key was in it: it wraps nothing.
        generation, data = read_wrap_key(path)
        number = int(path.stem.removeprefix("wrap-"), 16)
        wrap = open_wrap_key(
            data, number, root=store.keystore.root_of(generation), store_id=store.keystore.store_id
        )
        for ref, wrapped in layout.split_entries(keyring[layout.HEADER_BYTES :]):
            try:
                entry = layout.open_entry(wrap, ref, wrapped)
            except TamperedError:
                continue  # It is wrapped under another one.
            if not entry.is_erased:
                found[ref] = entry.key
    return found
