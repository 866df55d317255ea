"""What is wrong with a handler or with the name of an event is an error at once, which says what to do instead."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock

import pytest
from twisted.logger import LogEvent, formatEvent

from engineio_twisted import EngineIOError, EventEmitter, Server, Socket, UnknownEvent
from engineio_twisted.session import emitter
from engineio_twisted.session.handlers import MOST_CODES, SOCKET_EVENTS, checkHandler
from engineio_twisted.testing import MemoryServer

from ..kit.mistakes import messageOf


@pytest.fixture
def socket() -> Iterator[Socket]:
    """The server's end of a session."""
    with MemoryServer(lambda server: None) as kit:
        yield kit.connect().socket


OF_SERVER = "connection, connection_error, flush, drain, initial_headers, headers"
OF_SOCKET = (
    "message, open, data, packet, packetCreate, heartbeat, flush, drain, upgrading, upgrade, suspend, resume, error, "
    "close"
)


@pytest.mark.parametrize(
    ("event", "cure"),
    [
        ("connect", "it is called 'connection' here"),
        ("connections", "did you mean 'connection'?"),
        ("Connection", "did you mean 'connection'?"),
        ("connect_error", "it is called 'connection_error' here"),
        (
            "disconnect",
            "'close' is an event of each socket; call socket.on('close', handler) in a handler of 'connection'",
        ),
        (
            "message",
            "'message' is an event of each socket; call socket.on('message', handler) in a handler of 'connection'",
        ),
        (
            "hello",
            f"the events are {OF_SERVER}; for events of your own, make an EventEmitter",
        ),
    ],
)
def test_anEventThatAServerDoesNotHave(event: str, cure: str) -> None:
    """The error has the name, and the one that was meant: the nearest, or that of another library translated."""
    server: Any = Server()
    text = f"'{event}' is not an event of a server: {cure}"
    for call in (server.on, server.once):
        assert messageOf(lambda call=call: call(event, print), UnknownEvent) == text
        assert messageOf(lambda call=call: call(event), UnknownEvent) == text
    assert messageOf(lambda: server.removeListener(event, print), UnknownEvent) == text
    assert messageOf(lambda: server.listeners(event), UnknownEvent) == text


@pytest.mark.parametrize(
    ("event", "cure"),
    [
        ("mesage", "did you mean 'message'?"),
        ("onmessage", "did you mean 'message'?"),
        ("msg", "did you mean 'message'?"),
        ("disconnect", "it is called 'close' here"),
        ("Disconnecting", "it is called 'close' here"),
        ("pong", "it is called 'heartbeat' here"),
        ("connect", "'connection' is an event of the server; call server.on('connection', handler)"),
        ("connection", "'connection' is an event of the server; call server.on('connection', handler)"),
        ("hello", f"the events are {OF_SOCKET}; for events of your own, make an EventEmitter"),
    ],
)
def test_anEventThatASocketDoesNotHave(socket: Any, event: str, cure: str) -> None:
    """The error has the name, and the one that was meant."""
    text = f"'{event}' is not an event of a socket: {cure}"
    assert messageOf(lambda: socket.on(event, print), UnknownEvent) == text
    assert messageOf(lambda: socket.once(event), UnknownEvent) == text


def test_anUnknownEventCanBeCaught() -> None:
    """As an error of this package, and as a ValueError; it has the name and the cure as attributes."""
    server: Any = Server()
    with pytest.raises(EngineIOError) as caught:
        server.on("connect")
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, UnknownEvent)
    assert (caught.value.event, caught.value.cure) == ("connect", "it is called 'connection' here")
    with pytest.raises(UnknownEvent) as caught:
        server.on("x" * 1000)
    assert len(str(caught.value)) < 400


def test_theEventsOfAnEventEmitter() -> None:
    """Are those of the application, whatever their names and arguments."""
    own, heard = EventEmitter(), []
    own.on("hello", lambda *args: heard.append(args))
    assert own.emit("hello", 1, 2)
    assert not own.emit("message", 1)
    assert heard == [(1, 2)]


def test_emittingToSend(socket: Any) -> None:
    """Nothing is sent by an event; the error says what sends."""
    own = "for events of your own, make an EventEmitter"
    text = f"'hello' is not an event of a socket: to send a message, call send(data); {own}"
    assert messageOf(lambda: socket.emit("hello", {"a": 1}), UnknownEvent) == text
    socket.on("message", print)
    assert messageOf(lambda: socket.emit("hello", {"a": 1}), UnknownEvent) == text
    how = "to send a message, call server.broadcast(data), or send(data) of one socket"
    text = f"'message' is not an event of a server: {how}; {own}"
    assert messageOf(lambda: socket.server.emit("message", "hello"), UnknownEvent) == text


