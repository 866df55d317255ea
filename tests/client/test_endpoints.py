"""Any Twisted protocol over a session from the end that opens it: what works over TCP works the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
from twisted.application.internet import ClientService
from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.error import (
    ConnectError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    NoProtocol,
)
from twisted.internet.interfaces import IConsumer, IPushProducer, IStreamClientEndpoint, ITransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.protocols.amp import AMP, Command, Integer
from twisted.protocols.basic import LineReceiver
from zope.interface.verify import verifyObject

from engineio_twisted import OptionError
from engineio_twisted.client import ClientSessionEndpoint, ConnectionFailed, FailureType
from engineio_twisted.client.endpoints import ChangingAddress
from engineio_twisted.endpoints import SessionEndpoint
from engineio_twisted.testing import MemoryServer

from ..kit.client_memory import InMemory

URL = "http://127.0.0.1"


class Kept(Protocol):
    """Keeps what comes, and how it ends."""

    def __init__(self) -> None:
        self.received = b""
        self.ends: list[Any] = []

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Any = None) -> None:
        self.ends.append(reason.value)


class Keeping(Factory):
    """Builds protocols of a kind, and keeps them; counts how often it was started and stopped."""

    noisy = False

    def __init__(self, protocol: Any = Kept) -> None:
        self.protocol = protocol
        self.built: list[Any] = []
        self.addresses: list[Any] = []
        self.told: list[str] = []

    def buildProtocol(self, address: Any) -> Any:
        self.addresses.append(address)
        made = self.protocol()
        self.built.append(made)
        return made

    def startFactory(self) -> None:
        self.told.append("start")

    def stopFactory(self) -> None:
        self.told.append("stop")


class Lines(LineReceiver):
    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def lineReceived(self, line: bytes) -> None:
        self.lines.append(line)


class Upside(LineReceiver):
    """Answers each line with the same one backwards."""

    def lineReceived(self, line: bytes) -> None:
        self.sendLine(line.decode()[::-1].encode())


class Sum(Command):
    arguments: ClassVar[Any] = [(b"a", Integer()), (b"b", Integer())]
    response: ClassVar[Any] = [(b"total", Integer())]


class Calculator(AMP):
    """Both ends of a connection: each may ask the other."""

    @Sum.responder
    def sum(self, a: int, b: int) -> dict[str, int]:
        return {"total": a + b}


class Scene:
    """
    Streams between two factories, in memory.

    @ivar theirs: the factory of the server.
    @ivar ours: that of the clients.
    """

    def __init__(self, theirs: Any, ours: Any, text: bool, server: dict[str, Any], client: dict[str, Any]) -> None:
        self.theirs, self.ours = Keeping(theirs), Keeping(ours)
        # Large bodies are compressed by a producer of Twisted's, which goes by the reactor.
        server = {"httpCompression": False, **server}
        self.kit = MemoryServer(lambda server: SessionEndpoint(server, text=text).listen(self.theirs), **server)
        self.network = InMemory(self.kit._network)
        options = {"upgrade": False, "timestampRequests": False, **client}
        self.endpoint = ClientSessionEndpoint(URL, text=text, reactor=self.kit.clock, endpoint=self.network, **options)

    def outcome(self, connecting: Deferred[Any] | None = None) -> Any:
        """Connect, and return the protocol, or why there is none."""
        results: list[Any] = []
        connecting = self.endpoint.connect(self.ours) if connecting is None else connecting
        connecting.addBoth(results.append)
        self.kit.settle()
        assert len(results) == 1, "neither connected nor failed"
        return results[0]

    def connected(self) -> tuple[Any, Any]:
        """Connect, and return the protocols, ours and theirs."""
        ours = self.outcome()
        assert ours is self.ours.built[-1]
        return ours, self.theirs.built[-1]

    def failure(self, kind: type[Exception]) -> Any:
        """Don't connect, and return why."""
        failure = self.outcome()
        assert failure.check(kind), failure
        assert self.ours.told == ["start", "stop"]
        return failure.value


@contextmanager
def scene(
    theirs: Any = Kept,
    ours: Any = Kept,
    *,
    text: bool = False,
    server: dict[str, Any] | None = None,
    **client: Any,
) -> Iterator[Scene]:
    """A scene, of which nothing is left behind: no session, no connection, no timer."""
    made = Scene(theirs, ours, text, server or {}, client)
    with made.kit:
        yield made
        made.kit.settle()


