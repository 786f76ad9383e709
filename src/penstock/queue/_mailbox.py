"""Messages in a SQLite file of their own: the statements, and what SQLite's errors mean. Blocking; used by one thread."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from penstock.errors import Misconfigured, PenstockError, Unavailable

from .driver import Message

__all__ = ["Mailbox"]

_VERSION: Final = 1
_BUSY_S: Final = 5.0  # other processes hold the file for a commit at a time

# A message is ready when `visible_at` has passed (0 = from the start). `taken` counts its deliveries, so that a receipt
# of an earlier one is told from the present. Ids are never reused, or an old receipt could name a new message.
# `line` holds the depth, which would cost a scan to count.
_SCHEMA: Final = """
CREATE TABLE message (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  queue TEXT NOT NULL,
  visible_at REAL NOT NULL DEFAULT 0,
  taken INTEGER NOT NULL DEFAULT 0,
  body TEXT NOT NULL
);
CREATE INDEX message_ready ON message (queue, visible_at);
CREATE TABLE line (queue TEXT PRIMARY KEY, depth INTEGER NOT NULL) WITHOUT ROWID;
"""
_SEND: Final = "INSERT INTO message (queue, body) VALUES (?, ?)"
_COUNT: Final = """
INSERT INTO line (queue, depth) VALUES (?, ?) ON CONFLICT (queue) DO UPDATE SET depth = depth + excluded.depth
"""
_TAKE: Final = """
UPDATE message SET visible_at = ?, taken = taken + 1
WHERE id IN (SELECT id FROM message WHERE queue = ? AND visible_at <= ? ORDER BY visible_at, id LIMIT ?)
RETURNING id, taken, body
"""
_ACK: Final = "DELETE FROM message WHERE id = ? AND taken = ? AND queue = ?"
_RETURN: Final = "UPDATE message SET visible_at = 0 WHERE id = ? AND taken = ? AND queue = ?"
_DEPTH: Final = "SELECT depth FROM line WHERE queue = ?"

_NEEDS_OPERATOR: Final = frozenset(
    {
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)


class Mailbox:
    """One file of messages. Every write belongs inside `transaction`."""

    def __init__(self, path: Path) -> None:
        with _translated(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
        self._path = path
        try:
            self._prepare()
        except BaseException:
            self._file.close()
            raise

    def _prepare(self) -> None:
        with _translated(self._path):
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute("PRAGMA synchronous = NORMAL")
        with self.transaction():
            (version,) = self._file.execute("PRAGMA user_version").fetchone()
            if version == 0:
                for statement in _SCHEMA.split(";")[:-1]:
                    self._file.execute(statement)
                self._file.execute(f"PRAGMA user_version = {_VERSION}")
            elif version != _VERSION:
                raise Misconfigured(f"{self._path} was written by a later release; it may be removed: hints are resent")

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what is done inside in one go, or nothing of it."""
        with _translated(self._path):
            self._file.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._file.execute("COMMIT")
            except BaseException:
                if self._file.in_transaction:
                    self._file.execute("ROLLBACK")
                raise

    def send(self, queue: str, bodies: Sequence[str]) -> None:
        """Add messages."""
        self._file.executemany(_SEND, [(queue, body) for body in bodies])
        self._file.execute(_COUNT, (queue, len(bodies)))

    def take(self, wanted: Mapping[str, int], now: float, until: float) -> dict[str, list[Message]]:
        """Take up to so many messages of each queue, which are hidden from others until then."""
        return {queue: self._take(queue, limit, now, until) for queue, limit in wanted.items()}

    def _take(self, queue: str, limit: int, now: float, until: float) -> list[Message]:
        rows = self._file.execute(_TAKE, (until, queue, now, limit)).fetchall()
        return [Message(queue, body, f"{number}.{taken}") for number, taken, body in sorted(rows)]

    def give_back(self, messages: Sequence[Message]) -> None:
        """Make messages ready again that nobody saw."""
        self._file.executemany(_RETURN, _named(messages))

    def ack(self, messages: Sequence[Message]) -> None:
        """Forget messages."""
        gone: Counter[str] = Counter()
        for name in _named(messages):
            gone[name[2]] += self._file.execute(_ACK, name).rowcount
        self._file.executemany(_COUNT, [(queue, -count) for queue, count in gone.items() if count])

    def depth(self, queue: str) -> int:
        """Count what is sent and not acknowledged."""
        row = self._file.execute(_DEPTH, (queue,)).fetchone()
        return 0 if row is None else int(row[0])


def _named(messages: Sequence[Message]) -> Iterator[tuple[int, int, str]]:
    """Give the id, the delivery and the queue of each message whose receipt is one of ours."""
    for message in messages:
        number, _, taken = message.receipt.partition(".")
        if number.isdecimal() and taken.isdecimal():
            yield int(number), int(taken), message.queue


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn SQLite's and the system's errors into ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise _meaning(error, path) from error
    except OSError as error:
        raise Misconfigured(f"the queue can't be kept at {path}: {error.strerror}") from error


def _meaning(error: sqlite3.Error, path: Path) -> PenstockError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the low byte is the primary code
    if code in _NEEDS_OPERATOR:
        return Misconfigured(f"the queue can't be kept at {path}: {error}")
    return Unavailable(f"the queue's file failed: {error}")
