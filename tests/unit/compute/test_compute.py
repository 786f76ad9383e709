"""The portable class: names, waits, errors, measurement, and how drivers are found."""

import asyncio
import gc

import pytest

from penstock.compute import Compute, Features, Limits, Order, Phase, Sighting, open_compute
from penstock.compute import _compute as module
from penstock.compute._feed import Feed
from penstock.errors import Conflict, Misconfigured, NotFound, Unavailable
from penstock.model.app import App
from penstock.testing.clock import ManualClock, seeded


class Fake:
    """A driver whose every call does what `act` does."""

    features = Features(describes="fake", survives_restart=False, prepares=True)

    def __init__(self, act):
        self.act = act
        self.calls = []

    def __getattr__(self, name):
        async def call(*arguments):
            self.calls.append((name, *arguments))
            return await self.act()

        return call

    async def logs(self, _uid, *, tail, follow):
        yield f"{tail} {follow}"
        await self.act()


def wrapped(act, **options):
    seen = []
    clock = ManualClock()

    def observe(operation, seconds, error):
        seen.append((operation, seconds, error))

    return Compute(Fake(act), clock=clock, observer=observe, **options), seen, clock


ORDER = Order(uid="w-1", app=App(name="digits"), spec_generation=1, env={})


async def test_every_call_reaches_the_driver_and_is_measured():
    async def act():
        clock.advance(2.0)
        return []

    compute, seen, clock = wrapped(act)
    async with compute:
        await compute.create(ORDER)
        await compute.prepare(ORDER.app, 1)
        assert await compute.list() == []
        await compute.drain("w-1")
        await compute.remove("w-1", 3.0)
        await compute.forget("w-1")
    operations = ["open", "create", "prepare", "list", "drain", "remove", "forget", "close"]
    assert seen == [(operation, 2.0, None) for operation in operations]
    assert compute._driver.calls == [
        ("open",),
        ("create", ORDER),
        ("prepare", ORDER.app, 1),
        ("list",),
        ("drain", "w-1"),
        ("remove", "w-1", 3.0),
        ("forget", "w-1"),
        ("close",),
    ]


async def test_a_driver_that_prepares_nothing_is_not_asked_to():
    async def act():
        raise AssertionError

    compute, seen, _ = wrapped(act)
    compute._driver.features = Features(describes="", survives_restart=False)
    await compute.prepare(ORDER.app, 1)
    assert seen == []


@pytest.mark.parametrize(
    ("raised", "given"),
    [
        (OSError("no route"), Unavailable),
        (Misconfigured("never"), Misconfigured),
        (Conflict("ours"), Conflict),
        (TimeoutError("its own"), Unavailable),
    ],
)
async def test_errors_are_of_our_kind_and_counted(raised, given):
    async def act():
        raise raised

    compute, seen, _ = wrapped(act)
    with pytest.raises(given):
        await compute.create(ORDER)
    assert seen == [("create", 0.0, type(raised).__name__)]


async def test_a_mistake_in_a_driver_is_not_hidden():
    async def act():
        raise KeyError("oops")

    compute, _, _ = wrapped(act)
    with pytest.raises(KeyError):
        await compute.list()


async def test_a_wait_ends():
    async def act():
        await asyncio.sleep(60)

    compute, seen, _ = wrapped(act, limits=Limits(ask_s=0.01))
    with pytest.raises(Unavailable, match=r"list took longer than 0\.01 s"):
        await compute.list()
    assert seen[0][2] == "TimeoutError"


async def test_logs_pass_through_and_their_errors_are_ours():
    async def act():
        raise PermissionError("no")

    compute, _, _ = wrapped(act)
    lines = compute.logs("w-1", tail=5, follow=True)
    assert await anext(lines) == "5 True"
    with pytest.raises(Unavailable, match="can't be read"):
        await anext(lines)
    with pytest.raises(NotFound):
        await anext(compute.logs("../w-1"))


def test_an_unknown_scheme_is_refused():
    with pytest.raises(Misconfigured, match="no compute driver is known for 'ftp'"):
        open_compute("ftp://there", clock=ManualClock(), randomness=seeded(0))


def test_a_third_partys_driver_is_found_by_its_entry_point(monkeypatch):
    class Point:
        def load(self):
            return lambda url, **options: (url, sorted(options))

    def found(*, group, name):
        assert (group, name) == ("penstock.compute", "cloud")
        return [Point()]

    monkeypatch.setattr(module, "entry_points", found)
    compute = open_compute("cloud://there", clock=ManualClock(), randomness=seeded(0), region="x")
    assert compute._driver == ("cloud://there", ["base_env", "clock", "randomness", "region"])


# -------------------------------------------------------------------- the feed


def sighting(uid, phase):
    return Sighting(uid=uid, app="digits", phase=phase)


async def test_a_slow_reader_gets_the_latest_of_each_worker_and_every_end():
    feed = Feed()
    changes = feed.subscribe()
    for phase in (Phase.PENDING, Phase.RUNNING, Phase.ENDED):
        for uid in ("w-1", "w-2"):
            feed.tell(sighting(uid, phase))
    feed.close()
    assert [(seen.uid, seen.phase) async for seen in changes] == [("w-1", Phase.ENDED), ("w-2", Phase.ENDED)]


async def test_a_reader_that_waits_is_woken():
    feed = Feed()
    changes = feed.subscribe()
    waiting = asyncio.ensure_future(anext(changes))
    await asyncio.sleep(0)
    feed.tell(sighting("w-1", Phase.RUNNING))
    assert (await waiting).uid == "w-1"


async def test_who_stopped_listening_keeps_nothing():
    feed = Feed()
    changes = feed.subscribe()
    await changes.aclose()
    feed.tell(sighting("w-1", Phase.RUNNING))
    assert [seen async for seen in changes] == []


async def test_who_was_forgotten_costs_nothing():
    feed = Feed()
    feed.subscribe()
    gc.collect()
    assert list(feed._subscriptions) == []


async def test_a_subscription_to_a_closed_feed_is_over():
    feed = Feed()
    feed.close()
    assert [seen async for seen in feed.subscribe()] == []