KINDS = {"polling": {}, "websocket": {"transports": ["websocket"]}, "upgrade": {"upgrade": True}}
TRANSPORTS = pytest.mark.parametrize("how", KINDS.values(), ids=KINDS)


@TRANSPORTS
@pytest.mark.parametrize("text", [False, True])
def test_lines(how: dict[str, Any], text: bool) -> None:
    """Lines go both ways, whole and in order, however they are written."""
    with scene(Upside, Lines, text=text, **how) as stage:
        ours, theirs = stage.connected()
        smile = "é😀\r\n".encode()
        for each in (b"one\r\nt", b"wo\r", b"\n", smile[:3], smile[3:]):
            ours.transport.write(each)
        stage.kit.settle()
        theirs.sendLine(b"unasked")
        stage.kit.settle()
        assert ours.lines == [b"eno", b"owt", "😀é".encode(), b"unasked"]
        assert ours.transport.socket.transport.name == ("websocket" if how else "polling")
        ours.transport.loseConnection()


@TRANSPORTS
@pytest.mark.parametrize("text", [False, True])
def test_serverThatTakesLittle(how: dict[str, Any], text: bool) -> None:
    """A stream has no messages: what is larger than the server takes at once goes out as several."""
    with scene(text=text, server={"maxHttpBufferSize": 1000}, **how) as stage:
        ours, theirs = stage.connected()
        sent = "aé😀".encode() * 1000
        ours.transport.write(sent)
        stage.kit.settle()
        assert theirs.received == sent
        ours.transport.loseConnection()


@TRANSPORTS
def test_amp(how: dict[str, Any]) -> None:
    """Each end calls the other."""
    with scene(Calculator, Calculator, **how) as stage:
        both = stage.connected()
        answers: list[Any] = []
        for each in both:
            for number in range(20):
                each.callRemote(Sum, a=number, b=1).addCallback(answers.append)
        stage.kit.settle()
        assert sorted(each["total"] for each in answers) == sorted([*range(1, 21)] * 2)
        both[0].transport.loseConnection()


def test_interfaces() -> None:
    """What Twisted's own code asks for is there."""
    with scene() as stage:
        verifyObject(IStreamClientEndpoint, stage.endpoint)
        ours, _ = stage.connected()
        for each in (ITransport, IConsumer, IPushProducer):
            verifyObject(each, ours.transport)
        assert repr(stage.endpoint) == "<ClientSessionEndpoint http://127.0.0.1/engine.io/>"
        assert ours.transport.socket.transport.name == "polling"
        ours.transport.loseConnection()


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:3000", IPv4Address("TCP", "127.0.0.1", 3000)),
        ("http://[::1]", IPv6Address("TCP", "::1", 80)),
        ("ws://example.org", HostnameAddress(b"example.org", 80)),
    ],
)
def test_addresses(url: str, address: Any) -> None:
    """The peer is the server as the URL names it; this end has no address that lasts."""
    with scene() as stage:
        stage.endpoint = ClientSessionEndpoint(url, reactor=stage.kit.clock, endpoint=stage.network, upgrade=False)
        ours, _ = stage.connected()
        assert stage.ours.addresses == [address]
        assert ours.transport.getPeer() == address
        assert ours.transport.getHost() == ChangingAddress()
        ours.transport.loseConnection()


def test_afterTheFirstMessage() -> None:
    """What comes together with the opening is the beginning of the stream."""
    with scene(server={"initialPacket": "welcome"}) as stage:
        ours, _ = stage.connected()
        assert ours.received == b"welcome"
        ours.transport.loseConnection()


# The end


@TRANSPORTS
def test_loseConnection(how: dict[str, Any]) -> None:
    """What was written arrives, however much, and both ends are clean."""
    with scene(**how) as stage:
        ours, theirs = stage.connected()
        data = bytes(range(256)) * 1000
        ours.transport.write(data)
        ours.transport.loseConnection()
        ours.transport.write(b"too late")
        assert ours.ends == []
        stage.kit.settle()
        assert theirs.received == data
        assert [type(each) for each in (*ours.ends, *theirs.ends)] == [ConnectionDone] * 2
        assert stage.ours.told == ["start", "stop"]


