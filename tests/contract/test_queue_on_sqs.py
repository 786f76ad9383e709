import contextlib
import itertools

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from penstock.queue.sqs import connect
from penstock.testing.clock import ManualClock
from penstock.testing.suites.queue import QueueRig, QueueSuite
from penstock.testing.suites.queue_machine import QueueMachine

PREFIXES = (f"test{number}-" for number in itertools.count())


def show_again(aws, prefix, messages):
    """Have messages be taken so long ago that they come again, past the driver."""
    back = aws.client("sqs")
    for message in messages:
        url = back.get_queue_url(QueueName=prefix + message.queue)["QueueUrl"]
        handle = message.receipt.partition(" ")[2]
        with contextlib.suppress(back.exceptions.ClientError):  # it was acknowledged
            back.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=0)


class TestQueueOnSqs(QueueSuite):
    @pytest.fixture
    async def rig(self, aws):
        prefix, taken = next(PREFIXES), []
        url = aws.url("sqs", f"us-east-1/{prefix}", visibility=30)

        def made():
            driver = connect(url, ManualClock(), {})
            receive = driver.receive

            async def remembered(*args):
                messages = await receive(*args)
                taken.extend(messages)
                return messages

            driver.receive = remembered
            return driver

        async def count(queue):
            back = aws.client("sqs")
            found = back.get_queue_attributes(
                QueueUrl=back.get_queue_url(QueueName=prefix + queue)["QueueUrl"], AttributeNames=["All"]
            )["Attributes"]
            return sum(int(found[name]) for name in found if name.startswith("ApproximateNumberOfMessages"))

        async def past_visibility():
            show_again(aws, prefix, taken)
            taken.clear()

        driver = made()
        await driver.open()
        yield QueueRig(driver=driver, count=count, past_visibility=past_visibility, another=made, url=url)
        await driver.close()


class SqsMachine(QueueMachine):
    aws = None

    def make(self, clock):
        self.prefix = getattr(self, "prefix", None) or next(PREFIXES)
        return connect(self.aws.url("sqs", f"us-east-1/{self.prefix}"), clock, {})

    @rule(share=st.sampled_from((0.1, 0.5, 1.0)))
    def wait(self, share):
        held = {body: message for body, (message, _, _) in self._held.items()}
        super().wait(share)
        show_again(self.aws, self.prefix, [held[body] for body in held.keys() - self._held.keys()])


@pytest.fixture(autouse=True)
def server_of_the_machine(aws):
    SqsMachine.aws = aws


SqsMachine.TestCase.settings = settings(max_examples=3, stateful_step_count=12, deadline=None)
TestSqsMachine = SqsMachine.TestCase
