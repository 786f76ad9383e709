"""Workers: their rows, what is heard of them, and what becomes of their attempts when they go.

A group locks the workers it names before the runs, so a lease and the end of its worker never pass each other by.
"""

# ruff: noqa: S608  # the texts are column lists of ours; every value is bound

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from penstock.ledger.commands import AddWorker, EndWorker, GrantExit, NoteWorker, SeeWorkers
from penstock.ledger.sql import verdicts
from penstock.ledger.sql.leasing import ASKER, Asker
from penstock.ledger.sql.moves import Moves
from penstock.ledger.sql.rows import encoded_gpu_ids, stored_state, worker_row
from penstock.model.fleet import WorkerState
from penstock.model.run import Lane, Run

from . import counters
from .moves import write_moves
from .transaction import Transaction, by_column

__all__ = ["add_worker", "askers", "end_worker", "grant_exit", "note_worker", "see_workers"]

_LOCK: Final = f"SELECT {ASKER} FROM workers WHERE uid = ANY ($1::text[]) ORDER BY uid FOR NO KEY UPDATE"
_ADD: Final = """
    INSERT INTO workers (
        uid, app, spec_generation, state, candidate, node, gpu_ids, pid, instances, started_at)
    SELECT * FROM unnest($1::text[], $2::text[], $3::int[], $4::text[], $5::text[], $6::text[], $7::text[], $8::int[],
        $9::int[], $10::float8[]) n (uid)
    ORDER BY n.uid ON CONFLICT (uid) DO NOTHING"""
# BUSY is IDLE that holds something, and DRAINING is never left but by an end.
_NOTE: Final = """
    UPDATE workers SET
        state = CASE WHEN state = 'DRAINING' THEN state ELSE coalesce($2, state) END, pid = coalesce($3, pid),
        node = coalesce($4, node), candidate = coalesce($5, candidate), gpu_ids = coalesce($6, gpu_ids)
    WHERE uid = $1 AND ended_at IS NULL RETURNING 1"""
_SEE: Final = "UPDATE workers SET seen_at = $2 WHERE uid = ANY ($1::text[]) AND ended_at IS NULL"
_END: Final = """
    UPDATE workers SET state = $2, ended_at = $3, exit_code = $4, reason = $5, message = $6
    WHERE uid = $1 AND ended_at IS NULL"""


async def askers(tx: Transaction, uids: Iterable[str]) -> Mapping[str, Asker]:
    """Lock workers, as far as they are not locked already; gives those that exist, as this group left them."""
    missing = sorted(set(uids) - tx.askers.keys())
    if missing:
        tx.askers.update({row[0]: Asker(*row) for row in await tx.ask(_LOCK, missing)})
    return tx.askers


async def add_worker(tx: Transaction, commands: Sequence[AddWorker]) -> list[None]:
    """Commit the rows of workers that are about to be created."""
    await tx.do(_ADD, *by_column([worker_row(command.worker, tx.now) for command in commands], 10))
    return [None] * len(commands)


async def note_worker(tx: Transaction, commands: Sequence[NoteWorker]) -> list[bool]:
    """Set what became known of live workers."""
    tx.askers.clear()
    return [await _note(tx, command) for command in commands]


async def _note(tx: Transaction, command: NoteWorker) -> bool:
    state = None if command.state is None else stored_state(command.state)
    gpu_ids = None if command.gpu_ids is None else encoded_gpu_ids(command.gpu_ids)
    row = (command.uid, state, command.pid, command.node, command.candidate, gpu_ids)
    return bool(await tx.ask(_NOTE, *row))


async def see_workers(tx: Transaction, commands: Sequence[SeeWorkers]) -> list[None]:
    """Note who called."""
    await tx.do(_SEE, sorted({uid for command in commands for uid in command.uids}), tx.now)
    return [None] * len(commands)


# ------------------------------------------------------------------ the end


async def end_worker(tx: Transaction, commands: Sequence[EndWorker]) -> list[tuple[Run, ...]]:
    """Record that workers are no more, and return what they held, which is in the hand already."""
    tx.askers.clear()
    return [await _end(tx, command) for command in commands]


async def _end(tx: Transaction, command: EndWorker) -> tuple[Run, ...]:
    if command.replica is None:
        row = (command.uid, command.state.value, tx.now, command.exit_code, command.reason, command.message)
        await tx.do(_END, *row)
    moves = Moves(tx.now)
    held = [
        held
        for held in tx.held.values()
        if held.live and held.worker_uid == command.uid and command.replica in {None, held.replica}
    ]
    runs = tuple(verdicts.end_worker(moves, command, held))
    await write_moves(tx, moves)
    return runs


# ------------------------------------------------------------------ leaving

_LEAVING: Final = """
    SELECT app, state, ended_at,
        EXISTS (SELECT 1 FROM attempts WHERE live AND worker_uid = $1) AS holds,
        (SELECT count(*) FROM workers other
            WHERE other.app = workers.app AND other.ended_at IS NULL AND other.state <> 'DRAINING') AS present
    FROM workers WHERE uid = $1"""
# Those of one app ask one after the other, or the last two would both be told that another one stays.
_QUEUE_UP: Final = "SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || ' exit ' || $1, 0))"


async def grant_exit(tx: Transaction, commands: Sequence[GrantExit]) -> list[bool]:
    """Let idle workers go."""
    known = await askers(tx, [command.uid for command in commands])
    apps = sorted({known[command.uid].app for command in commands if command.uid in known})
    for app in apps:
        await tx.do(_QUEUE_UP, app)
    await counters.load(tx, (), [(app, lane.value) for app in apps for lane in Lane])
    granted = [await _grant_exit(tx, command) for command in commands]
    tx.askers.clear()
    return granted


async def _grant_exit(tx: Transaction, command: GrantExit) -> bool:
    rows = await tx.ask(_LEAVING, command.uid)
    if not rows:
        return True
    ((app, state, ended_at, holds, present),) = rows
    if state == WorkerState.DRAINING or ended_at is not None:
        return True
    if holds or present <= command.keep or any(line.in_line for line in tx.lines.of(app)):
        return False
    await tx.do("UPDATE workers SET state = 'DRAINING' WHERE uid = $1", command.uid)
    return True
