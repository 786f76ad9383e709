"""`penstock config check`: the settings of a process as they would be used here, and what each backend promises."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from penstock.cli.command import translated
from penstock.cli.output import Format, as_json, output_option, rows
from penstock.cli.session import Session, say
from penstock.cli.verbs.config import config
from penstock.errors import Misconfigured

from .settings import Settings, masked, read_settings

__all__ = ["Checked", "check", "checked", "config"]

_EVERY_ROLE: Final = "gateway,controller"


class Checked(msgspec.Struct, frozen=True):
    """The settings with every secret masked, and the sentence that each backend says of itself."""

    settings: dict[str, Any]
    promises: dict[str, str]


@config.command()
@click.option("--roles", metavar="ROLE,...", default=_EVERY_ROLE, help="Check for a process with these roles only.")
@click.option("--state", type=click.Path(file_okay=False), help="The folder that keeps everything.")
@click.option(
    "--settings", "file", type=click.Path(dir_okay=False, exists=True, path_type=Path), help="A settings file."
)
@output_option(Format.TABLE, Format.JSON)
@click.pass_obj
def check(session: Session, /, roles: str, state: str | None, file: Path | None, form: Format) -> None:
    """Print the settings that `up` or `serve` would use here, secrets masked, and what each backend promises to keep.

    Nothing is connected to: `penstock doctor` does that. Exit code 1 if a process with these settings would not start.
    """
    settings = translated(lambda: read_settings(session.environ, file=file, flags={"state": state}))
    found = translated(lambda: checked(settings, session.environ, roles.split(",")))
    if form is Format.JSON:
        click.echo(as_json(found))
        return
    for line in rows(["SETTING", "VALUE"], [[name, str(value)] for name, value in found.settings.items()]):
        click.echo(line)
    click.echo()
    for line in rows(["BACKEND", "PROMISES"], [[name, promise] for name, promise in found.promises.items()]):
        click.echo(line)
    say("These settings can be used. `penstock doctor` tries each backend.")


def checked(settings: Settings, environ: Mapping[str, str], roles: list[str]) -> Checked:
    """Give the settings for people to read, and what each backend promises.

    Raises:
        Misconfigured: a process with these roles would not start; says what to set.
    """
    try:
        return Checked(masked(settings), dict(_promises(settings, environ, roles)))
    except ModuleNotFoundError as error:
        raise Misconfigured(f"{error.name} is not installed: serving needs pip install 'penstock[server]'") from error


def _promises(settings: Settings, environ: Mapping[str, str], names: list[str]) -> Iterator[tuple[str, str]]:
    from penstock.compute import open_compute
    from penstock.ledger import open_ledger
    from penstock.queue import open_queue
    from penstock.store import open_store

    from .clock import SystemClock
    from .door import refuse_open_doors
    from .roles import Role, read_roles, refuse_private_parts, worker_api

    roles, clock = read_roles(names), SystemClock()
    refuse_open_doors(settings)
    ledger = open_ledger(settings.ledger, clock=clock)
    queue = open_queue(settings.queue, clock=clock, environ=environ)
    stores = {"store": open_store(settings.store, clock=clock, random=os.urandom, environ=environ)}
    if settings.control_store not in ("", settings.store):
        url = settings.control_store
        stores["control_store"] = open_store(url, clock=clock, random=os.urandom, environ=environ)
    refuse_private_parts(settings, roles, ledger, queue, *stores.values())
    yield "ledger", ledger.features.durability
    yield "queue", queue.features.durability
    yield from ((name, store.features.durability) for name, store in stores.items())
    if Role.CONTROLLER in roles:
        worker_api(settings, roles, settings.public_url or "its own")
        compute = open_compute(settings.compute, clock=clock, randomness=os.urandom, base_env=dict(environ))
        yield "compute", compute.features.describes
