"""A loop at work in the test's own process, against the pretend broker over real HTTP."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from penstock.model.app import App, Deadlines, Results, Worker
from penstock.run.clock import SystemClock
from penstock.worker.broker import Broker
from penstock.worker.ending import Limits
from penstock.worker.exits import Exit
from penstock.worker.handler import Handler
from penstock.worker.loop import Loop, slots_of
from penstock.worker.post import Post
from penstock.worker.predict import Predictor, is_concurrent
from pretend_broker import PretendBroker


@pytest.fixture(autouse=True)
def _log_at_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "penstock.worker")


@pytest.fixture
async def broker() -> AsyncIterator[PretendBroker]:
    async with PretendBroker() as pretend:
        yield pretend


class Serving:
    """A replica at work; `exit` gives its reason to leave."""

    def __init__(self, loop: Loop, task: asyncio.Task[Exit]) -> None:
        self.loop = loop
        self.task = task

    async def exit(self, within: float = 20.0) -> Exit:
        async with asyncio.timeout(within):
            return await asyncio.shield(self.task)


@pytest.fixture
async def serve(broker: PretendBroker) -> AsyncIterator[Callable[..., Any]]:
    """Give a function that puts a handler to work; app fields as keywords of `Worker`, the post's as `post`."""
    serving: list[tuple[Serving, Predictor, Broker]] = []

    async def serve(
        handler: Handler,
        *,
        put_concurrency: int = 8,
        lease_s: float = 30.0,
        max_result_bytes: int = 1 << 20,
        post: dict[str, Any] | None = None,
        **worker: Any,
    ) -> Serving:
        app = App(
            name="test",
            worker=Worker(**{"idle_exit_seconds": 30.0, **worker}),
            deadlines=Deadlines(lease_seconds=lease_s),
            results=Results(max_result_bytes=max_result_bytes),
        )
        app = msgspec.structs.replace(
            app, scaling=msgspec.structs.replace(app.scaling, put_concurrency=put_concurrency)
        )
        place = Post(uid="w-test", app=app, api=broker.url, token="first", **(post or {}))
        predictor = Predictor(
            handler,
            Limits(max_result_bytes, place.inline_max_bytes),
            slots=slots_of(place, handler, concurrent=is_concurrent(handler)),
        )
        await predictor.load()
        line = Broker(place.api, place.token)
        await line.__aenter__()
        loop = Loop(place, line, predictor, clock=SystemClock(), random=os.urandom)
        started = Serving(loop, asyncio.create_task(loop.run()))
        serving.append((started, predictor, line))
        return started

    yield serve
    for started, predictor, line in serving:
        started.loop.leave(Exit.DONE, 0.0)
        with suppress(asyncio.CancelledError, BaseExceptionGroup):  # a test has looked at it
            await started.exit()
        predictor.close()
        await line.__aexit__()
