"""Whether the kernel killed something of ours for want of memory."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["OomKills", "counter"]


OWN_GROUPS: Final = Path("/proc/self/cgroup")
GROUPS: Final = Path("/sys/fs/cgroup")
VMSTAT: Final = Path("/proc/vmstat")


def counter() -> Path | None:
    """Give the file that counts such kills: this process's control group's (v2, then v1), else the whole machine's."""
    with suppress(OSError):
        for line in OWN_GROUPS.read_text().splitlines():
            _, kinds, path = line.split(":", 2)
            if not kinds:
                found = GROUPS / path.lstrip("/") / "memory.events"
            elif "memory" in kinds.split(","):
                found = GROUPS / "memory" / path.lstrip("/") / "memory.oom_control"
            else:
                continue
            if found.is_file():
                return found
    return VMSTAT if VMSTAT.is_file() else None


class OomKills:
    """The count of processes that the kernel killed for memory. It names none, so each may explain one death."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._explained = self._count()

    def explain(self) -> bool:
        """Tell whether a SIGKILL that nobody here sent was the kernel's."""
        if self._count() <= self._explained:
            return False
        self._explained += 1
        return True

    def settle(self) -> None:
        """Let go of the kills that explained nothing until now: they were others'."""
        self._explained = self._count()

    def _count(self) -> int:
        if self._path is None:
            return 0
        with suppress(OSError, ValueError):
            for line in self._path.read_text().splitlines():
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    return int(value)
        return 0
