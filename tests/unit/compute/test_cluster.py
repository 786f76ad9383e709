"""The pretend cluster tells the stories that a controller must cope with, the same way every time."""

import asyncio

import pytest

from penstock.compute import Order, Phase, open_compute
from penstock.compute.memory import Climate, Cluster, Group, Machine, Obedient, Span
from penstock.errors import Misconfigured, NotFound, Unavailable
from penstock.model.app import App, Resources
from penstock.testing.clock import ManualClock, seeded

GPU = Machine(cpu=8, memory_gb=64, gpu=4, gpu_type="L4", gpu_memory_gb=24)
BOOTING = Climate(boot=Span(60, 60), pull=Span(30, 30))


class World:
    """A clock, a cluster and a client of it."""

    def __init__(self, *, seed=1, **cluster) -> None:
        self.clock = ManualClock()
        self.cluster = Cluster(clock=self.clock, randomness=seeded(seed), **cluster)
        self.compute = open_compute("memory:", clock=self.clock, randomness=seeded(0), cluster=self.cluster)

    async def create(self, uid, *, app="digits", **resources):
        wanted = App(name=app, resources=Resources(**resources))
        await self.compute.create(Order(uid=uid, app=wanted, spec_generation=1, env={}))

    async def seen(self, uid):
        return {sighting.uid: sighting for sighting in await self.compute.list()}[uid]

    async def phase(self, uid):
        seen = await self.seen(uid)
        return seen.phase, seen.reason

    def advance(self, seconds):
        self.clock.advance(seconds)
        self.cluster.tick()


def world(**options):
    return World(**options)


# -------------------------------------------------------------------- capacity


async def test_a_cold_start_takes_a_boot_and_a_pull_and_a_warm_one_neither():
    it = world(groups=[Group(name="l4", machine=GPU, most=2)], climate=BOOTING)
    await it.create("w-1", gpu=1)
    assert await it.phase("w-1") == (Phase.PENDING, "CAPACITY")
    it.advance(60)
    assert (await it.phase("w-1"), (await it.seen("w-1")).node) == ((Phase.PENDING, ""), "l4-1")
    it.advance(30)
    assert (await it.seen("w-1")).phase is Phase.RUNNING
    assert (await it.seen("w-1")).started_at == it.clock.now()
    await it.create("w-2", gpu=1)
    assert (await it.seen("w-2")).phase is Phase.RUNNING
    assert it.cluster.life("w-2").gpu_ids == (1,)


async def test_times_are_right_however_coarse_the_ticks():
    it = world(groups=[Group(name="l4", machine=GPU)], climate=BOOTING)
    began = it.clock.now()
    await it.create("w-1")
    it.advance(10_000)
    assert (await it.seen("w-1")).started_at == began + 90
    assert it.cluster.next_at is None


async def test_capacity_is_never_exceeded_and_a_gpu_is_never_given_twice():
    it = world(groups=[Group(name="l4", machine=GPU, most=2)])
    for number in range(6):
        await it.create(f"w-{number}", gpu=2, cpu=4)
    held = [it.cluster.life(f"w-{number}") for number in range(6)]
    places = [(life.node, gpu) for life in held for gpu in life.gpu_ids]
    assert len(places) == len(set(places)) == 8
    assert [life.phase for life in held] == [Phase.RUNNING] * 4 + [Phase.PENDING] * 2
    assert held[4].reason == "STOCKOUT"
    assert "NotTriggerScaleUp" in held[4].message
    it.cluster.end("w-0")
    assert it.cluster.life("w-4").phase is Phase.RUNNING
    assert it.cluster.life("w-4").gpu_ids == held[0].gpu_ids


async def test_one_node_is_bought_for_all_that_fit_on_it():
    it = world(groups=[Group(name="l4", machine=GPU, most=9)], climate=BOOTING)
    for number in range(5):
        await it.create(f"w-{number}", gpu=1)
    assert len(it.cluster.nodes) == 2
    it.advance(90)
    assert [life.phase for life in map(it.cluster.life, [f"w-{number}" for number in range(5)])] == [Phase.RUNNING] * 5


async def test_the_fullest_node_is_filled_first():
    it = world(groups=[Group(name="big", machine=Machine(gpu=8), least=1), Group(name="small", machine=GPU, least=1)])
    await it.create("w-1", gpu=1)
    await it.create("w-2", gpu=8)
    assert (it.cluster.life("w-1").node, it.cluster.life("w-2").node) == ("small-2", "big-1")


