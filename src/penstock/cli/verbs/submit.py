"""`submit`: an input goes in; the result comes back, or a ticket for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from penstock.cli.command import verb
from penstock.cli.inputs import body_of, parameters
from penstock.cli.names import APP
from penstock.cli.output import Format, as_json, output_option
from penstock.cli.progress import waiting
from penstock.cli.results import out_option, write_result
from penstock.cli.session import Session, say
from penstock.cli.tickets import awaited, noted

if TYPE_CHECKING:
    from penstock.client import Ticket

__all__ = ["submit"]

_AT_ONCE_S: Final = 3.0


@verb(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.argument("app", type=APP)
@click.option("-d", "--data", metavar="JSON|@FILE|-", help="The input: JSON, a file, or standard input.")
@click.option("--wait", "mode", flag_value="wait", help="Wait until the run ends.")
@click.option("--async", "mode", flag_value="async", help="Don't wait at all: print the ticket.")
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="With --wait: the longest wait."
)
@click.option("--content-type", metavar="TYPE", help="What the input is.  [default: told by the file's name]")
@click.option(
    "--rid", metavar="KEY", help="The run's key: the same key is the same run. It goes into the JSON as _rid."
)
@click.option("--priority", type=click.IntRange(0, 9), help="9 is served first, 0 last.  [default: 5]")
@click.option(
    "--deadline", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="The longest wait in the queue."
)
@click.option("--tag", metavar="TAG", help="A word to find the run by.")
@click.option("--parent", metavar="APP/RUN", help="The run that this one belongs to.")
@click.option("--idempotency-key", metavar="KEY", help="Makes it safe to submit again.")
@out_option
@output_option(Format.TABLE, Format.JSON, Format.NAME)
@click.pass_context
async def submit(ctx: click.Context, session: Session, /, app: str, **options: Any) -> None:
    r"""Send an input to APP, and print its result or, if that takes longer, its ticket.

    Without --wait or --async the server decides how long it waits, 3 s as a rule.

    \b
    penstock submit echo -d '{"x": 1}'
    penstock submit echo --x 1 --name "Ada" --wait
    penstock submit digits -d @seven.png --wait
    TICKET=$(penstock submit echo -d @big.json --async)

    Options that are none of penstock's are parameters: they make up a JSON object, or are added to that of -d.
    """
    body = body_of(options["data"], parameters(ctx.args), content_type=options["content_type"], rid=options["rid"])
    ticket = await _handed_in(session, app, body.data, body.content_type, options)
    _print(ticket, options["form"], options["out"])


async def _handed_in(session: Session, app: str, data: bytes, content_type: str, options: dict[str, Any]) -> Ticket:
    wishes = {
        name: options[name]
        for name in ("priority", "deadline", "tag", "parent", "idempotency_key")
        if options[name] is not None
    }
    if options["mode"] == "async":
        wishes["wait"] = 0
    timeout = options["timeout"] if options["mode"] == "wait" else None
    if timeout is not None:
        wishes["wait"] = min(timeout, _AT_ONCE_S)
    async with session.client() as client:
        with waiting(session, f"submitted to {app}"):
            ticket = await client.submit(app, data, content_type=content_type, **wishes)
        if ticket.rid_reused:
            say("An earlier input with this key won: this is its run, not a new one.")
        if options["mode"] == "wait" and ticket.answer is None:
            return await awaited(session, client, ticket, timeout and max(0.0, timeout - _AT_ONCE_S))
        return ticket


def _print(ticket: Ticket, form: Format, out: Path | None) -> None:
    if ticket.answer is not None and form is Format.TABLE:
        write_result(ticket.answer.data, ticket.answer.content_type, out)
        return
    match form:
        case Format.JSON:
            click.echo(as_json(noted(ticket)))
        case Format.NAME:
            click.echo(f"run/{ticket.run_id}")
        case _:
            click.echo(ticket.ticket)
            say(
                f"run/{ticket.run_id} is {ticket.state}, {ticket.position} before it. "
                f"Next: penstock result {ticket.app} {ticket.ticket} --wait"
            )
