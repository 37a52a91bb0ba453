"""Content is sealed per person and conversation; what is erased cannot be read any more, by nobody."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from agentguard.errors import KeyUnavailableError, StoreError
from agentguard.seal import AuditorKey, create_auditor_file
from agentguard.store import Store, Subject, restore
from agentguard.store import _keyring_file as layout
from agentguard.store._keyring import Keyring
from agentguard.store._keyring_reader import KeyringReader
from agentguard.values import SpanEvent, SpanRecord
from agentguard.values import attributes as names
from tests.support.clock import START_UNIX_NS, FrozenClock
from tests.support.content import (
    UNREADABLE,
    by_id,
    content_span,
    conversation,
    opens_with,
    unsealed_frames,
    user,
)
from tests.support.faulty_disk import FaultyDisk
from tests.support.spans import FinishedSpan, make_span
from tests.support.stores import KnownKey, fill, new_store, new_writer, open_store, segment_files

NEEDLE = "the cat is called Ottokar"
SPANS = [
    content_span(i, of_user=f"user-{i % 3}", of_conversation=f"talk-{i % 5}", says=f"{NEEDLE} {i}")
    for i in range(150)
]


def no_record(details: Mapping[str, object]) -> None:
    """The decision log of a test that does not look at it."""


def erase(store: Store, *subjects: Subject) -> int:
    """Erase, and say how many spans it reached."""
    return store.erase(*subjects, record=no_record).spans


def read(folder: Path) -> dict[str, SpanRecord]:
    """All spans of a store, opened anew."""
    query = open_store(folder).query()
    found = by_id(query.spans())
    assert not query.damage
    return found


def is_erased(span: SpanRecord) -> bool:
    """Whether a span says so, and has nothing of what was in it."""
    gone = NEEDLE not in str(span) and names.USER_ID not in span.attributes
    return span.attributes.get(UNREADABLE) == "erased" and gone


@pytest.mark.parametrize("is_sealed", [False, True])
@pytest.mark.parametrize("frame_spans_max", [7, 100])
def test_erasing_reaches_the_spans_of_a_subject_and_no_other(
    tmp_path: Path, is_sealed: bool, frame_spans_max: int
) -> None:
    """A user or a conversation is erased; all other spans are what they were, and nothing is damaged."""
    store = new_store(tmp_path / "s")
    fill(store, SPANS, is_sealed=is_sealed, frame_spans_max=frame_spans_max)
    assert read(tmp_path / "s") == by_id(SPANS)
    assert erase(store, user("user-1")) == 50
    assert erase(store, conversation("talk-0")) == 30  # Whoever spoke: ten of them are erased twice.
    found = read(tmp_path / "s")
    for span in SPANS:
        attributes = span.attributes
        if attributes[names.USER_ID] == "user-1" or attributes[names.CONVERSATION_ID] == "talk-0":
            seen = found[span.span_id]
            assert is_erased(seen)
            assert seen.attributes[names.INPUT_TOKENS] == attributes[names.INPUT_TOKENS]
        else:
            assert found[span.span_id] == span
    store.seal_segments()
    assert read(tmp_path / "s") == found
    count, damage = store.verify()
    assert (count, bool(damage)) == (150, False)
    assert erase(store, user("user-1")) == 0


def test_features_are_those_of_the_spans(tmp_path: Path) -> None:
    """Numbers are derived before content is taken out, and after it is erased they are still there."""
    plain = [make_span(i) for i in range(40)]
    with_content = [content_span(i, of_user="ann") for i in range(40)]
    for name, spans in (("plain", plain), ("content", with_content)):
        fill(new_store(tmp_path / name), spans, is_sealed=True)
    store = open_store(tmp_path / "content")
    erase(store, user("ann"))
    here, there = (
        [{n: str(list(c.values)) for n, c in block.columns.items()} for block in one.query().features()]
        for one in (store, open_store(tmp_path / "plain"))
    )
    assert here == there


def test_everything_personal_is_erased_with_it(tmp_path: Path) -> None:
    """Events, links, status descriptions and names that nobody knows go too; the structure stays."""
    span = make_span(0)
    span = span._replace(
        attributes={**span.attributes, names.CONVERSATION_ID: "c", "customer.email": NEEDLE},
        events=(
            SpanEvent("exception", 1, {"exception.type": "ValueError", "exception.message": NEEDLE}),
            SpanEvent("agentguard.retry", 2, {"agentguard.retry.attempt": 1}),
        ),
        status="error",
        status_description=f"no room: {NEEDLE}",
    )
    store = new_store(tmp_path / "s")
    fill(store, [span], is_sealed=True)
    assert read(tmp_path / "s") == by_id([span])
    assert NEEDLE.encode() not in unsealed_frames(store)
    erase(store, conversation("c"))
    (seen,) = read(tmp_path / "s").values()
    assert NEEDLE not in str(seen)
    assert seen.events[0] == SpanEvent("exception", 1, {"exception.type": "ValueError"})
    assert seen.events[1] == span.events[1]
    assert seen.status_description == ""


def test_spans_without_content_cost_no_key(tmp_path: Path) -> None:
    """What is recorded by default names no user and holds no content: no keyring is made for it."""
    spans = [make_span(i) for i in range(20)]
    spans[3] = spans[3]._replace(attributes={**spans[3].attributes, names.CONVERSATION_ID: "c"})
    fill(new_store(tmp_path / "s"), spans, is_sealed=True)
    assert not (tmp_path / "s" / layout.KEYRING_FILE).exists()
    assert read(tmp_path / "s") == by_id(spans)


def test_content_of_nobody_stays_in_the_frame(tmp_path: Path) -> None:
    """Where neither user nor conversation is known there is nobody to erase, and nothing is sealed apart."""
    spans = [content_span(i, says=NEEDLE) for i in range(5)]
    store = new_store(tmp_path / "s")
    fill(store, spans, is_sealed=False)
    assert NEEDLE.encode() in unsealed_frames(store)
    assert read(tmp_path / "s") == by_id(spans)
    assert not (tmp_path / "s" / layout.KEYRING_FILE).exists()


def test_no_copy_of_the_keyring_brings_it_back(tmp_path: Path) -> None:
    """With every key of the store, an older keyring and all wrap keys there are, nothing opens what was erased."""
    folder = tmp_path / "s"
    store = new_store(folder)
    fill(store, SPANS, is_sealed=True)
    older = (folder / layout.KEYRING_FILE).read_bytes()
    before = opens_with(store, older, folder.glob("wrap-*.agw"))
    erase(store, user("user-1"))
    now = opens_with(store, (folder / layout.KEYRING_FILE).read_bytes(), folder.glob("wrap-*.agw"))
    gone = set(before) - set(now)
    assert len(gone) == 1
    assert {ref: before[ref] for ref in now} == now
    assert opens_with(store, older, folder.glob("wrap-*.agw")) == {}
    (folder / layout.KEYRING_FILE).write_bytes(older)
    assert all(UNREADABLE in span.attributes for span in read(folder).values())
    for path in folder.rglob("*"):
        assert not path.is_file() or NEEDLE.encode() not in path.read_bytes()
    assert NEEDLE.encode() not in unsealed_frames(store)


def test_an_erase_that_wraps_nothing_anew_would_be_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control arm: where the wrap key stays the same an older keyring opens what was erased."""

    def same_wrap_key(self: Keyring, entries: list[layout.KeyEntry]) -> None:
        head = self._head()
        assert head.wrap is not None
        packed = [layout.pack_entry(head.wrap, entry) for entry in entries]
        start = layout.pack_header(head.number, self._keystore.store_id)
        self._path.write_bytes(start + b"".join(packed))

    folder = tmp_path / "s"
    store = new_store(folder)
    fill(store, SPANS, is_sealed=True)
    older = (folder / layout.KEYRING_FILE).read_bytes()
    monkeypatch.setattr(Keyring, "_replace", same_wrap_key)
    erase(store, user("user-1"))
    assert sum(UNREADABLE in span.attributes for span in read(folder).values()) == 50
    (folder / layout.KEYRING_FILE).write_bytes(older)
    assert read(folder) == by_id(SPANS)


