"""Taking runs in: the rule of one live run per key, and the next generation of one that failed.

Most keys are new, so a group begins as if all were, and lets the unique index find out which are not; only those are
looked up. It is the same index that decides between two processes: whose row is there first has started the run, and
the other looks again and joins it.
"""

# ruff: noqa: S608  # the texts are column lists of ours; every value is bound

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from penstock.errors import Conflict, PenstockError
from penstock.ledger.commands import Accept, Acceptance, Accepted, Again, NewRun, Pin
from penstock.ledger.sql.intake import Key, Start, by_key, by_pin, joined, key_of, new_run, refusal, run_row, same
from penstock.ledger.sql.rows import RUN, RUN_TABLES, payload_row, run_of
from penstock.model.run import Run, State

from . import counters, pins
from .moves import note_changed
from .transaction import Transaction, by_column

__all__ = ["LATEST", "accept", "again"]

Outcome = Accepted | PenstockError

LATEST: Final = f"""
    SELECT {RUN} FROM unnest($1::text[], $2::text[], $3::text[]) named (key, tenant, app)
    CROSS JOIN LATERAL (
        SELECT * FROM runs WHERE key = named.key AND tenant = named.tenant AND app = named.app
        ORDER BY generation DESC LIMIT 1) r
    JOIN bodies b ON b.seq = r.seq LEFT JOIN results o ON o.seq = r.seq"""
_BY_ID: Final = f"SELECT {RUN} FROM {RUN_TABLES} WHERE r.run_id = ANY ($1::text[])"
_TAKEN: Final = "SELECT run_id FROM runs WHERE run_id = ANY ($1::text[])"
_INSERT: Final = """
    WITH started AS (
        INSERT INTO runs (
            seq, run_id, share, priority, queued_at, expires_at, tenant, app, lane, key, generation, spec_generation,
            terms, mark, sha256, tag, parent, webhook, traceparent, created_at, state, in_line)
        SELECT n.*, 'QUEUED', true
        FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::int[], $5::float8[], $6::float8[], $7::text[],
                $8::text[], $9::text[], $10::text[], $11::int[], $12::int[], $13::text[], $14::bigint[], $15::text[],
                $16::text[], $17::text[], $18::text[], $19::text[], $20::float8[])
            n (seq, run_id, share, priority, queued_at, expires_at, tenant, app, lane, key, generation,
                spec_generation, terms, mark, sha256, tag, parent, webhook, traceparent, created_at)
        ORDER BY n.key, n.tenant, n.app
        ON CONFLICT DO NOTHING
        RETURNING seq)
    INSERT INTO bodies (seq, object, size, content_type, encoding, bytes)
    SELECT n.* FROM started
    JOIN unnest($21::bigint[], $22::text[], $23::bigint[], $24::text[], $25::text[], $26::bytea[])
        n (seq, object, size, content_type, encoding, bytes) ON n.seq = started.seq
    RETURNING seq"""
_JOIN: Final = """
    WITH held AS (
        SELECT seq FROM runs WHERE seq = ANY ($1::bigint[]) AND finished_at IS NULL ORDER BY seq FOR NO KEY UPDATE)
    UPDATE runs r SET priority = greatest(r.priority, j.priority), webhook = j.webhook
    FROM held JOIN unnest($1::bigint[], $2::int[], $3::text[], $4::text[]) j (seq, priority, webhook, before)
        ON j.seq = held.seq
    WHERE r.seq = held.seq AND r.finished_at IS NULL AND r.webhook IS NOT DISTINCT FROM j.before
    RETURNING r.seq"""


class _Wish(msgspec.Struct, frozen=True, gc=False):
    """A run that someone wants, be it new or once more. `adds`: one who joins brings a priority and a webhook."""

    asked: NewRun
    reuse: bool = True
    pin: Pin | None = None
    adds: bool = True


async def accept(tx: Transaction, commands: Sequence[Accept]) -> list[Outcome]:
    """Take runs in."""
    intake = _Intake(tx)
    await intake.know_pins([command.pin for command in commands if command.pin is not None])
    return await intake.take([_Wish(command.run, command.reuse, command.pin) for command in commands])


