"""Events as methods: what is sent, what is handled, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import pytest
from twisted.internet.defer import Deferred

from engineio_twisted.socketio import Socket, SocketIO, handle, typed
from engineio_twisted.socketio.testing import Event, MemorySocketIO

Start = Callable[..., MemorySocketIO]


class ToClient(Protocol):
    """What the server sends."""

    def said(self, text: str) -> None: ...
    def mood(self) -> Deferred[str]: ...


def test_typed(socketio: Start) -> None:
    """A method emits the event of its name; one with a result asks for the acknowledgement."""
    answers: list[Any] = []

    def application(io: SocketIO) -> None:
        @io.on("ready")
        def ready(socket: Socket) -> None:
            client = typed(socket, ToClient)
            client.said("hello")
            client.mood().addCallback(answers.append)
            typed(io.to(socket.id), ToClient).said("to a room")

    kit = socketio(application)
    client = kit.connect()
    client.on("mood", "good")
    client.emit("ready")
    assert answers == ["good"]
    assert [each for each in client.received if each.name == "said"] == [
        Event("said", ["hello"]),
        Event("said", ["to a room"]),
    ]


def test_unknownEvent(socketio: Start) -> None:
    """A method that the class doesn't have is an error that names those there are."""
    kit = socketio(lambda io: None)
    emitter: Any = typed(kit.io, ToClient)
    with pytest.raises(AttributeError, match="ToClient has no event 'sayd': it has said, mood"):
        emitter.sayd("hello")


@pytest.mark.parametrize("events", [None, "said", object, 1])
def test_noEvents(socketio: Start, events: Any) -> None:
    """What has no methods names no events."""
    with pytest.raises(TypeError, match="expected a class with a method for each event"):
        typed(socketio(lambda io: None).io, events)


class Chat:
    """Handlers of what clients send."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def say(self, socket: Socket, text: str) -> str:
        """Handle the event C{say}."""
        self.heard.append(text)
        return text.upper()

    def disconnect(self, socket: Socket, reason: str, description: str) -> None:
        """Handle the end of a socket."""
        self.heard.append(reason)

    def _private(self) -> None:
        """Handle nothing."""


def test_handle(socketio: Start) -> None:
    """Each public method handles the event of its name, the layer's own events too."""
    chat = Chat()
    client = socketio(lambda io: handle(io, chat)).connect()
    assert client.emitWithAck("say", "hello") == "HELLO"
    client.emit("_private")
    client.disconnect()
    assert chat.heard == ["hello", "client namespace disconnect"]


def test_handleNothing(socketio: Start) -> None:
    """An object without public methods handles nothing, which is a mistake."""
    with pytest.raises(TypeError, match="expected an object with a method for each event"):
        handle(socketio(lambda io: None).io, object())
