"""Requests as real clients send them, and then send nothing more; with a whole address; without a valid Host."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from engineio_twisted import FastSite, Server, Site
from engineio_twisted.web.channel import isHost
from engineio_twisted.web.pace import PROGRESS_TIMEOUT
from engineio_twisted.web.requests import LINGER_TIME

from ..kit.engines import ENGINES
from ..kit.resources import Late, Rig, status
from ..kit.wire import Response, Wire, connectTo, eventually, http, makeFrame, target, upgrade, within

# What is over may still be served when a test ends.
pytestmark = pytest.mark.usefixtures("serve")

SITES = ["FastSite", "a group", "Site"]


class Page(Resource):
    """A page beside the sessions, that answers when it is told to."""

    isLeaf = True

    def __init__(self, here: Here) -> None:
        super().__init__()
        self._here = here

    def render_GET(self, request: Any) -> Any:
        kind = request.args.get(b"kind", [b""])[0]
        if kind == b"large":
            return b"x" * 5_000_000
        if kind == b"late":
            self._here.waiting.append(request)
            return NOT_DONE_YET
        return b"host " + (request.getHeader(b"host") or b"")

    def render_POST(self, request: Any) -> bytes:
        return b"got " + request.content.read()


class Here:
    """A server on a site of ours, with pages beside it, on a port of loopback."""

    server: Server
    site: Site
    port: int

    def __init__(self) -> None:
        self.waiting: list[Any] = []
        self.decisions: list[Deferred[bool]] = []
        self.messages: list[str] = []
        self.ends: list[tuple[str, str]] = []

    def opened(self, socket: Any) -> None:
        socket.on("message", self.messages.append)
        socket.on("close", lambda *args: self.ends.append(args))

    async def ask(self, *requests: bytes, closes: bool = True) -> Wire:
        """Send requests on one connection, and close our side of it."""
        wire = await connectTo(self.port)
        wire.send(b"".join(requests))
        if closes:
            wire.transport.loseWriteConnection()
        return wire

    async def open(self) -> str:
        wire = await self.ask(http("GET", target()))
        sid = (await wire.lost()).partition(b'{"sid":"')[2].partition(b'"')[0]
        return sid.decode()

    @property
    def isHalfClosed(self) -> bool:
        """Whether a connection is known to be closed on the client's side."""
        return any(each._progressCall is not None for each in self.site.channels)


Start = Callable[..., Any]


@asynccontextmanager
async def serving(kind: str, **options: Any) -> AsyncIterator[Here]:
    from twisted.internet import reactor

    here = Here()
    here.site = (Site if kind == "Site" else FastSite)(Page(here), reactor=reactor)
    if kind != "a group":
        # As on a reactor that can't watch files.
        here.site.group = None
    here.server = Server(here.site, **options)
    here.server.on("connection", here.opened)
    port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(here.site)  # type: ignore[arg-type]
    here.port = port.getHost().port
    try:
        yield here
    finally:
        await port.stopListening()
        await within(here.server.close(), "the end of the server")
        await within(here.site.closeConnections(), "the end of the connections")


@pytest.fixture(params=SITES)
def site(request: pytest.FixtureRequest) -> str:
    """Every site of ours."""
    return str(request.param)


async def responses(wire: Wire, *methods: str) -> list[Response]:
    """Read some responses, which have to be all there is."""
    found = [await wire.response(method) for method in methods]
    assert await wire.lost() == b""
    return found


# A client that says that it will send nothing more


CHUNKED = b"POST /page HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
ORIGIN = [("Origin", "https://example.com")]
PREFLIGHT = [*ORIGIN, ("Access-Control-Request-Method", "POST")]

