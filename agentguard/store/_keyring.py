"""
The keyring: one random key for each person and conversation, wrapped, on disk.

New keys are on disk before anything is sealed with them. Erasing one writes the
others anew under another wrap key and destroys the old wrap key: then no copy of
the old file opens any more. A crash leaves the old file or the new one.
"""

from __future__ import annotations

import errno
import hmac
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from agentguard.errors import StoreError
from agentguard.seal import (
    KEY_BYTES,
    PRIVATE_FOLDER_MODE,
    Keystore,
    RootKey,
    WrapKey,
    create_wrap_key,
    destroy_file,
)
from agentguard.store import _keyring_file as layout
from agentguard.store._disk import Disk, try_lock, unlock
from agentguard.store._keyring_file import KEYRING_FILE, KeyEntry
from agentguard.store._keyring_reader import Head, KeyringReader, state_of
from agentguard.values import Clock

USER, CONVERSATION = "user", "conversation"
_ID_LABEL: Final = b"agentguard/v1/subject-id"
_LOCK: Final = "keyring.lock"
_LOCK_WAIT_S_MAX: Final = 10.0
_OWN_KEYS_MAX: Final = 8192
"""Subjects whose keys a writer has at hand; one that comes back later gets another key."""
_DAY_NS: Final = 86_400 * 10**9
_PRUNED_MIN: Final = 64


class Subject(NamedTuple):
    """Whom content is about: a user, or a conversation."""

    kind: str
    text: str


class SubjectKey(NamedTuple):
    """A key, and how sealed content names it."""

    ref: bytes
    key: RootKey


