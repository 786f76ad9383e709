"""Objects in a bucket of Google Cloud Storage: `gs://bucket/prefix?credentials=/path/of/a/key.json`.

The key file is of a service account that may use the bucket; without `credentials`, it is the one that the environment
names (`GOOGLE_APPLICATION_CREDENTIALS`). Its private key signs URLs too. `endpoint` names another server that speaks
like Google's; `public_endpoint` is what signed URLs name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from penstock.errors import Misconfigured
from penstock.model.ids import Clock
from penstock.store._bucket import BucketStore

from .driver import Gcs, Place

__all__ = ["connect"]

_GOOGLE: Final = "https://storage.googleapis.com"
_OPTIONS: Final = frozenset({"credentials", "endpoint", "public_endpoint"})


class _Account(msgspec.Struct):
    """What we read of a key file."""

    client_email: str
    private_key: str


def connect(url: str, clock: Clock, environ: Mapping[str, str]) -> BucketStore:
    """Give the store that a `gs://` URL names.

    Raises:
        Misconfigured: the URL or the key file can't be used.
    """
    parts = urlsplit(url)
    told = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if not parts.netloc or "@" in parts.netloc or told.keys() - _OPTIONS:
        shown = f"gs://{parts.netloc.rpartition('@')[2]}{parts.path}"
        raise Misconfigured(f"{shown} names no bucket: write gs://bucket/prefix?credentials=/path/of/a/key.json")
    path = told.get("credentials") or environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    if not path:
        raise Misconfigured("there is no key for GCS: set GOOGLE_APPLICATION_CREDENTIALS to a service account's file")
    text, account = _account(Path(path))
    endpoint = told.get("endpoint", _GOOGLE).rstrip("/")
    public_endpoint = told.get("public_endpoint", endpoint).rstrip("/")
    place = Place(parts.netloc, endpoint, public_endpoint, text, account.client_email, account.private_key)
    return BucketStore(Gcs(place, clock), unquote(parts.path), clock)


def _account(path: Path) -> tuple[str, _Account]:
    """Give a key file, as text and as what we read of it."""
    try:
        text = path.read_text()
        return text, msgspec.json.decode(text, type=_Account)
    except OSError as error:
        raise Misconfigured(f"the key file {path} can't be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{path} is no key file of a service account") from error
