"""The serving face: submit and wait, ask again, cancel."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

from penstock.errors import Conflict, Gone, Invalid
from penstock.ledger.commands import Acceptance, Accepted, Pin
from penstock.model.documents import CancelledDocument, Eta, Pending
from penstock.model.run import Payload, Run, State
from penstock.serving import Submission

from . import problem
from .asgi import HeaderPair
from .body import read
from .call import Call
from .encoding import inflate, inflated, takes_gzip
from .pins import pin_key
from .prefer import Preference, preference
from .reply import JSON, NO_STORE, Reply, document, encode, safe_value
from .wishes import wishes

__all__ = ["answer", "cancel", "infer", "status"]

_CACHE: Final[dict[Acceptance, HeaderPair]] = {
    Acceptance.HIT: (b"penstock-cache", b"hit"),
    Acceptance.JOINED: (b"penstock-cache", b"joined"),
    Acceptance.CREATED: (b"penstock-cache", b"miss"),
}
_REUSED: Final[HeaderPair] = (b"penstock-rid-reused", b"true")
_GZIP: Final[HeaderPair] = (b"content-encoding", b"gzip")
_VARY: Final[HeaderPair] = (b"vary", b"accept-encoding")
# A result is a user's bytes on our origin: a browser may show it, and must not run it.
_SANDBOX: Final[HeaderPair] = (b"content-security-policy", b"sandbox; default-src 'none'")
_OCTETS: Final = b"application/octet-stream"
_AT_ONCE: Final = 256 * 1024


async def infer(call: Call) -> Reply:
    """`POST /v1/{app}/infer`: the result if it comes in time, else a ticket."""
    services = call.services
    app = (await services.catalog.seek(call.params["app"])).app
    prefer = preference(call.headers.get(b"prefer"))
    asked = wishes(call)
    body = await read(call, app.max_body_bytes)
    accepted = await services.intake.accept(
        Submission(
            tenant=call.tenant,
            app=app.name,
            body=body,
            content_type=call.text(b"content-type") or "application/octet-stream",
            priority=asked.priority,
            queue_ttl_s=asked.queue_ttl_s,
            tag=asked.tag,
            parent=asked.parent,
            webhook=asked.webhook,
            traceparent=asked.traceparent,
            pin=_pin(call, app.name, body),
        )
    )
    call.meters.submitted(accepted.how)
    if accepted.how is Acceptance.MISMATCH:
        raise Invalid("this Idempotency-Key came with another body before; use a fresh key for a new request")
    run = accepted.run
    if not run.terminal:
        wait_s = services.settings.t_sync_s if prefer.wait_s is None else prefer.wait_s
        run = await services.intake.settled(run, wait_s, fresh=accepted.how is Acceptance.CREATED)
    return await answer(call, run, _CACHE[accepted.how], *_notes(prefer, accepted, body))


def _pin(call: Call, app: str, body: bytes) -> Pin | None:
    key = pin_key(call)
    return None if key is None else Pin(f"{call.tenant} POST /v1/{app}/infer", key, hashlib.sha256(body).hexdigest())


def _notes(prefer: Preference, accepted: Accepted, body: bytes) -> list[HeaderPair]:
    notes: list[HeaderPair] = [(b"preference-applied", prefer.applied)] if prefer.applied else []
    run = accepted.run
    # A key that is its body's own digest can't stand for another body.
    if accepted.how is not Acceptance.CREATED and run.key != run.sha256 != hashlib.sha256(body).hexdigest():
        notes.append(_REUSED)
    return notes


async def status(call: Call) -> Reply:
    """`GET /v1/{app}/status/{ticket}`: the same answer as `infer` gives, now or within `Prefer: wait=N`."""
    intake = call.services.intake
    prefer = preference(call.headers.get(b"prefer"))
    run = await intake.find(call.tenant, call.params["app"], call.params["ticket"])
    if prefer.wait_s and not run.terminal:
        run = await intake.settled(run, prefer.wait_s)
    notes: list[HeaderPair] = [(b"penstock-state", run.state.encode())]
    if prefer.applied:
        notes.append((b"preference-applied", prefer.applied))
    return await answer(call, run, *notes)


async def cancel(call: Call) -> Reply:
    """`DELETE /v1/{app}/status/{ticket}`: cancelled at once, for all who joined."""
    intake = call.services.intake
    run = await intake.find(call.tenant, call.params["app"], call.params["ticket"])
    run = (await intake.cancel(run)).run or run
    if run.state is not State.CANCELLED:
        raise Conflict(f"the run ended {run.state} before it could be cancelled")
    return document(
        CancelledDocument(ticket=run.key, run_id=run.id, state=run.state, reason=run.reason, message=run.message)
    )


async def answer(call: Call, run: Run, *notes: HeaderPair) -> Reply:
    """Give what is to be said of a run: its result, how it ended without one, or where to ask again."""
    known = ((b"penstock-run-id", run.id.encode()), (b"penstock-ticket", run.key.encode()))
    if run.purged_at is not None:
        raise Gone("the result was kept for its time and has been removed; submit the input again for a new one")
    if run.state is State.SUCCEEDED and run.result is not None:
        return await _result(call, run.result, *known, *notes)
    if run.terminal:
        return problem.ended(run, call.request_id, *known, *notes)
    return await _pending(call, run, *known, *notes)


async def _result(call: Call, result: Payload, *notes: HeaderPair) -> Reply:
    headers = [(b"content-type", safe_value(result.content_type, _OCTETS)), _SANDBOX, *notes]
    packed = result.encoding == "gzip"
    keep = not packed
    if packed:
        headers.append(_VARY)
        if keep := takes_gzip(call.headers.get(b"accept-encoding")):
            headers.append(_GZIP)
    if result.size <= _AT_ONCE:
        data = await call.services.intake.read(result)
        return Reply(200, headers, data if keep else inflate(data))
    chunks = call.services.intake.stream(result)
    if not keep:
        return Reply(200, headers, inflated(chunks))
    return Reply(200, [*headers, (b"content-length", b"%d" % result.size)], _each(chunks))


async def _pending(call: Call, run: Run, *notes: HeaderPair) -> Reply:
    waiting = await call.services.intake.waiting(run)
    url = call.url(f"/v1/{run.app}/status/{run.key}")
    body = Pending(
        ticket=run.key,
        run_id=run.id,
        state=run.state,
        retry_after=waiting.retry_after,
        eta_seconds=waiting.eta.p50,
        eta=Eta(waiting.eta.p50, waiting.eta.p90),
        position=waiting.position,
        status_url=url,
    )
    retry = (b"retry-after", b"%d" % waiting.retry_after)
    return Reply(202, [JSON, NO_STORE, retry, (b"location", url.encode()), *notes], encode(body))


async def _each(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    async for chunk in chunks:
        yield chunk
