"""A request that another worker answers: what its client and the session see is what they see with one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.address import UNIXAddress

from engineio_twisted.workers.frames import Kind, frame

from ..kit.relays import Pair, SecureConnection, UNIXConnection, plainly, story
from ..kit.wire import makeFrame


def http(
    method: str, sid: str, body: bytes | None = None, *headers: str, version: str = "1.1", more: str = ""
) -> bytes:
    """Return a request of a session."""
    lines = [
        f"{method} /engine.io/?EIO=4&transport=polling&sid={sid}{more} HTTP/{version}",
        "Host: a.example",
        *headers,
    ]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def upgrade(sid: str, *headers: str, version: int = 13) -> bytes:
    """Return a request for a WebSocket."""
    lines = [
        f"GET /engine.io/?EIO=4&transport=websocket&sid={sid} HTTP/1.1",
        "Host: a.example",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        f"Sec-WebSocket-Version: {version}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def requests(*made: Callable[[str], bytes], before: Callable[[Any], object] | None = None) -> Callable[[Pair], Any]:
    """Return a story: these requests one after the other on one connection, each answered, and what came."""

    def tell(pair: Pair) -> Any:
        sid = pair.open()
        client = pair.connect()
        answers = []
        for each in made:
            if before is not None:
                before(pair.socket)
            pair.send(client, each(sid))
            answers.append((plainly(client.received), client.isLost))
            client.received.clear()
        return answers

    return tell


def sends(socket: Any) -> None:
    socket.send("one")
    socket.send(b"\0\1")


LONG = "x" * 300_000

SAME: dict[str, tuple[Callable[[Pair], Any], dict[str, Any]]] = {
    "read what waits": (requests(lambda sid: http("GET", sid), before=sends), {}),
    "read twice": (requests(lambda sid: http("GET", sid), lambda sid: http("GET", sid), before=sends), {}),
    "write": (requests(lambda sid: http("POST", sid, b"4a\x1e4b"), lambda sid: http("POST", sid, b"4c")), {}),
    "binary": (requests(lambda sid: http("POST", sid, b"4a\x1ebAAE=")), {}),
    "chunked": (
        requests(lambda sid: http("POST", sid, None, "Transfer-Encoding: chunked") + b"2\r\n4a\r\n1\r\nb\r\n0\r\n\r\n"),
        {},
    ),
    "continue": (
        requests(lambda sid: http("POST", sid, b"", "Expect: 100-continue").replace(b"h: 0", b"h: 2") + b"4a"),
        {},
    ),
    "HEAD": (requests(lambda sid: http("HEAD", sid)), {}),
    "PUT": (requests(lambda sid: http("PUT", sid, b"4a")), {}),
    "DELETE": (requests(lambda sid: http("DELETE", sid)), {}),
    "HTTP/1.0": (requests(lambda sid: http("GET", sid, version="1.0"), before=sends), {}),
    "kept by HTTP/1.0": (
        requests(lambda sid: http("GET", sid, None, "Connection: keep-alive", version="1.0"), before=sends),
        {},
    ),
    "close": (requests(lambda sid: http("GET", sid, None, "Connection: close"), before=sends), {}),
    "unknown id": (requests(lambda sid: http("GET", "2-nobody"), lambda sid: http("POST", "2-nobody", b"4a")), {}),
    "no packet": (requests(lambda sid: http("POST", sid, b"x")), {}),
    "JSONP": (
        requests(lambda sid: http("POST", sid, b"d=4a%5Cnb", more="&j=1"), lambda sid: http("GET", sid, more="&j=1")),
        {},
    ),
    "pipelined": (
        requests(lambda sid: http("POST", sid, b"4a") + http("POST", sid, b"4b") + http("GET", sid), before=sends),
        {},
    ),
    "pipelined behind a page": (
        requests(lambda sid: b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n" + http("GET", sid), before=sends),
        {},
    ),
    "long": (requests(lambda sid: http("GET", sid), before=lambda socket: socket.send(LONG)), {}),
    "longer than a request may be": (
        requests(lambda sid: http("GET", sid), before=lambda socket: socket.send(LONG * 10)),
        {"maxHttpBufferSize": 100_000},
    ),
    "compressed": (
        requests(
            lambda sid: http("GET", sid, None, "Accept-Encoding: gzip"), before=lambda socket: socket.send("x" * 20_000)
        ),
        {},
    ),
    "origin": (
        requests(lambda sid: http("GET", sid, None, "Origin: http://b.example"), before=sends),
        {"cors": {"origin": "http://b.example"}},
    ),
    "refused by HTTP version of a WebSocket": (requests(lambda sid: upgrade(sid, version=8)), {}),
    "too large by its length": (requests(lambda sid: http("POST", sid, b"4" * 101)), {"maxHttpBufferSize": 100}),
    "too large by chunks": (
        requests(lambda sid: http("POST", sid, None, "Transfer-Encoding: chunked") + b"ff\r\n" + b"4" * 255),
        {"maxHttpBufferSize": 100},
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_answers(name: str) -> None:
    """Byte by byte, and the same becomes of the session."""
    tell, options = SAME[name]
    expected, found = story(tell, **options)
    assert found == expected
    assert expected[0][0][0], "nothing came at all"


@pytest.mark.parametrize("name", ["write", "pipelined", "JSONP", "chunked", "close", "unknown id"])
@pytest.mark.parametrize("pieceSize", [1, 2, 7])
def test_answersInPieces(name: str, pieceSize: int) -> None:
    """Links may deliver any pieces."""
    tell, options = SAME[name]
    expected, found = story(tell, pieceSize=pieceSize, **options)
    assert found == expected


# Requests that wait, and clients that go


def waiting(pair: Pair) -> Any:
    """The poll waits elsewhere, then data comes; then again on the same connection."""
    sid = pair.open()
    client = pair.connect(http("GET", sid))
    before = bytes(client.received)
    pair.socket.send("late")
    pair.settle()
    pair.send(client, http("GET", sid))
    pair.socket.send("later")
    pair.settle()
    return before, plainly(client.received), client.isLost


def overlapping(pair: Pair) -> Any:
    """A second GET ends the session, and the first with it."""
    sid = pair.open()
    first, second = pair.connect(http("GET", sid)), pair.connect(http("GET", sid))
    return plainly(first.received), plainly(second.received), first.isLost, second.isLost


def closedByServer(pair: Pair) -> Any:
    sid = pair.open()
    client = pair.connect(http("GET", sid))
    pair.socket.close()
    pair.settle()
    return plainly(client.received), client.isLost


def closedByClient(pair: Pair) -> Any:
    sid = pair.open()
    poll = pair.connect(http("GET", sid))
    push = pair.connect(http("POST", sid, b"4last\x1e1"))
    return plainly(poll.received), plainly(push.received)


def dropped(pair: Pair, how: str = "lose") -> Any:
    """The connection of a GET that waits is lost."""
    sid = pair.open()
    client = pair.connect(http("GET", sid))
    getattr(client.connection, how)()
    pair.settle()
    return pair.owner.clientsCount, bytes(client.received)


def finished(pair: Pair) -> Any:
    return dropped(pair, "finish")


def pushedAndGone(pair: Pair) -> Any:
    """What came whole is served, though its client has gone."""
    sid = pair.open()
    client = pair.connect()
    client.connection.send(http("POST", sid, b"4a"))
    client.connection.finish()
    pair.settle()
    return pair.owner.clientsCount


def heldBack(pair: Pair) -> Any:
    """A session that is paused acknowledges nothing, until it goes on."""
    sid = pair.open()
    pair.socket.pauseReceiving()
    client = pair.connect(http("POST", sid, b"4a"))
    before = bytes(client.received), list(pair.events)
    pair.socket.resumeReceiving()
    pair.advance(0.1)
    return before, plainly(client.received)


def bodyLost(pair: Pair) -> Any:
    """The connection is lost before the body is complete."""
    sid = pair.open()
    client = pair.connect(http("POST", sid, None, "Content-Length: 5") + b"4a")
    client.connection.lose()
    pair.settle()
    return pair.owner.clientsCount


def bodyTooSlow(pair: Pair) -> Any:
    sid = pair.open()
    client = pair.connect(http("POST", sid, None, "Content-Length: 5") + b"4a")
    pair.advance(1.5)
    return plainly(client.received), pair.owner.clientsCount


def bodyTooLargeWhilePolled(pair: Pair) -> Any:
    """The poll that waits ends with the session."""
    sid = pair.open()
    poll = pair.connect(http("GET", sid))
    push = pair.connect(http("POST", sid, b"4" * 5000))
    return plainly(poll.received), plainly(push.received)


def pinged(pair: Pair) -> Any:
    """Three rounds of pings, over connections that all come to another worker."""
    sid = pair.open()
    came = []
    for _ in range(3):
        client = pair.connect(http("GET", sid))
        pair.advance(1)
        came.append(plainly(client.received))
        came.append(plainly(pair.connect(http("POST", sid, b"3")).received))
    pair.advance(10)
    return came, pair.owner.clientsCount


STORIES: list[tuple[Callable[[Pair], Any], dict[str, Any]]] = [
    (waiting, {}),
    (overlapping, {}),
    (closedByServer, {}),
    (closedByClient, {}),
    (dropped, {}),
    (finished, {}),
    (pushedAndGone, {}),
    (heldBack, {}),
    (bodyLost, {}),
    (bodyTooSlow, {"httpRequestBodyTimeout": 1000}),
    (bodyTooLargeWhilePolled, {"maxHttpBufferSize": 1000}),
    (pinged, {"pingInterval": 1000, "pingTimeout": 2000}),
]


@pytest.mark.parametrize(("tell", "options"), STORIES)
def test_stories(tell: Callable[[Pair], Any], options: dict[str, Any]) -> None:
    """What comes, when, and how the session ends."""
    expected, found = story(tell, **options)
    assert found == expected


# WebSockets


def webSocket(offer: str | None = None, behind: bytes = b"") -> Callable[[Pair], Any]:
    """Return a story: a session moves to a WebSocket, messages go both ways, and the server closes it."""

    def tell(pair: Pair) -> Any:
        sid = pair.open()
        pair.socket.on("message", pair.socket.send)
        headers = [] if offer is None else [f"Sec-WebSocket-Extensions: {offer}"]
        client = pair.connect(upgrade(sid, *headers) + behind)
        if not behind:
            pair.send(client, makeFrame("2probe"))
        came = [plainly(client.received)]
        pair.send(client, makeFrame("5"))
        for each in ("4text", b"\0\1", "4" + "y" * 70_000):
            pair.send(client, makeFrame(each))
        pair.socket.send("bye" * 1000)
        pair.socket.close()
        pair.settle()
        came.append(plainly(client.received))
        pair.send(client, makeFrame(b"\x03\xe8", opcode=8))
        pair.advance(4)
        return came, client.isLost

    return tell


@pytest.mark.parametrize("offer", [None, "permessage-deflate"])
@pytest.mark.parametrize("behind", [b"", makeFrame("2probe")])
@pytest.mark.parametrize("pieceSize", [None, 3])
def test_webSockets(offer: str | None, behind: bytes, pieceSize: int | None) -> None:
    """With the probe in the same segment, compressed by owner and client, in pieces."""
    options: dict[str, Any] = {"perMessageDeflate": True} if offer else {}
    expected, found = story(webSocket(offer, behind), pieceSize=pieceSize, **options)
    assert found == expected
    assert b"101" in expected[0][0][0]


def webSocketEnds(how: str) -> Callable[[Pair], Any]:
    def tell(pair: Pair) -> Any:
        sid = pair.open()
        client = pair.connect(upgrade(sid) + makeFrame("2probe"))
        pair.send(client, makeFrame("5"))
        if how == "close":
            pair.send(client, makeFrame(b"\x03\xe8", opcode=8))
        elif how == "close packet":
            pair.send(client, makeFrame("1"))
        elif how == "wrong":
            pair.send(client, makeFrame("x"))
        elif how == "discard":
            pair.socket.close(discard=True)
        else:
            getattr(client.connection, how)()
        pair.settle()
        pair.advance(4)
        return plainly(client.received), client.isLost, pair.owner.clientsCount

    return tell


@pytest.mark.parametrize("how", ["close", "close packet", "wrong", "discard", "lose", "finish"])
def test_endsOfWebSockets(how: str) -> None:
    """By either side, in order or not: the session ends for the same reason."""
    expected, found = story(webSocketEnds(how))
    assert found == expected
    assert expected[1]


def test_counts() -> None:
    """Requests and WebSockets that are relayed are counted by the front, and nothing else of them is."""
    pair = Pair()
    sid = pair.open()
    client = pair.connect(upgrade(sid) + makeFrame("2probe"))
    front = pair.frontCluster.front
    assert (front.relayed, front.webSockets) == (1, 1)
    client.connection.lose()
    pair.settle()
    assert (front.relayed, front.webSockets) == (1, 0)
    assert pair.leftovers() == []


# Who is it


def facts(pair: Pair, *addresses: str) -> list[Any]:
    """Return what an application sees of requests from some addresses."""
    sid = pair.open()
    seen: list[Any] = []
    pair.owner.use(lambda request: seen.append((request.getClientAddress(), request.isSecure())))
    for each in addresses:
        pair.connect(http("POST", sid, b"4a"), address=each)
    return seen


def test_address() -> None:
    """The application sees the client's address, and never the link's."""
    expected, found = story(lambda pair: facts(pair, "192.0.2.55", "2001:db8::1"))
    assert [(each.host, isSecure) for each, isSecure in found[0]] == [("192.0.2.55", False), ("2001:db8::1", False)]
    assert [(each.host, isSecure) for each, isSecure in expected[0]] == [
        (each.host, isSecure) for each, isSecure in found[0]
    ]


def test_secure(monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS ends at the front; to the application the request came with it."""
    pair = Pair()
    monkeypatch.setattr(pair.network, "connectionClass", SecureConnection)
    ((_, isSecure),) = facts(pair, "192.0.2.55")
    assert isSecure


