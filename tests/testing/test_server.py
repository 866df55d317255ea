"""The test kit: what a client in memory does by itself, what a test can have it do, and that nothing gets past it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, LoopingCall, deferLater
from twisted.logger import LogEvent, globalLogPublisher
from twisted.web.http_headers import Headers
from twisted.web.resource import Resource
from twisted.web.server import Site as TwistedSite
from twisted.web.static import Data

from engineio_twisted import EngineIOResource, ErrorCode, OptionError, Packet, PacketType, RequestRefused, Server, Site
from engineio_twisted.testing import End, HandshakeRefused, MemoryClient, MemoryServer, Response
from engineio_twisted.testing.ends import BUFFER
from engineio_twisted.testing.kit import Kit
from engineio_twisted.testing.network import MemoryConnection, MemoryNetwork
from engineio_twisted.testing.requests import ProtocolViolation, Requests
from engineio_twisted.testing.websocket import ClientWebSocket

Engine = Callable[..., MemoryServer]

KINDS: dict[str, dict[str, Any]] = {
    "polling": {"upgrade": False},
    "websocket": {"transport": "websocket"},
    "upgraded": {},
    "jsonp": {"jsonp": True, "upgrade": False},
    "polling 3": {"protocol": 3, "upgrade": False},
    "websocket 3": {"protocol": 3, "transport": "websocket"},
    "upgraded 3": {"protocol": 3},
    "octet by octet": {"split": 1},
}


def echo(server: Server) -> None:
    """Send every message back."""

    @server.on("connection")
    def connected(socket: Any) -> None:
        socket.on("message", lambda data: socket.send(data) and None)


def nothing(server: Server) -> None:
    """Take what comes."""


def closes(client: MemoryClient) -> list[tuple[str, str]]:
    """How the session of a client ends, as the application sees it, once it does."""
    ends: list[tuple[str, str]] = []
    client.socket.on("close", lambda *args: ends.append(args))
    return ends


@pytest.fixture(params=KINDS, ids=list(KINDS))
def kind(request: pytest.FixtureRequest) -> dict[str, Any]:
    return KINDS[request.param]


@pytest.fixture
def mayLog(leavesNothingBehind: None, loggedErrors: list[LogEvent]) -> Iterator[None]:
    """For a test in which the application fails, which is logged too."""
    yield
    assert loggedErrors != []
    loggedErrors.clear()


# What a client does by itself


@pytest.mark.parametrize("data", ["a", "", "€ 😀", "a\nb\\nc", "x" * 5000, "x" * 70_000, b"", b"\x00\xff" * 100])
def test_messages(engineio: Engine, kind: dict[str, Any], data: str | bytes) -> None:
    """They arrive as they were sent, in both directions, before the next line of a test."""
    client = engineio(echo, allowEIO3=True).connect(**kind)
    client.send(data)
    assert client.receive() == data
    assert client.received == [data]
    assert client.unread == []


def test_upgradesUnlessTold(engineio: Engine, kind: dict[str, Any]) -> None:
    """It is on the transport that was asked for, or has upgraded to; the application is where the client is."""
    kit = engineio(nothing, allowEIO3=True)
    client = kit.connect(**kind)
    expected = "polling" if kind.get("upgrade") is False else "websocket"
    assert (client.transport, client.socket.transport.name) == (expected, expected)
    assert client.socket.upgraded is (kind.get("transport") is None and expected == "websocket")
    assert (client.readyState, client.closed, client.refused, client.upgradeFailed) == ("open", None, None, None)
    assert (client.sid, kit.clients) == (client.socket.id, [client])
    assert client.handshake["pingInterval"] == 25000


def test_whatIsSentAtOnceArrives(engineio: Engine, kind: dict[str, Any]) -> None:
    """In order: the initial packet, what is sent on connection, and what is sent around an upgrade."""

    def application(server: Server) -> None:
        @server.on("connection")
        def connected(socket: Any) -> None:
            socket.send("from connection")
            socket.on("upgrading", lambda _: socket.send("from upgrading") and None)
            socket.on("upgrade", lambda _: socket.send("from upgrade") and None)

    client = engineio(application, initialPacket="first", allowEIO3=True).connect(**kind)
    around = ["from upgrading", "from upgrade"] if client.socket.upgraded else []
    assert client.receiveAll() == ["first", "from connection", *around]


def test_upgradeInTheMiddle(engineio: Engine) -> None:
    """Asked for later; nothing is lost of what both sides say meanwhile."""
    client = engineio(echo).connect(upgrade=False)
    client.send("before")
    client.delay(0.01)
    client.upgrade()
    client.socket.send("meanwhile")
    assert (client.transport, client.receiveAll()) == ("polling", ["before"])
    client.send("and so")
    client._server.advance(1)
    assert client.transport == "websocket"
    assert client.receiveAll() == ["meanwhile", "and so"]
    with pytest.raises(AssertionError, match=r"no session on polling that could upgrade: <MemoryClient .* websocket"):
        client.upgrade()


@pytest.mark.parametrize("protocol", [3, 4])
def test_talkingWhileItUpgrades(engineio: Engine, protocol: int) -> None:
    """Whatever is said at whatever moment arrives once and in order, in both directions."""
    kit = engineio(echo, allowEIO3=True)
    client = kit.connect(upgrade=False, protocol=protocol)
    client.delay(0.01)
    client.upgrade()
    for number in range(60):
        client.send(str(number))
        kit.advance(0.003)
    kit.advance(1)
    assert client.transport == "websocket"
    assert client.received == [str(number) for number in range(60)]


def test_fromInsideAHandler(engineio: Engine) -> None:
    """What a handler has a client do happens when the handler is through, as on a network."""
    kit = engineio(echo)
    first, second = kit.connect(), kit.connect()
    seen: list[Any] = []

    @first.socket.on("message")
    def received(data: Any) -> None:
        second.send("from inside")
        seen.append(list(second.received))

    first.send("a")
    assert (seen, second.received) == ([[]], ["from inside"])


def test_noUpgradeWhereThereIsNone(engineio: Engine) -> None:
    """As a client does, it stays on polling where the server has nothing else."""
    client = engineio(nothing, allowUpgrades=False).connect()
    assert (client.transport, client.upgradeFailed) == ("polling", None)


def test_upgradeThatIsRefused(engineio: Engine) -> None:
    """The session goes on; the test can see why."""
    kit = engineio(echo)

    def refuse(request: Any) -> None:
        if request.getHeader("upgrade"):
            request.setResponseCode(502)
            request.setHeader(b"Content-Length", b"5")
            request.write(b"proxy")
            request.finish()

    kit.server.use(refuse)
    client = kit.connect()
    assert (client.transport, client.upgradeFailed) == ("polling", "502 proxy")
    client.send("still")
    assert client.receive() == "still"


def test_upgradeThatTakesTooLong(engineio: Engine) -> None:
    """The server gives it up, and the session goes on."""
    kit = engineio(echo, upgradeTimeout=1000)
    client = kit.connect(upgrade=False)
    client.pauseReading()
    client.upgrade()
    kit.advance(2)
    client.resumeReading()
    assert (client.transport, client.upgradeFailed) == ("polling", "close frame with code 1000")
    client.send("still")
    assert client.receive() == "still"


def test_heartbeats(engineio: Engine, kind: dict[str, Any]) -> None:
    """Pings are answered, or sent, as time passes: the session lasts."""
    kit = engineio(echo, allowEIO3=True)
    client = kit.connect(**kind)
    beats: list[None] = []
    client.socket.on("heartbeat", lambda: beats.append(None))
    kit.advance(110)
    assert (len(beats), client.closed) == (4, None)
    expected = PacketType.PING if client.protocol == 4 else PacketType.PONG
    assert [each.type for each in client.packets if each.data == ""].count(expected) == 4
    client.send("still")
    assert client.receive() == "still"


def test_withoutPings(engineio: Engine, kind: dict[str, Any]) -> None:
    """One that doesn't answer is taken for lost, at the time at which it would be."""
    kit = engineio(nothing, allowEIO3=True)
    client = kit.connect(answersPings=False, **kind)
    ends = closes(client)
    kit.advance(44.9)
    assert ends == []
    kit.advance(0.2)
    assert [reason for reason, _ in ends] == ["ping timeout"]
    assert client.closed is not None
    assert client.closed.reason == "transport close"


