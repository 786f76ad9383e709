"""The contract of a queue driver: it carries wake-up credits, nothing else.

The ledger orders; a message only says "one more run of this lane is in line". Losing one costs time (the maintainer
tops up), a duplicate costs nothing (it finds nothing to lease). Drivers are opened by URL and certified by
`penstock.testing.suites.queue`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

__all__ = ["Driver", "Features", "Message"]


class Features(msgspec.Struct, frozen=True):
    """What a driver can do. `durability` is the sentence that `penstock doctor` prints."""

    durability: str
    survives_restart: bool
    many_processes: bool
    redelivers: bool  # an unacknowledged message comes again after `visibility_s`
    wakes_in_order: bool = False  # receivers of one process that wait are served in the order they came


class Message(msgspec.Struct, frozen=True, gc=False):
    """One credit as received. `receipt` is the driver's own; `body` the run id that it was sent for."""

    queue: str
    body: str
    receipt: str = ""


class Driver(Protocol):
    """A set of named queues. A queue exists from its first use. Vendors' errors become `Unavailable` or `Misconfigured`.

    The order of messages is not promised: one credit is as good as another. After `close` every call but `close` is
    `Unavailable`.
    """

    features: Features

    async def open(self) -> None:
        """Connect."""
        ...

    async def close(self) -> None:
        """Let go; receivers that wait return what they have. A second call does nothing."""
        ...

    async def send(self, queue: str, bodies: Sequence[str]) -> None:
        """Add one message per body, in one go."""
        ...

    async def receive(self, queue: str, limit: int, wait_s: float) -> list[Message]:
        """Give up to `limit` messages; waits up to `wait_s` for the first and returns at once with what there is.

        A cancelled receive loses no message: what it had taken comes again.
        """
        ...

    async def ack(self, messages: Sequence[Message]) -> None:
        """Forget messages for good. A second ack, or one of an unknown message, does nothing."""
        ...

    async def depth(self, queue: str) -> int:
        """Give the number of messages that are sent and not acknowledged (approximate where a vendor's is)."""
        ...
