"""A worker as a real process: what it is called, how it ends, and what it writes."""

from __future__ import annotations

import signal
import sys

import pytest
from worker_processes import answer, app_of, command_line, started

from penstock.model.run import Outcome
from pretend_broker import PretendBroker, eventually

pytestmark = [pytest.mark.live, pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")]


@pytest.fixture
async def broker():
    async with PretendBroker() as pretend:
        yield pretend


async def test_a_worker_serves_and_exits_0_when_idle(broker, tmp_path):
    (run,) = await broker.submit({"n": 1})
    async with started(broker, app_of(tmp_path, "Echo", idle_exit_seconds=0.3), tmp_path / "log") as worker:
        await broker.settled()
        assert answer(run) == {"n": 1, "pid": worker.pid}
        assert command_line(worker.pid) == "penstock worker w-live app=live"
        assert await worker.exit_code() == 0
    assert set(broker.tokens) == {"secret-token"}
    events = worker.events()
    assert [line["event"] for line in events] == ["worker started", "loaded", "leaving", "exit"]
    assert {(line["worker"], line["app"]) for line in events} == {("w-live", "live")}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Unloadable", "FileNotFoundError: weights.bin is not there"),
        ("OutOfMemory", "MemoryError: no room for the weights"),
        ("Quits", "SystemExit: 0"),
        ("Missing", "has no class 'Missing'"),
    ],
)
async def test_a_handler_that_cannot_load_exits_78_with_the_reason_last(broker, tmp_path, name, told):
    async with started(broker, app_of(tmp_path, name), tmp_path / "log") as worker:
        assert await worker.exit_code() == 78
    last = worker.events()[-1]
    assert last["event"] == "can't load"
    assert told in last["detail"]
    assert broker.calls == []


@pytest.mark.parametrize("missing", ["PENSTOCK_APP", "PENSTOCK_API", "PENSTOCK_WORKER_TOKEN"])
async def test_what_is_missing_in_the_environment_is_named(broker, tmp_path, missing):
    async with started(broker, app_of(tmp_path, "Echo"), tmp_path / "log", **{missing: ""}) as worker:
        assert await worker.exit_code() == 78
    assert missing in worker.events()[-1]["detail"]


async def test_sigterm_finishes_what_fits_in_the_grace(broker, tmp_path):
    (run,) = await broker.submit({"seconds": 0.5})
    async with started(broker, app_of(tmp_path, "Slow"), tmp_path / "log") as worker:
        await broker.running(run)
        worker.terminate()
        assert await worker.exit_code() == 0
    assert run.state == "SUCCEEDED"


async def test_sigterm_releases_what_does_not_and_waits_for_no_thread(broker, tmp_path):
    (run,) = await broker.submit({"seconds": 60})
    async with started(broker, app_of(tmp_path, "Slow"), tmp_path / "log", PENSTOCK_GRACE_SECONDS="0.3") as worker:
        await broker.running(run)
        worker.terminate()
        assert await worker.exit_code(10) == 0
    assert (run.state, run.failures, run.ending.outcome) == ("QUEUED", 0, Outcome.RELEASED)


async def test_a_second_sigterm_releases_at_once(broker, tmp_path):
    (run,) = await broker.submit({"seconds": 60})
    async with started(broker, app_of(tmp_path, "Slow"), tmp_path / "log", PENSTOCK_GRACE_SECONDS="60") as worker:
        await broker.running(run)
        worker.terminate()
        await eventually(lambda: "leaving" in worker.log_file.read_text())
        worker.terminate()
        assert await worker.exit_code(10) == 0
    assert run.state == "QUEUED"


async def test_a_thread_that_the_handler_left_behind_does_not_hold_up_the_exit(broker, tmp_path):
    await broker.submit({})
    async with started(broker, app_of(tmp_path, "LeavesThread", idle_exit_seconds=0.2), tmp_path / "log") as worker:
        assert await worker.exit_code(10) == 0


async def test_a_hang_past_the_deadline_fails_the_run_and_exits_75(broker, tmp_path):
    (run,) = await broker.submit({"seconds": 600}, deadline_s=0.5)
    async with started(broker, app_of(tmp_path, "Slow"), tmp_path / "log") as worker:
        assert await worker.exit_code() == 75
    assert run.ending.reason == "DEADLINE_EXCEEDED"


async def test_a_cancelled_call_that_goes_on_exits_75(broker, tmp_path):
    (run,) = await broker.submit({"seconds": 600})
    async with started(broker, app_of(tmp_path, "Slow", lease_s=0.6), tmp_path / "log") as worker:
        await broker.running(run)
        broker.cancel(run)
        assert await worker.exit_code() == 75
    assert run.endings == []


async def test_a_lost_broker_exits_69(broker, tmp_path):
    broker.down = True
    async with started(broker, app_of(tmp_path, "Echo", idle_exit_seconds=0.3), tmp_path / "log") as worker:
        assert await worker.exit_code() == 69


async def test_a_run_that_kills_its_process_shows_the_signal(broker, tmp_path):
    await broker.submit({"die": True})
    async with started(broker, app_of(tmp_path, "Deadly"), tmp_path / "log") as worker:
        assert await worker.exit_code() == -signal.SIGKILL


async def test_the_handler_finds_no_credential_and_logs_into_the_same_lines(broker, tmp_path):
    (run,) = await broker.submit({"names": ["PENSTOCK_WORKER_TOKEN", "PENSTOCK_API"]})
    async with started(broker, app_of(tmp_path, "Says", idle_exit_seconds=0.2), tmp_path / "log") as worker:
        await broker.settled()
        assert answer(run)["env"] == {"PENSTOCK_WORKER_TOKEN": None, "PENSTOCK_API": broker.url}
        await worker.exit_code()
    (line,) = [line for line in worker.events() if line.get("logger") == "mine"]
    assert (line["event"], line["level"], line["worker"]) == ("from the handler", "warning", "w-live")
    assert "secret-token" not in worker.log_file.read_text()