def test_an_old_wrap_key_undoes_erasing(tmp_path: Path) -> None:
    """What the documentation says of copies of wrap keys is so: with both files of before, all is back."""
    folder = tmp_path / "s"
    store = new_store(folder)
    fill(store, SPANS, is_sealed=True)
    kept = {path.name: path.read_bytes() for path in (folder / layout.KEYRING_FILE, *folder.glob("wrap-*"))}
    erase(store, user("user-1"))
    for name, data in kept.items():
        (folder / name).write_bytes(data)
    assert read(folder) == by_id(SPANS)


def test_a_writer_that_goes_on_takes_a_new_key(tmp_path: Path) -> None:
    """A live writer notices: what comes after is sealed anew, what was before stays erased."""
    store = new_store(tmp_path / "s")
    writer = new_writer(store, is_sealing=False)
    for number in range(3):
        writer.append(FinishedSpan(content_span(number, of_user="ann")))
    writer.append(FinishedSpan(content_span(10, of_user="bob")))
    assert writer.flush(10).is_complete
    assert erase(open_store(tmp_path / "s"), user("ann")) == 3
    after = content_span(4, of_user="ann", says="back again")
    writer.append(FinishedSpan(after))
    assert writer.close(10).is_complete
    found = read(tmp_path / "s")
    assert found[after.span_id] == after
    assert found[content_span(10).span_id] == content_span(10, of_user="bob")
    assert sum(map(is_erased, found.values())) == 3


