"""Taking runs in: the rule of one live run per key, and the next generation of one that failed."""

# ruff: noqa: S608  # the texts are column lists of ours; every value is bound

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec.structs import replace

from penstock.errors import Conflict, Gone, NotFound, PenstockError
from penstock.ledger.commands import Accept, Acceptance, Accepted, Again, NewRun, Pin
from penstock.model.run import Run, State

from .book import PIN_SECONDS
from .rows import RUN, RUN_TABLES, Row, as_json, payload_row, run_of
from .terms import encode_terms
from .transaction import Transaction

__all__ = ["LATEST", "accept", "again"]

Key = tuple[str, str, str]

LATEST: Final = (
    f"SELECT {RUN} FROM {RUN_TABLES} WHERE r.key = ? AND r.tenant = ? AND r.app = ? ORDER BY r.generation DESC LIMIT 1"
)
# Most keys are new. Asking which are not, in one question, spares a question for each.
_KNOWN: Final = """
    SELECT named.value FROM json_each(?) named WHERE EXISTS (SELECT 1 FROM runs WHERE runs.key = named.value)"""
_BY_ID: Final = f"SELECT {RUN} FROM {RUN_TABLES} WHERE r.run_id = ?"
_INSERT: Final = """
    INSERT INTO runs (
        seq, run_id, share, state, in_line, priority, queued_at, expires_at, tenant, app, lane, key, generation,
        spec_generation, terms, mark, sha256, tag, parent, webhook, traceparent, created_at)
    VALUES (?, ?, ?, 'QUEUED', 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""


def accept(tx: Transaction, commands: Sequence[Accept]) -> Iterable[Accepted]:
    """Take runs in."""
    return _Intake(tx).take(commands)


class _Intake:
    """One group's acceptances. New runs are gathered, so that they are joined like any other and written together."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._known: set[str] = set()  # of the group's keys, those that someone has used before
        self._new: dict[Key, Run] = {}
        self._shares: dict[int, int] = {}  # of the new runs, by seq

    def take(self, commands: Sequence[Accept]) -> list[Accepted]:
        """Give an outcome per command."""
        keys = as_json([command.run.key for command in commands])
        self._known = {key for (key,) in self._tx.db.execute(_KNOWN, (keys,))}
        outcomes = [self._take(command) for command in commands]
        self._write()
        return outcomes

    def start(self, asked: NewRun, generation: int) -> Accepted:
        """Start a generation of a key without asking what became of those before."""
        accepted = self._create(asked, generation)
        self._write()
        return accepted

    def _take(self, command: Accept) -> Accepted:
        pinned = self._pinned(command.pin)
        if pinned is not None:
            return pinned
        accepted = self._by_key(command)
        if command.pin is not None:
            self._pin(command.pin, accepted.run.id)
        return accepted

    # -------------------------------------------------------------- by its pin

    def _pinned(self, pin: Pin | None) -> Accepted | None:
        if pin is None:
            return None
        row = self._tx.db.execute(
            "SELECT fingerprint, run_id FROM pins WHERE scope = ? AND key = ? AND taken_at > ?",
            (pin.scope, pin.key, self._tx.now - PIN_SECONDS),
        ).fetchone()
        run = None if row is None else self._run(row[1])
        if run is None:
            return None
        if row[0] != pin.fingerprint:
            return Accepted(Acceptance.MISMATCH, run)
        return self._answer(Acceptance.HIT if run.terminal else Acceptance.JOINED, run)

    def _pin(self, pin: Pin, run_id: str) -> None:
        self._tx.db.execute(
            "INSERT OR REPLACE INTO pins (scope, key, fingerprint, taken_at, run_id) VALUES (?, ?, ?, ?, ?)",
            (pin.scope, pin.key, pin.fingerprint, self._tx.now, run_id),
        )

    def _run(self, run_id: str | None) -> Run | None:
        for run in self._new.values():
            if run.id == run_id:
                return run
        row = self._tx.db.execute(_BY_ID, (run_id,)).fetchone()
        return None if row is None else run_of(row)

    # -------------------------------------------------------------- by its key

    def _by_key(self, command: Accept) -> Accepted:
        asked = command.run
        key = (asked.key, asked.tenant, asked.app)
        latest = self._new.get(key)
        if latest is None:
            row = self._tx.db.execute(LATEST, key).fetchone() if asked.key in self._known else None
            if row is None:
                return self._create(asked, 1)
            latest = run_of(row)
        if latest.id == asked.id:
            return self._answer(Acceptance.CREATED, latest)
        if not latest.terminal:
            return self._answer(Acceptance.JOINED, self._join(key, latest, asked))
        if latest.state is State.SUCCEEDED and latest.purged_at is None and command.reuse:
            return Accepted(Acceptance.HIT, latest)
        return self._create(asked, latest.generation + 1)

    def _answer(self, how: Acceptance, run: Run) -> Accepted:
        line = self._tx.lines.find(run.app, run.lane)
        waits = run.state is State.QUEUED and line is not None
        return Accepted(how, run, line.ahead(run.mark) if waits and line else 0)

    def _join(self, key: Key, run: Run, asked: NewRun) -> Run:
        """Add what the joiner brings: a higher priority, a webhook of its own."""
        joined = replace(run, priority=max(run.priority, asked.priority), webhook=_both(run.webhook, asked.webhook))
        if joined == run:
            return run
        if key in self._new:
            self._new[key] = joined
        else:
            self._tx.db.execute(
                "UPDATE runs SET priority = ?, webhook = ? WHERE seq = ?", (joined.priority, joined.webhook, run.seq)
            )
        return joined

    def _create(self, asked: NewRun, generation: int) -> Accepted:
        tx = self._tx
        share = tx.lines.share_of(tx.db, asked.app, asked.lane, asked.tenant)
        line = share.line
        ahead = line.queued
        share.weight = asked.weight
        share.join(in_line=True)
        run = _new_run(asked, generation, next(tx.sequence), line.leased_total + ahead, tx.now)
        self._new[asked.key, asked.tenant, asked.app] = run
        self._shares[run.seq] = share.id
        return Accepted(Acceptance.CREATED, run, ahead)

    def _write(self) -> None:
        new = self._new.values()
        if new:
            db = self._tx.db
            db.executemany(_INSERT, [_row(run, self._shares[run.seq]) for run in new])
            db.executemany(
                "INSERT INTO bodies VALUES (?, ?, ?, ?, ?, ?)", [payload_row(run.seq, run.body) for run in new]
            )


