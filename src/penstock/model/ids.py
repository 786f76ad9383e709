"""Names and numbers that identify things, made from a clock and randomness that are passed in."""

from __future__ import annotations

import hashlib
import re
from typing import Final, Protocol

import msgspec

__all__ = ["Clock", "Ids", "Randomness", "rid_of", "run_id", "short_id", "valid_run_id"]

_RID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_RUN_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"


class Clock(Protocol):
    """Gives the time, so that tests can bend it."""

    def now(self) -> float:
        """Give seconds since 1970."""
        ...

    def monotonic(self) -> float:
        """Give seconds that never run backwards, for measuring how long something took."""
        ...


class Randomness(Protocol):
    """Gives random bytes, so that tests can repeat them."""

    def __call__(self, count: int, /) -> bytes:
        """Give `count` bytes."""
        ...


def run_id(milliseconds: int, random: bytes) -> str:
    """Give a UUIDv7 (RFC 9562, section 5.7) for a time in milliseconds since 1970 and 10 random bytes."""
    low = int.from_bytes(random[:10], "big")
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80 | 0x7 << 76 | (low >> 68 & 0xFFF) << 64
    value |= 0b10 << 62 | (low & 0x3FFF_FFFF_FFFF_FFFF)
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def valid_run_id(text: str) -> bool:
    """Tell whether a text looks like a run's id, so that rubbish never reaches the ledger."""
    return _RUN_ID.fullmatch(text) is not None


def short_id(random: bytes) -> str:
    """Give a readable lower-case id of one letter per random byte: DNS-safe, for workers' uids."""
    return "".join(_ALPHABET[byte & 31] for byte in random)


class Ids:
    """Mints ids. One is made by the wiring and passed to whoever creates things."""

    def __init__(self, clock: Clock, random: Randomness) -> None:
        self._clock = clock
        self._random = random

    def run(self) -> str:
        """Give a fresh run id."""
        return run_id(int(self._clock.now() * 1000), self._random(10))

    def worker(self, app: str) -> str:
        """Give a fresh worker uid that names its app: `w-{app}-{10 letters}`."""
        return f"w-{app}-{short_id(self._random(10))}"


class _Rid(msgspec.Struct):
    rid: object = msgspec.field(name="_rid", default=None)


_decode_rid: Final = msgspec.json.Decoder(_Rid).decode


def rid_of(body: bytes) -> tuple[str, str]:
    """Give the key of an online body and the sha256 (hex) of its raw bytes.

    The key is the top-level string `_rid` of a JSON object if it is a safe name, else that string's sha256; with no
    such string, the sha256 of the raw bytes.
    """
    digest = hashlib.sha256(body).hexdigest()
    # An escape could spell the name too, so only a body with neither is known to have none.
    if (b"_rid" not in body and b"\\u" not in body) or body.lstrip()[:1] != b"{":
        return digest, digest
    try:
        rid = _decode_rid(body).rid
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return digest, digest
    if not isinstance(rid, str):
        return digest, digest
    if _RID.fullmatch(rid):
        return rid, digest
    return hashlib.sha256(rid.encode("utf-8", "surrogatepass")).hexdigest(), digest
