"""`penstock worker`: the door for those who start a worker themselves."""

from __future__ import annotations

import os

import click

__all__ = ["worker"]


@click.command()
@click.option("--uid", metavar="UID", help="The worker's uid.  [default: PENSTOCK_WORKER_UID]")
def worker(uid: str | None) -> None:
    r"""Start one worker by hand, as a supervisor or a container's entry point does.

    \b
    PENSTOCK_API           the gateway's address
    PENSTOCK_WORKER_TOKEN  the worker's token
    PENSTOCK_APP           the app's spec as JSON
    PENSTOCK_WORKER_UID    the worker's uid

    It leases runs until it is idle for idleExitSeconds or gets SIGTERM. Exit code 78 means that it can't start as
    told; the last line of its log says why.
    """
    from penstock.worker.exits import end_process

    from .worker import serve

    # The very environment, for the worker takes its token out of it.
    end_process(serve(uid, os.environ))  # noqa: TID251  # wiring reads the environment
