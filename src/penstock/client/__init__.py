"""The client of the HTTP API, for programs, for the command line and for tests."""

from .aio import AsyncClient
from .apps import AsyncApps
from .blocking import Apps, Client
from .failures import RunCancelled, RunFailed, Unfinished, Unreachable
from .patience import Patience
from .tickets import Answer, Input, Ticket, Wishes

__all__ = [
    "Answer",
    "Apps",
    "AsyncApps",
    "AsyncClient",
    "Client",
    "Input",
    "Patience",
    "RunCancelled",
    "RunFailed",
    "Ticket",
    "Unfinished",
    "Unreachable",
    "Wishes",
]
