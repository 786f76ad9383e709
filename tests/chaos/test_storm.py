"""One minute of kills over a real platform, then the judge: nothing lost, one end each, no stale epoch published."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from penstock.testing.history import judge, summary

from .storm import Storm

SECONDS = float(os.environ.get("PENSTOCK_CHAOS_SECONDS", "60"))
CLIENTS = 6


@pytest.mark.chaos
@pytest.mark.timeout(SECONDS + 240)
async def test_a_storm_breaks_no_promise(tmp_path: Path) -> None:
    storm = Storm(tmp_path, _free_port(), seed=int(os.environ.get("PENSTOCK_CHAOS_SEED", "1")))
    await storm.raise_platform()
    try:
        await storm.apply()
        until = asyncio.get_running_loop().time() + SECONDS
        await asyncio.gather(storm.weather(until), *(storm.client(name, until) for name in range(CLIENTS)))
        await storm.finish(patience_s=120)
    finally:
        await storm.still()
    history = storm.gather()
    print(f"{len(history.acceptances)} accepted, {len(history.executions)} executed, {dict(storm.deeds)}")
    assert storm.deeds["kill worker"] >= SECONDS / 15
    assert storm.deeds["kill platform"] >= SECONDS / 30
    assert len(history.acceptances) >= SECONDS * 5
    violations = judge(history)
    assert not violations, summary(violations)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
