"""Handlers, and workers started as processes, for the live tests of workers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from penstock.model.app import App, Deadlines, Worker, encode
from pretend_broker import PretendBroker

HANDLERS = '''
import os, signal, sys, threading, time
from penstock import Handler, InvalidInput, current_run

print("imported", flush=True)

class Echo(Handler):
    def predict(self, batch):
        return [{**item, "pid": os.getpid()} for item in batch]

class Slow(Handler):
    def predict(self, batch):
        time.sleep(batch[0]["seconds"])
        return batch

class Deadly(Handler):
    def predict(self, batch):
        for item in batch:
            if item.get("die"):
                os.kill(os.getpid(), signal.SIGKILL)
        return [{"pid": os.getpid()} for item in batch]

class Unloadable(Handler):
    def load(self):
        raise FileNotFoundError("weights.bin is not there")

class OutOfMemory(Handler):
    def load(self):
        raise MemoryError("no room for the weights")

class Quits(Handler):
    def load(self):
        sys.exit(0)

class Loads(Handler):
    """Notes when it begins and ends to load, so that overlaps can be seen."""
    def load(self):
        with open(os.environ["LOADS"], "a") as notes:
            notes.write(f"begin {os.getpid()}\\n")
            notes.flush()
            time.sleep(0.15)
            notes.write(f"end {os.getpid()}\\n")
    def predict(self, batch):
        return [{"pid": os.getpid()} for _ in batch]

class DiesInLoad(Handler):
    def load(self):
        os._exit(9)

class Says(Handler):
    def predict(self, batch):
        import logging
        logging.getLogger("mine").warning("from the handler")
        return [{"env": {name: os.environ.get(name) for name in batch[0]["names"]}, "argv0": sys.orig_argv[0]}]

class LeavesThread(Handler):
    def predict(self, batch):
        threading.Thread(target=time.sleep, args=(600,)).start()
        return batch
'''


class Process:
    """A worker's process, its log and its exit code."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self.pid = process.pid
        self.log_file = log

    async def exit_code(self, within: float = 20.0) -> int:
        async with asyncio.timeout(within):
            return await self.process.wait()

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log_file.read_text().splitlines() if line.startswith("{")]


def app_of(folder: Path, name: str, *, lease_s: float = 30.0, **worker: Any) -> App:
    path = folder / "live_handlers.py"
    if not path.exists():
        path.write_text(HANDLERS)
    spec = Worker(**{"idle_exit_seconds": 20.0, **worker})
    return App(name="live", handler=f"{path}:{name}", worker=spec, deadlines=Deadlines(lease_seconds=lease_s))


def environment(broker: PretendBroker, app: App, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PENSTOCK_API": broker.url,
        "PENSTOCK_WORKER_TOKEN": "secret-token",
        "PENSTOCK_APP": encode(app).decode(),
        **more,
    }


@asynccontextmanager
async def started(broker: PretendBroker, app: App, log: Path, **more: str):
    """A worker as its own process; killed at the end if it is still there."""
    with log.open("wb") as lines:
        process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "penstock.run.worker", "--uid", "w-live"],
            env=environment(broker, app, **more),
            stdout=lines,
            stderr=lines,
        )
    try:
        yield Process(process, log)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def answer(run: Any) -> Any:
    return msgspec.json.decode(run.ending.result)


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def open_files(pid: int) -> dict[int, str]:
    return {int(link.name): str(link.readlink()) for link in Path(f"/proc/{pid}/fd").glob("*")}


def initial_environment(pid: int) -> str:
    return Path(f"/proc/{pid}/environ").read_text()
