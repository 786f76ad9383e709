"""The maintainer's duties over runs, one function each, and the gap that an outage of ours left.

A duty passes over what another group has in its hand just now: it comes again soon. What it found is looked at once
more after it was locked, for an attempt may have been extended in between.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from msgspec.structs import replace

from penstock.ledger.commands import Gap, Mend, Sweep
from penstock.ledger.sql import verdicts
from penstock.ledger.sql.book import ENDED_WORKER_SECONDS, PIN_SECONDS, TOMBSTONE_SECONDS, purged
from penstock.ledger.sql.moves import Held, Moves
from penstock.model.run import Run, State

from .moves import hold_found, note_changed, write_moves
from .transaction import Transaction, by_column

__all__ = ["gap", "mend"]


async def mend(tx: Transaction, commands: Sequence[Mend]) -> list[tuple[Run, ...]]:
    """Do the duties asked for."""
    return [tuple(await _DUTIES[command.sweep](tx, command.limit)) for command in commands]


async def _found(tx: Transaction, question: str, *values: Any) -> list[Held]:
    return await hold_found(tx, [seq for (seq,) in await tx.ask(question, *values)])


# ------------------------------------------------------------------ attempts that are overdue

_LEASES: Final = """
    SELECT r.seq FROM attempts a JOIN runs r ON r.seq = a.seq
    WHERE a.live AND a.due_at <= $1 AND a.lease_until <= $1
    ORDER BY a.due_at LIMIT $2 FOR NO KEY UPDATE OF r SKIP LOCKED"""
_DEADLINES: Final = """
    SELECT r.seq FROM attempts a JOIN runs r ON r.seq = a.seq
    WHERE a.live AND a.due_at <= $1 AND a.deadline_at <= $1 AND a.state IN ('LEASED', 'RUNNING')
    ORDER BY a.due_at LIMIT $2 FOR NO KEY UPDATE OF r SKIP LOCKED"""


async def _leases(tx: Transaction, limit: int) -> list[Run]:
    moves = Moves(tx.now)
    for held in await _found(tx, _LEASES, tx.now, limit):
        if held.live and held.lease_until <= tx.now:
            verdicts.lose(moves, held)
    await write_moves(tx, moves)
    return moves.runs


async def _deadlines(tx: Transaction, limit: int) -> list[Run]:
    moves = Moves(tx.now)
    for held in await _found(tx, _DEADLINES, tx.now, limit):
        if held.run.state is State.RUNNING and held.deadline_at <= tx.now:
            verdicts.time_out(moves, held)
    await write_moves(tx, moves)
    return moves.runs


# ------------------------------------------------------------------ runs that wait

_EXPIRED: Final = """
    SELECT seq FROM runs WHERE state = 'QUEUED' AND expires_at <= $1
    ORDER BY expires_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED"""
_DUE: Final = """
    SELECT seq FROM runs WHERE state = 'QUEUED' AND NOT in_line AND not_before <= $1
    ORDER BY not_before LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED"""
_STEP_IN: Final = "UPDATE runs SET in_line = true, head = true WHERE seq = ANY ($1::bigint[])"


async def _queue_ttl(tx: Transaction, limit: int) -> list[Run]:
    moves = Moves(tx.now)
    for held in await _found(tx, _EXPIRED, tx.now, limit):
        verdicts.expire(moves, held)
    await write_moves(tx, moves)
    return moves.runs


async def _due(tx: Transaction, limit: int) -> list[Run]:
    found = await _found(tx, _DUE, tx.now, limit)
    for held in found:
        held.share.step_in()
        held.in_line = True
        held.run = replace(held.run, head=True)
    runs = [held.run for held in found]
    await tx.do(_STEP_IN, [run.seq for run in runs])
    note_changed(tx, (run.id for run in runs))
    return runs


# ------------------------------------------------------------------ runs that are over

_PURGEABLE: Final = """
    SELECT seq FROM runs WHERE keep_until <= $1 AND purged_at IS NULL
    ORDER BY keep_until LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED"""
_FORGETTABLE: Final = """
    SELECT seq FROM runs WHERE keep_until <= $1 AND purged_at IS NOT NULL
    ORDER BY keep_until LIMIT $2 FOR UPDATE SKIP LOCKED"""
_SHARED_OBJECTS: Final = """
    SELECT named.seq FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[])
        named (seq, key, tenant, app, object)
    WHERE EXISTS (
        SELECT 1 FROM runs r JOIN bodies b ON b.seq = r.seq
        WHERE r.key = named.key AND r.tenant = named.tenant AND r.app = named.app AND r.seq <> named.seq
            AND r.purged_at IS NULL AND b.object = named.object)"""
_PURGE: Final = """
    WITH emptied AS (
        UPDATE bodies b SET bytes = NULL, object = p.object
        FROM unnest($1::bigint[], $2::text[]) p (seq, object) WHERE b.seq = p.seq),
    cut AS (UPDATE results SET bytes = NULL WHERE seq = ANY ($1::bigint[])),
    dropped AS (DELETE FROM checkpoints WHERE seq = ANY ($1::bigint[]))
    UPDATE runs SET purged_at = $3, keep_until = $3::float8 + $4::float8 WHERE seq = ANY ($1::bigint[])"""
_FORGET: Final = """
    WITH attempts_gone AS (DELETE FROM attempts WHERE seq = ANY ($1::bigint[])),
    results_gone AS (DELETE FROM results WHERE seq = ANY ($1::bigint[])),
    bodies_gone AS (DELETE FROM bodies WHERE seq = ANY ($1::bigint[])),
    checkpoints_gone AS (DELETE FROM checkpoints WHERE seq = ANY ($1::bigint[]))
    DELETE FROM runs WHERE seq = ANY ($1::bigint[])"""
_FORGET_PINS: Final = """
    DELETE FROM pins WHERE (scope, key) IN (
        SELECT scope, key FROM pins WHERE taken_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)"""
_FORGET_WORKERS: Final = """
    DELETE FROM workers WHERE id IN (
        SELECT id FROM workers WHERE ended_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)"""


async def _results(tx: Transaction, limit: int) -> list[Run]:
    """Drop runs' bytes. The objects that nobody else needs stay named in them, so that they can be removed."""
    runs: list[Run] = []
    found = [held.run for held in await _found(tx, _PURGEABLE, tx.now, limit)]
    # Of two generations that run on one object and are purged together, the later one keeps its name.
    while found:
        batch = list({run.body.key or run.seq: run for run in reversed(found)}.values())
        runs += await _purge(tx, batch)
        gone = {run.seq for run in batch}
        found = [run for run in found if run.seq not in gone]
    return sorted(runs, key=lambda run: run.finished_at or 0.0)


