"""The tree of errors, each named for the decision it calls for.

    PenstockError
    |-- Invalid ............ 422  change the request: it was understood, but can't be done as asked
    |   |-- Malformed ...... 400  change the request: it could not be read at all
    |   |-- TooLarge ....... 413  send less
    |   `-- InvalidSpec .... 422  mend the app's YAML at the lines named
    |-- NotFound ........... 404  it never existed (or is another tenant's)
    |-- Gone ............... 410  it existed and was purged, or was cancelled
    |-- Conflict ........... 409  look at the present state, then decide again
    |   `-- Stale .......... 409  this attempt lost its lease: stop working on it
    |-- Unauthenticated .... 401  present a credential
    |-- Forbidden .......... 403  ask for the scope named
    |-- Exceeded ........... 429  wait `retry_after` seconds, or ask for a larger quota
    |-- Unavailable ........ 503  ours: try again, nothing was accepted
    `-- Misconfigured ......      an operator must change a setting before this process can start

Doors turn them into problem documents and exit codes; nothing below a door knows about HTTP. The
status in the picture is there for orientation: it is what every door agrees on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec

__all__ = [
    "Conflict",
    "Exceeded",
    "Fault",
    "Forbidden",
    "Gone",
    "Invalid",
    "InvalidSpec",
    "Malformed",
    "Misconfigured",
    "NotFound",
    "PenstockError",
    "SpecFault",
    "Stale",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
]


class Fault(msgspec.Struct, frozen=True):
    """One thing wrong with a request: where (a JSON Pointer) and what to do about it."""

    pointer: str
    message: str


class SpecFault(msgspec.Struct, frozen=True):
    """One thing wrong with an app's YAML: what, and the place in the text (1-based; 0 = unknown)."""

    message: str
    pointer: str = ""
    source: str = ""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        """Give the fault as `file:line:column: message`, as compilers do, so editors can jump to it."""
        place = ":".join(str(part) for part in (self.source, self.line, self.column) if part)
        return f"{place}: {self.message}" if place else self.message


class PenstockError(Exception):
    """Any refusal or failure that Penstock foresaw.

    Attributes:
        code: a stable upper-case word that programs may switch on.
        detail: a sentence for people that says what to do next; never holds a body's content.
        retryable: whether the same call may succeed later without a change.
    """

    code: ClassVar[str] = "ERROR"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Something went wrong"
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title


class Invalid(PenstockError):
    """The request was understood but can't be done as asked."""

    code = "INVALID"
    status = 422
    title = "The request is invalid"

    def __init__(self, detail: str = "", *, faults: Sequence[Fault] = ()) -> None:
        super().__init__(detail)
        self.errors: tuple[Fault, ...] = tuple(faults)


class Malformed(Invalid):
    """The request could not be read at all."""

    code = "MALFORMED"
    status = 400
    title = "The request could not be read"


class TooLarge(Invalid):
    """More bytes than the limit named in the detail."""

    code = "TOO_LARGE"
    status = 413
    title = "The body is larger than the limit"


class InvalidSpec(Invalid):
    """An app's YAML is wrong; every fault found is listed with its place."""

    code = "INVALID_SPEC"
    title = "The app's spec is invalid"

    def __init__(self, faults: Sequence[SpecFault]) -> None:
        self.faults: tuple[SpecFault, ...] = tuple(faults)
        super().__init__(
            "\n".join(str(fault) for fault in self.faults),
            faults=[Fault(fault.pointer, fault.message) for fault in self.faults],
        )


class NotFound(PenstockError):
    """It never existed, or belongs to another tenant: the two look the same on purpose."""

    code = "NOT_FOUND"
    status = 404
    title = "Not found"


class Gone(PenstockError):
    """It existed and is no more."""

    code = "GONE"
    status = 410
    title = "Gone"


class Conflict(PenstockError):
    """The state is not the one that the call needs."""

    code = "CONFLICT"
    status = 409
    title = "Conflict with the present state"


class Stale(Conflict):
    """An attempt that lost its lease spoke; nothing was changed."""

    code = "STALE"
    title = "This attempt is no longer the current one"


class Unauthenticated(PenstockError):
    """No credential, or one that does not hold."""

    code = "UNAUTHENTICATED"
    status = 401
    title = "A valid credential is needed"


class Forbidden(PenstockError):
    """The credential holds but does not permit this."""

    code = "FORBIDDEN"
    status = 403
    title = "The credential does not permit this"


class Exceeded(PenstockError):
    """A quota or rate of the caller's own is used up."""

    code = "EXCEEDED"
    status = 429
    title = "A quota is used up"
    retryable = True

    def __init__(self, detail: str = "", *, retry_after: float = 1.0) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class Unavailable(PenstockError):
    """A part of the platform is down; nothing was accepted."""

    code = "UNAVAILABLE"
    status = 503
    title = "Temporarily unavailable"
    retryable = True


class Misconfigured(PenstockError):
    """A setting must change before this process can start."""

    code = "MISCONFIGURED"
    title = "A setting is wrong"
