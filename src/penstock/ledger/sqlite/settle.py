"""What workers say of the attempts they hold: they go on, they have come so far, they are done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from penstock.ledger.commands import Checkpoint, Extend, ExtendCode, Settle, SettleCode, Settled
from penstock.ledger.sql import verdicts
from penstock.ledger.sql.moves import Held, Moves
from penstock.ledger.sql.terms import decode_terms
from penstock.model.run import State

from .moves import hold, write_moves
from .transaction import Transaction, as_json

__all__ = ["checkpoint", "extend", "settle"]

# ------------------------------------------------------------------ the end


def settle(tx: Transaction, commands: Sequence[Settle]) -> list[Settled]:
    """End attempts; a run that two reports name keeps the first."""
    moves = Moves(tx.now)
    held = hold(tx, [command.run_id for command in commands])
    outcomes = [_settle(tx, moves, command, held.get(command.run_id)) for command in commands]
    write_moves(tx, moves)
    return outcomes


def _settle(tx: Transaction, moves: Moves, command: Settle, held: Held | None) -> Settled:
    return verdicts.settle(moves, command, held) or _late(tx, held, command.epoch)


def _late(tx: Transaction, held: Held | None, epoch: int) -> Settled:
    """Tell why the report of an attempt that is not the latest changes nothing."""
    assert held is not None
    run = held.run
    row = tx.db.execute("SELECT reported FROM attempts WHERE seq = ? AND epoch = ?", (run.seq, epoch)).fetchone()
    return Settled(SettleCode.ALREADY if row == (1,) else SettleCode.STALE, run)


# ------------------------------------------------------------------ on the way


class _Going(msgspec.Struct, frozen=True, gc=False):
    """An attempt that goes on."""

    seq: int
    epoch: int
    lease_until: float
    due_at: float


_ATTEMPTS: Final = """
    SELECT r.run_id, r.seq, r.state, r.epoch, r.terms, a.deadline_at
    FROM json_each(?) named CROSS JOIN runs r ON r.run_id = named.value
    LEFT JOIN attempts a ON a.seq = r.seq AND a.epoch = r.epoch"""
_RENEW: Final = "UPDATE attempts SET lease_until = ?, due_at = ? WHERE seq = ? AND epoch = ?"
_ADVANCE: Final = "UPDATE attempts SET state = 'RUNNING' WHERE seq = ? AND epoch = ?"
_PROGRESS: Final = "UPDATE runs SET progress = coalesce(?, progress), progress_note = ? WHERE seq = ?"


def _going(tx: Transaction, commands: Sequence[Extend] | Sequence[Checkpoint]) -> Iterator[_Going | ExtendCode]:
    """Give for each the attempt that may go on, or why it may not."""
    names = as_json({command.run_id for command in commands})
    rows = {row[0]: row[1:] for row in tx.db.execute(_ATTEMPTS, (names,))}
    for command in commands:
        row = rows.get(command.run_id)
        if row is None:
            yield ExtendCode.LOST
            continue
        seq, state, epoch, terms, deadline = row
        code = verdicts.extended(State(state), epoch, command.epoch)
        if code is ExtendCode.OK:
            until = tx.now + decode_terms(terms).lease_seconds
            yield _Going(seq, epoch, until, min(until, deadline))
        else:
            yield code


def _renew(tx: Transaction, going: Sequence[_Going]) -> None:
    tx.db.executemany(_RENEW, [(one.lease_until, one.due_at, one.seq, one.epoch) for one in going])


def extend(tx: Transaction, commands: Sequence[Extend]) -> list[ExtendCode]:
    """Renew leases and note progress."""
    going = list(_going(tx, commands))
    _renew(tx, [one for one in going if isinstance(one, _Going)])
    progress = [
        (command.progress, command.note, one.seq, one.epoch)
        for command, one in zip(commands, going, strict=True)
        if isinstance(one, _Going) and (command.progress is not None or command.note)
    ]
    if progress:
        tx.db.executemany(_PROGRESS, [row[:3] for row in progress])
        tx.db.executemany(_ADVANCE, [row[2:] for row in progress])
    return [_code(one) for one in going]


def _code(one: _Going | ExtendCode) -> ExtendCode:
    return ExtendCode.OK if isinstance(one, _Going) else one


def checkpoint(tx: Transaction, commands: Sequence[Checkpoint]) -> list[ExtendCode]:
    """Save what later attempts resume from."""
    going = list(_going(tx, commands))
    _renew(tx, [one for one in going if isinstance(one, _Going)])
    for command, one in zip(commands, going, strict=True):
        if isinstance(one, _Going):
            _save(tx, one, command.data)
    return [_code(one) for one in going]


def _save(tx: Transaction, going: _Going, data: bytes) -> None:
    """Keep the bytes; other ones than before are progress."""
    db = tx.db
    saved = db.execute("SELECT bytes FROM checkpoints WHERE seq = ?", (going.seq,)).fetchone()
    if saved != (data,):
        db.execute("INSERT OR REPLACE INTO checkpoints VALUES (?, ?)", (going.seq, data))
        db.execute("UPDATE runs SET deaths = 0 WHERE seq = ?", (going.seq,))
        db.execute(_ADVANCE, (going.seq, going.epoch))