def test_manyMessagesInFewRequests(engineio: Engine) -> None:
    """What is said while a POST is on its way goes with the next, of no more than the server takes."""
    kit = engineio(echo, maxHttpBufferSize=100)
    client = kit.connect(upgrade=False)
    client.delay(1)
    messages = [f"{number}".rjust(30) for number in range(9)]
    for each in messages:
        client.send(each)
    kit.advance(20)
    assert client.received == messages
    ends = closes(client)
    client.send("x" * 200)
    kit.advance(10)
    assert ends == [("transport error", "the body is larger than maxHttpBufferSize, 100 bytes")]
    # The 413 and the close packet come on two connections.
    assert client.closed is not None
    assert client.closed.reason in ("transport error", "transport close")


def test_compressedAnswers(engineio: Engine) -> None:
    """Where it is told to, it says that it takes them."""
    kit = engineio(echo)
    client = kit.connect(upgrade=False, headers={"Accept-Encoding": "gzip"})
    before = kit.server.stats().bytesSent
    client.send("x" * 5000)
    assert client.receive() == "x" * 5000
    assert kit.server.stats().bytesSent - before < 500


class Listener:
    """A client's listener that greets and asks once more."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def opened(self, client: MemoryClient) -> None:
        self.heard.append((client.readyState, client.sid is not None))
        client.send("hello")

    def received(self, client: MemoryClient, data: str | bytes) -> None:
        self.heard.append(data)
        if data == "hello":
            client.send("again")

    def ended(self, client: MemoryClient, end: End) -> None:
        self.heard.append(end.reason)


def test_listener(engineio: Engine, kind: dict[str, Any]) -> None:
    """It hears of the opening, of each message and of the end as they happen, and sends from inside."""
    kit = engineio(echo, allowEIO3=True)
    listener = Listener()
    client = kit.connect(listener=listener, **kind)
    assert (client.received, client.upgradeFailed) == (["hello", "again"], None)
    client.close()
    assert listener.heard == [("open", True), "hello", "again", "forced close"]
    with pytest.raises(HandshakeRefused):
        kit.connect(path="/elsewhere", listener=listener)
    assert listener.heard[4:] == ["transport error"]


@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_listenerThatCloses(engineio: Engine, transport: str) -> None:
    """A client may close its session as soon as it is open, and upgrades no more."""

    class Closer(Listener):
        def opened(self, client: MemoryClient) -> None:
            client.close()

    listener = Closer()
    client = engineio(nothing).connect(transport, listener=listener)
    assert (client.readyState, client.upgradeFailed, listener.heard) == ("closed", None, ["forced close"])


# What a test sees


def test_receive(engineio: Engine) -> None:
    """One after the other, or all that are left; where there is none it says what there was."""
    client = engineio(echo).connect()
    with pytest.raises(AssertionError, match=r"no message to receive, none came: <MemoryClient .* on websocket, open>"):
        client.receive()
    for each in ("a", "b", "c"):
        client.send(each)
    assert client.receive() == "a"
    assert client.unread == ["b", "c"]
    assert client.receiveAll() == ["b", "c"]
    assert client.received == ["a", "b", "c"]
    with pytest.raises(AssertionError, match="all 3 were read"):
        client.receive()


def test_whatTheRequestsAre(engineio: Engine) -> None:
    """Headers, query, address and path are those that the test says."""
    kit = engineio(nothing, path="/chat")
    client = kit.connect(headers={"Origin": "https://a.example"}, query={"token": "a b"}, address="2001:db8::1")
    request = client.socket.request
    assert request.uri == b"/chat/?EIO=4&transport=polling&token=a%20b"
    assert request.getHeader("origin") == "https://a.example"
    assert client.socket.remoteAddress == "2001:db8::1"
    assert kit.connect(path="/chat", headers={"Host": "b.example"}).socket.request.getHeader("host") == "b.example"


def test_refused(engineio: Engine) -> None:
    """With the status, the code and the text, on whatever transport."""

    async def allowRequest(request: Any) -> bool:
        raise RequestRefused("members only")

    kit = engineio(nothing, allowRequest=allowRequest)
    with pytest.raises(HandshakeRefused, match=r"^403 members only \(code 4\)$") as raised:
        kit.connect()
    refused = raised.value
    assert (refused.status, refused.message, refused.code) == (403, "members only", ErrorCode.FORBIDDEN)
    assert refused.response is not None
    assert refused.response.headers.getRawHeaders("content-type") == ["application/json"]
    with pytest.raises(HandshakeRefused, match=r"^403 members only$"):
        kit.connect("websocket")
    client = kit.connect("websocket", wait=False)
    assert (client.readyState, client.sid) == ("closed", None)
    assert client.closed == End("transport error", "403 members only")
    with pytest.raises(AssertionError, match="no session was opened for <MemoryClient None on websocket, closed, tr"):
        _ = client.socket
    with pytest.raises(HandshakeRefused, match=r"400 Transport unknown \(code 0\)"):
        kit.connect(query={"transport": "carrier pigeon"})
    with pytest.raises(HandshakeRefused, match=r"400 Unsupported protocol version \(code 5\)"):
        kit.connect(protocol=3)
    with pytest.raises(HandshakeRefused, match=r"404 .*Sorry"):
        kit.connect(path="/elsewhere")


def test_refusedByTheEndOfTheConnection(engineio: Engine) -> None:
    """A server that says nothing before it goes is no success either."""
    kit = engineio(nothing)
    kit.server.use(lambda request: request.channel.transport.abortConnection())
    for transport in ("polling", "websocket"):
        with pytest.raises(HandshakeRefused, match="connection"):
            kit.connect(transport)


def test_whatAClientSends(engineio: Engine) -> None:
    """Is what a socket can send; anything else is an error in the test that sends it."""
    received: list[object] = []

    def application(server: Server) -> None:
        server.on("connection", lambda socket: socket.on("message", received.append))

    client = engineio(application).connect()
    for data in ("text", b"bytes", bytearray(b"more"), 5, 1.5):
        client.send(data)
    assert received == ["text", b"bytes", b"more", "5", "1.5"]
    for wrong, what in ((None, "None"), (True, "True"), ({"a": 1}, "of type dict"), ([], "of type list")):
        with pytest.raises(TypeError) as caught:
            client.send(wrong)
        cure = "expected text, bytes or a number; encode it first, for example with json.dumps()"
        assert str(caught.value) == f"message {what}: {cure}"
    assert len(received) == 5


def test_decisionsThatTakeTime(engineio: Engine) -> None:
    """Nothing waits: it is said what to do, and then time decides."""
    kit = engineio(nothing, allowRequest=lambda request: deferLater(kit.clock, 5, lambda: True))
    with pytest.raises(AssertionError, match=r"connect\(wait=False\) and advance\(\)"):
        kit.connect()
    client = kit.connect(wait=False)
    assert client.readyState == "opening"
    with pytest.raises(AssertionError, match="'early' can't be sent: <MemoryClient None on polling, opening>"):
        client.send("early")
    kit.advance(5)
    assert (client.readyState, client.transport) == ("open", "websocket")
    given = kit.connect(wait=False)
    given.close()
    assert given.closed == End("forced close", "closed by the client")


def test_wrongArguments(engineio: Engine) -> None:
    """Are named, with what was expected."""
    kit = engineio(nothing)
    with pytest.raises(ValueError, match="transport 'pigeon': expected polling or websocket"):
        kit.connect("pigeon")
    with pytest.raises(ValueError, match="protocol 2: expected 4 or 3"):
        kit.connect(protocol=2)
    with pytest.raises(ValueError, match="jsonp on websocket: expected polling"):
        kit.connect("websocket", jsonp=True)
    with pytest.raises(ValueError, match="pieces of 0 bytes: expected at least 1, or None"):
        kit.connect(split=0)
    with pytest.raises(ValueError, match="-1 seconds: expected time to go forwards"):
        kit.advance(-1)


# How sessions end


def test_theClientCloses(engineio: Engine, kind: dict[str, Any]) -> None:
    """In order: what it said before arrives, the application hears that the client left."""
    messages: list[Any] = []
    kit = engineio(
        lambda server: server.on("connection", lambda each: each.on("message", messages.append) and None),
        allowEIO3=True,
    )
    client = kit.connect(**kind)
    ends = closes(client)
    client.delay(0.5)
    client.send("last")
    client.send("words")
    client.close()
    kit.advance(5)
    assert messages == ["last", "words"]
    assert [reason for reason, _ in ends] == ["transport close"]
    assert client.closed is not None
    assert (client.closed.reason, client.readyState, kit.server.clients) == ("forced close", "closed", {})
    client.close()
    with pytest.raises(AssertionError, match=r"'more' can't be sent: .* forced close: closed by the client"):
        client.send("more")


def test_theServerCloses(engineio: Engine, kind: dict[str, Any]) -> None:
    """The client gets what was sent before, and hears of the end."""
    client = engineio(nothing, allowEIO3=True).connect(**kind)
    client.socket.send("last")
    client.socket.close()
    assert client.receive() == "last"
    assert client.closed is not None
    assert (client.closed.reason, client.socket.readyState) == ("transport close", "closed")
    isWebSocket = client.transport == "websocket"
    assert client.closed.code == (1000 if isWebSocket else None)


def test_closeDuringAnUpgrade(engineio: Engine) -> None:
    """The session is over, with the WebSocket that was to take it."""
    kit = engineio(nothing)
    client = kit.connect(upgrade=False)
    ends = closes(client)
    client.delay(1)
    client.upgrade()
    client.close()
    kit.advance(5)
    assert ends == [("transport close", "close packet")]
    assert (client.closed, client.upgradeFailed) == (
        End("forced close", "closed by the client"),
        "the session was closed",
    )


def test_dropped(engineio: Engine, kind: dict[str, Any]) -> None:
    """A connection that is lost ends the session at once, at both ends."""
    client = engineio(nothing, allowEIO3=True).connect(**kind)
    ends = closes(client)
    client.drop()
    assert client.closed == End("transport error", "connection lost")
    if client.transport == "polling":
        assert ends == [("transport error", "poll connection closed prematurely")]
    else:
        assert [reason for reason, _ in ends] == ["transport close"]


def test_droppingOneConnection(engineio: Engine) -> None:
    """Which one is up to the test; that of a WebSocket that was only tried leaves the session alone."""
    kit = engineio(echo)
    client = kit.connect(upgrade=False)
    with pytest.raises(AssertionError, match="no connection 'post' to drop: <MemoryClient"):
        client.drop("post")
    with pytest.raises(AssertionError, match="no connection 'websocket' to drop"):
        client.drop("websocket")
    client.delay(1)
    client.upgrade()
    client.drop("websocket")
    client.delay(0)
    client.send("still")
    kit.advance(5)
    assert (client.receive(), client.transport, client.upgradeFailed) == ("still", "polling", "connection lost")
    # It waits for nothing, and the next POST makes another.
    client.drop("post")
    client.send("still here")
    assert (client.receive(), client.closed) == ("still here", None)
    ends = closes(client)
    client.drop("poll")
    assert ends == [("transport error", "poll connection closed prematurely")]
    posting = kit.connect(upgrade=False)
    posting.delay(1)
    posting.send("on its way")
    posting.drop("post")
    assert posting.closed == End("transport error", "connection lost")
    socket = kit.connect("websocket")
    socket.drop("websocket")
    assert socket.socket.readyState == "closed"


def test_theServerCutsAConnection(engineio: Engine) -> None:
    """The client is told by the connection: polling fails, a WebSocket is over."""
    kit = engineio(nothing)
    polling, socket = kit.connect(upgrade=False), kit.connect("websocket")
    for connection in list(kit._network.connections):
        connection.abortConnection()
        connection.abortConnection()
    kit.settle()
    assert polling.closed == End("transport error", "the connection of a GET was lost")
    assert socket.closed == End("transport close", "connection lost")
    posting = kit.connect(upgrade=False)
    posting.delay(1)
    posting.send("on its way")
    posting._post.connection.abortConnection()  # type: ignore[union-attr]
    kit.advance(1)
    assert posting.closed is not None
    assert posting.closed.description == "the connection of a POST was lost"


def test_vanished(engineio: Engine, kind: dict[str, Any]) -> None:
    """Nobody is told: the server goes on until its ping times out, and the client hears nothing."""
    kit = engineio(echo, allowEIO3=True)
    client = kit.connect(**kind)
    ends = closes(client)
    client.vanish()
    client.socket.send("into the void")
    client.send("from the void")
    kit.advance(44)
    assert ends == []
    kit.advance(2)
    assert [reason for reason, _ in ends] == ["ping timeout"]
    assert (client.received, client.closed) == ([], None)


def test_aServerThatIsSilent(engineio: Engine, kind: dict[str, Any]) -> None:
    """A client that hears nothing for as long as it should gives up by itself, as clients do."""
    kit = engineio(nothing, allowEIO3=True)
    client = kit.connect(**kind)
    client.pauseReading()
    kit.advance(46)
    assert client.closed is not None
    assert client.closed.reason == "ping timeout"


# Connections


def test_delay(engineio: Engine, kind: dict[str, Any]) -> None:
    """What is sent arrives when it should, in order, in both directions; time stops for it."""
    kit = engineio(echo, allowEIO3=True)
    client = kit.connect(**kind)
    times: list[tuple[Any, float]] = []
    client.socket.on("message", lambda data: times.append((data, kit.clock.seconds())))
    client.delay(2)
    client.send("a")
    kit.advance(1.9)
    assert times == []
    kit.advance(0.2)
    assert times == [("a", 2)]
    assert client.received == []
    kit.advance(5)
    assert client.received == ["a"]


def test_delayThatShrinks(engineio: Engine) -> None:
    """What was sent before isn't overtaken."""
    kit = engineio(echo)
    client = kit.connect("websocket")
    client.delay(2)
    client.send("slow")
    client.delay(0)
    client.send("fast")
    assert client.received == []
    kit.advance(2)
    assert client.received == ["slow", "fast"]


