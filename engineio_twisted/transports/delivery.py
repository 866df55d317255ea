"""
A payload that is complete: its packets are delivered one after the other, in turns of the reactor if they are many.

docs/architecture/turns.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime

from ..interfaces import Closing
from ..observer import Counters
from ..protocol.errors import CloseReason, DecodeError, HTTPRefusal
from ..protocol.packet import Packet, PacketType
from ..turns import TURN, inLaterTurn


class DeliveryOwner(Protocol):
    """The polling transport of a session, as far as the delivery of a payload needs it."""

    owner: Any
    counters: Counters
    isHeldBack: bool

    def deliveryEnded(self, delivery: Any) -> None:
        """Called when the session has all packets of the payload."""
        ...

    def deliveryStopped(self, delivery: Any, error: DecodeError | HTTPRefusal) -> None:
        """
        Called when the session has what comes before an error, and nothing more of the payload is delivered.

        @param error: what is no packet, or why it isn't taken.
        """
        ...


class Delivery:
    """
    A payload that a session gets.

    @param receiver: the transport.
    @param clock: the reactor.
    @param packets: the packets that the session doesn't have yet, with None where others may have their turn; None if
        the session has all of them, and receiving is to go on.
    @ivar size: bytes of the payload.
    @ivar end: how the session ends when it has all packets; None if it goes on.
    @ivar isRunning: whether packets are being delivered right now.
    @ivar isLate: whether they took more than one turn.
    @ivar isOver: whether nothing more is delivered.
    """

    isLate: bool
    isOver: bool
    isRunning: bool

    __slots__ = (
        "_clock",
        "_isQueued",
        "_packets",
        "_receiver",
        "end",
        "isLate",
        "isOver",
        "isRunning",
        "size",
    )

    def __init__(
        self,
        receiver: DeliveryOwner,
        clock: IReactorTime,
        packets: Iterator[Packet | None] | None = None,
        size: int = 0,
    ) -> None:
        self._receiver = receiver
        self._clock = clock
        self._packets = packets
        self.size: int = size
        self.end: Closing | None = None
        self.isRunning = self.isLate = self.isOver = self._isQueued = False

    @property
    def isDelivering(self) -> bool:
        """Whether packets wait to be delivered."""
        return self._packets is not None

    def deliverLater(self) -> None:
        """Deliver in a later turn of the reactor."""
        if not self._isQueued and not self.isRunning:
            self._isQueued = True
            inLaterTurn(self._clock, self._deliverOn)

    def _deliverOn(self, ends: float) -> None:
        self._isQueued = False
        # It may have been refused meanwhile.
        if not self.isOver:
            self.deliver(ends)

    def deliver(self, ends: float = 0.0) -> None:
        """
        Deliver packets until the session has all, or wants no more, or time is over.

        @param ends: when it is, by the clock; 0 stands for L{TURN} seconds from now.
        """
        receiver = self._receiver
        self.isRunning = True
        try:
            isMore = receiver.isHeldBack or self._deliverUntil(ends or self._clock.seconds() + TURN)
        except (DecodeError, HTTPRefusal) as error:
            self.isOver = True
            receiver.deliveryStopped(self, error)
            return
        finally:
            self.isRunning = False
        if not isMore:
            self.isOver = True
            receiver.deliveryEnded(self)
        elif not receiver.isHeldBack:
            self.deliverLater()

    def _deliverUntil(self, ends: float) -> bool:
        """
        Deliver packets, up to a close packet.

        @return: whether there may be more, and time is over or the session wants no more.
        @raise DecodeError: after what comes before something that isn't a packet.
        @raise HTTPRefusal: there are too many, or the session is closing. Nothing is acknowledged that nobody gets.
        """
        receiver, seconds = self._receiver, self._clock.seconds
        counters = receiver.counters
        for packet in self._packets or ():
            # The open packet may put something in between.
            owner = receiver.owner
            if packet is not None:
                counters.packetsReceived += 1
                if counters.trafficObservers:
                    counters.tell("packetsReceived", owner, (packet,), receiver)
                if packet.type is PacketType.CLOSE:
                    owner.transportClosed(
                        receiver, Closing(CloseReason.TRANSPORT_CLOSE, "close packet", isByClient=True)
                    )
                    return False
                if packet.type is PacketType.MESSAGE:
                    refusal = owner.transportMessage(receiver, packet.data)
                else:
                    refusal = owner.transportPacket(receiver, packet)
                if refusal is not None:
                    raise refusal
            if receiver.isHeldBack or seconds() >= ends:
                return True
        return False
