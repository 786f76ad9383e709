"""`status`, `result`, `cancel`: a run by its app and ticket, or by its id."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from penstock.cli import kinds
from penstock.cli.command import verb
from penstock.cli.names import APP, kind_and_name
from penstock.cli.output import Format, output_option, print_one
from penstock.cli.results import out_option, write_result
from penstock.cli.session import Session
from penstock.cli.tickets import awaited
from penstock.model.ids import valid_run_id

if TYPE_CHECKING:
    from penstock.client import AsyncClient, Ticket
    from penstock.model.documents import RunDocument

__all__ = ["cancel", "result", "status"]


@verb()
@click.argument("app", type=APP)
@click.argument("ticket", required=False)
@output_option()
async def status(session: Session, /, app: str, ticket: str | None, form: Format) -> None:
    """Show where an app stands, or the run behind one of its tickets."""
    async with session.client() as client:
        if ticket is None:
            print_one(session, kinds.APPS, await client.apps.get(app), form)
        else:
            print_one(session, kinds.RUNS, await _behind(client, app, ticket), form)


@verb()
@click.argument("words", metavar="APP TICKET | RUN", nargs=-1, required=True)
@click.option("--wait", is_flag=True, help="Wait until the run ends.")
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="With --wait: the longest wait."
)
@out_option
async def result(
    session: Session, /, words: tuple[str, ...], wait: bool, timeout: float | None, out: Path | None
) -> None:
    """Fetch the result of a run. Exit code 1 if it has none, or none yet."""
    async with session.client() as client:
        ticket = await _ticket(client, words)
        ticket = await awaited(session, client, ticket, timeout if wait else 0.0)
    assert ticket.answer is not None
    write_result(ticket.answer.data, ticket.answer.content_type, out)


@verb()
@click.argument("words", metavar="APP TICKET | RUN...", nargs=-1, required=True)
@click.option("--message", default="", metavar="TEXT", help="Why, for those who ask later. Of runs named by id.")
async def cancel(session: Session, /, words: tuple[str, ...], message: str) -> None:
    """Cancel a run by app and ticket, or runs by their ids. It holds for everyone who waits for the run."""
    async with session.client() as client:
        if _are_runs(words):
            for run in words:
                done = await client.cancel_run(kind_and_name(run)[1], message)
                click.echo(f"run/{done.run_id} cancelled")
        else:
            app, ticket = _pair(words)
            done = await client.cancel(app, ticket)
            click.echo(f"run/{done.run_id} cancelled")


def _are_runs(words: tuple[str, ...]) -> bool:
    return all(kind_and_name(word)[0] == "run" or valid_run_id(word) for word in words)


def _pair(words: tuple[str, ...]) -> tuple[str, str]:
    if len(words) != 2:
        raise click.UsageError("Name an app and a ticket, or a run by its id (run/ID).")
    return APP.convert(words[0], None, None), words[1]


async def _behind(client: AsyncClient, app: str, ticket: str) -> RunDocument:
    """Give the record of the run behind a ticket, however it ended."""
    from penstock.client import RunFailed

    try:
        found = await client.status(app, ticket)
    except RunFailed as error:
        return await client.get(error.run_id)
    return await client.get(found.run_id)


async def _ticket(client: AsyncClient, words: tuple[str, ...]) -> Ticket:
    from penstock.client import Ticket

    if len(words) == 1 and _are_runs(words):
        run = await client.get(kind_and_name(words[0])[1])
        return Ticket(app=run.app, ticket="", run_id=run.id, state=run.state)  # this run, not its key's latest
    app, ticket = _pair(words)
    return await client.status(app, ticket)