def test_connectingSlowly(engineio: Engine) -> None:
    """The handshake takes its time too, and an upgrade without a GET that waits just then."""
    kit = engineio(echo)
    client = kit.connect(delay=1, wait=False)
    assert client.readyState == "opening"
    kit.advance(2)
    assert (client.readyState, client.transport) == ("open", "polling")
    kit.advance(10)
    assert client.transport == "websocket"


def test_split(engineio: Engine) -> None:
    """The server reads what is sent in pieces of that size, and so does the client."""
    kit = engineio(echo)
    client = kit.connect("websocket")
    pieces: list[int] = []
    connection = client._webSocket.connection  # type: ignore[union-attr]
    read = connection.protocol.dataReceived
    connection.protocol.dataReceived = lambda data: (pieces.append(len(data)), read(data))
    client.split(4)
    client.send("0123456")
    assert pieces == [4, 4, 4, 2]
    assert client.receive() == "0123456"
    client.split(None)
    client.send("0123456")
    assert pieces[4:] == [14]


def test_aClientThatDoesNotRead(engineio: Engine) -> None:
    """What it is sent piles up; on polling in the session's buffer; what it says arrives; then it gets all of it."""
    kit = engineio(echo)
    client = kit.connect(upgrade=False)
    client.pauseReading()
    client.socket.send("answers the GET")
    client.socket.send("waits")
    client.send("said")
    assert [each.data for each in client.socket.writeBuffer] == ["waits", "said"]
    assert client.received == []
    client.resumeReading()
    assert client.received == ["answers the GET", "waits", "said"]


