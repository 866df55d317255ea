"""Polling over HTTP/2, on a site of twisted.web's own: sessions share a connection, and none suffers from another."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.web.resource import Resource
from twisted.web.server import Site as StockSite
from twisted.web.static import Data

from engineio_twisted import EngineIOResource, Server

from .clients import INTEROP, Run, within
from .http2 import Client, connectHTTP2
from .wire import eventually, target

Connect = Callable[..., Awaitable[Client]]


class Here:
    """
    An echo server that is reached by HTTP/2.

    @ivar closed: why sessions have ended.
    """

    def __init__(self, attached: bool, **options: Any) -> None:
        from twisted.internet import reactor

        self.closed: list[tuple[str, str]] = []
        root = Resource()
        root.putChild(b"page", Data(b"a page", "text/plain"))
        self.site = StockSite(root)
        if attached:
            self.server = Server(self.site, reactor=reactor, **options)
        else:
            self.server = Server(reactor=reactor, **options)
            root.putChild(b"engine.io", EngineIOResource(self.server))
        self.server.on("connection", self._connected)
        self._clients: list[Client] = []
        self.port = 0

    def _connected(self, socket: Any) -> None:
        socket.on("message", socket.send)
        socket.on("close", lambda reason, description: self.closed.append((reason, str(description))))

    async def connect(self, reads: bool = True) -> Client:
        client = await connectHTTP2(self.port, reads)
        self._clients.append(client)
        return client

    async def leave(self) -> None:
        for each in self._clients:
            if not each.isLost:
                assert each.transport is not None
                each.transport.abortConnection()  # type: ignore[attr-defined]
                await each.lost()

    @property
    def socket(self) -> Any:
        (socket,) = self.server.clients.values()
        return socket


@pytest_twisted.async_yield_fixture
async def listening(serve: Any, certificate: Any) -> AsyncIterator[Callable[..., Awaitable[Here]]]:
    """Starts a server of which all is closed after the test: `here = await listening(pingInterval=300)`."""
    from twisted.internet import reactor

    key, signed = certificate
    description = f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={signed}"
    started: list[tuple[Here, Any]] = []

    async def start(attached: bool = True, **options: Any) -> Here:
        here = Here(attached, **options)
        port = await serverFromString(reactor, description).listen(here.site)
        here.port = port.getHost().port
        started.append((here, port))
        return here

    yield start
    for here, port in started:
        await within(here.server.close(), "the server to close")
        await here.leave()
        await port.stopListening()


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
    assert len(here.server.reading) == 0


@pytest_twisted.ensureDeferred
async def test_aLargeBodyThatGoesOn(listening: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who goes on sending what was refused has its stream reset, with no error: it has its answer."""
    monkeypatch.setattr("engineio_twisted.resource.LINGER_TIME", 0.05)
    here = await listening(maxHttpBufferSize=1000)
    client = await here.connect()
    session = await client.open()
    _, refused = client.ask(await client.open(), "POST", b"4" * 1001, ends=False)
    assert (await refused.over()).error == 0
    assert refused.status == 413
    assert (await client.post(session, b"4hello")).text == "ok"
    assert len(here.server.reading) == 0


@pytest_twisted.ensureDeferred
async def test_aBodyThatTrickles(listening: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time for a body is bounded: then it gets 408, its session ends, its stream is reset, and others go on."""
    monkeypatch.setattr("engineio_twisted.resource.LINGER_TIME", 0.05)
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
    assert len(here.server.reading) == 0


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
        await eventually(lambda: len(here.server.reading) == 0, "the end of the stream")
    else:
        assert (await client.get("/page")).text == "a page"
        decided[0].callback("https://example.com")
        assert (await refused.over()).headers["access-control-allow-origin"] == "https://example.com"
        assert (refused.status, refused.error) == (413, None)
    assert (await client.get("/page")).text == "a page"
    assert len(here.server.reading) == 0


@pytest_twisted.ensureDeferred
async def test_aWebSocketOverHTTP2(listening: Any) -> None:
    """There is none: the client is told to use HTTP/1.1, which this port speaks too."""
    here = await listening()
    client = await here.connect()
    answer = await client.get(target(transport="websocket"))
    assert answer.status in (400, 426)
    assert here.server.clientsCount == 0


@pytest.mark.node
@pytest_twisted.ensureDeferred
async def test_node(listening: Any, node: str, start: Run) -> None:
    """The HTTP/2 of Node.js polls."""
    here = await listening()
    program = start([node, INTEROP / "http2.mjs", f"https://127.0.0.1:{here.port}"])
    await program.finish()
    opened, posted, polled = program.named("answer")
    assert (opened["status"], opened["text"][0]) == (200, "0")
    assert [(each["status"], each["text"]) for each in (posted, polled)] == [(200, "ok"), (200, "4hello")]
    assert program.named("settings") == [{"event": "settings", "enableConnectProtocol": False}]
