from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "gateway"))

from gateway_stack import a_stack
from http_server import listening

from penstock.client import AsyncClient


@pytest.fixture
async def stack(tmp_path):
    """Give a gateway over a ledger on disk, with the app `echo`."""
    async with a_stack(tmp_path) as one:
        yield one


@pytest.fixture
async def client(stack):
    """Give a client of that gateway, over HTTP."""
    async with listening(stack.app) as url, AsyncClient(url) as one:
        yield one