def test_a_reader_that_goes_on_forgets_the_key(tmp_path: Path) -> None:
    """A store that was read before the erasure does not open the content after it."""
    reader = new_store(tmp_path / "s")
    fill(reader, SPANS[:30], is_sealed=True)
    assert by_id(reader.query().spans()) == by_id(SPANS[:30])
    erase(open_store(tmp_path / "s"), user("user-0"), user("user-1"), user("user-2"))
    assert all(map(is_erased, reader.query().spans()))


def test_a_legal_hold_keeps_it(tmp_path: Path) -> None:
    """What is held cannot be erased, nothing is recorded then; lifted, it can."""
    store = new_store(tmp_path / "s")
    fill(store, SPANS, is_sealed=True)
    recorded: list[Mapping[str, object]] = []
    until = SPANS[60].start_unix_ns
    hold = store.holds.add(
        reason="a court", by="me", now_unix_ns=START_UNIX_NS, until_unix_ns=until, agent="sales"
    )
    found = store.erasure(user("user-0"))
    assert found.hold == hold
    assert 0 < found.held_spans < found.spans == 50
    with pytest.raises(StoreError, match=f"spans that the legal hold {hold.hold_id} keeps"):
        store.erase(user("user-0"), record=recorded.append)
    assert not recorded
    assert read(tmp_path / "s") == by_id(SPANS)
    assert erase(store, user("user-1")) == 50  # What `support` did is not held.
    store.holds.remove(hold.hold_id)
    store.erase(user("user-0"), record=recorded.append)
    (details,) = recorded
    assert (details["kind"], details["keys"], details["spans"]) == ("user", 1, 50)
    assert len(str(details["subject_mac"])) == 32
    assert "user-0" not in str(details)


def test_where_it_cannot_be_recorded_nothing_is_erased(tmp_path: Path) -> None:
    """The record comes first."""

    def fail(details: Mapping[str, object]) -> None:
        raise StoreError("the decision log is full")

    store = new_store(tmp_path / "s")
    fill(store, SPANS[:10], is_sealed=True)
    with pytest.raises(StoreError, match="is full"):
        store.erase(user("user-0"), record=fail)
    assert read(tmp_path / "s") == by_id(SPANS[:10])


def test_what_may_be_held_must_be_readable(tmp_path: Path) -> None:
    """Under a hold a damaged place may be one that is kept: nothing is erased before it is put aside."""
    store = new_store(tmp_path / "s")
    fill(store, SPANS[:40], is_sealed=True, frame_spans_max=8)
    (path,) = segment_files(store)
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    store.holds.add(reason="x", by="me", now_unix_ns=1, until_unix_ns=2)
    with pytest.raises(StoreError, match="cannot be read, expected to know whether a hold keeps them"):
        erase(store, user("user-0"))


