"""A server that speaks S3 and SQS and checks signatures and conditions: ministack, in an environment of its own.

Its pins of botocore are not ours, so it can't be installed beside us.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path
from typing import Final

from penstock.testing.process import HOST, ServerProcess

__all__ = ["AWS_KEYS", "aws_server", "installed_ministack"]

_VERSION: Final = "1.5.33"
# The root of an account of ministack: it may do anything, unless a test makes keys of a user.
AWS_KEYS: Final = ("test", "test")


def installed_ministack(cache: Path) -> Path | None:
    """Give ministack's program, installed below a folder the first time; None where it can't be installed."""
    home = cache / f"ministack-{_VERSION}-py{sys.version_info[0]}{sys.version_info[1]}"
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes begin at once
        if not (home / "done").exists():
            try:
                subprocess.run([sys.executable, "-m", "venv", home / "venv"], check=True, capture_output=True)
                install = ["-m", "pip", "install", "--quiet", "--no-compile", f"ministack=={_VERSION}"]
                subprocess.run([home / "venv/bin/python", *install], check=True, capture_output=True)
            except (OSError, subprocess.CalledProcessError):
                return None
            (home / "done").touch()
    return home / "venv/bin/ministack"


def aws_server(program: Path, log: Path, **settings: str) -> ServerProcess:
    """Give the server, not started yet; it forgets everything when it stops."""
    return ServerProcess(
        lambda _: [program],
        environ=lambda port: {
            "PATH": str(program.parent),
            "BIND_HOST": HOST,
            "GATEWAY_PORT": str(port),
            "SERVICES": "s3,sqs,sts,iam",
            "LOG_LEVEL": "ERROR",
            "AUTH": "true",  # it checks every signature, and what a user may do
            "AWS_ACCESS_KEY_ID": AWS_KEYS[0],
            "AWS_SECRET_ACCESS_KEY": AWS_KEYS[1],
            **settings,
        },
        log=log,
    )
