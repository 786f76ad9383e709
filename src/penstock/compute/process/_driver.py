"""The driver whose workers are processes of this machine.

                      fresh, or forked from a warm template
    (nothing) --+-----------------------------------------------> RUNNING ------> ENDED --forget--> (nothing)
                |                                                    ^              ^
                `--its template still warms up--> PENDING -----------+--------------'
                                                             no longer wanted, or can't start

Every order is on record in the state folder before anything starts.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Final

import msgspec

from penstock.compute._feed import Feed
from penstock.compute.driver import Features, Order, Phase, Sighting
from penstock.errors import Misconfigured, PenstockError, Unavailable
from penstock.model.app import App
from penstock.model.forking import Ready
from penstock.model.ids import Clock
from penstock.model.run import Reason

from . import _environment
from ._exits import exits
from ._kin import Kin, end_session, find, identify, same, send
from ._logs import Logs, last_lines
from ._oom import OomKills, counter
from ._records import Record, Records
from ._start import Program, start
from ._templates import Births, Template, Templates
from ._worker import Worker

__all__ = ["Options", "ProcessCompute"]

EX_CONFIG: Final = 78  # sysexits.h: the program found its configuration wrong
SIGKILLED: Final = frozenset({-signal.SIGKILL, 128 + signal.SIGKILL})
TEND_S: Final = 5.0
TITLE_S: Final = 0.2  # how long a forked worker may take to put its uid into its title
CODE_S: Final = 1.0  # how long a template may take to tell the code of a worker that is seen to be gone
KILLED_S: Final = 10.0
LAST_LINES: Final = 20
LAST_CHARACTERS: Final = 4096


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How workers are started. `base_env` is the platform's environment, of which only a few names pass."""

    base_env: dict[str, str] = {}
    worker: tuple[str, ...] = (sys.executable, "-m", "penstock.run.worker")  # gets --uid UID
    template: tuple[str, ...] = (sys.executable, "-m", "penstock.run.template")  # gets --fd N; empty = never fork
    template_idle_s: float = 600.0
    log_cap_bytes: int = 16 * 1024 * 1024
    logs_kept: int = 100  # of workers that ended, for each app


