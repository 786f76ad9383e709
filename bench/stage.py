"""The stage: a real `penstock up` in a process of its own on a free port, with apps of a few lines."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil

T = TypeVar("T")

HANDLERS = """
import asyncio
import time

from penstock import Handler


class Noop(Handler):
    def predict(self, batch):
        return batch


class Slow(Handler):
    def predict(self, batch):
        time.sleep(batch[0].get("s", 0.0))
        return batch
"""


@dataclass
class Stage:
    """A running platform."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"http://127.0.0.1:{self.port}"

    def call(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        """Make one request; gives its status and its JSON (or bytes)."""
        request = urllib.request.Request(self.url + path, data=body, method=method)
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        try:
            with urllib.request.urlopen(request, timeout=90) as reply:
                status, data = reply.status, reply.read()
        except urllib.error.HTTPError as error:
            status, data = error.code, error.read()
        try:
            return status, json.loads(data)
        except ValueError:
            return status, data

    def apply(self, name: str, handler: str = "Noop", **sections: Any) -> None:
        """Make an app known whose handler is one of `HANDLERS`."""
        file = self.folder / "handlers.py"
        if not file.exists():
            file.write_text(HANDLERS)
        spec = {"name": name, "handler": f"{file}:{handler}", **sections}
        status, answer = self.call(
            "PUT", f"/v1/apps/{name}", json.dumps(spec).encode(), content_type="application/yaml"
        )
        assert status in (200, 201), answer

    def read(self, path: str) -> Any:
        """Give the JSON at a path, which must be there."""
        status, answer = self.call("GET", path)
        assert status == 200, (path, status, answer)
        return answer

    def submit(self, app: str, body: Any, wait: float = 10) -> tuple[int, Any]:
        """Submit one input, waiting at most so many seconds."""
        data = json.dumps(body).encode()
        return self.call("POST", f"/v1/{app}/infer", data, prefer=f"wait={wait:g}", content_type="application/json")

    def workers(self, app: str) -> list[dict[str, Any]]:
        """Give the live workers of an app."""
        return list(self.read(f"/v1/workers?app={app}")["items"])

    def depth(self, app: str) -> int:
        """Give the number of runs that have not ended."""
        waiting = 0
        for state in ("QUEUED", "RUNNING"):
            waiting += len(self.read(f"/v1/runs?app={app}&state={state}&limit=1")["items"])
        return waiting


@contextmanager
def stage(**environment: str) -> Iterator[Stage]:
    """Give a fresh platform over a folder of its own; everything is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [
            sys.executable,
            "-m",
            "penstock.run.program",
            "up",
            "--port",
            str(port),
            "--state",
            f"{folder}/state",
        ]
        with (Path(folder) / "up.log").open("wb") as log:
            env = {**os.environ, "PENSTOCK__DRAIN_SECONDS": "2", **environment}
            process = subprocess.Popen([*command, "--log-level", "warning"], stdout=log, stderr=log, env=env)
        running = Stage(Path(folder), port, process)
        try:
            eventually(lambda: _ready(running), "the platform serves", 20)
            yield running
        finally:
            _end(process)


def _ready(running: Stage) -> bool:
    assert running.process.poll() is None, (running.folder / "up.log").read_text()
    try:
        return running.call("GET", "/health/ready")[0] == 200
    except OSError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    kin = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for each in kin:
        if each.is_running():
            each.kill()


def eventually(probe: Callable[[], T], what: str, patience_s: float = 30, pause_s: float = 0.01) -> T:
    """Give the first true answer of a probe."""
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        if found := probe():
            return found
        time.sleep(pause_s)
    raise AssertionError(f"{what}: not within {patience_s:g} s")
