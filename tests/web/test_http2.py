"""Polling over HTTP/2, on a site of twisted.web's own: sessions share a connection, and none suffers from another."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.protocols.basic import LineReceiver

from engineio_twisted.endpoints import SessionEndpoint

from ..kit.clients import INTEROP, Run, within
from ..kit.footprint import footprint
from ..kit.http2 import (
    Client,
)
from ..kit.http2 import (
    listening as listening,
)
from ..kit.wire import eventually, target

Connect = Callable[..., Awaitable[Client]]


@pytest.mark.parametrize("attached", [True, False])
@pytest_twisted.ensureDeferred
async def test_polling(listening: Any, attached: bool) -> None:
    """A session opens, a GET waits while a POST delivers, what is beside is served: all on one connection."""
    here = await listening(attached)
    client = await here.connect()
    session = await client.open()
    assert here.socket.remoteAddress == "127.0.0.1"
    _, poll = client.ask(session)
    assert (await client.get("/page")).text == "a page"
    assert not poll.headers
    posted = await client.post(session, "4héllo".encode())
    assert (posted.status, posted.text) == (200, "ok")
    assert (await poll.over()).text == "4héllo"
    assert poll.headers["content-type"] == "text/plain; charset=UTF-8"
    _, poll = client.ask(session)
    assert (await client.post(session, b"1")).text == "ok"
    assert (await poll.over()).text == "6"
    await eventually(lambda: here.closed, "the end of the session")
    assert here.closed == [("transport close", "close packet")]


@pytest_twisted.ensureDeferred
async def test_manySessionsOnOneConnection(listening: Any) -> None:
    """Forty sessions wait at once, each for its own messages; when the server closes, each is told."""
    here = await listening()
    client = await here.connect()
    sessions = [await client.open() for _ in range(40)]
    polls = [client.ask(each)[1] for each in sessions]
    posts = [
        client.ask(each, "POST", f"4message {number}".encode())[1] for number, each in reversed([*enumerate(sessions)])
    ]
    for each in posts:
        assert (await each.over()).text == "ok"
    assert [(await each.over()).text for each in polls] == [f"4message {number}" for number in range(40)]
    polls = [client.ask(each)[1] for each in sessions]
    await client.get("/page")
    await within(here.server.close(), "the server to close")
    assert {(await each.over()).text for each in polls} == {"1"}
    assert (await client.get(target())).status == 503
    assert here.closed == [("server shutting down", "the server is closing")] * 40


@pytest_twisted.ensureDeferred
async def test_aPollThatIsGivenUp(listening: Any) -> None:
    """A stream that the client resets ends its session, and no other; the connection stays."""
    here = await listening()
    client = await here.connect()
    given, other = await client.open(), await client.open()
    stream, _ = client.ask(given)
    _, poll = client.ask(other)
    await client.get("/page")
    client.reset(stream)
    await eventually(lambda: here.closed, "the end of the session")
    assert here.closed == [("transport error", "poll connection closed prematurely")]
    assert (await client.get(given)).status == 400
    assert (await client.post(other, b"4still here")).text == "ok"
    assert (await poll.over()).text == "4still here"


@pytest_twisted.ensureDeferred
async def test_aConnectionThatIsLost(listening: Any) -> None:
    """All sessions that wait on it end."""
    here = await listening()
    client = await here.connect()
    for each in [await client.open() for _ in range(3)]:
        client.ask(each)
    await client.get("/page")
    await here.leave()
    await eventually(lambda: len(here.closed) == 3, "the end of the sessions")
    assert {reason for reason, _ in here.closed} == {"transport error"}


@pytest_twisted.ensureDeferred
async def test_largeAnswers(listening: Any) -> None:
    """Large messages arrive whole, compressed in pieces or not at all, while others are served."""
    here = await listening(pingInterval=60000)
    client = await here.connect()
    session, other = await client.open(), await client.open()
    text = "".join(map(str, range(400_000)))
    for headers in ({}, {"accept_encoding": "gzip"}):
        _, poll = client.ask(session, **headers)
        _, beside = client.ask(other)
        await client.get("/page")
        for socket in here.server.clients.values():
            socket.send(text if socket.id in session else "short")
        assert (await beside.over()).text == "4short"
        await poll.over()
        body = gzip.decompress(poll.body) if headers else poll.body
        assert (body == f"4{text}".encode()) is True
        assert poll.headers.get("content-encoding") == ("gzip" if headers else None)


@pytest.mark.parametrize("headers", [{}, {"accept_encoding": "gzip"}])
@pytest_twisted.ensureDeferred
async def test_whoDoesNotRead(listening: Any, headers: dict[str, str]) -> None:
    """A client that doesn't read its answers gets no more of them than it may leave unread on any connection."""
    here = await listening()
    client = await here.connect(reads=False)
    session = await client.open()
    socket = here.socket
    # Random, or it would shrink to nothing.
    message = random.Random(1).randbytes(300_000)
    asked: list[Any] = []
    here.server.use(asked.append)
    for number in (1, 2):
        socket.send(message)
        client.ask(session, **headers)
        await eventually(lambda number=number: len(asked) == number, "the request")
    for _ in range(8):
        socket.send(message)
    assert len(socket.writeBuffer) == 9
    assert socket.bufferedAmount > 9 * len(message)
    assert here.closed == []
    await within(here.server.close(), "the server to close")


