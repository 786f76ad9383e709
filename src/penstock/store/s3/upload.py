"""An S3 multipart upload whose completion may carry a condition, which obstore's can't.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias
from xml.sax.saxutils import escape, unescape

from penstock.errors import Unavailable
from penstock.store.driver import Put

__all__ = ["Ask", "Multipart"]

# Sends a request about the object: verb, fields of the query, body, headers; gives the answer's text and its etag.
Ask: TypeAlias = Callable[[str, Mapping[str, str], bytes | bytearray, Mapping[str, str]], Awaitable[tuple[str, str]]]
_ID: Final = re.compile(r"<UploadId>([^<]+)</UploadId>")
_ETAG: Final = re.compile(r"<ETag>([^<]+)</ETag>")


class Multipart:
    """One upload of one object."""

    def __init__(self, ask: Ask, condition: Put) -> None:
        self._ask = ask
        self._condition = condition
        self._id = ""
        self._etags: list[str] = []

    async def begin(self) -> None:
        """Get an id for it."""
        text, _ = await self._ask("POST", {"uploads": ""}, b"", {})
        self._id = _found(_ID, text)

    async def part(self, data: bytes | bytearray) -> None:
        """Send the next part."""
        number = len(self._etags) + 1
        _, etag = await self._ask("PUT", {"partNumber": str(number), "uploadId": self._id}, data, {})
        self._etags.append(etag)

    async def finish(self) -> str:
        """Make an object of the parts, if the condition holds."""
        headers = {"If-None-Match": "*"} if self._condition.create else {}
        if self._condition.match is not None:
            headers = {"If-Match": self._condition.match}
        listed = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag></Part>"
            for number, etag in enumerate(self._etags, 1)
        )
        body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
        text, _ = await self._ask("POST", {"uploadId": self._id}, body, headers)
        return _found(_ETAG, text)

    async def abort(self) -> None:
        """Forget the parts; nothing to forget is fine."""
        if self._id:
            await self._ask("DELETE", {"uploadId": self._id}, b"", {})


def _found(what: re.Pattern[str], text: str) -> str:
    if match := what.search(text):
        return unescape(match[1], {"&quot;": '"', "&#34;": '"'})
    raise Unavailable("the bucket gave an answer that can't be read")
