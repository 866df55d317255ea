"""
One session: its state, its buffer, its heartbeat, and the move from polling to WebSocket.

What decides a change of state is L{TRANSITIONS} and nothing else; an absent key means that the input changes nothing
in that state. docs/protocol.md, "Sessions"; docs/architecture.md, "The states of a session".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from .debug import DebugScope
from .emitter import EventEmitter, Handler
from .errors import CloseReason
from .handshake import openPacket, upgradesOf
from .packet import PROBE, Packet, PacketType
from .proxies import plainAddress
from .transport import CLOSE_TIMEOUT, ITransport, ITransportOwner, beginningOfId, cancel

if TYPE_CHECKING:
    from .server import Server

_debug = DebugScope("engine:socket")

CLOSING_TIMEOUT = 30.0
"""Seconds that a session closed by the server waits for the client's next poll, to tell it; as the reference does."""

MILLISECOND = 0.001
"""What the protocol counts in; less of it than that is left of no time."""

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
_NO_HANDLERS: dict[str, tuple[Handler, ...]] = {}

State = ReadyState | UpgradeState | HeartbeatState


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


TRANSITIONS: Mapping[tuple[State, Input], State] = {
    (ReadyState.OPENING, Input.START): ReadyState.OPEN,
    (ReadyState.OPENING, Input.END): ReadyState.CLOSED,
    (ReadyState.OPEN, Input.CLOSE): ReadyState.CLOSING,
    (ReadyState.OPEN, Input.END): ReadyState.CLOSED,
    (ReadyState.CLOSING, Input.END): ReadyState.CLOSED,
    (UpgradeState.NONE, Input.CANDIDATE): UpgradeState.PROBING,
    (UpgradeState.PROBING, Input.PROBE): UpgradeState.PROBED,
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


@implementer(ITransportOwner)
class Socket(EventEmitter):
    """
    One session, from its handshake to its end, on whatever transport it is.

    Three things call this: its transports, with what the client did; the application, which sends and closes; and
    the clock. It owns its transport, the WebSocket that tries to replace it, and three timers: the heartbeat's,
    the upgrade's and the close's.

    Events, with their arguments: C{open}; C{packet(packet)} for each packet received and C{packetCreate(packet)} for
    each made; C{data(data)} and C{message(data)} for a message; C{heartbeat} for a pong, or, in revision 3, a ping;
    C{flush(packets)} before and C{drain} after the buffer goes to the transport; C{upgrading(transport)},
    C{upgrade(transport)}; C{error(exception)} when a handler raised one; C{close(reason, description)}, the last one.

    @ivar id: the session id, which is a secret of the client.
    @ivar server: the L{Server}.
    @ivar request: the session's first request.
    @ivar protocol: the revision of the protocol.
    @ivar transport: the transport it is on.
    @ivar writeBuffer: packets that the transport hasn't taken yet; on C{close}, those that it never will.
    """

    _log = Logger()
    _readyState: ReadyState = ReadyState.OPENING
    _upgradeState: UpgradeState = UpgradeState.NONE
    _heartbeatState: HeartbeatState = HeartbeatState.STOPPED
    _candidate: Any = None
    _callbacks: list[SendCallback] | None = None
    _flushing = False
    # Whether our ping or pong is in the buffer still.
    _heartbeatIsBuffered = False
    _heartbeat: IDelayedCall | None = None
    # Until when a pong may come, where that is later than the call that is pending.
    _pongDue = 0.0
    _upgradeDeadline: IDelayedCall | None = None
    _noopCall: IDelayedCall | None = None
    _closeDeadline: IDelayedCall | None = None
    # Why the server closes the session, and until when its connection may take what it is sent.
    _ending = CloseReason.FORCED_CLOSE, "closed by the server"
    _closesBy = 0.0

    def __init__(
        self,
        sid: str,
        server: Server,
        transport: Any,
        request: Any,
        protocol: int,
        clock: IReactorTime,
        ended: Callable[[Socket], None],
    ) -> None:
        self.id = sid
        self.server = server
        self.transport = transport
        self.request = request
        self.protocol = protocol
        self.writeBuffer: list[Packet] = []
        self._clock = clock
        self._ended = ended
        transport.owner = self

    # For the application

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
        if self.server.opts.trustedProxies is None:
            return plainAddress(self.request.getClientAddress())
        return self.server.clientOf(self.request).address

    def send(self, data: object, callback: SendCallback | None = None, *, compress: bool = True) -> Socket:
        """
        Send a message. It waits in the buffer until the transport can take it. After L{close} this does nothing.

        Causes the events C{packetCreate}, and then or later C{flush} and C{drain}.

        @param data: text as str; binary as bytes, bytearray, memoryview or array, copied at once; anything else
            is sent as the text that C{str} makes of it.
        @param callback: called with the transport when it has taken the message, in the order of sending; never
            for a message that wasn't sent.
        @param compress: whether the message may be compressed.
        @return: this socket.
        @raise ValueError: the text holds a lone surrogate, which no encoding can carry.
        """
        message, utf8 = messageOf(data)
        self._sendPacket(Packet(_MESSAGE, message, compress), callback, utf8)
        return self

    write = send

    def close(self, discard: bool = False) -> None:
        """
        Close the session: what is buffered goes out first, then the client is told.

        On polling without a waiting GET this takes until the next one, 30 seconds at most. Causes C{close} with
        the reason C{forced close}.

        @param discard: drop what is buffered, and close at once.
        """
        if discard:
            self.writeBuffer = []
            self._callbacks = None
            self._end(CloseReason.FORCED_CLOSE, "closed by the server")
        elif self._step(Input.CLOSE):
            self._stopHeartbeat()
            self._closeDeadline = self._clock.callLater(
                CLOSING_TIMEOUT, self._end, CloseReason.FORCED_CLOSE, "the client did not poll again"
            )
            self._flush()

    # For the factory

    def sendShared(self, packet: Packet) -> None:
        """Send a message that goes to others too."""
        self._sendPacket(packet)

    def open(self) -> None:
        """Send the open packet, and the initial one where there is one, and start the heartbeat."""
        options = self.server.opts
        self._step(Input.START)
        self._heartbeatStep(Input.LISTEN if self._clientPings else Input.START)
        self._heartbeat = self._clock.callLater(self._heartbeatTime / 1000, self._heartbeatDue)
        self.server.counters.sessionOpened(self)
        packets = [openPacket(self.id, upgradesOf(self.transport.name, options), options)]
        if options.initialPacket is not None:
            packets.append(Packet(_MESSAGE, options.initialPacket))
        # In one payload.
        if self.transport.writable and not self.hearsSending and not self.server.hearsSending:
            self.transport.send(packets)
            return
        for packet in packets:
            self.writeBuffer.append(packet)
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
            cancel(self._closeDeadline)

    def shutDown(self) -> None:
        """End the session because its server closes: what can be sent at once is, the client is told."""
        self._ending = _SHUTTING_DOWN
        if self.writeBuffer and self.transport.writable:
            packets, callbacks = self._takeBuffer()
            self._closeTransport(packets)
            self._callBack(callbacks, self.transport)
        self._end(*_SHUTTING_DOWN)

    def tryUpgrade(self, candidate: Any) -> bool:
        """
        Let a WebSocket try to replace polling.

        @return: whether it may; if not, it isn't touched.
        """
        if self._readyState is ReadyState.CLOSED or not upgradesOf(self.transport.name, self.server.opts):
            return False
        if not self._upgradeStep(Input.CANDIDATE):
            return False
        candidate.owner = self
        self._candidate = candidate
        self._upgradeDeadline = self._clock.callLater(self.server.opts.upgradeTimeout / 1000, self._abandonUpgrade)
        return True

    # ITransportOwner

    def transportReady(self, transport: ITransport) -> None:
        # Nearly always there is nothing to send.
        if transport is self.transport and (self.writeBuffer or self._readyState is ReadyState.CLOSING):
            self._flush()

    def transportAnswers(self, transport: ITransport, request: Any) -> None:
        self.server.announceHeaders(request, self.id if request is self.request else None)

    def transportPacket(self, transport: ITransport, packet: Packet) -> bool:
        if transport is self.transport and self._readyState is _OPEN:
            self._receive(packet)
            return True
        if transport is self._candidate:
            self._receiveProbe(packet)
            return True
        if transport is self.transport and self._readyState is ReadyState.CLOSING and self._ending is _SHUTTING_DOWN:
            # A client that is refused a message would go away without fetching what there is for it.
            self._receive(packet)
            return True
        return False

    def transportClosed(self, transport: ITransport, reason: CloseReason, description: str) -> None:
        if transport is self.transport:
            self._end(reason, description)
        elif transport is self._candidate:
            self._abandonUpgrade()

    # Packets in

    def _receive(self, packet: Packet) -> None:
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
                self._moveHeartbeat(self._heartbeatTime / 1000)
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

    # Packets out

    def _sendPacket(self, packet: Packet, callback: SendCallback | None = None, utf8: bytes | None = None) -> None:
        if self._readyState is not _OPEN:
            return
        transport = self.transport
        if (
            callback is None
            and not self.writeBuffer
            and not self._flushing
            and not self.hearsSending
            and not self.server.hearsSending
            and transport.writable
        ):
            # What follows comes to the same, as nobody is told anything.
            self._heartbeatIsBuffered = False
            packet.utf8 = utf8
            transport.send((packet,))
            return
        if packet.shared is not None:
            # Handlers may change it, and whoever looks at the buffer.
            packet = Packet(packet.type, packet.data, packet.compress)
        # In the buffer first: a handler may close the session, and then what is buffered still goes out.
        self.writeBuffer.append(packet)
        if callback is not None:
            if self._callbacks is None:
                self._callbacks = []
            self._callbacks.append(callback)
        self.emit("packetCreate", packet)
        self._flush()
        counters = self.server.counters
        # What is sent from inside a flush goes out in its next round, where the transport takes that too.
        if counters.trafficObservers and self.writeBuffer and not self._canFlush():
            counters.tell("buffered", self, len(self.writeBuffer))

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

    def _canFlush(self) -> bool:
        if self._readyState is ReadyState.CLOSING:
            return bool(self.transport.writable)
        return bool(self.writeBuffer and self._readyState is ReadyState.OPEN and self.transport.writable)

    def _flushOnce(self) -> None:
        if self.writeBuffer:
            self._emitWithServer("flush", self.writeBuffer)
            if not self._canFlush():
                return
        packets, callbacks = self._takeBuffer()
        transport = self.transport
        isLast = self._readyState is ReadyState.CLOSING
        if isLast:
            self._closeTransport(packets)
        else:
            transport.send(packets)
        self._callBack(callbacks, transport)
        if packets:
            self._emitWithServer("drain")
        if isLast:
            self._end(*self._ending)

    def _closeTransport(self, packets: Sequence[Packet]) -> None:
        reason, _ = self._ending
        self.transport.close(packets, reason, max(CLOSE_TIMEOUT, self._closesBy - self._clock.seconds()))

    def _takeBuffer(self) -> tuple[list[Packet], list[SendCallback]]:
        self._heartbeatIsBuffered = False
        packets, self.writeBuffer = self.writeBuffer, []
        callbacks, self._callbacks = self._callbacks, None
        return packets, callbacks or []

    def _callBack(self, callbacks: list[SendCallback], transport: ITransport) -> None:
        for callback in callbacks:
            self.callHandler("send callback", callback, transport)

    def _emitWithServer(self, event: str, *args: Any) -> None:
        # What ran before may have closed the session, and nothing comes after its close event.
        if self._readyState is not ReadyState.CLOSED:
            self.emit(event, *args)
        if self._readyState is not ReadyState.CLOSED:
            self.server.emit(event, self, *args)

    # Heartbeat

    @property
    def _clientPings(self) -> bool:
        return self.protocol == 3

    @property
    def _heartbeatTime(self) -> int:
        """Milliseconds until the next ping is due, or, where the client pings, overdue."""
        options = self.server.opts
        return options.pingInterval + (options.pingTimeout if self._clientPings else 0)

    def _heartbeatDue(self) -> None:
        left = self._pongDue - self._clock.seconds()
        if left > MILLISECOND:
            # No pong yet, but it may still come.
            self._heartbeat = self._clock.callLater(left, self._heartbeatDue)
            return
        if not self._heartbeatStep(Input.INTERVAL):
            if self._clientPings:
                description = f"no ping within pingInterval and pingTimeout, {self._heartbeatTime} ms"
            else:
                description = f"no pong within pingTimeout, {self.server.opts.pingTimeout} ms"
            self._end(CloseReason.PING_TIMEOUT, description)
            return
        # Not later than the next ping, if a pong comes soon: then the call is moved to a later time, where moving it to
        # an earlier one would take the reactor a look at all it has.
        options = self.server.opts
        wait = min(options.pingTimeout, options.pingInterval)
        if wait < options.pingTimeout:
            self._pongDue = self._clock.seconds() + options.pingTimeout / 1000
        self._heartbeat = self._clock.callLater(wait / 1000, self._heartbeatDue)
        self._sendHeartbeat(PacketType.PING)

    def _sendHeartbeat(self, type_: PacketType) -> None:
        # Until it is taken, nothing of the client's answers it: one that doesn't poll isn't kept by what it posts.
        self._heartbeatIsBuffered = True
        self._sendPacket(Packet(type_))

    def _moveHeartbeat(self, seconds: float) -> None:
        assert self._heartbeat is not None
        self._pongDue = 0.0
        if self.server.opts.fastPaths.heartbeats and self._heartbeat.getTime() <= self._clock.seconds() + seconds:
            # The one call there is finds out by itself, when it is due, that it isn't.
            self._heartbeat.reset(seconds)
        else:
            self._heartbeat.cancel()
            self._heartbeat = self._clock.callLater(seconds, self._heartbeatDue)

    def _stopHeartbeat(self) -> None:
        self._heartbeatStep(Input.STOP)
        cancel(self._heartbeat)

    # Upgrade

    def _endWaitingPoll(self) -> None:
        # One noop is not enough: a poll that arrives after it would keep the client from sending its upgrade packet.
        self._noopCall = None
        if self._upgradeState is UpgradeState.PROBED:
            self._noopCall = self._clock.callLater(NOOP_INTERVAL, self._endWaitingPoll)
            if self.transport.writable:
                self.transport.send([Packet(PacketType.NOOP)])

    def _completeUpgrade(self) -> None:
        polling, self.transport, self._candidate = self.transport, self._candidate, None
        self._stopUpgradeTimers()
        polling.discard()
        self.server.counters.sessionUpgraded(self, polling.name)
        self.emit("upgrade", self.transport)
        self._flush()

    def _abandonUpgrade(self, reason: CloseReason | None = None) -> None:
        candidate, self._candidate = self._candidate, None
        self._upgradeStep(Input.ABANDON)
        self._stopUpgradeTimers()
        if candidate is not None:
            candidate.close((), reason)

    def _stopUpgradeTimers(self) -> None:
        cancel(self._upgradeDeadline)
        cancel(self._noopCall)

    # The end

    def _end(self, reason: CloseReason, description: str) -> None:
        """End the session, whatever the reason: the one place where it does."""
        if not self._step(Input.END):
            return
        self._stopHeartbeat()
        cancel(self._closeDeadline)
        self._abandonUpgrade(reason)
        # First: behind the GET that is answered now another may come at once, which is to find no session.
        self._ended(self)
        self.server.counters.sessionClosed(self, reason, description)
        self.transport.close((), reason)
        self._callbacks = None
        self.emit("close", reason, description)

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
        return beginningOfId(self.id, self.server.opts.idPrefix) + "…"

    def handlerFailed(self, event: str, args: tuple[Any, ...], failure: Failure) -> None:
        """Log what a handler raised, and emit it as C{error}."""
        self._log.failure("Handler of {event} of session {session} failed", failure, event=event, session=self.logName)
        if event != "error":
            self.emit("error", failure.value)
