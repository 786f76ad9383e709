"""What a user writes: a `Handler` class, and the few words it may answer with."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from math import inf
from typing import Any, ClassVar, Final

import msgspec

__all__ = ["Handler", "InvalidInput", "Response", "Retry"]

OCTETS: Final = "application/octet-stream"
JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # the last one: nested too deeply


class InvalidInput(Exception):
    """Raise it, or put it at an item's position, when the input can never work: the run is FAILED at once.

    Its text is shown to whoever submitted the run, so it should say what to change.
    """


class Retry(Exception):
    """Raise it, or put it at an item's position, when a later attempt may work.

    Attributes:
        after: seconds to wait before that attempt; None leaves it to the app's back-off.
    """

    def __init__(self, message: str = "", *, after: float | None = None) -> None:
        super().__init__(message)
        if after is not None and not 0 <= after < inf:
            raise ValueError(f"after={after}: give seconds to wait, or nothing")
        self.after = after


class Response(msgspec.Struct, frozen=True):
    """A result whose bytes and content type the handler chooses itself."""

    body: bytes
    content_type: str = OCTETS


class Handler:
    """A model behind Penstock: override `predict`, and `load` if there is something to load.

    One object lives in each replica. `concurrency` is how many calls of a synchronous `predict` may run at once, each
    in a thread of its own; an `async def predict` may always run as often as the app's `putConcurrency` allows.
    """

    concurrency: ClassVar[int] = 1

    def load(self) -> Any:
        """Load the model; called once, before the first lease, in the thread that will call `predict`."""
        return None

    def predict(self, batch: list[Any]) -> Sequence[Any] | Awaitable[Sequence[Any]]:
        """Give an output for each input, in order.

        Args:
            batch: decoded inputs: `dict` for JSON, else `bytes` (see `decode`).

        Returns:
            As many outputs: `dict`, `list`, `str`, `bytes` or `Response`, or an exception instance to fail one item.

        Raises:
            InvalidInput: the input can never work.
            Retry: a later attempt may work.
            Exception: anything else is an error of the handler's, tried again up to `maxAttempts`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no predict")

    def health(self) -> bool | None:
        """Tell whether this replica still works: raise or give False, and it is replaced. Called between predictions."""
        return None

    def decode(self, body: bytes, content_type: str) -> Any:
        """Give what `predict` gets for a body: JSON decoded, anything else as its bytes.

        A body counts as JSON when its content type says so, or when it is an object that parses.

        Raises:
            InvalidInput: it is declared as JSON and is none.
        """
        if _says_json(content_type):
            try:
                return msgspec.json.decode(body)
            except _UNREADABLE:
                raise InvalidInput("the body is declared as JSON but can't be parsed as JSON") from None
        if body[:64].lstrip()[:1] == b"{":
            try:
                return msgspec.json.decode(body)
            except _UNREADABLE:
                return body
        return body

    def encode(self, output: Any) -> Response:
        """Give the bytes and content type of an output.

        Raises:
            TypeError: it is of a type that has no obvious form.
        """
        match output:
            case dict() | list():
                return Response(msgspec.json.encode(output), JSON)
            case str():
                return Response(output.encode(), TEXT)
            case Response():
                return output
            case bytes() | bytearray() | memoryview():
                return Response(bytes(output), OCTETS)
        name = f"{type(output).__module__}.{type(output).__qualname__}".removeprefix("builtins.")
        raise TypeError(f"an output is a {name}: give dict, list, str, bytes or Response, or override encode")


def _says_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == JSON or kind.endswith("+json")
