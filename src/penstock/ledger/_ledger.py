"""What every ledger driver gets around it: groups, retries, checks, one measurement."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from importlib import import_module
from importlib.metadata import entry_points
from types import ModuleType, TracebackType
from typing import Any, Final, Self, TypeVar, cast
from urllib.parse import urlsplit

from penstock.errors import Misconfigured
from penstock.model.fleet import Worker
from penstock.model.ids import Clock
from penstock.model.placement import AppEvent, Decision
from penstock.model.run import Attempt, Lane, Run

from . import commands as c
from ._checks import check
from ._grouping import Grouping, Observer
from .driver import Driver, Features, TellsChanges

__all__ = ["Ledger", "migrate", "open_ledger"]

T = TypeVar("T")

_BUILT_IN: Final = {"sqlite": "sqlite", "postgresql": "postgres", "postgres": "postgres"}  # scheme: package


class Ledger:
    """The one authority on runs, attempts, leases, order, workers and decisions.

    Writes are commands: `await ledger.do(Accept(...))` gives what the command's docstring promises, once it is durable,
    or raises its error; every command has a method of its name too. What is asked at the same time shares one commit. A
    caller that is cancelled leaves, but what it asked for is done. Raises `Invalid` for a command that makes no sense
    and `Unavailable` when the database failed: then it may or may not have been done, and is safe to repeat.
    """

    def __init__(self, driver: Driver, *, clock: Clock, observer: Observer | None = None) -> None:
        self._driver = driver
        self._groups = Grouping(driver.write, monotonic=clock.monotonic, observer=observer)

    @property
    def features(self) -> Features:
        """What the driver can do."""
        return self._driver.features

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Connect, and bring the schema up to date. Raises `Misconfigured` (what to do is in the detail)."""
        await self._driver.open()

    async def close(self) -> None:
        """Write what is in line, then let go; a second call does nothing."""
        await self._groups.finish()
        await self._driver.close()

    # ---------------------------------------------------------- writes

    async def do(self, command: c.Command[T]) -> T:
        """Carry a command out durably and give its outcome, or raise its error."""
        check(command)
        return cast("T", await self._groups.submit(command))

    async def accept(self, command: c.Accept) -> c.Accepted:
        """Take a run in."""
        return await self.do(command)

    async def again(self, command: c.Again) -> c.Accepted:
        """Start the next generation of a failed run."""
        return await self.do(command)

    async def lease(self, command: c.Lease) -> c.Leased:
        """Give a worker the first runs in line."""
        return await self.do(command)

    async def settle(self, command: c.Settle) -> c.Settled:
        """End an attempt as its worker reports."""
        return await self.do(command)

    async def extend(self, command: c.Extend) -> c.ExtendCode:
        """Renew an attempt's lease."""
        return await self.do(command)

    async def checkpoint(self, command: c.Checkpoint) -> c.ExtendCode:
        """Save what a later attempt resumes from."""
        return await self.do(command)

    async def cancel(self, command: c.Cancel) -> c.Cancelled:
        """Cancel a live run at once."""
        return await self.do(command)

    async def fail(self, command: c.Fail) -> c.Cancelled:
        """Fail a run that waits."""
        return await self.do(command)

    async def clear(self, command: c.Clear) -> tuple[Run, ...]:
        """Cancel live runs of an app."""
        return await self.do(command)

    async def mend(self, command: c.Mend) -> tuple[Run, ...]:
        """Do one duty of the maintainer over runs."""
        return await self.do(command)

    async def gap(self, command: c.Gap) -> float:
        """Note that the broker is alive; gives the seconds since it last was."""
        return await self.do(command)

    async def add_worker(self, command: c.AddWorker) -> None:
        """Commit a worker's row before it is created anywhere."""
        await self.do(command)

    async def note_worker(self, command: c.NoteWorker) -> bool:
        """Set what became known of a live worker."""
        return await self.do(command)

    async def see_workers(self, command: c.SeeWorkers) -> None:
        """Note that workers called just now."""
        await self.do(command)

    async def end_worker(self, command: c.EndWorker) -> tuple[Run, ...]:
        """Record that a worker, or a replica of it, is no more; gives the runs it held."""
        return await self.do(command)

    async def grant_exit(self, command: c.GrantExit) -> bool:
        """Let an idle worker go, or not."""
        return await self.do(command)

    async def remember(self, command: c.Remember) -> None:
        """Store decisions and app events."""
        await self.do(command)

    async def audit(self, command: c.Audit) -> None:
        """Append a row to the audit."""
        await self.do(command)

    async def take_lead(self, command: c.TakeLead) -> c.Lead:
        """Take or renew a leadership."""
        return await self.do(command)

    async def take_pin(self, command: c.TakePin) -> c.Pinned:
        """Reserve an idempotency key, or learn what it stands for."""
        return await self.do(command)

    async def keep_pin(self, command: c.KeepPin) -> None:
        """Store the answer of a reserved idempotency key, or free it."""
        await self.do(command)

    # ---------------------------------------------------------- news

    def changes(self) -> AsyncGenerator[tuple[str, ...]]:
        """Give the ids of runs that changed through any process, a group at a time; only if `features.tells_changes`.

        An empty group says that some may have been missed. Close it when done.
        """
        if not self.features.tells_changes:
            raise Misconfigured("this ledger has one process only, and tells nobody of changes")
        return cast("TellsChanges", self._driver).changes()

    # ---------------------------------------------------------- questions

    async def now(self) -> float:
        """Give the ledger's clock: seconds since 1970."""
        return await self._driver.now()

    async def run(self, run_id: str) -> Run | None:
        """Give a run, or None if there never was one (or its tombstone is gone)."""
        return await self._driver.run(run_id)

    async def latest(self, tenant: str, app: str, key: str) -> Run | None:
        """Give the latest generation of a key."""
        return await self._driver.latest(tenant, app, key)

    async def runs(self, wanted: c.RunFilter) -> list[Run]:
        """List runs, newest first, without their inline bytes."""
        return await self._driver.runs(wanted)

    async def attempts(self, run_id: str) -> list[Attempt]:
        """List a run's attempts, first to last."""
        return await self._driver.attempts(run_id)

    async def unanswered(self, for_s: float, limit: int = 1000) -> list[Attempt]:
        """List attempts that ended over their worker's head that long ago or longer, and that it still holds."""
        return await self._driver.unanswered(for_s, limit)

    async def lanes(self) -> list[c.LaneCount]:
        """Give the counters of every lane that ever held a run."""
        return await self._driver.lanes()

    async def ahead(self, app: str, lane: Lane, mark: int) -> int:
        """Give about how many runs are served before the one with this mark."""
        return await self._driver.ahead(app, lane, mark)

    async def workers(self, *, app: str | None = None, live: bool = True, limit: int = 1000) -> list[Worker]:
        """List workers, newest first: the live ones, or with `live` False the ended ones too."""
        return await self._driver.workers(app=app, live=live, limit=limit)

    async def worker(self, uid: str) -> Worker | None:
        """Give a worker."""
        return await self._driver.worker(uid)

    async def decisions(self, app: str, limit: int = 20) -> list[Decision]:
        """List an app's placements, newest first."""
        return await self._driver.decisions(app, limit)

    async def events(self, app: str | None = None, after: int = 0, limit: int = 100) -> list[AppEvent]:
        """List app events with an id above `after`, oldest first; with `after` 0, the latest `limit` of them."""
        return await self._driver.events(app, after, limit)

    async def audited(self, *, tenant: str | None = None, after: int = 0, limit: int = 100) -> list[c.AuditRow]:
        """List audit rows with an id above `after`, oldest first; with `after` 0, the latest `limit` of them."""
        return await self._driver.audited(tenant=tenant, after=after, limit=limit)


