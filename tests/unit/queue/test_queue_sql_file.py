"""What is particular to a file of queues: its errors, its groups, its looks at what other processes sent."""

import asyncio
import sqlite3
import threading
from contextlib import closing

import pytest

from penstock.errors import Misconfigured, Unavailable
from penstock.queue import _mailbox
from penstock.queue.sql import SqlQueue, Times
from penstock.testing.clock import ManualClock


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state/queue.db"


@pytest.fixture
async def queue(path):
    made = SqlQueue(path, ManualClock(), Times(visibility_s=30.0, poll_s=0.01))
    await made.open()
    yield made
    await made.close()


async def test_opening_twice_is_opening_once(queue):
    await queue.send("q", ["a"])
    await queue.open()
    assert [message.body for message in await queue.receive("q", 1, 0.0)] == ["a"]


async def test_what_comes_again_wakes_a_receiver(queue):
    await queue.send("q", ["a"])
    await queue.receive("q", 1, 0.0)
    waiting = asyncio.create_task(queue.receive("q", 1, 30.0))
    await asyncio.sleep(0.03)
    assert not waiting.done()
    queue._clock.advance(31)
    async with asyncio.timeout(10):
        assert [message.body for message in await waiting] == ["a"]


async def test_after_a_full_look_the_next_follows_at_once(path):
    queue = SqlQueue(path, ManualClock(), Times(poll_s=3600.0))
    await queue.open()
    waiting = [asyncio.create_task(queue.receive("q", 100, 3600.0)) for _ in range(10)]
    await asyncio.sleep(0.02)
    async with asyncio.timeout(20):
        await queue.send("q", [str(number) for number in range(1000)])
        assert [len(messages) for messages in await asyncio.gather(*waiting)] == [100] * 10
    await queue.close()


async def test_messages_are_sent_in_groups_of_one_commit(queue, monkeypatch):
    commits = []
    transaction = _mailbox.Mailbox.transaction
    hold = threading.Event()

    def counted(mailbox):
        hold.wait(10)
        commits.append(1)
        return transaction(mailbox)

    monkeypatch.setattr(_mailbox.Mailbox, "transaction", counted)
    sending = [asyncio.create_task(queue.send("q", [str(number)])) for number in range(600)]
    await asyncio.sleep(0)
    hold.set()
    await asyncio.gather(*sending)
    assert len(commits) <= 5
    assert await queue.depth("q") == 600


async def test_a_send_that_can_not_be_written_fails_alone(queue):
    outcomes = await asyncio.gather(
        queue.send("q", ["a"]), queue.send("q", ["\udc80"]), queue.send("q", ["b"]), return_exceptions=True
    )
    assert isinstance(outcomes[1], UnicodeEncodeError)
    assert outcomes[0] is outcomes[2] is None
    assert sorted(message.body for message in await queue.receive("q", 9, 0.0)) == ["a", "b"]
    assert await queue.depth("q") == 2


async def test_a_cancelled_send_may_be_sent_and_harms_nothing(queue):
    sending = asyncio.create_task(queue.send("q", ["a"]))
    await asyncio.sleep(0)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    await queue.send("q", ["b"])
    assert await queue.depth("q") == 2


class Full(sqlite3.OperationalError):
    sqlite_errorcode = sqlite3.SQLITE_FULL


class ReadOnly(sqlite3.OperationalError):
    sqlite_errorcode = sqlite3.SQLITE_READONLY


@pytest.mark.parametrize(("fault", "error"), [(Full, Unavailable), (ReadOnly, Misconfigured)])
async def test_a_file_that_fails_tells_all_who_wait_and_recovers(queue, monkeypatch, fault, error):
    def fail(*_args, **_kwargs):
        raise fault("the disk")

    waiting = asyncio.create_task(queue.receive("q", 1, 30.0))
    await asyncio.sleep(0.03)
    with monkeypatch.context() as patched:
        patched.setattr(_mailbox.Mailbox, "take", fail)
        async with asyncio.timeout(10):
            with pytest.raises(error, match="the disk"):
                await waiting
    await queue.send("q", ["a"])
    assert len(await queue.receive("q", 1, 0.0)) == 1


async def test_a_locked_file_is_waited_for_and_then_given_up(path, monkeypatch):
    monkeypatch.setattr(_mailbox, "_BUSY_S", 0.05)
    queue = SqlQueue(path, ManualClock(), Times())
    await queue.open()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked"):
            await queue.send("q", ["a"])
        other.execute("COMMIT")
    await queue.send("q", ["a"])
    assert await queue.depth("q") == 1
    await queue.close()


@pytest.mark.parametrize("found", ["no database at all, but text " * 50, None])
async def test_a_file_that_is_none_of_ours_stops_the_start(path, found):
    path.parent.mkdir()
    if found is None:
        with closing(sqlite3.connect(path)) as file:
            file.execute("PRAGMA user_version = 99")
    else:
        path.write_text(found)
    queue = SqlQueue(path, ManualClock(), Times())
    with pytest.raises(Misconfigured):
        await queue.open()
    with pytest.raises(Unavailable, match="closed"):
        await queue.send("q", ["a"])


async def test_a_place_that_is_no_folder_stops_the_start(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(Misconfigured):
        await SqlQueue(tmp_path / "file/queue.db", ManualClock(), Times()).open()


async def test_a_receiver_cancelled_at_the_close_gets_no_message_lost(path):
    queue = SqlQueue(path, ManualClock(), Times())
    await queue.open()
    waiting = asyncio.create_task(queue.receive("q", 1, 30.0))
    await asyncio.sleep(0.02)
    sending = asyncio.create_task(queue.send("q", ["a"]))
    closing_ = asyncio.create_task(queue.close())
    waiting.cancel()
    await asyncio.gather(sending, closing_, waiting, return_exceptions=True)
    queue._clock.advance(31)
    await queue.open()
    assert [message.body for message in await queue.receive("q", 1, 0.0)] == ["a"]
    await queue.close()
