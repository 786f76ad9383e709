"""The ledger's rules in plain Python: no database, no groups, no indexes. What the state machine compares drivers with.

It follows the contract in `penstock.ledger.commands`, not any driver, and is written to be read, not to be quick.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from penstock.ledger.commands import Accept, Acceptance, ExtendCode, Lease, SettleCode
from penstock.model.run import Outcome, Reason, State, Terms
from penstock.testing.clock import ManualClock

__all__ = ["PlainAttempt", "PlainLedger", "PlainRun"]


@dataclass
class PlainAttempt:
    """One attempt."""

    epoch: int
    worker: str
    replica: int
    alone: bool
    lease_until: float
    deadline_at: float
    live: bool = True  # its worker holds it
    reported: bool = False


@dataclass
class PlainRun:
    """One run."""

    id: str
    tenant: str
    key: str
    seq: int
    generation: int
    terms: Terms
    priority: int
    expires_at: float
    state: State = State.QUEUED
    reason: Reason | None = None
    epoch: int = 0
    failures: int = 0
    deaths: int = 0
    head: bool = False
    alone: bool = False
    in_line: bool = True
    not_before: float = 0.0
    queue_left: float = 0.0
    finished_at: float | None = None
    purged_at: float | None = None
    result: bytes | None = None
    checkpoint: bytes | None = None
    attempts: list[PlainAttempt] = field(default_factory=list)

    @property
    def live(self) -> bool:
        """Whether it is not terminal."""
        return self.state in {State.QUEUED, State.RUNNING}

    @property
    def latest(self) -> PlainAttempt:
        """Its latest attempt."""
        return self.attempts[-1]


class PlainLedger:
    """Runs of one line, by id, in the order of their acceptance."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.runs: dict[str, PlainRun] = {}
        self.alive_at: float | None = None

    def of_key(self, tenant: str, key: str) -> list[PlainRun]:
        """Give the generations of a key, first to last."""
        return [run for run in self.runs.values() if (run.tenant, run.key) == (tenant, key)]

    def line(self, tenant: str) -> list[PlainRun]:
        """Give a tenant's runs that can be leased, first to last."""
        waiting = [run for run in self.runs.values() if run.tenant == tenant and run.in_line]
        return sorted(waiting, key=lambda run: (not run.head, -run.priority, run.seq))

    def held_by(self, worker: str, replica: int | None = None) -> list[PlainRun]:
        """Give the runs whose latest attempt a worker, or a replica of it, holds."""
        return [
            run
            for run in self.runs.values()
            if run.attempts
            and run.latest.live
            and run.latest.worker == worker
            and replica in {None, run.latest.replica}
        ]

    # ---------------------------------------------------------------- acceptance

    def accept(self, command: Accept) -> tuple[Acceptance, PlainRun]:
        """Take a run in."""
        asked = command.run
        before = self.of_key(asked.tenant, asked.key)
        if before and before[-1].live:
            before[-1].priority = max(before[-1].priority, asked.priority)
            return Acceptance.JOINED, before[-1]
        if before and before[-1].state is State.SUCCEEDED and before[-1].purged_at is None and command.reuse:
            return Acceptance.HIT, before[-1]
        return Acceptance.CREATED, self._start(asked.id, asked.tenant, asked.key, asked.terms, asked.priority)

    def again(self, run_id: str, new_id: str) -> tuple[Acceptance, PlainRun] | str:
        """Start a failed run again, or name the error."""
        failed = self.runs[run_id]
        latest = self.of_key(failed.tenant, failed.key)[-1]
        if failed.purged_at is not None:
            return "Gone"
        if failed.state is not State.FAILED:
            return "Conflict"
        if latest.live:
            return Acceptance.JOINED, latest
        if latest.state is State.SUCCEEDED and latest.purged_at is None:
            return Acceptance.HIT, latest
        return Acceptance.CREATED, self._start(new_id, failed.tenant, failed.key, failed.terms, failed.priority)

    def _start(self, run_id: str, tenant: str, key: str, terms: Terms, priority: int) -> PlainRun:
        before = self.of_key(tenant, key)
        run = PlainRun(
            id=run_id,
            tenant=tenant,
            key=key,
            seq=len(self.runs) + 1,
            generation=before[-1].generation + 1 if before else 1,
            terms=terms,
            priority=priority,
            expires_at=self.clock.now() + terms.queue_ttl_seconds,
        )
        self.runs[run_id] = run
        return run

    # ---------------------------------------------------------------- attempts

    def lease(self, run_id: str, command: Lease) -> PlainRun:
        """Give a run to a worker; which one is next is for the machine to check."""
        run, now = self.runs[run_id], self.clock.now()
        run.state, run.reason, run.in_line, run.head = State.RUNNING, None, False, False
        run.epoch += 1
        run.queue_left = max(0.0, run.expires_at - now)
        attempt = PlainAttempt(
            epoch=run.epoch,
            worker=command.worker_uid,
            replica=command.replica,
            alone=run.alone,
            lease_until=now + run.terms.lease_seconds,
            deadline_at=now + run.terms.run_deadline_seconds,
        )
        run.attempts.append(attempt)
        return run

    def settle(self, run_id: str, epoch: int, outcome: Outcome, retry_after: float | None = None) -> SettleCode:
        """End an attempt as its worker reports."""
        run = self.runs[run_id]
        attempt = run.attempts[epoch - 1]
        if attempt.reported:
            return SettleCode.ALREADY
        if run.state is not State.RUNNING or epoch != run.epoch:
            attempt.live = False
            return SettleCode.CANCELLED if run.state is State.CANCELLED and epoch == run.epoch else SettleCode.STALE
        attempt.live, attempt.reported = False, True
        if outcome is Outcome.SUCCEEDED:
            self._finish(run, State.SUCCEEDED, None)
            run.result = b"%d" % epoch
        elif outcome is Outcome.FAILED:
            run.failures += 1
            self._finish(run, State.FAILED, Reason.HANDLER_ERROR)
        elif outcome is Outcome.RELEASED:
            self._return(run, Reason.CAPACITY, alone=attempt.alone)
        else:
            self._retry(run, retry_after)
        return SettleCode.OK

    def _retry(self, run: PlainRun, retry_after: float | None) -> None:
        run.failures += 1
        if run.failures >= run.terms.max_attempts:
            self._finish(run, State.FAILED, Reason.ATTEMPTS_EXHAUSTED)
            return
        doubled = run.terms.backoff_seconds * 2 ** (run.failures - 1)
        delay = min(run.terms.backoff_max_seconds, doubled) if retry_after is None else retry_after
        self._return(run, Reason.RETRYING, alone=False, delay=delay)

    def extend(self, run_id: str, epoch: int, data: bytes | None = None) -> ExtendCode:
        """Renew a lease, and save a checkpoint if one comes with it."""
        run = self.runs[run_id]
        if epoch != run.epoch:
            return ExtendCode.LOST
        if run.state is not State.RUNNING:
            return ExtendCode.CANCELLED if run.state is State.CANCELLED else ExtendCode.LOST
        run.latest.lease_until = self.clock.now() + run.terms.lease_seconds
        if data is not None and data != run.checkpoint:
            run.checkpoint, run.deaths = data, 0
        return ExtendCode.OK

    def cancel(self, run_id: str) -> bool:
        """Cancel a live run; its attempt stays with its worker."""
        run = self.runs[run_id]
        if not run.live:
            return False
        self._finish(run, State.CANCELLED, Reason.BY_USER)
        return True

    def end_worker(self, worker: str, replica: int | None, *, clean: bool) -> set[str]:
        """End what a worker held; gives the ids of the runs that this moved."""
        held = self.held_by(worker, replica)
        beside = {run.id: sum(run.latest.replica == other.latest.replica for other in held) for run in held}
        moved = {run.id for run in held if run.state is State.RUNNING}
        for run in held:
            if run.id in moved and clean:
                self._return(run, Reason.CAPACITY, alone=run.latest.alone)
            elif run.id in moved:
                self._die(run, alone=beside[run.id] == 1, exhausted=Reason.POISON)
            run.latest.live = False
        return moved

    # ---------------------------------------------------------------- repairs

    def sweep_leases(self) -> set[str]:
        """Return runs whose lease has run out, and free attempts that were ended over their workers' heads."""
        now = self.clock.now()
        overdue = [
            run for run in self.runs.values() if run.attempts and run.latest.live and run.latest.lease_until <= now
        ]
        moved = {run.id for run in overdue if run.state is State.RUNNING}
        for run in overdue:
            if run.id in moved:
                self._die(run, alone=run.latest.alone, exhausted=Reason.ATTEMPTS_EXHAUSTED)
            run.latest.live = False
        return moved

    def sweep_deadlines(self) -> set[str]:
        """Fail runs whose attempt took too long; the attempt stays with its worker."""
        now = self.clock.now()
        late = [run for run in self.runs.values() if run.state is State.RUNNING and run.latest.deadline_at <= now]
        for run in late:
            run.failures += 1
            self._finish(run, State.FAILED, Reason.DEADLINE_EXCEEDED)
        return {run.id for run in late}

    def sweep_queue_ttl(self) -> set[str]:
        """Fail runs that waited too long."""
        now = self.clock.now()
        late = [run for run in self.runs.values() if run.state is State.QUEUED and run.expires_at <= now]
        for run in late:
            self._finish(run, State.FAILED, Reason.QUEUE_EXPIRED)
        return {run.id for run in late}

    def sweep_due(self) -> set[str]:
        """Put runs into line again whose back-off has passed."""
        now = self.clock.now()
        due = [
            run for run in self.runs.values() if run.state is State.QUEUED and not run.in_line and run.not_before <= now
        ]
        for run in due:
            run.in_line = True
        return {run.id for run in due}

    def sweep_results(self) -> set[str]:
        """Purge what has been kept for its time."""
        now = self.clock.now()
        old = [
            run
            for run in self.runs.values()
            if run.finished_at is not None
            and run.purged_at is None
            and run.finished_at + run.terms.result_ttl_seconds <= now
        ]
        for run in old:
            run.purged_at, run.result = now, None
        return {run.id for run in old}

    def gap(self, *, forgive: bool) -> float:
        """Note that the broker is alive."""
        now = self.clock.now()
        seconds = 0.0 if self.alive_at is None else max(0.0, now - self.alive_at)
        self.alive_at = now
        if forgive:
            for run in self.runs.values():
                if run.attempts and run.latest.live:
                    run.latest.lease_until += seconds
                    run.latest.deadline_at += seconds
        return seconds

    # ---------------------------------------------------------------- the moves

    def _finish(self, run: PlainRun, state: State, reason: Reason | None) -> None:
        run.state, run.reason, run.in_line, run.head = state, reason, False, False
        run.finished_at = self.clock.now()

    def _return(self, run: PlainRun, reason: Reason, *, alone: bool, delay: float = 0.0) -> None:
        now = self.clock.now()
        run.state, run.reason, run.head, run.alone = State.QUEUED, reason, True, alone
        run.in_line, run.not_before = delay == 0, now + delay if delay else 0.0
        run.expires_at = now + run.queue_left

    def _die(self, run: PlainRun, *, alone: bool, exhausted: Reason) -> None:
        run.deaths += alone
        if run.deaths >= run.terms.max_attempts:
            self._finish(run, State.FAILED, exhausted)
        else:
            self._return(run, Reason.RETRYING, alone=True)
