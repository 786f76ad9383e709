"""Which variables a worker gets: a few of the platform's own, the app's, and its order's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from penstock.compute.driver import Order
from penstock.model.app import App, encode

__all__ = ["folder", "handler_file", "of_app", "of_worker"]

_NAMES: Final = frozenset(
    {
        "HOME",
        "LANG",
        "LD_LIBRARY_PATH",
        "MKL_NUM_THREADS",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "PATH",
        "TMPDIR",
        "VIRTUAL_ENV",
    }
)
_PREFIXES: Final = ("CUDA", "LC_", "NVIDIA", "PYTHON")


def of_app(base: Mapping[str, str], app: App) -> dict[str, str]:
    """Give what every worker of an app shares: no credential is among it, so a template may hold it.

    Of the platform's own variables only those on the list pass, so no secret of the operator's shell reaches a handler.
    """
    passed = {name: value for name, value in base.items() if name in _NAMES or name.startswith(_PREFIXES)}
    return passed | app.env | {"PENSTOCK_APP": encode(app).decode()}


def of_worker(order: Order) -> dict[str, str]:
    """Give what one worker gets on top of its app's, its credential among it."""
    return {**order.env, "PENSTOCK_WORKER_UID": order.uid}


def folder(app: App, otherwise: Path) -> Path:
    """Give the folder that an app's workers run in: its handler file's, if that is a file with an absolute path."""
    file = handler_file(app)
    return file.parent if file is not None and file.parent.is_dir() else otherwise


def handler_file(app: App) -> Path | None:
    """Give the file that an app's handler is in, where the spec names one by an absolute path."""
    path = Path(app.handler.rpartition(":")[0])
    return path if path.suffix == ".py" and path.is_absolute() else None
