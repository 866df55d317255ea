"""Two workers in memory, on one clock, whose connections never move: one owns the sessions, the other is the front."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IPushProducer, ISSLTransport, ITransport
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from engineio_twisted import Server
from engineio_twisted.testing import MemoryConnection, MemoryNetwork
from engineio_twisted.web.fast import siteFor
from engineio_twisted.workers.cluster import Cluster
from engineio_twisted.workers.page import SharedPage

from .memory import Nothing, Unheard

KERNEL = 65536
"""Bytes that a link takes before anything of them is read."""

PARTS = 10
"""In so many parts time passes, after each of which both networks deliver."""

OWNER, FRONT = 2, 1


@implementer(ITransport, IConsumer, IPushProducer)
class LinkEnd:
    """
    One end of a link: what it is given is read by the other in a turn of the clock of its own.

    @ivar pieceSize: bytes of the pieces in which what is written to it arrives; None leaves it as it is.
    @ivar isHeld: whether nothing that is written to it arrives.
    """

    peer: LinkEnd
    protocol: Any
    pieceSize: int | None = None
    isHeld = False
    connected = 1
    disconnected = 0
    disconnecting = False
    producer: Any = None

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting = bytearray()
        self._isReading = True
        self._isFinished = self._isScheduled = self._isPaused = False
        self._streams = True
        self.written = bytearray()

    @property
    def unsent(self) -> int:
        return max(0, len(self._waiting) - KERNEL)

    def wake(self) -> None:
        if not self._isScheduled:
            self._isScheduled = True
            self._clock.callLater(0, self._turn)

    def _turn(self) -> None:
        self._isScheduled = False
        peer = self.peer
        if self._waiting and peer._isReading and not peer.disconnected and not self.isHeld:
            size = self.pieceSize or KERNEL
            piece = bytes(self._waiting[:size])
            del self._waiting[:size]
            peer.protocol.dataReceived(piece)
            self.wake()
        if self.disconnected:
            return
        if not self.unsent and self.producer is not None and (self._isPaused or not self._streams):
            self._isPaused = False
            self.producer.resumeProducing()
        if self.disconnecting and not self._waiting:
            self.lose(ConnectionDone())

    def lose(self, reason: Exception) -> None:
        """Lose this end; the other learns of it in a turn of its own."""
        if self.disconnected:
            return
        self.connected, self.disconnected = 0, 1
        producer, self.producer = self.producer, None
        if producer is not None:
            producer.stopProducing()
        self._clock.callLater(0, self.peer._otherLost, reason)
        self.protocol.connectionLost(Failure(reason))

    def _otherLost(self, reason: Exception) -> None:
        if self.disconnected:
            return
        if isinstance(reason, ConnectionAborted):
            reason = ConnectionLost()
        while self.peer._waiting and not self.disconnected and self._isReading:
            piece = bytes(self.peer._waiting)
            self.peer._waiting.clear()
            self.protocol.dataReceived(piece)
        if self._isReading or self._waiting:
            self.lose(reason)
        else:
            self._clock.callLater(0.01, self._otherLost, reason)

    def write(self, data: bytes) -> None:
        if self.disconnected:
            return
        self.written += data
        self._waiting += data
        self.wake()
        if self.producer is not None and self._streams and self.unsent > FileDescriptor.bufferSize:
            self._isPaused = True
            self.producer.pauseProducing()

    def loseConnection(self) -> None:
        self.disconnecting = True
        self._isReading = False
        self.wake()

    def abortConnection(self) -> None:
        self._isReading = False
        if not self.disconnected:
            self._clock.callLater(0, self.lose, ConnectionAborted())

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self.producer is not None:
            raise RuntimeError(f"{producer!r}: {self.producer!r} is registered already")
        if self.disconnected:
            producer.stopProducing()
            return
        self.producer, self._streams, self._isPaused = producer, streaming, False
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self._isReading = False

    def resumeProducing(self) -> None:
        if not self.disconnecting:
            self._isReading = True
            self.peer.wake()

    def stopProducing(self) -> None:
        self.loseConnection()

    def getPeer(self) -> Any:
        return None

    getHost = getPeer


class OtherWorker:
    """A worker as the front knows it: links to it go to another in memory."""

    slot = 1
    takesConnections = False

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self.number = OWNER
        self.error: OSError | None = None

    def openLink(self, kind: str, protocol: Any) -> None:
        if kind != "relay":
            # Of messages between workers nothing is sent here.
            return
        if self.error is not None:
            raise self.error
        ours, theirs = LinkEnd(self._pair.clock), LinkEnd(self._pair.clock)
        ours.peer, theirs.peer = theirs, ours
        ours.pieceSize = theirs.pieceSize = self._pair.pieceSize
        ours.protocol, theirs.protocol = protocol, self._pair.ownerCluster.protocolForLink(self, kind)
        self._pair.links.append((ours, theirs))
        theirs.protocol.makeConnection(theirs)
        protocol.makeConnection(ours)

    def lose(self) -> None:
        pass


@implementer(ISSLTransport)
class SecureConnection(MemoryConnection):  # type: ignore[misc]
    """A connection that has TLS, as far as an application can see."""


class UNIXConnection(MemoryConnection):
    """A connection by a UNIX socket."""

    def getPeer(self) -> Any:
        return UNIXAddress(None)

    getHost = getPeer


class TestClient(Unheard):
    """The client's end of a connection."""

    __test__ = False

    def __init__(self) -> None:
        self.received = bytearray()
        self.isLost = False
        self.connection: Any = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self) -> None:
        self.isLost = True


