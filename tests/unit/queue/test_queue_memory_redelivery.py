"""A receiver that waits gets what another took and never acknowledged, without waiting out its own time."""

import asyncio

import pytest

from penstock.queue.memory import MemoryQueue
from penstock.run.clock import SystemClock

VISIBILITY_S = 0.03


@pytest.fixture
async def queue():
    made = MemoryQueue(SystemClock(), VISIBILITY_S)
    await made.open()
    yield made
    await made.close()


async def test_a_waiting_receiver_gets_what_was_taken_before_it_came(queue):
    await queue.send("q", ["a"])
    (taken,) = await queue.receive("q", 1, 0.0)
    async with asyncio.timeout(10):
        (again,) = await queue.receive("q", 1, 30.0)
    assert again.body == taken.body
    assert again.receipt != taken.receipt


async def test_a_waiting_receiver_gets_what_was_taken_while_it_waited(queue):
    first = asyncio.create_task(queue.receive("q", 1, 30.0))
    second = asyncio.create_task(queue.receive("q", 1, 30.0))
    await asyncio.sleep(0)
    await queue.send("q", ["a"])
    async with asyncio.timeout(10):
        assert [message.body for message in await first] == ["a"]
        assert [message.body for message in await second] == ["a"]


async def test_what_is_acknowledged_in_time_wakes_nobody(queue):
    first = asyncio.create_task(queue.receive("q", 1, 30.0))
    second = asyncio.create_task(queue.receive("q", 1, 3 * VISIBILITY_S))
    await asyncio.sleep(0)
    await queue.send("q", ["a"])
    await queue.ack(await first)
    assert await second == []


async def test_closing_ends_the_watch(queue):
    await queue.send("q", ["a"])
    await queue.receive("q", 1, 0.0)
    waiting = asyncio.create_task(queue.receive("q", 1, 30.0))
    await asyncio.sleep(0)
    await queue.close()
    assert await waiting == []
    await asyncio.sleep(2 * VISIBILITY_S)
    await queue.open()
    assert await queue.depth("q") == 0
