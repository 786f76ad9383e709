"""What other processes did to runs that someone waits for here."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Final

import structlog

from penstock.errors import PenstockError
from penstock.ledger import Ledger

from .notices import Notices

__all__ = ["hear"]

_log = structlog.get_logger("penstock.serving")
_AT_ONCE: Final = 32  # runs that are read at the same time


async def hear(ledger: Ledger, notices: Notices) -> None:
    """Wake those who wait here for a run that another process changed, until cancelled.

    For a ledger with `features.tells_changes`. What is missed costs a waiter time only: it looks again by itself.
    """
    async with aclosing(ledger.changes()) as groups:
        async for run_ids in groups:
            awaited = notices.awaited
            wanted = [*awaited.intersection(run_ids)] if run_ids else [*awaited]
            for start in range(0, len(wanted), _AT_ONCE):
                await asyncio.gather(*(_pass_on(ledger, notices, one) for one in wanted[start : start + _AT_ONCE]))


async def _pass_on(ledger: Ledger, notices: Notices, run_id: str) -> None:
    try:
        run = await ledger.run(run_id)
    except PenstockError as error:
        _log.warning("news.unread", run=run_id, why=error.detail)
        return
    if run is not None:
        notices.publish(run)
