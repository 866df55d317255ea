"""Events: what a handler returns, several handlers, failures, catch-all listeners, middlewares of events."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import LogEvent

from engineio_twisted.socketio import ReservedEvent, Socket, SocketIO, UnsendableValue
from engineio_twisted.socketio.testing import Event, MemorySocket, MemorySocketIO

Start = Callable[..., MemorySocketIO]

KINDS: dict[str, dict[str, Any]] = {
    "polling": {"upgrade": False},
    "websocket": {"transport": "websocket"},
    "octet by octet": {"split": 1},
    "polling 4": {"protocol": 4, "upgrade": False},
    "websocket 4": {"protocol": 4, "transport": "websocket"},
}

RESERVED = ("connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener")


def nothing(io: SocketIO) -> None:
    """Take what comes."""


def onSocket(setup: Callable[[Any], object]) -> Callable[[SocketIO], None]:
    """Return an application that calls something with each socket."""

    def application(io: SocketIO) -> None:
        io.on("connection", lambda socket: setup(socket) and None)

    return application


def socketOf(kit: MemorySocketIO, client: MemorySocket) -> Any:
    """Return the server's socket of a client."""
    assert client.id is not None
    return kit.io.sockets[client.id]


# Both ways


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "args",
    [
        (),
        ("text €😀", 1, -1.5, True, None, [], {}),
        (b"", b"\x00\xff" * 100),
        ([{"a": [b"x", {"b": b"y"}]}], "between", b"z"),
        ({"_placeholder": True, "num": 0},),
        (2**53 - 1, 2**64, 1e300),
        ('\u2028\n"\\/',),
    ],
    ids=["none", "JSON", "bytes", "bytes inside", "lookalike", "numbers", "escapes"],
)
def test_echo(socketio: Start, kind: str, args: tuple[Any, ...]) -> None:
    """Arguments arrive as they were sent, in both directions, and as an acknowledgement."""
    heard: list[Any] = []

    def application(io: SocketIO) -> None:
        @io.on("echo")
        def echo(socket: Any, *given: Any) -> tuple[Any, ...]:
            heard.append(given)
            socket.emit("echoed", *given)
            return given

    client = socketio(application, allowEIO3=True).connect(**KINDS[kind])
    question = client.ask("echo", *args)
    assert heard == [args]
    assert client.receive() == Event("echoed", args)
    assert question.args == args


def test_kindsOfValues(socketio: Start) -> None:
    """What isn't quite JSON's arrives as what comes closest."""
    kit = socketio(nothing)
    client = kit.connect()
    socketOf(kit, client).emit("x", (1, 2), float("nan"), float("inf"), bytearray(b"a"), memoryview(b"b"))
    assert client.receive() == Event("x", [[1, 2], None, None, b"a", b"b"])


def test_default(socketio: Start) -> None:
    """The option `default` makes something of a value that JSON hasn't."""
    kit = socketio(nothing, default=lambda value: sorted(value))
    client = kit.connect()
    socketOf(kit, client).emit("x", {"a": {3, 1, 2}})
    assert client.receive() == Event("x", [{"a": [1, 2, 3]}])


@pytest.mark.parametrize("value", [object(), {1: "a"}, {"a": {1, 2}}, 1j])
def test_unsendable(socketio: Start, value: Any) -> None:
    """Anything else raises where it is emitted, and nothing is sent."""
    kit = socketio(nothing)
    client = kit.connect()
    with pytest.raises(UnsendableValue, match=r"args\[1\]"):
        socketOf(kit, client).emit("x", 0, value)
    assert (client.received, client.connected) == ([], True)


@pytest.mark.parametrize("name", RESERVED)
def test_reserved(socketio: Start, name: str) -> None:
    """Names that the protocol keeps for itself are a mistake."""
    kit = socketio(nothing)
    socket = socketOf(kit, kit.connect())
    with pytest.raises(ReservedEvent):
        socket.emit(name)
    with pytest.raises(ReservedEvent):
        socket.emitWithAck(name)


