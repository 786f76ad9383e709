"""Named servers and their credentials, in `config.yaml` of the user's configuration folder.

    current_context: prod
    contexts:
      prod: {api: "https://penstock.example", api_key_env: PENSTOCK_PROD_KEY}
      local: {api: "http://127.0.0.1:8080"}

The file may hold credentials, so it is readable by its owner only; `api_key_env` keeps the key out of it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

import msgspec

from penstock.errors import Misconfigured, NotFound

__all__ = ["Context", "Contexts", "config_file", "read", "write"]


class Context(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One server, and how to be known there. At most one of the credentials is sent."""

    api: str
    api_key: str = ""
    api_key_env: str = ""  # the variable that holds the key
    token: str = ""


class Contexts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """All contexts by name, and the one in use."""

    current_context: str = ""
    contexts: dict[str, Context] = {}

    def get(self, name: str) -> Context:
        """Give a context. Raises `NotFound`."""
        found = self.contexts.get(name)
        if found is None:
            known = ", ".join(sorted(self.contexts)) or "none yet"
            raise NotFound(f"there is no context {name!r} (known: {known}); `penstock config set-context` makes one")
        return found


def config_file(environ: Mapping[str, str]) -> Path:
    """Give the file's path, by the XDG base directory specification."""
    home = environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME") or Path.home(), ".config")
    return Path(home, "penstock", "config.yaml")


def read(path: Path) -> Contexts:
    """Give the contexts of a file; none if it does not exist. Raises `Misconfigured` if it can't be understood."""
    if not path.exists():
        return Contexts()
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        document = YAML(typ="safe", pure=True).load(path.read_text())
        return msgspec.convert(document or {}, Contexts)
    except (OSError, UnicodeDecodeError, YAMLError, msgspec.ValidationError) as error:
        raise Misconfigured(f"{path} can't be read: {error}") from error


def write(path: Path, contexts: Contexts) -> None:
    """Put the contexts into the file, all at once, readable by its owner only. Raises `Misconfigured`."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    text = StringIO()
    yaml.dump(msgspec.to_builtins(contexts), text)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # A temporary file is 0600 from its first byte on.
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".config-", delete=False) as file:
            file.write(text.getvalue())
        Path(file.name).replace(path)
    except OSError as error:
        raise Misconfigured(f"{path} can't be written: {error}") from error