@pytest.mark.parametrize(
    "wanted",
    [{"gpu": 5}, {"cpu": 9}, {"memory_gb": 65}, {"gpu": 1, "gpu_type": "A100"}, {"gpu": 1, "gpu_memory_gb": 25}],
)
async def test_what_fits_no_machine_buys_none(wanted):
    it = world(groups=[Group(name="l4", machine=GPU, most=9)])
    await it.create("w-1", **wanted)
    assert await it.phase("w-1") == (Phase.PENDING, "STOCKOUT")
    assert it.cluster.nodes == ()


async def test_an_idle_node_is_given_back_and_the_least_kept():
    it = world(groups=[Group(name="l4", machine=GPU, least=1, most=2, idle_s=600)])
    for uid in ("w-1", "w-2"):
        await it.create(uid, gpu=4)
    it.cluster.end("w-2")
    it.advance(599)
    assert len(it.cluster.nodes) == 2
    it.advance(1)
    assert [node.name for node in it.cluster.nodes] == ["l4-1"]
    it.cluster.end("w-1")
    it.advance(10_000)
    assert len(it.cluster.nodes) == 1


async def test_a_node_that_was_used_meanwhile_is_kept():
    it = world(groups=[Group(name="l4", machine=GPU, most=2, idle_s=600)])
    await it.create("w-1", gpu=4)
    it.cluster.end("w-1")
    it.advance(300)
    await it.create("w-2", gpu=4)
    it.cluster.end("w-2")
    it.advance(300)
    assert len(it.cluster.nodes) == 1


# -------------------------------------------------------------------- what goes wrong


async def test_a_stockout_ends_by_itself():
    it = world(groups=[Group(name="l4", machine=GPU)])
    it.cluster.stock_out("l4", for_s=600)
    await it.create("w-1", gpu=1)
    seen = await it.seen("w-1")
    assert (seen.phase, seen.reason, seen.message) == (Phase.PENDING, "STOCKOUT", "ZONE_RESOURCE_POOL_EXHAUSTED: l4")
    it.advance(600)
    assert (await it.seen("w-1")).phase is Phase.RUNNING


async def test_a_stockout_lasts_until_restocked():
    it = world(groups=[Group(name="l4", machine=GPU)])
    it.cluster.stock_out("l4")
    await it.create("w-1")
    it.advance(1e6)
    assert (await it.seen("w-1")).phase is Phase.PENDING
    it.cluster.restock("l4")
    assert (await it.seen("w-1")).phase is Phase.RUNNING


async def test_the_next_group_is_bought_from_when_one_is_sold_out():
    it = world(groups=[Group(name="spot", machine=GPU), Group(name="on-demand", machine=GPU)])
    it.cluster.stock_out("spot")
    await it.create("w-1", gpu=1)
    assert (await it.seen("w-1")).node == "on-demand-1"


class Stubborn(Obedient):
    def terminate(self, life):
        life.say("I was asked to go.")


async def test_preemption_asks_first():
    it = world(behaviour=Stubborn())
    await it.create("w-1")
    it.cluster.preempt("w-1", notice_s=30)
    it.advance(29)
    assert (await it.seen("w-1")).phase is Phase.RUNNING
    it.advance(1)
    seen = await it.seen("w-1")
    assert (seen.phase, seen.reason, seen.exit_code) == (Phase.ENDED, "LEASE_LOST", None)
    assert [line async for line in it.compute.logs("w-1")] == ["I was asked to go."]


async def test_a_worker_that_heeds_a_preemption_has_exited_by_itself():
    it = world()
    await it.create("w-1")
    it.cluster.preempt("w-1")
    it.advance(60)
    assert ((await it.seen("w-1")).exit_code, await it.phase("w-1")) == (0, (Phase.ENDED, ""))


async def test_a_worker_that_had_not_started_is_preempted_too():
    it = world(climate=BOOTING)
    await it.create("w-1")
    it.cluster.preempt("w-1", notice_s=5)
    it.advance(5)
    assert await it.phase("w-1") == (Phase.ENDED, "LEASE_LOST")
    it.advance(100)
    assert await it.phase("w-1") == (Phase.ENDED, "LEASE_LOST")


