"""Applications of Socket.IO whose handlers, middlewares and listeners raise, end sockets, or never come to an end."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, globalLogPublisher
from zope.interface import implementer

from engineio_twisted import BufferLimitExceeded
from engineio_twisted.socketio import (
    ConnectRefused,
    IParser,
    MemoryAdapter,
    SocketIO,
    SocketIOError,
)
from engineio_twisted.socketio.packet import JSONParser
from engineio_twisted.socketio.testing import MemorySocketIO

Start = Callable[..., MemorySocketIO]


def ignore(*_: Any) -> None:
    """Do nothing with anything."""


def nothing(io: SocketIO) -> None:
    """An application that does nothing."""


def onSocket(setup: Callable[[Any], object]) -> Callable[[SocketIO], object]:
    """Make an application that sets each socket of `/` up."""
    return lambda io: io.on("connection", setup)


def empty(kit: MemorySocketIO) -> None:
    """Make sure that nothing is left of clients, without one to be connected."""
    stats = kit.io.stats()
    left = (stats.clients, stats.sockets, stats.rooms, stats.acks, stats.joining, stats.attachments)
    assert left == (0, 0, 0, 0, 0, 0)
    for each in kit.io.namespaces.values():
        assert dict(each.outgoing) == {}
        assert each._joiningHere == 0
    assert kit.clock.getDelayedCalls() == []


def test_lostAcknowledgementsCancelOthers(socketio: Start) -> None:
    """A callback of one that a socket owes may cancel another: each ends once, and none is left."""
    happened: list[str] = []

    def setup(socket: Any) -> None:
        waiting = {name: socket.emitWithAck(name) for name in "abc"}
        waiting["d"] = socket.namespace.emitWithAck("d")

        def failed(failure: Any, name: str) -> None:
            happened.append(f"{name} {failure.type.__name__}")
            for each in waiting.values():
                each.cancel()

        for name, each in waiting.items():
            each.addErrback(failed, name)

    kit = socketio(onSocket(setup))
    kit.connect().disconnect()
    assert happened == ["a Disconnected", "b CancelledError", "c CancelledError", "d CancelledError"]
    empty(kit)


@pytest.mark.parametrize("way", ["refused", "lost", "recovered", "late"])
def test_listenersOfOutgoingAreNotLeft(socketio: Start, way: str) -> None:
    """Listeners of what is sent go with the socket, wherever in its life they were added."""
    heard: list[Any] = []
    gates: list[Deferred[None]] = []
    sockets: list[Any] = []

    def application(io: SocketIO) -> None:
        @io.use
        def middleware(socket: Any) -> Any:
            sockets.append(socket)
            socket.onAnyOutgoing(lambda *arguments: heard.append(arguments[0]))
            if way == "refused":
                raise ConnectRefused("no")
            if way == "lost":
                gates.append(Deferred())
                return gates[-1]
            return None

    kit = socketio(application, connectionStateRecovery=True)
    client = kit.connect(wait=False)
    if way == "recovered":
        client.drop()
        client = kit.connect(recover=client)
        assert client.recovered
    if way in ("recovered", "late"):
        kit.io.emit("x")
        assert heard == ["x"]
    if way == "lost":
        client.drop()
    else:
        client.disconnect()
    if way == "late":
        sockets[0].onAnyOutgoing(print)
    kit.advance(1000)
    empty(kit)


@pytest.mark.usefixtures("mayLog")
def test_sameUserThatFails(socketio: Start) -> None:
    """The client is refused, what failed is logged, and the session may still be had."""
    fails = [True]

    def sameUser(kept: Any, socket: Any) -> bool:
        if fails[0]:
            raise ZeroDivisionError
        return True

    kit = socketio(nothing, connectionStateRecovery={"sameUser": sameUser})
    client = kit.connect()
    client.drop()
    again = kit.connect(recover=client, wait=False)
    assert str(again.refused) == "Connection refused"
    assert [type(each) for each in kit.errors] == [ZeroDivisionError]
    kit.errors.clear()
    fails[0] = False
    assert kit.connect(recover=client).recovered


def test_acceptedAfterTheClientHasLeft(socketio: Start) -> None:
    """A function that lets a namespace in when its client has left leaves no namespace."""
    made: list[str] = []

    async def accepts(name: str, auth: Any) -> bool:
        try:
            await Deferred()
        except CancelledError:
            pass
        return True

    def application(io: SocketIO) -> None:
        io.of(accepts)
        io.on("new_namespace", lambda namespace: made.append(namespace.name))

    kit = socketio(application)
    client = kit.connect("/any", wait=False)
    client.drop()
    assert set(kit.io.namespaces) == {"/"}
    empty(kit)


@pytest.mark.parametrize("isLater", [False, True])
@pytest.mark.parametrize("close", [False, True])
def test_asynchronousMiddlewareEndsItself(socketio: Start, isLater: bool, close: bool) -> None:
    """A coroutine that disconnects its own socket, before or after it has waited, ends it once."""
    gate: Deferred[None] = Deferred()
    after: list[str] = []

    def application(io: SocketIO) -> None:
        @io.use
        async def middleware(socket: Any) -> None:
            if isLater:
                await gate
            socket.disconnect(close)
            after.append("first")
            await Deferred()
            after.append("second")

        io.on("connection", lambda socket: after.append("connection"))

    kit = socketio(application)
    client = kit.connect(wait=False)
    gate.callback(None)
    kit.settle()
    assert str(client.refused) == "Connection refused"
    assert after == ["first"]
    empty(kit)


@pytest.mark.parametrize("isLater", [False, True])
@pytest.mark.parametrize("close", [False, True])
def test_asynchronousEventMiddlewareEndsItself(socketio: Start, isLater: bool, close: bool) -> None:
    """The same with a middleware of events."""
    gate: Deferred[None] = Deferred()
    after: list[str] = []

    def setup(socket: Any) -> None:
        @socket.use
        async def middleware(event: str, arguments: list[Any]) -> None:
            if isLater:
                await gate
            socket.disconnect(close)
            after.append(event)
            await Deferred()
            after.append("never")

        socket.on("x", after.append)
        socket.on("error", after.append)

    kit = socketio(onSocket(setup))
    client = kit.connect()
    client.sendRaw('2["x",1]')
    gate.callback(None)
    kit.settle()
    assert after == ["x"]
    assert client.disconnected == "io server disconnect"
    empty(kit)


@pytest.mark.usefixtures("mayLog")
def test_roomOfOneWhoIsAway(socketio: Start) -> None:
    """Nobody joins the room of an id whose socket may be recovered; when it can't any more, the name is free."""

    def application(io: SocketIO) -> None:
        io.on("join", lambda socket, room: socket.join(room))

    kit = socketio(application, connectionStateRecovery=True)
    client, other = kit.connect(), kit.connect()
    client.drop()
    other.emit("join", client.id)
    assert [type(each) for each in kit.errors] == [ValueError]
    kit.errors.clear()
    again = kit.connect(recover=client)
    kit.io.to(str(client.id)).emit("secret")
    assert [each.name for each in again.received] == ["secret"]
    assert other.received == []
    again.disconnect()
    other.emit("join", client.id)
    assert other.socket.rooms == {other.id, client.id}


