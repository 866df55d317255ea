"""Parts of Socket.IO applications: what type checkers accept, and, on marked lines, what they report."""

from __future__ import annotations

from typing import Any, Protocol, assert_type

from twisted.internet.defer import Deferred

from engineio_twisted.socketio import (
    DisconnectReason,
    Namespace,
    Operator,
    ParentNamespace,
    RemoteSocket,
    Socket,
    SocketIO,
    handle,
    listen,
    typed,
)


class ToClient(Protocol):
    """What the server sends."""

    def said(self, text: str, loud: bool = False) -> None: ...
    def mood(self) -> Deferred[str]: ...


class FromClient(Protocol):
    """What clients send."""

    def say(self, socket: Socket, text: str) -> object: ...


class Chat:
    def say(self, socket: Socket, text: str) -> dict[str, bool]:
        typed(socket.to("lobby"), ToClient).said(text)
        return {"stored": True}


class OtherChat:
    def say(self, socket: Socket, number: int) -> None: ...


io = listen(3000, pingInterval=10_000, connectTimeout=5000)
assert_type(io, SocketIO)
assert_type(io.of("/admin"), Namespace)
assert_type(io.of(lambda name, auth: True), ParentNamespace)
assert_type(io.to("a").except_("b").volatile, Operator)
assert_type(io.fetchSockets(), Deferred[list[RemoteSocket]])
listen(3000, conectTimeout=1)  # error
io.to("a", 1)  # error
io.emit(1)  # error


@io.use
async def middleware(socket: Socket) -> None:
    socket.data["token"] = socket.auth.get("token")


@io.on("connection")
async def connection(socket: Socket) -> None:
    assert_type(socket.rooms, frozenset[str])
    assert_type(socket.conn.remoteAddress, str | None)
    socket.join("lobby")
    socket.join(1)  # error
    socket.sid  # error
    socket.on("disconnect", lambda reason, description: print(reason.value, description.upper()))
    socket.on("say", lambda text, *more: text)
    answer: str = await socket.emitWithAck("mood", timeout=1000)
    print(answer)


@io.on("disconnect")
def disconnect(socket: Socket, reason: DisconnectReason, description: str) -> None:
    assert_type(socket.whenDisconnected(), Deferred[DisconnectReason])


@io.on("say")
def say(socket: Socket, text: str, *more: Any) -> tuple[str, int]:
    return text, len(more)


def sends(socket: Socket) -> None:
    client = typed(socket, ToClient)
    client.said("hello")
    client.said("hello", loud=True)
    assert_type(client.mood(), Deferred[str])
    client.said(1)  # error
    client.sayd("hello")  # error


chat: FromClient = Chat()
handle(io, chat)
wrong: FromClient = OtherChat()  # error
