"""The uniform view of runs: look at them, follow them, cancel, retry, and learn why one waits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Final, Protocol

import msgspec

from penstock.errors import Gone, NotFound
from penstock.ledger import Ledger
from penstock.ledger.commands import Acceptance, Accepted, Again, Cancelled, RunFilter
from penstock.model.fleet import Worker, WorkerState
from penstock.model.ids import Ids, valid_run_id
from penstock.model.placement import Decision, Phase
from penstock.model.run import Attempt, Reason, Run, State
from penstock.model.timeline import RunEvent, timeline

from .catalog import Catalog
from .intake import Intake, terms_of
from .notices import Notices

__all__ = ["Explanation", "Runs", "Standing", "Step"]

_QUIET_S: Final = 15.0
_REDRIVE_PAGE: Final = 200
_STANDSTILL: Final = frozenset({Phase.HELD, Phase.PAUSED})


class Standing(Protocol):
    """What the controller last found out about an app."""

    @property
    def phase(self) -> Phase:
        """What the app is doing."""
        ...

    @property
    def reason(self) -> Reason | None:
        """Why its runs wait, if they do."""
        ...

    @property
    def message(self) -> str:
        """The same, for people."""
        ...


class Step(msgspec.Struct, frozen=True):
    """One link of an explanation: which gate (app, queue, placement, worker, attempt, result), what was found, when."""

    kind: str
    text: str
    at: float | None = None


class Explanation(msgspec.Struct, frozen=True):
    """Why a run waits, failed or succeeded, gate by gate in the order in which it passes them."""

    run_id: str
    state: State
    reason: Reason | None
    summary: str
    steps: tuple[Step, ...]


class Runs:
    """Runs of one tenant at a time: every question names the tenant that asks."""

    def __init__(
        self,
        ledger: Ledger,
        catalog: Catalog,
        intake: Intake,
        notices: Notices,
        ids: Ids,
        standing: Callable[[str], Standing | None],
    ) -> None:
        self._ledger = ledger
        self._catalog = catalog
        self._intake = intake
        self._notices = notices
        self._ids = ids
        self._standing = standing

    async def get(self, tenant: str, run_id: str) -> Run:
        """Give a run. Raises `NotFound` for an unknown one and for another tenant's."""
        run = await self._ledger.run(run_id) if valid_run_id(run_id) else None
        if run is None or run.tenant != tenant:
            raise NotFound("there is no run with this id")
        return run

    async def list(self, wanted: RunFilter) -> Sequence[Run]:
        """List runs, newest first, without their inline bytes."""
        return await self._ledger.runs(wanted)

    async def attempts(self, run_id: str) -> Sequence[Attempt]:
        """List a run's attempts, first to last."""
        return await self._ledger.attempts(run_id)

    async def cancel(self, tenant: str, run_id: str, message: str = "") -> Cancelled:
        """Cancel a live run at once; a terminal one is left as it is. Raises `NotFound`."""
        return await self._intake.cancel(await self.get(tenant, run_id), Reason.BY_USER, message)

    async def retry(self, tenant: str, run_id: str) -> Accepted:
        """Start a FAILED run anew, with the same body. Raises `NotFound`, `Gone` and `Conflict`."""
        run = await self.get(tenant, run_id)
        if run.purged_at is not None:
            raise Gone("the run's body was kept for its time and has been removed; submit it again")
        entry = self._catalog.get(run.app)
        again = Again(run_id=run_id, new_id=self._ids.run(), terms=terms_of(entry.app))
        accepted = await self._ledger.again(again)
        if accepted.how is Acceptance.CREATED:
            await self._intake.created(entry.app, accepted.run)
        return accepted

    async def redrive(self, wanted: RunFilter) -> int:
        """Retry every FAILED run that matches; gives how many were started anew."""
        started, after = 0, wanted.after
        while True:
            page = await self._ledger.runs(
                msgspec.structs.replace(wanted, state=State.FAILED, after=after, limit=_REDRIVE_PAGE)
            )
            for run in page:
                if run.purged_at is None:
                    accepted = await self.retry(run.tenant, run.id)
                    started += accepted.how is Acceptance.CREATED
            if len(page) < _REDRIVE_PAGE:
                return started
            after = page[-1].seq

    async def events(self, tenant: str, run_id: str, after: str | None = None) -> AsyncIterator[RunEvent | None]:
        """Give what happened to a run and what happens next, to its end; None after each 15 s of silence.

        `after` is the id of the last event that the reader has; what came before it is not repeated.
        """
        run = await self.get(tenant, run_id)
        told: set[str] = set()
        skipping = after is not None
        async for record in self._records(run):
            if record is None:
                yield None
                continue
            history = timeline(record, await self._ledger.attempts(run_id))
            if skipping and (known := _up_to(history, after)):
                told |= known
            skipping = False
            for event in history:
                if event.id not in told:
                    told.add(event.id)
                    yield event
            if record.terminal:
                return

    async def _records(self, run: Run) -> AsyncIterator[Run | None]:
        watching = self._notices.watch(run.id, _QUIET_S)
        try:
            fresh = await self._ledger.run(run.id) or run
            yield fresh
            async for record in watching:
                # The ledger is asked again in silence too, should another process have moved the run.
                fresh = await self._ledger.run(run.id) or fresh
                if record is None and not fresh.terminal:
                    yield None
                yield fresh
        finally:
            await watching.aclose()

    async def explain(self, tenant: str, run_id: str) -> Explanation:
        """Say why a run waits, failed or succeeded, gate by gate. Raises `NotFound`."""
        run = await self.get(tenant, run_id)
        attempts = await self._ledger.attempts(run_id)
        decisions = await self._ledger.decisions(run.app, limit=1)
        workers = await self._ledger.workers(app=run.app)
        standing = self._standing(run.app)
        steps = [
            Step("accepted", f"accepted as generation {run.generation} of its key", run.created_at),
            *_gate(self._catalog, run, standing),
            *(await self._line(run, standing)),
            *_placement(run, decisions),
            *_workers(run, workers),
            *map(_attempt, attempts),
            *_ending(run),
        ]
        return Explanation(run.id, run.state, run.reason, _summary(run, standing), tuple(steps))

    async def _line(self, run: Run, standing: Standing | None) -> Sequence[Step]:
        if run.state is not State.QUEUED:
            return []
        if run.reason is Reason.RETRYING:
            return [Step("queue", "an attempt failed; it waits out its back-off", run.not_before)]
        waiting = await self._intake.waiting(run)
        if standing is not None and standing.phase in _STANDSTILL:  # nobody knows when it goes on
            return [Step("queue", f"about {waiting.position} runs stand before it")]
        return [Step("queue", f"about {waiting.position} runs stand before it; done in about {waiting.eta.p50:.0f} s")]