@pytest.mark.parametrize(("owner", "example"), [(Server, "connection"), (EventEmitter, "message")])
def test_aDecoratorWithoutParentheses(owner: Any, example: str) -> None:
    """The error shows it with them."""

    def connected(socket: Socket) -> None:
        pass

    cure = f"write @on('{example}') before connected, with the name in parentheses, or on('{example}', connected)"
    text = f"event {connected!r}: expected the name of an event; {cure}"
    assert messageOf(lambda: owner().on(connected), TypeError) == text
    assert messageOf(lambda: owner().once(connected), TypeError) == text
    assert messageOf(lambda: owner().on(connected, example), TypeError) == text
    # No handler is known to take the arguments of what is no event.
    assert messageOf(lambda: owner().on(5), TypeError) == "event 5: expected the name of an event"
    assert messageOf(lambda: owner().on(None, connected), TypeError) == "event None: expected the name of an event"
    assert messageOf(lambda: owner().once(None, connected), TypeError) == "event None: expected the name of an event"


async def aCoroutine() -> None:
    pass


def test_whatCannotBeCalled(socket: Any) -> None:
    """What a handler has returned, in place of the handler, is noticed too: None isn't the same as no handler."""
    call = "expected something to call"
    cure = ", so leave out the parentheses behind its name"
    assert messageOf(lambda: socket.on("message", 5), TypeError) == f"handler 5 of the event 'message': {call}"
    assert messageOf(lambda: socket.on("message", None), TypeError) == (
        f"handler None of the event 'message': {call}{cure}"
    )
    begun = aCoroutine()
    assert messageOf(lambda: socket.once("message", begun), TypeError) == (
        f"handler a coroutine of the event 'message': {call}{cure}"
    )
    begun.close()


class Chat:
    """Handlers in the shapes that a class may give them."""

    def __init__(self, socket: Socket) -> None:
        pass

    def tooFew(self) -> None:
        pass

    def right(self, data: object) -> None:
        pass

    @classmethod
    def ofClass(cls, data: object) -> None:
        pass

    @staticmethod
    def static(data: object) -> None:
        pass


class Callable1:
    """What is called as a function with one argument is."""

    def __call__(self, data: object) -> None:
        pass


class CalledStatically:
    """The same by a static method."""

    @staticmethod
    def __call__(data: object) -> None:
        pass


class MadeByNew:
    """A class whose constructor isn't known."""

    def __new__(cls, *args: Any) -> Any:
        return object.__new__(cls)


def twoArguments(first: object, second: object) -> None:
    pass


def keywordOnly(data: object, *, room: str) -> None:
    pass


def notOnlyKeywords(data: object, *rest: object, room: str = "all", **others: object) -> None:
    pass


async def asynchronous(data: object) -> None:
    pass


def generator(data: object) -> Iterator[None]:
    yield


async def asynchronousGenerator(data: object) -> AsyncIterator[None]:
    yield


@pytest.mark.parametrize(
    ("handler", "described"),
    [
        (lambda: None, "<lambda>()"),
        (twoArguments, "twoArguments(first: 'object', second: 'object') -> 'None'"),
        (keywordOnly, "keywordOnly(data: 'object', *, room: 'str') -> 'None'"),
        (Chat("").tooFew, "Chat.tooFew() -> 'None'"),  # type: ignore[arg-type]
        (Chat.right, "Chat.right(self, data: 'object') -> 'None'"),
        (partial(twoArguments, 1, 2), "twoArguments() -> 'None'"),
        (partial(twoArguments, 1, 2, 3), "twoArguments(…)"),
        (partial(twoArguments, first=1), "twoArguments(*, first: 'object' = 1, second: 'object') -> 'None'"),
        (partial(Callable1(), 1), "Callable1() -> 'None'"),
    ],
)
def test_aHandlerThatCannotTakeTheArguments(socket: Any, handler: Any, described: str) -> None:
    """The error has its parameters, and the arguments that it is called with."""
    text = f"handler {described} of the event 'message': it is called with data"
    assert messageOf(lambda: socket.on("message", handler), TypeError) == text
    assert messageOf(lambda: socket.once("message", handler), TypeError) == text
    assert messageOf(lambda: socket.on("message")(handler), TypeError) == text
    # Also once a handler with the same code was added where it fits.
    assert socket.listeners("message") == []