@pytest.mark.parametrize("name", ["", "*", "__proto__", "__init__", "emit", "error", "connection", "message", "é"])
def test_names(socketio: Start, name: str) -> None:
    """Any other text is a name, in both directions; none is an attribute, none means all."""
    heard: list[Any] = []
    kit = socketio(nothing)
    client = kit.connect()
    socket = socketOf(kit, client)
    socket.onAny(lambda event, *args: heard.append((event, args)))
    client.emit(name, 1)
    assert heard == [(name, (1,))]
    socket.emit(name, 2)
    assert client.receive() == Event(name, [2])


def test_send(socketio: Start) -> None:
    """`send` is short for the event `message`."""
    heard: list[Any] = []
    kit = socketio(onSocket(lambda socket: socket.on("message", heard.append)))
    client = kit.connect()
    client.send("a")
    socketOf(kit, client).send("b", 1)
    assert (heard, client.receive()) == (["a"], Event("message", ["b", 1]))


def test_afterTheEnd(socketio: Start) -> None:
    """A socket that has ended sends nothing, and that is no error."""
    kit = socketio(lambda io: io.of("/admin"))
    client = kit.connect()
    client.of("/admin")
    socket = socketOf(kit, client)
    socket.disconnect()
    socket.emit("x")
    socket.send("x")
    kit.settle()
    assert client.received == []


# What a handler returns


async def coroutine() -> str:
    return "awaited"


def several() -> Deferred[Any]:
    return succeed((1, 2))


def nothingLater() -> Deferred[Any]:
    return succeed(None)


@pytest.mark.parametrize(
    ("result", "args"),
    [
        (None, ()),
        ((), ()),
        ((None,), (None,)),
        ((1, 2), (1, 2)),
        (0, (0,)),
        ("", ("",)),
        (False, (False,)),
        ([], ([],)),
        ([1, 2], ([1, 2],)),
        ({"a": b"x"}, ({"a": b"x"},)),
        (coroutine, ("awaited",)),
        (several, (1, 2)),
        (nothingLater, ()),
    ],
    ids=lambda each: getattr(each, "__name__", None) or repr(each),
)
@pytest.mark.parametrize("where", ["socket", "namespace"])
def test_results(socketio: Start, where: str, result: Any, args: tuple[Any, ...]) -> None:
    """Is the acknowledgement: nothing, one value, or several as a tuple."""

    def handler(*_: Any) -> Any:
        return result() if callable(result) else result

    if where == "socket":
        kit = socketio(onSocket(lambda socket: socket.on("q", handler)))
    else:
        kit = socketio(lambda io: io.on("q", handler) and None)
    assert kit.connect().ask("q", 1).args == args


def test_resultThatNobodyWantsToHave(socketio: Start) -> None:
    """A client that doesn't ask gets none."""
    kit = socketio(onSocket(lambda socket: socket.on("q", lambda: 1)))
    client = kit.connect()
    client.emit("q")
    assert len(client.engine.received) == 1


@pytest.mark.parametrize("isCoroutine", [False, True])
def test_resultsThatTakeTime(socketio: Start, isCoroutine: bool) -> None:
    """Events behind them aren't held up: each answer goes out when it is there."""

    def application(io: SocketIO) -> None:
        async def awaiting(seconds: float) -> float:
            await deferLater(kit.clock, seconds, lambda: None)
            return seconds

        def deferred(seconds: float) -> Deferred[float]:
            return deferLater(kit.clock, seconds, lambda: seconds)

        onSocket(lambda socket: socket.on("wait", awaiting if isCoroutine else deferred))(io)

    kit = socketio(application)
    client = kit.connect()
    slow, quick = client.ask("wait", 5), client.ask("wait", 1)
    kit.advance(2)
    assert (slow.isAnswered, quick.answer) == (False, 1)
    kit.advance(4)
    assert slow.answer == 5


