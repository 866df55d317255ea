"""
The owner's side of a relay: requests that another worker was reached with, served here.

docs/architecture/workers.md, "Relaying a request".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IConsumer, IPullProducer, IPushProducer, ISSLTransport, ITransport
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ..protocol.errors import BodyTimeout, HTTPRefusal
from ..web.connections import flushAtOnce, unsent, writeAtOnce
from .addresses import asAddress
from .frames import (
    MAX_HEAD,
    Aborted,
    Facts,
    FrameReader,
    Kind,
    answerFrames,
    decodeAborted,
    decodeRequest,
    frame,
)

if TYPE_CHECKING:
    from ..server import Server

_DONE, _ABORTED = Failure(ConnectionDone()), Failure(ConnectionAborted())


class Back(Protocol):
    """
    The owner's end of a link.

    @param site: a site whose protocol is L{DirectedChannel<engineio_twisted.web.directed.DirectedChannel>}.
    @param server: the L{Server} that is attached to it.
    @param handshakeCame: called after each handshake that the front has passed on.
    """

    _log = Logger()
    transport: Any

    def __init__(self, site: Any, server: Server, handshakeCame: Callable[[], object]) -> None:
        self._handshakeCame = handshakeCame
        self._site = site
        self._server = server
        self._reader = FrameReader(MAX_HEAD + server.opts.maxHttpBufferSize)
        # What carries the request that is being answered, or the WebSocket that it has become.
        self._carried: RelayedTransport | None = None

    def dataReceived(self, data: bytes) -> None:
        carried = self._carried
        if carried is not None and carried.isPipe:
            carried.protocol.dataReceived(data)
            return
        self._reader.add(data)
        try:
            while (found := self._reader.next()) is not None:
                self._received(*found)
                if self._carried is not None and self._carried.isPipe:
                    self._restToPipe(self._carried)
                    return
        except ValueError as error:
            if self._server._counters.throttle.allows("frames of workers"):
                self._log.error("A link of another worker is dropped: {reason}", reason=error)
            self.transport.abortConnection()

    def _restToPipe(self, carried: RelayedTransport) -> None:
        rest = self._reader.rest()
        if rest:
            carried.protocol.dataReceived(rest)

    def _received(self, kind: Kind, payload: bytes) -> None:
        if kind is Kind.ABORTED:
            self._abort(decodeAborted(payload))
        elif kind is not Kind.REQUEST:
            raise ValueError(f"{kind.name} from a front")
        elif self._carried is not None:
            raise ValueError("a request before the one before it was answered")
        else:
            facts, request = decodeRequest(payload)
            carried = (SecureRelayedTransport if facts.isSecure else RelayedTransport)(self, facts)
            self._carried = carried
            carried.begin(self._site, facts, request)
            if facts.isBalanced:
                self._handshakeCame()

    def _abort(self, aborted: Aborted) -> None:
        """Let a body for a session be over, as if its connection were one of this worker's."""
        session: Any = self._server.clients.get(aborted.sid)
        if session is None or session.transport.name != "polling" or session.protocol != aborted.revision:
            return
        if session._resumption is not None and (aborted.status is None or aborted.name == BodyTimeout.name):
            # Its client comes back, or has done so, and this may be of a request from before.
            return
        push = session.transport
        try:
            push.pushStarted(aborted)
        except HTTPRefusal:
            # There is another body: the session has ended for that reason.
            return
        if aborted.status is None:
            push.pushLost(aborted)
        else:
            push.pushRefused(aborted, HTTPRefusal(aborted.message, None, aborted.status, aborted.name))

    # What the transport has done

    def answered(self) -> None:
        """Called when a request was answered, and another may come."""
        self._carried = None

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        carried, self._carried = self._carried, None
        if carried is not None:
            carried.lost(reason)