class ProcessCompute:
    """Workers as processes of this machine."""

    features = Features(
        describes="processes of this machine, forked from a warm template of their app; they outlive the platform",
        survives_restart=True,
        prepares=True,
    )

    def __init__(self, state: Path, *, clock: Clock, options: Options) -> None:
        self._state = state
        self._clock = clock
        self._options = options
        self._workers: dict[str, Worker] = {}
        self._feed = Feed()
        self._lock: int | None = None
        self._closing = False

    # ---------------------------------------------------------------- coming and going

    async def open(self) -> None:
        """Take the folder, and find again the workers that outlived the last process."""
        self._lock = _take(self._state)
        try:
            await self._set_up()
        except BaseException:
            os.close(self._lock)
            self._lock = None
            raise

    async def _set_up(self) -> None:
        self._records = Records(self._state / "workers")
        self._logs = Logs(self._state / "logs", cap=self._options.log_cap_bytes, kept=self._options.logs_kept)
        self._oom = OomKills(counter())
        self._exits = exits()
        self._templates = Templates(
            self._template_of,
            Births(forked=self._forked, ended=self._ended),
            exits=self._exits,
            clock=self._clock,
            idle_s=self._options.template_idle_s,
        )
        await self._adopt()
        self._tending = asyncio.create_task(self._tend_until_closed())

    async def close(self) -> None:
        """Let go: the workers go on, the templates end."""
        if self._lock is None or self._closing:
            return
        self._closing = True
        self._tending.cancel()
        await self._templates.close()
        starts = [worker.start for worker in self._workers.values() if worker.start is not None]
        await asyncio.gather(*starts, return_exceptions=True)
        self._exits.close()
        self._feed.close()
        os.close(self._lock)
        self._lock = None

    async def tend(self) -> None:
        """Do the housework: cut and drop logs, let idle templates go. It is done every few seconds anyway."""
        self._oom.settle()
        self._templates.tend()
        live = {Path(worker.record.log) for worker in self._workers.values() if not worker.ended.is_set()}
        await asyncio.to_thread(self._logs.tidy, live)

    # ---------------------------------------------------------------- the contract

    async def create(self, order: Order) -> None:
        """Start a worker; one of this uid that is there already is a success.

        Returns once its process lives, or at once where it waits for its template to warm up.
        """
        worker = self._workers.get(order.uid) or self._begin(order)
        if worker.start is not None and worker.phase is Phase.PENDING and not _waits(worker.template):
            await asyncio.shield(worker.start)

    async def prepare(self, app: App, spec_generation: int) -> None:
        """Have the app's template import its handler, so that the first worker is forked in milliseconds."""
        self._template_for(app, spec_generation)

    async def list(self) -> list[Sighting]:
        """Give every worker it knows."""
        return [worker.sighting for worker in self._workers.values()]

    def changes(self) -> AsyncIterator[Sighting]:
        """Give sightings as they happen, from now on."""
        return self._feed.subscribe()

    async def drain(self, uid: str) -> None:
        """Send SIGTERM to a worker, and to nothing that it started; one that waits is not started any more."""
        kin = await self._settle(uid)
        if kin is not None:
            send(kin, signal.SIGTERM)

    async def remove(self, uid: str, grace_s: float = 0.0) -> None:
        """End a worker and all that lives in its session: SIGTERM to the worker, `grace_s`, then SIGKILL to all."""
        kin = await self._settle(uid)
        if kin is None:
            return
        worker = self._workers[uid]
        worker.killed = True
        send(kin, signal.SIGTERM)
        if await _happens(worker.ended, grace_s):
            return
        end_session(kin)
        if not await _happens(worker.ended, KILLED_S):
            raise Unavailable(f"worker {uid} (pid {kin.pid}) was killed but the system has not let it go yet")

    async def forget(self, uid: str) -> None:
        """Drop the record of an ended worker; its log stays for a while."""
        worker = self._workers.get(uid)
        if worker is not None and worker.ended.is_set():
            del self._workers[uid]
            self._records.drop(uid)

    async def logs(self, uid: str, *, tail: int = 100, follow: bool = False) -> AsyncGenerator[str]:
        """Give a worker's log lines."""
        worker = self._workers.get(uid)
        path = self._logs.find(uid) if worker is None else Path(worker.record.log)

        def growing() -> bool:
            return follow and worker is not None and not worker.ended.is_set() and not self._closing

        async with aclosing(self._logs.read(path, tail, growing)) as lines:
            async for line in lines:
                yield line

    # ---------------------------------------------------------------- starting

    def _begin(self, order: Order) -> Worker:
        """Put the order on record before anything starts, so that a worker without a record can't be."""
        log = self._logs.path(order.app.name, order.uid)
        record = Record(uid=order.uid, app=order.app.name, generation=order.spec_generation, log=str(log))
        self._records.write(record)
        worker = self._workers[order.uid] = Worker(record)
        worker.template = self._template_for(order.app, order.spec_generation)
        work = self._start_later(worker, order) if _waits(worker.template) else self._start_now(worker, order)
        worker.start = asyncio.create_task(work)
        worker.start.add_done_callback(lambda task: task.cancelled() or task.exception())
        return worker

    async def _start_now(self, worker: Worker, order: Order) -> None:
        try:
            await self._start(worker, order)
        except PenstockError:
            del self._workers[order.uid]
            self._records.drop(order.uid)
            raise

    async def _start_later(self, worker: Worker, order: Order) -> None:
        """Start a worker whose creator has been told that it will be, so a failure becomes its end."""
        assert worker.template is not None, "it waits for a template"
        self._feed.tell(worker.sighting)
        await _first(worker.template.ready, worker.unwanted)
        if self._closing:
            return  # closed meanwhile: the next process finds the order on record, and no worker
        try:
            await self._start(worker, order)
        except PenstockError as error:
            self._end(worker, None, reason=Reason.CONFIG if isinstance(error, Misconfigured) else "", text=str(error))

    async def _start(self, worker: Worker, order: Order) -> None:
        if worker.unwanted.is_set():
            self._end(worker, 0, text="It was no longer wanted before it had started.")
        elif not await self._fork(worker, order):
            await self._start_fresh(worker, order)

    async def _fork(self, worker: Worker, order: Order) -> bool:
        """Tell whether the worker could be forked; where not, it has to start fresh."""
        if worker.template is None or not worker.template.warm:
            return False
        try:
            await worker.template.fork(order.uid, _environment.of_worker(order), Path(worker.record.log))
        except Unavailable:
            # The template may have died after the fork and before it could say so.
            await asyncio.sleep(TITLE_S)
            found = await asyncio.to_thread(find, {order.uid: Path(worker.record.log)})
            if worker.record.kin is None and order.uid in found:
                self._follow(worker, found[order.uid])
        return worker.phase is not Phase.PENDING

    async def _start_fresh(self, worker: Worker, order: Order) -> None:
        worker.template = None
        pid = await start(
            Program(
                command=[*self._options.worker, "--uid", order.uid],
                env=_environment.of_app(self._options.base_env, order.app) | _environment.of_worker(order),
                folder=_environment.folder(order.app, self._state),
                log=Path(worker.record.log),
            )
        )
        kin = identify(pid)
        assert kin is not None, "a child keeps its number until it is collected"
        self._follow(worker, kin)

    def _template_for(self, app: App, generation: int) -> Template | None:
        return self._templates.request(app, generation) if self._options.template else None

    def _template_of(self, app: App) -> Program:
        return Program(
            command=self._options.template,
            env=_environment.of_app(self._options.base_env, app),
            folder=_environment.folder(app, self._state),
            log=self._logs.path(app.name, "template"),
        )

    # ---------------------------------------------------------------- following

    async def _adopt(self) -> None:
        """Find the workers on record: those that were about to start by their title, the others by pid and birth."""
        records = list(self._records.read())
        starting = {record.uid: Path(record.log) for record in records if not (record.kin or record.ended_at)}
        found = await asyncio.to_thread(find, starting) if starting else {}
        for record in records:
            worker = self._workers[record.uid] = Worker(record)
            kin = record.kin or found.get(record.uid)
            if worker.ended.is_set():
                continue
            if kin is not None and same(kin):
                self._follow(worker, kin)
            else:
                self._end(worker, None)

    def _forked(self, uid: str, pid: int) -> None:
        worker, kin = self._workers.get(uid), identify(pid)
        if worker is not None and kin is not None:
            self._follow(worker, kin)

    def _ended(self, uid: str, code: int) -> None:
        if (worker := self._workers.get(uid)) is not None:
            self._end(worker, code)

    def _follow(self, worker: Worker, kin: Kin) -> None:
        """Put a living worker on record, tell of it, and watch for its end."""
        started_at = worker.record.started_at or self._clock.now()
        worker.record = msgspec.structs.replace(worker.record, kin=kin, started_at=started_at)
        self._keep(worker.record)
        self._feed.tell(worker.sighting)
        self._exits.watch(kin, lambda code: self._gone(worker, kin, code))

    def _keep(self, record: Record) -> None:
        """Put what is known now on record, if the disk takes it: what it has already is enough to find the worker."""
        with suppress(OSError):
            self._records.write(record)

    def _gone(self, worker: Worker, kin: Kin, code: int | None) -> None:
        """Take note of an observed exit, and leave nothing of the worker's session behind."""
        end_session(kin)
        if worker.template is not None and worker.uid in worker.template.workers:
            # Only the template can know the code; it is about to tell.
            asyncio.get_running_loop().call_later(CODE_S, self._end, worker, code)
        else:
            self._end(worker, code)

    def _end(self, worker: Worker, code: int | None, *, reason: str = "", text: str = "") -> None:
        if worker.ended.is_set() or self._lock is None:
            return
        if code == EX_CONFIG:
            reason = Reason.CONFIG
        elif code in SIGKILLED and not worker.killed and self._oom.explain():
            reason = Reason.OOM
        worker.record = msgspec.structs.replace(
            worker.record,
            ended_at=self._clock.now(),
            exit_code=code,
            reason=reason,
            message=text or ("" if code == 0 else last_lines(Path(worker.record.log), LAST_LINES, LAST_CHARACTERS)),
        )
        worker.template = None
        worker.ended.set()
        self._keep(worker.record)
        self._feed.tell(worker.sighting)

    async def _settle(self, uid: str) -> Kin | None:
        """Give a worker's process, once it is not about to start any more; None where there is none to signal."""
        worker = self._workers.get(uid)
        if worker is None or worker.ended.is_set():
            return None
        worker.unwanted.set()
        if worker.start is not None:
            await asyncio.wait({worker.start})
        return None if worker.ended.is_set() else worker.record.kin

    async def _tend_until_closed(self) -> None:
        while True:
            await asyncio.sleep(TEND_S)
            with suppress(OSError):  # a full disk must not end the housework
                await self.tend()


def _waits(template: Template | None) -> bool:
    return template is not None and not template.ready.done()


async def _first(ready: asyncio.Future[Ready], unwanted: asyncio.Event) -> None:
    """Wait until either happens."""
    waiting = asyncio.ensure_future(unwanted.wait())
    try:
        await asyncio.wait((ready, waiting), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()


async def _happens(event: asyncio.Event, within_s: float) -> bool:
    """Tell whether an event happens in time."""
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), within_s)
    return event.is_set()


def _take(state: Path) -> int:
    """Give the open lock on a state folder; the system lets go of it when this process ends, however it does."""
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(state / "compute.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Misconfigured(f"the state folder {state} can't be used: {error}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise Misconfigured(f"another process uses {state}: stop it, or give this one a folder of its own") from None
    return lock
