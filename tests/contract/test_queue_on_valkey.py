import pytest
from hypothesis import settings
from streams import StreamsMachine, streams

from penstock.testing.suites.queue import QueueSuite


class TestQueueOnValkey(QueueSuite):
    @pytest.fixture
    async def rig(self, valkey):
        async with streams(valkey) as rig:
            yield rig


class ValkeyMachine(StreamsMachine):
    pass


@pytest.fixture(autouse=True)
def server_of_the_machine(valkey):
    ValkeyMachine.server = valkey


ValkeyMachine.TestCase.settings = settings(max_examples=10, stateful_step_count=30, deadline=None)
TestValkeyMachine = ValkeyMachine.TestCase
