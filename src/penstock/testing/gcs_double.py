"""A double of Google Cloud Storage's XML API, as far as we use it: it checks signatures, tokens and preconditions.

Objects with generations, ranges, lists, resumable uploads; V4 signatures (GOOG4-RSA-SHA256) and self-signed tokens of
one service account. It is a program, `python -m penstock.testing.gcs_double PORT KEY_FILE`, started by `gcs_double`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import parse_qs, quote, unquote
from xml.sax.saxutils import escape

import jwt
from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from penstock.testing.process import HOST, ServerProcess

__all__ = ["GcsDouble", "gcs_double", "make_key_file"]

_EMAIL: Final = "penstock@project.iam.gserviceaccount.com"
_SPAN: Final = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")
_RANGE: Final = re.compile(r"bytes=(\d+)-(\d*)")
_UNIT: Final = 256 << 10  # all chunks of a resumable upload but the last are a multiple of this
_SKEW_S: Final = 900
_BACK_DOOR: Final = "x-past-the-api"


def make_key_file(path: Path) -> Path:
    """Make a service account's key file, as Google gives them out; gives its path."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    account = {"client_email": _EMAIL, "private_key": pem.decode(), "private_key_id": "1", "client_id": "1"}
    path.write_text(json.dumps({"type": "service_account", **account}))
    return path


def gcs_double(key_file: Path, log: Path) -> ServerProcess:
    """Give the double as a server, not started yet, for the service account of a key file."""
    return ServerProcess(lambda port: [sys.executable, "-m", __name__, str(port), key_file], log=log)


class _Object(NamedTuple):
    data: bytes
    generation: int
    modified_at: float

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.data, usedforsecurity=False).hexdigest()}"'


class _Session:
    """A resumable upload: where it goes, under which precondition, and what has come."""

    def __init__(self, bucket: str, key: str, condition: str | None) -> None:
        self.bucket, self.key, self.condition = bucket, key, condition
        self.data = bytearray()


