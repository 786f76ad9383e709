"""Every object key: where requests, results, batches and specs lie. A public contract, read by other tools.

A run's keys begin with a home: the app's prefix, or the tenant's room under it.

    {home}/requests/{rid}                                        online request body, raw
    {home}/results/{rid}.gz                                      online result, gzip
    {home}/batch/{batch_id}/manifest.json
    {home}/batch/{batch_id}/input/{file}
    {home}/batch/{batch_id}/output/{file}.part-NNNNNNNNN.jsonl.gz
    {home}/batch/{batch_id}/errors/{file}.part-NNNNNNNNN.jsonl.gz
    {home}/batch/{batch_id}/status/{file}.json
    penstock/apps/{app}/spec.yaml, generations/{n}.yaml, status.json

Readers of outputs go by the keys that the ledger committed, never by listing a prefix.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from penstock.errors import Invalid

__all__ = [
    "APPS",
    "app_generation",
    "app_generations",
    "app_of_spec",
    "app_spec",
    "app_status",
    "batch_errors",
    "batch_errors_of_epoch",
    "batch_input",
    "batch_manifest",
    "batch_output",
    "batch_output_of_epoch",
    "batch_status",
    "checked",
    "generation_of",
    "home",
    "request",
    "request_of_run",
    "result",
    "result_of_epoch",
    "safe_file_name",
]

APPS: Final = "penstock/apps/"
DEFAULT_TENANT: Final = "default"
MAX_KEY_BYTES: Final = 1024  # what S3 allows
MAX_SEGMENT_BYTES: Final = 255  # what file systems allow
MAX_FILE_NAME_BYTES: Final = 150  # leaves room for `.part-NNNNNNNNN.{run_id}.e{epoch}.jsonl.gz`

_DEVICE: Final = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])[ ]*(\..*)?", re.IGNORECASE)
_UNSAFE: Final = frozenset('/\\:*?"<>|')
_UNSAFE_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cn", "Cs", "Zl", "Zp"})  # controls, bidi, unassigned, line breaks


def home(prefix: str, tenant: str) -> str:
    """Give where a tenant's objects of an app begin: the app's prefix, or the tenant's room under it."""
    return prefix if tenant == DEFAULT_TENANT else f"{prefix}/tenants/{tenant}"


# ------------------------------------------------------------------ online


def request(home: str, rid: str) -> str:
    """Give the key of an online body."""
    return f"{home}/requests/{rid}"


def request_of_run(home: str, rid: str, run_id: str) -> str:
    """Give the key of an online body where `request` was taken by another generation."""
    return f"{home}/requests/{rid}.{run_id}"


def result(home: str, rid: str) -> str:
    """Give the key of an online result."""
    return f"{home}/results/{rid}.gz"


def result_of_epoch(home: str, rid: str, run_id: str, epoch: int) -> str:
    """Give the key of an online result where `result` was taken by another attempt."""
    return f"{home}/results/{rid}.{run_id}.e{epoch}.gz"


# ------------------------------------------------------------------ batch


def batch_manifest(home: str, batch_id: str) -> str:
    """Give the key of what a batch is made of."""
    return f"{home}/batch/{batch_id}/manifest.json"


def batch_input(home: str, batch_id: str, file: str) -> str:
    """Give the key of an uploaded file."""
    return f"{home}/batch/{batch_id}/input/{file}"


def batch_output(home: str, batch_id: str, file: str, first: int) -> str:
    """Give the key of an output part, named by the 0-based index of its first physical line."""
    return f"{home}/batch/{batch_id}/output/{file}.part-{first:09d}.jsonl.gz"


def batch_output_of_epoch(home: str, batch_id: str, file: str, first: int, attempt: tuple[str, int]) -> str:
    """Give the key of an output part where `batch_output` was taken by another attempt (run id, epoch)."""
    run_id, epoch = attempt
    return f"{home}/batch/{batch_id}/output/{file}.part-{first:09d}.{run_id}.e{epoch}.jsonl.gz"


