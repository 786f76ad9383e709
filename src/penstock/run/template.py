"""`python -m penstock.run.template --fd N`: a warm process of one app, from which its workers are forked.

It imports what a worker needs and the handler's module, says whether it may fork, and then forks a worker for each
`Fork` that comes over its socket, as `penstock.model.forking` describes. It never creates the handler, starts no thread
and no event loop, and holds no credential. When its socket closes it exits, and its workers live on.
"""

from __future__ import annotations

import argparse
import gc
import os
import selectors
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from penstock.errors import Misconfigured
from penstock.model import app as apps
from penstock.model.forking import Ended, Fork, Forked, Ready, encode
from penstock.worker.exits import end_after
from penstock.worker.loading import resolve

from .worker import serve

__all__ = ["Template", "main", "warm"]

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)

_decode: Final = msgspec.json.Decoder(Fork).decode


def main() -> None:
    """Be a template until the socket closes."""
    parser = argparse.ArgumentParser(prog="python -m penstock.run.template", description="Fork workers of an app.")
    parser.add_argument("--fd", type=int, required=True, help="the number of the socket to talk over")
    with socket.socket(fileno=parser.parse_args().fd) as line:
        line.set_inheritable(False)
        ready = warm(os.environ)  # noqa: TID251  # wiring reads the environment
        line.sendall(encode(ready) + b"\n")
        if ready.ok:
            Template(line).run()


def warm(env: Mapping[str, str]) -> Ready:
    """Import the handler of the app in `PENSTOCK_APP`; gives whether its workers may be forked from here, and why not."""
    gc.disable()  # what is imported lives for ever, and looking at it again would unshare its memory
    try:
        resolve(apps.decode(env["PENSTOCK_APP"].encode()).handler)
    except Misconfigured as error:
        return Ready(ok=False, why=error.detail)
    except (KeyError, msgspec.ValidationError) as error:
        return Ready(ok=False, why=f"PENSTOCK_APP can't be read: {error}")
    why = _threads() or _devices()
    _rehearse()
    gc.collect()
    gc.freeze()
    return Ready(ok=not why, why=why)


class Template:
    """Forks workers on request, and tells of their ends; a plain loop over `select`."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._heard = b""
        self._workers: dict[int, str] = {}  # pid: uid
        self._select = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()

    def run(self) -> None:
        """Serve until the socket closes or SIGTERM comes; the workers live on."""
        for end in (self._woken, self._waker):
            end.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno())
        for number in SIGNALS:
            signal.signal(number, lambda *_: None)  # its number on the wakeup socket says enough
        self._select.register(self._line, selectors.EVENT_READ, self._hear)
        self._select.register(self._woken, selectors.EVENT_READ, self._wake)
        with suppress(ConnectionError):  # whoever listened is gone, and so are we
            going = True
            while going:
                for key, _ in self._select.select():
                    going = key.data() and going

    def _hear(self) -> bool:
        """Take in what was said; False once the socket has closed."""
        data = self._line.recv(65536)
        *lines, self._heard = (self._heard + data).split(b"\n")
        for text in lines:
            self._fork(_decode(text))
        return bool(data)

    def _wake(self) -> bool:
        """Take in signals; False if one asks us to end."""
        told = set(self._woken.recv(4096))
        for pid in list(self._workers):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                self._say(Ended(uid=self._workers.pop(pid), pid=pid, code=code))
        return not told & {signal.SIGTERM, signal.SIGINT}

    def _fork(self, order: Fork) -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()  # or the worker would write it again
        pid = os.fork()
        if pid == 0:
            end_after(lambda: self._become(order))
        self._workers[pid] = order.uid
        self._say(Forked(uid=order.uid, pid=pid))

    def _say(self, reply: Forked | Ended) -> None:
        self._line.sendall(encode(reply) + b"\n")

    def _become(self, order: Fork) -> int:
        """Be a worker in the fresh child, which keeps nothing of the template but its modules."""
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        self._select.close()
        for end in (self._line, self._woken, self._waker):
            end.close()
        _redirect(order.log)
        _reseed()
        gc.enable()
        env = os.environ  # noqa: TID251  # wiring reads the environment
        env.update(order.env)
        return serve(order.uid, env)


def _redirect(log: str) -> None:
    """Make the log file stdout and stderr, and stdin empty."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    lines = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((nothing, 0), (lines, 1), (lines, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(lines)


def _reseed() -> None:
    """Give NumPy's global generator a state of its own, as Python does for `random`: else all workers draw the same."""
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()


def _threads() -> str:
    """Say which Python threads the import started, as only the one that forks would live on in a worker."""
    others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    return f"importing the handler started threads: {', '.join(others)}" if others else ""


def _devices() -> str:
    """Say whether the import has touched a GPU, as a context on one does not survive a fork."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return "importing the handler initialised CUDA"
    for entry in Path("/proc/self/fd").glob("*"):
        with suppress(OSError):
            if str(entry.readlink()).startswith("/dev/nvidia"):
                return "importing the handler opened a GPU"
    return ""


def _rehearse() -> None:
    """Load what Python would load at a worker's first steps."""
    "localhost".encode("idna")


if __name__ == "__main__":
    main()
