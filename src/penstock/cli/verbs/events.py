"""`events`: what happened to an app or to a run, and with `-f` what happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Final

import click
import msgspec

from penstock.cli import kinds
from penstock.cli.command import verb
from penstock.cli.names import kind_and_name
from penstock.cli.output import Format, Layout, output_option, print_many
from penstock.cli.session import Session
from penstock.cli.watching import LOOK_S

if TYPE_CHECKING:
    from penstock.client import AsyncClient
    from penstock.model.documents import AppEventDocument, RunEventDocument

__all__ = ["events"]

_SILENCE_S: Final = 0.5


@verb()
@click.argument("what", metavar="APP|run/ID")
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens; of a run, to its end.")
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="The most events of an app.")
@output_option(Format.TABLE, Format.JSON)
async def events(session: Session, /, what: str, follow: bool, limit: int, form: Format) -> None:
    """Show what happened to an app, or to a run (run/ID), oldest first."""
    kind, name = kind_and_name(what)
    async with session.client() as client:
        if kind == "run":
            await _of_run(client, name, form, follow=follow)
        elif kind not in ("", "app"):
            raise click.UsageError("There are events of apps and runs: penstock events APP, or run/ID.")
        elif follow:
            await _follow_app(session, client, name, form)
        else:
            happened = await client.apps.events(name, limit=limit)
            print_many(session, kinds.EVENTS, happened[::-1], form)


async def _follow_app(session: Session, client: AsyncClient, app: str, form: Format) -> None:
    layout = Layout(kinds.EVENTS, form, colours=session.colours)
    async for event in _as_they_come(client, app):
        for line in layout.lines([event], now=session.now()):
            click.echo(line)


async def _as_they_come(client: AsyncClient, app: str) -> AsyncGenerator[AppEventDocument]:
    last = 0
    while True:
        for event in (await client.apps.events(app, after=last))[::-1]:
            last = event.id
            yield event
        await asyncio.sleep(LOOK_S)


async def _of_run(client: AsyncClient, run_id: str, form: Format, *, follow: bool) -> None:
    await client.get(run_id)
    async with aclosing(client.events(run_id)) as happening:
        while (event := await _next(happening, None if follow else _SILENCE_S)) is not None:
            click.echo(msgspec.json.encode(event) if form is Format.JSON else _line(event))


async def _next(happening: AsyncGenerator[RunEventDocument], patience_s: float | None) -> RunEventDocument | None:
    """Give the next event, or None at the end, or when nothing comes in time: what has happened comes at once."""
    with suppress(TimeoutError):
        async with asyncio.timeout(patience_s):
            return await anext(happening, None)
    return None


def _line(event: RunEventDocument) -> str:
    data = " ".join(f"{name}={value}" for name, value in event.data.items() if value not in (None, "", False))
    return f"{event.at.astimezone():%H:%M:%S.%f}"[:-3] + f"  {event.type:<10} {data}".rstrip()
