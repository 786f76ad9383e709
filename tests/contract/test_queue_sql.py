import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings

from penstock.queue.sql import SqlQueue, Times
from penstock.testing.clock import ManualClock
from penstock.testing.suites.queue import QueueRig, QueueSuite
from penstock.testing.suites.queue_machine import QueueMachine


class TestSqlQueue(QueueSuite):
    @pytest.fixture
    async def rig(self, tmp_path):
        clock, path, times = ManualClock(), tmp_path / "queue.db", Times(visibility_s=30.0, poll_s=0.02)

        async def count(queue):
            with closing(sqlite3.connect(path)) as file:
                return file.execute("SELECT count(*) FROM message WHERE queue = ?", (queue,)).fetchone()[0]

        async def past_visibility():
            clock.advance(30.0)

        driver = SqlQueue(path, clock, times)
        await driver.open()
        yield QueueRig(
            driver=driver,
            count=count,
            past_visibility=past_visibility,
            another=lambda: SqlQueue(path, clock, times),
            url=f"sql://{path}",
        )
        await driver.close()


class SqlQueueMachine(QueueMachine):
    def make(self, clock):
        self.folder = getattr(self, "folder", None) or TemporaryDirectory()
        return SqlQueue(Path(self.folder.name, "queue.db"), clock, Times())

    def teardown(self):
        super().teardown()
        self.folder.cleanup()


SqlQueueMachine.TestCase.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)
TestSqlQueueMachine = SqlQueueMachine.TestCase
