"""A POST whose body is complete: its packets are delivered, and then it is answered."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

from twisted.internet.interfaces import IReactorTime

from ..protocol.errors import TooManyPackets
from ..protocol.packet import Packet
from ..protocol.payload import Codec
from .delivery import Delivery, DeliveryOwner


def packetsOf(
    payload: str | bytes | Generator[None, None, str | bytes],
    codec: Codec,
    limit: int | None,
    accepted: Callable[[], object],
) -> Iterator[Packet | None]:
    """
    Read the packets of a POST, with None in between if that takes long.

    @param payload: the payload, or what reads it in as many steps as that takes.
    @param limit: C{maxPacketsPerPayload}.
    @param accepted: called before the first packet, when the payload is one.
    @raise DecodeError: on reaching something that isn't a packet.
    @raise TooManyPackets: before the first, if there are more than may be.
    """
    if not isinstance(payload, str | bytes):
        payload = yield from payload
    # The shortest packet is a byte.
    if limit is not None and len(payload) > limit:
        isTooMuch = yield from codec.holdsMore(payload, limit)
        if isTooMuch:
            raise TooManyPackets(limit)
    accepted()
    yield from codec.decodePayload(payload)


class Push(Delivery):
    """
    A POST whose body is complete, and that isn't answered yet.

    @param packets: as of L{Delivery}; None if the session has all of them, and the POST is answered when it goes on
        receiving.
    @ivar exchange: the request, an L{IExchange}; None once its connection is lost.
    """

    __slots__ = ("exchange",)

    def __init__(
        self,
        receiver: DeliveryOwner,
        clock: IReactorTime,
        exchange: Any,
        packets: Iterator[Packet | None] | None = None,
        size: int = 0,
    ) -> None:
        super().__init__(receiver, clock, packets, size)
        self.exchange: Any = exchange
