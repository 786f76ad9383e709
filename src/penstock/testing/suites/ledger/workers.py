"""Workers' rows, what becomes of their attempts when they go, and who may go."""

from __future__ import annotations

import asyncio

from penstock.ledger.commands import (
    AddWorker,
    Cancel,
    EndWorker,
    GrantExit,
    Lease,
    NoteWorker,
    SeeWorkers,
)
from penstock.model.fleet import Worker, WorkerState
from penstock.model.run import AttemptState, Lane, Outcome, Reason, Run, State
from penstock.testing.suites.ledger.scene import APP, Scene

__all__ = ["WorkerCases"]


class WorkerCases:
    """A worker's row comes first; its death costs its runs nothing but the attempt it held alone."""

    async def test_a_worker_is_kept_as_added(self, scene: Scene) -> None:
        """Its row is read back, its start by the ledger's clock; the same uid again changes nothing."""
        row = Worker(uid="w-1", app=APP, spec_generation=3, state=WorkerState.STARTING, candidate="pool/a", instances=4)
        await scene.ledger.add_worker(AddWorker(worker=row))
        await scene.ledger.add_worker(AddWorker(worker=Worker(uid="w-1", app="x", spec_generation=9, state=row.state)))
        kept = await scene.ledger.worker("w-1")
        assert kept is not None
        assert (kept.app, kept.spec_generation, kept.candidate, kept.instances) == (APP, 3, "pool/a", 4)
        assert (kept.started_at, kept.held, kept.ready_at) == (scene.clock.now(), 0, None)
        assert await scene.ledger.worker("w-2") is None

    async def test_the_first_lease_makes_a_worker_ready(self, scene: Scene) -> None:
        """STARTING, IDLE, BUSY, IDLE: BUSY is holding something."""
        await scene.worker()
        assert await self._state(scene) is WorkerState.STARTING
        scene.clock.advance(3.0)
        await scene.lease()
        assert await self._state(scene) is WorkerState.IDLE
        run = await scene.running()
        assert await self._state(scene) is WorkerState.BUSY
        await scene.succeed(run)
        worker = await scene.ledger.worker("w-1")
        assert worker is not None
        assert (worker.state, worker.leases, worker.held) == (WorkerState.IDLE, 1, 0)
        assert worker.ready_at == scene.clock.now()

    async def test_a_lease_of_nothing_makes_a_worker_ready(self, scene: Scene) -> None:
        """It says that it is loaded, and takes nothing yet; what is in line is told."""
        await scene.worker()
        await scene.submitted("a", tenant="x")
        await scene.submitted("b", tenant="y")
        given = await scene.lease(0)
        assert (given.grants, given.left, given.refused) == ((), 2, "")
        assert await self._state(scene) is WorkerState.IDLE

    async def test_notes_fill_in_what_became_known(self, scene: Scene) -> None:
        """Each field by itself; what is not named stays."""
        await scene.worker()
        assert await scene.ledger.note_worker(NoteWorker(uid="w-1", pid=77))
        assert await scene.ledger.note_worker(NoteWorker(uid="w-1", node="n", candidate="vm/a", gpu_ids=(0,)))
        worker = await scene.ledger.worker("w-1")
        assert worker is not None
        assert (worker.pid, worker.node, worker.candidate, worker.gpu_ids) == (77, "n", "vm/a", (0,))

    async def test_nobody_takes_notes_of_the_dead(self, scene: Scene) -> None:
        """An unknown or ended worker gives False and stays as it is."""
        assert not await scene.ledger.note_worker(NoteWorker(uid="nobody", pid=1))
        await scene.worker()
        await scene.ledger.end_worker(EndWorker(uid="w-1", state=WorkerState.EXITED))
        assert not await scene.ledger.note_worker(NoteWorker(uid="w-1", state=WorkerState.IDLE, pid=1))
        assert await self._state(scene) is WorkerState.EXITED

    async def test_draining_is_never_left(self, scene: Scene) -> None:
        """A late word that it is idle does not put it back to work."""
        await scene.worker()
        await scene.ledger.note_worker(NoteWorker(uid="w-1", state=WorkerState.DRAINING))
        await scene.ledger.note_worker(NoteWorker(uid="w-1", state=WorkerState.IDLE))
        assert await self._state(scene) is WorkerState.DRAINING

    async def test_calls_are_seen(self, scene: Scene) -> None:
        """Of those that are named, at the ledger's time."""
        for uid in ("w-1", "w-2", "w-3"):
            await scene.worker(uid)
        scene.clock.advance(9.0)
        await scene.ledger.see_workers(SeeWorkers(uids=("w-1", "w-3", "nobody")))
        seen = {worker.uid: worker.seen_at for worker in await scene.ledger.workers()}
        assert seen == {"w-1": scene.clock.now(), "w-2": None, "w-3": scene.clock.now()}

    async def test_lists_of_workers(self, scene: Scene) -> None:
        """Newest first; of an app; with the ended or without; so many."""
        for uid, app in (("w-1", APP), ("w-2", "other"), ("w-3", APP)):
            await scene.worker(uid, app=app)
        await scene.ledger.end_worker(EndWorker(uid="w-1", state=WorkerState.FAILED, reason="OOM", exit_code=-9))
        assert [worker.uid for worker in await scene.ledger.workers()] == ["w-3", "w-2"]
        assert [worker.uid for worker in await scene.ledger.workers(app=APP)] == ["w-3"]
        assert [worker.uid for worker in await scene.ledger.workers(app=APP, live=False)] == ["w-3", "w-1"]
        assert [worker.uid for worker in await scene.ledger.workers(live=False, limit=1)] == ["w-3"]

    # ---------------------------------------------------------------- the end

    async def test_a_death_returns_what_was_held(self, scene: Scene) -> None:
        """At once, charged to nobody, suspect and at the head; the attempts carry the reason and the exit code."""
        await scene.submitted("a", "b")
        held = await scene.leased(2)
        returned = await scene.ledger.end_worker(
            EndWorker(uid="w-1", state=WorkerState.FAILED, exit_code=-9, reason="OOM", message="killed")
        )
        assert {run.id for run in returned} == {run.id for run in held}
        for run in returned:
            assert run == await scene.run(run.id)
            assert (run.state, run.alone, run.head, run.failures, run.deaths) == (State.QUEUED, True, True, 0, 0)
            (attempt,) = await scene.ledger.attempts(run.id)
            assert (attempt.state, attempt.exit_code, attempt.reason) == (AttemptState.LOST, -9, Reason.OOM)
        worker = await scene.ledger.worker("w-1")
        assert worker is not None
        assert (worker.state, worker.exit_code, worker.reason, worker.message) == (
            WorkerState.FAILED,
            -9,
            "OOM",
            "killed",
        )
        assert (worker.ended_at, worker.held) == (scene.clock.now(), 0)

    async def test_the_end_is_told_once(self, scene: Scene) -> None:
        """A repeat returns nothing and changes nothing."""
        await scene.running()
        first = EndWorker(uid="w-1", state=WorkerState.FAILED, exit_code=1)
        assert len(await scene.ledger.end_worker(first)) == 1
        scene.clock.advance(5.0)
        before = await scene.ledger.worker("w-1")
        assert await scene.ledger.end_worker(EndWorker(uid="w-1", state=WorkerState.LOST)) == ()
        assert await scene.ledger.worker("w-1") == before
        assert await scene.ledger.end_worker(EndWorker(uid="nobody", state=WorkerState.LOST)) == ()

    async def test_only_deaths_while_alone_make_poison(self, scene: Scene) -> None:
        """A neighbour's crash is held against nobody; three deaths alone are POISON."""
        await scene.submitted("innocent", "poison")
        await scene.leased(2, worker="w-0")
        await self._dies(scene, "w-0")
        for number in range(1, 5):
            (run,) = await scene.leased(1, worker=f"w-{number}")
            if run.key == "innocent":
                await scene.succeed(run)
            else:
                await self._dies(scene, f"w-{number}")
        latest = await scene.ledger.latest("acme", APP, "poison")
        assert latest is not None
        assert (latest.state, latest.reason, latest.deaths) == (State.FAILED, Reason.POISON, 3)
        assert (await scene.states())["innocent"] is State.SUCCEEDED

    async def test_a_clean_exit_is_a_release(self, scene: Scene) -> None:
        """One that was told that it may go charges nothing and makes nobody suspect."""
        run = await scene.running()
        (returned,) = await scene.ledger.end_worker(EndWorker(uid="w-1", state=WorkerState.EXITED, clean=True))
        assert (returned.id, returned.state, returned.alone, returned.deaths) == (run.id, State.QUEUED, False, 0)
        (attempt,) = await scene.ledger.attempts(run.id)
        assert (attempt.state, attempt.reason) == (AttemptState.LOST, None)

    async def test_one_replica_dies_by_itself(self, scene: Scene) -> None:
        """What the others hold goes on, and the worker stays what it is."""
        await scene.submitted("a", "b", "c")
        await scene.leased(1, replica=0)
        others = await scene.leased(2, replica=1)
        (returned,) = await scene.ledger.end_worker(EndWorker(uid="w-1", state=WorkerState.FAILED, replica=0))
        assert (returned.key, returned.deaths) == ("a", 1)
        assert await self._state(scene) is WorkerState.BUSY
        for run in others:
            assert (await scene.succeed(run)).code == "ok"

    async def test_a_dead_worker_gets_no_lease(self, scene: Scene) -> None:
        """A zombie process of an ended worker is refused."""
        await scene.worker()
        await scene.ledger.end_worker(EndWorker(uid="w-1", state=WorkerState.LOST))
        await scene.submit()
        assert (await scene.lease()).refused

    async def test_a_cancelled_attempt_ends_with_its_worker(self, scene: Scene) -> None:
        """It is freed, and its run stays CANCELLED."""
        run = await scene.running()
        await scene.ledger.cancel(Cancel(run_id=run.id))
        assert await scene.ledger.end_worker(EndWorker(uid="w-1", state=WorkerState.EXITED)) == ()
        assert (await scene.run(run.id)).state is State.CANCELLED
        worker = await scene.ledger.worker("w-1")
        assert worker is not None
        assert worker.held == 0

    # ---------------------------------------------------------------- leaving

    async def test_an_idle_worker_may_go(self, scene: Scene) -> None:
        """True, and DRAINING in the same step; asking again stays True."""
        await scene.lease()
        assert await scene.ledger.grant_exit(GrantExit(uid="w-1"))
        assert await self._state(scene) is WorkerState.DRAINING
        assert await scene.ledger.grant_exit(GrantExit(uid="w-1"))
        assert await scene.ledger.grant_exit(GrantExit(uid="nobody"))

    async def test_a_worker_with_work_stays(self, scene: Scene) -> None:
        """Refused while it holds an attempt, and while anything of its app is in line, whatever the lane."""
        run = await scene.running()
        assert not await scene.ledger.grant_exit(GrantExit(uid="w-1"))
        await scene.succeed(run)
        await scene.submit("b", lane=Lane.BATCH)
        assert not await scene.ledger.grant_exit(GrantExit(uid="w-1"))
        assert await self._state(scene) is WorkerState.IDLE

    async def test_runs_in_back_off_or_of_others_keep_nobody(self, scene: Scene) -> None:
        """They are not in line, or not this app's."""
        await scene.report(await scene.running(), Outcome.RETRY)
        await scene.submit("k", app="other")
        assert await scene.ledger.grant_exit(GrantExit(uid="w-1"))

    async def test_some_are_kept(self, scene: Scene) -> None:
        """Of three that ask at once, two go where one is to be kept."""
        for uid in ("w-1", "w-2", "w-3"):
            await scene.worker(uid)
        granted = await asyncio.gather(
            *(scene.ledger.grant_exit(GrantExit(uid=uid, keep=1)) for uid in ("w-1", "w-2", "w-3"))
        )
        assert sorted(granted) == [False, True, True]

    async def test_an_exit_never_races_a_new_run(self, scene: Scene) -> None:
        """What is accepted in the same moment is in line first, so the worker stays and gets it."""
        await scene.lease()
        granted, _ = await asyncio.gather(scene.ledger.grant_exit(GrantExit(uid="w-1")), scene.submit())
        assert granted is False
        assert len(await scene.leased()) == 1

    async def test_a_lease_after_the_exit_was_granted_is_refused(self, scene: Scene) -> None:
        """The exit is final: the run stays in line for another."""
        await scene.lease()
        await scene.ledger.grant_exit(GrantExit(uid="w-1"))
        await scene.submit()
        given = await scene.ledger.lease(Lease(worker_uid="w-1", app=APP, lane=Lane.INFER, count=1))
        assert (bool(given.refused), given.grants) == (True, ())

    # ---------------------------------------------------------------- words of these cases

    async def _state(self, scene: Scene, uid: str = "w-1") -> WorkerState:
        worker = await scene.ledger.worker(uid)
        assert worker is not None
        return worker.state

    async def _dies(self, scene: Scene, uid: str) -> tuple[Run, ...]:
        return await scene.ledger.end_worker(EndWorker(uid=uid, state=WorkerState.FAILED, exit_code=-11))
