"""Taking runs in: the rule of one live run per key, and the next generation of one that failed."""

# ruff: noqa: S608  # the texts are column lists of ours; every value is bound

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from penstock.errors import PenstockError
from penstock.ledger.commands import Accept, Acceptance, Accepted, Again, NewRun, Pin
from penstock.ledger.sql.book import PIN_SECONDS
from penstock.ledger.sql.intake import Key, Start, by_key, by_pin, joined, key_of, new_run, refusal, run_row, same
from penstock.ledger.sql.rows import RUN, RUN_TABLES, payload_row, run_of
from penstock.model.run import Run, State

from .transaction import Transaction, as_json

__all__ = ["LATEST", "accept", "again"]

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
        return self._answer(by_pin(pin, row[0], run), run)

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
        key = key_of(asked)
        latest = self._new.get(key)
        if latest is None:
            row = self._tx.db.execute(LATEST, key).fetchone() if asked.key in self._known else None
            if row is None:
                return self._create(asked, 1)
            latest = run_of(row)
        how = by_key(latest, asked.id, reuse=command.reuse)
        if isinstance(how, Start):
            return self._create(asked, latest.generation + 1)
        if how is Acceptance.JOINED:
            latest = self._join(key, latest, asked)
        return self._answer(how, latest)

    def _answer(self, how: Acceptance, run: Run) -> Accepted:
        line = self._tx.lines.find(run.app, run.lane)
        waits = run.state is State.QUEUED and line is not None
        return Accepted(how, run, line.ahead(run.mark) if waits and line else 0)

    def _join(self, key: Key, run: Run, asked: NewRun) -> Run:
        """Add what the joiner brings: a higher priority, a webhook of its own."""
        after = joined(run, asked)
        if after == run:
            return run
        if key in self._new:
            self._new[key] = after
        else:
            self._tx.db.execute(
                "UPDATE runs SET priority = ?, webhook = ? WHERE seq = ?", (after.priority, after.webhook, run.seq)
            )
        return after

    def _create(self, asked: NewRun, generation: int) -> Accepted:
        tx = self._tx
        share = tx.lines.share_of(tx.db, asked.app, asked.lane, asked.tenant)
        line = share.line
        ahead = line.queued
        share.weight = asked.weight
        share.join(in_line=True)
        run = new_run(asked, generation, next(tx.sequence), line.leased_total + ahead, tx.now)
        self._new[key_of(asked)] = run
        self._shares[run.seq] = share.id
        return Accepted(Acceptance.CREATED, run, ahead)

    def _write(self) -> None:
        new = self._new.values()
        if new:
            db = self._tx.db
            db.executemany(_INSERT, [run_row(run, self._shares[run.seq]) for run in new])
            db.executemany(
                "INSERT INTO bodies VALUES (?, ?, ?, ?, ?, ?)", [payload_row(run.seq, run.body) for run in new]
            )


# ------------------------------------------------------------------ once more


def again(tx: Transaction, commands: Sequence[Again]) -> list[Accepted | PenstockError]:
    """Start the next generation of failed runs."""
    return [_again(tx, command) for command in commands]


def _again(tx: Transaction, command: Again) -> Accepted | PenstockError:
    row = tx.db.execute(_BY_ID, (command.run_id,)).fetchone()
    failed = None if row is None else run_of(row)
    refused = refusal(failed, command)
    if failed is None:
        assert refused is not None
        return refused
    latest = run_of(tx.db.execute(LATEST, key_of(failed)).fetchone())
    how = by_key(latest, command.new_id, reuse=True)
    if refused is not None and how is not Acceptance.CREATED:
        return refused
    if isinstance(how, Start):
        weight = tx.lines.share_of(tx.db, failed.app, failed.lane, failed.tenant).weight
        return _Intake(tx).start(same(failed, command, weight), latest.generation + 1)
    return Accepted(how, latest)
