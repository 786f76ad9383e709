"""Where a handler's class comes from: `module:Class`, or `/abs/file.py:Class`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from penstock.errors import Misconfigured

from .handler import Handler

__all__ = ["import_module", "resolve"]


def resolve(reference: str) -> type[Handler]:
    """Give the Handler class that a spec names.

    Raises:
        Misconfigured: it can't be imported, has no such class, or the class is no Handler; says which.
    """
    module = import_module(reference)
    name = reference.rpartition(":")[2]
    found = getattr(module, name, None)
    if found is None:
        raise Misconfigured(f"handler {reference!r}: {module.__name__} has no class {name!r}")
    if not isinstance(found, type) or not issubclass(found, Handler):
        raise Misconfigured(f"handler {reference!r}: {name} is no class derived from penstock.Handler")
    return found


def import_module(reference: str) -> ModuleType:
    """Import the module of a handler's reference; of a file, its folder becomes importable as a script's would.

    Raises:
        Misconfigured: it can't be imported; the cause is the handler's own exception.
    """
    place, colon, name = reference.rpartition(":")
    if not colon or not place or not name.isidentifier():
        raise Misconfigured(f"handler {reference!r} must be 'module:Class' or '/path/to/file.py:Class'")
    try:
        return _import_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except Misconfigured:
        raise
    except (Exception, SystemExit) as error:  # a module may raise anything while it is imported
        what = f"{type(error).__name__}: {error}"
        raise Misconfigured(f"handler {reference!r} can't be imported: {what}") from error


def _import_file(path: Path) -> ModuleType:
    path = path.resolve()
    if not path.is_file():
        raise Misconfigured(f"handler file {path} does not exist")
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    name = _module_name(path)
    known = sys.modules.get(name)
    if known is not None:
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise Misconfigured(f"handler file {path} can't be read as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # as `import` does, so that what it pickles can be found again
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _module_name(path: Path) -> str:
    """Give the name under which a file is imported: its stem, unless that would hide another module."""
    known = sys.modules.get(path.stem)
    hidden = path.stem in sys.stdlib_module_names or (known is not None and not _is_from(known, path))
    return f"penstock_handler_{path.stem}" if hidden or not path.stem.isidentifier() else path.stem


def _is_from(module: ModuleType, path: Path) -> bool:
    return getattr(module, "__file__", None) == str(path)