def test_contextOfACoroutine(socketio: Start) -> None:
    """What a coroutine sets in its context it finds there when it goes on; no other handler does."""
    user: ContextVar[str] = ContextVar("user", default="nobody")

    def application(io: SocketIO) -> None:
        @io.on("login")
        async def login(socket: Any, name: str, seconds: float) -> str:
            user.set(name)
            for _ in range(2):
                if seconds:
                    await deferLater(kit.clock, seconds, lambda: None)
            return user.get()

        io.on("who", lambda socket: user.get())

    kit = socketio(application)
    client = kit.connect()
    assert client.emitWithAck("login", "a", 0) == "a"
    later = client.ask("login", "b", 1)
    kit.advance(1)
    assert client.emitWithAck("who") == "nobody"
    kit.advance(1)
    assert later.answer == "b"


def test_failuresThatACoroutineHandles(socketio: Start) -> None:
    """They come out of what it waits for, whichever wait that is."""

    def application(io: SocketIO) -> None:
        @io.on("try")
        async def attempt(socket: Any) -> list[str]:
            caught = []
            for each in "ab":
                try:
                    await deferLater(kit.clock, 1, {}.__getitem__, each)
                except KeyError as error:
                    caught.append(error.args[0])
            return caught

    kit = socketio(application)
    asked = kit.connect().ask("try")
    kit.advance(1)
    kit.advance(1)
    assert asked.answer == ["a", "b"]


def test_resultAfterTheEnd(socketio: Start) -> None:
    """A handler goes on when its socket has ended; its answer goes nowhere."""
    through: list[Any] = []

    def application(io: SocketIO) -> None:
        io.of("/admin")

        @io.on("wait")
        async def wait(socket: Any) -> str:
            await deferLater(kit.clock, 1, lambda: None)
            socket.emit("late")
            through.append(socket.connected)
            return "late"

    kit = socketio(application)
    client = kit.connect()
    client.of("/admin")
    client.ask("wait")
    client.disconnect()
    kit.advance(2)
    assert (through, client.engine.received[2:]) == ([False], [])


def test_noHandler(socketio: Start) -> None:
    """There is no answer then."""
    client = socketio(nothing).connect()
    assert not client.ask("q").isAnswered
    assert client.connected


def test_onUnhandled(socketio: Start) -> None:
    """Events that have no handler have one in common, whose result is the acknowledgement; those of parents too."""
    heard: list[Any] = []

    def application(io: SocketIO) -> None:
        io.on("known", lambda socket: "known")

        @io.onUnhandled
        def first(socket: Any, event: str, *arguments: Any) -> Any:
            heard.append((socket.id, event, *arguments))
            return f"no {event}"

        io.onUnhandled(lambda socket, event, *arguments: heard.append("second"))
        io.on("connection", lambda socket: socket.on("own", lambda: "own"))
        parent = io.of(re.compile("^/room-"))
        parent.on("known", lambda socket: "known")
        parent.onUnhandled(lambda socket, event: socket.namespace.name)

    kit = socketio(application)
    client = kit.connect()
    assert (client.emitWithAck("known"), client.emitWithAck("own"), heard) == ("known", "own", [])
    assert client.emitWithAck("other", 1, b"2") == "no other"
    assert heard == [(client.id, "other", 1, b"2"), "second"]
    for event in ("connection", "error", "new_namespace"):
        assert not client.ask(event).isAnswered
    assert len(heard) == 2
    child = kit.connect("/room-1")
    assert (child.emitWithAck("known"), child.emitWithAck("other")) == ("known", "/room-1")


@pytest.mark.usefixtures("mayLog")
def test_onUnhandledThatFails(socketio: Start) -> None:
    """It fails as any handler does: nothing is acknowledged, and the client goes on."""

    def fail(socket: Any, event: str) -> None:
        raise RuntimeError(event)

    kit = socketio(lambda io: io.onUnhandled(fail))
    client = kit.connect()
    assert not client.ask("x").isAnswered
    assert [str(kit.errors.pop()), client.connected] == ["x", True]
    with pytest.raises(TypeError, match="expected something to call"):
        kit.io.onUnhandled("x")


