"""
What messages and requests cost in memory: this package and what it rests on, without a network and a system.

Run as `python benchmarks/in_memory.py`. Bytes come from memory and go there, to sessions in turn. With many sessions
each finds its own objects no longer in the processor's caches: what that costs shows here alone. docs/performance.md,
"Few sessions and many".
"""

from __future__ import annotations

import gc
import re
from collections.abc import Callable
from time import process_time
from typing import Any

from twisted.internet import reactor, tcp
from twisted.internet.address import IPv4Address
from twisted.web.resource import Resource

from engineio_twisted import Server, Socket
from engineio_twisted.transports import engine_autobahn
from engineio_twisted.web.fast import siteFor

# The reactor doesn't run, so nothing is left to a later turn of it, however slow the machine is.
engine_autobahn.TURN = 3600.0

ROUNDS = 5
OPERATIONS = 40_000

HERE, THERE = IPv4Address("TCP", "127.0.0.1", 3000), IPv4Address("TCP", "127.0.0.1", 4000)
QUERY = b"/engine.io/?EIO=4&transport="
HOST = b" HTTP/1.1\r\nHost: localhost\r\n"
OPEN = b"GET " + QUERY + b"polling" + HOST + b"\r\n"
WEBSOCKET = (
    b"GET " + QUERY + b"websocket" + HOST + b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
# Masked with zeros, which takes as long as any other mask.
FRAME = b"\x81\xa0\x00\x00\x00\x00" + b"4" + b"x" * 31


class Memory:
    """A socket to nobody, who takes all."""

    said = b""

    def send(self, data: bytes | memoryview) -> int:
        self.said = bytes(data)
        return len(data)

    def fileno(self) -> int:
        return -1

    def setblocking(self, isBlocking: bool) -> None:
        pass

    def setsockopt(self, *_: object) -> None:
        pass

    def getsockopt(self, *_: object) -> int:
        return 1


class Connection(tcp.Connection):
    """A connection that nobody watches."""

    def startReading(self) -> None:
        pass

    def stopReading(self) -> None:
        pass

    def startWriting(self) -> None:
        self.doWrite()

    def stopWriting(self) -> None:
        pass

    def getHost(self) -> IPv4Address:
        return HERE

    def getPeer(self) -> IPv4Address:
        return THERE


class Echo:
    """An echo server, and its connections."""

    def __init__(self) -> None:
        # It never runs, but its timers cost what they cost.
        self.site = siteFor(Resource(), reactor)
        self.server = Server(self.site, reactor=reactor)
        self.server.on("connection", self._connected)

    def _connected(self, socket: Socket) -> None:
        socket.on("message", socket.send)

    def connect(self) -> tuple[Any, Memory]:
        """Return a connection, and the socket under it."""
        protocol: Any = self.site.buildProtocol(THERE)
        memory = Memory()
        connection: Any = Connection(memory, protocol, reactor)  # type: ignore[arg-type]
        connection.connected = True
        protocol.makeConnection(connection)
        return connection, memory


def webSockets(echo: Echo, sessions: int, framesARead: int) -> Callable[[int], int]:
    """Return what has so many messages echoed, in turn by each of so many sessions."""
    receive = []
    for _ in range(sessions):
        connection, memory = echo.connect()
        connection.protocol.dataReceived(WEBSOCKET)
        connection.protocol.dataReceived(FRAME)
        assert memory.said.endswith(FRAME[6:])
        receive.append(connection.protocol.dataReceived)
    data = FRAME * framesARead

    def run(operations: int) -> int:
        rounds = max(1, operations // sessions // framesARead)
        for _ in range(rounds):
            for each in receive:
                each(data)
        return rounds * sessions * framesARead

    return run


def polling(echo: Echo, sessions: int) -> Callable[[int], int]:
    """The same by a POST each, and the GET that waits."""
    requests = []
    for _ in range(sessions):
        (gets, memory), (posts, _) = echo.connect(), echo.connect()
        gets.protocol.dataReceived(OPEN)
        found = re.search(rb'"sid":"([^"]+)"', memory.said)
        assert found is not None
        target = QUERY + b"polling&sid=" + found[1] + HOST
        post = b"POST " + target + b"Content-Type: text/plain\r\nContent-Length: 32\r\n\r\n4" + b"x" * 31
        requests.append((gets.protocol.dataReceived, b"GET " + target + b"\r\n", posts.protocol.dataReceived, post))

    def run(operations: int) -> int:
        rounds = max(1, operations // sessions)
        for _ in range(rounds):
            for gets, get, posts, post in requests:
                gets(get)
                posts(post)
        return rounds * sessions

    return run


def handshakes(echo: Echo) -> Callable[[int], int]:
    """Return what opens so many sessions on one connection."""
    connection, _ = echo.connect()

    def run(operations: int) -> int:
        for _ in range(operations):
            connection.protocol.dataReceived(OPEN)
        return operations

    return run


def cost(run: Callable[[int], int], operations: int = OPERATIONS) -> float:
    """Return the microseconds of CPU that an operation takes."""
    best = float("inf")
    for _ in range(ROUNDS):
        gc.collect()
        begin = process_time()
        done = run(operations)
        best = min(best, (process_time() - begin) / done)
    return best * 1_000_000


def main() -> None:
    for framesARead in (1, 16):
        took = cost(webSockets(Echo(), 64, framesARead))
        print(f"echo on WebSocket, {framesARead} a read: {took:.2f} µs")
    print(f"echo on polling: {cost(polling(Echo(), 64), OPERATIONS // 4):.1f} µs")
    print(f"handshake on polling: {cost(handshakes(Echo()), 2000):.1f} µs")
    print("by the number of sessions")
    for sessions in (10, 1000, 10_000):
        print(f"  echo on WebSocket, {sessions} sessions: {cost(webSockets(Echo(), sessions, 1)):.2f} µs")


if __name__ == "__main__":
    main()
