"""Workers: their rows, what is heard of them, and what becomes of their attempts when they go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from penstock.ledger.commands import AddWorker, EndWorker, GrantExit, NoteWorker, SeeWorkers
from penstock.ledger.sql import verdicts
from penstock.ledger.sql.moves import Held, Moves
from penstock.ledger.sql.rows import encoded_gpu_ids, stored_state, worker_row
from penstock.model.fleet import WorkerState
from penstock.model.run import Run

from .moves import hold_found, write_moves
from .transaction import Transaction

__all__ = ["add_worker", "end_worker", "grant_exit", "note_worker", "see_workers"]

_ADD: Final = """
    INSERT INTO workers (
        uid, app, spec_generation, state, candidate, node, gpu_ids, pid, instances, started_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (uid) DO NOTHING"""
# BUSY is IDLE that holds something, and DRAINING is never left but by an end.
_NOTE: Final = """
    UPDATE workers SET
        state = CASE WHEN state = 'DRAINING' THEN state ELSE coalesce(?, state) END, pid = coalesce(?, pid),
        node = coalesce(?, node), candidate = coalesce(?, candidate), gpu_ids = coalesce(?, gpu_ids)
    WHERE uid = ? AND ended_at IS NULL"""
_END: Final = """
    UPDATE workers SET state = ?, ended_at = ?, exit_code = ?, reason = ?, message = ?
    WHERE uid = ? AND ended_at IS NULL"""
_HELD_BY: Final = "SELECT seq FROM attempts WHERE live = 1 AND worker_uid = ?"


def add_worker(tx: Transaction, commands: Sequence[AddWorker]) -> list[None]:
    """Commit the rows of workers that are about to be created."""
    tx.db.executemany(_ADD, [worker_row(command.worker, tx.now) for command in commands])
    return [None] * len(commands)


def note_worker(tx: Transaction, commands: Sequence[NoteWorker]) -> list[bool]:
    """Set what became known of live workers."""
    return [_note(tx, command) for command in commands]


def _note(tx: Transaction, command: NoteWorker) -> bool:
    state = None if command.state is None else stored_state(command.state)
    gpu_ids = None if command.gpu_ids is None else encoded_gpu_ids(command.gpu_ids)
    row = (state, command.pid, command.node, command.candidate, gpu_ids, command.uid)
    return tx.db.execute(_NOTE, row).rowcount == 1


def see_workers(tx: Transaction, commands: Sequence[SeeWorkers]) -> list[None]:
    """Note who called."""
    seen = {uid for command in commands for uid in command.uids}
    tx.db.executemany(
        "UPDATE workers SET seen_at = ? WHERE uid = ? AND ended_at IS NULL", [(tx.now, uid) for uid in sorted(seen)]
    )
    return [None] * len(commands)


# ------------------------------------------------------------------ the end


def end_worker(tx: Transaction, commands: Sequence[EndWorker]) -> list[tuple[Run, ...]]:
    """Record that workers are no more, and return what they held."""
    return [_end(tx, command) for command in commands]


def _end(tx: Transaction, command: EndWorker) -> tuple[Run, ...]:
    if command.replica is None:
        row = (command.state, tx.now, command.exit_code, command.reason, command.message, command.uid)
        tx.db.execute(_END, row)
    moves = Moves(tx.now)
    runs = tuple(verdicts.end_worker(moves, command, _held_by(tx, command)))
    write_moves(tx, moves)
    return runs


def _held_by(tx: Transaction, command: EndWorker) -> list[Held]:
    if command.replica is None:
        return hold_found(tx, tx.db.execute(_HELD_BY, (command.uid,)))
    return hold_found(tx, tx.db.execute(_HELD_BY + " AND replica = ?", (command.uid, command.replica)))


# ------------------------------------------------------------------ leaving

_PRESENT: Final = "SELECT count(*) FROM workers WHERE app = ? AND ended_at IS NULL AND state <> 'DRAINING'"


def grant_exit(tx: Transaction, commands: Sequence[GrantExit]) -> list[bool]:
    """Let idle workers go."""
    return [_grant_exit(tx, command) for command in commands]


def _grant_exit(tx: Transaction, command: GrantExit) -> bool:
    row = tx.db.execute("SELECT app, state, ended_at FROM workers WHERE uid = ?", (command.uid,)).fetchone()
    if row is None or row[1] == WorkerState.DRAINING or row[2] is not None:
        return True
    app = row[0]
    if any(line.in_line for line in tx.lines.of(app)):
        return False
    if tx.db.execute(_HELD_BY + " LIMIT 1", (command.uid,)).fetchone() is not None:
        return False
    (present,) = tx.db.execute(_PRESENT, (app,)).fetchone()
    if present <= command.keep:
        return False
    tx.db.execute("UPDATE workers SET state = 'DRAINING' WHERE uid = ?", (command.uid,))
    return True
