"""What the functions that apply commands work with: one open transaction, its moment, and the counters beside it."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator

import msgspec

from .lines import SavedLines

__all__ = ["Transaction", "as_json"]


class Transaction:
    """One group's open transaction. `now` is the same for all of it; `sequence` gives the order of acceptance."""

    __slots__ = ("db", "lines", "now", "sequence")

    def __init__(self, db: sqlite3.Connection, lines: SavedLines, now: float, sequence: Iterator[int]) -> None:
        self.db = db
        self.lines = lines
        self.now = now
        self.sequence = sequence


def as_json(values: Collection[str | int]) -> str:
    """Give the text that `json_each` unfolds, for a question about many things at once."""
    return msgspec.json.encode(values).decode()