REQUESTS = {
    "a page": (http("GET", "/page"), 200, b"host localhost"),
    "a page of HTTP/1.0": (http("GET", "/page", version="1.0"), 200, b"host localhost"),
    "a page and no more": (http("GET", "/page", [("Connection", "close")]), 200, b"host localhost"),
    "a large page": (http("GET", "/page?kind=large"), 200, b"x" * 5_000_000),
    "a form": (http("POST", "/page", body=b"abc"), 200, b"got abc"),
    "chunks": (CHUNKED, 200, b"got abc"),
    "a method that is none": (http("PATCH", "/page"), 501, b""),
    "a handshake": (http("GET", target()), 200, b"0{"),
    "a handshake of another origin": (http("GET", target(), ORIGIN), 200, b"0{"),
    "a preflight": (http("OPTIONS", target(), PREFLIGHT), 204, b""),
    "an unknown session": (http("GET", target(sid="nobody")), 400, b'{"code":1'),
    "an unknown transport": (http("GET", target(transport="pigeon")), 400, b'{"code":0'),
    "a body that is too large": (http("POST", target(sid="nobody"), body=b"x" * 2_000_000), 413, b"{"),
    "an address that is too long": (http("GET", "/" + "x" * 9000), 414, b"{"),
    "an upgrade that is none": (upgrade(Sec_WebSocket_Key="short"), 400, b"Bad request"),
}


@pytest.mark.parametrize("kind", REQUESTS)
@pytest_twisted.ensureDeferred
async def test_halfClosing(site: str, kind: str) -> None:
    """What was asked for is answered, all of it, and then the connection closes."""
    request, code, body = REQUESTS[kind]
    async with serving(site, cors={"origin": "https://example.com"}) as here:
        wire = await here.ask(request)
        (response,) = await responses(wire, request.partition(b" ")[0].decode())
        assert (response.status, response.body[: len(body)]) == (code, body)


@pytest.mark.parametrize("isChunked", [False, True])
@pytest_twisted.ensureDeferred
async def test_halfClosingASession(site: str, isChunked: bool) -> None:
    """A POST is delivered and answered, a GET gets what is there."""
    async with serving(site) as here:
        sid = await here.open()
        request = http("POST", target(sid=sid), body=b"4hello")
        if isChunked:
            request = request.replace(b"Content-Length: 6", b"Transfer-Encoding: chunked").replace(
                b"4hello", b"6\r\n4hello\r\n0\r\n\r\n"
            )
        (response,) = await responses(await here.ask(request), "POST")
        assert (response.status, response.body, here.messages) == (200, b"ok", ["hello"])
        here.server.clients[sid].send("x" * 3_000_000)
        (response,) = await responses(await here.ask(http("GET", target(sid=sid))), "GET")
        assert len(response.body) == 3_000_001


@pytest_twisted.ensureDeferred
async def test_halfClosingBehindSeveral(site: str) -> None:
    """Requests that came together are answered one after the other, to the last."""
    async with serving(site) as here:
        wire = await here.ask(
            http("GET", "/page?kind=late"), http("POST", "/page", body=b"abc"), http("GET", "/page?kind=large"), CHUNKED
        )
        await eventually(lambda: here.isHalfClosed, "the end of what the client sends")
        here.waiting[0].write(b"x" * 1_000_000)
        here.waiting[0].write(b"end")
        here.waiting[0].finish()
        found = await responses(wire, "GET", "POST", "GET", "POST")
        assert [len(each.body) for each in found] == [1_000_003, 7, 5_000_000, 7]


@pytest.mark.parametrize("isAllowed", [True, False])
@pytest_twisted.ensureDeferred
async def test_halfClosingBeforeADecision(site: str, isAllowed: bool) -> None:
    """A handshake that somebody is asked about is answered when that is decided."""
    decision: Deferred[bool] = Deferred()
    async with serving(site, allowRequest=lambda _: decision) as here:
        wire = await here.ask(http("GET", target()))
        await eventually(lambda: here.isHalfClosed, "the end of what the client sends")
        decision.callback(isAllowed)
        (response,) = await responses(wire, "GET")
        assert (response.status, response.body[:1]) == ((200, b"0") if isAllowed else (403, b"{"))


