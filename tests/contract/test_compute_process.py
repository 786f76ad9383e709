"""Real processes keep the contract: started fresh, forked from a warm template, watched with and without pidfds."""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from penstock.compute import open_compute
from penstock.compute.process import _driver
from penstock.compute.process._exits import Polling
from penstock.model.app import Worker
from penstock.run.clock import SystemClock
from penstock.testing.clock import seeded
from penstock.testing.suites.compute import ComputeStage, ComputeSuite

PROGRAMS = Path(__file__).parent.parent / "unit" / "compute" / "programs"


class ProcessStage(ComputeStage):
    """Workers are `programs/worker.py`; its files are the back door."""

    def __init__(self, folder: Path, *, fork: bool) -> None:
        self.folder = folder
        env = self.app.env | {"TEST_FOLDER": str(folder)}
        self.app = msgspec.structs.replace(self.app, worker=Worker(fork_server=fork), env=env)

    def compute(self):
        return open_compute(
            f"process://{self.folder}/state",
            clock=SystemClock(),
            randomness=seeded(0),
            base_env=dict(os.environ),
            worker=(sys.executable, "-I", "-S", str(PROGRAMS / "worker.py")),
            template=(sys.executable, str(PROGRAMS / "template.py")),
        )

    async def lives(self, uid):
        with suppress(FileNotFoundError, IndexError, ProcessLookupError):
            os.kill(self._pid(uid), 0)
            return _state(self._pid(uid)) != "Z"
        return False

    async def starts(self, uid):
        return len((self.folder / f"{uid}.ready").read_text().split())

    async def env(self, uid):
        lines = (self.folder / f"{uid}.env").read_text().splitlines()
        return dict(line.partition("=")[::2] for line in lines)

    async def say(self, uid, *lines):
        await self._tell(uid, *(f"say {line}" for line in lines))

    async def exit(self, uid, code):
        await self._tell(uid, f"exit {code}")

    async def kill(self, uid):
        os.kill(self._pid(uid), signal.SIGKILL)

    async def deafen(self, uid):
        await self._tell(uid, "deaf")

    async def pass_time(self):
        await asyncio.sleep(0.02)

    async def _tell(self, uid, *lines):
        todo = self.folder / f"{uid}.todo"
        todo.write_text("".join(f"{line}\n" for line in lines))
        os.kill(self._pid(uid), signal.SIGUSR1)

        async def done():
            return not todo.exists()

        await self.until(done, f"{uid} does as told")

    def _pid(self, uid):
        return int((self.folder / f"{uid}.ready").read_text().split()[-1])


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.live
class TestFresh(ComputeSuite):
    @pytest.fixture
    async def stage(self, tmp_path):
        return ProcessStage(tmp_path, fork=False)


@pytest.mark.live
class TestForked(ComputeSuite):
    @pytest.fixture
    async def stage(self, tmp_path):
        return ProcessStage(tmp_path, fork=True)


@pytest.mark.live
class TestPolled(ComputeSuite):
    """As on a system without pidfds."""

    @pytest.fixture
    async def stage(self, tmp_path, monkeypatch):
        monkeypatch.setattr(_driver, "exits", Polling)
        return ProcessStage(tmp_path, fork=False)
