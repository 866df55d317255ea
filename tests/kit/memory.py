"""
A whole server in memory, on a clock: what serves is all there, and between it and a client are nothing but bytes.

What a client says is read when it is said, in the pieces in which it is said: a test knows what had come when
something happened.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.resource import Resource

from engineio_twisted import FastSite, Server, Site


class ServerEnd(StringTransport):
    """
    A connection as a server sees it: it does what one of the reactor does.

    @ivar isLost: whether it is closed.
    @ivar protocol: reads what comes.
    @ivar inbox: what the client sent and the server hasn't read, piece by piece.
    """

    isLost = isAborted = False
    isReading = True

    def __init__(self, protocol: Any = None) -> None:
        super().__init__()
        self.protocol = protocol
        self.inbox: deque[bytes] = deque()

    def isLostBy(self, reason: Exception) -> None:
        """Close it."""
        if self.isLost:
            return
        self.isLost = self.disconnected = True
        self.connected = False
        producer, self.producer = self.producer, None
        if producer is not None:
            producer.stopProducing()
        self.protocol.connectionLost(Failure(reason))

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def write(self, data: bytes) -> None:
        if not self.isLost:
            super().write(data)

    def loseConnection(self) -> None:
        if not self.isLost:
            self.disconnecting = True
            self.isReading = False

    def abortConnection(self) -> None:
        if not self.isLost:
            self.isAborted = True
            self.loseConnection()

    def pauseProducing(self) -> None:
        self.isReading = False

    def resumeProducing(self) -> None:
        if not self.isLost and not self.disconnecting:
            self.isReading = True

    def unregisterProducer(self) -> None:
        self.producer = None


class Connection(ServerEnd):
    """A connection with its client, who says something, and to whom everything that follows happens at once."""

    def __init__(self, protocol: Any) -> None:
        super().__init__(protocol)
        protocol.makeConnection(self)

    def say(self, *pieces: bytes) -> None:
        """Send bytes, each piece to be read on its own."""
        self.inbox.extend(pieces)
        self.turn()

    def lose(self) -> None:
        """Go away."""
        self.isLostBy(ConnectionLost())

    def turn(self) -> None:
        """Let the server read what it wants to, and close what it wants to close."""
        while not self.isLost:
            if self.isAborted:
                self.isLostBy(ConnectionAborted())
            elif self.disconnecting:
                self.isLostBy(ConnectionDone())
            elif self.isReading and self.inbox:
                self.protocol.dataReceived(self.inbox.popleft())
            else:
                return

    def taken(self) -> bytes:
        """What the server sent since this was last asked."""
        data = self.value()
        self.clear()
        return data


class Nothing(Resource):
    """What the site has besides: nothing."""

    isLeaf = True

    def render(self, request: Any) -> bytes:
        request.setResponseCode(501)
        return b"nothing here"


class Memory:
    """A server whose application sends back each message, and connections to it."""

    def __init__(self, siteClass: type[Site] = FastSite, **options: Any) -> None:
        self.clock = Clock()
        self.connections: list[Connection] = []
        self.server = Server(reactor=self.clock, **options)
        self.site = siteClass(Nothing(), reactor=self.clock)
        self.server.attach(self.site)
        self.server.on("connection", self._opened)

    def _opened(self, socket: Any) -> None:
        socket.on("message", lambda data: socket.send(data) and None)

    def connect(self, *pieces: bytes) -> Connection:
        """Connect, and send bytes, each piece to be read on its own."""
        connection = Connection(self.site.buildProtocol(None))
        self.connections.append(connection)
        connection.say(*pieces)
        return connection

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)
        for each in self.connections:
            each.turn()

    def end(self) -> None:
        """Lose all connections; make sure that of what had no sessions but theirs nothing is left."""
        for each in self.connections:
            each.lose()
        self.connections.clear()
        # What stands for the present turn of the reactor.
        self.clock.advance(0)
        assert not len(self.site.channels)
        assert not len(self.server.webSockets.connections)
        assert not len(self.server.router.reading)
