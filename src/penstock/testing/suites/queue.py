"""The contract of a queue driver as tests: a driver is certified by subclassing `QueueSuite` with one fixture.

    class TestMyQueue(QueueSuite):
        @pytest.fixture
        async def rig(self):
            driver = MyQueue(...)
            await driver.open()
            yield QueueRig(driver=driver, count=..., past_visibility=..., another=..., url=...)
            await driver.close()

The rig's back door counts messages past the driver. What a driver can do is asked of its `features`. The tests are
coroutines: run them with pytest-asyncio in auto mode. One queue named `line` and others are used afresh by each test.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import pytest

from penstock.errors import Unavailable
from penstock.queue.driver import Driver, Message

__all__ = ["QueueRig", "QueueSuite"]

LINE: Final = "line-infer"
FOREVER_S: Final = 30.0  # longer than any test waits: what is woken at all is woken by a message
SOON_S: Final = 10.0

# Sends messages one by one and says which are sent; until it is killed.
SENDER: Final = """
import asyncio, sys
from penstock.queue import open_queue
from penstock.run.clock import SystemClock
async def main():
    async with open_queue(sys.argv[1], clock=SystemClock()) as queue:
        for number in range(1_000_000):
            await queue.send("line-infer", [str(number)])
            print(number, flush=True)
