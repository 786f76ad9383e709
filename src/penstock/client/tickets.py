"""What one hands in, and what one gets for it."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias, TypedDict

import msgspec

from penstock.model.documents import Eta
from penstock.model.run import State

__all__ = ["Answer", "Input", "Ticket", "Wishes", "packed"]

Input: TypeAlias = "bytes | bytearray | str | Path | BinaryIO | Mapping[str, Any] | list[Any] | msgspec.Struct"
"""What can be submitted: bytes and files as they are, text as UTF-8, anything else as JSON."""

_OCTETS: Final = "application/octet-stream"


class Wishes(TypedDict, total=False):
    """What may be asked with a submission.

    `wait`: seconds to wait for the result at once (0: not at all; not said: as the server likes). `priority`: 0..9, 9 is
    served first. `deadline`: the longest wait in the queue, in seconds. `idempotency_key` and `rid` (the run's own key)
    each make a submission safe to repeat, so it is repeated when its answer was lost.
    """

    wait: float
    priority: int
    deadline: float
    tag: str
    parent: str
    webhook: str
    idempotency_key: str
    rid: str
    content_type: str


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A result, unpacked. `cache` is hit, joined or miss, where the server said so."""

    data: bytes
    content_type: str = _OCTETS
    run_id: str = ""
    cache: str = ""

    @property
    def text(self) -> str:
        """The result as text."""
        return self.data.decode()

    def json(self) -> Any:
        """Give the result as what its JSON stands for. Raises `msgspec.DecodeError` if it is none."""
        return msgspec.json.decode(self.data)


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """A run that was handed in. `answer` is there if it ended within the wait; times are in seconds.

    A ticket stands for the latest run of its key. One that is empty stands for the very run of `run_id`.
    """

    app: str
    ticket: str
    run_id: str
    state: State
    retry_after: int = 0
    position: int = 0
    eta: Eta | None = None
    status_url: str = ""
    rid_reused: bool = False  # an earlier body with this rid won over this one
    answer: Answer | None = None


def packed(data: Input, rid: str | None = None) -> tuple[bytes, str]:
    """Give an input's bytes and content type. A `rid` goes into a JSON object as its `_rid`."""
    if isinstance(data, Mapping):
        value = dict(data) if rid is None else {**data, "_rid": rid}
        return msgspec.json.encode(value), "application/json"
    if rid is not None:
        raise TypeError("a rid stands inside of a JSON object: submit a mapping, or use an idempotency_key")
    match data:
        case bytes() | bytearray():
            return bytes(data), _OCTETS
        case str():
            return data.encode(), "text/plain; charset=utf-8"
        case Path():
            return data.read_bytes(), mimetypes.guess_type(data.name)[0] or _OCTETS
        case list() | msgspec.Struct():
            return msgspec.json.encode(data), "application/json"
        case _:
            name = getattr(data, "name", "")
            return data.read(), (mimetypes.guess_type(name)[0] if isinstance(name, str) else None) or _OCTETS
