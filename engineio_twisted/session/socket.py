"""
One session: its state, its buffer, its heartbeat, and the move from polling to WebSocket.

What decides a change of state is L{TRANSITIONS} and nothing else; an absent key means that the input changes nothing
in that state. docs/protocol.md, "Sessions"; docs/architecture.md, "The states of a session".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from enum import Enum, StrEnum
from functools import cached_property, partial
from typing import Any, ClassVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer, IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ..clock import Timeout, cancel
from ..ends import attempt, hasRoom, needRoom
from ..interfaces import ITransport, ITransportOwner
from ..logs import DebugScope, beginningOfId
from ..protocol.errors import BufferLimitExceeded, CloseReason, HTTPRefusal, RateLimitExceeded, SessionClosing
from ..protocol.handshake import openPacket, upgradesOf
from ..protocol.packet import PROBE, Packet, PacketType, SharedPacket
from .emitter import EventEmitter, Handler
from .heartbeats import STOOD_STILL, Heartbeats, Patience, Queue, Wait
from .limits import Meter
from .work import SessionWork, Work

_debug = DebugScope("engine:socket")

CLOSING_TIMEOUT = 30.0
"""
Seconds that a session closed by the server waits for the client to poll, or to take what is buffered, to tell it; as
the reference does.
"""

HIGH_MARK = 65536
"""Bytes buffered above which a producer is paused: as many as Twisted writes to a connection before it pauses one."""

NOOP_INTERVAL = 0.1
"""Seconds between two looks for a waiting GET during an upgrade, which has to end before the client can go on."""


class ReadyState(StrEnum):
    """The state of a session, as its C{readyState}. Equal to its text."""

    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class UpgradeState(Enum):
    """How far a session is in moving from polling to WebSocket."""

    NONE = "no upgrade"
    PROBING = "a WebSocket is there"
    PROBED = "the WebSocket was tried out"
    DONE = "upgraded"


class HeartbeatState(Enum):
    """What the heartbeat of a session waits for."""

    STOPPED = "nothing"
    RESTING = "the next ping"
    AWAITING = "a pong"
    LISTENING = "a ping"


# Asked for with each message, which this makes a little shorter.
_OPEN, _CLOSED = ReadyState.OPEN, ReadyState.CLOSED
_MESSAGE = PacketType.MESSAGE
_SHUTTING_DOWN = CloseReason.SERVER_SHUTTING_DOWN, "the server is closing"
# A noop is where the client pings, and isn't read.
_HEARTBEATS = (PacketType.PING, PacketType.PONG, PacketType.NOOP)
_NO_HANDLERS: dict[str, tuple[Handler, ...]] = {}

State = ReadyState | UpgradeState | HeartbeatState


_WAITING_FOR_CLIENT = (HeartbeatState.AWAITING, HeartbeatState.LISTENING)
_NO_POLL = "the client did not poll again"


class Input(Enum):
    """What can change a state."""

    START = "the open packet was sent"
    CLOSE = "the server closes the session"
    END = "the session is over"
    CANDIDATE = "a WebSocket wants to take over"
    PROBE = "ping with the data probe, on that WebSocket"
    UPGRADE = "upgrade packet, on that WebSocket"
    ABANDON = "that WebSocket is given up"
    INTERVAL = "pingInterval is over"
    PONG = "pong"
    LISTEN = "the client is the one to ping"
    PING = "ping"
    STOP = "no pings any more"

    # There is one of each; that of Enum takes a call in Python.
    __hash__ = object.__hash__


TRANSITIONS: Mapping[tuple[State, Input], State] = {
    (ReadyState.OPENING, Input.START): ReadyState.OPEN,
    (ReadyState.OPENING, Input.END): ReadyState.CLOSED,
    (ReadyState.OPEN, Input.CLOSE): ReadyState.CLOSING,
    (ReadyState.OPEN, Input.END): ReadyState.CLOSED,
    (ReadyState.CLOSING, Input.END): ReadyState.CLOSED,
    (UpgradeState.NONE, Input.CANDIDATE): UpgradeState.PROBING,
    (UpgradeState.PROBING, Input.PROBE): UpgradeState.PROBED,
    # Some clients trust the WebSocket without trying it out.
    (UpgradeState.PROBING, Input.UPGRADE): UpgradeState.DONE,
    (UpgradeState.PROBING, Input.ABANDON): UpgradeState.NONE,
    (UpgradeState.PROBED, Input.UPGRADE): UpgradeState.DONE,
    (UpgradeState.PROBED, Input.ABANDON): UpgradeState.NONE,
    (HeartbeatState.STOPPED, Input.START): HeartbeatState.RESTING,
    (HeartbeatState.RESTING, Input.INTERVAL): HeartbeatState.AWAITING,
    (HeartbeatState.RESTING, Input.STOP): HeartbeatState.STOPPED,
    (HeartbeatState.AWAITING, Input.PONG): HeartbeatState.RESTING,
    (HeartbeatState.AWAITING, Input.STOP): HeartbeatState.STOPPED,
    (HeartbeatState.STOPPED, Input.LISTEN): HeartbeatState.LISTENING,
    (HeartbeatState.LISTENING, Input.PING): HeartbeatState.LISTENING,
    (HeartbeatState.LISTENING, Input.STOP): HeartbeatState.STOPPED,
}


SendCallback = Callable[[Any], object]


def messageOf(data: object) -> tuple[str | bytes, bytes | None]:
    """
    Return what is sent of what L{Socket.send} is given, and, of text that isn't ASCII, its UTF-8.

    @raise ValueError: the text holds a lone surrogate, which no encoding can carry.
    """
    if isinstance(data, bytes):
        return data, None
    if not isinstance(data, str):
        try:
            return memoryview(data).tobytes(), None  # type: ignore[arg-type]
        except TypeError:
            data = str(data)
    if data.isascii():
        return data, None
    try:
        return data, data.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"message text with {data[error.start]!r} at index {error.start}: expected text that UTF-8 can"
            " carry, which a lone surrogate is not"
        ) from None


def sizeOf(data: str | bytes) -> int:
    """Return how many bytes the data of a packet takes, text as UTF-8."""
    return len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode("utf-8", "surrogatepass"))


@implementer(ITransportOwner, IConsumer)
class Socket(EventEmitter):
    """
    One session, from its handshake to its end, on whatever transport it is.

    Three things call this: its transports, with what the client did; the application, which sends and closes; and
    the clock. It owns its transport, the WebSocket that tries to replace it, and two timers, the upgrade's and the
    close's; its heartbeat is among the server's L{Heartbeats}.
    It is an C{IConsumer}: a producer may write to it, at the pace of the client.

    Events, with their arguments: C{open}; C{packet(packet)} for each packet received and C{packetCreate(packet)} for
    each made; C{data(data)} and C{message(data)} for a message; C{heartbeat} for a pong, or, in revision 3, a ping;
    C{flush(packets)} before and C{drain} after the buffer goes to the transport, and C{drain} when the socket is
    L{writable} again after somebody asked and it wasn't; C{upgrading(transport)},
    C{upgrade(transport)}; C{error(exception)} when a handler raised one; C{close(reason, description)}, the last one.

    @ivar id: the session id, which is a secret of the client.
    @ivar request: the session's first request.
    @ivar protocol: the revision of the protocol.
    @ivar transport: the transport it is on.
    @ivar addressKey: under which its factory counts it by address; None if it doesn't.
    """

    _log = Logger()
    addressKey: str | None = None
    _readyState: ReadyState = ReadyState.OPENING
    _upgradeState: UpgradeState = UpgradeState.NONE
    _heartbeatState: HeartbeatState = HeartbeatState.STOPPED
    _candidate: Any = None
    # Few sessions have anything in it at a time: until then one for all.
    _buffer: list[Packet] | tuple[()] = ()
    _callbacks: list[tuple[Packet, SendCallback]] | None = None
    _flushing = False
    _bufferedBytes = 0
    _hasDropped = False
    # Whether somebody waits for drain, as he was told that this isn't writable.
    _isAwaited = False
    # The transport before an upgrade, until what came by it is delivered.
    _earlier: Any = None
    # While receiving is paused, or what came by an earlier transport is delivered; and until this is.
    _held: deque[Packet] | None = None
    _heldEnd: tuple[CloseReason, str] | None = None
    _isReceivingPaused = False
    _isDelivering = False
    _producer: Any = None
    _isStreaming = False
    _isProducerPaused = False
    _pullCall: IDelayedCall | None = None
    # Whether our ping or pong, or a noop in its place, is in the buffer still.
    _heartbeatIsBuffered = False
    # Where it waits for the next heartbeat, while it does.
    _heartbeat: Wait | None = None
    # Whether a message has come since somebody wanted to know of the next one.
    _isHeard = True
    # While the time for the client's heartbeat is over, or stands still.
    _patience: Patience | None = None
    _upgradeDeadline: Timeout | None = None
    _noopCall: IDelayedCall | None = None
    _closeDeadline: Timeout | None = None
    # What ends with the session, where there is any of it.
    _work: SessionWork | None = None
    # Why the server closes the session, or why it has ended; until when its connection may take what it is sent.
    _ending = CloseReason.FORCED_CLOSE, "closed by the server"
    _closesBy = 0.0
    # Whether the last step of its end has run.
    _isOver = False

    def __init__(
        self,
        sid: str,
        host: Any,
        transport: Any,
        request: Any,
        protocol: int,
    ) -> None:
        self.id = sid
        self._host = host
        self.transport = transport
        self.request = request
        self.protocol = protocol
        transport.owner = self

    # For the application

    @property
    def server(self) -> Any:
        """The L{Server}."""
        return self._host.server

    @property
    def readyState(self) -> ReadyState:
        """C{opening}, C{open}, C{closing} or C{closed}."""
        return self._readyState

    @property
    def upgrading(self) -> bool:
        """Whether a WebSocket is trying to replace polling."""
        return self._upgradeState in (UpgradeState.PROBING, UpgradeState.PROBED)

    @property
    def upgraded(self) -> bool:
        """Whether the session has moved from polling to WebSocket."""
        return self._upgradeState is UpgradeState.DONE

    @property
    def remoteAddress(self) -> str | None:
        """The client's IP address, by the first request (L{Server.clientOf}); None on a UNIX socket."""
        address: str | None = self._host.addressOf(self.request)
        return address

    @property
    def writeBuffer(self) -> list[Packet]:
        """Packets that the transport hasn't taken yet; on C{close}, those that it never will. To be read only."""
        return self._buffer or []

    @property
    def bufferedAmount(self) -> int:
        """How many bytes wait for the client: of messages in the buffer, and those that its connection hasn't taken."""
        amount: int = self.transport.bufferedAmount
        return self._bufferedBytes + amount

    @property
    def heldBytes(self) -> int:
        """
        How many bytes the client sent that the application hasn't got yet.

        They are of a message or a POST that isn't complete, wait for their turn, or are held while receiving is paused.
        What is compressed counts as it came.
        """
        transports = [each for each in (self.transport, self._earlier, self._candidate) if each is not None]
        amounts = [each.heldBytes for each in transports] + [sizeOf(each.data) for each in self._held or ()]
        return sum(amounts)

    @property
    def writable(self) -> bool:
        """
        Whether a message sent now goes out without waiting for the client.

        Once this was False, the event C{drain} says when it is True again.
        """
        isWritable = self._isDrained()
        self._isAwaited = not isWritable
        return isWritable

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
            with a L{BufferLimitExceeded}, where the message is dropped; otherwise never for one that wasn't sent.
        @param compress: whether the message may be compressed.
        @return: this socket.
        @raise ValueError: the text holds a lone surrogate, which no encoding can carry.
        @raise BufferLimitExceeded: more is buffered than may be, and C{bufferLimitAction} is C{"raise"}.
        """
        message, utf8 = messageOf(data)
        transport = self.transport
        if (
            callback is None
            and self._readyState is _OPEN
            and not self._buffer
            and not self._flushing
            and not self.hearsSending
            and not self._host.server.hearsSending
            and transport.writable
        ):
            # Nearly always. Sending the packet comes to the same, as nobody is told anything.
            transport.sendMessage(message, utf8, compress)
        else:
            self._sendPacket(Packet(_MESSAGE, message, compress), callback, utf8)
        if self._producer is not None:
            self._pace()
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
        needRoom()
        if discard:
            self._buffer = ()
            self._bufferedBytes = 0
            self._callbacks = None
            self._end(CloseReason.FORCED_CLOSE, "closed by the server")
        elif self._step(Input.CLOSE):
            if hasRoom():
                self._closeOrEnd()
            else:
                ends = self._host.ends
                ends.add(self, (Socket._closeOrEnd,))
                ends.run()

    def _closeOrEnd(self) -> None:
        if self._readyState is ReadyState.CLOSING and not attempt(self._beginToClose, session=self):
            # There is no waiting for a transport that fails.
            self._end(*self._ending)

    def _beginToClose(self) -> None:
        polls = self.transport.takesAll
        description = _NO_POLL if polls else "the client did not take what was buffered"
        isDrained = self._ending is _SHUTTING_DOWN
        if isDrained or not polls:
            # It may be taking what is buffered, and no pong is received.
            self._stopHeartbeat()
        if not isDrained:
            self._closeDeadline = self._host.heartbeats.timeouts.callLater(
                CLOSING_TIMEOUT, self._end, CloseReason.FORCED_CLOSE, description
            )
        self._stopProducer()
        if not self._isReceiving:
            self._letGoOfHeld()
        self._flush()

    @property
    def _isReceiving(self) -> bool:
        """Whether what the client sends reaches the application; while the server is drained it still does."""
        return self._readyState is _OPEN or (self._readyState is ReadyState.CLOSING and self._ending is _SHUTTING_DOWN)

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
        if self._isReceiving and not self._isReceivingPaused:
            self._isReceivingPaused = True
            if self._heartbeat is not None and self._heartbeatState in _WAITING_FOR_CLIENT:
                self._beingPatient().pause(self._host.clock.seconds(), self._heartbeat.left(self))
            if self._held is None:
                self._held = deque()
                self.transport.pauseReceiving()
            elif self._earlier is not None:
                self._earlier.pauseReceiving()

    def resumeReceiving(self) -> None:
        """
        Go on after L{pauseReceiving}: deliver what is held, in the next turns of the reactor, and read more.

        Without a pause this does nothing.
        """
        if self._isReceivingPaused:
            self._isReceivingPaused = False
            self._deliverHeld()

    # What belongs to the session

    @cached_property
    def data(self) -> dict[str, Any]:
        """What the application wants to remember of the session, which is its own affair; empty at first."""
        return {}

    def whenClosed(self) -> Deferred[CloseReason]:
        """
        Return a Deferred of the reason why the session ends, one for each call; cancelling it changes no other.

        It fires after the handlers of C{close}; at once, where the session has ended already.
        """
        if self._isOver:
            return succeed(self._ending[0])
        return self._workOfSession().whenClosed()

    def follow(self, work: Work) -> Deferred[Any]:
        """
        Run a coroutine, or follow a Deferred, as long as the session lasts; it is cancelled when that ends.

        What it raises is logged with the session, and emitted as C{error}. When the session has ended already, a
        coroutine isn't begun, and a Deferred is cancelled.

        @return: a Deferred of what comes of it, or of None where it failed or was cancelled. Cancelling this one
            cancels the work. Of a Deferred it is that one itself.
        @raise TypeError: it is neither.
        """
        return self._workOfSession().follow(work)

    def callLater(self, seconds: float, function: Callable[..., object], *args: Any, **keywords: Any) -> IDelayedCall:
        """
        Call a function in a while, as the reactor's C{callLater} does, unless the session ends before.

        What it returns is followed, as by L{follow}. When the session has ended already, what is returned is cancelled.

        @param seconds: in how many, by the clock of the server.
        @raise ValueError: the seconds are negative.
        """
        return self._workOfSession().callLater(seconds, partial(function, *args, **keywords))

    def callEvery(self, seconds: float, function: Callable[..., object], *args: Any, now: bool = False) -> LoopingCall:
        """
        Call a function again and again until the session ends.

        A coroutine or a Deferred that it returns is waited for, and cancelled when the session ends. What it raises
        ends the loop, is logged with the session, and emitted as C{error}. When the session has ended already, what is
        returned doesn't run.

        @param seconds: from one call to the next, by the clock of the server.
        @param now: whether it is called for the first time at once.
        @return: what runs it, which can be stopped.
        @raise ValueError: the seconds are negative.
        """
        return self._workOfSession().callEvery(seconds, partial(function, *args), now)

    def _workOfSession(self) -> SessionWork:
        if self._work is None:
            self._work = SessionWork(self, self._host.clock)
            self._work.isOver = self._readyState is _CLOSED
        return self._work

    # IConsumer

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Have a producer write to this socket at the pace of the client: each C{write} is a message.

        A push producer is paused while more than 64 KiB are buffered that the client doesn't take, and resumed when
        nothing is. A pull producer is asked for more in a turn of the reactor after it has written, while there is
        room. When the session ends, or begins to close, the producer is told to stop.

        @param producer: an C{IPushProducer}, or, where not C{streaming}, an C{IPullProducer} such as
            L{twisted.protocols.basic.FileSender}.
        @raise RuntimeError: there is one already.
        """
        if self._producer is not None:
            raise RuntimeError(f"{producer!r} can't be registered: {self._producer!r} is, and never was unregistered")
        if self._readyState is not ReadyState.OPEN:
            self.callHandler("producer", producer.stopProducing)
            return
        self._producer = producer
        self._isStreaming = streaming
        self._isProducerPaused = not streaming
        if streaming:
            self._pace()
        else:
            self._letProduce()

    def unregisterProducer(self) -> None:
        """Let go of the producer, if there is one. The session goes on."""
        self._producer = None
        cancel(self._pullCall)
        self._pullCall = None

    # For the factory

    def sendShared(self, packet: Packet) -> bool:
        """
        Send a message that goes to others too.

        @return: whether it is sent, or buffered.
        @raise BufferLimitExceeded: as L{send} does.
        """
        return self._sendPacket(packet)

    def open(self) -> None:
        """Send the open packet, and the initial one where there is one, and start the heartbeat."""
        options = self._host.opts
        self._step(Input.START)
        self._heartbeatStep(Input.LISTEN if self._clientPings else Input.START)
        self._waitFor(self._untilNext)
        self._host.counters.sessionOpened(self)
        packets = [openPacket(self.id, upgradesOf(self.transport.name, options), options)]
        if options.initialPacket is not None:
            # It counts for nothing: no application sent it.
            packets.append(Packet(_MESSAGE, options.initialPacket))
        # In one payload.
        if self.transport.writable and not self.hearsSending and not self._host.server.hearsSending:
            self.transport.send(packets)
            return
        for packet in packets:
            self._buffer = [*self._buffer, packet]
            self._bufferedBytes += sizeOf(packet.data)
            self.emit("packetCreate", packet)
        self._flush()

    def goAway(self, closesBy: float) -> None:
        """
        Close the session because its server is drained: what is buffered goes out first, then the client is told.

        It takes as long as the client does, and what the client sends is received. Whoever calls this ends what is
        left.

        @param closesBy: the time until which the connection may take what it is sent.
        """
        if self._readyState is ReadyState.OPEN:
            self._ending = _SHUTTING_DOWN
            self._closesBy = closesBy
            self.close()

    def shutDown(self) -> None:
        """End the session because its server closes: what can be sent at once is, the client is told."""
        self._ending = _SHUTTING_DOWN
        self._closesBy = 0.0
        if self._buffer:
            attempt(self._sendLast, session=self)
        self._end(*_SHUTTING_DOWN)

    def _sendLast(self) -> None:
        transport = self.transport
        if transport.writable:
            self._callBack(self._give(self._closeTransport), transport)

    def tryUpgrade(self, candidate: Any) -> bool:
        """
        Let a WebSocket try to replace polling.

        @return: whether it may; if not, it isn't touched.
        """
        if self._readyState is ReadyState.CLOSED or not upgradesOf(self.transport.name, self._host.opts):
            return False
        if not self._upgradeStep(Input.CANDIDATE):
            return False
        candidate.owner = self
        self._candidate = candidate
        timeouts = self._host.heartbeats.timeouts
        self._upgradeDeadline = timeouts.callLater(self._host.opts.upgradeTimeout / 1000, self._abandonUpgrade)
        return True

    # ITransportOwner

    def transportReady(self, transport: ITransport) -> None:
        if transport is not self.transport:
            return
        # Nearly always there is nothing to send, and nobody waits for it.
        if self._buffer or self._producer is not None or self._readyState is ReadyState.CLOSING:
            self._flush()
        if self._isAwaited and self._isDrained():
            self._isAwaited = False
            self._emitWithServer("drain")

    def transportPacket(self, transport: ITransport, packet: Packet) -> HTTPRefusal | None:
        isEarlier = transport is self._earlier
        if (isEarlier or transport is self.transport) and (
            self._readyState is _OPEN
            # A client that is refused a message would go away without fetching what there is for it.
            or (self._readyState is ReadyState.CLOSING and self._ending is _SHUTTING_DOWN)
        ):
            if self._held is None or isEarlier:
                self._receive(packet)
            else:
                self._held.append(packet)
            return None
        if transport is self._candidate:
            self._receiveProbe(packet)
            return None
        return SessionClosing()

    def transportMessage(self, transport: ITransport, data: str | bytes) -> HTTPRefusal | None:
        handlers = self._handlers
        if (
            handlers is not None
            and transport is self.transport
            and self._readyState is _OPEN
            and self._held is None
            and self._isHeard
            and "packet" not in handlers
            and "data" not in handlers
        ):
            # Nearly always. Receiving the packet comes to the same.
            self.emit("message", data)
            return None
        return self.transportPacket(transport, Packet(_MESSAGE, data))

    def transportDelivered(self, transport: ITransport) -> None:
        if self._patience is not None and transport is self.transport:
            self._patience.delivered()
        if transport is self._earlier:
            self._earlier = None
            if not self._isReceivingPaused:
                self._deliverHeld()
        if self._readyState is ReadyState.CLOSING:
            self._flush()

    def transportClosed(self, transport: ITransport, reason: CloseReason, description: str) -> None:
        if transport is self._earlier:
            self._end(reason, description)
        elif transport is self.transport:
            if not self._held and self._earlier is None:
                self._end(reason, description)
            elif self._heldEnd is None:
                # Behind what came before it.
                self._heldEnd = (reason, description)
        elif transport is self._candidate:
            self._abandonUpgrade()

    # Packets in

    def _receive(self, packet: Packet) -> None:
        if not self._isHeard:
            self._hear(packet)
        # The first two are rarely listened to, and asking costs less than emitting.
        handlers = self._handlers
        if handlers is None:
            handlers = _NO_HANDLERS
        if "packet" in handlers:
            self.emit("packet", packet)
        if packet.type is _MESSAGE:
            # A handler may have closed the session, and nothing comes after its close event.
            if "data" in handlers and self._readyState is not _CLOSED:
                self.emit("data", packet.data)
            if self._readyState is not _CLOSED:
                self.emit("message", packet.data)
        elif packet.type in (PacketType.PING, PacketType.PONG):
            isPing = packet.type is PacketType.PING
            if isPing is not self._clientPings:
                self._end(CloseReason.TRANSPORT_ERROR, "invalid heartbeat direction")
            elif not self._heartbeatIsBuffered and self._heartbeatStep(Input.PING if isPing else Input.PONG):
                self._waitFor(self._untilNext)
                if isPing:
                    self._sendHeartbeat(PacketType.PONG)
                if self._readyState is not ReadyState.CLOSED:
                    self.emit("heartbeat")

    def _receiveProbe(self, packet: Packet) -> None:
        if packet.type is PacketType.PING and packet.data == PROBE and self._upgradeStep(Input.PROBE):
            self._candidate.send([Packet(PacketType.PONG, PROBE)])
            self.emit("upgrading", self._candidate)
            self._endWaitingPoll()
        elif packet.type is PacketType.UPGRADE and self._upgradeStep(Input.UPGRADE):
            self._completeUpgrade()
        else:
            self._abandonUpgrade()

    def _deliverHeld(self) -> None:
        # A handler may pause and resume as often as it likes.
        if self._isDelivering or self._held is None:
            return
        if self._earlier is not None:
            self._earlier.resumeReceiving()
            return
        self._isDelivering = True
        try:
            while self._held and not self._isReceivingPaused:
                self._receive(self._held.popleft())
        finally:
            self._isDelivering = False
        if self._held is not None and not self._isReceivingPaused:
            self._held = None
            self.transport.resumeReceiving()
            end, self._heldEnd = self._heldEnd, None
            if end is not None:
                self._end(*end)
                return
            if self._patience is not None:
                self._timeGoesOn(self._patience)
            if self._readyState is ReadyState.CLOSING:
                # What the last of it came with may have been all that was waited for.
                self._flush()

    def _letGoOfHeld(self) -> None:
        """Drop what is held: the server is ending the session."""
        earlier, self._earlier = self._earlier, None
        if earlier is not None:
            attempt(earlier.close, session=self)
        if self._held is not None:
            self._held = self._heldEnd = None
            self._isReceivingPaused = False
            self.transport.resumeReceiving(False)

    # Packets out

    def _sendPacket(self, packet: Packet, callback: SendCallback | None = None, utf8: bytes | None = None) -> bool:
        """Send a packet, or buffer it; return whether that was done."""
        if self._readyState is not _OPEN:
            return False
        transport = self.transport
        if (
            callback is None
            and not self._buffer
            and not self._flushing
            and not self.hearsSending
            and not self._host.server.hearsSending
            and transport.writable
        ):
            # What follows comes to the same, as nobody is told anything.
            self._heartbeatIsBuffered = False
            packet.utf8 = utf8
            transport.send((packet,))
            return True
        if isinstance(packet, SharedPacket):
            # Handlers may change it, and whoever looks at the buffer.
            packet = Packet(packet.type, packet.data, packet.compress)
        if packet.type is _MESSAGE and (self._buffer or not transport.writable):
            exceeded = self._limitExceededBy(packet)
            if exceeded is not None:
                self._refuse(exceeded, callback)
                return False
        self._enqueue(packet, callback)
        return True

    def _enqueue(self, packet: Packet, callback: SendCallback | None = None) -> None:
        # In the buffer first: a handler may close the session, and then what is buffered still goes out.
        if not self._buffer:
            self._buffer = [packet]
        elif packet.type is _MESSAGE or self.transport.takesAll:
            self._buffer.append(packet)
        else:
            # A slow client is to hear of us before it has taken all that waits.
            self._buffer.insert(0, packet)
        self._bufferedBytes += sizeOf(packet.data)
        if callback is not None:
            if self._callbacks is None:
                self._callbacks = []
            self._callbacks.append((packet, callback))
        self.emit("packetCreate", packet)
        self._flush()
        counters = self._host.counters
        # What is sent from inside a flush goes out in its next round, where the transport takes that too.
        if counters.trafficObservers and self._buffer and not self._canFlush():
            counters.tell("buffered", self, len(self._buffer), self.bufferedAmount)

    def _limitExceededBy(self, packet: Packet) -> BufferLimitExceeded | None:
        """Return which limit a message that has to wait would exceed, if one."""
        options = self._host.opts
        if len(self._buffer) >= options.maxBufferedPackets:
            return BufferLimitExceeded("maxBufferedPackets", options.maxBufferedPackets)
        amount = self.bufferedAmount
        if amount and amount + sizeOf(packet.data) > options.maxBufferedBytes:
            return BufferLimitExceeded("maxBufferedBytes", options.maxBufferedBytes)
        return None

    def _refuse(self, exceeded: BufferLimitExceeded, callback: SendCallback | None) -> None:
        """Do with a message that is over a limit what C{bufferLimitAction} says: the one place where that happens."""
        self._host.counters.limitReached(self, exceeded.option)
        action = self._host.opts.bufferLimitAction
        if action == "raise":
            raise exceeded
        if action == "drop":
            if not self._hasDropped:
                # Until all is taken, there may be many more.
                self._hasDropped = True
                if self._host.counters.throttle.allows(exceeded.option):
                    self._log.warn(
                        "Messages to {session} dropped: {reason}", session=self.logName, reason=str(exceeded)
                    )
            if callback is not None:
                self.callHandler("send callback", callback, exceeded)
            return
        if self._host.counters.throttle.allows(exceeded.option):
            self._log.warn("Session {session} closed: {reason}", session=self.logName, reason=str(exceeded))
        self._end(CloseReason.BUFFER_LIMIT_EXCEEDED, str(exceeded))

    def _flush(self) -> None:
        # Handlers and callbacks, run from here, may send: what they send goes out in the next round, in order.
        if self._flushing:
            return
        self._flushing = True
        try:
            while self._canFlush():
                self._flushOnce()
        finally:
            self._flushing = False
        if self._producer is not None:
            self._letProduce()

    def _canFlush(self) -> bool:
        if self._readyState is ReadyState.CLOSING:
            return bool(self.transport.writable) and not self._isStillDelivering
        return bool(self._buffer and self._readyState is ReadyState.OPEN and self.transport.writable)

    @property
    def _isStillDelivering(self) -> bool:
        """Whether what the client sent is still delivered, which a server that is drained waits for."""
        if self._ending is not _SHUTTING_DOWN or self._isReceivingPaused:
            return False
        return self._earlier is not None or bool(self.transport.isDelivering)

    def _flushOnce(self) -> None:
        if self._buffer:
            self._emitWithServer("flush", self.writeBuffer)
            if not self._canFlush():
                return
        transport = self.transport
        # Of a transport that takes no more than the client does, the end comes when all is taken.
        isLast = self._readyState is ReadyState.CLOSING and (transport.takesAll or not self._buffer)
        hadPackets = bool(self._buffer)
        callbacks = self._give(self._closeTransport if isLast else transport.send)
        isEmpty = not self._buffer
        self._callBack(callbacks, transport)
        if hadPackets and isEmpty:
            self._hasDropped = False
            self._isAwaited = self._isAwaited and not transport.writable
            self._emitWithServer("drain")
        if isLast:
            self._end(*self._ending)

    def _closeTransport(self, packets: Sequence[Packet]) -> int:
        reason, _ = self._ending
        taken: int = self.transport.close(packets, reason, self._closesBy)
        return taken

    def _give(self, take: Callable[[Sequence[Packet]], int]) -> list[tuple[Packet, SendCallback]]:
        """Give the transport what it takes of the buffer, and return the callbacks of that."""
        packets, self._buffer = self._buffer, ()
        callbacks, self._callbacks = self._callbacks or [], None
        size, self._bufferedBytes = self._bufferedBytes, 0
        hadHeartbeat, self._heartbeatIsBuffered = self._heartbeatIsBuffered, False
        taken = take(packets)
        if taken == len(packets):
            return callbacks
        # The rest comes before what was sent meanwhile. What there is to do here depends on what was taken alone.
        rest = packets[taken:]
        self._buffer = [*rest, *self._buffer]
        self._bufferedBytes += max(0, size - sum([sizeOf(each.data) for each in packets[:taken]]))
        if hadHeartbeat and any(each.type in _HEARTBEATS for each in rest):
            self._heartbeatIsBuffered = True
        gone = {id(each) for each in packets[:taken]}
        count = next((index for index, (each, _) in enumerate(callbacks) if id(each) not in gone), len(callbacks))
        self._callbacks = [*callbacks[count:], *(self._callbacks or ())] or None
        return callbacks[:count]

    def _isDrained(self) -> bool:
        """Tell whether nothing waits for the client, and a message would not have to."""
        return self._readyState is ReadyState.OPEN and not self._buffer and bool(self.transport.writable)

    def _callBack(self, callbacks: list[tuple[Packet, SendCallback]], transport: ITransport) -> None:
        for _, callback in callbacks:
            self.callHandler("send callback", callback, transport)

    def _emitWithServer(self, event: str, *args: Any) -> None:
        # What ran before may have closed the session, and nothing comes after its close event.
        if self._readyState is not ReadyState.CLOSED:
            self.emit(event, *args)
        if self._readyState is not ReadyState.CLOSED:
            self._host.server.emit(event, self, *args)

    # The producer

    def _pace(self) -> None:
        """Pause a producer that has written enough, or ask one that waits to be asked for more."""
        if self._isProducerPaused:
            self._letProduce()
        elif not self.transport.writable and self.bufferedAmount > HIGH_MARK:
            self._isProducerPaused = True
            self.callHandler("producer", self._producer.pauseProducing)

    def _letProduce(self) -> None:
        if not self._isProducerPaused or self._flushing:
            return
        if self._isStreaming:
            if self._isDrained():
                self._isProducerPaused = False
                self.callHandler("producer", self._producer.resumeProducing)
        elif self._pullCall is None and self._hasRoom():
            self._pullCall = self._host.clock.callLater(0, self._pull)

    def _hasRoom(self) -> bool:
        return bool(self.transport.writable) or self.bufferedAmount <= HIGH_MARK

    def _pull(self) -> None:
        self._pullCall = None
        if self._hasRoom():
            self.callHandler("producer", self._producer.resumeProducing)

    def _stopProducer(self) -> None:
        producer = self._producer
        if producer is not None:
            self.unregisterProducer()
            self.callHandler("producer", producer.stopProducing)

    # Heartbeat

    @property
    def _clientPings(self) -> bool:
        return self.protocol == 3

    @property
    def _untilNext(self) -> Wait:
        """Where this waits for the next ping of its own, or of the client."""
        waits: Heartbeats = self._host.heartbeats
        return waits.listening if self._clientPings else waits.resting

    @property
    def _timeout(self) -> float:
        """How many seconds it waits for the client's heartbeat."""
        options = self._host.opts
        seconds: float = (options.pingTimeout + (options.pingInterval if self._clientPings else 0)) / 1000
        return seconds

    def _waitFor(self, wait: Wait) -> None:
        """Begin to wait, for something else or anew."""
        self._hurryAgain()
        self._waitOn(wait)

    def _hurryAgain(self) -> None:
        """Forget what was out of the ordinary in the time of the client's heartbeat."""
        # Nearly always there is nothing, and each attribute that is set takes memory.
        if not self._isHeard:
            self._isHeard = True
        if self._patience is not None:
            self._patience = None

    def _beingPatient(self) -> Patience:
        if self._patience is None:
            self._patience = Patience()
        return self._patience

    def _waitOn(self, wait: Wait) -> None:
        """Go on waiting for the same, somewhere else."""
        self._waitNoLonger()
        self._heartbeat = wait
        wait.add(self)

    def _waitMore(self, seconds: float) -> None:
        """Go on waiting for the same, for a time of its own."""
        self._waitOn(Queue(self._host.clock, seconds))

    def _waitNoLonger(self) -> None:
        wait, self._heartbeat = self._heartbeat, None
        if wait is not None:
            wait.remove(self)

    def heartbeatDue(self) -> None:
        """Send a ping, or end the session where it waited for the client's, or its pong."""
        if not attempt(self._beat, session=self):
            self._end(CloseReason.TRANSPORT_ERROR, "the transport failed")

    def _beat(self) -> None:
        wait, self._heartbeat = self._heartbeat, None
        if self._heartbeatStep(Input.INTERVAL):
            self._waitFor(self._host.heartbeats.awaiting)
            self._isHeard = False
            if self._held is not None:
                self._beingPatient().pause(self._host.clock.seconds(), self._timeout)
            self._sendHeartbeat(PacketType.PING)
        elif (self._held is not None or self._isAnswerDelayed) and not self._heartbeatIsBuffered:
            # The client is to hear of us, but what it answers isn't read.
            self._waitOn(self._untilNext)
            if self._beingPatient().mayBeat(self._host.clock.seconds(), self._host.opts.pingInterval / 1000):
                self._sendHeartbeat(PacketType.NOOP if self._clientPings else PacketType.PING)
        else:
            self._timedOut(wait)

    @property
    def _isAnswerDelayed(self) -> bool:
        """Whether the client's heartbeat may be behind what is being delivered since before the time was over."""
        return bool(self.transport.isDelivering) and self._beingPatient().mayBeBehind()

    def _timedOut(self, wait: Wait | None) -> None:
        """End the session, unless what the client sent in time lies unread, or a message of its is arriving."""
        heartbeats: Heartbeats = self._host.heartbeats
        patience = self._beingPatient()
        now = self._host.clock.seconds()
        if not patience.isOverdue:
            patience.end(now, self.transport.arriving, self._isHeard)
            self._isHeard = False
            if wait is not None and wait.late > STOOD_STILL:
                self._waitMore(min(wait.late, self._timeout))
                return
        elif wait is heartbeats.reading or now >= patience.until:
            isHeard = self._isHeard or bool(self.transport.isDelivering)
            seconds = patience.more(now, self.transport.arriving, isHeard)
            self._isHeard = False
            if seconds > 0:
                self._waitMore(seconds)
            else:
                self._end(CloseReason.PING_TIMEOUT, self._whyTimedOut)
            return
        self._waitOn(heartbeats.reading)

    @property
    def _whyTimedOut(self) -> str:
        options = self._host.opts
        if self._readyState is ReadyState.CLOSING:
            return _NO_POLL
        if self._clientPings:
            return f"no ping within pingInterval and pingTimeout, {options.pingInterval + options.pingTimeout} ms"
        return f"no pong within pingTimeout, {options.pingTimeout} ms"

    def _timeGoesOn(self, patience: Patience) -> None:
        """Go on counting the time of the client's heartbeat, which stood still while receiving did."""
        if not self.transport.isDelivering:
            patience.delivered()
        left = patience.resume(self._host.clock.seconds(), self._timeout)
        if left:
            self._waitMore(left)
        elif left is not None:
            # At once, or the application might hold the client back again before it is noticed.
            self._waitNoLonger()
            self._timedOut(None)

    def _hear(self, packet: Packet) -> None:
        """Called when a packet has come while a heartbeat of the client's is waited for."""
        if packet.type in _HEARTBEATS:
            return
        self._isHeard = True
        mayBeginAnew = self._patience is None or not self._patience.hasBegunAnew
        if self._heartbeatState is HeartbeatState.AWAITING and mayBeginAnew:
            # Once for each ping, as the reference does. It may be in the way of the pong.
            self._waitFor(self._host.heartbeats.awaiting)

    def _sendHeartbeat(self, type_: PacketType) -> None:
        # Until it is taken, nothing of the client's answers it: one that doesn't poll isn't kept by what it posts.
        self._heartbeatIsBuffered = True
        self._sendPacket(Packet(type_))

    def _stopHeartbeat(self) -> None:
        self._heartbeatStep(Input.STOP)
        self._waitNoLonger()
        self._hurryAgain()

    # Upgrade

    def _endWaitingPoll(self) -> None:
        # One noop is not enough: a poll that arrives after it would keep the client from sending its upgrade packet.
        self._noopCall = None
        if self._upgradeState is UpgradeState.PROBED:
            self._noopCall = self._host.clock.callLater(NOOP_INTERVAL, self._endWaitingPoll)
            if self.transport.writable:
                self.transport.send([Packet(PacketType.NOOP)])

    def _completeUpgrade(self) -> None:
        polling, self.transport, self._candidate = self.transport, self._candidate, None
        self._stopUpgradeTimers()
        if self._readyState is ReadyState.CLOSING:
            self._stopHeartbeat()
        attempt(polling.discard, session=self)
        if polling.isDelivering:
            # What came by polling comes first.
            self._earlier = polling
            if self._held is None:
                self._held = deque()
            self.transport.pauseReceiving()
        elif self._held is not None:
            # What came by polling is held here; for its answer the client needs to wait no longer.
            polling.resumeReceiving()
            self.transport.pauseReceiving()
        self._host.counters.sessionUpgraded(self, polling.name)
        self.emit("upgrade", self.transport)
        self._flush()

    def _abandonUpgrade(self, reason: CloseReason | None = None) -> None:
        candidate, self._candidate = self._candidate, None
        self._upgradeStep(Input.ABANDON)
        self._stopUpgradeTimers()
        if candidate is not None:
            attempt(candidate.close, (), reason, session=self)

    def _stopUpgradeTimers(self) -> None:
        cancel(self._upgradeDeadline)
        cancel(self._noopCall)

    # The end

    def _end(self, reason: CloseReason, description: str) -> None:
        """
        End the session, whatever the reason: the one place that does.

        The session is closed, and out of the table, when this returns. The steps that are left follow at once, or, if
        another session is ending, behind the end of that.

        @raise RecursionError: the stack is full. The session is as before.
        """
        needRoom()
        if not self._step(Input.END):
            return
        self._ending = reason, description
        ends = self._host.ends
        ends.add(self, self._STEPS)
        # Before the steps: behind the GET that is answered another may come at once, which is to find no session.
        attempt(self._host.sessionEnded, self, session=self)
        ends.run()

    def _stopTimers(self) -> None:
        self._stopHeartbeat()
        cancel(self._closeDeadline)

    def _closeCandidate(self) -> None:
        self._abandonUpgrade(self._ending[0])

    def _countEnd(self) -> None:
        self._host.counters.sessionClosed(self, *self._ending)

    def _letGoOfTransport(self) -> None:
        reason, _ = self._ending
        if reason is CloseReason.BUFFER_LIMIT_EXCEEDED:
            self.transport.abandon(reason)
        else:
            self.transport.close((), reason)

    def _dropCallbacks(self) -> None:
        self._callbacks = None

    def _stopWork(self) -> None:
        # Before the last event: what is cancelled may fail, and nothing of it is to run behind a handler's back.
        if self._work is not None:
            self._work.stop()

    def _emitClose(self) -> None:
        self.emit("close", *self._ending)

    def _tellWaiting(self) -> None:
        self._isOver = True
        if self._work is not None:
            self._work.closed(self._ending[0])

    _STEPS: ClassVar[tuple[Callable[[Any], object], ...]] = (
        _stopTimers,
        _closeCandidate,
        _countEnd,
        _letGoOfTransport,
        _letGoOfHeld,
        _dropCallbacks,
        _stopProducer,
        _stopWork,
        _emitClose,
        _tellWaiting,
    )
    """The steps of an end, in their order: one that fails keeps no other from running."""

    # States

    def _step(self, given: Input) -> bool:
        return self._change("_readyState", given)

    def _upgradeStep(self, given: Input) -> bool:
        return self._change("_upgradeState", given)

    def _heartbeatStep(self, given: Input) -> bool:
        return self._change("_heartbeatState", given)

    def _change(self, machine: str, given: Input) -> bool:
        """Change one of the three states; return whether the input means anything in the present one."""
        old: State = getattr(self, machine)
        new = TRANSITIONS.get((old, given))
        if new is None:
            return False
        setattr(self, machine, new)
        if _debug.enabled:
            _debug.log(f"{self.logName}: {old.value} -> {new.value}")
        return True

    @property
    def logName(self) -> str:
        """The session id as it may stand in a log: shortened, as whoever knows it can take the session over."""
        return f"{beginningOfId(self.id, self._host.opts.idPrefix)}…"

    def handlerFailed(self, event: str, args: tuple[Any, ...], failure: Failure) -> None:
        """Log what a handler raised, and emit it as C{error}."""
        with suppress(BaseException):
            self._log.failure(
                "Handler of {event} of session {session} failed", failure, event=event, session=self.logName
            )
        if event != "error":
            self.emit("error", failure.value)


