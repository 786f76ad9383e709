"""What the broker does at its edges: lanes, a queue or ledger that is down, results of every size and lateness."""

from __future__ import annotations

import asyncio

import pytest

from penstock.errors import Stale, Unavailable
from penstock.identity import WorkerClaims
from penstock.ledger.commands import NoteWorker
from penstock.model import wire
from penstock.model.app import DesiredState, Results
from penstock.model.fleet import WorkerState
from penstock.model.run import Lane, Outcome, Reason, State
from penstock.queue import queue_name
from penstock.store.driver import Put
from service_world import APP, INLINE, Held, World, an_app

ME = WorkerClaims(uid="w-1", app=APP)
LINE = queue_name(APP, Lane.INFER)
LARGE = b"x" * (INLINE + 1)
HOME = f"AppData/{APP}/tenants/acme"


@pytest.fixture
async def held(world: World) -> Held:
    """An attempt that `w-1` holds."""
    await world.add_worker("w-1")
    await world.submit("acme", b"input", 5)
    (given,) = (await world.lease("w-1", 1, idle=True)).attempts
    return Held("w-1", given)


async def code(world: World, held: Held, item: wire.SettleItem) -> str:
    return (await world.settle(held.uid, item)).done[0].code


async def run_of(world: World, held: Held):
    run = await world.ledger.run(held.given.run_id)
    assert run is not None
    return run


# ------------------------------------------------------------------ lanes and credits


async def test_a_worker_that_serves_both_lanes_gets_what_there_is(world: World) -> None:
    await world.add_worker("w-1")
    await world.submit("acme", b"input", 5)
    ask = wire.Want(max=2, wait_s=0.0, lanes=(Lane.BATCH, Lane.INFER))
    assert len((await world.broker.lease(ME, ask)).attempts) == 1


async def test_a_worker_that_waits_on_both_lanes_is_woken_by_either(world: World) -> None:
    await world.add_worker("w-1")
    ask = wire.Want(max=1, wait_s=30.0, lanes=(Lane.BATCH, Lane.INFER))
    waiting = asyncio.create_task(world.broker.lease(ME, ask))
    await world.be_still()
    await world.submit("acme", b"input", 5)
    async with asyncio.timeout(5):
        assert len((await waiting).attempts) == 1


async def test_credits_beyond_the_runs_in_line_are_used_up(world: World) -> None:
    await world.add_worker("w-1")
    await world.submit("acme", b"input", 5)
    await world.queue.send(LINE, ["again", "and again"])
    assert len((await world.lease("w-1", 5, idle=True)).attempts) == 1
    assert await world.queue.depth(LINE) == 0


async def test_a_worker_that_must_go_is_told_and_its_credit_stays(world: World) -> None:
    await world.add_worker("w-1")
    await world.submit("acme", b"input", 5)
    await world.ledger.note_worker(NoteWorker(uid="w-1", state=WorkerState.DRAINING))
    assert (await world.lease("w-1", 1, idle=True)).exit
    assert await world.queue.depth(LINE) == 1


async def test_workers_of_no_app_or_no_record_are_sent_away(world: World) -> None:
    assert (await world.broker.lease(WorkerClaims(uid="w-1", app="gone"), wire.Want(max=1))).exit
    assert (await world.lease("w-unknown", 1, idle=True)).exit
    assert (await world.broker.exit(WorkerClaims(uid="w-unknown", app=APP))).granted


async def test_a_worker_of_a_paused_app_waits_until_it_is_open(world: World) -> None:
    await world.add_worker("w-1")
    await world.wish(DesiredState.PAUSED)
    await world.submit("acme", b"input", 5)
    assert not (await world.lease("w-1", 1, idle=True)).attempts
    waiting = asyncio.create_task(world.broker.lease(ME, wire.Want(max=1, wait_s=30.0)))
    await world.be_still()
    await world.wish(DesiredState.READY)
    async with asyncio.timeout(5):
        assert len((await waiting).attempts) == 1


