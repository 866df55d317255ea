"""
Our client against servers that others wrote, and against ours: programs that echo, and tell what they see.

`make test` has the shortest stories; the matrix of all servers is `make test-peers`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from zope.interface import implementer

from engineio_twisted.client import FailureType

from ..kit.client_peers import PEERS, RunningPeer, named, refusedBy
from ..kit.clients import BOTH, LARGE, MIXED, Message, Run, firstDifference, overEveryTransport, programs

pytestmark = pytest.mark.no_cover

CORE = ("ours", "engine.io 6", "engine.io 3", "aiohttp")
NUMBERS = itertools.count()
NODE = ("engine.io 6", "engine.io 3", "bun")


def marks(name: str, isCore: bool) -> list[pytest.MarkDecorator]:
    return [pytest.mark.node] * (name in NODE) + [pytest.mark.apart] * (not isCore)


def withPeers(core: tuple[str, ...] = CORE, all_: tuple[str, ...] = tuple(PEERS)) -> pytest.MarkDecorator:
    """Run a test with these servers; those that aren't of the core are apart."""
    cases = [pytest.param(name, id=name, marks=marks(name, name in core)) for name in all_]
    return pytest.mark.parametrize("peer", cases, indirect=True)


@pytest.fixture(scope="module")
def peer(request: pytest.FixtureRequest) -> Iterator[RunningPeer]:
    """A server that serves all tests with it."""
    with programs() as start:
        yield pytest_twisted.blockon(Deferred.fromCoroutine(RunningPeer.start(request.param, start)))


def isOnWebSocket(transports: list[str]) -> bool:
    return transports[-1] == "websocket"


@overEveryTransport
@withPeers()
@pytest_twisted.ensureDeferred
async def test_echo(peer: RunningPeer, transports: list[str]) -> None:
    """Messages of every kind come back; headers, query and cookie arrive; both sides know who closed."""
    name = f"é {next(NUMBERS)}"
    given = {"extraHeaders": {"X-Story": "1"}, "query": {"story": name}, "withCredentials": True}
    story = await peer.session(transports, **given).connect()
    await story.echoes(MIXED)
    # More than a server of python-engineio takes at once.
    await story.echoes(named("client", 40))
    sid = story.client.id
    opened = await peer.program.saw("open", sid=sid)
    assert opened["query"]["EIO"] == str(peer.peer.revision)
    first, *others = [each for each in peer.program.named("request") if each["query"].get("story") == name]
    assert "cookie" not in first["headers"]
    for each in (first, *others):
        assert each["headers"]["x-story"] == "1"
    for each in others:
        assert each["query"]["sid"] == sid
        assert each["headers"]["cookie"].startswith("peer=")
    webSockets = ["upgrade" in each["headers"] for each in (first, *others)]
    assert webSockets.count(True) == isOnWebSocket(transports)
    assert any(each["method"] == "POST" for each in others) == (transports == ["polling"])
    assert await story.close() == "forced close"
    closed = await peer.program.saw("close", sid=sid)
    assert closed["reason"] == peer.peer.clientCloses[isOnWebSocket(transports)]
    upgrade = ["upgrading to websocket", "upgrade to websocket"] if len(transports) > 1 else []
    assert story.changes == ["open", *upgrade, "close: forced close"]


@overEveryTransport
@withPeers()
@pytest_twisted.ensureDeferred
async def test_serverCloses(peer: RunningPeer, transports: list[str]) -> None:
    """When the server closes, what it sent before arrives, and both sides know who closed."""
    story = await peer.session(transports).connect()
    await story.echoes(["hello"])
    story.client.send("!transport")
    story.client.send("!close")
    reason = await story.ended()
    assert story.messages == ["hello", transports[-1], "goodbye"]
    assert reason == ("transport close" if isOnWebSocket(transports) else peer.peer.closedOnPolling)
    closed = await peer.program.saw("close", sid=story.client.id)
    assert closed["reason"] == peer.peer.serverCloses


