"""SQLite keeps the ledger's contract, in a file and in memory."""

import sqlite3

import pytest

from penstock.ledger import open_ledger
from penstock.testing.suites.ledger import LedgerStage, LedgerSuite


class FileStage(LedgerStage):
    def __init__(self, folder):
        super().__init__()
        self.path = folder / "ledger.db"

    @property
    def url(self):
        return f"sqlite://{self.path}"

    def ledger(self):
        return open_ledger(self.url, clock=self.clock)

    async def stored(self, run_id):
        with sqlite3.connect(f"file:{self.path}?mode=ro", uri=True) as door:
            row = door.execute("SELECT state, epoch FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        door.close()
        return row


class TestInAFile(LedgerSuite):
    @pytest.fixture
    def stage(self, tmp_path):
        return FileStage(tmp_path)


class MemoryStage(LedgerStage):
    url = "sqlite://"

    def ledger(self):
        self.opened = open_ledger(self.url, clock=self.clock)
        return self.opened

    async def stored(self, run_id):
        """Memory has no other door: ask by another question than the cases do."""
        attempts = await self.opened.attempts(run_id)
        run = await self.opened.run(run_id)
        return run and (run.state.value, max((attempt.epoch for attempt in attempts), default=0))


class TestInMemory(LedgerSuite):
    @pytest.fixture
    def stage(self):
        return MemoryStage()