def test_backPressure(engineio: Engine) -> None:
    """A WebSocket that is full makes the server stop reading a flood, as on a real connection; and go on later."""
    kit = engineio(echo, maxHttpBufferSize=1000)
    client = kit.connect("websocket")
    client.pauseReading()
    client.socket.send("x" * (BUFFER + 1))
    for _ in range(30):
        client.send("y" * 500)
    assert len(client._webSocket.connection.toServer._pieces) > 20  # type: ignore[union-attr]
    client.resumeReading()
    assert client.received == ["x" * (BUFFER + 1), *["y" * 500] * 30]


class Producer:
    """One that writes so much each time it is asked."""

    def __init__(self, connection: MemoryConnection, times: int) -> None:
        self.connection = connection
        self.times = times
        self.isStopped = False

    def resumeProducing(self) -> None:
        self.times -= 1
        self.connection.write(b"x")
        if not self.times:
            self.connection.unregisterProducer()
            self.connection.stopProducing()

    def stopProducing(self) -> None:
        self.isStopped = True


class Plain:
    """A protocol without HTTP."""

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.lost: Any = None

    def makeConnection(self, connection: Any) -> None:
        self.connection = connection

    def buildProtocol(self, address: Any) -> Plain:
        return self

    def dataReceived(self, data: bytes) -> None:
        self.data.append(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = reason or True


def plain() -> tuple[MemoryNetwork, MemoryConnection, Plain, Plain]:
    """A connection, and what is at its ends."""
    server, client = Plain(), Plain()
    network = MemoryNetwork(Clock(), server)
    return network, network.connect(client, "127.0.0.1"), server, client


def test_aProducerThatIsAsked() -> None:
    """Is asked whenever what it wrote is gone, and not while the client doesn't read."""
    network, connection, server, client = plain()
    producer = Producer(connection, 5)
    connection.toClient.isHeld = True
    connection.registerProducer(producer, False)
    with pytest.raises(RuntimeError, match="is registered already"):
        connection.registerProducer(producer, False)
    network.settle()
    assert producer.times == 4
    connection.toClient.isHeld = False
    network.wake(connection)
    network.settle()
    assert client.data == [b"x"] * 5
    assert server.lost.check("twisted.internet.error.ConnectionDone")
    assert client.lost
    assert network.connections == {}
    connection.registerProducer(producer, False)
    assert producer.isStopped


def test_aProducerOfALostConnection() -> None:
    """Is stopped; what is done to the connection afterwards does nothing."""
    network, connection, server, client = plain()
    producer = Producer(connection, 5)
    connection.registerProducer(producer, True)
    connection.writeSequence([b"a", b""])
    connection.lose()
    network.settle()
    assert producer.isStopped
    assert server.lost.check("twisted.internet.error.ConnectionLost")
    assert client.data == []
    connection.write(b"b")
    connection.loseConnection()
    connection.abortConnection()
    connection.resumeProducing()
    connection.setTcpNoDelay(True)
    connection.setTcpKeepAlive(True)
    connection.send(b"c")
    connection.finish()
    network.settle()
    assert (server.data, client.data) == ([], [])


def test_aProducerThatGoesWhileItsConnectionCloses() -> None:
    """The connection is closed behind what it wrote."""
    network, connection, _, client = plain()
    producer = Producer(connection, 100)
    connection.registerProducer(producer, True)
    connection.toClient.isHeld = True
    connection.write(b"x")
    connection.loseConnection()
    connection.unregisterProducer()
    network.settle()
    assert not client.lost
    connection.toClient.isHeld = False
    network.wake(connection)
    network.settle()
    assert (client.data, client.lost) == ([b"x"], True)


def test_theEndOfAConnection() -> None:
    """What is under way arrives before it, in either direction."""
    network, connection, server, client = plain()
    connection.write(b"a")
    connection.loseConnection()
    connection.write(b"b")
    network.settle()
    assert (client.data, client.lost) == ([b"a", b"b"], True)
    network, connection, server, client = plain()
    connection.send(b"a")
    connection.finish()
    connection.write(b"nobody reads this")
    network.settle()
    assert server.data == [b"a"]
    assert server.lost.check("twisted.internet.error.ConnectionDone")
    assert client.data == []


def test_whatNeverEnds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is told, instead of hanging."""
    monkeypatch.setattr("engineio_twisted.testing.network.ROUNDS", 100)
    network = plain()[0]

    def again() -> None:
        network.clock.callLater(0, again)

    again()
    with pytest.raises(AssertionError, match=r"something happens for ever without time passing: .*again"):
        network.settle()


# The application, and what is left


def test_applications(engineio: Engine) -> None:
    """A function, a coroutine function that takes its time, or a server that is there."""

    async def application(server: Server) -> None:
        await deferLater(server.reactor, 3, lambda: None)
        echo(server)

    kit = engineio(application)
    kit.connect().send("too early")
    kit.advance(3)
    client = kit.connect()
    client.send("a")
    assert client.receive() == "a"
    server = Server(reactor=Clock(), pingInterval=77)
    kit = engineio(server)
    assert (kit.server, kit.clock) == (server, server.reactor)
    assert kit.connect().handshake["pingInterval"] == 77


def test_wrongApplications() -> None:
    """Are named before anything begins; and what one raises is raised."""
    with pytest.raises(ValueError, match=r"expected one made with reactor=Clock\(\)"):
        MemoryServer(Server(reactor=object()))  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="expected none beside a server"):
        MemoryServer(Server(reactor=Clock()), pingInterval=5)
    with pytest.raises(OptionError, match="did you mean pingInterval"):
        MemoryServer(nothing, pingIntervl=5)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="expected the clock of the server, as reactor="):
        MemoryServer(Server(reactor=Clock()), site=Site(Resource(), reactor=Clock()))
    with pytest.raises(ZeroDivisionError):
        MemoryServer(lambda server: 1 / 0)


@pytest.mark.parametrize("siteClass", [Site, TwistedSite])
def test_aSiteOfTheApplications(engineio: Engine, siteClass: Any) -> None:
    """Clients reach the server where it is on it, and requests what else there is."""
    clock, root = Clock(), Resource()
    root.putChild(b"page", Data(b"a page", "text/plain"))
    site = siteClass(root, reactor=clock)
    kit = engineio(echo, site=site)
    assert kit.clock is clock
    response = kit.request("GET", "/page")
    assert (response.status, response.text) == (200, "a page")
    assert kit.request("HEAD", "/page").body == b""
    assert kit.request("POST", "/page", {"X-Given": "1"}, b"body").status == 405
    client = kit.connect()
    client.send("a")
    assert client.receive() == "a"
    server = Server(reactor=Clock())
    root.putChild(b"below", EngineIOResource(server))
    site = siteClass(root, reactor=server.reactor)
    assert engineio(server, site=site).connect(path="/below").transport == "websocket"


def test_aRequestThatWaits(engineio: Engine) -> None:
    """Is said to."""
    kit = engineio(nothing, allowRequest=lambda request: Deferred())
    with pytest.raises(AssertionError, match=r"GET /engine.io/\?EIO=4&transport=polling wasn't answered"):
        kit.request("GET", "/engine.io/?EIO=4&transport=polling")
    assert kit.request("GET", "/").status == 404


@pytest.mark.usefixtures("mayLog")
def test_errorsOfTheApplication() -> None:
    """What a handler raises, at once or later, is kept, told where a message is missing, and raised in the end."""

    async def later(data: Any) -> None:
        await deferLater(kit.clock, 1, lambda: None)
        raise KeyError("later")

    def application(server: Server) -> None:
        @server.on("connection")
        def connected(socket: Any) -> None:
            socket.on("message", lambda data: {}[data])
            socket.on("message", later)

    kit = MemoryServer(application)
    client = kit.connect()
    client.send("now")
    with pytest.raises(AssertionError, match=r"none came: .*; the application failed: KeyError\('now'\)"):
        client.receive()
    kit.advance(1)
    assert [str(each) for each in kit.errors] == ["'now'", "'later'"]
    with pytest.raises(AssertionError, match=r"(?s)the application failed:.*KeyError: 'now'.*KeyError: 'later'"):
        kit.close()
    kit.close()


@pytest.mark.usefixtures("mayLog")
def test_errorsThatAreExpected() -> None:
    """A test takes them out."""
    with MemoryServer(echo, allowRequest=lambda request: 1 / 0) as kit:
        with pytest.raises(HandshakeRefused, match="403"):
            kit.connect()
        assert isinstance(kit.errors.pop(), ZeroDivisionError)


def test_errorsOfACoroutineApplication() -> None:
    """Are kept as well: nobody else would hear of them."""

    async def application(server: Server) -> None:
        await deferLater(server.reactor, 1, lambda: None)
        raise KeyError("setup")

    kit = MemoryServer(application)
    kit.advance(1)
    kit.errors.append(ValueError("of the test's own"))
    with pytest.raises(AssertionError, match=r"(?s)KeyError: 'setup'.*of the test's own"):
        kit.close()


@pytest.mark.usefixtures("mayLog")
def test_errorsOfOneOfSeveral() -> None:
    """Are those of the one whose application failed."""

    def application(server: Server) -> None:
        server.on("connection", lambda socket: {}[0])

    with MemoryServer(application) as failing, MemoryServer(echo) as well:
        failing.connect()
        well.connect()
        assert (len(failing.errors), well.errors) == (1, [])
        failing.errors.clear()


@pytest.mark.usefixtures("mayLog")
def test_aTestThatFailsItself() -> None:
    """Its own failure is what is raised, with what the application did as a note."""

    def application(server: Server) -> None:
        server.on("connection", lambda socket: {}[0])

    def fails(application: Any, closes: bool) -> None:
        with MemoryServer(application) as kit:
            kit.connect()
            if closes:
                kit.close()
            raise RuntimeError("of the test")

    with pytest.raises(RuntimeError, match="of the test") as raised:
        fails(application, closes=False)
    assert "KeyError: 0" in raised.value.__notes__[0]
    with pytest.raises(RuntimeError, match="of the test"):
        fails(echo, closes=True)


def test_timersThatAreLeft() -> None:
    """Fail a test, unless it says that there may be some."""

    def application(server: Server) -> None:
        loop = LoopingCall(lambda: None)
        loop.clock = server.reactor
        loop.start(60)

    kit = MemoryServer(application)
    kit.connect()
    with pytest.raises(AssertionError, match=r"a timer is left: .*LoopingCall"):
        kit.close()
    with MemoryServer(application, leavesTimers=True) as kit:
        kit.connect()


@pytest.mark.parametrize("kind", [{"transport": "websocket"}, {"upgrade": False}])
def test_timersBehindAClientThatVanished(kind: dict[str, Any]) -> None:
    """They fail a test too, and don't run first: no time passes while the kit is closed."""
    ran: list[str] = []
    kit = MemoryServer(lambda server: server.reactor.callLater(1, ran.append, "late") and None)
    kit.connect(**kind).vanish()
    with pytest.raises(AssertionError, match=r"^a timer is left: [^;]*$"):
        kit.close()
    assert ran == []


def test_applicationsThatFailAtOnce() -> None:
    """A kit that can't be made, as the application's first timer fails, leaves nobody who listens to the log."""

    def fails() -> None:
        raise KeyError(0)

    before = list(globalLogPublisher._observers)
    with pytest.raises(KeyError):
        MemoryServer(lambda server: server.reactor.callLater(0, fails) and None)
    assert list(globalLogPublisher._observers) == before


def test_theEndOfTheKit(kind: dict[str, Any]) -> None:
    """Sessions end as they do when a server stops, whatever state their clients are in; nothing is left."""
    with MemoryServer(echo, allowEIO3=True) as kit:
        well, slow, gone, deaf = (kit.connect(**kind) for _ in range(4))
        everybody = [closes(each) for each in (well, slow, gone, deaf)]
        slow.delay(10)
        gone.vanish()
        deaf.pauseReading()
        kit.connect(**{**kind, "delay": 1, "wait": False})
    assert everybody == [[("server shutting down", "the server is closing")]] * 4
    assert well.closed is not None
    assert well.closed.code == (1001 if well.transport == "websocket" else None)
    assert (kit.server.clients, list(kit.clock.getDelayedCalls())) == ({}, [])


def test_whatIsNotClosed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session, or a connection, that a server would keep is no success."""
    kit = MemoryServer(echo)
    client = kit.connect("websocket")
    kit.server.close = lambda **_: Deferred()  # type: ignore[method-assign,assignment,misc]
    monkeypatch.setattr(MemoryClient, "drop", lambda self: None)
    monkeypatch.setattr(MemoryConnection, "lose", lambda self: None)
    with pytest.raises(AssertionError, match=r"the server doesn't close; the session of <.+> is left; <.*Conne"):
        kit.close()
    client._ended("transport error", "the end of the test")


# A client is strict


class Wire:
    """What stands for a connection to a server that says what it shouldn't."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> None:
        self.sent.append(data)

    def finish(self) -> None:
        pass

    lose = finish


def asking() -> tuple[Requests, list[Any]]:
    """A request that waits for its answer."""
    answers: list[Any] = []
    requests = Requests(lambda receiver: Wire())  # type: ignore[arg-type,return-value]
    requests.ask("GET", "/", [], b"", answers.append, lambda: answers.append("lost"))
    return requests, answers


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\n", "an answer that begins with b'HTTP/1.0 200 OK': expected a status of HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nno header\r\n\r\n", "an answer with the line b'no header': expected a header"),
        (b"HTTP/1.1 200 OK\r\n a: b\r\n\r\n", "an answer with the line b' a: b': expected a header"),
        (b"HTTP/1.1 200 OK\r\n\r\n", r"an answer with the Content-Length \[\]: expected one number"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab", "b'b' behind an answer"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
            "a chunk of 1 bytes that goes on",
        ),
    ],
)
def test_wrongAnswers(answer: bytes, problem: str) -> None:
    """Fail a test that gets one."""
    requests, _ = asking()
    with pytest.raises(ProtocolViolation, match=problem):
        requests.dataReceived(answer)


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", None),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 1000])
def test_answersInPieces(answer: bytes, body: bytes | None, size: int) -> None:
    """Are put together, whatever is in them."""
    requests, answers = asking()
    for start in range(0, len(answer), size):
        requests.dataReceived(answer[start : start + size])
    assert [each.body for each in answers] == [b"abc\r\n0\r\n\r\n" if body is None else body]
    with pytest.raises(ProtocolViolation, match="where nothing was asked"):
        requests.dataReceived(b"more")


