"""How a worker ends: the codes it exits with, so that whoever watches it knows why, and the way out."""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum
from typing import NoReturn

__all__ = ["Exit", "end_after", "end_process"]


class Exit(IntEnum):
    """Why a worker or a replica ended; the numbers follow sysexits(3) where one fits."""

    DONE = 0  # it was idle, told to go, or recycled as a whole
    BROKER_LOST = 69  # the broker could not be reached for too long
    UNHEALTHY = 70  # the handler's `health` said no
    CRASHING = 71  # its replicas died again and again
    STUCK = 75  # a call went on past its deadline or its cancellation
    RECYCLED = 76  # a replica is to be replaced after `maxRuns` or `maxLifetimeSeconds`; nothing is wrong
    CONFIG = 78  # the handler can't be found or loaded


def end_after(work: Callable[[], int]) -> NoReturn:
    """Do some work, then end this process with the code it gives; what it raises is shown, and ends it with 1."""
    try:
        code = work()
    except BaseException:  # noqa: BLE001  # a forked child must not return into its parent's frames
        sys.excepthook(*sys.exc_info())
        code = 1
    end_process(code)


def end_process(code: int) -> NoReturn:
    """End this process after its exit hooks have run, without waiting for any thread.

    A thread stuck in `predict`, or one that the handler left behind, would hold up an ordinary exit for ever.
    """
    atexit._run_exitfuncs()  # noqa: SLF001  # as multiprocessing does before it
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code)
