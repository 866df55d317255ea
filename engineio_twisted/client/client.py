"""A session, as the application sees it that has opened it. docs/client.md"""

from __future__ import annotations

from math import inf
from typing import Any, Unpack

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from ..clock import cancel
from ..ends import attempt
from ..interfaces import LEFT, Closing, ITransport
from ..logs import beginningOfId
from ..protocol.errors import CloseReason, HTTPRefusal
from ..protocol.packet import Packet, PacketType
from ..session.heartbeats import Heartbeats
from ..session.outbox import HEARTBEATS
from ..session.states import Input, ReadyState, change
from ..session.suspension import isSuspended
from .connecting import Connecting
from .errors import ConnectionFailed, FailureType
from .events import CLIENT_EVENTS
from .handshake import Handshake, readHandshake
from .host import ClientHost, Nowhere, clockOfStandstill
from .options import ClientKeywords, ClientOptions
from .polling import PollingTransport
from .returning import Returning, asking, isLoss, readGrant
from .sending import ClientSender
from .upgrade import ClientUpgrade, forget, isRemembered, remember
from .websocket import ClientWebSocketTransport

_OPEN, _OPENING, _CLOSED = ReadyState.OPEN, ReadyState.OPENING, ReadyState.CLOSED
_MESSAGE = PacketType.MESSAGE

TRANSPORTS: dict[str, Any] = {each.name: each for each in (PollingTransport, ClientWebSocketTransport)}
"""The transports of a client, by name."""

CLOSED_BY_CLIENT = Closing(CloseReason.FORCED_CLOSE, "closed by the client")

UPGRADE_RETRY = 30.0
"""Seconds after which an upgrade that failed is tried again; twice as many after each further failure."""

MAX_UPGRADE_RETRY = 600.0
"""Seconds between two upgrades that are tried at most."""

_FAILURES = {CloseReason.PING_TIMEOUT: FailureType.TIMEOUT, CloseReason.TRANSPORT_ERROR: FailureType.PARSE}
"""What has failed if the heartbeat ends a session, by the reason: it didn't come, or not from that end."""


