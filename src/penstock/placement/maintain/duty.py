"""What all duties have in common."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Duty"]


class Duty(Protocol):
    """One thing that the maintainer looks after."""

    @property
    def name(self) -> str:
        """What it is called in logs and metrics."""
        ...

    @property
    def period_s(self) -> float:
        """How often it is done, in seconds."""
        ...

    async def run(self) -> int:
        """Do it once; gives how much it repaired."""
        ...
