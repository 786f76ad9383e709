"""The portable half of a queue: checks, measures and names, the same on every driver."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Self, TypeAlias, TypeVar

from penstock.errors import Invalid, PenstockError, Unavailable
from penstock.model.ids import Clock
from penstock.model.run import Lane

from .driver import Driver, Features, Message

__all__ = ["Observe", "Queue", "queue_name"]

T = TypeVar("T")
Observe: TypeAlias = Callable[[str, float, str], None]
MAX_WAIT_S: Final = 3600.0
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")  # what every known broker takes as it stands
_PROBE: Final = "penstock-probe"


def queue_name(ref: str, lane: Lane) -> str:
    """Give the name of the queue that carries a lane's hints; `ref` is the app's `queue.ref` or name."""
    return f"{ref}-{lane}"


class Queue:
    """Named queues of wake-up credits. Opened by `open_queue`.

    Nothing is tried again here, on purpose: a credit that was not sent is topped up by the maintainer, one that was not
    acknowledged comes again and finds nothing, and a caller on the way of a request must not wait for a broker that is
    down. The errors are those of `driver.Driver`.
    """

    def __init__(self, driver: Driver, *, clock: Clock, observe: Observe | None = None) -> None:
        self._driver = driver
        self._clock = clock
        self._observe = observe
        self._known: set[str] = set()

    @property
    def features(self) -> Features:
        """What the driver can do."""
        return self._driver.features

    async def open(self) -> None:
        """Connect."""
        await self._driver.open()

    async def close(self) -> None:
        """Let go; receivers that wait return what they have. A second call does nothing."""
        await self._driver.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def send(self, queue: str, bodies: Sequence[str]) -> None:
        """Add one message per body, in one go."""
        self._check(queue)
        if bodies:
            await self._measured("send", self._driver.send(queue, bodies))

    async def receive(self, queue: str, limit: int = 1, wait_s: float = 0.0) -> list[Message]:
        """Give up to `limit` messages; waits up to `wait_s` seconds for the first and returns at once with what there is.

        A cancelled receive loses no message.
        """
        self._check(queue)
        if limit < 1 or not 0.0 <= wait_s <= MAX_WAIT_S:
            raise Invalid(f"can't receive {limit} messages within {wait_s} seconds")
        return await self._measured("receive", self._driver.receive(queue, limit, wait_s))

    async def ack(self, messages: Sequence[Message]) -> None:
        """Forget messages for good. A second ack, or one of an unknown message, does nothing."""
        if messages:
            await self._measured("ack", self._driver.ack(messages))

    async def depth(self, queue: str) -> int:
        """Give the number of messages that are sent and not acknowledged (approximate where a vendor's is)."""
        self._check(queue)
        return await self._measured("depth", self._driver.depth(queue))

    async def probe(self) -> None:
        """Send, receive and acknowledge a message; raises what went wrong. For readiness checks."""
        await self.send(_PROBE, ["probe"])
        messages = await self.receive(_PROBE, 10, 1.0)
        if not messages:
            raise Unavailable("the queue took a message and did not deliver it")
        await self.ack(messages)

    def _check(self, queue: str) -> None:
        if queue not in self._known:
            if _NAME.fullmatch(queue) is None:
                raise Invalid(f"{queue!r} is no queue name: 1 to 80 letters, digits, '-' and '_'")
            self._known.add(queue)

    async def _measured(self, operation: str, call: Awaitable[T]) -> T:
        if self._observe is None:
            return await call
        began, outcome = self._clock.monotonic(), "ERROR"
        try:
            value = await call
            outcome = "ok"
        except PenstockError as error:
            outcome = error.code
            raise
        finally:
            self._observe(operation, self._clock.monotonic() - began, outcome)
        return value
