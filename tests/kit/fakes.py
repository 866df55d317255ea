"""Small stand-ins for what surrounds a session; each as small as the interface it provides."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from io import BytesIO
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IPushProducer
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from zope.interface import implementer

from engineio_twisted.ends import Connections, Ends
from engineio_twisted.interfaces import Closing, ISessionHost, ITransport, ITransportOwner
from engineio_twisted.logs import SocketIONotice
from engineio_twisted.observer import Counters
from engineio_twisted.protocol.errors import CloseReason, HTTPRefusal, SessionClosing
from engineio_twisted.protocol.options import ServerOptions
from engineio_twisted.protocol.packet import Packet, PacketType
from engineio_twisted.protocol.proxies import plainAddress
from engineio_twisted.session.emitter import EventEmitter
from engineio_twisted.session.heartbeats import Heartbeats
from engineio_twisted.web.exchange import RequestExchange
from engineio_twisted.web.writer import ResponseWriter

FORCED = Closing(CloseReason.FORCED_CLOSE, "closed by the server")


@implementer(ITransport)
class FakeTransport:
    """A transport that remembers what it was told. One for polling is writable once after each `ready()`."""

    bufferedAmount = heldBytes = 0
    isDelivering = False
    arriving: object = None

    def __init__(self, name: str = "websocket", writable: bool = True) -> None:
        self.name = name
        self.isPolled = name == "polling"
        # How many packets a WebSocket takes until it is ready again; None for all.
        self.room: int | None = None
        # What became of the client that was held back: whether what came was delivered.
        self.isHeldBack = False
        self.delivered: list[bool] = []
        self.writable = writable
        self.owner: Any = None
        self.sent: list[Packet] = []
        self.closings: list[Closing] = []

    def send(self, packets: Sequence[Packet]) -> int:
        assert self.writable, "sent on a transport that isn't writable"
        assert packets, "sent nothing"
        taken = len(packets) if self.room is None else min(self.room, len(packets))
        self.sent.extend(packets[:taken])
        if self.room is not None:
            self.room -= taken
        if self.name == "polling" or self.room == 0:
            self.writable = False
        return taken

    def sendMessage(self, data: str | bytes, utf8: bytes | None, compress: bool) -> None:
        self.send([Packet(PacketType.MESSAGE, data, compress)])

    def close(self, closing: Closing, packets: Sequence[Packet] = ()) -> int:
        taken = self.send(packets) if packets and self.writable else 0
        self.writable = False
        self.closings.append(closing)
        return taken

    @property
    def reasons(self) -> list[CloseReason | None]:
        """Why it was closed."""
        return [each.reason for each in self.closings]

    def pauseReceiving(self) -> None:
        assert not self.isHeldBack
        self.isHeldBack = True

    def resumeReceiving(self, isDelivered: bool = True) -> None:
        assert self.isHeldBack
        self.isHeldBack = False
        self.delivered.append(isDelivered)

    def ready(self, room: int | None = None) -> None:
        """As if a GET had come, or the client had taken what was sent: there is room for so many packets."""
        self.writable = True
        self.room = room
        self.owner.transportReady(self)

    def receive(self, type: PacketType, data: str | bytes = "") -> None:  # noqa: A002
        """As if the client had sent a packet."""
        if type is PacketType.MESSAGE:
            self.owner.transportMessage(self, data)
        else:
            self.owner.transportPacket(self, Packet(type, data))

    def texts(self) -> list[str | bytes]:
        """The data of the messages sent."""
        return [each.data for each in self.sent if each.type is PacketType.MESSAGE]

    def types(self) -> list[PacketType]:
        return [each.type for each in self.sent]


@implementer(ITransportOwner)
class FakeOwner:
    """A session that remembers what its transport told it."""

    logName = "fake…"

    def __init__(self) -> None:
        self.readies = self.deliveries = 0
        self.packets: list[Packet] = []
        self.closes: list[tuple[str, str]] = []

    def transportReady(self, transport: ITransport) -> None:
        self.readies += 1

    isClosing = False

    def transportPacket(self, transport: ITransport, packet: Packet) -> HTTPRefusal | None:
        if self.isClosing:
            return SessionClosing()
        self.packets.append(packet)
        return None

    def transportMessage(self, transport: ITransport, data: str | bytes) -> HTTPRefusal | None:
        return self.transportPacket(transport, Packet(PacketType.MESSAGE, data))

    def transportDelivered(self, transport: ITransport) -> None:
        self.deliveries += 1

    def transportClosed(self, transport: ITransport, closing: Closing) -> None:
        self.closes.append((str(closing.reason), closing.description))
        transport.close(closing)


class FakeWriter(ResponseWriter):
    """A writer of responses that adds a header to each that is announced."""

    def __init__(self) -> None:
        self.counters = Counters()
        super().__init__(ServerOptions(), self.counters, EventEmitter())

    def announce(self, exchange: Any) -> None:
        exchange.setHeader("x-announced", exchange.openedId or "yes")


@implementer(ISessionHost)
class FakeHost:
    """A server, as far as a session knows it."""

    _hasSendListeners = True

    def __init__(self, clock: Any = None, **options: Any) -> None:
        self.server = self
        self.clock = self.reactor = clock
        self.ended: list[Any] = []
        self.opts = ServerOptions(**options)
        self._streams: Connections[Any] = Connections()
        self.counters = self._counters = Counters()
        self.ends = Ends(clock)
        self.socketIONotice = SocketIONotice()
        self.events: list[tuple[Any, ...]] = []

    @cached_property
    def heartbeats(self) -> Heartbeats:
        return Heartbeats(self.opts, self.clock)

    def emit(self, event: str, *args: Any) -> bool:
        self.events.append((event, *args))
        return True

    def addressOf(self, request: Any) -> str | None:
        return plainAddress(request.getClientAddress())

    def firstMessage(self, session: Any, data: str | bytes) -> None:
        self.socketIONotice.firstMessage(data, session.logName)

    def sessionEnded(self, socket: Any) -> None:
        self.ended.append(socket)


class FakeChannel:
    """The connection of a fake request."""

    transport = object()
    isClosed = False

    def loseConnection(self) -> None:
        self.isClosed = True

    def unregisterProducer(self) -> None:
        pass


class FakeRequest:
    """A request of twisted.web, without the web."""

    clientproto = b"HTTP/1.1"

    def __init__(
        self,
        method: bytes = b"GET",
        uri: bytes = b"/engine.io/?EIO=4&transport=polling",
        body: bytes = b"",
        headers: dict[str, list[str]] | None = None,
    ) -> None:
        self.method, self.uri = method, uri
        self.content: Any = BytesIO(body)
        self.requestHeaders = Headers(headers or {})
        self.responseHeaders = Headers()
        self.cookies: list[bytes] = []
        self.channel: Any = FakeChannel()
        self.status = 200
        self.written = b""
        self.finished = False
        self.startedWriting = False
        self.isDropped = False
        self._finishes: list[Deferred[None]] = []

    @property
    def path(self) -> bytes:
        return self.uri.partition(b"?")[0]

    @cached_property
    def exchange(self) -> Any:
        """What the server has of it."""
        return RequestExchange(self)

    def getClientAddress(self) -> IPv4Address:
        return IPv4Address("TCP", "192.0.2.7", 1234)

    def isSecure(self) -> bool:
        return False

    def getHeader(self, name: str) -> str | None:
        values = self.requestHeaders.getRawHeaders(name)
        return values[-1] if values else None

    def setHeader(self, name: str, value: str) -> None:
        self.responseHeaders.setRawHeaders(name, [value])

    def setResponseCode(self, code: int, message: bytes | None = None) -> None:
        self.status = code

    def write(self, data: bytes) -> None:
        assert not self.finished
        self.startedWriting = True
        self.written += data

    producer: Any = None

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert (self.producer, streaming) == (None, False)
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def finish(self) -> None:
        assert not self.finished, "finished twice"
        assert self.producer is None, "finished with a producer"
        self.finished = True
        self.channel = None
        finishes, self._finishes = self._finishes, []
        for each in finishes:
            each.callback(None)

    def notifyFinish(self) -> Deferred[None]:
        self._finishes.append(Deferred())
        return self._finishes[-1]

    def loseConnection(self) -> None:
        self.isDropped = True

    def lose(self) -> None:
        """As if the client had gone."""
        self.channel = None
        finishes, self._finishes = self._finishes, []
        for each in finishes:
            each.errback(Failure(ConnectionLost()))

    def header(self, name: str) -> str | None:
        """The value of a header of the answer."""
        values = self.responseHeaders.getRawHeaders(name)
        return values[-1] if values else None


class FakeSystem:
    """The socket of a L{PlainConnection}: it takes as much as it is told to, and remembers it."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.room: int | OSError = 10**9
        self.isClosed = False

    def send(self, data: bytes) -> int:
        if isinstance(self.room, OSError):
            raise self.room
        self.taken.append(bytes(data[: self.room]))
        return len(self.taken[-1])

    def shutdown(self, how: int) -> None:
        pass

    def close(self) -> None:
        self.isClosed = True


class PlainConnection(Connection):
    """A connection of the reactor's, without a reactor: what is left to that is in `queued`."""

    def __init__(self) -> None:
        FileDescriptor.__init__(self, reactor=object())  # type: ignore[arg-type]
        self.socket: Any = FakeSystem()
        self.fileno = lambda: -1  # type: ignore[method-assign]
        self.connected = True
        self.isWriting = False

    @property
    def queued(self) -> bytes:
        return self.dataBuffer + b"".join(self._tempDataBuffer)

    def startWriting(self) -> None:
        self.isWriting = True

    def startReading(self) -> None:
        pass

    def stopReading(self) -> None:
        pass

    def drain(self) -> None:
        """As if the system had taken all that was left to the reactor."""
        while self.queued:
            assert self.isWriting
            self.doWrite()

    def stopWriting(self) -> None:
        self.isWriting = False

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 50000)

    getHost = getPeer


@implementer(IPushProducer)
class Pusher:
    """A push producer that takes note of what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")
