"""Penstock: a durable queue in front of GPUs, with exactly one result for every accepted request.

What a program needs of it is here: `Handler` and the words around it to serve a model, `Client` and `AsyncClient` to
submit runs. Each is imported when it is first asked for, so `import penstock` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .client import AsyncClient, Client
    from .worker.current import CurrentRun, current_run, current_runs
    from .worker.handler import Handler, InvalidInput, Response, Retry

__all__ = [
    "AsyncClient",
    "Client",
    "CurrentRun",
    "Handler",
    "InvalidInput",
    "Response",
    "Retry",
    "__version__",
    "current_run",
    "current_runs",
]

_HOMES = {
    "AsyncClient": "client",
    "Client": "client",
    "CurrentRun": "worker.current",
    "Handler": "worker.handler",
    "InvalidInput": "worker.handler",
    "Response": "worker.handler",
    "Retry": "worker.handler",
    "current_run": "worker.current",
    "current_runs": "worker.current",
}


def __getattr__(name: str) -> Any:
    """Give a public name, importing what it needs (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'penstock' has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value  # the next time it is found without us
    return value


def __dir__() -> list[str]:
    """Give the public names, those not imported yet too."""
    return sorted({*globals(), *__all__})
