"""The port to the one authority on runs: `open_ledger(url)` gives a `Ledger`, whatever database stands behind it."""

from __future__ import annotations

from ._grouping import Observer, Written
from ._ledger import Ledger, migrate, open_ledger
from .driver import Driver, Features, TellsChanges

__all__ = ["Driver", "Features", "Ledger", "Observer", "TellsChanges", "Written", "migrate", "open_ledger"]
