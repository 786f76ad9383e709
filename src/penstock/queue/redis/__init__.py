"""Queues as streams of Redis 6.2 or newer, or of Valkey: `redis://user:password@host:6379/0?visibility=30`.

`rediss://` speaks TLS. Each queue is one stream; its key holds the queue's name in braces, so that every call is about
one slot of a cluster. `visibility` is after how many seconds an unacknowledged message comes again, `poll` how long
receivers wait between looks where no news came (1 s), `timeout` how long the server may take to answer (5 s), `prefix`
what the keys begin with (`penstock`).
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

from penstock.errors import Misconfigured
from penstock.model.ids import Clock

from .driver import Manners, RedisQueue

__all__ = ["connect"]


def connect(url: str, clock: Clock, environ: Mapping[str, str]) -> RedisQueue:
    """Give the queues on the server that a `redis://` URL names.

    Raises:
        Misconfigured: the URL can't be understood; the message holds no secret of it.
    """
    del environ
    parts = urlsplit(url)
    told = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    database = parts.path.strip("/")
    try:
        manners = Manners(
            float(told.pop("visibility", 30.0)),
            float(told.pop("poll", 1.0)),
            float(told.pop("timeout", 5.0)),
            told.pop("prefix", "penstock"),
        )
    except ValueError:
        manners = Manners(0.0)
    times = (manners.visibility_s, manners.poll_s, manners.answer_s)
    if told or not parts.hostname or not (database or "0").isdecimal() or not all(time > 0 for time in times):
        shown = f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
        raise Misconfigured(f"{shown} names no queue: write redis://host:6379/0?visibility=30")
    return RedisQueue(parts._replace(query="").geturl(), int(database or 0), clock, manners)