@pytest.mark.parametrize("headers", [{}, {"accept_encoding": "gzip"}])
@pytest_twisted.ensureDeferred
async def test_whoDoesNotReadIsCutOff(listening: Any, headers: dict[str, str]) -> None:
    """Where its session ends by the limit of what may wait, the stream that it doesn't read is reset, and no other."""
    here = await listening(maxBufferedBytes=1_000_000)
    client = await here.connect(reads=False)
    session = await client.open()
    other = await client.open()
    socket = here.server.clients[session.partition("sid=")[2]]
    message = random.Random(1).randbytes(300_000)
    socket.send(message)
    _, unread = client.ask(session, **headers)
    await unread.until(lambda: len(unread.body) > 60_000, "what fits into the window")
    _, waiting = client.ask(other)
    for _ in range(3):
        socket.send(message)
    assert (await unread.over()).error == 0
    assert [reason for reason, _ in here.closed] == ["buffer limit exceeded"]
    assert not waiting.headers
    # What it has not acknowledged of one stream counts for the whole connection.
    client.h2.increment_flow_control_window(1_000_000)
    client.flush()
    client.reads = True
    assert (await client.post(other, b"4still here")).text == "ok"
    assert (await waiting.over()).text == "4still here"


@pytest_twisted.ensureDeferred
async def test_aSiteThatIsImpatient(listening: Any) -> None:
    """Twisted counts a connection as idle on which streams wait: a site on which that ends sessions is named, once."""
    warnings: list[Any] = []

    def observe(event: Any) -> None:
        if event.get("log_level") is LogLevel.warn:
            warnings.append(formatEvent(event))

    here = await listening(pingInterval=60000)
    other = await listening(pingInterval=59999)
    globalLogPublisher.addObserver(observe)
    try:
        for each in (other, here, here):
            client = await each.connect()
            await client.open()
            await client.open()
    finally:
        globalLogPublisher.removeObserver(observe)
    (warning,) = warnings
    assert "nothing is sent for 60 s" in warning
    assert "pingInterval, 60000 ms" in warning