def test_unix(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client on a UNIX socket has no address."""
    pair = Pair()
    monkeypatch.setattr(pair.network, "connectionClass", UNIXConnection)
    ((address, isSecure),) = facts(pair, "192.0.2.55")
    assert (address, isSecure) == (UNIXAddress(None), False)


# Links


def polled(pair: Pair, sid: str, count: int) -> list[Any]:
    return [pair.connect(http("GET", pair.open())) for _ in range(count)]


def test_linksAreUsedAgain() -> None:
    """One after the other needs one link, however many clients."""
    pair = Pair()
    sid = pair.open()
    for _ in range(20):
        assert b"ok" in pair.connect(http("POST", sid, b"4a")).received
    assert len(pair.links) == 1
    assert pair.leftovers() == []


def test_freeLinks() -> None:
    """Each request that waits has a link; 32 are kept, for 60 s."""
    pair = Pair(pingInterval=10**8)
    clients = polled(pair, pair.open(), 40)
    assert len(pair.links) == 40
    for each in pair.sockets:
        each.send("x")
    pair.settle()
    assert all(b"4x" in each.received for each in clients)
    assert len(pair.free) == 32
    assert sum(not each.disconnected for each, _ in pair.links) == 32
    pair.advance(61)
    assert pair.free == []
    assert all(ours.disconnected and theirs.disconnected for ours, theirs in pair.links)
    assert pair.leftovers() == []


def test_ownerGone() -> None:
    """A request that wasn't answered gets its connection closed, a WebSocket too; nothing is tried again."""
    pair = Pair()
    poll = pair.connect(http("GET", pair.open()))
    sid = pair.open()
    webSocket = pair.connect(upgrade(sid) + makeFrame("2probe"))
    pair.frontCluster.neighbourLost(pair.neighbour)
    for _, theirs in pair.links:
        theirs.abortConnection()
    pair.settle()
    pair.advance(4)
    assert poll.isLost
    assert not poll.received
    assert webSocket.isLost
    answer = pair.connect(http("GET", sid)).received
    assert answer.startswith(b"HTTP/1.1 400")
    assert b'"code":1' in answer
    assert pair.frontCluster.front.relayed == 2
    assert pair.leftovers() == []


def test_noDescriptorLeft() -> None:
    """Without a link a request is refused, and the connection closed; the next one may be served."""
    pair = Pair()
    sid = pair.open()
    pair.neighbour.error = OSError(24, "Too many open files")
    client = pair.connect(http("POST", sid, b"4a"))
    assert client.received.startswith(b"HTTP/1.1 503")
    assert client.isLost
    pair.neighbour.error = None
    assert b"ok" in pair.connect(http("POST", sid, b"4b")).received
    assert pair.events[0] == "b"
    assert pair.leftovers() == []


NO_ADDRESS = b'[["TCP",["x"],1],["TCP","x",1],false,false]'
FRAMES = [b"\0\0\0\0\x09", b"\xff\xff\xff\xff\2", frame(Kind.REQUEST), frame(Kind.ANSWER, b"x") * 2]


@pytest.mark.parametrize(
    "data",
    [*FRAMES, frame(Kind.ABORTED, b"{}"), frame(Kind.REQUEST, len(NO_ADDRESS).to_bytes(2, "big") + NO_ADDRESS)],
)
def test_wrongFramesToOwner(data: bytes, mayLog: None) -> None:
    """An unknown kind, a length or a payload that is none ends the link, and nothing else."""
    pair = Pair()
    sid = pair.open()
    pair.connect(http("POST", sid, b"4a"))
    ((ours, theirs),) = pair.links
    ours.write(data)
    pair.settle()
    assert ours.disconnected
    assert theirs.disconnected
    assert b"ok" in pair.connect(http("POST", sid, b"4b")).received
    assert pair.events == ["a", "b"]
    assert pair.leftovers() == []


@pytest.mark.parametrize("data", [*FRAMES[:3], frame(Kind.ABORTED, b"{}")])
def test_wrongFramesToFront(data: bytes, mayLog: None) -> None:
    """The same at the front; the client of the request that was being answered is cut."""
    pair = Pair()
    client = pair.connect(http("GET", pair.open()))
    ((_, theirs),) = pair.links
    theirs.write(data)
    pair.settle()
    assert client.isLost
    assert pair.owner.clientsCount == 0
    assert pair.leftovers() == []


# The pace


def test_clientThatDoesNotRead() -> None:
    """What a client doesn't read of a WebSocket waits in its session: the front and the link keep little."""
    pair = Pair(maxHttpBufferSize=10**6)
    sid = pair.open()
    client = pair.connect(upgrade(sid) + makeFrame("2probe"))
    pair.send(client, makeFrame("5"))
    client.connection.toClient.isHeld = True
    ((_ours, theirs),) = pair.links
    for _ in range(100):
        pair.socket.send("y" * 20_000)
        pair.settle()
    assert client.connection.toClient.size < 4 * 65536
    assert len(theirs._waiting) < 4 * 65536
    assert pair.socket.bufferedAmount > 100 * 20_000 - 8 * 65536
    before = len(client.received)
    client.connection.toClient.isHeld = False
    pair.network.wake(client.connection)
    pair.advance(1)
    assert len(client.received) - before > 100 * 20_000
    assert pair.socket.bufferedAmount == 0
    assert pair.leftovers() == []


def test_ownerThatDoesNotRead() -> None:
    """A session that is paused holds its client back, through the front."""
    pair = Pair(maxHttpBufferSize=10**6)
    sid = pair.open()
    client = pair.connect(upgrade(sid) + makeFrame("2probe"))
    pair.send(client, makeFrame("5"))
    pair.socket.pauseReceiving()
    for _ in range(100):
        pair.send(client, makeFrame("4" + "y" * 20_000))
    ((ours, _),) = pair.links
    assert len(ours._waiting) < 4 * 65536
    assert client.connection.toServer.size > 100 * 20_000 - 8 * 65536
    assert not pair.events
    pair.socket.resumeReceiving()
    pair.advance(1)
    assert [len(each) for each in pair.events] == [20_000] * 100
    assert pair.leftovers() == []


def test_responseThatIsNotRead() -> None:
    """A long response goes at the pace of its client, and its link serves the next one when that has read it."""
    pair = Pair()
    sid = pair.open()
    client = pair.connect()
    client.connection.toClient.isHeld = True
    pair.socket.send("z" * 10**6)
    pair.send(client, http("GET", sid))
    ((_ours, theirs),) = pair.links
    assert client.connection.toClient.size < 4 * 65536
    assert len(theirs._waiting) > 10**6 - 4 * 65536
    assert pair.socket.bufferedAmount > 10**6 - 6 * 65536
    # No other response before this is read.
    pair.socket.send("next")
    other = pair.connect(http("GET", sid))
    assert not other.received
    client.connection.toClient.isHeld = False
    pair.network.wake(client.connection)
    pair.advance(1)
    assert client.received.endswith(b"z" * 10**6)
    assert b"4next" in other.received
    assert len(pair.free) == 2
    # Both can be used again.
    for each in [pair.connect(http("POST", sid, b"4a")), pair.connect(http("POST", sid, b"4a"))]:
        assert b"ok" in each.received
    assert pair.leftovers() == []
