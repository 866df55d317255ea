"""Parts of applications that type checkers accept: sockets, servers, events of an application's own, tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, assert_type

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.web.resource import Resource
from twisted.web.server import Request

from engineio_twisted import (
    BufferLimitExceeded,
    CloseReason,
    EngineIOResource,
    EventEmitter,
    LogObserver,
    ReadyState,
    RequestRefused,
    Server,
    ServerObserver,
    ServerOptions,
    ServerStats,
    Site,
    Socket,
    Transport,
    attach,
    generateId,
    listen,
    socketio,
)
from engineio_twisted.service import EngineIOService
from engineio_twisted.testing import MemoryClient, MemoryServer

# Sockets


def attributes(socket: Socket) -> None:
    assert_type(socket.id, str)
    assert_type(socket.protocol, int)
    assert_type(socket.request, Request)
    assert_type(socket.request.getHeader("user-agent"), str | None)
    assert_type(socket.transport, Transport)
    assert_type(socket.transport.name, str)
    assert_type(socket.data, dict[str, Any])
    assert_type(socket.readyState, ReadyState)
    assert_type(socket.remoteAddress, str | None)
    assert_type(socket.bufferedAmount, int)
    assert_type(socket.writable, bool)
    assert_type(socket.isDrained, bool)
    assert_type(socket.upgraded, bool)
    assert_type(socket.whenClosed(), Deferred[CloseReason])
    socket.data["name"] = "ann"
    socket.data["name"] = ["any", "value"]
    server: Server = socket.server
    server.broadcast("hello", exclude=socket)
    if socket.readyState == "open":
        socket.send("text").send(b"bytes", compress=False).write(42)
        socket.sendAll(["text", b"bytes"]).sendAll(("text", 42), taken, compress=False)
    socket.close(reason=CloseReason.PARSE_ERROR, description="not what was agreed upon")


def taken(result: Transport | BufferLimitExceeded) -> None:
    if isinstance(result, Transport):
        print(result.name)
    else:
        print(result.option, result.limit)


async def report(socket: Socket, text: str) -> int:
    socket.send(text, taken)
    return len(text)


def work(socket: Socket) -> None:
    socket.callEvery(10, socket.send, "tick", now=True)
    call = socket.callLater(0.5, report, socket, "soon")
    assert_type(call, IDelayedCall)
    socket.follow(report(socket, "now"))
    socket.pauseReceiving()
    socket.resumeReceiving()


# Servers


class Observer(ServerObserver):
    def opened(self, socket: Socket) -> None:
        print(socket.id)

    def closed(self, socket: Socket, reason: CloseReason, description: str) -> None:
        print(reason, description)


class Numbered(Server):
    number = 0

    def generateId(self, request: Request) -> str:
        self.number += 1
        return f"{request.getClientAddress()}-{self.number}"


def allow(request: Request) -> bool:
    if request.getHeader("authorization") is None:
        raise RequestRefused("log in first")
    return True


async def logged(request: Request) -> None:
    print(request.path)


async def finish() -> None:
    print("finished")


def application(server: Server) -> None:
    server.use(logged)
    server.use(lambda request: request.setHeader("X-Powered-By", "Twisted"))
    server.addObserver(Observer())
    server.addObserver(LogObserver(server))
    assert_type(server.stats(), ServerStats)
    assert_type(server.opts, ServerOptions)
    assert_type(server.broadcast("hello"), int)
    assert_type(server.broadcast(["hello", b"bytes"], to=server.clients.values(), volatile=True), int)
    assert_type(server.broadcast("hello", exclude=["id", *server.clients.values()], local=True), int)
    assert_type(server.sendTo("id", ["hello", b"bytes"], compress=False), Deferred[bool])
    assert_type(server.closeSession("id", discard=True), Deferred[bool])
    assert_type(server.clock, IReactorTime)
    assert_type(server.handlersOf("connection"), tuple[Callable[..., Any], ...])
    assert_type(generateId(16), str)
    server.addShutdownTrigger("drain", server.stats)
    server.addShutdownTrigger("close", finish)
    server.removeShutdownTrigger("close", finish)
    assert_type(server.close(drain=True), Deferred[None])
    for sid, socket in server.clients.items():
        assert_type(sid, str)
        assert_type(socket, Socket)


def start() -> None:
    application(listen("tcp:3000:interface=127.0.0.1", lambda: print("listening"), allowRequest=allow))
    application(Numbered(Site(Resource()), options=ServerOptions(maxSessions=100)))
    application(attach(Site(Resource()), path="/chat", bufferLimitAction="drop"))
    EngineIOResource(Server())
    EngineIOService("tcp:3000", pingInterval=1000).startService()
    io = socketio.listen(3000, print, pingInterval=1000, ackTimeout=None, connectionStateRecovery={"maxEvents": 5})
    assert_type(io, socketio.SocketIO)
    assert_type(io.engine, Server)
    assert_type(socketio.attach(Site(Resource()), parser="msgpack", cors={"origin": "*"}), socketio.SocketIO)
    EngineIOResource(io)


# Events of an application's own

news = EventEmitter()


@news.on("published")
def published(title: str, pages: int) -> str:
    return title * pages


assert_type(published("a", 1), str)
news.once("published", lambda title, pages: print(title, pages))
news.emit("published", "Engine.IO", 12)
news.removeListener("published", published)


# Tests


def test_echo(engineio: Callable[..., MemoryServer]) -> None:
    server = engineio(application, pingInterval=300)
    client = server.connect("websocket")
    client.send("hello")
    assert_type(client.receive(), str | bytes)
    assert_type(client.socket, Socket)
    server.advance(25)


def test_inMemory() -> None:
    with MemoryServer(application, maxHttpBufferSize=1000) as server:
        assert_type(server, MemoryServer)
        client = server.connect(headers={"Origin": "https://example.com"})
        assert_type(client, MemoryClient)
        assert client.closed is None or client.closed.reason == "transport close"
