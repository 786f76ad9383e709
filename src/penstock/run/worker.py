"""`python -m penstock.run.worker --uid UID`: a worker, told by its environment what to do.

PENSTOCK_API               the broker's address
PENSTOCK_WORKER_TOKEN      the worker's JWT; taken out of the environment before the handler is imported
PENSTOCK_APP               the app's spec as JSON
PENSTOCK_WORKER_UID        the uid, where none stands on the command line
PENSTOCK_INLINE_MAX_BYTES  the largest result that travels within a settle call (default 32768)
PENSTOCK_GRACE_SECONDS     from SIGTERM to the release of what is unfinished (default 8)
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import socket
import sys
from collections.abc import MutableMapping
from typing import Final, NoReturn

import msgspec
from setproctitle import setproctitle

from penstock.errors import Misconfigured
from penstock.model import app as apps
from penstock.worker import log
from penstock.worker.exits import Exit, end_after
from penstock.worker.kin import Loaded, Renewed, Served, tell
from penstock.worker.launcher import Launcher
from penstock.worker.post import Post
from penstock.worker.replica import Ears, run_replica

from .clock import SystemClock

__all__ = ["main", "serve"]

NEWS_S: Final = 1.0


def main() -> NoReturn:
    """Be the worker that the command line and the environment describe, then end the process."""
    parser = argparse.ArgumentParser(prog="python -m penstock.run.worker", description="Run a worker.")
    parser.add_argument("--uid", help="the worker's uid (default: PENSTOCK_WORKER_UID)")
    uid = parser.parse_args().uid
    end_after(lambda: serve(uid, os.environ))  # noqa: TID251  # wiring reads the environment


def serve(uid: str | None, env: MutableMapping[str, str]) -> int:
    """Work as the worker that `env` describes; gives the exit code. The token is taken out of `env`."""
    try:
        post = _post(uid, env)
    except Misconfigured as error:
        log.start(uid or "", "")
        log.event("can't start", logging.ERROR, detail=error.detail)
        return Exit.CONFIG
    log.start(post.uid, post.app.name)
    _print_by_lines()
    setproctitle(f"penstock worker {post.uid} app={post.app.name}")
    log.event("worker started", pid=os.getpid(), replicas=post.app.worker.instances)
    if post.packed:
        return Launcher(post, _be_replica, clock=SystemClock()).run()
    return run_replica(post, clock=SystemClock(), random=os.urandom)


def _print_by_lines() -> None:
    """Have what a handler prints stand in the log at once, and survive a kill: to a file it would go block by block."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)


def _be_replica(post: Post, line: socket.socket) -> int:
    log.start(post.uid, post.app.name, post.replica)
    setproctitle(f"penstock worker {post.uid} app={post.app.name} replica={post.replica}")
    return run_replica(post, clock=SystemClock(), random=os.urandom, ears=_ears(line))


def _ears(line: socket.socket) -> Ears:
    """Give the ears of the launcher at the other end of a line; of what was served it hears once a second."""
    clock = SystemClock()
    heard_at = -NEWS_S

    def served() -> None:
        nonlocal heard_at
        now = clock.monotonic()
        if now - heard_at >= NEWS_S:
            heard_at = now
            tell(line, Served())

    return Ears(
        loaded=lambda: tell(line, Loaded()),
        served=served,
        renewed=lambda token: tell(line, Renewed(token)),
        gone=line.fileno(),
    )


def _post(uid: str | None, env: MutableMapping[str, str]) -> Post:
    token = env.pop("PENSTOCK_WORKER_TOKEN", "")
    try:
        return Post(
            uid=uid or _needed(env, "PENSTOCK_WORKER_UID"),
            app=apps.decode(_needed(env, "PENSTOCK_APP").encode()),
            api=_needed(env, "PENSTOCK_API"),
            token=token or _missing("PENSTOCK_WORKER_TOKEN"),
            inline_max_bytes=int(env.get("PENSTOCK_INLINE_MAX_BYTES") or "32768"),
            grace_s=float(env.get("PENSTOCK_GRACE_SECONDS") or "8"),
        )
    except (ValueError, msgspec.ValidationError) as error:
        raise Misconfigured(f"a worker's environment can't be read: {error}") from error


def _needed(env: MutableMapping[str, str], name: str) -> str:
    return env.get(name) or _missing(name)


def _missing(name: str) -> NoReturn:
    raise Misconfigured(f"a worker needs {name} in its environment")


if __name__ == "__main__":
    main()
