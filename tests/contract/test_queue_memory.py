import pytest

from penstock.queue.memory import MemoryQueue
from penstock.testing.clock import ManualClock
from penstock.testing.suites.queue import QueueRig, QueueSuite


class TestMemoryQueue(QueueSuite):
    @pytest.fixture
    async def rig(self):
        clock = ManualClock()
        driver = MemoryQueue(clock, visibility_s=30.0)

        async def count(queue):
            line = driver._lines[queue]
            return len(line.ready) + len(line.taken)

        async def past_visibility():
            clock.advance(30.0)

        await driver.open()
        yield QueueRig(driver=driver, count=count, past_visibility=past_visibility)
        await driver.close()
