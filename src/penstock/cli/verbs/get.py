"""`get`: apps, runs and workers, as lists or one by one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from penstock.cli import kinds
from penstock.cli.command import verb
from penstock.cli.names import kind_and_name
from penstock.cli.output import Format, Kind, output_option, print_many, print_one
from penstock.cli.session import Session
from penstock.cli.watching import Watch, follow, watch_option
from penstock.errors import NotFound

if TYPE_CHECKING:
    from penstock.client import AsyncClient

__all__ = ["get"]

_KINDS: Final = {"app": "app", "apps": "app", "run": "run", "runs": "run", "worker": "worker", "workers": "worker"}
_MOST: Final = 50


class _Wanted(NamedTuple):
    """What to get: things of one kind, all that pass the filters or those named."""

    names: Sequence[str]
    app: str | None
    state: str | None
    limit: int


class _Way(NamedTuple):
    """How things of one kind are shown, listed and looked up."""

    kind: Kind[Any]
    listing: Callable[[AsyncClient, _Wanted], Awaitable[Sequence[Any]]]
    one: Callable[[AsyncClient, str], Awaitable[Any]]


async def _apps(client: AsyncClient, wanted: _Wanted) -> Sequence[Any]:
    del wanted
    return [app async for app in client.apps.list()]


async def _runs(client: AsyncClient, wanted: _Wanted) -> Sequence[Any]:
    filters = {"app": wanted.app, "state": wanted.state}
    chosen = {key: value for key, value in filters.items() if value is not None}
    return [run async for run in client.runs(most=wanted.limit, **chosen)]


async def _workers(client: AsyncClient, wanted: _Wanted) -> Sequence[Any]:
    return await client.workers(app=wanted.app, state=wanted.state)


async def _worker(client: AsyncClient, uid: str) -> Any:
    for worker in await client.workers():
        if worker.worker_uid == uid:
            return worker
    raise NotFound(f"no worker named {uid!r} lives; `penstock get workers` lists those that do")


_WAYS: Final = {
    "app": _Way(kinds.APPS, _apps, lambda client, name: client.apps.get(name)),
    "run": _Way(kinds.RUNS, _runs, lambda client, name: client.get(name)),
    "worker": _Way(kinds.WORKERS, _workers, _worker),
}


@verb()
@click.argument("kind", metavar="apps|runs|workers|KIND/NAME")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--app", metavar="APP", help="Of runs and workers: those of this app.")
@click.option("--state", metavar="STATE", type=str.upper, help="Of runs and workers: those in this state.")
@click.option("--limit", type=click.IntRange(1), default=_MOST, show_default=True, help="The most runs to list.")
@output_option()
@watch_option
async def get(
    session: Session, /, kind: str, names: tuple[str, ...], form: Format, watch: bool, **filters: Any
) -> None:
    r"""List apps, runs or workers, or show those named.

    \b
    penstock get apps
    penstock get runs --app echo --state FAILED
    penstock get run 0198...   (or run/0198...)
    penstock get workers -w
    """
    kind, names = _parsed(kind, names)
    wanted, way = _Wanted(names, **filters), _WAYS[kind]
    async with session.client() as client:
        if watch:
            await follow(Watch(session, way.kind, form), lambda: _fetched(client, way, wanted))
        elif len(names) == 1:
            print_one(session, way.kind, await way.one(client, names[0]), form)
        else:
            print_many(session, way.kind, await _fetched(client, way, wanted), form)


async def _fetched(client: AsyncClient, way: _Way, wanted: _Wanted) -> Sequence[Any]:
    if wanted.names:
        return [await way.one(client, name) for name in wanted.names]
    return await way.listing(client, wanted)


def _parsed(kind: str, names: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Give the kind and the bare names of `runs`, `run ID` or `run/ID ...`."""
    named = [kind_and_name(text) for text in (kind, *names)]
    if named[0][0]:
        kind = named[0][0]
        names = tuple(name for _, name in named)
    else:
        names = tuple(name for _, name in named[1:])
    if kind not in _KINDS:
        raise click.UsageError(f"There are apps, runs and workers, but no '{kind}'.")
    others = {_KINDS.get(other, other) for other, _ in named if other} - {_KINDS[kind]}
    if others:
        raise click.UsageError(f"Ask for one kind at a time: '{min(others)}' is another than '{_KINDS[kind]}'.")
    return _KINDS[kind], names
