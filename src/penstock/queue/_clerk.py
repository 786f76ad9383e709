"""The one thread that touches a mailbox: what waits for it when it comes is done in one commit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Final, Self, TypeAlias, TypeVar

from penstock.errors import PenstockError

from ._mailbox import Mailbox

__all__ = ["Clerk"]

T = TypeVar("T")
_Job: TypeAlias = tuple[Callable[[Mailbox], Any], asyncio.Future[Any]]
_Outcome: TypeAlias = tuple[asyncio.Future[Any], Any, Exception | None]
_GROUP: Final = 256


class Clerk:
    """Does jobs on a mailbox in the order given, for one event loop."""

    def __init__(self, path: Path) -> None:
        self._loop = asyncio.get_running_loop()
        self._path = path
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._thread = Thread(target=self._work, name="penstock-queue", daemon=True)

    @classmethod
    async def hire(cls, path: Path) -> Self:
        """Give a clerk whose mailbox is open."""
        clerk = cls(path)
        clerk._thread.start()
        await clerk._opened
        return clerk

    def do(self, job: Callable[[Mailbox], T]) -> asyncio.Future[T]:
        """Give a future of the job's outcome. It is done even if nobody waits for it."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put((job, future))
        return future

    async def leave(self) -> None:
        """Finish what was given, and close the mailbox."""
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    # -------------------------------------------------------------- in the thread

    def _work(self) -> None:
        try:
            mailbox = Mailbox(self._path)
        except PenstockError as error:
            self._tell([(self._opened, None, error)])
            return
        self._tell([(self._opened, None, None)])
        while group := self._next():
            self._tell(_done(mailbox, group))
        mailbox.close()

    def _next(self) -> list[_Job]:
        """Give the jobs that wait, at least one; none once the clerk shall leave."""
        group: list[_Job] = []
        job = self._jobs.get()
        while job is not None:
            group.append(job)
            if len(group) == _GROUP:
                return group
            try:
                job = self._jobs.get_nowait()
            except Empty:
                return group
        if group:
            self._jobs.put(None)  # the call to leave, for the next time
        return group

    def _tell(self, outcomes: list[_Outcome]) -> None:
        with suppress(RuntimeError):  # the loop has ended: nobody waits
            self._loop.call_soon_threadsafe(_resolve, outcomes)


def _done(mailbox: Mailbox, group: list[_Job]) -> list[_Outcome]:
    """Do jobs in one commit; if that fails, each in one of its own, so that none fails for another."""
    try:
        with mailbox.transaction():
            return [(future, job(mailbox), None) for job, future in group]
    except Exception as error:  # noqa: BLE001 - it is raised at its caller
        if len(group) == 1:
            return [(group[0][1], None, error)]
    return [outcome for job in group for outcome in _done(mailbox, [job])]


def _resolve(outcomes: list[_Outcome]) -> None:
    for future, value, error in outcomes:
        if future.done():
            continue
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)
