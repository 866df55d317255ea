"""
How long everybody else waits while what one client sent at once is delivered.

Run as `python benchmarks/turns.py`. The turns of the reactor are run one by one, and their CPU is measured: once with
all of it in one turn, once cut as the server does it. docs/architecture.md, "Turns".
"""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from time import perf_counter, process_time
from unittest import mock
from urllib.parse import quote

from in_memory import OPEN, QUERY, THERE, Connection, Memory
from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.web.resource import Resource

from engineio_twisted import Server, ServerOptions, Socket, turns
from engineio_twisted.web.fast import siteFor


@contextmanager
def turnsOf(seconds: float) -> Iterator[None]:
    """Let a turn be so long, in each module that has imported how long it is."""
    with ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if name.startswith("engineio_twisted.") and hasattr(module, "TURN"):
                stack.enter_context(mock.patch.object(module, "TURN", seconds))
        yield


class Steps(Clock):
    """The time of the system, and the turns of a reactor, one by one."""

    def seconds(self) -> float:
        return perf_counter()

    def longest(self) -> float:
        """Run all turns until nothing is to be done at once; return how many seconds the longest took."""
        took = 0.0
        while True:
            due = [each for each in self.getDelayedCalls() if each.getTime() <= self.seconds()]
            if not due:
                return took
            began = process_time()
            for each in due:
                self.calls.remove(each)  # type: ignore[attr-defined]
                each.func(*each.args, **each.kw)  # type: ignore[attr-defined]
            took = max(took, process_time() - began)


def frame(first: int, payload: bytes) -> bytes:
    """Return a frame, masked with zeros, which takes as long as any other mask."""
    length = len(payload)
    size = bytes([0x80 | length]) if length <= 125 else b"\xfe" + length.to_bytes(2)
    return bytes([first]) + size + bytes(4) + payload


def deflated(data: bytes) -> bytes:
    """Return a message as clients compress it."""
    packing = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (packing.compress(data) + packing.flush(zlib.Z_SYNC_FLUSH))[:-4]


BOMB = frame(0xC1, deflated(b"4" + b"x" * 999_998))
MANY = "4a" + "\x1e4a" * 333_000

CASES = {
    "WebSocket, 65 messages that inflate to 1 MB": ("websocket", BOMB * 65),
    "WebSocket, 64 KB of messages of a character": ("websocket", frame(0x81, b"4a") * 8192),
    "WebSocket, 64 KB of messages in fragments": ("websocket", (frame(0x01, b"4a") + frame(0x80, b"")) * 4680),
    "POST of 333 001 messages": ("EIO=4", MANY.encode()),
    "POST of 333 000 messages, revision 3": ("EIO=3", b"2:4a" * 250_000),
    "POST of 50 000 messages, JSONP": ("EIO=4&j=0", b"d=" + quote("4a" + "\x1e4a" * 49_999).encode()),
}


def longest(kind: str, data: bytes) -> float:
    """Return how many seconds the longest turn takes until all of it is delivered."""
    clock = Steps()
    options = ServerOptions(perMessageDeflate=True, allowEIO3=True)
    site = siteFor(Resource(), clock)
    server = Server(site, options, reactor=clock)
    count = 0

    def came(_: object) -> None:
        nonlocal count
        count += 1

    @server.on("connection")
    def connected(socket: Socket) -> None:
        socket.on("message", came)

    def connect() -> tuple[Connection, Memory]:
        protocol = site.buildProtocol(THERE)
        memory = Memory()
        connection = Connection(memory, protocol, reactor)  # type: ignore[arg-type]
        connection.connected = True
        protocol.makeConnection(connection)
        return connection, memory

    connection, memory = connect()
    if kind == "websocket":
        connection.protocol.dataReceived(
            b"GET " + QUERY + b"websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
        )
    else:
        query = b"?" + kind.encode() + b"&transport=polling"
        connection.protocol.dataReceived(OPEN.replace(b"?EIO=4&transport=polling", query))
        found = re.search(rb'"sid\\*":\\*"([^"\\]+)', memory.said)
        assert found is not None
        head = b"POST /engine.io/" + query + b"&sid=" + found[1] + b" HTTP/1.1\r\nHost: localhost\r\n"
        data = head + b"Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(data) + data
        connection, memory = connect()
    clock.longest()
    began = process_time()
    connection.protocol.dataReceived(data)
    took = max(process_time() - began, clock.longest())
    assert count
    for each in server.clients.values():
        assert each.heldBytes == 0
    return took


def main() -> None:
    for name, (kind, data) in CASES.items():
        took = {}
        for how, seconds in {"at once": 3600.0, "in turns": turns.TURN}.items():
            with turnsOf(seconds):
                took[how] = min(longest(kind, data) for _ in range(3))
        print(
            f"{name}: the longest turn is {took['at once'] * 1000:.0f} ms at once, {took['in turns'] * 1000:.1f} ms cut"
        )


if __name__ == "__main__":
    main()
