"""The file: its connections, the lock that keeps other writers out, its schema, and its write-ahead log.

One connection writes and reads points, on the event loop's own thread: a step of SQLite takes microseconds, and handing
the interpreter lock to a thread and back at each step would cost more than the step. What takes long leaves the loop:

* a scan runs in a thread on a connection of its own;
* the log is copied into the file (a checkpoint) in a thread, so the loop never waits for it;
* the commit's sync moves to a thread while the disk is slow (see `Committing`), for then the loop has better to do.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Final, TypeVar

from penstock.errors import Misconfigured, Unavailable

from .errors import translated

__all__ = ["Database"]

T = TypeVar("T")

VERSION: Final = 1
_APPLICATION_ID: Final = 0x50454E53  # "PENS": tells file(1) and us whose database this is
_CACHE_KIB: Final = 64 * 1024
_SLOW_S: Final = 0.003  # a commit slower than this, on average, is worth a thread's hand-over ...
_QUICK_S: Final = 0.0015  # ... and one quicker than this is not
_CHECKPOINT_PAGES: Final = 8_000  # 32 MB of log: begin to copy it
_PAGES_A_COMMIT: Final = 8  # about what one adds to the log
_PAGES_A_COMMAND: Final = 3
_CATCH_UP_PAGES: Final = 64_000  # 256 MB: let writes wait for the rest, so that the log starts again from its front


class Committing:
    """Where to commit: here, or in a thread. Follows the average of what commits take, with a gap against flapping."""

    def __init__(self) -> None:
        self.in_thread = False
        self._average = 0.0

    def took(self, seconds: float) -> None:
        """Note what a commit took."""
        self._average += 0.1 * (seconds - self._average)
        self.in_thread = self._average > (_QUICK_S if self.in_thread else _SLOW_S)


class Database:
    """A SQLite database of ours, in a file or in memory (`path` None)."""

    def __init__(self, path: Path | None) -> None:
        self.name = str(path) if path else "in memory"
        self._path = path
        self._file: tuple[int, int] | None = None  # which file the path meant when it was opened
        self._lock: int | None = None
        self._writer: sqlite3.Connection | None = None
        self._pointer: sqlite3.Connection | None = None
        self._scanner: sqlite3.Connection | None = None
        self._threads: dict[str, ThreadPoolExecutor] = {}
        self._committing = Committing()
        self._in_commit = False
        self._log_pages = 0  # about how many the log has grown by since it was last copied
        self._copying: asyncio.Task[None] | None = None
        self._caught_up = asyncio.Event()
        self._caught_up.set()

    # -------------------------------------------------------------- open and close

    def open(self) -> None:
        """Lock, connect, and bring the schema up to date. Raises `Misconfigured` or `Unavailable`."""
        if self._writer is not None:
            return
        if self._path is not None:
            self._lock = _lock(self._path)
        try:
            with translated(self.name):
                self._connect()
        except BaseException:
            self._let_go()
            raise

    def _connect(self) -> None:
        self._writer = writer = _connection(str(self._path or ":memory:"))
        _prepare(writer, self.name)
        if self._path is None:
            return
        uri = f"{self._path.as_uri()}?mode=ro"
        self._pointer = _connection(uri, uri=True)
        self._scanner = _connection(uri, uri=True)
        _sync_folder(self._path.parent)
        self._file = _identity(self._path)

    async def close(self) -> None:
        """Copy the log into the file and let go; a second call does nothing."""
        if self._writer is None:
            return
        if self._copying is not None:
            await asyncio.wait([self._copying])
        with translated(self.name):
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._let_go()

    def _let_go(self) -> None:
        for thread in self._threads.values():
            thread.shutdown()
        for connection in (self._scanner, self._pointer, self._writer):
            if connection is not None:
                connection.close()
        self._writer = self._pointer = self._scanner = None
        self._threads = {}
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # -------------------------------------------------------------- write

    @property
    def writer(self) -> sqlite3.Connection:
        """The one connection that writes."""
        if self._writer is None:
            raise Misconfigured(f"ledger {self.name} is not open: call `open` first")
        return self._writer

    async def ready(self) -> None:
        """Return once a transaction may begin.

        Raises `Unavailable` where the file was removed or replaced: SQLite would go on writing what nobody finds again.
        """
        await self._caught_up.wait()
        if self._path is not None and _identity(self._path) != self._file:
            raise Unavailable(f"ledger {self.name}: the file was removed; stop, put it back, and start again")

    async def commit(self, commands: int) -> None:
        """Make the transaction of so many commands durable."""
        began = time.perf_counter()
        if self._committing.in_thread:
            self._in_commit = True
            try:
                await self._in_a_thread("commit", self._commit)
            finally:
                self._in_commit = False
        else:
            self._commit()
        self._committing.took(time.perf_counter() - began)
        self._log_pages += _PAGES_A_COMMIT + _PAGES_A_COMMAND * commands
        if self._log_pages >= _CHECKPOINT_PAGES and self._copying is None and self._path is not None:
            self._log_pages = 0
            self._copying = asyncio.create_task(self._copy_log(), name="ledger-checkpoint")

    def _commit(self) -> None:
        self.writer.execute("COMMIT")

    async def _copy_log(self) -> None:
        """Copy the log while writes go on; if they outran it for long, hold them for the little that is left."""
        try:
            left = await self._in_a_thread("checkpoint", self._checkpoint)
            if left >= _CATCH_UP_PAGES:
                self._caught_up.clear()
                await self._in_a_thread("checkpoint", self._checkpoint)
        except sqlite3.Error:
            pass  # the log is whole and only longer: the next commits try again
        finally:
            self._copying = None
            self._caught_up.set()

    def _checkpoint(self) -> int:
        """Copy what can be copied, on a connection of its own; gives the pages of the log."""
        connection = _connection(str(self._path))
        try:
            _, in_log, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        finally:
            connection.close()
        return int(in_log)

    # -------------------------------------------------------------- read

    @property
    def reader(self) -> sqlite3.Connection:
        """A connection for point reads: the writer, for its cache is warm, unless it is in the middle of a commit."""
        if self._in_commit and self._pointer is not None:
            return self._pointer
        return self.writer

    async def scan(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Ask something that may take long, off the event loop."""
        with translated(self.name):
            scanner = self._scanner
            if scanner is None:
                return question(self.writer)
            return await self._in_a_thread("scan", lambda: question(scanner))

    async def _in_a_thread(self, name: str, work: Callable[[], T]) -> T:
        thread = self._threads.get(name)
        if thread is None:
            thread = self._threads[name] = ThreadPoolExecutor(1, f"ledger-{name}")
        return await asyncio.get_running_loop().run_in_executor(thread, work)