def _up_to(history: Sequence[RunEvent], after: str | None) -> set[str]:
    ids = [event.id for event in history]
    return set(ids[: ids.index(after) + 1]) if after in ids else set()


def _gate(catalog: Catalog, run: Run, standing: Standing | None) -> Iterator[Step]:
    entry = catalog.find(run.app)
    if entry is None:
        yield Step("app", "the app was deleted")
    elif standing is not None:
        yield Step("app", f"the app is {standing.phase}" + (f": {standing.message}" if standing.message else ""))


def _placement(run: Run, decisions: Sequence[Decision]) -> Iterator[Step]:
    if run.state is not State.QUEUED:
        return
    for decision in decisions:
        where = f"chose {decision.chosen}" if decision.chosen else "found no candidate"
        yield Step("placement", f"the last placement {where}", decision.made_at)
        for candidate, drop in decision.dropped.items():
            yield Step("placement", f"{candidate} was dropped: {drop.code}, {drop.text}", decision.made_at)


def _workers(run: Run, workers: Sequence[Worker]) -> Iterator[Step]:
    if run.state is not State.QUEUED:
        return
    if not workers:
        yield Step("worker", "no worker of the app lives yet")
    for worker in workers:
        verb = "is starting" if worker.state is WorkerState.STARTING else f"is {worker.state}"
        yield Step("worker", f"{worker.uid} {verb}", worker.ready_at or worker.started_at)


def _attempt(attempt: Attempt) -> Step:
    text = f"attempt {attempt.epoch} on {attempt.worker_uid}: {attempt.state}"
    why = ", ".join(part for part in (attempt.reason, attempt.message) if part)
    return Step("attempt", f"{text} ({why})" if why else text, attempt.finished_at or attempt.leased_at)


def _ending(run: Run) -> Iterator[Step]:
    if run.terminal:
        why = ", ".join(part for part in (run.reason, run.message) if part)
        yield Step("result", f"{run.state}: {why}" if why else run.state, run.finished_at)


def _summary(run: Run, standing: Standing | None) -> str:
    if run.terminal:
        return f"It ended {run.state}" + (f" because of {run.reason}" if run.reason else "")
    if run.state is State.RUNNING:
        return f"It is running, attempt {run.epoch}"
    if run.reason is Reason.RETRYING:
        return "It waits to be tried again"
    if standing is not None and standing.phase in _STANDSTILL:
        return f"It waits because the app is {standing.phase}: {standing.message}"
    return "It waits for a worker"