class Client(ClientSender):
    """
    One session with a server of Engine.IO, from the end that opens it.

    Add handlers, call L{connect}, and use it as a L{Socket} of a server. Another session is another C{Client}.

    Events are those of L{Socket}, and C{handshake(handshake)}, with the L{Handshake}, before C{open}; and
    C{upgradeError(failure)} with a L{ConnectionFailed} if the WebSocket failed to which the session was to move, which
    goes on by polling and tries again later. After L{connect} was called C{close} comes once, whatever happens.

    @param url: of the server, with C{http:}, C{https:}, C{ws:} or C{wss:}.
    @param reactor: Twisted's reactor; by default the running one.
    @param options: as in L{ClientOptions}.
    @raise OptionError: an option is unknown, of a wrong type or out of range; or the URL is none.
    @ivar opts: the L{ClientOptions}.
    @ivar handshake: the L{Handshake} of the server; None until the session is open.
    @ivar failure: the L{ConnectionFailed} that ended the session, or kept it from opening; None if nothing failed.
    """

    _kind = "Client"
    _peer = "server"
    _closedHere = CLOSED_BY_CLIENT
    _events = CLIENT_EVENTS

    def __init__(self, url: str, *, reactor: Any = None, **options: Unpack[ClientKeywords]) -> None:
        self.opts: ClientOptions = ClientOptions(**options)
        self._connecting = Connecting(url, self.opts, reactor)
        super().__init__("", ClientHost(self, self._connecting), Nowhere(), self.opts.EIO)
        self._result: Deferred[Client] | None = None
        # The names of the transports that are still to be tried.
        self._untried: list[str] = []
        # If the server lets the session be resumed.
        self._returning: Returning | None = None
        self._deadline: IDelayedCall | None = None
        self._retry: IDelayedCall | None = None
        self._retryInterval = UPGRADE_RETRY
        self._isCancelled = False
        # Connections that aren't gone, and who waits for that.
        self._connections = 0
        self._waitingForEnd: list[Deferred[None]] = []

    @property
    def isPinging(self) -> bool:
        return self.protocol == 3

    @property
    def keepAlive(self) -> PacketType:
        return PacketType.PING if self.protocol == 3 else PacketType.PONG

    @property
    def logName(self) -> str:
        where = self._connecting.address.netloc
        return f"{beginningOfId(self.id, '')}… at {where}" if self.id else f"at {where}"

    # Opening

    def connect(self) -> Deferred[Client]:
        """
        Open the session.

        Causes C{handshake} and C{open}, and then what comes.

        @return: a Deferred of this client, fired behind C{open}; or of a L{ConnectionFailed}. Cancelling it closes the
            session.
        @raise RuntimeError: this was called before.
        """
        if self._result is not None:
            raise RuntimeError(f"{self!r} was connected before: a Client is one session, so make another one")
        result: Deferred[Client] = Deferred(self._cancelled)
        self._result = result
        if self._readyState is _OPENING:
            self._standstill = clockOfStandstill(self._host.clock)
            self._untried = self._transportsToTry()
            self._tryNext()
        else:
            self._fail(ConnectionFailed(FailureType.CLOSED, "the client was closed before it was connected"))
        return result

    def _cancelled(self, _: object) -> None:
        self._isCancelled = True
        self._end(self._closedHere)

    def _transportsToTry(self) -> list[str]:
        names = list(self.opts.transports)
        if self.opts.rememberUpgrade and "websocket" in names and isRemembered(self._connecting.address.origin):
            return sorted(names, key=lambda name: name != "websocket")
        return names if self.opts.tryAllTransports else names[:1]

    def _tryNext(self) -> None:
        name = self._untried.pop(0)
        transport = self._newTransport(name)
        self.transport = transport
        milliseconds = self.opts.connectTimeout
        self._deadline = self._host.clock.callLater(milliseconds / 1000, self._openingTimedOut, milliseconds)
        self._open(transport, **asking(self.opts))

    def _newTransport(self, name: str) -> Any:
        transport = TRANSPORTS[name](self._connecting.codec, self._connecting)
        transport.owner = self
        return transport if self._returning is None else self._returning.wrapped(transport)

    def _open(self, transport: Any, **more: str) -> None:
        self._connections += 1
        try:
            transport.open(**more)
        finally:
            transport.whenGone().addBoth(self._connectionGone)

    def _openingTimedOut(self, milliseconds: int) -> None:
        transport = self.transport
        self._openingFailed(
            ConnectionFailed(
                FailureType.TIMEOUT, f"no session within connectTimeout, {milliseconds} ms", transport.name
            )
        )

    def _openingFailed(self, failure: ConnectionFailed) -> None:
        cancel(self._deadline)
        if self.transport.name == "websocket":
            forget(self._connecting.address.origin)
        if self._untried:
            attempt(self.transport.close, LEFT, session=self)
            self._tryNext()
            return
        self._endBy(failure)

    def _endBy(self, failure: ConnectionFailed) -> None:
        if self.failure is None:
            self.failure = failure
        self._end(Closing(failure.reason, failure.description))

    def _openedBy(self, packet: Packet) -> None:
        """Open the session by the first packet."""
        try:
            if packet.type is not PacketType.OPEN:
                raise ConnectionFailed(
                    FailureType.HANDSHAKE, f"the first packet is {packet.type.name.lower()}: expected open"
                )
            handshake = readHandshake(packet.data)
            grant = readGrant(handshake) if self.opts.resume else None
        except ConnectionFailed as failure:
            failure.transport = self.transport.name
            self._openingFailed(failure)
            return
        cancel(self._deadline)
        self._untried = []
        self.handshake = handshake
        self.id = self._connecting.sid = handshake.sid
        if self.transport.name == "websocket":
            remember(self._connecting.address.origin)
        self._host.heartbeats = Heartbeats(handshake, self._host.clock)
        if self.transport.name == "polling":
            self.transport.maxPayload = handshake.maxPayload
        if grant is not None:
            self._returning = Returning(self, grant)
            self._resumption = self._returning.resumption
            self.transport = self._returning.wrapped(self.transport)
        self._step(Input.START)
        self._host.heartbeats.start(self)
        self._hearPeer()
        self._host.counters.sessionOpened(self)
        self._learnLimit(handshake.maxPayload)
        for event, args in (("packet", (packet,)), ("handshake", (handshake,)), ("open", ())):
            # A handler may have closed the session.
            if self._readyState is not _CLOSED:
                self.emit(event, *args)  # type: ignore[arg-type]
        if self._result is not None and self._readyState is not _CLOSED:
            self._result.callback(self)
        if self._readyState is not _CLOSED:
            self.flush()
        self._beginUpgrade()

    # Receiving

    def transportMessage(self, transport: ITransport, data: str | bytes) -> HTTPRefusal | None:
        if self._readyState is _OPENING:
            return self.transportPacket(transport, Packet(_MESSAGE, data))
        return super().transportMessage(transport, data)

    def transportPacket(self, transport: ITransport, packet: Packet) -> HTTPRefusal | None:
        if transport is self.transport:
            if self._readyState is _OPENING:
                self._openedBy(packet)
                return None
            if packet.type is PacketType.OPEN:
                self._endBy(ConnectionFailed(FailureType.PARSE, "a second open packet", self.transport.name))
                return None
        elif self._returning is not None and transport is self._returning.candidate:
            self._returning.opened(packet)
            return None
        return super().transportPacket(transport, packet)

    def receive(self, packet: Packet) -> None:
        if packet.type in HEARTBEATS:
            self._hearPeer()
        super().receive(packet)

    def transportReady(self, transport: ITransport) -> None:
        if transport is self.transport:
            if self._readyState is not _OPENING:
                super().transportReady(transport)
        elif self._upgrade is not None and transport is self._upgrade.candidate:
            self._upgrade.opened()

    def transportClosed(self, transport: ITransport, closing: Closing) -> None:
        failure: ConnectionFailed | None = getattr(transport, "failure", None)
        if transport is self.transport:
            if self._readyState is _OPENING:
                self._openingFailed(
                    failure or ConnectionFailed(FailureType.CLOSED, closing.description, self.transport.name)
                )
                return
            if failure is None and closing.reason is CloseReason.PARSE_ERROR:
                # The packet was one, and what it says can't be.
                failure = ConnectionFailed(FailureType.PARSE, closing.description, transport.name)
            if self.failure is None:
                self.failure = failure
            closing = closing._replace(isLoss=isLoss(failure))
        elif self._returning is not None and transport is self._returning.candidate:
            self._returning.failed(failure or ConnectionFailed(FailureType.LOST, closing.description, transport.name))
            return
        elif self._upgrade is not None and transport is self._upgrade.candidate:
            self._upgrade.failed(failure or ConnectionFailed(FailureType.PROBE, closing.description, transport.name))
            return
        elif self.failure is None and self.isFrom(transport):
            # What came by polling has failed, behind which the session moves.
            self.failure = failure
        super().transportClosed(transport, closing)

    # Returns

    def reconnect(self) -> None:
        """
        Leave the connection and come back on another one, such as when the network has changed.

        A client that waits for its next try makes that now. Without C{resume}, which the server has to grant, this
        does nothing. Causes C{suspend} and C{resume}.
        """
        if self._returning is not None:
            self._returning.hurry()

    def hasLost(self) -> None:
        for call in (self._retry, self._overdue):
            cancel(call)
        self._overdue = None
        # Whether something comes is what the tries find out.
        self._heardUntil = inf
        if self._returning is not None:
            self._returning.begin()

    def _hasReturned(self, handshake: Handshake) -> None:
        """Called when the server has answered a return, before the session goes on."""
        self.handshake = handshake
        self.failure = None
        self._hearPeer()

    # Upgrades

    def _beginUpgrade(self) -> None:
        """Try to move to WebSocket, if that is wanted."""
        handshake = self.handshake
        if (
            self._readyState is _OPEN
            and not isSuspended(self)
            and self.transport.name == "polling"
            and self.opts.upgrade
            and "websocket" in self.opts.transports
            and handshake is not None
            and "websocket" in handshake.upgrades
            and change(self, "_upgradeState", Input.CANDIDATE)
        ):
            candidate = self._newTransport("websocket")
            self._upgrade = ClientUpgrade(self, candidate)
            self._open(candidate)

    def _upgradeFailed(self, failure: ConnectionFailed, isPausing: bool) -> None:
        """Called when the WebSocket was given up that was tried out, and the session goes on."""
        if isPausing:
            self.transport.unpause()
        if self._readyState is _OPEN:
            self._retry = self._host.clock.callLater(self._retryInterval, self._beginUpgrade)
            self._retryInterval = min(2 * self._retryInterval, MAX_UPGRADE_RETRY)
            self.emit("upgradeError", failure)

    def _hasUpgraded(self) -> None:
        """Called when the session has moved to WebSocket."""
        self._retryInterval = UPGRADE_RETRY
        remember(self._connecting.address.origin)

    # The end

    def close(
        self, discard: bool = False, *, reason: CloseReason = CloseReason.FORCED_CLOSE, description: str | None = None
    ) -> Deferred[None]:
        """
        Close the session: what was sent goes out first, then the server is told.

        If the session is moving to WebSocket, that comes to its end first. A session that isn't open yet ends at once,
        and L{connect} fails. Otherwise as L{Socket.close}.

        @param discard: drop what is buffered, and close at once.
        @param reason: why, for the event C{close}.
        @param description: the same in more words; by default C{closed by the client}.
        @return: a Deferred that fires when the session has ended and none of its connections is left; it never fails.
            Each call gets one.
        @raise ValueError: the reason isn't a L{CloseReason}.
        @raise TypeError: the description isn't text.
        """
        if self._readyState is _OPENING:
            discard = True
        self._closeBy(discard, reason, description)
        waiting: Deferred[None] = Deferred()
        self._waitingForEnd.append(waiting)
        self._tellIfGone()
        return waiting

    def _hasEnded(self) -> None:
        """Called when the session has ended, before anybody is told."""
        for call in (self._deadline, self._retry, self._overdue):
            cancel(call)
        if self._returning is not None:
            self._returning.stop()
        self._untried = []
        ending = self._ending
        if ending is not None and ending.reason in _FAILURES and self.failure is None:
            description = ending.closing.description
            self.failure = ConnectionFailed(_FAILURES[ending.reason], description, self.transport.name)
        self._host.ends.add(self, (Client._tell,))

    def _tell(self) -> None:
        """Tell those who wait that the session has ended."""
        if self._ending is not None:
            self._fail(self.failure or ConnectionFailed(FailureType.CLOSED, self._ending.closing.description))
        self._tellIfGone()

    def _fail(self, failure: ConnectionFailed) -> None:
        result = self._result
        if result is not None and not result.called and not self._isCancelled:
            result.errback(failure)

    def _connectionGone(self, _: object) -> None:
        self._connections -= 1
        self._tellIfGone()

    def _tellIfGone(self) -> None:
        if self._readyState is _CLOSED and not self._connections and (self._ending is None or self._ending.isOver):
            waiting, self._waitingForEnd = self._waitingForEnd, []
            for each in waiting:
                each.callback(None)
