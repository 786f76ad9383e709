"""Giving workers the first runs in line.

Whose turn it is comes from the lines' virtual times, which run of a tenant from an index that holds only what is in
line: a lease costs the same at ten runs as at ten million. A run past its `expires_at` is still served when its turn
comes before the sweep does.
"""

# ruff: noqa: S608  # the texts are column lists of ours; every value is bound

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from penstock.ledger.commands import Grant, Lease, Leased
from penstock.ledger.sql.leasing import ASKER, Asker, attempt_row, grant_of, pick, refusal
from penstock.ledger.sql.lines import Line, Share
from penstock.ledger.sql.rows import RUN_TABLES, RUN_WIDTH, Row, columns, run_of
from penstock.model.fleet import WorkerState
from penstock.model.run import Run

from .transaction import Transaction

__all__ = ["lease"]

# A lease reads its runs as they will be after it.
_LEASED_RUN: Final = columns(
    state="'RUNNING'",
    reason="NULL",
    message="''",
    epoch="r.epoch + 1",
    head="0",
    progress="NULL",
    progress_note="''",
    started_at=":now",
)
_NEXT: Final = f"""
    SELECT {_LEASED_RUN}, c.bytes FROM {RUN_TABLES} LEFT JOIN checkpoints c ON c.seq = r.seq
    WHERE r.share = :share AND r.in_line = 1 ORDER BY r.head DESC, r.priority DESC, r.seq LIMIT :count"""
_RUN: Final = """
    UPDATE runs SET
        state = 'RUNNING', in_line = 0, head = 0, epoch = epoch + 1, queue_left = max(0.0, expires_at - ?),
        started_at = ?, reason = NULL, message = '', progress = NULL, progress_note = ''
    WHERE seq = ?"""
_ATTEMPT: Final = """
    INSERT INTO attempts (
        seq, epoch, state, live, worker_uid, replica, alone, leased_at, lease_until, deadline_at, due_at, charged, node,
        candidate, gpu_ids)
    VALUES (?, ?, 'LEASED', 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""


class _Turn(msgspec.Struct, frozen=True, gc=False):
    """A run that may be leased next, as it would be after that, and the share that it is taken from."""

    share: Share
    run: Run
    checkpoint: bytes | None

    @property
    def alone(self) -> bool:
        return self.run.alone


def lease(tx: Transaction, commands: Sequence[Lease]) -> list[Leased]:
    """Serve those who ask, one after the other."""
    return [_lease(tx, command) for command in commands]


def _lease(tx: Transaction, command: Lease) -> Leased:
    asker = _asker(tx, command.worker_uid)
    refused = refusal(asker, command)
    if asker is None or refused:
        return Leased(refused=refused)
    line = tx.lines.find(command.app, command.lane)
    if line is None:
        _note_lease(tx, asker, 0)
        return Leased()
    picked, alone_waits = pick(deque(_in_turn(tx, line, command.count)), command.count, idle=command.idle)
    grants = _grant(tx, asker, command.replica, picked)
    _note_lease(tx, asker, len(grants))
    return Leased(grants=grants, left=line.in_line, alone_waits=alone_waits)


def _asker(tx: Transaction, uid: str) -> Asker | None:
    row = tx.db.execute(f"SELECT {ASKER} FROM workers WHERE uid = ?", (uid,)).fetchone()
    return None if row is None else Asker(*row)


def _note_lease(tx: Transaction, asker: Asker, granted: int) -> None:
    """Count what a worker was given; its first lease makes it IDLE. An empty one of a known worker writes nothing."""
    if granted or asker.state == WorkerState.STARTING:
        tx.db.execute(
            "UPDATE workers SET state = 'IDLE', leases = leases + ?, seen_at = ?, ready_at = coalesce(ready_at, ?) "
            "WHERE uid = ?",
            (granted, tx.now, tx.now, asker.uid),
        )


# ------------------------------------------------------------------ whose turn


def _in_turn(tx: Transaction, line: Line, count: int) -> Iterator[_Turn]:
    """Give the next runs of a line in the ledger's order."""
    turns = line.turns(count)
    rows = {share: _next(tx, share, most) for share, most in Counter(turns).items()}
    for share in turns:
        row = next(rows[share], None)
        if row is not None:
            yield _Turn(share, run_of(row), row[RUN_WIDTH])


def _next(tx: Transaction, share: Share, count: int) -> Iterator[Row]:
    return iter(tx.db.execute(_NEXT, {"now": tx.now, "share": share.id, "count": count}).fetchall())


# ------------------------------------------------------------------ the grant


def _grant(tx: Transaction, asker: Asker, replica: int, picked: Sequence[_Turn]) -> tuple[Grant, ...]:
    now = tx.now
    attempts = [attempt_row(asker, replica, turn.run, turn.share.lease(), now) for turn in picked]
    if attempts:
        tx.db.executemany(_RUN, [(now, now, turn.run.seq) for turn in picked])
        tx.db.executemany(_ATTEMPT, attempts)
    return tuple(grant_of(turn.run, turn.checkpoint, now) for turn in picked)
