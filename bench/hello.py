"""The ceiling: the same HTTP server with an application that reads a body and says hello."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .stage import eventually


async def hello(request: Request) -> Response:
    await request.body()
    return Response(b'{"hello":"world"}', media_type="application/json")


def main() -> None:
    port = int(sys.argv[1])
    app = Starlette(routes=[Route("/hello", hello, methods=["POST"])])
    config = uvicorn.Config(app, port=port, http="httptools", log_config=None, access_log=False, lifespan="off")
    with asyncio.Runner(loop_factory=uvloop.Loop) as runner:
        runner.run(uvicorn.Server(config).serve())


@contextmanager
def serving(port: int) -> Iterator[None]:
    """Serve in a process of its own."""
    import socket

    process = subprocess.Popen([sys.executable, "-m", "bench.hello", str(port)])

    def there() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        eventually(there, "hello serves")
        yield
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
