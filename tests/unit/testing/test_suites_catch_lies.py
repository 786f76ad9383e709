"""The driver suites are themselves tested: each dishonest driver fails them, at the place that is about its lie."""

import asyncio
import errno
import os

import pytest

from penstock.errors import Conflict
from penstock.queue.driver import Message
from penstock.queue.memory import MemoryQueue
from penstock.store.driver import ALWAYS, Info
from penstock.store.memory import MemoryStore
from penstock.testing.clock import ManualClock
from penstock.testing.suites.queue import QueueRig, QueueSuite
from penstock.testing.suites.store import StoreRig, StoreSuite


class KeepsAside(MemoryStore):
    """Confirms by `get` what it never wrote where it belongs."""

    def __init__(self, clock):
        super().__init__(clock)
        self.written = {}


class CreatesOver(MemoryStore):
    """Takes create-only for a hint."""

    async def put(self, key, data, condition=ALWAYS):
        return await super().put(key, data, ALWAYS if condition.create else condition)


class LooksThenLeaps(MemoryStore):
    """Checks the condition, then lets others in before it writes."""

    async def put(self, key, data, condition=ALWAYS):
        present = self._objects.get(key)
        if condition.create and present:
            raise Conflict
        if condition.match and (not present or present[0].etag != condition.match):
            raise Conflict
        await asyncio.sleep(0)
        return await super().put(key, data)


class SameEtag(MemoryStore):
    async def put(self, key, data, condition=ALWAYS):
        info = await super().put(key, data, condition)
        self._objects[key] = (Info(info.key, info.size, "etag", info.modified_at), self._objects[key][1])
        return self._objects[key][0]


class InclusiveRange(MemoryStore):
    async def get(self, key, start=0, end=None):
        return await super().get(key, start, None if end is None else end + 1)


class ListsFromTheKeyOn(MemoryStore):
    async def list(self, prefix, *, after="", limit=1000):
        keys = sorted(key for key in self._objects if key.startswith(prefix) and key >= after)
        return [self._objects[key][0] for key in keys[:limit]]


class KeepsTheHalf(MemoryStore):
    """Makes visible what it has when the stream breaks."""

    async def put(self, key, data, condition=ALWAYS):
        if isinstance(data, bytes):
            return await super().put(key, data, condition)
        whole = b""
        try:
            async for chunk in data:
                whole += chunk
        finally:
            info = await super().put(key, whole, condition)
        return info


class RaisesTheSystems(MemoryStore):
    async def get(self, key, start=0, end=None):
        if key not in self._objects:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return await super().get(key, start, end)


async def outcome_of(test, rig, **more):
    """Run one test of a suite by hand; gives what it raised."""
    try:
        await test(rig, **more)
    except BaseException as error:  # noqa: BLE001 - pytest's own failures are no Exception
        return error
    return None


def rig_of(driver):
    async def peek(key):
        if isinstance(driver, KeepsAside):
            return driver.written.get(key)
        return driver._objects[key][1] if key in driver._objects else None

    async def leftovers():
        return []

    return StoreRig(driver=driver, peek=peek, plant=None, leftovers=leftovers)


STORE_LIES = [
    (KeepsAside, "test_what_is_put_lies_there", {}),
    (CreatesOver, "test_create_never_replaces", {}),
    (CreatesOver, "test_of_creators_exactly_one_wins", {}),
    (LooksThenLeaps, "test_of_creators_exactly_one_wins", {}),
    (LooksThenLeaps, "test_no_update_is_lost", {}),
    (SameEtag, "test_a_put_replaces", {}),
    (SameEtag, "test_match_replaces_the_version_that_it_names", {}),
    (InclusiveRange, "test_a_range_is_a_slice", {"start": 3, "end": 7}),
    (ListsFromTheKeyOn, "test_a_list_begins_after_any_text", {}),
    (KeepsTheHalf, "test_a_stream_that_fails_changes_nothing", {}),
    (KeepsTheHalf, "test_a_cancelled_put_leaves_all_or_nothing", {"turns": 5}),
    (RaisesTheSystems, "test_what_was_never_put_is_not_found", {}),
]


