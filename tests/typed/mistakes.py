"""Mistakes, each on a marked line: type checkers report these lines, and no others."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.web.server import Request

from engineio_twisted import (
    CloseReason,
    ConnectionErrorEvent,
    EventEmitter,
    Packet,
    ResponseHeaders,
    Server,
    Socket,
    Transport,
    attach,
    listen,
    socketio,
)
from engineio_twisted.socketio.testing import MemorySocketIO
from engineio_twisted.testing import MemoryServer

server = listen(3000)


def connected(socket: Socket) -> None:
    socket.send("hello")


# Events that there are not


server.on("connect", connected)  # error
server.on("message", connected)  # error
server.once("conection", connected)  # error
server.on("Connection", connected)  # error
server.on(connected)  # error
server.listeners("connections")  # error
server.removeListener("connect", connected)  # error
server.emit("news", "text")  # error


@server.on("disconnect")  # error
def disconnected(socket: Socket) -> None: ...


@server.on  # error
def withoutParentheses(socket: Socket) -> None: ...


def unknownEvents(socket: Socket, name: str) -> None:
    socket.on("mesage", print)  # error
    socket.on("connection", print)  # error
    socket.once("disconnect", print)  # error
    socket.on(name, print)  # error
    socket.emit("hello", "text")  # error

    @socket.on("disconnect")  # error
    def disconnected(reason: str) -> None: ...

    @socket.once("mesage")  # error
    async def received(data: str | bytes) -> None: ...


# Handlers that can't take the arguments


def nothing() -> None: ...


def two(socket: Socket, request: Request) -> None: ...


async def named(name: str) -> None: ...


def returning(socket: Socket) -> Deferred[None]:
    return Deferred()


class Visitor:
    def receive(self, data: str) -> None: ...

    def leave(self, reason: CloseReason) -> None: ...


server.on("connection", nothing)  # error
server.on("connection", two)  # error
server.on("connection", named)  # error
server.on("connection", Visitor().receive)  # error
server.on("connection", returning(Socket))  # error
server.on("connection", lambda: None)  # error
server.on("connection", lambda socket, request: None)  # error
server.on("connection", None)  # error
server.on("connection", "connected")  # error
server.once("connection", nothing)  # error
server.on("connection_error", connected)  # error
server.on("flush", connected)  # error
server.on("headers", lambda headers: None)  # error
server.on("connection", lambda socket: socket.sent("hello"))  # error
server.on("connection_error", lambda error: error.reason)  # error


@server.on("connection")  # error
def withoutSocket() -> None: ...


@server.on("connection")  # error
async def withName(name: str) -> None: ...


@server.once("connection_error")  # error
def withSocket(socket: Socket) -> None: ...


@server.on("initial_headers")  # error
def withoutRequest(headers: ResponseHeaders) -> None: ...


@server.on("headers")  # error
def theOtherWayRound(request: Request, headers: ResponseHeaders) -> None: ...


def wrongArguments(socket: Socket) -> None:
    visitor = Visitor()
    socket.on("message", visitor.receive)  # error
    socket.on("close", visitor.leave)  # error
    socket.on("close", nothing)  # error
    socket.on("open", connected)  # error
    socket.on("drain", lambda data: None)  # error
    socket.on("message", lambda data: data.encode())  # error
    socket.on("error", lambda exception: exception.message)  # error
    socket.on("upgrade", lambda transport: transport.title)  # error
    socket.once("message", nothing)  # error

    @socket.on("message")  # error
    def bytesAlone(data: bytes) -> None: ...

    @socket.on("message")  # error
    async def textAlone(data: str) -> None: ...

    @socket.on("close")  # error
    def withoutDescription(reason: CloseReason) -> None: ...

    @socket.on("close")  # error
    def withSocket(socket: Socket, reason: CloseReason, description: str) -> None: ...

    @socket.on("packet")  # error
    def dataOfPacket(data: str) -> None: ...

    @socket.on("flush")  # error
    def onePacket(packet: Packet) -> None: ...

    @socket.on("upgrade")  # error
    def nameOfTransport(transport: str) -> None: ...

    @socket.on("heartbeat")  # error
    def withTime(time: float) -> None: ...

    @socket.on("error")  # error
    def withEvent(event: str, exception: BaseException) -> None: ...


# Attributes and arguments


def attributes(socket: Socket, error: ConnectionErrorEvent, transport: Transport) -> None:
    socket.sid  # error
    socket.sent("hello")  # error
    socket.send("hello", room="all")  # error
    socket.send(None)  # error
    socket.send({"text": "hello"})  # error
    socket.write(["hello"])  # error
    socket.request.header("origin")  # error
    socket.request.getHeader("origin").lower()  # error
    socket.transport.title  # error
    socket.transport.name = 3  # error
    socket.data.name  # error
    socket.readyState = "closed"  # error
    socket.upgraded()  # error
    socket.remoteAddress.split(".")  # error
    socket.close(reason="bye")  # error
    socket.callLater("1", socket.close)  # error
    socket.whenClosed().addCallback(lambda reason: reason.text)  # error
    error.reason  # error
    transport.name.title(3)  # error
    for each in server.clients:
        each.send("hello")  # error


def options() -> None:
    listen(3000, pingIntervall=1000)  # error
    listen(3000, pingInterval="1000")  # error
    listen(3000, host="127.0.0.1")  # error
    listen(3000, "127.0.0.1")  # error
    listen()  # error
    Server(8080)  # error
    Server(cors_allowed_origins="*")  # error
    attach(3000)  # error
    MemoryServer(connected)  # error
    MemoryServer(lambda server: None, pingIntervall=1000)  # error
    server.broadcast("hello", exclude=[5])  # error
    server.broadcast("hello", to=["id"])  # error
    server.sendTo(5, "hello")  # error
    server.sendTo("id", {"text": "hello"})  # error
    server.closeSession("id", "reason")  # error
    server.broadcast({"text": "hello"})  # error
    server.opts.pingInterval = 1000  # error
    EventEmitter().on("anything", 3)  # error


def optionsOfSocketIO() -> None:
    socketio.listen(3000, ackTimeot=1000)  # error
    socketio.listen(3000, ackTimeout="1000")  # error
    socketio.listen(3000, pingIntervall=1000)  # error
    socketio.listen(3000, "127.0.0.1")  # error
    socketio.attach(3000)  # error
    socketio.SocketIO(3000)  # error
    socketio.SocketIO(server, pingInterval=1000)  # error
    listen(3000, ackTimeout=1000)  # error
    MemorySocketIO(lambda io: None, ackTimeot=1000)  # error


# Layers


def layered(socket: Socket) -> None:
    socket.sendAll(3)  # error
    socket.sendAll([None])  # error
    server.broadcast("hello", to=[socket.id])  # error
    server.broadcast(["hello", None])  # error
    server.addShutdownTrigger("during", print)  # error
    server.addShutdownTrigger("close", None)  # error