def batch_errors(home: str, batch_id: str, file: str, first: int) -> str:
    """Give the key of a part of failed records, named by the 0-based index of its first physical line."""
    return f"{home}/batch/{batch_id}/errors/{file}.part-{first:09d}.jsonl.gz"


def batch_errors_of_epoch(home: str, batch_id: str, file: str, first: int, attempt: tuple[str, int]) -> str:
    """Give the key of a part of failed records where `batch_errors` was taken by another attempt (run id, epoch)."""
    run_id, epoch = attempt
    return f"{home}/batch/{batch_id}/errors/{file}.part-{first:09d}.{run_id}.e{epoch}.jsonl.gz"


def batch_status(home: str, batch_id: str, file: str) -> str:
    """Give the key of how far a file is."""
    return f"{home}/batch/{batch_id}/status/{file}.json"


# ------------------------------------------------------------------ control


def app_spec(app: str) -> str:
    """Give the key of an app's present spec."""
    return f"{APPS}{app}/spec.yaml"


def app_of_spec(key: str) -> str | None:
    """Give the app whose present spec lies at a key; None for any other key."""
    app, _, rest = key.removeprefix(APPS).partition("/")
    return app if key.startswith(APPS) and rest == "spec.yaml" else None


def app_generations(app: str) -> str:
    """Give the prefix of an app's generations."""
    return f"{APPS}{app}/generations/"


def app_generation(app: str, generation: int) -> str:
    """Give the key of an app's spec as of one generation."""
    return f"{app_generations(app)}{generation}.yaml"


def generation_of(key: str) -> int:
    """Give the number in the key of a generation."""
    return int(key.rpartition("/")[2].removesuffix(".yaml"))


def app_status(app: str) -> str:
    """Give the key of an app's status."""
    return f"{APPS}{app}/status.json"


# ------------------------------------------------------------------ rules


def checked(key: str) -> str:
    """Give the key back, if every store can hold it.

    A key is of segments with a `/` between them, none empty, none beginning with a dot (so none climbs or hides), and
    without control characters or backslashes.

    Raises:
        Invalid: it is not.
    """
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        raise Invalid("an object key must be valid Unicode") from None
    if not 0 < length <= MAX_KEY_BYTES:
        raise Invalid(f"an object key takes 1 to {MAX_KEY_BYTES} bytes; this one takes {length}")
    if "\\" in key or not key.isprintable():
        _refuse_controls(key)
    for segment in key.split("/"):
        if not segment or segment[0] == ".":
            raise Invalid(f"{key!r} is no object key: a segment is empty or begins with a dot")
        if len(segment) * 4 > MAX_SEGMENT_BYTES and len(segment.encode()) > MAX_SEGMENT_BYTES:
            raise Invalid(f"{key!r} is no object key: a segment takes more than {MAX_SEGMENT_BYTES} bytes")
    return key


def _refuse_controls(key: str) -> None:
    if "\\" in key or any(unicodedata.category(letter) == "Cc" for letter in key):
        raise Invalid(f"{key!r} is no object key: it holds a control character or a backslash")


def safe_file_name(name: str) -> str:
    """Give a user's file name back, if it is one segment that is safe in a key and on anybody's disk.

    Raises:
        Invalid: it is a path, hidden, a device's name, too long, or holds a control or reserved character.
    """
    if not name or name[0] == "." or name[-1] in ". " or name[0] == " ":
        raise Invalid(f"{name!r} is no safe file name: it is empty, or begins or ends with a dot or a space")
    if _UNSAFE.intersection(name) or any(unicodedata.category(letter) in _UNSAFE_CATEGORIES for letter in name):
        raise Invalid(f"{name!r} is no safe file name: it holds a separator, a control or a reserved character")
    if len(name.encode()) > MAX_FILE_NAME_BYTES:
        raise Invalid(f"{name!r} is no safe file name: it takes more than {MAX_FILE_NAME_BYTES} bytes")
    if _DEVICE.fullmatch(name):
        raise Invalid(f"{name!r} is no safe file name: some systems keep it for a device")
    return name
