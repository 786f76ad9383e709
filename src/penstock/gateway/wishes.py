"""The `Penstock-*` headers of a submission, read and checked."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

import msgspec

from penstock.errors import Invalid
from penstock.model.ids import valid_run_id

from .call import Call

__all__ = ["Wishes", "moment", "wishes"]

_TAG: Final = re.compile(r"[^\x00-\x1f\x7f]{1,256}")
_APP: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")
_TRACE: Final = re.compile(r"[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
_NUMBER: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
_LONGEST_URL: Final = 2048
_HEADERS: Final = frozenset(
    {
        b"penstock-priority",
        b"penstock-deadline",
        b"penstock-tag",
        b"penstock-parent",
        b"penstock-webhook",
        b"traceparent",
    }
)


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller asks beside the work itself. `queue_ttl_s` is the longest that the run may wait, in seconds."""

    priority: int = 5
    queue_ttl_s: float | None = None
    tag: str | None = None
    parent: str | None = None
    webhook: str | None = None
    traceparent: str | None = None


_NONE: Final = Wishes()


def wishes(call: Call) -> Wishes:
    """Give what a submission's headers ask. Raises `Invalid`, naming the header and what it should hold."""
    if _HEADERS.isdisjoint(call.headers):
        return _NONE
    return Wishes(
        priority=_priority(call.text(b"penstock-priority")),
        queue_ttl_s=_deadline(call.text(b"penstock-deadline"), call.services.clock.now()),
        tag=_tag(call.headers.get(b"penstock-tag")),
        parent=_parent(call.text(b"penstock-parent")),
        webhook=_webhook(call.text(b"penstock-webhook")),
        traceparent=_trace(call.text(b"traceparent")),
    )


def moment(text: str) -> float | None:
    """Give the seconds since 1970 of an RFC 3339 time, or None if it is none."""
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _priority(value: str | None) -> int:
    if value is None:
        return 5
    if len(value) != 1 or value not in "0123456789":
        raise Invalid("Penstock-Priority is one digit, 0 to 9; 9 is served first")
    return int(value)


def _deadline(value: str | None, now: float) -> float | None:
    if value is None:
        return None
    if _NUMBER.fullmatch(value):
        seconds = float(value)
    elif (at := moment(value)) is not None:
        seconds = at - now
    else:
        raise Invalid("Penstock-Deadline is a number of seconds, or a time such as 2030-01-31T12:00:00Z")
    if seconds <= 0:
        raise Invalid("Penstock-Deadline has passed already")
    return seconds


def _tag(value: bytes | None) -> str | None:
    if value is None:
        return None
    try:
        tag = value.decode()
    except UnicodeDecodeError:
        tag = ""
    if not _TAG.fullmatch(tag):
        raise Invalid("Penstock-Tag is UTF-8 text of 1 to 256 characters without control characters")
    return tag


def _parent(value: str | None) -> str | None:
    if value is None:
        return None
    app, _, run_id = value.partition("/")
    if not (_APP.fullmatch(app) and valid_run_id(run_id)):
        raise Invalid("Penstock-Parent is {app}/{run_id}")
    return value


def _webhook(value: str | None) -> str | None:
    if value is None:
        return None
    try:
        parts = urlsplit(value)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        sound = False
    if not sound or len(value) > _LONGEST_URL or not value.isascii() or not value.isprintable():
        raise Invalid("Penstock-Webhook is an http or https URL of at most 2048 characters")
    return value


def _trace(value: str | None) -> str | None:
    # W3C Trace Context: what can't be read is ignored, never refused.
    return value if value is not None and _TRACE.fullmatch(value) else None