asyncio.run(main())
"""


@dataclass(frozen=True, kw_only=True)
class QueueRig:
    """A driver under test, open, and a way round it."""

    driver: Driver
    count: Callable[[str], Awaitable[int]]
    """Counts, past the driver, the messages of a queue that are sent and not acknowledged."""
    past_visibility: Callable[[], Awaitable[None]]
    """Lets so much time pass that what was taken before comes again."""
    another: Callable[[], Driver] | None = None
    """Gives a second driver on the same queues, not open yet; where `survives_restart` or `many_processes`."""
    url: str | None = None
    """Where another process finds the same queues by `open_queue`; where `survives_restart`."""


class QueueSuite:
    """What every queue driver does. Subclass it with a fixture `rig` that gives a `QueueRig`."""

    # -------------------------------------------------------------- messages

    async def test_what_is_sent_is_received(self, rig: QueueRig) -> None:
        await rig.driver.send(LINE, ["a"])
        assert await rig.count(LINE) == 1
        (message,) = await rig.driver.receive(LINE, 10, 0.0)
        assert (message.queue, message.body) == (LINE, "a")

    async def test_what_is_received_is_there_until_it_is_acknowledged(self, rig: QueueRig) -> None:
        await rig.driver.send(LINE, ["a", "b", "c"])
        messages = await rig.driver.receive(LINE, 2, 0.0)
        assert (await rig.count(LINE), await rig.driver.depth(LINE)) == (3, 3)
        await rig.driver.ack(messages)
        assert (await rig.count(LINE), await rig.driver.depth(LINE)) == (1, 1)

    async def test_each_message_is_delivered_once(self, rig: QueueRig) -> None:
        bodies = [f"run-{number}" for number in range(500)]
        for start in range(0, 500, 50):
            await rig.driver.send(LINE, bodies[start : start + 50])
        assert await rig.driver.depth(LINE) == 500
        received = await _drained(rig.driver, 500, limit=64)
        assert sorted(received) == sorted(bodies)
        assert await rig.driver.receive(LINE, 10, 0.0) == []
        assert await rig.count(LINE) == 0

    async def test_no_more_is_given_than_is_asked(self, rig: QueueRig) -> None:
        await rig.driver.send(LINE, ["a", "b", "c", "d"])
        assert len(await rig.driver.receive(LINE, 1, 0.0)) == 1
        assert len(await rig.driver.receive(LINE, 2, 0.0)) == 2
        assert len(await rig.driver.receive(LINE, 10, 0.0)) == 1

    async def test_one_body_twice_is_two_messages(self, rig: QueueRig) -> None:
        await rig.driver.send(LINE, ["same", "same"])
        first, second = await rig.driver.receive(LINE, 10, 0.0)
        await rig.driver.ack([first])
        assert await rig.count(LINE) == 1
        await rig.driver.ack([second])
        assert await rig.count(LINE) == 0

    async def test_queues_are_apart(self, rig: QueueRig) -> None:
        await rig.driver.send("one-infer", ["1"])
        await rig.driver.send("one-batch", ["2"])
        assert await rig.driver.receive("two-infer", 10, 0.0) == []
        (message,) = await rig.driver.receive("one-batch", 10, 0.0)
        assert message.body == "2"
        assert (await rig.driver.depth("one-infer"), await rig.driver.depth("two-infer")) == (1, 0)

    async def test_bodies_come_as_they_were_sent(self, rig: QueueRig) -> None:
        bodies = ["0193b0c0-0000-7000-8000-000000000000", "", " ", "ünï'\"\\\n{}", "x" * 1000]
        await rig.driver.send(LINE, bodies)
        assert sorted(await _drained(rig.driver, len(bodies))) == sorted(bodies)

    # -------------------------------------------------------------- acknowledging

    async def test_a_second_ack_does_nothing(self, rig: QueueRig) -> None:
        await rig.driver.send(LINE, ["a"])
        messages = await rig.driver.receive(LINE, 1, 0.0)
        await rig.driver.ack(messages)
        await rig.driver.send(LINE, ["b", "c"])
        await rig.driver.ack(messages)
        assert len(await rig.driver.receive(LINE, 9, 0.0)) == 2
        await rig.driver.ack([*messages, *messages])
        assert (await rig.count(LINE), await rig.driver.depth(LINE)) == (2, 2)

    async def test_an_ack_of_an_unknown_message_does_nothing(self, rig: QueueRig) -> None:
        await rig.driver.send(LINE, ["a"])
        (message,) = await rig.driver.receive(LINE, 1, 0.0)
        await rig.driver.ack([Message("other-infer", "a", message.receipt), Message(LINE, "a", "no receipt of ours")])
        await rig.driver.ack([Message(LINE, "a", ""), Message("never-used", "a", "1")])
        assert (await rig.count(LINE), await rig.driver.depth(LINE)) == (1, 1)

    async def test_one_ack_serves_several_queues(self, rig: QueueRig) -> None:
        await rig.driver.send("one-infer", ["1", "2"])
        await rig.driver.send("two-infer", ["3"])
        messages = [*await rig.driver.receive("one-infer", 9, 0.0), *await rig.driver.receive("two-infer", 9, 0.0)]
        await rig.driver.ack(messages)
        assert [await rig.count(queue) for queue in ("one-infer", "two-infer")] == [0, 0]
        assert [await rig.driver.depth(queue) for queue in ("one-infer", "two-infer")] == [0, 0]

    # -------------------------------------------------------------- coming again

    async def test_what_is_not_acknowledged_comes_again(self, rig: QueueRig) -> None:
        _skip_unless(rig.driver.features.redelivers)
        await rig.driver.send(LINE, ["a", "b"])
        done, lost = await rig.driver.receive(LINE, 2, 0.0)
        await rig.driver.ack([done])
        assert await rig.driver.receive(LINE, 2, 0.0) == []
        await rig.past_visibility()
        (again,) = await rig.driver.receive(LINE, 2, 0.0)
        assert again.body == lost.body
        await rig.driver.ack([again])
        await rig.past_visibility()
        assert await rig.driver.receive(LINE, 2, 0.0) == []
        assert (await rig.count(LINE), await rig.driver.depth(LINE)) == (0, 0)

    async def test_it_comes_again_as_often_as_it_is_left(self, rig: QueueRig) -> None:
        _skip_unless(rig.driver.features.redelivers)
        await rig.driver.send(LINE, ["a"])
        for _ in range(3):
            (message,) = await rig.driver.receive(LINE, 1, 0.0)
            assert message.body == "a"
            await rig.past_visibility()
        assert await rig.count(LINE) == 1

    # -------------------------------------------------------------- waiting

    async def test_an_empty_queue_gives_nothing_at_once(self, rig: QueueRig) -> None:
        async with asyncio.timeout(SOON_S):
            assert await rig.driver.receive(LINE, 10, 0.0) == []

    async def test_a_wait_ends_with_nothing(self, rig: QueueRig) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await rig.driver.receive(LINE, 10, 0.05) == []
        assert 0.045 <= loop.time() - began < SOON_S

    async def test_a_message_wakes_a_receiver(self, rig: QueueRig) -> None:
        async with asyncio.timeout(SOON_S):
            waiting = await _waiters(rig.driver, 1)
            await rig.driver.send(LINE, ["a"])
            (message,) = await waiting[0]
            assert message.body == "a"

    async def test_a_receiver_goes_with_what_there_is(self, rig: QueueRig) -> None:
        await rig.driver.send(LINE, ["a", "b"])
        async with asyncio.timeout(SOON_S):
            assert len(await rig.driver.receive(LINE, 10, FOREVER_S)) == 2

    async def test_each_message_wakes_one_receiver(self, rig: QueueRig) -> None:
        async with asyncio.timeout(SOON_S):
            waiting = await _waiters(rig.driver, 5)
            await rig.driver.send(LINE, ["a", "b"])
            done: set[asyncio.Task[list[Message]]] = set()
            while len(done) < 2:
                done |= (await asyncio.wait(set(waiting) - done, return_when=asyncio.FIRST_COMPLETED))[0]
            assert sorted(message.body for task in done for message in task.result()) == ["a", "b"]
            assert sum(not task.done() for task in waiting) == 3
            await rig.driver.close()
            assert [await task for task in waiting if task not in done] == [[], [], []]

    async def test_receivers_are_served_in_the_order_they_came(self, rig: QueueRig) -> None:
        _skip_unless(rig.driver.features.wakes_in_order)
        order: list[asyncio.Task[list[Message]]] = []
        async with asyncio.timeout(SOON_S):
            waiting = await _waiters(rig.driver, 5)
            for task in waiting:
                task.add_done_callback(order.append)
            for number in range(5):
                await rig.driver.send(LINE, [str(number)])
            messages = await asyncio.gather(*waiting)
        assert [message.body for (message,) in messages] == list("01234")
        assert order == waiting

    async def test_a_newcomer_does_not_push_in(self, rig: QueueRig) -> None:
        _skip_unless(rig.driver.features.wakes_in_order)
        async with asyncio.timeout(SOON_S):
            waiting = await _waiters(rig.driver, 1)
            newcomer = asyncio.create_task(rig.driver.receive(LINE, 1, FOREVER_S))
            await rig.driver.send(LINE, ["a"])
            assert [message.body for message in await waiting[0]] == ["a"]
            assert not newcomer.done()
            await rig.driver.send(LINE, ["b"])
            assert [message.body for message in await newcomer] == ["b"]

    async def test_receivers_of_other_queues_sleep_on(self, rig: QueueRig) -> None:
        async with asyncio.timeout(SOON_S):
            (waiting,) = await _waiters(rig.driver, 1)
            await rig.driver.send("other-infer", ["x"])
            assert len(await rig.driver.receive("other-infer", 1, FOREVER_S)) == 1
            assert not waiting.done()
            await rig.driver.send(LINE, ["a"])
            assert [message.body for message in await waiting] == ["a"]

    async def test_close_wakes_all_who_wait(self, rig: QueueRig) -> None:
        waiting = await _waiters(rig.driver, 10)
        async with asyncio.timeout(SOON_S):
            await rig.driver.close()
            assert await asyncio.gather(*waiting) == [[]] * 10

    # -------------------------------------------------------------- cancelling

    async def test_a_cancelled_receiver_takes_nothing(self, rig: QueueRig) -> None:
        async with asyncio.timeout(SOON_S):
            waiting = await _waiters(rig.driver, 3)
            waiting[0].cancel()
            await asyncio.wait([waiting[0]])
            await rig.driver.send(LINE, ["a", "b"])
            bodies = [message.body for messages in await asyncio.gather(*waiting[1:]) for message in messages]
        assert sorted(bodies) == ["a", "b"]

    @pytest.mark.parametrize("turns", range(6))
    @pytest.mark.parametrize("wait_s", [0.0, FOREVER_S])
    async def test_a_receiver_cancelled_as_it_is_served_loses_nothing(
        self, rig: QueueRig, turns: int, wait_s: float
    ) -> None:
        receiving = [asyncio.create_task(rig.driver.receive(LINE, 2, wait_s)) for _ in range(3)]
        sending = asyncio.create_task(rig.driver.send(LINE, ["a", "b", "c", "d"]))
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in receiving:
            task.cancel()
        await sending
        outcomes = await asyncio.gather(*receiving, return_exceptions=True)
        kept = [message.body for outcome in outcomes if isinstance(outcome, list) for message in outcome]
        assert sorted(kept + await _drained(rig.driver, 4 - len(kept))) == ["a", "b", "c", "d"]

    async def test_a_storm_of_cancelled_receivers_loses_nothing(self, rig: QueueRig) -> None:
        chance = random.Random(7)
        received: Counter[str] = Counter()

        async def receive_now_and_then() -> None:
            while sum(received.values()) < 300:
                receiving = asyncio.create_task(rig.driver.receive(LINE, 3, FOREVER_S))
                for _ in range(chance.randrange(12)):
                    await asyncio.sleep(0)
                receiving.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    messages = await receiving
                    received.update(message.body for message in messages)
                    await rig.driver.ack(messages)

        async def send() -> None:
            for number in range(100):
                await rig.driver.send(LINE, [f"{number}-{part}" for part in range(3)])

        async def patient() -> None:
            while sum(received.values()) < 300:
                messages = await rig.driver.receive(LINE, 1, 0.02)
                received.update(message.body for message in messages)
                await rig.driver.ack(messages)

        async with asyncio.timeout(FOREVER_S):
            await asyncio.gather(send(), patient(), *(receive_now_and_then() for _ in range(10)))
        assert len(received) == 300
        assert set(received.values()) == {1}
        assert (await rig.count(LINE), await rig.driver.depth(LINE)) == (0, 0)

    # -------------------------------------------------------------- coming and going

    async def test_messages_survive_a_restart(self, rig: QueueRig) -> None:
        await rig.driver.send(LINE, ["taken", "waiting"])
        (taken,) = await rig.driver.receive(LINE, 1, 0.0)
        await rig.driver.close()
        async with _another(rig, needs=rig.driver.features.survives_restart) as other:
            assert await other.depth(LINE) == 2
            (waiting,) = await other.receive(LINE, 9, 0.0)
            await other.ack([waiting])
            await rig.past_visibility()
            assert [message.body for message in await other.receive(LINE, 9, 0.0)] == [taken.body]

    async def test_processes_share_queues(self, rig: QueueRig) -> None:
        async with _another(rig, needs=rig.driver.features.many_processes) as other, asyncio.timeout(SOON_S):
            await rig.driver.send(LINE, ["a"])
            (message,) = await other.receive(LINE, 1, SOON_S)
            assert await rig.driver.receive(LINE, 1, 0.0) == []
            await rig.driver.ack([message])
            assert await other.depth(LINE) == 0

    async def test_a_message_wakes_a_receiver_of_another_process(self, rig: QueueRig) -> None:
        async with _another(rig, needs=rig.driver.features.many_processes) as other, asyncio.timeout(SOON_S):
            (waiting,) = await _waiters(other, 1)
            await rig.driver.send(LINE, ["a"])
            assert [message.body for message in await waiting] == ["a"]

    async def test_processes_never_share_a_message(self, rig: QueueRig) -> None:
        async with _another(rig, needs=rig.driver.features.many_processes) as other, asyncio.timeout(FOREVER_S):
            bodies = [f"run-{number}" for number in range(200)]
            await rig.driver.send(LINE, bodies)
            taken = await asyncio.gather(*(driver.receive(LINE, 20, 0.0) for driver in (rig.driver, other) * 10))
            assert sorted(message.body for messages in taken for message in messages) == sorted(bodies)

    async def test_what_a_killed_sender_sent_is_there(self, rig: QueueRig) -> None:
        if not rig.driver.features.survives_restart or rig.url is None:
            pytest.skip("no other process can send to it")
        sent = await _killed_while_sending(rig.url)
        depth = await rig.count(LINE)
        assert sent <= depth <= sent + 1
        assert await rig.driver.depth(LINE) == depth
        assert len(set(await _drained(rig.driver, depth, limit=64))) == depth

    async def test_a_closed_queue_says_so(self, rig: QueueRig) -> None:
        await rig.driver.close()
        await rig.driver.close()
        for call in (rig.driver.send(LINE, ["a"]), rig.driver.receive(LINE, 1, 0.0), rig.driver.depth(LINE)):
            with pytest.raises(Unavailable):
                await call

    async def test_it_says_how_durable_it_is(self, rig: QueueRig) -> None:
        assert len(rig.driver.features.durability.split()) > 3


def _skip_unless(able: bool) -> None:
    if not able:
        pytest.skip("the driver says that it can't")


async def _waiters(driver: Driver, count: int) -> list[asyncio.Task[list[Message]]]:
    """Give receivers of one message each that wait, in their order."""
    waiting = []
    for _ in range(count):
        waiting.append(asyncio.create_task(driver.receive(LINE, 1, FOREVER_S)))
        await asyncio.sleep(0.005)  # drivers look before they wait, and none says when it waits
    return waiting


async def _drained(driver: Driver, count: int, limit: int = 3) -> list[str]:
    """Receive and acknowledge so many messages; gives their bodies."""
    bodies: list[str] = []
    async with asyncio.timeout(SOON_S):
        while len(bodies) < count:
            messages = await driver.receive(LINE, limit, SOON_S)
            bodies += [message.body for message in messages]
            await driver.ack(messages)
    return bodies


@contextlib.asynccontextmanager
async def _another(rig: QueueRig, *, needs: bool) -> AsyncIterator[Driver]:
    _skip_unless(needs)
    assert rig.another is not None, "its features need a rig that gives `another` driver"
    driver = rig.another()
    await driver.open()
    try:
        yield driver
    finally:
        await driver.close()


async def _killed_while_sending(url: str) -> int:
    """Kill -9 a process in the middle of its sends; gives how many it said were sent."""
    sender = await asyncio.create_subprocess_exec(sys.executable, "-c", SENDER, url, stdout=asyncio.subprocess.PIPE)
    assert sender.stdout is not None
    async with asyncio.timeout(2 * SOON_S):
        while int(await sender.stdout.readline()) < 50:
            pass
    sender.kill()
    told = (await sender.stdout.read()).splitlines()
    await sender.wait()
    return max([50, *(int(line) for line in told)]) + 1