def test_severalHandlers(socketio: Start) -> None:
    """All are called, the socket's before the namespace's, in order of registration; the first one's result counts."""
    order: list[str] = []

    def handler(name: str) -> Callable[..., str]:
        def called(*_: Any) -> str:
            order.append(name)
            return name

        return called

    def application(io: SocketIO) -> None:
        io.on("q", handler("c"))
        io.on("q", handler("d"))

        @io.on("connection")
        def connection(socket: Any) -> None:
            socket.on("q", handler("a"))
            socket.on("q", handler("b"))

    assert socketio(application).connect().emitWithAck("q") == "a"
    assert order == ["a", "b", "c", "d"]


def test_inOrder(socketio: Start) -> None:
    """Handlers are called in the order of the events, binary or not."""
    heard: list[Any] = []
    client = socketio(onSocket(lambda socket: socket.on("x", heard.append))).connect(upgrade=False)
    client.delay(0.5)
    for number in range(20):
        client.emit("x", number if number % 3 else bytes([number]))
    client.advance(30)
    assert heard == [number if number % 3 else bytes([number]) for number in range(20)]


# Registering


def test_onceAndRemove(socketio: Start) -> None:
    """`once` is called once; what is removed isn't any more; listeners are those that are left."""
    heard: list[str] = []

    def often(*_: Any) -> None:
        heard.append("often")

    kit = socketio(nothing)
    client = kit.connect()
    socket = socketOf(kit, client)
    socket.on("x", often)
    socket.once("x", lambda: heard.append("once"))
    assert len(list(socket.listeners("x"))) == 2
    client.emit("x")
    client.emit("x")
    assert heard == ["often", "once", "often"]
    assert list(socket.listeners("x")) == [often]
    socket.removeListener("x", often)
    client.emit("x")
    assert (len(heard), list(socket.listeners("x"))) == (3, [])


def test_onceOfANamespace(socketio: Start) -> None:
    """It is called for the first event of any socket."""
    heard: list[Any] = []
    kit = socketio(lambda io: io.once("x", lambda socket: heard.append(socket.id)) and None)
    first, second = kit.connect(), kit.connect()
    second.emit("x")
    first.emit("x")
    assert heard == [second.id]


def test_decorators(socketio: Start) -> None:
    """`on` is one too, on a socket and on a namespace, and leaves the function as it is."""

    def application(io: SocketIO) -> None:
        @io.on("a")
        def a(socket: Any) -> str:
            return "a"

        @io.on("connection")
        def connection(socket: Any) -> None:
            @socket.on("b")
            async def b() -> str:
                return "b"

        assert a(None) == "a"

    client = socketio(application).connect()
    assert (client.emitWithAck("a"), client.emitWithAck("b")) == ("a", "b")


# Failures


@pytest.mark.usefixtures("mayLog")
@pytest.mark.parametrize("way", ["plain", "coroutine", "coroutine at once", "Deferred", "unsendable"])
def test_handlerThatFails(socketio: Start, way: str) -> None:
    """It is logged and emitted as `error`; no answer is sent; the session goes on."""
    errors: list[Any] = []

    def fail() -> None:
        raise KeyError("a")

    async def coroutine() -> None:
        await deferLater(kit.clock, 0, fail)

    async def atOnce() -> None:
        fail()

    handler: Any = {
        "plain": fail,
        "coroutine": coroutine,
        "coroutine at once": atOnce,
        "Deferred": lambda: deferLater(kit.clock, 0, fail),
        "unsendable": lambda: object(),
    }[way]

    def setup(socket: Any) -> None:
        socket.on("bad", handler)
        socket.on("good", lambda: 1)
        socket.on("error", errors.append)

    kit = socketio(onSocket(setup))
    client = kit.connect()
    assert not client.ask("bad").isAnswered
    assert client.emitWithAck("good") == 1
    expected = UnsendableValue if way == "unsendable" else KeyError
    assert [type(each) for each in errors] == [expected]
    assert [type(each) for each in kit.errors] == [expected]
    kit.errors.clear()


