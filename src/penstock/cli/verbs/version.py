"""`version`: what is installed here, and with `--server` what answers there."""

from __future__ import annotations

import platform
from typing import Any

import click

from penstock._version import __version__
from penstock.cli.command import verb
from penstock.cli.session import Session

__all__ = ["version"]


@verb()
@click.option("--server", is_flag=True, help="Ask the server for its version too.")
@click.option("-o", "--output", "form", type=click.Choice(["table", "json"]), default="table", help="How to print it.")
async def version(session: Session, server: bool, form: str) -> None:
    """Print the version of this program, and with --server that of the server."""
    found = {"client": __version__, "python": platform.python_version()}
    if server:
        async with session.client() as client:
            found["server"] = await client.version()
            found["api"] = session.address()[0]
    click.echo(_json(found) if form == "json" else _lines(found))


def _lines(found: dict[str, str]) -> str:
    lines = [f"penstock {found['client']} (Python {found['python']})"]
    if "server" in found:
        lines.append(f"server   {found['server']} ({found['api']})")
    return "\n".join(lines)


def _json(found: dict[str, Any]) -> str:
    import json

    return json.dumps(found, indent=2)
