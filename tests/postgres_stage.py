"""A ledger in a schema of its own on a real PostgreSQL, with the back door to what is stored."""

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

    def __init__(self, server, port=None):
        super().__init__()
        self.server = server
        self.schema = f"stage_{next(SCHEMAS)}"
        self.url = self.through(server.port)
        self.door_url = server.url()

    def through(self, port):
        """Give the URL of this ledger over another port, behind which something stands in between."""
        url = self.server.url(query=f"schema={self.schema}&clock=caller")
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


@contextmanager
def staged(server):
    """Give a migrated stage, and drop it at the end. For fixtures that are not of the event loop."""
    stage = PostgresStage(server)
    asyncio.run(migrate(stage.url))
    yield stage
    asyncio.run(stage.ask(f"DROP SCHEMA {stage.schema} CASCADE"))
