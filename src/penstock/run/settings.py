"""The settings of one process: a typed record read from a file, the environment and the command line, in that order.

    penstock.yaml            ledger: sqlite:////var/lib/penstock/ledger.db
    the environment          PENSTOCK__LEDGER=sqlite:////var/lib/penstock/ledger.db
    the command line         penstock up --state /var/lib/penstock

A backend is a URL. What is left empty is derived from `state`, the folder that holds all of the embedded default.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from penstock.errors import Misconfigured

__all__ = ["PREFIX", "Settings", "masked", "read_settings"]

PREFIX: Final = "PENSTOCK__"
_FILE: Final = "penstock.yaml"
_SECRET_FIELD: Final = re.compile(r"([?&]\w*(?:key|secret|token|password|sas)\w*=)[^&]*")


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that a process of the platform is told from outside."""

    state: str = ""  # the folder of the embedded default
    keys: str = ""  # the file of the signing keys, the same for all processes; empty = keys.json in the state folder
    host: str = "127.0.0.1"
    port: int = 8080
    public_url: str = ""  # the base of every URL that is handed out
    worker_api: str = ""  # where workers find a gateway; empty = the public URL
    ledger: str = ""
    queue: str = "memory:"
    store: str = ""
    control_store: str = ""  # empty = the store
    compute: str = ""
    inline_max_bytes: int = 32 * 1024
    t_sync_seconds: float = 3.0
    tick_seconds: float = 1.0
    drain_seconds: float = 10.0
    log_level: str = "info"


def read_settings(
    environ: Mapping[str, str], *, file: Path | None = None, flags: Mapping[str, Any] | None = None
) -> Settings:
    """Give the settings of this process, with every derived one filled in.

    Raises:
        Misconfigured: a name is unknown or a value is of the wrong kind; says which, where, and what was meant.
    """
    values: dict[str, Any] = {}
    values |= _from_file(file or Path(_FILE), needed=file is not None)
    values |= _from_environment(environ)
    values |= {name: value for name, value in (flags or {}).items() if value is not None}
    try:
        settings = msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise Misconfigured(f"a setting is wrong: {error}") from error
    return _derived(settings, environ)


def _from_file(path: Path, *, needed: bool) -> dict[str, Any]:
    if not path.exists():
        if needed:
            raise Misconfigured(f"there is no settings file {path}")
        return {}
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        document = YAML(typ="safe", pure=True).load(StringIO(path.read_text()))
    except (YAMLError, OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"the settings file {path} can't be read: {error}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise Misconfigured(f"the settings file {path} must hold a mapping of names to values")
    return {_known(str(name), str(path)): value for name, value in document.items()}


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    found = {name: value for name, value in environ.items() if name.startswith(PREFIX)}
    return {_known(name.removeprefix(PREFIX).lower(), name): value for name, value in found.items()}


def _known(name: str, source: str) -> str:
    if name in Settings.__struct_fields__:
        return name
    near = difflib.get_close_matches(name, Settings.__struct_fields__, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; known are: {', '.join(Settings.__struct_fields__)}"
    raise Misconfigured(f"{source}: there is no setting {name!r}{hint}")


def _derived(settings: Settings, environ: Mapping[str, str]) -> Settings:
    state = Path(settings.state or _state_home(environ)).expanduser().absolute()
    return msgspec.structs.replace(
        settings,
        state=str(state),
        keys=settings.keys or f"{state}/keys.json",
        ledger=settings.ledger or f"sqlite:///{state}/ledger.db",
        queue=settings.queue if settings.queue != "sql:" else f"sql:///{state}/queue.db",
        store=settings.store or f"file://{state}/store",
        compute=settings.compute or f"process://{state}",
    )


def _state_home(environ: Mapping[str, str]) -> Path:
    """Give the folder that the XDG base directory specification sets aside for state."""
    home = environ.get("XDG_STATE_HOME") or Path(environ.get("HOME", "~")) / ".local" / "state"
    return Path(home) / "penstock"


def masked(settings: Settings) -> dict[str, Any]:
    """Give the settings for people to read: passwords, keys and tokens in URLs are masked."""
    shown = msgspec.to_builtins(settings)
    return {name: _mask(value) if isinstance(value, str) else value for name, value in shown.items()}


def _mask(value: str) -> str:
    password = urlsplit(value).password if "://" in value else None
    value = value.replace(f":{password}@", ":***@") if password else value
    return _SECRET_FIELD.sub(r"\1***", value) if "://" in value else value
