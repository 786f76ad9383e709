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
    "Layout",
    "as_json",
    "as_yaml",
    "flat",
    "output_option",
    "print_many",
    "print_one",
    "rows",
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
    """How one kind of thing is shown.

    `stamp` gives what of a thing makes it worth showing again; `none` is said when there is nothing to show.
    """

    name: str
    name_of: Callable[[T], str]
    columns: Sequence[Column[T]]
    stamp: Callable[[T], object]
    none: str


def output_option(*formats: Format) -> Callable[[Any], Any]:
    """Declare `-o`, with these formats or all of them; the first is the default."""
    offered = [form.value for form in formats or Format]
    return click.option(
        "-o", "--output", "form", type=click.Choice(offered, case_sensitive=False), default=offered[0],
        show_default=True, help="How to print it.", callback=lambda _ctx, _param, value: Format(value),
    )  # fmt: skip


def print_many(session: Session, kind: Kind[T], items: Sequence[T], form: Format, *, more: str | None = None) -> None:
    """Print a list; `more` is the cursor of what follows it, if something does."""
    if form in (Format.JSON, Format.YAML):
        _print_document({"items": items, "next": more}, form)
        return
    if not items:
        say(kind.none)
        return
    for line in Layout(kind, form, colours=session.colours).lines(items, now=session.now()):
        click.echo(line)
    if more is not None:
        say(f"There are more: add --after {more}")


def print_one(session: Session, kind: Kind[T], item: T, form: Format) -> None:
    """Print a single thing: as a list of one, or in JSON and YAML as itself."""
    if form in (Format.JSON, Format.YAML):
        _print_document(item, form)
    else:
        print_many(session, kind, [item], form)


def _print_document(value: Any, form: Format) -> None:
    click.echo(as_json(value) if form is Format.JSON else as_yaml(value), nl=form is Format.JSON)


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


class Layout(Generic[T]):
    """Lines for things of one kind. Columns keep their widths from one call to the next, and only grow."""

    def __init__(self, kind: Kind[T], form: Format, *, colours: bool = False) -> None:
        self._kind = kind
        self._form = form
        self._colours = colours
        self._columns = [column for column in kind.columns if form is Format.WIDE or not column.wide]
        self._widths: list[int] = []

    def lines(self, items: Iterable[T], *, now: float) -> list[str]:
        """Give a line for each item; before the very first of a table, its head."""
        if self._form in (Format.JSON, Format.YAML):
            import msgspec

            return [msgspec.json.encode(item).decode() for item in items]
        if self._form is Format.NAME:
            return [f"{self._kind.name}/{self._kind.name_of(item)}" for item in items]
        cells = [[flat(column.cell(item, now)) for column in self._columns] for item in items]
        return self._aligned(cells) if cells else []

    def _aligned(self, cells: list[list[str]]) -> list[str]:
        head = [] if self._widths else [[column.title for column in self._columns]]
        widths = self._widths or [0] * len(self._columns)
        self._widths = _widths([*head, *cells], widths)
        return [_line(line, self._widths) for line in head] + [
            _line(line, self._widths, colours=self._colours) for line in cells
        ]


def rows(titles: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    """Give aligned lines, the titles first."""
    lines = [titles, *([flat(cell) for cell in line] for line in cells)]
    widths = _widths(lines, [0] * len(titles))
    return [_line(line, widths) for line in lines]


def _widths(lines: Sequence[Sequence[str]], least: Sequence[int]) -> list[int]:
    return [max(given, *map(_width, column)) for given, column in zip(least, zip(*lines, strict=True), strict=True)]


def _line(cells: Sequence[str], widths: Sequence[int], *, colours: bool = False) -> str:
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


def flat(text: str) -> str:
    """Give a text on one line, with nothing in it that a terminal would obey."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
