"""A worker of several replicas: the order of their start, their deaths, and their common end."""

from __future__ import annotations

import os
import signal
import sys

import pytest
from worker_processes import answer, app_of, children, command_line, lives, started

from pretend_broker import PretendBroker, eventually

pytestmark = [pytest.mark.live, pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")]


@pytest.fixture
async def broker():
    async with PretendBroker() as pretend:
        yield pretend


async def leasing(broker: PretendBroker, count: int) -> None:
    await broker.until(lambda: len({request.replica for request in broker.requests("lease")}) == count)


async def test_replicas_load_one_after_the_other_and_each_pulls_on_its_own(broker, tmp_path):
    loads = tmp_path / "loads"
    app = app_of(tmp_path, "Loads", instances=3)
    async with started(broker, app, tmp_path / "log", LOADS=str(loads)) as worker:
        await leasing(broker, 3)
        notes = [line.split() for line in loads.read_text().splitlines()]
        assert [what for what, _ in notes] == ["begin", "end"] * 3
        assert len({pid for _, pid in notes}) == 3
        assert {int(pid) for _, pid in notes} == set(children(worker.pid))
        titles = sorted(command_line(pid) for pid in children(worker.pid))
        assert titles == [f"penstock worker w-live app=live replica={number}" for number in range(3)]
        worker.terminate()
        assert await worker.exit_code() == 0


async def test_a_replica_that_dies_is_reported_and_replaced(broker, tmp_path):
    app = app_of(tmp_path, "Deadly", instances=2)
    async with started(broker, app, tmp_path / "log") as worker:
        await leasing(broker, 2)
        before = set(children(worker.pid))
        (run,) = await broker.submit({"die": True})
        await broker.until(lambda: broker.deaths)
        (died,) = broker.deaths
        assert died.exit_code == -signal.SIGKILL
        assert died.replica in {0, 1}
        await eventually(lambda: len(set(children(worker.pid)) - before) == 1)
        assert run.state == "RUNNING"  # it is the broker's to decide what becomes of it
        worker.terminate()
        assert await worker.exit_code() == 0


async def test_replicas_that_die_again_and_again_end_the_worker(broker, tmp_path):
    async with started(broker, app_of(tmp_path, "DiesInLoad", instances=2), tmp_path / "log") as worker:
        assert await worker.exit_code(45) == 71
    assert [died.exit_code for died in broker.deaths] == [9] * 5
    assert worker.events()[-1]["event"] != "loaded"


async def test_a_handler_that_cannot_load_ends_the_worker_at_once_with_78(broker, tmp_path):
    async with started(broker, app_of(tmp_path, "Unloadable", instances=3), tmp_path / "log") as worker:
        assert await worker.exit_code() == 78
    assert len([line for line in worker.events() if line["event"] == "replica started"]) == 1


async def test_replicas_die_with_their_launcher(broker, tmp_path):
    async with started(broker, app_of(tmp_path, "Echo", instances=2), tmp_path / "log") as worker:
        await leasing(broker, 2)
        replicas = children(worker.pid)
        os.kill(worker.pid, signal.SIGKILL)
        await eventually(lambda: not any(lives(pid) for pid in replicas))


async def test_sigterm_reaches_every_replica_and_nothing_is_lost(broker, tmp_path):
    runs = await broker.submit({"seconds": 0.4}, {"seconds": 0.4})
    async with started(broker, app_of(tmp_path, "Slow", instances=2), tmp_path / "log") as worker:
        await broker.running(*runs)
        worker.terminate()
        assert await worker.exit_code() == 0
    assert [run.state for run in runs] == ["SUCCEEDED"] * 2


async def test_a_recycled_replica_is_replaced_without_a_report(broker, tmp_path):
    app = app_of(tmp_path, "Echo", instances=2, max_runs=1, idle_exit_seconds=60.0)
    async with started(broker, app, tmp_path / "log") as worker:
        runs = await broker.submit(*({"n": n} for n in range(5)))
        await broker.settled()
        assert len({answer(run)["pid"] for run in runs}) == 5
        assert broker.deaths == []
        worker.terminate()
        assert await worker.exit_code() == 0


async def test_a_drained_worker_ends_with_all_its_replicas(broker, tmp_path):
    async with started(broker, app_of(tmp_path, "Echo", instances=2), tmp_path / "log") as worker:
        await leasing(broker, 2)
        await broker.drain()
        assert await worker.exit_code() == 0