@pytest.mark.usefixtures("mayLog")
def test_errorOfANamespace(socketio: Start) -> None:
    """It hears of the failures of all its sockets, with the socket."""
    errors: list[Any] = []

    def application(io: SocketIO) -> None:
        io.on("bad", lambda socket: {}["a"])
        io.on("error", lambda socket, error: errors.append((socket.id, type(error))))

    kit = socketio(application)
    client = kit.connect()
    client.emit("bad")
    assert errors == [(client.id, KeyError)]
    kit.errors.clear()


@pytest.mark.usefixtures("mayLog")
def test_othersAreCalled(socketio: Start) -> None:
    """One handler that fails keeps no other from being called."""
    heard: list[int] = []

    def setup(socket: Any) -> None:
        socket.on("x", lambda: {}["a"])
        socket.on("x", lambda: heard.append(1))

    kit = socketio(onSocket(setup))
    kit.connect().emit("x")
    assert heard == [1]
    kit.errors.clear()


@pytest.mark.parametrize("where", ["socket", "namespace"])
def test_argumentsThatDoNotFit(socketio: Start, where: str, warnings: list[str]) -> None:
    """A client chooses how many there are: a warning once a second and `error`, but no failure of the application."""
    errors: list[Any] = []

    def application(io: SocketIO) -> None:
        io.on("error", lambda socket, error: errors.append(type(error)))
        if where == "namespace":
            io.on("x", lambda socket, one: one)
        else:
            onSocket(lambda socket: socket.on("x", lambda one: one))(io)

    client = socketio(application).connect()
    assert not client.ask("x").isAnswered
    assert not client.ask("x", 1, 2).isAnswered
    assert client.emitWithAck("x", 1) == 1
    assert errors == [TypeError, TypeError]
    assert len(warnings) == 1
    assert "sent x with arguments that its handler does not take" in warnings[0]


@pytest.mark.usefixtures("mayLog")
def test_handlerOfErrorThatFails(socketio: Start) -> None:
    """It is logged, and emits no `error` again."""

    def setup(socket: Any) -> None:
        socket.on("x", lambda: {}["first"])
        socket.on("error", lambda error: {}["second"])

    kit = socketio(onSocket(setup))
    client = kit.connect()
    client.emit("x")
    assert sorted(map(str, kit.errors)) == ["'first'", "'second'"]
    kit.errors.clear()
    assert client.connected


# Catch-all listeners


def test_onAny(socketio: Start) -> None:
    """They hear every event before its handlers, also one without; those that are prepended first."""
    heard: list[Any] = []

    def first(event: str, *args: Any) -> None:
        heard.append(("first", event, args))

    def second(event: str, *args: Any) -> None:
        heard.append(("second", event))

    def setup(socket: Any) -> None:
        socket.on("x", lambda *args: heard.append("handler"))
        socket.onAny(second)
        socket.prependAny(first)
        assert list(socket.listenersAny()) == [first, second]

    kit = socketio(onSocket(setup))
    client = kit.connect()
    client.emit("x", 1, b"y")
    assert heard == [("first", "x", (1, b"y")), ("second", "x"), "handler"]
    client.emit("unknown")
    assert heard[3:] == [("first", "unknown", ()), ("second", "unknown")]
    socket = socketOf(kit, client)
    socket.offAny(first)
    assert list(socket.listenersAny()) == [second]
    socket.offAny()
    client.emit("x")
    assert heard[5:] == ["handler"]


def test_onAnyOutgoing(socketio: Start) -> None:
    """They hear what is sent to the socket before it is: what it emits, what it asks, broadcasts."""
    heard: list[Any] = []

    def listener(event: str, *args: Any) -> None:
        heard.append((event, args))

    kit = socketio(nothing)
    client, other = kit.connect(), kit.connect()
    socket = socketOf(kit, client)
    socket.onAnyOutgoing(listener)
    socket.emit("a", 1)
    kit.io.emit("b")
    kit.io.to(other.id or "").emit("not this")
    socket.emitWithAck("c", b"x").addErrback(lambda failure: None)
    assert heard == [("a", (1,)), ("b", ()), ("c", (b"x",))]
    assert list(socket.listenersAnyOutgoing()) == [listener]
    socket.offAnyOutgoing(listener)
    socket.emit("d")
    assert len(heard) == 3
    assert [each.name for each in client.received] == ["a", "b", "c", "d"]


