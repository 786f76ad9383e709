"""How the end of a process is noticed at once, whoever's child it is."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from collections.abc import Callable
from typing import Final, Protocol

from ._kin import Kin, alive, same

__all__ = ["Exits", "Polling", "exits"]

Ended = Callable[[int | None], None]
"""Called once with the exit code: negative for a signal, None where only a parent could know it."""

POLL_S: Final = 0.25


class Exits(Protocol):
    """Whoever watches processes."""

    def watch(self, kin: Kin, ended: Ended) -> None:
        """Call `ended` from the event loop, once, when the process is gone; reaps it if it is our child."""
        ...

    def close(self) -> None:
        """Watch no more; nobody is called after this."""
        ...


def exits() -> Exits:
    """Give the best watch that this system has."""
    return _Pidfds() if sys.platform == "linux" and hasattr(os, "pidfd_open") else Polling()


class Polling:
    """A look at every watched process four times a second: for systems without pidfds."""

    def __init__(self) -> None:
        self._watched: dict[Kin, Ended] = {}
        self._next: asyncio.TimerHandle | None = None

    def watch(self, kin: Kin, ended: Ended) -> None:
        """Call `ended` within a quarter of a second of the process's end."""
        self._watched[kin] = ended
        if self._next is None:
            self._next = asyncio.get_running_loop().call_later(0, self._look)

    def close(self) -> None:
        """Watch no more."""
        self._watched.clear()
        if self._next is not None:
            self._next.cancel()

    def _look(self) -> None:
        for kin, ended in tuple(self._watched.items()):
            gone, code = self._reap(kin)
            if gone and kin in self._watched:
                del self._watched[kin]
                ended(code)
        again = bool(self._watched)
        self._next = asyncio.get_running_loop().call_later(POLL_S, self._look) if again else None

    def _reap(self, kin: Kin) -> tuple[bool, int | None]:
        if not same(kin):
            return True, None
        try:
            pid, status = os.waitpid(kin.pid, os.WNOHANG)
        except ChildProcessError:
            # A zombie of another parent's has ended too, though nobody has looked at it yet.
            return not alive(kin), None
        return pid != 0, os.waitstatus_to_exitcode(status) if pid else None


if sys.platform == "linux":

    class _Pidfds:
        """A file descriptor for each process (pidfd_open(2)) that the event loop waits on: no threads, no polling."""

        def __init__(self) -> None:
            self._open: set[int] = set()
            self._polling = Polling()

        def watch(self, kin: Kin, ended: Ended) -> None:
            """Call `ended` as soon as the process ends."""
            loop = asyncio.get_running_loop()
            try:
                handle = os.pidfd_open(kin.pid)
            except OSError as error:
                if error.errno == errno.ESRCH:
                    loop.call_soon(ended, None)
                else:  # out of descriptors, or forbidden here
                    self._polling.watch(kin, ended)
                return
            if not same(kin):
                os.close(handle)
                loop.call_soon(ended, None)
                return
            self._open.add(handle)
            loop.add_reader(handle, self._gone, handle, ended)

        def close(self) -> None:
            """Watch no more."""
            for handle in tuple(self._open):
                self._drop(handle)
            self._polling.close()

        def _gone(self, handle: int, ended: Ended) -> None:
            code = _collect(handle)
            self._drop(handle)
            ended(code)

        def _drop(self, handle: int) -> None:
            self._open.discard(handle)
            asyncio.get_running_loop().remove_reader(handle)
            os.close(handle)

    def _collect(handle: int) -> int | None:
        """Reap the child behind a pidfd and give its code; None if it is no child of ours."""
        try:
            result = os.waitid(os.P_PIDFD, handle, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            return None
        if result is None:
            return None
        return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
