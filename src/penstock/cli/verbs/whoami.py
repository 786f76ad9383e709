"""`whoami`: who the server takes us for."""

from __future__ import annotations

import click

from penstock.cli.command import verb
from penstock.cli.output import Format, as_json, as_yaml, output_option
from penstock.cli.session import Session

__all__ = ["whoami"]


@verb()
@output_option(Format.TABLE, Format.JSON, Format.YAML)
async def whoami(session: Session, form: Format) -> None:
    """Show subject, tenant and scopes of the credential in use."""
    async with session.client() as client:
        who = await client.whoami()
    if form is not Format.TABLE:
        click.echo(as_json(who) if form is Format.JSON else as_yaml(who), nl=form is Format.JSON)
        return
    click.echo(f"{who.sub} of tenant {who.tenant}")
    for scope in who.scopes:
        click.echo(f"  {scope}")