def test_otherUserWithoutMiddlewares(socketio: Start) -> None:
    """A client that is not of the same user goes through the middlewares, even if they are skipped for others."""
    seen: list[Any] = []
    recovery = {"skipMiddlewares": True, "sameUser": lambda kept, socket: kept.auth == socket.auth}
    kit = socketio(
        lambda io: io.use(lambda socket: seen.append(socket.auth.get("name"))), connectionStateRecovery=recovery
    )
    client = kit.connect(auth={"name": "a"})
    client.drop()
    again = kit.connect(recover=client, auth={"name": "b"})
    assert (again.recovered, seen) == (False, ["a", "b"])


@pytest.mark.parametrize("isSame", [False, True])
def test_sameUserThatTakesTime(socketio: Start, isSame: bool) -> None:
    """What it returns later counts, not that it returned something; two that come back at once share no id."""
    gates: list[Deferred[bool]] = []

    async def sameUser(kept: Any, socket: Any) -> bool:
        gates.append(Deferred())
        return await gates[-1]

    kit = socketio(nothing, connectionStateRecovery={"sameUser": sameUser})
    client = kit.connect()
    client.drop()
    first, second = [kit.connect(recover=client, wait=False) for _ in range(2)]
    for each in gates:
        each.callback(isSame)
    kit.settle()
    # The second one of the same user is the one who is there.
    assert (first.connected, second.connected) == (not isSame, True)
    assert (first.recovered, second.recovered) == (isSame, isSame)
    assert (first.id == second.id) == isSame
    assert set(kit.io.sockets) == {each.id for each in (first, second)}
    assert kit.io.stats().notRecovered == ({} if isSame else {"other user": 2})