class LimitedSocket(Socket):
    """
    A session whose client may send only so much in a second, or is to be heard of within some time of its opening.

    Where options say nothing of that, sessions are plain ones, which it costs nothing.
    """

    _firstDeadline: Timeout | None = None

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        options = self._host.opts
        self._meter = Meter(options.maxMessagesPerSecond, options.maxBytesPerSecond)

    def open(self) -> None:
        timeout = self._host.opts.firstPacketTimeout
        if timeout is not None:
            timeouts = self._host.heartbeats.timeouts
            self._firstDeadline = timeouts.callLater(timeout / 1000, self._nothingCame, timeout)
        super().open()

    def tryUpgrade(self, candidate: Any) -> bool:
        cancel(self._firstDeadline)
        return super().tryUpgrade(candidate)

    def transportReady(self, transport: ITransport) -> None:
        if transport.name == "polling":
            cancel(self._firstDeadline)
        super().transportReady(transport)

    def transportPacket(self, transport: ITransport, packet: Packet) -> HTTPRefusal | None:
        if transport in (self.transport, self._earlier) and self._readyState is not _CLOSED:
            cancel(self._firstDeadline)
            exceeded = self._meter.count(sizeOf(packet.data) + 1, self._host.clock.seconds())
            if exceeded is not None:
                return self._tooMuchCame(*exceeded)
        return super().transportPacket(transport, packet)

    def transportMessage(self, transport: ITransport, data: str | bytes) -> HTTPRefusal | None:
        return self.transportPacket(transport, Packet(_MESSAGE, data))

    def _tooMuchCame(self, option: str, limit: int) -> HTTPRefusal:
        refusal = RateLimitExceeded(option, limit)
        if self._host.counters.throttle.allows(option):
            self._log.warn(
                "Session {session} ends: {reason}", session=self.logName, reason=refusal.message, name=option
            )
        if self.transport.name != "polling":
            # There the request is refused, and counted by that.
            self._host.counters.limitReached(self, option)
        self._end(CloseReason.RATE_LIMIT_EXCEEDED, refusal.message)
        return refusal

    def _nothingCame(self, timeout: int) -> None:
        self._host.counters.limitReached(self, "firstPacketTimeout")
        self._end(CloseReason.PING_TIMEOUT, f"nothing came within firstPacketTimeout, {timeout} ms")

    def _end(self, reason: CloseReason, description: str) -> None:
        cancel(self._firstDeadline)
        super()._end(reason, description)
