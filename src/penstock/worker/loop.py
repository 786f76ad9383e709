"""The loop: lease -> fetch -> predict -> store -> settle, and ask for the next work in the same round trip."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Final

from penstock.errors import PenstockError
from penstock.model.ids import Clock, Randomness
from penstock.model.wire import Assignment, ExitRequest, LeaseReply

from .asking import Ask, Asking, Rest, lacking, micro_batches
from .broker import Broker
from .current import CurrentRun
from .desk import LoopDesk
from .ending import Limits, released
from .exchange import Exchange
from .exits import Exit
from .handler import Handler
from .hands import Hands, Held, settle_item
from .log import event
from .outage import Outage
from .pace import Pace
from .post import Post
from .predict import Predictor
from .pulse import Pulse, Sleep
from .round import Rounds

__all__ = ["Loop", "slots_of"]

RELEASE_S: Final = 3.0  # for giving back what is unfinished, at the very end
HEALTH_S: Final = 15.0  # between two looks at an idle handler's health
HOLLOW_S: Final = 0.05  # an empty answer that comes sooner was no long poll


def slots_of(post: Post, handler: Handler, *, concurrent: bool) -> int:
    """Give how many calls of `predict` this replica makes at once: its share of the worker's `putConcurrency`."""
    share = max(1, post.app.scaling.put_concurrency // post.app.worker.instances)
    return share if concurrent else max(1, min(share, handler.concurrency))


class Loop:
    """One replica's work, from its first lease to its last settle.

    The asker is the only one that asks for work; rounds run beside it, and a pulse beats. A finished round's endings
    ride on the asker's next question, or go out by themselves while a question stays open.
    """

    def __init__(
        self,
        post: Post,
        broker: Broker,
        predictor: Predictor,
        *,
        clock: Clock,
        random: Randomness,
        sleep: Sleep = asyncio.sleep,
        served: Callable[[], None] = lambda: None,
    ) -> None:
        worker = post.app.worker
        slots = slots_of(post, predictor.handler, concurrent=predictor.concurrent)
        pace = Pace(slots=slots, batch_size=worker.batch_size)
        limits = Limits(post.app.results.max_result_bytes, post.inline_max_bytes)
        self._post = post
        self._broker = broker
        self._predictor = predictor
        self._clock = clock
        self._pace = pace
        self._hands = Hands()
        self._desk = LoopDesk(broker, self._hands, clock)
        self._rounds = Rounds(broker, predictor, self._hands, limits=limits, slots=slots, pace=pace)
        self._asking = Asking(post.app, pace, clock.monotonic(), slots=slots)
        self._exchange = Exchange(broker, self._hands, self, replica=post.replica, served=served)
        self._outage = Outage(worker.idle_exit_seconds, random)
        self._pulse = Pulse(post, broker, self._hands, self, clock=clock, sleep=sleep)
        self._sleep = sleep
        self._stirred = asyncio.Event()
        self._asker: asyncio.Task[None] | None = None
        self._working: set[asyncio.Task[None]] = set()
        self._flushing: asyncio.Task[None] | None = None
        self._waiting = False  # the asker waits for something that may take long
        self._errors_seen = 0
        self._health_at = clock.monotonic()
        self._exit: Exit | None = None
        self._leave_by: float | None = None  # on the event loop's clock
        self._limit: asyncio.Timeout | None = None

    async def run(self) -> Exit:
        """Work until there is a reason to leave; gives that reason.

        Threads that are stuck in `predict` are left behind: end the process without waiting for them.
        """
        async with asyncio.TaskGroup() as self._tasks:
            self._asker = self._tasks.create_task(self._ask_on())
            pulse = [self._tasks.create_task(self._pulse.beat()), self._tasks.create_task(self._pulse.watch())]
            await asyncio.wait([self._asker])
            await self._finish()
            for task in (*pulse, *self._working):
                task.cancel()
        return self._exit or Exit.DONE

    def leave(self, why: Exit, grace_s: float | None = None) -> None:
        """Take no more work; finish what is in hand, within `grace_s` seconds if given, and exit for this reason."""
        if self._exit is None:
            event("leaving", why=why.name.lower())
        if self._exit is None or why in {Exit.STUCK, Exit.UNHEALTHY}:
            self._exit = why
        if grace_s is not None:
            self._hurry(grace_s)
        if self._asker is not None and self._waiting:
            self._asker.cancel()
        self.stir()

    def stir(self) -> None:
        """Look again at what is in hand."""
        self._stirred.set()
        if self._waiting and self._hands.finished and self._flushing is None:
            self._flushing = self._tasks.create_task(self._flush())

    # ------------------------------------------------------------------ asking

    async def _ask_on(self) -> None:
        try:
            while self._exit is None:
                await self._mind_health()
                plan = self._asking.plan(self._hands, self._clock.monotonic())
                if isinstance(plan, Rest):
                    await self._rest(plan.seconds)
                else:
                    await self._step(plan)
        except asyncio.CancelledError:
            if self._exit is None:
                raise

    async def _step(self, ask: Ask) -> None:
        """Report and ask once, and start on what was given."""
        began = self._clock.monotonic()
        reply = await self._talk(ask)
        if reply is None:
            return
        self._asking.note(ask, reply)
        members = [self._take(attempt) for attempt in reply.attempts]
        try:
            await self._fill(members)
        finally:
            self._start(members)
        if reply.exit:
            self.leave(Exit.DONE)
        elif self._asking.spent:
            self.leave(Exit.RECYCLED if self._post.packed else Exit.DONE)
        elif not members and not self._hands.held:
            await self._idle(ask, self._clock.monotonic() - began)

    async def _fill(self, members: list[Held]) -> None:
        """Wait up to `batchWaitMs` for what a micro-batch lacks, and add it to its members."""
        worker = self._post.app.worker
        until = self._clock.monotonic() + worker.batch_wait_ms / 1000
        while self._exit is None and not self._asking.spent and (lack := lacking(members, worker.batch_size)):
            left = until - self._clock.monotonic()
            if left <= 0:
                return
            ask = Ask(lack, left)
            reply = await self._talk(ask)
            if reply is None:
                return
            self._asking.note(ask, reply)
            members += [self._take(attempt) for attempt in reply.attempts]
            if reply.exit:
                self.leave(Exit.DONE)
            if reply.drain_first:
                return

    async def _idle(self, ask: Ask, waited: float) -> None:
        """Having got nothing: leave when that went on for long enough, and don't ask in a hurry."""
        now = self._clock.monotonic()
        if self._asking.idled(now):
            with self._interruptible():
                granted = await self._may_exit()
            if granted:
                self.leave(Exit.DONE)
            self._asking.stay(now)
        elif waited < min(HOLLOW_S, ask.wait_s):
            await self._pause(HOLLOW_S * 4)

    async def _may_exit(self) -> bool:
        try:
            return (await self._broker.exit(ExitRequest(replica=self._post.replica))).granted
        except PenstockError:
            return False

    def _take(self, assignment: Assignment) -> Held:
        run = CurrentRun(
            self._desk,
            run_id=assignment.run_id,
            deadline=self._clock.now() + assignment.deadline_s,
            epoch=assignment.epoch,
            tenant=assignment.tenant,
            key=assignment.key,
            lane=assignment.lane,
            attempts_left=assignment.attempts_left,
            traceparent=assignment.traceparent,
            last_checkpoint=assignment.checkpoint,
        )
        held = Held(assignment, run, self._clock.monotonic() + assignment.deadline_s)
        self._hands.take(held)
        return held

    def _start(self, members: Sequence[Held]) -> None:
        """Start a round for each micro-batch; one for all of them where calls in a thread are quick."""
        worker = self._post.app.worker
        batches = micro_batches(members, worker.batch_size, mix_tenants=worker.mix_tenants)
        together = self._pace.quick and not self._predictor.concurrent
        for batch in [batches] if together and batches else [[batch] for batch in batches]:
            self._hands.begin()
            task = self._tasks.create_task(self._rounds.work(batch))
            self._working.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._working.discard(task)
        if not self._hands.held:
            self._asking.emptied(self._clock.monotonic())
        self.stir()

    async def _mind_health(self) -> None:
        """Leave if the handler says that it is broken; asked after an error, and now and then."""
        now = self._clock.monotonic()
        if self._rounds.errors == self._errors_seen and now - self._health_at < HEALTH_S:
            return
        self._errors_seen, self._health_at = self._rounds.errors, now
        with self._interruptible():  # it may have to wait for a call that never ends
            healthy = await self._predictor.healthy()
        if not healthy:
            event("unhealthy", logging.ERROR)
            self.leave(Exit.UNHEALTHY, 0.0)

    # ------------------------------------------------------------------ waiting

    async def _talk(self, ask: Ask) -> LeaseReply | None:
        """Exchange with the broker as the asker; without an answer, wait a little and give None."""
        with self._interruptible() if ask.wait_s else nullcontext():
            reply = await self._exchange.send(ask)
        if reply is not None:
            self._outage.over()
        elif self._exit is None:
            await self._pause(self._trouble())
        return reply

    def _trouble(self) -> float:
        """Give how long to wait after a failure; leave if there is no hope."""
        now = self._clock.monotonic()
        pause = self._outage.failed(now)
        if not self._hands.held and self._outage.hopeless(now, with_result=self._hands.unconfirmed > 0):
            self.leave(Exit.BROKER_LOST, 0.0)
        return pause

    async def _pause(self, seconds: float) -> None:
        with self._interruptible():
            await self._sleep(seconds)

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Mark a wait of the asker's that leaving ends at once, and that reports need not wait for."""
        self._waiting = True
        try:
            yield
        finally:
            self._waiting = False

    async def _rest(self, seconds: float | None) -> None:
        """Wait until something in hand changes, for `seconds` at most."""
        self._stirred.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stirred.wait()

    async def _flush(self) -> None:
        """Report what finished while the asker's question stays open."""
        try:
            while self._hands.finished:
                if await self._exchange.send(Ask(0, 0.0)) is None:
                    await self._sleep(self._trouble())
        finally:
            self._flushing = None
            self._stirred.set()

    # ------------------------------------------------------------------ leaving

    def _hurry(self, grace_s: float) -> None:
        """Let nothing take longer than a grace from now, not even a call to a broker that is silent."""
        here = asyncio.get_running_loop()
        by = here.time() + grace_s
        self._leave_by = by if self._leave_by is None else min(by, self._leave_by)
        if self._asker is not None:
            here.call_at(self._leave_by, self._asker.cancel)
        if self._limit is not None:
            self._limit.reschedule(self._leave_by)
        for held in self._hands.held.values():
            held.run.stop()

    async def _finish(self) -> None:
        """Work off what is in hand, as far as the grace goes, then give back the rest."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._leave_by) as self._limit:
                await self._work_off()
        self._limit = None
        with suppress(TimeoutError):
            async with asyncio.timeout(RELEASE_S):
                await self._desk.saved()
                await self._release()

    async def _work_off(self) -> None:
        while self._hands.held or self._hands.unconfirmed:
            if not self._hands.finished:
                await self._rest(None)
            elif await self._exchange.send(Ask(0, 0.0)) is None:
                await self._sleep(self._trouble())

    async def _release(self) -> None:
        """Give back what is unfinished: it goes to the head of its lane, and no attempt is charged."""
        for held in list(self._hands.held.values()):
            self._hands.finish(held, settle_item(held.assignment, released))
            held.drop()
        while self._hands.finished:
            if await self._exchange.send(Ask(0, 0.0)) is None:
                await self._sleep(self._outage.failed(self._clock.monotonic()))