class Places:
    """An application that does something, once, from inside a handler, a middleware or a listener of one client."""

    def __init__(self, place: str, act: Callable[[SocketIO, Any], object]) -> None:
        self.place = place
        self.act = act
        self.isDone = False
        self.ends: list[str] = []

    def __call__(self, io: SocketIO) -> None:
        self.io = io
        io.use(self.middleware)
        io.on("connection", self.connection)
        io.on("new_namespace", lambda namespace: self.now("new_namespace", *io.sockets.values()))
        io.of(re.compile("/made"))

    def now(self, place: str, *sockets: Any) -> None:
        marked = [each for each in sockets if each.auth.get("acts")]
        if place == self.place and not self.isDone and marked:
            self.isDone = True
            self.act(self.io, marked[0])

    def middleware(self, socket: Any) -> Any:
        self.now("middleware", socket)
        if self.place != "late middleware" or not socket.auth.get("acts"):
            return None

        async def later() -> None:
            await deferLater(self.io.engine.clock, 1)
            self.now("late middleware", socket)

        return later()

    def connection(self, socket: Any) -> None:
        if not socket.auth.get("acts"):
            socket.on("echo", lambda *args: args)
            return
        for event in ("disconnecting", "disconnect"):
            socket.on(event, lambda reason, description, event=event: self.ends.append(event))
            socket.on(event, lambda *_, event=event: self.now(event, socket))
        socket.on("error", lambda error: self.now("error", socket))
        socket.on("x", lambda: self.now("event", socket))
        socket.on("fails", lambda: {}["fails"])
        socket.whenDisconnected().addCallback(lambda _: self.now("whenDisconnected", socket)).addErrback(ignore)
        socket.onAny(lambda *_: self.now("onAny", socket))
        socket.onAnyOutgoing(lambda *_: self.now("onAnyOutgoing", socket))
        socket.use(lambda *_: self.now("event middleware", socket))
        if self.place == "late event middleware":
            socket.use(
                lambda *_: deferLater(self.io.engine.clock, 1).addCallback(lambda _: self.now(self.place, socket))
            )
        socket.emitWithAck("question").addBoth(lambda _: self.now("acknowledgement", socket)).addErrback(ignore)
        socket.follow(self.followed(socket))
        socket.callLater(2, self.now, "callLater", socket)
        self.now("connection", socket)

    async def late(self, socket: Any) -> None:
        await deferLater(self.io.engine.clock, 1)
        self.now("late event middleware", socket)

    async def followed(self, socket: Any) -> None:
        await deferLater(self.io.engine.clock, 1)
        self.now("follow", socket)


PLACES = [
    *("middleware", "late middleware", "connection", "event", "onAny", "onAnyOutgoing", "event middleware"),
    *("late event middleware", "acknowledgement", "disconnecting", "disconnect", "error", "new_namespace"),
    *("whenDisconnected", "follow", "callLater"),
]


def raises(error: type[BaseException]) -> Callable[..., None]:
    """Make an act that raises."""

    def act(io: SocketIO, socket: Any) -> None:
        raise error

    return act


def asksItself(io: SocketIO, socket: Any, times: int = 50) -> None:
    """Ask the client again and again, as long as it is there."""
    asked = socket.emitWithAck("question")
    if times:
        asked.addCallback(lambda _: asksItself(io, socket, times - 1))
    asked.addErrback(lambda failure: failure.trap(SocketIOError))