@pytest.mark.parametrize("kind", [Kit, MemoryClient, MemoryConnection, Requests, ClientWebSocket])
def test_whatIsThereIsDescribed(kind: type) -> None:
    """Each public method of the kit says what it does; those that a client is told by are nobody else's affair."""
    methods = {name: each for name, each in vars(kind).items() if callable(each) and not name.startswith("_")}
    assert [name for name, each in methods.items() if not each.__doc__] == []
    assert not any(name.startswith("webSocket") for name in methods)


class Told:
    """Who is told of a WebSocket."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def opened(self, webSocket: Any) -> None:
        self.told.append("opened")

    def refused(self, webSocket: Any, response: Any) -> None:
        self.told.append(response.status)

    def received(self, webSocket: Any, data: Any) -> None:
        self.told.append(data)

    def over(self, webSocket: Any, description: str) -> None:
        self.told.append(description)


_101 = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: "


def webSocket() -> tuple[ClientWebSocket, Told, Wire]:
    """A WebSocket that is open."""
    owner, wire = Told(), Wire()
    opened = ClientWebSocket(owner, lambda receiver: wire, "/", [])  # type: ignore[arg-type,return-value]
    from engineio_twisted.testing.websocket import _ACCEPT

    opened.dataReceived(_101 + _ACCEPT + b"\r\n\r\n")
    assert owner.told.pop() == "opened"
    wire.sent.clear()
    return opened, owner, wire


@pytest.mark.parametrize(
    ("frames", "problem"),
    [
        (b"\x81\x81\x00\x00\x00\x00a", r"a frame that begins with b'\\x81\\x81': masked"),
        (b"\xc1\x01a", "reserved bits or opcode"),
        (b"\x83\x01a", "reserved bits or opcode"),
        (b"\x09\x01a", "a control frame of 1 bytes: expected one of at most 125, in one piece"),
        (b"\x89\x7e\x00\x80" + b"a" * 128, "a control frame of 128 bytes"),
        (b"\x80\x01a", "a frame with the opcode 0 outside of a message"),
        (b"\x01\x01a\x81\x01b", "a frame with the opcode 1 within a message"),
        (b"\x81\x01\xff", "text that isn't UTF-8"),
        (b"\x88\x02\x03\xe8\x81\x01a", "a frame behind the close frame"),
    ],
)
def test_wrongFrames(frames: bytes, problem: str) -> None:
    """Fail a test that gets one."""
    opened, _, _ = webSocket()
    with pytest.raises(ProtocolViolation, match=problem):
        opened.dataReceived(frames)


def test_frames() -> None:
    """Of all sizes, in pieces, with a ping in between, which is answered; and a close frame without a code."""
    opened, owner, wire = webSocket()
    long = b"x" * 70_000
    opened.dataReceived(
        b"\x01\x01a\x89\x01p\x80\x01b" + b"\x82\x7f" + len(long).to_bytes(8) + long + b"\x82\x00\x88\x00"
    )
    assert owner.told == ["ab", long, b"", "close frame with code 1005"]
    assert [each[0] for each in wire.sent] == [0x8A, 0x88]
    assert opened.code == 1005
    opened, owner, wire = webSocket()
    opened.close()
    opened.dataReceived(b"\x88\x02\x03\xe8")
    assert [each[0] for each in wire.sent] == [0x88]


def test_aWrong101() -> None:
    """The key has to be the answer to the client's."""
    opened = ClientWebSocket(Told(), lambda receiver: Wire(), "/", [])  # type: ignore[arg-type,return-value]
    with pytest.raises(ProtocolViolation, match=r"a 101 with .*: expected the key"):
        opened.dataReceived(_101 + b"AAAA\r\n\r\n")


