"""Wake-up credits in Redis Streams."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from importlib.resources import files
from typing import Any, Final, TypeVar

import msgspec
from redis import exceptions as vendors
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from penstock.errors import Misconfigured, PenstockError, Unavailable
from penstock.model.ids import Clock
from penstock.queue._waiting import WaitingRoom
from penstock.queue.driver import Features, Message

__all__ = ["Manners", "RedisQueue"]

T = TypeVar("T")
_GROUP: Final = "penstock"
_LONGEST: Final = 1_000_000  # messages of a queue; a run more than that is still in the ledger
_BATCH: Final = 1000  # arguments of one script: Lua's stack has an end
_SWEEPS: Final = 10  # within the time after which a message comes again
_START: Final = "0-0"
_ID: Final = re.compile(r"\d{1,20}-\d{1,20}")
_CONNECT_S: Final = 3.0
_AGAIN_S: Final = 0.05
_NEEDS_OPERATOR: Final = re.compile(
    r"NOAUTH|WRONGPASS|NOPERM|WRONGTYPE|unknown command|Unknown Redis command|invalid DB", re.IGNORECASE
)


class Manners(msgspec.Struct, frozen=True):
    """After how many seconds a taken message comes again, how long between looks and until an answer, and keys' prefix."""

    visibility_s: float = 30.0
    poll_s: float = 1.0
    answer_s: float = 5.0
    prefix: str = "penstock"


