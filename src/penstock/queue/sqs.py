"""Queues of Amazon SQS: `sqs://eu-west-1/prefix-?visibility=30`; each is made, named prefix + name, at its first use.

Keys come from the environment that the wiring passes in (`AWS_*`) or from the URL (`access_key_id`,
`secret_access_key`, `session_token`); without either, from where the process runs, as Amazon's own client finds them.
`endpoint` names another server that speaks like it. Receivers of one queue share one long poll.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar
from urllib.parse import parse_qs, urlsplit

import msgspec
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from penstock.errors import Invalid, Misconfigured, PenstockError, Unavailable
from penstock.model.ids import Clock

from .driver import Features, Message

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient
    from types_aiobotocore_sqs.literals import QueueAttributeNameType

__all__ = ["Place", "SqsQueue", "connect"]

T = TypeVar("T")
_BatchCall: TypeAlias = Callable[[Sequence[str], "SQSClient", str], Awaitable[None]]
_Waiter: TypeAlias = asyncio.Future[list[Message]]
_BATCH: Final = 10  # messages of one call, says SQS
_LONG_POLL_S: Final = 20  # the same
_LONGEST_NAME: Final = 80  # the same
_CALLS: Final = 10  # under way at once for one caller
_KEPT_S: Final = 14 * 24 * 3600
_MARK: Final = ":"  # before each body, since SQS takes no empty one
_COUNTS: Final[Sequence[QueueAttributeNameType]] = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
)
_ENVIRONMENT: Final = {
    "access_key_id": "AWS_ACCESS_KEY_ID",
    "secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "session_token": "AWS_SESSION_TOKEN",
    "endpoint": "AWS_ENDPOINT_URL_SQS",
}
_ABSENT: Final = frozenset({"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"})
_NEEDS_OPERATOR: Final = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "OptInRequired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)


class Place(msgspec.Struct, frozen=True):
    """Where queues lie, what their names begin with, and how one gets at them."""

    region: str
    prefix: str
    visibility_s: int
    told: Mapping[str, str] = {}


def connect(url: str, clock: Clock, environ: Mapping[str, str]) -> SqsQueue:
    """Give the queues of a region that an `sqs://` URL names.

    Raises:
        Misconfigured: the URL can't be understood; the message holds no secret of it.
    """
    del clock
    parts = urlsplit(url)
    told = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    try:
        visibility_s = math.ceil(float(told.pop("visibility", 30.0)))
    except ValueError:
        visibility_s = 0
    if (
        not parts.netloc
        or "@" in parts.netloc
        or not 0 < visibility_s <= 12 * 3600
        or told.keys() - _ENVIRONMENT.keys()
    ):
        shown = f"sqs://{parts.netloc.rpartition('@')[2]}{parts.path}"
        raise Misconfigured(f"{shown} names no queues: write sqs://region/prefix?visibility=30&endpoint=https://host")
    if "access_key_id" not in told:
        told |= {name: environ[variable] for name, variable in _ENVIRONMENT.items() if environ.get(variable)} | told
    return SqsQueue(Place(parts.netloc, parts.path.strip("/") or "penstock-", visibility_s, told))


class SqsQueue:
    """Queues of one region behind one client."""

    features = Features(
        durability="a message is kept by SQS in several data centres for 14 days, once it is sent",
        survives_restart=True,
        many_processes=True,
        redelivers=True,
        wakes_in_order=True,
    )

    def __init__(self, place: Place) -> None:
        self._place = place
        self._stack = AsyncExitStack()
        self._client: SQSClient | None = None
        self._urls: dict[str, str] = {}
        self._lines: dict[str, _Line] = {}  # those in which somebody waits, or for whom a poll is under way
        self._returns: set[asyncio.Future[None]] = set()

    async def open(self) -> None:
        """Make the client, and ask it something."""
        if self._client is not None:
            return
        told = self._place.told
        making = get_session().create_client(
            "sqs",
            region_name=self._place.region,
            endpoint_url=told.get("endpoint"),
            aws_access_key_id=told.get("access_key_id"),
            aws_secret_access_key=told.get("secret_access_key"),
            aws_session_token=told.get("session_token"),
            config=AioConfig(
                connect_timeout=5,
                read_timeout=_LONG_POLL_S + 10,
                max_pool_connections=100,  # each queue that is waited at holds one
                retries={"total_max_attempts": 2, "mode": "standard"},  # for connections that died while idle
            ),
        )
        client = await self._stack.enter_async_context(making)
        try:
            with _translated(self._place):
                await client.list_queues(QueueNamePrefix=self._place.prefix, MaxResults=1)
        except BaseException:
            await self._stack.aclose()
            raise
        self._client = client

    async def close(self) -> None:
        """Send all who wait home; what a poll under way takes comes again by itself."""
        self._client, open_until_now = None, self._client is not None
        if not open_until_now:
            return
        lines = list(self._lines.values())
        for line in lines:
            for waiter in line.waiting:
                _give(waiter, [])
            if line.poll is not None:
                line.poll.cancel()
        if waits := [*self._returns, *(line.poll for line in lines if line.poll is not None)]:
            await asyncio.wait(waits)
        self._lines.clear()
        await self._stack.aclose()

    async def send(self, queue: str, bodies: Sequence[str]) -> None:
        """Add messages, ten a call."""
        await self._each(queue, bodies, _send)

    async def receive(self, queue: str, limit: int, wait_s: float) -> list[Message]:
        """Ask once, or stand in line at the queue's long poll."""
        self._connected()
        if wait_s <= 0:
            return await self._seen_through(queue, self._fetch(queue, limit, 0))
        loop = asyncio.get_running_loop()
        line = self._lines.setdefault(queue, _Line())
        waiter: _Waiter = loop.create_future()
        line.waiting[waiter] = (limit, loop.time() + wait_s)
        if line.poll is None:
            line.poll = asyncio.create_task(self._serve(queue, line), name=f"penstock-queue-{queue}")
        timer = loop.call_later(wait_s, _give, waiter, [])
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and waiter.exception() is None:
                self._return(queue, waiter.result())
            raise
        finally:
            timer.cancel()
            line.waiting.pop(waiter, None)

    async def ack(self, messages: Sequence[Message]) -> None:
        """Forget messages, ten a call; a receipt that SQS does not know is passed over."""
        receipts: dict[str, list[str]] = {}
        for message in messages:
            queue, _, handle = message.receipt.partition(" ")
            if handle and queue == message.queue:
                receipts.setdefault(queue, []).append(handle)
        for queue, handles in receipts.items():
            await self._each(queue, handles, _delete)

    async def depth(self, queue: str) -> int:
        """Count what is sent and not acknowledged, as far as SQS knows just now."""
        return await self._at(queue, _count)

    # -------------------------------------------------------------- waiting

    async def _serve(self, queue: str, line: _Line) -> None:
        """Poll as long as somebody waits, and deal what comes to those who wait longest."""
        try:
            while line.waiting:
                wanted, until = line.wanted()
                remaining = until - asyncio.get_running_loop().time()
                wait_s = min(_LONG_POLL_S, max(1, math.ceil(remaining)))
                messages = await self._fetch(queue, wanted, wait_s)
                while messages and line.waiting:
                    waiter, (limit, _) = line.waiting.popitem(last=False)
                    if not waiter.done():
                        waiter.set_result(messages[:limit])
                        messages = messages[limit:]
                self._return(queue, messages)
        except PenstockError as error:
            for waiter in line.waiting:
                if not waiter.done():
                    waiter.set_exception(error)
            line.waiting.clear()
        finally:
            line.poll = None
            if self._lines.get(queue) is line:
                del self._lines[queue]

    async def _seen_through(self, queue: str, fetching: Awaitable[list[Message]]) -> list[Message]:
        """Wait for messages; if cancelled meanwhile, give back what comes."""
        task = asyncio.ensure_future(fetching)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._remember(asyncio.ensure_future(self._give_back_late(queue, task)))
            raise

    async def _give_back_late(self, queue: str, fetching: asyncio.Future[list[Message]]) -> None:
        await self._give_back(queue, await fetching)

    def _return(self, queue: str, messages: Sequence[Message]) -> None:
        if messages and self._client is not None:
            self._remember(asyncio.ensure_future(self._give_back(queue, messages)))

    def _remember(self, returned: asyncio.Future[None]) -> None:
        """Let it end by itself; if it fails, the messages come again all the same, only later."""
        self._returns.add(returned)
        returned.add_done_callback(self._returns.discard)
        returned.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _give_back(self, queue: str, messages: Sequence[Message]) -> None:
        await self._each(queue, [message.receipt.partition(" ")[2] for message in messages], _show_again)

    # -------------------------------------------------------------- calls

    async def _fetch(self, queue: str, limit: int, wait_s: int) -> list[Message]:
        """Take up to ten messages; if there were ten, the rest in calls side by side."""
        found = await self._fetch_some(queue, min(limit, _BATCH), wait_s)
        if len(found) < _BATCH or limit <= _BATCH:
            return found
        sizes = [min(_BATCH, limit - start) for start in range(_BATCH, limit, _BATCH)][:_CALLS]
        for more in await asyncio.gather(*(self._fetch_some(queue, size, 0) for size in sizes), return_exceptions=True):
            if not isinstance(more, BaseException):  # what was taken already must not be lost by an error
                found += more
        return found

    async def _fetch_some(self, queue: str, limit: int, wait_s: int) -> list[Message]:
        async def fetch(client: SQSClient, url: str) -> list[Message]:
            answer = await client.receive_message(
                QueueUrl=url,
                MaxNumberOfMessages=limit,
                WaitTimeSeconds=wait_s,
                VisibilityTimeout=self._place.visibility_s,
            )
            return [
                Message(queue, each["Body"].removeprefix(_MARK), f"{queue} {each['ReceiptHandle']}")
                for each in answer.get("Messages", ())
            ]

        return await self._at(queue, fetch)

    async def _each(self, queue: str, items: Sequence[str], call: _BatchCall) -> None:
        """Make a call for every ten items, some calls side by side."""
        batches = [items[start : start + _BATCH] for start in range(0, len(items), _BATCH)]
        for start in range(0, len(batches), _CALLS):
            some = batches[start : start + _CALLS]
            await asyncio.gather(*(self._at(queue, partial(call, batch)) for batch in some))

    async def _at(self, queue: str, call: Callable[[SQSClient, str], Awaitable[T]]) -> T:
        """Make a call with a queue's URL; a queue that somebody removed is made again."""
        with _translated(self._place):
            client, known = self._connected(), queue in self._urls
            url = self._urls.get(queue) or await self._made(queue)
            try:
                return await call(client, url)
            except ClientError as error:
                if not known or _code(error) not in _ABSENT:
                    raise
            return await call(client, await self._made(queue))

    async def _made(self, queue: str) -> str:
        """Give a queue's URL; it is made if absent, and left as it is if an operator made it."""
        client, name = self._connected(), self._place.prefix + queue
        if len(name) > _LONGEST_NAME:
            raise Invalid(f"{name} is too long a name for SQS: at most {_LONGEST_NAME} letters, with the prefix")
        try:
            answer: Any = await client.get_queue_url(QueueName=name)
        except ClientError as error:
            if _code(error) not in _ABSENT:
                raise
            answer = await client.create_queue(
                QueueName=name,
                Attributes={
                    "MessageRetentionPeriod": str(_KEPT_S),
                    "VisibilityTimeout": str(self._place.visibility_s),
                },
            )
        self._urls[queue] = str(answer["QueueUrl"])
        return self._urls[queue]

    def _connected(self) -> SQSClient:
        if self._client is None:
            raise Unavailable("the queue is closed")
        return self._client


