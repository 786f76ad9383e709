"""The SQLite ledger does what the plain model does, whatever happens in whatever order."""

import sqlite3
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings

from penstock.ledger import open_ledger
from penstock.testing.suites.ledger import LedgerStage
from penstock.testing.suites.ledger.machine import LedgerMachine


class FolderStage(LedgerStage):
    url = ""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name).resolve() / "ledger.db"
        self.url = f"sqlite://{self.path}"
        self.door = None

    def ledger(self):
        return open_ledger(self.url, clock=self.clock)

    async def stored(self, run_id):
        self.door = self.door or sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)
        return self.door.execute("SELECT state, epoch FROM runs WHERE run_id = ?", (run_id,)).fetchone()

    def close(self):
        if self.door is not None:
            self.door.close()
        self.folder.cleanup()


class SqliteMachine(LedgerMachine):
    def make(self):
        self.stage = FolderStage()
        return self.stage

    def teardown(self):
        super().teardown()
        self.stage.close()


TestSqliteLedger = SqliteMachine.TestCase
TestSqliteLedger.settings = settings(
    max_examples=25, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
