"""Bodies that come from the store and results that go to it, by signed URLs, past the broker."""

from __future__ import annotations

import asyncio
from typing import Final

from penstock.errors import Conflict, Forbidden, NotFound, PenstockError, Unavailable
from penstock.model.run import Outcome, Reason
from penstock.model.wire import Assignment, SettleItem, UrlsRequest

from .broker import Broker
from .ending import Ending, Result
from .hands import settle_item

__all__ = ["fetch", "store"]

TRIES: Final = 4
PAUSE_S: Final = 0.2  # doubled with each try


async def fetch(broker: Broker, assignment: Assignment) -> bytes | Ending:
    """Give the body of an attempt, or how the attempt ends because it can't be had."""
    if assignment.body is not None:
        return assignment.body
    url = assignment.body_url
    for attempt in range(TRIES):
        try:
            url = url or (await broker.urls(_wish(assignment))).body_url
            if url is None:
                break
            return await broker.fetch(url)
        except NotFound:
            break
        except Forbidden:
            url = None  # its signature ran out: ask for a fresh one
        except PenstockError:
            await asyncio.sleep(PAUSE_S * 2**attempt)
    else:
        return Ending(Outcome.RETRY, Reason.PAYLOAD_MISSING, "the body could not be fetched from the store")
    return Ending(Outcome.FAILED, Reason.PAYLOAD_MISSING, "the body is no longer in the store")


async def store(broker: Broker, assignment: Assignment, result: Result) -> SettleItem:
    """Upload a result that is too large to travel inline; gives the report to settle with.

    A key that is taken (another attempt wrote it, or this one whose answer was lost) is left alone: the broker names
    another.
    """
    for attempt in range(TRIES):
        try:
            urls = await broker.urls(_wish(assignment, result))
            if urls.result_url is None or urls.result_key is None:
                raise Unavailable("the broker gave no URL for the result")
            await broker.store(urls.result_url, urls.result_headers, result.data)
        except (Conflict, Forbidden):
            continue
        except PenstockError:
            await asyncio.sleep(PAUSE_S * 2**attempt)
        else:
            done = Ending(Outcome.SUCCEEDED, result=result)
            return settle_item(assignment, done, result_key=urls.result_key)
    failed = Ending(Outcome.RETRY, Reason.HANDLER_ERROR, "the result could not be put into the store")
    return settle_item(assignment, failed)


def _wish(assignment: Assignment, result: Result | None = None) -> UrlsRequest:
    return UrlsRequest(
        run_id=assignment.run_id,
        epoch=assignment.epoch,
        token=assignment.token,
        result_bytes=len(result.data) if result else None,
        content_type=result.content_type if result else "application/octet-stream",
    )
