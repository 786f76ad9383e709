"""`penstock up` and `penstock serve`: every role in one process, or some of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from penstock._version import __version__
from penstock.cli.command import translated
from penstock.cli.session import DEFAULT_API, Session, say
from penstock.errors import Misconfigured

from .settings import Settings, read_settings

if TYPE_CHECKING:
    from .platform import Platform

__all__ = ["greeting", "serve", "up"]

_LEVELS: Final = ("debug", "info", "warning", "error")
_EVERY_ROLE: Final = ("gateway", "controller")
_EXAMPLE: Final = Path("examples/echo/app.yaml")


def serving_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a verb that serves; each is a setting by its name, but for `file`."""
    host = click.option("--host", help="The address to serve at; a loopback address.  [default: 127.0.0.1]")
    port = click.option(
        "--port", type=click.IntRange(0, 65_535), help="The port to serve at; 0 takes a free one.  [default: 8080]"
    )
    state = click.option("--state", type=click.Path(file_okay=False), help="The folder that keeps everything.")
    kept = click.Path(dir_okay=False, exists=True, path_type=Path)
    file = click.option("--settings", "file", type=kept, help="A settings file.")
    level = click.option(
        "--log-level", type=click.Choice(_LEVELS), help="The least level that is logged.  [default: info]"
    )
    return host(port(state(file(level(command)))))


@click.command()
@serving_options
@click.pass_obj
def up(session: Session, /, file: Path | None, **flags: str | int | None) -> None:
    """Start everything on this machine: ledger, queue, store, gateway, controller, workers.

    It serves until SIGTERM or Ctrl-C, and then gives its workers 10 s to finish; a second Ctrl-C stops at once. What it
    accepted is kept in the state folder: the next start goes on where this one was, even after a kill -9.

    Settings are read from penstock.yaml, then from variables such as PENSTOCK__PORT, then from these options.
    """
    settings = translated(lambda: read_settings(session.environ, file=file, flags=flags))
    translated(lambda: _serve(settings, session, _EVERY_ROLE, greeting))


@click.command()
@click.option(
    "--roles", required=True, metavar="ROLE,...", help="What this process does: gateway, controller, or both."
)
@serving_options
@click.pass_obj
def serve(session: Session, /, roles: str, file: Path | None, **flags: str | int | None) -> None:
    r"""Start a process with some of the platform's roles; several processes make one platform.

    They share a ledger, a queue and a store, each named by its URL, and the file of keys:

    \b
    PENSTOCK__LEDGER=postgresql://user:password@host/database
    PENSTOCK__QUEUE=redis://host:6379/0
    PENSTOCK__STORE=s3://bucket/prefix
    PENSTOCK__KEYS=/etc/penstock/keys.json

    A gateway serves the API to callers and workers; any number may serve. A controller starts workers on its machine and
    repairs what is stuck; of several one leads, and another takes over within 10 s. It serves /health, /metrics and
    /version only, and must be told by PENSTOCK__WORKER_API where its workers find a gateway.

    On SIGTERM a gateway answers those who wait with a ticket, and a controller gives its workers 10 s to finish.
    """
    settings = translated(lambda: read_settings(session.environ, file=file, flags=flags))
    translated(lambda: _serve(settings, session, roles.split(","), notice))


def _serve(settings: Settings, session: Session, roles: Iterable[str], words: Callable[[Platform], str]) -> None:
    try:
        from . import logs
        from .platform import serve_until_told
        from .roles import read_roles
    except ModuleNotFoundError as error:
        raise Misconfigured(f"{error.name} is not installed: serving needs pip install 'penstock[server]'") from error
    chosen = read_roles(roles)
    logs.start(settings.log_level, colours=session.lively and not session.colourless)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve_until_told(settings, session.environ, lambda platform: say(words(platform)), chosen))


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    """Give uvloop's event loop, or None for Python's own where there is no uvloop."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop


def notice(platform: Platform) -> str:
    """Give the line by which a process of several says that it serves."""
    return f"Penstock {__version__} serves at {platform.url} as {', '.join(sorted(platform.roles))}\n"


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
