"""The run that a handler is working on, as the handler sees it."""

from __future__ import annotations

from collections.abc import Awaitable, Generator, Sequence
from contextvars import ContextVar
from typing import Final, Protocol

from penstock.model.run import Lane

from .ending import sendable

__all__ = ["DONE", "CurrentRun", "Desk", "current_run", "current_runs", "working_on"]


class Desk(Protocol):
    """What stands behind a current run: the replica's loop, or a test harness."""

    def wall_clock(self) -> float:
        """Give seconds since 1970."""
        ...

    def progressed(self, run: CurrentRun) -> None:
        """Take note that `run.reported` changed. Called from any thread."""
        ...

    def save(self, run: CurrentRun, data: bytes) -> Awaitable[None]:
        """Save a checkpoint: done when this returns if called from a thread, else when it was awaited."""
        ...


class CurrentRun:
    """One run in the hands of a handler.

    Attributes:
        run_id: its id.
        epoch: the number of this attempt: 1, 2, 3 ...
        tenant: who owns it.
        key: its `rid`.
        lane: the lane it came by.
        deadline: when this attempt must be done, in seconds since 1970.
        attempts_left: how many attempts there are, this one included.
        traceparent: the W3C trace context it was submitted with.
        last_checkpoint: what an earlier attempt, or this one, saved last.
        reported: the progress reported last, and its note.
    """

    __slots__ = (
        "_cancelled",
        "_desk",
        "_stopping",
        "attempts_left",
        "deadline",
        "epoch",
        "key",
        "lane",
        "last_checkpoint",
        "reported",
        "run_id",
        "tenant",
        "traceparent",
    )

    def __init__(
        self,
        desk: Desk,
        *,
        run_id: str,
        deadline: float,
        epoch: int = 1,
        tenant: str = "default",
        key: str = "",
        lane: Lane = Lane.INFER,
        attempts_left: int = 1,
        traceparent: str | None = None,
        last_checkpoint: bytes | None = None,
    ) -> None:
        self._desk = desk
        self._cancelled = False
        self._stopping = False
        self.run_id = run_id
        self.deadline = deadline
        self.epoch = epoch
        self.tenant = tenant
        self.key = key
        self.lane = lane
        self.attempts_left = attempts_left
        self.traceparent = traceparent
        self.last_checkpoint = last_checkpoint
        self.reported: tuple[float, str] | None = None

    @property
    def cancelled(self) -> bool:
        """Whether nobody wants the result any more: it was cancelled, its lease was lost, or its deadline passed.

        A synchronous handler that goes on regardless is stopped by ending its process a few seconds later.
        """
        return self._cancelled

    @property
    def stopping(self) -> bool:
        """Whether this worker must go soon: a long run should save a checkpoint and raise `Retry`, uncharged."""
        return self._stopping

    @property
    def seconds_left(self) -> float:
        """The seconds until the deadline; never below 0."""
        return max(0.0, self.deadline - self._desk.wall_clock())

    def progress(self, fraction: float, note: str = "") -> None:
        """Report how much is done, from 0 to 1, with a note for people; costs nothing and is sent in the background."""
        self.reported = (min(1.0, max(0.0, float(fraction))), sendable(str(note)))
        self._desk.progressed(self)

    def checkpoint(self, data: bytes) -> Awaitable[None]:
        """Save bytes from which a later attempt of this run resumes, as its `last_checkpoint`.

        In a synchronous `predict` they are saved when this returns; in an async one, when what it gives was awaited.
        """
        self.last_checkpoint = data
        return self._desk.save(self, data)

    def cancel(self) -> None:
        """Tell the handler that the result is no longer wanted (called by the loop)."""
        self._cancelled = True

    def stop(self) -> None:
        """Tell the handler that the worker must go (called by the loop)."""
        self._stopping = True


_RUNS: Final[ContextVar[tuple[CurrentRun, ...]]] = ContextVar("penstock_current_runs", default=())


def current_runs() -> tuple[CurrentRun, ...]:
    """Give the runs of the micro-batch that `predict` was called with, in its order; empty outside of `predict`."""
    return _RUNS.get()


def current_run() -> CurrentRun:
    """Give the run that `predict` was called with.

    Raises:
        LookupError: there is none here, or the micro-batch holds several (then use `current_runs()`).
    """
    runs = _RUNS.get()
    if len(runs) == 1:
        return runs[0]
    if not runs:
        raise LookupError("no run here: call current_run() inside predict, in the thread or task it was called in")
    raise LookupError(f"predict holds {len(runs)} runs: take current_runs()[i], in the order of the batch")


class working_on:  # noqa: N801  # reads as a statement
    """Make these the current runs for a `with` block; quick, as it is entered for every call of `predict`."""

    __slots__ = ("_runs", "_token")

    def __init__(self, runs: Sequence[CurrentRun]) -> None:
        self._runs = tuple(runs)

    def __enter__(self) -> None:
        self._token = _RUNS.set(self._runs)

    def __exit__(self, *_: object) -> None:
        _RUNS.reset(self._token)


class _Done:
    """An awaitable that is done already, for threads that have waited themselves."""

    __slots__ = ()

    def __await__(self) -> Generator[None]:
        return
        yield  # makes this a generator, which `await` needs


DONE: Final[Awaitable[None]] = _Done()
