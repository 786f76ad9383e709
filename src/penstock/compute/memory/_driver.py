"""The driver of a pretend cluster: each call arrives there, or does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from penstock.compute._feed import Feed
from penstock.compute.driver import Features, Order, Sighting
from penstock.model.app import App

from ._cluster import Cluster

__all__ = ["MemoryCompute"]


class MemoryCompute:
    """One client of a pretend cluster; several may share it, as controllers do."""

    def __init__(self, cluster: Cluster, *, shared: bool, pulse_s: float = 0.0) -> None:
        self.cluster = cluster
        self.features = Features(
            describes="a pretend cluster in this process's memory: nothing really runs", survives_restart=shared
        )
        self._pulse_s = pulse_s
        self._pulse: asyncio.Task[None] | None = None
        self._feed = Feed()

    async def open(self) -> None:
        """Connect, and let time pass by itself where that was asked for."""
        self.cluster.attach(self._feed)
        if self._pulse_s:
            self._pulse = asyncio.create_task(self._beat())

    async def close(self) -> None:
        """Let go; the cluster goes on."""
        self.cluster.detach(self._feed)
        self._feed.close()
        if self._pulse is not None:
            self._pulse.cancel()

    async def create(self, order: Order) -> None:
        """Start a worker; one that is there already is a success."""
        self.cluster.reach()
        self.cluster.create(order)

    async def prepare(self, app: App, spec_generation: int) -> None:
        """Do nothing: a pretend image is pulled when it is needed."""

    async def list(self) -> list[Sighting]:
        """Give every worker there is."""
        self.cluster.reach()
        return self.cluster.sightings()

    def changes(self) -> AsyncIterator[Sighting]:
        """Give sightings as they come, late or with gaps as the cluster's climate has it."""
        return self._feed.subscribe()

    async def drain(self, uid: str) -> None:
        """Ask a worker to go."""
        self.cluster.reach()
        self.cluster.terminate(uid)

    async def remove(self, uid: str, grace_s: float = 0.0) -> None:
        """Ask a worker to go, and have it killed after the grace; returns at once, as an API server does."""
        self.cluster.reach()
        self.cluster.delete(uid, grace_s)

    async def forget(self, uid: str) -> None:
        """Drop an ended worker."""
        self.cluster.reach()
        self.cluster.forget(uid)

    async def logs(self, uid: str, *, tail: int = 100, follow: bool = False) -> AsyncGenerator[str]:
        """Give a worker's log lines."""
        self.cluster.reach()
        async with aclosing(self.cluster.read_log(uid, tail, follow=follow)) as lines:
            async for line in lines:
                yield line

    async def _beat(self) -> None:
        while True:
            self.cluster.tick()
            await asyncio.sleep(self._pulse_s)