ACTS: dict[str, Callable[[SocketIO, Any], object]] = {
    "disconnect": lambda io, socket: socket.disconnect(),
    "disconnect and close": lambda io, socket: socket.disconnect(True),
    "close": lambda io, socket: socket.conn.close(),
    "discard": lambda io, socket: socket.conn.close(discard=True),
    "disconnect all": lambda io, socket: io.to("nobody", socket.id).disconnectSockets(True),
    "of": lambda io, socket: (io.of("/new").emit("x"), io.of(re.compile("/newer")), io.of("/made/here")),
    "join": lambda io, socket: (socket.join("a", "b"), socket.leave("a"), io.to("b").socketsJoin("c")),
    "emit": lambda io, socket: (socket.emit("x", b"y"), io.emit("x"), socket.broadcast.emit("x")),
    "ask": lambda io, socket: io.to(socket.id).timeout(5).emitWithAck("question").addErrback(lambda _: None),
    "ask itself": asksItself,
    "listen": lambda io, socket: (socket.on("x", print), socket.onAnyOutgoing(len), socket.use(len), socket.offAny()),
    "fail": raises(KeyError),
    "exit": raises(SystemExit),
    "interrupt": raises(KeyboardInterrupt),
    "generator's exit": raises(GeneratorExit),
    "cancelled": raises(CancelledError),
    "server closes": lambda io, socket: io.close(),
    "server drains": lambda io, socket: io.drain(),
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("place", PLACES)
def test_fromInside(socketio: Start, place: str, act: str, loggedErrors: list[LogEvent]) -> None:
    """Whatever is done from inside of whatever is called, each step of an end comes once, and nothing is left."""
    application = Places(place, ACTS[act])
    kit = socketio(application, drainTimeout=5000)
    bystander = kit.connect(transport="websocket")
    client = kit.connect(auth={"acts": True}, transport="websocket", wait=False)
    client.on("question", "answer")
    kit.settle()
    kit.advance(1)
    for event in ("x", "fails"):
        if client.connected:
            client.emit(event)
    if client.connected:
        client.of("/made", wait=False).disconnect()
    kit.advance(1)
    kit.advance(2)
    if not act.startswith("server"):
        assert bystander.emitWithAck("echo", "still here") == "still here"
    client.drop()
    kit.advance(61)
    assert application.isDone
    assert application.ends in ([], ["disconnecting", "disconnect"])
    assert (application.ends == []) == (client.id is None)
    bystander.drop()
    kit.advance(61)
    empty(kit)
    kit.errors.clear()
    loggedErrors.clear()


@pytest.mark.no_cover
@pytest.mark.usefixtures("mayLog")
def test_aThousandEnds(socketio: Start) -> None:
    """Sockets that end each other come to their ends, however many they are, and in whatever depth of the stack."""
    ends: list[str] = []

    def application(io: SocketIO) -> None:
        @io.on("connection")
        def connection(socket: Any) -> None:
            @socket.on("disconnect")
            def disconnect(reason: Any, description: Any) -> None:
                ends.append(socket.id)
                for each in [*io.sockets.values()][:1]:
                    each.disconnect(True)

        @io.on("deep")
        def deep(socket: Any) -> None:
            try:
                deep(socket)
            except RecursionError:
                socket.disconnect(True)
                raise

    kit = socketio(application)
    clients = [kit.engine.connect("websocket") for _ in range(1000)]
    for each in clients:
        each.send("0")
    assert len(kit.io.sockets) == 1000
    clients[500].send('2["deep"]')
    kit.settle()
    kit.advance(0)
    assert len(set(ends)) == len(ends) == 1000
    kit.advance(31)
    assert {type(each) for each in kit.errors} == {RecursionError}
    assert [each.received.count("1") for each in clients] == [1] * 1000
    kit.errors.clear()
    empty(kit)


def test_questionsInsideEachOther(socketio: Start, loggedErrors: list[LogEvent]) -> None:
    """A thousand acknowledgements, each of which is waited for by the handler before it, come and go."""
    answers: list[int] = []

    def application(io: SocketIO) -> None:
        @io.on("x")
        async def handler(socket: Any, number: int) -> int:
            if number < 1000:
                answers.append(await socket.emitWithAck("x", number + 1))
            return number

    kit = socketio(application)
    client = kit.connect()
    client.on("x", lambda number: number)
    question = client.ask("x", 0)
    for _ in range(999):
        event = client.received[-1]
        question = client.ask("x", event.args[0])
    assert answers == list(range(1, 1001))
    assert question.answer == 999
    client.disconnect()
    empty(kit)


@pytest.mark.usefixtures("mayLog")
def test_sharedResults(socketio: Start) -> None:
    """A Deferred that several handlers return acknowledges each of their events; if it fails, none."""
    results: list[Deferred[Any]] = [Deferred(), Deferred(), Deferred()]

    def application(io: SocketIO) -> None:
        io.on("x", lambda socket, number: results[number])

    kit = socketio(application)
    client = kit.connect()
    first, second, failing, cancelled = (client.ask("x", number) for number in (0, 0, 1, 2))
    results[0].callback("both")
    results[1].errback(KeyError("a"))
    results[2].cancel()
    kit.settle()
    assert (first.answer, second.answer) == ("both", "both")
    assert (failing.isAnswered, cancelled.isAnswered) == (False, False)
    # What was cancelled has not failed.
    assert [type(each) for each in kit.errors] == [KeyError]
    kit.errors.clear()
    assert kit.io._handlersRunning == 0
    client.disconnect()
    empty(kit)


METHODS = ["add", "remove", "removeAll", "roomsOf", "socketsIn", "broadcast", "close"]


@pytest.mark.parametrize("method", METHODS)
def test_adaptersThatRaise(socketio: Start, method: str, loggedErrors: list[LogEvent]) -> None:
    """The other steps of an end happen, and other sockets go on; a namespace for a client goes too."""
    isBroken = False

    class Broken(MemoryAdapter):
        def __getattribute__(self, name: str) -> Any:
            if isBroken and name == method:
                raise ZeroDivisionError(name)
            return super().__getattribute__(name)

    ends: list[str] = []

    def application(io: SocketIO) -> None:
        parent = io.of(re.compile("/child"))
        for each in (io, parent):
            each.on("join", lambda socket: socket.join("room"))
            each.on("leave", lambda socket: socket.leave("room"))
            each.on("all", lambda socket: socket.namespace.to("room").emit("x"))
            each.on("echo", lambda socket, *args: args)
            each.on("disconnect", lambda socket, *_: ends.append(socket.namespace.name))

    kit = socketio(application, adapter=Broken, connectionStateRecovery=True)
    client, bystander = kit.connect(), kit.connect()
    child = client.of("/child")
    for each in (client, child):
        each.emit("join")
    isBroken = True
    for event in ("join", "leave", "all"):
        client.emit(event)
    child.disconnect()
    client.drop()
    assert ends == ["/child", "/"]
    assert bystander.emitWithAck("echo", 1) == 1
    kit.advance(121)
    assert set(kit.io.namespaces) == {"/"}
    assert {type(each) for each in kit.errors} == {ZeroDivisionError}
    kit.errors.clear()
    closing = kit.io.close()
    kit.settle()
    assert closing.called
    isBroken = False
    # What the adapter has not removed is its own.
    kit.io.adapter.removeAll(client.id)
    kit.errors.clear()
    loggedErrors.clear()


@pytest.mark.usefixtures("mayLog")
def test_parserThatRaises(socketio: Start) -> None:
    """A message on which it fails is a violation, whatever it raises; what it can't encode fails where it is sent."""

    @implementer(IParser)
    class Failing:
        inner = JSONParser()

        def decode(self, message: str | bytes) -> Any:
            if "fail" in str(message):
                raise KeyError(message)
            return self.inner.decode(message)

        def encode(self, *packet: Any) -> Any:
            if packet[3] == ["fail"]:
                raise KeyError
            return self.inner.encode(*packet)

    kit = socketio(lambda io: io.on("echo", lambda socket, *args: args), parser=Failing())
    bystander = kit.connect()
    raw = kit.engine.connect("websocket")
    raw.send("0")
    raw.send('2["fail"]')
    assert raw.readyState == "closed"
    assert kit.io.stats().invalidPackets == 1
    question = bystander.ask("echo")
    assert question.answer is None
    assert [type(each) for each in kit.errors] == [KeyError]
    kit.errors.clear()
    with pytest.raises(KeyError):
        kit.io.parser.encode(2, "/", None, ["fail"])


@pytest.mark.usefixtures("mayLog")
@pytest.mark.parametrize("protocol", [5, 4])
def test_refusalThatCannotBeSent(socketio: Start, protocol: int) -> None:
    """Neither its data nor its message can be: the client is refused with another message."""

    def application(io: SocketIO) -> None:
        @io.of("/closed").use
        def refuse(socket: Any) -> None:
            raise ConnectRefused("half of a character: \ud800", object())

    kit = socketio(application, allowEIO3=True, parser="msgpack")
    client = kit.connect("/closed", protocol=protocol, wait=False)
    assert client.refused is not None
    assert (client.refused.message, client.refused.data) == ("Connection refused", None)
    assert len(kit.errors) == 2
    kit.errors.clear()


def test_logThatFails(socketio: Start, loggedErrors: list[LogEvent]) -> None:
    """An observer of the log that raises changes nothing for clients, whose handlers fail."""

    def observer(event: LogEvent) -> None:
        raise ZeroDivisionError

    def application(io: SocketIO) -> None:
        io.on("x", lambda socket: {}["a"])
        io.on("echo", lambda socket, *args: args)

    kit = socketio(application)
    client = kit.connect()
    globalLogPublisher.addObserver(observer)
    try:
        client.emit("x")
        client.sendRaw('2["echo",1,2]')
        assert client.emitWithAck("echo", 1) == 1
        client.sendRaw("nonsense")
    finally:
        globalLogPublisher.removeObserver(observer)
    assert client.disconnected is not None
    assert any(isinstance(each, KeyError) for each in kit.errors)
    kit.errors.clear()
    loggedErrors.clear()
    empty(kit)


@pytest.mark.parametrize("transport", ["polling", "websocket"])
@pytest.mark.parametrize("action", ["drop", "raise", "close"])
def test_fullBuffer(socketio: Start, action: str, transport: str, loggedErrors: list[LogEvent]) -> None:
    """Of a binary packet all messages are buffered or none; nobody but the slow client notices."""
    kit = socketio(nothing, bufferLimitAction=action, maxBufferedPackets=10, maxHttpBufferSize=10_000_000)
    slow, fast = (kit.connect(transport=transport, upgrade=False) for _ in range(2))
    socket = slow.socket
    slow.pauseReading()
    sent = raised = 0
    for number in range(40):
        try:
            socket.emit("x", number, b"a" * 100_000, b"b")
            sent += 1
        except BufferLimitExceeded:
            raised += 1
        kit.io.emit("news", number, b"c" * 100)
        kit.settle()
        if not socket.connected:
            break
    assert [each.args[0] for each in fast.received] == list(range(number + 1))
    assert (raised > 0) == (action == "raise")
    assert socket.connected == (action != "close")
    if action == "close":
        assert kit.io.stats().sockets == 1
    slow.resumeReading()
    kit.settle()
    # It is strict about what belongs together.
    received = [each.args for each in slow.received if each.name == "x"]
    assert all(args[1:] == (b"a" * 100_000, b"b") for args in received)
    numbers = [args[0] for args in received]
    assert numbers == sorted(set(numbers))
    if action == "raise":
        assert len(received) == sent
    if socket.connected:
        socket.emit("y")
        assert slow.received[-1].name == "y"
    loggedErrors.clear()
    kit.errors.clear()


def fill(socket: Any) -> None:
    """Send until no more may be buffered."""
    while True:
        try:
            socket.emit("x", "y" * 100_000)
        except BufferLimitExceeded:
            return


@pytest.mark.usefixtures("mayLog")
def test_connectIntoAFullBuffer(socketio: Start) -> None:
    """A client that can't be told that it has joined, or has left, loses its session: it would wait for ever."""
    ends: list[str] = []

    def application(io: SocketIO) -> None:
        for each in (io, io.of("/b")):
            each.on("connection", lambda socket: ends.append("connection"))
            each.on("disconnect", lambda socket, reason, description: ends.append(str(reason)))

    kit = socketio(application, bufferLimitAction="raise", maxBufferedPackets=3)
    for way in ("join", "leave"):
        client = kit.connect(transport="websocket")
        socket = client.socket
        client.pauseReading()
        fill(socket)
        if way == "join":
            client.sendRaw("0/b")
        else:
            socket.disconnect()
        kit.settle()
        assert not socket.connected
        assert len(ends) == 2
        ends.clear()
        client.resumeReading()
        kit.settle()
        assert client.engine.readyState == "closed"
    assert {type(each) for each in kit.errors} == {BufferLimitExceeded}
    kit.errors.clear()
    empty(kit)


@pytest.mark.parametrize("action", ["raise", "drop", "close"])
def test_missedIntoAFullBuffer(socketio: Start, action: str) -> None:
    """A client whose missed events are more than may be buffered loses its session, and nothing of it is left."""
    application = onSocket(lambda socket: socket.join("room"))
    kit = socketio(application, connectionStateRecovery=True, bufferLimitAction=action, maxBufferedPackets=3)
    client = kit.connect()
    client.drop()
    for number in range(50):
        kit.io.to("room").emit("x", number)
    again = kit.connect(recover=client, transport="polling", upgrade=False, wait=False)
    assert not again.connected
    assert kit.io.stats().waitingSessions == 0
    kit.advance(121)
    empty(kit)


def test_binaryWhileUpgrading(socketio: Start) -> None:
    """Packets with attachments stay whole and in order while a session moves from polling to WebSocket."""

    def application(io: SocketIO) -> None:
        @io.on("connection")
        def connection(socket: Any) -> None:
            for name in ("upgrading", "upgrade"):
                socket.conn.on(name, lambda *_, name=name: burst(socket, name))
            burst(socket, "connection")

        io.on("echo", lambda socket, *args: args)

    def burst(socket: Any, name: str) -> None:
        for number in range(5):
            socket.emit(name, number, b"a" * number, {"more": b"b"})
            socket.volatile.emit("volatile", b"c")

    kit = socketio(application)
    client = kit.connect(transport="polling", upgrade=False)
    client.split(7)
    client.upgrade()
    assert client.transport == "websocket"
    client.emitWithAck("echo", b"x")
    received = [each for each in client.received if each.name != "volatile"]
    assert [(each.name, *each.args) for each in received] == [
        (name, number, b"a" * number, {"more": b"b"})
        for name in ("connection", "upgrading", "upgrade")
        for number in range(5)
    ]
    dropped = kit.io.stats().volatileDropped
    assert len(client.received) - len(received) + dropped == 15
    client.disconnect()
    empty(kit)


@pytest.mark.parametrize("end", ["disconnect", "close"])
def test_endsWhileConnectIsSent(socketio: Start, end: str) -> None:
    """A socket that a listener of the session ends before CONNECT is through is never connected."""
    called: list[str] = []

    def application(io: SocketIO) -> None:
        @io.use
        def middleware(socket: Any) -> None:
            socket.conn.once("packetCreate", lambda packet: socket.disconnect(end == "close"))

        io.on("connection", lambda socket: called.append("connection"))
        io.on("x", lambda socket: called.append("x"))

    kit = socketio(application)
    raw = kit.engine.connect("websocket")
    raw.send("0")
    assert kit.io.stats().sockets == 0
    if end == "disconnect":
        raw.send('2["x"]')
        raw.close()
    assert called == []
    empty(kit)


def test_otherSettingsOfRecovery(socketio: Start) -> None:
    """With other settings a namespace keeps nothing of what it has kept, nor a timer for it."""
    kit = socketio(lambda io: io.of("/a", connectionStateRecovery=True))
    kit.connect("/a").drop()
    assert kit.io.stats().waitingSessions == 1
    kit.io.of("/a", connectionStateRecovery=False)
    assert kit.io.stats().waitingSessions == 0
    empty(kit)


def test_closingWaitsForAllAdapters(socketio: Start, loggedErrors: list[LogEvent]) -> None:
    """One that fails to close is logged, with its namespace; the others are waited for."""
    closing: Deferred[None] = Deferred()

    class Adapter(MemoryAdapter):
        def close(self) -> Deferred[None]:
            if self.namespace.name == "/":
                raise ZeroDivisionError
            return closing

    kit = socketio(lambda io: io.of("/slow"), adapter=Adapter)
    closed = kit.io.close()
    kit.settle()
    assert not closed.called
    closing.callback(None)
    kit.settle()
    assert closed.called
    assert [type(each) for each in kit.errors] == [ZeroDivisionError]
    assert [each["namespace"] for each in loggedErrors] == ["/"]
    kit.errors.clear()
    loggedErrors.clear()
