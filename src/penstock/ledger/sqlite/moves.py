"""How a run leaves the state it is in: load it with its latest attempt, decide, and write all changes together."""

# ruff: noqa: S608  # the texts are column lists of ours; every value is bound

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from penstock.model.run import AttemptState, Payload, Reason, Run, State, Verdict, allowed

from .rows import RUN, RUN_TABLES, RUN_WIDTH, Row, as_json, payload_row, run_of
from .transaction import Transaction

__all__ = ["Ending", "Held", "Moves", "hold", "hold_found"]


class Held:
    """A run in the hand of a transaction, with its latest attempt if it has one. `run` follows what is done to it."""

    __slots__ = (
        "attempt_alone",
        "attempt_state",
        "charged",
        "in_line",
        "lease_until",
        "leased_at",
        "live",
        "queue_left",
        "replica",
        "reported",
        "run",
        "share",
    )

    def __init__(self, tx: Transaction, row: Row) -> None:
        self.run: Run = run_of(row)
        share, in_line, self.queue_left, state, live, reported, self.replica, alone, *times = row[RUN_WIDTH:]
        self.share = tx.lines.share(share)
        self.in_line = in_line == 1
        self.attempt_state = state
        self.live = live == 1
        self.reported = reported == 1
        self.attempt_alone = alone == 1
        self.leased_at: float
        self.lease_until: float
        self.charged: float
        self.leased_at, self.lease_until, self.charged = times


# The names come as one JSON array and the rows in its order: one question for a group costs half of one for each.
_HELD: Final = f"""
    SELECT {RUN}, r.share, r.in_line, r.queue_left, a.state, a.live, a.reported, a.replica, a.alone, a.leased_at,
        a.lease_until, a.charged
    FROM json_each(?) named CROSS JOIN {RUN_TABLES} LEFT JOIN attempts a ON a.seq = r.seq AND a.epoch = r.epoch """
_BY_ID: Final = _HELD + "WHERE r.run_id = named.value"
_BY_SEQ: Final = _HELD + "WHERE r.seq = named.value"


def hold(tx: Transaction, run_ids: Iterable[str]) -> dict[str, Held]:
    """Give the runs of these ids, without those that are unknown."""
    rows = tx.db.execute(_BY_ID, (as_json(set(run_ids)),)).fetchall()
    return {row[0]: Held(tx, row) for row in rows}


def hold_found(tx: Transaction, found: Iterable[tuple[int]]) -> list[Held]:
    """Give the runs whose numbers a question found, in that order."""
    rows = tx.db.execute(_BY_SEQ, (as_json([seq for (seq,) in found]),)).fetchall()
    return [Held(tx, row) for row in rows]


class Ending(msgspec.Struct, frozen=True, gc=False):
    """How an attempt ended. `live`: its worker does not know yet, so it still holds it."""

    state: AttemptState
    reason: Reason | None = None
    message: str = ""
    exit_code: int | None = None
    live: bool = False
    reported: bool = False


_MOVE_RUNS: Final = """
    UPDATE runs SET
        state = ?, reason = ?, message = ?, in_line = ?, head = ?, alone = ?, failures = ?, deaths = ?,
        queued_at = ?, not_before = ?, expires_at = ?, finished_at = ?, keep_until = ?
    WHERE seq = ?"""
_END_ATTEMPTS: Final = """
    UPDATE attempts SET
        state = ?, live = ?, reported = ?, finished_at = ?, exit_code = ?, reason = ?, message = ?, due_at = ?
    WHERE seq = ? AND epoch = ?"""
_KEEP_RESULTS: Final = "INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?, ?)"


class Moves:
    """Gathers what becomes of runs and attempts, and writes it in one go."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._moved: dict[int, Held] = {}
        self._ended: list[Row] = []
        self._results: list[Row] = []

    def seconds(self, held: Held) -> float:
        """Give how long the latest attempt has taken so far."""
        return max(0.0, self._tx.now - held.leased_at)

    def end_attempt(self, held: Held, ending: Ending) -> None:
        """End a run's latest attempt."""
        held.live = ending.live
        held.reported = ending.reported
        held.attempt_state = ending.state.value
        self._ended.append(
            (
                ending.state.value,
                ending.live,
                ending.reported,
                self._tx.now,
                ending.exit_code,
                ending.reason,
                ending.message,
                held.lease_until,
                held.run.seq,
                held.run.epoch,
            )
        )

    def release(self, held: Held) -> None:
        """Note that the worker let go of an attempt that had been ended over its head."""
        held.live = False
        self._tx.db.execute("UPDATE attempts SET live = 0 WHERE seq = ? AND epoch = ?", (held.run.seq, held.run.epoch))

    def move(self, held: Held, verdict: Verdict, message: str = "", result: Payload | None = None) -> Run:
        """Take a live run out of its state by a verdict; gives it as it is after that."""
        before, now = held.run, self._tx.now
        assert allowed(before.state, verdict.state), f"{before.state} -> {verdict.state}"
        if before.state is State.QUEUED:
            held.share.leave(in_line=held.in_line)
        else:
            held.share.end(held.charged, self.seconds(held))
        if verdict.state is State.QUEUED:
            held.run = _returned(held, verdict, message, now)
            held.in_line = verdict.delay <= 0
            held.share.join(in_line=held.in_line)
        else:
            held.run = _finished(before, verdict, message, result, now)
            held.in_line = False
        self._moved[before.seq] = held
        if result is not None:
            self._results.append(payload_row(before.seq, result))
        return held.run

    def write(self) -> None:
        """Write what was gathered."""
        db = self._tx.db
        if self._ended:
            db.executemany(_END_ATTEMPTS, self._ended)
        if self._moved:
            db.executemany(_MOVE_RUNS, [_moved_row(held) for held in self._moved.values()])
        if self._results:
            db.executemany(_KEEP_RESULTS, self._results)


def _returned(held: Held, verdict: Verdict, message: str, now: float) -> Run:
    return replace(
        held.run,
        state=State.QUEUED,
        reason=verdict.reason,
        message=message,
        failures=verdict.failures,
        deaths=verdict.deaths,
        head=True,
        alone=verdict.alone,
        queued_at=now,
        not_before=now + verdict.delay if verdict.delay > 0 else 0.0,
        expires_at=now + held.queue_left,
    )


def _finished(run: Run, verdict: Verdict, message: str, result: Payload | None, now: float) -> Run:
    return replace(
        run,
        state=verdict.state,
        reason=verdict.reason,
        message=message,
        failures=verdict.failures,
        deaths=verdict.deaths,
        head=False,
        result=result,
        finished_at=now,
    )


def _moved_row(held: Held) -> tuple[Any, ...]:
    run = held.run
    return (
        run.state.value,
        run.reason,
        run.message,
        held.in_line,
        run.head,
        run.alone,
        run.failures,
        run.deaths,
        run.queued_at,
        run.not_before,
        run.expires_at,
        run.finished_at,
        None if run.finished_at is None else run.finished_at + run.terms.result_ttl_seconds,
        run.seq,
    )
