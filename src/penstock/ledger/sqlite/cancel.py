"""Ending runs from outside: someone no longer wants them, or they can't be run at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from penstock.ledger.commands import Cancel, Cancelled, Clear, Fail
from penstock.model.run import AttemptState, Reason, Run, State, Verdict

from .moves import Ending, Held, Moves, hold, hold_found
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
    moves = Moves(tx)
    held = hold(tx, [command.run_id for command in commands])
    outcomes = [_cancel(moves, command, held.get(command.run_id)) for command in commands]
    moves.write()
    return outcomes


def _cancel(moves: Moves, command: Cancel, held: Held | None) -> Cancelled:
    if held is None or held.run.terminal:
        return Cancelled(changed=False, run=None if held is None else held.run)
    return Cancelled(changed=True, run=_stop(moves, held, command.reason, command.message))


def _stop(moves: Moves, held: Held, reason: Reason, message: str) -> Run:
    run = held.run
    if run.state is State.RUNNING:
        # Its worker learns of it at its next heartbeat, and holds what it reserved until then.
        moves.end_attempt(held, Ending(AttemptState.CANCELLED, reason, message, live=True))
    verdict = Verdict(State.CANCELLED, reason, run.failures, run.deaths, AttemptState.CANCELLED)
    return moves.move(held, verdict, message)


def clear(tx: Transaction, commands: Sequence[Clear]) -> list[tuple[Run, ...]]:
    """Cancel what is live of apps."""
    return [_clear(tx, command) for command in commands]


def _clear(tx: Transaction, command: Clear) -> tuple[Run, ...]:
    moves = Moves(tx)
    found = tx.db.execute(_LIVE_RUNS, {"app": command.app, "limit": command.limit})
    runs = tuple(_stop(moves, held, command.reason, "") for held in hold_found(tx, found))
    moves.write()
    return runs


def fail(tx: Transaction, commands: Sequence[Fail]) -> list[Cancelled]:
    """Fail runs that wait."""
    moves = Moves(tx)
    held = hold(tx, [command.run_id for command in commands])
    outcomes = [_fail(moves, command, held.get(command.run_id)) for command in commands]
    moves.write()
    return outcomes


def _fail(moves: Moves, command: Fail, held: Held | None) -> Cancelled:
    if held is None or held.run.state is not State.QUEUED:
        return Cancelled(changed=False, run=None if held is None else held.run)
    run = held.run
    verdict = Verdict(State.FAILED, command.reason, run.failures, run.deaths, AttemptState.FAILED)
    return Cancelled(changed=True, run=moves.move(held, verdict, command.message))
