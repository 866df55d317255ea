"""Handlers of every event that type checkers accept."""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from functools import partial
from typing import Any, assert_type

from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.web.server import Request

from engineio_twisted import (
    CloseReason,
    ConnectionErrorEvent,
    ErrorCode,
    Packet,
    ResponseHeaders,
    Server,
    Socket,
    Transport,
    listen,
)

server = listen(3000, pingInterval=10_000, transports=["polling", "websocket"], cors={"origin": "https://example.com"})


class Visitor:
    def __init__(self, socket: Socket, name: str = "nobody") -> None:
        self.socket, self.name = socket, name
        socket.on("message", self.receive)
        socket.on("message", self.store)
        socket.on("close", self.leave)
        socket.once("drain", self.drained)

    def receive(self, data: str | bytes) -> None:
        self.socket.send(data)

    async def store(self, data: str | bytes) -> int:
        return len(data)

    def leave(self, reason: CloseReason, description: str, isLast: bool = True) -> None:
        print(self.name, reason.value, description.upper(), isLast)

    def drained(self) -> Deferred[None]:
        return succeed(None)


class Counter:
    count = 0

    def __call__(self, *arguments: object) -> None:
        self.count += 1


# As a method of a server


def connected(socket: Socket) -> None:
    socket.send("hello")


async def connectedLater(socket: Socket) -> None:
    await socket.whenClosed()


def connectedDeferred(socket: Socket) -> Deferred[CloseReason]:
    return socket.whenClosed()


@inlineCallbacks
def connectedYielding(socket: Socket) -> Generator[Deferred[Any], Any, None]:
    yield socket.whenClosed()


def connectedAwaitable(socket: Socket) -> Awaitable[CloseReason]:
    return socket.whenClosed()


def named(name: str, socket: Socket) -> None:
    socket.data["name"] = name


def anything(socket: Any) -> Any:
    return socket


server.on("connection", connected)
server.on("connection", connectedLater)
server.on("connection", connectedDeferred)
server.on("connection", connectedYielding)
server.on("connection", connectedAwaitable)
server.on("connection", partial(named, "ann"))
server.on("connection", anything)
server.on("connection", Visitor)
server.on("connection", Counter())
server.on("connection", print)
server.on("connection", lambda socket: socket.send("hello"))
server.once("connection", lambda socket: socket.close(discard=True))
server.on("connection", lambda socket: socket.on("message", lambda data: socket.send(data * 2)))
server.on("connection_error", lambda error: print(error.code, error.message, error.context["name"]))
server.on("flush", lambda socket, packets: print(socket.id, len(packets)))
server.on("drain", lambda socket: print(socket.bufferedAmount))
server.on("headers", lambda headers, request: headers.add("X-Path", request.path.decode()))
server.removeListener("connection", server.on("connection", connected))
print(server.listeners("headers"))


# As a decorator of a server


@server.on("connection")
def decorated(socket: Socket) -> int:
    return socket.protocol


@server.once("connection")
async def decoratedLater(socket: Socket) -> str:
    return socket.id


@server.on("connection_error")
def refused(error: ConnectionErrorEvent) -> None:
    assert_type(error.code, ErrorCode)
    assert_type(error.req, Request)


@server.on("headers")
@server.on("initial_headers")
def answers(headers: ResponseHeaders, request: Request) -> None:
    headers["X-Host"] = request.getHeader("host") or "none"


# A handler keeps its own type.
assert_type(decorated(anything(0)), int)
server.removeListener("connection", decorated)


def events(server: Server, socket: Socket) -> None:
    """Every event of a socket."""

    @socket.on("open")
    @socket.once("heartbeat")
    @socket.on("drain")
    def nothing() -> str:
        return "nothing"

    assert_type(nothing(), str)

    @socket.on("data")
    @socket.on("message")
    def received(data: str | bytes) -> None:
        if isinstance(data, bytes):
            assert_type(data, bytes)
        else:
            assert_type(data, str)

    @socket.on("packet")
    @socket.on("packetCreate")
    async def packet(packet: Packet) -> None:
        print(packet.type, packet.data)

    @socket.on("flush")
    def flush(packets: list[Packet]) -> None:
        print(len(packets))

    @socket.on("upgrading")
    @socket.on("upgrade")
    def upgraded(transport: Transport) -> None:
        assert_type(transport.name, str)

    @socket.on("suspend")
    def suspended(description: str) -> None:
        print(description.title())

    @socket.on("resume")
    def resumed() -> None:
        print("back")

    @socket.on("error")
    def failed(exception: BaseException) -> None:
        print(exception.args)

    @socket.once("close")
    async def closed(reason: CloseReason, description: str) -> None:
        # A reason is text too.
        print(reason.upper(), description, server.clientsCount)

    def closedAsText(reason: str, description: object) -> None: ...

    socket.on("close", closedAsText)
    socket.on("message", socket.send)
    socket.on("message", lambda data: print(len(data)))
    socket.on("open", lambda: print("open"))
    socket.on("close", lambda reason, description: print(reason is CloseReason.PING_TIMEOUT, description.title()))
    socket.on("upgrade", lambda transport: print(transport.name.upper()))
    socket.removeListener("message", received)
    print(socket.listeners("close"))
