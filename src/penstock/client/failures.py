"""What can go wrong between a client and a server, as the errors that the server raised."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType
from typing import Final

import msgspec

from penstock import errors
from penstock.errors import PenstockError, Unavailable
from penstock.model.documents import Pending, Problem
from penstock.model.run import State

__all__ = ["RunCancelled", "RunFailed", "Unfinished", "Unreachable", "from_response"]


class Unreachable(Unavailable):
    """Nothing answers at the address: nothing was sent."""

    code = "UNREACHABLE"
    title = "The server can't be reached"


class Unfinished(PenstockError):
    """The run had not ended within the time that the caller would wait; `pending` says where it stands."""

    code = "UNFINISHED"
    status = 202
    title = "The run has not ended yet"
    retryable = True

    def __init__(self, pending: Pending) -> None:
        super().__init__(f"run {pending.run_id} is {pending.state}; ask again in {pending.retry_after} s")
        self.pending = pending


class RunFailed(PenstockError):
    """The run ended without a result; `code` is its reason, and the detail what its handler said."""

    code = "FAILED"
    title = "The run failed"

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.run_id = problem.run_id or ""
        self.ticket = problem.ticket or ""
        self.state = problem.state or State.FAILED


class RunCancelled(RunFailed):
    """Someone cancelled the run."""

    code = "CANCELLED"
    status = 410
    title = "The run was cancelled"


_BY_STATUS: Final = MappingProxyType(
    {
        400: errors.Malformed,
        401: errors.Unauthenticated,
        403: errors.Forbidden,
        404: errors.NotFound,
        409: errors.Conflict,
        410: errors.Gone,
        413: errors.TooLarge,
        422: errors.Invalid,
        429: errors.Exceeded,
        502: errors.Unavailable,
        503: errors.Unavailable,
        504: errors.Unavailable,
    }
)
_decode: Final = msgspec.json.Decoder(Problem).decode


def from_response(status: int, content_type: str, body: bytes, retry_after: float | None = None) -> PenstockError:
    """Give the error that a refusing answer stands for: of the class that its code names, else its status.

    An answer that is no problem document was given by something else, a proxy as a rule.
    """
    try:
        problem = _decode(body) if content_type.startswith("application/problem+json") else None
    except msgspec.DecodeError:
        problem = None
    if problem is None:
        return _from_status(status, f"the server answered {status} without saying why; is this a Penstock?")
    error = _from_problem(problem, retry_after)
    error.__dict__.update(code=problem.code, status=problem.status, title=problem.title)
    if problem.retryable is not None:
        error.__dict__["retryable"] = problem.retryable
    error.add_note(f"request id: {problem.request_id}")
    return error


def _from_problem(problem: Problem, retry_after: float | None) -> PenstockError:
    if problem.state is not None:
        return RunCancelled(problem) if problem.state is State.CANCELLED else RunFailed(problem)
    kind = _BY_CODE.get(problem.code)
    if kind is None:
        error = _from_status(problem.status, problem.detail)
    elif issubclass(kind, errors.InvalidSpec):
        error = kind([errors.SpecFault(fault.message, fault.pointer) for fault in problem.errors])
        error.detail = problem.detail
    else:
        error = kind(problem.detail)
    if isinstance(error, errors.Invalid):
        error.errors = problem.errors
    if isinstance(error, errors.Exceeded) and retry_after is not None:
        error.retry_after = retry_after
    return error


def _from_status(status: int, detail: str) -> PenstockError:
    kind: type[PenstockError] = _BY_STATUS.get(status, PenstockError)
    error = kind(detail)
    error.__dict__["status"] = status
    return error


def _kinds(root: type[PenstockError]) -> Iterator[type[PenstockError]]:
    for kind in root.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield kind
            yield from _kinds(kind)


_BY_CODE: Final = MappingProxyType({kind.code: kind for kind in _kinds(PenstockError)})
