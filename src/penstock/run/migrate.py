"""`penstock migrate`: the ledger's schema is brought up to date, once, before processes of a new version start."""

from __future__ import annotations

from pathlib import Path

import click

from penstock.cli.command import translated
from penstock.cli.session import Session, say
from penstock.errors import Misconfigured

from .settings import Settings, masked, read_settings

__all__ = ["migrate"]


@click.command()
@click.option("--state", type=click.Path(file_okay=False), help="The folder that keeps everything.")
@click.option(
    "--settings", "file", type=click.Path(dir_okay=False, exists=True, path_type=Path), help="A settings file."
)
@click.pass_obj
def migrate(session: Session, /, state: str | None, file: Path | None) -> None:
    """Bring the schema of the configured ledger up to date, and print the steps that were taken.

    A PostgreSQL ledger is never migrated by itself, for others may be at work on it. Run this before the processes of a
    new version start; those of the version before go on working meanwhile. Done twice it does nothing. A ledger in a file
    of this machine needs no such step.
    """
    settings = translated(lambda: read_settings(session.environ, file=file, flags={"state": state}))
    taken = translated(lambda: _migrate(settings))
    for step in taken:
        click.echo(step)
    where = masked(settings)["ledger"]
    say(f"{where} is up to date now." if taken else f"{where} was up to date.")


async def _migrate(settings: Settings) -> list[str]:
    if settings.ledger.startswith("sqlite:"):
        return []  # it is brought up to date by the one process that opens it
    try:
        from penstock.ledger import migrate as bring_up_to_date
    except ModuleNotFoundError as error:
        raise Misconfigured(f"{error.name} is not installed: install penstock[server]") from error
    return await bring_up_to_date(settings.ledger)