class Pair:
    """
    The owner and the front.

    @param isRelayed: whether clients come to the front; otherwise to the owner, as with one process.
    @param pieceSize: bytes of the pieces in which everything arrives on links.
    @param options: of both servers.
    @ivar events: what has happened to the session.
    @ivar links: both ends of each link that was opened: the front's, and the owner's.
    """

    def __init__(self, isRelayed: bool = True, pieceSize: int | None = None, **options: Any) -> None:
        self.clock = Clock()
        self.pieceSize = pieceSize
        self.events: list[Any] = []
        self.links: list[tuple[LinkEnd, LinkEnd]] = []
        self.sockets: list[Any] = []
        page = SharedPage(bytearray(SharedPage.sizeOf(4)), 4)
        self.owner, self.ownerSite, self.ownerCluster, self.ownerNetwork = self._worker(page, OWNER, options)
        self.front, self.frontSite, self.frontCluster, self.frontNetwork = self._worker(page, FRONT, options)
        self.neighbour = OtherWorker(self)
        neighbour: Any = self.neighbour
        self.frontCluster.addNeighbour(neighbour)
        self.network = self.frontNetwork if isRelayed else self.ownerNetwork
        self.owner.on("connection", self._opened)
        self.request = ""

    def _worker(self, page: SharedPage, number: int, options: dict[str, Any]) -> Any:
        server = Server(reactor=self.clock, idPrefix=f"{number}-", **options)
        site = siteFor(Nothing(), self.clock)
        server.attach(site)
        row = page.claim(number - 1, number)
        cluster = Cluster(server, site, page, row, prefix="", count=2, stats=Deferred, mayMove=False)
        return server, site, cluster, MemoryNetwork(self.clock, site)

    def _opened(self, socket: Any) -> None:
        self.sockets.append(socket)
        socket.on("message", lambda data: self.events.append(data))
        socket.on("close", lambda reason, description: self.events.append((reason, str(description))))

    @property
    def socket(self) -> Any:
        return self.sockets[-1]

    def open(self) -> str:
        """Open a session on polling, at the owner; return its id."""
        client = self._connect(self.ownerNetwork)
        self.send(client, b"GET /engine.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return str(self.socket.id)

    def connect(self, *pieces: bytes, address: str = "192.0.2.7") -> TestClient:
        """Connect a client; send bytes in pieces."""
        client = self._connect(self.network, address)
        for each in pieces:
            self.send(client, each)
        return client

    def _connect(self, network: MemoryNetwork, address: str = "192.0.2.7") -> TestClient:
        client = TestClient()
        client.connection = network.connect(client, address)
        self.settle()
        return client

    def send(self, client: TestClient, data: bytes) -> None:
        client.connection.send(data)
        self.settle()

    def settle(self) -> None:
        for _ in range(3):
            self.ownerNetwork.settle()
            self.frontNetwork.settle()

    def advance(self, seconds: float) -> None:
        for _ in range(PARTS):
            self.frontNetwork.advance(seconds / PARTS)
            self.settle()

    def leftovers(self) -> list[str]:
        """Return what is left of connections: channels, requests, calls that will come. The session is closed first."""
        for each in self.sockets:
            each.close(discard=True)
        for network in (self.ownerNetwork, self.frontNetwork):
            for connection in list(network.connections):
                connection.lose()
        self.settle()
        left = [f"link {each}" for each, _ in self.links if not each.disconnected and each not in self.free]
        self.frontCluster.stop()
        self.settle()
        left += [f"channel {each}" for site in (self.ownerSite, self.frontSite) for each in site.channels]
        left += [f"request {each}" for server in (self.owner, self.front) for each in server._router.reading]
        return left + [str(each) for each in self.clock.getDelayedCalls()]

    @property
    def free(self) -> list[LinkEnd]:
        """Return the front's ends of links that may be used again."""
        return [each.transport for links in self.frontCluster.front._free.values() for each in links]


def plainly(data: bytes | bytearray) -> bytes:
    """Return a response without what is another each time: the date."""
    return re.sub(rb"Date: [^\r]*", b"Date: now", bytes(data))


def story(tell: Callable[[Pair], Any], **options: Any) -> tuple[Any, Any]:
    """Return what a story tells with one process, and what it tells when each request is relayed."""
    told = []
    for isRelayed in (False, True):
        pair = Pair(isRelayed, **options)
        result = tell(pair)
        told.append((result, pair.events))
        assert pair.leftovers() == []
        assert bool(pair.links) == isRelayed
    return told[0], told[1]