class _Refused(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


class GcsDouble:
    """The double itself: an application of aiohttp, for the service account whose public key it is given.

    A request with the header `x-past-the-api` is not asked who sends it: the back door of tests. There, a PUT of a bucket
    makes it, and `GET /?uploads` lists what is being uploaded.
    """

    def __init__(self, public_key: rsa.RSAPublicKey) -> None:
        self._public_key = public_key
        self._buckets: dict[str, dict[str, _Object]] = {}
        self._sessions: dict[str, _Session] = {}
        self._generations = itertools.count(int(time.time() * 1e6))

    def app(self) -> web.Application:
        """Give the application."""
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{tail:.*}", self._answer)
        return app

    # -------------------------------------------------------------- requests

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        query = {name: values[-1] for name, values in parse_qs(request.query_string, keep_blank_values=True).items()}
        try:
            return await self._answered(request, query)
        except _Refused as refused:
            text = f"<?xml version='1.0'?><Error><Code>{refused.code}</Code><Message>no</Message></Error>"
            return web.Response(status=refused.status, text=text, content_type="application/xml")

    async def _answered(self, request: web.Request, query: Mapping[str, str]) -> web.StreamResponse:
        if session := self._sessions.get(query.get("upload_id", "")):
            return await self._resume(request, session, query["upload_id"])
        bucket, _, key = unquote(request.raw_path.partition("?")[0].removeprefix("/")).partition("/")
        if _BACK_DOOR not in request.headers:
            self._authenticate(request, query)
        elif "uploads" in query:
            return web.json_response([f"{session.bucket}/{session.key}" for session in self._sessions.values()])
        elif request.method == "PUT" and not key:
            self._buckets.setdefault(bucket, {})
            return web.Response()
        if bucket not in self._buckets:
            raise _Refused(404, "NoSuchBucket")
        if not key:
            return self._list(bucket, query)
        verbs: Mapping[str, Callable[[web.Request, str, str], Awaitable[web.StreamResponse]]] = {
            "PUT": self._put,
            "GET": self._get,
            "HEAD": self._get,
            "DELETE": self._delete,
            "POST": self._begin,
        }
        return await verbs[request.method](request, bucket, key)

    async def _put(self, request: web.Request, bucket: str, key: str) -> web.Response:
        data = await request.read()
        if span := request.headers.get("x-goog-content-length-range"):
            least, most = (int(part) for part in span.split(","))
            if not least <= len(data) <= most:
                raise _Refused(400, "EntityTooLarge" if len(data) > most else "EntityTooSmall")
        return self._stored(bucket, key, data, request.headers.get("x-goog-if-generation-match"))

    async def _get(self, request: web.Request, bucket: str, key: str) -> web.Response:
        found = self._found(bucket, key)
        data, status, headers = found.data, 200, _headers(found)
        if span := _RANGE.fullmatch(request.headers.get("Range", "")):
            start, end = int(span[1]), min(int(span[2] or len(data)) + 1, len(data))
            if start >= len(data):
                raise _Refused(416, "InvalidRange")
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
            data, status = data[start:end], 206
        return web.Response(status=status, body=data, headers=headers)

    async def _delete(self, request: web.Request, bucket: str, key: str) -> web.Response:
        del request
        self._found(bucket, key)
        del self._buckets[bucket][key]
        return web.Response(status=204)

    def _list(self, bucket: str, query: Mapping[str, str]) -> web.Response:
        prefix = query.get("prefix", "")
        after = max(query.get("start-after", ""), query.get("continuation-token", ""))
        keys = sorted(key for key in self._buckets[bucket] if key.startswith(prefix) and key > after)
        page = keys[: int(query.get("max-keys", 1000))]
        listed = "".join(_listed(key, self._buckets[bucket][key]) for key in page)
        more = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if len(page) < len(keys) else ""
        return web.Response(
            text=f"<?xml version='1.0'?><ListBucketResult>{more}{listed}</ListBucketResult>",
            content_type="application/xml",
        )

    # -------------------------------------------------------------- resumable uploads

    async def _begin(self, request: web.Request, bucket: str, key: str) -> web.Response:
        if request.headers.get("x-goog-resumable") != "start":
            raise _Refused(400, "InvalidArgument")
        session = _Session(bucket, key, request.headers.get("x-goog-if-generation-match"))
        self._check(session.bucket, session.key, session.condition)
        number = f"session-{next(self._generations)}"
        self._sessions[number] = session
        location = f"http://{request.host}{request.raw_path.partition('?')[0]}?upload_id={number}"
        return web.Response(status=201, headers={"Location": location})

    async def _resume(self, request: web.Request, session: _Session, number: str) -> web.Response:
        if request.method == "DELETE":
            del self._sessions[number]
            return web.Response(status=499)
        data = await request.read()
        span = _SPAN.fullmatch(request.headers.get("Content-Range", ""))
        if span is None or (
            span[1] and (int(span[1]) != len(session.data) or len(data) != int(span[2]) + 1 - int(span[1]))
        ):
            raise _Refused(400, "InvalidArgument")
        session.data += data
        if span[3] == "*":
            if len(data) % _UNIT:
                raise _Refused(400, "InvalidArgument")
            return web.Response(status=308, headers={"Range": f"bytes=0-{len(session.data) - 1}"})
        if int(span[3]) != len(session.data):
            raise _Refused(400, "InvalidArgument")
        stored = self._stored(session.bucket, session.key, bytes(session.data), session.condition)
        del self._sessions[number]
        return stored

    # -------------------------------------------------------------- objects

    def _found(self, bucket: str, key: str) -> _Object:
        if (found := self._buckets[bucket].get(key)) is None:
            raise _Refused(404, "NoSuchKey")
        return found

    def _check(self, bucket: str, key: str, generation: str | None) -> None:
        present = self._buckets[bucket].get(key)
        if generation is not None and int(generation) != (present.generation if present else 0):
            raise _Refused(412, "PreconditionFailed")

    def _stored(self, bucket: str, key: str, data: bytes, generation: str | None) -> web.Response:
        self._check(bucket, key, generation)
        self._buckets[bucket][key] = made = _Object(data, next(self._generations), time.time())
        return web.Response(headers=_headers(made))

    # -------------------------------------------------------------- who asks

    def _authenticate(self, request: web.Request, query: Mapping[str, str]) -> None:
        if "X-Goog-Signature" in query:
            self._verify(request, query)
            return
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        try:
            claims = jwt.decode(
                token, self._public_key, ["RS256"], options={"verify_aud": False, "require": ["exp", "iss"]}
            )
        except jwt.InvalidTokenError:
            raise _Refused(401, "AuthenticationRequired") from None
        if scheme != "Bearer" or claims["iss"] != _EMAIL:
            raise _Refused(401, "AuthenticationRequired")

    def _verify(self, request: web.Request, query: Mapping[str, str]) -> None:
        """Check a V4 signature as Google does: over the request as it came."""
        signed = query["X-Goog-SignedHeaders"].split(";")
        if any(name.lower().startswith("x-goog-") and name.lower() not in signed for name in request.headers):
            raise _Refused(403, "SignatureDoesNotMatch")
        began = datetime.strptime(query["X-Goog-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        if not began - _SKEW_S <= time.time() < began + int(query["X-Goog-Expires"]):
            raise _Refused(400, "ExpiredToken")
        path = quote(unquote(request.raw_path.partition("?")[0]), safe="/~")
        fields = sorted((name, value) for name, value in query.items() if name != "X-Goog-Signature")
        asked = "&".join(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in fields)
        lines = "".join(f"{name}:{request.headers.get(name, '')}\n" for name in signed)
        text = f"{request.method}\n{path}\n{asked}\n{lines}\n{';'.join(signed)}\nUNSIGNED-PAYLOAD"
        scope = query["X-Goog-Credential"].removeprefix(f"{_EMAIL}/")
        digest = hashlib.sha256(text.encode()).hexdigest()
        whole = f"{query['X-Goog-Algorithm']}\n{query['X-Goog-Date']}\n{scope}\n{digest}"
        try:
            signature = bytes.fromhex(query["X-Goog-Signature"])
            self._public_key.verify(signature, whole.encode(), padding.PKCS1v15(), hashes.SHA256())
        except (InvalidSignature, ValueError):
            raise _Refused(403, "SignatureDoesNotMatch") from None


def _headers(found: _Object) -> dict[str, str]:
    return {
        "ETag": found.etag,
        "x-goog-generation": str(found.generation),
        "Last-Modified": formatdate(found.modified_at, usegmt=True),
    }


def _listed(key: str, found: _Object) -> str:
    moment = datetime.fromtimestamp(found.modified_at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return (
        f"<Contents><Key>{escape(key)}</Key><Size>{len(found.data)}</Size><LastModified>{moment}</LastModified>"
        f"<ETag>{escape(found.etag)}</ETag></Contents>"
    )


def _main(port: int, key_file: Path) -> None:
    pem = json.loads(key_file.read_text())["private_key"].encode()
    key = serialization.load_pem_private_key(pem, password=None)
    assert isinstance(key, rsa.RSAPrivateKey)
    web.run_app(GcsDouble(key.public_key()).app(), host=HOST, port=port, access_log=None, print=None)


if __name__ == "__main__":
    _main(int(sys.argv[1]), Path(sys.argv[2]))
