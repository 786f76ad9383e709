"""Objects in a bucket of S3, MinIO or another server that speaks like it.

    s3://bucket/prefix?endpoint=https://minio:9000&region=eu-west-1&style=path&public_endpoint=https://files.example

Without an endpoint it is Amazon's. `public_endpoint` is what signed URLs name, where workers and clients reach the
bucket by another name than we do. Keys come from the environment that the wiring passes in (`AWS_*`), or from the URL
(`access_key_id`, `secret_access_key`, `session_token`); without either, from the role that the process runs in. Parts of uploads whose process was killed stay in the bucket,
unseen, until a lifecycle rule (AbortIncompleteMultipartUpload) removes them.
"""

from __future__ import annotations

from collections.abc import Mapping

from penstock.errors import Misconfigured
from penstock.model.ids import Clock
from penstock.store._bucket import BucketStore

from .address import read
from .credentials import Fixed, Renewed, of_the_role
from .driver import S3

__all__ = ["connect"]


def connect(url: str, clock: Clock, environ: Mapping[str, str]) -> BucketStore:
    """Give the store that an `s3://` URL names.

    Raises:
        Misconfigured: the URL can't be understood, or the environment contradicts it.
    """
    address = read(url, environ)
    if address.keys and not address.keys.session_token and environ.get("AWS_SESSION_TOKEN"):
        # obstore would take it from the environment, and send it with keys that it does not belong to
        raise Misconfigured("AWS_SESSION_TOKEN is set and not for the keys in the store's URL: unset it")
    source = Fixed(address.keys) if address.keys else Renewed(of_the_role(environ, address.region), clock)
    return BucketStore(S3(address, source, clock), address.prefix, clock)
