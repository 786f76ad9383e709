"""`penstock run`: a handler is run right here, with no server at all."""

from __future__ import annotations

import mimetypes
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from penstock.cli.command import translated
from penstock.cli.results import write_result
from penstock.cli.session import say
from penstock.cli.specs import read_apps
from penstock.errors import Misconfigured, PenstockError
from penstock.model.run import Reason

if TYPE_CHECKING:
    from penstock.model.app import App
    from penstock.worker.local import LocalResult

__all__ = ["run"]

_OCTETS: Final = "application/octet-stream"
_STDIN: Final = "-"


@click.command()
@click.argument("appfile", type=click.Path(exists=True, dir_okay=False))
@click.option(
    "-i",
    "--input",
    "inputs",
    metavar="FILE|-",
    multiple=True,
    required=True,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    help="An input; several are one micro-batch or more.",
)
@click.option("--content-type", metavar="TYPE", help="Of the inputs.  [default: told by their file names]")
@click.option("--app", "name", metavar="NAME", help="Which app, if the file holds several.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Write each result into this folder.")
def run(appfile: str, inputs: tuple[str, ...], content_type: str | None, name: str | None, out: Path | None) -> None:
    """Run the handler of APPFILE on inputs, right here, without a server.

    It is loaded, gets the inputs in micro-batches as a worker would give them to it, and its results are printed. Exit
    code 1 if one of them failed.
    """
    app = translated(lambda: _chosen(appfile, name))
    bodies = [_read(file) for file in inputs]
    types = [content_type or _guessed(file) for file in inputs]
    results = translated(lambda: _run(app, bodies, types))
    for file, result in zip(inputs, results, strict=True):
        _tell(file, result, out)
    if not all(result.ok for result in results):
        raise click.exceptions.Exit(1)


def _chosen(appfile: str, name: str | None) -> App:
    apps = [source.app for source in read_apps([appfile], recursive=False)]
    found = [app for app in apps if name in (None, app.name)]
    names = ", ".join(app.name for app in apps)
    if name is not None and not found:
        raise click.UsageError(f"{appfile} holds {names}, and no app named {name}.")
    if len(found) > 1:
        raise click.UsageError(f"{appfile} holds several apps; choose with --app one of {names}.")
    if not found[0].handler:
        raise Misconfigured(f"the app {found[0].name} has no handler: only a handler can be run here")
    return found[0]


def _read(file: str) -> bytes:
    return sys.stdin.buffer.read() if file == _STDIN else Path(file).read_bytes()


def _guessed(file: str) -> str:
    return mimetypes.guess_type(file)[0] or _OCTETS


def _run(app: App, bodies: list[bytes], types: list[str]) -> list[LocalResult]:
    from penstock.worker.local import run_local

    from .clock import SystemClock

    try:
        return run_local(app, bodies, types, clock=SystemClock())
    except Exception as error:
        raise _of_load(app, error) from error


def _of_load(app: App, error: Exception) -> Exception:
    """Give what is told of a handler that could not be loaded: its own exception, if it was that."""
    if isinstance(error, PenstockError):
        return error
    say("".join(traceback.format_exception(error)).rstrip())
    return Misconfigured(f"the handler of {app.name} failed to load: {type(error).__name__}: {error}")


def _tell(file: str, result: LocalResult, out: Path | None) -> None:
    if not result.ok:
        if result.error is not None and result.reason is not Reason.INVALID_INPUT:
            say("".join(traceback.format_exception(result.error)).rstrip())
        say(f"{file}: {result.outcome}, {result.reason}: {result.message}")
        return
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        suffix = mimetypes.guess_extension(result.content_type.partition(";")[0]) or ".bin"
        write_result(result.body, result.content_type, out / f"{Path(file).stem}{suffix}")
    else:
        write_result(result.body, result.content_type)
