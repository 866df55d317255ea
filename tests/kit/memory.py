"""
A whole server in memory, on a clock that stands still: the network of `engineio_twisted.testing`, and exact bytes.

What a client says is read when it is said, in the pieces in which it is said: a test knows what had come when
something happened. What is to be called later is called when the test advances the clock, and not before.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionAborted
from twisted.internet.task import Clock
from twisted.web.resource import Resource

from engineio_twisted import FastSite, Server
from engineio_twisted.testing import MemoryConnection, MemoryNetwork

LOOPBACK = "127.0.0.1"


class Unheard:
    """At the client's end of a connection: a test looks at what was written instead."""

    def dataReceived(self, data: bytes) -> None:
        pass

    def connectionLost(self) -> None:
        pass


class Connection(MemoryConnection):
    """A connection on which a client says exact bytes, and that remembers what the server has written."""

    def __init__(self, network: StillNetwork, receiver: Any, address: str, port: int) -> None:
        super().__init__(network, receiver, address, port)
        self.network = network
        self.written = bytearray()

    def say(self, *pieces: bytes) -> None:
        """Send bytes, each piece to be read on its own."""
        for each in filter(None, pieces):
            self.send(each)
        self.network.settle()

    def holds(self) -> None:
        """Take nothing more: with something to send, a connection that is closed stays."""
        self.toClient.isHeld = True

    def lose(self) -> None:
        """Go away."""
        super().lose()
        self.network.settle()

    def write(self, data: bytes) -> None:
        if not self.isLost:
            self.written += data
        super().write(data)

    @property
    def isLost(self) -> bool:
        """Whether it is closed, as far as the server is concerned."""
        return bool(self.disconnected)

    @property
    def isAborted(self) -> bool:
        """Whether the server has cut it."""
        return isinstance(self._lostBy, ConnectionAborted)

    def value(self) -> bytes:
        """What the server has written."""
        return bytes(self.written)

    def taken(self) -> bytes:
        """What the server has written since this was last asked."""
        data = self.value()
        self.written.clear()
        return data


class StillNetwork(MemoryNetwork):
    """A network to which nothing happens but what a test has happen."""

    connectionClass = Connection

    def runDue(self) -> bool:
        return False

    def begin(self) -> Any:
        """Connect a client."""
        return self.connect(Unheard(), LOOPBACK)


def connectTo(factory: Any, clock: Clock | None = None, *pieces: bytes, holds: bool = False) -> Connection:
    """
    Connect to what isn't the site of a L{Memory}, and send bytes.

    @param holds: whether the client takes nothing.
    """
    connection: Connection = StillNetwork(clock or Clock(), factory).begin()
    if holds:
        connection.holds()
    connection.say(*pieces)
    return connection


class Nothing(Resource):
    """What the site has besides: nothing."""

    isLeaf = True

    def render(self, request: Any) -> bytes:
        request.setResponseCode(501)
        return b"nothing here"


class Memory:
    """
    A server whose application sends back each message, and connections to it.

    @ivar sockets: the sessions that were opened.
    """

    def __init__(self, siteClass: Any = FastSite, root: Resource | None = None, **options: Any) -> None:
        self.clock = Clock()
        self.connections: list[Connection] = []
        self.sockets: list[Any] = []
        self.server = Server(reactor=self.clock, **options)
        self.site: Any = siteClass(Nothing() if root is None else root, reactor=self.clock)
        self.server.attach(self.site)
        self.network = StillNetwork(self.clock, self.site)
        self.server.on("connection", self._opened)

    def _opened(self, socket: Any) -> None:
        self.sockets.append(socket)
        socket.on("message", lambda data: socket.send(data) and None)

    def connect(self, *pieces: bytes) -> Connection:
        """Connect, and send bytes, each piece to be read on its own."""
        connection: Connection = self.network.begin()
        self.connections.append(connection)
        connection.say(*pieces)
        return connection

    def settle(self) -> None:
        """Let the server read what it wants to, and close what it wants to close."""
        self.network.settle()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)
        self.settle()

    def end(self) -> None:
        """Lose all connections; make sure that of what had no sessions but theirs nothing is left."""
        for each in self.connections:
            each.lose()
        self.connections.clear()
        # What stands for the present turn of the reactor.
        self.clock.advance(0)
        assert not len(self.site.channels)
        assert not len(self.server._webSockets.connections)
        assert not len(self.server._router.reading)
