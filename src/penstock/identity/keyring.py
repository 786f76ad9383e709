"""The keys of one deployment, and the tokens made with them.

Worker tokens are EdDSA JWTs (RFC 8037, checked by RFC 8725's rules: one algorithm, issuer, audience and expiry all
required). Dispatch tokens are truncated HMAC-SHA256 over what they prove: the ledger's (state, epoch) is the authority,
the token only shows that this attempt was handed to this worker.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections import OrderedDict
from pathlib import Path
from typing import Annotated, Any, Final

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from penstock.errors import Misconfigured, Unauthenticated
from penstock.model.ids import Clock

from .claims import WorkerClaims

__all__ = ["Keyring", "open_keyring"]

_ISSUER: Final = "penstock"
_WORKERS: Final = "penstock:worker"
_LEEWAY_S: Final = 30.0
_REMEMBERED: Final = 4096
_TOKEN_BYTES: Final = 18  # 144 bits of a MAC: beyond guessing, and short on the wire


_Secret = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class _Secrets(msgspec.Struct, frozen=True):
    """The file's content. `signing` is an Ed25519 seed; all are 32 random bytes."""

    kid: str
    signing: _Secret
    dispatch: _Secret
    urls: _Secret


class Keyring:
    """Mints and checks what workers and signed URLs carry."""

    def __init__(self, secrets: _Secrets, clock: Clock) -> None:
        self._clock = clock
        self._kid = secrets.kid
        self._private = Ed25519PrivateKey.from_private_bytes(secrets.signing)
        self._public = self._private.public_key()
        self._dispatch = hmac.new(secrets.dispatch, digestmod=hashlib.sha256)
        self._verified: OrderedDict[str, tuple[float, WorkerClaims]] = OrderedDict()
        self.url_secret = secrets.urls

    def mint_worker(self, uid: str, app: str, ttl_s: float = 3600.0) -> str:
        """Give a worker's JWT: it may lease runs of this app, under this uid, for `ttl_s` seconds."""
        now = self._clock.now()
        claims = {"iss": _ISSUER, "aud": _WORKERS, "sub": uid, "app": app, "iat": int(now), "exp": int(now + ttl_s)}
        return jwt.encode(claims, self._private, algorithm="EdDSA", headers={"kid": self._kid})

    def verify_worker(self, token: str) -> WorkerClaims:
        """Give what a worker's JWT says. Raises `Unauthenticated` when it does not hold."""
        known = self._verified.get(token)
        if known is None:
            known = self._check(token)
            self._verified[token] = known
            if len(self._verified) > _REMEMBERED:
                self._verified.popitem(last=False)
        expires_at, claims = known
        if self._clock.now() > expires_at + _LEEWAY_S:
            raise Unauthenticated("the worker's token has expired; start the worker anew")
        return claims

    def _check(self, token: str) -> tuple[float, WorkerClaims]:
        try:
            # The time is judged by our own clock in `verify_worker`, so that every caller shares one clock.
            claims: dict[str, Any] = jwt.decode(
                token,
                self._public,
                algorithms=["EdDSA"],
                audience=_WORKERS,
                issuer=_ISSUER,
                options={"require": ["exp", "sub", "aud", "iss"], "verify_exp": False, "verify_iat": False},
            )
            return float(claims["exp"]), WorkerClaims(uid=str(claims["sub"]), app=str(claims["app"]))
        except (jwt.InvalidTokenError, KeyError, TypeError, ValueError) as error:
            raise Unauthenticated("the worker's token is not one of this deployment's") from error

    def dispatch_token(self, run_id: str, epoch: int, worker_uid: str) -> str:
        """Give the proof that an attempt was handed to a worker."""
        mac = self._dispatch.copy()
        mac.update(f"{run_id}\n{epoch}\n{worker_uid}".encode())
        return base64.urlsafe_b64encode(mac.digest()[:_TOKEN_BYTES]).decode()

    def check_dispatch(self, token: str, run_id: str, epoch: int, worker_uid: str) -> bool:
        """Tell whether a token is the proof for this attempt and worker."""
        expected = self.dispatch_token(run_id, epoch, worker_uid)
        return hmac.compare_digest(token.encode("utf-8", "replace"), expected.encode())

    def jwks(self) -> dict[str, Any]:
        """Give the public keys as a JWK set (RFC 7517, RFC 8037)."""
        raw = self._public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        x = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
        return {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x, "kid": self._kid, "use": "sig", "alg": "EdDSA"}]}


def open_keyring(path: str | Path, *, clock: Clock) -> Keyring:
    """Give the keyring of a file, made on first use (mode 0600, synced).

    Raises `Misconfigured` when the file can't be read or written, or is not a keyring.
    """
    path = Path(path)
    try:
        if not path.exists():
            _create(path)
        return Keyring(msgspec.json.decode(path.read_bytes(), type=_Secrets), clock)
    except OSError as error:
        raise Misconfigured(f"the keyring {path} can't be used: {error.strerror}; check who owns the folder") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise Misconfigured(
            f"{path} is not a keyring; restore it, or move it away to get a new one (live workers then start anew)"
        ) from error


def _create(path: Path) -> None:
    secrets = _Secrets(os.urandom(6).hex(), os.urandom(32), os.urandom(32), os.urandom(32))
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.urandom(6).hex()}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, msgspec.json.encode(secrets))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        os.link(draft, path)  # fails if another process was first: then its keys are the ones
    except FileExistsError:
        pass
    finally:
        draft.unlink()
