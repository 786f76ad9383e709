"""The operator face: apps, what they do, and the workers that serve them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from penstock import manifest
from penstock.errors import Conflict, Fault, Invalid, Malformed
from penstock.ledger.commands import Clear, LaneCount
from penstock.model.app import App, DesiredState
from penstock.model.documents import (
    AppEventPage,
    AppliedDocument,
    AppPage,
    AppsQuery,
    DecisionPage,
    Document,
    Limit,
    WorkerPage,
)
from penstock.model.fleet import ENDED, WorkerState

from . import views
from .asgi import HeaderPair
from .body import DOCUMENT_MAX_BYTES, read
from .call import Call
from .reply import Reply, document, safe_value
from .services import Services

__all__ = [
    "ApplyQuery",
    "DeleteQuery",
    "PageQuery",
    "WorkersQuery",
    "apply",
    "decisions",
    "delete",
    "drain",
    "events",
    "get",
    "listing",
    "pause",
    "resume",
    "schema",
    "spec",
    "workers",
]

_YAML: Final[HeaderPair] = (b"content-type", b"application/yaml")


class ApplyQuery(Document, frozen=True, kw_only=True):
    """How to apply: with `dry_run` nothing is written and the answer says what would change."""

    dry_run: bool = False


class DeleteQuery(Document, frozen=True, kw_only=True):
    """How to delete: with `force` the app's live runs are cancelled, without it they keep it alive."""

    force: bool = False


class PageQuery(Document, frozen=True, kw_only=True):
    """Which part of a list: at most `limit` items, and of events those with an id above `after`."""

    limit: Limit = 50
    after: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0


class WorkersQuery(Document, frozen=True, kw_only=True):
    """Which workers: the live ones, unless a state of those that ended is asked for."""

    app: str | None = None
    state: WorkerState | None = None
    limit: Limit = 50


async def listing(call: Call) -> Reply:
    """`GET /v1/apps`: by name."""
    query = call.query(AppsQuery)
    entries = [entry for entry in call.services.catalog.all() if query.after is None or entry.app.name > query.after]
    page, more = entries[: query.limit], len(entries) > query.limit
    lanes = await call.services.ledger.lanes()
    status = call.services.controller.status
    items = tuple(views.app(entry, status(entry.app.name), lanes) for entry in page)
    return document(AppPage(items, page[-1].app.name if more else None))


async def get(call: Call) -> Reply:
    """`GET /v1/apps/{name}`: its spec and what it is doing."""
    entry = call.services.catalog.get(call.params["name"])
    lanes = await call.services.ledger.lanes()
    return document(views.app(entry, call.services.controller.status(entry.app.name), lanes), 200, _etag(entry.etag))


async def spec(call: Call) -> Reply:
    """`GET /v1/apps/{name}/spec`: YAML that can be applied again."""
    entry = call.services.catalog.get(call.params["name"])
    return Reply(200, [_YAML, _etag(entry.etag)], manifest.emit(entry.app).encode())


async def apply(call: Call) -> Reply:
    """`PUT /v1/apps/{name}`: make the body (YAML, or JSON which is YAML too) the app's spec."""
    query = call.query(ApplyQuery)
    app = _parsed(await read(call, DOCUMENT_MAX_BYTES), call.params["name"])
    if_match = _unquoted(call.text(b"if-match"))
    applied = await call.services.catalog.apply(app, if_match=if_match, dry_run=query.dry_run)
    entry = applied.entry
    done = AppliedDocument(
        name=app.name,
        generation=entry.generation,
        etag=entry.etag,
        created=applied.created,
        changes=applied.changes,
        dry_run=query.dry_run,
    )
    if not query.dry_run:
        call.services.controller.nudge(app.name)
    return document(done, 201 if applied.created and not query.dry_run else 200, _etag(entry.etag))


def _parsed(data: bytes, name: str) -> App:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise Malformed("the spec must be UTF-8 text") from error
    apps = manifest.parse(text, source="spec")
    if len(apps) != 1:
        raise Invalid(f"send one app, not {len(apps)}")
    if apps[0].name != name:
        fault = Fault("/metadata/name", f"the spec names {apps[0].name!r}, the URL {name[:40]!r}")
        raise Invalid("the spec and the URL name different apps", faults=[fault])
    return apps[0]


async def delete(call: Call) -> Reply:
    """`DELETE /v1/apps/{name}`: forget it; `?force=true` cancels its live runs first."""
    services, name = call.services, call.params["name"]
    force = call.query(DeleteQuery).force
    services.catalog.get(name)
    live = _live(name, await services.ledger.lanes())
    if live and not force:
        raise Conflict(f"app {name!r} has {live} live runs; drain it first, or delete with ?force=true to cancel them")
    await services.catalog.delete(name)
    await _clear(services, name)
    services.controller.nudge(name)
    return Reply(204, [])


def _live(name: str, lanes: Sequence[LaneCount]) -> int:
    return sum(lane.queued + lane.running for lane in lanes if lane.app == name)


async def _clear(services: Services, name: str) -> None:
    """Cancel what still lives of a deleted app, and tell those who wait."""
    while runs := await services.ledger.clear(Clear(app=name)):
        await services.broker.returned(runs)


async def pause(call: Call) -> Reply:
    """`POST /v1/apps/{name}/pause`: go on accepting, start nothing."""
    return await _wish(call, DesiredState.PAUSED)


async def resume(call: Call) -> Reply:
    """`POST /v1/apps/{name}/resume`: accept and execute again."""
    return await _wish(call, DesiredState.READY)


async def drain(call: Call) -> Reply:
    """`POST /v1/apps/{name}/drain`: accept nothing new, finish what is queued."""
    return await _wish(call, DesiredState.DRAINING)


async def _wish(call: Call, wish: DesiredState) -> Reply:
    entry = await call.services.catalog.set_desired_state(call.params["name"], wish)
    call.services.controller.nudge(entry.app.name)
    return await get(call)


async def events(call: Call) -> Reply:
    """`GET /v1/apps/{name}/events`: what happened to it, newest first."""
    query = call.query(PageQuery)
    entry = call.services.catalog.get(call.params["name"])
    found = await call.services.ledger.events(entry.app.name, query.after, query.limit)
    return document(AppEventPage(tuple(views.event(event) for event in reversed(found))))


async def decisions(call: Call) -> Reply:
    """`GET /v1/apps/{name}/decisions`: its placements, newest first, with each candidate's fate."""
    query = call.query(PageQuery)
    entry = call.services.catalog.get(call.params["name"])
    found = await call.services.ledger.decisions(entry.app.name, query.limit)
    return document(DecisionPage(tuple(views.decision(decision) for decision in found)))


async def workers(call: Call) -> Reply:
    """`GET /v1/workers`: newest first."""
    query = call.query(WorkersQuery)
    found = await call.services.ledger.workers(app=query.app, live=query.state not in ENDED)
    wanted = [worker for worker in found if query.state in (None, worker.state)]
    return document(WorkerPage(tuple(views.worker(worker) for worker in wanted[: query.limit])))


async def schema(_: Call) -> Reply:
    """`GET /v1/schema`: the JSON Schema of an app's YAML, for editors."""
    return Reply(200, [(b"content-type", b"application/schema+json")], msgspec.json.encode(manifest.schema()))


def _etag(etag: str) -> HeaderPair:
    return (b"etag", b'"%s"' % safe_value(etag, b""))


def _unquoted(value: str | None) -> str | None:
    if value is None:
        return None
    return value.strip().removeprefix("W/").strip('"')