async def test_with_the_queue_down_work_goes_on_and_lost_hints_are_counted(world: World) -> None:
    await world.add_worker("w-1")
    await world.queue.close()
    accepted = await world.submit("acme", b"input", 5)
    (given,) = (await world.broker.lease(ME, wire.Want(max=1, wait_s=0.01))).attempts
    assert given.run_id == accepted.run.id
    assert await code(world, Held("w-1", given), Held("w-1", given).item(Outcome.RELEASED)) == "ok"
    assert world.intake.lost_hints == 1
    assert world.broker.lost_hints >= 1


async def test_with_the_ledger_down_the_credit_is_given_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.add_worker("w-1")
    await world.submit("acme", b"input", 5)

    async def down(_command: object) -> None:
        raise Unavailable("the disk is gone")

    with monkeypatch.context() as broken:
        broken.setattr(world.ledger, "lease", down)
        with pytest.raises(Unavailable):
            await world.lease("w-1", 1, idle=True)
    assert await world.queue.depth(LINE) == 1
    assert len((await world.lease("w-1", 1, idle=True)).attempts) == 1


# ------------------------------------------------------------------ results


async def test_a_result_that_is_too_large_to_inline_lies_in_the_store(world: World, held: Held) -> None:
    assert await code(world, held, held.item(Outcome.SUCCEEDED, LARGE)) == "ok"
    run = await run_of(world, held)
    assert run.result is not None
    assert run.result.inline is None
    assert await world.result(run) == LARGE
    assert await code(world, held, held.item(Outcome.SUCCEEDED, LARGE)) == "already"


async def test_a_settle_that_repeats_after_a_lost_reply_may_write_its_object_again(world: World, held: Held) -> None:
    key = f"{HOME}/results/{held.given.key}.gz"
    await world.store.put(key, LARGE, Put(create=True))  # the first try came so far
    assert await code(world, held, held.item(Outcome.SUCCEEDED, LARGE)) == "ok"
    assert await world.result(await run_of(world, held)) == LARGE


async def test_each_later_attempt_writes_an_object_of_its_own(world: World, held: Held) -> None:
    await code(world, held, held.item(Outcome.RELEASED))
    (again,) = (await world.lease("w-1", 1, idle=True)).attempts
    assert await code(world, Held("w-1", again), Held("w-1", again).item(Outcome.SUCCEEDED, LARGE)) == "ok"
    run = await run_of(world, held)
    assert run.result is not None
    assert run.result.key == f"{HOME}/results/{run.key}.{run.id}.e2.gz"


@pytest.mark.parametrize("end", ["cancelled", "stale"])
async def test_a_late_large_result_fails_no_report_beside_it(world: World, held: Held, end: str) -> None:
    await world.submit("acme", b"another", 5)
    (other,) = (await world.lease("w-1", 1, idle=False)).attempts
    if end == "cancelled":
        await world.runs.cancel("acme", held.given.run_id)
    else:
        await world.crash("w-1", clean=False)
    late, fine = held.item(Outcome.SUCCEEDED, LARGE), Held("w-1", other).item(Outcome.SUCCEEDED, b"7")
    reply = await world.settle("w-1", late, fine)
    assert [status.code for status in reply.done] == [end, "ok" if end == "cancelled" else "stale"]


