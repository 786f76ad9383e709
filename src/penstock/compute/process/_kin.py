"""Which processes are provably ours: a pid alone proves nothing, for the system gives numbers out again.

A worker leads a session of its own, so what it started can be found by the session's number. The kernel gives a number
to no new process while a session still bears it; hence, right after our leader's end and with no stranger that has its
number, every member of that session descends from our leader.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Container, Iterable, Iterator, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec
import psutil

__all__ = ["Kin", "alive", "end_session", "find", "identify", "same", "send"]

_LINUX: Final = sys.platform == "linux"
_PIDFD: Final = hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal")
_DEAD: Final = frozenset("ZXx")


class Kin(msgspec.Struct, frozen=True):
    """One process for all time: its pid, and when it was born in the system's own words."""

    pid: int
    born: str


def identify(pid: int) -> Kin | None:
    """Give the process that has a pid now, as a zombie too, or None."""
    seen = _look(pid)
    return seen and Kin(pid, seen[0])


def same(kin: Kin) -> bool:
    """Tell whether the process is still there, if only as a zombie, and its pid not another's."""
    return identify(kin.pid) == kin


def alive(kin: Kin) -> bool:
    """Tell whether the process still runs."""
    seen = _look(kin.pid)
    return seen is not None and seen[0] == kin.born and seen[1] not in _DEAD


def send(kin: Kin, number: signal.Signals) -> bool:
    """Signal this very process; False when it is gone. No other process ever gets the signal."""
    if not _PIDFD:
        if not alive(kin):
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(kin.pid, number)
        return True
    try:
        handle = os.pidfd_open(kin.pid)
    except OSError:
        return False
    try:
        if not alive(kin):
            return False
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def end_session(leader: Kin) -> int:
    """Kill whatever lives in the session that this process leads, or led until just now; gives how many."""
    killed: set[Kin] = set()
    # A member may have forked while we looked, so look again until there is nobody new.
    while new := {kin for kin in _members(leader) if kin not in killed and alive(kin)}:
        for kin in new:
            send(kin, signal.SIGKILL)
        killed |= new
    return len(killed)


def find(logs: Mapping[str, Path]) -> dict[str, Kin]:
    """Give the workers of these uids, each with the log it must be writing to, among this user's processes.

    The uid in the title finds a worker; the open log proves that it is this deployment's.
    """
    found: dict[str, Kin] = {}
    for process in psutil.process_iter(["cmdline", "uids"]):
        owner = process.info["uids"]
        if owner is None or owner.real != os.getuid() or _session(process.pid) != process.pid:
            continue
        uid = _named(process.info["cmdline"] or (), logs)
        if uid is not None and (kin := identify(process.pid)) and _writes(process, logs[uid]):
            found[uid] = kin
    return found


def _named(command: Iterable[str], uids: Container[str]) -> str | None:
    """Give the uid that stands in a title, as in `penstock worker UID ...` and `... --uid UID`."""
    words = " ".join(command).replace("--uid=", "--uid ").split()
    for flag, uid in pairwise(words):
        if flag in {"worker", "--uid"} and uid in uids:
            return uid
    return None


def _writes(process: psutil.Process, log: Path) -> bool:
    with contextlib.suppress(psutil.Error, OSError):
        return any(Path(file.path).samefile(log) for file in process.open_files())
    return False


def _members(leader: Kin) -> Iterator[Kin]:
    now = identify(leader.pid)
    if now is not None and now != leader:
        return  # the number is a stranger's, so our session is empty
    for pid in psutil.pids():
        kin = identify(pid) if _session(pid) == leader.pid else None
        # Read the session again: the pid may have changed hands between the two looks.
        if kin is not None and _session(pid) == leader.pid:
            yield kin


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _look(pid: int) -> tuple[str, str] | None:
    """Give when a process was born and its state (one letter, Z = zombie)."""
    return _look_linux(pid) if _LINUX else _look_elsewhere(pid)


def _look_linux(pid: int) -> tuple[str, str] | None:
    # proc(5): after the name in parentheses come the state (field 3) and the start in ticks since boot (field 22).
    # psutil would give the start as wall time, which moves whenever the clock is set.
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()
    return f"{_boot()}:{fields[19].decode()}", fields[0].decode()


@cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _look_elsewhere(pid: int) -> tuple[str, str] | None:
    try:
        process = psutil.Process(pid)
        return f"{process.create_time():.6f}", "Z" if process.status() == psutil.STATUS_ZOMBIE else "R"
    except psutil.Error:
        return None
