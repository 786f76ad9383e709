"""Questions to the ledger, each a function of a connection, so it can be asked here or in a thread."""

# ruff: noqa: S608  # the texts are column lists of ours; every value is bound

from __future__ import annotations

import sqlite3
from typing import Any, Final

import msgspec

from penstock.ledger.commands import AuditRow, LaneCount, RunFilter
from penstock.model.fleet import Worker
from penstock.model.placement import AppEvent, Decision
from penstock.model.run import Attempt, Run, State

from .accept import LATEST
from .lines import Line
from .rows import ATTEMPT, LISTED_RUN, RUN, RUN_TABLES, WORKER, attempt_of, run_of, worker_of

__all__ = [
    "attempts",
    "audited",
    "count_of",
    "decisions",
    "events",
    "latest",
    "run",
    "runs",
    "unanswered",
    "worker",
    "workers",
]

# ------------------------------------------------------------------ points


def run(db: sqlite3.Connection, run_id: str) -> Run | None:
    """Give a run with its inline bytes."""
    row = db.execute(f"SELECT {RUN} FROM {RUN_TABLES} WHERE r.run_id = ?", (run_id,)).fetchone()
    return None if row is None else run_of(row)


def latest(db: sqlite3.Connection, tenant: str, app: str, key: str) -> Run | None:
    """Give the latest generation of a key."""
    row = db.execute(LATEST, (key, tenant, app)).fetchone()
    return None if row is None else run_of(row)


def attempts(db: sqlite3.Connection, run_id: str) -> list[Attempt]:
    """List a run's attempts, first to last."""
    rows = db.execute(
        f"SELECT {ATTEMPT} FROM runs r JOIN attempts a ON a.seq = r.seq WHERE r.run_id = ? ORDER BY a.epoch", (run_id,)
    )
    return [attempt_of(run_id, row) for row in rows]


def unanswered(db: sqlite3.Connection, until: float, limit: int) -> list[Attempt]:
    """List attempts that ended by a moment and that their worker still holds."""
    rows = db.execute(
        f"SELECT r.run_id, {ATTEMPT} FROM attempts a JOIN runs r ON r.seq = a.seq "
        "WHERE a.live = 1 AND a.finished_at IS NOT NULL AND a.finished_at <= ? ORDER BY a.finished_at LIMIT ?",
        (until, limit),
    )
    return [attempt_of(run_id, row) for run_id, *row in rows]


def worker(db: sqlite3.Connection, uid: str) -> Worker | None:
    """Give a worker."""
    row = db.execute(f"SELECT {WORKER} FROM workers w WHERE w.uid = ?", (uid,)).fetchone()
    return None if row is None else worker_of(row)


_OLDEST: Final = "SELECT min(queued_at) FROM runs WHERE share = ? AND state = 'QUEUED'"


def count_of(db: sqlite3.Connection, line: Line) -> LaneCount:
    """Give a line's counters, with the time of the run that waits longest."""
    waiting = [share.id for share in line.shares.values() if share.queued]
    oldest = [db.execute(_OLDEST, (share,)).fetchone()[0] for share in waiting]
    return LaneCount(
        app=line.app,
        lane=line.lane,
        queued=line.queued,
        in_line=line.in_line,
        running=line.running,
        leased_total=line.leased_total,
        settled_total=line.settled_total,
        service_seconds=line.service_seconds,
        oldest_queued_at=min((at for at in oldest if at is not None), default=None),
    )


# ------------------------------------------------------------------ lists


class _Where:
    """A condition that grows by what is wanted."""

    def __init__(self) -> None:
        self._terms: list[str] = []
        self.values: list[Any] = []

    def add(self, term: str, *values: Any) -> None:
        self._terms.append(term)
        self.values.extend(values)

    def add_if(self, term: str, value: Any) -> None:
        """Add a term with one value, unless that is None."""
        if value is not None:
            self.add(term, value)

    def __str__(self) -> str:
        return f"WHERE {' AND '.join(self._terms)}" if self._terms else ""


# Before the first run that is older: what is listed is newest first, so this walks over no more than is listed.
_SINCE: Final = "r.seq > coalesce((SELECT seq FROM runs WHERE created_at < ? ORDER BY seq DESC LIMIT 1), 0)"


def runs(db: sqlite3.Connection, wanted: RunFilter) -> list[Run]:
    """List runs, newest first, without bytes."""
    where = _Where()
    where.add_if("r.tenant = ?", wanted.tenant)
    where.add_if("r.app = ?", wanted.app)
    where.add_if("r.reason = ?", wanted.reason)
    where.add_if("r.tag = ?", wanted.tag)
    where.add_if("r.parent = ?", wanted.parent)
    where.add_if("r.lane = ?", wanted.lane)
    where.add_if(_SINCE, wanted.since)
    where.add_if("r.seq < ?", wanted.after)
    if wanted.state is not None:
        # The state stands in the text, so that the indexes of one state can serve it.
        where.add(f"r.state = '{wanted.state.value}'")
    if wanted.state is State.RUNNING:
        where.add("r.seq IN (SELECT seq FROM attempts WHERE live = 1)")
    rows = db.execute(
        f"SELECT {LISTED_RUN} FROM {RUN_TABLES} {where} ORDER BY r.seq DESC LIMIT ?", (*where.values, wanted.limit)
    )
    return [run_of(row) for row in rows]


def workers(db: sqlite3.Connection, *, app: str | None, live: bool, limit: int) -> list[Worker]:
    """List workers, newest first."""
    where = _Where()
    where.add_if("w.app = ?", app)
    if live:
        where.add("w.ended_at IS NULL")
    rows = db.execute(f"SELECT {WORKER} FROM workers w {where} ORDER BY w.id DESC LIMIT ?", (*where.values, limit))
    return [worker_of(row) for row in rows]


_decision: Final = msgspec.json.Decoder(Decision).decode


def decisions(db: sqlite3.Connection, app: str, limit: int) -> list[Decision]:
    """List an app's placements, newest first."""
    rows = db.execute("SELECT id, record FROM decisions WHERE app = ? ORDER BY id DESC LIMIT ?", (app, limit))
    return [msgspec.structs.replace(_decision(record), id=number) for number, record in rows]


def events(db: sqlite3.Connection, app: str | None, after: int, limit: int) -> list[AppEvent]:
    """List app events above an id, oldest first; with 0, the latest."""
    where = _Where()
    where.add_if("app = ?", app)
    rows = _after(db, "SELECT id, app, at, kind, message, worker_uid FROM events", where, after, limit)
    return [
        AppEvent(id=number, app=of, at=at, kind=kind, message=message, worker_uid=uid)
        for number, of, at, kind, message, uid in rows
    ]


def audited(db: sqlite3.Connection, tenant: str | None, after: int, limit: int) -> list[AuditRow]:
    """List audit rows above an id, oldest first; with 0, the latest."""
    where = _Where()
    where.add_if("tenant = ?", tenant)
    columns = ", ".join(AuditRow.__struct_fields__)
    rows = _after(db, f"SELECT {columns} FROM audit", where, after, limit)
    return [AuditRow(**dict(zip(AuditRow.__struct_fields__, row, strict=True))) for row in rows]


def _after(db: sqlite3.Connection, question: str, where: _Where, after: int, limit: int) -> list[tuple[Any, ...]]:
    if not after:
        return db.execute(f"{question} {where} ORDER BY id DESC LIMIT ?", (*where.values, limit)).fetchall()[::-1]
    where.add("id > ?", after)
    return db.execute(f"{question} {where} ORDER BY id LIMIT ?", (*where.values, limit)).fetchall()
