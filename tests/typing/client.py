"""The client is typed: read by mypy, never run."""

from pathlib import Path
from typing import Any, assert_type

from penstock import AsyncClient, Client
from penstock.client import Answer, RunFailed, Ticket, Unfinished
from penstock.model.documents import (
    AppDocument,
    AppliedDocument,
    CancelledDocument,
    ExplanationDocument,
    RunDocument,
    RunEventDocument,
)
from penstock.model.run import State


async def asynchronous() -> None:
    async with AsyncClient("http://127.0.0.1:8080", token="t") as client:
        ticket = await client.submit("echo", {"x": 1}, wait=0, priority=9, rid="r")
        assert_type(ticket, Ticket)
        assert_type(ticket.answer, Answer | None)
        try:
            answer = await client.result(ticket, wait=2.5)
        except Unfinished as late:
            assert_type(late.pending.position, int)
        except RunFailed as failed:
            assert_type(failed.state, State)
        else:
            assert_type(answer.data, bytes)
            assert_type(answer.json(), Any)
        assert_type(await client.run("echo", Path("image.png")), Answer)
        assert_type([run async for run in client.runs(app="echo", most=3)], list[RunDocument])
        assert_type([event async for event in client.events("id")], list[RunEventDocument])
        assert_type(await client.explain("id"), ExplanationDocument)
        assert_type(await client.apps.apply("name: x", if_match="e"), AppliedDocument)
        await client.submit("echo", b"x", prio=9)  # type: ignore[call-arg]
        await client.submit("echo", b"x", priority="high")  # type: ignore[arg-type]
        await client.submit("echo", 5)  # type: ignore[arg-type]


def blocking() -> None:
    with Client() as client:
        assert_type(client.submit("echo", "text", tag="t"), Ticket)
        assert_type(client.run("echo", [1, 2]), Answer)
        assert_type(client.cancel("echo", "ticket"), CancelledDocument)
        assert_type(list(client.runs()), list[RunDocument])
        assert_type(next(client.apps.list()), AppDocument)
        assert_type(list(client.apps.logs("echo", tail=5)), list[str])
        client.submit("echo", b"x", prio=9)  # type: ignore[call-arg]
