"""The smallest app: it answers what it is asked."""

from __future__ import annotations

from typing import Any

from penstock import Handler

__all__ = ["Echo"]


class Echo(Handler):
    """Gives each input back: a JSON object as JSON, anything else as the bytes that came."""

    def predict(self, batch: list[Any]) -> list[Any]:
        """Give the inputs."""
        return batch
