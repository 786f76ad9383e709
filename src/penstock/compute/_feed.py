"""Sightings, handed to every subscriber: one that reads slowly gets each worker's latest, never a growing backlog."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from weakref import WeakKeyDictionary

from .driver import Sighting

__all__ = ["Feed"]


class Feed:
    """What a driver tells its sightings to, and what `changes` reads them from."""

    def __init__(self) -> None:
        # Weak, so that one that nobody reads any more keeps nothing; a mapping, so that their order is always the same.
        self._subscriptions: WeakKeyDictionary[_Subscription, None] = WeakKeyDictionary()
        self._closed = False

    def tell(self, sighting: Sighting) -> None:
        """Hand a sighting to every subscriber."""
        for subscription in list(self._subscriptions):
            subscription.put(sighting)

    def subscribe(self) -> AsyncIterator[Sighting]:
        """Give the sightings told from now on."""
        subscription = _Subscription()
        self._subscriptions[subscription] = None
        if self._closed:
            subscription.close()
        return subscription

    def close(self) -> None:
        """End every subscription once it has given what it holds; a second call does nothing."""
        self._closed = True
        for subscription in list(self._subscriptions):
            subscription.close()


class _Subscription(AsyncIterator[Sighting]):
    """The latest sighting of each worker that one subscriber has not read yet, oldest change first."""

    def __init__(self) -> None:
        self._unread: dict[str, Sighting] = {}
        self._news = asyncio.Event()
        self._closed = False

    def put(self, sighting: Sighting) -> None:
        if self._closed:
            return
        self._unread.pop(sighting.uid, None)
        self._unread[sighting.uid] = sighting
        self._news.set()

    def close(self) -> None:
        self._closed = True
        self._news.set()

    async def aclose(self) -> None:
        """Stop listening: `contextlib.aclosing` works on a subscription as on a generator."""
        self.close()

    async def __anext__(self) -> Sighting:
        while not self._unread:
            if self._closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._unread.pop(next(iter(self._unread)))
