"""Questions to the ledger, each a function of a connection, so it can be asked here or in a thread."""

# ruff: noqa: S608  # the texts are column lists of ours; every value is bound

from __future__ import annotations

import sqlite3
from heapq import nlargest
from itertools import chain
from typing import Any, Final

import msgspec

from penstock.ledger.commands import AuditRow, LaneCount, RunFilter
from penstock.ledger.sql.lines import Line
from penstock.ledger.sql.rows import ATTEMPT, LISTED_RUN, RUN, RUN_TABLES, attempt_of, run_of, worker_columns, worker_of
from penstock.model.fleet import Worker
from penstock.model.placement import AppEvent, Decision
from penstock.model.run import TERMINAL, Attempt, Run, State

from .accept import LATEST
from .transaction import as_json

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

_WORKER: Final = worker_columns("a.live = 1")

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
    row = db.execute(f"SELECT {_WORKER} FROM workers w WHERE w.uid = ?", (uid,)).fetchone()
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

    def and_pair(self, tenant: str, app: str) -> _Where:
        """Give this condition for one tenant's runs of one app."""
        narrowed = _Where()
        narrowed.add("tenant = ? AND app = ?", tenant, app)
        narrowed._terms += self._terms
        narrowed.values += self.values
        return narrowed

    def __str__(self) -> str:
        return f"WHERE {' AND '.join(self._terms)}" if self._terms else ""


# Lists find numbers first and records after that: an index holds the numbers in their order, while records in a
# filtered order would have to be gathered and sorted, a million of them if need be.
_LISTED: Final = f"SELECT {LISTED_RUN} FROM json_each(?) named CROSS JOIN {RUN_TABLES} WHERE r.seq = named.value"
_PAIRS: Final = "SELECT DISTINCT s.tenant, l.app FROM shares s JOIN lines l ON l.id = s.line"
_ENDED: Final = "state IN ('SUCCEEDED', 'FAILED', 'CANCELLED')"  # as the index of the ended has it


def runs(db: sqlite3.Connection, wanted: RunFilter) -> list[Run]:
    """List runs, newest first, without bytes."""
    where = _wanted(wanted)
    if wanted.since is not None:
        where.add("created_at >= ? AND seq >= ?", wanted.since, _first_since(db, wanted.since))
    if _by_pairs(wanted):
        pages = [_numbers(db, where.and_pair(*pair), wanted.limit) for pair in _pairs(db, wanted)]
    else:
        where.add_if("+tenant = ?", wanted.tenant)  # the sign keeps the index of pairs out of it
        where.add_if("+app = ?", wanted.app)
        pages = [_numbers(db, where, wanted.limit)]
    newest = nlargest(wanted.limit, chain.from_iterable(pages))
    return [run_of(row) for row in db.execute(_LISTED, (as_json(newest),))]


def _by_pairs(wanted: RunFilter) -> bool:
    """Tell whether it is quickest to ask each tenant and app that may have some."""
    if wanted.tag is not None or wanted.parent is not None or wanted.state is State.RUNNING:
        return False  # these have indexes of their own
    return wanted.tenant is not None or wanted.app is not None or wanted.state in TERMINAL


def _pairs(db: sqlite3.Connection, wanted: RunFilter) -> list[tuple[str, str]]:
    where = _Where()
    where.add_if("s.tenant = ?", wanted.tenant)
    where.add_if("l.app = ?", wanted.app)
    return db.execute(f"{_PAIRS} {where}", where.values).fetchall()


def _wanted(wanted: RunFilter) -> _Where:
    where = _Where()
    where.add_if("reason = ?", wanted.reason)
    where.add_if("tag = ?", wanted.tag)
    where.add_if("parent = ?", wanted.parent)
    where.add_if("lane = ?", wanted.lane)
    where.add_if("seq < ?", wanted.after)
    where.add_if("state = ?", wanted.state)
    if wanted.state in TERMINAL:
        where.add(_ENDED)
    if wanted.state is State.RUNNING:
        where.add("seq IN (SELECT seq FROM attempts WHERE live = 1)")
    return where


def _first_since(db: sqlite3.Connection, since: float) -> int:
    """Give about the first number of a moment: numbers rise with time, but for a clock that was bent."""
    (last,) = db.execute("SELECT coalesce(max(seq), 0) FROM runs").fetchone()
    low, high = 0, last + 1
    while low < high:
        middle = (low + high) // 2
        row = db.execute("SELECT seq, created_at FROM runs WHERE seq >= ? ORDER BY seq LIMIT 1", (middle,)).fetchone()
        if row is None or row[1] >= since:
            high = middle
        else:
            low = row[0] + 1
    return low


def _numbers(db: sqlite3.Connection, where: _Where, limit: int) -> list[int]:
    rows = db.execute(f"SELECT seq FROM runs {where} ORDER BY seq DESC LIMIT ?", (*where.values, limit))
    return [seq for (seq,) in rows]


def workers(db: sqlite3.Connection, *, app: str | None, live: bool, limit: int) -> list[Worker]:
    """List workers, newest first."""
    where = _Where()
    where.add_if("w.app = ?", app)
    if live:
        where.add("w.ended_at IS NULL")
    rows = db.execute(f"SELECT {_WORKER} FROM workers w {where} ORDER BY w.id DESC LIMIT ?", (*where.values, limit))
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