@TRANSPORTS
def test_theServerEnds(how: dict[str, Any]) -> None:
    """What the server has written before it ends arrives, and both ends are clean."""
    with scene(**how) as stage:
        ours, theirs = stage.connected()
        data = bytes(range(256)) * 1000
        theirs.transport.write(data)
        theirs.transport.loseConnection()
        stage.kit.settle()
        assert ours.received == data
        assert [type(each) for each in (*ours.ends, *theirs.ends)] == [ConnectionDone] * 2
        assert not ours.transport.connected


@TRANSPORTS
def test_abortConnection(how: dict[str, Any]) -> None:
    """The end comes at once, in its own turn."""
    with scene(**how) as stage:
        ours, theirs = stage.connected()
        ours.transport.abortConnection()
        assert ours.ends == []
        stage.kit.settle()
        assert [type(each) for each in ours.ends] == [ConnectionAborted]
        assert len(theirs.ends) == 1


@TRANSPORTS
def test_lost(how: dict[str, Any]) -> None:
    """A connection that is lost is no clean end."""
    with scene(**how) as stage:
        ours, theirs = stage.connected()
        for each in list(stage.kit._network.connections):
            each.abortConnection()
        stage.kit.settle()
        assert [type(each) for each in (*ours.ends, *theirs.ends)] == [ConnectionLost] * 2
        assert ours.transport.socket.failure.type is FailureType.LOST


# What doesn't connect


def test_refused() -> None:
    """A server that isn't there is a failure of the client's kind."""
    with scene() as stage:
        stage.network.failure = ConnectError()
        assert stage.failure(ConnectionFailed).type is FailureType.CONNECT


def test_notFound() -> None:
    """A server that isn't one of Engine.IO is, too."""
    with scene(path="/elsewhere") as stage:
        assert stage.failure(ConnectionFailed).response.status == 404


def test_timeout() -> None:
    """A connection that is never made ends with the deadline."""
    with scene(connectTimeout=5000) as stage:
        stage.network.isReachable = False
        outcomes: list[Any] = []
        stage.endpoint.connect(stage.ours).addErrback(outcomes.append)
        stage.kit.advance(4.9)
        assert outcomes == []
        stage.kit.advance(0.2)
        assert outcomes[0].value.type is FailureType.TIMEOUT


@pytest.mark.parametrize("isReachable", [False, True])
def test_cancelled(isReachable: bool) -> None:
    """Cancelling closes what was begun, whether the connection is there or not."""
    with scene() as stage:
        stage.network.isReachable = isReachable
        connecting = stage.endpoint.connect(stage.ours)
        connecting.cancel()
        assert stage.outcome(connecting).check(CancelledError)
        assert stage.ours.told == ["start", "stop"]
        assert stage.ours.built == []


def test_noProtocol() -> None:
    """A factory that wants no protocol closes the session."""
    with scene(ours=lambda: None) as stage:
        assert stage.failure(NoProtocol)
        assert [type(each) for each in stage.theirs.built[0].ends] == [ConnectionDone]


def test_factoryThatFails() -> None:
    """So does one that raises, and that is what the caller gets."""

    def fails() -> Any:
        raise ZeroDivisionError

    with scene(ours=fails) as stage:
        assert stage.failure(ZeroDivisionError)


class Failing(Kept):
    """Fails as it is connected."""

    def connectionMade(self) -> None:
        raise ZeroDivisionError


def test_protocolThatFails(loggedErrors: Any) -> None:
    """A protocol that fails at once is no connection; it hears of the end with its own failure."""
    with scene(ours=Failing) as stage:
        assert stage.failure(ZeroDivisionError)
        assert [type(each) for each in stage.ours.built[0].ends] == [ZeroDivisionError]
        stage.kit.errors.clear()
    assert [each["event"] for each in loggedErrors] == ["makeConnection"]
    loggedErrors.clear()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"url": "example.org"}, "url"),
        ({"text": "yes"}, "text"),
        ({"bufferLimitAction": "drop"}, "a stream can't go on"),
        ({"reconnection": True}, "use a ClientService"),
    ],
)
def test_wrongOptions(options: dict[str, Any], problem: str) -> None:
    """What is wrong is an error at once, before anything is connected."""
    with pytest.raises(OptionError, match=problem):
        ClientSessionEndpoint(**{"url": URL, **options})


# Reconnecting


