"""The controller: of several processes one leads, and for each app it observes, plans and acts; and it maintains."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from functools import partial
from math import inf
from typing import Final

import msgspec
import structlog

from penstock.compute import Phase, Sighting
from penstock.errors import PenstockError
from penstock.ledger.commands import Gap, NoteWorker
from penstock.model import placement
from penstock.model.app import DesiredState

from .act import Actor
from .bell import Bell
from .ends import Ends
from .lead import RENEW_S, Leadership
from .maintain import Maintainer, duties
from .observe import observe
from .parts import Parts
from .plan import AppPlan, Plan, plan
from .snapshot import Ended, Snapshot
from .status import AppStatus, at_rest

__all__ = ["Controller"]

_log = structlog.get_logger("penstock.controller")

_IDLE_TICKS: Final = 5.0  # with nothing to do, ticks come so many times more rarely
_REST: Final = 4.0  # of four seconds, one at most goes into looking at everything
_MOST_PREPARED: Final = 8  # apps whose first start is made faster, of those that changed at once
_MOST_RECALLED: Final = 20_000  # workers, newest first
_HOPELESS: Final = frozenset({placement.Phase.HELD, placement.Phase.PAUSED})  # a new run changes nothing there


class Controller:
    """Sees to it that every app has the workers it needs, and that nothing stays stuck.

    `run` works until it is cancelled or closed. `lead`, `tick` and `maintain` are single steps of it, for tests and
    tools. Of several controllers on one ledger, one leads.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        tick_s: float = 1.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        holder: str = "",
    ) -> None:
        self._parts = parts
        self._clock = parts.clock
        self._tick_s = tick_s
        self._sleep = sleep
        self._ends = Ends(parts)
        self._actor = Actor(parts, self._ends)
        self._bell = Bell(sleep)
        self._lead = Leadership(parts.ledger, parts.clock, holder)
        self._leading = asyncio.Event()
        self._unprepared = False  # the lead is new, and what comes before the first tick is still to be done
        self._maintainer = Maintainer(duties(parts, self._ends), leading=self._led, repaired=self._hurry, sleep=sleep)
        self._plans: dict[str, AppPlan] = {}
        self._faults: dict[str, str] = {}  # what last went wrong for an app, in words
        self._acting: dict[str, asyncio.Task[None]] = {}
        self._background: set[asyncio.Task[object]] = set()
        self._nudged: set[str] = set()
        self._changed: set[str] = set()
        self._whole_at = -inf  # when all apps are looked at next, by the monotonic clock
        self._running: asyncio.Task[None] | None = None
        parts.catalog.subscribe(self._app_changed)

    # -------------------------------------------------------------- what others call

    @property
    def leads(self) -> bool:
        """Whether this process is the one that acts, of those with a controller."""
        return self._lead.held

    def nudge(self, app: str) -> None:
        """Have a new run's app looked at: at once where no worker would take the run, else at the next tick."""
        planned = self._plans.get(app)
        if planned is not None:
            status = planned.status
            if status.live > status.draining or status.phase in _HOPELESS:
                return
        self._look_at(app)

    def status(self, app: str) -> AppStatus | None:
        """Give what was last found out about an app; None for one that there is not."""
        entry = self._parts.catalog.find(app)
        if entry is None:
            return None
        planned = self._plans.get(app)
        status = planned.status if planned is not None else at_rest(entry.app)
        fault = self._faults.get(app)
        return msgspec.structs.replace(status, last_error=fault) if fault else status

    async def ended(self, sighting: Sighting) -> None:
        """Record that compute saw a worker end, and start another at once if its app needs one."""
        ended = Ended(sighting.uid, sighting.exit_code, sighting.reason, sighting.message)
        if await self._ends.seen(ended) is not None:
            self._look_at(sighting.app)

    # -------------------------------------------------------------- steps

    async def lead(self) -> bool:
        """Take or renew the lead; on taking it, forgive the time in which nobody led, and recall what was.

        Forgiving comes before anything is swept: workers that survived an outage of ours must not be run twice.
        """
        self._notice_lapse()
        self._unprepared |= await self._lead.renew()
        if self._lead.held and self._unprepared:
            forgiven_s = await self._parts.ledger.gap(Gap(forgive=True))
            self._parts.recall.refresh(await self._parts.ledger.workers(live=False, limit=_MOST_RECALLED))
            self._plans.clear()
            self._whole_at, self._unprepared = -inf, False
            _log.info("lead.taken", term=self._lead.term, forgiven_s=round(forgiven_s, 3))
            self._leading.set()
        if not self._lead.held:
            self._leading.clear()
        return self._lead.held

    async def tick(self, only: Collection[str] | None = None) -> Plan:
        """Observe, plan and act once, for all apps or `only` some; returns when all is done."""
        made = await self._tick(only)
        while self._acting:
            await asyncio.wait(self._acting.values())
        return made

    async def maintain(self) -> int:
        """Do each of the maintainer's duties once; gives how much was repaired."""
        return await self._maintainer.turn()

    # -------------------------------------------------------------- the loops

    async def run(self) -> None:
        """Work until cancelled or closed."""
        self._running = asyncio.current_task()
        try:
            async with asyncio.TaskGroup() as group:
                for loop in (self._keep_leading, self._keep_ticking, self._keep_watching, self._maintainer.run):
                    group.create_task(loop())
        finally:
            self._running = None
            await self._let_go()

    async def close(self) -> None:
        """Stop what `run` does, and wait until it has stopped; workers go on. A second call does nothing."""
        running = self._running
        if running is not None:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
        await self._let_go()

    async def _keep_leading(self) -> None:
        while True:
            if await self._guarded(self.lead()):
                await self._guarded(self._parts.ledger.gap(Gap()))
            await self._sleep(RENEW_S)

    async def _led(self) -> None:
        """Return once this process leads."""
        self._notice_lapse()
        await self._leading.wait()

    def _notice_lapse(self) -> None:
        """Take note of a lead that ran out unseen, as this process or its machine stood still.

        It has to be taken anew, and that time forgiven, before anything else is done: the workers may have gone on.
        """
        if not self._lead.held:
            self._leading.clear()

    async def _keep_ticking(self) -> None:
        while True:
            await self._led()
            if self._clock.monotonic() >= self._whole_at:
                self._nudged.clear()
                began = self._clock.monotonic()
                await self._guarded(self._tick(None))
                self._whole_at = began + self._pause_s(self._clock.monotonic() - began)
            elif ready := self._nudged - self._acting.keys():
                self._nudged -= ready
                await self._guarded(self._tick(ready))
                self._whole_at = min(self._whole_at, self._clock.monotonic() + self._tick_s)
            self._prepare()
            await self._bell.wait(max(0.0, self._whole_at - self._clock.monotonic()))

    def _pause_s(self, took_s: float) -> float:
        """Give the time from one look at all apps to the next: rarer with nothing to do, or where a look takes long."""
        return max(self._tick_s if self._plans else self._tick_s * _IDLE_TICKS, took_s * _REST)

    async def _keep_watching(self) -> None:
        async for sighting in self._parts.compute.changes():
            if self._lead.held:
                self._spawn(self._saw(sighting))

    async def _saw(self, sighting: Sighting) -> None:
        if sighting.phase is Phase.ENDED:
            await self.ended(sighting)
        elif sighting.pid is not None or sighting.node is not None:
            await self._parts.ledger.note_worker(NoteWorker(uid=sighting.uid, pid=sighting.pid, node=sighting.node))

    # -------------------------------------------------------------- observe, plan, act

    async def _tick(self, only: Collection[str] | None) -> Plan:
        """Observe and plan, and begin to act; an app whose last acts still go on is left alone until they are done."""
        snapshot = await observe(self._parts, self._plans, only)
        idle = tuple(view for view in snapshot.apps if view.app.name not in self._acting)
        made = plan(Snapshot(snapshot.now, idle), self._plans)
        self._keep(made, whole=only is None)
        if self._lead.held:
            for name, planned in made.apps.items():
                if planned.actions:
                    self._acting[name] = task = asyncio.create_task(self._act(planned))
                    task.add_done_callback(partial(self._acted, name))
        return made

    def _keep(self, made: Plan, *, whole: bool) -> None:
        """Keep the plans and what they remember; a whole tick drops those of apps that have come to rest."""
        for name, planned in made.apps.items():
            self._parts.recall.planned(name, planned.view.history, planned.history)
        for name, why in made.failed.items():
            if self._faults.get(name) != why:
                _log.error("app.unplannable", app=name, why=why)
        kept = {name: known for name, known in self._plans.items() if not whole or name in self._acting}
        self._plans = kept | made.apps
        # A fault is shown until the app was acted on without one, or waits for nothing any more.
        wanting = {name for name, known in self._plans.items() if known.actions or known.status.starting}
        self._faults = {name: why for name, why in self._faults.items() if name in wanting} | made.failed

    async def _act(self, planned: AppPlan) -> None:
        name = planned.view.app.name
        try:
            fault = await self._actor.act(planned)
        except Exception as error:  # noqa: BLE001 - one bad app stops no other
            _log.exception("app.act_broke", app=name)
            fault = f"{type(error).__name__}: {error}"
        if fault:
            self._faults[name] = fault
        else:
            self._faults.pop(name, None)

    def _acted(self, name: str, _: asyncio.Task[None]) -> None:
        del self._acting[name]
        if name in self._nudged:
            self._bell.ring()

    # -------------------------------------------------------------- small things

    def _look_at(self, app: str) -> None:
        self._nudged.add(app)
        self._bell.ring()

    def _hurry(self) -> None:
        """Look at all apps now: the maintainer changed something."""
        self._whole_at = -inf
        self._bell.ring()

    def _app_changed(self, app: str) -> None:
        if self._parts.catalog.find(app) is not None:
            self._changed.add(app)
            self._look_at(app)
            return
        self._plans.pop(app, None)
        self._faults.pop(app, None)
        self._parts.recall.forget(app)

    def _prepare(self) -> None:
        """Have compute make ready for apps that are new or changed, in the background."""
        names, self._changed = self._changed, set()
        for name in sorted(names)[:_MOST_PREPARED]:
            entry = self._parts.catalog.find(name)
            if entry is not None and entry.app.desired_state is DesiredState.READY:
                self._spawn(self._parts.compute.prepare(entry.app, entry.generation))

    def _spawn(self, work: Awaitable[object]) -> None:
        task = asyncio.create_task(self._guarded(work))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _guarded(self, work: Awaitable[object]) -> object:
        """Await a step of a loop; what goes wrong is told, and the loop goes on with its next step."""
        try:
            return await work
        except PenstockError as error:
            _log.warning("controller.step_failed", why=error.detail)
        except Exception:  # noqa: BLE001 - a loop outlives its steps
            _log.exception("controller.step_broke")
        return None

    async def _let_go(self) -> None:
        tasks = [*self._acting.values(), *self._background]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._leading.clear()
        await self._lead.give_up()
