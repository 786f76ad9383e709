"""The door of a process: the address that it binds, and the HTTP server behind it."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import uvicorn

from penstock.errors import Misconfigured
from penstock.gateway.asgi import App
from penstock.gateway.protocol import Protocol

from .settings import Settings

__all__ = ["Server", "address", "listen", "refuse_open_doors"]

_BACKLOG: Final = 4096
_LAST_WORDS_S: Final = 2  # for answers under way, after all who wait for an end have been let go


class Server(uvicorn.Server):
    """A server that leaves signals to us."""

    def __init__(self, app: App) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=_LAST_WORDS_S,
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take no signal."""
        yield


def refuse_open_doors(settings: Settings) -> None:
    """See that only this machine can come in. Raises `Misconfigured`."""
    if not _loopback(settings.host):
        raise Misconfigured(
            f"{settings.host} can be reached from other machines, and this version knows no users yet: "
            "bind a loopback address (--host 127.0.0.1) and put a proxy that authenticates in front of it"
        )


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def listen(settings: Settings) -> Iterator[socket.socket]:
    """Give the listening socket, bound before anything else starts so that a taken port is said at once."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, settings.port))
        except OSError as error:
            raise Misconfigured(
                f"{settings.host}:{settings.port} can't be bound: {error.strerror}; choose another port with --port"
            ) from error
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        yield listener


def address(host: str, port: int) -> str:
    """Give the URL of this process's own door."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
