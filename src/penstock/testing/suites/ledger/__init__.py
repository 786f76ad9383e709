"""What every ledger driver must do. A driver is certified by a subclass with one fixture.

    class TestMine(LedgerSuite):
        @pytest.fixture
        def stage(self, tmp_path):
            return MyStage(tmp_path)

A stage knows the ledger's back door, so that nothing is confirmed by the driver alone. After each case the counters
are counted again, and what the driver says of each run is compared with what is stored.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from penstock.testing.suites.ledger.acceptance import AcceptanceCases
from penstock.testing.suites.ledger.attempts import AttemptCases
from penstock.testing.suites.ledger.book import BookCases
from penstock.testing.suites.ledger.durability import DurabilityCases
from penstock.testing.suites.ledger.order import OrderCases
from penstock.testing.suites.ledger.repairs import RepairCases
from penstock.testing.suites.ledger.scene import APP, TERMS, LedgerStage, Scene
from penstock.testing.suites.ledger.workers import WorkerCases

__all__ = ["APP", "TERMS", "LedgerStage", "LedgerSuite", "Scene"]


class LedgerSuite(AcceptanceCases, OrderCases, AttemptCases, RepairCases, WorkerCases, BookCases, DurabilityCases):
    """The cases. Each opens the driver afresh through `stage`."""

    @pytest.fixture
    def stage(self) -> LedgerStage:
        """Give the place under test."""
        raise NotImplementedError("a suite's subclass gives its stage")

    @pytest.fixture
    async def scene(self, stage: LedgerStage) -> AsyncIterator[Scene]:
        """Give the ledger, open and in play; at the end its counters are checked."""
        scene = Scene(stage, stage.ledger())
        await scene.ledger.open()
        try:
            yield scene
            await scene.check()
        finally:
            await scene.ledger.close()
