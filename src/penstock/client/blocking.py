"""The client, for programs without an event loop: the asynchronous one, run on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar, Unpack

from penstock.model.app import App
from penstock.model.documents import (
    AppDocument,
    AppEventDocument,
    AppliedDocument,
    CancelledDocument,
    DecisionDocument,
    ExplanationDocument,
    RunDocument,
    RunEventDocument,
    Whoami,
    WorkerDocument,
)

from .aio import AsyncClient
from .apps import AsyncApps
from .patience import Patience
from .tickets import Answer, Input, Ticket, Wishes

__all__ = ["Apps", "Client"]

T = TypeVar("T")


class _Loop:
    """An event loop on a thread that lives until it is closed."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="penstock-client", daemon=True)
        self._thread.start()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._loop.is_closed()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Give what the work gives; an interrupt of the caller ends the work too."""
        if self.closed:
            work.close()
            raise RuntimeError("this client is closed")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def each(self, items: AsyncGenerator[T]) -> Iterator[T]:
        """Give the items one by one."""

        async def after() -> tuple[T, ...]:
            async for item in items:
                return (item,)
            return ()

        try:
            while found := self.wait(after()):
                yield found[0]
        finally:
            self.wait(_close(items))

    def close(self) -> None:
        """Stop; a second call does nothing."""
        if not self.closed:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


async def _close(items: AsyncGenerator[Any]) -> None:
    await items.aclose()


class Client:
    """Runs and apps of one server, as `AsyncClient` has them; every method does the same and blocks. Threads may share it."""

    def __init__(
        self,
        api: str = "http://127.0.0.1:8080",
        *,
        token: str | None = None,
        api_key: str | None = None,
        patience: Patience | None = None,
        connections: int = 100,
    ) -> None:
        self._async = AsyncClient(api, token=token, api_key=api_key, patience=patience, connections=connections)
        self._loop = _Loop()
        self.apps = Apps(self._async.apps, self._loop)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; a second call does nothing."""
        if not self._loop.closed:
            self._loop.wait(self._async.close())
            self._loop.close()

    def submit(self, app: str, data: Input = b"", **wishes: Unpack[Wishes]) -> Ticket:
        """Hand an input in, and give the ticket of its run."""
        return self._loop.wait(self._async.submit(app, data, **wishes))

    def result(self, ticket: Ticket, *, wait: float | None = None) -> Answer:
        """Give the result of a run, waiting for it up to `wait` seconds (None: until it ends)."""
        return self._loop.wait(self._async.result(ticket, wait=wait))

    def run(self, app: str, data: Input = b"", **wishes: Unpack[Wishes]) -> Answer:
        """Hand an input in and give its result."""
        return self._loop.wait(self._async.run(app, data, **wishes))

    def status(self, app: str, ticket: str) -> Ticket:
        """Give where a run stands."""
        return self._loop.wait(self._async.status(app, ticket))

    def cancel(self, app: str, ticket: str) -> CancelledDocument:
        """Cancel a run for all who wait for it."""
        return self._loop.wait(self._async.cancel(app, ticket))

    def get(self, run_id: str) -> RunDocument:
        """Give the full record of a run."""
        return self._loop.wait(self._async.get(run_id))

    def runs(self, *, most: int | None = None, **wanted: Any) -> Iterator[RunDocument]:
        """Give runs, newest first."""
        return self._loop.each(self._async.runs(most=most, **wanted))

    def cancel_run(self, run_id: str, message: str = "") -> CancelledDocument:
        """Cancel a run by its id."""
        return self._loop.wait(self._async.cancel_run(run_id, message))

    def retry(self, run_id: str, *, idempotency_key: str | None = None) -> RunDocument:
        """Start a FAILED run anew."""
        return self._loop.wait(self._async.retry(run_id, idempotency_key=idempotency_key))

    def redrive(self, *, idempotency_key: str | None = None, **wanted: Any) -> int:
        """Retry every FAILED run that matches; gives how many."""
        return self._loop.wait(self._async.redrive(idempotency_key=idempotency_key, **wanted))

    def explain(self, run_id: str) -> ExplanationDocument:
        """Give why a run waits or failed."""
        return self._loop.wait(self._async.explain(run_id))

    def events(self, run_id: str, *, after: str | None = None) -> Iterator[RunEventDocument]:
        """Give what happened to a run and what happens, to its end."""
        return self._loop.each(self._async.events(run_id, after=after))

    def workers(self, *, app: str | None = None, state: str | None = None) -> tuple[WorkerDocument, ...]:
        """Give the live workers, newest first, or those of a state."""
        return self._loop.wait(self._async.workers(app=app, state=state))

    def whoami(self) -> Whoami:
        """Give who the server takes this client for."""
        return self._loop.wait(self._async.whoami())

    def version(self) -> str:
        """Give the server's version."""
        return self._loop.wait(self._async.version())

    def schema(self) -> dict[str, Any]:
        """Give the JSON Schema of an app's YAML."""
        return self._loop.wait(self._async.schema())


class Apps:
    """Apps of one server: `client.apps`."""

    def __init__(self, apps: AsyncApps, loop: _Loop) -> None:
        self._async = apps
        self._loop = loop

    def apply(self, spec: App | str | Path, *, if_match: str | None = None, dry_run: bool = False) -> AppliedDocument:
        """Make a spec the app's present one, and give what changed."""
        return self._loop.wait(self._async.apply(spec, if_match=if_match, dry_run=dry_run))

    def get(self, name: str) -> AppDocument:
        """Give an app."""
        return self._loop.wait(self._async.get(name))

    def list(self) -> Iterator[AppDocument]:
        """Give every app, by name."""
        return self._loop.each(self._async.list())

    def spec(self, name: str) -> str:
        """Give an app's spec as YAML."""
        return self._loop.wait(self._async.spec(name))

    def delete(self, name: str, *, force: bool = False) -> None:
        """Forget an app."""
        self._loop.wait(self._async.delete(name, force=force))

    def pause(self, name: str) -> AppDocument:
        """Go on accepting, start nothing."""
        return self._loop.wait(self._async.pause(name))

    def resume(self, name: str) -> AppDocument:
        """Accept and execute again."""
        return self._loop.wait(self._async.resume(name))

    def drain(self, name: str) -> AppDocument:
        """Accept nothing new, finish what is queued."""
        return self._loop.wait(self._async.drain(name))

    def events(self, name: str, *, limit: int = 50, after: int = 0) -> tuple[AppEventDocument, ...]:
        """Give what happened to an app, newest first."""
        return self._loop.wait(self._async.events(name, limit=limit, after=after))

    def decisions(self, name: str, *, limit: int = 50) -> tuple[DecisionDocument, ...]:
        """Give an app's placements, newest first."""
        return self._loop.wait(self._async.decisions(name, limit=limit))

    def logs(
        self, name: str, *, tail: int = 100, follow: bool = False, worker: str | None = None, since: str | None = None
    ) -> Iterator[str]:
        """Give the log lines of an app's workers."""
        return self._loop.each(self._async.logs(name, tail=tail, follow=follow, worker=worker, since=since))
