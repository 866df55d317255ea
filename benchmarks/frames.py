"""
What an echo on a WebSocket costs with the shorter way for common frames, and without it.

Run as `python benchmarks/frames.py`. Frames of 32 bytes come from memory and go there, one or 32 of them a read, so
that this package and Autobahn alone are measured. docs/architecture.md, "Engines".
"""

from __future__ import annotations

from time import process_time
from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from engineio_twisted import AutobahnEngine, ServerOptions
from engineio_twisted.handshake import WebSocketHandshake
from engineio_twisted.payload import codecFor
from engineio_twisted.websocket import WebSocketTransport

ROUNDS = 5
ECHOES = 64_000
# Masked with zeros, which takes as long as any other mask.
FRAME = b"\x81\xa0\x00\x00\x00\x00" + b"4" + b"x" * 31


class PlainEngine(AutobahnEngine):
    fastPath = False


class Echo:
    """A session, as far as its transport knows it."""

    transport: WebSocketTransport

    def transportPacket(self, transport: Any, packet: Any) -> bool:
        transport.send([packet])
        return True


class Channel:
    """What the connection is taken over from."""

    def __init__(self, connection: Any) -> None:
        self.transport = connection
        self._dataBuffer: list[bytes] = []
        connection.registerProducer(self, True)

    def clearLineBuffer(self) -> bytes:
        return b""

    def setTimeout(self, seconds: float | None) -> None:
        pass


def cost(engine: Any, framesARead: int) -> float:
    """Return the microseconds of CPU that an echo takes."""
    connection = StringTransport()
    connection.abortConnection = connection.loseConnection  # type: ignore[attr-defined]
    request: Any = type("Request", (), {"channel": Channel(connection)})()
    transport = WebSocketTransport(codecFor(4), True, lambda: None)
    transport.owner = Echo()
    handshake = WebSocketHandshake(b"dGhlIHNhbXBsZSBub25jZQ==", b"13")
    engine(Clock(), ServerOptions()).accept(request, handshake, {}, transport)
    data = FRAME * framesARead
    receive = connection.protocol.dataReceived  # type: ignore[attr-defined]
    best = float("inf")
    for _ in range(ROUNDS):
        connection.clear()
        begin = process_time()
        for _ in range(ECHOES // framesARead):
            receive(data)
        best = min(best, process_time() - begin)
    assert len(connection.value()) == ECHOES * (2 + 32)
    return best / ECHOES * 1_000_000


for framesARead in (1, 32):
    without, with_ = cost(PlainEngine, framesARead), cost(AutobahnEngine, framesARead)
    print(f"{framesARead} a read: {with_:.1f} µs, without it {without:.1f} µs: {with_ / without:.2f} of that")
