"""Where real processes are put on stage: workers do what files tell them, and those files are the back door."""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import msgspec

from penstock.compute import open_compute
from penstock.model.app import Worker
from penstock.run.clock import SystemClock
from penstock.testing.clock import seeded
from penstock.testing.suites.compute import ComputeStage

PROGRAMS = Path(__file__).parent


class ProcessStage(ComputeStage):
    """Workers are `programs/worker.py`; its files are the back door."""

    def __init__(self, folder: Path, *, fork: bool, clock=None, env=None, **options) -> None:
        self.folder = folder
        self.clock = clock or SystemClock()
        self.options = options
        env = self.app.env | {"TEST_FOLDER": str(folder)} | (env or {})
        self.app = msgspec.structs.replace(self.app, worker=Worker(fork_server=fork), env=env)

    def compute(self):
        options = {
            "base_env": dict(os.environ),
            "worker": (sys.executable, "-I", "-S", str(PROGRAMS / "worker.py")),
            "template": (sys.executable, str(PROGRAMS / "template.py")),
        }
        url = f"process://{self.folder}/state"
        return open_compute(url, clock=self.clock, randomness=seeded(0), **(options | self.options))

    def templates(self):
        """Give the pids of all templates that ever were warm."""
        path = self.folder / "templates"
        return [int(word) for word in path.read_text().split()] if path.exists() else []

    async def lives(self, uid):
        with suppress(FileNotFoundError, IndexError):
            return runs(self.pid(uid))
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
        os.kill(self.pid(uid), signal.SIGKILL)

    async def deafen(self, uid):
        await self._tell(uid, "deaf")

    async def pass_time(self):
        await asyncio.sleep(0.02)

    async def _tell(self, uid, *lines):
        todo = self.folder / f"{uid}.todo"
        todo.write_text("".join(f"{line}\n" for line in lines))
        os.kill(self.pid(uid), signal.SIGUSR1)

        async def done():
            return not todo.exists()

        await self.until(done, f"{uid} does as told")

    def pid(self, uid):
        return int((self.folder / f"{uid}.ready").read_text().split()[-1])


def runs(pid: int) -> bool:
    """Tell whether a process is there and no zombie."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False