@pytest_twisted.ensureDeferred
async def test_halfClosingWhileReceivingIsPaused(site: str) -> None:
    """A POST that the application holds back is answered when it goes on."""
    async with serving(site) as here:
        sid = await here.open()
        here.server.clients[sid].pauseReceiving()
        wire = await here.ask(http("POST", target(sid=sid), body=b"4hello"))
        await eventually(lambda: here.isHalfClosed, "the end of what the client sends")
        assert here.messages == []
        here.server.clients[sid].resumeReceiving()
        (response,) = await responses(wire, "POST")
        assert (response.body, here.messages) == (b"ok", ["hello"])


@pytest_twisted.ensureDeferred
async def test_aGETThatWaits(site: str) -> None:
    """It ends at once, as of a client that has gone; so does half a request, and one of nothing."""
    async with serving(site) as here:
        sid = await here.open()
        wire = await here.ask(http("GET", target(sid=sid)))
        assert await wire.lost() == b""
        assert here.ends == [("transport error", "poll connection closed prematurely")]
        sid = await here.open()
        wire = await here.ask(http("POST", target(sid=sid), body=b"4hello")[:-1])
        assert await wire.lost() == b""
        assert here.ends[1:] == [("transport error", "data request connection closed prematurely")]
        for data in (b"", b"GET ", http("GET", "/page")[:-2]):
            wire = await here.ask(data)
            assert await wire.lost() == b""


@pytest.mark.parametrize("engine", ENGINES)
@pytest_twisted.ensureDeferred
async def test_halfClosingAWebSocket(site: str, engine: Any) -> None:
    """A WebSocket that sends nothing more has gone, with what it sent before."""
    async with serving(site, wsEngine=engine) as here:
        wire = await here.ask(upgrade(), makeFrame("4hello"))
        await wire.lost()
        await eventually(lambda: here.ends, "the end of the session")
        assert here.ends[0][0] == "transport close"
        assert here.messages == ["hello"]


