"""`pause`, `resume`, `drain`, `delete`: what is wanted of apps."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import click

from penstock.cli.command import verb
from penstock.cli.names import APP
from penstock.cli.session import Session, say

if TYPE_CHECKING:
    from penstock.client import AsyncClient
    from penstock.model.documents import AppDocument

__all__ = ["delete", "drain", "pause", "resume"]

_names = click.argument("names", metavar="APP...", type=APP, nargs=-1, required=True)


async def _wish(
    session: Session, names: tuple[str, ...], word: str, wish: Callable[[AsyncClient, str], Awaitable[AppDocument]]
) -> None:
    async with session.client() as client:
        for name in names:
            app = await wish(client, name)
            click.echo(f"app/{name} {word}")
            if app.queued or app.running:
                say(f"{name} has {app.queued} runs queued and {app.running} running")


@verb()
@_names
async def pause(session: Session, /, names: tuple[str, ...]) -> None:
    """Go on accepting runs, start none. What runs is finished."""
    await _wish(session, names, "paused", lambda client, name: client.apps.pause(name))


@verb()
@_names
async def resume(session: Session, /, names: tuple[str, ...]) -> None:
    """Accept and execute again."""
    await _wish(session, names, "resumed", lambda client, name: client.apps.resume(name))


@verb()
@_names
async def drain(session: Session, /, names: tuple[str, ...]) -> None:
    """Accept nothing new, finish what is queued. `penstock wait app/NAME --for drained` waits for the end."""
    await _wish(session, names, "draining", lambda client, name: client.apps.drain(name))


@verb()
@_names
@click.option("--force", is_flag=True, help="Cancel the runs that are queued or running; without it they keep the app.")
@click.option("--yes", is_flag=True, help="Don't ask.")
async def delete(session: Session, /, names: tuple[str, ...], force: bool, yes: bool) -> None:
    """Forget apps. Their results are kept for their time."""
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("Nobody is there to ask: confirm with --yes.")
        what = ", ".join(names) + (" and cancel their runs" if force else "")
        click.confirm(f"Forget {what}?", abort=True, err=True)
    async with session.client() as client:
        for name in names:
            await client.apps.delete(name, force=force)
            click.echo(f"app/{name} deleted")
