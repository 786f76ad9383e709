"""`apply` and `diff`: apps made what their YAML says."""

from __future__ import annotations

import json
from typing import Any, Final

import click

from penstock.cli.command import verb
from penstock.cli.failure import FAILED
from penstock.cli.output import Format, as_json, output_option
from penstock.cli.session import Session, say
from penstock.cli.specs import Source, read_apps, sources_option
from penstock.model.documents import AppliedDocument

__all__ = ["apply", "diff"]

_LONGEST: Final = 100


@verb()
@sources_option
@click.option("--dry-run", is_flag=True, help="Change nothing; say what would change.")
@output_option(Format.TABLE, Format.JSON, Format.NAME)
async def apply(session: Session, /, files: tuple[str, ...], recursive: bool, dry_run: bool, form: Format) -> None:
    """Make apps what their YAML says.

    All specs are checked before any is applied. A handler's relative path is resolved against the folder of its file.
    """
    sources = read_apps(files, recursive=recursive)
    done = await _applied(session, sources, dry_run=dry_run)
    match form:
        case Format.JSON:
            click.echo(as_json({"items": done}))
        case Format.NAME:
            for each in done:
                click.echo(f"app/{each.name}")
        case _:
            for each in done:
                _print(each)
    fresh = next((each.name for each in done if each.created), None)
    if fresh is not None and not dry_run:
        say(f"Next: penstock submit {fresh} -d '{{\"x\": 1}}' --wait")


@verb()
@sources_option
async def diff(session: Session, /, files: tuple[str, ...], recursive: bool) -> None:
    """Show what an apply would change. Exit code 1 if there is a difference, 0 if there is none."""
    done = await _applied(session, read_apps(files, recursive=recursive), dry_run=True)
    differing = [each for each in done if each.created or each.changes]
    for each in differing:
        _print(each)
    if differing:
        raise click.exceptions.Exit(FAILED)


async def _applied(session: Session, sources: list[Source], *, dry_run: bool) -> list[AppliedDocument]:
    async with session.client() as client:
        return [await client.apps.apply(source.app, dry_run=dry_run) for source in sources]


def _print(done: AppliedDocument) -> None:
    what = "created" if done.created else "configured" if done.changes else "unchanged"
    note = " (dry run)" if done.dry_run else f" (generation {done.generation})" if what == "configured" else ""
    click.echo(f"app/{done.name} {what}{note}")
    for change in done.changes:
        click.echo(f"  {change.pointer}: {_shown(change.before)} -> {_shown(change.after)}")


def _shown(value: Any) -> str:
    if value is None:
        return "(none)"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
