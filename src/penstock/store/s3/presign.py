"""AWS Signature Version 4 in a URL's query: one verb on one object for a while, with headers that must go with it.

https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html. The signature is HMAC-SHA256, by a key
that is derived from the secret once a day, over these lines:

    AWS4-HMAC-SHA256 / time / scope / sha256 of (verb / path / query / header lines / names of headers / body's hash)
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

import msgspec

__all__ = ["MAX_EXPIRES_S", "Keys", "Presigner"]

MAX_EXPIRES_S: Final = 7 * 24 * 3600
_SERVICE: Final = "s3"
_ONLY_HOST: Final[Mapping[str, str]] = {}


class Keys(msgspec.Struct, frozen=True):
    """A pair of keys, the token that goes with temporary ones, and the time from which they don't hold any more."""

    access_key_id: str
    secret_access_key: str
    session_token: str = ""
    expires_at: float = float("inf")


class Presigner:
    """Signs URLs of one host for one region. What stays the same for a second or a day is kept."""

    def __init__(self, base_url: str, region: str) -> None:
        """Take `https://host` or `https://host/bucket`, to which a key is added."""
        scheme, _, rest = base_url.partition("://")
        host, slash, path = rest.partition("/")
        self._origin = f"{scheme}://{host}"
        self._host = host
        self._path = f"{slash}{quote(path)}"
        self._region = region
        self._second = -1
        self._keys: Keys | None = None
        self._stamp = self._scope = self._credential = self._token = ""
        self._signing_key = b""

    def url(
        self,
        keys: Keys,
        method: str,
        key: str,
        *,
        now: float,
        expires_s: int,
        headers: Mapping[str, str] = _ONLY_HOST,
        query: Mapping[str, str] = _ONLY_HOST,
    ) -> str:
        """Give a URL that holds for `expires_s` seconds from `now`, with exactly these headers.

        Further fields of the query have lower-case names: they sort behind those of the signature.
        """
        if int(now) != self._second or keys is not self._keys:
            self._turn(int(now), keys)
        path = f"{self._path}/{quote(key, safe='/~')}" if key else self._path or "/"
        lines, names = f"host:{self._host}\n", "host"
        if headers:
            lines, names = _canonical({**headers, "host": self._host})
        asked = (
            f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={self._credential}&X-Amz-Date={self._stamp}"
            f"&X-Amz-Expires={expires_s}{self._token}&X-Amz-SignedHeaders={names.replace(';', '%3B')}"
        )
        if query:
            asked += "".join(f"&{name}={quote(query[name], safe='~')}" for name in sorted(query))
        request = f"{method}\n{path}\n{asked}\n{lines}\n{names}\nUNSIGNED-PAYLOAD"
        digest = hashlib.sha256(request.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{self._stamp}\n{self._scope}\n{digest}"
        signature = hmac.digest(self._signing_key, text.encode(), "sha256").hex()
        return f"{self._origin}{path}?{asked}&X-Amz-Signature={signature}"

    def _turn(self, second: int, keys: Keys) -> None:
        """Make what depends on the second, the day and the keys."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        if keys is not self._keys or stamp[:8] != self._stamp[:8]:
            day = stamp[:8]
            self._scope = f"{day}/{self._region}/{_SERVICE}/aws4_request"
            self._credential = quote(f"{keys.access_key_id}/{self._scope}", safe="~")
            self._token = f"&X-Amz-Security-Token={quote(keys.session_token, safe='~')}" if keys.session_token else ""
            signing_key = f"AWS4{keys.secret_access_key}".encode()
            for word in (day, self._region, _SERVICE, "aws4_request"):
                signing_key = hmac.digest(signing_key, word.encode(), "sha256")
            self._signing_key = signing_key
        self._second, self._keys, self._stamp = second, keys, stamp


def _canonical(headers: Mapping[str, str]) -> tuple[str, str]:
    """Give the headers as lines and as a list of names, both in order."""
    ordered = sorted((name.lower(), value.strip()) for name, value in headers.items())
    return "".join(f"{name}:{value}\n" for name, value in ordered), ";".join(name for name, _ in ordered)
