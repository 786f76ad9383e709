"""Taking requests in: the key, the durable record, the hint; and waiting for the one result."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final

import msgspec

from penstock.errors import Conflict, Gone, NotFound, TooLarge
from penstock.ledger import Ledger
from penstock.ledger.commands import Accept, Acceptance, Accepted, Cancel, Cancelled, NewRun, Pin
from penstock.model.app import App, DesiredState
from penstock.model.ids import Clock, Ids, rid_of
from penstock.model.run import Lane, Payload, Reason, Run, Terms
from penstock.queue import Queue
from penstock.store import Store, keys
from penstock.store.driver import Put

from .catalog import Catalog, Entry
from .credits import Credits
from .notices import Notices
from .outlook import Eta, Outlook
from .published import Published

__all__ = ["Intake", "Submission", "Waiting"]

_LEAST_RETRY_S: Final = 1
_MOST_RETRY_S: Final = 60
_LISTEN_S: Final = 5.0  # a waiter looks the run up again this often, should another process have ended it
_SOON_S: Final = 0.25  # the first time, where another process may have ended it before anyone listened here


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """What someone asks to be run. `tenant` comes from the verified credential, never from the body."""

    tenant: str
    app: str
    body: bytes
    content_type: str = "application/octet-stream"
    priority: int = 5
    queue_ttl_s: float | None = None
    tag: str | None = None
    parent: str | None = None
    webhook: str | None = None
    traceparent: str | None = None
    pin: Pin | None = None


class Waiting(msgspec.Struct, frozen=True):
    """What is told to someone whose run is not done: about how many stand before it, and when to ask again."""

    position: int
    eta: Eta
    retry_after: int


class Intake:
    """The entrance and the exit of online runs.

    `wake` is called with an app's name after each new run, so that a worker can be started without waiting for a tick.
    """

    def __init__(
        self,
        ledger: Ledger,
        queue: Queue,
        store: Store,
        catalog: Catalog,
        notices: Notices,
        *,
        ids: Ids,
        clock: Clock,
        inline_max_bytes: int = 32 * 1024,
        wake: Callable[[str], None] = lambda _app: None,
    ) -> None:
        self._ledger = ledger
        self._credits = Credits(queue)
        self._store = store
        self._catalog = catalog
        self._notices = notices
        self._ids = ids
        self._clock = clock
        self._inline_max_bytes = inline_max_bytes
        self._wake = wake
        self._outlook = Outlook(ledger, clock)
        self._published = Published(clock)
        self._terms: dict[tuple[str, int], Terms] = {}
        catalog.subscribe(self._app_changed)

    # -------------------------------------------------------------- in

    async def accept(self, asked: Submission) -> Accepted:
        """Take a request in and give the run that answers it: new, joined, or done already.

        When this returns, body and record are durable. Raises `NotFound` (no such app), `Conflict` (the app takes
        nothing new), `TooLarge`, and `Unavailable` (nothing was accepted).
        """
        entry = await self._catalog.seek(asked.app)
        key, sha256 = rid_of(asked.body)
        reuse = entry.app.results.cache
        if reuse and asked.pin is None:
            done = self._published.get(asked.tenant, asked.app, key)
            if done is not None:
                return Accepted(Acceptance.HIT, done)
        _admit(entry, asked)
        body = await self._keep_body(entry.app, asked, key)
        run = self._propose(entry, asked, key, sha256, body)
        accepted = await self._ledger.accept(Accept(run=run, reuse=reuse, pin=asked.pin))
        await self._after_accept(entry.app, run, accepted)
        return accepted if self._catalog.find(asked.app) else await self._too_late(accepted)

    async def _too_late(self, accepted: Accepted) -> Accepted:
        """Cancel a run whose app was deleted while its body was on its way: nobody would ever come for it."""
        cancelled = await self.cancel(accepted.run, Reason.APP_DELETED)
        return msgspec.structs.replace(accepted, run=cancelled.run or accepted.run)

    def _propose(self, entry: Entry, asked: Submission, key: str, sha256: str, body: Payload) -> NewRun:
        return NewRun(
            id=self._ids.run(),
            tenant=asked.tenant,
            app=asked.app,
            lane=Lane.INFER,
            key=key,
            spec_generation=entry.generation,
            body=body,
            sha256=sha256,
            priority=asked.priority,
            tag=asked.tag,
            parent=asked.parent,
            webhook=asked.webhook,
            traceparent=asked.traceparent,
            terms=self._terms_for(entry, asked.queue_ttl_s),
        )

    def _terms_for(self, entry: Entry, queue_ttl_s: float | None) -> Terms:
        at = (entry.app.name, entry.generation)
        terms = self._terms.get(at)
        if terms is None:
            terms = self._terms[at] = terms_of(entry.app)
        if queue_ttl_s is None:
            return terms
        return msgspec.structs.replace(terms, queue_ttl_seconds=min(queue_ttl_s, terms.queue_ttl_seconds))

    async def _keep_body(self, app: App, asked: Submission, key: str) -> Payload:
        """Give the body as it is recorded: inline when small, else durable in the store before any record names it."""
        size = len(asked.body)
        if size <= self._inline_max_bytes:
            return Payload(inline=asked.body, size=size, content_type=asked.content_type)
        home = keys.home(app.storage_prefix, asked.tenant)
        at = keys.request(home, key)
        try:
            await self._store.put(at, asked.body, Put(create=True))
        except Conflict:
            # The name is taken by an earlier request with this key; which of the two is run is for the ledger to say.
            at = keys.request_of_run(home, key, self._ids.run())
            await self._store.put(at, asked.body, Put(create=True))
        return Payload(key=at, size=size, content_type=asked.content_type)

    async def _after_accept(self, app: App, proposed: NewRun, accepted: Accepted) -> None:
        if accepted.run.id == proposed.id:  # also where a repeated write found what its first try had committed
            await self.created(app, accepted.run)
            return
        if accepted.how is Acceptance.HIT:
            self._published.add(accepted.run)
        unused = proposed.body.key
        if unused is not None and unused != accepted.run.body.key:
            await self._store.delete(unused)

    async def created(self, app: App, run: Run) -> None:
        """Tell workers and controller of a new run. A hint that fails is left to the maintainer: the run is safe."""
        await self._credits.send(app.queue_ref, run.lane, run.id)
        self._wake(app.name)

    # -------------------------------------------------------------- out

    async def settled(self, run: Run, wait_s: float, *, fresh: bool = False) -> Run:
        """Give the run once it is terminal, or as it is known after `wait_s` seconds; the store is not polled.

        `fresh` says that this very call created the run, so this process can't have ended it before we listen.
        """
        deadline = self._clock.monotonic() + wait_s
        listen_s = _SOON_S if fresh and self._ledger.features.many_processes else _LISTEN_S
        while not run.terminal and (left := deadline - self._clock.monotonic()) > 0:
            with self._notices.expect(run.id) as end:
                if not fresh:
                    run = await self._ledger.run(run.id) or run
                ended = run if run.terminal else await end.within(min(left, listen_s))
            fresh, listen_s = False, _LISTEN_S
            if ended is not None:
                self._published.add(ended)
                return ended
            if self._notices.closing:
                break
        return run

    async def find(self, tenant: str, app: str, ticket: str) -> Run:
        """Give the latest run behind a ticket. Raises `NotFound` for one never issued, `Gone` for a purged one."""
        run = self._published.get(tenant, app, ticket) or await self._ledger.latest(tenant, app, ticket)
        if run is None:
            raise NotFound(f"app {app!r} has never issued this ticket")
        if run.purged_at is not None:
            raise Gone("the result was kept for its time and has been removed; submit the input again for a new one")
        return run

    async def waiting(self, run: Run) -> Waiting:
        """Give the place of a run that is not done, and when to ask again."""
        ahead, eta = await self._outlook.of(run.app, run.lane, run.mark)
        retry_after = min(max(round(eta.p50), _LEAST_RETRY_S), _MOST_RETRY_S)
        return Waiting(ahead if run.state == "QUEUED" else 0, eta, retry_after)

    async def read(self, payload: Payload) -> bytes:
        """Give a body's or a result's bytes as they are kept (`payload.encoding` says how). Raises `NotFound`."""
        if payload.inline is not None:
            return payload.inline
        if payload.key is None:
            return b""
        return await self._store.get(payload.key)

    def stream(self, payload: Payload) -> AsyncIterator[bytes]:
        """Give the same in chunks, for what lies in the store."""
        return self._store.stream(payload.key or "")

    async def cancel(self, run: Run, reason: Reason = Reason.BY_USER, message: str = "") -> Cancelled:
        """Cancel a live run at once, for everyone who joined it; a terminal one is left as it is."""
        cancelled = await self._ledger.cancel(Cancel(run_id=run.id, reason=reason, message=message))
        if cancelled.changed and cancelled.run is not None:
            self._notices.publish(cancelled.run)
        return cancelled

    @property
    def lost_hints(self) -> int:
        """How many credits the queue did not take."""
        return self._credits.lost

    def _app_changed(self, name: str) -> None:
        if self._catalog.find(name) is None:
            self._published.forget_app(name)


def terms_of(app: App) -> Terms:
    """Give the numbers that a run of this app is promised when it is accepted."""
    return Terms(
        max_attempts=app.retry.max_attempts,
        backoff_seconds=app.retry.backoff_seconds,
        backoff_max_seconds=app.retry.backoff_max_seconds,
        queue_ttl_seconds=app.deadlines.queue_ttl_seconds,
        run_deadline_seconds=app.deadlines.run_deadline_seconds,
        lease_seconds=app.deadlines.lease_seconds,
        result_ttl_seconds=app.results.ttl_hours * 3600.0,
    )


def _admit(entry: Entry, asked: Submission) -> None:
    app = entry.app
    if app.tenants and asked.tenant not in app.tenants:
        raise NotFound(f"there is no app named {app.name!r}")
    if app.desired_state is DesiredState.DRAINING:
        raise Conflict(
            f"app {app.name!r} is draining and takes no new work; `penstock resume {app.name}` opens it again"
        )
    if len(asked.body) > app.max_body_bytes:
        raise TooLarge(f"the body has {len(asked.body)} bytes; app {app.name!r} takes at most {app.max_body_bytes}")
