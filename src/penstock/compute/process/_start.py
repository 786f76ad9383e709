"""How a program becomes a process of ours: in a session of its own, writing to its log, with none of our files open."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from penstock.errors import Misconfigured, PenstockError, Unavailable

__all__ = ["Program", "start"]

_PASSING: Final = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT})


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """What to run, with which variables, where, and the file that takes what it prints."""

    command: Sequence[str]
    env: Mapping[str, str]
    folder: Path
    log: Path
    pass_fds: tuple[int, ...] = ()


async def start(program: Program) -> int:
    """Start a program and give its pid; whoever calls must watch for its end.

    Raises `Unavailable` when the machine has no room just now and `Misconfigured` when it can never start so.
    """
    try:
        # A thread, because the system call returns only when the new program was found and loaded.
        return await asyncio.to_thread(_start, program)
    except (OSError, ValueError) as error:
        raise _translated(program, error) from error


def _start(program: Program) -> int:
    log = os.open(program.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        child = subprocess.Popen(  # noqa: S603 # the operator's own command
            program.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=program.folder,
            env=program.env,
            pass_fds=program.pass_fds,
            start_new_session=True,
        )
    finally:
        os.close(log)
    # Its end is observed and collected elsewhere; so told, Popen neither waits for it nor warns.
    child.returncode = 0
    return child.pid


def _translated(program: Program, error: OSError | ValueError) -> PenstockError:
    text = f"{program.command[0]} did not start: {error}"
    if isinstance(error, OSError) and error.errno in _PASSING:
        return Unavailable(text)
    return Misconfigured(text)
