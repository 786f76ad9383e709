"""In which order runs are leased, and to whom."""

from __future__ import annotations

import asyncio

import pytest

from penstock.ledger.commands import Lease, NoteWorker, Sweep
from penstock.model.fleet import WorkerState
from penstock.model.run import Lane, Outcome, State
from penstock.testing.suites.ledger.scene import TERMS, Scene

__all__ = ["OrderCases"]


class OrderCases:
    """Fairness, head of the line, priority, sequence; and runs that must be alone."""

    async def test_a_grant_is_a_running_run(self, scene: Scene) -> None:
        """The run is RUNNING under its new epoch, with its lease and its deadline, and is stored so."""
        submitted = (await scene.submit()).run
        scene.clock.advance(5.0)
        (grant,) = (await scene.lease()).grants
        now = scene.clock.now()
        assert (grant.run.id, grant.run.state, grant.run.epoch) == (submitted.id, State.RUNNING, 1)
        assert (grant.lease_until, grant.deadline_at) == (now + 30.0, now + 300.0)
        assert (grant.run.started_at, grant.run.body) == (now, submitted.body)
        assert await scene.run(submitted.id) == grant.run
        assert await scene.stage.stored(submitted.id) == ("RUNNING", 1)

    async def test_an_attempt_is_written_with_its_lease(self, scene: Scene) -> None:
        """Who holds a run is on record before the worker has it."""
        await scene.worker()
        await scene.ledger.note_worker(NoteWorker(uid="w-1", node="n-1", candidate="pool/a", gpu_ids=(2, 3)))
        run = await scene.running()
        (attempt,) = await scene.ledger.attempts(run.id)
        assert (attempt.epoch, attempt.state, attempt.worker_uid) == (1, "LEASED", "w-1")
        assert (attempt.node, attempt.candidate, attempt.gpu_ids) == ("n-1", "pool/a", (2, 3))
        assert (attempt.leased_at, attempt.lease_until) == (scene.clock.now(), scene.clock.now() + 30.0)

    async def test_first_come_first_served(self, scene: Scene) -> None:
        """In one share, equal priorities are served in order."""
        await scene.submitted("a", "b", "c")
        assert [run.key for run in await scene.leased(2)] == ["a", "b"]
        assert [run.key for run in await scene.leased(2)] == ["c"]

    async def test_nine_before_zero(self, scene: Scene) -> None:
        """Priority goes before order."""
        for priority in (0, 5, 9, 5):
            await scene.submit(f"{priority}-{scene.ids.run()}", priority=priority)
        assert [run.priority for run in await scene.leased(9)] == [9, 5, 5, 0]

    async def test_a_returned_run_is_first(self, scene: Scene) -> None:
        """A run that was given back goes before its peers, even those of higher priority."""
        run = await scene.running("a")
        await scene.submit("b", priority=9)
        await scene.report(run, Outcome.RELEASED)
        assert [run.key for run in await scene.leased(2)] == ["a", "b"]

    async def test_lanes_and_apps_are_lines_of_their_own(self, scene: Scene) -> None:
        """Nobody is given another app's run, or one of a lane not asked for."""
        await scene.submit("infer")
        await scene.submit("batch", lane=Lane.BATCH)
        await scene.submit("other", app="other")
        assert [run.key for run in await scene.leased(9, lane=Lane.BATCH)] == ["batch"]
        assert [run.key for run in await scene.leased(9)] == ["infer"]

    async def test_what_is_left_in_line_is_told(self, scene: Scene) -> None:
        """So that unused credits can be returned."""
        await scene.submitted("a", "b", "c")
        assert (await scene.lease(1)).left == 2
        assert (await scene.lease(5)).left == 0

    async def test_an_empty_line_gives_nothing(self, scene: Scene) -> None:
        """It is no error to ask."""
        given = await scene.lease(5)
        assert (given.grants, given.left, given.alone_waits, given.refused) == ((), 0, False, "")

    async def test_two_workers_never_get_one_run(self, scene: Scene) -> None:
        """Leases of one moment share the line."""
        await scene.submitted(*(f"k{number}" for number in range(50)))
        for number in range(10):
            await scene.worker(f"w-{number}")
        given = await asyncio.gather(*(scene.leased(7, worker=f"w-{number}") for number in range(10)))
        ids = [run.id for runs in given for run in runs]
        assert len(ids) == len(set(ids)) == 50

    async def test_what_came_with_the_lease_is_leased(self, scene: Scene) -> None:
        """A run that is accepted in the same group does not wait for the next lease."""
        await scene.worker()
        _, leased = await asyncio.gather(scene.submit(), scene.lease())
        assert len(leased.grants) == 1

    # ---------------------------------------------------------------- fairness

    async def test_a_rich_tenant_does_not_starve_a_poor_one(self, scene: Scene) -> None:
        """Tenants take turns, however many runs one of them has queued before."""
        await scene.submitted(*(f"rich{number}" for number in range(40)), tenant="rich")
        await scene.submitted(*(f"poor{number}" for number in range(5)), tenant="poor")
        tenants = [run.tenant for run in await scene.leased(10)]
        assert tenants.count("poor") == 5

    async def test_turns_follow_what_runs_took(self, scene: Scene) -> None:
        """A tenant whose runs take four times as long gets about a fourth as many."""
        for number in range(60):
            await scene.submit(f"slow{number}", tenant="slow")
            await scene.submit(f"quick{number}", tenant="quick")
        served = []
        for _ in range(50):
            (run,) = await scene.leased()
            scene.clock.advance(4.0 if run.tenant == "slow" else 1.0)
            await scene.succeed(run)
            served.append(run.tenant)
        assert 7 <= served.count("slow") <= 14

    async def test_nobody_saves_up(self, scene: Scene) -> None:
        """A tenant that was away shares from now on; it does not catch up on what it never asked for."""
        await scene.submitted(*(f"a{number}" for number in range(60)), tenant="steady")
        for _ in range(20):
            (run,) = await scene.leased()
            scene.clock.advance(1.0)
            await scene.succeed(run)
        await scene.submitted(*(f"b{number}" for number in range(60)), tenant="newcomer")
        tenants = []
        for _ in range(20):
            (run,) = await scene.leased()
            scene.clock.advance(1.0)
            await scene.succeed(run)
            tenants.append(run.tenant)
        assert 9 <= tenants.count("newcomer") <= 11

    async def test_nobody_saves_up_while_the_line_is_empty(self, scene: Scene) -> None:
        """A newcomer that comes while the other's runs are all being worked on gets no head start either."""
        for number in range(20):
            await scene.submit(f"a{number}", tenant="steady")
            (run,) = await scene.leased()
            scene.clock.advance(1.0)
            await scene.succeed(run)
        await scene.submitted(*(f"b{number}" for number in range(30)), tenant="newcomer")
        await scene.submitted(*(f"c{number}" for number in range(30)), tenant="steady")
        assert 9 <= [run.tenant for run in await scene.leased(20)].count("newcomer") <= 11

    async def test_twice_the_weight_is_twice_the_share(self, scene: Scene) -> None:
        """A tenant's weight scales its turns."""
        for number in range(40):
            await scene.submit(f"heavy{number}", tenant="heavy", weight=2.0)
            await scene.submit(f"light{number}", tenant="light", weight=1.0)
        tenants = [run.tenant for run in await scene.leased(30)]
        assert 19 <= tenants.count("heavy") <= 21

    async def test_fairness_survives_a_restart(self, scene: Scene) -> None:
        """What a tenant has taken is remembered with the runs."""
        if not scene.ledger.features.survives_restart:
            pytest.skip("this ledger does not survive a restart")
        await scene.submitted(*(f"a{number}" for number in range(30)), tenant="rich")
        await scene.submitted("b0", tenant="poor")
        for run in await scene.leased(20):
            await scene.succeed(run)
        await scene.reopen()
        await scene.submitted(*(f"b{number}" for number in range(1, 6)), tenant="poor")
        assert [run.tenant for run in await scene.leased(8)].count("poor") >= 4

    # ---------------------------------------------------------------- alone

    async def test_a_suspect_is_leased_alone(self, scene: Scene) -> None:
        """A run whose worker died is given by itself, to one who holds nothing."""
        await self._suspect(scene, "a")
        await scene.submit("b")
        given = await scene.lease(5, worker="w-2")
        assert [(grant.run.key, grant.alone) for grant in given.grants] == [("a", True)]
        assert [attempt.alone for attempt in await scene.ledger.attempts(given.grants[0].run.id)] == [False, True]
        assert [run.key for run in await scene.leased(5, worker="w-2")] == ["b"]

    async def test_a_busy_asker_is_told_that_a_suspect_waits(self, scene: Scene) -> None:
        """It is never passed over for ever: nothing is granted, so the asker drains first."""
        await self._suspect(scene, "a")
        await scene.submit("b")
        given = await scene.lease(5, worker="w-2", idle=False)
        assert (given.grants, given.alone_waits) == ((), True)

    async def test_a_suspect_ends_a_micro_batch(self, scene: Scene) -> None:
        """What is in line before it is leased without it."""
        await self._suspect(scene, "a")
        await scene.submit("b", tenant="early")
        await scene.submit("c", tenant="early")
        keys = [run.key for run in await scene.leased(5, worker="w-2")]
        assert keys == ["a"] or "a" not in keys

    async def _suspect(self, scene: Scene, key: str) -> None:
        await scene.running(key)
        scene.clock.advance(TERMS.lease_seconds + 1)
        await scene.sweep(Sweep.LEASES)

    # ---------------------------------------------------------------- who may ask

    async def test_an_unknown_worker_is_refused(self, scene: Scene) -> None:
        """Nothing is given to one whose row was never committed."""
        await scene.submit()
        given = await scene.ledger.lease(Lease(worker_uid="nobody", app="digits", lane=Lane.INFER, count=1))
        assert given.refused
        assert not given.grants

    async def test_a_worker_of_another_app_is_refused(self, scene: Scene) -> None:
        """The app in the request is not trusted over the worker's row."""
        await scene.submit("k", app="other")
        given = await scene.lease(app="other")
        assert given.refused
        assert not given.grants

    async def test_a_draining_worker_is_refused(self, scene: Scene) -> None:
        """It gets no new lease; what it holds it may finish."""
        run = await scene.running("a")
        await scene.submit("b")
        await scene.ledger.note_worker(NoteWorker(uid="w-1", state=WorkerState.DRAINING))
        assert (await scene.lease()).refused
        assert (await scene.succeed(run)).code == "ok"
