"""What a process driver and a warm template process say to each other, one JSON value a line over a socket pair.

A template has imported one app's handler and forks workers from itself, so a start costs milliseconds. It is told to
fork and told nothing else; when its socket closes it exits and its workers live on.
"""

from __future__ import annotations

import msgspec

__all__ = ["Ended", "Fork", "Forked", "Ready", "decode_reply", "encode"]


class Fork(msgspec.Struct, frozen=True, tag="fork"):
    """To the template: start a worker of this uid with these variables, writing to this log file."""

    uid: str
    env: dict[str, str]
    log: str


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """From the template, once: whether it may fork (`why` not: the import failed, or it started threads)."""

    ok: bool
    why: str = ""


class Forked(msgspec.Struct, frozen=True, tag="forked"):
    """From the template: a worker lives."""

    uid: str
    pid: int


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """From the template: a worker ended; a negative code is the number of the signal."""

    uid: str
    pid: int
    code: int


decode_reply = msgspec.json.Decoder(Ready | Forked | Ended).decode
encode = msgspec.json.Encoder().encode
