"""The PostgreSQL driver: groups in, outcomes out, beside other processes that do the same."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final

import asyncpg
from msgspec.structs import replace

from penstock.errors import Conflict, Invalid, PenstockError
from penstock.ledger.commands import AuditRow, Command, LaneCount, RunFilter
from penstock.ledger.driver import Driver, Features
from penstock.model.fleet import Worker
from penstock.model.ids import Clock
from penstock.model.placement import AppEvent, Decision
from penstock.model.run import Attempt, Lane, Run

from . import read, schema
from .changes import Changes
from .connection import Connections
from .errors import contended, translated, translation
from .group import apply
from .place import Place
from .transaction import ShareKey, Transaction

__all__ = ["PostgresLedger", "connect", "migrate"]

_TRIES: Final = 5  # of a group that loses against another process's
_SYNCED: Final = "a returned write is synced to the server's disk; it survives the loss of any process, not that disk"
_REPLICATED: Final = "a returned write is synced to the server's disk and to its synchronous standby"
_UNSYNCED: Final = (
    "the server runs with fsync=off: a returned write survives any process, but not a crash of its machine"
)


def connect(url: str, *, clock: Clock) -> Driver:
    """Give the ledger of `postgresql://user:password@host:port/database`. Raises `Misconfigured`."""
    return PostgresLedger(Place.of(url), clock)


async def migrate(url: str) -> list[str]:
    """Bring the schema up to date; gives the names of the steps taken. Raises `Misconfigured` or `Unavailable`."""
    return await schema.migrate(Place.of(url))


class PostgresLedger:
    """A ledger in one schema of a PostgreSQL database, shared by any number of processes."""

    def __init__(self, place: Place, clock: Clock) -> None:
        self.features = Features(durability=_SYNCED, survives_restart=True, many_processes=True, tells_changes=True)
        self._connections = Connections(place)
        self._clock = clock if place.callers_clock else None
        self._shares: dict[ShareKey, int] = {}
        self._changes = Changes(self._connections)

    async def open(self) -> None:
        """Connect, and see that the schema is one that this Penstock works with."""
        await self._connections.open()
        place = self._connections.place
        try:
            writer = await self._connections.writer()
            with translated(place.name):
                await schema.check(writer, place)
                self.features = replace(self.features, durability=await _durability(writer))
        except BaseException:
            await self._connections.close()
            raise

    async def close(self) -> None:
        """Tell what is untold, and let go."""
        await self._changes.finish()
        await self._connections.close()

    # -------------------------------------------------------------- writes

    async def write(self, commands: Sequence[Command[Any]]) -> list[Any | PenstockError]:
        """Apply a group in one transaction. What loses against another process's group is done again."""
        for tried in range(1, _TRIES + 1):
            writer = await self._connections.writer()
            try:
                return await self._committed(writer, commands)
            except BaseException as error:
                self._connections.drop_writer()
                if contended(error) and tried < _TRIES:
                    continue
                known = translation(error, self._connections.place.name)
                if known is None:
                    raise
                raise known from error
        raise AssertionError("the last try returns or raises")

    async def _committed(
        self, writer: asyncpg.Connection[asyncpg.Record], commands: Sequence[Command[Any]]
    ) -> list[Any | PenstockError]:
        transaction = writer.transaction()
        await transaction.start()
        tx = self._transaction(writer)
        try:
            outcomes = await apply(tx, commands)
            told = [tx]
        except Exception as error:
            if self._is_outage(error):
                raise
            # One of them broke the transaction. Find out which, and keep the others.
            await transaction.rollback()
            transaction = writer.transaction()
            await transaction.start()
            told = []
            outcomes = await self._in_halves(writer, commands, told)
        await transaction.commit()
        for tx in told:
            self._shares.update(tx.made)
            self._changes.tell(tx.changed)
        return outcomes

    async def _in_halves(
        self, writer: asyncpg.Connection[asyncpg.Record], commands: Sequence[Command[Any]], told: list[Transaction]
    ) -> list[Any | PenstockError]:
        """Apply commands of which some are broken: half of them, and half of those, until each stands by itself."""
        if len(commands) > 1:
            middle = len(commands) // 2
            halves = commands[:middle], commands[middle:]
            return [outcome for half in halves for outcome in await self._tried(writer, half, told)]
        return await self._tried(writer, commands, told)

    async def _tried(
        self, writer: asyncpg.Connection[asyncpg.Record], commands: Sequence[Command[Any]], told: list[Transaction]
    ) -> list[Any | PenstockError]:
        tx = self._transaction(writer)
        tx.made.update({key: share for before in told for key, share in before.made.items()})
        savepoint = writer.transaction()
        await savepoint.start()
        try:
            outcomes = await apply(tx, commands)
        except Exception as error:
            if self._is_outage(error):
                raise
            await savepoint.rollback()
            if len(commands) > 1:
                return await self._in_halves(writer, commands, told)
            return [_blamed(commands[0], error)]
        await savepoint.commit()
        told.append(tx)
        return outcomes

    def _transaction(self, writer: asyncpg.Connection[asyncpg.Record]) -> Transaction:
        return Transaction(writer, None if self._clock is None else self._clock.now(), self._shares)

    def _is_outage(self, error: Exception) -> bool:
        """Tell whether the database failed, or another process was in the way, and not what it was asked."""
        return contended(error) or translation(error, self._connections.place.name) is not None

    # -------------------------------------------------------------- news

    def changes(self) -> AsyncGenerator[tuple[str, ...]]:
        """Give the ids of changed runs, whichever process changed them."""
        return self._changes.heard()

    # -------------------------------------------------------------- questions

    async def now(self) -> float:
        """Give the database's clock."""
        if self._clock is not None:
            return self._clock.now()
        ((now,),) = await self._connections.ask("SELECT extract(epoch FROM clock_timestamp())::float8")
        return float(now)

    async def run(self, run_id: str) -> Run | None:
        """Give a run."""
        return await read.run(self._connections.ask, run_id)

    async def latest(self, tenant: str, app: str, key: str) -> Run | None:
        """Give the latest generation of a key."""
        return await read.latest(self._connections.ask, tenant, app, key)

    async def runs(self, wanted: RunFilter) -> list[Run]:
        """List runs, newest first."""
        return await read.runs(self._connections.ask, wanted)

    async def attempts(self, run_id: str) -> list[Attempt]:
        """List a run's attempts, first to last."""
        return await read.attempts(self._connections.ask, run_id)

    async def unanswered(self, for_s: float, limit: int = 1000) -> list[Attempt]:
        """List attempts that ended over their worker's head that long ago, and that it still holds."""
        return await read.unanswered(self._connections.ask, await self.now() - for_s, limit)

    async def lanes(self) -> list[LaneCount]:
        """Give the counters of every line."""
        return await read.lanes(self._connections.ask)

    async def ahead(self, app: str, lane: Lane, mark: int) -> int:
        """Give about how many are served before a mark."""
        return await read.ahead(self._connections.ask, app, lane, mark)

    async def workers(self, *, app: str | None = None, live: bool = True, limit: int = 1000) -> list[Worker]:
        """List workers, newest first."""
        return await read.workers(self._connections.ask, app=app, live=live, limit=limit)

    async def worker(self, uid: str) -> Worker | None:
        """Give a worker."""
        return await read.worker(self._connections.ask, uid)

    async def decisions(self, app: str, limit: int = 20) -> list[Decision]:
        """List an app's placements, newest first."""
        return await read.decisions(self._connections.ask, app, limit)

    async def events(self, app: str | None = None, after: int = 0, limit: int = 100) -> list[AppEvent]:
        """List app events, oldest first."""
        return await read.events(self._connections.ask, app, after, limit)

    async def audited(self, *, tenant: str | None = None, after: int = 0, limit: int = 100) -> list[AuditRow]:
        """List audit rows, oldest first."""
        return await read.audited(self._connections.ask, tenant, after, limit)


async def _durability(writer: asyncpg.Connection[asyncpg.Record]) -> str:
    """Give what this server makes of a commit, for those who ask what an acknowledgement is worth."""
    row = await writer.fetchrow(
        "SELECT current_setting('fsync') = 'on', current_setting('synchronous_standby_names') <> '', "
        "current_setting('synchronous_commit') <> 'local'"
    )
    synced, standby, waits = row or (True, False, False)
    if not synced:
        return _UNSYNCED
    return _REPLICATED if standby and waits else _SYNCED


def _blamed(command: Command[Any], error: Exception) -> PenstockError:
    """Give the error of the one command that broke its group."""
    kind = type(command).__name__
    code = (error.sqlstate or "") if isinstance(error, asyncpg.PostgresError) else ""
    blamed: PenstockError
    if code.startswith("23"):
        blamed = Conflict(f"{kind}: it names something that is there already ({error})")
    elif code.startswith("22") or isinstance(error, (UnicodeError, OverflowError, TypeError, ValueError)):
        blamed = Invalid(f"{kind}: a value can't be stored ({error})")
    else:
        blamed = PenstockError(f"{kind}: the ledger could not apply it ({error!r})")
    blamed.__cause__ = error
    return blamed
