"""Time and chance that a test holds in its hand."""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import itertools

from penstock.model.ids import Randomness

__all__ = ["ManualClock", "seeded"]


class ManualClock:
    """A clock that stands still until it is told to go on. Starts at `start` seconds since 1970, monotonic at 0."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = start
        self._monotonic = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._watchers: list[tuple[int, asyncio.Future[None]]] = []

    def now(self) -> float:
        """Give seconds since 1970."""
        return self._now

    def monotonic(self) -> float:
        """Give the seconds advanced so far."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let time pass, and wake those whose sleep is over by then, earliest first."""
        if seconds < 0:
            raise ValueError("time only goes forward; use `jump` to bend the wall clock")
        self._now += seconds
        self._monotonic += seconds
        while self._sleepers and self._sleepers[0][0] <= self._monotonic:
            _, _, sleeper = heapq.heappop(self._sleepers)
            if not sleeper.done():
                sleeper.set_result(None)

    def jump(self, seconds: float) -> None:
        """Bend the wall clock by so much, back or forth, as an operator or NTP would; `monotonic` goes on as it was."""
        self._now += seconds

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock was advanced by so much: the `asyncio.sleep` of this clock."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        sleeper = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic + seconds, next(self._order), sleeper))
        for count, watcher in self._watchers:
            if self.sleeping >= count and not watcher.done():
                watcher.set_result(None)
        await sleeper

    async def asleep(self, count: int = 1) -> None:
        """Wait until at least so many sleep on this clock, so that a test knows when to advance it."""
        if self.sleeping < count:
            watcher = asyncio.get_running_loop().create_future()
            self._watchers.append((count, watcher))
            try:
                await watcher
            finally:
                self._watchers.remove((count, watcher))

    @property
    def sleeping(self) -> int:
        """How many wait for this clock."""
        return sum(not sleeper.done() for _, _, sleeper in self._sleepers)


class _Seeded:
    """SHAKE-256 over a seed and a counter: the same bytes on every machine and Python."""

    def __init__(self, seed: int | str) -> None:
        self._seed = str(seed).encode()
        self._calls = itertools.count()

    def __call__(self, count: int, /) -> bytes:
        return hashlib.shake_256(b"%s/%d" % (self._seed, next(self._calls))).digest(count)


def seeded(seed: int | str) -> Randomness:
    """Give randomness that repeats: the same seed gives the same bytes, call by call."""
    return _Seeded(seed)
