"""Applying a group: by kind, in one order that is always the same, so what is settled or accepted can be leased at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from penstock.errors import PenstockError
from penstock.ledger import commands as c

from . import accept, book, cancel, lease, repair, settle, workers
from .transaction import Transaction

__all__ = ["apply"]

Duty = Callable[[Transaction, Sequence[Any]], Iterable[Any]]

_DUTIES: Final[tuple[tuple[type[c.Command[Any]], Duty], ...]] = (
    (c.Accept, accept.accept),
    (c.Again, accept.again),
    (c.Gap, repair.gap),
    (c.Extend, settle.extend),
    (c.Checkpoint, settle.checkpoint),
    (c.Settle, settle.settle),
    (c.Cancel, cancel.cancel),
    (c.Clear, cancel.clear),
    (c.Fail, cancel.fail),
    (c.Mend, repair.mend),
    (c.AddWorker, workers.add_worker),
    (c.NoteWorker, workers.note_worker),
    (c.SeeWorkers, workers.see_workers),
    (c.EndWorker, workers.end_worker),
    (c.GrantExit, workers.grant_exit),
    (c.Remember, book.remember),
    (c.Audit, book.audit),
    (c.TakeLead, book.take_lead),
    (c.TakePin, book.take_pin),
    (c.KeepPin, book.keep_pin),
    (c.Lease, lease.lease),
)
_DUTY_OF: Final = dict(_DUTIES)
_PLACE_OF: Final = {kind: place for place, kind in enumerate(_DUTY_OF)}


def apply(tx: Transaction, commands: Sequence[c.Command[Any]]) -> list[Any | PenstockError]:
    """Apply commands inside the open transaction and give their outcomes in order.

    Raises what SQLite or a bug raised; then nothing of the group may be kept.
    """
    by_kind: dict[type[Any], list[int]] = {}
    for place, command in enumerate(commands):
        by_kind.setdefault(type(command), []).append(place)
    outcomes: list[Any] = [None] * len(commands)
    for kind in sorted(by_kind, key=_PLACE_OF.__getitem__):
        places = by_kind[kind]
        found = _DUTY_OF[kind](tx, [commands[place] for place in places])
        for place, outcome in zip(places, found, strict=True):
            outcomes[place] = outcome
    tx.lines.save(tx.db)
    return outcomes
