"""What workers say of the attempts they hold: they go on, they have come so far, they are done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from penstock.ledger.commands import Checkpoint, Extend, ExtendCode, Settle, SettleCode, Settled
from penstock.model.run import Outcome, Reason, Report, Run, State, after_report

from .moves import Ending, Held, Moves, hold
from .rows import as_json
from .terms import decode_terms
from .transaction import Transaction

__all__ = ["checkpoint", "extend", "settle"]

# ------------------------------------------------------------------ the end


def settle(tx: Transaction, commands: Sequence[Settle]) -> list[Settled]:
    """End attempts; a run that two reports name keeps the first."""
    moves = Moves(tx)
    held = hold(tx, [command.run_id for command in commands])
    outcomes = [_settle(tx, moves, command, held.get(command.run_id)) for command in commands]
    moves.write()
    return outcomes


def _settle(tx: Transaction, moves: Moves, command: Settle, held: Held | None) -> Settled:
    if held is None:
        return Settled(SettleCode.STALE)
    run = held.run
    if run.state is State.RUNNING and run.epoch == command.epoch:
        return Settled(SettleCode.OK, _end(moves, held, command.report))
    if run.epoch == command.epoch and held.live:
        moves.release(held)
    return Settled(_late(tx, held, command.epoch), run)


def _end(moves: Moves, held: Held, report: Report) -> Run:
    run = held.run
    verdict = after_report(run.terms, report, failures=run.failures, deaths=run.deaths, alone=held.attempt_alone)
    blamed = report.outcome in {Outcome.FAILED, Outcome.RETRY}
    reason = (report.reason or Reason.HANDLER_ERROR) if blamed else None
    moves.end_attempt(held, Ending(verdict.attempt, reason, report.message, reported=True))
    if report.outcome is not Outcome.RELEASED:
        held.share.line.served(moves.seconds(held))
    result = report.result if verdict.state is State.SUCCEEDED else None
    return moves.move(held, verdict, report.message, result)


def _late(tx: Transaction, held: Held, epoch: int) -> SettleCode:
    """Tell why a report changes nothing."""
    run = held.run
    if run.epoch == epoch:
        if held.reported:
            return SettleCode.ALREADY
        return SettleCode.CANCELLED if run.state is State.CANCELLED else SettleCode.STALE
    row = tx.db.execute("SELECT reported FROM attempts WHERE seq = ? AND epoch = ?", (run.seq, epoch)).fetchone()
    return SettleCode.ALREADY if row == (1,) else SettleCode.STALE


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
        if epoch != command.epoch:
            yield ExtendCode.LOST
        elif state != State.RUNNING:
            yield ExtendCode.CANCELLED if state == State.CANCELLED else ExtendCode.LOST
        else:
            until = tx.now + decode_terms(terms).lease_seconds
            yield _Going(seq, epoch, until, min(until, deadline))


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
