"""`logs`: what an app's workers print."""

from __future__ import annotations

import json
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final

import click

from penstock.cli.command import verb
from penstock.cli.names import APP
from penstock.cli.session import Session, say

__all__ = ["logs", "readable"]

_TOLD: Final = frozenset({"at", "level", "event", "worker", "app", "traceback"})


@verb()
@click.argument("app", type=APP)
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines, of new workers too; Ctrl-C ends it.")
@click.option(
    "--tail", type=click.IntRange(0, 10_000), default=100, show_default=True, help="So many last lines of each worker."
)
@click.option("--worker", metavar="UID", help="Of this worker only, though it may have ended.")
@click.option("--since", metavar="TIME", help="Of workers that ended since then too: 2030-01-31T12:00:00Z.")
@click.option("--raw", is_flag=True, help="Print the lines as they are.")
async def logs(session: Session, /, app: str, raw: bool, **wanted: Any) -> None:
    """Print what an app's workers print: of those that live, unless --worker or --since say otherwise."""
    said = False
    async with session.client() as client, aclosing(client.apps.logs(app, **wanted)) as lines:
        async for line in lines:
            said = True
            click.echo(line if raw else readable(line))
    if not said:
        say(
            f"No worker of {app} lives; --since TIME shows those that ended, and `penstock events {app}` what happened."
        )


def readable(line: str) -> str:
    """Give a line `[uid] {...}` of a worker's log as time, worker, level, event and fields; any other as it is."""
    uid, _, text = line.partition(" ")
    try:
        entry = json.loads(text)
        at = datetime.fromtimestamp(entry["at"]).astimezone()
        head = f"{at:%H:%M:%S.%f}"[:-3] + f" {uid} {entry['level']:<7} {entry['event']}"
    except (ValueError, KeyError, TypeError, OverflowError, OSError):
        return line
    fields = [f"{name}={_value(value)}" for name, value in entry.items() if name not in _TOLD]
    return "\n    ".join([" ".join([head, *fields]), *str(entry.get("traceback") or "").splitlines()])


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return repr(text) if " " in text or not text else text
