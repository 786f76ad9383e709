"""Objects in a bucket of S3, MinIO or another server that speaks like it.

    s3://bucket/prefix?endpoint=https://minio:9000&region=eu-west-1&style=path&public_endpoint=https://files.example

Without an endpoint it is Amazon's. `public_endpoint` is what signed URLs name, where workers and clients reach the
bucket by another name than we do. Keys come from the environment that the wiring passes in (`AWS_*`), or from the URL
(`access_key_id`, `secret_access_key`, `session_token`); without either, from the role that the process runs in. Parts of uploads whose process was killed stay in the bucket,
unseen, until a lifecycle rule (AbortIncompleteMultipartUpload) removes them.
"""

from __future__ import annotations

from collections.abc import Mapping

from penstock.model.ids import Clock
from penstock.store._bucket import BucketStore

from .address import read
from .credentials import Fixed, Renewed, of_the_role
from .driver import S3

__all__ = ["connect"]


def connect(url: str, clock: Clock, environ: Mapping[str, str]) -> BucketStore:
    """Give the store that an `s3://` URL names.

    Raises:
        Misconfigured: the URL can't be understood.
    """
    address = read(url, environ)
    source = Fixed(address.keys) if address.keys else Renewed(of_the_role(environ, address.region), clock)
    return BucketStore(S3(address, source, clock), address.prefix, clock)
