"""
Cells of a whole machine: one SQLite file, every row sealed, every key an HMAC.

Changes happen under a lock file (SQLite's own waiting is unfair and slow),
inside `BEGIN IMMEDIATE`, with `synchronous=FULL`. A database that was removed
or replaced is noticed by a sealed mark beside it: reset counters deny, they do
not start again at zero in silence.
"""

from __future__ import annotations

import contextlib
import fcntl
import hmac
import json
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agentguard.errors import KeyUnavailableError, SealError, StoreError, StoreLockedError, TamperedError
from agentguard.forks import FORK_WAIT_S_MAX
from agentguard.seal import (
    PRIVATE_FILE_MODE,
    Keystore,
    SealKey,
    open_box,
    open_regular,
    read_file,
    seal_box,
    write_file_atomic,
)
from agentguard.state.cells import Cell, Document

FILE_NAME = "state.db"
LOCK_NAME = "state.lock"
MARK_NAME = "state.mark"
SCHEMA_VERSION = 1
LOCK_WAIT_S_MAX = 5.0

_LABEL = b"agentguard/v1/state"
_BESIDE = ("-journal", "-wal", "-shm")
_INDEX_LABEL = b"agentguard/v1/state-index"
_PURPOSE = "state-mark"
_SCHEMA = """
CREATE TABLE meta (
    id BLOB NOT NULL, version INTEGER NOT NULL, generation INTEGER NOT NULL, commitment BLOB NOT NULL,
    revision INTEGER NOT NULL
);
CREATE TABLE cells (
    kind TEXT NOT NULL, key BLOB NOT NULL, link BLOB NOT NULL, payload BLOB NOT NULL,
    expires INTEGER NOT NULL, revision INTEGER NOT NULL, PRIMARY KEY (kind, key)
) WITHOUT ROWID;
CREATE INDEX cells_revision ON cells (kind, revision);
CREATE INDEX cells_link ON cells (kind, link);
"""
_WAL_SAFE = ((3, 44, 6, 3, 45, 0), (3, 50, 7, 3, 51, 0))
"""From, and up to but not with: the versions older than 3.51.3 whose WAL does not lose a reset."""

_open: weakref.WeakSet[SqliteCells] = weakref.WeakSet()
_abandoned: list[sqlite3.Connection] = []
"""Connections that a forked child inherited: closing them would touch the parent's files."""