class _Intake:
    """One group's acceptances. `latest` is what is known of keys: what is not there is taken for new."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._latest: dict[Key, Run] = {}
        self._new: dict[int, tuple[Run, int]] = {}  # by seq: the run and its share
        self._joined: dict[int, tuple[Run, Run]] = {}  # by seq: the run before and after
        self._taken: set[str] = set()  # run ids that others have
        self._pins: dict[tuple[str, str], tuple[str, Run]] = {}
        self._new_pins: dict[tuple[str, str], Pin] = {}

    async def know_pins(self, wanted: Sequence[Pin]) -> None:
        """Look up what the pins of the group stand for; they are locked already."""
        found = await pins.runs_of(self._tx, wanted)
        runs = {run.id: run for run in await self._runs({run_id for _, run_id in found.values()})}
        self._pins = {
            name: (fingerprint, runs[run_id]) for name, (fingerprint, run_id) in found.items() if run_id in runs
        }

    async def know_keys(self, keys: Collection[Key]) -> None:
        """Look up the latest generations of keys."""
        if keys:
            rows = await self._tx.ask(LATEST, *by_column(sorted(keys), 3))
            self._latest.update({key_of(run): run for run in map(run_of, rows)})

    def latest(self, key: Key) -> Run | None:
        """Give the latest generation of a key that was looked up."""
        return self._latest.get(key)

    async def _runs(self, run_ids: Collection[str]) -> list[Run]:
        return [run_of(row) for row in await self._tx.ask(_BY_ID, sorted(run_ids))] if run_ids else []

    # -------------------------------------------------------------- as a whole

    async def take(self, wishes: Sequence[_Wish]) -> list[Outcome]:
        """Give an outcome per wish. What another process was quicker with is tried again, now knowing it."""
        outcomes: dict[int, Outcome] = {}
        waiting = dict(enumerate(wishes))
        await counters.make(self._tx, {_share_key(wish.asked) for wish in wishes})
        while waiting:
            await self._tx.reserve(len(waiting))
            await counters.load(self._tx, {self._share(wish.asked) for wish in waiting.values()})
            outcomes.update({place: self._take(wish) for place, wish in waiting.items()})
            beaten = await self._write()
            waiting = {place: waiting[place] for place in waiting if _run_id(outcomes[place]) in beaten}
        await pins.keep_runs(self._tx, {pin: self._pins[name][1].id for name, pin in self._new_pins.items()})
        return [outcomes[place] for place in range(len(wishes))]

    async def _write(self) -> set[str]:
        """Write what was decided; gives the ids of runs that were started or ended by others meanwhile."""
        new, self._new = self._new, {}
        joins, self._joined = self._joined, {}
        beaten = [run for run, _ in new.values()]
        if new:
            rows = [run_row(run, share) for run, share in new.values()]
            bodies = [payload_row(run.seq, run.body) for run, _ in new.values()]
            stored = {seq for (seq,) in await self._tx.ask(_INSERT, *by_column(rows, 20), *by_column(bodies, 6))}
            beaten = [run for run in beaten if run.seq not in stored]
            for run in beaten:
                self._tx.lines.share(new[run.seq][1]).leave(in_line=True)
        if joins:
            changes = [(seq, after.priority, after.webhook, before.webhook) for seq, (before, after) in joins.items()]
            stored = {seq for (seq,) in await self._tx.ask(_JOIN, *by_column(list(changes), 4))}
            beaten += [after for seq, (_, after) in joins.items() if seq not in stored]
            note_changed(self._tx, (joins[seq][1].id for seq in stored))
        if beaten:
            await self._look_again(beaten)
        return {run.id for run in beaten}

    async def _look_again(self, beaten: Sequence[Run]) -> None:
        gone = {run.id for run in beaten}
        self._latest = {key: run for key, run in self._latest.items() if run.id not in gone}
        self._pins = {name: known for name, known in self._pins.items() if known[1].id not in gone}
        self._new_pins = {name: pin for name, pin in self._new_pins.items() if name in self._pins}
        await self.know_keys({key_of(run) for run in beaten})
        self._taken |= {run_id for (run_id,) in await self._tx.ask(_TAKEN, sorted(gone))}

    # -------------------------------------------------------------- one by one

    def _take(self, wish: _Wish) -> Outcome:
        pin = wish.pin
        if pin is None:
            return self._by_key(wish)
        name = pin.scope, pin.key
        if name in self._pins:
            fingerprint, run = self._pins[name]
            return self._answer(by_pin(pin, fingerprint, run), run)
        accepted = self._by_key(wish)
        if isinstance(accepted, Accepted):
            self._pins[name] = pin.fingerprint, accepted.run
            self._new_pins[name] = pin
        return accepted

    def _by_key(self, wish: _Wish) -> Outcome:
        latest = self._latest.get(key_of(wish.asked))
        how = by_key(latest, wish.asked.id, reuse=wish.reuse)
        if isinstance(how, Start) or latest is None:
            if wish.asked.id in self._taken:
                return Conflict(f"run id {wish.asked.id} is another run's already")
            return self._create(wish.asked, 1 if latest is None else latest.generation + 1)
        if how is Acceptance.JOINED and wish.adds:
            latest = self._join(latest, wish.asked)
        return self._answer(how, latest)

    def _join(self, run: Run, asked: NewRun) -> Run:
        after = joined(run, asked)
        if after == run:
            return run
        self._latest[key_of(run)] = after
        if run.seq in self._new:
            self._new[run.seq] = after, self._new[run.seq][1]
        else:
            before, _ = self._joined.get(run.seq, (run, run))
            self._joined[run.seq] = before, after
        return after

    def _create(self, asked: NewRun, generation: int) -> Accepted:
        share = self._tx.lines.share(self._share(asked))
        line = share.line
        ahead = line.queued
        share.weight = asked.weight
        share.join(in_line=True)
        run = new_run(asked, generation, self._tx.next_number(), line.leased_total + ahead, self._tx.now)
        self._latest[key_of(asked)] = run
        self._new[run.seq] = run, share.id
        return Accepted(Acceptance.CREATED, run, ahead)

    def _answer(self, how: Acceptance, run: Run) -> Accepted:
        line = self._tx.lines.find(run.app, run.lane)
        waits = run.state is State.QUEUED and line is not None
        return Accepted(how, run, line.ahead(run.mark) if waits and line else 0)

    def _share(self, asked: NewRun) -> int:
        key = _share_key(asked)
        return self._tx.shares.get(key) or self._tx.made[key]


def _share_key(asked: NewRun) -> tuple[str, str, str]:
    return asked.app, asked.lane.value, asked.tenant


def _run_id(outcome: Outcome) -> str:
    return outcome.run.id if isinstance(outcome, Accepted) else ""


# ------------------------------------------------------------------ once more


async def again(tx: Transaction, commands: Sequence[Again]) -> list[Outcome]:
    """Start the next generation of failed runs."""
    intake = _Intake(tx)
    before = {run.id: run for run in map(run_of, await tx.ask(_BY_ID, sorted({one.run_id for one in commands})))}
    await intake.know_keys({key_of(run) for run in before.values()})
    await counters.make(tx, {(run.app, run.lane.value, run.tenant) for run in before.values()})
    outcomes: list[Outcome | None] = [_refused(intake, before.get(one.run_id), one) for one in commands]
    await counters.load(tx, {_share_of(tx, run) for run in before.values()})
    wishes = {
        place: _Wish(same(run, command, tx.lines.share(_share_of(tx, run)).weight), adds=False)
        for place, command in enumerate(commands)
        if outcomes[place] is None and (run := before.get(command.run_id)) is not None
    }
    for place, outcome in zip(wishes, await intake.take(list(wishes.values())), strict=True):
        outcomes[place] = outcome
    return [outcome for outcome in outcomes if outcome is not None]


def _refused(intake: _Intake, failed: Run | None, command: Again) -> PenstockError | None:
    latest = None if failed is None else intake.latest(key_of(failed))
    if latest is not None and latest.id == command.new_id:
        return None  # a repeat after a lost reply
    return refusal(failed, command)


def _share_of(tx: Transaction, run: Run) -> int:
    key = run.app, run.lane.value, run.tenant
    return tx.shares.get(key) or tx.made[key]
