"""How a run leaves the state it is in: what is to be written for it is gathered here, and written by a driver at once."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec.structs import replace

from penstock.model.run import AttemptState, Payload, Reason, Run, State, Verdict, allowed

from .lines import Share
from .rows import RUN, RUN_WIDTH, Row, payload_row, run_of

__all__ = ["HELD", "SHARE_OF_HELD", "Ending", "Held", "Moves"]

# The columns of a run in the hand, over `rows.RUN_TABLES` and its latest attempt (a), if it has one.
HELD: Final = f"""{RUN}, r.share, r.in_line, r.queue_left, a.state, a.live, a.reported, a.replica, a.alone, a.leased_at,
        a.lease_until, a.deadline_at, a.charged, a.worker_uid"""
SHARE_OF_HELD: Final = RUN_WIDTH


class Held:
    """A run in the hand of a transaction, with its latest attempt if it has one. `run` follows what is done to it."""

    __slots__ = (
        "attempt_alone",
        "attempt_state",
        "charged",
        "deadline_at",
        "in_line",
        "lease_until",
        "leased_at",
        "live",
        "queue_left",
        "replica",
        "reported",
        "run",
        "share",
        "worker_uid",
    )

    def __init__(self, row: Row, share: Share) -> None:
        """Take a row of the columns `HELD`, and the share that it names."""
        self.run: Run = run_of(row)
        self.share = share
        _, in_line, self.queue_left, state, live, reported, self.replica, alone, *rest = row[RUN_WIDTH:]
        self.in_line = in_line == 1
        self.attempt_state = state
        self.live = live == 1
        self.reported = reported == 1
        self.attempt_alone = alone == 1
        self.leased_at: float
        self.lease_until: float
        self.deadline_at: float
        self.charged: float
        self.leased_at, self.lease_until, self.deadline_at, self.charged, self.worker_uid = rest


class Ending(msgspec.Struct, frozen=True, gc=False):
    """How an attempt ended. `live`: its worker does not know yet, so it still holds it."""

    state: AttemptState
    reason: Reason | None = None
    message: str = ""
    exit_code: int | None = None
    live: bool = False
    reported: bool = False


class Moves:
    """Gathers what becomes of runs and attempts, as rows for a driver to write in one go.

    Rows of `ended`: state, live, reported, finished_at, exit_code, reason, message, due_at, seq, epoch. Rows of
    `moved`: state, reason, message, in_line, head, alone, failures, deaths, queued_at, not_before, expires_at,
    finished_at, keep_until, seq. Rows of `results` are those of that table; `released` are the (seq, epoch) of
    attempts that are no longer held.
    """

    def __init__(self, now: float) -> None:
        self.now = now
        self._moved: dict[int, Held] = {}
        self.ended: list[Row] = []
        self.results: list[Row] = []
        self.released: list[Row] = []

    @property
    def moved(self) -> list[Row]:
        """The runs as they are now, a row each."""
        return [_moved_row(held) for held in self._moved.values()]

    @property
    def runs(self) -> list[Run]:
        """The runs that were moved, as they are now."""
        return [held.run for held in self._moved.values()]

    def seconds(self, held: Held) -> float:
        """Give how long the latest attempt has taken so far."""
        return max(0.0, self.now - held.leased_at)

    def end_attempt(self, held: Held, ending: Ending) -> None:
        """End a run's latest attempt."""
        held.live = ending.live
        held.reported = ending.reported
        held.attempt_state = ending.state.value
        self.ended.append(
            (
                ending.state.value,
                ending.live,
                ending.reported,
                self.now,
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
        self.released.append((held.run.seq, held.run.epoch))

    def move(self, held: Held, verdict: Verdict, message: str = "", result: Payload | None = None) -> Run:
        """Take a live run out of its state by a verdict; gives it as it is after that."""
        before, now = held.run, self.now
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
            self.results.append(payload_row(before.seq, result))
        return held.run


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