@pytest.mark.parametrize("transport", ["polling", "websocket"])
@withPeers()
@pytest_twisted.ensureDeferred
async def test_refused(peer: RunningPeer, transport: str) -> None:
    """A server that refuses the handshake is the failure, with its response."""
    story = peer.session([transport], query={"refuse": "1"})
    failure = await refusedBy(story)
    status, code, message = peer.peer.refusal[transport == "websocket"]
    assert failure.response is not None
    assert (failure.response.status, failure.response.code, failure.response.message) == (status, code, message)
    if status == 401:
        assert failure.type == FailureType.AUTHENTICATION
    else:
        assert failure.type == (FailureType.HTTP if code is None else FailureType.REFUSED)
    # An ASGI server keeps to itself why it didn't accept a WebSocket.
    assert "not today" in failure.response.text or "uvicorn" in peer.program.name
    assert failure.transport == transport
    assert story.happened == ["close: transport error"]


everyPeer = withPeers(())


@everyPeer
@overEveryTransport
@pytest_twisted.ensureDeferred
async def test_large(peer: RunningPeer, transports: list[str]) -> None:
    """Half a megabyte of text, and of binary, goes both ways unchanged, twice."""
    story = await peer.session(transports).connect()
    for message in [*LARGE.values(), *LARGE.values()]:
        await story.echoes([message])
    await story.echoes(["small again"])
    assert await story.close() == "forced close"


MANY = 10_000


@everyPeer
@overEveryTransport
@pytest_twisted.ensureDeferred
async def test_many(peer: RunningPeer, transports: list[str]) -> None:
    """Ten thousand messages in one go arrive in order, from each side, and so do those of both at once."""
    story = await peer.session(transports).connect()
    await story.echoes(named("client", MANY))
    story.messages.clear()
    story.client.send(f"!count {MANY}")
    assert firstDifference(await story.got(MANY), named("server", MANY)) is None
    story.messages.clear()
    story.client.send(f"!count {MANY}")
    for message in named("client", MANY):
        story.client.send(message)
    came = await story.got(2 * MANY)
    assert firstDifference([each for each in came if isFrom("server", each)], named("server", MANY)) is None
    assert firstDifference([each for each in came if isFrom("client", each)], named("client", MANY)) is None
    assert await story.close() == "forced close"


def isFrom(who: str, message: Message) -> bool:
    return message.startswith(who if isinstance(message, str) else who.encode())


@everyPeer
@pytest_twisted.ensureDeferred
async def test_manyDuringUpgrade(peer: RunningPeer) -> None:
    """Nothing of what both sides send before, in and after the upgrade is lost, doubled or out of order."""
    story = peer.session(BOTH)
    client: Any = story.client
    sent: list[Message] = []

    def send(count: int) -> None:
        for message in named("client", len(sent) + count)[len(sent) :]:
            sent.append(message)
            client.send(message)

    def burst(*_: object) -> None:
        send(1000)
        client.send("!count 1000")

    for event in ("open", "upgrading", "upgrade"):
        client.on(event, burst)
    client.on("flush", lambda *_: send(1) if "upgrade to websocket" not in story.happened else None)
    await story.connect()
    send(1000)
    client.send("!transport")
    # A handler of the upgrade sends behind the one that this waited for.
    await story.until(lambda: len(story.messages) >= len(sent) + 3001, "all messages")
    came = story.messages
    assert came.count("websocket") == 1
    assert firstDifference([each for each in came if isFrom("client", each)], sent) is None
    servers = [each for each in came if isFrom("server", each)]
    assert firstDifference(servers, named("server", 1000) * 3) is None
    assert await story.close() == "forced close"


@everyPeer
@overEveryTransport
@pytest_twisted.ensureDeferred
async def test_heartbeats(peer: RunningPeer, transports: list[str]) -> None:
    """A session that says nothing lives, by heartbeats of the side whose turn they are."""
    story = await peer.session(transports).connect()
    await story.until(lambda: story.happened.count("heartbeat") >= 2, "two heartbeats")
    if peer.peer.tellsPackets:
        await peer.program.saw("packet", sid=story.client.id, type="ping" if peer.peer.revision == 3 else "pong")
    await story.echoes(["alive"])
    assert await story.close() == "forced close"


