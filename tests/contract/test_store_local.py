from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings

from penstock.run.clock import SystemClock
from penstock.store.local import LocalStore
from penstock.testing.clock import ManualClock
from penstock.testing.suites.store import StoreRig, StoreSuite
from penstock.testing.suites.store_machine import StoreMachine


class TestLocalStore(StoreSuite):
    @pytest.fixture
    async def rig(self, tmp_path):
        folder = tmp_path / "objects"

        async def peek(key):
            path = folder / key
            return path.read_bytes() if path.is_file() else None

        async def plant(key, data):
            (folder / key).parent.mkdir(parents=True)
            (folder / key).write_bytes(data)

        async def leftovers():
            staging = folder / ".penstock/staging"
            return [str(path) for path in staging.rglob("*") if path.is_file() and path.name != "lock"]

        driver = LocalStore(folder, SystemClock())
        await driver.open()
        yield StoreRig(
            driver=driver,
            peek=peek,
            plant=plant,
            leftovers=leftovers,
            another=lambda: LocalStore(folder, SystemClock()),
            url=folder.as_uri(),
        )
        await driver.close()


class LocalStoreMachine(StoreMachine):
    def make(self):
        self.folder = getattr(self, "folder", None) or TemporaryDirectory()
        return LocalStore(Path(self.folder.name), ManualClock())

    def teardown(self):
        super().teardown()
        self.folder.cleanup()


LocalStoreMachine.TestCase.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)
TestLocalStoreMachine = LocalStoreMachine.TestCase
