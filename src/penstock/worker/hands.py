"""What a replica has in hand: attempts that run or wait to, and endings that the broker has not confirmed yet."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from penstock.model.run import Outcome, Reason
from penstock.model.wire import Assignment, SettleItem

from .current import CurrentRun
from .ending import Ending
from .handler import OCTETS

__all__ = ["Call", "Hands", "Held", "overdue", "settle_item"]

Key = tuple[str, int]  # run id and epoch

SETTLE_AT_ONCE: Final = 256  # endings in one call: with inline results of 32 KiB, 8 MiB


@dataclass(eq=False, slots=True)
class Held:
    """One attempt in hand. `deadline_at` is on the monotonic clock."""

    assignment: Assignment
    run: CurrentRun
    deadline_at: float
    waiting: bool = False  # its body is here, and it waits for a place to run
    dropped: bool = False  # nobody wants its result any more, or it was reported already
    told: tuple[float, str] | None = None  # the progress that the broker knows

    @property
    def key(self) -> Key:
        """Its run id and epoch."""
        return self.assignment.run_id, self.assignment.epoch

    def drop(self) -> None:
        """Take no result of it any more, and tell its handler."""
        self.dropped = True
        self.run.cancel()


@dataclass(eq=False, slots=True)
class Call:
    """One call of `predict` that goes on now. Cancelling its task ends it only if it `cancels`; a thread goes on."""

    members: Sequence[Held]
    task: asyncio.Task[None]
    cancels: bool
    unwanted_at: float | None = None  # when its last member was dropped


class Hands:
    """The book of what is in hand. It does nothing by itself, so it can't be wrong about time or the network."""

    def __init__(self) -> None:
        self.held: dict[Key, Held] = {}  # in a round: fetched, waiting, running or stored
        self.rounds = 0  # micro-batches on their way
        self.calls: set[Call] = set()
        self.at_once = SETTLE_AT_ONCE  # endings in one report
        self._finished: list[SettleItem] = []
        self._unconfirmed: dict[Key, SettleItem] = {}  # finished, or sent and not answered

    def take(self, held: Held) -> None:
        """Note an attempt that was leased."""
        self.held[held.key] = held

    def begin(self) -> None:
        """Note that a round begins."""
        self.rounds += 1

    def leave(self, members: Iterable[Held]) -> None:
        """Note that a round is over."""
        self.rounds -= 1
        for member in members:
            self.held.pop(member.key, None)

    def finish(self, held: Held, item: SettleItem) -> None:
        """Note how an attempt ended; nothing is noted for one that was dropped."""
        if held.dropped:
            return
        self._finished.append(item)
        self._unconfirmed[held.key] = item

    def report(self) -> tuple[SettleItem, ...]:
        """Give endings to be sent now; they stay unconfirmed until `confirm`, or come back by `unsent`."""
        sent, self._finished = self._finished[: self.at_once], self._finished[self.at_once :]
        return tuple(sent)

    def unsent(self, items: Iterable[SettleItem]) -> None:
        """Note that the broker did not answer, so they must be sent again."""
        self._finished[:0] = [item for item in items if (item.run_id, item.epoch) in self._unconfirmed]

    def confirm(self, items: Iterable[SettleItem]) -> None:
        """Note that the broker answered for these."""
        for item in items:
            self._unconfirmed.pop((item.run_id, item.epoch), None)

    def give_up(self, items: Iterable[SettleItem]) -> None:
        """Drop endings that the broker will never take."""
        keys = {(item.run_id, item.epoch) for item in items}
        self._finished = [item for item in self._finished if (item.run_id, item.epoch) not in keys]
        for key in keys:
            self._unconfirmed.pop(key, None)

    def amend(self, item: SettleItem) -> None:
        """Report an attempt otherwise than before."""
        self._finished.insert(0, item)
        self._unconfirmed[item.run_id, item.epoch] = item

    def forget(self, key: Key) -> bool:
        """Drop an attempt that is lost or cancelled, and its ending if that was not sent yet; tells if there was any."""
        held = self.held.get(key)
        if held is not None:
            held.drop()
        unsent = [item for item in self._finished if (item.run_id, item.epoch) == key]
        self.give_up(unsent)
        return held is not None or bool(unsent)

    @property
    def finished(self) -> int:
        """How many endings wait to be sent."""
        return len(self._finished)

    @property
    def unconfirmed(self) -> int:
        """How many endings the broker has not confirmed."""
        return len(self._unconfirmed)

    @property
    def alone(self) -> bool:
        """Whether a run is held that nothing may be taken beside."""
        return len(self.held) == 1 and next(iter(self.held.values())).assignment.alone

    def unconfirmed_items(self) -> list[SettleItem]:
        """Give the endings that the broker has not confirmed: their leases must live until then."""
        return list(self._unconfirmed.values())


def settle_item(assignment: Assignment, ending: Ending, *, result_key: str | None = None) -> SettleItem:
    """Give an ending as it is reported: its result inline, or the key under which it was uploaded."""
    result = ending.result
    return SettleItem(
        run_id=assignment.run_id,
        epoch=assignment.epoch,
        token=assignment.token,
        outcome=ending.outcome,
        reason=ending.reason,
        message=ending.message,
        result=result.data if result and result_key is None else None,
        result_key=result_key,
        result_size=len(result.data) if result and result_key else 0,
        content_type=result.content_type if result else OCTETS,
        encoding=result.encoding if result else "",
        retry_after=ending.retry_after,
    )


def overdue(held: Held) -> SettleItem:
    """Give the report of an attempt that was still at work at its deadline."""
    late = Ending(Outcome.FAILED, Reason.DEADLINE_EXCEEDED, "the attempt was still at work at its run deadline")
    return settle_item(held.assignment, late)
