"""One replica: the process that holds a loaded handler and runs the loop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from typing import Final, NamedTuple

from penstock.errors import Misconfigured
from penstock.model.ids import Clock, Randomness

from .broker import Broker
from .ending import Limits
from .exits import Exit, end_process
from .handler import Handler
from .loading import resolve
from .log import event
from .loop import Loop, slots_of
from .post import Post
from .predict import Predictor, is_concurrent

__all__ = ["Ears", "run_replica"]


def _ignore(*_: object) -> None:
    """Do nothing."""


class Ears(NamedTuple):
    """Who listens to a replica: its launcher, if it has one."""

    loaded: Callable[[], None] = _ignore  # the handler is loaded
    served: Callable[[], None] = _ignore  # the broker took reports
    renewed: Callable[[str], None] = _ignore  # there is a fresh token
    gone: int | None = None  # a descriptor that reads as ended once the launcher is gone


NOBODY: Final = Ears()


def run_replica(post: Post, *, clock: Clock, random: Randomness, ears: Ears = NOBODY) -> Exit:
    """Load the handler, then work until there is a reason to leave; gives the reason. Must own the main thread."""
    signal.signal(signal.SIGTERM, _end_at_once)  # nothing is held yet
    signal.signal(signal.SIGINT, _end_at_once)
    try:
        handler = resolve(post.app.handler)()
    except Misconfigured as error:
        event("can't load", logging.ERROR, detail=error.detail, cause=error.__cause__)
        return Exit.CONFIG
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a constructor may raise anything
        return _unloadable(error)
    return asyncio.run(_serve(post, handler, clock=clock, random=random, ears=ears))


async def _serve(post: Post, handler: Handler, *, clock: Clock, random: Randomness, ears: Ears) -> Exit:
    slots = slots_of(post, handler, concurrent=is_concurrent(handler))
    limits = Limits(post.app.results.max_result_bytes, post.inline_max_bytes)
    predictor = Predictor(handler, limits, slots=slots)
    began = clock.monotonic()
    try:
        await predictor.load()
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a model's loading may raise anything
        return _unloadable(error)
    if not await predictor.healthy():
        event("unhealthy", logging.ERROR, detail="the handler is unhealthy as soon as it is loaded")
        return Exit.UNHEALTHY
    event("loaded", seconds=round(clock.monotonic() - began, 3))
    ears.loaded()
    async with Broker(post.api, post.token, renewed=ears.renewed) as broker:
        loop = Loop(post, broker, predictor, clock=clock, random=random, served=ears.served)
        _heed_signals(loop, post.grace_s, ears)
        reason = await loop.run()
    predictor.close()
    event("exit", why=reason.name.lower(), code=int(reason))
    return reason


def _heed_signals(loop: Loop, grace_s: float, ears: Ears) -> None:
    """Leave on SIGTERM within the grace, on a second one at once, and when the launcher is gone right away."""
    here = asyncio.get_running_loop()
    told = False

    def heed() -> None:
        nonlocal told
        loop.leave(Exit.DONE, 0.0 if told else grace_s)
        told = True

    for number in (signal.SIGTERM, signal.SIGINT):
        here.add_signal_handler(number, heed)
    if ears.gone is not None:
        here.add_reader(ears.gone, os._exit, 1)


def _unloadable(error: BaseException) -> Exit:
    detail = f"the handler can't be loaded: {type(error).__name__}: {error}"
    event("can't load", logging.ERROR, detail=detail, cause=error)
    return Exit.CONFIG


def _end_at_once(*_: object) -> None:
    end_process(Exit.DONE)
