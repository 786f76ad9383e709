"""The client, for programs that run an event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final, Self, Unpack
from urllib.parse import quote

import msgspec

from penstock.errors import Unavailable
from penstock.model.documents import (
    CancelledDocument,
    ExplanationDocument,
    Pending,
    Redriven,
    RunDocument,
    RunEventDocument,
    RunPage,
    RunsQuery,
    Whoami,
    WorkerDocument,
    WorkerPage,
)
from penstock.model.ids import Randomness
from penstock.model.run import State

from .apps import AsyncApps
from .failures import Unfinished
from .patience import Patience
from .streams import ServerEvent, server_events
from .tickets import Answer, Input, Ticket, Wishes, packed
from .transport import Request, Response, Transport

__all__ = ["AsyncClient"]

_LONGEST_WAIT_S: Final = 60.0
_ENDED: Final = frozenset(state.lower() for state in (State.SUCCEEDED, State.FAILED, State.CANCELLED))


class AsyncClient:
    """Runs and apps of one server. Use it in `async with`, or `close` it.

    Every call raises `penstock.errors.PenstockError`: the server's refusals as the classes it raised, `Unreachable`
    when nothing answers. What is safe to repeat is repeated with growing pauses, and a Retry-After is heeded.
    """

    def __init__(
        self,
        api: str = "http://127.0.0.1:8080",
        *,
        token: str | None = None,
        api_key: str | None = None,
        patience: Patience | None = None,
        connections: int = 100,
        random: Randomness = os.urandom,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        credentials = {"Authorization": f"Bearer {token}"} if token else {}
        if api_key:
            credentials["X-API-Key"] = api_key
        self._transport = Transport(
            api,
            credentials=credentials,
            patience=patience or Patience(),
            connections=connections,
            random=random,
            sleep=sleep,
        )
        self._sleep = sleep
        self.apps = AsyncApps(self._transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; a second call does nothing."""
        await self._transport.close()

    # -------------------------------------------------------------- submit and wait

    async def submit(self, app: str, data: Input = b"", **wishes: Unpack[Wishes]) -> Ticket:
        """Hand an input in, and give the ticket of its run, with the answer if that came within the wait.

        Raises `RunFailed` or `RunCancelled` when the run ended so within the wait.
        """
        body, content_type = packed(data, wishes.get("rid"))
        headers = {"Content-Type": wishes.get("content_type", content_type), **_headers(wishes)}
        answer = await self._transport.send(
            Request(
                method="POST",
                path=f"/v1/{quote(app, safe='')}/infer",
                headers=headers,
                body=body,
                wait_s=wishes.get("wait", 10.0),
                repeatable="idempotency_key" in wishes or "rid" in wishes,
            )
        )
        return _ticket(app, answer)

    async def result(self, ticket: Ticket, *, wait: float | None = None) -> Answer:
        """Give the result of a run, waiting for it up to `wait` seconds (None: until it ends).

        Raises `Unfinished` when the time is over, `RunFailed` or `RunCancelled` when there is no result, `Gone` when
        it was purged.
        """
        loop = asyncio.get_running_loop()
        until = None if wait is None else loop.time() + wait
        while ticket.answer is None:
            left = _LONGEST_WAIT_S if until is None else max(0.0, min(_LONGEST_WAIT_S, until - loop.time()))
            began = loop.time()
            answer = await self._poll(_path_of(ticket), left)
            ticket = _ticket(ticket.app, answer, ticket)
            if ticket.answer is None:
                if until is not None and loop.time() >= until - 0.001:
                    raise Unfinished(answer.decode(Pending))
                if loop.time() - began < min(1.0, left):  # it did not wait as it was asked: don't press it
                    await self._sleep(ticket.retry_after)
        return ticket.answer

    async def run(self, app: str, data: Input = b"", **wishes: Unpack[Wishes]) -> Answer:
        """Hand an input in and give its result; `wait` bounds the whole (not said: until it ends). Raises as `result`."""
        loop = asyncio.get_running_loop()
        wait = wishes.get("wait")
        until = None if wait is None else loop.time() + wait
        at_once = Wishes(**wishes)
        at_once["wait"] = min(_LONGEST_WAIT_S, _LONGEST_WAIT_S if wait is None else wait)
        ticket = await self.submit(app, data, **at_once)
        return await self.result(ticket, wait=None if until is None else max(0.0, until - loop.time()))

    async def status(self, app: str, ticket: str) -> Ticket:
        """Give where a run stands, with its answer if it has one. Raises `NotFound`, `Gone`, and as `result`."""
        return _ticket(app, await self._poll(_status_path(app, ticket), 0.0))

    async def cancel(self, app: str, ticket: str) -> CancelledDocument:
        """Cancel a run for all who wait for it. Raises `Conflict` when it has ended."""
        answer = await self._transport.send(Request(method="DELETE", path=_status_path(app, ticket)))
        return answer.decode(CancelledDocument)

    async def _poll(self, path: str, wait_s: float) -> Response:
        headers = {"Prefer": f"wait={-(-wait_s // 1):.0f}"} if wait_s > 0 else {}
        return await self._transport.send(Request(method="GET", path=path, headers=headers, wait_s=wait_s))

    # -------------------------------------------------------------- runs

    async def get(self, run_id: str) -> RunDocument:
        """Give the full record of a run."""
        return (await self._transport.send(Request(method="GET", path=_run_path(run_id)))).decode(RunDocument)

    async def runs(self, *, most: int | None = None, **wanted: Any) -> AsyncGenerator[RunDocument]:
        """Give runs, newest first, at most `most`. `wanted` are the fields of `RunsQuery`: app, state, tag, since ..."""
        query = _query(RunsQuery(**wanted), limit=min(most or 200, 200))
        given = 0
        while True:
            page = (await self._transport.send(Request(method="GET", path="/v1/runs", query=query))).decode(RunPage)
            for run in page.items:
                yield run
                given += 1
                if given == most:
                    return
            if page.next is None:
                return
            query["after"] = page.next

    async def cancel_run(self, run_id: str, message: str = "") -> CancelledDocument:
        """Cancel a run by its id. Raises `Conflict` when it has ended."""
        body = msgspec.json.encode({"message": message})
        request = Request(method="POST", path=_run_path(run_id, "cancel"), headers=_JSON, body=body)
        return (await self._transport.send(request)).decode(CancelledDocument)

    async def retry(self, run_id: str, *, idempotency_key: str | None = None) -> RunDocument:
        """Start a FAILED run anew with the same body, and give the run of its new generation."""
        answer = await self._transport.send(_keyed(_run_path(run_id, "retry"), None, idempotency_key))
        return answer.decode(RunDocument)

    async def redrive(self, *, idempotency_key: str | None = None, **wanted: Any) -> int:
        """Retry every FAILED run that matches (the fields of `RunsQuery`); gives how many."""
        body = msgspec.json.encode(RunsQuery(**wanted))
        answer = await self._transport.send(_keyed("/v1/runs/redrive", body, idempotency_key))
        return answer.decode(Redriven).count

    async def explain(self, run_id: str) -> ExplanationDocument:
        """Give why a run waits or failed, gate by gate."""
        answer = await self._transport.send(Request(method="GET", path=_run_path(run_id, "explain")))
        return answer.decode(ExplanationDocument)

    async def events(self, run_id: str, *, after: str | None = None) -> AsyncGenerator[RunEventDocument]:
        """Give what happened to a run and what happens, to its end; a stream that breaks is taken up where it broke."""
        failed, kind = 0, ""
        while kind not in _ENDED:
            headers = {"Last-Event-ID": after} if after else {}
            request = Request(method="GET", path=_run_path(run_id, "events"), headers=headers)
            try:
                async with self._transport.stream(request) as body, aclosing(server_events(body.iter_any())) as events:
                    async for event in events:
                        failed, after, kind = 0, event.id, event.type
                        yield _event(event)
                if not kind or kind in _ENDED:
                    return
                raise Unavailable("the server let go of the stream before the run had ended")  # noqa: TRY301  # as a break
            except Unavailable:
                failed += 1
                pause = self._transport.pause(failed)
                if pause is None:
                    raise
                await self._sleep(pause)

    # -------------------------------------------------------------- about the server

    async def workers(self, *, app: str | None = None, state: str | None = None) -> tuple[WorkerDocument, ...]:
        """Give the live workers, newest first, or those of a state."""
        query = {key: value for key, value in (("app", app), ("state", state)) if value is not None}
        query["limit"] = "200"
        return (
            (await self._transport.send(Request(method="GET", path="/v1/workers", query=query)))
            .decode(WorkerPage)
            .items
        )

    async def whoami(self) -> Whoami:
        """Give who the server takes this client for."""
        return (await self._transport.send(Request(method="GET", path="/v1/whoami"))).decode(Whoami)

    async def version(self) -> str:
        """Give the server's version."""
        found = (await self._transport.send(Request(method="GET", path="/version"))).decode(dict[str, str])
        return found["version"]

    async def schema(self) -> dict[str, Any]:
        """Give the JSON Schema of an app's YAML."""
        return (await self._transport.send(Request(method="GET", path="/v1/schema"))).decode(dict[str, Any])


