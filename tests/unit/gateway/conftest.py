from __future__ import annotations

import pytest
from gateway_stack import a_stack


@pytest.fixture
async def stack(tmp_path):
    """Give a gateway over a ledger on disk, with the app `echo`."""
    async with a_stack(tmp_path) as one:
        yield one
