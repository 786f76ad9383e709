"""The contract of a ledger driver: the one authority on runs, attempts, leases, order, workers and decisions.

A driver is small and dull: it applies groups of commands, each group in one durable commit, and answers questions.
Grouping, retries, metrics and validation belong to the portable `Ledger`. Drivers are opened by URL and certified by
`penstock.testing.suites.ledger`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Protocol

import msgspec

from penstock.errors import PenstockError
from penstock.model.fleet import Worker
from penstock.model.placement import AppEvent, Decision
from penstock.model.run import Attempt, Lane, Run

from .commands import AuditRow, Command, LaneCount, RunFilter

__all__ = ["Driver", "Features", "TellsChanges"]


class Features(msgspec.Struct, frozen=True):
    """What a driver can do, as data that suites and the wiring ask.

    `durability` is the sentence that `penstock doctor` prints: what has survived what, once a write returned. Where
    `tells_changes` is set the driver has `TellsChanges` too.
    """

    durability: str
    survives_restart: bool
    many_processes: bool
    tells_changes: bool = False


class TellsChanges(Protocol):
    """What a driver has that many processes share, so that one of them hears what the others did."""

    def changes(self) -> AsyncGenerator[tuple[str, ...]]:
        """Give the ids of runs that changed, a group at a time, until it is closed; its own process's among them.

        It is a wake-up, not a record: a change may be told twice, late, or never if its process died just then. An
        empty group says that some may have been missed (first of all when it begins to listen): look at what matters.
        """
        ...


class Driver(Protocol):
    """One ledger.

    Times in records are the ledger's own clock, never a caller's. Every vendor's error is translated: `Unavailable`
    when a later try may succeed, `Misconfigured` when it can't. After `Unavailable` from `write` the group may or may
    not have been committed; every command is therefore safe to repeat.
    """

    features: Features

    async def open(self) -> None:
        """Connect, and bring the schema up to date where this process is its only user."""
        ...

    async def close(self) -> None:
        """Let go of everything; a second call does nothing."""
        ...

    async def write(self, commands: Sequence[Command[Any]]) -> list[Any | PenstockError]:
        """Apply a group in ONE durable commit; gives an outcome per command, in order.

        A command that can't be done gives its error as its outcome and changes nothing; the others are unaffected.
        When this returns, the group survives what `features.durability` states. Calls are made one at a time.
        """
        ...

    async def now(self) -> float:
        """Give the ledger's clock: seconds since 1970."""
        ...

    async def run(self, run_id: str) -> Run | None:
        """Give a run, or None if there never was one (or its tombstone is gone)."""
        ...

    async def latest(self, tenant: str, app: str, key: str) -> Run | None:
        """Give the latest generation of a key."""
        ...

    async def runs(self, wanted: RunFilter) -> list[Run]:
        """List runs, newest first, without their inline bytes (`Payload.inline` is None)."""
        ...

    async def attempts(self, run_id: str) -> list[Attempt]:
        """List a run's attempts, first to last."""
        ...

    async def unanswered(self, for_s: float, limit: int = 1000) -> list[Attempt]:
        """List attempts that ended over their worker's head `for_s` seconds ago or earlier, and that it still holds.

        That is: the run was cancelled or ran past its deadline, and the worker has neither settled nor heard of it.
        """
        ...

    async def lanes(self) -> list[LaneCount]:
        """Give the counters of every lane that ever held a run; costs the number of lanes, not of runs."""
        ...

    async def ahead(self, app: str, lane: Lane, mark: int) -> int:
        """Give about how many runs are served before the one with this mark; from counters."""
        ...

    async def workers(self, *, app: str | None = None, live: bool = True, limit: int = 1000) -> list[Worker]:
        """List workers, newest first: the live ones, or with `live` False the ended ones too."""
        ...

    async def worker(self, uid: str) -> Worker | None:
        """Give a worker."""
        ...

    async def decisions(self, app: str, limit: int = 20) -> list[Decision]:
        """List an app's placements, newest first."""
        ...

    async def events(self, app: str | None = None, after: int = 0, limit: int = 100) -> list[AppEvent]:
        """List app events with an id above `after`, oldest first; with `after` 0, the latest `limit` of them."""
        ...

    async def audited(self, *, tenant: str | None = None, after: int = 0, limit: int = 100) -> list[AuditRow]:
        """List audit rows with an id above `after`, oldest first; with `after` 0, the latest `limit` of them."""
        ...