class RedisQueue:
    """Streams of one database. One connection hears of news; the others ask and answer."""

    features = Features(
        durability="a message survives what the Redis server's persistence survives; the maintainer sends lost ones again",
        survives_restart=True,
        many_processes=True,
        redelivers=True,
        wakes_in_order=True,
    )

    def __init__(self, url: str, database: int, clock: Clock, manners: Manners) -> None:
        self._url = url
        self._clock = clock
        self._manners = manners
        self._visibility_ms = str(max(1, round(manners.visibility_s * 1000)))
        self._channels = f"{manners.prefix}:{database}:"  # channels are of the server, not of a database
        self._redis: Redis | None = None
        self._scripts: dict[str, str] = {}  # name -> hash
        self._sweeps: dict[str, tuple[str, float]] = {}  # queue -> where the last one ended, and when the next is due
        self._room = WaitingRoom(self._take, self._give_back, manners.poll_s)
        self._ear: asyncio.Task[None] | None = None
        self._heard: PubSub | None = None
        self._followed: set[str] = set()
        self._subscribing: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Connect, and teach the server our scripts."""
        if self._redis is not None:
            return
        redis = Redis.from_url(
            self._url,
            decode_responses=True,
            socket_connect_timeout=_CONNECT_S,
            socket_timeout=self._manners.answer_s,
            socket_keepalive=True,
            # Once, at once, for connections that died while idle; a message sent twice does no harm.
            retry=Retry(NoBackoff(), 1, supported_errors=(vendors.ConnectionError,)),
        )
        try:
            await self._teach(redis)
        except BaseException:
            await redis.aclose()
            raise
        self._redis = redis
        self._room.open()
        self._ear = asyncio.create_task(self._listen(redis), name="penstock-queue-news")

    async def close(self) -> None:
        """Finish the look under way, and wake all who wait."""
        await self._room.close()
        redis, self._redis = self._redis, None
        if redis is None or self._ear is None:
            return
        left: set[asyncio.Task[None]] = {self._ear, *self._subscribing}
        while left:  # an error of a connection that is torn down may take the place of a cancellation
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=_AGAIN_S)
        await redis.aclose()

    async def send(self, queue: str, bodies: Sequence[str]) -> None:
        """Add messages, a thousand in one go."""
        for part in _batches(bodies):
            await self._run("send", queue, self._channels + queue, str(_LONGEST), *part)

    async def receive(self, queue: str, limit: int, wait_s: float) -> list[Message]:
        """Stand in line for what there is, or becomes ready while time remains."""
        if wait_s > 0 and queue not in self._followed:
            self._follow(queue)
        return await self._room.receive(queue, limit, wait_s)

    async def ack(self, messages: Sequence[Message]) -> None:
        """Forget messages."""
        ids: dict[str, list[str]] = {}
        for message in messages:
            if _ID.fullmatch(message.receipt):
                ids.setdefault(message.queue, []).append(message.receipt)
        for queue, receipts in ids.items():
            for part in _batches(receipts):
                await self._run("ack", queue, _GROUP, *part)

    async def depth(self, queue: str) -> int:
        """Count what is in the stream: what is acknowledged is deleted."""
        with _translated():
            return int(await self._server().xlen(self._stream(queue)))

    # -------------------------------------------------------------- taking

    async def _take(self, wanted: Mapping[str, int]) -> dict[str, list[Message]]:
        """Take from several queues in one round trip."""
        now = self._clock.monotonic()
        calls = []
        for queue, limit in wanted.items():
            cursor, due = self._sweeps.get(queue, (_START, 0.0))
            calls.append((queue, (_GROUP, str(limit), self._visibility_ms, cursor, str(int(now >= due)))))
        found = {}
        for (queue, _), (cursor, *taken) in zip(calls, await self._run_all("take", calls), strict=True):
            due = self._sweeps.get(queue, (_START, now))[1]
            next_due = now + self._manners.visibility_s / _SWEEPS if now >= due else due
            self._sweeps[queue] = (cursor, next_due)
            found[queue] = [Message(queue, body, number) for number, body in _pairs(taken)]
        return found

    async def _give_back(self, messages: Sequence[Message]) -> None:
        for part in _batches(messages):
            receipts = [message.receipt for message in part]
            await self._run("give_back", part[0].queue, _GROUP, self._visibility_ms, *receipts)

    # -------------------------------------------------------------- news

    def _follow(self, queue: str) -> None:
        """Hear of news of a queue from now on; once the server agrees, it is looked for what came before."""
        self._followed.add(queue)
        if self._heard is not None:
            subscribing = asyncio.create_task(self._subscribe(self._heard, queue))
            self._subscribing.add(subscribing)
            subscribing.add_done_callback(self._subscribing.discard)

    async def _subscribe(self, heard: PubSub, queue: str) -> None:
        with suppress(vendors.RedisError, OSError):  # the listener begins anew, with all that is followed
            await heard.subscribe(self._channels + queue)

    async def _listen(self, redis: Redis) -> None:
        """Wake the room at news, as long as we are open; what was missed while the connection was lost is looked for."""
        while self._redis is redis:
            with suppress(vendors.RedisError, OSError):
                async with aclosing(redis.pubsub()) as heard:
                    await heard.subscribe(self._channels)
                    self._heard = heard  # from here on, who follows a queue subscribes to it
                    await heard.subscribe(self._channels, *(self._channels + queue for queue in self._followed))
                    self._room.look_everywhere()
                    async for news in heard.listen():
                        self._room.look(str(news["channel"]).removeprefix(self._channels))
            self._heard = None
            await asyncio.sleep(self._manners.poll_s)

    # -------------------------------------------------------------- scripts

    def _server(self) -> Redis:
        if self._redis is None:
            raise Unavailable("the queue is closed")
        return self._redis

    def _stream(self, queue: str) -> str:
        return f"{self._manners.prefix}:{{{queue}}}:credits"

    async def _teach(self, redis: Redis) -> None:
        with _translated():
            for name in ("send", "take", "ack", "give_back"):
                text = files(__package__).joinpath(f"{name}.lua").read_text()
                self._scripts[name] = await redis.script_load(text)

    async def _run(self, name: str, queue: str, *arguments: str) -> Any:
        return (await self._run_all(name, [(queue, arguments)]))[0]

    async def _run_all(self, name: str, calls: Sequence[tuple[str, Sequence[str]]]) -> list[Any]:
        """Run one script for several queues; a server that began anew is taught the scripts again."""
        redis = self._server()
        try:
            return await self._try_all(redis, name, calls)
        except vendors.NoScriptError:
            await self._teach(redis)
            return await self._try_all(redis, name, calls)

    async def _try_all(self, redis: Redis, name: str, calls: Sequence[tuple[str, Sequence[str]]]) -> list[Any]:
        with _translated():
            if len(calls) == 1:
                ((queue, arguments),) = calls
                running = redis.evalsha(self._scripts[name], 1, self._stream(queue), *arguments)
                return [await running]
            async with redis.pipeline(transaction=False) as line:
                for queue, arguments in calls:
                    line.evalsha(self._scripts[name], 1, self._stream(queue), *arguments)
                return list(await line.execute())


@contextmanager
def _translated() -> Iterator[None]:
    """Turn Redis's errors into ours; that a script is unknown is for whoever can load it."""
    try:
        yield
    except vendors.NoScriptError:
        raise
    except (vendors.RedisError, OSError, TimeoutError) as error:
        raise _meaning(error) from error


def _meaning(error: Exception) -> PenstockError:
    if isinstance(error, vendors.AuthenticationError | vendors.NoPermissionError) or _NEEDS_OPERATOR.search(str(error)):
        return Misconfigured(
            f"the Redis server refused us: {error}; check its version (6.2), our user and our password"
        )
    return Unavailable(f"the Redis server is not available: {error}")


def _batches(items: Sequence[T]) -> Iterable[Sequence[T]]:
    return (items[start : start + _BATCH] for start in range(0, len(items), _BATCH))


def _pairs(items: Sequence[str]) -> Iterable[tuple[str, str]]:
    return zip(items[::2], items[1::2], strict=True)
