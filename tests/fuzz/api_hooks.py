"""What the fuzzer is told beside the API's description."""

from __future__ import annotations

import base64
import itertools
from typing import Any

import schemathesis

LONGEST_WAIT_S = 0.05
LONGEST_KEY = 64
CALLS = itertools.count()
BYTES = ("data", "result")
FIELDS = ("type", "title", "status", "detail", "code", "request_id", "retryable")


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Let nobody wait for long, and write bytes as base64 and whole numbers as such.

    The description says `contentEncoding: base64`, which the fuzzer passes over; and 7.0 is an integer for a schema,
    but not for us.
    """
    return _plain(body)


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Let no sound Idempotency-Key come twice: with another body it is refused, which no schema can say."""
    key = (case.headers or {}).get("Idempotency-Key")
    if isinstance(key, str) and key.isascii() and key.isalnum() and len(key) <= LONGEST_KEY:
        case.headers["Idempotency-Key"] = f"{key}-{next(CALLS)}"


@schemathesis.check
def refusals_are_problems(context: Any, response: Any, case: Any) -> None:
    """Every 4xx and 5xx is a problem document with all its fields, but that of a probe, which says what is not ready."""
    if response.status_code < 400 or case.path.startswith("/health") or case.method == "HEAD":
        return
    kind = response.headers["content-type"][0]
    assert kind == "application/problem+json", kind
    problem = response.json()
    missing = [field for field in FIELDS if field not in problem]
    assert not missing, f"the problem lacks {missing}"
    assert problem["status"] == response.status_code
    assert problem["request_id"] == response.headers["x-request-id"][0]
    assert problem["code"] != "INTERNAL"


@schemathesis.check
def every_answer_has_its_headers(context: Any, response: Any, case: Any) -> None:
    """An answer can be found in the log, and is not guessed at by a browser."""
    assert response.headers["x-request-id"][0]
    assert response.headers["x-content-type-options"] == ["nosniff"]


def _plain(value: Any, name: str = "") -> Any:
    match value:
        case dict():
            return {inner: _plain(held, inner) for inner, held in value.items()}
        case list():
            return [_plain(inner) for inner in value]
        case float() | int() if name == "wait_s" and value > LONGEST_WAIT_S:
            return LONGEST_WAIT_S
        case float() if value.is_integer():
            return int(value)
        case str() if name in BYTES:
            return base64.b64encode(value.encode("utf-8", "surrogatepass")).decode()
    return value
