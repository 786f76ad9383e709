"""Warm processes that have imported an app's handler, from which its workers are forked.

    absent --request--> warming --Ready(ok)--> warm --another spec or file--> retired --last worker ended--> gone
                           |                     |---idle, no workers--------------------------------------> gone
                           `--Ready(not ok), died: the app's workers start fresh until its spec or file changes

A template gets no credential; each worker's comes with its `Fork`.
"""

from __future__ import annotations

import asyncio
import hashlib
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from penstock.errors import PenstockError, Unavailable
from penstock.model.app import App, WorkerType, encode
from penstock.model.forking import Ended, Fork, Forked, Ready, decode_reply
from penstock.model.forking import encode as encode_request
from penstock.model.ids import Clock

from ._environment import handler_file
from ._exits import Exits
from ._kin import Kin, identify, send
from ._start import Program, start

__all__ = ["Births", "Template", "Templates"]

FORK_S: Final = 10.0  # a template that takes longer is stuck
LINGER_S: Final = 1.0  # for what a dead template said last, and for one to go that was asked to


class Births(NamedTuple):
    """Who is told, in order and at once, what a template says of its workers."""

    forked: Callable[[str, int], None]  # a worker's uid and pid: it lives
    ended: Callable[[str, int], None]  # a worker's uid and exit code, negative for a signal


class Key(msgspec.Struct, frozen=True):
    """What a template was made from; anything else needs another template."""

    spec: bytes
    file: tuple[int, int] = (0, 0)  # the handler file's time of change in ns, and its size


