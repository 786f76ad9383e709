"""Workers as processes of this machine; they outlive the platform and are found again by the next one.

    {state}/workers/{uid}.json      what is kept of each worker
    {state}/logs/{app}/{uid}.log    what it printed
    {state}/compute.lock            held by the one process that may use the folder

Folders and files are readable by their owner only, and none holds a credential.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from penstock.errors import Misconfigured
from penstock.model.ids import Clock, Randomness

from ._driver import Options, ProcessCompute

__all__ = ["Options", "ProcessCompute", "connect"]


def connect(url: str, *, clock: Clock, randomness: Randomness, **options: Any) -> ProcessCompute:
    """Give the driver for `process:///abs/state/dir`; `options` are the fields of `Options`."""
    del randomness  # nothing here is left to chance
    parts = urlsplit(url)
    folder = Path(unquote(parts.path))
    if parts.netloc or not folder.is_absolute():
        raise Misconfigured(f"{url!r} names no folder: write process:///abs/state/dir, with three slashes")
    try:
        wanted = msgspec.convert(options, Options)
    except msgspec.ValidationError as error:
        raise Misconfigured(f"the process compute can't be set up: {error}") from error
    return ProcessCompute(folder, clock=clock, options=wanted)
