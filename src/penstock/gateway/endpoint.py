"""One route of the API as data: the router and the API's description are both made from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgspec

from penstock.errors import PenstockError

from .call import Call
from .reply import Reply

__all__ = [
    "ANYTHING",
    "IDEMPOTENCY_PATTERN",
    "PUBLIC",
    "SIGNED",
    "WORKER",
    "Answer",
    "Endpoint",
    "Handler",
    "Header",
    "Media",
]

Handler: TypeAlias = Callable[[Call], Awaitable[Reply]]

PUBLIC: Final = "public"  # anyone: probes, the API's description
SIGNED: Final = "signed"  # whoever holds the URL: its signature is the credential
WORKER: Final = "worker"  # a worker's JWT

IDEMPOTENCY_PATTERN: Final = r'^([!#-~][ -~]{0,252}|"[ -~]{1,250}")$'


@dataclass(frozen=True, slots=True)
class Media:
    """A body that is no JSON document of ours."""

    type: str
    text: str = ""


ANYTHING: Final = Media("*/*", "Any bytes.")


@dataclass(frozen=True, slots=True)
class Answer:
    """One successful outcome: its status, what the body is, and the headers that it may carry."""

    status: int
    body: Any = None  # a type that is sent as JSON, a Media, or None
    text: str = "Done."
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Header:
    """A header that a route reads. `pattern` and `example` describe its values for the API's readers."""

    name: str
    text: str
    pattern: str = ""
    example: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One method on one path.

    Attributes:
        path: segments, of which `{name}` takes any one and a final `{name...}` takes all the rest.
        scope: what a credential must permit, or one of PUBLIC, SIGNED and WORKER.
        body: what is read: a type that comes as JSON, a Media, or None.
        may_be_empty: whether no body at all will do, too.
        errors: what may be refused beside what any route may refuse.
        pinned: whether an `Idempotency-Key` makes it answer a repeat by the first answer.
    """

    method: str
    path: str
    handler: Handler
    scope: str
    tag: str
    summary: str
    body: Any = None
    may_be_empty: bool = False
    query: type[msgspec.Struct] | None = None
    headers: tuple[Header, ...] = ()
    answers: tuple[Answer, ...] = (Answer(200),)
    errors: tuple[type[PenstockError], ...] = ()
    pinned: bool = False