@pytest.mark.parametrize(
    ("packet", "problem"),
    [
        (Packet(PacketType.OPEN, "{}"), "OPEN.*which no server may send now"),
        (Packet(PacketType.PONG), "PONG.*which no server may send now"),
        (Packet(PacketType.UPGRADE), "UPGRADE.*which no server may send now"),
        (Packet(PacketType.NOOP), "NOOP.*which no server may send now"),
    ],
)
def test_wrongPackets(engineio: Engine, packet: Packet, problem: str) -> None:
    """Fail a test that gets one."""
    client = engineio(nothing).connect()
    client.socket.transport.send([packet])
    with pytest.raises(ProtocolViolation, match=problem):
        client.receive()


def test_pingsInRevision3(engineio: Engine) -> None:
    """Are the client's to send."""
    client = engineio(nothing, allowEIO3=True).connect(protocol=3)
    client.socket.transport.send([Packet(PacketType.PING)])
    with pytest.raises(ProtocolViolation, match=r"PING.*which no server may send now"):
        client.receive()


def test_packetsBehindTheEnd(engineio: Engine) -> None:
    """There are none."""
    client = engineio(nothing).connect(upgrade=False)
    client.socket.transport.send([Packet(PacketType.CLOSE), Packet(PacketType.MESSAGE, "late")])
    with pytest.raises(
        ProtocolViolation, match=r"late.* behind the end: <MemoryClient .*transport close: close packet>"
    ):
        client.receive()


