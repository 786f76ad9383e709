"""A worker with several replicas: starts them one after the other, watches them, and replaces those that die.

It never imports the handler, starts no thread and no event loop, so it may fork at any time.
"""

from __future__ import annotations

import http.client
import logging
import os
import selectors
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import msgspec

from penstock.model.ids import Clock
from penstock.model.wire import MSGPACK, ReplicaDied

from .exits import Exit, end_after
from .kin import Loaded, Renewed, Served, die_with_parent, hear
from .log import event
from .post import Post

__all__ = ["BeReplica", "Launcher"]

BeReplica = Callable[[Post, socket.socket], int]
"""Works as a replica, in a fresh process, given its post and its line to the launcher; gives the exit code."""

DEATHS_IN_A_ROW: Final = 5
FIRST_BACKOFF_S: Final = 0.5
LONGEST_BACKOFF_S: Final = 30.0
KILL_AFTER_S: Final = 5.0  # beyond the grace that replicas are given
REPORT_S: Final = 5.0


@dataclass(slots=True)
class _Replica:
    number: int
    pid: int = 0  # 0 = not running
    line: socket.socket | None = None
    heard: bytes = b""
    loaded: bool = False
    start_at: float = 0.0
    over: bool = False  # it left, and is not to be started again


class Launcher:
    """Runs a worker's replicas until they have left or can't be kept alive."""

    def __init__(self, post: Post, be: BeReplica, *, clock: Clock) -> None:
        self._post = post
        self._be = be
        self._clock = clock
        self._replicas = [_Replica(number) for number in range(post.app.worker.instances)]
        self._select = selectors.DefaultSelector()
        self._exit: Exit | None = None
        self._kill_at = 0.0
        self._ever_loaded = False
        self._deaths = 0  # in a row, without anything served between

    def run(self) -> int:
        """Give the worker's exit code, once every replica is gone."""
        woken, waker = socket.socketpair()
        woken.setblocking(False)
        waker.setblocking(False)
        self._select.register(woken, selectors.EVENT_READ)
        signal.set_wakeup_fd(waker.fileno())
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)  # its number on the wakeup line says enough
        try:
            while any(not replica.over for replica in self._replicas):
                self._start_next()
                self._wait(woken)
                self._reap()
                self._kill_laggards()
        finally:
            signal.set_wakeup_fd(-1)
            woken.close()
            waker.close()
        return int(self._exit or Exit.DONE)

    # ------------------------------------------------------------------ starting

    def _start_next(self) -> None:
        """Start one replica if it is due and none is loading."""
        if self._exit is not None or any(replica.pid and not replica.loaded for replica in self._replicas):
            return
        now = self._clock.monotonic()
        for replica in self._replicas:
            if not replica.over and not replica.pid and replica.start_at <= now:
                self._fork(replica)
                return

    def _fork(self, replica: _Replica) -> None:
        ours, theirs = socket.socketpair()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            end_after(lambda: self._become(replica, theirs, ours, parent))
        theirs.close()
        replica.pid, replica.line, replica.heard, replica.loaded = pid, ours, b"", False
        self._select.register(ours, selectors.EVENT_READ, replica)
        event("replica started", replica_number=replica.number, pid=pid)

    def _become(self, replica: _Replica, line: socket.socket, launchers: socket.socket, parent: int) -> int:
        """Be a replica in the fresh child, which keeps nothing of its launcher but the line."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        self._select.close()
        for end in (launchers, *(other.line for other in self._replicas)):
            if end is not None:
                end.close()
        die_with_parent(parent)
        return self._be(msgspec.structs.replace(self._post, replica=replica.number), line)

    # ------------------------------------------------------------------ watching

    def _wait(self, woken: socket.socket) -> None:
        for key, _ in self._select.select(self._patience()):
            if isinstance(key.data, _Replica):
                self._hear(key.data)
            elif {signal.SIGTERM, signal.SIGINT} & set(woken.recv(4096)):
                self._end(Exit.DONE)

    def _patience(self) -> float | None:
        """Give the seconds until something is due; None if nothing is."""
        now = self._clock.monotonic()
        if self._exit is not None:
            return max(0.05, self._kill_at - now)
        due = [replica.start_at - now for replica in self._replicas if not replica.pid and not replica.over]
        loading = any(replica.pid and not replica.loaded for replica in self._replicas)
        return max(0.0, min(due)) if due and not loading else None

    def _hear(self, replica: _Replica) -> None:
        if replica.line is None:
            return
        notes, replica.heard = hear(replica.line, replica.heard)
        if not notes and not replica.heard:
            self._hang_up(replica)
        for note in notes:
            match note:
                case Loaded():
                    replica.loaded = self._ever_loaded = True
                case Served():
                    self._deaths = 0
                case Renewed(token):
                    self._post = msgspec.structs.replace(self._post, token=token)

    def _hang_up(self, replica: _Replica) -> None:
        if replica.line is not None:
            self._select.unregister(replica.line)
            replica.line.close()
            replica.line = None

    def _reap(self) -> None:
        for replica in self._replicas:
            if not replica.pid:
                continue
            pid, status = os.waitpid(replica.pid, os.WNOHANG)
            if pid:
                if replica.line is not None:
                    self._hear(replica)
                self._hang_up(replica)
                replica.pid = 0
                self._ended(replica, os.waitstatus_to_exitcode(status))

    # ------------------------------------------------------------------ deciding

    def _ended(self, replica: _Replica, code: int) -> None:
        """Decide what the end of a replica means: leave it, replace it at once, replace it later, or give up."""
        event("replica ended", replica_number=replica.number, code=code)
        if code in {Exit.DONE, Exit.RECYCLED} or self._exit is not None:
            replica.over = code != Exit.RECYCLED or self._exit is not None
            return
        self._report(replica, code)
        if code == Exit.BROKER_LOST:
            replica.over = True
            self._end(Exit.BROKER_LOST)
        elif code == Exit.CONFIG and not self._ever_loaded:
            replica.over = True
            self._end(Exit.CONFIG)
        else:
            self._postpone(replica)

    def _postpone(self, replica: _Replica) -> None:
        self._deaths += 1
        if self._deaths >= DEATHS_IN_A_ROW:
            event("giving up", logging.ERROR, replica_number=replica.number, deaths=self._deaths)
            replica.over = True
            self._end(Exit.CRASHING)
            return
        wait = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** (self._deaths - 1))
        replica.start_at = self._clock.monotonic() + wait

    def _end(self, why: Exit) -> None:
        """Ask every replica to leave; a second call asks again, which makes them leave at once."""
        if self._exit is None:
            self._exit = why
            self._kill_at = self._clock.monotonic() + self._post.grace_s + KILL_AFTER_S
        for replica in self._replicas:
            if replica.pid:
                os.kill(replica.pid, signal.SIGTERM)
            else:
                replica.over = True

    def _kill_laggards(self) -> None:
        if self._exit is not None and self._clock.monotonic() >= self._kill_at:
            for replica in self._replicas:
                if replica.pid:
                    os.kill(replica.pid, signal.SIGKILL)

    def _report(self, replica: _Replica, code: int) -> None:
        """Tell the broker, so that what the replica held goes back now rather than when its leases run out."""
        died = ReplicaDied(
            replica=replica.number, exit_code=code, message=f"replica {replica.number} ended with {code}"
        )
        place = urlsplit(self._post.api)
        kind = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
        line = kind(place.hostname or "", place.port, timeout=REPORT_S)
        headers = {"Authorization": f"Bearer {self._post.token}", "Content-Type": MSGPACK, "Accept": MSGPACK}
        try:
            line.request(
                "POST", f"{place.path.rstrip('/')}/internal/v1/replica-died", msgspec.msgpack.encode(died), headers
            )
            status = line.getresponse().status
            if status >= 300:
                event("death not reported", logging.WARNING, replica_number=replica.number, status=status)
        except (OSError, http.client.HTTPException) as error:
            event("death not reported", logging.WARNING, replica_number=replica.number, error=type(error).__name__)
        finally:
            line.close()
