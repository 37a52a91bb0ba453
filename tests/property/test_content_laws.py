"""Laws of content that is sealed for persons: nothing is lost, nothing of a person stays outside, cuts fit together."""

from __future__ import annotations

import itertools
from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st

from agentguard.seal import RootKey
from agentguard.store import Subject, _codec
from agentguard.store._content_frame import ContentFrame, attach_content
from agentguard.store._content_keys import ContentKeys
from agentguard.store._derive import encode_features
from agentguard.store._grid import cut, grid_of, joined, pack_grid, unpack_grid
from agentguard.store._keyring import Keyring, SubjectKey
from agentguard.store._live import Body
from agentguard.store._records import records_of
from agentguard.store._rows import decode_spans, span_record
from agentguard.store._subjects import span_bodies
from agentguard.values import SpanEvent, SpanRecord, is_personal
from agentguard.values import attributes as names
from tests.property.test_store_laws import SPANS

STORE_ID = bytes(16)
WHO = st.sampled_from(["", "ann", "bob", "x" * 600])


class Keys:
    """A keyring in memory."""

    number = 1
    day = 0

    def __init__(self) -> None:
        self.keys: dict[Subject, SubjectKey] = {}
        self.erased: set[bytes] = set()

    def keys_for(self, subjects: set[Subject]) -> dict[Subject, SubjectKey]:
        """A key for each."""
        for subject in subjects:
            count = len(self.keys)
            self.keys.setdefault(subject, SubjectKey(count.to_bytes(8, "big"), RootKey(bytes([count]) * 32)))
        return {subject: self.keys[subject] for subject in subjects}

    def find(self, ref: bytes) -> RootKey | None:
        """The key of a reference."""
        return None if ref in self.erased else next(k.key for k in self.keys.values() if k.ref == ref)


@st.composite
def content_spans(draw: st.DrawFn) -> SpanRecord:
    """A span of somebody, or of nobody, with content here and there."""
    span = draw(SPANS)
    more = draw(
        st.fixed_dictionaries(
            {},
            optional={
                names.USER_ID: WHO,
                names.CONVERSATION_ID: WHO,
                names.INPUT_MESSAGES: st.text(max_size=30),
                names.AGENT_NAME: st.sampled_from(["support", "sales"]),
            },
        )
    )
    event = SpanEvent("exception", 1, {names.EXCEPTION_MESSAGE: "x", names.EXCEPTION_TYPE: "E"})
    events = (*span.events, event) if draw(st.booleans()) else span.events
    return span._replace(attributes={**span.attributes, **more}, events=events)


def plain(body: Body) -> bytes:
    """What a body holds."""
    return _codec.decompress(body.codec, body.data)


def frames_of(spans: list[SpanRecord], first: int, keys: ContentKeys) -> tuple[bytes, list[bytes]]:
    """The frame of some spans, and of their content where they have some, as they are in a file."""
    *content, body = keys.sealed(span_bodies(grid_of(spans, first))[0])
    return plain(body), list(map(plain, content))


def opened(frames: tuple[bytes, list[bytes]], keys: ContentKeys | None) -> list[SpanRecord]:
    """The records of a frame, made in both ways."""
    rows = decode_spans(frames[0])
    contents = [ContentFrame(each, keys) for each in frames[1]]
    attach_content(contents, rows.first_sequence, rows.rows)
    found = [span_record(row, rows.shapes) for row in rows.rows]
    again = [ContentFrame(each, keys) for each in frames[1]]
    assert records_of(unpack_grid(frames[0]), again) == found
    return found


@settings(max_examples=40)
@given(st.lists(content_spans(), min_size=1, max_size=8))
def test_content_comes_back_and_nothing_else_changes(spans: list[SpanRecord]) -> None:
    """With the keys a frame gives what went in; without them every span, without what is personal."""
    keys = Keys()
    content = ContentKeys(cast("Keyring", keys), STORE_ID)
    sealed = frames_of(spans, 5, content)
    assert opened(sealed, content) == spans
    for span, bare in zip(spans, opened(sealed, None), strict=True):
        if names.CONTENT_UNREADABLE not in bare.attributes:
            assert bare == span
            continue
        left = {k: v for k, v in bare.attributes.items() if k != names.CONTENT_UNREADABLE}
        assert left == {k: v for k, v in span.attributes.items() if not is_personal(k)}
        assert not any(is_personal(name) for event in bare.events for name in event.attributes)
        assert [event.name for event in bare.events] == [event.name for event in span.events]
        assert bare[:8] == span[:8]


@settings(max_examples=40)
@given(st.lists(content_spans(), min_size=1, max_size=6), st.data())
def test_erasing_one_subject_leaves_the_others(spans: list[SpanRecord], data: st.DataObject) -> None:
    """What is readable after an erasure is what was not about the subject."""
    keys = Keys()
    content = ContentKeys(cast("Keyring", keys), STORE_ID)
    sealed = frames_of(spans, 0, content)
    if not keys.keys:
        return
    subject = data.draw(st.sampled_from(sorted(keys.keys)))
    keys.erased = {keys.keys[subject].ref}
    name = names.USER_ID if subject.kind == "user" else names.CONVERSATION_ID
    for span, after in zip(spans, opened(sealed, content), strict=True):
        about = str(span.attributes.get(name, ""))[:512] == subject.text
        assert after == span or (about and after.attributes[names.CONTENT_UNREADABLE] == "erased")


@settings(max_examples=40)
@given(
    st.lists(content_spans(), min_size=2, max_size=9),
    st.lists(st.integers(1, 8), max_size=2),
    st.lists(st.integers(1, 8), max_size=2),
)
def test_frames_are_cut_and_joined_at_will(
    spans: list[SpanRecord], frames: list[int], chunks: list[int]
) -> None:
    """Frames of any length become chunks of any other, without a key, and no content is lost."""
    content = ContentKeys(cast("Keyring", Keys()), STORE_ID)

    def pieces(cuts: list[int]) -> list[tuple[int, int]]:
        return list(itertools.pairwise(sorted({0, len(spans), *(c for c in cuts if c < len(spans))})))

    grids, contents = [], []
    for start, stop in pieces(frames):
        of_spans, of_content = frames_of(spans[start:stop], start, content)
        grids.append(unpack_grid(of_spans))
        contents += [ContentFrame(each) for each in of_content]
    whole = joined(grids)
    said = [plain(content.joined(contents).body)] if contents else []
    found = []
    for start, stop in pieces(chunks):
        found += opened((pack_grid(cut(whole, start, stop)), said), content)
    assert found == spans


@settings(max_examples=40)
@given(st.lists(content_spans(), min_size=1, max_size=5))
def test_features_do_not_see_content(spans: list[SpanRecord]) -> None:
    """Derived from the frame as it is written, they are what they are of the spans."""
    content = ContentKeys(cast("Keyring", Keys()), STORE_ID)
    left = unpack_grid(frames_of(spans, 0, content)[0])
    assert encode_features(left) == encode_features(grid_of(spans, 0))
