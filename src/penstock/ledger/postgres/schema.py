"""The schema's version: bringing it up to date, and telling whether this Penstock can work with it.

Old and new processes work side by side while a deployment rolls. So a migration only adds: what N-1 needs stays until
N+1. Each applied file is recorded with the oldest version of the code that still works with it; that is one less than
its own number, unless its first line says `-- oldest code: <number>`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final

import msgspec

from penstock.errors import Misconfigured

from .connection import ask, connect
from .errors import translated
from .place import Place

__all__ = ["VERSION", "Migration", "check", "migrate", "migrations"]


class Migration(msgspec.Struct, frozen=True):
    """One step of the schema."""

    version: int
    name: str
    oldest_code: int
    text: str


@cache
def migrations() -> tuple[Migration, ...]:
    """Give all steps that this Penstock knows, first to last."""
    folder = files("penstock.ledger.postgres.migrations")
    found = [(file.name, file.read_text("utf-8")) for file in folder.iterdir() if file.name.endswith(".sql")]
    return tuple(_migration(name, text) for name, text in sorted(found))


def _migration(name: str, text: str) -> Migration:
    version = int(name[:4])
    declared = re.match(r"-- oldest code: (\d+)\n", text)
    return Migration(version, name, int(declared[1]) if declared else max(1, version - 1), text)


VERSION: Final = 1

_TABLE: Final = """
    CREATE TABLE IF NOT EXISTS migrations (
        version     integer PRIMARY KEY,
        name        text        NOT NULL,
        oldest_code integer     NOT NULL,
        applied_at  timestamptz NOT NULL DEFAULT now()
    )"""
_STANDING: Final = "SELECT coalesce(max(version), 0), coalesce(max(oldest_code), 0) FROM migrations"


async def migrate(place: Place, steps: Sequence[Migration] | None = None) -> list[str]:
    """Bring a schema up to date; gives the names of the steps that were taken, each in a transaction of its own.

    Two at once wait for each other. Raises `Misconfigured` for a schema that is newer than this Penstock, and for a
    user that may not create what is needed.
    """
    connection = await connect(place)
    try:
        with translated(place.name):
            await connection.execute("SELECT pg_advisory_lock(hashtextextended($1, 0))", f"penstock {place.schema}")
            # Not `IF NOT EXISTS` alone: that asks for the right to create one even where it is there.
            if not await connection.fetchval("SELECT to_regnamespace($1) IS NOT NULL", place.schema):
                await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {place.schema}")
            await connection.execute(_TABLE)
            return await _take(connection, place, migrations() if steps is None else steps)
    finally:
        connection.terminate()


async def _take(connection: Any, place: Place, steps: Sequence[Migration]) -> list[str]:
    ((standing, oldest_code),) = await ask(connection, _STANDING)
    _refuse_newer(place, standing, oldest_code, known=steps[-1].version)
    taken = []
    for step in steps:
        if step.version > standing:
            async with connection.transaction():
                await connection.execute(step.text)
                await connection.execute(
                    "INSERT INTO migrations (version, name, oldest_code) VALUES ($1, $2, $3)",
                    step.version,
                    step.name,
                    step.oldest_code,
                )
            taken.append(step.name)
    return taken


async def check(connection: Any, place: Place) -> None:
    """See that the schema is one that this Penstock works with. Raises `Misconfigured` (what to do is in it)."""
    ((there,),) = await ask(connection, "SELECT to_regclass('migrations') IS NOT NULL")
    ((standing, oldest_code),) = await ask(connection, _STANDING) if there else [(0, 0)]
    if not standing:
        raise Misconfigured(
            f"ledger {place.name} has no schema {place.schema!r} of Penstock's yet: run `penstock migrate`"
        )
    if standing < VERSION:
        raise Misconfigured(
            f"ledger {place.name} has schema version {standing} and this Penstock needs {VERSION}: run "
            "`penstock migrate` (processes of the version before go on working)"
        )
    _refuse_newer(place, standing, oldest_code, known=VERSION)


def _refuse_newer(place: Place, standing: int, oldest_code: int, *, known: int) -> None:
    if oldest_code > known:
        raise Misconfigured(
            f"ledger {place.name} has schema version {standing}, which needs a Penstock that knows {oldest_code} at "
            f"least, and this one knows {known}: upgrade Penstock, or restore the backup that was made before"
        )
