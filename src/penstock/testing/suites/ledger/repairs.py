"""The maintainer's duties, and the gap after an outage."""

from __future__ import annotations

from msgspec.structs import replace

from penstock.ledger.commands import AddWorker, Again, EndWorker, Extend, Gap, Sweep
from penstock.model.fleet import Worker, WorkerState
from penstock.model.run import AttemptState, Outcome, Payload, Reason, State
from penstock.testing.suites.ledger.scene import APP, TERMS, Scene

__all__ = ["RepairCases"]

DAY_S = 86_400.0


class RepairCases:
    """Nothing stays stuck, nothing that is well is touched, and a duty done twice changes nothing."""

    async def test_a_lost_lease_returns_the_run(self, scene: Scene) -> None:
        """It is QUEUED at the head, suspect, and charged no attempt; its attempt is LOST."""
        run = await scene.running()
        scene.clock.advance(TERMS.lease_seconds - 0.1)
        assert await scene.sweep(Sweep.LEASES) == ()
        scene.clock.advance(0.1)
        (swept,) = await scene.sweep(Sweep.LEASES)
        assert swept == await scene.run(run.id)
        assert (swept.state, swept.reason, swept.failures, swept.deaths) == (State.QUEUED, Reason.RETRYING, 0, 0)
        assert (swept.head, swept.alone) == (True, True)
        (attempt,) = await scene.ledger.attempts(run.id)
        assert (attempt.state, attempt.reason) == (AttemptState.LOST, Reason.LEASE_LOST)
        assert await scene.sweep(Sweep.LEASES) == ()

    async def test_silence_alone_exhausts_attempts(self, scene: Scene) -> None:
        """Leases lost while alone are counted, so nothing is retried for ever."""
        await scene.submit()
        for number in range(4):
            (run,) = await scene.leased(worker=f"w-{number}")
            scene.clock.advance(TERMS.lease_seconds)
            (swept,) = await scene.sweep(Sweep.LEASES)
        assert (swept.state, swept.reason, swept.deaths) == (State.FAILED, Reason.ATTEMPTS_EXHAUSTED, 3)
        assert swept == await scene.run(run.id)

    async def test_a_run_over_its_deadline_fails(self, scene: Scene) -> None:
        """However alive its worker is; the worker hears LOST, and waiting never counted."""
        await scene.submit()
        scene.clock.advance(TERMS.run_deadline_seconds + 1)
        (run,) = await scene.leased()
        while scene.clock.now() - (run.started_at or 0) < TERMS.run_deadline_seconds:
            assert await scene.sweep(Sweep.DEADLINES) == ()
            scene.clock.advance(20.0)
            await scene.ledger.extend(Extend(run_id=run.id, epoch=1))
        assert await scene.sweep(Sweep.LEASES) == (), "its lease is well"
        (failed,) = await scene.sweep(Sweep.DEADLINES)
        assert failed == await scene.run(run.id)
        assert (failed.state, failed.reason) == (State.FAILED, Reason.DEADLINE_EXCEEDED)
        assert await scene.ledger.extend(Extend(run_id=run.id, epoch=1)) == "lost"
        assert (await scene.succeed(run)).code == "stale"
        assert await scene.sweep(Sweep.DEADLINES) == ()

    async def test_a_run_that_waits_too_long_expires(self, scene: Scene) -> None:
        """It has a terminal record with its reason."""
        run = (await scene.submit()).run
        scene.clock.advance(TERMS.queue_ttl_seconds - 0.1)
        assert await scene.sweep(Sweep.QUEUE_TTL) == ()
        scene.clock.advance(0.1)
        (expired,) = await scene.sweep(Sweep.QUEUE_TTL)
        assert expired == await scene.run(run.id)
        assert (expired.state, expired.reason) == (State.FAILED, Reason.QUEUE_EXPIRED)
        assert await scene.leased() == []

    async def test_a_live_run_never_expires(self, scene: Scene) -> None:
        """The queue's limit does not touch what runs."""
        run = await scene.running()
        scene.clock.advance(TERMS.queue_ttl_seconds * 2)
        assert await scene.sweep(Sweep.QUEUE_TTL) == ()
        assert (await scene.succeed(run)).code == "ok"

    async def test_queue_time_is_counted_over_requeues(self, scene: Scene) -> None:
        """400 s queued, then 100 s running, then 600 s queued: the 1000 s are used up then, and not before."""
        await scene.submit()
        scene.clock.advance(400.0)
        (run,) = await scene.leased()
        scene.clock.advance(100.0)
        await scene.report(run, Outcome.RELEASED)
        assert (await scene.run(run.id)).expires_at == scene.clock.now() + 600.0
        scene.clock.advance(599.0)
        assert await scene.sweep(Sweep.QUEUE_TTL) == ()
        scene.clock.advance(1.0)
        assert len(await scene.sweep(Sweep.QUEUE_TTL)) == 1

    async def test_due_takes_only_what_is_due(self, scene: Scene) -> None:
        """In the order of their times, in line and at the head."""
        for key, after in (("late", 50.0), ("soon", 5.0), ("next", 10.0)):
            await scene.report(await scene.running(key), Outcome.RETRY, retry_after=after)
        scene.clock.advance(10.0)
        assert [(run.key, run.head) for run in await scene.sweep(Sweep.DUE)] == [("soon", True), ("next", True)]
        (count,) = await scene.ledger.lanes()
        assert (count.queued, count.in_line) == (3, 2)
        assert await scene.sweep(Sweep.DUE) == ()

    async def test_a_sweep_is_bounded(self, scene: Scene) -> None:
        """At most `limit` at a time, oldest first; the rest next time."""
        for key in "abcde":
            await scene.submit(key)
            scene.clock.advance(1.0)
        scene.clock.advance(TERMS.queue_ttl_seconds)
        swept = [[run.key for run in await scene.sweep(Sweep.QUEUE_TTL, limit=2)] for _ in range(3)]
        assert swept == [["a", "b"], ["c", "d"], ["e"]]

    # ---------------------------------------------------------------- the end of records

    async def test_a_result_is_kept_for_its_time(self, scene: Scene) -> None:
        """Then its bytes are gone and the record answers as purged."""
        await scene.succeed(await scene.running())
        scene.clock.advance(TERMS.result_ttl_seconds - 1)
        assert await scene.sweep(Sweep.RESULTS) == ()
        scene.clock.advance(1.0)
        (purged,) = await scene.sweep(Sweep.RESULTS)
        assert purged == await scene.run(purged.id)
        assert (purged.state, purged.purged_at) == (State.SUCCEEDED, scene.clock.now())
        assert purged.body.inline is None
        assert purged.result is not None
        assert purged.result.inline is None
        assert await scene.sweep(Sweep.RESULTS) == ()

    async def test_a_live_run_is_never_purged(self, scene: Scene) -> None:
        """A time to live is a result's, not a run's."""
        await scene.submit("queued", terms=replace(TERMS, queue_ttl_seconds=DAY_S * 99))
        scene.clock.advance(TERMS.result_ttl_seconds * 2)
        assert await scene.sweep(Sweep.RESULTS) == ()
        assert await scene.sweep(Sweep.TOMBSTONES) == ()

    async def test_a_purge_names_the_objects_to_remove(self, scene: Scene) -> None:
        """Their keys stay in the record, except for one that another generation still runs on."""
        body = Payload(key="requests/k", size=1)
        failed = await scene.fail(await scene.running(body=body, terms=replace(TERMS, result_ttl_seconds=1.0)))
        await scene.ledger.again(Again(run_id=failed.id, new_id=scene.ids.run(), terms=TERMS))
        scene.clock.advance(2.0)
        (first,) = await scene.sweep(Sweep.RESULTS)
        assert (first.id, first.body.key) == (failed.id, None)
        (second,) = await scene.leased()
        await scene.report(second, Outcome.SUCCEEDED, result=Payload(key="results/k", size=1))
        scene.clock.advance(TERMS.result_ttl_seconds)
        (last,) = await scene.sweep(Sweep.RESULTS)
        assert (last.body.key, last.result and last.result.key) == ("requests/k", "results/k")

    async def test_a_tombstone_stays_seven_days(self, scene: Scene) -> None:
        """Then the run was never there."""
        run = await scene.running()
        await scene.succeed(run)
        scene.clock.advance(TERMS.result_ttl_seconds)
        await scene.sweep(Sweep.RESULTS)
        scene.clock.advance(7 * DAY_S - 1)
        assert await scene.sweep(Sweep.TOMBSTONES) == ()
        scene.clock.advance(1.0)
        assert [gone.id for gone in await scene.sweep(Sweep.TOMBSTONES)] == [run.id]
        assert await scene.ledger.run(run.id) is None
        assert await scene.ledger.attempts(run.id) == []
        assert await scene.stage.stored(run.id) is None

    async def test_a_long_gone_worker_is_forgotten(self, scene: Scene) -> None:
        """What is listed of workers is bounded; a live one stays, however old."""
        for uid in ("w-old", "w-live"):
            row = Worker(uid=uid, app=APP, spec_generation=1, state=WorkerState.STARTING)
            await scene.ledger.add_worker(AddWorker(worker=row))
        await scene.ledger.end_worker(EndWorker(uid="w-old", state=WorkerState.EXITED))
        scene.clock.advance(14 * DAY_S + 1)
        await scene.sweep(Sweep.TOMBSTONES)
        assert [worker.uid for worker in await scene.ledger.workers(live=False)] == ["w-live"]

    # ---------------------------------------------------------------- outages

    async def test_an_outage_of_ours_is_forgiven(self, scene: Scene) -> None:
        """Workers that survived it are not run twice: leases and deadlines move by the gap."""
        assert await scene.ledger.gap(Gap()) == 0.0
        run = await scene.running()
        scene.clock.advance(5.0)
        assert await scene.ledger.gap(Gap()) == 5.0
        scene.clock.advance(1000.0)
        assert await scene.ledger.gap(Gap(forgive=True)) == 1000.0
        for sweep in (Sweep.LEASES, Sweep.DEADLINES):
            assert await scene.sweep(sweep) == ()
        (attempt,) = await scene.ledger.attempts(run.id)
        assert (attempt.lease_until, attempt.deadline_at) == (attempt.leased_at + 1030.0, attempt.leased_at + 1300.0)
        scene.clock.advance(25.0)
        assert len(await scene.sweep(Sweep.LEASES)) == 1

    async def test_without_forgiveness_a_gap_changes_no_lease(self, scene: Scene) -> None:
        """The note alone is only a note."""
        await scene.ledger.gap(Gap())
        await scene.running()
        scene.clock.advance(1000.0)
        await scene.ledger.gap(Gap())
        assert len(await scene.sweep(Sweep.LEASES)) == 1

    async def test_a_clock_that_jumps_back_gives_no_negative_gap(self, scene: Scene) -> None:
        """Nothing is shortened by it."""
        await scene.ledger.gap(Gap())
        run = await scene.running()
        scene.clock.jump(-500.0)
        assert await scene.ledger.gap(Gap(forgive=True)) == 0.0
        assert (await scene.succeed(run)).code == "ok"
        (count,) = await scene.ledger.lanes()
        assert count.service_seconds == 0.0
