"""What workers say of the attempts they hold, and what ends runs from outside. The runs are in the hand, locked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from penstock.ledger.commands import (
    Cancel,
    Cancelled,
    Checkpoint,
    Clear,
    Extend,
    ExtendCode,
    Fail,
    Settle,
    SettleCode,
    Settled,
)
from penstock.ledger.sql import verdicts
from penstock.ledger.sql.moves import Held, Moves
from penstock.model.run import Run

from .moves import hold_found, note_changed, write_moves
from .transaction import Transaction, by_column

__all__ = ["cancel", "checkpoint", "clear", "extend", "fail", "settle"]

# ------------------------------------------------------------------ the end

_REPORTED: Final = """
    SELECT a.seq, a.epoch FROM unnest($1::bigint[], $2::int[]) named (seq, epoch)
    JOIN attempts a ON a.seq = named.seq AND a.epoch = named.epoch WHERE a.reported"""


async def settle(tx: Transaction, commands: Sequence[Settle]) -> list[Settled]:
    """End attempts; a run that two reports name keeps the first."""
    moves = Moves(tx.now)
    outcomes = [verdicts.settle(moves, command, tx.held_by_id.get(command.run_id)) for command in commands]
    await write_moves(tx, moves)
    late = {
        (tx.held_by_id[command.run_id].run.seq, command.epoch)
        for command, outcome in zip(commands, outcomes, strict=True)
        if outcome is None
    }
    reported = set(map(tuple, await tx.ask(_REPORTED, *by_column(list(late), 2)))) if late else set()
    return [
        _late(tx.held_by_id[command.run_id].run, command.epoch, reported) if outcome is None else outcome
        for command, outcome in zip(commands, outcomes, strict=True)
    ]


def _late(run: Run, epoch: int, reported: set[tuple[int, ...]]) -> Settled:
    """Tell why the report of an attempt that is not the latest changes nothing."""
    return Settled(SettleCode.ALREADY if (run.seq, epoch) in reported else SettleCode.STALE, run)


# ------------------------------------------------------------------ on the way

_RENEW: Final = """
    UPDATE attempts a SET
        lease_until = e.lease_until, due_at = e.due_at, state = CASE WHEN e.advanced THEN 'RUNNING' ELSE a.state END
    FROM unnest($1::bigint[], $2::int[], $3::float8[], $4::float8[], $5::bool[])
        e (seq, epoch, lease_until, due_at, advanced)
    WHERE a.seq = e.seq AND a.epoch = e.epoch"""
_PROGRESS: Final = """
    UPDATE runs r SET progress = p.progress, progress_note = p.note
    FROM unnest($1::bigint[], $2::float8[], $3::text[]) p (seq, progress, note) WHERE r.seq = p.seq"""
_SAVE: Final = """
    INSERT INTO checkpoints (seq, bytes) SELECT * FROM unnest($1::bigint[], $2::bytea[])
    ON CONFLICT (seq) DO UPDATE SET bytes = excluded.bytes WHERE checkpoints.bytes <> excluded.bytes
    RETURNING seq"""
_FORGIVE: Final = "UPDATE runs SET deaths = 0 WHERE seq = ANY ($1::bigint[])"


async def extend(tx: Transaction, commands: Sequence[Extend]) -> list[ExtendCode]:
    """Renew leases and note progress."""
    outcomes = [_code(tx, command) for command in commands]
    going = {
        tx.held_by_id[command.run_id].run.seq: command
        for command, code in zip(commands, outcomes, strict=True)
        if code is ExtendCode.OK
    }
    advanced = {seq for seq, command in going.items() if command.progress is not None or command.note}
    await _renew(tx, [tx.held[seq] for seq in going], advanced)
    for seq in advanced:
        _advance(tx.held[seq], going[seq])
    if advanced:
        runs = [tx.held[seq].run for seq in sorted(advanced)]
        await tx.do(_PROGRESS, *by_column([(run.seq, run.progress, run.progress_note) for run in runs], 3))
        note_changed(tx, (run.id for run in runs))
    return outcomes


def _code(tx: Transaction, command: Extend | Checkpoint) -> ExtendCode:
    held = tx.held_by_id.get(command.run_id)
    return ExtendCode.LOST if held is None else verdicts.extended(held.run.state, held.run.epoch, command.epoch)


def _advance(held: Held, command: Extend) -> None:
    progress = held.run.progress if command.progress is None else command.progress
    held.run = replace(held.run, progress=progress, progress_note=command.note)


async def _renew(tx: Transaction, going: Sequence[Held], advanced: set[int]) -> None:
    for held in going:
        held.lease_until = tx.now + held.run.terms.lease_seconds
    rows = [
        (
            held.run.seq,
            held.run.epoch,
            held.lease_until,
            min(held.lease_until, held.deadline_at),
            held.run.seq in advanced,
        )
        for held in going
    ]
    if rows:
        await tx.do(_RENEW, *by_column(list(rows), 5))


async def checkpoint(tx: Transaction, commands: Sequence[Checkpoint]) -> list[ExtendCode]:
    """Save what later attempts resume from; other bytes than before are progress."""
    outcomes = [_code(tx, command) for command in commands]
    saved = {
        tx.held_by_id[command.run_id].run.seq: command.data
        for command, code in zip(commands, outcomes, strict=True)
        if code is ExtendCode.OK
    }
    if saved:
        changed = {seq for (seq,) in await tx.ask(_SAVE, *by_column(sorted(saved.items()), 2))}
        await tx.do(_FORGIVE, sorted(changed))
        for seq in changed:
            tx.held[seq].run = replace(tx.held[seq].run, deaths=0)
        await _renew(tx, [tx.held[seq] for seq in saved], changed)
    return outcomes


# ------------------------------------------------------------------ from outside

_LIVE_RUNS: Final = """
    SELECT r.seq FROM lines l JOIN shares s ON s.line = l.id JOIN runs r ON r.share = s.id
    WHERE l.app = $1 AND r.state = 'QUEUED'
    UNION ALL
    SELECT r.seq FROM attempts a JOIN runs r ON r.seq = a.seq AND r.epoch = a.epoch
    WHERE a.live AND r.app = $1 AND r.state = 'RUNNING'
    LIMIT $2"""
_LOCK: Final = """
    SELECT seq FROM runs WHERE seq = ANY ($1::bigint[]) AND state IN ('QUEUED', 'RUNNING')
    ORDER BY seq FOR NO KEY UPDATE"""


async def cancel(tx: Transaction, commands: Sequence[Cancel]) -> list[Cancelled]:
    """Cancel runs that are not terminal."""
    moves = Moves(tx.now)
    outcomes = [verdicts.cancel(moves, command, tx.held_by_id.get(command.run_id)) for command in commands]
    await write_moves(tx, moves)
    return outcomes


async def fail(tx: Transaction, commands: Sequence[Fail]) -> list[Cancelled]:
    """Fail runs that wait."""
    moves = Moves(tx.now)
    outcomes = [verdicts.fail(moves, command, tx.held_by_id.get(command.run_id)) for command in commands]
    await write_moves(tx, moves)
    return outcomes


async def clear(tx: Transaction, commands: Sequence[Clear]) -> list[tuple[Run, ...]]:
    """Cancel what is live of apps."""
    return [await _clear(tx, command) for command in commands]


async def _clear(tx: Transaction, command: Clear) -> tuple[Run, ...]:
    moves = Moves(tx.now)
    live = [seq for (seq,) in await tx.ask(_LIVE_RUNS, command.app, command.limit)]
    found = [seq for (seq,) in await tx.ask(_LOCK, live)] if live else []
    for held in await hold_found(tx, found):
        verdicts.stop(moves, held, command.reason, "")
    await write_moves(tx, moves)
    return tuple(moves.runs)
