"""What a verb prints on standard output, in the format that was asked for: table, wide, json, yaml or name."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any, Final, Generic, NamedTuple, TypeVar

import click

from .session import Session, say

__all__ = [
    "Column",
    "Format",
    "Kind",
    "as_json",
    "as_yaml",
    "output_option",
    "print_many",
    "print_one",
    "rows",
    "table",
]

T = TypeVar("T")

_GAP: Final = "   "
_COLOURS: Final = {
    "SUCCEEDED": "green",
    "Ready": "green",
    "RUNNING": "cyan",
    "BUSY": "cyan",
    "Scaling": "cyan",
    "FAILED": "red",
    "LOST": "red",
    "Held": "red",
    "CANCELLED": "yellow",
    "Paused": "yellow",
    "Draining": "yellow",
}


class Format(StrEnum):
    """How things are printed."""

    TABLE = "table"  # columns for people
    WIDE = "wide"  # more of them
    JSON = "json"
    YAML = "yaml"
    NAME = "name"  # one `kind/name` a line, as other verbs take it


class Column(NamedTuple, Generic[T]):
    """One column of a table: its title, and the cell's text for an item at a time (seconds since 1970)."""

    title: str
    cell: Callable[[T, float], str]
    wide: bool = False


class Kind(NamedTuple, Generic[T]):
    """How one kind of thing is shown. `none` is said when there is nothing to show, and names the next command."""

    name: str
    name_of: Callable[[T], str]
    columns: Sequence[Column[T]]
    none: str


def output_option(*formats: Format) -> Callable[[Any], Any]:
    """Declare `-o`, with these formats or all of them; the first is the default."""
    offered = list(formats or Format)
    return click.option(
        "-o", "--output", "form", type=click.Choice([*offered], case_sensitive=False), default=offered[0],
        show_default=True, help="How to print it.", callback=lambda _ctx, _param, value: Format(value),
    )  # fmt: skip


def print_many(session: Session, kind: Kind[T], items: Sequence[T], form: Format, *, more: str | None = None) -> None:
    """Print a list; `more` is the cursor of what follows it, if something does."""
    match form:
        case Format.JSON:
            click.echo(as_json({"items": items, "next": more}))
        case Format.YAML:
            click.echo(as_yaml({"items": items, "next": more}), nl=False)
        case Format.NAME:
            for item in items:
                click.echo(f"{kind.name}/{kind.name_of(item)}")
        case Format.TABLE | Format.WIDE:
            if not items:
                say(kind.none)
                return
            for line in table(kind, items, form, now=session.now(), colours=session.colours):
                click.echo(line)
            if more is not None:
                say(f"there are more: --after {more}")


def print_one(session: Session, kind: Kind[T], item: T, form: Format) -> None:
    """Print a single thing: as a list of one, or in JSON and YAML as itself."""
    match form:
        case Format.JSON:
            click.echo(as_json(item))
        case Format.YAML:
            click.echo(as_yaml(item), nl=False)
        case _:
            print_many(session, kind, [item], form)


def as_json(value: Any) -> str:
    """Give a value as indented JSON."""
    import msgspec

    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def as_yaml(value: Any) -> str:
    """Give a value as a YAML document."""
    from io import StringIO

    import msgspec
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    # In the order of the API's documents, as JSON is; the library's stub knows only None.
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    text = StringIO()
    yaml.dump(msgspec.to_builtins(value, builtin_types=()), text)
    return text.getvalue()


def table(kind: Kind[T], items: Iterable[T], form: Format, *, now: float, colours: bool = False) -> list[str]:
    """Give a head line and a line for each item, with columns aligned."""
    columns = [column for column in kind.columns if form is Format.WIDE or not column.wide]
    cells = [[_flat(column.cell(item, now)) for column in columns] for item in items]
    return rows([column.title for column in columns], cells, colours=colours)


def rows(titles: Sequence[str], cells: Sequence[Sequence[str]], *, colours: bool = False) -> list[str]:
    """Give aligned lines, the titles first. Words that tell a state are coloured if `colours`."""
    lines = [titles, *cells]
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    return [_line(line, widths, colours=colours and line is not titles) for line in lines]


def _line(cells: Sequence[str], widths: Sequence[int], *, colours: bool) -> str:
    padded = [cell + " " * (width - _width(cell)) for cell, width in zip(cells, widths, strict=True)]
    text = _GAP.join(padded).rstrip()
    if colours:
        for cell in cells:
            if cell in _COLOURS:
                text = text.replace(cell, click.style(cell, fg=_COLOURS[cell]), 1)
    return text


def _width(text: str) -> int:
    """Give the columns that a text takes in a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def _flat(text: str) -> str:
    """Give a text on one line, with nothing in it that a terminal would obey."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
