"""The worker face: what the broker and a worker exchange, as JSON or MessagePack."""

from __future__ import annotations

from collections.abc import Coroutine
from functools import lru_cache
from typing import Any, Final, TypeVar, cast

import msgspec

from penstock.errors import Invalid, Malformed
from penstock.model import wire
from penstock.model.run import Outcome

from .body import read
from .call import Call
from .hangup import HungUp, while_connected
from .reply import JSON, Reply, encode

__all__ = ["checkpoint", "extend", "lease", "leave", "replica_died", "settle", "urls"]

T = TypeVar("T", bound=msgspec.Struct)
R = TypeVar("R", bound=wire.LeaseReply)

_MSGPACK: Final = wire.MSGPACK.encode()
_PACKED: Final = (b"content-type", _MSGPACK)
_BODY_MAX_BYTES: Final = 64 * 1024 * 1024  # many small results, or a checkpoint; a large result goes to the store
_pack: Final = msgspec.msgpack.Encoder().encode


async def lease(call: Call) -> Reply:
    """`POST /internal/v1/lease`: wait for runs, and hold them."""
    ask = await _read(call, wire.LeaseRequest)
    return _write(call, await _unless_gone(call, call.services.broker.lease(call.worker, ask, ask.replica), ask))


async def settle(call: Call) -> Reply:
    """`POST /internal/v1/settle`: report attempts that ended, and wait for the next work if any is wanted."""
    ask = await _read(call, wire.SettleRequest)
    return _write(call, await _unless_gone(call, call.services.broker.settle(call.worker, ask), ask.want))


async def extend(call: Call) -> Reply:
    """`POST /internal/v1/extend`: the heartbeat."""
    return _write(call, await call.services.broker.extend(call.worker, await _read(call, wire.ExtendRequest)))


async def checkpoint(call: Call) -> Reply:
    """`POST /internal/v1/checkpoint`: save what a later attempt resumes from."""
    return _write(call, await call.services.broker.checkpoint(call.worker, await _read(call, wire.CheckpointRequest)))


async def urls(call: Call) -> Reply:
    """`POST /internal/v1/urls`: fresh signed URLs for a live attempt."""
    return _write(call, await call.services.broker.urls(call.worker, await _read(call, wire.UrlsRequest)))


async def leave(call: Call) -> Reply:
    """`POST /internal/v1/exit`: may this idle worker go?"""
    await _read(call, wire.ExitRequest)
    return _write(call, await call.services.broker.exit(call.worker))


async def replica_died(call: Call) -> Reply:
    """`POST /internal/v1/replica-died`: take back at once what a dead replica held."""
    await call.services.broker.replica_died(call.worker, await _read(call, wire.ReplicaDied))
    return Reply(204, [])


async def _unless_gone(call: Call, work: Coroutine[Any, Any, R], want: wire.Want | None) -> R:
    """Give what the broker gives, as long as the worker is there to take it; what came too late is released."""
    if want is None or want.wait_s <= 0:
        return await work
    try:
        return await while_connected(call.receive, work)
    except HungUp as gone:
        if isinstance(gone.unread, wire.LeaseReply) and gone.unread.attempts:
            await call.services.broker.settle(call.worker, _released(gone.unread))
        raise


def _released(reply: wire.LeaseReply) -> wire.SettleRequest:
    return wire.SettleRequest(
        done=tuple(
            wire.SettleItem(run_id=held.run_id, epoch=held.epoch, token=held.token, outcome=Outcome.RELEASED)
            for held in reply.attempts
        )
    )


@lru_cache(maxsize=64)
def _decoder(kind: type[T], packed: bool) -> msgspec.msgpack.Decoder[T] | msgspec.json.Decoder[T]:
    return msgspec.msgpack.Decoder(kind) if packed else msgspec.json.Decoder(kind)


async def _read(call: Call, kind: type[T]) -> T:
    data = await read(call, _BODY_MAX_BYTES)
    packed = call.headers.get(b"content-type") == _MSGPACK
    try:
        return cast("T", _decoder(kind, packed).decode(data))
    except msgspec.ValidationError as error:
        raise Invalid(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"the body can't be read: {error}") from error


def _write(call: Call, value: msgspec.Struct) -> Reply:
    """Give the reply in the form the worker accepts; without a word about it, in the form in which it asked."""
    wanted = call.headers.get(b"accept")
    if wanted is None or wanted == b"*/*":
        wanted = call.headers.get(b"content-type", b"")
    if _MSGPACK in wanted:
        return Reply(200, [_PACKED], _pack(value))
    return Reply(200, [JSON], encode(value))
