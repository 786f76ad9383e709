"""A harness for tests of handlers: it loads one and calls it as a worker would, without a network or a process.

def test_digits():
    with HandlerHarness(Digits) as digits:
        assert digits.predict({"pixels": [...]})[0].json == {"digit": 7}
        assert digits.predict({})[0].reason == "INVALID_INPUT"
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, Final, Self, TypeVar

import msgspec

from penstock.model.app import App
from penstock.model.app import Worker as WorkerSpec
from penstock.model.ids import Clock
from penstock.worker.current import CurrentRun
from penstock.worker.handler import JSON, OCTETS, TEXT, Handler
from penstock.worker.local import LocalDesk, LocalHandler, LocalResult
from penstock.worker.predict import Item

__all__ = ["HandlerHarness", "LocalResult", "Submitted"]

T = TypeVar("T")

PATIENCE_S: Final = 30.0


class _Now:
    """The machine's time."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


class Submitted:
    """Inputs that a handler works on in the background."""

    def __init__(self, runs: Sequence[CurrentRun], desk: LocalDesk, future: Future[list[LocalResult]]) -> None:
        self._runs = runs
        self._desk = desk
        self._future = future

    def cancel(self, position: int | None = None) -> None:
        """Cancel all runs, or the one at a position: the handler finds `current_run().cancelled` set."""
        for run in self._runs if position is None else [self._runs[position]]:
            run.cancel()

    def stop(self) -> None:
        """Tell the handler that its worker must go: it finds `current_run().stopping` set."""
        for run in self._runs:
            run.stop()

    @property
    def progress(self) -> list[tuple[float, str]]:
        """The progress that the handler has reported so far, and the notes."""
        ids = {run.run_id for run in self._runs}
        return [(fraction, note) for run_id, fraction, note in self._desk.progress if run_id in ids]

    @property
    def checkpoints(self) -> list[bytes]:
        """The checkpoints that the handler has saved so far."""
        ids = {run.run_id for run in self._runs}
        return [data for run_id, data in self._desk.checkpoints if run_id in ids]

    def results(self, timeout: float = PATIENCE_S) -> list[LocalResult]:
        """Give what became of each input, waiting for it.

        Raises:
            TimeoutError: the handler took longer than `timeout` seconds.
        """
        return self._future.result(timeout)


class HandlerHarness:
    """A loaded handler for a test; use it as a context manager.

    Args:
        handler: a Handler class or object, an App whose `handler` is resolved, or a reference as it stands in a spec.
        batch_size: most inputs per call of `predict`; left out, the app's, or as many as are given.
        clock: what `current_run().seconds_left` is reckoned by.
    """

    def __init__(
        self,
        handler: type[Handler] | Handler | App | str,
        *,
        batch_size: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        app = handler if isinstance(handler, App) else App(name="test", worker=WorkerSpec(batch_size=1 << 30))
        if batch_size is not None:
            app = msgspec.structs.replace(app, worker=msgspec.structs.replace(app.worker, batch_size=batch_size))
        if isinstance(handler, str):
            app = msgspec.structs.replace(app, handler=handler)
        made = handler() if isinstance(handler, type) else handler
        self.desk = LocalDesk(clock or _Now())
        self._handler = LocalHandler(app, made if isinstance(made, Handler) else None)
        self._numbers = itertools.count(1)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="harness", daemon=True)

    def __enter__(self) -> Self:
        """Load the handler; what its `load` raises is passed on."""
        self._thread.start()
        try:
            self._await(self._handler.__aenter__())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._await(self._handler.__aexit__())
        self._end()

    def predict(self, *inputs: Any, checkpoint: bytes | None = None) -> list[LocalResult]:
        """Give what becomes of each input, in order."""
        return self.submit(*inputs, checkpoint=checkpoint).results()

    def submit(
        self, *inputs: Any, checkpoint: bytes | None = None, deadline_s: float = 3600.0, tenant: str = "default"
    ) -> Submitted:
        """Have the handler work in the background, so that the test can cancel or look on.

        Args:
            inputs: `dict` and `list` are sent as JSON, `str` as text, `bytes` as they are.
            checkpoint: what the handler finds as `last_checkpoint`.
            deadline_s: seconds that the attempt may take.
            tenant: who owns the runs.
        """
        items = [self._item(value, checkpoint, deadline_s, tenant) for value in inputs]
        future = asyncio.run_coroutine_threadsafe(self._handler.call(items), self._loop)
        return Submitted([item.run for item in items], self.desk, future)

    def healthy(self) -> bool:
        """Tell what the handler's `health` says."""
        return self._await(self._handler.healthy())

    def _item(self, value: Any, checkpoint: bytes | None, deadline_s: float, tenant: str) -> Item:
        run = CurrentRun(
            self.desk,
            run_id=f"test-{next(self._numbers)}",
            deadline=self.desk.wall_clock() + deadline_s,
            tenant=tenant,
            last_checkpoint=checkpoint,
        )
        match value:
            case bytes():
                return Item(value, OCTETS, run)
            case str():
                return Item(value.encode(), TEXT, run)
            case _:
                return Item(msgspec.json.encode(value), JSON, run)

    def _await(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
