"""The pretend cluster keeps the contract, in calm and in bad weather."""

import asyncio

import pytest

from penstock.compute import open_compute
from penstock.compute.memory import CALM, Climate, Cluster, Life, Span
from penstock.testing.clock import ManualClock, seeded
from penstock.testing.suites.compute import ComputeStage, ComputeSuite

SLOW = Climate(
    schedule=Span(0.1, 0.5), boot=Span(5, 20), pull=Span(1, 30), start=Span(0.1, 1.0), watch_lag=Span(0.0, 2.0)
)


class Actors:
    """Workers that run until they are told otherwise."""

    def __init__(self) -> None:
        self.starts: list[str] = []
        self.alive: dict[str, Life] = {}
        self.deaf: set[str] = set()

    def start(self, life: Life) -> None:
        self.starts.append(life.uid)
        self.alive[life.uid] = life

    def terminate(self, life: Life) -> None:
        if life.uid not in self.deaf:
            life.exit(0)

    def kill(self, life: Life) -> None:
        del self.alive[life.uid]


class MemoryStage(ComputeStage):
    def __init__(self, climate: Climate) -> None:
        self.clock = ManualClock()
        self.actors = Actors()
        self.cluster = Cluster(clock=self.clock, randomness=seeded("contract"), climate=climate, behaviour=self.actors)

    def compute(self):
        return open_compute("memory:", clock=self.clock, randomness=seeded(0), cluster=self.cluster)

    async def lives(self, uid):
        return uid in self.actors.alive

    async def starts(self, uid):
        return self.actors.starts.count(uid)

    async def env(self, uid):
        order = self.actors.alive[uid].order
        return order.app.env | order.env

    async def say(self, uid, *lines):
        for line in lines:
            self.actors.alive[uid].say(line)

    async def exit(self, uid, code):
        self.actors.alive[uid].exit(code)

    async def kill(self, uid):
        self.actors.alive[uid].exit(-9)

    async def deafen(self, uid):
        self.actors.deaf.add(uid)

    async def pass_time(self):
        self.clock.advance(1.0)
        self.cluster.tick()
        await asyncio.sleep(0)


class TestMemory(ComputeSuite):
    @pytest.fixture(params=[CALM, SLOW], ids=["calm", "slow"])
    async def stage(self, request):
        return MemoryStage(request.param)
