"""Work that is of use only as long as its client is there: a worker's wait for runs, a stream of events."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from .asgi import Receive

__all__ = ["HungUp", "until", "while_connected"]

T = TypeVar("T")


class HungUp(Exception):
    """The client is gone and reads no answer. `unread` is what the work gave all the same, if it had come that far."""

    def __init__(self, unread: object = None) -> None:
        super().__init__("the client hung up")
        self.unread = unread


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Give what `work` gives; it is cancelled once the client hangs up.

    The request's body must have been read.

    Raises:
        HungUp: the client went first.
    """
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        if not gone.done():
            return working.result()
        working.cancel()
        await asyncio.wait((working,))
        raise HungUp(None if working.cancelled() else working.result())
    finally:
        gone.cancel()
        working.cancel()


async def until(closing: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Return when `work` is done, or is stopped because the gateway closes: what it sends ends there, whole."""
    working, closes = asyncio.ensure_future(work), asyncio.ensure_future(closing.wait())
    try:
        await asyncio.wait((working, closes), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        closes.cancel()
        working.cancel()
        await asyncio.wait((working,))


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
