"""Taking runs in the hand, and writing what became of them."""

# ruff: noqa: S608  # the texts are column lists of ours; every value is bound

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from penstock.ledger.sql.moves import HELD, SHARE_OF_HELD, Held, Moves
from penstock.ledger.sql.rows import RUN_TABLES, Row

from .transaction import Transaction, as_json

__all__ = ["hold", "hold_found", "write_moves"]

# The names come as one JSON array and the rows in its order: one question for a group costs half of one for each.
_HELD: Final = f"""
    SELECT {HELD}
    FROM json_each(?) named CROSS JOIN {RUN_TABLES} LEFT JOIN attempts a ON a.seq = r.seq AND a.epoch = r.epoch """
_BY_ID: Final = _HELD + "WHERE r.run_id = named.value"
_BY_SEQ: Final = _HELD + "WHERE r.seq = named.value"


def hold(tx: Transaction, run_ids: Iterable[str]) -> dict[str, Held]:
    """Give the runs of these ids, without those that are unknown."""
    rows = tx.db.execute(_BY_ID, (as_json(set(run_ids)),)).fetchall()
    return {row[0]: _held(tx, row) for row in rows}


def hold_found(tx: Transaction, found: Iterable[tuple[int]]) -> list[Held]:
    """Give the runs whose numbers a question found, in that order."""
    rows = tx.db.execute(_BY_SEQ, (as_json([seq for (seq,) in found]),)).fetchall()
    return [_held(tx, row) for row in rows]


def _held(tx: Transaction, row: Row) -> Held:
    return Held(row, tx.lines.share(row[SHARE_OF_HELD]))


_MOVE_RUNS: Final = """
    UPDATE runs SET
        state = ?, reason = ?, message = ?, in_line = ?, head = ?, alone = ?, failures = ?, deaths = ?,
        queued_at = ?, not_before = ?, expires_at = ?, finished_at = ?, keep_until = ?
    WHERE seq = ?"""
_END_ATTEMPTS: Final = """
    UPDATE attempts SET
        state = ?, live = ?, reported = ?, finished_at = ?, exit_code = ?, reason = ?, message = ?, due_at = ?
    WHERE seq = ? AND epoch = ?"""
_KEEP_RESULTS: Final = "INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?, ?)"


_RELEASE: Final = "UPDATE attempts SET live = 0 WHERE seq = ? AND epoch = ?"


def write_moves(tx: Transaction, moves: Moves) -> None:
    """Write what was gathered."""
    for statement, rows in (
        (_END_ATTEMPTS, moves.ended),
        (_RELEASE, moves.released),
        (_MOVE_RUNS, moves.moved),
        (_KEEP_RESULTS, moves.results),
    ):
        if rows:
            tx.db.executemany(statement, rows)
