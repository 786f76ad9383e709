"""The maintainer's duties over runs, one function each, and the gap that an outage of ours left."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from penstock.ledger.commands import Gap, Mend, Sweep
from penstock.ledger.sql import verdicts
from penstock.ledger.sql.book import ENDED_WORKER_SECONDS, PIN_SECONDS, TOMBSTONE_SECONDS, purged
from penstock.ledger.sql.moves import Moves
from penstock.model.run import Run

from .moves import hold_found, write_moves
from .transaction import Transaction

__all__ = ["gap", "mend"]


def mend(tx: Transaction, commands: Sequence[Mend]) -> list[tuple[Run, ...]]:
    """Do the duties asked for."""
    return [tuple(_DUTIES[command.sweep](tx, command.limit)) for command in commands]


# ------------------------------------------------------------------ attempts that are overdue

_LEASES: Final = "SELECT seq FROM attempts WHERE live = 1 AND due_at <= ? AND lease_until <= ? ORDER BY due_at LIMIT ?"
_DEADLINES: Final = """
    SELECT seq FROM attempts
    WHERE live = 1 AND due_at <= ? AND deadline_at <= ? AND state IN ('LEASED', 'RUNNING') ORDER BY due_at LIMIT ?"""


def _leases(tx: Transaction, limit: int) -> list[Run]:
    moves = Moves(tx.now)
    for held in hold_found(tx, tx.db.execute(_LEASES, (tx.now, tx.now, limit))):
        verdicts.lose(moves, held)
    write_moves(tx, moves)
    return moves.runs


def _deadlines(tx: Transaction, limit: int) -> list[Run]:
    moves = Moves(tx.now)
    for held in hold_found(tx, tx.db.execute(_DEADLINES, (tx.now, tx.now, limit))):
        verdicts.time_out(moves, held)
    write_moves(tx, moves)
    return moves.runs


# ------------------------------------------------------------------ runs that wait

_EXPIRED: Final = "SELECT seq FROM runs WHERE state = 'QUEUED' AND expires_at <= ? ORDER BY expires_at LIMIT ?"
_DUE: Final = """
    SELECT seq FROM runs WHERE state = 'QUEUED' AND in_line = 0 AND not_before <= ? ORDER BY not_before LIMIT ?"""


def _queue_ttl(tx: Transaction, limit: int) -> list[Run]:
    moves = Moves(tx.now)
    for held in hold_found(tx, tx.db.execute(_EXPIRED, (tx.now, limit))):
        verdicts.expire(moves, held)
    write_moves(tx, moves)
    return moves.runs


def _due(tx: Transaction, limit: int) -> list[Run]:
    runs = hold_found(tx, tx.db.execute(_DUE, (tx.now, limit)))
    for held in runs:
        held.share.step_in()
    tx.db.executemany("UPDATE runs SET in_line = 1, head = 1 WHERE seq = ?", [(held.run.seq,) for held in runs])
    return [replace(held.run, head=True) for held in runs]


# ------------------------------------------------------------------ runs that are over

_PURGEABLE: Final = "SELECT seq FROM runs WHERE keep_until <= ? AND purged_at IS NULL ORDER BY keep_until LIMIT ?"
_FORGETTABLE: Final = "SELECT seq FROM runs WHERE keep_until <= ? AND purged_at IS NOT NULL ORDER BY keep_until LIMIT ?"
_SHARED_OBJECT: Final = """
    SELECT 1 FROM runs r JOIN bodies b ON b.seq = r.seq
    WHERE r.key = ? AND r.tenant = ? AND r.app = ? AND r.seq <> ? AND r.purged_at IS NULL AND b.object = ?"""
_FORGET_PINS: Final = """
    DELETE FROM pins WHERE (scope, key) IN (SELECT scope, key FROM pins WHERE taken_at <= ? LIMIT ?)"""
_FORGET_WORKERS: Final = "DELETE FROM workers WHERE id IN (SELECT id FROM workers WHERE ended_at <= ? LIMIT ?)"


def _results(tx: Transaction, limit: int) -> list[Run]:
    runs = hold_found(tx, tx.db.execute(_PURGEABLE, (tx.now, limit)))
    return [_purge(tx, held.run) for held in runs]


def _purge(tx: Transaction, run: Run) -> Run:
    """Drop a run's bytes. The objects that nobody else needs stay named in it, so that they can be removed."""
    db, held = tx.db, run.body.key
    named = (run.key, run.tenant, run.app, run.seq, held)
    after = purged(run, tx.now, shared=held is not None and db.execute(_SHARED_OBJECT, named).fetchone() is not None)
    db.execute("UPDATE bodies SET bytes = NULL, object = ? WHERE seq = ?", (after.body.key, run.seq))
    db.execute("UPDATE results SET bytes = NULL WHERE seq = ?", (run.seq,))
    db.execute("DELETE FROM checkpoints WHERE seq = ?", (run.seq,))
    db.execute(
        "UPDATE runs SET purged_at = ?, keep_until = ? WHERE seq = ?", (tx.now, tx.now + TOMBSTONE_SECONDS, run.seq)
    )
    return after


def _tombstones(tx: Transaction, limit: int) -> list[Run]:
    runs = [held.run for held in hold_found(tx, tx.db.execute(_FORGETTABLE, (tx.now, limit)))]
    seqs = [(run.seq,) for run in runs]
    for table in ("attempts", "results", "bodies", "checkpoints", "runs"):
        tx.db.executemany(f"DELETE FROM {table} WHERE seq = ?", seqs)  # noqa: S608  # the names stand above
    tx.db.execute(_FORGET_PINS, (tx.now - PIN_SECONDS, limit))
    tx.db.execute(_FORGET_WORKERS, (tx.now - ENDED_WORKER_SECONDS, limit))
    return runs


_DUTIES: Final[Mapping[Sweep, Callable[[Transaction, int], Sequence[Run]]]] = {
    Sweep.LEASES: _leases,
    Sweep.DEADLINES: _deadlines,
    Sweep.QUEUE_TTL: _queue_ttl,
    Sweep.DUE: _due,
    Sweep.RESULTS: _results,
    Sweep.TOMBSTONES: _tombstones,
}

# ------------------------------------------------------------------ an outage of ours

_ALIVE: Final = "broker_alive_at"


def gap(tx: Transaction, commands: Sequence[Gap]) -> list[float]:
    """Note that the broker is alive, and forgive the time it was not."""
    return [_gap(tx, command) for command in commands]


def _gap(tx: Transaction, command: Gap) -> float:
    row = tx.db.execute("SELECT value FROM notes WHERE name = ?", (_ALIVE,)).fetchone()
    tx.db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (_ALIVE, tx.now))
    seconds = 0.0 if row is None else max(0.0, tx.now - row[0])
    if command.forgive and seconds:
        tx.db.execute(
            "UPDATE attempts SET lease_until = lease_until + :gap, deadline_at = deadline_at + :gap, "
            "due_at = due_at + :gap WHERE live = 1",
            {"gap": seconds},
        )
    return seconds
