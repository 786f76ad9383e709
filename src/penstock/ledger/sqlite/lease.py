"""Giving workers the first runs in line.

Whose turn it is comes from the lines' virtual times, which run of a tenant from an index that holds only what is in
line: a lease costs the same at ten runs as at ten million. A run past its `expires_at` is still served when its turn
comes before the sweep does.
"""

# ruff: noqa: S608  # the texts are column lists of ours; every value is bound

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from penstock.ledger.commands import Grant, Lease, Leased
from penstock.model.fleet import WorkerState
from penstock.model.run import Run

from .lines import Line, Share
from .rows import LEASED_RUN, RUN_TABLES, RUN_WIDTH, Row, run_of
from .transaction import Transaction

__all__ = ["lease"]

_NEXT: Final = f"""
    SELECT {LEASED_RUN}, c.bytes FROM {RUN_TABLES} LEFT JOIN checkpoints c ON c.seq = r.seq
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


class _Asker(msgspec.Struct, frozen=True):
    uid: str
    app: str
    state: str
    node: str | None
    candidate: str | None
    gpu_ids: str


def lease(tx: Transaction, commands: Sequence[Lease]) -> list[Leased]:
    """Serve those who ask, one after the other."""
    return [_lease(tx, command) for command in commands]


def _lease(tx: Transaction, command: Lease) -> Leased:
    asker = _asker(tx, command.worker_uid)
    refused = _refusal(asker, command)
    if asker is None or refused:
        return Leased(refused=refused)
    line = tx.lines.find(command.app, command.lane)
    if line is None:
        _note_lease(tx, asker, 0)
        return Leased()
    picked, alone_waits = _pick(_in_turn(tx, line, command.count), idle=command.idle)
    grants = _grant(tx, asker, command.replica, picked)
    _note_lease(tx, asker, len(grants))
    return Leased(grants=grants, left=line.in_line, alone_waits=alone_waits)


def _asker(tx: Transaction, uid: str) -> _Asker | None:
    row = tx.db.execute(
        "SELECT uid, app, state, node, candidate, gpu_ids FROM workers WHERE uid = ?", (uid,)
    ).fetchone()
    return None if row is None else _Asker(*row)


def _refusal(asker: _Asker | None, command: Lease) -> str:
    if asker is None:
        return f"worker {command.worker_uid} is unknown"
    if asker.app != command.app:
        return f"worker {asker.uid} is of app {asker.app}"
    if asker.state not in {WorkerState.STARTING, WorkerState.IDLE}:
        return f"worker {asker.uid} is {asker.state}"
    return ""


def _note_lease(tx: Transaction, asker: _Asker, granted: int) -> None:
    """Count what a worker was given; its first lease makes it IDLE. An empty one of a known worker writes nothing."""
    if granted or asker.state == WorkerState.STARTING:
        tx.db.execute(
            "UPDATE workers SET state = 'IDLE', leases = leases + ?, seen_at = ?, ready_at = coalesce(ready_at, ?) "
            "WHERE uid = ?",
            (granted, tx.now, tx.now, asker.uid),
        )


# ------------------------------------------------------------------ whose turn


def _in_turn(tx: Transaction, line: Line, count: int) -> Iterator[tuple[Share, Row]]:
    """Give the next runs of a line in the ledger's order, each with the share that it is taken from."""
    turns = line.turns(count)
    rows = {share: _next(tx, share, most) for share, most in Counter(turns).items()}
    for share in turns:
        row = next(rows[share], None)
        if row is not None:
            yield share, row


def _next(tx: Transaction, share: Share, count: int) -> Iterator[Row]:
    return iter(tx.db.execute(_NEXT, {"now": tx.now, "share": share.id, "count": count}).fetchall())


def _pick(runs: Iterator[tuple[Share, Row]], *, idle: bool) -> tuple[list[tuple[Share, Run, Row]], bool]:
    """Take runs up to the first that must be alone; tells too whether such a one is first and the asker is busy."""
    picked: list[tuple[Share, Run, Row]] = []
    for share, row in runs:
        run = run_of(row)
        if not run.alone:
            picked.append((share, run, row))
        elif picked:
            break
        elif idle:
            return [(share, run, row)], False
        else:
            return [], True
    return picked, False


# ------------------------------------------------------------------ the grant


def _grant(tx: Transaction, asker: _Asker, replica: int, picked: Sequence[tuple[Share, Run, Row]]) -> tuple[Grant, ...]:
    now = tx.now
    grants = []
    attempts = []
    for share, run, row in picked:
        until = now + run.terms.lease_seconds
        deadline = now + run.terms.run_deadline_seconds
        grants.append(
            Grant(run=run, lease_until=until, deadline_at=deadline, alone=run.alone, checkpoint=row[RUN_WIDTH])
        )
        attempts.append(
            (
                run.seq,
                run.epoch,
                asker.uid,
                replica,
                run.alone,
                now,
                until,
                deadline,
                min(until, deadline),
                share.lease(),
                asker.node,
                asker.candidate,
                asker.gpu_ids,
            )
        )
    if grants:
        tx.db.executemany(_RUN, [(now, now, run.seq) for _, run, _ in picked])
        tx.db.executemany(_ATTEMPT, attempts)
    return tuple(grants)
