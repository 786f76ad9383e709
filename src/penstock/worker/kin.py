"""What a replica and its launcher share: a line to talk over, and an end together."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from typing import Final

import msgspec

__all__ = ["Loaded", "Renewed", "Served", "die_with_parent", "hear", "tell"]

PR_SET_PDEATHSIG: Final = 1  # prctl(2)


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """The handler is loaded, so the next replica may load."""


class Served(msgspec.Struct, frozen=True, tag="served"):
    """The replica got work done, so the next death is the first of a row."""


class Renewed(msgspec.Struct, frozen=True, tag="renewed"):
    """The broker gave a fresh token."""

    token: str


Note = Loaded | Served | Renewed

_encode: Final = msgspec.json.Encoder().encode
_decoder: Final = msgspec.json.Decoder(Note)


def tell(line: socket.socket, note: Note) -> None:
    """Send a note to the launcher; one that is gone needs none."""
    try:
        line.sendall(_encode(note) + b"\n")
    except OSError:
        return


def hear(line: socket.socket, rest: bytes) -> tuple[list[Note], bytes]:
    """Give the notes that came, and the bytes of one that is not complete yet, to be passed in the next time."""
    try:
        *lines, rest = (rest + line.recv(65536, socket.MSG_DONTWAIT)).split(b"\n")
    except BlockingIOError:
        return [], rest
    except ConnectionError:
        return [], b""
    return [_decoder.decode(text) for text in lines if text], rest


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies (Linux); elsewhere its line tells it."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)
