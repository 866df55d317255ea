"""Any Twisted protocol over sessions: what works over TCP works the same on each transport, and while it changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any, ClassVar

import pytest
import pytest_twisted
from twisted.application import strports
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred, gatherResults, succeed
from twisted.internet.endpoints import TCP4ServerEndpoint, serverFromString
from twisted.internet.error import CannotListenError, ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IListeningPort,
    IPushProducer,
    IStreamServerEndpoint,
    ITransport,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.protocols.amp import AMP, Command, Integer
from twisted.protocols.basic import FileSender, LineReceiver
from twisted.protocols.portforward import ProxyFactory
from twisted.web import server as web
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer
from zope.interface.verify import verifyObject

from engineio_twisted import CloseReason, OptionError, Server, attach
from engineio_twisted.endpoints import MESSAGE_SIZE, PathAddress, SessionEndpoint, SessionPort, SessionTransport
from engineio_twisted.interfaces import Closing
from engineio_twisted.operation.settings import optionsFromText
from engineio_twisted.protocol.packet import PacketType
from engineio_twisted.session.ending import CLOSING_TIMEOUT
from engineio_twisted.session.producing import HIGH_MARK
from engineio_twisted.session.streams import StreamTransport
from engineio_twisted.testing import MemoryServer
from engineio_twisted.web.site import Site

from .kit.engines import ENGINES
from .kit.fakes import Pusher
from .kit.memory import Nothing
from .kit.session_client import SessionClient
from .kit.sessions import Session
from .kit.wire import eventually, within

LOOPBACK = "tcp:0:interface=127.0.0.1"
CHUNK = b"0123456789abcdef" * 1024


def connectedTo(factory: Factory) -> list[Any]:
    """The protocols that a factory builds from now on."""
    built: list[Any] = []
    build = factory.buildProtocol

    def buildProtocol(address: IAddress) -> Any:
        built.append(build(address))
        return built[-1]

    factory.buildProtocol = buildProtocol  # type: ignore[method-assign]
    return built


async def proxied(protocol: Any) -> tuple[Any, list[Any], Any]:
    """A port where each connection has such a protocol, those protocols, and a factory of Twisted's proxies to it."""
    from twisted.internet import reactor

    behind = Factory.forProtocol(protocol)
    servers = connectedTo(behind)
    target = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(behind)
    proxy = ProxyFactory("127.0.0.1", target.getHost().port)
    proxy.noisy = False
    return target, servers, proxy


class Kept(Protocol):
    """Keeps what comes, and how it ends."""

    def __init__(self) -> None:
        self.received = b""
        self.ends: list[Any] = []

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Any = None) -> None:
        self.ends.append(reason.value)


# What talks


class Upside(LineReceiver):
    """Answers each line with the same one backwards."""

    def lineReceived(self, line: bytes) -> None:
        self.sendLine(line[::-1])


class Lines(LineReceiver):
    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def lineReceived(self, line: bytes) -> None:
        self.lines.append(line)


class Sum(Command):
    arguments: ClassVar[Any] = [(b"a", Integer()), (b"b", Integer())]
    response: ClassVar[Any] = [(b"total", Integer())]


class Divide(Command):
    arguments: ClassVar[Any] = [(b"a", Integer()), (b"b", Integer())]
    response: ClassVar[Any] = [(b"quotient", Integer())]
    errors: ClassVar[Any] = {ZeroDivisionError: b"ZERO_DIVISION"}


class Wait(Command):
    response: ClassVar[Any] = [(b"never", Integer())]