def open_ledger(url: str, *, clock: Clock, observer: Observer | None = None) -> Ledger:
    """Give the ledger that a URL names; connect with `async with` or `open`.

    `sqlite:///abs/path.db` is a file of this machine, `sqlite://` lives in memory and dies with the process,
    `postgresql://user:password@host:port/database` serves many processes; other schemes are looked up among the entry
    points `penstock.ledger`. Raises `Misconfigured`.
    """
    connect = _named(url, "connect")
    return Ledger(connect(url, clock=clock), clock=clock, observer=observer)


async def migrate(url: str) -> list[str]:
    """Bring the schema of a ledger up to date that is never migrated by itself; gives the steps that were taken.

    Raises `Misconfigured` (a newer schema, a missing right) or `Unavailable`.
    """
    taken: list[str] = await _named(url, "migrate")(url)
    return taken


def _named(url: str, name: str) -> Callable[..., Any]:
    """Give a function of a scheme's driver; drivers are loaded only when they are named.

    An entry point names the driver's `connect`; what else it has stands beside that in the same module.
    """
    scheme = urlsplit(url).scheme
    if scheme in _BUILT_IN:
        return cast("Callable[..., Any]", getattr(_built_in(scheme), name))
    for found in entry_points(group="penstock.ledger", name=scheme):
        return cast(
            "Callable[..., Any]", found.load() if name == "connect" else getattr(import_module(found.module), name)
        )
    known = "sqlite:///abs/path.db or postgresql://user:password@host:port/database"
    raise Misconfigured(f"no ledger driver is known for {scheme!r}: use {known}")


def _built_in(scheme: str) -> ModuleType:
    try:
        return import_module(f"penstock.ledger.{_BUILT_IN[scheme]}")
    except ModuleNotFoundError as error:
        package = _BUILT_IN[scheme]
        raise Misconfigured(f"a {scheme} ledger needs {error.name}: run `pip install 'penstock[{package}]'`") from error
