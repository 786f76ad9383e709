"""Google Cloud Storage as a vendor of buckets, by its XML API."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec
from obstore.store import GCSStore

from penstock.errors import Conflict, Misconfigured, PenstockError, Unavailable
from penstock.model.ids import Clock
from penstock.store._asking import Answer, Asking
from penstock.store._bucket import NO_RETRIES, Refusal, client_options, code_in, refused
from penstock.store.driver import Features, Put, SignedUrl

from .presign import MAX_EXPIRES_S, Presigner
from .upload import Resumable

if TYPE_CHECKING:
    from obstore import PutMode

    from penstock.store._bucket import Objects

__all__ = ["Gcs", "Place"]

_OWN_EXPIRES_S: Final = 600  # of the requests that we send ourselves
_RESUME: Final = 308
_CANCELLED: Final = 499
_TRANSIENT: Final = frozenset({"InternalError", "RateLimitExceeded", "ServiceUnavailable", "SlowDown"})


class Place(msgspec.Struct, frozen=True):
    """A bucket, where we and others reach it, and the service account (its key file's text) that opens it."""

    bucket: str
    endpoint: str
    public_endpoint: str
    account_json: str
    email: str
    private_key: str


class Gcs:
    """One bucket."""

    features = Features(
        durability="an object survives whatever the bucket's location survives, once the put is answered",
        survives_restart=True,
        many_processes=True,
        signs=True,
    )

    def __init__(self, place: Place, clock: Clock) -> None:
        self.place = f"the bucket {place.bucket} at {place.endpoint}"
        self._place = place
        self._clock = clock
        self._presigner = Presigner(place.email, place.private_key)
        self._asking = Asking(self.place)
        self._objects: GCSStore | None = None

    def open(self) -> None:
        """Begin."""
        self._asking.open()
        self._objects = self._connected()

    async def objects(self) -> GCSStore:
        """Give obstore's view."""
        if self._objects is None:
            raise Unavailable("the store is closed")
        return self._objects

    def _connected(self) -> GCSStore:
        """Give a view. All is said, so that it looks up nothing in the environment."""
        place = self._place
        return GCSStore(
            place.bucket,
            config={
                "service_account_key": place.account_json,
                "base_url": place.endpoint,
                "skip_signature": False,
            },
            client_options=client_options(plain_http=place.endpoint.startswith("http:")),
            retry_config=NO_RETRIES,
        )

    async def close(self) -> None:
        """Let go of connections."""
        self._objects = None
        await self._asking.close()

    def meaning(self, refusal: Refusal) -> PenstockError | None:
        """Give what Google's own codes mean."""
        if refusal.code == "NoSuchBucket":
            return Misconfigured(f"{self.place} does not exist: create it, or mend the store's URL")
        if refusal.code in _TRANSIENT or refusal.status == 429:
            return Unavailable(f"{self.place} asks us to come again: {refusal.code}")
        return None

    async def mode(self, objects: Objects, path: str, condition: Put) -> PutMode:
        """Give a condition in obstore's words."""
        if condition.match is None:
            return "create" if condition.create else "overwrite"
        return {"e_tag": condition.match, "version": await self._generation(objects, path, condition.match)}

    async def _generation(self, objects: Objects, path: str, etag: str) -> str:
        """Give the generation that has an etag: conditions on writes are about generations, and lists tell none."""
        try:
            found = await objects.head_async(path)
        except FileNotFoundError:
            raise Conflict("there is no object of the version that was to be replaced") from None
        if (found["e_tag"] or "").strip('"') != etag.strip('"') or found["version"] is None:
            raise Conflict("the object is not of the version that was to be replaced")
        return found["version"]

    async def upload(self, objects: Objects, path: str, condition: Put) -> Resumable:
        """Give an upload of an object."""
        headers = {"x-goog-resumable": "start"}
        if condition.create:
            headers["x-goog-if-generation-match"] = "0"
        elif condition.match is not None:
            headers["x-goog-if-generation-match"] = await self._generation(objects, path, condition.match)

        async def begin() -> str:
            url = self._url(self._place.endpoint, "POST", path, _OWN_EXPIRES_S, headers)
            return (await ask("POST", url, b"", headers)).headers["Location"]

        async def ask(method: str, url: str, body: bytes | bytearray, sent: Mapping[str, str]) -> Answer:
            answer = await self._asking.ask(method, url, body, sent)
            if answer.status >= 300 and answer.status not in {_RESUME, _CANCELLED}:
                raise refused(self, Refusal(answer.status, code_in(answer.text)), path)
            return answer

        return Resumable(begin, ask)

    async def sign(self, method: str, path: str, expires_s: float, *, size: int | None, create: bool) -> SignedUrl:
        """Give a URL at the public endpoint, whose headers hold it to a size and to creation; a week at most."""
        headers = {} if size is None else {"x-goog-content-length-range": f"{size},{size}"}
        if create:
            headers["x-goog-if-generation-match"] = "0"
        seconds = max(1, math.ceil(min(expires_s, MAX_EXPIRES_S)))
        url = self._url(self._place.public_endpoint, method, path, seconds, headers)
        if size is not None:
            headers["Content-Length"] = str(size)
        return SignedUrl(url, method, headers, math.floor(self._clock.now()) + seconds)

    def _url(self, endpoint: str, method: str, path: str, expires_s: int, headers: Mapping[str, str]) -> str:
        base_url = f"{endpoint}/{self._place.bucket}"
        now = self._clock.now()
        return self._presigner.url(base_url, method, path, now=now, expires_s=expires_s, headers=headers)
