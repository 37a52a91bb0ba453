"""Erasing while others write, killed at any moment: what was erased stays so, nobody else loses a word."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from agentguard.store import SegmentWriter, Store, WriterConfig
from agentguard.store import _keyring_file as layout
from agentguard.values import SpanRecord
from agentguard.values import attributes as names
from tests.support.clock import FrozenClock
from tests.support.content import UNREADABLE, by_id, content_span, conversation, opens_with, user
from tests.support.crash import kill_in_the_middle
from tests.support.spans import FinishedSpan
from tests.support.stores import KnownKey, new_store, new_writer, open_store, raise_error


def no_record(details: Mapping[str, object]) -> None:
    """The decision log of a test that does not look at it."""


def victim(number: int) -> SpanRecord:
    """One that is erased; each user has one span, in a conversation with those that stay."""
    return content_span(number, of_user=f"victim-{number}", of_conversation=f"talk-{number % 4}")


def survivor(number: int) -> SpanRecord:
    """One that stays."""
    return content_span(
        1_000_000 + number, of_user=f"survivor-{number % 7}", of_conversation=f"talk-{number % 4}"
    )


def child(folder: Path, acknowledge: Callable[[str], None]) -> None:
    """Write survivors in one thread; write and erase victims in the other; say what is safe."""
    store = Store.open(folder, provider=KnownKey(), clock=FrozenClock())
    say = threading.Lock()

    def tell(text: str) -> None:
        with say:
            acknowledge(text)

    def write_survivors() -> None:
        writer = new_writer(store, frame_spans_max=3, is_sealing=False)
        base = os.getpid() * 100_000
        for number in range(base, base + 100_000):
            writer.append(FinishedSpan(survivor(number)))
            if writer.flush(30).is_complete:
                tell(f"kept {number}")

    threading.Thread(target=write_survivors, daemon=True).start()
    writer = new_writer(store, frame_spans_max=2, is_sealing=False)
    base = os.getpid() * 1_000
    for number in range(base, base + 1_000):
        writer.append(FinishedSpan(victim(number)))
        assert writer.flush(30).is_complete
        tell(f"copy {(folder / layout.KEYRING_FILE).read_bytes().hex()}")
        store.erase(user(f"victim-{number}"), record=no_record)
        tell(f"erased {number}")


def check(folder: Path, said: list[str], older: list[bytes]) -> tuple[int, int]:
    """Compare what the store holds with what was said; returns how many stayed and how many were erased."""
    store = open_store(folder)
    query = store.query()
    found = by_id(query.spans())
    assert set(query.damage.counts) <= {"torn"}
    kept = [survivor(int(line.split()[1])) for line in said if line.startswith("kept ")]
    for span in kept:
        assert found[span.span_id] == span
    erased = [victim(int(line.split()[1])) for line in said if line.startswith("erased ")]
    for span in erased:
        assert found[span.span_id].attributes[UNREADABLE] == "erased"
    # Somebody finishes what was cut off; then no older wrap key is there. A newer one wraps nothing yet.
    store.keyring.erase([user("nobody")])
    wraps = sorted(folder.glob("wrap-*.agw"))
    assert not wraps or int(wraps[0].stem.removeprefix("wrap-"), 16) == store.keyring.number
    gone = {entry.ref for entry in store.keyring._entries() if entry.is_erased}
    for copy in older:
        assert not gone & opens_with(store, copy, wraps).keys()
    return len(kept), len(erased)


def run_kills(folder: Path, kills: int, seed: int) -> None:
    """Kill again and again, and look each time."""
    new_store(folder)
    older: list[bytes] = []
    said: list[str] = []
    for number in range(kills):
        lines = kill_in_the_middle(child, folder, seed=seed * 1000 + number, within_s=0.15)
        older = (older + [bytes.fromhex(line[5:]) for line in lines if line.startswith("copy ")])[-20:]
        said += [line for line in lines if not line.startswith("copy ")]
        kept, erased = check(folder, said, older)
    assert kept
    assert erased


def test_kill_while_erasing(tmp_path: Path) -> None:
    """`kill -9` at any moment of an erasure: before it or after it, and never in between."""
    run_kills(tmp_path / "store", 5, seed=1)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(10))
def test_kill_while_erasing_often(tmp_path: Path, seed: int) -> None:
    """The same, 200 times."""
    run_kills(tmp_path / "store", 20, seed=10 + seed)


class Schedule:
    """One order of writing, erasing, rotating, sealing and removing, and what must be there at its end."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.folder = folder
        self.clock = FrozenClock()
        self.store = Store.create(folder, provider=KnownKey(), clock=self.clock)
        self.writers = [self.new_writer() for _ in range(2)]
        self.expected: dict[str, SpanRecord] = {}
        """What must be readable, word for word."""
        self.erased: set[str] = set()
        self.older: list[bytes] = []
        self.erased_keys: set[bytes] = set()
        self.count = 0

    def new_writer(self) -> SegmentWriter:
        """One with small frames, so that chunks cut groups."""
        return self.store.writer(
            resource={}, on_internal_error=raise_error,
            config=WriterConfig(
                frame_spans_max=self.chance.choice([1, 2, 5, 100]), is_sealing=self.chance.random() < 0.5
            ),
        )  # fmt: skip

    def write(self) -> None:
        """Write a few spans with one of the writers."""
        writer = self.chance.choice(self.writers)
        for _ in range(self.chance.randint(1, 6)):
            span = content_span(
                self.count, of_user=self.chance.choice(["", "ann", "bob"]),
                of_conversation=self.chance.choice(["", "x", "y", "z"]), start_unix_ns=self.clock.unix_ns(),
            )  # fmt: skip
            self.count += 1
            assert writer.append(FinishedSpan(span))
            self.expected[span.span_id] = span
        assert writer.flush(20).is_complete

    def erase(self) -> None:
        """Erase one of the subjects, and remember the keyring as it was."""
        path = self.folder / layout.KEYRING_FILE
        if path.exists():
            self.older.append(path.read_bytes())
        name, text = self.chance.choice(
            [(names.USER_ID, "ann"), (names.USER_ID, "bob"), (names.CONVERSATION_ID, "x")]
        )
        subject = user(text) if name == names.USER_ID else conversation(text)
        self.erased_keys |= self.store.keyring.refs_of([subject])
        open_store(self.folder).erase(subject, record=no_record)
        for span_id, span in list(self.expected.items()):
            if span.attributes.get(name) == text:
                self.erased.add(span_id)
                del self.expected[span_id]

    def rotate(self) -> None:
        """New roots, and new writers that use them."""
        self.store.keystore.add_generation()
        self.reopen()

    def reopen(self) -> None:
        """End a writer in order, and begin another one."""
        place = self.chance.randrange(len(self.writers))
        assert self.writers[place].close(20).is_complete
        self.writers[place] = self.new_writer()

    def seal(self) -> None:
        """Seal what is closed."""
        self.store.seal_segments()

    def pass_time(self) -> None:
        """A day or less goes by."""
        self.clock.advance(self.chance.choice([60, 40_000, 86_400]))

    def retain(self) -> None:
        """Remove what is older than five days, and whatever went with it."""
        self.store.remove_old(age_s_max=5 * 86_400, witnessed_s=1e9)
        left = {span.span_id for span in self.store.query().spans()}
        oldest = self.clock.unix_ns() - 5 * 86_400 * 10**9
        assert all(s.start_unix_ns < oldest for i, s in self.expected.items() if i not in left)
        self.expected = {i: s for i, s in self.expected.items() if i in left}
        self.erased &= left

    def run(self, steps: int) -> None:
        """Do so many things, and look after each erasure and at the end."""
        things: dict[Callable[[], None], int] = {
            self.write: 8, self.erase: 3, self.rotate: 1, self.reopen: 2, self.seal: 2, self.pass_time: 3,
            self.retain: 1,
        }  # fmt: skip
        for _ in range(steps):
            (thing,) = self.chance.choices(list(things), weights=list(things.values()))
            thing()
        self.check()
        for writer in self.writers:
            assert writer.close(20).is_complete
        self.store.seal_segments()
        self.check()

    def check(self) -> None:
        """All that must be readable is; all that was erased is not, whatever copy of a keyring is tried."""
        query = Store.open(self.folder, provider=KnownKey(), clock=self.clock).query()
        found = by_id(query.spans())
        assert not query.damage
        assert {i: found[i] for i in self.expected} == self.expected
        assert all(found[i].attributes[UNREADABLE] == "erased" for i in self.erased)
        wraps = list(self.folder.glob("wrap-*.agw"))
        for copy in self.older:
            assert not self.erased_keys & opens_with(self.store, copy, wraps).keys()


@pytest.mark.parametrize("seed", range(12))
def test_schedules(tmp_path: Path, seed: int) -> None:
    """Rotation, erasing and retention between writes, in orders drawn from a seed."""
    begin = time.monotonic()
    for number in range(seed * 10, seed * 10 + 10):
        Schedule(tmp_path / str(number), number).run(12)
        if time.monotonic() - begin > 20:
            break  # A busy machine: the other seeds go on.


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("block", range(10))
def test_schedules_many(tmp_path: Path, block: int) -> None:
    """The same, 500 times and longer."""
    for seed in range(10_000 + block * 50, 10_050 + block * 50):
        Schedule(tmp_path / str(seed), seed).run(40)
