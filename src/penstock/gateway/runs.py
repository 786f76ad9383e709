"""The runs face: the uniform view of everything that was ever accepted."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

import msgspec

from penstock.errors import Conflict, Invalid
from penstock.ledger.commands import RunFilter
from penstock.model.documents import CancelledDocument, CancelRequest, Redriven, RunPage, RunsQuery
from penstock.model.run import State
from penstock.model.timeline import RunEvent

from . import views
from .body import decoded
from .call import Call
from .prefer import preference
from .reply import NO_STORE, Reply, document, encode
from .serving import answer
from .wishes import moment

__all__ = ["cancel", "events", "explain", "get", "listing", "redrive", "result", "retry"]

_SILENCE: Final = b": still here\n\n"
_STREAM: Final = [(b"content-type", b"text/event-stream"), NO_STORE, (b"x-accel-buffering", b"no")]


async def get(call: Call) -> Reply:
    """`GET /v1/runs/{id}`: the full record, in whatever state."""
    services = call.services
    run = await services.runs.get(call.tenant, call.params["id"])
    attempts = await services.runs.attempts(run.id)
    placed = {attempt.worker_uid for attempt in attempts}
    decisions = await services.ledger.decisions(run.app, limit=200) if placed else []
    # The placement of its latest attempt: the decision that started that worker.
    placement = next((one for one in decisions if attempts[-1].worker_uid in one.workers), None)
    now = services.clock.now()
    return document(views.run(run, call.url, attempts=attempts, placement=placement, now=now))


async def listing(call: Call) -> Reply:
    """`GET /v1/runs`: newest first, page by page."""
    wanted = _filter(call.tenant, call.query(RunsQuery))
    found = await call.services.runs.list(wanted)
    now = call.services.clock.now()
    items = tuple(views.run(run, call.url, now=now) for run in found)
    return document(RunPage(items, str(found[-1].seq) if len(found) == wanted.limit else None))


def _filter(tenant: str, query: RunsQuery) -> RunFilter:
    return RunFilter(
        tenant=tenant,
        app=query.app,
        state=query.state,
        reason=query.reason,
        tag=query.tag,
        parent=query.parent,
        lane=query.lane,
        since=_since(query.since),
        after=int(query.after) if query.after else None,
        limit=query.limit,
    )


def _since(text: str | None) -> float | None:
    if text is None:
        return None
    at = float(text) if text.replace(".", "", 1).isdecimal() and text.isascii() else moment(text)
    if at is None:
        raise Invalid("since is a time such as 2030-01-31T12:00:00Z, or seconds since 1970")
    return at


async def cancel(call: Call) -> Reply:
    """`POST /v1/runs/{id}/cancel`: cancelled at once."""
    asked = await decoded(call, CancelRequest, optional=True)
    cancelled = await call.services.runs.cancel(call.tenant, call.params["id"], asked.message)
    run = cancelled.run
    if run is None or run.state is not State.CANCELLED:
        raise Conflict(f"the run ended {run.state if run else 'long ago'} before it could be cancelled")
    return document(
        CancelledDocument(ticket=run.key, run_id=run.id, state=run.state, reason=run.reason, message=run.message)
    )


async def retry(call: Call) -> Reply:
    """`POST /v1/runs/{id}/retry`: a new generation of a FAILED run, with the same body."""
    accepted = await call.services.runs.retry(call.tenant, call.params["id"])
    return document(views.run(accepted.run, call.url, now=call.services.clock.now()), 202)


async def redrive(call: Call) -> Reply:
    """`POST /v1/runs/redrive`: retry every FAILED run that matches the body's filter."""
    query = await decoded(call, RunsQuery, optional=True)
    wanted = _filter(call.tenant, query)
    return document(Redriven(await call.services.runs.redrive(wanted)), 202)


async def result(call: Call) -> Reply:
    """`GET /v1/runs/{id}/result`: as polling its ticket, but of this very generation."""
    prefer = preference(call.headers.get(b"prefer"))
    run = await call.services.runs.get(call.tenant, call.params["id"])
    if prefer.wait_s and not run.terminal:
        run = await call.services.intake.settled(run, prefer.wait_s)
    return await answer(call, run, *([(b"preference-applied", prefer.applied)] if prefer.applied else []))


async def explain(call: Call) -> Reply:
    """`GET /v1/runs/{id}/explain`: why it waits or failed, gate by gate."""
    return document(views.explanation(await call.services.runs.explain(call.tenant, call.params["id"])))


async def events(call: Call) -> Reply:
    """`GET /v1/runs/{id}/events`: what happened and what happens, as server-sent events, to the run's end."""
    run_id = call.params["id"]
    await call.services.runs.get(call.tenant, run_id)  # so that an unknown run is a 404, not an empty stream
    stream = call.services.runs.events(call.tenant, run_id, call.text(b"last-event-id"))
    return Reply(200, list(_STREAM), _frames(stream), live=True)


async def _frames(stream: AsyncIterator[RunEvent | None]) -> AsyncGenerator[bytes]:
    async for event in stream:
        yield _SILENCE if event is None else _frame(event)


def _frame(event: RunEvent) -> bytes:
    data = encode({**event.data, "at": msgspec.to_builtins(views.time(event.at))})
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (event.id.encode(), event.type.encode(), data)
