"""SQLite's errors, translated once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from penstock.errors import Misconfigured, PenstockError, Unavailable

__all__ = ["translated", "translation"]

_PRIMARY: Final = 0xFF  # extended codes hold the primary one in their low byte

_LATER: Final = {
    sqlite3.SQLITE_BUSY: "another process holds its lock",
    sqlite3.SQLITE_LOCKED: "a table is locked",
    sqlite3.SQLITE_FULL: "the disk is full; free some space",
    sqlite3.SQLITE_IOERR: "the disk failed to read or write",
    sqlite3.SQLITE_NOMEM: "there is no memory left",
    sqlite3.SQLITE_PROTOCOL: "its locks are contended",
}
_NEVER: Final = {
    sqlite3.SQLITE_CANTOPEN: "the file can't be opened; check that its folder exists and belongs to this user",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; stop, keep a copy, and restore a backup",
    sqlite3.SQLITE_NOTADB: "the file is no SQLite database; choose another path",
    sqlite3.SQLITE_PERM: "the file's permissions forbid it; give this user the right to write",
    sqlite3.SQLITE_READONLY: "the file can't be written; give this user the right to write, or choose another path",
    sqlite3.SQLITE_AUTH: "access is denied; give this user the right to write",
}


def translation(error: sqlite3.Error, path: str) -> PenstockError | None:
    """Give the error that the ledger's contract has for SQLite's, or None where the fault lies in what was asked."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return None
    primary = code & _PRIMARY
    if primary in _LATER:
        return Unavailable(f"ledger {path}: {_LATER[primary]} ({error})")
    if primary in _NEVER:
        return Misconfigured(f"ledger {path}: {_NEVER[primary]} ({error})")
    return None


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Raise `Unavailable` or `Misconfigured` in place of SQLite's errors that mean so."""
    try:
        yield
    except sqlite3.Error as error:
        known = translation(error, path)
        if known is None:
            raise
        raise known from error
