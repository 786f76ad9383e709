"""The portable store over a driver whose replies are lost or refused, as the test says."""

import asyncio

import pytest

from penstock.errors import Conflict, Invalid, NotFound, Unavailable
from penstock.store import Patience, Put, Store
from penstock.store.memory import MemoryStore
from penstock.testing.clock import ManualClock, seeded


class Flaky:
    """A memory store that fails before ("refuse") or after ("lose") doing what it was told."""

    def __init__(self, clock):
        self.inner = MemoryStore(clock)
        self.features = self.inner.features
        self.faults = []
        self.calls = []

    def __getattr__(self, name):
        call = getattr(self.inner, name)
        if name in {"open", "close"}:
            return call

        async def faulty(*args, **kwargs):
            self.calls.append(name)
            fault = self.faults.pop(0) if self.faults else None
            if fault == "refuse":
                raise Unavailable("refused")
            value = await call(*args, **kwargs)
            if fault == "lose":
                raise Unavailable("lost")
            return value

        return faulty

    async def stream(self, *args):
        self.calls.append("stream")
        fault = self.faults.pop(0) if self.faults else None
        if fault == "refuse":
            raise Unavailable("refused")
        async for chunk in self.inner.stream(*args):
            yield chunk
            if fault == "lose":
                raise Unavailable("lost")


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def flaky(clock):
    return Flaky(clock)


@pytest.fixture
def slept():
    return []


@pytest.fixture
async def store(flaky, clock, slept):
    async def sleep(seconds):
        slept.append(seconds)

    seen = []
    made = Store(
        flaky,
        clock=clock,
        random=seeded(1),
        sleep=sleep,
        patience=Patience(tries=4, first_s=1.0, longest_s=3.0),
        observe=lambda *event: seen.append(event),
    )
    made.seen = seen
    async with made:
        yield made


async def test_a_call_is_tried_again_until_it_is_answered(store, flaky, slept):
    flaky.faults = ["refuse", "refuse", "refuse"]
    assert (await store.put("a", b"x")).size == 1
    assert flaky.calls == ["put"] * 4
    assert len(slept) == 3
    assert await store.get("a") == b"x"


@pytest.mark.parametrize("call", ["get", "head", "delete"])
async def test_patience_ends(store, flaky, call, slept):
    flaky.faults = ["refuse"] * 9
    with pytest.raises(Unavailable, match="refused"):
        await getattr(store, call)("a")
    assert flaky.calls == [call] * 4
    assert len(slept) == 3


async def test_pauses_double_up_to_a_bound_and_are_spread():
    patience = Patience(tries=9, first_s=1.0, longest_s=5.0)
    most = [patience.pause(failed, lambda count: b"\xff" * count) for failed in range(1, 6)]
    assert most == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert patience.pause(3, bytes) == 0.0
    assert patience.pause(10_000, lambda count: b"\xff" * count) == 5.0
    chance = seeded(1)
    spread = {round(patience.pause(3, chance), 6) for _ in range(50)}
    assert len(spread) == 50
    assert all(0.0 <= pause <= 4.0 for pause in spread)


@pytest.mark.parametrize(
    ("error", "call"),
    [
        (NotFound, lambda store: store.get("nowhere")),
        (Conflict, lambda store: store.put("there", b"", Put(create=True))),
    ],
)
async def test_only_what_may_pass_is_tried_again(store, flaky, error, call):
    await store.put("there", b"x")
    flaky.calls.clear()
    with pytest.raises(error):
        await call(store)
    assert len(flaky.calls) == 1


async def test_a_create_whose_reply_was_lost_is_known_as_our_own(store, flaky):
    flaky.faults = ["lose"]
    info = await store.put("a", b"mine", Put(create=True))
    assert (info.key, info.size) == ("a", 4)
    assert flaky.calls == ["put", "put", "head", "get"]


async def test_a_replace_whose_reply_was_lost_is_known_as_our_own(store, flaky):
    first = await store.put("a", b"first")
    flaky.faults = ["lose"]
    second = await store.put("a", b"second", Put(match=first.etag))
    assert second == await store.head("a")


@pytest.mark.parametrize("others", [b"theirs", b"yours!"])
async def test_anothers_object_is_a_conflict_even_after_a_failure(store, flaky, others):
    await store.put("a", others)
    flaky.faults = ["refuse"]
    with pytest.raises(Conflict):
        await store.put("a", b"mine!!", Put(create=True))
    assert await store.get("a") == others


