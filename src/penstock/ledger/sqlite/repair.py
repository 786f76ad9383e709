"""The maintainer's duties over runs, one function each, and the gap that an outage of ours left."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from penstock.ledger.commands import Gap, Mend, Sweep
from penstock.model.run import AttemptState, Payload, Reason, Run, State, Verdict, after_death

from .book import PIN_SECONDS
from .moves import Ending, Held, Moves, hold_found
from .transaction import Transaction

__all__ = ["gap", "mend"]

_TOMBSTONE_SECONDS: Final = 7 * 86_400.0
_ENDED_WORKER_SECONDS: Final = 14 * 86_400.0


def mend(tx: Transaction, commands: Sequence[Mend]) -> list[tuple[Run, ...]]:
    """Do the duties asked for."""
    return [tuple(_DUTIES[command.sweep](tx, command.limit)) for command in commands]


# ------------------------------------------------------------------ attempts that are overdue

_LEASES: Final = "SELECT seq FROM attempts WHERE live = 1 AND due_at <= ? AND lease_until <= ? ORDER BY due_at LIMIT ?"
_DEADLINES: Final = """
    SELECT seq FROM attempts
    WHERE live = 1 AND due_at <= ? AND deadline_at <= ? AND state IN ('LEASED', 'RUNNING') ORDER BY due_at LIMIT ?"""


def _leases(tx: Transaction, limit: int) -> list[Run]:
    moves = Moves(tx)
    runs = []
    for held in hold_found(tx, tx.db.execute(_LEASES, (tx.now, tx.now, limit))):
        if held.run.state is State.RUNNING:
            runs.append(_lost(moves, held))
        else:
            moves.release(held)  # it was cancelled or timed out before, and its worker never answered
    moves.write()
    return runs


def _lost(moves: Moves, held: Held) -> Run:
    run = held.run
    verdict = after_death(run.terms, failures=run.failures, deaths=run.deaths, alone=held.attempt_alone, killed=False)
    message = "its worker fell silent until the lease had run out"
    moves.end_attempt(held, Ending(verdict.attempt, Reason.LEASE_LOST, message))
    return moves.move(held, verdict, message)


def _deadlines(tx: Transaction, limit: int) -> list[Run]:
    moves = Moves(tx)
    runs = []
    for held in hold_found(tx, tx.db.execute(_DEADLINES, (tx.now, tx.now, limit))):
        run = held.run
        message = f"the attempt ran longer than {run.terms.run_deadline_seconds:g} s"
        # Its worker learns of it at its next heartbeat, and holds what it reserved until then.
        moves.end_attempt(held, Ending(AttemptState.FAILED, Reason.DEADLINE_EXCEEDED, message, live=True))
        verdict = Verdict(State.FAILED, Reason.DEADLINE_EXCEEDED, run.failures + 1, run.deaths, AttemptState.FAILED)
        runs.append(moves.move(held, verdict, message))
    moves.write()
    return runs


# ------------------------------------------------------------------ runs that wait

_EXPIRED: Final = "SELECT seq FROM runs WHERE state = 'QUEUED' AND expires_at <= ? ORDER BY expires_at LIMIT ?"
_DUE: Final = """
    SELECT seq FROM runs WHERE state = 'QUEUED' AND in_line = 0 AND not_before <= ? ORDER BY not_before LIMIT ?"""


def _queue_ttl(tx: Transaction, limit: int) -> list[Run]:
    moves = Moves(tx)
    runs = []
    for held in hold_found(tx, tx.db.execute(_EXPIRED, (tx.now, limit))):
        run = held.run
        verdict = Verdict(State.FAILED, Reason.QUEUE_EXPIRED, run.failures, run.deaths, AttemptState.FAILED)
        runs.append(moves.move(held, verdict, f"it waited longer than {run.terms.queue_ttl_seconds:g} s"))
    moves.write()
    return runs


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
    body = run.body
    if (
        body.key is not None
        and tx.db.execute(_SHARED_OBJECT, (run.key, run.tenant, run.app, run.seq, body.key)).fetchone()
    ):
        body = replace(body, key=None)  # another generation runs on this very object
    db = tx.db
    db.execute("UPDATE bodies SET bytes = NULL, object = ? WHERE seq = ?", (body.key, run.seq))
    db.execute("UPDATE results SET bytes = NULL WHERE seq = ?", (run.seq,))
    db.execute("DELETE FROM checkpoints WHERE seq = ?", (run.seq,))
    db.execute(
        "UPDATE runs SET purged_at = ?, keep_until = ? WHERE seq = ?", (tx.now, tx.now + _TOMBSTONE_SECONDS, run.seq)
    )
    return replace(run, body=_emptied(body), result=run.result and _emptied(run.result), purged_at=tx.now)


def _emptied(payload: Payload) -> Payload:
    return replace(payload, inline=None)


def _tombstones(tx: Transaction, limit: int) -> list[Run]:
    runs = [held.run for held in hold_found(tx, tx.db.execute(_FORGETTABLE, (tx.now, limit)))]
    seqs = [(run.seq,) for run in runs]
    for table in ("attempts", "results", "bodies", "checkpoints", "runs"):
        tx.db.executemany(f"DELETE FROM {table} WHERE seq = ?", seqs)  # noqa: S608  # the names stand above
    tx.db.execute(_FORGET_PINS, (tx.now - PIN_SECONDS, limit))
    tx.db.execute(_FORGET_WORKERS, (tx.now - _ENDED_WORKER_SECONDS, limit))
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
