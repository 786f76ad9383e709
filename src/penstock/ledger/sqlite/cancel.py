"""Ending runs from outside: someone no longer wants them, or they can't be run at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from penstock.ledger.commands import Cancel, Cancelled, Clear, Fail
from penstock.ledger.sql import verdicts
from penstock.ledger.sql.moves import Moves
from penstock.model.run import Run

from .moves import hold, hold_found, write_moves
from .transaction import Transaction

__all__ = ["cancel", "clear", "fail"]

_LIVE_RUNS: Final = """
    SELECT r.seq FROM lines l JOIN shares s ON s.line = l.id JOIN runs r ON r.share = s.id
    WHERE l.app = :app AND r.state = 'QUEUED'
    UNION ALL
    SELECT r.seq FROM attempts a JOIN runs r ON r.seq = a.seq AND r.epoch = a.epoch
    WHERE a.live = 1 AND r.app = :app AND r.state = 'RUNNING'
    LIMIT :limit"""


def cancel(tx: Transaction, commands: Sequence[Cancel]) -> list[Cancelled]:
    """Cancel runs that are not terminal."""
    moves = Moves(tx.now)
    held = hold(tx, [command.run_id for command in commands])
    outcomes = [verdicts.cancel(moves, command, held.get(command.run_id)) for command in commands]
    write_moves(tx, moves)
    return outcomes


def clear(tx: Transaction, commands: Sequence[Clear]) -> list[tuple[Run, ...]]:
    """Cancel what is live of apps."""
    return [_clear(tx, command) for command in commands]


def _clear(tx: Transaction, command: Clear) -> tuple[Run, ...]:
    moves = Moves(tx.now)
    found = tx.db.execute(_LIVE_RUNS, {"app": command.app, "limit": command.limit})
    runs = tuple(verdicts.stop(moves, held, command.reason, "") for held in hold_found(tx, found))
    write_moves(tx, moves)
    return runs


def fail(tx: Transaction, commands: Sequence[Fail]) -> list[Cancelled]:
    """Fail runs that wait."""
    moves = Moves(tx.now)
    held = hold(tx, [command.run_id for command in commands])
    outcomes = [verdicts.fail(moves, command, held.get(command.run_id)) for command in commands]
    write_moves(tx, moves)
    return outcomes
