"""Questions to the ledger, each over one of the connections that read."""

# ruff: noqa: S608  # the texts are column lists of ours; every value is bound

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from penstock.ledger.commands import AuditRow, LaneCount, RunFilter
from penstock.ledger.sql.rows import (
    ATTEMPT,
    LISTED_RUN,
    RUN,
    RUN_TABLES,
    Row,
    attempt_of,
    run_of,
    worker_columns,
    worker_of,
)
from penstock.model.fleet import Worker
from penstock.model.placement import AppEvent, Decision
from penstock.model.run import TERMINAL, Attempt, Lane, Run, State

from .accept import LATEST

__all__ = [
    "ahead",
    "attempts",
    "audited",
    "decisions",
    "events",
    "lanes",
    "latest",
    "run",
    "runs",
    "unanswered",
    "worker",
    "workers",
]

Ask = Callable[..., Awaitable[list[Row]]]

_WORKER: Final = worker_columns("a.live")

# ------------------------------------------------------------------ points


async def run(ask: Ask, run_id: str) -> Run | None:
    """Give a run with its inline bytes."""
    rows = await ask(f"SELECT {RUN} FROM {RUN_TABLES} WHERE r.run_id = $1", run_id)
    return run_of(rows[0]) if rows else None


async def latest(ask: Ask, tenant: str, app: str, key: str) -> Run | None:
    """Give the latest generation of a key."""
    rows = await ask(LATEST, [key], [tenant], [app])
    return run_of(rows[0]) if rows else None


async def attempts(ask: Ask, run_id: str) -> list[Attempt]:
    """List a run's attempts, first to last."""
    rows = await ask(
        f"SELECT {ATTEMPT} FROM runs r JOIN attempts a ON a.seq = r.seq WHERE r.run_id = $1 ORDER BY a.epoch", run_id
    )
    return [attempt_of(run_id, row) for row in rows]


async def unanswered(ask: Ask, until: float, limit: int) -> list[Attempt]:
    """List attempts that ended by a moment and that their worker still holds."""
    rows = await ask(
        f"SELECT r.run_id, {ATTEMPT} FROM attempts a JOIN runs r ON r.seq = a.seq "
        "WHERE a.live AND a.finished_at IS NOT NULL AND a.finished_at <= $1 ORDER BY a.finished_at LIMIT $2",
        until,
        limit,
    )
    return [attempt_of(row[0], row[1:]) for row in rows]


async def worker(ask: Ask, uid: str) -> Worker | None:
    """Give a worker."""
    rows = await ask(f"SELECT {_WORKER} FROM workers w WHERE w.uid = $1", uid)
    return worker_of(rows[0]) if rows else None


_AHEAD: Final = """
    SELECT greatest(0, least($3 - l.leased_total, (SELECT sum(queued)::bigint FROM shares WHERE line = l.id)))
    FROM lines l WHERE l.app = $1 AND l.lane = $2"""


async def ahead(ask: Ask, app: str, lane: Lane, mark: int) -> int:
    """Give about how many are served before a mark, from counters."""
    rows = await ask(_AHEAD, app, lane.value, mark)
    return int(rows[0][0]) if rows else 0


_LANES: Final = """
    SELECT l.app, l.lane, l.leased_total, l.settled_total, l.service_seconds, sum(s.queued)::bigint,
        sum(s.in_line)::bigint, sum(s.running)::bigint,
        min(CASE WHEN s.queued > 0 THEN (
            SELECT min(r.queued_at) FROM runs r WHERE r.share = s.id AND r.state = 'QUEUED') END)
    FROM lines l JOIN shares s ON s.line = l.id GROUP BY l.id ORDER BY l.id"""


async def lanes(ask: Ask) -> list[LaneCount]:
    """Give the counters of every line, each with the time of the run that waits longest."""
    return [
        LaneCount(
            app=app,
            lane=Lane(lane),
            leased_total=leased_total,
            settled_total=settled_total,
            service_seconds=service_seconds,
            queued=queued,
            in_line=in_line,
            running=running,
            oldest_queued_at=oldest,
        )
        for app, lane, leased_total, settled_total, service_seconds, queued, in_line, running, oldest in await ask(
            _LANES
        )
    ]


# ------------------------------------------------------------------ lists


class _Where:
    """A condition that grows by what is wanted; `?` in its terms stands for the next value."""

    def __init__(self, *values: Any) -> None:
        self._terms: list[str] = []
        self.values: list[Any] = list(values)

    def add(self, term: str, *values: Any) -> None:
        for value in values:
            self.values.append(value)
            term = term.replace("?", f"${len(self.values)}", 1)
        self._terms.append(term)

    def add_if(self, term: str, value: Any) -> None:
        """Add a term with one value, unless that is None."""
        if value is not None:
            self.add(term, value)

    def __str__(self) -> str:
        return f"WHERE {' AND '.join(self._terms)}" if self._terms else ""