class SqliteCells:
    """Cells shared by all processes of a machine; thread-safe, fork-safe."""

    def __init__(self, folder: Path, keystore: Keystore, *, accept_reset: bool = False) -> None:
        """
        Open the state of a store, or make it where the store has none yet.

        Args:
            folder:
                The store's folder.
            keystore:
                Its keys.
            accept_reset:
                Begin anew where the state was removed: all counters at zero.

        Raises:
            StoreError: It was removed, replaced, is damaged, or of a newer version.
            KeyUnavailableError: It was made with another key.
        """
        self._folder = folder
        self._keystore = keystore
        self._begin()
        self._connections = 1
        """How many there were."""
        with self._file_lock():
            self._connection: sqlite3.Connection | None = self._prepare(accept_reset=accept_reset)
        _open.add(self)

    # -- protocol ------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """
        Begin a change that no other thread or process interleaves with.

        Raises:
            StoreLockedError: Another process held the state for too long.
            StoreError: The disk refused; nothing of the change remains.
        """
        with self._file_lock(), self._lock:
            connection = self._connected()
            self._run(connection, "BEGIN IMMEDIATE")
            try:
                yield
                self._run(connection, "COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    def get(self, kind: str, key: str) -> Document | None:
        """Read one document."""
        with self._lock:
            rows = self._rows(
                "SELECT key, link, payload, expires, revision FROM cells WHERE kind = ? AND key = ?",
                (kind, self._index(kind, key)),
            )
        return self._opened(kind, rows[0]).document if rows else None

    def put(self, kind: str, key: str, document: Document, *, link: str = "", expires_unix_s: int = 0) -> int:
        """Write one document, inside a transaction."""
        with self._lock:
            connection = self._connected()
            self._run(connection, "UPDATE meta SET revision = revision + 1")
            ((revision,),) = self._rows("SELECT revision FROM meta", ())
            row_key, row_link = self._index(kind, key), self._index(f"link/{kind}", link) if link else b""
            payload = self._key.seal(
                json.dumps({"key": key, "document": document}, allow_nan=False).encode(),
                _associated(kind, row_key, row_link, expires_unix_s, revision),
            )
            self._run(
                connection,
                "INSERT OR REPLACE INTO cells VALUES (?, ?, ?, ?, ?, ?)",
                (kind, row_key, row_link, payload, expires_unix_s, revision),
            )
        return int(revision)

    def linked(self, kind: str, link: str) -> list[Cell]:
        """Read the documents that share a link."""
        with self._lock:
            rows = self._rows(
                "SELECT key, link, payload, expires, revision FROM cells WHERE kind = ? AND link = ? ORDER BY revision",
                (kind, self._index(f"link/{kind}", link)),
            )
        return [self._opened(kind, row) for row in rows]

    def changed(self, kind: str, after_revision: int = 0) -> list[Cell]:
        """Read the documents that changed after a revision."""
        with self._lock:
            rows = self._rows(
                "SELECT key, link, payload, expires, revision FROM cells WHERE kind = ? AND revision > ? ORDER BY revision",
                (kind, after_revision),
            )
        return [self._opened(kind, row) for row in rows]

    def version(self) -> object:
        """Give what is another value whenever somebody else has changed any cell; cheaper than reading."""
        with self._lock:
            # SQLite's number means something to this connection alone.
            ((number,),) = self._rows("PRAGMA data_version", ())
            return self._connections, number

    def remove_expired(self, now_unix_s: int) -> None:
        """Remove what has expired, inside a transaction."""
        with self._lock:
            self._run(
                self._connected(), "DELETE FROM cells WHERE expires > 0 AND expires <= ?", (now_unix_s,)
            )

    def count(self, kind: str) -> int:
        """Count the documents of a kind."""
        with self._lock:
            return int(self._rows("SELECT count(*) FROM cells WHERE kind = ?", (kind,))[0][0])

    def close(self) -> None:
        """Close the database; a later use opens it again."""
        with self._lock:
            if self._connection is not None and self._pid == os.getpid():
                self._connection.close()
            self._connection = None

    def __del__(self) -> None:
        # Whoever forgets to close must not leave it to the interpreter, which warns. Of an object whose
        # construction failed there may be no connection, and in a child it is the parent's.
        connection = getattr(self, "_connection", None)
        if connection is not None and self._pid == os.getpid():
            connection.close()

    # -- connection ----------------------------------------------------------------------------

    def _prepare(self, *, accept_reset: bool) -> sqlite3.Connection:
        """Open or make the database; the file lock is held."""
        path, mark = self._folder / FILE_NAME, self._folder / MARK_NAME
        marked = self._read_mark(mark)
        if not path.exists() or path.stat().st_size == 0:
            if marked is not None and not accept_reset:
                raise StoreError(f"{path}: the state of this machine was removed").hint(
                    "counters, approvals and the kill switch are lost; bring the file back, "
                    "or begin anew on purpose with `agentguard kill status --accept-reset`"
                )
            return self._create(path, mark)
        connection = self._connect(path)
        try:
            ((state_id, version, generation, commitment),) = self._rows(
                "SELECT id, version, generation, commitment FROM meta", (), connection
            )
        except (ValueError, StoreError) as error:
            connection.close()
            raise StoreError(f"{path}: damaged, or not a state database") from error
        if version != SCHEMA_VERSION:
            connection.close()
            raise StoreError(f"{path}: version {version}, this program reads {SCHEMA_VERSION}")
        try:
            self._derive(state_id, generation)
            self._key.check(commitment)
        except (TamperedError, KeyUnavailableError) as error:
            connection.close()
            raise KeyUnavailableError(f"{path}: made with another key, or for another store") from error
        if marked is not None and marked != state_id and not accept_reset:
            connection.close()
            raise StoreError(f"{path}: not the state that this store was last used with").hint(
                "it was replaced; accept it on purpose with `agentguard kill status --accept-reset`"
            )
        if marked != state_id:
            self._write_mark(mark, state_id)
        return connection

    def _create(self, path: Path, mark: Path) -> sqlite3.Connection:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_FILE_MODE)
            os.close(fd)
        except OSError as error:
            raise StoreError(f"{path}: cannot be made ({error.strerror})") from error
        state_id = os.urandom(16)
        self._derive(state_id, self._keystore.generation)
        connection = self._connect(path)
        try:
            connection.executescript("BEGIN IMMEDIATE;" + _SCHEMA)
            connection.execute(
                "INSERT INTO meta VALUES (?, ?, ?, ?, 0)",
                (state_id, SCHEMA_VERSION, self._keystore.generation, self._key.commitment),
            )
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            connection.close()
            raise StoreError(f"{path}: cannot be made ({error})") from error
        self._write_mark(mark, state_id)
        return connection

    def _derive(self, state_id: bytes, generation: int) -> None:
        """Derive the keys of one database; it keeps the generation that it was made with."""
        root = self._keystore.root_of(generation)
        self._key = SealKey(root, _LABEL, self._keystore.store_id + state_id)
        self._index_root = root.derive(_INDEX_LABEL, self._keystore.store_id)

    def _connect(self, path: Path) -> sqlite3.Connection:
        connection = None
        try:
            os.close(open_regular(path))
            for suffix in _BESIDE:
                # SQLite opens these as they are: it would wait for ever at a planted FIFO, and follow a link.
                with contextlib.suppress(FileNotFoundError):
                    os.close(open_regular(path.with_name(path.name + suffix)))
            connection = sqlite3.connect(
                path, timeout=LOCK_WAIT_S_MAX, isolation_level=None, check_same_thread=False
            )
            # No column holds text that is read back; what somebody made text is bytes that do not open.
            connection.text_factory = bytes
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA temp_store = MEMORY")
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute(f"PRAGMA journal_mode = {_journal_mode()}").fetchall()
            connection.execute("PRAGMA synchronous = FULL")
        except (OSError, SealError, sqlite3.Error) as error:
            if connection is not None:
                connection.close()
            raise StoreError(f"{path}: cannot be opened ({_why(error)})") from error
        return connection

    def _connected(self) -> sqlite3.Connection:
        """Give out the connection of this process."""
        if self._pid != os.getpid():
            self.after_fork(is_child=True)
        if self._connection is None:
            self._connection = self._prepare(accept_reset=False)
            self._connections += 1
        return self._connection

    def _begin(self) -> None:
        """Begin with locks of our own: at the start, and in the child of a fork."""
        self._pid = os.getpid()
        self._turn = threading.RLock()
        """Held by the thread that has the lock file, or waits for it; taken before `_lock`."""
        self._depth = 0
        self._lock_fd: int | None = None
        self._lock = threading.RLock()
        """Held around each use of the connection, never while another process is waited for."""

    def before_fork(self) -> None:
        """
        Let whoever is inside SQLite come out.

        A child inherits SQLite's own book of the locks that this process holds, and its mutexes as they are. Forked
        in the middle of a change, it would find the database locked by itself, for ever.
        """
        self._lock.acquire(timeout=FORK_WAIT_S_MAX)

    def after_fork(self, *, is_child: bool) -> None:
        """Let the parent go on; in the child, leave the parent's connection alone."""
        if not is_child:
            with contextlib.suppress(RuntimeError):  # The wait was in vain.
                self._lock.release()
            return
        if self._connection is not None:
            _abandoned.append(self._connection)
        self._connection = None
        if self._lock_fd is not None:
            # The parent's lock lasts as long as anybody has its file open, should the parent die.
            with contextlib.suppress(OSError):
                os.close(self._lock_fd)
        self._begin()

    def _rows(
        self, sql: str, values: tuple[object, ...], connection: sqlite3.Connection | None = None
    ) -> list[tuple[Any, ...]]:
        try:
            return (connection or self._connected()).execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _run(self, connection: sqlite3.Connection, sql: str, values: tuple[object, ...] = ()) -> None:
        try:
            connection.execute(sql, values)
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _failed(self, error: sqlite3.Error) -> StoreError:
        return StoreError(f"{self._folder / FILE_NAME}: {_why(error)}")

    @contextmanager
    def _file_lock(self) -> Iterator[None]:
        """Hold the lock file; entered again by the same thread it is held already."""
        with self._turn:
            if self._depth:
                self._depth += 1
                try:
                    yield
                finally:
                    self._depth -= 1
                return
            fd = self._lock_fd = self._acquire()
            self._depth = 1
            try:
                yield
            finally:
                self._depth = 0
                self._lock_fd = None
                # By name: a child forked meanwhile shares the lock, closing alone would not end it.
                fcntl.flock(fd, fcntl.LOCK_UN)
                os.close(fd)

    def _acquire(self) -> int:
        path = self._folder / LOCK_NAME
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_FILE_MODE)
        except OSError as error:
            raise StoreError(f"{path}: cannot be opened ({error.strerror})") from error
        deadline, pause_s = time.monotonic() + LOCK_WAIT_S_MAX, 0.0002
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(fd)
                    raise StoreLockedError(
                        f"{path}: held by another process for more than {LOCK_WAIT_S_MAX:g} s"
                    ) from None
                time.sleep(pause_s)
                pause_s = min(pause_s * 1.5, 0.005)
            else:
                return fd

    # -- sealing -------------------------------------------------------------------------------

    def _index(self, kind: str, key: str) -> bytes:

        return hmac.digest(self._index_root, f"{kind}\0{key}".encode("utf-8", "surrogatepass"), "sha256")

    def _opened(self, kind: str, row: tuple[Any, ...]) -> Cell:
        key, link, payload, expires, revision = row
        try:
            assert isinstance(key, bytes)
            assert isinstance(link, bytes)
            assert isinstance(payload, bytes)
            assert isinstance(expires, int)
            assert isinstance(revision, int)
            content = json.loads(self._key.open(payload, _associated(kind, key, link, expires, revision)))
            return Cell(content["key"], content["document"], revision)
        except (TamperedError, AssertionError, ValueError, LookupError) as error:
            raise StoreError(f"{self._folder / FILE_NAME}: a row was altered from outside").hint(
                "counters, approvals or the kill switch were touched; nothing runs on them"
            ) from error

    def _read_mark(self, mark: Path) -> bytes | None:
        try:
            box = read_file(mark, bytes_max=4096)
        except FileNotFoundError:
            return None
        except (OSError, SealError) as error:
            raise StoreError(f"{mark}: cannot be read") from error
        for generation in range(self._keystore.generation, 0, -1):
            with contextlib.suppress(TamperedError, KeyUnavailableError):
                root = self._keystore.root_of(generation)
                return open_box(root, box, purpose=_PURPOSE, context=self._keystore.store_id)
        raise StoreError(f"{mark}: damaged, or of another store")

    def _write_mark(self, mark: Path, state_id: bytes) -> None:
        box = seal_box(self._keystore.root, state_id, purpose=_PURPOSE, context=self._keystore.store_id)
        try:
            write_file_atomic(mark, box)
        except OSError as error:
            raise StoreError(f"{mark}: cannot be written ({error.strerror})") from error


def _associated(kind: str, key: bytes, link: bytes, expires: int, revision: int) -> bytes:
    """Bind a payload to its row: it opens nowhere else, and not with another expiry."""
    return b"\0".join((kind.encode(), str(expires).encode(), str(revision).encode(), key, link))


def _journal_mode() -> str:
    """WAL where SQLite's is sound, else a rollback journal that is cut, not deleted."""
    version = sqlite3.sqlite_version_info
    is_sound = version >= (3, 51, 3) or any(bounds[:3] <= version < bounds[3:] for bounds in _WAL_SAFE)
    return "WAL" if is_sound else "TRUNCATE"


def _why(error: BaseException) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)


def _before_fork() -> None:
    for cells in list(_open):
        cells.before_fork()


def _after_fork(*, is_child: bool) -> None:
    for cells in list(_open):
        cells.after_fork(is_child=is_child)


os.register_at_fork(
    before=_before_fork,
    after_in_parent=lambda: _after_fork(is_child=False),
    after_in_child=lambda: _after_fork(is_child=True),
)
