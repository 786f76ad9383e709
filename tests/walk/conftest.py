from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from walking import Walk, walking


@pytest.fixture
async def walk(tmp_path: Path) -> AsyncIterator[Walk]:
    """A running platform with real workers, and the words in which a test speaks with it."""
    async with walking(tmp_path) as walk:
        yield walk