@pytest_twisted.ensureDeferred
async def test_aBodyThatIsTooLarge(listening: Any) -> None:
    """It is refused when it has said how long it is, or got too long; the connection, and who shares it, go on."""
    here = await listening(maxHttpBufferSize=1000)
    client = await here.connect()
    session = await client.open()
    for headers, size in (({"content_length": "5000"}, 1), ({}, 1001)):
        large = await client.open()
        _, waiting = client.ask(large)
        stream, refused = client.ask(large, "POST", b"4" * size, ends=False, **headers)
        await refused.until(lambda refused=refused: b"}" in refused.body, "the refusal")
        assert refused.status == 413
        assert json.loads(refused.text)["message"] == "the body is larger than maxHttpBufferSize, 1000 bytes"
        assert not refused.isComplete
        # It goes on sending.
        client.send(stream, b"4" * (5000 - size), ends=True)
        await refused.over()
        assert refused.isComplete
        assert (await waiting.over()).text == "1"
        assert here.closed.pop() == ("transport error", "the body is larger than maxHttpBufferSize, 1000 bytes")
    _, poll = client.ask(session)
    assert (await client.post(session, b"4" + b"x" * 999)).text == "ok"
    assert len((await poll.over()).text) == 1000
    assert len(here.server._router.reading) == 0


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE"])
@pytest.mark.parametrize("path", ["session", "handshake"])
@pytest_twisted.ensureDeferred
async def test_aBodyOfAnotherMethod(listening: Any, method: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what comes with a request that has no use for it no more is kept, and for no longer; no session ends by it."""
    monkeypatch.setattr("engineio_twisted.web.requests.LINGER_TIME", 0.05)
    here = await listening(maxHttpBufferSize=1000, httpRequestBodyTimeout=50)
    client = await here.connect()
    session = await client.open()
    target_ = session if path == "session" else target()
    _, refused = client.ask(target_, method, b"x" * 1001, ends=False)
    assert (await refused.over()).status == 413
    for body in (None, b"x" * 1000):
        _, slow = client.ask(target_, method, body, ends=False)
        assert (await slow.over()).status == 408
    assert len(here.server._router.reading) == 0
    assert here.closed == []
    await echoes(client, session)


@pytest_twisted.ensureDeferred
async def test_aLargeBodyThatGoesOn(listening: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who goes on sending what was refused has its stream reset, with no error: it has its answer."""
    monkeypatch.setattr("engineio_twisted.web.requests.LINGER_TIME", 0.05)
    here = await listening(maxHttpBufferSize=1000)
    client = await here.connect()
    session = await client.open()
    _, refused = client.ask(await client.open(), "POST", b"4" * 1001, ends=False)
    assert (await refused.over()).error == 0
    assert refused.status == 413
    assert (await client.post(session, b"4hello")).text == "ok"
    assert len(here.server._router.reading) == 0


@pytest_twisted.ensureDeferred
async def test_aBodyThatTrickles(listening: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time for a body is bounded: then it gets 408, its session ends, its stream is reset, and others go on."""
    monkeypatch.setattr("engineio_twisted.web.requests.LINGER_TIME", 0.05)
    here = await listening(httpRequestBodyTimeout=50)
    client = await here.connect()
    session, other = await client.open(), await client.open()
    _, slow = client.ask(session, "POST", b"4", ends=False)
    assert (await slow.over()).error == 0
    assert slow.status == 408
    assert here.closed == [("transport error", "the body did not come within httpRequestBodyTimeout, 50 ms")]
    assert (await client.post(other, b"4hello")).text == "ok"


@pytest_twisted.ensureDeferred
async def test_twoBodiesAtOnce(listening: Any) -> None:
    """A second POST on a session is refused as it begins; both end, and so does the session, but nothing else."""
    here = await listening()
    client = await here.connect()
    session, other = await client.open(), await client.open()
    _, first = client.ask(session, "POST", b"4", ends=False)
    await client.get("/page")
    second = await client.post(session, b"4hello")
    assert (second.status, json.loads(second.text)["message"]) == (400, "a POST of this session is being read already")
    assert (await first.over()).error == 0
    assert here.closed == [("transport error", "overlapping POST requests")]
    assert (await client.post(other, b"4hello")).text == "ok"
    assert len(here.server._router.reading) == 0


@pytest_twisted.ensureDeferred
async def test_closedWhileABodyIsRead(listening: Any) -> None:
    """A server that closes doesn't wait for it."""
    here = await listening()
    client = await here.connect()
    session = await client.open()
    _, first = client.ask(session, "POST", b"4", ends=False)
    _, unknown = client.ask(target(sid="unknown"), "POST", b"4", ends=False)
    await client.get("/page")
    await within(here.server.close(), "the server to close")
    assert ((await first.over()).error, (await unknown.over()).error) == (0, 0)
    assert (await client.get("/page")).text == "a page"


@pytest_twisted.ensureDeferred
async def test_otherOriginsReadRefusals(listening: Any) -> None:
    """A refusal that comes early has the headers by which a page of another origin may read it."""
    here = await listening(maxHttpBufferSize=1000, cors={"origin": "https://example.com"})
    client = await here.connect()
    session = await client.open()
    _, refused = client.ask(session, "POST", b"4", ends=False, content_length="5000", origin="https://example.com")
    assert (await refused.began()).headers["access-control-allow-origin"] == "https://example.com"
    assert "connection" not in refused.headers


@pytest.mark.parametrize("isGivenUp", [False, True])
@pytest_twisted.ensureDeferred
async def test_aRefusalThatTakesTime(listening: Any, isGivenUp: bool) -> None:
    """Who may read it may be decided late: when the body is complete, or its stream has been given up."""
    decided: list[Deferred[str]] = []

    def decide(origin: str | None) -> Deferred[str]:
        decided.append(Deferred())
        return decided[-1]

    here = await listening(maxHttpBufferSize=1000, cors={"origin": decide})
    client = await here.connect()
    stream, refused = client.ask(target(sid="unknown"), "POST", b"4" * 1001, ends=not isGivenUp)
    await eventually(lambda: decided, "the question")
    if isGivenUp:
        client.reset(stream)
        await eventually(lambda: len(here.server._router.reading) == 0, "the end of the stream")
    else:
        assert (await client.get("/page")).text == "a page"
        decided[0].callback("https://example.com")
        assert (await refused.over()).headers["access-control-allow-origin"] == "https://example.com"
        assert (refused.status, refused.error) == (413, None)
    assert (await client.get("/page")).text == "a page"
    assert len(here.server._router.reading) == 0


@pytest_twisted.ensureDeferred
async def test_aWebSocketOverHTTP2(listening: Any) -> None:
    """There is none: the client is told to use HTTP/1.1, which this port speaks too."""
    here = await listening()
    client = await here.connect()
    answer = await client.get(target(transport="websocket"))
    assert answer.status in (400, 426)
    assert here.server.clientsCount == 0


@pytest.mark.node
@pytest.mark.parametrize("givesUp", [[], ["giveUp"]], ids=["", "gives up"])
@pytest_twisted.ensureDeferred
async def test_node(listening: Any, node: str, start: Run, givesUp: list[str]) -> None:
    """The HTTP/2 of Node.js polls, also while other requests on its connection are given up."""
    here = await listening()
    program = start([node, INTEROP / "http2.mjs", f"https://127.0.0.1:{here.port}", *givesUp])
    await program.finish()
    assert [each["count"] for each in program.named("givenUp")] == [30] * len(givesUp)
    opened, posted, polled = program.named("answer")
    assert (opened["status"], opened["text"][0]) == (200, "0")
    assert [(each["status"], each["text"]) for each in (posted, polled)] == [(200, "ok"), (200, "4hello")]
    assert program.named("settings") == [{"event": "settings", "enableConnectProtocol": False}]


# What one client does on a connection, and what the other sessions on it notice of that


async def echoes(client: Client, session: str, text: str = "still here") -> None:
    """Show that a session whose GET doesn't wait is served."""
    _, poll = client.ask(session)
    assert (await client.post(session, f"4{text}".encode())).text == "ok"
    assert (await poll.over()).text == f"4{text}"


@pytest.mark.parametrize("attached", [True, False])
@pytest.mark.parametrize("order", [("GET", "POST"), ("POST", "GET"), ("POST",), ("GET",)], ids="-".join)
@pytest_twisted.ensureDeferred
async def test_streamsThatAreResetTogether(listening: Any, order: tuple[str, ...], attached: bool) -> None:
    """A GET that waits and half a POST, reset in one segment, end their session once, and no other."""
    here = await listening(attached)
    client = await here.connect()
    session, other = await client.open(), await client.open()
    streams = {}
    for method in ("GET", "POST"):
        streams[method], _ = client.ask(session, method, None if method == "GET" else b"4half", ends=method == "GET")
    await client.get("/page")
    with client.together():
        for method in order:
            client.reset(streams[method])
    # Below the root of a site of twisted.web's nobody hears of a body that isn't complete.
    if attached or "GET" in order:
        await eventually(lambda: here.closed, "the end of the session")
        assert len(here.closed) == 1
        assert here.closed[0][0] == "transport error"
    await echoes(client, other)
    assert len(here.server._router.reading) == 0


@pytest.mark.parametrize("order", [("GET", "POST"), ("POST", "GET")], ids="-".join)
@pytest.mark.parametrize("how", ["GOAWAY", "lost", "nonsense"])
@pytest_twisted.ensureDeferred
async def test_connectionsThatEnd(listening: Any, how: str, order: tuple[str, ...]) -> None:
    """Every session with a GET or half a POST on a connection ends with it, at once, whatever comes first."""
    here = await listening(pingInterval=60000)
    client, elsewhere = await here.connect(), await here.connect()
    other = await elsewhere.open()
    sessions = [await client.open() for _ in range(5)]
    for session in sessions:
        for method in order:
            client.ask(session, method, None if method == "GET" else b"4half", ends=method == "GET")
    alone = await client.open()
    client.ask(alone, "POST", b"4half", ends=False)
    await client.get("/page")
    if how == "GOAWAY":
        client.h2.close_connection()
        client.flush()
    elif how == "nonsense":
        assert client.transport is not None
        # A frame of data for no stream.
        client.transport.write(bytes(9))
    else:
        await here.leave(client)
    await eventually(lambda: len(here.closed) == 6, "the end of the sessions")
    assert {reason for reason, _ in here.closed} == {"transport error"}
    assert len(here.server._router.reading) == 0
    await echoes(elsewhere, other)


@pytest_twisted.ensureDeferred
async def test_closeHandlersThatSend(listening: Any) -> None:
    """A session may broadcast when it ends, while the connection of those that it sends to goes away."""
    here = await listening()
    client = await here.connect()
    for session in [await client.open() for _ in range(4)]:
        client.ask(session)
        client.ask(session, "POST", b"4half", ends=False)
    here.server.on("connection", lambda socket: None)
    for socket in here.server.clients.values():
        socket.on("close", lambda reason, description: here.server.broadcast("one has left"))
    await client.get("/page")
    client.h2.close_connection()
    client.flush()
    await eventually(lambda: len(here.closed) == 4, "the end of the sessions")


@pytest.mark.parametrize("headers", [{"content_length": "10", "a(b": "1"}, {"a(b": "1", "content_length": "10"}])
@pytest_twisted.ensureDeferred
async def test_aHeaderThatIsNone(listening: Any, headers: dict[str, str], loggedErrors: list[Any]) -> None:
    """A request whose headers are found wrong after its length is none that is being read."""
    here = await listening(httpRequestBodyTimeout=60_000)
    client = await here.connect()
    session = await client.open()
    # What it sends isn't checked by its own library.
    client.h2.config.validate_outbound_headers = False
    client.ask(session, "POST", b"4half", ends=False, **headers)
    await client.lost()
    # That is Twisted's, which doesn't know what to do with it.
    (error,) = loggedErrors
    assert "InvalidHeaderName" in str(error)
    loggedErrors.clear()
    assert len(here.server._router.reading) == 0
    await within(here.server.close(), "the server to close")


@pytest.mark.parametrize("length", ["6|6", "6"])
@pytest_twisted.ensureDeferred
async def test_aLengthThatComesTwice(listening: Any, length: str) -> None:
    """Two equal lengths are one: what came is delivered, and no timer is left."""
    here = await listening(httpRequestBodyTimeout=60_000)
    client = await here.connect()
    session = await client.open()
    stream, posted = client.ask(session, "POST", b"4he", ends=False, content_length=length)
    await client.get("/page")
    assert len(here.server._router.reading) == 1
    client.send(stream, b"llo", ends=True)
    assert (await posted.over()).text == "ok"
    assert len(here.server._router.reading) == 0
    assert (await client.get(session)).text == "4hello"


REQUESTS: dict[str, Callable[[Client, str], tuple[int, Any]]] = {
    "handshake": lambda client, session: client.ask(target()),
    "poll": lambda client, session: client.ask(session),
    "post": lambda client, session: client.ask(session, "POST", b"4hello"),
    "half a post": lambda client, session: client.ask(session, "POST", b"4hello", ends=False),
    "too large": lambda client, session: client.ask(session, "POST", b"4" + b"x" * 2000),
    "unknown": lambda client, session: client.ask(target(sid="unknown")),
    "to nobody": lambda client, session: client.ask(target(sid="unknown"), "POST", b"4" + b"x" * 2000),
    "method": lambda client, session: client.ask(session, "PUT"),
    "preflight": lambda client, session: client.ask(session, "OPTIONS", origin="https://a.example"),
    "expecting": lambda client, session: client.ask(
        session, "POST", b"4hello", ends=False, content_length="9", expect="100-continue"
    ),
    "page": lambda client, session: client.ask("/page"),
    "page expecting": lambda client, session: client.ask("/page", "POST", ends=False, expect="100-continue"),
    "missing": lambda client, session: client.ask("/missing"),
}


@pytest.mark.parametrize(
    ("kind", "attached"),
    # Pages below the root of a site of twisted.web's, and what expects to be told to continue, are Twisted's own.
    [(each, True) for each in REQUESTS]
    + [(each, False) for each in REQUESTS if "page" not in each and each not in ("missing", "expecting")],
)
@pytest_twisted.ensureDeferred
async def test_aRequestAndItsReset(listening: Any, kind: str, attached: bool) -> None:
    """A request that is given up in the segment that it came in opens nothing, and keeps nobody from being answered."""
    here = await listening(attached, maxHttpBufferSize=1000, cors={"origin": "*"})
    client = await here.connect()
    session, other = await client.open(), await client.open()
    _, waiting = client.ask(other)
    await client.get("/page")
    for _ in range(3):
        with client.together():
            stream, _ = REQUESTS[kind](client, session)
            client.reset(stream)
    assert (await client.get("/page")).text == "a page"
    assert here.server.clientsCount <= 2
    assert (await client.post(other, b"4still here")).text == "ok"
    assert (await waiting.over()).text == "4still here"
    await echoes(client, other, "and again")
    assert len(here.server._router.reading) == 0


@pytest_twisted.ensureDeferred
async def test_anEchoAndAResetTogether(listening: Any) -> None:
    """A message isn't sent with a GET that is reset in the segment that the message came in; its session ends."""
    here = await listening()
    client = await here.connect()
    session, other = await client.open(), await client.open()
    stream, _ = client.ask(session)
    await client.get("/page")
    with client.together():
        client.ask(session, "POST", b"4hello")
        client.reset(stream)
    await eventually(lambda: here.closed, "the end of the session")
    assert here.closed == [("transport error", "poll connection closed prematurely")]
    await echoes(client, other)


@pytest.mark.parametrize("more", [b"", b"x" * 100])
@pytest_twisted.ensureDeferred
async def test_twoBodiesInOneSegment(listening: Any, more: bytes) -> None:
    """A second POST in the segment that more of the first comes in cuts that one, and not the connection."""
    here = await listening()
    client = await here.connect()
    session, other = await client.open(), await client.open()
    _, waiting = client.ask(other)
    stream, first = client.ask(session, "POST", b"4", ends=False)
    await client.get("/page")
    with client.together():
        _, second = client.ask(session, "POST", b"4hello")
        client.send(stream, more)
        client.send(stream, more, ends=True)
    assert (await second.over()).status == 400
    assert (await first.over()).error == 0
    assert here.closed == [("transport error", "overlapping POST requests")]
    assert (await client.post(other, b"4still here")).text == "ok"
    assert (await waiting.over()).text == "4still here"
    assert len(here.server._router.reading) == 0


@pytest.mark.parametrize("count", [2, 50])
@pytest_twisted.ensureDeferred
async def test_manyHalfBodies(listening: Any, count: int) -> None:
    """A server that closes cuts each of them, in a turn of its own, and fires."""
    here = await listening()
    client = await here.connect()
    for _ in range(count):
        client.ask(await client.open(), "POST", b"4half", ends=False)
    await client.get("/page")
    assert len(here.server._router.reading) == count
    await within(here.server.close(), "the server to close")
    assert len(here.closed) == count
    assert (await client.get("/page")).text == "a page"


@pytest_twisted.ensureDeferred
async def test_aSiteWhoseTimeIsUp(listening: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a client doesn't read is cut in time, and then the connection is idle, whatever its window says."""
    monkeypatch.setattr("engineio_twisted.web.streams.UNREAD_TIMEOUT", 200)
    here = await listening()
    here.site.timeOut = 0.6
    client = await here.connect(reads=False)
    session = await client.open()
    here.socket.send(random.Random(1).randbytes(300_000))
    _, unread = client.ask(session)
    await unread.until(lambda: len(unread.body) > 60_000, "what fits into the window")
    here.socket.close()
    assert (await unread.over()).error == 0
    await client.lost()


@pytest.mark.parametrize("how", ["reset", "GOAWAY", "lost"])
@pytest_twisted.ensureDeferred
async def test_protocolsOverSessions(listening: Any, how: str) -> None:
    """A protocol over a session loses its connection when the streams of that are gone, and the server closes."""
    lost: list[Any] = []

    class Lines(LineReceiver):
        def connectionLost(self, reason: Any = None) -> None:
            lost.append(reason)

    here = await listening()
    await SessionEndpoint(here.server).listen(Factory.forProtocol(Lines))
    client = await here.connect()
    session = await client.open()
    poll, _ = client.ask(session)
    post, _ = client.ask(session, "POST", b"4half", ends=False)
    await client.get("/page")
    if how == "reset":
        with client.together():
            client.reset(poll)
            client.reset(post)
    elif how == "GOAWAY":
        client.h2.close_connection()
        client.flush()
    else:
        await here.leave(client)
    await eventually(lambda: lost, "the end of the protocol's connection")
    assert len(lost) == 1
    await within(here.server.close(), "the server to close")


@pytest.mark.parametrize("attached", [True, False])
@pytest.mark.parametrize("count", [1, 16])
@pytest_twisted.ensureDeferred
async def test_theHeadOfAHandshake(listening: Any, attached: bool, count: int) -> None:
    """May have as many bytes as on HTTP/1.1, of which streams need few: what was sent once is named by a number."""
    here = await listening(attached)
    client = await here.connect()
    size = 16_000 // count
    few = {f"x-{number}": "x" * size for number in range(count)}
    assert (await client.get(target(), **few)).status == 200
    [socket] = here.server.clients.values()
    assert socket.request.getHeader("x-0") == "x" * size
    for name in ("x-another", "cookie"):
        refused = await client.get(target(), **few, **{name: "y" * 400})
        assert refused.status == 431
        assert json.loads(refused.text)["message"] == "the headers are larger than maxHeaderSize, 16384 bytes"
    assert len(here.server.clients) == 1
    assert here.server.stats().refused == {"maxHeaderSize": 2}


@pytest_twisted.ensureDeferred
async def test_whatASessionKeeps(listening: Any) -> None:
    """The bytes of its first request, and no tables of them."""
    here = await listening()
    client = await here.connect()
    everybodys = [here.server, here.site, client, *vars(here.server).values(), *vars(here.site).values()]
    kept = []
    for headers in ({}, {f"x-{number}": "aaaaaaaaaaaaaaaa" for number in range(480)}):
        assert (await client.get(target(a="b" * (4000 if headers else 1)), **headers)).status == 200
        socket = list(here.server.clients.values())[-1]
        kept.append(footprint(socket.request, without=[*everybodys, socket.request.transport]))
    assert kept[1] - kept[0] < 20_480