def test_wrongPayloads(engineio: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A payload, a message, a script, an answer to a POST or to a probe that isn't one fails a test that gets it."""
    kit = engineio(nothing)
    polling, socket, jsonp = (kit.connect(**KINDS[name]) for name in ("polling", "websocket", "jsonp"))
    for body in (b"9", b"\xff", b""):
        with pytest.raises(ProtocolViolation, match="the payload"):
            polling._polled(Response(200, Headers(), body))
    with pytest.raises(ProtocolViolation, match="the script b'4a': expected a call of"):
        jsonp._polled(Response(200, Headers(), b"4a"))
    with pytest.raises(ProtocolViolation, match="a POST was answered b'no': expected ok"):
        polling._posted(Response(200, Headers(), b"no"))
    assert socket._webSocket is not None
    with pytest.raises(ProtocolViolation, match="the message '9'"):
        socket._webSocketReceived(socket._webSocket, "9")
    monkeypatch.setattr("engineio_twisted.testing.client.PROBE", "other")
    assert kit.connect().upgradeFailed == "close frame with code 1000"
    monkeypatch.undo()
    client = kit.connect(upgrade=False)
    client.delay(1)
    client.upgrade()
    assert client._candidate is not None
    with pytest.raises(ProtocolViolation, match="on a WebSocket that is to take over: expected a pong, probe"):
        client._webSocketReceived(client._candidate, "3other")


def test_anOpenPacketFirst(engineio: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all that belongs to it."""
    kit = engineio(nothing)
    opening = json.dumps({"sid": "a"})
    monkeypatch.setattr("engineio_twisted.session.session.openPacket", lambda *args: Packet(PacketType.OPEN, opening))
    with pytest.raises(ProtocolViolation, match="first: expected an open packet, and all that belongs to it"):
        kit.connect()
    monkeypatch.setattr("engineio_twisted.session.session.openPacket", lambda *args: Packet(PacketType.MESSAGE, "a"))
    with pytest.raises(ProtocolViolation, match="first: expected an open packet"):
        kit.connect()
