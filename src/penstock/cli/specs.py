"""Apps read from where `-f` points: a file, standard input, a folder."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from penstock import manifest
from penstock.errors import InvalidSpec, SpecFault
from penstock.model.app import App

__all__ = ["Source", "read_apps", "sources_option"]

_SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})
STDIN: Final = "-"


class Source(NamedTuple):
    """An app, with a handler's path made absolute, and the file it was read from."""

    app: App
    file: str


def sources_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Declare `-f` and `-R`."""
    recursive = click.option("-R", "--recursive", is_flag=True, help="Look into the folders' folders too.")
    files = click.option(
        "-f",
        "--filename",
        "files",
        metavar="FILE|DIR|-",
        multiple=True,
        required=True,
        type=click.Path(exists=True, allow_dash=True),
        help="A YAML file, a folder of them, or - for standard input; may be given several times.",
    )
    return files(recursive(function))


def read_apps(files: Sequence[str], *, recursive: bool) -> list[Source]:
    """Give the apps of all files, in order; a handler's path is resolved against the folder of its file.

    Raises:
        InvalidSpec: with every fault of every file, so that one reading is enough to mend them all.
    """
    found: list[Source] = []
    faults: list[SpecFault] = []
    for file in _expanded(files, recursive=recursive):
        name = "<stdin>" if file == STDIN else file
        folder = str(Path.cwd() if file == STDIN else Path(file).absolute().parent)
        try:
            apps = manifest.parse(_text(file), source=name)
        except InvalidSpec as error:
            faults += error.faults
        except (OSError, UnicodeDecodeError) as error:
            faults.append(SpecFault(f"it can't be read: {error}", source=name))
        else:
            found += [Source(manifest.resolve(app, folder), name) for app in apps]
    faults += _twins(found)
    if faults:
        raise InvalidSpec(faults)
    if not found:
        raise click.UsageError(f"There is no app in {', '.join(files)}.")
    return found


def _text(file: str) -> str:
    return sys.stdin.buffer.read().decode() if file == STDIN else Path(file).read_text(encoding="utf-8")


def _expanded(files: Sequence[str], *, recursive: bool) -> Iterator[str]:
    for file in files:
        if file == STDIN or not Path(file).is_dir():
            yield file
            continue
        inside = Path(file).rglob("*") if recursive else Path(file).glob("*")
        yield from sorted(str(path) for path in inside if path.suffix in _SUFFIXES and path.is_file())


def _twins(found: Sequence[Source]) -> Iterator[SpecFault]:
    """Give a fault for each app that another file has already: which of the two is meant can't be known."""
    first: dict[str, str] = {}
    for source in found:
        if source.app.name in first:
            message = f"the app '{source.app.name}' stands in {first[source.app.name]} too; leave one of them out"
            yield SpecFault(message, source=source.file)
        first.setdefault(source.app.name, source.file)