class Calculator(AMP):
    """Both ends of a connection: each may ask the other."""

    lost: Any = None

    @Sum.responder
    def sum(self, a: int, b: int) -> dict[str, int]:
        return {"total": a + b}

    @Divide.responder
    def divide(self, a: int, b: int) -> dict[str, int]:
        return {"quotient": a // b}

    @Wait.responder
    def wait(self) -> Deferred[Any]:
        return Deferred()

    def connectionLost(self, reason: Any) -> None:
        self.lost = reason
        super().connectionLost(reason)


@implementer(IPushProducer)
class Stream(Protocol):
    """
    Writes without an end, until it is paused; takes what comes, unless that is paused.

    @ivar mostWaiting: the most bytes that its transport had to keep.
    """

    def __init__(self) -> None:
        self.isProducing = False
        self.isTold = False
        self.pauses = 0
        self.written = 0
        self.received = 0
        self.isRight = True
        self.mostWaiting = 0
        self.lost: Any = None

    def begin(self) -> None:
        assert self.transport is not None
        self.transport.registerProducer(self, True)
        self.resumeProducing()

    def end(self) -> None:
        assert self.transport is not None
        self.isProducing, self.isTold = False, True
        self.transport.unregisterProducer()

    def resumeProducing(self) -> None:
        if not self.isProducing and not self.isTold:
            self.isProducing = True
            self._write()

    def pauseProducing(self) -> None:
        self.isProducing = False
        self.pauses += 1

    def stopProducing(self) -> None:
        self.isProducing, self.isTold = False, True

    def _write(self) -> None:
        from twisted.internet import reactor

        if self.isProducing:
            assert self.transport is not None
            self.transport.write(CHUNK)
            self.written += len(CHUNK)
            if isinstance(self.transport, StreamTransport):
                self.mostWaiting = max(self.mostWaiting, self.transport.socket.bufferedAmount)
            reactor.callLater(0, self._write)

    def dataReceived(self, data: bytes) -> None:
        start = self.received % len(CHUNK)
        self.isRight = self.isRight and (CHUNK * (len(data) // len(CHUNK) + 2))[start : start + len(data)] == data
        self.received += len(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = reason
        self.stopProducing()


@pytest.mark.parametrize("kind", ["polling", "websocket", "upgrading"])
class TestEachTransport:
    """The same over a session on polling, one on WebSocket, and one that moves from one to the other in the middle."""

    @asynccontextmanager
    async def talk(self, kind: str, factory: Factory, protocol: Any, **options: Any) -> AsyncIterator[Any]:
        """
        A session between a protocol of the factory and another one, and a port that is closed in the end.

        Yields the client, and what comes in the middle: a coroutine function that upgrades one that is to.
        """
        built = connectedTo(factory)
        # What a client that is gone hasn't fetched is nothing to wait for.
        options = {"upgradeTimeout": 60000, "drainTimeout": 100, **options}
        port = await within(SessionEndpoint(LOOPBACK, **options).listen(factory), "the port")
        client = SessionClient(port.getHost().port, protocol, kind)

        async def middle() -> None:
            if kind == "upgrading":
                await client.upgrade()

        try:
            await client.start()
            yield client, built[0], middle
            expected = "polling" if kind == "polling" else "websocket"
            assert client.transport == expected
        finally:
            client.drop()
            await client.end()
            await within(port.stopListening(), "the end of the port")

    @pytest_twisted.ensureDeferred
    async def test_lines(self, kind: str, serve: Any) -> None:
        """Lines arrive whole and in order, in both directions, with an upgrade between any two of them."""
        client = Lines()
        async with self.talk(kind, Factory.forProtocol(Upside), client) as (_, _, middle):
            for number in range(20):
                client.sendLine(b"line %d" % number)
            moving = Deferred.fromCoroutine(middle())
            for number in range(20, 40):
                client.sendLine(b"line %d" % number)
            # A line in pieces, each of them a message.
            for piece in (b"the ", b"la", b"st\r", b"\nand one more\r\n"):
                client.transport.write(piece)
            await within(moving, "the upgrade")
            await eventually(lambda: len(client.lines) == 42, "all lines")
        assert client.lines[:40] == [(b"line %d" % number)[::-1] for number in range(40)]
        assert client.lines[40:] == [b"tsal eht", b"erom eno dna"]

    @pytest_twisted.ensureDeferred
    async def test_amp(self, kind: str, serve: Any) -> None:
        """Each end calls the other, many at a time; answers and errors come to whom they belong."""
        client = Calculator()
        async with self.talk(kind, Factory.forProtocol(Calculator), client) as (_, server, middle):
            asked = [each.callRemote(Sum, a=number, b=1) for number in range(20) for each in (client, server)]
            moving = Deferred.fromCoroutine(middle())
            asked += [each.callRemote(Sum, a=number, b=1) for number in range(20, 40) for each in (client, server)]
            answers = await within(gatherResults(asked), "the answers")
            assert [each["total"] for each in answers] == [number + 1 for number in range(40) for _ in range(2)]
            with pytest.raises(ZeroDivisionError):
                await within(server.callRemote(Divide, a=1, b=0), "an error")
            await within(moving, "the upgrade")
            assert await within(client.callRemote(Divide, a=7, b=2), "an answer") == {"quotient": 3}

    @pytest.mark.parametrize("engine", ENGINES)
    @pytest_twisted.ensureDeferred
    async def test_ampThatIsLost(self, kind: str, engine: Any, serve: Any) -> None:
        """A connection that is lost in the middle of calls fails them at both ends."""
        client, factory = Calculator(), Factory.forProtocol(Calculator)
        async with self.talk(kind, factory, client, wsEngine=engine) as (session, server, middle):
            await middle()
            asked = client.callRemote(Wait)
            asking = server.callRemote(Wait)
            # Both have arrived.
            await within(client.callRemote(Sum, a=1, b=1), "an answer")
            # On polling only the loss of a GET is noticed.
            await eventually(lambda: server.transport.socket.writable, "a waiting GET")
            session.drop()
            for each in (asked, asking):
                with pytest.raises(ConnectionLost):
                    await within(each, "a failure")
            assert server.lost.check(ConnectionLost)
            assert server.lost.value.args[0].startswith("transport ")

    @pytest.mark.parametrize("engine", ENGINES)
    @pytest_twisted.ensureDeferred
    async def test_theClientEnds(self, kind: str, engine: Any, serve: Any) -> None:
        """A client that closes its session in order is a clean end."""
        client, factory = Lines(), Factory.forProtocol(Kept)
        async with self.talk(kind, factory, client, wsEngine=engine) as (_, server, middle):
            await middle()
            client.sendLine(b"goodbye")
            client.transport.loseConnection()
            await eventually(lambda: server.ends, "the end")
            assert server.received == b"goodbye\r\n"
            assert [type(each) for each in server.ends] == [ConnectionDone]

    @pytest_twisted.ensureDeferred
    async def test_theServerEnds(self, kind: str, serve: Any) -> None:
        """What was written before `loseConnection` arrives, however much, and then the end."""
        client, factory = Kept(), Factory.forProtocol(Kept)
        large = CHUNK * 40
        async with self.talk(kind, factory, client) as (_, server, middle):
            await middle()
            server.transport.write(large)
            server.transport.loseConnection()
            server.transport.write(b"too late")
            await eventually(lambda: client.ends and server.ends, "the end")
            assert client.received == large
            assert [type(each) for each in (*client.ends, *server.ends)] == [ConnectionDone] * 2

    @pytest_twisted.ensureDeferred
    async def test_producersSlowEachOther(self, kind: str, serve: Any) -> None:
        """Whoever doesn't take what comes stops the other end; then all arrives, and little ever waited."""
        client = Stream()
        # Without compression, which would make little of it.
        async with self.talk(kind, Factory.forProtocol(Stream), client, httpCompression=False) as (_, server, middle):
            for each in (client, server):
                each.transport.pauseProducing()
                each.begin()
            await eventually(lambda: server.pauses and client.pauses, "both to be paused")
            paused = (client.received, server.received)
            # One goes on while the other stands still.
            client.transport.resumeProducing()
            before = server.written
            await eventually(lambda: server.written > before + 20 * len(CHUNK), "the server to go on")
            assert server.received == paused[1]
            server.transport.resumeProducing()
            # With both going on.
            await middle()
            before = client.written
            await eventually(lambda: client.written > before + 20 * len(CHUNK), "the client to go on")
            for each in (client, server):
                each.end()
            await eventually(
                lambda: (client.received, server.received) == (server.written, client.written), "all that was written"
            )
            assert client.isRight
            assert server.isRight
            assert server.mostWaiting <= 2 * HIGH_MARK + len(CHUNK)
            assert client.mostWaiting <= 2 * HIGH_MARK + len(CHUNK)

    @pytest_twisted.ensureDeferred
    async def test_aPullProducer(self, kind: str, serve: Any) -> None:
        """A file goes out at the pace of the client, and `loseConnection` in the middle of it waits for its end."""
        client, factory = Kept(), Factory.forProtocol(Kept)
        async with self.talk(kind, factory, client) as (_, server, middle):
            await middle()
            client.transport.pauseProducing()
            content = CHUNK * 100
            sending = FileSender().beginFileTransfer(BytesIO(content), server.transport)
            server.transport.loseConnection()
            client.transport.resumeProducing()
            await within(sending, "the file")
            await eventually(lambda: client.ends and server.ends, "the end")
            assert client.received == content
            assert [type(each) for each in server.ends] == [ConnectionDone]

    @pytest_twisted.ensureDeferred
    async def test_theEndBehindAProxy(self, kind: str, serve: Any) -> None:
        """Twisted's own proxy, which never lets go of its producers, ends a session whose TCP server ends."""
        target, servers, proxy = await proxied(Kept)
        client = Kept()
        async with self.talk(kind, proxy, client) as (_, between, middle):
            await eventually(lambda: servers, "the server behind")
            await middle()
            servers[0].transport.write(CHUNK * 40)
            servers[0].transport.loseConnection()
            await eventually(lambda: client.ends, "the end")
            assert client.received == CHUNK * 40
            assert between.transport.connected is False
        await within(target.stopListening(), "the end of the server behind")

    @pytest_twisted.ensureDeferred
    async def test_aProxy(self, kind: str, serve: Any) -> None:
        """Twisted's own proxy carries sessions on to a TCP server: each direction at the pace of the slower end."""
        target, servers, proxy = await proxied(Stream)
        client = Stream()
        async with self.talk(kind, proxy, client, httpCompression=False) as (_, between, middle):
            await eventually(lambda: servers, "the server behind")
            (server,) = servers
            for each in (client, server):
                each.transport.pauseProducing()
                each.begin()
            await eventually(lambda: server.pauses and client.pauses, "both to be paused")
            moving = Deferred.fromCoroutine(middle())
            # What the proxy reads at once.
            assert between.transport.socket.bufferedAmount <= 2 * HIGH_MARK + 65536
            for each in (client, server):
                each.transport.resumeProducing()
            await within(moving, "the upgrade")
            for each in (client, server):
                each.end()
            await eventually(
                lambda: (client.received, server.received) == (server.written, client.written), "all that was written"
            )
            assert client.isRight
            assert server.isRight
            client.transport.loseConnection()
            await eventually(lambda: server.lost, "the end behind the proxy")
            assert server.lost.check(ConnectionDone)
        await within(target.stopListening(), "the end of the server behind")


# The life of a session, without a network


def connected(session: Session, text: bool = False) -> tuple[Kept, SessionTransport]:
    """A protocol on a session."""
    protocol, transport = Kept(), SessionTransport(session.socket, text)
    transport.begin(protocol)
    return protocol, transport


def test_interfaces() -> None:
    """What Twisted's protocols, endpoints and services expect is there."""
    _, transport = connected(Session())
    for interface in (ITransport, IConsumer, IPushProducer):
        assert verifyObject(interface, transport)
    endpoint = SessionEndpoint(Server(reactor=Clock()))
    assert verifyObject(IStreamServerEndpoint, endpoint)
    assert verifyObject(IListeningPort, result(endpoint.listen(Factory.forProtocol(Kept))))
    assert verifyObject(IAddress, PathAddress("/chat"))


def result(deferred: Deferred[Any]) -> Any:
    """What a Deferred has fired with; the failure is raised."""
    results: list[Any] = []
    deferred.addBoth(results.append)
    (only,) = results
    if hasattr(only, "raiseException"):
        only.raiseException()
    return only


def test_bothKindsOfMessages() -> None:
    """Text and binary are bytes for the protocol, and what it writes is binary."""
    session = Session()
    protocol, transport = connected(session)
    session.transport.receive(PacketType.MESSAGE, "r\u00e9sum\u00e9 ")
    session.transport.receive(PacketType.MESSAGE, b"\xff\x00")
    assert protocol.received == "r\u00e9sum\u00e9 ".encode() + b"\xff\x00"
    transport.write(b"one")
    transport.writeSequence([b"t", b"wo"])
    transport.write(bytearray(b"three"))  # type: ignore[arg-type]
    transport.write(memoryview(b"four"))  # type: ignore[arg-type]
    transport.write(b"")
    assert session.transport.texts() == [b"one", b"two", b"three", b"four"]
    with pytest.raises(TypeError, match="str can't be written: expected bytes"):
        transport.write("five")  # type: ignore[arg-type]


def test_largeWrites() -> None:
    """What is written at once beyond 64 KiB goes out as several messages, with nothing left out."""
    session = Session()
    _, transport = connected(session)
    data = CHUNK * 9 + b"x"
    transport.write(data)
    sent = session.transport.texts()
    assert [len(each) for each in sent] == [MESSAGE_SIZE, MESSAGE_SIZE, len(data) - 2 * MESSAGE_SIZE]
    assert b"".join(sent) == data  # type: ignore[arg-type]


def test_text() -> None:
    """As text, characters stay whole wherever they are cut."""
    session = Session()
    _, transport = connected(session, text=True)
    euro = "\u20ac".encode()
    transport.write(b"1 " + euro[:2])
    transport.write(euro[2:])
    transport.write(euro[:1])
    transport.write(euro[1:] + b"!")
    assert session.transport.texts() == ["1 ", "\u20ac", "\u20ac!"]
    transport.write(euro * 30000)
    assert "".join(session.transport.texts()[3:]) == "\u20ac" * 30000  # type: ignore[arg-type]


@pytest.mark.parametrize("written", [[b"good", b"\xff"], [b"good\xc3", b"abc"], [b"good", CHUNK * 5 + b"\xff"]])
def test_whatIsNoText(written: list[bytes], loggedErrors: Any) -> None:
    """What isn't UTF-8 is an error where it is written, and ends the session; nothing of that write goes out."""
    session = Session()
    protocol, transport = connected(session, text=True)
    transport.write(written[0])
    with pytest.raises(ValueError, match="utf-8"):
        transport.write(written[1])
    transport.write(b"behind the gap")
    session.clock.advance(0)
    assert session.transport.texts() == ["good"]
    assert [type(each) for each in protocol.ends] == [UnicodeDecodeError]
    assert [each["session"] for each in loggedErrors] == [session.socket.logName]
    loggedErrors.clear()


def test_aPartOfACharacter(loggedErrors: Any) -> None:
    """One that isn't all there in the end is no clean end, and is logged; what is before it arrives."""
    session = Session()
    protocol, transport = connected(session, text=True)
    transport.write("caf\u00e9".encode()[:-1])
    transport.loseConnection()
    session.clock.advance(0)
    assert session.transport.texts() == ["caf"]
    assert [type(each) for each in protocol.ends] == [UnicodeDecodeError]
    assert [each["session"] for each in loggedErrors] == [session.socket.logName]
    loggedErrors.clear()


def test_largeText() -> None:
    """No message is larger than 64 KiB, whatever characters take, and none of these is cut."""
    session = Session()
    _, transport = connected(session, text=True)
    text = "a" * 70000 + "\U0001f600" * 40000
    for data in (b"b" * 70000, text.encode()):
        transport.write(data)
    sent = [each for each in session.transport.texts() if isinstance(each, str)]
    assert [len(each) for each in sent[:2]] == [MESSAGE_SIZE, 70000 - MESSAGE_SIZE]
    assert "".join(sent[2:]) == text
    assert max(len(each.encode()) for each in sent) <= MESSAGE_SIZE


@pytest.mark.parametrize(
    ("end", "expected", "says"),
    [
        (lambda session: session.socket.close(), ConnectionDone, ""),
        (lambda session: session.socket.shutDown(), ConnectionDone, ""),
        (lambda session: closedBy(session, "transport close", "close packet"), ConnectionDone, ""),
        (lambda session: closedBy(session, "transport close", "close frame with code 1001"), ConnectionDone, ""),
        (
            lambda session: closedBy(session, "transport close", "connection lost: reset"),
            ConnectionLost,
            "transport close: connection lost: reset",
        ),
        (
            lambda session: session.clock.advance(25) or session.clock.advance(20),
            ConnectionLost,
            "ping timeout: no pong within pingTimeout, 20000 ms",
        ),
    ],
)
def test_ends(end: Any, expected: type[Exception], says: str) -> None:
    """An end that either side meant is `ConnectionDone`, any other `ConnectionLost` with its reason; once each."""
    session = Session()
    protocol, transport = connected(session)
    end(session)
    assert not transport.connected
    assert transport.disconnecting
    session.clock.advance(0)
    assert [type(each) for each in protocol.ends] == [expected]
    assert " ".join(protocol.ends[0].args) == says
    for again in (transport.loseConnection, transport.abortConnection, transport.stopProducing):
        again()
    transport.write(b"late")
    transport.pauseProducing()
    transport.resumeProducing()
    assert session.transport.texts() == []
    assert session.isQuiet()
    assert len(protocol.ends) == 1


def closedBy(session: Session, reason: Any, description: str) -> None:
    session.socket.transportClosed(session.transport, Closing(CloseReason(reason), description))


def test_whatNeverArrived() -> None:
    """A client that doesn't take what was written before the end isn't a clean end."""
    session = Session()
    session.transport.writable = False
    protocol, transport = connected(session)
    transport.write(b"never taken")
    transport.loseConnection()
    session.clock.advance(CLOSING_TIMEOUT)
    session.clock.advance(0)
    assert [type(each) for each in protocol.ends] == [ConnectionLost]
    assert protocol.ends[0].args == ("forced close: the client did not take what was buffered",)


def test_abortConnection() -> None:
    """What waits is dropped, and nothing is delivered any more; the protocol is told, though not inside of that."""
    session = Session()
    session.transport.writable = False
    protocol, transport = connected(session)
    transport.write(b"never taken")
    transport.abortConnection()
    session.transport.receive(PacketType.MESSAGE, b"too late")
    assert session.socket.writeBuffer == []
    assert protocol.ends == []
    session.clock.advance(0)
    assert [type(each) for each in protocol.ends] == [ConnectionAborted]
    assert protocol.received == b""


@pytest.mark.parametrize("method", ["write", "loseConnection", "abortConnection", "unregisterProducer"])
@pytest.mark.parametrize("event", ["connectionMade", "dataReceived"])
def test_theEndIsNeverToldInside(method: str, event: str) -> None:
    """What a protocol does may end its session, but `connectionLost` comes when it is done, as over TCP; once."""
    session = Session(maxBufferedBytes=1000)
    told: list[str] = []

    class Ends(Protocol):
        def end(self, data: bytes = b"") -> None:
            assert isinstance(self.transport, SessionTransport)
            if method == "unregisterProducer":
                self.transport.registerProducer(Pusher(), False)
                self.transport.loseConnection()
            session.transport.writable = method != "write"
            getattr(self.transport, method)(*[b"x" * 600] * (method == "write"))
            getattr(self.transport, method)(*[b"x" * 600] * (method == "write"))
            told.append(f"{self.transport.connected} {self.transport.disconnecting}")

        def connectionLost(self, reason: Any = None) -> None:
            told.append("lost")

    setattr(Ends, event, Ends.end)
    SessionTransport(session.socket).begin(Ends())
    for data in (b"a", b"b"):
        session.transport.receive(PacketType.MESSAGE, data)
    assert told == ["False True"]
    session.clock.advance(0)
    assert told == ["False True", "lost"]
    assert session.isQuiet()


def test_theEndInARoom() -> None:
    """Who goes through all protocols of a factory, and ends some on the way, misses none."""
    members: list[Protocol] = []

    class Member(Kept):
        def connectionMade(self) -> None:
            members.append(self)

        def dataReceived(self, data: bytes) -> None:
            for each in members:
                assert each.transport is not None
                each.transport.write(data)
                each.transport.loseConnection()

        def connectionLost(self, reason: Any = None) -> None:
            members.remove(self)

    with MemoryServer(lambda server: SessionEndpoint(server).listen(Factory.forProtocol(Member)) and None) as kit:
        clients = [kit.connect("websocket") for _ in range(3)]
        clients[0].send(b"all out")
        assert [each.received for each in clients] == [[b"all out"]] * 3
        assert [each.readyState for each in clients] == ["closed"] * 3
        assert members == []


def test_stoppingTwice() -> None:
    """Whoever stops a port that is stopping waits for the same, and the factory is stopped once; a failure is told."""
    server, factory, told = Server(reactor=Clock()), Counting(), []
    port = SessionPort(server, factory, False, server.close)
    port.startListening()
    kit = MemoryServer(server)
    client = kit.connect("websocket")
    client.pauseReading()
    client.socket.send(b"x" * 2 * HIGH_MARK)
    for name in ("first", "second"):
        port.stopListening().addCallback(lambda _, name=name: told.append(name))
    kit.settle()
    assert (told, factory.happened) == ([], ["start"])
    client.resumeReading()
    kit.settle()
    assert (told, factory.happened) == (["first", "second"], ["start", "stop"])
    result(port.stopListening())
    kit.close()
    factory.stopFactory = failingToBuild  # type: ignore[method-assign]
    failing = SessionPort(Server(reactor=Clock()), factory, False)
    failing.startListening()
    with pytest.raises(LookupError):
        result(failing.stopListening())


@pytest.mark.parametrize("drain", [False, True])
def test_closingWaitsForTheProtocols(drain: bool) -> None:
    """A server is closed when each protocol has learned of its end: the reactor may stop then."""
    server = Server(reactor=Clock())
    factory = Counting()
    built = connectedTo(factory)
    SessionEndpoint(server).listen(factory)
    kit = MemoryServer(server)
    kit.connect("websocket")
    ends: list[int] = []
    server.close(drain=drain).addCallback(lambda _: ends.append(len(built[0].ends)))
    kit.settle()
    assert ends == [1]
    kit.close()


def test_nothingComesAfterLoseConnection() -> None:
    """What the client sends after `loseConnection` isn't delivered, also where a pull producer still writes."""
    session = Session()
    session.transport.room = 1
    protocol, transport = connected(session)
    sending = FileSender().beginFileTransfer(BytesIO(CHUNK * 10), transport)
    transport.stopProducing()
    assert transport.disconnecting
    session.transport.receive(PacketType.MESSAGE, b"too late")
    transport.loseConnection()
    while not sending.called:
        session.transport.ready()
        session.clock.advance(0)
    session.clock.advance(0)
    assert protocol.received == b""
    assert b"".join(session.transport.texts()) == CHUNK * 10  # type: ignore[arg-type]
    assert [type(each) for each in protocol.ends] == [ConnectionDone]


def test_whatAPushProducerStillWrites() -> None:
    """After `loseConnection` a push producer may write until it lets go, turn by turn, and all of that arrives."""
    session = Session()
    protocol, transport = connected(session)
    producer = Pusher()
    transport.registerProducer(producer, True)
    transport.write(b"one")
    transport.loseConnection()
    pieces = [b"two", b"three"]

    def produce() -> None:
        session.transport.receive(PacketType.MESSAGE, b"too late")
        if pieces:
            transport.write(pieces.pop(0))
            session.clock.callLater(0, produce)
        else:
            transport.unregisterProducer()
            transport.write(b"too late")

    session.clock.callLater(0, produce)
    session.clock.advance(0)
    assert session.transport.texts() == [b"one", b"two", b"three"]
    assert (protocol.received, producer.told) == (b"", [])
    assert [type(each) for each in protocol.ends] == [ConnectionDone]
    assert session.isQuiet()


def test_aPausedProducerGoesOn() -> None:
    """A push producer that is paused when its session is to end is resumed, as by TCP, when there is room."""
    session = Session()
    protocol, transport = connected(session)
    producer = Pusher()
    transport.registerProducer(producer, True)
    session.transport.room = 0
    session.transport.writable = False
    transport.write(b"x" * (HIGH_MARK + 1))
    transport.loseConnection()
    session.clock.advance(1)
    assert (producer.told, protocol.ends) == (["pause"], [])
    session.transport.ready()
    transport.write(b"last")
    transport.unregisterProducer()
    session.clock.advance(0)
    assert producer.told == ["pause", "resume"]
    assert session.transport.texts()[-1] == b"last"
    assert [type(each) for each in protocol.ends] == [ConnectionDone]
    assert session.isQuiet()


def test_aProducerThatNeverLetsGo() -> None:
    """One that says nothing, as a lost connection doesn't, keeps its session no longer than what it wrote takes."""
    session = Session()
    protocol, transport = connected(session)
    transport.registerProducer(Pusher(), True)
    session.transport.writable = False
    transport.write(b"all of it")
    transport.loseConnection()
    session.clock.advance(1)
    session.clock.advance(1)
    assert protocol.ends == []
    session.transport.ready()
    for _ in range(3):
        session.clock.advance(0)
    assert session.transport.texts() == [b"all of it"]
    assert [type(each) for each in protocol.ends] == [ConnectionDone]
    assert session.isQuiet()


@pytest.mark.parametrize("streaming", [False, True])
def test_aProducerThatIsCut(streaming: bool) -> None:
    """A producer that is stopped as the server closes hasn't written all: that isn't a clean end."""
    session = Session()
    protocol, transport = connected(session)
    transport.registerProducer(Pusher(), streaming)
    session.socket.goAway(60)
    session.clock.advance(0)
    assert [each.args for each in protocol.ends] == [("server shutting down: the server is closing",)]
    assert [type(each) for each in protocol.ends] == [ConnectionLost]


def test_producers() -> None:
    """A second producer is refused; one of a session that is over is told to stop, and doesn't keep it from ending."""
    session = Session()
    _, transport = connected(session)
    producer = Stream()
    transport.registerProducer(producer, True)
    with pytest.raises(RuntimeError):
        transport.registerProducer(producer, True)
    transport.unregisterProducer()
    transport.loseConnection()
    transport.registerProducer(producer, False)
    assert producer.isTold
    transport.unregisterProducer()
    assert not transport._isPulling


def failing(method: str) -> Any:
    """A protocol of which one method fails."""

    class Failing(Kept):
        pass

    def fails(self: Any, *args: Any) -> None:
        if method == "connectionLost":
            self.ends.append(args[0].value)
        raise LookupError(method)

    setattr(Failing, "connectionMade" if method == "makeConnection" else method, fails)
    return Failing()


@pytest.mark.parametrize("method", ["makeConnection", "dataReceived"])
def test_protocolsThatFail(method: str, loggedErrors: Any) -> None:
    """What a protocol raises is logged with its session, emitted as `error`, and ends the session, as over TCP."""
    session = Session()
    protocol, transport = failing(method), SessionTransport(session.socket)
    transport.begin(protocol)
    for data in (b"a", b"b"):
        session.transport.receive(PacketType.MESSAGE, data)
    session.clock.advance(0)
    assert [type(each) for each in protocol.ends] == [LookupError]
    assert [each[0] for each in session.events if each[0] in ("error", "close")] == ["error", "close"]
    (event,) = loggedErrors
    assert event["session"] == session.socket.logName
    loggedErrors.clear()


def test_connectionLostThatFails(loggedErrors: Any) -> None:
    """So is what it raises in the end."""
    session = Session()
    protocol, transport = failing("connectionLost"), SessionTransport(session.socket)
    transport.begin(protocol)
    session.socket.close()
    session.clock.advance(0)
    assert len(protocol.ends) == 1
    assert len(session.host._streams) == 0
    (event,) = loggedErrors
    assert event["session"] == session.socket.logName
    loggedErrors.clear()


def test_heldBack() -> None:
    """A paused protocol gets what came meanwhile, in order, when it goes on; not after it failed on some of it."""
    session = Session()
    protocol, transport = connected(session)
    transport.pauseProducing()
    for data in (b"a", b"b"):
        session.transport.receive(PacketType.MESSAGE, data)
    assert (protocol.received, session.transport.isHeldBack) == (b"", True)
    transport.resumeProducing()
    assert protocol.received == b""
    session.clock.advance(0)
    assert (protocol.received, session.transport.isHeldBack) == (b"ab", False)
    # The last word counts; and the end of a session leaves nothing to be resumed.
    transport.pauseProducing()
    transport.resumeProducing()
    transport.pauseProducing()
    session.transport.receive(PacketType.MESSAGE, b"c")
    session.clock.advance(0)
    assert protocol.received == b"ab"
    transport.resumeProducing()
    transport.resumeProducing()
    transport.abortConnection()
    session.clock.advance(0)
    assert protocol.received == b"ab"
    assert session.isQuiet()


def test_webOverSessions() -> None:
    """
    A site of Twisted's, which pauses its transport while it answers, answers what came meanwhile too.

    It goes on in the middle of what it does with the first request.
    """
    waiting: list[Any] = []

    class Slow(Resource):
        isLeaf = True

        def render_GET(self, request: Any) -> Any:
            waiting.append(request)
            return NOT_DONE_YET

        def render_POST(self, request: Any) -> bytes:
            return b"%d" % len(request.content.read())

    site = web.Site(Slow(), reactor=Clock())  # type: ignore[arg-type]
    site.noisy = False
    with MemoryServer(lambda server: SessionEndpoint(server).listen(site) and None) as kit:
        client = kit.connect(upgrade=False)
        # So that one POST has several messages.
        client.delay(0.01)
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100000
        for start in range(0, len(post), 8192):
            client.send(post[start : start + 8192])
        kit.advance(5)
        (request,) = waiting
        request.write(b"one")
        request.finish()
        kit.advance(5)
        answers = b"".join(client.receiveAll())  # type: ignore[arg-type]
        assert answers.count(b"HTTP/1.1 200") == 2
        assert answers.endswith(b"\r\n\r\n100000")


def test_addresses() -> None:
    """`getPeer` and `getHost` are the connection's; behind a trusted proxy the peer is whom the proxy names."""
    direct = Session()
    direct.socket.request.getHost = lambda: IPv4Address("TCP", "192.0.2.1", 3000)
    _, transport = connected(direct)
    assert transport.getPeer() == IPv4Address("TCP", "192.0.2.7", 1234)
    assert transport.getHost() == IPv4Address("TCP", "192.0.2.1", 3000)
    for header, expected in (
        ("203.0.113.9", IPv4Address("TCP", "203.0.113.9", 0)),
        ("2001:db8::7", IPv6Address("TCP", "2001:db8::7", 0)),
        ("192.0.2.7", IPv4Address("TCP", "192.0.2.7", 1234)),
    ):
        behind = Session(trustedProxies="192.0.2.7")
        behind.socket.request.requestHeaders.setRawHeaders("x-forwarded-for", [header])
        server = Server(trustedProxies="192.0.2.7", reactor=Clock())
        behind.host.addressOf = server._factory.addressOf  # type: ignore[method-assign]
        assert SessionTransport(behind.socket).getPeer() == expected


# The factory


class Counting(Factory):
    """Counts how often it was started and stopped, and knows who may come."""

    noisy = False

    def __init__(self, protocol: Any = Kept) -> None:
        self.happened: list[str] = []
        self.addresses: list[Any] = []
        self.make = protocol

    def startFactory(self) -> None:
        self.happened.append("start")

    def stopFactory(self) -> None:
        self.happened.append("stop")

    def buildProtocol(self, address: Any) -> Any:
        self.addresses.append(address)
        return self.make()


def test_attached() -> None:
    """The sessions of a server on a site of the application's are taken until that is stopped, and then go on."""
    server = attach(Site(Nothing()), reactor=Clock(), path="/chat")
    factory = Counting()
    port = result(SessionEndpoint(server).listen(factory))
    assert (port.getHost(), port.server) == (PathAddress("/chat"), server)
    session = Session()
    server.emit("connection", session.socket)
    assert factory.addresses == [IPv4Address("TCP", "192.0.2.7", 1234)]
    result(port.stopListening())
    result(port.stopListening())
    server.emit("connection", session.socket)
    assert (len(factory.addresses), session.socket.readyState) == (1, "open")
    assert factory.happened == ["start", "stop"]
    port.startListening()
    assert factory.happened == ["start", "stop", "start"]


def test_oneFactoryForASession() -> None:
    """Two factories can't have the same sessions, and one can't have those of a server that closes."""
    server = Server(reactor=Clock())
    port = result(SessionEndpoint(server).listen(Counting()))
    with pytest.raises(CannotListenError, match="another factory has the sessions"):
        result(SessionEndpoint(server).listen(Counting()))
    result(port.stopListening())
    server.close()
    with pytest.raises(CannotListenError, match="the server is closing"):
        port.startListening()


def test_factoriesThatRefuse(loggedErrors: Any) -> None:
    """A session for which a factory builds nothing is closed; so is one for which it fails, which is logged."""
    for make, isLogged in ((lambda: None, False), (failingToBuild, True)):
        server = Server(reactor=Clock())
        result(SessionEndpoint(server).listen(Counting(make)))
        session = Session()
        server.emit("connection", session.socket)
        assert session.closes == [("forced close", "closed by the server")]
        assert [each["session"] for each in loggedErrors] == [session.socket.logName] * isLogged
    loggedErrors.clear()


@pytest.mark.parametrize("discard", [True, False])
def test_sessionsThatOthersClose(discard: bool) -> None:
    """A session that another handler turns away isn't given to the factory, which would never hear of its end."""
    server, factory = Server(reactor=Clock()), Counting()
    server.on("connection", lambda socket: socket.close(discard))
    result(SessionEndpoint(server).listen(factory))
    session = Session("polling")
    session.transport.writable = False
    server.emit("connection", session.socket)
    assert factory.addresses == []
    session.socket.close(discard=True)


@pytest_twisted.ensureDeferred
async def test_asAService(serve: Any) -> None:
    """Twisted's services, which know descriptions and nothing else, serve sessions, and stop in order."""
    factory, client = Counting(Upside), Lines()
    built = connectedTo(factory)
    service = strports.service(r"engineio:tcp\:0\:interface=127.0.0.1", factory)
    service.startService()
    assert service._waitingForPort is not None
    port = await within(service._waitingForPort, "the port")
    session = SessionClient(port.getHost().port, client, "polling")
    await session.start()
    client.sendLine(b"abc")
    await eventually(lambda: client.lines == [b"cba"], "the line")
    # Restored for the service, which closes it.
    service._waitingForPort = succeed(port)
    built[0].sendLine(b"last")
    await within(service.stopService(), "the end of the service")
    await eventually(lambda: client.lines == [b"cba", b"last"], "the last line")
    await session.end()
    assert factory.happened == ["start", "stop"]


def failingToBuild() -> None:
    raise LookupError("no protocol")


# Older versions of Twisted leave the socket of a port that is taken to the collector.
@pytest.mark.filterwarnings("ignore:.*unclosed <socket:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest_twisted.ensureDeferred
async def test_aServerOfItsOwn(serve: Any) -> None:
    """The port is there when it is said to be, has its address, and is gone with the sessions, who are told."""
    factory = Counting()
    endpoint = SessionEndpoint(LOOPBACK, path="/chat")
    port = await within(endpoint.listen(factory), "the port")
    with pytest.raises(CannotListenError):
        await within(SessionEndpoint(f"tcp:{port.getHost().port}:interface=127.0.0.1").listen(factory), "no port")
    assert isinstance(port, SessionPort)
    assert port.server.opts.path == "/chat"
    await within(port.stopListening(), "the end of the port")
    assert factory.happened == ["start", "stop"]
    with pytest.raises(CannotListenError):
        port.startListening()
    # The endpoint makes another one, also of a factory that fails to start.
    again = await within(endpoint.listen(factory), "another port")
    await within(again.stopListening(), "the end of that")
    broken = Counting()
    broken.startFactory = failingToBuild  # type: ignore[method-assign]
    with pytest.raises(LookupError):
        await within(endpoint.listen(broken), "no port")


def test_givenUp() -> None:
    """To cancel the Deferred of a port that takes its time gives up the port."""

    @implementer(IStreamServerEndpoint)
    class Slow:
        isCancelled = False

        def listen(self, factory: Any) -> Deferred[Any]:
            def cancelled(_: object) -> None:
                self.isCancelled = True

            return Deferred(cancelled)

    slow, factory = Slow(), Counting()
    listening = SessionEndpoint(slow, reactor=Clock()).listen(factory)
    listening.cancel()
    with pytest.raises(CancelledError):
        result(listening)
    assert slow.isCancelled
    assert factory.happened == []


# What it is told


def test_wrongOptions() -> None:
    """What is wrong is said when the endpoint is made, or, of an address, when it is listened on."""
    with pytest.raises(OptionError, match="did you mean pingInterval"):
        SessionEndpoint(0, pingIntervall=5)  # type: ignore[call-arg]
    with pytest.raises(OptionError, match="text='yes': expected True or False"):
        SessionEndpoint(0, text="yes")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="bufferLimitAction='drop': expected close"):
        SessionEndpoint(0, bufferLimitAction="drop")
    with pytest.raises(OptionError, match="bufferLimitAction='raise': expected close"):
        SessionEndpoint(Server(reactor=Clock(), bufferLimitAction="raise"))
    with pytest.raises(TypeError, match="path, reactor given with a Server"):
        SessionEndpoint(Server(reactor=Clock()), path="/chat", reactor=Clock())
    with pytest.raises(ValueError, match="expected a port number"):
        result(SessionEndpoint(70000, reactor=Clock()).listen(Counting()))


@pytest_twisted.ensureDeferred
async def test_description(serve: Any) -> None:
    """An endpoint can be described, with options of the server as text."""
    from twisted.internet import reactor

    described = (
        r"engineio:tcp\:0\:interface=127.0.0.1\:backlog=5:path=/chat:pingInterval=5000:text=true"
        ":transports=polling,websocket:cookie.name=here:cookie.path=false:httpCompression=false"
    )
    port = await within(serverFromString(reactor, described).listen(Counting()), "the port")
    options = port.server.opts
    assert (options.path, options.pingInterval, options.httpCompression) == ("/chat", 5000, None)
    assert options.cookie.name == "here"
    assert port.getHost().host == "127.0.0.1"
    await within(port.stopListening(), "the end of the port")


@pytest.mark.parametrize(
    ("description", "problem"),
    [
        ("engineio:tcp:3000", "with the colons of the other endpoint escaped"),
        ("engineio:path=/chat", "with the colons of the other endpoint escaped"),
        (r"engineio:tcp\:3000:pingIntervall=3", "did you mean pingInterval"),
        (r"engineio:tcp\:3000:pingInterval=soon", "pingInterval='soon': expected a whole number"),
        (r"engineio:tcp\:3000:cookie.nam=x", "cookie.nam='x': there is no such option; did you mean name"),
        (r"engineio:tcp\:3000:cookie=false:cookie.name=x", "cookie=False: not together with cookie.name"),
        (r"engineio:tcp\:3000:static=.", "static='.': there is no such option"),
        (r"engineio:tcp\:3000:a.b=c", "a.b='c': there is no such option"),
        (r"engineio:tcp\:3000:text=yes", "text='yes': expected true or false"),
        (r"engineio:tcp\:3000:allowRequest=nowhere:at.all", "expected engineio"),
    ],
)
def test_wrongDescriptions(description: str, problem: str) -> None:
    """What is wrong with a description is said at once."""
    from twisted.internet import reactor

    with pytest.raises(ValueError, match=problem):
        serverFromString(reactor, description)


def test_optionsAsText() -> None:
    """Each kind of option can be given as text, and an object by its name."""
    given = {"cookie": "true", "cookie.sameSite": "strict", "allowRequest": "builtins:bool", "maxSessions": "9"}
    assert optionsFromText(given) == {
        "cookie": {"sameSite": "strict"},
        "allowRequest": bool,
        "maxSessions": 9,
    }
