"""One session, as its server sees it. docs/protocol.md, "Sessions"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..ends import attempt
from ..interfaces import LEFT, Closing
from ..protocol.errors import CloseReason, ConnectionRefusal, ErrorCode, SessionClosing
from ..protocol.handshake import openPacket, upgradesOf
from ..protocol.packet import Packet, PacketType, SharedPacket
from ..protocol.resume import Bounds, Grant, Return
from .ending import SHUTTING_DOWN
from .outbox import sizeOf
from .owner import TransportOwner
from .resumption import CAME_BACK, ResumableTransport
from .socket import Socket
from .states import HeartbeatState, Input, ReadyState, change
from .suspension import goOn, suspend
from .upgrade import Upgrade

_MESSAGE = PacketType.MESSAGE


def _unshared(packets: Sequence[SharedPacket]) -> list[Packet]:
    """Return packets of one session's own: handlers may change them, and so may code that looks at the buffer."""
    return [Packet(each.type, each.data, each.compress) for each in packets]


class Session(TransportOwner, Socket):
    """
    A L{Socket} with what the rest of the package calls: its server, its transports, and the parts of it.

    @ivar isHeard: as of L{TransportOwner}; it is asked at the opening for the first message, too.
    @ivar addressKey: under which its factory counts it by address; None if it doesn't.
    """

    addressKey: str | None = None

    @property
    def isPinging(self) -> bool:
        return self.protocol != 3

    @property
    def keepAlive(self) -> PacketType:
        # A client that pings may take a pong for the answer to a ping.
        return PacketType.NOOP if self.protocol == 3 else PacketType.PING

    # For the factory

    def open(self) -> None:
        """Send the open packet, and the initial one if there is one, and start the heartbeat."""
        options = self._host.opts
        self._step(Input.START)
        self._host.heartbeats.start(self)
        self._host.counters.sessionOpened(self)
        packets = [self._openPacket()]
        if options.initialPacket is not None:
            # It counts for nothing: no application sent it.
            packets.append(Packet(_MESSAGE, options.initialPacket))
        # In one payload.
        if self.transport.writable and not self._hasSendListeners and not self._host.server._hasSendListeners:
            self.transport.send(packets)
            return
        self._neededOutbox().put(packets)
        self.flush()

    def _openPacket(self, received: int | None = None) -> Packet:
        """
        Return the open packet.

        @param received: how many messages the client has sent, if it has come back.
        """
        options, resumption = self._host.opts, self._resumption
        grant = None
        if resumption is not None:
            bounds = Bounds(options.maxBufferedPackets, options.maxBufferedBytes)
            grant = Grant(resumption.timeout, bounds, received)
        return openPacket(self.id, upgradesOf(self.transport.name, options), options, grant)

    def sendShared(self, packets: Sequence[SharedPacket], isVolatile: bool) -> bool:
        """
        Send messages that go to others too, all or none.

        @param isVolatile: whether they are dropped if they would have to wait.
        @return: whether they are sent, or buffered.
        @raise BufferLimitExceeded: as L{send} does.
        """
        if self._readyState is not ReadyState.OPEN:
            return False
        if (
            self._outbox is None
            and not self._hasSendListeners
            and not self._host.server._hasSendListeners
            and self.transport.writable
            and (self._resumption is None or not self._resumption.exceeds([sizeOf(each.data) for each in packets]))
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
        if self._readyState is ReadyState.CLOSED:
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
        if self._readyState is ReadyState.CLOSED or not upgradesOf(self.transport.name, self._host.opts):
            return False
        if not change(self, "_upgradeState", Input.CANDIDATE):
            return False
        if self._resumption is not None:
            candidate = ResumableTransport(candidate, self._resumption)
        candidate.owner = self
        self._upgrade = Upgrade(self, candidate)
        return True

    def checkReturn(self, returning: Return) -> None:
        """
        Let the client come back, or end the session if the client has counted wrongly.

        @raise HTTPRefusal: it can't come back.
        """
        resumption: Any = self._resumption
        if self._readyState is not ReadyState.OPEN:
            raise SessionClosing
        if not resumption.mayHave(returning.received):
            what = f"the client has {returning.received} messages, of {resumption.sent} sent"
            self._end(Closing(CloseReason.PARSE_ERROR, what))
            context = {"name": "WRONG_RECEIVED", "received": returning.received, "sent": resumption.sent}
            raise ConnectionRefusal(ErrorCode.BAD_REQUEST, context, f"Bad request: {what}")

    def comeBack(self, transport: Any, returning: Return) -> None:
        """
        Go on, on another transport of the same client; what the session is on is closed, if it still has it.

        @param returning: what the client says, after L{checkReturn}.
        """
        resumption: Any = self._resumption
        wrapped = ResumableTransport(transport, resumption)
        suspend(self, Closing(CloseReason.TRANSPORT_CLOSE, CAME_BACK))
        # A handler may have closed the session.
        if self._readyState is ReadyState.OPEN and returning.attempt > resumption.attempt:
            goOn(self, wrapped, returning.attempt, returning.received, lambda: [self._openPacket(resumption.received)])
        else:
            transport.close(LEFT)

    def _hear(self, data: str | bytes) -> None:
        if self.heartbeatState is HeartbeatState.RESTING:
            # No ping asks yet whether anything comes: it is the first.
            self._host.firstMessage(self, data)
        super()._hear(data)