class _Line:
    """Who waits at one queue for how much and until when, longest first; and the poll for them."""

    __slots__ = ("poll", "waiting")

    def __init__(self) -> None:
        self.waiting: OrderedDict[_Waiter, tuple[int, float]] = OrderedDict()
        self.poll: asyncio.Task[None] | None = None

    def wanted(self) -> tuple[int, float]:
        """Give how much all want together, and until when the last of them waits."""
        return sum(limit for limit, _ in self.waiting.values()), max(until for _, until in self.waiting.values())


async def _send(items: Sequence[str], client: SQSClient, url: str) -> None:
    answer = await client.send_message_batch(
        QueueUrl=url,
        Entries=[{"Id": str(number), "MessageBody": _MARK + body} for number, body in enumerate(items)],
    )
    if failed := answer.get("Failed"):
        raise Unavailable(f"SQS took {len(items) - len(failed)} of {len(items)} messages: {failed[0]['Code']}")


async def _delete(items: Sequence[str], client: SQSClient, url: str) -> None:
    await client.delete_message_batch(
        QueueUrl=url,
        Entries=[{"Id": str(number), "ReceiptHandle": handle} for number, handle in enumerate(items)],
    )


async def _show_again(items: Sequence[str], client: SQSClient, url: str) -> None:
    await client.change_message_visibility_batch(
        QueueUrl=url,
        Entries=[
            {"Id": str(number), "ReceiptHandle": handle, "VisibilityTimeout": 0} for number, handle in enumerate(items)
        ],
    )


async def _count(client: SQSClient, url: str) -> int:
    answer = await client.get_queue_attributes(QueueUrl=url, AttributeNames=_COUNTS)
    return sum(int(answer["Attributes"][name]) for name in _COUNTS)


def _give(waiter: _Waiter, messages: list[Message]) -> None:
    if not waiter.done():
        waiter.set_result(messages)


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def _translated(place: Place) -> Iterator[None]:
    """Turn Amazon's errors into ours."""
    try:
        yield
    except ClientError as error:
        if (code := _code(error)) in _NEEDS_OPERATOR:
            raise Misconfigured(
                f"SQS in {place.region} refused us ({code}): check the keys and what they permit"
            ) from error
        raise Unavailable(f"SQS in {place.region} is not available: {code}") from error
    except NoCredentialsError as error:
        raise Misconfigured("there are no keys for SQS: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") from error
    except (BotoCoreError, OSError, TimeoutError) as error:
        raise Unavailable(f"SQS in {place.region} gave no answer: {error}") from error