def _both(first: str | None, second: str | None) -> str | None:
    """Give the URLs of two joiners, separated by a space, which no URL holds."""
    urls = dict.fromkeys(f"{first or ''} {second or ''}".split())
    return " ".join(urls) or None


def _new_run(asked: NewRun, generation: int, seq: int, mark: int, now: float) -> Run:
    return Run(
        id=asked.id,
        seq=seq,
        tenant=asked.tenant,
        app=asked.app,
        lane=asked.lane,
        key=asked.key,
        generation=generation,
        spec_generation=asked.spec_generation,
        state=State.QUEUED,
        priority=asked.priority,
        sha256=asked.sha256,
        body=asked.body,
        tag=asked.tag,
        parent=asked.parent,
        webhook=asked.webhook,
        traceparent=asked.traceparent,
        terms=asked.terms,
        mark=mark,
        created_at=now,
        queued_at=now,
        expires_at=now + asked.terms.queue_ttl_seconds,
    )


def _row(run: Run, share: int) -> Row:
    return (
        run.seq,
        run.id,
        share,
        run.priority,
        run.queued_at,
        run.expires_at,
        run.tenant,
        run.app,
        run.lane.value,
        run.key,
        run.generation,
        run.spec_generation,
        encode_terms(run.terms),
        run.mark,
        run.sha256,
        run.tag,
        run.parent,
        run.webhook,
        run.traceparent,
        run.created_at,
    )


# ------------------------------------------------------------------ once more


def again(tx: Transaction, commands: Sequence[Again]) -> list[Accepted | PenstockError]:
    """Start the next generation of failed runs."""
    return [_again(tx, command) for command in commands]


def _again(tx: Transaction, command: Again) -> Accepted | PenstockError:
    row = tx.db.execute(_BY_ID, (command.run_id,)).fetchone()
    if row is None:
        return NotFound(f"there is no run {command.run_id}")
    failed = run_of(row)
    latest = run_of(tx.db.execute(LATEST, (failed.key, failed.tenant, failed.app)).fetchone())
    if latest.id == command.new_id:
        return Accepted(Acceptance.CREATED, latest)
    refusal = _refusal(failed)
    if refusal is not None:
        return refusal
    if not latest.terminal:
        return Accepted(Acceptance.JOINED, latest)
    if latest.state is State.SUCCEEDED and latest.purged_at is None:
        return Accepted(Acceptance.HIT, latest)
    return _Intake(tx).start(_same(tx, failed, command), latest.generation + 1)


def _refusal(run: Run) -> PenstockError | None:
    if run.purged_at is not None:
        return Gone("the run was purged, and its body with it; submit the input again")
    if run.state is not State.FAILED:
        return Conflict(f"run {run.id} is {run.state}: only a FAILED one can be started again")
    return None


def _same(tx: Transaction, failed: Run, command: Again) -> NewRun:
    return NewRun(
        id=command.new_id,
        tenant=failed.tenant,
        app=failed.app,
        lane=failed.lane,
        key=failed.key,
        spec_generation=failed.spec_generation,
        body=failed.body,
        sha256=failed.sha256,
        priority=failed.priority,
        tag=failed.tag,
        parent=failed.parent,
        webhook=failed.webhook,
        traceparent=failed.traceparent,
        terms=command.terms or failed.terms,
        weight=tx.lines.share_of(tx.db, failed.app, failed.lane, failed.tenant).weight,
    )
