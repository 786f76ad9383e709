"""What every compute driver must do. A driver is certified by a subclass with one fixture.

    class TestMine(ComputeSuite):
        @pytest.fixture
        async def stage(self):
            ...
            yield MyStage(...)

A stage knows the driver's back door, so that nothing is confirmed by the driver alone.
"""

from __future__ import annotations

import abc
import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final

import pytest

from penstock.compute import Compute, Order, Phase, Sighting
from penstock.errors import Misconfigured, NotFound
from penstock.model.app import App

__all__ = ["ComputeStage", "ComputeSuite"]

PATIENCE_S: Final = 20.0


class ComputeStage(abc.ABC):
    """A place where workers run, its driver, and the back door to those workers."""

    app: App = App(name="digits", handler="digits:Digits", env={"COLOUR": "blue"})

    @abc.abstractmethod
    def compute(self) -> Compute:
        """Give another `Compute` on this same place, not opened yet; at most one is open at a time."""

    @abc.abstractmethod
    async def lives(self, uid: str) -> bool:
        """Tell whether a worker really runs and listens."""

    @abc.abstractmethod
    async def starts(self, uid: str) -> int:
        """Tell how often a worker of this uid was really started."""

    @abc.abstractmethod
    async def env(self, uid: str) -> dict[str, str]:
        """Give the variables that a worker really got."""

    @abc.abstractmethod
    async def say(self, uid: str, *lines: str) -> None:
        """Have a worker print lines."""

    @abc.abstractmethod
    async def exit(self, uid: str, code: int) -> None:
        """Have a worker exit by itself with a code."""

    @abc.abstractmethod
    async def kill(self, uid: str) -> None:
        """Have a worker end by SIGKILL, from elsewhere than the driver."""

    @abc.abstractmethod
    async def deafen(self, uid: str) -> None:
        """Have a worker pay no heed to SIGTERM."""

    @abc.abstractmethod
    async def pass_time(self) -> None:
        """Let a little time pass, as the driver counts it."""

    def order(self, uid: str) -> Order:
        """Give an order for a worker."""
        return Order(uid=uid, app=self.app, spec_generation=1, env={"CREDENTIAL": f"secret of {uid}"})

    async def until(self, happened: Callable[[], Awaitable[bool]], what: str) -> None:
        """Let time pass until something has happened; fail when it does not."""
        give_up = time.monotonic() + PATIENCE_S
        while not await happened():
            assert time.monotonic() < give_up, f"this never happened: {what}"
            await self.pass_time()


