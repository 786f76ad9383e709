"""A sleep that can be cut short."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

__all__ = ["Bell"]


class Bell:
    """Rings once, however often it is rung before someone listens."""

    def __init__(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._sleep = sleep
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake whoever waits, or who waits next."""
        self._rung.set()

    async def wait(self, seconds: float) -> None:
        """Return after so many seconds, or as soon as it was rung."""
        if not self._rung.is_set():
            naps = [asyncio.ensure_future(self._sleep(seconds)), asyncio.create_task(self._rung.wait())]
            try:
                await asyncio.wait(naps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for nap in naps:
                    nap.cancel()
        self._rung.clear()
