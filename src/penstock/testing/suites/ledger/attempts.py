"""What becomes of attempts: settled, extended, cancelled, stale."""

from __future__ import annotations

import asyncio

from penstock.ledger.commands import Cancel, Checkpoint, Clear, Extend, ExtendCode, Fail, Settle, SettleCode, Sweep
from penstock.model.run import AttemptState, Outcome, Payload, Reason, Report, Run, State
from penstock.testing.suites.ledger.scene import TERMS, Scene

__all__ = ["AttemptCases"]


class AttemptCases:
    """One attempt at a time, fenced by its epoch; the first terminal state wins."""

    # ---------------------------------------------------------------- settle

    async def test_a_success_publishes_its_result(self, scene: Scene) -> None:
        """State, result and attempt change together, durably."""
        run = await scene.running()
        scene.clock.advance(2.0)
        settled = await scene.succeed(run, b"42")
        assert settled.code is SettleCode.OK
        assert settled.run == await scene.run(run.id)
        assert (settled.run.state, settled.run.result) == (State.SUCCEEDED, Payload(inline=b"42", size=2))
        assert settled.run.finished_at == scene.clock.now()
        assert await scene.stage.stored(run.id) == ("SUCCEEDED", 1)
        (attempt,) = await scene.ledger.attempts(run.id)
        assert (attempt.state, attempt.finished_at) == (AttemptState.SUCCEEDED, scene.clock.now())

    async def test_a_result_in_the_store_is_published_by_its_key(self, scene: Scene) -> None:
        """The pointer to the one published object is the ledger's."""
        run = await scene.running()
        result = Payload(key="AppData/digits/results/k.gz", size=99, content_type="image/png", encoding="gzip")
        await scene.report(run, Outcome.SUCCEEDED, result=result)
        assert (await scene.run(run.id)).result == result

    async def test_a_failure_is_final(self, scene: Scene) -> None:
        """FAILED for good is not tried again, and publishes nothing."""
        failed = await scene.fail(await scene.running(), Reason.INVALID_INPUT)
        assert (failed.state, failed.reason, failed.message) == (State.FAILED, Reason.INVALID_INPUT, "no good")
        assert (failed.failures, failed.result) == (1, None)
        assert await scene.leased() == []

    async def test_a_retry_waits_out_its_back_off(self, scene: Scene) -> None:
        """It is QUEUED but not in line until it is due, then first in line."""
        run = await scene.running("a")
        await scene.report(run, Outcome.RETRY, reason=Reason.OOM, message="so full")
        waiting = await scene.run(run.id)
        assert (waiting.state, waiting.reason, waiting.message) == (State.QUEUED, Reason.RETRYING, "so full")
        assert (waiting.failures, waiting.not_before) == (1, scene.clock.now() + 10.0)
        await scene.submit("b", priority=9)
        assert [run.key for run in await scene.leased(5)] == ["b"]
        await scene.submit("c", priority=9)
        scene.clock.advance(10.0)
        assert [run.id for run in await scene.sweep(Sweep.DUE)] == [run.id]
        assert [run.key for run in await scene.leased(5)] == ["a", "c"]

    async def test_a_retry_may_name_its_delay(self, scene: Scene) -> None:
        """`Retry(after=...)` is heeded, zero too: then it is in line at once."""
        run = await scene.running()
        await scene.report(run, Outcome.RETRY, retry_after=123.0)
        assert (await scene.run(run.id)).not_before == scene.clock.now() + 123.0
        scene.clock.advance(123.0)
        await scene.sweep(Sweep.DUE)
        (again,) = await scene.leased()
        await scene.report(again, Outcome.RETRY, retry_after=0.0)
        assert [run.epoch for run in await scene.leased()] == [3]

    async def test_attempts_are_exhausted(self, scene: Scene) -> None:
        """After `max_attempts` the run is FAILED, and each attempt is on record."""
        await scene.submit()
        for _ in range(3):
            (run,) = await scene.leased()
            await scene.report(run, Outcome.RETRY, reason=Reason.HANDLER_ERROR, retry_after=0.0)
        ended = await scene.run(run.id)
        assert (ended.state, ended.reason, ended.epoch) == (State.FAILED, Reason.ATTEMPTS_EXHAUSTED, 3)
        assert [(one.epoch, one.state) for one in await scene.ledger.attempts(run.id)] == [
            (1, AttemptState.FAILED),
            (2, AttemptState.FAILED),
            (3, AttemptState.FAILED),
        ]

    async def test_a_release_charges_nothing(self, scene: Scene) -> None:
        """A rolling deploy is no failed attempt."""
        await scene.submit()
        for epoch in range(1, 6):
            (run,) = await scene.leased()
            assert run.epoch == epoch
            await scene.report(run, Outcome.RELEASED)
        waiting = await scene.run(run.id)
        assert (waiting.state, waiting.failures, waiting.head) == (State.QUEUED, 0, True)

    # ---------------------------------------------------------------- fencing

    async def test_a_zombie_can_not_settle_over_its_successor(self, scene: Scene) -> None:
        """After a takeover the old attempt is STALE: neither its success nor its failure changes a thing."""
        old = await scene.running()
        await self._take_over(scene)
        (new,) = await scene.leased(worker="w-2")
        for outcome in Outcome:
            settled = await scene.report(old, outcome, result=Payload(inline=b"zombie", size=6))
            assert settled.code is SettleCode.STALE
        assert await scene.run(new.id) == new
        assert (await scene.succeed(new)).code is SettleCode.OK

    async def test_a_zombie_can_not_settle_a_requeued_run(self, scene: Scene) -> None:
        """The epoch is still its own, but the run is not RUNNING any more."""
        old = await scene.running()
        await self._take_over(scene)
        assert (await scene.succeed(old)).code is SettleCode.STALE
        assert (await scene.run(old.id)).state is State.QUEUED

    async def test_an_epoch_never_given_is_stale(self, scene: Scene) -> None:
        """An epoch from the future fences nothing off."""
        run = await scene.running()
        report = Report(Outcome.SUCCEEDED)
        settled = await scene.ledger.settle(Settle(run_id=run.id, epoch=run.epoch + 1, report=report))
        assert settled.code is SettleCode.STALE
        assert (await scene.run(run.id)).state is State.RUNNING

    async def test_an_unknown_run_is_stale(self, scene: Scene) -> None:
        """Unknown ids change nothing and are no error of the group's."""
        settled = await scene.ledger.settle(Settle(run_id="nothing", epoch=1, report=Report(Outcome.SUCCEEDED)))
        assert (settled.code, settled.run) == (SettleCode.STALE, None)

    async def test_a_repeat_after_a_lost_reply_is_already(self, scene: Scene) -> None:
        """The very attempt that was settled hears so, whatever became of its run, and even if it says otherwise now."""
        first = await scene.running()
        await scene.report(first, Outcome.RETRY, retry_after=0.0)
        assert (await scene.report(first, Outcome.RETRY)).code is SettleCode.ALREADY
        (second,) = await scene.leased()
        assert (await scene.succeed(first)).code is SettleCode.ALREADY
        await scene.succeed(second, b"once")
        assert (await scene.succeed(second, b"twice")).code is SettleCode.ALREADY
        assert (await scene.run(second.id)).result == Payload(inline=b"once", size=4)

    async def test_two_reports_in_one_group_keep_the_first(self, scene: Scene) -> None:
        """One of them wins, whole."""
        run = await scene.running()
        first, second = await asyncio.gather(scene.succeed(run, b"1"), scene.report(run, Outcome.FAILED))
        assert (first.code, second.code) == (SettleCode.OK, SettleCode.ALREADY)
        assert (await scene.run(run.id)).state is State.SUCCEEDED

    async def test_late_progress_reopens_nothing(self, scene: Scene) -> None:
        """A heartbeat after the end is LOST and leaves the record alone."""
        run = await scene.running()
        await scene.succeed(run)
        before = await scene.run(run.id)
        assert await self._extend(scene, run, progress=0.1) is ExtendCode.LOST
        assert await scene.ledger.checkpoint(Checkpoint(run_id=run.id, epoch=1, data=b"x")) is ExtendCode.LOST
        assert await scene.run(run.id) == before

    # ---------------------------------------------------------------- extend and checkpoint

    async def test_an_extended_lease_is_not_swept(self, scene: Scene) -> None:
        """A task may be longer than its lease without running twice."""
        run = await scene.running()
        for _ in range(5):
            scene.clock.advance(20.0)
            assert await self._extend(scene, run) is ExtendCode.OK
            assert await scene.sweep(Sweep.LEASES) == ()
        assert [one.lease_until for one in await scene.ledger.attempts(run.id)] == [scene.clock.now() + 30.0]

    async def test_progress_is_noted(self, scene: Scene) -> None:
        """The run shows it and the attempt is RUNNING; the next attempt starts from nothing."""
        run = await scene.running()
        await self._extend(scene, run, progress=0.5, note="halfway")
        seen = await scene.run(run.id)
        assert (seen.progress, seen.progress_note) == (0.5, "halfway")
        assert [one.state for one in await scene.ledger.attempts(run.id)] == [AttemptState.RUNNING]
        await scene.report(run, Outcome.RELEASED)
        (again,) = await scene.leased()
        assert (again.progress, again.progress_note) == (None, "")

    async def test_a_zombie_can_not_extend(self, scene: Scene) -> None:
        """LOST, and the successor's lease stays what it was."""
        old = await scene.running()
        await self._take_over(scene)
        (new,) = await scene.leased(worker="w-2")
        before = await scene.ledger.attempts(new.id)
        scene.clock.advance(1.0)
        assert await self._extend(scene, old) is ExtendCode.LOST
        assert await scene.ledger.attempts(new.id) == before

    async def test_a_lapsed_lease_may_be_renewed_until_it_is_swept(self, scene: Scene) -> None:
        """Late is not lost: who speaks before the sweep goes on."""
        run = await scene.running()
        scene.clock.advance(TERMS.lease_seconds + 5)
        assert await self._extend(scene, run) is ExtendCode.OK
        assert await scene.sweep(Sweep.LEASES) == ()

    async def test_an_unknown_attempt_is_lost(self, scene: Scene) -> None:
        """Nothing to extend is nothing to go on with."""
        assert await scene.ledger.extend(Extend(run_id="nothing", epoch=1)) is ExtendCode.LOST

    async def test_a_checkpoint_is_given_to_the_next_attempt(self, scene: Scene) -> None:
        """Died after checkpoint: the successor resumes from the bytes last saved."""
        run = await scene.running()
        for data in (b"one", b"two"):
            assert await scene.ledger.checkpoint(Checkpoint(run_id=run.id, epoch=1, data=data)) is ExtendCode.OK
        await self._take_over(scene)
        (grant,) = (await scene.lease(worker="w-2")).grants
        assert grant.checkpoint == b"two"
        assert await scene.ledger.checkpoint(Checkpoint(run_id=run.id, epoch=1, data=b"old")) is ExtendCode.LOST
        await self._take_over(scene)
        (grant,) = (await scene.lease(worker="w-3")).grants
        assert grant.checkpoint == b"two"

    async def test_a_checkpoint_renews_the_lease(self, scene: Scene) -> None:
        """Saving is a heartbeat too."""
        run = await scene.running()
        scene.clock.advance(20.0)
        await scene.ledger.checkpoint(Checkpoint(run_id=run.id, epoch=1, data=b"x"))
        scene.clock.advance(20.0)
        assert await scene.sweep(Sweep.LEASES) == ()

    async def test_progress_by_checkpoint_forgives_deaths(self, scene: Scene) -> None:
        """A long run that gets on is never POISON; one that saves the same again is no further."""
        await scene.submit()
        for number in range(8):
            (run,) = await scene.leased()
            data = b"%d" % number
            assert await scene.ledger.checkpoint(Checkpoint(run_id=run.id, epoch=run.epoch, data=data)) == "ok"
            await self._take_over(scene)
        assert (await scene.run(run.id)).state is State.QUEUED
        for _ in range(3):
            (run,) = await scene.leased() or [run]
            await scene.ledger.checkpoint(Checkpoint(run_id=run.id, epoch=run.epoch, data=data))
            await self._take_over(scene)
        assert (await scene.run(run.id)).state is State.FAILED

    # ---------------------------------------------------------------- cancel

    async def test_a_queued_run_cancels_at_once(self, scene: Scene) -> None:
        """It leaves the line."""
        run = (await scene.submit()).run
        cancelled = await scene.ledger.cancel(Cancel(run_id=run.id, message="no more"))
        assert cancelled.changed
        assert cancelled.run == await scene.run(run.id)
        assert (cancelled.run.state, cancelled.run.reason, cancelled.run.message) == (
            State.CANCELLED,
            Reason.BY_USER,
            "no more",
        )
        assert await scene.leased() == []

    async def test_a_run_in_back_off_cancels(self, scene: Scene) -> None:
        """It never comes back into line."""
        run = await scene.running()
        await scene.report(run, Outcome.RETRY)
        assert (await scene.ledger.cancel(Cancel(run_id=run.id))).changed
        scene.clock.advance(100.0)
        assert await scene.sweep(Sweep.DUE) == ()
        assert await scene.leased() == []

    async def test_no_success_becomes_visible_after_a_cancel(self, scene: Scene) -> None:
        """The worker is told at its next word, and what it brings is not published."""
        run = await scene.running()
        await scene.ledger.cancel(Cancel(run_id=run.id))
        assert await self._extend(scene, run) is ExtendCode.CANCELLED
        assert (await scene.succeed(run)).code is SettleCode.CANCELLED
        seen = await scene.run(run.id)
        assert (seen.state, seen.result) == (State.CANCELLED, None)

    async def test_first_terminal_wins(self, scene: Scene) -> None:
        """Nothing overwrites a terminal state: not a cancel, not a failure, not a sweep."""
        for end in (self._succeeded, self._failed, self._cancelled):
            run = await end(scene)
            before = await scene.run(run.id)
            assert (await scene.ledger.cancel(Cancel(run_id=run.id))).changed is False
            assert (await scene.ledger.fail(Fail(run_id=run.id, reason=Reason.CONFIG))).changed is False
            for outcome in Outcome:
                assert (await scene.report(run, outcome)).code is not SettleCode.OK
            scene.clock.advance(TERMS.queue_ttl_seconds + 1)
            for sweep in (Sweep.LEASES, Sweep.DEADLINES, Sweep.QUEUE_TTL, Sweep.DUE):
                assert await scene.sweep(sweep) == ()
            assert await scene.run(run.id) == before

    async def test_a_cancelled_attempt_is_held_until_its_worker_lets_go(self, scene: Scene) -> None:
        """What it reserved is free when it settles, or when its lease has run out."""
        run = await scene.running("a")
        await scene.ledger.cancel(Cancel(run_id=run.id))
        assert await self._held(scene) == 1
        await scene.succeed(run)
        assert await self._held(scene) == 0
        run = await scene.running("b")
        await scene.ledger.cancel(Cancel(run_id=run.id))
        scene.clock.advance(TERMS.lease_seconds + 1)
        assert await scene.sweep(Sweep.LEASES) == ()
        assert await self._held(scene) == 0
        assert [one.state for one in await scene.ledger.attempts(run.id)] == [AttemptState.CANCELLED]

    async def test_a_worker_that_does_not_answer_is_found(self, scene: Scene) -> None:
        """Attempts ended over their worker's head are listed, longest ago first, until it lets go of them."""
        cancelled, late, going = [await scene.running(key) for key in ("a", "b", "c")]
        await scene.ledger.cancel(Cancel(run_id=cancelled.id))
        for _ in range(15):
            scene.clock.advance(20.0)
            for run in (late, going):
                await scene.ledger.extend(Extend(run_id=run.id, epoch=1))
        assert [one.run_id for one in await scene.ledger.unanswered(300.0)] == [cancelled.id]
        assert await scene.ledger.unanswered(300.1) == []
        await scene.sweep(Sweep.DEADLINES, limit=1)
        assert {one.reason for one in await scene.ledger.unanswered(0.0)} == {Reason.BY_USER, Reason.DEADLINE_EXCEEDED}
        assert len(await scene.ledger.unanswered(0.0, limit=1)) == 1
        await scene.succeed(cancelled)
        assert [one.state for one in await scene.ledger.unanswered(0.0)] == [AttemptState.FAILED]

    async def test_cancel_of_an_unknown_run_changes_nothing(self, scene: Scene) -> None:
        """It is told, not raised."""
        cancelled = await scene.ledger.cancel(Cancel(run_id="nothing"))
        assert (cancelled.changed, cancelled.run) == (False, None)

    async def test_a_key_cancelled_runs_again(self, scene: Scene) -> None:
        """A later request with the key starts a new generation."""
        run = await scene.running()
        await scene.ledger.cancel(Cancel(run_id=run.id))
        again = await scene.submit()
        assert (again.how, again.run.generation) == ("created", 2)
        assert [run.id for run in await scene.leased(worker="w-2")] == [again.run.id]

    async def test_fail_ends_only_what_waits(self, scene: Scene) -> None:
        """A queued run gets its reason; a running one is left to its worker."""
        queued = (await scene.submit("a")).run
        failed = await scene.ledger.fail(Fail(run_id=queued.id, reason=Reason.UNPLACEABLE, message="no such GPU"))
        assert failed.changed
        assert (await scene.run(queued.id)).reason is Reason.UNPLACEABLE
        running = await scene.running("b")
        assert not (await scene.ledger.fail(Fail(run_id=running.id, reason=Reason.CONFIG))).changed

    async def test_clear_cancels_what_is_live_of_an_app(self, scene: Scene) -> None:
        """Queued, in back-off and running; nothing of another app; a few at a time."""
        runs = await scene.submitted("a", "b", "c")
        (leased,) = await scene.leased()
        await scene.report(leased, Outcome.RETRY)
        await scene.leased()
        other = (await scene.submit("k", app="other")).run
        gone: set[str] = set()
        while batch := await scene.ledger.clear(Clear(app="digits", limit=2)):
            assert {run.reason for run in batch} == {Reason.APP_DELETED}
            gone |= {run.id for run in batch}
        assert gone == {run.id for run in runs}
        assert (await scene.run(other.id)).state is State.QUEUED

    # ---------------------------------------------------------------- words of these cases

    async def _extend(self, scene: Scene, run: Run, progress: float | None = None, note: str = "") -> ExtendCode:
        return await scene.ledger.extend(Extend(run_id=run.id, epoch=run.epoch, progress=progress, note=note))

    async def _take_over(self, scene: Scene) -> None:
        scene.clock.advance(TERMS.lease_seconds + 1)
        await scene.sweep(Sweep.LEASES)

    async def _held(self, scene: Scene) -> int:
        worker = await scene.ledger.worker("w-1")
        assert worker is not None
        return worker.held

    async def _succeeded(self, scene: Scene) -> Run:
        run = await scene.running("succeeded")
        await scene.succeed(run)
        return run

    async def _failed(self, scene: Scene) -> Run:
        run = await scene.running("failed")
        await scene.fail(run)
        return run

    async def _cancelled(self, scene: Scene) -> Run:
        run = await scene.running("cancelled")
        await scene.ledger.cancel(Cancel(run_id=run.id))
        return run
