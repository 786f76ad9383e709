"""Connections: one that writes, a few that read, each told how to plan and for how long to wait."""

from __future__ import annotations

from typing import Any, Final, cast

import asyncpg

from penstock.errors import Misconfigured, Unavailable
from penstock.ledger.sql.rows import Row

from .errors import translated
from .place import Place

__all__ = ["OLDEST_SERVER", "Connections", "ask", "connect"]

OLDEST_SERVER: Final = 14
_READERS: Final = 4
_CONNECT_S: Final = 10.0
_ANSWER_S: Final = 60.0  # a server that says nothing for so long is gone, whatever the network claims

# Every statement of ours finds its rows by an index, and the tables grow from nothing to millions between two looks of
# the statistics collector. So the planner is told what we know, instead of being let to find out.
_PLANNING: Final = {"jit": "off", "enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"}
_WRITING: Final = {
    **_PLANNING,
    "plan_cache_mode": "force_generic_plan",
    # A gateway that is stopped in the middle of a group must not hold its locks against the others.
    "idle_in_transaction_session_timeout": "5s",
    "lock_timeout": "10s",
    "statement_timeout": "50s",
}


async def connect(place: Place, **settings: str) -> asyncpg.Connection[asyncpg.Record]:
    """Give a connection whose names are those of the ledger's schema. Raises `Misconfigured` or `Unavailable`."""
    with translated(place.name):
        return await asyncpg.connect(
            place.dsn,
            timeout=_CONNECT_S,
            command_timeout=_ANSWER_S,
            server_settings={"application_name": "penstock", "search_path": place.schema, **settings},
        )


async def ask(connection: Any, statement: str, *values: Any) -> list[Row]:
    """Give the rows of a statement. A record of asyncpg reads like the tuple of its values."""
    return cast("list[Row]", await connection.fetch(statement, *values))


class Connections:
    """What a ledger holds of a server. What was lost is made again by the next call that needs it."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._writer: asyncpg.Connection[asyncpg.Record] | None = None
        self._readers: asyncpg.Pool[asyncpg.Record] | None = None
        self._open = False

    async def open(self) -> None:
        """Connect. Raises `Misconfigured` or `Unavailable`."""
        if self._open:
            return
        self._open = True
        try:
            await self.writer()
            with translated(self.place.name):
                self._readers = await asyncpg.create_pool(
                    self.place.dsn,
                    min_size=1,
                    max_size=_READERS,
                    timeout=_CONNECT_S,
                    command_timeout=_ANSWER_S,
                    reset=_leave,  # what reads leaves nothing behind
                    server_settings={
                        "application_name": "penstock (reads)",
                        "search_path": self.place.schema,
                        **_PLANNING,
                    },
                )
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Let go; a second call does nothing."""
        self._open = False
        readers, self._readers = self._readers, None
        if readers is not None:
            readers.terminate()
        self.drop_writer()

    async def writer(self) -> asyncpg.Connection[asyncpg.Record]:
        """Give the one connection that writes."""
        if not self._open:
            raise _not_open(self.place)
        if self._writer is None or self._writer.is_closed():
            self._writer = await connect(self.place, **_WRITING)
            if self._writer.get_server_version().major < OLDEST_SERVER:
                self.drop_writer()
                raise Misconfigured(f"ledger {self.place.name}: it needs PostgreSQL {OLDEST_SERVER} or newer")
            with translated(self.place.name):
                # Whatever the server's default is, what we acknowledge is synced.
                await self._writer.execute(
                    "SELECT set_config('synchronous_commit', 'on', false) "
                    "WHERE current_setting('synchronous_commit') = 'off'"
                )
        return self._writer

    def drop_writer(self) -> None:
        """Let go of the connection that writes: who knows what state it is in."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.terminate()

    async def ask(self, question: str, *values: Any) -> list[Row]:
        """Give the rows of a question, over one of the connections that read. One that turns out lost is replaced."""
        try:
            return await self._ask(question, *values)
        except Unavailable as error:
            if isinstance(error.__cause__, TimeoutError):
                raise
            return await self._ask(question, *values)

    async def _ask(self, question: str, *values: Any) -> list[Row]:
        if self._readers is None:
            raise _not_open(self.place)
        with translated(self.place.name):
            return await ask(self._readers, question, *values)


async def _leave(connection: object) -> None:
    """Do nothing between two users of a connection."""


def _not_open(place: Place) -> Misconfigured:
    return Misconfigured(f"ledger {place.name} is not open: call `open` first")
