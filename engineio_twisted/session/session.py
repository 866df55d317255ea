"""
One session, as its transports and its server see it. docs/protocol.md, "Sessions".

What every session has is here and in L{Socket}, which is all that an application sees of it. What few have at a time is
an object, made when it is needed: L{Outbox}, L{Pace}, L{Inbox}, L{Upgrade}, L{Ending}, L{SessionWork}.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zope.interface import implementer

from ..ends import attempt
from ..interfaces import Closing, ITransport, ITransportOwner
from ..protocol.errors import HTTPRefusal, SessionClosing
from ..protocol.handshake import openPacket, upgradesOf
from ..protocol.packet import Packet, PacketType, SharedPacket
from .ending import SHUTTING_DOWN
from .heartbeats import HeartbeatTimer
from .outbox import HEARTBEATS
from .patience import Patience
from .socket import Socket
from .states import HeartbeatState, Input, ReadyState, change
from .upgrade import Upgrade

# Asked for with each message, which this makes a little shorter.
_OPEN, _CLOSED = ReadyState.OPEN, ReadyState.CLOSED
_MESSAGE = PacketType.MESSAGE


def _unshared(packets: Sequence[SharedPacket]) -> list[Packet]:
    """Return packets of one session's own: handlers may change them, and so may code that looks at the buffer."""
    return [Packet(each.type, each.data, each.compress) for each in packets]


@implementer(ITransportOwner)
class Session(Socket):
    """
    A L{Socket} with what the rest of the package calls: its server, its transports, and the parts of it.

    @ivar heartbeatState: a L{HeartbeatState}.
    @ivar heartbeatTimer: where it waits for the next heartbeat, None while it doesn't.
    @ivar isHeard: whether a message has come since it was last asked whether one does; True if nobody asks. It is asked
        at the opening for the first message, and with each ping.
    @ivar patience: a L{Patience} while the time of the client's heartbeat is over or stands still, otherwise None.
    @ivar addressKey: under which its factory counts it by address; None if it doesn't.
    """

    # A Transport that is an ITransport, too.
    transport: Any
    heartbeatState = HeartbeatState.STOPPED
    heartbeatTimer: HeartbeatTimer | None = None
    isHeard = True
    patience: Patience | None = None
    addressKey: str | None = None

    # For the factory

    def open(self) -> None:
        """Send the open packet, and the initial one if there is one, and start the heartbeat."""
        options = self._host.opts
        self._step(Input.START)
        self._host.heartbeats.start(self)
        self._host.counters.sessionOpened(self)
        packets = [openPacket(self.id, upgradesOf(self.transport.name, options), options)]
        if options.initialPacket is not None:
            # It counts for nothing: no application sent it.
            packets.append(Packet(_MESSAGE, options.initialPacket))
        # In one payload.
        if self.transport.writable and not self._hasSendListeners and not self._host.server._hasSendListeners:
            self.transport.send(packets)
            return
        self._neededOutbox().put(packets)
        self.flush()

    def sendPacket(self, packet: Packet) -> None:
        """Send a packet that isn't a message."""
        if self._readyState is not _OPEN:
            return
        if (
            self._outbox is None
            and not self._hasSendListeners
            and not self._host.server._hasSendListeners
            and self.transport.writable
        ):
            self.transport.send((packet,))
        else:
            self._neededOutbox().send((packet,))

    def sendShared(self, packets: Sequence[SharedPacket], isVolatile: bool) -> bool:
        """
        Send messages that go to others too, all or none.

        @param isVolatile: whether they are dropped if they would have to wait.
        @return: whether they are sent, or buffered.
        @raise BufferLimitExceeded: as L{send} does.
        """
        if self._readyState is not _OPEN:
            return False
        if (
            self._outbox is None
            and not self._hasSendListeners
            and not self._host.server._hasSendListeners
            and self.transport.writable
        ):
            taken = self.transport.send(packets)
            if taken < len(packets):
                # No limit parts them.
                self._neededOutbox().put(_unshared(packets[taken:]))
            return True
        if isVolatile and not self.isDrained:
            return False
        return self._neededOutbox().send(_unshared(packets))

    def goAway(self, closesBy: float) -> None:
        """
        Close the session because its server is drained: what is buffered goes out first, then the client is told.

        It takes as long as the client does, and what the client sends is received. The caller ends what is left.

        @param closesBy: the time until which the connection may take what it is sent.
        """
        self._close(SHUTTING_DOWN._replace(deadline=closesBy), isDrain=True)

    def shutDown(self) -> None:
        """End the session because its server closes: what can be sent at once is, the client is told."""
        if self._readyState is _CLOSED:
            return
        self._endingFor(SHUTTING_DOWN)
        if self._outbox is not None and self._outbox.packets:
            attempt(self._outbox.closeTransport, session=self)
        self._end(SHUTTING_DOWN)

    def tryUpgrade(self, candidate: Any) -> bool:
        """
        Let a WebSocket try to replace polling.

        @return: whether it may; if not, it isn't touched.
        """
        if self._readyState is _CLOSED or not upgradesOf(self.transport.name, self._host.opts):
            return False
        if not change(self, "_upgradeState", Input.CANDIDATE):
            return False
        candidate.owner = self
        self._upgrade = Upgrade(self, candidate)
        return True

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
            if inbox is None or not inbox.endLater(closing):
                self._end(closing)
        elif inbox is not None and transport is inbox.earlier:
            self._end(closing)
        elif self._upgrade is not None and transport is self._upgrade.candidate:
            self._upgrade.abandon()

    # What the parts of a session need of it

    def heartbeatDue(self) -> None:
        """Called when the time of a heartbeat is over."""
        self._host.heartbeats.due(self)

    def receive(self, packet: Packet) -> None:
        """Do what a packet of the client's says, and tell the application."""
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
            if self.heartbeatState is HeartbeatState.RESTING:
                # No ping asks yet whether anything comes: it is the first.
                self._host.firstMessage(self, data)
            self._host.heartbeats.hear(self)
        if self.hears("packet"):
            self.emit("packet", Packet(_MESSAGE, data))
        # A handler may have closed the session, and nothing comes after its close event.
        if self._readyState is not _CLOSED:
            self.emit("data", data)
        if self._readyState is not _CLOSED:
            self.emit("message", data)

    def flush(self) -> None:
        """Give the transport what it takes of what is buffered, and let the producer go on."""
        if self._readyState is ReadyState.CLOSING:
            self._neededOutbox().flush()
        elif self._outbox is not None:
            self._outbox.flush()
        if self._pace is not None:
            self._pace.resume()
