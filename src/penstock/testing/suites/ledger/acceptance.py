"""How runs are taken in, joined, answered and started again."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from penstock.errors import Conflict, Gone, Invalid, NotFound
from penstock.ledger.commands import Accept, Acceptance, Again, Pin, Sweep
from penstock.model.run import Lane, Payload, Reason, State, Terms
from penstock.testing.suites.ledger.scene import TERMS, Scene

__all__ = ["AcceptanceCases"]


class AcceptanceCases:
    """One live run per key, and what a request with that key is answered with."""

    async def test_a_new_run_is_queued_as_proposed(self, scene: Scene) -> None:
        """Every field that was proposed is read back, with the ledger's order and times."""
        proposal = scene.proposal(
            "k", priority=7, tag="t", parent="other/1", webhook="https://x.test/h", traceparent="00-1-2-01"
        )
        accepted = await scene.ledger.accept(Accept(run=proposal))
        run = await scene.run(proposal.id)
        assert accepted.how is Acceptance.CREATED
        assert accepted.run == run
        for field in proposal.__struct_fields__:
            if field != "weight":
                assert getattr(run, field) == getattr(proposal, field), field
        assert (run.state, run.generation, run.epoch) == (State.QUEUED, 1, 0)
        assert run.created_at == run.queued_at == scene.clock.now()
        assert run.expires_at == scene.clock.now() + TERMS.queue_ttl_seconds

    async def test_an_acknowledged_run_is_stored(self, scene: Scene) -> None:
        """The back door sees what was acknowledged."""
        accepted = await scene.submit()
        assert await scene.stage.stored(accepted.run.id) == ("QUEUED", 0)

    @pytest.mark.parametrize("size", [0, 1, 200, 32 * 1024, 1024 * 1024])
    async def test_a_body_is_kept_byte_for_byte(self, scene: Scene, size: int) -> None:
        """No size and no byte value is special."""
        body = Payload(inline=bytes(range(256)) * (size // 256) + b"\0" * (size % 256), size=size, encoding="gzip")
        accepted = await scene.submit(body=body)
        assert (await scene.run(accepted.run.id)).body == body

    async def test_a_body_in_the_store_is_kept_as_its_key(self, scene: Scene) -> None:
        """The pointer is kept, and no bytes."""
        body = Payload(key="AppData/digits/requests/k", size=10, content_type="image/png")
        accepted = await scene.submit(body=body)
        assert (await scene.run(accepted.run.id)).body == body

    async def test_order_rises_with_acceptance(self, scene: Scene) -> None:
        """`seq` orders runs as they came."""
        runs = await scene.submitted("a", "b", "c")
        assert [run.seq for run in runs] == sorted({run.seq for run in runs})

    async def test_ahead_counts_those_before(self, scene: Scene) -> None:
        """The position comes with the acceptance, and falls as others are served."""
        places = [(await scene.submit(key)).ahead for key in "abc"]
        assert places == [0, 1, 2]
        last = await scene.ledger.latest("acme", "digits", "c")
        assert last is not None
        await scene.lease(2)
        assert await scene.ledger.ahead("digits", Lane.INFER, last.mark) == 0

    async def test_ahead_is_never_more_than_wait(self, scene: Scene) -> None:
        """Runs that leave the line without a lease are not counted for ever."""
        await scene.submitted("a", "b", "c", terms=_short(5.0))
        last = (await scene.submit("d")).run
        scene.clock.advance(6.0)
        await scene.sweep(Sweep.QUEUE_TTL)
        assert await scene.ledger.ahead("digits", Lane.INFER, last.mark) <= 1

    # ---------------------------------------------------------------- joining

    async def test_a_live_key_is_joined(self, scene: Scene) -> None:
        """There is one execution for one key, QUEUED or RUNNING."""
        first = await scene.submit()
        queued = await scene.submit()
        await scene.leased()
        running = await scene.submit()
        assert [queued.how, running.how] == [Acceptance.JOINED, Acceptance.JOINED]
        assert {queued.run.id, running.run.id} == {first.run.id}
        assert (await scene.leased()) == []

    async def test_two_of_one_key_in_one_group_join(self, scene: Scene) -> None:
        """Requests of one moment make one run."""
        accepted = await asyncio.gather(*(scene.submit("same") for _ in range(20)))
        assert [one.how for one in accepted].count(Acceptance.CREATED) == 1
        assert len({one.run.id for one in accepted}) == 1

    async def test_a_joiner_adds_its_priority(self, scene: Scene) -> None:
        """The higher priority wins and moves the run in line; a lower one changes nothing."""
        await scene.submitted("a", "b")
        await scene.submit("b", priority=9)
        joined = await scene.submit("b", priority=1)
        assert joined.run.priority == 9
        assert [run.key for run in await scene.leased(2)] == ["b", "a"]

    async def test_a_joiner_adds_its_webhook(self, scene: Scene) -> None:
        """Everyone who joined is told; one who asks twice is told once."""
        await scene.submit(webhook="https://a.test/")
        await scene.submit(webhook="https://b.test/")
        joined = await scene.submit(webhook="https://a.test/")
        assert joined.run.webhook == "https://a.test/ https://b.test/"
        assert await scene.run(joined.run.id) == joined.run

    async def test_keys_are_of_a_tenant_and_an_app(self, scene: Scene) -> None:
        """The same key of another tenant or app is another run."""
        runs = [
            (await scene.submit(tenant=tenant, app=app)).run for tenant in ("acme", "umbrella") for app in ("x", "y")
        ]
        assert len({run.id for run in runs}) == 4
        assert {run.generation for run in runs} == {1}

    async def test_a_repeat_after_a_lost_reply_is_created_again(self, scene: Scene) -> None:
        """The very same command again gives the same answer and no second run."""
        command = Accept(run=scene.proposal())
        first = await scene.ledger.accept(command)
        again = await scene.ledger.accept(command)
        assert (again.how, again.run) == (Acceptance.CREATED, first.run)

    # ---------------------------------------------------------------- answers

    async def test_a_succeeded_key_is_a_hit(self, scene: Scene) -> None:
        """The result is the answer, whatever the body's priority or webhook."""
        await scene.succeed(await scene.running())
        hit = await scene.submit(priority=9)
        assert hit.how is Acceptance.HIT
        assert hit.run.result == Payload(inline=b"done", size=4)

    async def test_without_reuse_a_succeeded_key_runs_again(self, scene: Scene) -> None:
        """The next generation starts; the one before stays as it is."""
        first = await scene.running()
        await scene.succeed(first)
        fresh = await scene.ledger.accept(Accept(run=scene.proposal(), reuse=False))
        assert (fresh.how, fresh.run.generation) == (Acceptance.CREATED, 2)
        assert (await scene.run(first.id)).state is State.SUCCEEDED
        latest = await scene.ledger.latest("acme", "digits", "k")
        assert latest == fresh.run

    @pytest.mark.parametrize("reuse", [True, False])
    async def test_without_reuse_a_live_key_is_still_joined(self, scene: Scene, reuse: bool) -> None:
        """Not caching results never means running twice at once."""
        first = await scene.submit()
        again = await scene.ledger.accept(Accept(run=scene.proposal(), reuse=reuse))
        assert (again.how, again.run.id) == (Acceptance.JOINED, first.run.id)

    async def test_a_key_reused_after_a_failure_runs_again(self, scene: Scene) -> None:
        """A dedupe marker never swallows a reused id."""
        await scene.fail(await scene.running())
        again = await scene.submit()
        assert (again.how, again.run.generation, again.run.failures) == (Acceptance.CREATED, 2, 0)
        assert [run.id for run in await scene.leased()] == [again.run.id]

    async def test_a_purged_key_runs_again(self, scene: Scene) -> None:
        """A result that is gone answers nothing."""
        await scene.succeed(await scene.running())
        scene.clock.advance(TERMS.result_ttl_seconds + 1)
        await scene.sweep(Sweep.RESULTS)
        assert (await scene.submit()).how is Acceptance.CREATED

    # ---------------------------------------------------------------- pins

    async def test_a_pin_answers_with_its_run(self, scene: Scene) -> None:
        """The same Idempotency-Key gives the run it made, live or ended, even where its key would run again."""
        pin = Pin("acme POST /x", "once", "f1")
        first = await scene.ledger.accept(Accept(run=scene.proposal(), pin=pin))
        live = await scene.ledger.accept(Accept(run=scene.proposal("other"), pin=pin))
        await scene.fail((await scene.leased())[0])
        ended = await scene.ledger.accept(Accept(run=scene.proposal(), pin=pin))
        assert [one.how for one in (first, live, ended)] == [Acceptance.CREATED, Acceptance.JOINED, Acceptance.HIT]
        assert {one.run.id for one in (first, live, ended)} == {first.run.id}

    async def test_a_pin_of_another_payload_is_a_mismatch(self, scene: Scene) -> None:
        """Nothing is done."""
        await scene.ledger.accept(Accept(run=scene.proposal(), pin=Pin("s", "once", "f1")))
        other = await scene.ledger.accept(Accept(run=scene.proposal("other"), pin=Pin("s", "once", "f2")))
        assert other.how is Acceptance.MISMATCH
        assert await scene.ledger.latest("acme", "digits", "other") is None

    async def test_two_of_one_pin_in_one_group_make_one_run(self, scene: Scene) -> None:
        """A pin holds among requests of one moment, whatever their keys."""
        pin = Pin("s", "once", "f1")
        accepted = await asyncio.gather(
            *(scene.ledger.accept(Accept(run=scene.proposal(key), pin=pin)) for key in "abc")
        )
        assert len({one.run.id for one in accepted}) == 1

    async def test_a_pin_is_forgotten_after_a_day(self, scene: Scene) -> None:
        """Then it is free for another payload."""
        await scene.ledger.accept(Accept(run=scene.proposal(), pin=Pin("s", "once", "f1")))
        scene.clock.advance(86_401)
        other = await scene.ledger.accept(Accept(run=scene.proposal("other"), pin=Pin("s", "once", "f2")))
        assert other.how is Acceptance.CREATED

    # ---------------------------------------------------------------- once more

    async def test_redrive_keeps_settings(self, scene: Scene) -> None:
        """The next generation has all that was promised to the first, and fresh counters."""
        failed = await scene.fail(
            await scene.running(priority=8, tag="t", parent="p/1", webhook="https://x.test/", traceparent="00-1")
        )
        again = await scene.ledger.again(Again(run_id=failed.id, new_id=scene.ids.run()))
        run = await scene.run(again.run.id)
        assert (again.how, run.state, run.generation) == (Acceptance.CREATED, State.QUEUED, 2)
        for field in (
            "tenant",
            "app",
            "lane",
            "key",
            "body",
            "sha256",
            "priority",
            "tag",
            "parent",
            "webhook",
            "terms",
        ):
            assert getattr(run, field) == getattr(failed, field), field
        assert (run.failures, run.deaths, run.epoch, run.reason, run.message) == (0, 0, 0, None, "")

    async def test_redrive_may_bring_new_terms(self, scene: Scene) -> None:
        """An app whose limits were mended redrives under the mended ones."""
        failed = await scene.fail(await scene.running())
        again = await scene.ledger.again(Again(run_id=failed.id, new_id=scene.ids.run(), terms=_short(77.0)))
        assert again.run.terms == _short(77.0)

    async def test_redrive_joins_a_newer_live_run(self, scene: Scene) -> None:
        """There is one live run per key, however it is started."""
        failed = await scene.fail(await scene.running())
        newer = (await scene.submit()).run
        again = await scene.ledger.again(Again(run_id=failed.id, new_id=scene.ids.run()))
        assert (again.how, again.run.id) == (Acceptance.JOINED, newer.id)

    async def test_redrive_never_repeats_a_success(self, scene: Scene) -> None:
        """A key that has succeeded since is answered by that success."""
        failed = await scene.fail(await scene.running())
        await scene.succeed(await scene.running())
        again = await scene.ledger.again(Again(run_id=failed.id, new_id=scene.ids.run()))
        assert (again.how, again.run.state) == (Acceptance.HIT, State.SUCCEEDED)

    async def test_redrive_refuses_what_did_not_fail(self, scene: Scene) -> None:
        """Unknown, live, succeeded, purged: each has its error."""
        with pytest.raises(NotFound):
            await scene.ledger.again(Again(run_id=scene.ids.run(), new_id=scene.ids.run()))
        run = await scene.running()
        with pytest.raises(Conflict):
            await scene.ledger.again(Again(run_id=run.id, new_id=scene.ids.run()))
        await scene.succeed(run)
        with pytest.raises(Conflict):
            await scene.ledger.again(Again(run_id=run.id, new_id=scene.ids.run()))
        failed = await scene.fail(await scene.running("other"))
        scene.clock.advance(TERMS.result_ttl_seconds + 1)
        await scene.sweep(Sweep.RESULTS)
        with pytest.raises(Gone):
            await scene.ledger.again(Again(run_id=failed.id, new_id=scene.ids.run()))

    async def test_a_redrive_repeated_after_a_lost_reply_starts_one_run(self, scene: Scene) -> None:
        """The same new id is the same run."""
        failed = await scene.fail(await scene.running())
        command = Again(run_id=failed.id, new_id=scene.ids.run())
        first, second = await scene.ledger.again(command), await scene.ledger.again(command)
        assert (second.how, second.run) == (Acceptance.CREATED, first.run)

    # ---------------------------------------------------------------- bad company

    async def test_nonsense_is_refused_before_it_is_grouped(self, scene: Scene) -> None:
        """A priority of 11 can be nobody's."""
        with pytest.raises(Invalid):
            await scene.submit(priority=11)
        with pytest.raises(Invalid):
            await scene.submit(key="")

    async def test_one_bad_command_does_not_fail_its_group(self, scene: Scene) -> None:
        """What can't be stored fails by itself; what came with it is durable, and the counters are right."""
        taken = (await scene.submit("taken")).run
        outcomes = await asyncio.gather(
            scene.submit("a"),
            scene.submit("bad", tag="\ud800"),
            scene.submit("b"),
            scene.submit("another key", id=taken.id),
            scene.submit("c"),
            return_exceptions=True,
        )
        assert [type(outcome).__name__ for outcome in outcomes] == [
            "Accepted",
            "Invalid",
            "Accepted",
            "Conflict",
            "Accepted",
        ]
        assert sorted(await scene.states()) == ["a", "b", "c", "taken"]

    async def test_a_failed_run_has_a_reason(self, scene: Scene) -> None:
        """People are told why."""
        failed = await scene.fail(await scene.running(), Reason.INVALID_INPUT)
        assert (failed.reason, failed.message) == (Reason.INVALID_INPUT, "no good")


def _short(queue_ttl_seconds: float) -> Terms:
    return replace(TERMS, queue_ttl_seconds=queue_ttl_seconds)