def test_anAnswerThatDoesNotGoOn() -> None:
    """What a client with a closed side waits for has to go on, as its end can't be noticed."""
    rig = Rig()
    late = Late()
    rig.site.resource.putChild(b"late", late)  # type: ignore[attr-defined]
    for pieces in range(3):
        connection = rig.connect(b"GET /late HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connection.protocol.readConnectionLost()
        connection.protocol.readConnectionLost()
        for _ in range(pieces):
            late.requests[-1].write(b"x")
            rig.clock.advance(PROGRESS_TIMEOUT)
            assert not connection.isAborted
        rig.clock.advance(PROGRESS_TIMEOUT)
        assert connection.isAborted
        connection.lose()
    assert rig.clock.getDelayedCalls() == []


# Host


@attrs.frozen
class Hosts:
    lines: bytes
    version: bytes
    isRight: bool


ONE, TWO = b"Host: example.com\r\n", b"Host: example.com\r\nhost: example.com\r\n"
HOSTS = [
    Hosts(ONE, b"1.1", True),
    Hosts(b"HOST:example.com:8080\r\n", b"1.1", True),
    Hosts(b"Host: [::1]:80\r\n", b"1.1", True),
    Hosts(b"Host: 127.0.0.1\r\n", b"1.1", True),
    Hosts(b"Host: my_host.local\r\n", b"1.1", True),
    Hosts(b"Host:\r\n", b"1.1", True),
    Hosts(b"", b"1.0", True),
    Hosts(ONE, b"1.0", True),
    Hosts(b"", b"1.1", False),
    Hosts(b"X-Host: example.com\r\n", b"1.1", False),
    Hosts(TWO, b"1.1", False),
    Hosts(TWO, b"1.0", False),
    *(
        Hosts(b"Host: " + each + b"\r\n", version, False)
        for version in (b"1.1", b"1.0")
        for each in (
            b"a b",
            b"a/b",
            b"http://a",
            b"u@a",
            b"a:b",
            b"a:123456",
            b"[::1",
            b"\xc3\xa5",
            b"a, b",
            b"a?b",
            b"a#b",
        )
    ),
]


@pytest.mark.parametrize("host", HOSTS, ids=lambda each: repr(each.lines + each.version)[2:-1])
@pytest.mark.parametrize("where", ["/engine.io/?EIO=4&transport=polling", "/page"])
@pytest_twisted.ensureDeferred
async def test_hosts(site: str, host: Hosts, where: str) -> None:
    """A request without one valid host is 400, wherever it goes, with a body or without, and nothing is logged."""
    if host != HOSTS[0] and site == "a group":
        return
    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        if event["log_level"] >= LogLevel.warn:
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    try:
        async with serving(site) as here:
            for first in (False, True):
                before = http("GET", "/page") if first else b""
                wire = await connectTo(here.port)
                wire.send(before + b"GET %b HTTP/%b\r\n%b\r\n" % (where.encode(), host.version, host.lines))
                if before:
                    assert (await wire.response()).status == 200
                response = await wire.response()
                assert response.status == (200 if host.isRight else 400)
                if not host.isRight:
                    assert response.json == {"message": "expected one Host, and a valid one"}
                    assert response.headers["connection"] == "close"
                    await wire.lost()
                wire.drop()
            assert here.server.clientsCount == (2 if host.isRight and where != "/page" else 0)
    finally:
        globalLogPublisher.removeObserver(observe)
    assert lines == []


def test_aBodyBehindABadHost() -> None:
    """What comes behind is dropped for a time, so that the answer can be read."""
    rig = Rig()
    connection = rig.connect(b"POST /form HTTP/1.1\r\nContent-Length: 100\r\n\r\n")
    assert status(connection) == 400
    assert not connection.disconnecting
    connection.say(b"x" * 100 + b"GET /form HTTP/1.1\r\nHost: a\r\n\r\n")
    rig.clock.advance(LINGER_TIME)
    assert connection.isAborted
    assert connection.value().count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("value", [b"a", b"", b"a:", b"a:1", b"[::1]", b"[v1.a:b]:80", b"a%20b", b"xn--a.b-c_d~"])
def test_isHost(value: bytes) -> None:
    """As RFC 3986, 3.2.2 has it."""
    assert isHost(value)


# Whole addresses


@pytest.mark.parametrize("start", ["http://example.com", "HTTP://example.com", "https://example.com:8443"])
@pytest_twisted.ensureDeferred
async def test_wholeAddresses(site: str, start: str) -> None:
    """A request that names the server in its address is served as any other; that host counts (RFC 9112, 3.2.2)."""
    async with serving(site) as here:
        wire = await connectTo(here.port)
        wire.send(http("GET", start + target()))
        response = await wire.response()
        sid = response.body.partition(b'{"sid":"')[2].partition(b'"')[0].decode()
        wire.send(http("POST", start + target(sid=sid), body=b"4hello"))
        assert (await wire.response()).body == b"ok"
        assert here.messages == ["hello"]
        for path in ("/page", "", "?x=/y"):
            wire.send(http("GET", start + path))
            assert (await wire.response()).body == b"host " + start.partition("//")[2].encode()
        wire.send(http("GET", "/page"))
        assert (await wire.response()).body == b"host localhost"
        wire.drop()
        wire = await connectTo(here.port)
        wire.send(upgrade(start + target(transport="websocket")))
        assert (await wire.response()).status == 101
        wire.drop()


@pytest_twisted.ensureDeferred
async def test_wrongWholeAddresses(site: str) -> None:
    """Without a valid host, or without the header Host, it is 400."""
    async with serving(site) as here:
        for where in ("http:///page", "http://u@example.com/page", "http://a:b/page", "http://[::1/page"):
            wire = await connectTo(here.port)
            wire.send(http("GET", where))
            assert (await wire.response()).status == 400
            await wire.lost()
        wire = await connectTo(here.port)
        wire.send(b"GET http://example.com/page HTTP/1.1\r\n\r\n")
        assert (await wire.response()).status == 400
        await wire.lost()


@pytest.mark.parametrize("engine", ENGINES)
@pytest_twisted.ensureDeferred
async def test_letters(site: str, engine: Any) -> None:
    """A name in UTF-8 that a proxy sets reaches the application, on an upgrade too; no header begins within one."""
    async with serving(site, wsEngine=engine) as here:
        names: list[str] = []
        here.server.on("connection", lambda socket: names.append(socket.request.getHeader("X-Name")))
        letters = ["Århus", "Михаил", "a\U0001f605b", "ÅSec-WebSocket-Protocol: chat"]
        for name in letters:
            wire = await connectTo(here.port)
            value = name.encode().decode("latin-1")
            wire.send(upgrade(extra=f"X-Name: {value}\r\n"))
            response = await wire.response()
            assert (response.status, "sec-websocket-protocol" in response.headers) == (101, False)
            wire.drop()
        assert names == letters
        # Bytes: a line end of its own, one in UTF-8, one in what is no UTF-8; and the others.
        for value in ("a\x85b", "a\xc2\x85b", "\xc3\x85\xff", "\xc0\x85", *"\x0b\x0c\x1c\x1d\x1e"):
            wire = await connectTo(here.port)
            wire.send(upgrade(extra=f"X-Name: a{value}b\r\n"))
            assert (await wire.response()).status == 400
            wire.drop()


# What can't be read


@pytest.fixture
def lines() -> Iterator[list[LogEvent]]:
    """What is logged at the level warn, or above."""
    found: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if event["log_level"] >= LogLevel.warn:
            found.append(event)

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


DIGITS = b"9" * 4301
STRANGE = [
    b"Content-Length: " + DIGITS,
    b"Content-Length: " + b"0" * 4301,
    b"Content-Length: " + DIGITS + b"\r\nX: y",
    b"Content-Length: 1\r\nContent-Length: " + DIGITS,
    b"Content-Length: -1",
    b"Content-Length: +1",
    b"Content-Length: 1_0",
    b"Content-Length: \xd9\xa3",
    b"Content-Length:",
    b"Transfer-Encoding: gzip",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    b"No-Colon",
    b": no name",
    b"Na\xffme: x",
    b"X: a\x00b",
]


@pytest.mark.parametrize("headers", STRANGE, ids=lambda each: repr(each[:40])[2:-1])
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("where", ["/engine.io/?EIO=4&transport=polling", "/page"])
@pytest_twisted.ensureDeferred
async def test_strangeHeaders(lines: list[LogEvent], site: str, method: str, where: str, headers: bytes) -> None:
    """400, and nothing in the log."""
    if site == "a group":
        return
    async with serving(site) as here:
        wire = await connectTo(here.port)
        wire.send(b"%b %b HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % (method.encode(), where.encode(), headers))
        assert (await wire.lost()).startswith(b"HTTP/1.1 400 ")
    assert lines == []


def test_whatNobodyHasThoughtOf(
    lines: list[LogEvent], loggedErrors: list[LogEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever reading a request raises is 400, and a line a second."""

    def fail(self: Any, line: bytes) -> bool:
        raise ZeroDivisionError

    monkeypatch.setattr("twisted.web.http.HTTPChannel.headerReceived", fail)
    rig = Rig()
    for _ in range(3):
        connection = rig.connect(b"GET /form HTTP/1.1\r\nHost: a\r\n\r\n")
        assert status(connection) == 400
        assert connection.disconnecting
        connection.protocol.dataReceived(b"more")
    assert [each["log_failure"].type for each in lines] == [ZeroDivisionError]
    rig.clock.advance(1)
    assert lines[1]["count"] == 2
    loggedErrors.clear()


def test_idleConnections() -> None:
    """A connection that is closed as nothing comes on it is in no line of the log."""
    found: list[str] = []

    def observe(event: LogEvent) -> None:
        found.append(formatEvent(event))

    rig = Rig()
    connection = rig.connect(b"GET /engine.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: a\r\n\r\n")
    globalLogPublisher.addObserver(observe)
    try:
        rig.clock.advance(rig.site.timeOut or 0)
    finally:
        globalLogPublisher.removeObserver(observe)
    assert connection.disconnecting
    assert found == []