@pytest.mark.usefixtures("mayLog")
@pytest.mark.parametrize("isLate", [False, True])
def test_catchAllThatFails(socketio: Start, isLate: bool) -> None:
    """It is logged and emitted as `error`; the handlers are called, and what is sent goes out."""
    errors: list[Any] = []

    async def late(event: str) -> None:
        raise KeyError(event)

    def listener(event: str) -> Any:
        return late(event) if isLate else {}[event]

    def setup(socket: Any) -> None:
        socket.onAny(listener)
        socket.onAnyOutgoing(listener)
        socket.on("in", lambda: socket.emit("out"))
        socket.on("error", errors.append)

    kit = socketio(onSocket(setup))
    client = kit.connect()
    client.emit("in")
    assert client.receive() == Event("out")
    assert [str(each) for each in errors] == [str(each) for each in kit.errors] == ["'in'", "'out'"]
    kit.errors.clear()


# Middlewares of events


def test_use(socketio: Start) -> None:
    """They are called in order with each event, before its handlers, and may change the arguments."""
    order: list[Any] = []

    def add(event: str, arguments: list[Any]) -> None:
        order.append(("add", event, list(arguments)))
        arguments.append("added")

    async def check(event: str, arguments: list[Any]) -> None:
        order.append(("check", event, list(arguments)))

    def setup(socket: Any) -> None:
        socket.use(add)
        socket.use(check)
        socket.on("x", lambda *args: args)

    client = socketio(onSocket(setup)).connect()
    assert client.emitWithAck("x", 1) == (1, "added")
    assert order == [("add", "x", [1]), ("check", "x", [1, "added"])]


@pytest.mark.parametrize("isLate", [False, True])
def test_useThatRefuses(socketio: Start, isLate: bool) -> None:
    """What it raises stops the event, and is emitted as `error` on the socket; the session goes on."""
    errors: list[Any] = []
    heard: list[Any] = []

    async def middleware(event: str, arguments: list[Any]) -> None:
        if isLate:
            await deferLater(kit.clock, 1, lambda: None)
        if event == "bad":
            raise ValueError("not that")

    def setup(socket: Any) -> None:
        socket.use(middleware)
        socket.onAny(lambda event, *_: heard.append(event))
        socket.on("bad", lambda: 1)
        socket.on("good", lambda: 2)
        socket.on("error", errors.append)

    kit = socketio(onSocket(setup))
    client = kit.connect()
    bad, good = client.ask("bad"), client.ask("good")
    kit.advance(3)
    assert (bad.isAnswered, good.answer) == (False, 2)
    assert [str(each) for each in errors] == ["not that"]
    assert heard == ["good"]


@pytest.mark.usefixtures("mayLog")
def test_useThatRefusesUnheard(socketio: Start) -> None:
    """If nobody listens for `error`, what it raised is logged: it may be a mistake."""

    def middleware(event: str, arguments: list[Any]) -> None:
        raise KeyError(event)

    kit = socketio(onSocket(lambda socket: socket.use(middleware)))
    client = kit.connect()
    client.emit("x")
    assert [repr(each) for each in kit.errors] == ["KeyError('x')"]
    kit.errors.clear()
    assert client.connected


def test_useKeepsTheOrder(socketio: Start) -> None:
    """One that takes longer with one event holds those behind it back."""
    heard: list[int] = []

    async def middleware(event: str, arguments: list[Any]) -> None:
        await deferLater(kit.clock, 5 - arguments[0], lambda: None)

    def setup(socket: Any) -> None:
        socket.use(middleware)
        socket.on("x", heard.append)

    kit = socketio(onSocket(setup))
    client = kit.connect()
    for number in range(5):
        client.emit("x", number)
    kit.advance(4.9)
    assert heard == []
    kit.advance(20)
    assert heard == [0, 1, 2, 3, 4]