_JSON: Final = {"Content-Type": "application/json"}


def _headers(wishes: Wishes) -> dict[str, str]:
    named = {
        "Prefer": _prefer(wishes.get("wait")),
        "Penstock-Priority": wishes.get("priority"),
        "Penstock-Deadline": wishes.get("deadline"),
        "Penstock-Tag": wishes.get("tag"),
        "Penstock-Parent": wishes.get("parent"),
        "Penstock-Webhook": wishes.get("webhook"),
        "Idempotency-Key": wishes.get("idempotency_key"),
    }
    return {name: str(value) for name, value in named.items() if value is not None}


def _prefer(wait: float | None) -> str | None:
    if wait is None:
        return None
    return "respond-async" if wait <= 0 else f"wait={-(-wait // 1):.0f}"


def _ticket(app: str, answer: Response, known: Ticket | None = None) -> Ticket:
    reused = answer.headers.get("penstock-rid-reused") == "true"
    if answer.status == 202:
        pending = answer.decode(Pending)
        return Ticket(
            app=app,
            ticket=known.ticket if known else pending.ticket,
            run_id=pending.run_id,
            state=pending.state,
            retry_after=pending.retry_after,
            position=pending.position,
            eta=pending.eta,
            status_url=pending.status_url,
            rid_reused=reused,
        )
    run_id = answer.headers.get("penstock-run-id", "")
    return Ticket(
        app=app,
        ticket=known.ticket if known else answer.headers.get("penstock-ticket", ""),
        run_id=run_id,
        state=State.SUCCEEDED,
        rid_reused=reused,
        answer=Answer(
            data=answer.body,
            content_type=answer.headers.get("content-type", "application/octet-stream"),
            run_id=run_id,
            cache=answer.headers.get("penstock-cache", ""),
        ),
    )


def _keyed(path: str, body: bytes | None, key: str | None) -> Request:
    headers = {} if body is None else _JSON
    if key is not None:
        headers = {**headers, "Idempotency-Key": key}
    return Request(method="POST", path=path, headers=headers, body=body, repeatable=key is not None)


def _event(event: ServerEvent) -> RunEventDocument:
    data = msgspec.json.decode(event.data)
    return msgspec.convert({"id": event.id, "type": event.type, "at": data.pop("at"), "data": data}, RunEventDocument)


def _query(wanted: RunsQuery, limit: int) -> dict[str, str]:
    return {key: str(value) for key, value in msgspec.to_builtins(wanted).items()} | {"limit": str(limit)}


def _path_of(ticket: Ticket) -> str:
    return _status_path(ticket.app, ticket.ticket) if ticket.ticket else _run_path(ticket.run_id, "result")


def _status_path(app: str, ticket: str) -> str:
    return f"/v1/{quote(app, safe='')}/status/{quote(ticket, safe='')}"


def _run_path(run_id: str, verb: str = "") -> str:
    return f"/v1/runs/{quote(run_id, safe='')}" + (f"/{verb}" if verb else "")
