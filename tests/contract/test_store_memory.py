import pytest

from penstock.store.memory import MemoryStore
from penstock.testing.clock import ManualClock
from penstock.testing.suites.store import StoreRig, StoreSuite


class TestMemoryStore(StoreSuite):
    @pytest.fixture
    async def rig(self):
        driver = MemoryStore(ManualClock())

        async def peek(key):
            return driver._objects[key][1] if key in driver._objects else None

        async def plant(key, data):
            donor = MemoryStore(ManualClock())
            await donor.open()
            await donor.put(key, data)
            driver._objects |= donor._objects

        async def leftovers():
            return []

        await driver.open()
        yield StoreRig(driver=driver, peek=peek, plant=plant, leftovers=leftovers)
        await driver.close()