async def test_a_conflict_at_once_is_nobodys_mistake(store, flaky):
    await store.put("a", b"same")
    flaky.calls.clear()
    with pytest.raises(Conflict):
        await store.put("a", b"same", Put(create=True))
    assert flaky.calls == ["put"]


async def test_an_object_that_vanished_after_the_conflict_leaves_the_conflict(store, flaky):
    await store.put("a", b"same")
    flaky.faults = ["refuse"]
    head = flaky.inner.head

    async def vanished(key):
        await flaky.inner.delete(key)
        return await head(key)

    flaky.inner.head = vanished
    with pytest.raises(Conflict):
        await store.put("a", b"same", Put(create=True))


async def test_a_stream_goes_in_once_only(store, flaky):
    async def parts():
        yield b"x"

    flaky.faults = ["refuse"]
    with pytest.raises(Unavailable):
        await store.put("a", parts())
    assert flaky.calls == ["put"]
    assert (await store.put("a", parts())).size == 1


async def test_a_stream_out_is_begun_again_but_never_repeats_a_chunk(store, flaky):
    await store.put("a", b"x" * 600_000)
    flaky.faults = ["refuse"]
    assert b"".join([chunk async for chunk in store.stream("a", 1)]) == b"x" * 599_999
    flaky.faults = ["lose"]
    chunks = store.stream("a")
    assert await anext(chunks)
    with pytest.raises(Unavailable):
        await anext(chunks)


async def test_a_cancelled_pause_ends_the_call(flaky, clock):
    store = Store(flaky, clock=clock, random=seeded(1), sleep=clock.sleep)
    async with store:
        flaky.faults = ["refuse"]
        getting = asyncio.create_task(store.get("a"))
        await clock.asleep()
        getting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await getting
        assert flaky.calls == ["get"]


async def test_pauses_go_by_the_clock_that_is_given(flaky, clock):
    store = Store(flaky, clock=clock, random=seeded(1), sleep=clock.sleep)
    async with store:
        flaky.faults = ["refuse"]
        putting = asyncio.create_task(store.put("a", b"x"))
        await clock.asleep()
        assert not putting.done()
        clock.advance(0.05)
        assert (await putting).size == 1


async def test_each_try_is_told_to_the_observer(store, flaky, clock):
    flaky.faults = ["refuse"]
    await store.put("a", b"x")
    with pytest.raises(NotFound):
        await store.head("b")
    assert [(name, outcome) for name, _, outcome in store.seen] == [
        ("put", "UNAVAILABLE"),
        ("put", "ok"),
        ("head", "NOT_FOUND"),
    ]


async def test_a_crash_is_told_too(store, flaky):
    async def crash(*_):
        raise ZeroDivisionError

    flaky.inner.get = crash
    with pytest.raises(ZeroDivisionError):
        await store.get("a")
    assert [outcome for _, _, outcome in store.seen] == ["ERROR"]


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.put("", b""),
        lambda store: store.put("a", b"", Put(create=True, match="x")),
        lambda store: store.get("../a"),
        lambda store: store.get("a", -1),
        lambda store: store.get("a", 5, 4),
        lambda store: store.head("/a"),
        lambda store: store.delete("a/"),
        lambda store: store.list("a", limit=0),
        lambda store: store.url("GET", ".hidden", 60),
        lambda store: anext(store.stream("a\0b")),
        lambda store: anext(store.stream("a", 5, 4)),
    ],
)
async def test_nonsense_never_reaches_the_driver(store, flaky, call):
    with pytest.raises(Invalid):
        await call(store)
    assert flaky.calls == []


async def test_walk_gives_every_page(store, flaky):
    for number in range(2500):
        await flaky.inner.put(f"p/{number:04}", b"")
    assert [info.key async for info in store.walk("p/")] == [f"p/{number:04}" for number in range(2500)]
    assert flaky.calls == ["list"] * 4


async def test_probe_leaves_nothing_and_finds_a_store_that_lies(store, flaky):
    await store.probe()
    assert await store.list("") == []

    async def lie(*_):
        return b"other bytes"

    flaky.inner.get = lie
    with pytest.raises(Unavailable, match="other bytes"):
        await store.probe()
    assert await store.list("") == []
