"""Shared access signatures: URLs of one blob that permit one thing for a while.

https://learn.microsoft.com/rest/api/storageservices/create-service-sas: HMAC-SHA256, by the account's key, over a line
for each field, those that are not used empty.
"""

from __future__ import annotations

import base64
import hmac
import time
from typing import Final
from urllib.parse import quote, urlencode

__all__ = ["VERSION", "Sas"]

VERSION: Final = "2022-11-02"
_UNUSED: Final = ("", "", "", "", "", "", "")  # snapshot, encryption scope, and five headers of the answer


class Sas:
    """Signs for one container. `url` is where it is reached, `account` whose key signs."""

    def __init__(self, url: str, account: str, container: str, key: bytes) -> None:
        self._url = url
        self._resource = f"/blob/{account}/{container}/"
        self._key = key

    def sign(self, path: str, permissions: str, expires_at: float, **query: str) -> str:
        """Give a URL of a blob that permits so much (r read, c create, w write) until then, in seconds since 1970."""
        expiry = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expires_at))
        fields = (permissions, "", expiry, self._resource + path, "", "", "", VERSION, "b", *_UNUSED)
        signature = base64.b64encode(hmac.digest(self._key, "\n".join(fields).encode(), "sha256")).decode()
        signed = {"sv": VERSION, "sr": "b", "sp": permissions, "se": expiry, "sig": signature}
        return f"{self._url}/{quote(path, safe='/~')}?{urlencode(signed | query)}"
