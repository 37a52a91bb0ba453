"""The store of one machine: a folder, its keys, writers and queries."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from agentguard.errors import KeyUnavailableError, StoreError
from agentguard.seal import Keystore, create_keystore, ensure_private_folder, open_keystore
from agentguard.store._blob import SealedBlob
from agentguard.store._cache import FooterCache
from agentguard.store._compaction import Compacted, Compactor, Pause
from agentguard.store._config import WriterConfig
from agentguard.store._content_keys import ContentKeys
from agentguard.store._damage import DamageReport
from agentguard.store._disk import Disk
from agentguard.store._hold import Holds
from agentguard.store._keyring import Keyring, Subject
from agentguard.store._layout import HEADER_BYTES, unpack_header
from agentguard.store._query import Query
from agentguard.store._retention import Removed, remove_old
from agentguard.store._sealing import Sealer
from agentguard.store._telling import OnContentRead
from agentguard.store._writer import SegmentWriter
from agentguard.values import Clock, InternalErrorHook, KeyProvider

if TYPE_CHECKING:
    # Only the types: what a governed process never does is loaded where somebody does it.
    from agentguard.store._backup import Backup
    from agentguard.store._erasing import Erasure
    from agentguard.store._repair import Repaired
    from agentguard.store._sql import SqlResult

SEGMENTS = "seg"
_PROGRESS_SPANS = 10_000
BLOBS = "blobs"


class StoreInfo(NamedTuple):
    """What a store holds, without its content."""

    folder: str
    store_id: str
    generation: int
    key_slots: tuple[str, ...]
    """Providers that open it."""
    segments: int
    live_segments: int
    files: int
    """Fewer than segments where some are packed."""
    spans: int
    """In sealed and live segments."""
    outcomes: int
    gaps: int
    """Spans that were dropped on purpose and counted."""
    size_bytes: int
    """Of all segment files."""
    oldest_unix_ns: int | None
    """Earliest start of a span."""
    newest_unix_ns: int | None
    damage: DamageReport


class Store:
    """An open store. Opening it reads keys only; files are made by the first write."""

    def __init__(self, folder: Path, keystore: Keystore, clock: Clock, disk: Disk | None = None) -> None:
        self.folder = folder
        self.keystore = keystore
        self.clock = clock
        self._disk = disk or Disk()
        self._cache = FooterCache()
        self.keyring = Keyring(folder, keystore, clock, self._disk)
        """The keys of persons and conversations."""
        self._content = ContentKeys(self.keyring, keystore.store_id)
        self.on_content_read: OnContentRead | None = None
        """Is told, once a query, before the first span with content comes out; set by who opens a store for a person."""

    @classmethod
    def create(cls, folder: Path, *, provider: KeyProvider, clock: Clock, disk: Disk | None = None) -> Store:
        """
        Make a new store.

        Raises:
            StoreError: The folder cannot be used, or holds a store already.
            KeyUnavailableError: The provider gives no key.

        """
        folder = Path(folder)
        keystore = create_keystore(folder, provider)
        for name in (SEGMENTS, BLOBS):
            ensure_private_folder(folder / name)
        return cls(folder, keystore, clock, disk)

    @classmethod
    def open(cls, folder: Path, *, provider: KeyProvider, clock: Clock, disk: Disk | None = None) -> Store:
        """
        Open a store that exists; nothing is written.

        That content is read is told to nobody unless `on_content_read` is set: for a person's
        program `agentguard.read_store` does both.

        Raises:
            StoreError: There is none, or its folder is not safe.
            KeyUnavailableError: The provider gives no key, or another one.
            TamperedError: The STORE file is damaged or altered.

        """
        folder = Path(folder)
        return cls(folder, open_keystore(folder, provider), clock, disk)

    @property
    def segments(self) -> Path:
        """The folder of the segments."""
        return self.folder / SEGMENTS

    def writer(
        self,
        *,
        resource: Mapping[str, str],
        on_internal_error: InternalErrorHook,
        config: WriterConfig | None = None,
        on_begin: Callable[[], object] | None = None,
    ) -> SegmentWriter:
        """
        Make the writer of this process; its file is made when the first span is written.

        Args:
            resource:
                What is said of this process.

            on_internal_error:
                Is told of errors.

            config:
                Sizes and times.

            on_begin:
                Runs on the thread of the writer when the first span was taken; in a forked child once more.

        Raises:
            StoreError: The folder of the segments is not safe.

        """
        try:
            ensure_private_folder(self.segments)
        except StoreError as error:
            if self.segments.exists():
                raise
            # A read-only disk: the writer counts and reports what it cannot write.
            on_internal_error("store.disk", error)
        return SegmentWriter(
            self.segments, keystore=self.keystore, clock=self.clock, resource=resource,
            on_internal_error=on_internal_error, config=config, disk=self._disk, on_begin=on_begin,
        )  # fmt: skip

    def query(self) -> Query:
        """Begin to read."""
        return Query(self.segments, self.keystore, self._cache, self._content, self.on_content_read)

    def sql(self, query: str, *, since_unix_ns: int | None = None, spans_max: int | None = None) -> SqlResult:
        """
        Run one SQL query over the newest spans, in memory.

        Args:
            query:
                One SELECT over `spans`, `outcomes`, `gaps`.

            since_unix_ns:
                Only spans that start then or later are loaded.

            spans_max:
                How many spans are loaded at most, the newest ones. `None`: 200,000 where the query
                reads ids, names of spans or content; 2,000,000 where it reads only what feature
                blocks hold (start, duration, tokens, cost, agent, tool, model …).

        Raises:
            StoreError: The query is no plain SELECT, is wrong, or runs too long.

        """
        from agentguard.store._sql import run_sql

        source = Query(self.segments, self.keystore, self._cache, self._content)
        return run_sql(
            source,
            query,
            since_unix_ns=since_unix_ns,
            spans_max=spans_max,
            on_content_read=self.on_content_read,
        )

    def sealed_blob(self, name: str) -> SealedBlob:
        """
        Name one of the small sealed files.

        Raises:
            StoreError: The name is not one of `BLOB_KINDS`, alone or with a digest.

        """
        ensure_private_folder(self.folder / BLOBS)
        return SealedBlob(self.folder / BLOBS, name, self.keystore)

    def seal_segments(self) -> int:
        """
        Seal the live segments that no process writes to; returns how many.

        Raises:
            StoreError: The disk refused; what was not sealed stays as it was.

        """
        try:
            return Sealer(self.segments, self.keystore, self.clock, self._disk).seal_all()
        except OSError as error:
            raise StoreError(f"{self.segments}: cannot be sealed: {error.strerror or error}") from error

    @property
    def holds(self) -> Holds:
        """What must not be removed."""
        return Holds(self.sealed_blob("holds"), self.segments, self.keystore)

    def remove_old(
        self,
        *,
        age_s_max: float | None = None,
        size_bytes_max: int | None = None,
        exported: Mapping[str, tuple[int, int]] | None = None,
        witnessed_s: float = 0.0,
    ) -> Removed:
        """
        Remove sealed segments that are too old, and the oldest ones beyond a size.

        Args:
            age_s_max:
                A segment goes once its latest span started longer ago; `None` keeps all.

            size_bytes_max:
                What all segments may take; `None` for no bound.

            exported:
                An export's cursor; spans behind it are counted as not exported.

            witnessed_s:
                For how long this process has seen time pass. After a longer rest than that, and than a week,
                age counts only once spans began on three days: the clock may have jumped.

        Raises:
            StoreError: A file could not be removed, or the legal holds cannot be read: then nothing is.
            TamperedError: The legal holds are not what was written; nothing is removed.
        """
        holds = self.holds
        with holds.unchanging() as held:
            removed = remove_old(
                self.query(), self.segments, now_unix_ns=self.clock.unix_ns(), age_s_max=age_s_max,
                size_bytes_max=size_bytes_max, exported=exported, disk=self._disk,
                is_held=lambda segment: holds.holder_of(segment, held) is not None, witnessed_s=witnessed_s,
            )  # fmt: skip
        if removed.segments:
            self._forget_keys()
        return removed

    def _forget_keys(self) -> None:
        """Forget the keys of content that retention has removed."""
        if self.keystore.is_read_only:
            return
        starts = [info.start_range_unix_ns[0] for info in self.query().segments() if info.spans]
        with contextlib.suppress(KeyUnavailableError):  # Of a store without its wrap key nothing can be said.
            self.keyring.prune(min([*starts, self.clock.unix_ns()]), self._refs_in_use)

    def compact(self, pause: Pause | None = None) -> Compacted:
        """
        Put small segments together into packs; readers and writers go on meanwhile.

        Args:
            pause:
                Waits so many seconds between pieces of the work, and says whether to stop;
                `None` works without a break.

        Raises:
            StoreError: The disk refused, or the legal holds cannot be read; nothing is lost.
            TamperedError: The legal holds are not what was written.
        """
        holds = self.holds
        with holds.unchanging() as held:
            compactor = Compactor(
                self.segments, self.keystore, self.clock, self._disk, pause=pause,
                is_held=lambda segment: holds.holder_of(segment, held) is not None,
            )  # fmt: skip
            try:
                return compactor.run()
            except OSError as error:
                raise StoreError(f"{self.segments}: cannot be packed: {error.strerror or error}") from error

    def _refs_in_use(self) -> frozenset[bytes]:
        """Which keys of persons and conversations something in the store is sealed with."""
        from agentguard.store._erasing import refs_in_use

        return refs_in_use(self.query())

    def erasure(self, *subjects: Subject) -> Erasure:
        """
        Say what erasing these subjects would reach, and whether a legal hold keeps it.

        Raises:
            KeyUnavailableError: There are keys, and the wrap key is not there; or an auditor asks.
            StoreError: The legal holds cannot be read.
            TamperedError: They are not what was written.
        """
        from agentguard.store._erasing import look

        return look(self.query(), self.keyring, subjects, self.holds.list())

    def erase(self, *subjects: Subject, record: Callable[[Mapping[str, object]], None]) -> Erasure:
        """
        Make the content of these subjects unreadable, for good.

        Args:
            subjects:
                Whose content: users, conversations. What is about one of them goes.

            record:
                Writes down durably what is about to happen, once for each subject, before it
                does; it gets no word of what is erased, and no id. Where it raises, nothing is erased.

        Raises:
            StoreError: A legal hold keeps some of it; the disk refused.
            TamperedError: The legal holds are not what was written.
            KeyUnavailableError: There are keys, and the wrap key is not there; or an auditor asks.
        """
        from agentguard.store._erasing import erase

        return erase(self.query(), self.keyring, subjects, self.holds, record)

    def back_up(self, target: Path) -> Backup:
        """
        Copy the store into a new folder, while others may write to it.

        Args:
            target:
                Must not be there, or be an empty folder.

        Raises:
            StoreError: The target is in use, or a file cannot be read or written.
        """
        from agentguard.store._backup import back_up

        return back_up(self.folder, target, keystore=self.keystore, now_unix_ns=self.clock.unix_ns())

    def repair(self) -> Repaired:
        """
        Seal what dead processes left, write damaged segments anew, put aside what cannot be opened.

        Raises:
            StoreError: The disk refused; what was not repaired is as it was.
        """
        from agentguard.store._repair import repair

        sealer = Sealer(self.segments, self.keystore, self.clock, self._disk)
        compactor = Compactor(self.segments, self.keystore, self.clock, self._disk)
        return repair(self.segments, self.keystore, sealer, self._disk, compactor.rebuild)

    def segment_versions(self) -> list[int]:
        """Read the format version of every segment whose header can be read."""
        versions = []
        for path in sorted(self.segments.glob("*.ag[sp]")):
            with contextlib.suppress(OSError), path.open("rb") as file:
                header = unpack_header(file.read(HEADER_BYTES))
                if header is not None:
                    versions.append(header.version)
        return versions

    def info(self) -> StoreInfo:
        """Count what the store holds; opens every footer, and every frame of live segments."""
        query = self.query()
        segments = query.segments()
        spans = sum(segment.spans for segment in segments)
        starts = [segment.start_range_unix_ns for segment in segments if segment.spans]
        return StoreInfo(
            folder=str(self.folder),
            store_id=self.keystore.store_id.hex(),
            generation=self.keystore.generation,
            key_slots=tuple(slot.provider for slot in self.keystore.slots),
            segments=sum(len(segment.members) for segment in segments),
            files=len(segments),
            live_segments=sum(not segment.is_sealed for segment in segments),
            spans=spans,
            outcomes=sum(1 for _ in query.outcomes()),
            gaps=sum(gap.count for gap in query.gaps()),
            size_bytes=sum(segment.size_bytes for segment in segments),
            oldest_unix_ns=min(start for start, _ in starts) if starts else None,
            newest_unix_ns=max(start for _, start in starts) if starts else None,
            damage=query.damage,
        )

    def verify(self, on_progress: Callable[[int], None] | None = None) -> tuple[int, DamageReport]:
        """
        Read everything: every frame of every segment is opened and decoded.

        Args:
            on_progress:
                Is told now and then how many spans were read so far.

        Returns:
            How many spans could be read, and what could not.
        """
        # With a cache of its own: nothing that was read before counts as read now.
        query = Query(self.segments, self.keystore, FooterCache(), self._content)
        count = 0
        for count, _ in enumerate(query.spans(), 1):
            if on_progress is not None and count % _PROGRESS_SPANS == 0:
                on_progress(count)
        for _ in query.features():
            pass
        for _ in query.outcomes():
            pass
        for _ in query.gaps():
            pass
        for _ in query.resources():
            pass
        return count, query.damage

    def __repr__(self) -> str:
        return f"Store({str(self.folder)!r})"
