"""A ledger in a schema of a real PostgreSQL, with the back door to what is stored."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager, contextmanager

import asyncpg

from penstock.ledger import migrate, open_ledger
from penstock.testing.suites.ledger import LedgerStage

SCHEMAS = itertools.count(1)


class PostgresStage(LedgerStage):
    """Any number of ledgers may be open on it: one is one process's."""

    url = ""

    def __init__(self, server, schema=None, database="postgres"):
        super().__init__()
        self.database = database
        self.server = server
        self.schema = schema or f"stage_{next(SCHEMAS)}"
        self.url = self.through(server.port)
        self.door_url = server.url(database)

    def through(self, port):
        """Give the URL of this ledger over another port, behind which something stands in between."""
        url = self.server.url(self.database, query=f"schema={self.schema}&clock=caller")
        return url.replace(f":{self.server.port}/", f":{port}/")

    def ledger(self):
        return open_ledger(self.url, clock=self.clock)

    async def stored(self, run_id):
        rows = await self.ask(f"SELECT state, epoch FROM {self.schema}.runs WHERE run_id = $1", run_id)
        return tuple(rows[0]) if rows else None

    @asynccontextmanager
    async def door(self):
        door = await asyncpg.connect(self.door_url, server_settings={"search_path": self.schema})
        try:
            yield door
        finally:
            await door.close()

    async def ask(self, question, *values):
        async with self.door() as door:
            return await door.fetch(question, *values)

    async def empty(self):
        """Take all rows out, past the guard of the audit, which holds against truncation too."""
        async with self.door() as door:
            await door.execute("SET session_replication_role = replica")
            tables = await door.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1", self.schema)
            await door.execute(";".join(f"DELETE FROM {name}" for (name,) in tables if name != "migrations"))

    async def drop(self):
        async with self.door() as door:
            await door.execute(f"DROP SCHEMA IF EXISTS {self.schema} CASCADE")


@contextmanager
def staged(server, database="postgres"):
    """Give an empty stage. Its schema is made once a server: emptying it is quicker than making another."""
    stage = PostgresStage(server, "stage", database)
    asyncio.run(migrate(stage.url))
    yield stage
    asyncio.run(stage.empty())


@contextmanager
def staged_afresh(server):
    """Give a stage with a schema of its own, for what changes the schema."""
    stage = PostgresStage(server)
    asyncio.run(migrate(stage.url))
    yield stage
    asyncio.run(stage.drop())