def test_reconnecting() -> None:
    """
    A L{ClientService} connects again by its own policy, and nothing stale is sent.

    Each connection is another session: what the one before couldn't send was dropped with it.
    """
    with scene(Kept, Kept, connectTimeout=1000) as stage:
        service = ClientService(
            stage.endpoint, stage.ours, retryPolicy=lambda attempts: 5.0 * attempts, clock=stage.kit.clock
        )
        service.startService()
        stage.kit.settle()
        first = stage.ours.built[0]
        first.transport.write(b"first ")
        stage.kit.settle()
        stage.network.isReachable = False
        for each in stage.kit._network.connections:
            each.vanish()
        first.transport.write(b"stale ")
        stage.kit.advance(60)
        assert [type(each) for each in first.ends] == [ConnectionLost]
        # Attempts fail, and are further and further apart.
        stage.network.isReachable = True
        stage.kit.advance(60)
        second = stage.ours.built[1]
        second.transport.write(b"second")
        stage.kit.settle()
        assert [each.received for each in stage.theirs.built] == [b"first ", b"second"]
        stopped: list[Any] = []
        service.stopService().addCallback(stopped.append)
        stage.kit.settle()
        assert stopped == [None]
        assert [type(each) for each in second.ends] == [ConnectionDone]
        stage.kit.advance(60)


@TRANSPORTS
def test_resuming(how: dict[str, Any]) -> None:
    """A session that survives the loss of its connections is one stream: nothing of it is lost, doubled or moved."""
    with scene(server={"resumeTimeout": 60000}, resume=True, **how) as stage:
        ours, theirs = stage.connected()
        for number in range(20):
            for each in (ours, theirs):
                each.transport.write(b"%d " % number)
            if number % 5 == 2:
                for connection in list(stage.kit._network.connections):
                    connection.abortConnection()
            if number % 5 == 4:
                stage.kit.advance(10)
        stage.kit.advance(30)
        expected = b"".join(b"%d " % number for number in range(20))
        assert (ours.received, theirs.received) == (expected, expected)
        assert ours.ends == theirs.ends == []
        ours.transport.loseConnection()
        stage.kit.settle()
        assert [type(each) for each in (*ours.ends, *theirs.ends)] == [ConnectionDone] * 2


# Descriptions

ENDPOINT: Any = None


def test_description() -> None:
    """The endpoint of a description has its URL and its options, objects by name included."""
    global ENDPOINT
    with scene(text=True, server={"path": "/chat"}) as stage:
        ENDPOINT = stage.network
        description = (
            r"engineio:http\://127.0.0.1\:3000/chat?a=1&b=2:transports=polling:text=true:query.token=a=b"
            rf":extraHeaders.x-token=secret:endpoint={__name__}\:ENDPOINT"
        )
        stage.endpoint = clientFromString(stage.kit.clock, description)
        ours, theirs = stage.connected()
        request = theirs.transport.socket.request
        assert request.uri.startswith(b"/chat/?a=1&b=2&token=a%3Db&EIO=4&transport=polling")
        assert request.getHeader("x-token") == "secret"
        assert request.getHeader("host") == "127.0.0.1:3000"
        ours.transport.write("é".encode()[:1])
        ours.transport.write("é".encode()[1:])
        stage.kit.settle()
        assert theirs.received == "é".encode()
        ours.transport.loseConnection()


@pytest.mark.parametrize(
    ("description", "problem"),
    [
        ("engineio:", "url=''"),
        ("engineio:https://example.org", "colons of the URL escaped"),
        (r"engineio:https\://example.org:ws\://example.org", "colons of the URL escaped"),
        (r"engineio:https\://example.org:pingInterval=1", "the server says in its handshake"),
        (r"engineio:https\://example.org:text=maybe", "expected true or false"),
        (r"engineio:https\://example.org:query=a", "query.NAME=VALUE"),
        (r"engineio:https\://example.org:connectTimeout=soon", "a whole number of milliseconds"),
        (r"engineio:https\://example.org:agent=nobody", "expected module:attribute"),
        (r"engineio:ftp\://example.org", "begins with http:"),
    ],
)
def test_wrongDescriptions(description: str, problem: str) -> None:
    """Whatever is wrong with a description is said as it is read."""
    with pytest.raises(ValueError, match=problem):
        clientFromString(Clock(), description)
