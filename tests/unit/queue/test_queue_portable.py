import asyncio

import pytest

from penstock.errors import Invalid, Misconfigured, Unavailable
from penstock.model.run import Lane
from penstock.queue import Message, Queue, open_queue, queue_name
from penstock.queue.memory import MemoryQueue
from penstock.testing.clock import ManualClock


class Watched(MemoryQueue):
    """A memory queue that notes what reaches it, and fails where it is told to."""

    def __init__(self, clock):
        super().__init__(clock)
        self.calls = []
        self.fault = None

    async def send(self, queue, bodies):
        self.calls.append(("send", queue))
        if self.fault:
            raise self.fault
        await super().send(queue, bodies)

    async def receive(self, queue, limit, wait_s):
        self.calls.append(("receive", queue))
        return [] if self.fault else await super().receive(queue, limit, wait_s)

    async def ack(self, messages):
        self.calls.append(("ack", len(messages)))
        await super().ack(messages)


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def driver(clock):
    return Watched(clock)


@pytest.fixture
async def queue(driver, clock):
    async with Queue(driver, clock=clock) as made:
        yield made


def test_a_lane_has_a_queue():
    assert queue_name("llama", Lane.INFER) == "llama-infer"
    assert queue_name("llama", Lane.BATCH) == "llama-batch"


@pytest.mark.parametrize("name", ["", "-a", "a b", "a/b", "a.b", "ü", "a\n", "x" * 81, "a\0"])
async def test_a_name_that_some_broker_refuses_is_refused_by_all(queue, driver, name):
    for call in (queue.send(name, ["x"]), queue.receive(name), queue.depth(name)):
        with pytest.raises(Invalid, match="queue name"):
            await call
    assert driver.calls == []


@pytest.mark.parametrize(("limit", "wait_s"), [(0, 0.0), (-1, 0.0), (1, -0.1), (1, float("nan")), (1, float("inf"))])
async def test_a_receive_has_sane_bounds(queue, driver, limit, wait_s):
    with pytest.raises(Invalid, match="receive"):
        await queue.receive("a-infer", limit, wait_s)
    assert driver.calls == []


async def test_nothing_is_sent_where_there_is_nothing(queue, driver):
    await queue.send("a-infer", [])
    await queue.ack([])
    assert driver.calls == []


async def test_a_broker_that_is_down_is_asked_once(queue, driver):
    driver.fault = Unavailable("down")
    with pytest.raises(Unavailable, match="down"):
        await queue.send("a-infer", ["x"])
    assert driver.calls == [("send", "a-infer")]


async def test_each_call_is_told_to_the_observer(driver, clock):
    seen = []
    async with Queue(driver, clock=clock, observe=lambda *event: seen.append(event)) as queue:
        await queue.send("a-infer", ["x"])
        receiving = asyncio.create_task(queue.receive("b-infer", 1, 10.0))
        await asyncio.sleep(0)
        clock.advance(2.0)
        await queue.send("b-infer", ["y"])
        await queue.ack(await receiving)
        assert await queue.depth("b-infer") == 0
        driver.fault = Unavailable("down")
        with pytest.raises(Unavailable):
            await queue.send("a-infer", ["x"])
        driver.fault = ZeroDivisionError()
        with pytest.raises(ZeroDivisionError):
            await queue.send("a-infer", ["x"])
    assert seen == [
        ("send", 0.0, "ok"),
        ("send", 0.0, "ok"),
        ("receive", 2.0, "ok"),
        ("ack", 0.0, "ok"),
        ("depth", 0.0, "ok"),
        ("send", 0.0, "UNAVAILABLE"),
        ("send", 0.0, "ERROR"),
    ]


async def test_probe_goes_round_and_leaves_nothing(queue, driver):
    await queue.probe()
    assert [name for name, _ in driver.calls] == ["send", "receive", "ack"]
    assert await queue.depth("penstock-probe") == 0


async def test_probe_finds_a_broker_that_delivers_nothing(queue, driver, monkeypatch):
    async def nothing(*_):
        return []

    monkeypatch.setattr(driver, "receive", nothing)
    with pytest.raises(Unavailable, match="did not deliver"):
        await queue.probe()


def test_what_a_driver_can_do_is_told(queue, driver):
    assert queue.features is driver.features


@pytest.mark.parametrize("url", ["", "kafka:", "nats://x", "/abs/queue.db"])
def test_an_unknown_scheme_names_the_known_ones(clock, url):
    with pytest.raises(Misconfigured, match="memory, redis, rediss, sql, sqs"):
        open_queue(url, clock=clock)


