from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service_world import Urls, World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """The service over ports in memory, with the app `digits` and nobody who works."""
    world = World(tmp_path, Urls())
    await world.open()
    yield world
    await world.close()
