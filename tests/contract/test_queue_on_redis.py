import pytest
from hypothesis import settings
from streams import StreamsMachine, streams

from penstock.testing.suites.queue import QueueSuite


class TestQueueOnRedis(QueueSuite):
    @pytest.fixture
    async def rig(self, redis):
        async with streams(redis) as rig:
            yield rig


class RedisMachine(StreamsMachine):
    pass


@pytest.fixture(autouse=True)
def server_of_the_machine(redis):
    RedisMachine.server = redis


RedisMachine.TestCase.settings = settings(max_examples=10, stateful_step_count=30, deadline=None)
TestRedisMachine = RedisMachine.TestCase