@pytest.mark.parametrize("visibility", ["0", "-1", "soon", "nan"])
@pytest.mark.parametrize("url", ["memory:?visibility={}", "sql:///tmp/never.db?visibility={}"])
def test_a_visibility_is_a_positive_number(clock, url, visibility):
    with pytest.raises(Misconfigured, match="visibility="):
        open_queue(url.format(visibility), clock=clock)


@pytest.mark.parametrize(
    "url", ["sql:", "sql:relative.db", "sql://host/x.db", "sql:///x.db?poll=0", "sql:///x.db?who=1"]
)
def test_a_file_of_queues_has_an_absolute_path(clock, url):
    with pytest.raises(Misconfigured, match="absolute"):
        open_queue(url, clock=clock)


@pytest.mark.parametrize("url", ["memory:?visibility=2.5", "sql://{}/with%20space/q.db?visibility=2.5"])
async def test_a_visibility_is_kept(clock, url, tmp_path):
    async with open_queue(url.format(tmp_path), clock=clock) as queue:
        await queue.send("a-infer", ["x"])
        (first,) = await queue.receive("a-infer")
        clock.advance(2.4)
        assert await queue.receive("a-infer") == []
        clock.advance(0.2)
        (again,) = await queue.receive("a-infer")
        assert again.body == first.body == "x"


async def test_another_distribution_may_offer_a_driver(clock, monkeypatch, driver):
    class Offer:
        name = "mine"

        def load(self):
            return lambda url, clock, environ: driver

    monkeypatch.setattr(
        "penstock.queue._open.entry_points", lambda group: [Offer()] if group == "penstock.queue" else []
    )
    assert open_queue("mine://x", clock=clock).features is driver.features
    with pytest.raises(Misconfigured, match="memory, mine, redis, rediss, sql"):
        open_queue("yours://x", clock=clock)


# ------------------------------------------------------------------ what both embedded drivers promise beyond the suite


@pytest.fixture(params=["memory:?visibility=30", "sql://{}/q.db?visibility=30&poll=0.01"])
async def embedded(request, clock, tmp_path):
    async with open_queue(request.param.format(tmp_path), clock=clock) as queue:
        yield queue


async def test_an_old_receipt_does_not_touch_the_new_delivery(embedded, clock):
    await embedded.send("a-infer", ["x"])
    first = await embedded.receive("a-infer")
    clock.advance(31)
    second = await embedded.receive("a-infer")
    await embedded.ack(first)
    assert await embedded.depth("a-infer") == 1
    await embedded.ack(second)
    assert await embedded.depth("a-infer") == 0


async def test_a_late_ack_counts_while_nobody_else_has_the_message(embedded, clock):
    await embedded.send("a-infer", ["x"])
    messages = await embedded.receive("a-infer")
    clock.advance(31)
    await embedded.ack(messages)
    assert await embedded.depth("a-infer") == 0
    assert await embedded.receive("a-infer") == []


async def test_receivers_take_as_much_as_they_asked_for_in_turn(embedded):
    first = asyncio.create_task(embedded.receive("a-infer", 2, 30.0))
    await asyncio.sleep(0.02)
    second = asyncio.create_task(embedded.receive("a-infer", 5, 30.0))
    await asyncio.sleep(0.02)
    await embedded.send("a-infer", [str(number) for number in range(4)])
    async with asyncio.timeout(10):
        assert [len(await task) for task in (first, second)] == [2, 2]


async def test_more_receivers_than_one_look_takes_are_all_served(embedded):
    waiting = [asyncio.create_task(embedded.receive("a-infer", 10, 30.0)) for _ in range(100)]
    await asyncio.sleep(0.02)
    async with asyncio.timeout(20):
        await embedded.send("a-infer", [str(number) for number in range(1000)])
        received = await asyncio.gather(*waiting)
    assert sorted(int(message.body) for messages in received for message in messages) == list(range(1000))


async def test_what_was_never_ours_is_acknowledged_in_vain(embedded):
    await embedded.ack(
        [Message("a-infer", "x", receipt) for receipt in ("", "1", "1.", ".1", "1.1", "x.y", "-1.1", "²")]
    )
    assert await embedded.depth("a-infer") == 0


@pytest.mark.parametrize(("url", "extra"), [("redis://h", "redis"), ("rediss://h", "redis"), ("sqs://r", "sqs")])
def test_a_driver_whose_library_is_missing_says_what_to_install(clock, monkeypatch, url, extra):
    def missing(_):
        raise ModuleNotFoundError("No module named 'vendor'", name="vendor")

    monkeypatch.setattr("penstock.queue._open.import_module", missing)
    with pytest.raises(Misconfigured, match=rf"vendor; install penstock\[{extra}\]"):
        open_queue(url, clock=clock)
