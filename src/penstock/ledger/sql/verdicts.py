"""What becomes of a run in the hand, for each thing that can happen to it. Decides and gathers; writes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from penstock.ledger.commands import (
    Cancel,
    Cancelled,
    EndWorker,
    ExtendCode,
    Fail,
    Settle,
    SettleCode,
    Settled,
)
from penstock.model.run import (
    AttemptState,
    Outcome,
    Reason,
    Report,
    Run,
    State,
    Verdict,
    after_death,
    after_report,
)

from .moves import Ending, Held, Moves

__all__ = ["cancel", "end_worker", "expire", "extended", "fail", "lose", "settle", "stop", "time_out"]

# ------------------------------------------------------------------ by its worker


def settle(moves: Moves, command: Settle, held: Held | None) -> Settled | None:
    """End an attempt as its worker reports; None where only the attempt of that epoch tells why it can't be."""
    if held is None:
        return Settled(SettleCode.STALE)
    run = held.run
    if run.epoch != command.epoch:
        return None
    if run.state is State.RUNNING:
        return Settled(SettleCode.OK, _end(moves, held, command.report))
    if held.live:
        moves.release(held)
    if held.reported:
        return Settled(SettleCode.ALREADY, run)
    return Settled(SettleCode.CANCELLED if run.state is State.CANCELLED else SettleCode.STALE, run)


def _end(moves: Moves, held: Held, report: Report) -> Run:
    run = held.run
    verdict = after_report(run.terms, report, failures=run.failures, deaths=run.deaths, alone=held.attempt_alone)
    blamed = report.outcome in {Outcome.FAILED, Outcome.RETRY}
    reason = (report.reason or Reason.HANDLER_ERROR) if blamed else None
    moves.end_attempt(held, Ending(verdict.attempt, reason, report.message, reported=True))
    if report.outcome is not Outcome.RELEASED:
        held.share.line.served(moves.seconds(held))
    result = report.result if verdict.state is State.SUCCEEDED else None
    return moves.move(held, verdict, report.message, result)


def extended(state: State, epoch: int, wanted: int) -> ExtendCode:
    """Tell whether the attempt `wanted` of a run in this state and at this epoch may go on."""
    if epoch != wanted:
        return ExtendCode.LOST
    if state is State.RUNNING:
        return ExtendCode.OK
    return ExtendCode.CANCELLED if state is State.CANCELLED else ExtendCode.LOST


# ------------------------------------------------------------------ by those who asked for it


def cancel(moves: Moves, command: Cancel, held: Held | None) -> Cancelled:
    """Cancel a run that is not terminal."""
    if held is None or held.run.terminal:
        return Cancelled(changed=False, run=None if held is None else held.run)
    return Cancelled(changed=True, run=stop(moves, held, command.reason, command.message))


def stop(moves: Moves, held: Held, reason: Reason, message: str) -> Run:
    """Cancel a live run."""
    run = held.run
    if run.state is State.RUNNING:
        # Its worker learns of it at its next heartbeat, and holds what it reserved until then.
        moves.end_attempt(held, Ending(AttemptState.CANCELLED, reason, message, live=True))
    verdict = Verdict(State.CANCELLED, reason, run.failures, run.deaths, AttemptState.CANCELLED)
    return moves.move(held, verdict, message)


def fail(moves: Moves, command: Fail, held: Held | None) -> Cancelled:
    """Fail a run that waits."""
    if held is None or held.run.state is not State.QUEUED:
        return Cancelled(changed=False, run=None if held is None else held.run)
    run = held.run
    verdict = Verdict(State.FAILED, command.reason, run.failures, run.deaths, AttemptState.FAILED)
    return Cancelled(changed=True, run=moves.move(held, verdict, command.message))


# ------------------------------------------------------------------ by the end of its worker


def end_worker(moves: Moves, command: EndWorker, all_held: Sequence[Held]) -> list[Run]:
    """Return what a worker, or a replica of it, held; gives the runs that this moved."""
    runs = []
    beside = Counter(held.replica for held in all_held)
    for held in all_held:
        if held.run.state is not State.RUNNING:
            moves.release(held)
        elif command.clean:
            runs.append(_released(moves, command, held))
        else:
            runs.append(_died(moves, command, held, alone=beside[held.replica] == 1))
    return runs


def _released(moves: Moves, command: EndWorker, held: Held) -> Run:
    run = held.run
    verdict = after_report(
        run.terms, Report(Outcome.RELEASED), failures=run.failures, deaths=run.deaths, alone=held.attempt_alone
    )
    moves.end_attempt(held, Ending(AttemptState.LOST, message=command.message, exit_code=command.exit_code))
    return moves.move(held, verdict, command.message)


def _died(moves: Moves, command: EndWorker, held: Held, *, alone: bool) -> Run:
    run = held.run
    verdict = after_death(run.terms, failures=run.failures, deaths=run.deaths, alone=alone, killed=True)
    message = command.message or "its worker died"
    reason = Reason(command.reason) if command.reason in _REASONS else Reason.LEASE_LOST
    moves.end_attempt(held, Ending(verdict.attempt, reason, message, command.exit_code))
    return moves.move(held, verdict, message)


_REASONS: Final = frozenset(Reason)

# ------------------------------------------------------------------ by time


def lose(moves: Moves, held: Held) -> Run | None:
    """End an attempt whose lease has run out; None where its run was ended before, and only the worker is freed."""
    run = held.run
    if run.state is not State.RUNNING:
        moves.release(held)
        return None
    verdict = after_death(run.terms, failures=run.failures, deaths=run.deaths, alone=held.attempt_alone, killed=False)
    message = "its worker fell silent until the lease had run out"
    moves.end_attempt(held, Ending(verdict.attempt, Reason.LEASE_LOST, message))
    return moves.move(held, verdict, message)


def time_out(moves: Moves, held: Held) -> Run:
    """Fail a run whose attempt took too long."""
    run = held.run
    message = f"the attempt ran longer than {run.terms.run_deadline_seconds:g} s"
    # Its worker learns of it at its next heartbeat, and holds what it reserved until then.
    moves.end_attempt(held, Ending(AttemptState.FAILED, Reason.DEADLINE_EXCEEDED, message, live=True))
    verdict = Verdict(State.FAILED, Reason.DEADLINE_EXCEEDED, run.failures + 1, run.deaths, AttemptState.FAILED)
    return moves.move(held, verdict, message)


def expire(moves: Moves, held: Held) -> Run:
    """Fail a run that waited too long."""
    run = held.run
    verdict = Verdict(State.FAILED, Reason.QUEUE_EXPIRED, run.failures, run.deaths, AttemptState.FAILED)
    return moves.move(held, verdict, f"it waited longer than {run.terms.queue_ttl_seconds:g} s")
