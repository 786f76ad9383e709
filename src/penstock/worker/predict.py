"""One call of a handler for a micro-batch: decode, predict, and find the culprit if it raises."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Container, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

from penstock.model.run import Outcome, Reason

from .current import CurrentRun, working_on
from .ending import Ending, Limits, ended_by, pack, released, succeeded
from .handler import Handler

__all__ = ["Item", "Predictor", "is_concurrent"]

ResultT = TypeVar("ResultT")

PACK_IN_THREAD: Final = 256 * 1024  # bytes; compressing more would hold up the loop's heartbeats
HandlerFault = BaseException  # a handler that calls sys.exit(), or raises what nobody should, ends its call alone


class Item(NamedTuple):
    """One input of a micro-batch, and the run it belongs to."""

    body: bytes
    content_type: str
    run: CurrentRun


@dataclass(frozen=True, slots=True)
class _Part:
    """Some of a micro-batch, to be predicted by one call."""

    inputs: list[Any]
    runs: list[CurrentRun]


@dataclass(frozen=True, slots=True)
class _Raised:
    error: BaseException


_Steps = Generator[_Part, Any, list[Ending]]


class Predictor:
    """A loaded handler that takes micro-batches and gives an ending for each item, whatever the handler does.

    A synchronous `predict` runs in `slots` threads of its own, so heartbeats go on; an async one on the loop.
    """

    def __init__(self, handler: Handler, limits: Limits, *, slots: int) -> None:
        self.handler = handler
        self.concurrent = is_concurrent(handler)
        self._limits = limits
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix="predict")

    async def load(self) -> None:
        """Call the handler's `load`, in the thread that will call `predict`; what it raises is passed on."""
        loaded = self.handler.load() if self.concurrent else await self._threaded(self.handler.load)
        if isinstance(loaded, Awaitable):
            await loaded

    async def healthy(self) -> bool:
        """Tell whether the handler's `health` neither raises nor gives False."""
        try:
            said = self.handler.health() if self.concurrent else await self._threaded(self.handler.health)
        except Exception:  # noqa: BLE001  # raising means unhealthy, whatever is raised
            return False
        return said is not False

    async def call(self, batches: Sequence[Sequence[Item]]) -> tuple[list[Ending], float]:
        """Give an ending for each item of some micro-batches, in order, and the seconds that a micro-batch took.

        Each is one call of `predict`, one after the other; together they cost one switch of threads. Never raises for
        the handler.
        """
        if not self.concurrent:
            return await self._threaded(self._work, batches)
        began = time.monotonic()
        endings = await self._work_async(batches)
        return await self._packed(endings), (time.monotonic() - began) / len(batches)

    def close(self) -> None:
        """Let idle threads go; one that is stuck in `predict` is left alone."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _threaded(self, function: Callable[..., ResultT], *arguments: Any) -> ResultT:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def _work(self, batches: Sequence[Sequence[Item]]) -> tuple[list[Ending], float]:
        began = now = time.monotonic()
        longest = 0.0
        steps = _steps(self.handler, batches)
        try:
            part = next(steps)
            while True:
                answer = self._predict(part)
                before, now = now, time.monotonic()
                longest = max(longest, now - before)
                part = steps.send(answer)
        except StopIteration as end:
            endings: list[Ending] = end.value
        packed = [pack(ending, self._limits) for ending in endings]
        return packed, max(longest, (time.monotonic() - began) / len(batches))

    def _predict(self, part: _Part) -> Any:
        with working_on(part.runs):
            try:
                return self.handler.predict(part.inputs)
            except HandlerFault as error:
                return _Raised(error)

    async def _work_async(self, batches: Sequence[Sequence[Item]]) -> list[Ending]:
        steps = _steps(self.handler, batches)
        try:
            part = next(steps)
            while True:
                part = steps.send(await self._predict_async(part))
        except StopIteration as end:
            endings: list[Ending] = end.value
            return endings

    async def _predict_async(self, part: _Part) -> Any:
        with working_on(part.runs):
            try:
                return await self.handler.predict(part.inputs)  # type: ignore[misc]  # `concurrent` says it is awaitable
            except GeneratorExit:
                raise  # nobody awaits us any more
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise  # we are told to stop; otherwise something within the handler was cancelled
                return _Raised(error)
            except HandlerFault as error:
                return _Raised(error)

    async def _packed(self, endings: list[Ending]) -> list[Ending]:
        size = sum(len(ending.response.body) for ending in endings if ending.response)
        if size <= PACK_IN_THREAD:
            return [pack(ending, self._limits) for ending in endings]
        return [await asyncio.to_thread(pack, ending, self._limits) for ending in endings]


def is_concurrent(handler: Handler) -> bool:
    """Tell whether a handler's `predict` is a coroutine function, so that several calls share the loop's thread."""
    return inspect.iscoroutinefunction(handler.predict)


def _steps(handler: Handler, batches: Sequence[Sequence[Item]]) -> _Steps:
    """Yield what to predict, take what came of it, and return an ending per item.

    A part that raises, or gives anything but an output for each input, is halved until the culprits stand alone: k of
    them among n cost at most 2k log2(n) calls more, and nobody else loses a result.
    """
    items = [item for batch in batches for item in batch]
    endings = [released] * len(items)
    inputs: dict[int, Any] = {}
    for index, item in enumerate(items):
        try:
            inputs[index] = handler.decode(item.body, item.content_type)
        except HandlerFault as error:
            endings[index] = ended_by(error)
    parts = _parts(batches, inputs)
    while parts:
        wanted = parts.pop()
        if all(items[index].run.cancelled for index in wanted):
            continue
        answer = yield _Part([inputs[index] for index in wanted], [items[index].run for index in wanted])
        fault = _fault(answer, len(wanted))
        if fault is not None and len(wanted) > 1:
            middle = len(wanted) // 2
            parts += [wanted[middle:], wanted[:middle]]
        elif fault is not None:
            endings[wanted[0]] = fault
        else:
            for index, output in zip(wanted, answer, strict=True):
                endings[index] = succeeded(handler, output)
    return endings


def _parts(batches: Sequence[Sequence[Item]], inputs: Container[int]) -> list[list[int]]:
    """Give the indices of each micro-batch's items that have an input; the first is at the end, to be popped."""
    parts: list[list[int]] = []
    start = 0
    for batch in batches:
        wanted = [index for index in range(start, start + len(batch)) if index in inputs]
        start += len(batch)
        if wanted:
            parts.append(wanted)
    return parts[::-1]


def _fault(answer: Any, expected: int) -> Ending | None:
    """Give the ending of a part that `predict` gave no outputs for; None when there is one for each input."""
    if isinstance(answer, _Raised):
        return ended_by(answer.error)
    if not isinstance(answer, list | tuple):
        told = f"predict gave a {type(answer).__qualname__}, not a list with an output for each input"
    elif len(answer) != expected:
        told = f"predict gave {len(answer)} outputs for {expected} inputs"
    else:
        return None
    return Ending(Outcome.RETRY, Reason.HANDLER_ERROR, told)
