"""What an S3 URL says: the bucket, the prefix in it, and where it is reached."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from penstock.errors import Misconfigured

from .presign import Keys

__all__ = ["Address", "read"]

_SHAPE: Final = "s3://bucket/prefix?endpoint=https://host&region=us-east-1&style=path&public_endpoint=https://host"
# Where the environment may say what the URL doesn't; a name given twice is looked for in order.
_ENVIRONMENT: Final[Mapping[str, tuple[str, ...]]] = {
    "access_key_id": ("AWS_ACCESS_KEY_ID",),
    "secret_access_key": ("AWS_SECRET_ACCESS_KEY",),
    "session_token": ("AWS_SESSION_TOKEN",),
    "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
}
_OPTIONS: Final = frozenset({*_ENVIRONMENT, "style", "public_endpoint"})


class Address(msgspec.Struct, frozen=True):
    """A place in a bucket. The URLs are of the bucket itself, without a slash at their end; a key follows."""

    bucket: str
    prefix: str
    region: str
    url: str
    public_url: str
    virtual: bool
    keys: Keys | None  # None: they come from where the process runs


def read(url: str, environ: Mapping[str, str]) -> Address:
    """Give the place that a URL names; what it leaves open is looked up in the environment.

    Raises:
        Misconfigured: the URL can't be understood; the message holds no secret of it.
    """
    parts = urlsplit(url)
    told = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    if not parts.netloc or "@" in parts.netloc or told.keys() - _OPTIONS:
        raise _unclear(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}", told.keys() - _OPTIONS)
    if "access_key_id" in told:
        told.setdefault("session_token", "")  # the environment's goes with the environment's keys
    for name, variables in _ENVIRONMENT.items():
        told.setdefault(name, next((environ[variable] for variable in variables if environ.get(variable)), ""))
    return _address(parts.netloc, unquote(parts.path).strip("/"), told)


def _address(bucket: str, prefix: str, told: Mapping[str, str]) -> Address:
    region = told["region"] or "us-east-1"
    endpoint = told["endpoint"] or _of_amazon(region)
    style = told.get("style", "path" if told["endpoint"] else "virtual")
    if style not in {"path", "virtual"}:
        raise Misconfigured(f"style={style} in the URL of the store: it is path or virtual")
    if bool(told["access_key_id"]) != bool(told["secret_access_key"]):
        raise Misconfigured("the store needs both access_key_id and secret_access_key, or neither")
    keys = Keys(told["access_key_id"], told["secret_access_key"], told["session_token"])
    return Address(
        bucket,
        prefix,
        region,
        _of_bucket(endpoint, bucket, style),
        _of_bucket(told.get("public_endpoint") or endpoint, bucket, style),
        style == "virtual",
        keys if keys.access_key_id else None,
    )


def _of_amazon(region: str) -> str:
    return f"https://s3.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"


def _of_bucket(endpoint: str, bucket: str, style: str) -> str:
    scheme, _, host = endpoint.rstrip("/").partition("://")
    if scheme not in {"http", "https"} or not host or "/" in host or "?" in host:
        raise Misconfigured(f"{endpoint} is no endpoint: write http://host:port or https://host, without a path")
    return f"{scheme}://{bucket}.{host}" if style == "virtual" else f"{scheme}://{host}/{bucket}"


def _unclear(shown: str, unknown: set[str]) -> Misconfigured:
    what = f"knows no {', '.join(sorted(unknown))}" if unknown else "names no bucket"
    return Misconfigured(f"{shown} {what}: write {_SHAPE}; keys go into the environment, or as access_key_id and so on")
