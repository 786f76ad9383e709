"""The contract of a compute driver: it starts workers, tells what it sees of them, and removes what it is told to.

It never decides. "Kill a busy worker" can't be said by a scaling plan: `remove` is called by the maintainer for what
belongs to nothing or was cancelled, and by an explicit force. Certified by `penstock.testing.suites.compute`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from enum import StrEnum
from typing import Protocol

import msgspec

from penstock.model.app import App

__all__ = ["Driver", "Features", "Order", "Phase", "Sighting"]


class Features(msgspec.Struct, frozen=True):
    """What a driver can do."""

    describes: str  # a sentence for `penstock doctor`
    survives_restart: bool  # workers outlive this process and are seen again by the next
    prepares: bool = False  # `prepare` makes the first start of an app faster


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A worker to start. `uid` is its name everywhere; `env` holds its address book and credential, never on a command line."""

    uid: str
    app: App
    spec_generation: int
    env: dict[str, str]


class Phase(StrEnum):
    """What a driver sees of a worker."""

    PENDING = "pending"  # accepted, not running yet
    RUNNING = "running"
    ENDED = "ended"  # exit code known unless the machine is gone


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """What a driver saw of one worker."""

    uid: str
    app: str
    phase: Phase
    pid: int | None = None
    node: str | None = None
    exit_code: int | None = None  # negative = the number of the signal that ended it
    reason: str = ""  # OOM, IMAGE_PULL, CONFIG ... where the driver can tell
    message: str = ""  # the last log lines of one that failed
    started_at: float = 0.0


class Driver(Protocol):
    """One place where workers run."""

    features: Features

    async def open(self) -> None:
        """Connect, and find again the workers that outlived the last process."""
        ...

    async def close(self) -> None:
        """Let go without touching a worker; a second call does nothing."""
        ...

    async def create(self, order: Order) -> None:
        """Start a worker named `order.uid`; one that is there already is a success.

        Returns once the start is accepted, not once the worker is up. Raises `Unavailable` (try later) or
        `Misconfigured` (it can never start as ordered; the detail says why).
        """
        ...

    async def prepare(self, app: App, spec_generation: int) -> None:
        """Take a hint that workers of this app will be wanted; returns at once, and may do nothing at all."""
        ...

    async def list(self) -> list[Sighting]:
        """Give every worker it knows; an ended one is listed until it was reported by `changes` and `forget` was called."""
        ...

    def changes(self) -> AsyncIterator[Sighting]:
        """Give sightings as they happen, ends above all, until closed; `list` is the truth after a gap.

        Each call is a subscription of its own that begins at the call. Several sightings of one worker may be given as
        its latest; an end is never left out by a slow reader.
        """
        ...

    async def drain(self, uid: str) -> None:
        """Ask a worker to finish what it holds and go (SIGTERM); unknown is fine."""
        ...

    async def remove(self, uid: str, grace_s: float = 0.0) -> None:
        """End a worker: asks first and waits `grace_s`, then kills. Unknown or ended is fine."""
        ...

    async def forget(self, uid: str) -> None:
        """Drop what is kept of an ended worker (not its log); unknown is fine."""
        ...

    def logs(self, uid: str, *, tail: int = 100, follow: bool = False) -> AsyncGenerator[str]:
        """Give a worker's log lines, the last `tail` first and then, with `follow`, new ones until it ends.

        Raises `NotFound` where there is no log of that worker. A forgotten worker's log is kept for a while.
        """
        ...