@implementer(ITransport, IConsumer, IPushProducer)
class RelayedTransport:
    """
    The connection of a client that another worker has, as a channel and a WebSocket know it here.

    @param back: the link.
    @param facts: what is known of the connection.
    @ivar disconnecting: whether it is being closed.
    @ivar isPipe: whether it has become a WebSocket.
    """

    disconnecting: bool = False
    # As transports of the reactor have them.
    connected: int = 1
    disconnected: int = 0
    isPipe: bool = False

    def __init__(self, back: Back, facts: Facts) -> None:
        self._back = back
        self._link: Any = back.transport
        self._peer = asAddress(facts.peer)
        self._host = asAddress(facts.host)
        self._channel: Any = None
        self._protocol: Any = None
        self._isPaused = False
        # While the request is begun, what is written: as a rule that is the response, and goes out in one piece.
        self._held: list[bytes] | None = []

    def begin(self, site: Any, facts: Facts, request: bytes) -> None:
        """Serve a request."""
        self._channel = self._protocol = channel = site.buildProtocol(self._peer)
        channel.arrives(facts)
        channel.whenDone = self._done
        # The front has refused what is too large. What it has read is written anew here, with some spaces more.
        channel.totalHeadersSize = channel.MAX_LENGTH = 2 * MAX_HEAD
        # It is asked once, and the front has the deadlines of what is between requests.
        channel.timeOut = None
        channel.makeConnection(self)
        channel.dataReceived(request)
        self._release()

    def _release(self) -> None:
        held, self._held = self._held, None
        if held:
            writeAtOnce(self._link, b"".join(held))

    @property
    def protocol(self) -> Any:
        """What reads from it: the channel, or, once a WebSocket is accepted, what serves that."""
        return self._protocol

    @protocol.setter
    def protocol(self, protocol: Any) -> None:
        self._release()
        self._protocol = protocol
        self.isPipe = True
        writeAtOnce(self._link, frame(Kind.UPGRADED))

    @property
    def unsent(self) -> int:
        """How many bytes that were written the system hasn't taken."""
        return 0 if self.disconnected else unsent(self._link)

    def _done(self) -> None:
        if not self.disconnecting:
            self._finish(Kind.END)

    def _finish(self, kind: Kind) -> None:
        """End the request, in order; the channel has no other. It stays until the system has the response."""
        if self.disconnected:
            return
        # In one piece with the response, as a rule.
        if self._held is None:
            self._link.write(frame(kind))
            flushAtOnce(self._link)
        else:
            self._held.append(frame(kind))
            self._release()
        if unsent(self._link):
            self._link.unregisterProducer()
            # Called at once, and again when all is written.
            self._link.registerProducer(_Drained(self._drained), False)
        else:
            self._answered()

    def _drained(self) -> None:
        # Whoever waits for the response to be taken is told.
        self._channel.resumeProducing()
        if not self.disconnected:
            self._answered()

    def _answered(self) -> None:
        self._back.answered()
        self._over(_DONE)
        if self._isPaused:
            self._link.resumeProducing()

    def _over(self, reason: Failure) -> None:
        self.connected, self.disconnected = 0, 1
        self._link.unregisterProducer()
        self._protocol.connectionLost(reason)

    def lost(self, reason: Failure) -> None:
        """Called when the link is lost: the client has gone, or its front has."""
        if not self.disconnected:
            self._over(reason)

    # What the channel, and what serves a WebSocket, do

    def getPeer(self) -> Any:
        """Return the address of the client."""
        return self._peer

    def getHost(self) -> Any:
        """Return the address that it connected to."""
        return self._host

    def write(self, data: bytes) -> None:
        """Send bytes to the client."""
        if self.disconnected or not data:
            return
        if self.isPipe:
            writeAtOnce(self._link, data)
            return
        frames = answerFrames(data)
        if self._held is None:
            for each in frames:
                self._link.write(each)
        else:
            self._held += frames

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Send the bytes of several pieces to the client."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close the connection when the client has been sent all."""
        if self.disconnected or self.disconnecting:
            return
        self.disconnecting = True
        if self.isPipe:
            self._link.loseConnection()
        else:
            # Not within the call of a channel that is not done with it.
            self._back._server.reactor.callLater(0, self._finish, Kind.CLOSE)

    def abortConnection(self) -> None:
        """Cut the connection."""
        if not self.disconnected:
            self.disconnecting = True
            self._link.abortConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let a producer write at the pace at which the client reads."""
        self._link.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """Let go of the producer."""
        self._link.unregisterProducer()

    def pauseProducing(self) -> None:
        """Read no more of what the client sends."""
        self._isPaused = True
        self._link.pauseProducing()

    def resumeProducing(self) -> None:
        """Read again what the client sends."""
        if not self.disconnecting:
            self._isPaused = False
            self._link.resumeProducing()

    def stopProducing(self) -> None:
        """Close the connection."""
        self.loseConnection()


@implementer(ISSLTransport)
class SecureRelayedTransport(RelayedTransport):
    """That of a client whose connection has TLS, which ends at the front."""

    def getPeerCertificate(self) -> None:
        """Return None: certificates don't travel."""

    # A connection with TLS has these of TCP besides, and twisted.web calls the first.

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Do nothing: the front holds nothing back."""

    def getTcpNoDelay(self) -> bool:
        """Return True."""
        return True

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Do nothing."""

    def getTcpKeepAlive(self) -> bool:
        """Return False."""
        return False

    def loseWriteConnection(self) -> None:
        """Close the connection: TLS has no half of it."""
        self.loseConnection()


@implementer(IPullProducer)
class _Drained:
    """
    A producer that has nothing to write, and is asked for more when a link has written all.

    @param drained: called then.
    """

    def __init__(self, drained: Callable[[], object]) -> None:
        self._drained = drained
        self._isRegistered = False

    def resumeProducing(self) -> None:
        """Called when it is registered, and then when all is written."""
        if self._isRegistered:
            self._drained()
        self._isRegistered = True

    def stopProducing(self) -> None:
        """Called when the link is lost, which says so itself."""
