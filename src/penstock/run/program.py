"""`penstock`: the client's verbs and the roles' verbs in one program, and the environment that they may read."""

from __future__ import annotations

import os
from typing import Final

from penstock.cli import table
from penstock.cli.lazy import LazyGroup, Verb
from penstock.cli.root import assemble
from penstock.cli.session import Session

__all__ = ["main", "program"]

_SERVE: Final = {
    "up": Verb("penstock.run.up:up", "Start everything on this machine"),
    "serve": Verb("penstock.run.up:serve", "Start a process with some of the roles"),
    "migrate": Verb("penstock.run.migrate:migrate", "Bring the ledger's schema up to date"),
    "worker": Verb("penstock.run.by_hand:worker", "Start one worker by hand"),
    "run": Verb("penstock.run.local:run", "Run a handler here, without a server"),
    "doctor": Verb("penstock.run.doctor:doctor", "Check every backend for real"),
}
_SETTINGS: Final = {"config": Verb("penstock.run.config:config", "Choose among servers; check a process's settings")}


def program() -> LazyGroup:
    """Give the whole program as a click command."""
    settings = {**table.SETTINGS, **_SETTINGS}
    return assemble({"This machine": _SERVE, "Apps": table.APPS, "Runs": table.RUNS, "Settings": settings})


def main() -> None:
    """Run the program with this process's arguments and environment, and end the process."""
    program().main(prog_name="penstock", obj=Session(os.environ))  # noqa: TID251  # wiring reads the environment


if __name__ == "__main__":
    main()