def test_whatEachEventIsCalledWith(socket: Any) -> None:
    """Is in the error, by name."""

    def handler(first: Any, second: Any, third: Any) -> None:
        pass

    def arguments(owner: Any, event: str) -> str:
        return messageOf(lambda: owner.on(event, handler), TypeError).rpartition(": ")[2]

    assert arguments(socket, "close") == "it is called with reason, description"
    assert arguments(socket, "open") == "it is called without arguments"
    assert arguments(socket, "drain") == "it is called without arguments"
    assert arguments(socket.server, "drain") == "it is called with socket"
    assert arguments(socket.server, "connection") == "it is called with socket"
    assert arguments(socket.server, "headers") == "it is called with headers, request"


@pytest.mark.parametrize(
    "handler",
    [
        lambda data: None,
        lambda *_: None,
        lambda data, more=None: None,
        notOnlyKeywords,
        asynchronous,
        Chat("").right,  # type: ignore[arg-type]
        Chat.ofClass,
        Chat.static,
        Chat,
        MadeByNew,
        Callable1(),
        CalledStatically(),
        partial(twoArguments, 1),
        partial(twoArguments, second=1),
        partial(partial(keywordOnly, room="a")),
        partial(Callable1()),
        Mock(),
        MagicMock(),
        AsyncMock(),
        [].append,
        print,
        dict,
        Exception,
    ],
)
def test_handlersThatCan(socket: Any, handler: Any) -> None:
    """Of any shape: what isn't known of its parameters is let through."""
    for _ in range(2):
        assert socket.on("message", handler) is handler
        assert socket.once("message", handler) is handler
    assert socket.listeners("message") == [handler] * 4


@pytest.mark.parametrize("handler", [generator, asynchronousGenerator])
def test_aGeneratorAsAHandler(socket: Any, handler: Any) -> None:
    """Nothing of it would ever run."""
    cure = "a generator is never run; make it a coroutine with async def, or decorate it with @inlineCallbacks"
    assert messageOf(lambda: socket.on("message", handler), TypeError).endswith(f"of the event 'message': {cure}")
    assert messageOf(lambda: EventEmitter().on("own", handler), TypeError).endswith(f"of the event 'own': {cure}")


def test_aHandlerOfSeveralEvents(socket: Any) -> None:
    """That it fits one says nothing about the others."""

    def handler(data: object) -> None:
        pass

    for _ in range(2):
        socket.on("message", handler)
        socket.on("data", handler)
        socket.server.on("connection", handler)
        for owner, event in ((socket, "close"), (socket, "drain"), (socket.server, "headers")):
            messageOf(lambda owner=owner, event=event: owner.on(event, handler), TypeError)


@pytest.mark.parametrize("how", ["function", "method", "decorator", "variable", "default"])
def test_aHandlerIsLookedAtOnce(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """However many sessions add one with the same code: an opening pays nothing for it."""
    looked: list[str] = []

    def look(events: Any, event: str, handler: object) -> None:
        looked.append(event)
        checkHandler(events, event, handler)

    monkeypatch.setattr(emitter, "checkHandler", look)

    def application(server: Server) -> None:
        @server.on("connection")
        def connected(socket: Any) -> None:
            if how == "function":
                socket.on("message", lambda data: socket.send(data))
            elif how == "method":
                socket.on("message", Chat(socket).right)
            elif how == "variable":
                socket.on("message", lambda *data: None)
            elif how == "default":
                socket.on("message", lambda data, name=socket.id: None)
            else:

                @socket.on("message")
                def received(data: object) -> None:
                    pass

    with MemoryServer(application) as kit:
        for _ in range(5):
            kit.connect("websocket")
    assert looked.count("message") <= 1


def test_functionsAreRememberedWithinABound(socket: Any) -> None:
    """An application that makes code as it runs takes no memory for it."""
    for number in range(2 * MOST_CODES + 10):
        socket.on("message", eval(f"lambda data: {number}"))
    assert len(SOCKET_EVENTS.fitting) <= MOST_CODES
    messageOf(lambda: socket.on("message", lambda: None), TypeError)


def test_aMistakeInAHandler(loggedErrors: list[LogEvent]) -> None:
    """Is read in the log, or by a test, like anything else that a handler raises; the session goes on."""

    def application(server: Server) -> None:
        @server.on("connection")
        def connected(socket: Any) -> None:
            socket.on("mesage", socket.send)

    with MemoryServer(application) as kit:
        client = kit.connect()
        assert [str(each) for each in kit.errors] == ["'mesage' is not an event of a socket: did you mean 'message'?"]
        assert client.socket.readyState == "open"
        kit.errors.clear()
    (event,) = loggedErrors
    text = formatEvent(event)
    assert text == f"Handler of connection of session {event['session']} failed"
    loggedErrors.clear()
