"""A storm over a real `penstock up`: clients submit, workers and the platform are killed, a history is kept."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import signal
import sqlite3
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psutil

from penstock.testing.history import Acceptance, Answer, AttemptRow, Execution, History, RunRow

APP = """
name: journal
handler: {handler}:Journal
env: {{ CHAOS_JOURNAL: {journal} }}
worker: {{ batchSize: 1, idleExitSeconds: 2 }}
scaling: {{ messagesPerInstance: 20, maxInstances: 2, scaleUpCooldownSeconds: 0 }}
retry: {{ maxAttempts: 50, backoffSeconds: 0.1 }}
deadlines: {{ leaseSeconds: 2 }}
"""

_RUNS = """
SELECT run_id, key, generation, state, epoch, coalesce(reason, ''), seq IN (SELECT seq FROM results) FROM runs
"""
_ATTEMPTS = """
SELECT runs.run_id, attempts.epoch, attempts.state FROM attempts JOIN runs USING (seq)
"""


@dataclass
class Storm:
    """One storm: where it happens, and what was seen."""

    folder: Path
    port: int
    seed: int = 0
    history: History = field(default_factory=History)
    deeds: Counter[str] = field(default_factory=Counter)
    _platform: asyncio.subprocess.Process | None = None
    _open: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def journal(self) -> Path:
        return self.folder / "journal"

    # ------------------------------------------------------------ the platform

    async def raise_platform(self) -> None:
        """Start `penstock up` and wait until it serves."""
        log = (self.folder / "up.log").open("ab")
        command = [sys.executable, "-m", "penstock.run.program", "up", "--port", str(self.port)]
        self._platform = await asyncio.create_subprocess_exec(
            *command, "--state", str(self.folder / "state"), stdout=log, stderr=log, start_new_session=True
        )
        log.close()
        async with aiohttp.ClientSession() as http, asyncio.timeout(30):
            while not await _ok(http, f"{self.url}/health/ready"):
                assert self._platform.returncode is None, (self.folder / "up.log").read_text()[-4000:]
                await asyncio.sleep(0.05)

    async def apply(self) -> None:
        """Make the journal app known."""
        handler = Path(__file__).with_name("journal_handler.py")
        text = APP.format(handler=handler, journal=self.journal)
        async with aiohttp.ClientSession() as http:
            headers = {"content-type": "application/yaml"}
            async with http.put(f"{self.url}/v1/apps/journal", data=text, headers=headers) as reply:
                assert reply.status in (200, 201), await reply.text()

    async def kill_platform(self) -> None:
        """SIGKILL the platform and start it again over the same folder."""
        assert self._platform is not None
        self._platform.kill()
        await self._platform.wait()
        await self.raise_platform()

    async def still(self) -> None:
        """Ask the platform to stop, and make sure that nothing of it is left."""
        if self._platform is not None and self._platform.returncode is None:
            self._platform.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._platform.wait(), 30)
        for worker in self.workers():
            worker.kill()

    def workers(self) -> list[psutil.Process]:
        """Give the worker processes of this storm: those that the platform keeps a record of."""
        found = []
        for record in (self.folder / "state" / "workers").glob("*.json"):
            with contextlib.suppress(psutil.Error, OSError, ValueError, KeyError):
                process = psutil.Process(int(json.loads(record.read_text())["kin"]["pid"]))
                if record.stem in " ".join(process.cmdline()):
                    found.append(process)
        return found

    # ------------------------------------------------------------ the clients

    async def client(self, name: int, until: float) -> None:
        """Submit unique inputs one after the other, mixing waits and polls, until the time is up."""
        chance = random.Random(f"{self.seed}-{name}")
        loop = asyncio.get_running_loop()
        async with aiohttp.ClientSession() as http:
            number = 0
            while loop.time() < until:
                number += 1
                key = f"c{name}-{number}"
                await self._submit(http, key, number, wait=chance.choice((0, 0, 1)))
                if self._open and chance.random() < 0.3:
                    await self._poll(http, chance.choice(list(self._open)))
                await asyncio.sleep(chance.uniform(0.0, 0.05))

    async def _submit(self, http: aiohttp.ClientSession, key: str, number: int, wait: int) -> None:
        body = f'{{"_rid": "{key}", "n": {number}}}'
        headers = {"content-type": "application/json", "prefer": f"wait={wait}"}
        for _ in range(200):  # the same key again after a broken connection: that is what keys are for
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                timeout = aiohttp.ClientTimeout(total=10)
                url = f"{self.url}/v1/journal/infer"
                async with http.post(url, data=body, headers=headers, timeout=timeout) as reply:
                    data = await reply.read()
                    if reply.status < 300:
                        run_id = reply.headers["penstock-run-id"]
                        self.history.acceptances.append(Acceptance(key, run_id))
                        self._note(key, run_id, reply.status, data, await _json(reply))
                        return
                    assert reply.status in (500, 503), (reply.status, data)
            await asyncio.sleep(0.1)
        raise AssertionError(f"{key} was refused for 20 s")

    async def _poll(self, http: aiohttp.ClientSession, key: str) -> None:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
            timeout = aiohttp.ClientTimeout(total=10)
            async with http.get(f"{self.url}/v1/journal/status/{key}", timeout=timeout) as reply:
                data = await reply.read()
                assert reply.status != 404, f"{key} was accepted and is unknown"
                self._note(key, self._open[key], reply.status, data, await _json(reply))

    def _note(self, key: str, run_id: str, status: int, data: bytes, document: dict[str, object]) -> None:
        if status == 202:
            self._open[key] = run_id
            return
        self._open.pop(key, None)
        if status == 200:
            epoch = int(str(document["epoch"]))
            digest = hashlib.sha256(data).hexdigest()
            self.history.answers.append(Answer(key, str(document["run_id"]), "SUCCEEDED", digest, epoch))
        elif status != 503:
            self.history.answers.append(Answer(key, run_id, "FAILED"))

    async def finish(self, patience_s: float) -> None:
        """Wait until every accepted run has ended, reading each once more."""
        async with aiohttp.ClientSession() as http, asyncio.timeout(patience_s):
            while self._open:
                for key in list(self._open):
                    await self._poll(http, key)
                await asyncio.sleep(0.1)
            for key in random.Random(self.seed).sample(sorted({a.key for a in self.history.acceptances}), 50):
                self._open[key] = next(a.run_id for a in self.history.acceptances if a.key == key)
                await self._poll(http, key)

    # ------------------------------------------------------------ the weather

    async def weather(self, until: float) -> None:
        """Kill workers and the platform, and freeze workers for longer than their lease, at random."""
        chance = random.Random(self.seed)
        loop = asyncio.get_running_loop()
        while loop.time() < until:
            await asyncio.sleep(chance.uniform(0.5, 2.0))
            deed = chance.choices(("kill worker", "freeze worker", "kill platform"), (6, 2, 2))[0]
            workers = self.workers()
            if deed == "kill platform":
                await self.kill_platform()
            elif not workers:
                continue
            elif deed == "kill worker":
                _send(chance.choice(workers), signal.SIGKILL)
            else:
                await self._freeze(chance.choice(workers))
            self.deeds[deed] += 1

    async def _freeze(self, worker: psutil.Process) -> None:
        _send(worker, signal.SIGSTOP)
        await asyncio.sleep(3.0)  # longer than the lease
        _send(worker, signal.SIGCONT)

    # ------------------------------------------------------------ the evidence

    def gather(self) -> History:
        """Read the journal and, past every line of the product's code, the ledger's own tables."""
        for line in self.journal.read_text().splitlines():
            run_id, epoch = line.split()
            self.history.executions.append(Execution(run_id, int(epoch)))
        with contextlib.closing(sqlite3.connect(self.folder / "state" / "ledger.db")) as db:
            self.history.runs = [RunRow(*row[:-1], has_result=bool(row[-1])) for row in db.execute(_RUNS)]
            self.history.attempts = [AttemptRow(*row) for row in db.execute(_ATTEMPTS)]
        return self.history


def _send(process: psutil.Process, number: int) -> None:
    with contextlib.suppress(psutil.Error, ProcessLookupError):
        os.kill(process.pid, number)


async def _ok(http: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with http.get(url) as reply:
            return reply.status == 200
    except (aiohttp.ClientError, OSError):
        return False


async def _json(reply: aiohttp.ClientResponse) -> dict[str, object]:
    found = await reply.json(content_type=None)
    return found if isinstance(found, dict) else {}