class ComputeSuite:
    """The cases. Each opens the driver afresh through `stage`."""

    @pytest.fixture
    def stage(self) -> ComputeStage:
        """Give the place under test."""
        raise NotImplementedError("a suite's subclass gives its stage")

    @pytest.fixture
    async def compute(self, stage: ComputeStage) -> AsyncIterator[Compute]:
        """Give the driver, open; at the end nothing of it runs."""
        async with stage.compute() as compute:
            yield compute
        async with stage.compute() as again:
            for sighting in await again.list():
                await again.remove(sighting.uid)

    # ---------------------------------------------------------------- create

    async def test_a_created_worker_really_runs_and_is_seen(self, stage: ComputeStage, compute: Compute) -> None:
        """A worker that was created is sighted as RUNNING, under its app, and does run."""
        await self.start(stage, compute, "w-1")
        seen = (await self.seen(compute))["w-1"]
        assert (seen.app, seen.phase, seen.exit_code) == ("digits", Phase.RUNNING, None)
        assert seen.started_at > 0

    async def test_a_worker_gets_the_variables_of_its_app_and_its_order(
        self, stage: ComputeStage, compute: Compute
    ) -> None:
        """Both sets of variables arrive."""
        await self.start(stage, compute, "w-1")
        env = await stage.env("w-1")
        assert (env["COLOUR"], env["CREDENTIAL"]) == ("blue", "secret of w-1")

    async def test_create_again_is_success_and_starts_nothing(self, stage: ComputeStage, compute: Compute) -> None:
        """A repeated create, at the same time or later, leaves one worker."""
        await asyncio.gather(*(compute.create(stage.order("w-1")) for _ in range(5)))
        await self.running(stage, compute, "w-1")
        await compute.create(stage.order("w-1"))
        await stage.pass_time()
        assert await stage.starts("w-1") == 1
        assert [sighting.uid for sighting in await compute.list()] == ["w-1"]

    async def test_create_of_an_ended_worker_starts_nothing(self, stage: ComputeStage, compute: Compute) -> None:
        """The name of a worker that ended is taken until it is forgotten."""
        await self.start(stage, compute, "w-1")
        await stage.exit("w-1", 0)
        await self.ended(stage, compute, "w-1")
        await compute.create(stage.order("w-1"))
        await stage.pass_time()
        assert await stage.starts("w-1") == 1
        assert (await self.seen(compute))["w-1"].phase is Phase.ENDED

    async def test_many_creates_at_once_start_each_worker_once(self, stage: ComputeStage, compute: Compute) -> None:
        """Nothing is lost or doubled in a burst."""
        uids = [f"w-{number}" for number in range(20)]
        await asyncio.gather(*(compute.create(stage.order(uid)) for uid in uids))
        for uid in uids:
            await self.running(stage, compute, uid)
        assert [await stage.starts(uid) for uid in uids] == [1] * 20

    async def test_a_name_that_can_not_be_one_is_refused(self, stage: ComputeStage, compute: Compute) -> None:
        """No uid climbs out of a folder or breaks a label."""
        for uid in ("", "../w", "W-1", "w 1", "-w", "w/1", "w\n"):
            with pytest.raises(Misconfigured):
                await compute.create(stage.order(uid))
        assert await compute.list() == []

    async def test_prepare_starts_no_worker(self, stage: ComputeStage, compute: Compute) -> None:
        """A hint remains a hint, and a create after it works."""
        await compute.prepare(stage.app, 1)
        await stage.pass_time()
        assert await compute.list() == []
        await self.start(stage, compute, "w-1")

    # ---------------------------------------------------------------- ends

    async def test_an_ended_worker_is_listed_until_forgotten(self, stage: ComputeStage, compute: Compute) -> None:
        """Its exit code stays to be read; then it is gone, and so is its name's use."""
        await self.start(stage, compute, "w-1")
        await stage.exit("w-1", 7)
        seen = await self.ended(stage, compute, "w-1")
        assert seen.exit_code == 7
        await stage.pass_time()
        assert "w-1" in await self.seen(compute)
        await compute.forget("w-1")
        assert await compute.list() == []

    async def test_forget_leaves_a_living_worker_alone(self, stage: ComputeStage, compute: Compute) -> None:
        """Only what has ended can be forgotten."""
        await self.start(stage, compute, "w-1")
        await compute.forget("w-1")
        assert (await self.seen(compute))["w-1"].phase is Phase.RUNNING

    async def test_a_failure_shows_the_last_lines_of_its_log(self, stage: ComputeStage, compute: Compute) -> None:
        """Whoever looks at a failed worker sees why; a clean end has nothing to say."""
        await self.start(stage, compute, "w-1")
        await self.start(stage, compute, "w-2")
        for uid in ("w-1", "w-2"):
            await stage.say(uid, *(f"line {number}" for number in range(100)), "no such file: weights.bin")
        await stage.exit("w-1", 1)
        await stage.exit("w-2", 0)
        failed, clean = await self.ended(stage, compute, "w-1"), await self.ended(stage, compute, "w-2")
        assert failed.message.endswith("no such file: weights.bin")
        assert "line 98" in failed.message
        assert "line 3\n" not in failed.message
        assert clean.message == ""

    async def test_a_signal_is_a_negative_exit_code(self, stage: ComputeStage, compute: Compute) -> None:
        """A worker that was killed did not exit by itself, and it shows."""
        await self.start(stage, compute, "w-1")
        await stage.kill("w-1")
        assert (await self.ended(stage, compute, "w-1")).exit_code == -9

    # ---------------------------------------------------------------- drain and remove

    async def test_drain_asks_and_never_kills(self, stage: ComputeStage, compute: Compute) -> None:
        """A worker that heeds goes by itself; one that does not lives on."""
        await self.start(stage, compute, "w-heeds")
        await self.start(stage, compute, "w-deaf")
        await stage.deafen("w-deaf")
        await compute.drain("w-heeds")
        await compute.drain("w-deaf")
        assert (await self.ended(stage, compute, "w-heeds")).exit_code == 0
        for _ in range(5):
            await stage.pass_time()
        assert await stage.lives("w-deaf")
        assert (await self.seen(compute))["w-deaf"].phase is Phase.RUNNING

    async def test_remove_lets_a_worker_go_by_itself_within_its_grace(
        self, stage: ComputeStage, compute: Compute
    ) -> None:
        """One that heeds SIGTERM is not killed."""
        await self.start(stage, compute, "w-1")
        await compute.remove("w-1", grace_s=10.0)
        assert (await self.ended(stage, compute, "w-1")).exit_code == 0

    async def test_remove_kills_what_does_not_go(self, stage: ComputeStage, compute: Compute) -> None:
        """After the grace there is no worker, whatever it thinks of that."""
        await self.start(stage, compute, "w-1")
        await stage.deafen("w-1")
        await compute.remove("w-1", grace_s=0.2)
        seen = await self.ended(stage, compute, "w-1")
        assert seen.exit_code in {-9, None}
        assert not await stage.lives("w-1")

    async def test_unknown_and_ended_workers_are_fine(self, stage: ComputeStage, compute: Compute) -> None:
        """What is gone need not be ended again."""
        await compute.drain("w-nobody")
        await compute.remove("w-nobody")
        await compute.forget("w-nobody")
        await self.start(stage, compute, "w-1")
        await stage.exit("w-1", 3)
        await self.ended(stage, compute, "w-1")
        await compute.drain("w-1")
        await compute.remove("w-1")
        assert (await self.seen(compute))["w-1"].exit_code == 3
        await compute.forget("w-1")
        await compute.forget("w-1")

    # ---------------------------------------------------------------- changes

    async def test_changes_tell_every_subscriber_of_every_end(self, stage: ComputeStage, compute: Compute) -> None:
        """However late each of them reads."""
        first, second = compute.changes(), compute.changes()
        uids = [f"w-{number}" for number in range(5)]
        for uid in uids:
            await self.start(stage, compute, uid)
        for uid in uids:
            await stage.exit(uid, 0)
        for uid in uids:
            await self.ended(stage, compute, uid)
        for changes in (first, second):
            ends: set[str] = set()
            while ends != set(uids):
                ends |= await self.next_end(stage, changes)

    async def test_changes_tell_of_a_start(self, stage: ComputeStage, compute: Compute) -> None:
        """A subscriber need not ask again to learn that a worker runs."""
        changes = compute.changes()
        await self.start(stage, compute, "w-1")
        while (await self.next_of(stage, changes)).phase is not Phase.RUNNING:
            pass

    async def test_changes_finish_when_the_driver_is_closed(self, stage: ComputeStage) -> None:
        """A loop over them ends by itself."""
        compute = stage.compute()
        await compute.open()
        changes = compute.changes()
        await compute.close()
        assert [sighting async for sighting in changes] == []
        await compute.close()

    # ---------------------------------------------------------------- the next process

    async def test_workers_outlive_the_driver_and_are_found_again(self, stage: ComputeStage, compute: Compute) -> None:
        """The next driver sees them, watches them, and can end them."""
        self.needs_survival(compute)
        await self.start(stage, compute, "w-1")
        await self.start(stage, compute, "w-2")
        before = await self.seen(compute)
        await compute.close()
        assert await stage.lives("w-1")
        async with stage.compute() as again:
            after = await self.seen(again)
            assert [after[uid].phase for uid in ("w-1", "w-2")] == [Phase.RUNNING] * 2
            assert after["w-1"].pid == before["w-1"].pid
            assert after["w-1"].started_at == before["w-1"].started_at
            await stage.exit("w-1", 0)
            await self.ended(stage, again, "w-1")
            await again.create(stage.order("w-2"))
            await again.remove("w-2")
            await self.ended(stage, again, "w-2")
            assert await stage.starts("w-2") == 1

    async def test_an_end_that_nobody_saw_is_told_by_the_next(self, stage: ComputeStage, compute: Compute) -> None:
        """A worker that went while no driver was there is ENDED, not lost from sight."""
        self.needs_survival(compute)
        await self.start(stage, compute, "w-1")
        await compute.close()
        await stage.exit("w-1", 5)
        async with stage.compute() as again:
            assert (await self.ended(stage, again, "w-1")).exit_code in {5, None}

    async def test_an_end_stays_on_record_until_forgotten(self, stage: ComputeStage, compute: Compute) -> None:
        """A driver that dies after it saw an end, and before anyone was told, costs nothing."""
        self.needs_survival(compute)
        for uid in ("w-1", "w-2"):
            await self.start(stage, compute, uid)
            await stage.exit(uid, 5)
            await self.ended(stage, compute, uid)
        await compute.forget("w-2")
        await compute.close()
        async with stage.compute() as again:
            seen = await self.seen(again)
            assert list(seen) == ["w-1"]
            assert seen["w-1"].exit_code == 5

    # ---------------------------------------------------------------- logs

    async def test_logs_give_the_last_lines(self, stage: ComputeStage, compute: Compute) -> None:
        """As many as were asked for, oldest first, also of a worker that was forgotten."""
        await self.start(stage, compute, "w-1")
        await stage.say("w-1", *(f"line {number}" for number in range(300)), "größer als 1 KiB")
        await stage.exit("w-1", 0)
        await self.ended(stage, compute, "w-1")
        await compute.forget("w-1")
        assert [line async for line in compute.logs("w-1", tail=3)] == ["line 298", "line 299", "größer als 1 KiB"]
        assert [line async for line in compute.logs("w-1", tail=0)] == []
        assert len([line async for line in compute.logs("w-1", tail=250)]) == 250

    async def test_logs_can_be_followed_to_the_end(self, stage: ComputeStage, compute: Compute) -> None:
        """New lines come once each, and the loop ends with the worker."""
        await self.start(stage, compute, "w-1")
        await stage.say("w-1", "one", "two")
        got: list[str] = []
        async with aclosing(compute.logs("w-1", tail=1, follow=True)) as lines:
            got.append(await anext(lines))
            await stage.say("w-1", "three")
            got.append(await anext(lines))
            await stage.say("w-1", "four")
            await stage.exit("w-1", 0)
            got.extend([line async for line in lines])
        assert got == ["two", "three", "four"]

    async def test_there_is_no_log_of_nobody(self, stage: ComputeStage, compute: Compute) -> None:
        """Nor is one made up; a name that can't be one reads no other file."""
        del stage
        for uid in ("w-nobody", "../../etc/passwd"):
            with pytest.raises(NotFound):
                await anext(compute.logs(uid))

    # ---------------------------------------------------------------- words of the cases

    async def start(self, stage: ComputeStage, compute: Compute, uid: str) -> None:
        """Create a worker and wait until it runs."""
        await compute.create(stage.order(uid))
        await self.running(stage, compute, uid)

    async def running(self, stage: ComputeStage, compute: Compute, uid: str) -> None:
        """Wait until a worker is seen to run, and does."""

        async def runs() -> bool:
            seen = (await self.seen(compute)).get(uid)
            return seen is not None and seen.phase is Phase.RUNNING and await stage.lives(uid)

        await stage.until(runs, f"{uid} runs")

    async def ended(self, stage: ComputeStage, compute: Compute, uid: str) -> Sighting:
        """Wait until a worker is seen to have ended, and give that sighting."""

        async def over() -> bool:
            return (await self.seen(compute))[uid].phase is Phase.ENDED

        await stage.until(over, f"{uid} ends")
        return (await self.seen(compute))[uid]

    async def seen(self, compute: Compute) -> dict[str, Sighting]:
        """Give all sightings by uid."""
        return {sighting.uid: sighting for sighting in await compute.list()}

    async def next_of(self, stage: ComputeStage, changes: AsyncIterator[Sighting]) -> Sighting:
        """Give the next sighting, letting time pass meanwhile."""
        coming: asyncio.Future[Any] = asyncio.ensure_future(anext(changes))

        async def came() -> bool:
            return coming.done()

        await stage.until(came, "a sighting comes")
        sighting: Sighting = coming.result()
        return sighting

    async def next_end(self, stage: ComputeStage, changes: AsyncIterator[Sighting]) -> set[str]:
        """Give the uid of the next sighting if it is an end."""
        sighting = await self.next_of(stage, changes)
        return {sighting.uid} if sighting.phase is Phase.ENDED else set()

    def needs_survival(self, compute: Compute) -> None:
        """Skip where workers end with their driver."""
        if not compute.features.survives_restart:
            pytest.skip("its workers end with it")