async def test_a_lost_node_takes_its_workers_along_and_is_replaced_up_to_the_least():
    it = world(groups=[Group(name="l4", machine=GPU, least=1, most=2)], climate=BOOTING)
    await it.create("w-1")
    it.advance(30)
    it.cluster.lose_node("l4-1")
    assert await it.phase("w-1") == (Phase.ENDED, "LEASE_LOST")
    assert [(node.name, node.ready) for node in it.cluster.nodes] == [("l4-2", False)]
    with pytest.raises(NotFound):
        it.cluster.lose_node("l4-1")


async def test_a_node_lost_while_it_boots_is_bought_again():
    it = world(groups=[Group(name="l4", machine=GPU)], climate=BOOTING)
    await it.create("w-1", gpu=1)
    it.advance(30)
    it.cluster.lose_node("l4-1")
    it.advance(59)
    assert await it.phase("w-1") == (Phase.PENDING, "CAPACITY")
    it.advance(31)
    assert ((await it.seen("w-1")).phase, (await it.seen("w-1")).node) == (Phase.RUNNING, "l4-2")


async def test_nobody_is_unknown():
    it = world()
    with pytest.raises(NotFound):
        it.cluster.end("w-nobody")


async def test_a_node_lost_while_an_image_is_pulled_starts_nothing():
    it = world(climate=Climate(pull=Span(30, 30)))
    await it.create("w-1")
    it.cluster.lose_node("node-1")
    it.advance(100)
    assert await it.phase("w-1") == (Phase.ENDED, "LEASE_LOST")


async def test_a_preempted_node_goes_after_its_notice():
    it = world(behaviour=Stubborn(), groups=[Group(name="spot", machine=GPU)])
    for uid in ("w-1", "w-2"):
        await it.create(uid, gpu=1)
    it.cluster.preempt_node("spot-1", notice_s=120)
    it.advance(119)
    assert (await it.seen("w-1")).phase is Phase.RUNNING
    it.advance(1)
    assert [await it.phase(uid) for uid in ("w-1", "w-2")] == [(Phase.ENDED, "LEASE_LOST")] * 2
    assert it.cluster.nodes == ()


async def test_a_node_that_was_lost_before_its_notice_ran_out_is_not_lost_again():
    it = world()
    it.cluster.preempt_node("node-1", notice_s=120)
    it.cluster.lose_node("node-1")
    it.advance(120)
    assert [node.name for node in it.cluster.nodes] == ["node-2"]


async def test_a_crash_loop_lasts_until_healed():
    it = world()
    it.cluster.crash_loop("digits", 3, after_s=2, message="no such file: weights.bin")
    await it.create("w-1")
    assert (await it.seen("w-1")).phase is Phase.RUNNING
    it.advance(2)
    seen = await it.seen("w-1")
    assert (seen.phase, seen.exit_code, seen.message) == (Phase.ENDED, 3, "no such file: weights.bin")
    it.cluster.heal("digits")
    await it.create("w-2")
    it.advance(100)
    assert (await it.seen("w-2")).phase is Phase.RUNNING


@pytest.mark.parametrize("reason", ["IMAGE_PULL", "CONFIG"])
async def test_what_never_starts_says_why_until_healed(reason):
    it = world()
    if reason == "CONFIG":
        it.cluster.misconfigure("digits", "the Secret weights is not there")
    else:
        it.cluster.break_image("digits")
    await it.create("w-1")
    await it.create("w-2", app="other")
    it.advance(1000)
    assert await it.phase("w-1") == (Phase.PENDING, reason)
    assert (await it.seen("w-2")).phase is Phase.RUNNING
    it.cluster.heal("digits")
    assert await it.phase("w-1") == (Phase.RUNNING, "")


async def test_out_of_memory_shows_as_such():
    it = world()
    await it.create("w-1")
    it.cluster.run_out_of_memory("w-1")
    seen = await it.seen("w-1")
    assert (seen.exit_code, seen.reason) == (-9, "OOM")


async def test_a_worker_that_waits_can_be_drained():
    it = world(climate=BOOTING)
    await it.create("w-1", gpu=9)
    await it.compute.drain("w-1")
    assert (await it.seen("w-1")).exit_code == 0


# -------------------------------------------------------------------- the wire


async def test_a_lost_reply_leaves_one_worker():
    it = world()
    it.cluster.lose_replies()
    with pytest.raises(Unavailable, match="reply was lost"):
        await it.create("w-1")
    await it.create("w-1")
    assert len(await it.compute.list()) == 1


