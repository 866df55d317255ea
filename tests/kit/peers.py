"""A WebSocket that an engine has accepted, on a connection that remembers what is written to it."""

from __future__ import annotations

import struct
from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from engineio_twisted.protocol.handshake import WebSocketHandshake
from engineio_twisted.protocol.options import ServerOptions
from engineio_twisted.protocol.payload import codecFor
from engineio_twisted.transports.websocket import WebSocketTransport
from engineio_twisted.web.exchange import RequestExchange

from .fakes import FakeOwner
from .wire import makeFrame as makeFrameOf


def makeFrame(opcode: int, payload: bytes = b"", **options: Any) -> bytes:
    """A frame as a client sends it."""
    return makeFrameOf(payload, opcode, **options)


HANDSHAKE = WebSocketHandshake(b"dGhlIHNhbXBsZSBub25jZQ==", b"13")


class Connection(StringTransport):
    """A connection that remembers how it ended."""

    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True
        self.loseConnection()


class Channel:
    """The HTTP channel that a connection is taken over from."""

    def __init__(self, connection: Connection, behind: bytes = b"") -> None:
        self.transport = connection
        self._dataBuffer: list[bytes] = []
        self.behind = behind
        self.isReleased = False
        connection.registerProducer(self, True)

    def clearLineBuffer(self) -> bytes:
        return self.behind

    def setTimeout(self, seconds: float | None) -> None:
        assert seconds is None

    def released(self) -> None:
        self.isReleased = True


class AcceptedPeer:
    """A WebSocket that has been accepted, seen from the client."""

    def __init__(
        self,
        engine: Any,
        limit: int = 1000,
        supportsBinary: bool = True,
        behind: bytes = b"",
        headers: Any = None,
        handshake: WebSocketHandshake = HANDSHAKE,
        **options: Any,
    ) -> None:
        self.clock = Clock()
        self.engine = engine(self.clock, ServerOptions(maxHttpBufferSize=limit, wsEngine=engine, **options))
        self.connection = Connection()
        self.channel = Channel(self.connection, behind)
        self.transport = WebSocketTransport(codecFor(4), supportsBinary, self.opened)
        self.owner = FakeOwner()
        exchange = RequestExchange(type("Request", (), {"channel": self.channel})())
        self.engine.accept(exchange, handshake, headers or {}, self.transport)
        self.answer, _, rest = self.connection.value().partition(b"\r\n\r\n")
        self.connection.clear()
        self.connection.write(rest)

    def opened(self) -> None:
        self.transport.owner = self.owner

    def receive(self, data: bytes) -> None:
        self.connection.protocol.dataReceived(data)

    def send(self, opcode: int, payload: bytes = b"", **options: Any) -> None:
        self.receive(makeFrame(opcode, payload, **options))

    def lose(self, clean: bool = True) -> None:
        reason = ConnectionDone() if clean else ConnectionLost()
        self.connection.protocol.connectionLost(Failure(reason))

    def closeCode(self) -> int | None:
        """The code of the close frame that was sent, if one was: it is the last frame."""
        sent = self.connection.value()
        for length in range(2, 126):
            if sent[-length - 2 :][:2] == bytes([0x88, length]):
                code: int = struct.unpack("!H", sent[-length:][:2])[0]
                return code
        return None

    def isOver(self) -> bool:
        """Whether nothing of it is left once the connection is."""
        self.lose()
        return self.clock.getDelayedCalls() == [] and len(self.engine.connections) == 0
