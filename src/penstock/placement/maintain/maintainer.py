"""Running the duties, each in its own rhythm."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from penstock.errors import PenstockError

from .duty import Duty

__all__ = ["Maintainer"]

_log = structlog.get_logger("penstock.maintainer")


class Maintainer:
    """Keeps every duty going, each turn once `leading` returns; calls `repaired` after one that changed something."""

    def __init__(
        self,
        duties: Sequence[Duty],
        *,
        leading: Callable[[], Awaitable[object]],
        repaired: Callable[[], None],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._duties = duties
        self._leading = leading
        self._repaired = repaired
        self._sleep = sleep

    async def run(self) -> None:
        """Work until cancelled. Each duty has a loop of its own, so one that waits for a slow cluster delays no other."""
        async with asyncio.TaskGroup() as group:
            for duty in self._duties:
                group.create_task(self._keep(duty), name=f"duty-{duty.name}")

    async def turn(self) -> int:
        """Do every duty once, in order; gives how much was repaired."""
        return sum([await self._do(duty) for duty in self._duties])

    async def _keep(self, duty: Duty) -> None:
        while True:
            await self._leading()
            if await self._do(duty):
                self._repaired()
            await self._sleep(duty.period_s)

    async def _do(self, duty: Duty) -> int:
        try:
            repaired = await duty.run()
        except PenstockError as error:
            _log.warning("duty.failed", duty=duty.name, why=error.detail)
            return 0
        except Exception:  # noqa: BLE001 - one bad duty stops no other
            _log.exception("duty.broke", duty=duty.name)
            return 0
        if repaired:
            _log.info("duty.repaired", duty=duty.name, count=repaired)
        return repaired