def _lock(path: Path) -> int:
    """Take the lock file beside a database; gives its descriptor. Raises `Misconfigured` when another has it."""
    beside = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Misconfigured(
            f"ledger {path}: can't write beside it ({error}); choose a folder of this user's"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
        os.close(lock)
        raise Misconfigured(
            f"ledger {path} is open in process {holder or '(unknown)'}, and only one may write it: "
            "stop that process, give this one another path, or use a ledger that serves many"
        ) from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


def _connection(name: str, *, uri: bool = False) -> sqlite3.Connection:
    # A connection is handed to one thread at a time, so the check on threads has nothing to find.
    connection = sqlite3.connect(
        name, uri=uri, isolation_level=None, cached_statements=256, check_same_thread=False, timeout=5.0
    )
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def _prepare(writer: sqlite3.Connection, name: str) -> None:
    """Make a new file ours, or check that an old one is and that we know its schema."""
    (version,) = writer.execute("PRAGMA user_version").fetchone()
    (owner,) = writer.execute("PRAGMA application_id").fetchone()
    (tables,) = writer.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables and owner != _APPLICATION_ID:
        raise Misconfigured(f"ledger {name} is another program's database: choose another path")
    if version > VERSION:
        raise Misconfigured(
            f"ledger {name} has schema {version} and this Penstock knows {VERSION}: upgrade Penstock, or restore the "
            "backup that was made before the upgrade"
        )
    (mode,) = writer.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode not in {"wal", "memory"}:
        raise Misconfigured(
            f"ledger {name}: its disk can't hold a write-ahead log; choose a local disk, not a network's"
        )
    if tables:
        writer.execute("BEGIN IMMEDIATE")  # finds out now, not at the first request, whether it can be written
        writer.execute("ROLLBACK")
        return
    schema = files("penstock.ledger.sqlite").joinpath("schema.sql").read_text("utf-8")
    writer.executescript(
        f"BEGIN IMMEDIATE; {schema} PRAGMA user_version = {VERSION}; PRAGMA application_id = {_APPLICATION_ID}; COMMIT"
    )


def _identity(path: Path) -> tuple[int, int] | None:
    """Give what tells a file from any other, or None where there is none."""
    try:
        seen = os.stat(path)  # noqa: PTH116  # before every commit, and Path's is slower
    except FileNotFoundError:
        return None
    return seen.st_dev, seen.st_ino


def _sync_folder(folder: Path) -> None:
    """Make the file's name durable too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
