"""Azure Blob Storage as a vendor of buckets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec
from obstore.store import AzureStore

from penstock.errors import Misconfigured, PenstockError, Unavailable
from penstock.model.ids import Clock, short_id
from penstock.store._asking import Asking
from penstock.store._bucket import NO_RETRIES, Refusal, client_options, code_in, refused
from penstock.store.driver import Features, Put, SignedUrl
from penstock.store.signing import headers_of

from .sas import VERSION, Sas
from .upload import Blocks

if TYPE_CHECKING:
    from obstore import PutMode

__all__ = ["Account", "Azure"]

_OWN_EXPIRES_S: Final = 600  # of the requests that we send ourselves
_UNTIL_SECOND: Final = 0.999
_TRANSIENT: Final = frozenset({"InternalError", "OperationTimedOut", "ServerBusy"})


class Account(msgspec.Struct, frozen=True):
    """A container of an account: where we and others reach the account, and the key that opens it, in base 64."""

    name: str
    key: str
    raw_key: bytes
    container: str
    endpoint: str
    public_endpoint: str


class Azure:
    """One container."""

    features = Features(
        durability="a blob survives whatever the account's replication survives, once the put is answered",
        survives_restart=True,
        many_processes=True,
        signs=True,
    )

    def __init__(self, account: Account, clock: Clock, token: bytes) -> None:
        self.place = f"the container {account.container} at {account.endpoint}"
        self._account = account
        self._clock = clock
        self._token = short_id(token)
        self._uploads = 0
        self._asking = Asking(self.place)
        self._objects: AzureStore | None = None
        self._own = self._signer(account.endpoint)
        self._public = self._signer(account.public_endpoint)

    def _signer(self, endpoint: str) -> Sas:
        account = self._account
        return Sas(f"{endpoint}/{account.container}", account.name, account.container, account.raw_key)

    def open(self) -> None:
        """Begin."""
        self._asking.open()
        self._objects = self._connected()

    async def objects(self) -> AzureStore:
        """Give obstore's view."""
        if self._objects is None:
            raise Unavailable("the store is closed")
        return self._objects

    def _connected(self) -> AzureStore:
        """Give a view. All is said, so that it looks up nothing in the environment."""
        account = self._account
        return AzureStore(
            account.container,
            config={
                "account_name": account.name,
                "account_key": account.key,
                "endpoint": account.endpoint,
                "use_emulator": False,
                "skip_signature": False,
            },
            client_options=client_options(plain_http=account.endpoint.startswith("http:")),
            retry_config=NO_RETRIES,
        )

    async def close(self) -> None:
        """Let go of connections."""
        self._objects = None
        await self._asking.close()

    def meaning(self, refusal: Refusal) -> PenstockError | None:
        """Give what Azure's own codes mean."""
        if refusal.code in {"ContainerNotFound", "ContainerBeingDeleted"}:
            return Misconfigured(f"{self.place} does not exist: create it, or mend the store's URL")
        if refusal.code in _TRANSIENT:
            return Unavailable(f"{self.place} asks us to come again: {refusal.code}")
        return None

    async def mode(self, objects: object, path: str, condition: Put) -> PutMode:
        """Give a condition in obstore's words."""
        del objects, path
        if condition.match is not None:
            return {"e_tag": condition.match}
        return "create" if condition.create else "overwrite"

    async def upload(self, objects: object, path: str, condition: Put) -> Blocks:
        """Give an upload of a blob."""
        del objects
        self._uploads += 1

        async def ask(query: Mapping[str, str], body: bytes | bytearray, headers: Mapping[str, str]) -> str:
            url = self._own.sign(path, "cw", self._clock.now() + _OWN_EXPIRES_S, **query)
            answer = await self._asking.ask("PUT", url, body, {"x-ms-version": VERSION, **headers})
            if answer.status >= 300:
                raise refused(self, Refusal(answer.status, code_in(answer.text)), path)
            return answer.headers.get("ETag", "")

        return Blocks(ask, condition, f"{self._token}-{self._uploads:09}")

    async def sign(self, method: str, path: str, expires_s: float, *, size: int | None, create: bool) -> SignedUrl:
        """Give a URL at the public endpoint. One that creates permits no more than that; the size is not signed."""
        expires_at = math.floor(self._clock.now() + expires_s + _UNTIL_SECOND)
        if method == "GET":
            return SignedUrl(self._public.sign(path, "r", expires_at), method, {}, expires_at)
        headers = {**headers_of(size, create=create), "x-ms-blob-type": "BlockBlob"}
        return SignedUrl(self._public.sign(path, "c" if create else "cw", expires_at), method, headers, expires_at)
