"""The SQLite driver: groups in, outcomes out."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from penstock.errors import Conflict, Invalid, Misconfigured, PenstockError
from penstock.ledger.commands import AuditRow, Command, LaneCount, RunFilter
from penstock.ledger.driver import Driver, Features
from penstock.model.fleet import Worker
from penstock.model.ids import Clock
from penstock.model.placement import AppEvent, Decision
from penstock.model.run import Attempt, Lane, Run

from . import read
from .database import Database
from .errors import translated, translation
from .group import apply
from .lines import SavedLines
from .transaction import Transaction

__all__ = ["SqliteLedger", "connect", "migrate"]

_IN_A_FILE: Final = Features(
    durability="a returned write is synced to this machine's disk; it survives kill -9 and a power cut, not the disk",
    survives_restart=True,
    many_processes=False,
)
_IN_MEMORY: Final = Features(
    durability="a returned write lives in this process's memory and dies with it",
    survives_restart=False,
    many_processes=False,
)


def connect(url: str, *, clock: Clock) -> Driver:
    """Give the ledger of `sqlite:///abs/path.db`, or of `sqlite://` in memory. Raises `Misconfigured`."""
    return SqliteLedger(_path(url), clock)


async def migrate(url: str) -> list[str]:
    """Do nothing: a file is brought up to date when its one process opens it. Raises `Misconfigured` for a wrong URL."""
    _path(url)
    return []


def _path(url: str) -> Path | None:
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.netloc or parts.query or parts.fragment or path.endswith("/"):
        raise Misconfigured(f"ledger URL {url!r}: write sqlite:///abs/path.db, with three slashes and no query")
    return Path(path) if path else None


class SqliteLedger:
    """A ledger in one SQLite file, with this process as its only writer."""

    def __init__(self, path: Path | None, clock: Clock) -> None:
        self.features = _IN_A_FILE if path else _IN_MEMORY
        self._database = Database(path)
        self._clock = clock
        self._lines = SavedLines()
        self._lines_known = False
        self._sequence: Iterator[int] = itertools.count(1)

    async def open(self) -> None:
        """Lock the file, connect, and load the counters."""
        database = self._database
        database.open()
        with translated(database.name):
            self._lines_known = False
            (last,) = database.writer.execute("SELECT coalesce(max(seq), 0) FROM runs").fetchone()
            self._sequence = itertools.count(last + 1)
            self._current_lines()

    async def close(self) -> None:
        """Let go of the file."""
        await self._database.close()

    # -------------------------------------------------------------- writes

    async def write(self, commands: Sequence[Command[Any]]) -> list[Any | PenstockError]:
        """Apply a group in one transaction and sync it."""
        database = self._database
        await database.ready()
        with translated(database.name):
            tx = Transaction(database.writer, self._current_lines(), self._clock.now(), self._sequence)
            try:
                outcomes = self._applied(tx, commands)
                await database.commit(len(commands))
            except BaseException:
                self._undo(tx)
                raise
        return outcomes

    def _applied(self, tx: Transaction, commands: Sequence[Command[Any]]) -> list[Any | PenstockError]:
        tx.db.execute("BEGIN IMMEDIATE")
        try:
            return apply(tx, commands)
        except Exception as error:
            if self._is_outage(error):
                raise
        # One of them broke the transaction. Find out which by applying each on its own, and keep the others.
        self._undo(tx)
        self._current_lines()
        tx.db.execute("BEGIN IMMEDIATE")
        return [self._alone(tx, command) for command in commands]

    def _alone(self, tx: Transaction, command: Command[Any]) -> Any | PenstockError:
        tx.db.execute("SAVEPOINT one")
        try:
            (outcome,) = apply(tx, [command])
        except Exception as error:
            if self._is_outage(error):
                raise
            tx.db.execute("ROLLBACK TO one")
            self._lines.load(tx.db)
            outcome = _blamed(command, error)
        tx.db.execute("RELEASE one")
        return outcome

    def _is_outage(self, error: Exception) -> bool:
        """Tell whether the database failed, and not what it was asked."""
        return isinstance(error, sqlite3.Error) and translation(error, self._database.name) is not None

    def _undo(self, tx: Transaction) -> None:
        self._lines_known = False
        if tx.db.in_transaction:
            tx.db.execute("ROLLBACK")

    def _current_lines(self) -> SavedLines:
        """Give the counters; they are read again after a transaction that was not kept."""
        if not self._lines_known:
            self._lines.load(self._database.writer)
            self._lines_known = True
        return self._lines

    # -------------------------------------------------------------- questions

    async def now(self) -> float:
        """Give the clock that was passed in."""
        return self._clock.now()

    async def run(self, run_id: str) -> Run | None:
        """Give a run."""
        return read.run(self._database.reader, run_id)

    async def latest(self, tenant: str, app: str, key: str) -> Run | None:
        """Give the latest generation of a key."""
        return read.latest(self._database.reader, tenant, app, key)

    async def runs(self, wanted: RunFilter) -> list[Run]:
        """List runs, newest first, off the event loop."""
        return await self._database.scan(lambda db: read.runs(db, wanted))

    async def attempts(self, run_id: str) -> list[Attempt]:
        """List a run's attempts."""
        return read.attempts(self._database.reader, run_id)

    async def unanswered(self, for_s: float, limit: int = 1000) -> list[Attempt]:
        """List attempts whose worker has not heard of their end."""
        return read.unanswered(self._database.reader, self._clock.now() - for_s, limit)

    async def lanes(self) -> list[LaneCount]:
        """Give the counters, from memory; only the oldest of each line is looked up."""
        return [read.count_of(self._database.reader, line) for line in self._current_lines().all()]

    async def ahead(self, app: str, lane: Lane, mark: int) -> int:
        """Give about how many are served before a mark, from memory."""
        line = self._current_lines().find(app, lane)
        return 0 if line is None else line.ahead(mark)

    async def workers(self, *, app: str | None = None, live: bool = True, limit: int = 1000) -> list[Worker]:
        """List workers, newest first, off the event loop."""
        return await self._database.scan(lambda db: read.workers(db, app=app, live=live, limit=limit))

    async def worker(self, uid: str) -> Worker | None:
        """Give a worker."""
        return read.worker(self._database.reader, uid)

    async def decisions(self, app: str, limit: int = 20) -> list[Decision]:
        """List an app's placements, newest first."""
        return read.decisions(self._database.reader, app, limit)

    async def events(self, app: str | None = None, after: int = 0, limit: int = 100) -> list[AppEvent]:
        """List app events, oldest first."""
        return read.events(self._database.reader, app, after, limit)

    async def audited(self, *, tenant: str | None = None, after: int = 0, limit: int = 100) -> list[AuditRow]:
        """List audit rows, oldest first, off the event loop."""
        return await self._database.scan(lambda db: read.audited(db, tenant, after, limit))


def _blamed(command: Command[Any], error: Exception) -> PenstockError:
    """Give the error of the one command that broke its group."""
    kind = type(command).__name__
    blamed: PenstockError
    if isinstance(error, sqlite3.IntegrityError):
        blamed = Conflict(f"{kind}: it names something that is there already ({error})")
    elif isinstance(error, (UnicodeError, OverflowError, TypeError, sqlite3.ProgrammingError, sqlite3.InterfaceError)):
        blamed = Invalid(f"{kind}: a value can't be stored ({error})")
    else:
        blamed = PenstockError(f"{kind}: the ledger could not apply it ({error!r})")
    blamed.__cause__ = error
    return blamed