class Template:
    """One warm process, seen from the outside."""

    def __init__(self, key: Key, births: Births) -> None:
        self.key = key
        self.workers: set[str] = set()
        self.used_at = 0.0  # monotonic
        self.ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._retired = False
        self._gone = asyncio.Event()
        self._births = births
        self._asked: dict[str, asyncio.Future[None]] = {}
        self._kin: Kin | None = None
        self._writer: asyncio.StreamWriter | None = None

    @property
    def open(self) -> bool:
        """Whether workers may be asked of it, now or once it is ready."""
        return not self._retired

    @property
    def warm(self) -> bool:
        """Whether it answers at once."""
        return self.open and self.ready.done() and self.ready.result().ok

    async def live(self, program: Program, exits: Exits) -> None:
        """Start the process and listen to it until it is gone."""
        why = "its socket closed"
        try:
            await self._listen(await self._start(program, exits))
        except PenstockError as error:
            why = str(error)
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            why = f"it said something unheard of: {error}"
        self._lost(why)
        if self._kin is not None:
            await self._leave()

    async def fork(self, uid: str, env: dict[str, str], log: Path) -> None:
        """Have a worker forked; `forked` was called before this returns.

        Raises `Unavailable` if the template died or is stuck; the worker may be there nevertheless.
        """
        assert self._writer is not None, "only a warm template is asked"
        asked = self._asked[uid] = asyncio.get_running_loop().create_future()
        self.workers.add(uid)
        self._writer.write(encode_request(Fork(uid, env, str(log))) + b"\n")
        try:
            async with asyncio.timeout(FORK_S):
                await asked
        except TimeoutError:
            self._kill()
            raise Unavailable("the template is stuck") from None
        finally:
            del self._asked[uid]

    def retire(self) -> None:
        """Ask it for no more workers; it goes with its last one, for only it can learn their exit codes."""
        self._retired = True
        if not self.workers:
            self.close()

    def close(self) -> None:
        """Let it go: it exits when its socket closes, and its workers live on."""
        self._retired = True
        if self._writer is not None:
            self._writer.close()
        if not self.ready.done():
            self._kill()  # it is busy importing and would not look at its socket for long

    async def _start(self, program: Program, exits: Exits) -> asyncio.StreamReader:
        ours, theirs = socket.socketpair()
        with theirs:
            number = theirs.fileno()
            command = [*program.command, "--fd", str(number)]
            try:
                pid = await start(msgspec.structs.replace(program, command=command, pass_fds=(number,)))
            except BaseException:
                ours.close()
                raise
        reader, self._writer = await asyncio.open_unix_connection(sock=ours)
        self._kin = identify(pid)
        if self._kin is None:  # pragma: no cover # a child that nobody collected keeps its number
            raise Unavailable("the template vanished")
        exits.watch(self._kin, self._exited)
        if self._retired:
            self.close()
        return reader

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            self._hear(decode_reply(line))

    def _hear(self, reply: Ready | Forked | Ended) -> None:
        match reply:
            case Ready():
                if not self.ready.done():
                    self.ready.set_result(reply)
            case Forked(uid, pid):
                self._births.forked(uid, pid)
                if (asked := self._asked.get(uid)) and not asked.done():
                    asked.set_result(None)
            case Ended(uid, _, code):
                self.workers.discard(uid)
                self._births.ended(uid, code)
                if self._retired and not self.workers:
                    self.close()

    def _exited(self, _code: int | None) -> None:
        self._gone.set()
        assert self._writer is not None, "it is watched once it is connected"
        # Its last words may be unread. A worker that kept its end of the socket open must not keep us listening.
        asyncio.get_running_loop().call_later(LINGER_S, self._writer.close)

    def _lost(self, why: str) -> None:
        self._retired = True
        self.workers.clear()
        if not self.ready.done():
            self.ready.set_result(Ready(ok=False, why=why))
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(Unavailable(f"the template died: {why}"))
        if self._writer is not None:
            self._writer.close()

    async def _leave(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                await self._gone.wait()
        self._kill()
        await self._gone.wait()

    def _kill(self) -> None:
        if self._kin is not None:
            send(self._kin, signal.SIGKILL)


class Templates:
    """The templates of all apps: at most one for each that may be asked."""

    def __init__(
        self, program: Callable[[App], Program], births: Births, *, exits: Exits, clock: Clock, idle_s: float
    ) -> None:
        self._program = program
        self._births = births
        self._exits = exits
        self._clock = clock
        self._idle_s = idle_s
        self._current: dict[str, Template] = {}
        self._refused: dict[str, Key] = {}
        self._lives: dict[Template, asyncio.Task[None]] = {}

    def request(self, app: App, generation: int) -> Template | None:
        """Give the app's template, started if need be; None where its workers must start fresh."""
        if not app.worker.fork_server or not app.handler or app.worker.type is WorkerType.SIDECAR:
            return None
        key = key_of(app, generation)
        if self._refused.get(app.name) == key:
            return None
        template = self._current.get(app.name)
        if template is None or not template.open or template.key != key:
            template = self._replace(app, key)
        template.used_at = self._clock.monotonic()
        return template

    def tend(self) -> None:
        """Let those go that had no worker for the idle time."""
        now = self._clock.monotonic()
        for name, template in tuple(self._current.items()):
            if template.workers:
                template.used_at = now
            elif now - template.used_at >= self._idle_s:
                del self._current[name]
                template.retire()

    async def close(self) -> None:
        """Let all go, and wait until they went; their workers live on."""
        for template in self._lives:
            template.close()
        await asyncio.gather(*self._lives.values())
        self._current.clear()

    def _replace(self, app: App, key: Key) -> Template:
        if (before := self._current.get(app.name)) is not None:
            before.retire()
        template = self._current[app.name] = Template(key, self._births)
        self._refused.pop(app.name, None)
        self._lives[template] = asyncio.create_task(self._live(app, template))
        return template

    async def _live(self, app: App, template: Template) -> None:
        template.ready.add_done_callback(lambda ready: self._note(app.name, template, ready.result()))
        await template.live(self._program(app), self._exits)
        del self._lives[template]
        if self._current.get(app.name) is template:
            del self._current[app.name]

    def _note(self, name: str, template: Template, ready: Ready) -> None:
        """Remember that an app can't be forked, unless the template was given up for another reason."""
        if not ready.ok and self._current.get(name) is template:
            self._refused[name] = template.key
            template.close()


def key_of(app: App, generation: int) -> Key:
    """Give what a template for this app would be made from just now."""
    spec = hashlib.sha256(b"%d/%s" % (generation, encode(app))).digest()
    if (path := handler_file(app)) is not None:
        with suppress(OSError):
            seen = path.stat()
            return Key(spec, (seen.st_mtime_ns, seen.st_size))
    return Key(spec)
