"""A handler run right here, with no server at all: for `penstock run` and for users' tests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, Self

import msgspec

from penstock.errors import Invalid
from penstock.model.app import App
from penstock.model.ids import Clock
from penstock.model.run import Outcome, Reason

from .current import DONE, CurrentRun
from .ending import Ending, Limits
from .handler import OCTETS, Handler
from .loading import resolve
from .predict import Item, Predictor, is_concurrent

__all__ = ["LocalDesk", "LocalHandler", "LocalResult", "run_local"]


class LocalResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one input. `error` is the exception behind a failure, with its traceback."""

    outcome: Outcome
    reason: Reason | None = None
    message: str = ""
    body: bytes = b""
    content_type: str = OCTETS
    retry_after: float | None = None
    error: BaseException | None = None

    @property
    def ok(self) -> bool:
        """Whether there is a result."""
        return self.outcome is Outcome.SUCCEEDED

    @property
    def text(self) -> str:
        """The result as text."""
        return self.body.decode()

    @property
    def json(self) -> Any:
        """The result decoded from JSON."""
        return msgspec.json.decode(self.body)


class LocalDesk:
    """Keeps what handlers report and save, as (run id, value), for whoever looks."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.progress: list[tuple[str, float, str]] = []
        self.checkpoints: list[tuple[str, bytes]] = []

    def wall_clock(self) -> float:
        """Give seconds since 1970."""
        return self._clock.now()

    def progressed(self, run: CurrentRun) -> None:
        """Keep a report of progress."""
        if run.reported is not None:
            self.progress.append((run.run_id, *run.reported))

    def save(self, run: CurrentRun, data: bytes) -> Awaitable[None]:
        """Keep a checkpoint."""
        self.checkpoints.append((run.run_id, data))
        return DONE


class LocalHandler:
    """A loaded handler without a broker; its app says how micro-batches are made and how large results may be."""

    def __init__(self, app: App, handler: Handler | None = None) -> None:
        self._app = app
        self._handler = handler or resolve(app.handler)()
        concurrent = is_concurrent(self._handler)
        slots = app.scaling.put_concurrency if concurrent else max(1, self._handler.concurrency)
        self._predictor = Predictor(self._handler, Limits(app.results.max_result_bytes), slots=slots)

    async def __aenter__(self) -> Self:
        """Load the handler; what its `load` raises is passed on."""
        await self._predictor.load()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._predictor.close()

    async def healthy(self) -> bool:
        """Tell what the handler's `health` says."""
        return await self._predictor.healthy()

    async def call(self, items: Sequence[Item]) -> list[LocalResult]:
        """Give what becomes of some inputs, in micro-batches of the app's `worker.batchSize`."""
        size = self._app.worker.batch_size
        batches = [items[start : start + size] for start in range(0, len(items), size)]
        endings, _ = await self._predictor.call(batches) if batches else ([], 0.0)
        return [_result(ending) for ending in endings]


def run_local(
    app: App, inputs: Sequence[bytes], content_types: Sequence[str] | None = None, *, clock: Clock
) -> list[LocalResult]:
    """Load an app's handler, give what it makes of each input, in order, and let it go.

    Args:
        app: its `handler`, `worker.batchSize` and `results.maxResultBytes` are used.
        inputs: the bodies.
        content_types: of each body; left out, a body that parses as a JSON object is one.
        clock: for the deadlines that handlers may look at.

    Raises:
        Misconfigured: the handler can't be found.
        Invalid: there are not as many content types as inputs.
        Exception: whatever the handler's `load` raised.
    """
    types = [OCTETS] * len(inputs) if content_types is None else content_types
    if len(types) != len(inputs):
        raise Invalid(f"{len(types)} content types were given for {len(inputs)} inputs")
    desk = LocalDesk(clock)
    deadline = clock.now() + app.deadlines.run_deadline_seconds
    items = [
        Item(body, kind, CurrentRun(desk, run_id=f"local-{number}", deadline=deadline))
        for number, (body, kind) in enumerate(zip(inputs, types, strict=True))
    ]
    return asyncio.run(_run(app, items))


async def _run(app: App, items: Sequence[Item]) -> list[LocalResult]:
    async with LocalHandler(app) as handler:
        return await handler.call(items)


def _result(ending: Ending) -> LocalResult:
    result = ending.result
    return LocalResult(
        outcome=ending.outcome,
        reason=ending.reason,
        message=ending.message,
        body=result.body if result else b"",
        content_type=result.content_type if result else OCTETS,
        retry_after=ending.retry_after,
        error=ending.cause,
    )
