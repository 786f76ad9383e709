"""The Prefer header (RFC 7240): how long a caller would wait for an answer."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec

__all__ = ["LONGEST_WAIT_S", "Preference", "preference"]

LONGEST_WAIT_S: Final = 60.0


class Preference(msgspec.Struct, frozen=True):
    """What of the header is honoured: seconds to wait (None = not said), and the Preference-Applied that says so."""

    wait_s: float | None = None
    applied: bytes = b""


NONE: Final = Preference()


@lru_cache(maxsize=256)
def preference(header: bytes | None) -> Preference:
    """Give what a Prefer header asks for.

    `respond-async` is `wait=0`; a longer `wait` than 60 s is taken as 60. Unknown and unreadable preferences are
    ignored, as the RFC demands, and of one that is repeated the first counts.
    """
    if not header:
        return NONE
    wishes: dict[str, str] = {}
    for part in header.decode("latin-1").split(","):
        name, _, value = part.partition(";")[0].partition("=")
        wishes.setdefault(name.strip().lower(), value.strip().strip('"'))
    if "respond-async" in wishes:
        return Preference(0.0, b"respond-async")
    seconds = wishes.get("wait", "")
    if not (seconds.isascii() and seconds.isdigit()):
        return NONE
    wait_s = min(float(seconds[:9]), LONGEST_WAIT_S)
    return Preference(wait_s, b"wait=%d" % wait_s)