def test_an_auditor_reads_content_and_erases_nothing(tmp_path: Path) -> None:
    """The wrap key is opened where it lies, so that what is erased is erased for auditors too."""
    folder = tmp_path / "s"
    store = new_store(folder)
    auditor: AuditorKey = create_auditor_file(tmp_path / "auditor")
    store.keystore.add_auditor(auditor.public_key())
    fill(store, SPANS, is_sealed=True)
    opened = Store.open(folder, provider=auditor, clock=FrozenClock())
    assert by_id(opened.query().spans()) == by_id(SPANS)
    with pytest.raises(KeyUnavailableError, match="an auditor's"):
        erase(opened, user("user-1"))
    erase(store, user("user-1"))
    assert sum(map(is_erased, opened.query().spans())) == 50


def test_a_backup_does_not_bring_it_back(tmp_path: Path) -> None:
    """A backup has no wrap key; restored, its content opens with the keys of the store as they are now, or not."""
    store = new_store(tmp_path / "s")
    fill(store, SPANS, is_sealed=True)
    store.back_up(tmp_path / "backup")
    assert not list((tmp_path / "backup").glob("wrap-*"))
    erase(store, user("user-1"))
    restore(tmp_path / "backup", tmp_path / "r", provider=KnownKey())
    assert all(span.attributes[UNREADABLE] == "no_key" for span in read(tmp_path / "r").values())
    restore(tmp_path / "backup", tmp_path / "r2", provider=KnownKey(), keys_from=tmp_path / "s")
    found = read(tmp_path / "r2")
    assert sum(map(is_erased, found.values())) == 50
    assert {i: s for i, s in found.items() if not is_erased(s)} == {
        i: s for i, s in by_id(SPANS).items() if s.attributes[names.USER_ID] != "user-1"
    }


def test_keys_of_another_store_are_refused(tmp_path: Path) -> None:
    """Restoring takes the keys of this store only, and both files."""
    store, other = new_store(tmp_path / "s"), new_store(tmp_path / "other")
    fill(store, SPANS[:3], is_sealed=True)
    fill(other, SPANS[:3], is_sealed=True)
    store.back_up(tmp_path / "backup")
    for folder, message in (("other", "another store"), ("backup", "got no keyring with its wrap key")):
        with pytest.raises(StoreError, match=message):
            restore(tmp_path / "backup", tmp_path / "r", provider=KnownKey(), keys_from=tmp_path / folder)
        assert not (tmp_path / "r").exists()


def test_a_restored_store_goes_on(tmp_path: Path) -> None:
    """Without the old wrap key new content gets a new one; the old keyring is put aside, not thrown away."""
    store = new_store(tmp_path / "s")
    fill(store, SPANS[:20], is_sealed=True)
    store.back_up(tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "r", provider=KnownKey())
    restored = open_store(tmp_path / "r")
    with pytest.raises(KeyUnavailableError, match="got no wrap key"):
        erase(restored, user("user-1"))
    fill(restored, SPANS[20:30], is_sealed=True)
    found = read(tmp_path / "r")
    assert {i: found[i] for i in by_id(SPANS[20:30])} == by_id(SPANS[20:30])
    assert len(list((tmp_path / "r" / "quarantine").glob("keyring-*.agk"))) == 1


def test_repair_keeps_content(tmp_path: Path) -> None:
    """A segment that is written anew keeps what is sealed in it, also what is erased."""
    store = new_store(tmp_path / "s")
    fill(store, SPANS, is_sealed=True, frame_spans_max=10)
    erase(store, user("user-1"))
    before = read(tmp_path / "s")
    (path,) = segment_files(store)
    data = bytearray(path.read_bytes())
    data[-30] ^= 1  # The footer.
    path.write_bytes(data)
    assert store.repair().rebuilt == (path.name,)
    assert by_id(open_store(tmp_path / "s").query().spans()) == before


def test_a_torn_keyring_loses_no_other_key(tmp_path: Path) -> None:
    """What a crash left of an entry is written over; a damaged entry takes only itself."""
    folder = tmp_path / "s"
    store = new_store(folder)
    fill(store, SPANS[:30], is_sealed=True)
    path = folder / layout.KEYRING_FILE
    path.write_bytes(path.read_bytes() + b"\x01" * 30)
    more = content_span(200, of_user="eve")
    fill(open_store(folder), [more], is_sealed=True)
    assert (len(path.read_bytes()) - layout.HEADER_BYTES) % layout.ENTRY_BYTES == 0
    assert read(folder) == by_id([*SPANS[:30], more])
    data = bytearray(path.read_bytes())
    data[layout.HEADER_BYTES + 20] ^= 1
    path.write_bytes(data)
    found = read(folder)
    lost = [span for span in found.values() if UNREADABLE in span.attributes]
    assert 0 < len(lost) < len(found)
    assert {span.attributes[UNREADABLE] for span in lost} == {"no_key"}