def test_useOfOneHoldsNobodyElse(socketio: Start) -> None:
    """Other sockets' events pass, on the same session too."""
    gate: Deferred[None] = Deferred()
    heard: list[str] = []

    def application(io: SocketIO) -> None:
        onSocket(lambda socket: socket.use(lambda event, arguments: gate))(io)
        io.on("x", lambda socket: heard.append("/"))
        io.of("/admin").on("x", lambda socket: heard.append("/admin"))

    client = socketio(application).connect()
    admin = client.of("/admin")
    client.emit("x")
    admin.emit("x")
    assert heard == ["/admin"]
    gate.callback(None)
    assert heard == ["/admin", "/"]


@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_maxWaitingEvents(socketio: Start, transport: str) -> None:
    """So many wait; then the session reads no more until they are through. None is lost."""
    heard: list[int] = []
    gates: list[Deferred[None]] = []

    def middleware(event: str, arguments: list[Any]) -> Deferred[None]:
        gates.append(Deferred())
        return gates[-1]

    def setup(socket: Any) -> None:
        socket.use(middleware)
        socket.on("x", heard.append)
        socket.conn.on("message", messages.append)

    messages: list[Any] = []
    kit = socketio(onSocket(setup), maxWaitingEvents=3)
    client = kit.connect(transport=transport, upgrade=False)
    for number in range(10):
        client.emit("x", number)
    # One is in the middleware, and three are behind it.
    assert len(messages) == 4
    for number in range(10):
        assert heard == list(range(number))
        gates[number].callback(None)
        kit.settle()
    assert heard == list(range(10))


def test_leavingWhileEventsWait(socketio: Start) -> None:
    """What is waited for is cancelled, and no middleware or handler is called any more."""
    called: list[Any] = []
    cancelled: list[Any] = []
    heard: list[int] = []

    def middleware(event: str, arguments: list[Any]) -> Deferred[None]:
        called.append(event)
        return Deferred(cancelled.append)

    def setup(socket: Any) -> None:
        socket.use(middleware)
        socket.on("x", heard.append)

    kit = socketio(onSocket(setup))
    client = kit.connect()
    client.emit("x", 1)
    client.emit("x", 2)
    client.disconnect()
    assert (len(called), len(cancelled), heard) == (1, 1, [])


def test_countedEvents(socketio: Start) -> None:
    """`stats().events` counts what clients have sent."""
    kit = socketio(nothing)
    client = kit.connect()
    for _ in range(3):
        client.emit("x", b"y")
    assert kit.io.stats().events == 3


def test_eventsThatMiddlewaresRefuse(socketio: Start, loggedErrors: list[LogEvent], leavesNothingBehind: None) -> None:
    """If nobody listens to errors a client can have one logged in a second, and no long name in it."""

    def application(io: SocketIO) -> None:
        @io.on("connection")
        def connection(socket: Socket) -> None:
            @socket.use
            def refuse(event: str, arguments: list[Any]) -> None:
                raise ValueError("no")

    kit = socketio(application)
    client = kit.connect(transport="websocket")
    for _ in range(50):
        client.emit("x" * 1000)
    assert len(loggedErrors) == 1
    assert len(str(loggedErrors[0]["event"])) == 100
    loggedErrors.clear()
    kit.errors.clear()


def test_listenersOfWhatIsSentAreForgotten(socketio: Start) -> None:
    """A socket whose last listener of what is sent was removed costs broadcasts nothing any more."""
    kit = socketio(lambda io: None)
    client = kit.connect()
    socket = client.socket
    listener = socket.onAnyOutgoing(lambda *arguments: None)
    assert [*kit.io.outgoing] == [client.id]
    socket.offAnyOutgoing(listener)
    assert [*kit.io.outgoing] == []
    assert socket.listenersAnyOutgoing() == []
