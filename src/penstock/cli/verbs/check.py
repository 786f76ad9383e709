"""`validate` and `schema`: what can be said of a spec without a server."""

from __future__ import annotations

import click

from penstock.cli.command import translated
from penstock.cli.output import Format, as_json, as_yaml, output_option
from penstock.cli.specs import read_apps, sources_option

__all__ = ["schema", "validate"]


@click.command()
@sources_option
def validate(files: tuple[str, ...], recursive: bool) -> None:
    """Check specs without applying them.

    Every fault of every file is told as file:line:column. No server is asked.
    """
    sources = translated(lambda: read_apps(files, recursive=recursive))
    for source in sources:
        click.echo(f"app/{source.app.name} is valid ({source.file})")


@click.command()
@output_option(Format.JSON, Format.YAML)
def schema(form: Format) -> None:
    """Print the JSON Schema of an app's YAML, for editors.

    In VS Code: `penstock schema > penstock.schema.json`, and name that file under `yaml.schemas`.
    """
    from penstock import manifest

    document = manifest.schema()
    click.echo(as_json(document) if form is Format.JSON else as_yaml(document), nl=form is Format.JSON)