@pytest.mark.parametrize(
    ("liar", "name", "more"), STORE_LIES, ids=[f"{lie[0].__name__}-{lie[1]}" for lie in STORE_LIES]
)
async def test_a_store_that_lies_is_caught(liar, name, more):
    for driver, caught in ((MemoryStore(ManualClock()), False), (liar(ManualClock()), True)):
        await driver.open()
        error = await outcome_of(getattr(StoreSuite(), name), rig_of(driver), **more)
        assert (error is not None) == caught


class LosesTheCancelled(MemoryQueue):
    """What a cancelled receiver was given is with nobody."""

    def _return(self, queue, messages):
        pass


class WakesTheLast(MemoryQueue):
    def _deal(self, queue, line):
        line.waiting = type(line.waiting)(reversed(line.waiting.items()))
        super()._deal(queue, line)


class WakesAll(MemoryQueue):
    """Gives every waiting receiver a copy."""

    async def send(self, queue, bodies):
        for waiter in list(self._line(queue).waiting):
            waiter.set_result([Message(queue, body, "0") for body in bodies])
        await super().send(queue, bodies)


class ForgetsAtOnce(MemoryQueue):
    """Takes delivery for acknowledgement."""

    async def receive(self, queue, limit, wait_s):
        messages = await super().receive(queue, limit, wait_s)
        await self.ack(messages)
        return messages


class AcknowledgesByBody(MemoryQueue):
    async def ack(self, messages):
        for message in messages:
            line = self._lines.get(message.queue)
            if line and line.taken:
                line.taken.popitem()
            elif line and line.ready:
                line.ready.popleft()


class SleepsAtClose(MemoryQueue):
    async def close(self):
        self._open = False


def queue_rig_of(driver, clock):
    async def count(queue):
        line = driver._lines.get(queue)
        return len(line.ready) + len(line.taken) if line else 0

    async def past_visibility():
        clock.advance(30.0)

    return QueueRig(driver=driver, count=count, past_visibility=past_visibility)


QUEUE_LIES = [
    (LosesTheCancelled, "test_a_receiver_cancelled_as_it_is_served_loses_nothing", {"turns": 1, "wait_s": 30.0}),
    (WakesTheLast, "test_receivers_are_served_in_the_order_they_came", {}),
    (WakesAll, "test_each_message_wakes_one_receiver", {}),
    (ForgetsAtOnce, "test_what_is_received_is_there_until_it_is_acknowledged", {}),
    (ForgetsAtOnce, "test_what_is_not_acknowledged_comes_again", {}),
    (AcknowledgesByBody, "test_a_second_ack_does_nothing", {}),
    (AcknowledgesByBody, "test_an_ack_of_an_unknown_message_does_nothing", {}),
    (SleepsAtClose, "test_close_wakes_all_who_wait", {}),
]


@pytest.mark.parametrize(
    ("liar", "name", "more"), QUEUE_LIES, ids=[f"{lie[0].__name__}-{lie[1]}" for lie in QUEUE_LIES]
)
async def test_a_queue_that_lies_is_caught(liar, name, more, monkeypatch):
    monkeypatch.setattr("penstock.testing.suites.queue.SOON_S", 0.2)
    for make, caught in ((MemoryQueue, False), (liar, True)):
        clock = ManualClock()
        driver = make(clock)
        await driver.open()
        error = await outcome_of(getattr(QueueSuite(), name), queue_rig_of(driver, clock), **more)
        await MemoryQueue.close(driver)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            if "receive" in repr(task.get_coro()):
                task.cancel()
                await asyncio.wait([task])
        assert (error is not None) == caught, repr(error)
