"""
The client's end of a session as the transport of a protocol, over real sockets: what a Twisted client would have.

It takes back pressure as seriously as the server does: one POST at a time, no GET while its protocol is paused, and on
WebSocket what its connection says.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections import deque
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IPushProducer, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

from .wire import CLOSE, SEPARATOR, TEXT, Changing, LostError, Wire, connectTo, http, makeFrame, target, upgrade

FULL = 65536
"""Bytes that wait to be sent above which a producer is paused."""


@implementer(ITransport, IConsumer, IPushProducer)
class SessionClient(Changing):
    """
    A session, of which a protocol has the bytes.

    @ivar transport: the name of the transport it is on.
    @ivar mostBuffered: the most bytes that have waited to be sent.
    """

    disconnecting = False

    def __init__(self, port: int, protocol: Any) -> None:
        super().__init__()
        self.port = port
        self.protocol = protocol
        self.transport = "polling"
        self.sid = ""
        self.isOver = False
        self.mostBuffered = 0
        self._outbox: deque[str | bytes] = deque()
        self._buffered = 0
        self._producer: Any = None
        self._isProducerPaused = False
        self._isPaused = False
        self._isLeavingPolling = False
        self._isPosting = False
        self._isPolling = False
        self._wires: list[Wire] = []
        self._socket: Wire | None = None
        self._isFull = False

    def __repr__(self) -> str:
        return f"client on {self.transport}, {self._buffered} bytes to send, paused: {self._isPaused}"

    async def start(self, transport: str = "polling") -> None:
        """Open the session, and connect the protocol."""
        wire = await self._connect()
        if transport == "polling":
            wire.send(http("GET", target()))
            opening = (await wire.response()).packets[0]
        else:
            wire.send(upgrade())
            assert (await wire.response()).status == 101
            opening = await wire.text()
        self.sid = json.loads(opening[1:])["sid"]
        self.protocol.makeConnection(self)
        if transport == "polling":
            self._isPolling = True
            self._do(self._poll(wire))
        else:
            self._moveTo(wire)

    async def upgrade(self) -> None:
        """Move to WebSocket, whatever is under way."""
        wire = await self._connect()
        wire.send(upgrade(target(transport="websocket", sid=self.sid)) + makeFrame("2probe"))
        assert (await wire.response()).status == 101
        assert await wire.text() == "3probe"
        self._isLeavingPolling = True
        await self.until(lambda: not self._isPolling and not self._isPosting, "the end of polling")
        wire.send(makeFrame("5"))
        self._moveTo(wire)
        self.changed()

    def drop(self) -> None:
        """Be gone, without a word."""
        for each in self._wires:
            each.drop()

    # What comes

    async def _connect(self) -> Wire:
        wire = await connectTo(self.port)
        self._wires.append(wire)
        return wire

    def _do(self, work: Any) -> None:
        async def done() -> None:
            try:
                await work
            except LostError as error:
                self._over(ConnectionLost(str(error)))

        Deferred.fromCoroutine(done()).addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        self._over(failure.value)
        failure.raiseException()

    async def _poll(self, wire: Wire) -> None:
        while not self.isOver and not self._isLeavingPolling:
            # Nobody asks for what nobody takes; but to move, a client finishes what it has begun.
            await self.until(lambda: not self._isPaused or self._isLeavingPolling, "the protocol", None)
            if self._isLeavingPolling:
                break
            wire.send(http("GET", target(sid=self.sid)))
            response = await wire.response(seconds=None)
            if response.status != 200:
                self._over(ConnectionLost(f"status {response.status}"))
                break
            for packet in response.packets:
                await self._take(b64decode(packet[1:]) if packet.startswith("b") else packet)
        self._isPolling = False
        wire.drop()
        self.changed()

    def _moveTo(self, wire: Wire) -> None:
        self.transport = "websocket"
        self._socket = wire
        wire.transport.registerProducer(_Connection(self), True)
        if self._isPaused:
            wire.transport.pauseProducing()
        self._do(self._read(wire))
        self._send()

    async def _read(self, wire: Wire) -> None:
        while not self.isOver:
            frame = await wire.frame(seconds=None)
            if frame.opcode == CLOSE:
                wire.send(makeFrame(frame.payload[:2], CLOSE))
                await wire.until(lambda: wire.isLost, "the end of the connection")
                self._over(ConnectionDone())
                return
            await self._take(frame.text if frame.opcode == TEXT else frame.payload)

    async def _take(self, packet: str | bytes) -> None:
        await self.until(lambda: not self._isPaused or self.isOver, "the protocol", None)
        if self.isOver:
            return
        if isinstance(packet, bytes):
            self.protocol.dataReceived(packet)
        elif packet[0] == "4":
            self.protocol.dataReceived(packet[1:].encode())
        elif packet[0] == "2":
            self._outbox.append("3")
            self._send()
        elif packet[0] == "1":
            self._over(ConnectionDone())

    def _over(self, reason: Exception) -> None:
        if not self.isOver:
            self.isOver = True
            self._outbox.clear()
            producer, self._producer = self._producer, None
            if producer is not None:
                producer.stopProducing()
            self.drop()
            self.changed()
            self.protocol.connectionLost(Failure(reason))

    # What goes

    def write(self, data: bytes) -> None:
        if self.disconnecting or self.isOver:
            return
        assert isinstance(data, bytes)
        self._outbox.append(data)
        self._buffered += len(data)
        self.mostBuffered = max(self.mostBuffered, self._buffered)
        self._send()
        if self._producer is not None and not self._isProducerPaused and self._buffered > FULL:
            self._isProducerPaused = True
            self._producer.pauseProducing()

    def writeSequence(self, iovec: Any) -> None:
        self.write(b"".join(iovec))

    def _send(self) -> None:
        if self._socket is not None:
            while self._outbox and not self._isFull:
                packet = self._outbox.popleft()
                self._buffered -= len(packet) if isinstance(packet, bytes) else 0
                self._socket.send(makeFrame(packet))
            self._sent()
        elif not self._isPosting:
            self._isPosting = True
            self._do(self._post())

    async def _post(self) -> None:
        wire = await self._connect()
        while self._outbox and not self._isLeavingPolling and not self.isOver:
            packets: list[str | bytes] = []
            while self._outbox and len(packets) < 8:
                packets.append(self._outbox.popleft())
            texts = [each if isinstance(each, str) else "b" + b64encode(each).decode() for each in packets]
            wire.send(http("POST", target(sid=self.sid), body=SEPARATOR.join(texts).encode()))
            response = await wire.response(seconds=None)
            self._buffered -= sum(len(each) for each in packets if isinstance(each, bytes))
            if response.status != 200:
                self._over(ConnectionLost(f"status {response.status}"))
            elif "1" in packets:
                self._over(ConnectionDone())
            self._sent()
        wire.drop()
        self._isPosting = False
        self.changed()

    def _sent(self) -> None:
        if self._isProducerPaused and self._producer is not None and not self._buffered:
            self._isProducerPaused = False
            self._producer.resumeProducing()

    def loseConnection(self) -> None:
        if not self.disconnecting and not self.isOver:
            self.disconnecting = True
            if self._socket is None:
                self._outbox.append("1")
                self._send()
            else:
                self._socket.send(makeFrame(b"\x03\xe8", CLOSE))

    def abortConnection(self) -> None:
        self.drop()

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", self.port)

    getHost = getPeer

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        assert self._producer is None
        self._producer = producer
        self._isProducerPaused = False

    def unregisterProducer(self) -> None:
        self._producer = None

    def pauseProducing(self) -> None:
        self._isPaused = True
        if self._socket is not None:
            self._socket.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self._isPaused = False
        if self._socket is not None and not self.isOver:
            self._socket.transport.resumeProducing()
        self.changed()

    def stopProducing(self) -> None:
        self.loseConnection()


@implementer(IPushProducer)
class _Connection:
    """What the connection of a WebSocket tells: whether it is full."""

    def __init__(self, client: SessionClient) -> None:
        self._client = client

    def pauseProducing(self) -> None:
        self._client._isFull = True

    def resumeProducing(self) -> None:
        self._client._isFull = False
        self._client._send()

    def stopProducing(self) -> None:
        pass
