"""
One session, as its transports see it at either end of it. docs/protocol.md, "Sessions".

What every session has is here and in L{BaseSocket}, which is all that an application sees of it. What few have at a
time is an object, made when it is needed: L{Outbox}, L{Pace}, L{Inbox}, L{Upgrade}, L{Ending}, L{SessionWork}.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zope.interface import implementer

from ..interfaces import Closing, ITransport, ITransportOwner
from ..protocol.errors import HTTPRefusal, SessionClosing
from ..protocol.packet import Packet, PacketType
from .base import BaseSocket
from .heartbeats import HeartbeatTimer
from .outbox import HEARTBEATS
from .patience import Patience
from .states import HeartbeatState, ReadyState
from .suspension import suspend

# Asked for with each message, which this makes a little shorter.
_OPEN, _CLOSED = ReadyState.OPEN, ReadyState.CLOSED
_MESSAGE = PacketType.MESSAGE


@implementer(ITransportOwner)
class TransportOwner(BaseSocket):
    """
    A L{BaseSocket} with what its transports and its parts call.

    @ivar heartbeatState: a L{HeartbeatState}.
    @ivar heartbeatTimer: where it waits for the next heartbeat, None while it doesn't.
    @ivar isHeard: whether a message has come since it was last asked whether one does; True if nobody asks. It is asked
        with each ping.
    @ivar patience: a L{Patience} while the time of the peer's heartbeat is over or stands still, otherwise None.
    """

    # A Transport that is an ITransport, too.
    transport: Any
    heartbeatState = HeartbeatState.STOPPED
    heartbeatTimer: HeartbeatTimer | None = None
    isHeard = True
    patience: Patience | None = None

    @property
    def isPinging(self) -> bool:
        """Whether this end is the one that pings."""
        raise NotImplementedError

    @property
    def keepAlive(self) -> PacketType:
        """The type of packet by which the peer hears of this end while nothing of the peer's is read."""
        raise NotImplementedError

    def sendPacket(self, packet: Packet) -> None:
        """Send a packet of a heartbeat."""
        if self._readyState is not _OPEN:
            return
        if self._resumption is not None:
            self.emit("packetCreate", packet)
            # It passes messages that wait to be acknowledged.
            self.transport.sendHeartbeat(packet.type)
        elif (
            self._outbox is None
            and not self._hasSendListeners
            and not self._host.server._hasSendListeners
            and self.transport.writable
        ):
            self.transport.send((packet,))
        else:
            self._neededOutbox().send((packet,))

    # ITransportOwner

    def transportReady(self, transport: ITransport) -> None:
        if transport is not self.transport:
            return
        # Nearly always there is nothing to send, and nobody waits for it.
        if self._outbox is not None or self._pace is not None or self._readyState is ReadyState.CLOSING:
            self.flush()
        if self._outbox is not None:
            self._outbox.ready()
        if self._upgrade is not None:
            self._upgrade.pollWaits()

    def transportMessage(self, transport: ITransport, data: str | bytes) -> HTTPRefusal | None:
        if transport is self.transport and self._readyState is _OPEN and self._inbox is None:
            handlers = self._handlers
            if handlers is None or "packet" in handlers or "data" in handlers or not self.isHeard:
                self._receiveMessage(data)
            else:
                # Nearly always, and the same.
                self.emit("message", data)
            return None
        return self._holdOrRefuse(transport, Packet(_MESSAGE, data))

    def transportPacket(self, transport: ITransport, packet: Packet) -> HTTPRefusal | None:
        if transport is self.transport and self._readyState is _OPEN and self._inbox is None:
            self.receive(packet)
            return None
        return self._holdOrRefuse(transport, packet)

    def _holdOrRefuse(self, transport: ITransport, packet: Packet) -> HTTPRefusal | None:
        """Take a packet that can't just be delivered, or return why not."""
        inbox = self._inbox
        # A client that is refused a message would go away without fetching what there is for it.
        if self._isReceiving and self.isFrom(transport):
            if inbox is None or transport is inbox.earlier:
                self.receive(packet)
            else:
                inbox.add(packet)
            return None
        if self._upgrade is not None and transport is self._upgrade.candidate:
            self._upgrade.received(packet)
            return None
        return SessionClosing()

    def isFrom(self, transport: ITransport) -> bool:
        """Return whether what comes by a transport is of this session: by its own, or by that before an upgrade."""
        return transport is self.transport or (self._inbox is not None and transport is self._inbox.earlier)

    def transportDelivered(self, transport: ITransport) -> None:
        if transport is self.transport:
            self._host.heartbeats.delivered(self)
        if self._inbox is not None and transport is self._inbox.earlier:
            self._inbox.earlierDelivered()
        if self._readyState is ReadyState.CLOSING:
            self.flush()

    def transportClosed(self, transport: ITransport, closing: Closing) -> None:
        inbox = self._inbox
        if transport is self.transport:
            if closing.isLoss and suspend(self, closing):
                return
            if inbox is None or not inbox.endLater(closing):
                self._end(closing)
        elif inbox is not None and transport is inbox.earlier:
            if not closing.isLoss or not suspend(self, closing):
                self._end(closing)
        elif self._upgrade is not None and transport is self._upgrade.candidate:
            self._upgrade.abandon()

    # What the parts of a session need of it

    @property
    def observed(self) -> Any:
        return self

    @property
    def answersPoll(self) -> bool:
        """Whether the transport takes a packet that isn't a message."""
        return bool(self.transport.writable if self._resumption is None else self.transport.takesHeartbeats)

    def silent(self, closing: Closing) -> None:
        """Called when the peer hasn't sent its heartbeat in time."""
        if not suspend(self, closing):
            self._end(closing)

    def hasLost(self) -> None:
        """Called when the session is suspended, before the application is told."""

    def sendBuffered(self, packets: Sequence[Packet]) -> None:
        """Send messages that the transport doesn't take because of the limits."""
        self._neededOutbox().send(packets)

    def heartbeatDue(self) -> None:
        """Called when the time of a heartbeat is over."""
        self._host.heartbeats.due(self)

    def receive(self, packet: Packet) -> None:
        """Do what a packet of the peer's says, and tell the application."""
        if packet.type is _MESSAGE:
            self._receiveMessage(packet.data)
            return
        isHeartbeat = packet.type in HEARTBEATS
        if not isHeartbeat and not self.isHeard:
            self._host.heartbeats.hear(self)
        self.emit("packet", packet)
        if isHeartbeat:
            self._host.heartbeats.received(self, packet.type)

    def _receiveMessage(self, data: str | bytes) -> None:
        if not self.isHeard:
            self._hear(data)
        if self.hears("packet"):
            self.emit("packet", Packet(_MESSAGE, data))
        # A handler may have closed the session, and nothing comes after its close event.
        if self._readyState is not _CLOSED:
            self.emit("data", data)
        if self._readyState is not _CLOSED:
            self.emit("message", data)

    def _hear(self, data: str | bytes) -> None:
        """Called with a message if it was asked whether one comes."""
        self._host.heartbeats.hear(self)

    def flush(self) -> None:
        """Give the transport what it takes of what is buffered, and let the producer go on."""
        if self._readyState is ReadyState.CLOSING:
            self._neededOutbox().flush()
        elif self._outbox is not None:
            self._outbox.flush()
        if self._pace is not None:
            self._pace.resume()
