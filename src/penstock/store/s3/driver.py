"""S3 and what speaks like it, as a vendor of buckets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from obstore.store import S3Store

from penstock.errors import Misconfigured, PenstockError, Unavailable
from penstock.model.ids import Clock
from penstock.store._asking import Asking
from penstock.store._bucket import NO_RETRIES, Refusal, client_options, code_in, refused
from penstock.store.driver import Features, Put, SignedUrl
from penstock.store.signing import headers_of

from .address import Address
from .credentials import Source
from .presign import MAX_EXPIRES_S, Keys, Presigner
from .upload import Multipart

if TYPE_CHECKING:
    from obstore import PutMode
    from obstore.store import S3Config

__all__ = ["S3"]

_OWN_EXPIRES_S: Final = 600  # of the requests that we send ourselves
_TRANSIENT: Final = frozenset(
    {
        "ConditionalRequestConflict",
        "ExpiredToken",
        "InternalError",
        "OperationAborted",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "TokenRefreshRequired",
    }
)


class S3:
    """One bucket, reached with keys that may change while it is open."""

    features = Features(
        durability="an object survives whatever the bucket's storage class survives, once the put is answered",
        survives_restart=True,
        many_processes=True,
        signs=True,
    )

    def __init__(self, address: Address, source: Source, clock: Clock) -> None:
        self.place = f"the bucket {address.bucket} at {address.url}"
        self._address = address
        self._source = source
        self._clock = clock
        self._own = Presigner(address.url, address.region)
        self._public = Presigner(address.public_url, address.region)
        self._asking = Asking(self.place)
        self._objects: S3Store | None = None
        self._keys: Keys | None = None

    def open(self) -> None:
        """Begin."""
        self._asking.open()

    async def objects(self) -> S3Store:
        """Give obstore's view, made anew when the keys are: a provider of keys in Python outlives the interpreter."""
        keys = await self._source.keys()
        if self._objects is None or keys is not self._keys:
            self._objects, self._keys = self._connected(keys), keys
        return self._objects

    def _connected(self, keys: Keys) -> S3Store:
        """Give a view with these keys. All is said, so that it looks up nothing in the environment."""
        address = self._address
        endpoint = address.url if address.virtual else address.url.rpartition("/")[0]
        config: S3Config = {
            "endpoint": endpoint,
            "aws_endpoint_url_s3": endpoint,
            "region": address.region,
            "virtual_hosted_style_request": address.virtual,
            "access_key_id": keys.access_key_id,
            "secret_access_key": keys.secret_access_key,
            "disable_bulk_delete": True,
            "skip_signature": False,
        }
        if keys.session_token:
            config["session_token"] = keys.session_token
        return S3Store(
            address.bucket,
            config=config,
            client_options=client_options(plain_http=endpoint.startswith("http:")),
            retry_config=NO_RETRIES,
        )

    async def close(self) -> None:
        """Let go of connections."""
        self._objects = None
        await self._asking.close()

    def meaning(self, refusal: Refusal) -> PenstockError | None:
        """Give what S3's own codes mean."""
        match refusal.code:
            case "NoSuchBucket":
                return Misconfigured(f"{self.place} does not exist: create it, or mend the store's URL")
            case "RequestTimeTooSkewed":
                return Misconfigured(f"this machine's clock and that of {self.place} differ: set it, by NTP")
            case "InvalidAccessKeyId" | "SignatureDoesNotMatch":
                return Misconfigured(f"{self.place} does not know our keys ({refusal.code}): check both")
            case "PermanentRedirect" | "AuthorizationHeaderMalformed":
                return Misconfigured(f"{self.place} lies in another region than {self._address.region}")
            case code if code in _TRANSIENT:
                return Unavailable(f"{self.place} asks us to come again: {code}")
        return None

    async def mode(self, objects: object, path: str, condition: Put) -> PutMode:
        """Give a condition in obstore's words."""
        del objects, path
        if condition.match is not None:
            return {"e_tag": condition.match}
        return "create" if condition.create else "overwrite"

    async def upload(self, objects: object, path: str, condition: Put) -> Multipart:
        """Give an upload of an object."""
        del objects

        async def ask(
            method: str, query: Mapping[str, str], body: bytes | bytearray, headers: Mapping[str, str]
        ) -> tuple[str, str]:
            return await self._ask(path, method, query, body, headers)

        return Multipart(ask, condition)

    async def sign(self, method: str, path: str, expires_s: float, *, size: int | None, create: bool) -> SignedUrl:
        """Give a URL at the public endpoint; it holds no longer than the keys do, and a week at most."""
        keys, now, headers = await self._source.keys(), self._clock.now(), headers_of(size, create=create)
        seconds = max(1, math.ceil(min(expires_s, MAX_EXPIRES_S, keys.expires_at - now)))
        url = self._public.url(keys, method, path, now=now, expires_s=seconds, headers=headers)
        return SignedUrl(url, method, headers, math.floor(now) + seconds)

    async def _ask(
        self,
        path: str,
        method: str,
        query: Mapping[str, str],
        body: bytes | bytearray,
        headers: Mapping[str, str],
    ) -> tuple[str, str]:
        """Send a request of our own; give the answer's text and its etag."""
        keys = await self._source.keys()
        url = self._own.url(
            keys, method, path, now=self._clock.now(), expires_s=_OWN_EXPIRES_S, headers=headers, query=query
        )
        answer = await self._asking.ask(method, url, body, headers)
        if answer.status >= 300:
            raise refused(self, Refusal(answer.status, code_in(answer.text)), path)
        if "<Error>" in answer.text:  # a completion may fail after its 200
            raise refused(self, Refusal(503, code_in(answer.text)), path)
        return answer.text, answer.headers.get("ETag", "")
