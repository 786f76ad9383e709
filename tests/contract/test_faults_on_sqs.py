"""What goes wrong between us and SQS: throttling, keys, removed queues, lost replies, restarts."""

import asyncio
import itertools

import pytest
from aiohttp import web

from penstock.errors import Invalid, Misconfigured, Unavailable
from penstock.queue.sqs import connect
from penstock.testing.clock import ManualClock
from penstock.testing.process import HOST
from penstock.testing.wire import Wire

SOON_S = 20
FOREVER_S = 30.0
LINE = "line-infer"
PREFIXES = (f"faults{number}-" for number in itertools.count())


def opened(url):
    return connect(url, ManualClock(), {})


@pytest.fixture
def prefix():
    return next(PREFIXES)


@pytest.fixture
async def queue(aws, prefix):
    driver = opened(aws.url("sqs", f"us-east-1/{prefix}"))
    await driver.open()
    yield driver
    await driver.close()


@pytest.fixture
async def wire(aws):
    async with Wire(aws.server.port) as wire:
        yield wire


@pytest.fixture
async def wired(aws, prefix, wire):
    driver = opened(aws.url("sqs", f"us-east-1/{prefix}", endpoint=f"http://{HOST}:{wire.port}"))
    await driver.open()
    await driver.depth(LINE)
    yield driver
    await driver.close()


@pytest.fixture
async def throttled():
    """Give the endpoint of a server that answers as SQS does to those who ask too often."""

    async def refuse(_):
        headers = {"x-amzn-query-error": "RequestThrottled;Sender"}
        body = {"__type": "com.amazonaws.sqs#RequestThrottled", "message": "Rate exceeded"}
        return web.json_response(body, status=400, headers=headers, content_type="application/x-amz-json-1.0")

    app = web.Application()
    app.router.add_post("/", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, HOST, 0)
    await site.start()
    yield f"http://{HOST}:{site._server.sockets[0].getsockname()[1]}"
    await runner.cleanup()


async def test_wrong_keys_are_an_operators_to_mend(aws, prefix):
    with pytest.raises(Misconfigured, match="keys"):
        await opened(aws.url("sqs", f"us-east-1/{prefix}", keys=("AKIAUNKNOWN", "wrong"))).open()


async def test_who_may_not_is_told_what_to_mend(aws, prefix, queue):
    await queue.send(LINE, ["a"])
    keys = aws.user("looker", "sqs:ListQueues", "sqs:GetQueueUrl", "sqs:GetQueueAttributes")
    driver = opened(aws.url("sqs", f"us-east-1/{prefix}", keys=keys))
    await driver.open()
    assert await driver.depth(LINE) == 1
    for call in (driver.send(LINE, ["b"]), driver.receive(LINE, 1, 0.0), driver.receive(LINE, 1, FOREVER_S)):
        with pytest.raises(Misconfigured, match="permit"):
            await call
    await driver.close()
    assert await queue.depth(LINE) == 1


async def test_throttled_is_unavailable_and_not_tried_for_ever(throttled):
    driver = opened(f"sqs://us-east-1/?endpoint={throttled}&access_key_id=a&secret_access_key=b")
    async with asyncio.timeout(SOON_S):
        with pytest.raises(Unavailable, match="Throttled"):
            await driver.open()


async def test_a_queue_that_somebody_removed_is_made_again(aws, prefix, queue):
    await queue.send(LINE, ["lost"])
    back = aws.client("sqs")
    back.delete_queue(QueueUrl=back.get_queue_url(QueueName=prefix + LINE)["QueueUrl"])
    await queue.send(LINE, ["told again"])
    assert [message.body for message in await queue.receive(LINE, 1, 0.0)] == ["told again"]


async def test_an_operators_queue_is_left_as_it_is(aws, prefix, queue):
    back = aws.client("sqs")
    made = {"VisibilityTimeout": "77", "MessageRetentionPeriod": "3600"}
    url = back.create_queue(QueueName=prefix + LINE, Attributes=made)["QueueUrl"]
    await queue.send(LINE, ["a"])
    found = back.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert {name: found[name] for name in made} == made


async def test_a_send_whose_reply_is_lost_is_there_once_or_twice(wire, wired):
    wire.replies_to_cut = 1
    await wired.send(LINE, ["a"])
    assert await wired.depth(LINE) in {1, 2}


async def test_an_ack_whose_reply_is_lost_is_done(wire, wired):
    await wired.send(LINE, ["a", "b"])
    messages = await wired.receive(LINE, 1, 0.0)
    wire.replies_to_cut = 1
    await wired.ack(messages)
    assert await wired.depth(LINE) == 1


async def test_a_server_that_is_away_is_unavailable_and_comes_back(aws_of_its_own, prefix):
    driver = opened(aws_of_its_own.url("sqs", f"us-east-1/{prefix}"))
    await driver.open()
    waiting = asyncio.create_task(driver.receive(LINE, 1, FOREVER_S))
    await driver.send("other-infer", ["a"])
    aws_of_its_own.server.stop()
    async with asyncio.timeout(SOON_S):
        for call in (waiting, driver.send(LINE, ["a"]), driver.receive(LINE, 1, FOREVER_S), driver.depth(LINE)):
            with pytest.raises(Unavailable):
                await call
    await asyncio.to_thread(aws_of_its_own.server.start)
    async with asyncio.timeout(SOON_S):
        waiting = asyncio.create_task(driver.receive(LINE, 1, FOREVER_S))
        await driver.send(LINE, ["told again"])
        assert [message.body for message in await waiting] == ["told again"]
    await driver.close()


async def test_much_goes_in_few_calls(queue):
    bodies = [str(number) for number in range(95)]
    await queue.send(LINE, bodies)
    messages = await queue.receive(LINE, 95, 0.0)
    assert sorted(message.body for message in messages) == sorted(bodies)
    await queue.ack(messages)
    assert await queue.depth(LINE) == 0


async def test_a_name_that_is_too_long_is_refused(queue):
    with pytest.raises(Invalid, match="too long"):
        await queue.send("x" * 80, ["a"])


@pytest.mark.parametrize("url", ["sqs:", "sqs:///p", "sqs://r?visibility=0", "sqs://i:SECRET@r", "sqs://r?wait=1"])
def test_a_url_that_names_no_queues_is_refused_without_secrets(url):
    with pytest.raises(Misconfigured, match="sqs://region") as refused:
        opened(url)
    assert "SECRET" not in refused.value.detail
