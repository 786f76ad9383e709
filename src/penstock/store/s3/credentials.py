"""Where S3's keys come from: given and fixed, or temporary ones of the role that the process runs in.

As Amazon's own clients look for them: a web identity (EKS), a container's endpoint (ECS, EKS pod identity), and last the
machine's metadata (EC2).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol, TypeAlias
from urllib.parse import urlencode

import aiohttp
import msgspec

from penstock.errors import Misconfigured, Unavailable
from penstock.model.ids import Clock

from .presign import Keys

__all__ = ["Fixed", "Renewed", "Source", "of_the_role"]

Fetch: TypeAlias = Callable[[], Awaitable[Keys]]
_AHEAD_S: Final = 600.0  # so long before they end, keys are renewed
_TIMEOUT: Final = aiohttp.ClientTimeout(total=10, connect=2)
_METADATA: Final = "http://169.254.169.254"
_CONTAINERS: Final = "http://169.254.170.2"
_FIELDS: Final = ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")


class Source(Protocol):
    """Gives keys that hold for a while yet."""

    async def keys(self) -> Keys:
        """Give the present keys."""
        ...


class Fixed:
    """Keys that were given and don't change."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def keys(self) -> Keys:
        """Give them."""
        return self._keys


class Renewed:
    """Keys that are fetched, and fetched again before they end; as long as they hold, a failure is passed over."""

    def __init__(self, fetch: Fetch, clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._keys: Keys | None = None
        self._one = asyncio.Lock()

    async def keys(self) -> Keys:
        """Give keys that hold for some minutes yet, where such are to be had."""
        if self._keys is None or self._lasts(self._keys) < _AHEAD_S:
            async with self._one:
                if self._keys is None or self._lasts(self._keys) < _AHEAD_S:
                    self._keys = await self._renewed(self._keys)
        return self._keys

    def _lasts(self, keys: Keys) -> float:
        return keys.expires_at - self._clock.now()

    async def _renewed(self, keys: Keys | None) -> Keys:
        try:
            return await self._fetch()
        except Unavailable:
            if keys is None or self._lasts(keys) <= 0:
                raise
            return keys


def of_the_role(environ: Mapping[str, str], region: str) -> Fetch:
    """Give a way to fetch keys of the role that the process runs in."""
    if token_file := environ.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
        role = environ.get("AWS_ROLE_ARN", "")
        session = environ.get("AWS_ROLE_SESSION_NAME", "penstock")
        endpoint = environ.get("AWS_ENDPOINT_URL_STS", f"https://sts.{region}.amazonaws.com")
        return lambda: _of_web_identity(endpoint, Path(token_file), role, session)
    if path := environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        return lambda: _of_container(_CONTAINERS + path, environ)
    if url := environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        return lambda: _of_container(url, environ)
    endpoint = environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", _METADATA).rstrip("/")
    return lambda: _of_machine(endpoint)


class _Told(msgspec.Struct):
    """Keys as containers and machines tell them."""

    access_key_id: str = msgspec.field(name="AccessKeyId")
    secret_access_key: str = msgspec.field(name="SecretAccessKey")
    token: str = msgspec.field(name="Token")
    expiration: datetime = msgspec.field(name="Expiration")


async def _of_web_identity(endpoint: str, token_file: Path, role: str, session: str) -> Keys:
    """Change the token that Kubernetes keeps fresh in a file for keys."""
    asked = {
        "Action": "AssumeRoleWithWebIdentity",
        "Version": "2011-06-15",
        "RoleArn": role,
        "RoleSessionName": session,
        "WebIdentityToken": await asyncio.to_thread(_read, token_file),
    }
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    text = await _asked("POST", f"{endpoint}/", headers, urlencode(asked))
    found = [match[1] if (match := re.search(rf"<{field}>([^<]+)</{field}>", text)) else "" for field in _FIELDS]
    if not all(found):
        raise Unavailable(f"{endpoint} answered without keys")
    access_key_id, secret_access_key, token, expiration = found
    return Keys(access_key_id, secret_access_key, token, datetime.fromisoformat(expiration).timestamp())


async def _of_container(url: str, environ: Mapping[str, str]) -> Keys:
    """Ask the endpoint that the container's platform keeps for it."""
    token = environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
    if token_file := environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"):
        token = await asyncio.to_thread(_read, Path(token_file))
    return _told(await _asked("GET", url, {"Authorization": token} if token else {}))


async def _of_machine(endpoint: str) -> Keys:
    """Ask the machine's metadata (its second version, which needs a token first)."""
    token = await _asked("PUT", f"{endpoint}/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "300"})
    headers = {"X-aws-ec2-metadata-token": token}
    roles = f"{endpoint}/latest/meta-data/iam/security-credentials/"
    role = (await _asked("GET", roles, headers)).split()
    if not role:
        raise Misconfigured("there are no keys for S3, and this machine has no role: set AWS_ACCESS_KEY_ID and so on")
    return _told(await _asked("GET", roles + role[0], headers))


async def _asked(method: str, url: str, headers: Mapping[str, str], body: str = "") -> str:
    try:
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT) as http,
            http.request(method, url, headers=headers, data=body.encode() or None) as answer,
        ):
            text = await answer.text()
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise Unavailable(
            f"there are no keys for S3: none in the environment, and {url} gave no answer ({type(error).__name__})"
        ) from error
    if 400 <= answer.status < 500:
        raise Misconfigured(f"there are no keys for S3: {url} refused us ({answer.status}); check the role")
    if answer.status >= 300:
        raise Unavailable(f"there are no keys for S3 just now: {url} answered {answer.status}")
    return text


def _told(text: str) -> Keys:
    try:
        told = msgspec.json.decode(text, type=_Told)
    except msgspec.DecodeError as error:
        raise Unavailable("the source of keys for S3 answered without keys") from error
    return Keys(told.access_key_id, told.secret_access_key, told.token, told.expiration.timestamp())


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise Misconfigured(f"the token for S3's keys can't be read from {path}: {error.strerror}") from error
