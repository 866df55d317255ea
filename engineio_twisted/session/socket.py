"""
One session, as the application and its transports see it. docs/protocol.md, "Sessions".

What every session has is here; what few have at a time is an object, made when it is needed: L{Outbox}, L{Pace},
L{Inbox}, L{Upgrade}, L{Ending}, L{SessionWork}.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from twisted.internet.interfaces import IConsumer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ..ends import attempt, hasRoom, needRoom
from ..interfaces import Closing, ITransport, ITransportOwner
from ..logs import beginningOfId
from ..protocol.errors import HTTPRefusal, SessionClosing
from ..protocol.handshake import openPacket, upgradesOf
from ..protocol.packet import Packet, PacketType, SharedPacket
from .ending import CLOSED_BY_SERVER, SHUTTING_DOWN, Ending
from .heartbeats import HeartbeatTimer
from .outbox import HEARTBEATS, Outbox, SendCallback, messageOf
from .patience import Patience
from .producing import Pace
from .receiving import Inbox
from .states import HeartbeatState, Input, ReadyState, UpgradeState, change
from .upgrade import Upgrade
from .work import WorkOwner

# Asked for with each message, which this makes a little shorter.
_OPEN, _CLOSED = ReadyState.OPEN, ReadyState.CLOSED
_MESSAGE = PacketType.MESSAGE


def _beginEnding(session: Any) -> None:
    session.ending.begin()


@implementer(ITransportOwner, IConsumer)
class Socket(WorkOwner):
    """
    One session, from its handshake to its end, on whatever transport it is.

    Three things call this: its transports, with what the client did; the application, which sends and closes; and
    the clock. It is an C{IConsumer}: a producer may write to it, at the pace of the client.

    Events, with their arguments: C{open}; C{packet(packet)} for each packet received and C{packetCreate(packet)} for
    each made; C{data(data)} and C{message(data)} for a message; C{heartbeat} for a pong, or, in revision 3, a ping;
    C{flush(packets)} before and C{drain} after the buffer goes to the transport, and C{drain} when the socket is
    L{writable} again after somebody asked and it wasn't; C{upgrading(transport)},
    C{upgrade(transport)}; C{error(exception)} when a handler raised one; C{close(reason, description)}, the last one.

    @ivar id: the session id, which is a secret of the client.
    @ivar protocol: the revision of the protocol.
    @ivar transport: the transport it is on.
    @ivar host: what it knows of its server, an L{ISessionHost}.
    @ivar upgradeState: an L{UpgradeState}.
    @ivar heartbeatState: a L{HeartbeatState}.
    @ivar heartbeatTimer: where it waits for the next heartbeat, None while it doesn't.
    @ivar isHeard: whether a message has come since it was last asked whether one does; True if nobody asks.
    @ivar patience: a L{Patience} while the time of the client's heartbeat is over or stands still, otherwise None.
    @ivar addressKey: under which its factory counts it by address; None if it doesn't.
    @ivar outbox: an L{Outbox} while something waits for the transport, otherwise None.
    @ivar inbox: an L{Inbox} while what the client sent is held, otherwise None.
    @ivar pace: the L{Pace} of a producer, None if there is none.
    @ivar upgrade: an L{Upgrade} while a WebSocket tries to replace polling, otherwise None.
    @ivar ending: an L{Ending} when it is closing or closed, otherwise None.
    """

    _log = Logger()
    _readyState = ReadyState.OPENING
    upgradeState = UpgradeState.NONE
    heartbeatState = HeartbeatState.STOPPED
    heartbeatTimer: HeartbeatTimer | None = None
    isHeard = True
    patience: Patience | None = None
    addressKey: str | None = None
    outbox: Outbox | None = None
    inbox: Inbox | None = None
    pace: Pace | None = None
    upgrade: Upgrade | None = None
    ending: Ending | None = None

    def __init__(self, sid: str, host: Any, transport: Any, exchange: Any, protocol: int) -> None:
        self.id = sid
        self.host = host
        self.transport = transport
        self._exchange = exchange
        self.protocol = protocol
        transport.owner = self

    # For the application

    @property
    def request(self) -> Any:
        """The session's first request, a L{twisted.web.server.Request}, made of what came when it is asked for."""
        return self._exchange.request

    @property
    def server(self) -> Any:
        """The L{Server}."""
        return self.host.server

    @property
    def readyState(self) -> ReadyState:
        """C{opening}, C{open}, C{closing} or C{closed}."""
        return self._readyState

    @property
    def upgrading(self) -> bool:
        """Whether a WebSocket is trying to replace polling."""
        return self.upgradeState in (UpgradeState.PROBING, UpgradeState.PROBED)

    @property
    def upgraded(self) -> bool:
        """Whether the session has moved from polling to WebSocket."""
        return self.upgradeState is UpgradeState.DONE

    @property
    def remoteAddress(self) -> str | None:
        """The client's IP address, by the first request (L{Server.clientOf}); None on a UNIX socket."""
        address: str | None = self.host.addressOf(self._exchange)
        return address

    @property
    def writeBuffer(self) -> list[Packet]:
        """Packets that the transport hasn't taken yet; on C{close}, those that it never will. To be read only."""
        return [] if self.outbox is None else self.outbox.packets

    @property
    def bufferedAmount(self) -> int:
        """How many bytes wait for the client: of messages in the buffer, and those that its connection hasn't taken."""
        amount: int = self.transport.bufferedAmount
        return amount if self.outbox is None else amount + self.outbox.size

    @property
    def heldBytes(self) -> int:
        """
        How many bytes the client sent that the application hasn't got yet.

        They are of a message or a POST that isn't complete, wait for their turn, or are held while receiving is paused.
        What is compressed counts as it came.
        """
        amount: int = self.transport.heldBytes
        if self.inbox is not None:
            amount += self.inbox.heldBytes
        if self.upgrade is not None:
            amount += self.upgrade.candidate.heldBytes
        return amount

    @property
    def writable(self) -> bool:
        """
        Whether a message sent now goes out without waiting for the client.

        Once this was False, the event C{drain} says when it is True again.
        """
        isWritable = self.isDrained
        if not isWritable and self._readyState is not _CLOSED:
            self._neededOutbox().isAwaited = True
        return isWritable

    @property
    def isDrained(self) -> bool:
        """Whether nothing waits for the client, and a message would not have to."""
        isEmpty = self.outbox is None or not self.outbox.packets
        return self._readyState is _OPEN and isEmpty and bool(self.transport.writable)

    def send(  # type: ignore[override]
        self, data: object, callback: SendCallback | None = None, *, compress: bool = True
    ) -> Socket:
        """
        Send a message. It waits in the buffer until the transport can take it. After L{close} this does nothing.

        Causes the events C{packetCreate}, and then or later C{flush} and C{drain}. A message that would have to wait
        with more than C{maxBufferedPackets} and C{maxBufferedBytes} allow isn't sent: by C{bufferLimitAction} the
        session ends with C{buffer limit exceeded}, or the callback is told, or this raises.

        @param data: text as str; binary as bytes, bytearray, memoryview or array, copied at once; anything else
            is sent as the text that C{str} makes of it.
        @param callback: called with the transport when it has taken the message, in the order of sending; or at once
            with a L{BufferLimitExceeded}, if the message is dropped; otherwise never for one that wasn't sent.
        @param compress: whether the message may be compressed.
        @return: this socket.
        @raise ValueError: the text holds a lone surrogate, which no encoding can carry.
        @raise BufferLimitExceeded: more is buffered than may be, and C{bufferLimitAction} is C{"raise"}.
        """
        message, utf8 = messageOf(data)
        if self._readyState is _OPEN:
            if (
                self.outbox is None
                and callback is None
                and not self.hasSendListeners
                and not self.host.server.hasSendListeners
                and self.transport.writable
            ):
                # Nearly always. By the outbox it comes to the same, as nobody is told anything.
                self.transport.sendMessage(message, utf8, compress)
            else:
                self._neededOutbox().send(Packet(_MESSAGE, message, compress), callback)
        if self.pace is not None:
            self.pace.wrote()
        return self

    write = send

    def close(self, discard: bool = False) -> None:
        """
        Close the session: what is buffered goes out first, then the client is told.

        With a client that doesn't take it, or on polling without a waiting GET, this takes until it does, 30 seconds at
        most. Nothing is received any more. Causes C{close} with the reason C{forced close}; with C{ping timeout} when a
        polling client hasn't polled by the time when it would have to answer a ping.

        @param discard: drop what is buffered, and close at once.
        @raise RecursionError: the stack is full. The session is as before.
        """
        if not discard:
            self._close(CLOSED_BY_SERVER)
            return
        needRoom()
        if self.outbox is not None:
            self.outbox.clear()
        self.end(CLOSED_BY_SERVER)

    def pauseReceiving(self) -> None:
        """
        Hold the client back: nothing that it sends is read, and no message is emitted, until L{resumeReceiving}.

        What has come already is held as it came, neither inflated nor decoded: the rest of what was read at once, or of
        one POST, whose answer waits too. L{heldBytes} counts it. It is delivered in order when receiving goes on, even
        if the client has left meanwhile. It is dropped if the server ends the session. Heartbeats go on, but no pong is
        expected: C{pingTimeout} counts the time in which receiving goes on.

        If a handler of a message calls this, the other events of that message are still emitted, and no other message.
        Does nothing a second time, and on a session that isn't open.
        """
        inbox = self.inbox
        if not self._isReceiving or (inbox is not None and inbox.isPaused):
            return
        if inbox is None:
            self.inbox = Inbox(self, isPaused=True)
            self.host.heartbeats.pause(self)
            self.transport.pauseReceiving()
        else:
            self.host.heartbeats.pause(self)
            inbox.pause()

    @property
    def _isReceiving(self) -> bool:
        """Whether what the client sends reaches the application; while the server is drained it still does."""
        if self._readyState is _OPEN:
            return True
        return self._readyState is ReadyState.CLOSING and self.ending is not None and self.ending.isDrain

    def resumeReceiving(self) -> None:
        """
        Go on after L{pauseReceiving}: deliver what is held, in the next turns of the reactor, and read more.

        Without a pause this does nothing.
        """
        if self.inbox is not None:
            self.inbox.resume()

    # IConsumer

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Let a producer write to this socket at the pace of the client: each C{write} is a message.

        A push producer is paused while more than 64 KiB are buffered that the client doesn't take, and resumed when
        nothing is. A pull producer is asked for more in a turn of the reactor after it has written, while there is
        room. When the session ends, or begins to close, the producer is told to stop.

        @param producer: an C{IPushProducer}, or, if not C{streaming}, an C{IPullProducer} such as
            L{twisted.protocols.basic.FileSender}.
        @raise RuntimeError: there is one already.
        """
        if self.pace is not None:
            known = self.pace.producer
            raise RuntimeError(f"{producer!r} can't be registered: {known!r} is, and never was unregistered")
        if self._readyState is not _OPEN:
            self.callHandler("producer", producer.stopProducing)
            return
        self.pace = Pace(self, producer, streaming)
        self.pace.wrote()

    def unregisterProducer(self) -> None:
        """Let go of the producer, if there is one. The session goes on."""
        pace, self.pace = self.pace, None
        if pace is not None:
            pace.leave()

    # For the factory

    def open(self) -> None:
        """Send the open packet, and the initial one if there is one, and start the heartbeat."""
        options = self.host.opts
        self._step(Input.START)
        self.host.heartbeats.start(self)
        self.host.counters.sessionOpened(self)
        packets = [openPacket(self.id, upgradesOf(self.transport.name, options), options)]
        if options.initialPacket is not None:
            # It counts for nothing: no application sent it.
            packets.append(Packet(_MESSAGE, options.initialPacket))
        # In one payload.
        if self.transport.writable and not self.hasSendListeners and not self.host.server.hasSendListeners:
            self.transport.send(packets)
            return
        outbox = self._neededOutbox()
        for packet in packets:
            outbox.put(packet)
        self.flush()

    def sendPacket(self, packet: Packet) -> bool:
        """
        Send a packet that isn't of this session's application alone: of its own, or one that goes to others too.

        @return: whether it is sent, or buffered.
        @raise BufferLimitExceeded: as L{send} does.
        """
        if self._readyState is not _OPEN:
            return False
        if (
            self.outbox is None
            and not self.hasSendListeners
            and not self.host.server.hasSendListeners
            and self.transport.writable
        ):
            self.transport.send((packet,))
            return True
        if isinstance(packet, SharedPacket):
            # Handlers may change it, and whoever looks at the buffer.
            packet = Packet(packet.type, packet.data, packet.compress)
        return self._neededOutbox().send(packet)

    def goAway(self, closesBy: float) -> None:
        """
        Close the session because its server is drained: what is buffered goes out first, then the client is told.

        It takes as long as the client does, and what the client sends is received. The caller ends what is left.

        @param closesBy: the time until which the connection may take what it is sent.
        """
        self._close(SHUTTING_DOWN._replace(deadline=closesBy))

    def shutDown(self) -> None:
        """End the session because its server closes: what can be sent at once is, the client is told."""
        if self._readyState is _CLOSED:
            return
        self._endingFor(SHUTTING_DOWN)
        if self.outbox is not None and self.outbox.packets:
            attempt(self.outbox.closeTransport, session=self)
        self.end(SHUTTING_DOWN)

    def tryUpgrade(self, candidate: Any) -> bool:
        """
        Let a WebSocket try to replace polling.

        @return: whether it may; if not, it isn't touched.
        """
        if self._readyState is _CLOSED or not upgradesOf(self.transport.name, self.host.opts):
            return False
        if not change(self, "upgradeState", Input.CANDIDATE, self):
            return False
        candidate.owner = self
        self.upgrade = Upgrade(self, candidate)
        return True

    # ITransportOwner

    def transportReady(self, transport: ITransport) -> None:
        if transport is not self.transport:
            return
        # Nearly always there is nothing to send, and nobody waits for it.
        if self.outbox is not None or self.pace is not None or self._readyState is ReadyState.CLOSING:
            self.flush()
        if self.outbox is not None:
            self.outbox.ready()
        if self.upgrade is not None:
            self.upgrade.pollWaits()

    def transportMessage(self, transport: ITransport, data: str | bytes) -> HTTPRefusal | None:
        if transport is self.transport and self._readyState is _OPEN and self.inbox is None:
            handlers = self._handlers
            if handlers is None or "packet" in handlers or "data" in handlers or not self.isHeard:
                self._receiveMessage(data)
            else:
                # Nearly always, and the same.
                self.emit("message", data)
            return None
        return self._holdOrRefuse(transport, Packet(_MESSAGE, data))

    def transportPacket(self, transport: ITransport, packet: Packet) -> HTTPRefusal | None:
        if transport is self.transport and self._readyState is _OPEN and self.inbox is None:
            self.receive(packet)
            return None
        return self._holdOrRefuse(transport, packet)

    def _holdOrRefuse(self, transport: ITransport, packet: Packet) -> HTTPRefusal | None:
        """Take a packet that can't just be delivered, or return why not."""
        inbox = self.inbox
        # A client that is refused a message would go away without fetching what there is for it.
        if self._isReceiving and self.isFrom(transport):
            if inbox is None or transport is inbox.earlier:
                self.receive(packet)
            else:
                inbox.add(packet)
            return None
        if self.upgrade is not None and transport is self.upgrade.candidate:
            self.upgrade.received(packet)
            return None
        return SessionClosing()

    def isFrom(self, transport: ITransport) -> bool:
        """Return whether what comes by a transport is of this session: by its own, or by that before an upgrade."""
        return transport is self.transport or (self.inbox is not None and transport is self.inbox.earlier)

    def transportDelivered(self, transport: ITransport) -> None:
        if transport is self.transport:
            self.host.heartbeats.delivered(self)
        if self.inbox is not None and transport is self.inbox.earlier:
            self.inbox.earlierDelivered()
        if self._readyState is ReadyState.CLOSING:
            self.flush()

    def transportClosed(self, transport: ITransport, closing: Closing) -> None:
        inbox = self.inbox
        if transport is self.transport:
            if inbox is None or not inbox.endLater(closing):
                self.end(closing)
        elif inbox is not None and transport is inbox.earlier:
            self.end(closing)
        elif self.upgrade is not None and transport is self.upgrade.candidate:
            self.upgrade.abandon()

    # What the parts of a session need of it

    def heartbeatDue(self) -> None:
        """Called when the time of a heartbeat is over."""
        self.host.heartbeats.due(self)

    def receive(self, packet: Packet) -> None:
        """Do what a packet of the client's says, and tell the application."""
        if packet.type is _MESSAGE:
            self._receiveMessage(packet.data)
            return
        isHeartbeat = packet.type in HEARTBEATS
        if not isHeartbeat and not self.isHeard:
            self.host.heartbeats.hear(self)
        self.emit("packet", packet)
        if isHeartbeat:
            self.host.heartbeats.received(self, packet.type)

    def _receiveMessage(self, data: str | bytes) -> None:
        if not self.isHeard:
            self.host.heartbeats.hear(self)
        if self.hears("packet"):
            self.emit("packet", Packet(_MESSAGE, data))
        # A handler may have closed the session, and nothing comes after its close event.
        if self._readyState is not _CLOSED:
            self.emit("data", data)
        if self._readyState is not _CLOSED:
            self.emit("message", data)

    def _neededOutbox(self) -> Outbox:
        if self.outbox is None:
            self.outbox = Outbox(self)
        return self.outbox

    def flush(self) -> None:
        """Give the transport what it takes of what is buffered, and let the producer go on."""
        if self._readyState is ReadyState.CLOSING:
            self._neededOutbox().flush()
        elif self.outbox is not None:
            self.outbox.flush()
        if self.pace is not None:
            self.pace.resume()

    # The end

    def _close(self, closing: Closing) -> None:
        """Begin to close an open session."""
        needRoom()
        if self._step(Input.CLOSE):
            ending = self._endingFor(closing)
            if hasRoom():
                ending.begin()
            else:
                ends = self.host.ends
                ends.add(self, (_beginEnding,))
                ends.run()

    def end(self, closing: Closing) -> None:
        """
        End the session, whatever the reason: the one place that does.

        The session is closed, and out of the table, when this returns. The steps that are left follow at once, or, if
        another session is ending, behind the end of that.

        @raise RecursionError: the stack is full. The session is as before.
        """
        needRoom()
        if self._step(Input.END):
            self._endingFor(closing).run()

    def _endingFor(self, closing: Closing) -> Ending:
        if self.ending is None:
            self.ending = Ending(self, closing)
        else:
            self.ending.closing = closing
        return self.ending

    def _step(self, given: Input) -> bool:
        return change(self, "_readyState", given, self)

    @property
    def logName(self) -> str:
        """The session id as it may stand in a log: shortened, as whoever knows it can take the session over."""
        return f"{beginningOfId(self.id, self.host.opts.idPrefix)}…"

    def handlerFailed(self, event: str, args: tuple[Any, ...], failure: Failure) -> None:
        """Log what a handler raised, and emit it as C{error}."""
        with suppress(BaseException):
            self._log.failure(
                "Handler of {event} of session {session} failed", failure, event=event, session=self.logName
            )
        if event != "error":
            self.emit("error", failure.value)
