"""Whatever is done to the pretend cluster, its capacity holds and nobody waits for room that is there."""

import asyncio
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.compute import Order, Phase
from penstock.compute.memory import Climate, Cluster, Group, Machine, Span
from penstock.model.app import App, Resources
from penstock.testing.clock import ManualClock, seeded

SMALL = Machine(cpu=4, memory_gb=16, gpu=2)
LARGE = Machine(cpu=16, memory_gb=64, gpu=8)
GROUPS = [Group(name="small", machine=SMALL, least=1, most=3, idle_s=50), Group(name="large", machine=LARGE, most=2)]
WEATHER = Climate(schedule=Span(0, 2), boot=Span(1, 30), pull=Span(0, 5), preempted_per_hour=60)

CREATE = st.tuples(st.just("create"), st.integers(0, 9), st.sampled_from([0.1, 1.0, 3.0, 20.0]))
DEEDS = st.one_of(
    CREATE,
    CREATE,
    CREATE,  # more than there is room for
    st.tuples(st.sampled_from(["end", "preempt", "remove", "forget"]), st.integers(0, 40), st.none()),
    st.tuples(st.sampled_from(["lose", "take back"]), st.integers(0, 4), st.none()),
    st.tuples(st.sampled_from(["sell out", "restock"]), st.sampled_from(["small", "large"]), st.none()),
    st.tuples(st.just("wait"), st.floats(0, 60), st.none()),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(DEEDS, min_size=20, max_size=60))
def test_capacity_holds_and_nobody_waits_for_room_that_is_there(deeds):
    clock = ManualClock()

    async def live():  # logs and feeds belong to an event loop
        cluster = Cluster(clock=clock, randomness=seeded(len(deeds)), groups=GROUPS, climate=WEATHER)
        for number, deed in enumerate(deeds):
            do(cluster, clock, number, deed)
            cluster.tick()
            check(cluster)

    asyncio.run(live())


def do(cluster, clock, number, deed):
    verb, what, much = deed
    lives = sorted(cluster._lives)
    uid = lives[what % len(lives)] if lives and isinstance(what, int) else ""
    if verb == "create":
        app = App(name="digits", resources=Resources(gpu=what, cpu=much))
        cluster.create(Order(uid=f"w-{number}", app=app, spec_generation=1, env={}))
    elif verb == "wait":
        clock.advance(what)
    elif verb == "sell out":
        cluster.stock_out(what, for_s=40)
    elif verb == "restock":
        cluster.restock(what)
    elif verb in {"lose", "take back"} and cluster.nodes:
        node = cluster.nodes[what % len(cluster.nodes)]
        cluster.lose_node(node.name) if verb == "lose" else cluster.preempt_node(node.name, 10)
    elif uid and verb in {"end", "preempt", "remove", "forget"}:
        {"end": cluster.end, "preempt": cluster.preempt, "forget": cluster.forget}.get(
            verb, lambda uid: cluster.delete(uid, 5.0)
        )(uid)


def check(cluster):
    held = {}
    for life in cluster._lives.values():
        if life.phase is not Phase.ENDED and life.node is not None:
            held.setdefault(life.node, []).append(life)
    nodes = {node.name: node for node in cluster.nodes}
    assert held.keys() <= nodes.keys()
    for name, lives in held.items():
        machine, wanted = nodes[name].group.machine, [life.order.app.resources for life in lives]
        assert sum(one.cpu for one in wanted) <= machine.cpu + 1e-9
        gpus = Counter(gpu for life in lives for gpu in life.gpu_ids)
        assert all(count == 1 for count in gpus.values())
        assert gpus.keys() <= set(range(machine.gpu))
        assert sum(one.gpu for one in wanted) == len(gpus)
        assert sorted(life.uid for life in lives) == sorted(nodes[name].workers)
    for life in cluster._homeless.values():
        wanted = life.order.app.resources
        assert cluster._yard.room(wanted) is None, f"{life.uid} waits beside free room"
        promised = life.uid in cluster._yard._promised
        assert life.reason == ("CAPACITY" if promised else "STOCKOUT")
        assert promised or cluster._for_sale(wanted) is None, f"{life.uid} waits and nothing is bought for it"
    for group in GROUPS:
        assert sum(node.group == group for node in cluster.nodes) == cluster._yard.count(group) <= group.most
