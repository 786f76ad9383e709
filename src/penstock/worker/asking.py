"""What to ask the broker for next. Pure: it looks at what is in hand and at the time it is given, and decides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from penstock.model.app import App
from penstock.model.wire import LeaseReply

from .hands import Hands, Held
from .pace import QUICK, Pace

__all__ = ["Ask", "Asking", "Rest", "lacking", "micro_batches"]

POLL_S: Final = 20.0  # the longest a question stays open


class Ask(NamedTuple):
    """Report what has finished and ask for `max` runs, waiting up to `wait_s` seconds; with `max` 0 only report."""

    max: int
    wait_s: float


class Rest(NamedTuple):
    """Ask nothing until something in hand changes, for `seconds` at most (None: for ever)."""

    seconds: float | None


class Asking:
    """Decides when to ask, for how much, and when this replica has idled or worked long enough."""

    def __init__(self, app: App, pace: Pace, now: float, *, slots: int) -> None:
        self._pace = pace
        self._slots = slots
        self._batch_size = app.worker.batch_size
        self._idle_exit = app.worker.idle_exit_seconds
        self._max_runs = app.worker.max_runs
        self._taken = 0
        self._backlog = False  # the last question was answered in full, so more is likely to wait
        self._drain_first = False  # a run that must be alone waits for us to hold nothing
        self._rested = False
        self._idle_since: float | None = now

    def plan(self, hands: Hands, now: float) -> Ask | Rest:
        """Give the next step.

        With nothing else in hand the question may stay open, as nothing can finish meanwhile. Otherwise a report goes
        out at once and its question is answered at once; a question that stays open is asked only for a free slot,
        and not while calls so short are going on that one is about to report anyway.
        """
        free, ahead = self._free(hands), self._ahead(hands)
        if hands.finished > hands.at_once:
            return Ask(0, 0.0)
        room = max(free, ahead)  # what is taken together with more is soon done
        if not hands.held:
            self.emptied(now)
            return Ask(room, self._patience(now)) if room or hands.finished else Rest(None)
        if hands.finished:
            return Ask(room, 0.0)
        if not free:
            return Ask(ahead, 0.0) if ahead and self._backlog else Rest(None)
        if self._pace.quick and not self._backlog and not self._rested:
            self._rested = True
            return Rest(QUICK)
        return Ask(free, min(POLL_S, self._idle_exit))

    def note(self, ask: Ask, reply: LeaseReply) -> None:
        """Take in an answer."""
        self._rested = False
        if ask.max:
            self._drain_first = reply.drain_first
            self._backlog = len(reply.attempts) >= ask.max
        if reply.attempts:
            self._taken += len(reply.attempts)
            self._idle_since = None

    def emptied(self, now: float) -> None:
        """Note that nothing is in hand."""
        if self._idle_since is None:
            self._idle_since = now

    def idled(self, now: float) -> bool:
        """Tell whether nothing came for `idleExitSeconds`."""
        return self._idle_since is not None and now - self._idle_since >= self._idle_exit

    def stay(self, now: float) -> None:
        """Count the idle time afresh, as leave was refused."""
        self._idle_since = now

    @property
    def spent(self) -> bool:
        """Whether `maxRuns` were taken."""
        return bool(self._max_runs) and self._taken >= self._max_runs

    def _patience(self, now: float) -> float:
        idle = 0.0 if self._idle_since is None else now - self._idle_since
        return max(0.0, min(POLL_S, self._idle_exit - idle))

    def _free(self, hands: Hands) -> int:
        """Give how many runs would start at once."""
        return self._limited(hands, (self._slots - hands.rounds) * self._batch_size)

    def _ahead(self, hands: Hands) -> int:
        """Give how many runs are worth having before there is a slot for them."""
        return self._limited(hands, self._pace.ahead - len(hands.held))

    def _limited(self, hands: Hands, room: int) -> int:
        if hands.alone or (self._drain_first and hands.held):
            return 0
        return max(0, min(room, self._max_runs - self._taken) if self._max_runs else room)


def micro_batches(members: Iterable[Held], size: int, *, mix_tenants: bool) -> list[list[Held]]:
    """Give the calls that a lease is worked off by: at most `size` runs each, of one tenant unless they may mix."""
    groups: dict[str, list[Held]] = {}
    for member in members:
        groups.setdefault("" if mix_tenants else member.assignment.tenant, []).append(member)
    return [group[start : start + size] for group in groups.values() for start in range(0, len(group), size)]


def lacking(members: Sequence[Held], size: int) -> int:
    """Give how many runs a micro-batch of `size` lacks; 0 for a full one, and beside a run that must be alone."""
    if not members or any(member.assignment.alone for member in members):
        return 0
    return max(0, size - len(members))
