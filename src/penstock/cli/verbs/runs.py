"""`runs`, `explain`, `retry`, `redrive`: the uniform view of everything that was accepted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import click

from penstock.cli import kinds
from penstock.cli.command import verb
from penstock.cli.names import APP, RUN
from penstock.cli.output import Format, as_json, as_yaml, output_option, print_many
from penstock.cli.session import Session, say
from penstock.cli.watching import Watch, follow, watch_option
from penstock.model.documents import RunDocument
from penstock.model.run import Lane, Reason, State

__all__ = ["explain", "redrive", "retry", "runs"]

_STATES: Final = [state.value for state in State]
_REASONS: Final = [reason.value for reason in Reason]


def _filters(function: Callable[..., Any]) -> Callable[..., Any]:
    """Declare the options that choose among runs; all of those given must hold."""
    for option in (
        click.option(
            "--since", metavar="TIME", help="Accepted since then: 2030-01-31T12:00:00Z, or seconds since 1970."
        ),
        click.option("--lane", type=click.Choice([lane.value for lane in Lane]), help="In this lane."),
        click.option("--parent", metavar="APP/RUN", help="Belonging to this run."),
        click.option("--tag", metavar="TAG", help="With this tag."),
        click.option(
            "--reason", metavar="REASON", type=click.Choice(_REASONS, case_sensitive=False), help="For this reason."
        ),
        click.option("--app", type=APP, metavar="APP", help="Of this app."),
    ):
        function = option(function)
    return function


def _given(filters: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in filters.items() if value is not None}


@verb()
@_filters
@click.option("--state", type=click.Choice(_STATES, case_sensitive=False), help="In this state.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="The most runs to list.")
@output_option()
@watch_option
async def runs(session: Session, /, limit: int, form: Format, watch: bool, **filters: Any) -> None:
    """List runs, newest first; all filters given must hold."""
    wanted = _given(filters)
    async with session.client() as client:

        async def fetch() -> Sequence[RunDocument]:
            return [run async for run in client.runs(most=limit, **wanted)]

        if watch:
            await follow(Watch(session, kinds.RUNS, form), fetch)
        else:
            print_many(session, kinds.RUNS, await fetch(), form)


@verb()
@click.argument("run", type=RUN)
@output_option(Format.TABLE, Format.JSON, Format.YAML)
async def explain(session: Session, /, run: str, form: Format) -> None:
    """Say why a run waits, failed or succeeded, gate by gate."""
    async with session.client() as client:
        found = await client.explain(run)
    if form is not Format.TABLE:
        click.echo(as_json(found) if form is Format.JSON else as_yaml(found), nl=form is Format.JSON)
        return
    click.echo(f"{found.summary}.")
    for line in kinds.steps(found.steps, session.now()):
        click.echo(f"  {line}")


@verb()
@click.argument("runs", type=RUN, nargs=-1, required=True)
async def retry(session: Session, /, runs: tuple[str, ...]) -> None:
    """Start FAILED runs anew, with the same bodies. Each gets a new id, which is printed."""
    async with session.client() as client:
        for run in runs:
            again = await client.retry(run, idempotency_key=f"retry-{run}")
            click.echo(f"run/{again.id}")
            say(f"generation {again.generation} of {again.ticket} is {again.state}")


@verb()
@_filters
@click.option("--yes", is_flag=True, help="Don't ask.")
async def redrive(session: Session, /, yes: bool, **filters: Any) -> None:
    """Retry all FAILED runs that match; all filters given must hold."""
    wanted = _given(filters)
    if not yes:
        which = ", ".join(f"{name} {value}" for name, value in wanted.items()) or "of all apps"
        click.confirm(f"Retry all FAILED runs ({which})?", abort=True, err=True)
    async with session.client() as client:
        count = await client.redrive(**wanted)
    click.echo(f"{count} runs started anew" if count != 1 else "1 run started anew")