async def test_a_dropped_sighting_is_missed_and_the_list_knows_it():
    it = world()
    await it.create("w-1")
    async with it.compute:
        changes = it.compute.changes()
        it.cluster.drop_sightings(1)
        it.cluster.end("w-1")
        await it.create("w-2")
        assert (await anext(changes)).uid == "w-2"
        assert (await it.seen("w-1")).phase is Phase.ENDED


async def test_news_come_late_and_in_order():
    it = world(climate=Climate(watch_lag=Span(0, 10)))
    async with it.compute:
        changes = it.compute.changes()
        await it.create("w-1")
        it.cluster.end("w-1", 4)
        phases = []
        for _ in range(20):
            it.advance(1)
            coming = asyncio.ensure_future(anext(changes))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if coming.done():
                phases.append(coming.result().phase)
            else:
                coming.cancel()
        assert phases[-1] is Phase.ENDED
        assert phases == sorted(phases, key=[Phase.PENDING, Phase.RUNNING, Phase.ENDED].index)


async def test_a_cut_cluster_goes_on_unseen():
    it = world()
    async with it.compute:
        changes = it.compute.changes()
        await it.create("w-1")
        it.cluster.cut()
        for call in (it.compute.list(), it.compute.drain("w-1"), it.create("w-2")):
            with pytest.raises(Unavailable, match="can't be reached"):
                await call
        it.cluster.end("w-1", 2)
        it.cluster.mend()
        assert (await it.seen("w-1")).exit_code == 2
        await it.create("w-3")
        seen = [await anext(changes), await anext(changes)]
        assert [(sighting.uid, sighting.phase) for sighting in seen] == [
            ("w-1", Phase.RUNNING),
            ("w-3", Phase.RUNNING),
        ]


async def weather(seed):
    """Live through bad weather and give the story."""
    climate = Climate(
        schedule=Span(0, 3),
        boot=Span(20, 90),
        pull=Span(1, 60),
        start=Span(0, 2),
        watch_lag=Span(0, 5),
        sightings_dropped=0.1,
        calls_refused=0.2,
        replies_lost=0.2,
        preempted_per_hour=30,
    )
    it = world(seed=seed, groups=[Group(name="l4", machine=GPU, most=4)], climate=climate)
    refused = 0
    for number in range(60):
        try:
            await it.create(f"w-{number}", gpu=1 + number % 2)
        except Unavailable:
            refused += 1
        it.advance(10)
    return [(entry.at, entry.what, entry.whom) for entry in it.cluster.journal], refused


async def test_the_same_seed_tells_the_same_story():
    (story, refused), again, another = await weather(7), await weather(7), await weather(8)
    assert (story, refused) == again
    assert story != another[0]
    assert {"booting", "up", "preempted", "running", "ended: 0"} <= {what for _, what, _ in story}
    assert 5 < refused < 40


# -------------------------------------------------------------------- its driver


async def test_a_cluster_of_its_own_beats_by_itself():
    clock = ManualClock()
    async with open_compute("memory:", clock=clock, randomness=seeded(0), pulse_s=0.001) as compute:
        assert not compute.features.survives_restart
        changes = compute.changes()
        await compute.create(Order(uid="w-1", app=App(name="digits"), spec_generation=1, env={}))
        assert (await anext(changes)).phase is Phase.RUNNING
        compute._driver.cluster._agenda.later(5.0, lambda: compute._driver.cluster.end("w-1"))
        clock.advance(5.0)
        assert (await anext(changes)).phase is Phase.ENDED


def test_a_url_that_says_more_is_refused():
    with pytest.raises(Misconfigured, match="says too much"):
        open_compute("memory://there", clock=ManualClock(), randomness=seeded(0))


async def test_who_follows_a_log_waits_for_its_lines_and_its_end():
    it = world()
    await it.create("w-1")
    lines = it.compute.logs("w-1", follow=True)
    for said in ("one", "two"):
        coming = asyncio.ensure_future(anext(lines))
        await asyncio.sleep(0)
        it.cluster.life("w-1").say(said)
        assert await coming == said
    rest = asyncio.ensure_future(anext(lines, None))
    await asyncio.sleep(0)
    it.cluster.end("w-1")
    assert await rest is None


async def test_logs_of_the_long_gone_are_dropped():
    it = world()
    await it.create("w-first")
    it.cluster.end("w-first")
    await it.compute.forget("w-first")
    for number in range(1000):
        await it.create(f"w-{number}")
    with pytest.raises(NotFound):
        await anext(it.compute.logs("w-first"))
    assert [line async for line in it.compute.logs("w-0")] == []
