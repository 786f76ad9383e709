"""`wait`: until a run or an app is as it should be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

import click

from penstock.cli.command import verb
from penstock.cli.failure import FAILED
from penstock.cli.names import kind_and_name
from penstock.cli.progress import waiting
from penstock.cli.session import Session, say
from penstock.errors import NotFound
from penstock.model.run import TERMINAL, State

if TYPE_CHECKING:
    from penstock.client import AsyncClient
    from penstock.model.documents import AppDocument

__all__ = ["wait"]

_LOOK_S: Final = 0.5
_RUN: Final = ("ended", "running", "succeeded", "failed", "cancelled")
_APP: Final[dict[str, Callable[[AppDocument], bool]]] = {
    "ready": lambda app: app.phase == "Ready",
    "idle": lambda app: app.queued == app.running == app.workers == 0,
    "drained": lambda app: app.queued == app.running == 0,
    "paused": lambda app: app.phase == "Paused",
    "deleted": lambda _: False,
}


@verb()
@click.argument("what", metavar="app/NAME|run/ID")
@click.option("--for", "condition", metavar="CONDITION", required=True, help="What to wait for.")
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="The longest wait.  [default: none]"
)
async def wait(session: Session, /, what: str, condition: str, timeout: float | None) -> None:
    r"""Wait until a condition holds. Exit code 1 if it can't hold any more, or when the time is over.

    \b
    of a run:  ended, running, succeeded, failed, cancelled
    of an app: ready, idle (no worker left), drained (no run left), paused, deleted
    """
    kind, _ = kind_and_name(what)
    wanted = condition.lower()
    known = {"run": _RUN, "app": tuple(_APP)}.get(kind)
    if known is None:
        raise click.UsageError("Wait for app/NAME or run/ID.")
    if wanted not in known:
        raise click.UsageError(f"A {kind} can be {', '.join(known)}, but not '{condition}'.")
    holds = await _within(session, what, wanted, timeout)
    if not holds:
        raise click.exceptions.Exit(FAILED)
    click.echo(f"{what} is {wanted}")


async def _within(session: Session, what: str, wanted: str, timeout_s: float | None) -> bool:
    kind, name = kind_and_name(what)
    try:
        with waiting(session, f"waiting for {what} to be {wanted}"):
            async with asyncio.timeout(timeout_s), session.client() as client:
                return await (_run if kind == "run" else _app)(client, name, wanted)
    except TimeoutError:
        say(f"{what} is not {wanted} after {timeout_s:g} s. Next: penstock describe {what}")
        return False


async def _run(client: AsyncClient, run_id: str, wanted: str) -> bool:
    await client.get(run_id)
    async with aclosing(client.events(run_id)) as events:
        async for event in events:
            state = State(event.data["state"])
            ended = state in TERMINAL
            if state.lower() == wanted or (wanted == "ended" and ended):
                return True
            if ended:
                say(f"run/{run_id} is {state}. Next: penstock explain {run_id}")
    return False


async def _app(client: AsyncClient, name: str, wanted: str) -> bool:
    while True:
        try:
            app = await client.apps.get(name)
        except NotFound:
            if wanted == "deleted":
                return True
            raise
        if _APP[wanted](app):
            return True
        await asyncio.sleep(_LOOK_S)
