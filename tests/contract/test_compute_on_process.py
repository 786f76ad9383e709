"""Real processes keep the contract: started fresh, forked from a warm template, watched with and without pidfds."""

import sys
from pathlib import Path

import pytest

from penstock.compute.process import _driver
from penstock.compute.process._exits import Polling
from penstock.testing.suites.compute import ComputeSuite

sys.path.append(str(Path(__file__).parents[1] / "unit/compute/programs"))

from staging import ProcessStage  # it lies beside the programs it runs


@pytest.mark.live
class TestFresh(ComputeSuite):
    @pytest.fixture
    async def stage(self, tmp_path):
        return ProcessStage(tmp_path, fork=False)


@pytest.mark.live
class TestForked(ComputeSuite):
    @pytest.fixture
    async def stage(self, tmp_path):
        return ProcessStage(tmp_path, fork=True)


@pytest.mark.live
class TestPolled(ComputeSuite):
    """As on a system without pidfds."""

    @pytest.fixture
    async def stage(self, tmp_path, monkeypatch):
        monkeypatch.setattr(_driver, "exits", Polling)
        return ProcessStage(tmp_path, fork=False)