async def _purge(tx: Transaction, runs: Sequence[Run]) -> list[Run]:
    asked = [(run.seq, run.key, run.tenant, run.app, run.body.key) for run in runs if run.body.key is not None]
    shared = {seq for (seq,) in await tx.ask(_SHARED_OBJECTS, *by_column(list(asked), 5))} if asked else set()
    after = [purged(run, tx.now, shared=run.seq in shared) for run in runs]
    await tx.do(_PURGE, *by_column([(run.seq, run.body.key) for run in after], 2), tx.now, TOMBSTONE_SECONDS)
    return after


async def _tombstones(tx: Transaction, limit: int) -> list[Run]:
    runs = [held.run for held in await _found(tx, _FORGETTABLE, tx.now, limit)]
    await tx.do(_FORGET, [run.seq for run in runs])
    await tx.do(_FORGET_PINS, tx.now - PIN_SECONDS, limit)
    await tx.do(_FORGET_WORKERS, tx.now - ENDED_WORKER_SECONDS, limit)
    return runs


_DUTIES: Final[Mapping[Sweep, Callable[[Transaction, int], Awaitable[Sequence[Run]]]]] = {
    Sweep.LEASES: _leases,
    Sweep.DEADLINES: _deadlines,
    Sweep.QUEUE_TTL: _queue_ttl,
    Sweep.DUE: _due,
    Sweep.RESULTS: _results,
    Sweep.TOMBSTONES: _tombstones,
}

# ------------------------------------------------------------------ an outage of ours

_ALIVE: Final = "broker_alive_at"
_LAST: Final = "SELECT value FROM notes WHERE name = $1 FOR UPDATE"
_NOTE: Final = "INSERT INTO notes VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
_FORGIVE: Final = """
    WITH held AS (SELECT seq, epoch FROM attempts WHERE live ORDER BY seq FOR NO KEY UPDATE)
    UPDATE attempts a SET
        lease_until = lease_until + $1, deadline_at = deadline_at + $1, due_at = due_at + $1
    FROM held WHERE a.seq = held.seq AND a.epoch = held.epoch"""


async def gap(tx: Transaction, commands: Sequence[Gap]) -> list[float]:
    """Note that the broker is alive, and forgive the time it was not."""
    return [await _gap(tx, command) for command in commands]


async def _gap(tx: Transaction, command: Gap) -> float:
    rows = await tx.ask(_LAST, _ALIVE)
    await tx.do(_NOTE, _ALIVE, tx.now)
    seconds = max(0.0, tx.now - rows[0][0]) if rows else 0.0
    if command.forgive and seconds:
        await tx.do(_FORGIVE, seconds)
    return seconds