class Keyring(KeyringReader):
    """
    The keys of the subjects of one store.

    Reading is safe for threads; `keys_for` is for one thread at a time. Any number
    of processes may use the same files.
    """

    def __init__(
        self,
        folder: Path,
        keystore: Keystore,
        clock: Clock,
        disk: Disk | None = None,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        super().__init__(folder, keystore)
        self._clock = clock
        self._disk = disk or Disk()
        self._random_bytes = random_bytes
        self._own: OrderedDict[Subject, tuple[int, SubjectKey]] = OrderedDict()
        self._own_number = 0
        self._id_key: tuple[int, bytes] | None = None
        self._lock_path = str(folder / _LOCK)

    # Writing --------------------------------------------------------------------------

    def subject_id(self, subject: Subject) -> bytes:
        """Hash a subject under a key of the store: what stands in the keyring, and in the decision log."""
        generation = self._keystore.generations[0]
        if self._id_key is None or self._id_key[0] != generation:
            self._id_key = generation, self._keystore.root_of(generation).derive(_ID_LABEL)
        message = subject.kind.encode() + b"\0" + subject.text.encode("utf-8", "backslashreplace")
        return hmac.digest(self._id_key[1], message, "sha256")[: layout.SUBJECT_BYTES]

    @property
    def day(self) -> int:
        """Today, in days since 1970."""
        return self._clock.unix_ns() // _DAY_NS

    def keys_for(self, subjects: Collection[Subject]) -> Mapping[Subject, SubjectKey]:
        """
        Give each subject a key of today that is on disk, and not erased.

        A process draws its own keys, so that it need not know those of others; a
        subject may have many, and all of them are erased together.

        Raises:
            OSError: The disk refused; nothing may be sealed for these subjects now.
            StoreError: The keyring is full.
        """
        if self._head().number != self._own_number:
            # Somebody erased a subject: what is in memory may be its key.
            self._own.clear()
        today = self.day
        found: dict[Subject, SubjectKey] = {}
        for subject in subjects:
            day, key = self._own.get(subject, (-1, None))
            if key is not None and day == today:
                found[subject] = key
                self._own.move_to_end(subject)
        missing = [subject for subject in subjects if subject not in found]
        if missing:
            found.update(self._add(missing, today))
        return found

    def _add(self, subjects: Collection[Subject], today: int) -> Mapping[Subject, SubjectKey]:
        """Draw keys, and bring them to disk."""
        drawn = {
            subject: KeyEntry(
                self._random_bytes(layout.REF_BYTES),
                self._random_bytes(KEY_BYTES),
                self.subject_id(subject),
                max(today, 0) & 0xFFFF_FFFF,
            )
            for subject in subjects
        }
        with self._locked():
            number, wrap = self._writable()
            state = self._append(b"".join([layout.pack_entry(wrap, entry) for entry in drawn.values()]))
            # Nobody else writes now: the header needs not be read again.
            self._known = Head(state, number, wrap)
        if number != self._own_number:
            self._own.clear()
            self._own_number = number
        keys = {subject: SubjectKey(entry.ref, RootKey(entry.key)) for subject, entry in drawn.items()}
        for subject, key in keys.items():
            self._own[subject] = (today, key)
        while len(self._own) > _OWN_KEYS_MAX:
            self._own.popitem(last=False)
        return keys

    def _append(self, data: bytes) -> tuple[int, int, int, int]:
        """Add whole entries at the end, over a torn one if there is one; returns the state of the file then."""
        fd = os.open(self._path_text, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            size = os.fstat(fd).st_size
            end = size - (size - layout.HEADER_BYTES) % layout.ENTRY_BYTES
            if end + len(data) > layout.KEYRING_BYTES_MAX:
                raise StoreError(
                    f"{self._path}: got more than {layout.KEYRING_BYTES_MAX} bytes of keys, expected at most that"
                ).hint("retention removes the keys of what it removed: set `keep_spans_days`")
            if end != size:
                self._disk.truncate(fd, end)
            try:
                self._disk.write(fd, data)
                self._disk.sync(fd)
                return state_of(os.fstat(fd))
            except BaseException:
                with suppress(OSError):
                    self._disk.truncate(fd, end)
                raise
        finally:
            os.close(fd)

    def _writable(self) -> tuple[int, WrapKey]:
        """The wrap key to use; a new keyring where there is none, or its wrap key is gone. Under the lock."""
        head = self._head()
        if head.number and head.wrap is not None:
            if head.number != self._own_number:
                self._destroy_before(head.number)
            return head.number, head.wrap
        if head.is_there:
            # Nothing in it can be opened any more, unless somebody brings the wrap key back.
            aside = self._folder / "quarantine"
            aside.mkdir(mode=PRIVATE_FOLDER_MODE, exist_ok=True)
            self._disk.rename(self._path, aside / f"keyring-{self._random_bytes(4).hex()}.agk")
        return self._replace(())

    def _replace(self, entries: Collection[KeyEntry]) -> tuple[int, WrapKey]:
        """Write the keyring anew under a new wrap key, and destroy the old ones. Under the lock."""
        number = 1 + max([self._head().number, *(n for n, _ in self._wrap_files())])
        wrap = create_wrap_key(
            self._wrap_path(number), number, root=self._keystore.root, generation=self._keystore.generation,
            store_id=self._keystore.store_id, random_bytes=self._random_bytes,
        )  # fmt: skip
        temporary = self._folder / f".{KEYRING_FILE}.tmp"
        fd = self._disk.create_over(temporary)
        try:
            packed = [layout.pack_entry(wrap, entry) for entry in entries]
            self._disk.write(fd, layout.pack_header(number, self._keystore.store_id) + b"".join(packed))
            self._disk.sync(fd)
        finally:
            self._disk.close(fd)
        self._disk.rename(temporary, self._path)
        self._disk.sync_folder(self._folder)
        self._destroy_before(number)
        return number, wrap

    def _destroy_before(self, number: int) -> None:
        """Destroy the wrap keys before this one: also one that a crash left behind."""
        for older, path in self._wrap_files():
            if older < number:
                destroy_file(path, self._random_bytes)

    # Erasing --------------------------------------------------------------------------

    def refs_of(self, subjects: Collection[Subject]) -> frozenset[bytes]:
        """
        Name the keys that these subjects have now.

        Raises:
            KeyUnavailableError: There are keys, and the wrap key is not there.
            StoreError: They cannot be read just now.
        """
        wanted = {self.subject_id(subject) for subject in subjects}
        return frozenset(e.ref for e in self._entries() if e.subject in wanted and not e.is_erased)

    def erase(self, subjects: Collection[Subject]) -> int:
        """
        Erase all keys of these subjects, for good; returns how many there were.

        Raises:
            StoreError: The disk refused. Whoever sees this must not take the keys for erased.
            KeyUnavailableError: There are keys, and the wrap key is not there.
        """
        wanted = {self.subject_id(subject) for subject in subjects}
        return self._rewrite(
            lambda entry: entry.erased() if entry.subject in wanted and not entry.is_erased else entry
        )

    def prune(self, before_unix_ns: int, used: Callable[[], Collection[bytes]]) -> int:
        """
        Forget the keys of which nothing is left in the store; returns how many.

        Args:
            before_unix_ns:
                When the oldest span that is left began. Keys that are not older by two
                days stay in any case.

            used:
                Gives the references that the store still needs; asked where enough
                keys are old that a new file is worth it.

        Raises:
            StoreError: The disk refused.
            KeyUnavailableError: There are keys, and the wrap key is not there.
        """
        before = before_unix_ns // _DAY_NS - 2
        entries = self._entries()
        old = {entry.ref for entry in entries if entry.day < before}
        if len(old) < _PRUNED_MIN or len(old) * 4 < len(entries):
            return 0
        # The time of a span is what its program said: only what is there tells what is needed.
        old.difference_update(used())
        return self._rewrite(lambda entry: None if entry.ref in old else entry)

    def _rewrite(self, change: Callable[[KeyEntry], KeyEntry | None]) -> int:
        """Change entries, or leave them out; what stays is wrapped anew. Returns how many changed."""
        try:
            with self._locked():
                entries = self._entries()
                changed = [change(entry) for entry in entries]
                count = sum(new is not old for new, old in zip(changed, entries, strict=True))
                if count:
                    self._replace([entry for entry in changed if entry is not None])
                elif entries:
                    self._destroy_before(self._head().number)
                self._own.clear()
                self._forget()
        except OSError as error:
            raise StoreError(f"{self._path}: cannot be written: {error.strerror or error}") from error
        return count

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock of the keyring."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(self._lock_path, flags, 0o600)
        try:
            deadline = time.monotonic() + _LOCK_WAIT_S_MAX
            while not try_lock(fd):
                if time.monotonic() >= deadline:
                    raise OSError(errno.ETIMEDOUT, f"another process holds {_LOCK}")
                time.sleep(0.002)
            try:
                yield
            finally:
                unlock(fd)
        finally:
            os.close(fd)