@pytest.mark.parametrize(
    ("key", "size", "state", "reason"),
    [
        (HOME + "/results/another.gz", 1, State.QUEUED, Reason.RETRYING),
        (HOME + "/results/{key}.gz", None, State.QUEUED, Reason.RETRYING),
        (HOME + "/results/{key}.gz", 301, State.FAILED, Reason.RESULT_TOO_LARGE),
        (HOME + "/results/{key}.gz", 300, State.SUCCEEDED, None),
    ],
    ids=["foreign-key", "not-uploaded", "too-large", "fits"],
)
async def test_an_uploaded_result_is_looked_at_before_it_is_believed(
    world: World, held: Held, key: str, size: int | None, state: State, reason: Reason | None
) -> None:
    app = world.catalog.get(APP).app
    await world.catalog.apply(type(app)(name=APP, handler=app.handler, results=Results(max_result_bytes=300)))
    key = key.format(key=held.given.key)
    if size is not None:
        await world.store.put(key, b"x" * size)
    given = held.given
    item = wire.SettleItem(
        run_id=given.run_id, epoch=given.epoch, token=given.token, outcome=Outcome.SUCCEEDED, result_key=key
    )
    assert await code(world, held, item) == "ok"
    run = await run_of(world, held)
    assert (run.state, run.reason) == (state, reason)


async def test_urls_are_for_the_attempt_that_is_current(world: World, held: Held) -> None:
    given = held.given
    ask = wire.UrlsRequest(run_id=given.run_id, epoch=given.epoch, token=given.token, result_bytes=10)
    urls = await world.broker.urls(ME, ask)
    assert urls.body_url is None
    assert urls.result_key == f"{HOME}/results/{given.key}.gz"
    assert urls.result_url is not None
    await world.runs.cancel("acme", given.run_id)
    with pytest.raises(Stale):
        await world.broker.urls(ME, ask)
    assert world.broker.stale == 1


async def test_a_large_body_is_given_by_url(world: World) -> None:
    await world.add_worker("w-1")
    await world.submit("acme", LARGE, 5)
    (given,) = (await world.lease("w-1", 1, idle=True)).attempts
    assert given.body is None
    ask = wire.UrlsRequest(run_id=given.run_id, epoch=given.epoch, token=given.token)
    again = await world.broker.urls(ME, ask)
    assert given.body_url is not None
    assert again.body_url is not None
    assert (again.result_url, again.result_key) == (None, None)


# ------------------------------------------------------------------ the end of a worker


async def test_a_dead_replicas_runs_go_back_and_the_others_stay(world: World, held: Held) -> None:
    await world.submit("acme", b"another", 5)
    (other,) = (await world.broker.lease(ME, wire.Want(max=1), replica=1)).attempts
    await world.broker.replica_died(ME, wire.ReplicaDied(replica=0, exit_code=-9))
    assert (await run_of(world, held)).state is State.QUEUED
    kept = await world.ledger.run(other.run_id)
    assert kept is not None
    assert kept.state is State.RUNNING


async def test_an_idle_worker_may_go_only_when_nothing_is_in_line_and_enough_stay(world: World) -> None:
    await world.add_worker("w-1")
    await world.submit("acme", b"input", 5)
    assert not (await world.broker.exit(ME)).granted
    (given,) = (await world.lease("w-1", 1, idle=True)).attempts
    assert not (await world.broker.exit(ME)).granted
    await code(world, Held("w-1", given), Held("w-1", given).item(Outcome.SUCCEEDED))
    assert (await world.broker.exit(ME)).granted


async def test_whoever_called_is_noted_once(world: World) -> None:
    await world.add_worker("w-1")
    await world.lease("w-1", 1, idle=True)
    world.clock.advance(5)
    await world.broker.note_seen()
    seen = await world.ledger.worker("w-1")
    world.clock.advance(5)
    await world.broker.note_seen()
    again = await world.ledger.worker("w-1")
    assert seen is not None
    assert again is not None
    assert seen.seen_at == again.seen_at == world.clock.now() - 5


async def test_a_spec_change_leaves_the_terms_of_what_runs(world: World, held: Held) -> None:
    await world.change(an_app(max_attempts=1, lease_s=5.0))
    assert (await run_of(world, held)).terms.lease_seconds == 30.0
    fresh = await world.submit("acme", b"another", 5)
    assert (fresh.run.terms.lease_seconds, fresh.run.spec_generation) == (5.0, 2)