@pytest.mark.parametrize("transports", [["websocket"], BOTH], ids=["websocket", "upgrade"])
@everyPeer
@pytest_twisted.ensureDeferred
async def test_deflated(peer: RunningPeer, transports: list[str]) -> None:
    """If the client offers compression, every server takes it, and compresses what it sends, unless it is Bun's."""
    from twisted.internet import reactor

    endpoint = Counted(TCP4ClientEndpoint(reactor, "127.0.0.1", peer.port))
    story = await peer.session(transports, perMessageDeflate=True, endpoint=endpoint).connect()
    await story.echoes([*MIXED, *LARGE.values(), "x" * 2000, b"x" * 1023])
    await story.echoes(named("client", 1000))
    assert await story.close() == "forced close"
    # Of more than a million bytes, each way.
    assert 10_000 < endpoint.sent < 100_000
    assert 10_000 < endpoint.received < (100_000 if peer.peer.compresses else 2_000_000)


@implementer(IStreamClientEndpoint)
class Counted:
    """An endpoint that counts what goes over its connections."""

    def __init__(self, endpoint: Any) -> None:
        self._endpoint = endpoint
        self.sent = self.received = 0

    def connect(self, factory: Any) -> Any:
        wrapping = WrappingFactory(factory)
        wrapping.protocol = Counting
        wrapping.counted = self
        connected = self._endpoint.connect(wrapping)
        return connected.addCallback(lambda wrapper: wrapper.wrappedProtocol)


class Counting(ProtocolWrapper):
    """Counts what goes over one connection."""

    def write(self, data: bytes) -> None:
        self.factory.counted.sent += len(data)
        super().write(data)

    def writeSequence(self, data: Any) -> None:
        self.factory.counted.sent += sum(map(len, data))
        super().writeSequence(data)

    def dataReceived(self, data: bytes) -> None:
        self.factory.counted.received += len(data)
        super().dataReceived(data)


@pytest.mark.apart
@overEveryTransport
@withPeers((), ("ours, revision 3", "engine.io 3"))
@pytest_twisted.ensureDeferred
async def test_base64(peer: RunningPeer, transports: list[str]) -> None:
    """In revision 3, binary travels in bytes, or in base64 if the client asks for it."""
    for isBase64 in (False, True):
        story = await peer.session(transports, forceBase64=isBase64).connect()
        await story.echoes([*MIXED, LARGE["binary"]])
        sid = story.client.id
        opened = await peer.program.saw("open", sid=sid)
        assert ("b64" in opened["query"]) is isBase64
        posts = [each for each in peer.requests(story) if each["method"] == "POST"]
        kinds = {each["headers"]["content-type"].partition(";")[0].lower() for each in posts}
        if transports == ["polling"]:
            assert ("application/octet-stream" in kinds) is not isBase64
        assert await story.close() == "forced close"


@withPeers((), ("engine.io 6", "aiohttp", "uvicorn", "bun"))
@pytest.mark.parametrize("transport", ["polling", "websocket"])
@pytest_twisted.ensureDeferred
async def test_otherRevision(peer: RunningPeer, transport: str) -> None:
    """A server that doesn't speak revision 3 refuses it."""
    failure = await refusedBy(peer.session([transport], EIO=3))
    if transport == "websocket" and "node.mjs" in peer.program.name:
        # It writes a response on the WebSocket that it has accepted.
        assert failure.type == FailureType.PARSE
        return
    assert failure.response is not None
    # python-engineio has no codes; behind an ASGI server, a WebSocket that isn't accepted gets 403.
    isPython = not peer.peer.tellsPackets
    assert failure.type == (FailureType.HTTP if isPython else FailureType.REFUSED)
    if failure.response.code is not None:
        assert (failure.response.code, failure.response.message) == (5, "Unsupported protocol version")


@pytest.mark.apart
@overEveryTransport
@pytest.mark.parametrize("name", PEERS)
@pytest_twisted.ensureDeferred
async def test_restart(start: Run, freePort: int, name: str, transports: list[str]) -> None:
    """When the server dies, the session ends with a named failure; once it is back, another client connects."""
    server = await RunningPeer.start(name, start, freePort)
    story = await server.session(transports).connect()
    await story.echoes(["hello"])
    await server.program.kill()
    await story.ended()
    assert story.client.failure is not None
    # What ends it is the connection, or, if a request was just to be sent, the next one.
    assert story.client.failure.type in (FailureType.LOST, FailureType.CONNECT)
    failure = await refusedBy(server.session(transports))
    assert failure.type == FailureType.CONNECT
    again = await RunningPeer.start(name, start, freePort)
    story = await again.session(transports).connect()
    await story.echoes(["hello"])
    assert await story.close() == "forced close"
