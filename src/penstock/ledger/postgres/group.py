"""Applying a group: lock what it names in one order that is always the same, then go by kind, then save the counters.

The order of locks: pins, workers, runs, new keys, then the rows of the book, then lines, then shares. Leases and sweeps
pass over what is locked. So groups of several processes wait for each other, at most, and don't deadlock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

from penstock.errors import PenstockError
from penstock.ledger import commands as c

from . import accept, attempts, book, counters, lease, pins, repair, workers
from .moves import hold_found
from .transaction import Transaction

__all__ = ["apply"]

Duty = Callable[[Transaction, Sequence[Any]], Awaitable[Iterable[Any]]]
Command = c.Command[Any]

_DUTIES: Final[tuple[tuple[type[Command], Duty], ...]] = (
    (c.Accept, accept.accept),
    (c.Again, accept.again),
    (c.Gap, repair.gap),
    (c.Extend, attempts.extend),
    (c.Checkpoint, attempts.checkpoint),
    (c.Settle, attempts.settle),
    (c.Cancel, attempts.cancel),
    (c.Clear, attempts.clear),
    (c.Fail, attempts.fail),
    (c.Mend, repair.mend),
    (c.AddWorker, workers.add_worker),
    (c.NoteWorker, workers.note_worker),
    (c.SeeWorkers, workers.see_workers),
    (c.EndWorker, workers.end_worker),
    (c.GrantExit, workers.grant_exit),
    (c.TakePin, pins.take_pin),
    (c.KeepPin, pins.keep_pin),
    (c.Lease, lease.lease),
    (c.TakeLead, book.take_lead),
    (c.Remember, book.remember),
    (c.Audit, book.audit),
)
_DUTY_OF: Final = dict(_DUTIES)
_PLACE_OF: Final = {kind: place for place, kind in enumerate(_DUTY_OF)}


async def apply(tx: Transaction, commands: Sequence[Command]) -> list[Any | PenstockError]:
    """Apply commands inside the open transaction and give their outcomes in order.

    Raises what PostgreSQL or a bug raised; then nothing of the group may be kept.
    """
    by_kind: dict[type[Any], list[int]] = {}
    for place, command in enumerate(commands):
        by_kind.setdefault(type(command), []).append(place)
    await _hold(tx, commands)
    outcomes: list[Any] = [None] * len(commands)
    for kind in sorted(by_kind, key=_PLACE_OF.__getitem__):
        places = by_kind[kind]
        found = await _DUTY_OF[kind](tx, [commands[place] for place in places])
        for place, outcome in zip(places, found, strict=True):
            outcomes[place] = outcome
    await counters.save(tx)
    return outcomes


_NAMES_A_RUN: Final = (c.Settle, c.Extend, c.Checkpoint, c.Cancel, c.Fail)
_NAMES_A_WORKER: Final = (c.EndWorker, c.GrantExit, c.NoteWorker)


async def _hold(tx: Transaction, commands: Sequence[Command]) -> None:
    """Lock what the group names, in order, and take its runs in the hand."""
    await pins.lock(tx, _pins(commands))
    locked = await tx.begin(
        new_runs=sum(isinstance(command, (c.Accept, c.Again)) for command in commands),
        workers=set(_workers(commands)),
        run_ids={command.run_id for command in commands if isinstance(command, _NAMES_A_RUN)},
        ending={command.uid for command in commands if isinstance(command, c.EndWorker)},
    )
    await hold_found(tx, locked)


def _pins(commands: Sequence[Command]) -> Iterable[c.Pin]:
    for command in commands:
        if isinstance(command, (c.Accept, c.TakePin, c.KeepPin)) and command.pin is not None:
            yield command.pin


def _workers(commands: Sequence[Command]) -> Iterable[str]:
    for command in commands:
        if isinstance(command, c.Lease):
            yield command.worker_uid
        elif isinstance(command, c.SeeWorkers):
            yield from command.uids
        elif isinstance(command, _NAMES_A_WORKER):
            yield command.uid
