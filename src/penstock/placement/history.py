"""What the planner remembers of an app from one tick to the next: its recent peak, its last scale-up, its crashes.

All of it is a value that the planner is given and gives back; none of it is needed to be right after a restart, when
it is recalled from the ledger's workers as well as they tell it.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Final

import msgspec
from msgspec.structs import replace

from penstock.model.fleet import Worker, WorkerState
from penstock.model.placement import Phase
from penstock.model.run import Reason

__all__ = [
    "CRASHES_TO_OPEN",
    "Circuit",
    "Fall",
    "History",
    "demanded",
    "forgot_peaks",
    "never_came_up",
    "peak",
    "proved",
    "recalled",
    "started",
    "with_end",
    "with_refusal",
]

CRASHES_TO_OPEN: Final = 3
_FIRST_BACKOFF_S: Final = 10.0
_LONGEST_BACKOFF_S: Final = 600.0


class Circuit(msgspec.Struct, frozen=True, gc=False):
    """How many workers of one generation ended in a row before their first lease, and what the last of them said."""

    generation: int = 0
    crashes: int = 0
    crashed_at: float = -inf
    reason: Reason = Reason.HELD
    message: str = ""

    @property
    def tripped(self) -> bool:
        """Whether starts are held back: none until `retry_at`, then one at a time until one proves itself."""
        return self.crashes >= CRASHES_TO_OPEN

    @property
    def retry_at(self) -> float:
        """When the next worker may probe: 10 s after the third crash, then doubling up to 10 minutes."""
        beyond = min(self.crashes - CRASHES_TO_OPEN, 30)
        return self.crashed_at + min(_LONGEST_BACKOFF_S, _FIRST_BACKOFF_S * 2.0**beyond)


class Fall(msgspec.Struct, frozen=True, gc=False):
    """Until `at`, the demand was `demand`; then it was lower."""

    at: float
    demand: int


class History(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is remembered of one app. `owed` counts workers that died in service and may be replaced without waiting."""

    demand: int = 0
    falls: tuple[Fall, ...] = ()  # newest last, each lower than the one before
    scaled_up_at: float = -inf
    owed: int = 0
    circuit: Circuit = Circuit()
    phase: Phase = Phase.READY
    reason: Reason | None = None


# ------------------------------------------------------------------ peaks


def demanded(history: History, demand: int, now: float) -> History:
    """Give the history after a tick that saw this demand; the same object when nothing changed."""
    before = history.demand
    if demand == before:
        return history
    if demand > before:
        higher = tuple(fall for fall in history.falls if fall.demand > demand)
        return replace(history, demand=demand, falls=higher)
    return replace(history, demand=demand, falls=(*history.falls, Fall(now, before)))


def peak(history: History, now: float, window_s: float) -> tuple[History, int]:
    """Give the highest demand of the last `window_s` seconds, and the history without what is older."""
    falls = history.falls
    if not falls:
        return history, history.demand
    recent = tuple(fall for fall in falls if now - fall.at < window_s)
    if len(recent) != len(falls):
        history = replace(history, falls=recent)
    return history, recent[0].demand if recent else history.demand


def forgot_peaks(history: History) -> History:
    """Give the history of an app with no work left: no peak is held for it."""
    return replace(history, falls=()) if history.falls else history


# ------------------------------------------------------------------ starts and ends


def started(history: History, count: int, now: float) -> History:
    """Give the history after `count` workers were started: what was owed first, the rest was a scale-up."""
    paid = min(count, history.owed)
    return replace(history, owed=history.owed - paid, scaled_up_at=now if count > paid else history.scaled_up_at)


def never_came_up(worker: Worker) -> bool:
    """Tell whether an ended worker failed before it was ever given a run.

    One that was lost with its machine says nothing about the app, nor does one that was told to go.
    """
    return worker.state is WorkerState.FAILED and not worker.leases


def with_end(history: History, worker: Worker, now: float) -> History:
    """Give the history after a worker ended, `worker` being its last record."""
    if never_came_up(worker):
        return replace(history, circuit=_crashed(history.circuit, worker, now))
    circuit = history.circuit
    if worker.leases and worker.spec_generation == circuit.generation and (worker.ready_at or 0.0) > circuit.crashed_at:
        history = replace(history, circuit=Circuit(generation=circuit.generation))
    if worker.state is not WorkerState.EXITED:
        history = replace(history, owed=history.owed + 1)
    return history


def with_refusal(history: History, worker: Worker, now: float) -> History:
    """Give the history after a worker was refused for good where it was to start: more tries at once are pointless."""
    crashed = _crashed(history.circuit, worker, now)
    return replace(history, circuit=replace(crashed, crashes=max(crashed.crashes, CRASHES_TO_OPEN)))


def proved(history: History, generation: int, last_ready_at: float) -> History:
    """Give the history with a closed circuit if the app's generation is new, or a worker took work since the crash."""
    circuit = history.circuit
    if circuit.crashes == 0 or (generation == circuit.generation and last_ready_at <= circuit.crashed_at):
        return history
    return replace(history, circuit=Circuit(generation=generation))


def recalled(workers: Iterable[Worker]) -> History:
    """Give the history of an app as its workers' records tell it, in any order."""
    history = History()
    for worker in sorted(workers, key=lambda worker: worker.ended_at or inf):
        history = replace(history, scaled_up_at=max(history.scaled_up_at, worker.started_at))
        if worker.ended_at is not None:
            history = with_end(history, worker, worker.ended_at)
    return replace(history, owed=0)


def _crashed(circuit: Circuit, worker: Worker, now: float) -> Circuit:
    generation, reason = worker.spec_generation, _known(worker.reason)
    if generation < circuit.generation:
        return circuit  # an old generation's failure says nothing about the present one
    if generation > circuit.generation:
        return Circuit(generation, 1, now, reason, worker.message)
    if circuit.tripped and now < circuit.retry_at:
        # It was started beside those that opened the circuit, and tells nothing that they did not.
        return replace(circuit, reason=reason, message=worker.message)
    return Circuit(generation, circuit.crashes + 1, now, reason, worker.message)


def _known(reason: str) -> Reason:
    """Give what a compute driver said as one of the words that a run may wait for."""
    return Reason(reason) if reason in Reason.__members__ else Reason.HELD
