"""A blob sent in blocks, that appears when their list is committed: https://learn.microsoft.com/rest/api/storageservices/put-block-list."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from penstock.store.driver import Put

__all__ = ["Ask", "Blocks"]

# Sends a request about the blob: fields of the query, body, headers; gives the answer's etag.
Ask: TypeAlias = Callable[[Mapping[str, str], bytes | bytearray, Mapping[str, str]], Awaitable[str]]


class Blocks:
    """One upload of one blob. `token` sets its blocks apart from those of others at work on the same blob."""

    def __init__(self, ask: Ask, condition: Put, token: str) -> None:
        self._ask = ask
        self._condition = condition
        self._token = token
        self._ids: list[str] = []

    async def begin(self) -> None:
        """Do nothing: a block may be sent any time."""

    async def part(self, data: bytes | bytearray) -> None:
        """Send the next block."""
        name = base64.b64encode(f"{self._token}-{len(self._ids):06}".encode()).decode()
        await self._ask({"comp": "block", "blockid": name}, data, {})
        self._ids.append(name)

    async def finish(self) -> str:
        """Make a blob of the blocks, if the condition holds."""
        headers = {"If-None-Match": "*"} if self._condition.create else {}
        if self._condition.match is not None:
            headers = {"If-Match": self._condition.match}
        listed = "".join(f"<Uncommitted>{name}</Uncommitted>" for name in self._ids)
        body = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{listed}</BlockList>'.encode()
        return await self._ask({"comp": "blocklist"}, body, headers)

    async def abort(self) -> None:
        """Do nothing: Azure forgets blocks that are in no list after a week, and shows them to nobody."""
