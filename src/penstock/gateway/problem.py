"""Refusals and failures as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from math import ceil
from types import MappingProxyType
from typing import Final

import msgspec

from penstock.errors import Exceeded, Invalid, PenstockError, TooLarge, Unauthenticated, Unavailable
from penstock.model.documents import Problem
from penstock.model.run import Reason, Run, State

from .asgi import HeaderPair
from .refusals import HeadTooLarge, MethodNotAllowed, UnsatisfiableRange
from .reply import NO_STORE, Reply

__all__ = ["MEDIA_TYPE", "OURS", "end_status", "ended", "from_error", "type_of", "unforeseen"]

MEDIA_TYPE: Final = "application/problem+json"
OURS: Final = HTTPStatus.INTERNAL_SERVER_ERROR

_TYPE: Final[HeaderPair] = (b"content-type", MEDIA_TYPE.encode())
_encode: Final = msgspec.json.Encoder().encode
_END_STATUS: Final = MappingProxyType(
    {
        Reason.INVALID_INPUT: HTTPStatus.UNPROCESSABLE_ENTITY,
        Reason.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
        Reason.QUEUE_EXPIRED: HTTPStatus.GATEWAY_TIMEOUT,
    }
)
_EXTRA: Final[MappingProxyType[type[PenstockError], Callable[..., HeaderPair]]] = MappingProxyType(
    {
        MethodNotAllowed: lambda error: (b"allow", ", ".join(error.allowed).encode()),
        UnsatisfiableRange: lambda error: (b"content-range", b"bytes */%d" % error.size),
        Exceeded: lambda error: (b"retry-after", b"%d" % max(1, ceil(error.retry_after))),
        Unavailable: lambda _: (b"retry-after", b"1"),
        Unauthenticated: lambda _: (b"www-authenticate", b"Bearer"),
    }
)
"""The header that must go with an error."""


def type_of(code: str) -> str:
    """Give the URI that names a kind of problem."""
    return f"urn:penstock:problem:{code.lower().replace('_', '-')}"


def from_error(error: PenstockError, request_id: bytes) -> Reply:
    """Give the problem of a foreseen error. After a body that was too large the connection is closed."""
    extra = [make(error) for kind, make in _EXTRA.items() if isinstance(error, kind)]
    return _reply(
        Problem(
            type=type_of(error.code),
            title=error.title,
            status=error.status,
            detail=error.detail,
            code=error.code,
            request_id=request_id.decode("latin-1"),
            retryable=error.retryable,
            errors=error.errors if isinstance(error, Invalid) else (),
        ),
        *extra,
        close=isinstance(error, TooLarge | HeadTooLarge),
    )


def unforeseen(request_id: bytes) -> Reply:
    """Give the problem of a bug of ours: nothing of it but the id by which it stands in our log."""
    return _reply(
        Problem(
            type=type_of("INTERNAL"),
            title="Something went wrong",
            status=OURS,
            detail="this is our fault; the log of the gateway tells more under this request's id",
            code="INTERNAL",
            request_id=request_id.decode("latin-1"),
            retryable=False,
        )
    )


def ended(run: Run, request_id: bytes, *more: HeaderPair) -> Reply:
    """Give the problem of a run that ended without a result; its code is the run's reason."""
    status = end_status(run)
    return _reply(
        Problem(
            type=type_of(run.reason or run.state),
            title=f"The run {run.state.lower()}" if run.state is State.FAILED else "The run was cancelled",
            status=status,
            detail=run.message or f"the run ended {run.state}" + (f": {run.reason}" if run.reason else ""),
            code=run.reason or run.state,
            request_id=request_id.decode("latin-1"),
            retryable=False,
            run_id=run.id,
            ticket=run.key,
            state=run.state,
        ),
        *more,
    )


def end_status(run: Run) -> int:
    """Give the HTTP status that tells how a run ended without a result."""
    if run.state is State.CANCELLED:
        return HTTPStatus.GONE
    return _END_STATUS.get(run.reason or Reason.HANDLER_ERROR, HTTPStatus.INTERNAL_SERVER_ERROR)


def _reply(problem: Problem, *more: HeaderPair, close: bool = False) -> Reply:
    return Reply(problem.status, [_TYPE, NO_STORE, *more], _encode(problem), close=close)
