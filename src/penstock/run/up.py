"""`penstock up`: everything on this machine, in one process with real child processes as workers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from penstock._version import __version__
from penstock.cli.command import translated
from penstock.cli.session import DEFAULT_API, Session, say
from penstock.errors import Misconfigured

if TYPE_CHECKING:
    from .platform import Platform
    from .settings import Settings

__all__ = ["greeting", "up"]

_LEVELS: Final = ("debug", "info", "warning", "error")
_EXAMPLE: Final = Path("examples/echo/app.yaml")


@click.command()
@click.option("--host", help="The address to serve at; a loopback address.  [default: 127.0.0.1]")
@click.option(
    "--port", type=click.IntRange(0, 65_535), help="The port to serve at; 0 takes a free one.  [default: 8080]"
)
@click.option("--state", type=click.Path(file_okay=False), help="The folder that keeps everything.")
@click.option(
    "--settings", "file", type=click.Path(dir_okay=False, exists=True, path_type=Path), help="A settings file."
)
@click.option("--log-level", type=click.Choice(_LEVELS), help="The least level that is logged.  [default: info]")
@click.pass_obj
def up(session: Session, /, file: Path | None, **flags: str | int | None) -> None:
    """Start everything on this machine: ledger, queue, store, gateway, controller, workers.

    It serves until SIGTERM or Ctrl-C, and then gives its workers 10 s to finish; a second Ctrl-C stops at once. What it
    accepted is kept in the state folder: the next start goes on where this one was, even after a kill -9.

    Settings are read from penstock.yaml, then from variables such as PENSTOCK__PORT, then from these options.
    """
    from .settings import read_settings

    settings = translated(lambda: read_settings(session.environ, file=file, flags=flags))
    translated(lambda: _serve(settings, session))


def _serve(settings: Settings, session: Session) -> None:
    try:
        from . import logs
        from .platform import serve_until_told
    except ModuleNotFoundError as error:
        raise Misconfigured(f"{error.name} is not installed: serving needs pip install 'penstock[server]'") from error
    logs.start(settings.log_level, colours=session.lively and not session.colourless)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve_until_told(settings, session.environ, lambda platform: say(greeting(platform))))


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    """Give uvloop's event loop, or None for Python's own where there is no uvloop."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop


def greeting(platform: Platform) -> str:
    """Give what a newcomer wants to know once it serves: where it is, where it keeps things, what to type next."""
    lines = [
        f"Penstock {__version__} serves at {platform.url}",
        "",
        f"  state   {platform.settings.state}",
        f"  docs    {platform.url}/docs",
        f"  stop    Ctrl-C; workers get {platform.settings.drain_seconds:g} s to finish",
        f"  next    {_next(platform)}",
    ]
    if platform.url != DEFAULT_API:
        lines.insert(-1, f"  first   export PENSTOCK_API={platform.url}")
    return "\n".join(lines) + "\n"


def _next(platform: Platform) -> str:
    known = [entry.app.name for entry in platform.catalog.all()]
    if known:
        return f"penstock submit {known[0]} -d '{{\"x\": 1}}' --wait"
    return f"penstock apply -f {_EXAMPLE if _EXAMPLE.exists() else 'app.yaml'}"
