"""Objects in a container of Azure Blob Storage: `azure://container/prefix?account=name`.

The account's key comes from the environment that the wiring passes in (`AZURE_STORAGE_ACCOUNT_KEY`) or from the URL
(`account_key`). `endpoint` is the account's URL where it is not `https://{account}.blob.core.windows.net`;
`public_endpoint` is what signed URLs name. A signed URL that creates can't replace; Azure signs no size, so that an
upload's is looked at afterwards. A page of a list costs what lies before it, since Azure lists from the beginning.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from penstock.errors import Misconfigured
from penstock.model.ids import Clock
from penstock.store._bucket import BucketStore

from .driver import Account, Azure

__all__ = ["connect"]

_ENVIRONMENT: Final = {"account": "AZURE_STORAGE_ACCOUNT_NAME", "account_key": "AZURE_STORAGE_ACCOUNT_KEY"}
_OPTIONS: Final = frozenset({*_ENVIRONMENT, "endpoint", "public_endpoint"})


def connect(url: str, clock: Clock, environ: Mapping[str, str]) -> BucketStore:
    """Give the store that an `azure://` URL names.

    Raises:
        Misconfigured: the URL can't be understood, or there is no key; the message holds no secret of it.
    """
    parts = urlsplit(url)
    told = {name: environ.get(variable, "") for name, variable in _ENVIRONMENT.items()}
    told |= {name: values[-1].replace(" ", "+") for name, values in parse_qs(parts.query).items()}  # a key may hold a +
    shown = f"azure://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if not parts.netloc or "@" in parts.netloc or told.keys() - _OPTIONS:
        raise Misconfigured(f"{shown} names no container: write azure://container/prefix?account=name")
    if not (told["account"] and told["account_key"]):
        raise Misconfigured(f"{shown} needs an account and its key: set {' and '.join(_ENVIRONMENT.values())}")
    try:
        raw_key = base64.b64decode(told["account_key"], validate=True)
    except binascii.Error:
        raise Misconfigured(f"the key of the account {told['account']} is no base 64: copy it again") from None
    endpoint = told.get("endpoint", f"https://{told['account']}.blob.core.windows.net").rstrip("/")
    public = told.get("public_endpoint", endpoint).rstrip("/")
    account = Account(told["account"], told["account_key"], raw_key, parts.netloc, endpoint, public)
    return BucketStore(Azure(account, clock, os.urandom(10)), unquote(parts.path), clock)