@pytest.mark.parametrize("place", range(0, layout.HEADER_BYTES + layout.ENTRY_BYTES, 7))
def test_any_flipped_byte_of_the_keyring_gives_no_wrong_content(tmp_path: Path, place: int) -> None:
    """A damaged or altered keyring opens what it opened before, or nothing."""
    folder = tmp_path / "s"
    store = new_store(folder)
    span = content_span(1, of_conversation="c")
    fill(store, [span], is_sealed=True)
    path = folder / layout.KEYRING_FILE
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    (found,) = read(folder).values()
    assert found == span or found.attributes[UNREADABLE] == "no_key"


def test_a_full_keyring_costs_content_and_no_span(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond its bound no key is drawn: it is reported, and the span is kept without its content."""
    monkeypatch.setattr(layout, "KEYRING_BYTES_MAX", layout.HEADER_BYTES + 2 * layout.ENTRY_BYTES)
    errors: list[str] = []
    store = new_store(tmp_path / "s")
    writer = new_writer(store, lambda where, error: errors.append(f"{where}: {error}"), frame_spans_max=1)
    for number, name in enumerate(["ann", "bob", "eve"]):
        writer.append(FinishedSpan(content_span(number, of_user=name)))
    assert writer.close(10).is_complete
    assert len(errors) == 1
    assert errors[0].startswith("store.content: ")
    found = read(tmp_path / "s")
    assert len(found) == 3
    assert sum(names.INPUT_MESSAGES in span.attributes for span in found.values()) == 2


def test_keys_of_what_retention_removed_are_forgotten(tmp_path: Path) -> None:
    """The keyring does not grow for good: keys that nothing is sealed with go with the segments."""
    folder = tmp_path / "s"
    clock = FrozenClock()
    store = Store.create(folder, provider=KnownKey(), clock=clock)
    old = [content_span(i, of_conversation=f"old-{i}") for i in range(100)]
    fill(store, old, is_sealed=True)
    clock.advance(10 * 86_400)
    new = [content_span(i, of_conversation="new", start_unix_ns=clock.unix_ns()) for i in range(200, 210)]
    fill(store, new, is_sealed=True)
    size = (folder / layout.KEYRING_FILE).stat().st_size
    assert store.remove_old(age_s_max=5 * 86_400, witnessed_s=1e9).segments == 1
    assert (folder / layout.KEYRING_FILE).stat().st_size == size - 100 * layout.ENTRY_BYTES
    assert by_id(open_store(folder).query().spans()) == by_id(new)


def test_keys_of_a_segment_that_cannot_be_read_just_now_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What retention cannot look into for a moment may need any key; they are forgotten another time."""
    folder = tmp_path / "s"
    clock = FrozenClock()
    store = Store.create(folder, provider=KnownKey(), clock=clock)
    fill(store, [content_span(i, of_conversation=f"old-{i}") for i in range(100)], is_sealed=True)
    before = set(segment_files(store))
    later = clock.unix_ns() + 9 * 86_400 * 10**9
    ahead = [content_span(i, of_conversation=f"x-{i}", start_unix_ns=later) for i in range(100, 110)]
    fill(store, ahead, is_sealed=True)
    (path,) = set(segment_files(store)) - before
    clock.advance(10 * 86_400)
    opens = os.open

    def failing(name: str | Path, *rest: int, **named: int) -> int:
        if str(name).endswith(path.name):
            raise OSError(errno.EMFILE, "too many open files")
        return opens(name, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", failing)
        assert Store.open(folder, provider=KnownKey(), clock=clock).remove_old(
            age_s_max=5 * 86_400, witnessed_s=1e9
        )
    assert by_id(open_store(folder).query().spans()) == by_id(ahead)
    keys = (folder / layout.KEYRING_FILE).stat().st_size
    store._forget_keys()
    assert (folder / layout.KEYRING_FILE).stat().st_size == keys - 100 * layout.ENTRY_BYTES
    assert by_id(open_store(folder).query().spans()) == by_id(ahead)


@pytest.mark.parametrize("refused", ["keyring.agk", "wrap-00000001.agw", "state"])
def test_a_keyring_that_cannot_be_read_just_now_is_not_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """All file descriptors in use, for a moment: no empty keyring takes its place, nobody passes for erased."""
    folder = tmp_path / "s"
    store = new_store(folder)
    fill(store, SPANS[:30], is_sealed=True)
    opens, states, left = os.open, os.lstat, [0]

    def failing(path: str | Path, *rest: int, **named: int) -> int:
        if str(path).endswith(refused) and left[0]:
            left[0] -= 1
            raise OSError(errno.EMFILE, "too many open files")
        return opens(path, *rest, **named)

    def refusing(path: str | Path, **named: int) -> os.stat_result:
        if refused == "state" and str(path).endswith("keyring.agk") and left[0]:
            left[0] -= 1
            raise OSError(errno.EIO, "input/output error")
        return states(path, **named)

    monkeypatch.setattr(os, "open", failing)
    monkeypatch.setattr(os, "lstat", refusing)
    for times in (1, 2, 3):
        left[0] = times
        keyring = Keyring(folder, store.keystore, store.clock)
        with contextlib.suppress(OSError):
            keyring.keys_for([user(f"new-{times}")])
        left[0] = times
        found = list(open_store(folder).query().spans())
        assert {span.attributes.get(UNREADABLE, "") for span in found} <= {"", "no_key"}
        left[0] = 1
        with pytest.raises(StoreError, match="cannot be read"):
            erase(open_store(folder), user("user-1"))
        left[0] = 0
        assert read(folder) == by_id(SPANS[:30])
    assert erase(open_store(folder), user("user-1")) == 10
    assert not list(folder.glob("quarantine/*"))


def test_a_wrap_key_that_a_kill_left_empty_does_no_harm(tmp_path: Path) -> None:
    """Killed between the name of a new wrap key and its bytes: nobody was erased, and who asks again is."""
    folder = tmp_path / "s"
    store = new_store(folder)
    fill(store, SPANS[:30], is_sealed=True)
    (folder / layout.wrap_file(store.keyring.number + 1)).write_bytes(b"")
    copy = (folder / layout.KEYRING_FILE).read_bytes()
    assert opens_with(store, copy, folder.glob("wrap-*.agw"))
    fill(store, SPANS[30:60], is_sealed=True)
    assert read(folder) == by_id(SPANS[:60])
    erase(store, user("user-1"))
    assert [path.name for path in folder.glob("wrap-*.agw")] == [layout.wrap_file(3)]
    assert sum(map(is_erased, read(folder).values())) == 20
    assert opens_with(store, copy, folder.glob("wrap-*.agw")) == {}


def test_a_wrap_key_that_a_crash_left_is_destroyed(tmp_path: Path) -> None:
    """Whoever uses the keyring next finishes what was cut off."""
    folder = tmp_path / "s"
    store = new_store(folder)
    fill(store, SPANS[:20], is_sealed=True)
    (wrap,) = folder.glob("wrap-*")
    kept = wrap.read_bytes()
    erase(store, user("user-1"))
    wrap.write_bytes(kept)
    fill(open_store(folder), SPANS[20:22], is_sealed=True)
    assert not wrap.exists()
    wrap.write_bytes(kept)
    assert open_store(folder).keyring.erase([user("nobody")]) == 0
    assert not wrap.exists()


def test_keys_are_drawn_anew_each_day_and_erased_together(tmp_path: Path) -> None:
    """One subject may have many keys, of several days and processes; erasing takes all."""
    folder = tmp_path / "s"
    clock = FrozenClock()
    store = Store.create(folder, provider=KnownKey(), clock=clock)
    for day in range(3):
        fill(store, [content_span(day, of_user="ann")], is_sealed=True)
        clock.advance(86_400)
    assert len(store.keyring.refs_of([user("ann")])) == 3
    found = store.erase(user("ann"), record=no_record)
    assert (found.keys, found.spans) == (3, 3)
    assert all(map(is_erased, store.query().spans()))


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    """Neither keyrings nor entries print their keys."""
    store = new_store(tmp_path / "s")
    fill(store, SPANS[:3], is_sealed=True)
    (entry, *_) = store.keyring._entries()
    for secret in (repr(entry.key), entry.key.hex()):
        assert secret not in repr(entry) + repr(store.keyring) + repr(store.keyring.find(entry.ref))


def groups_of(store: Store) -> set[bytes]:
    """The sealed groups of content in a store."""
    found = set()
    for batch in store.query().batches():
        for row in batch.rows:
            where = row[-1].frame.at(row[-1].place)
            found.add(row[-1].frame.groups[where[0]].blob)
    return found


def test_sealing_puts_small_groups_together(tmp_path: Path) -> None:
    """What slow programs write in small frames is put together once it is sealed; what is erased stays."""
    store = new_store(tmp_path / "s")
    texts = " ".join(__doc__.split())
    spans = [
        content_span(i, of_conversation=f"talk-{i % 2}", says=f"{i} {texts} {i * 7919 % 1000}")
        for i in range(100)
    ]
    fill(store, spans, is_sealed=False, frame_spans_max=2)
    before = groups_of(store)
    live = sum(path.stat().st_size for path in segment_files(store))
    erase(store, conversation("talk-1"))
    store.seal_segments()
    assert sum(path.stat().st_size for path in segment_files(store)) < 0.8 * live
    assert len(groups_of(store)) == 1 + len(before) // 2
    found = read(tmp_path / "s")
    for i, span in enumerate(spans):
        assert found[span.span_id] == span if i % 2 == 0 else is_erased(found[span.span_id])


def test_packs_keep_what_is_sealed(tmp_path: Path) -> None:
    """Small segments become packs without a key; what is erased before or after stays erased."""
    store = new_store(tmp_path / "s")
    for first in range(0, 60, 5):
        fill(store, SPANS[first : first + 5], is_sealed=True)
    erase(store, user("user-1"))
    before = read(tmp_path / "s")
    assert store.compact().packs
    assert list(store.segments.glob("*.agp"))
    assert read(tmp_path / "s") == before
    assert NEEDLE.encode() not in unsealed_frames(store)
    assert erase(store, conversation("talk-2")) == 12
    found = read(tmp_path / "s")
    gone = {i for i, span in found.items() if is_erased(span)}
    assert gone == {
        span.span_id
        for span in SPANS[:60]
        if span.attributes[names.USER_ID] == "user-1" or span.attributes[names.CONVERSATION_ID] == "talk-2"
    }
    assert store.holds.list() == ()


def test_processes_share_a_keyring(tmp_path: Path) -> None:
    """Several processes add their keys at once: none is lost, none is doubled, all content is readable."""
    folder = tmp_path / "s"
    new_store(folder)
    pids = []
    for process in range(4):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                mine = [
                    content_span(process * 100 + i, of_user=f"user-{i % 5}", of_conversation=f"{process}-{i}")
                    for i in range(25)
                ]
                fill(open_store(folder), mine, is_sealed=False, frame_spans_max=3)
                status = 0
            finally:
                os._exit(status)
        pids.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0] * 4
    store = open_store(folder)
    entries = store.keyring._entries()
    assert len({entry.ref for entry in entries}) == len({entry.key for entry in entries}) == len(entries)
    assert len(entries) == 4 * (25 + 5)
    found = read(folder)
    assert len(found) == 100
    assert all(names.INPUT_MESSAGES in span.attributes for span in found.values())
    assert erase(store, user("user-2")) == 20
    assert sum(UNREADABLE in span.attributes for span in read(folder).values()) == 20


def test_a_fork_draws_keys_of_its_own(tmp_path: Path) -> None:
    """The child of a writer shares no key with its parent."""
    folder = tmp_path / "s"
    store = new_store(folder)
    writer = new_writer(store, is_sealing=False)
    writer.append(FinishedSpan(content_span(1, of_user="ann")))
    assert writer.flush(10).is_complete
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            writer.append(FinishedSpan(content_span(2, of_user="ann")))
            status = 0 if writer.close(20).is_complete else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    writer.append(FinishedSpan(content_span(3, of_user="ann")))
    assert writer.close(10).is_complete
    assert len(store.keyring.refs_of([user("ann")])) == 2
    assert len(read(folder)) == 3


@pytest.mark.parametrize(
    "faults",
    [
        {"write_errors": [errno.ENOSPC]},
        {"write_errors": [errno.ENOSPC] * 3},
        {"write_errors": [errno.EIO, errno.ENOSPC]},
        {"sync_errors": [errno.EIO]},
        {"sync_errors": [errno.EIO, errno.EIO]},
        {"create_errors": [errno.ENOSPC]},
    ],
)
def test_a_disk_that_refuses_a_key_costs_no_content(tmp_path: Path, faults: dict[str, list[int]]) -> None:
    """Where a key cannot be brought to disk the frame waits; nothing is sealed with a key that may be lost."""
    disk = FaultyDisk()
    store = new_store(tmp_path / "s", disk)
    errors: list[str] = []
    writer = new_writer(
        store, lambda where, error: errors.append(where), retry_interval_s=0.01, is_sealing=False
    )
    for name, numbers in faults.items():
        setattr(disk, name, numbers)
    for span in SPANS[:10]:
        writer.append(FinishedSpan(span))
    assert writer.close(20).is_complete
    assert set(errors) == {"store.disk"}
    assert by_id(open_store(tmp_path / "s").query().spans()) == by_id(SPANS[:10])


@pytest.mark.parametrize("fails_at", range(6))
def test_a_disk_that_refuses_an_erasure_leaves_before_or_after(tmp_path: Path, fails_at: int) -> None:
    """Whichever step fails: it is told, survivors are readable, and asking again finishes it."""

    class Failing(FaultyDisk):
        """Fails once, at the n-th thing that an erasure does to the disk."""

        left = -1

        def _step(self) -> None:
            self.left -= 1
            if self.left == -1:
                raise OSError(errno.EIO, "refused")

        def create(self, path: Path) -> int:
            self._step()
            return super().create(path)

        def write(self, fd: int, data: bytes) -> None:
            self._step()
            super().write(fd, data)

        def sync(self, fd: int) -> None:
            self._step()
            super().sync(fd)

        def rename(self, source: Path, target: Path) -> None:
            self._step()
            super().rename(source, target)

        def sync_folder(self, folder: Path) -> None:
            self._step()
            super().sync_folder(folder)

    disk = Failing()
    folder = tmp_path / "s"
    store = new_store(folder, disk)
    fill(store, SPANS[:30], is_sealed=True)
    disk.left = fails_at
    if fails_at < 5:
        with pytest.raises(StoreError, match="cannot be written"):
            erase(store, user("user-1"))
    else:
        erase(store, user("user-1"))
    disk.left = -1
    found = read(folder)
    assert {
        i: s for i, s in found.items() if s.attributes.get(names.USER_ID) != "user-1" and not is_erased(s)
    } == {i: s for i, s in by_id(SPANS[:30]).items() if s.attributes[names.USER_ID] != "user-1"}
    erase(store, user("user-1"))
    assert sum(map(is_erased, read(folder).values())) == 10
    assert len(list(folder.glob("wrap-*.agw"))) == 1


def test_a_writer_reads_no_entry_of_the_keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many keys there are, a program that records holds its own only."""
    store = new_store(tmp_path / "s")
    fill(store, SPANS[:30], is_sealed=False)

    def fail(self: Keyring, head: object) -> None:
        raise AssertionError("the entries were read")

    monkeypatch.setattr(KeyringReader, "_entries_of", fail)
    fill(store, SPANS[30:60], is_sealed=False)
    monkeypatch.undo()
    assert read(tmp_path / "s") == by_id(SPANS[:60])


def test_reading_while_others_erase(tmp_path: Path) -> None:
    """A keyring that is replaced in the middle of reading is read again: content is there or erased, never damaged."""
    store = new_store(tmp_path / "s")
    fill(store, SPANS, is_sealed=True)
    stop = threading.Event()

    def read_on() -> None:
        while not stop.is_set():
            query = store.query()
            seen = {span.attributes.get(UNREADABLE, "") for span in query.spans()}
            wrong.extend(map(str, seen - {"", "erased"}))
            wrong.extend(query.damage.counts)

    wrong: list[str] = []
    threads = [threading.Thread(target=read_on) for _ in range(2)]
    for thread in threads:
        thread.start()
    other = open_store(tmp_path / "s")
    for number in range(5):
        erase(other, conversation(f"talk-{number}"))
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert all(map(is_erased, store.query().spans()))
