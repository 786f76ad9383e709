"""How an attempt ended: what a handler's output or exception means, and the bytes that are kept of it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from traceback import walk_tb
from typing import Any, Final

import msgspec

from penstock.model.run import Outcome, Reason

from .handler import Handler, InvalidInput, Response, Retry

__all__ = ["Ending", "Limits", "Result", "ended_by", "pack", "released", "sendable", "succeeded"]

COMPRESS_FROM: Final = 1024  # bytes; below, gzip's header eats what it saves
GZIP_LEVEL: Final = 1  # measured on JSON: a third of level 6's time for a tenth more bytes
GZIP_FORMAT: Final = 31  # zlib's `wbits` for a gzip header and trailer, with no time in it
MESSAGE_CHARS: Final = 1000
BYTES: Final = bytes | bytearray | memoryview
OWN_FRAMES: Final = str(Path(__file__).parent)


class Limits(msgspec.Struct, frozen=True):
    """How large results may be, in bytes: `result` at most, `inline` at most within a settle call."""

    result: int = 256 * 1024 * 1024
    inline: int = 32 * 1024


class Result(msgspec.Struct, frozen=True, gc=False):
    """A result as it is kept: `data` is compressed where `encoding` is "gzip"."""

    data: bytes
    content_type: str
    encoding: str = ""

    @property
    def body(self) -> bytes:
        """The result as the handler gave it."""
        return zlib.decompress(self.data, GZIP_FORMAT) if self.encoding else self.data


@dataclass(frozen=True, slots=True)
class Ending:
    """How one attempt ended. `cause` is the exception behind it, for a log without contents or a local run."""

    outcome: Outcome
    reason: Reason | None = None
    message: str = ""
    retry_after: float | None = None
    response: Response | None = None
    result: Result | None = None
    cause: BaseException | None = None


released: Final = Ending(Outcome.RELEASED)


def succeeded(handler: Handler, output: Any) -> Ending:
    """Give the ending that an item's output stands for; an exception instance fails that item alone."""
    if isinstance(output, BaseException):
        return ended_by(output)
    try:
        response: Any = handler.encode(output)
    except BaseException as error:  # noqa: BLE001  # a handler may raise anything
        return ended_by(error)
    if isinstance(response, Response) and isinstance(response.body, BYTES) and isinstance(response.content_type, str):
        return Ending(Outcome.SUCCEEDED, response=response)
    return Ending(Outcome.RETRY, Reason.HANDLER_ERROR, "an output is no Response of bytes and a content type")


def ended_by(error: BaseException) -> Ending:
    """Give the ending that an exception of the handler's stands for.

    `InvalidInput` and `Retry` speak to the submitter, so their text is kept. Any other exception's text may quote the
    input, so only its type and where it was raised are told.
    """
    match error:
        case InvalidInput():
            message = _said(error) or "the handler refused the input"
            return Ending(Outcome.FAILED, Reason.INVALID_INPUT, message, cause=error)
        case Retry():
            message = _said(error) or "the handler asked for another attempt"
            return Ending(Outcome.RETRY, Reason.HANDLER_ERROR, message, error.after, cause=error)
        case _:
            return Ending(Outcome.RETRY, Reason.HANDLER_ERROR, sendable(_told(error)), cause=error)


def sendable(text: str) -> str:
    """Give text of a handler's as it may travel: not too long, and without halves of characters."""
    return text[:MESSAGE_CHARS].encode(errors="replace").decode()


def pack(ending: Ending, limits: Limits) -> Ending:
    """Give the ending with its response as it will be kept: compressed from 1 KiB on, refused above the limit.

    What is too large to travel inline is always compressed, since objects of results are gzip by contract.
    """
    response = ending.response
    if response is None:
        return ending
    size = len(response.body)
    if size > limits.result:
        message = f"the result has {size} bytes; results.maxResultBytes is {limits.result}"
        return Ending(Outcome.FAILED, Reason.RESULT_TOO_LARGE, message)
    if size < COMPRESS_FROM and size <= limits.inline:
        return Ending(Outcome.SUCCEEDED, result=Result(response.body, response.content_type))
    data = zlib.compress(response.body, GZIP_LEVEL, GZIP_FORMAT)
    return Ending(Outcome.SUCCEEDED, result=Result(data, response.content_type, "gzip"))


def _said(error: InvalidInput | Retry) -> str:
    try:
        return sendable(str(error))
    except Exception:  # noqa: BLE001  # its class is the handler's own, and may raise anything
        return ""


def _told(error: BaseException) -> str:
    """Give an exception's type and the places it came through in the user's code, innermost first; never its text."""
    codes = ((frame.f_code, line) for frame, line in walk_tb(error.__traceback__))
    places = [
        f"{Path(code.co_filename).name}:{line} in {code.co_name}"
        for code, line in codes
        if not code.co_filename.startswith(OWN_FRAMES) and not code.co_filename.startswith("<frozen")
    ]
    return " < ".join([type(error).__qualname__, *places[:-4:-1]])
