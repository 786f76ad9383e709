"""A warm template that forks workers, talked to as the process driver does."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from worker_processes import answer, app_of, command_line, environment, initial_environment, lives, open_files

from penstock.model.app import App
from penstock.model.forking import Ended, Fork, Forked, Ready, decode_reply, encode
from pretend_broker import PretendBroker, eventually

pytestmark = [pytest.mark.live, pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")]


class Template:
    def __init__(self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer) -> None:
        self.process = process
        self.reader = reader
        self.writer = writer
        self.forked: list[int] = []

    async def says(self) -> Ready | Forked | Ended | None:
        async with asyncio.timeout(20):
            line = await self.reader.readline()
        reply = decode_reply(line) if line else None
        if isinstance(reply, Forked):
            self.forked.append(reply.pid)
        return reply

    def fork(self, uid: str, env: dict[str, str], log: Path) -> None:
        self.writer.write(encode(Fork(uid, env, str(log))) + b"\n")


@pytest.fixture
async def broker():
    async with PretendBroker() as pretend:
        yield pretend


@pytest.fixture
async def warm(broker, tmp_path):
    """Give a function that starts a template of an app, with no credential in its environment."""
    made: list[Template] = []

    async def warm(app: App) -> Template:
        ours, theirs = socket.socketpair()
        env = environment(broker, app)
        del env["PENSTOCK_WORKER_TOKEN"], env["PENSTOCK_API"]
        with (tmp_path / "template.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *[sys.executable, "-m", "penstock.run.template", "--fd", str(theirs.fileno())],
                env=env,
                pass_fds=(theirs.fileno(),),
                stdout=log,
                stderr=log,
            )
        theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours)
        made.append(Template(process, reader, writer))
        return made[-1]

    yield warm
    for template in made:
        template.writer.close()
        await template.process.wait()
        for pid in template.forked:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def given(broker: PretendBroker, **more: str) -> dict[str, str]:
    return {"PENSTOCK_API": broker.url, "PENSTOCK_WORKER_TOKEN": "secret-token", **more}


async def test_a_template_forks_workers_that_serve_and_tells_of_their_ends(broker, warm, tmp_path):
    template = await warm(app_of(tmp_path, "Echo", idle_exit_seconds=0.3))
    assert await template.says() == Ready(ok=True)
    (run,) = await broker.submit({"n": 1})
    log = tmp_path / "worker.log"
    template.fork("w-forked", given(broker), log)
    forked = await template.says()
    assert isinstance(forked, Forked)
    await broker.settled()
    assert answer(run) == {"n": 1, "pid": forked.pid}
    assert command_line(forked.pid) == "penstock worker w-forked app=live"
    assert os.getsid(forked.pid) == forked.pid  # a session of its own
    assert await template.says() == Ended(uid="w-forked", pid=forked.pid, code=0)
    assert '"worker":"w-forked"' in log.read_text()
    assert (tmp_path / "template.log").read_text() == "imported\n"


async def test_each_worker_has_its_own_variables_and_the_template_no_credential(broker, warm, tmp_path):
    template = await warm(app_of(tmp_path, "Says", idle_exit_seconds=0.3))
    await template.says()
    names = ["CUDA_VISIBLE_DEVICES", "PENSTOCK_WORKER_TOKEN"]
    for number in range(2):
        (run,) = await broker.submit({"names": names})
        template.fork(f"w-{number}", given(broker, CUDA_VISIBLE_DEVICES=str(number)), tmp_path / "worker.log")
        await broker.settled()
        assert answer(run)["env"] == {"CUDA_VISIBLE_DEVICES": str(number), "PENSTOCK_WORKER_TOKEN": None}
        assert isinstance(await template.says(), Forked)
        assert isinstance(await template.says(), Ended)
    assert "secret-token" not in initial_environment(template.process.pid)


async def test_a_signal_is_told_as_a_negative_code(broker, warm, tmp_path):
    template = await warm(app_of(tmp_path, "Deadly"))
    await template.says()
    await broker.submit({"die": True})
    template.fork("w-dies", given(broker), tmp_path / "worker.log")
    forked = await template.says()
    assert await template.says() == Ended(uid="w-dies", pid=forked.pid, code=-signal.SIGKILL)


async def test_workers_outlive_their_template(broker, warm, tmp_path):
    template = await warm(app_of(tmp_path, "Echo"))
    await template.says()
    template.fork("w-survives", given(broker), tmp_path / "worker.log")
    forked = await template.says()
    await broker.until(lambda: broker.requests("lease"))
    template.writer.close()
    async with asyncio.timeout(10):
        assert await template.process.wait() == 0
    assert lives(forked.pid)
    (run,) = await broker.submit({"n": 2})
    await broker.settled(run)
    os.kill(forked.pid, signal.SIGTERM)
    await eventually(lambda: not lives(forked.pid))


async def test_a_worker_keeps_none_of_its_templates_descriptors(broker, warm, tmp_path):
    template = await warm(app_of(tmp_path, "Echo"))
    await template.says()
    template.fork("w-fds", given(broker), tmp_path / "worker.log")
    forked = await template.says()
    await broker.until(lambda: broker.requests("lease"))
    sockets = {name for name in open_files(template.process.pid).values() if name.startswith("socket:")}
    ours = open_files(forked.pid)
    assert sockets
    assert not sockets & set(ours.values())
    assert (ours[0], ours[1], ours[2]) == ("/dev/null", str(tmp_path / "worker.log"), str(tmp_path / "worker.log"))


async def test_a_forked_worker_may_be_a_launcher_of_replicas(broker, warm, tmp_path):
    template = await warm(app_of(tmp_path, "Echo", instances=2, idle_exit_seconds=0.5))
    await template.says()
    template.fork("w-packed", given(broker), tmp_path / "worker.log")
    forked = await template.says()
    await broker.until(lambda: {request.replica for request in broker.requests("lease")} == {0, 1})
    assert await template.says() == Ended(uid="w-packed", pid=forked.pid, code=0)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (
            "import threading, time\nthreading.Thread(target=time.sleep, args=(9,), daemon=True, name='bg').start()",
            "bg",
        ),
        ("raise RuntimeError('no such weights')", "no such weights"),
        ("", "has no class 'Mine'"),
    ],
)
async def test_a_handler_that_must_not_be_forked_is_refused_with_the_reason(warm, tmp_path, source, told):
    path = tmp_path / "not_to_be_forked.py"
    path.write_text(f"{source}\n")
    if "Thread" in source:
        path.write_text(f"{source}\nfrom penstock import Handler\nclass Mine(Handler): ...\n")
    template = await warm(App(name="live", handler=f"{path}:Mine"))
    reply = await template.says()
    assert isinstance(reply, Ready)
    assert not reply.ok
    assert told in reply.why


async def test_a_handler_that_has_touched_a_gpu_is_refused(warm, tmp_path):
    path = tmp_path / "touches_gpu.py"
    path.write_text(
        "import sys, types\n"
        "cuda = types.SimpleNamespace(is_initialized=lambda: True)\n"
        "sys.modules['torch'] = types.SimpleNamespace(cuda=cuda)\n"
        "from penstock import Handler\n"
        "class Mine(Handler): ...\n"
    )
    template = await warm(App(name="live", handler=f"{path}:Mine"))
    assert await template.says() == Ready(ok=False, why="importing the handler initialised CUDA")


async def test_a_fork_is_far_quicker_than_a_fresh_interpreter(broker, warm, tmp_path):
    template = await warm(app_of(tmp_path, "Echo", idle_exit_seconds=20.0))
    await template.says()
    times = []
    for number in range(5):
        began = time.monotonic()
        template.fork(f"w-{number}", given(broker), tmp_path / "worker.log")
        await broker.until(lambda count=number: len(broker.requests("lease")) > count)
        times.append(time.monotonic() - began)
        assert isinstance(await template.says(), Forked)
    # Measured: 10 ms; the bound leaves room for a machine that is busy with other tests.
    assert sorted(times)[2] < 0.15
    for pid in template.forked:
        os.kill(pid, signal.SIGTERM)


async def test_a_worker_that_cannot_begin_shows_why_and_never_returns_into_the_template(broker, warm, tmp_path):
    template = await warm(app_of(tmp_path, "Echo"))
    await template.says()
    template.fork("w-nowhere", given(broker), tmp_path / "no" / "such" / "folder" / "log")
    forked = await template.says()
    assert await template.says() == Ended(uid="w-nowhere", pid=forked.pid, code=1)
    assert "FileNotFoundError" in (tmp_path / "template.log").read_text()
