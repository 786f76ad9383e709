"""The log lines of an app's workers, as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Final

import msgspec

from penstock.compute import Compute
from penstock.errors import Invalid, NotFound, PenstockError
from penstock.model.documents import Document
from penstock.model.fleet import Worker

from .call import Call
from .reply import NO_STORE, Reply
from .services import Services
from .wishes import moment

__all__ = ["LogsQuery", "logs"]

_PLAIN: Final = (b"content-type", b"text/plain; charset=utf-8")
_LOOK_S: Final = 1.0
_KEPT: Final = 1000  # lines held for a slow reader; its workers' streams wait beyond that


class LogsQuery(Document, frozen=True, kw_only=True):
    """Which lines: the last `tail` of each worker, and new ones with `follow`.

    `worker` names one. `since` (RFC 3339) leaves out workers that had ended by then; `previous` shows ended ones too.
    """

    follow: bool = False
    tail: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 100
    since: str | None = None
    worker: str | None = None
    previous: bool = False


async def logs(call: Call) -> Reply:
    """`GET /v1/apps/{name}/logs`: plain text, each line led by its worker's uid."""
    query = call.query(LogsQuery)
    services = call.services
    app = services.catalog.get(call.params["name"]).app.name
    if services.compute is None:
        raise NotFound("this gateway does not see where workers run, so it has no logs")
    source = _Logs(services, services.compute, app, query)
    found = await source.workers()
    if query.worker is not None and not found:
        raise NotFound(f"app {app!r} has no worker named {query.worker[:80]!r}")
    lines = source.follow() if query.follow else source.read(found)
    return Reply(200, [_PLAIN, NO_STORE], _encoded(lines), live=query.follow)


async def _encoded(lines: AsyncIterator[str]) -> AsyncGenerator[bytes]:
    async for line in lines:
        yield f"{line}\n".encode("utf-8", "replace")


class _Logs:
    """The logs of one app as one request wants them."""

    def __init__(self, services: Services, compute: Compute, app: str, query: LogsQuery) -> None:
        self._ledger = services.ledger
        self._compute = compute
        self._app = app
        self._query = query
        self._since = _since(query.since)

    async def workers(self) -> list[Worker]:
        """Give the workers whose lines are wanted, oldest first."""
        named = self._query.worker
        ended_too = self._query.previous or self._since is not None or named is not None
        found = await self._ledger.workers(app=self._app, live=not ended_too)
        return [one for one in reversed(found) if named in (None, one.uid) and self._recent(one)]

    def _recent(self, worker: Worker) -> bool:
        return self._since is None or worker.ended_at is None or worker.ended_at >= self._since

    async def read(self, workers: list[Worker]) -> AsyncGenerator[str]:
        """Give the last lines of these workers, one worker after the other."""
        for worker in workers:
            async for line in self._lines(worker.uid, follow=False):
                yield line

    async def follow(self) -> AsyncGenerator[str]:
        """Give the last lines and then new ones, of workers that start meanwhile too, until the reader goes."""
        lines: asyncio.Queue[str] = asyncio.Queue(_KEPT)
        readers: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                for worker in await self.workers():
                    if worker.uid not in readers:
                        readers[worker.uid] = asyncio.create_task(self._pump(worker.uid, lines))
                async for line in _for_a_while(lines, _LOOK_S):
                    yield line
        finally:
            for reader in readers.values():
                reader.cancel()
            await asyncio.gather(*readers.values(), return_exceptions=True)

    async def _pump(self, uid: str, lines: asyncio.Queue[str]) -> None:
        async for line in self._lines(uid, follow=True):
            await lines.put(line)

    async def _lines(self, uid: str, *, follow: bool) -> AsyncGenerator[str]:
        try:
            async for line in self._compute.logs(uid, tail=self._query.tail, follow=follow):
                yield f"[{uid}] {line}"
        except PenstockError as error:
            yield f"[{uid}] ({error.detail})"


async def _for_a_while(lines: asyncio.Queue[str], seconds: float) -> AsyncGenerator[str]:
    """Give the lines that come within so many seconds. No time-out spans a yield: each line may go to another task."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while (left := until - loop.time()) > 0:
        try:
            line = await asyncio.wait_for(lines.get(), left)
        except TimeoutError:
            return
        yield line


def _since(text: str | None) -> float | None:
    if text is None:
        return None
    at = moment(text)
    if at is None:
        raise Invalid("since is a time such as 2030-01-31T12:00:00Z")
    return at
