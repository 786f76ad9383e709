from __future__ import annotations

from pathlib import Path

import pytest
from pretended_server import Penstock


@pytest.fixture
def penstock(tmp_path: Path) -> Penstock:
    """Give the program, with an empty home."""
    return Penstock(tmp_path)
