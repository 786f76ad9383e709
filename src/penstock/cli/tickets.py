"""Waiting for the run behind a ticket, and what is told meanwhile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec

from .progress import waiting
from .session import Session, say

if TYPE_CHECKING:
    from penstock.client import AsyncClient, Ticket
    from penstock.model.documents import Pending

__all__ = ["awaited", "noted"]

_LOOK_S: Final = 2.0
_LONG_S: Final = 60.0


async def awaited(session: Session, client: AsyncClient, ticket: Ticket, timeout_s: float | None) -> Ticket:
    """Give the ticket with its answer, once the run ends; meanwhile, on a terminal, tell where it stands.

    Raises `Unfinished` when the time is over, `RunFailed` or `RunCancelled` when there is no result.
    """
    from penstock.client import Unfinished

    loop = asyncio.get_running_loop()
    until = None if timeout_s is None else loop.time() + timeout_s
    look_s = _LOOK_S if session.lively else _LONG_S
    with waiting(session, f"run {ticket.run_id} is {ticket.state}") as tell:
        while True:
            left = look_s if until is None else max(0.0, min(look_s, until - loop.time()))
            try:
                answer = await client.result(ticket, wait=left)
            except Unfinished as error:
                if until is not None and loop.time() >= until:
                    raise
                tell(_standing(error.pending))
            except asyncio.CancelledError:
                say(f"The run goes on. Its result: penstock result run/{ticket.run_id} --wait")
                raise
            else:
                return msgspec.structs.replace(ticket, answer=answer)


def noted(ticket: Ticket) -> dict[str, Any]:
    """Give what is known of a ticket as a document; an answer's own bytes are left out."""
    note: dict[str, Any] = {
        "app": ticket.app, "ticket": ticket.ticket, "run_id": ticket.run_id, "state": ticket.state
    }  # fmt: skip
    if ticket.answer is not None:
        return note | {"cache": ticket.answer.cache, "content_type": ticket.answer.content_type} | _said(ticket)
    return note | {"position": ticket.position, "retry_after": ticket.retry_after, "eta": ticket.eta}


def _said(ticket: Ticket) -> dict[str, Any]:
    assert ticket.answer is not None
    try:
        return {"result": ticket.answer.json()}
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {"size": len(ticket.answer.data)}


def _standing(pending: Pending) -> str:
    if pending.state == "RUNNING":
        return f"run {pending.run_id} is RUNNING"
    return f"run {pending.run_id} is {pending.state}, {pending.position} before it, about {pending.eta.p50:.0f} s to go"
