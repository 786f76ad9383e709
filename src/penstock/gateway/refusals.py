"""What only an HTTP door refuses: a method, a media type, a range."""

from __future__ import annotations

from penstock.errors import Invalid

__all__ = ["HeadTooLarge", "LengthRequired", "MethodNotAllowed", "UnsatisfiableRange", "UnsupportedMedia"]


class MethodNotAllowed(Invalid):
    """The path is known, but not with this method; `allowed` lists those that are."""

    code = "METHOD_NOT_ALLOWED"
    status = 405
    title = "The method is not allowed here"

    def __init__(self, method: str, allowed: tuple[str, ...]) -> None:
        super().__init__(f"{method[:20]} is not offered here; offered are {', '.join(allowed)}")
        self.allowed = allowed


class UnsupportedMedia(Invalid):
    """The body's media type is not one that is read here."""

    code = "UNSUPPORTED_MEDIA_TYPE"
    status = 415
    title = "The media type is not read here"


class UnsatisfiableRange(Invalid):
    """The range asked for lies outside of the object, which has `size` bytes."""

    code = "RANGE_NOT_SATISFIABLE"
    status = 416
    title = "The range lies outside of the object"

    def __init__(self, size: int) -> None:
        super().__init__(f"the object has {size} bytes")
        self.size = size


class HeadTooLarge(Invalid):
    """The request line and headers are longer than a server should keep."""

    code = "HEADERS_TOO_LARGE"
    status = 431
    title = "The request's headers are too large"


class LengthRequired(Invalid):
    """The body's length must be said before it comes."""

    code = "LENGTH_REQUIRED"
    status = 411
    title = "A Content-Length is needed"