# Lists find numbers first and records after that: an index holds the numbers in their order, while records in a
# filtered order would have to be gathered and sorted, a million of them if need be.
_LISTED: Final = f"SELECT {LISTED_RUN} FROM {RUN_TABLES} WHERE r.seq = ANY ($1::bigint[]) ORDER BY r.seq DESC"
_OF_PAIRS: Final = """
    SELECT page.seq FROM (
        SELECT DISTINCT s.tenant, l.app FROM shares s JOIN lines l ON l.id = s.line
        WHERE ($2::text IS NULL OR s.tenant = $2) AND ($3::text IS NULL OR l.app = $3)) pair
    CROSS JOIN LATERAL (SELECT seq FROM runs {where} ORDER BY seq DESC LIMIT $1) page
    ORDER BY page.seq DESC LIMIT $1"""
_ENDED: Final = "state IN ('SUCCEEDED', 'FAILED', 'CANCELLED')"  # as the index of the ended has it


async def runs(ask: Ask, wanted: RunFilter) -> list[Run]:
    """List runs, newest first, without bytes."""
    if _by_pairs(wanted):
        where = _Where(wanted.limit, wanted.tenant, wanted.app)
        where.add("tenant = pair.tenant AND app = pair.app")
        question = _OF_PAIRS
    else:
        where = _Where(wanted.limit)
        where.add_if("tenant || '' = ?", wanted.tenant)  # an expression keeps the index of pairs out of it
        where.add_if("app || '' = ?", wanted.app)
        question = "SELECT seq FROM runs {where} ORDER BY seq DESC LIMIT $1"
    _narrow(where, wanted)
    if wanted.since is not None:
        where.add("created_at >= ? AND seq >= ?", wanted.since, await _first_since(ask, wanted.since))
    numbers = [seq for (seq,) in await ask(question.format(where=where), *where.values)]
    return [run_of(row) for row in await ask(_LISTED, numbers)]


def _by_pairs(wanted: RunFilter) -> bool:
    """Tell whether it is quickest to ask each tenant and app that may have some."""
    if wanted.tag is not None or wanted.parent is not None or wanted.state is State.RUNNING:
        return False  # these have indexes of their own
    return wanted.tenant is not None or wanted.app is not None or wanted.state in TERMINAL


def _narrow(where: _Where, wanted: RunFilter) -> None:
    where.add_if("reason = ?", wanted.reason)
    where.add_if("tag = ?", wanted.tag)
    where.add_if("parent = ?", wanted.parent)
    where.add_if("lane = ?", wanted.lane)
    where.add_if("seq < ?", wanted.after)
    where.add_if("state = ?", wanted.state)
    if wanted.state in TERMINAL:
        where.add(_ENDED)
    if wanted.state is State.RUNNING:
        where.add("seq = ANY (array(SELECT seq FROM attempts WHERE live))")


async def _first_since(ask: Ask, since: float) -> int:
    """Give about the first number of a moment: numbers rise with time, but for a clock that was bent."""
    ((last,),) = await ask("SELECT coalesce(max(seq), 0) FROM runs")
    low, high = 0, last + 1
    while low < high:
        middle = (low + high) // 2
        rows = await ask("SELECT seq, created_at FROM runs WHERE seq >= $1 ORDER BY seq LIMIT 1", middle)
        if not rows or rows[0][1] >= since:
            high = middle
        else:
            low = rows[0][0] + 1
    return int(low)


async def workers(ask: Ask, *, app: str | None, live: bool, limit: int) -> list[Worker]:
    """List workers, newest first."""
    where = _Where(limit)
    where.add_if("w.app = ?", app)
    if live:
        where.add("w.ended_at IS NULL")
    rows = await ask(f"SELECT {_WORKER} FROM workers w {where} ORDER BY w.id DESC LIMIT $1", *where.values)
    return [worker_of(row) for row in rows]


_decision: Final = msgspec.json.Decoder(Decision).decode


async def decisions(ask: Ask, app: str, limit: int) -> list[Decision]:
    """List an app's placements, newest first."""
    rows = await ask("SELECT id, record FROM decisions WHERE app = $1 ORDER BY id DESC LIMIT $2", app, limit)
    return [msgspec.structs.replace(_decision(record), id=number) for number, record in rows]


async def events(ask: Ask, app: str | None, after: int, limit: int) -> list[AppEvent]:
    """List app events above an id, oldest first; with 0, the latest."""
    where = _Where(limit)
    where.add_if("app = ?", app)
    rows = await _after(ask, "SELECT id, app, at, kind, message, worker_uid FROM events", where, after)
    return [
        AppEvent(id=number, app=of, at=at, kind=kind, message=message, worker_uid=uid)
        for number, of, at, kind, message, uid in rows
    ]


async def audited(ask: Ask, tenant: str | None, after: int, limit: int) -> list[AuditRow]:
    """List audit rows above an id, oldest first; with 0, the latest."""
    where = _Where(limit)
    where.add_if("tenant = ?", tenant)
    columns = ", ".join(AuditRow.__struct_fields__)
    rows = await _after(ask, f"SELECT {columns} FROM audit", where, after)
    return [AuditRow(**dict(zip(AuditRow.__struct_fields__, row, strict=True))) for row in rows]


async def _after(ask: Ask, question: str, where: _Where, after: int) -> list[Row]:
    if not after:
        return (await ask(f"{question} {where} ORDER BY id DESC LIMIT $1", *where.values))[::-1]
    where.add("id > ?", after)
    return await ask(f"{question} {where} ORDER BY id LIMIT $1", *where.values)
