"""
What a server keeps of what one peer sends, in bytes: for a session, for half a request, for a connection that is idle.

In memory, and counted object by object: what is kept doesn't depend on the machine. All figures are differences
to the same without anything large.
"""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock, Cooperator
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers

from engineio_twisted import Server
from engineio_twisted.web.requests import EngineIORequest

from ..kit.engines import ENGINES
from ..kit.fakes import PlainConnection
from ..kit.footprint import footprint
from ..kit.memory import Nothing
from ..kit.sites import SITES, Here, request

MOST = 20 * 1024
"""Bytes that a session may keep beyond what a plain one does."""

TIMES = 3
"""And for each byte that was sent beyond."""


LARGE: dict[str, dict[str, Any]] = {
    "parameters": {"query": b"".join(b"&a%03d=1" % number for number in range(1150))[:8000]},
    "empty parameters": {"query": b"&a=" * 2600},
    "a path": {"path": b"/engine.io/" + b"a" * 8000},
    "segments of a path": {"path": b"/engine.io" + b"/a" * 4000},
    "a path and headers": {"path": b"/engine.io/" + b"a" * 8000, "lines": [b"X: " + b"x" * 8000]},
    "cookies": {"lines": [b"Cookie: " + b"; ".join(b"c%d=1" % number for number in range(1700))]},
    "headers": {"lines": [b"x-h-%d: aaaaaaaaaaaaaaaa" % number for number in range(480)]},
    "empty headers": {"lines": [b"x%d:" % number for number in range(480)]},
    "one header many times": {"lines": [b"Accept-Encoding:a"] * 480},
    "values of one header": {"lines": [b"Accept-Encoding: " + b"a," * 7900]},
    "a user agent": {"lines": [b"User-Agent: " + b"x" * 15900]},
    "an origin": {"lines": [b"Origin: http://" + b"x" * 15800]},
    "a forwarded host": {"lines": [b"X-Forwarded-Host: " + b"x" * 15800]},
    "forwarded addresses": {"lines": [b"X-Forwarded-For: " + b"192.0.2.1, " * 1400]},
    "what a preflight asks": {"lines": [b"Access-Control-Request-Headers: " + b"x" * 15800]},
    "a subprotocol": {"lines": [b"Sec-WebSocket-Protocol: " + b"x" * 15500]},
    "subprotocols": {"lines": [b"Sec-WebSocket-Protocol: " + b",".join([b"x"] * 7700)]},
    "extensions": {"lines": [b"Sec-WebSocket-Extensions: " + b"x," * 7700 + b"x"]},
    "a body": {"lines": [b"Content-Length: 100000"], "body": b"x" * 100_000},
    "a body in chunks": {
        "lines": [b"Transfer-Encoding: chunked"],
        "body": b"4000\r\n" + b"x" * 0x4000 + b"\r\n0\r\n\r\n",
    },
    "that it is the last": {"lines": [b"Connection: close", b"X: " + b"x" * 15000]},
}

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "cors": {"cors": {"origin": True, "credentials": True, "allowedHeaders": None}},
    "proxies": {"trustedProxies": ["0.0.0.0/0"]},
    "compressing": {"perMessageDeflate": True},
}

CUTS: dict[str, Callable[[bytes], list[bytes]]] = {
    "whole": lambda data: [data],
    "in two": lambda data: [data[: len(data) // 2], data[len(data) // 2 :]],
    "in many": lambda data: [data[start : start + 100] for start in range(0, len(data), 100)],
}


@pytest.fixture
def make() -> Iterator[Callable[..., Here]]:
    """Makes servers that are closed when the test is over."""
    made: list[Here] = []

    def one(*arguments: Any, **options: Any) -> Here:
        made.append(Here(*arguments, **options))
        return made[-1]

    yield one
    for each in made:
        each.close()


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("kind", [("polling", ENGINES[0]), *[("websocket", each) for each in ENGINES]])
def test_aSession(make: Callable[..., Here], kind: tuple[str, Any], site: str, options: str) -> None:
    """Of the request that opened it no more than its bytes, however large its parts are and however it came."""
    transport, engine = kind[0].encode(), kind[1]
    if options == "compressing" and not engine.supportsPerMessageDeflate:
        pytest.skip("this engine can't compress")

    def opened(cut: str, large: dict[str, Any]) -> tuple[int, int]:
        data = request(transport, **large)
        here = make(site, wsEngine=engine, **OPTIONS[options])
        connection = here.connect(*CUTS[cut](data))
        assert here.sockets, (cut, large, connection.taken())
        return len(data), here.kept(here.sockets[0], connection)

    for cut in CUTS:
        sent, kept = opened(cut, {})
        for name, large in LARGE.items():
            sentMore, keptMore = (
                after - before for after, before in zip(opened(cut, large), (sent, kept), strict=True)
            )
            assert keptMore <= min(TIMES * sentMore, MOST), (name, cut, sentMore, keptMore)


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("transport", [b"polling", b"websocket"])
@pytest.mark.parametrize("when", ["middleware", "later", "allowRequest", "connection"])
def test_whatAnApplicationHasRead(make: Callable[..., Here], site: str, transport: bytes, when: str) -> None:
    """Isn't kept beside the bytes either, if it was read by the time that the session is open."""

    def read(seen: Any) -> bool:
        asked = (
            seen.args,
            seen.received_cookies,
            seen.prepath,
            seen.postpath,
            list(seen.requestHeaders.getAllRawHeaders()),
        )
        return bool(asked and seen.getHeader("x-h-1") and seen.getCookie(b"c1") and seen.requestHeaders.copy())

    async def later(seen: Any) -> None:
        await wait
        read(seen)

    def opened(large: dict[str, Any]) -> tuple[int, int]:
        data = request(transport, **large)
        here = make(site, allowRequest=(lambda seen: read(seen) or True) if when == "allowRequest" else None)
        if when == "middleware":
            here.server.use(read)
        elif when == "later":
            here.server.use(later)
        elif when == "connection":
            here.server.on("connection", lambda socket: read(socket.request) and None)
        connection = here.connect(data)
        if when == "later":
            wait.callback(None)
        return len(data), here.kept(here.sockets[0], connection)

    for name in ("parameters", "segments of a path", "cookies", "headers"):
        wait: Deferred[None] = Deferred()
        sent, kept = opened({})
        wait = Deferred()
        sentMore, keptMore = (after - before for after, before in zip(opened(LARGE[name]), (sent, kept), strict=True))
        assert keptMore <= min(TIMES * sentMore, MOST), (name, sentMore, keptMore)


def everythingOf(seen: Any) -> dict[str, Any]:
    """What a request says of what came."""
    return {
        "line": (seen.method, seen.uri, seen.path, seen.clientproto),
        "args": seen.args,
        "prepath": seen.prepath,
        "postpath": seen.postpath,
        "cookies": (seen.received_cookies, seen.getCookie(b"c1"), seen.getCookie(b"none")),
        "headers": [(name, list(values)) for name, values in seen.requestHeaders.getAllRawHeaders()],
        "header": [seen.getHeader(name) for name in ("user-agent", b"User-Agent", b"x-h-1", "none")],
        "has": [seen.requestHeaders.hasHeader(name) for name in ("HOST", b"x-h-1", "none")],
        "peer": (seen.getClientAddress(), seen.getHost(), seen.isSecure(), seen.getRequestHostname()),
    }


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("transport", [b"polling", b"websocket"])
@pytest.mark.parametrize("cut", CUTS)
def test_theRequestOfASession(make: Callable[..., Here], site: str, transport: bytes, cut: str) -> None:
    """Says the same when its session is open as before, as often as it is asked, and when its connection is lost."""
    for name, large in LARGE.items():
        if "body" in large and site == "of twisted.web" and transport == b"websocket":
            continue
        here = make(site)
        before: list[dict[str, Any]] = []
        here.server.use(lambda seen, before=before: before.append(everythingOf(seen)))
        connection = here.connect(*CUTS[cut](request(transport, **large)))
        [socket] = here.sockets
        for _ in range(2):
            assert everythingOf(socket.request) == before[0], name
        connection.lose()
        assert everythingOf(socket.request) == before[0], name


CHANGES: dict[str, Callable[[Any], object]] = {
    "an attribute": lambda seen: setattr(seen, "user", "me"),
    "a parameter": lambda seen: seen.args.__setitem__(b"room", [b"1"]),
    "a value of a parameter": lambda seen: seen.args[b"EIO"].append(b"3"),
    "the parameters": lambda seen: setattr(seen, "args", {b"a": [b"b"]}),
    "a cookie": lambda seen: seen.received_cookies.__setitem__(b"c1", b"another"),
    "the cookies": lambda seen: setattr(seen, "received_cookies", {}),
    "the path": lambda seen: setattr(seen, "path", b"/another"),
    "the rest of the path": lambda seen: seen.postpath.append(b"more"),
    "a header": lambda seen: seen.requestHeaders.setRawHeaders("X-H-1", ["another", "\u20ac"]),
    "one header more": lambda seen: seen.requestHeaders.addRawHeader(b"X-H-1", b"more"),
    "a header less": lambda seen: seen.requestHeaders.removeHeader("x-h-1"),
    "a header with spaces": lambda seen: seen.requestHeaders.setRawHeaders("x", ["  a "]),
    "a header without values": lambda seen: seen.requestHeaders.setRawHeaders("x-h-1", []),
    "all headers": lambda seen: setattr(seen, "requestHeaders", Headers(dict(seen.requestHeaders.getAllRawHeaders()))),
    "the client": lambda seen: setattr(seen, "client", None),
}


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("transport", [b"polling", b"websocket"])
@pytest.mark.parametrize("change", CHANGES)
def test_whatAMiddlewareChanges(make: Callable[..., Here], site: str, transport: bytes, change: str) -> None:
    """Stays changed as long as the session lives, whichever way the request came."""
    lines = [b"X-H-1: a", b"Cookie: c1=1; c2=2", b"User-Agent: test"]
    for cut in CUTS:
        here = make(site)
        before: list[dict[str, Any]] = []
        here.server.use(lambda seen: CHANGES[change](seen) and None)
        here.server.use(lambda seen, before=before: before.append(everythingOf(seen)))
        here.connect(*CUTS[cut](request(transport, lines=lines, query=b"&a=b")))
        [socket] = here.sockets
        for _ in range(2):
            assert everythingOf(socket.request) == before[0]
        assert change != "an attribute" or socket.request.user == "me"


def test_whatAnApplicationChangesLater(make: Callable[..., Here]) -> None:
    """Stays as well: what a handler makes of the request of its session is the session's."""
    here = make("FastSite")
    here.connect(request(b"polling"))
    [socket] = here.sockets
    socket.request.args[b"room"] = [b"1"]
    socket.request.requestHeaders.setRawHeaders("x", ["y"])
    assert socket.request.args[b"room"] == [b"1"]
    assert socket.request.getHeader("x") == "y"


@pytest.mark.parametrize("site", SITES)
def test_halfAHead(make: Callable[..., Here], site: str) -> None:
    """While it comes, and whichever part of it has, no more is kept than of a whole one."""
    for name, large in LARGE.items():
        if "body" in large:
            continue
        whole = request(b"polling", **large)
        for share in (0.3, 0.9, 1):
            data = whole[: int(len(whole) * share) - 1]
            for size in (len(data), 100, 7):
                here = make(site)
                plain = here.kept(here.connect(request(b"polling")[:-4]))
                connection = here.connect(*[data[start : start + size] for start in range(0, len(data), size)])
                kept = here.kept(connection) - plain
                assert kept <= min(TIMES * len(data), MOST), (name, share, size, len(data), kept)


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize(
    "rest",
    [
        {"query": b"&sid=nobody"},
        {"query": b"&sid=nobody", "method": b"POST", "body": b"x" * 10_000, "lines": [b"Content-Length: 10000"]},
        {"path": b"/page"},
        {"path": b"/page", "method": b"PUT", "body": b"x" * 10_000, "lines": [b"Content-Length: 10000"]},
        {"method": b"OPTIONS"},
    ],
)
def test_anIdleConnection(make: Callable[..., Here], site: str, rest: dict[str, Any]) -> None:
    """Keeps next to nothing of the requests that it carried; a head that is usual may stay for the next."""
    here = make(site)

    def idle(*lines: bytes) -> int:
        for cut in ("whole", "in two"):
            connection = here.connect(
                *CUTS[cut](request(b"polling", **{**rest, "lines": [*rest.get("lines", ()), *lines]}))
            )
            assert not connection.isLost
        return here.kept(connection)

    plain = idle()
    for name, large in LARGE.items():
        lines = large.get("lines", [])
        if "body" in large or b"Connection: close" in lines:
            continue
        assert idle(*lines) - plain <= 4096, name
    # And as much as a connection keeps at all.
    for number in range(1, 60, 7):
        lines = [b"x%d: some value or other" % each for each in range(number)]
        assert idle(*lines) - plain <= TIMES * sum(map(len, lines)), number


@pytest.mark.parametrize("site", ["FastSite", "Site"])
@pytest.mark.parametrize("size", [1, 2, 100])
def test_whatComesBehindAPoll(make: Callable[..., Here], site: str, size: int) -> None:
    """As long as a request isn't answered, what comes behind it waits, in however small pieces."""
    here = make(site)
    here.connect(request(b"polling"))
    sid = here.sockets[0].id.encode()
    connection = here.connect(request(b"polling", query=b"&sid=" + sid))
    plain = here.kept(connection)
    behind = b"x" * 16_384
    connection.say(*[behind[start : start + size] for start in range(0, len(behind), size)])
    assert len(behind) <= here.kept(connection) - plain <= TIMES * len(behind)
    here.sockets[0].send("hello")
    assert connection.taken().endswith(b"4hello")


@pytest.mark.parametrize("site", ["FastSite", "Site"])
@pytest.mark.parametrize("options", [{}, {"initialPacket": "x" * 300_000, "httpCompression": {"threshold": 0}}])
def test_theConnectionOfTheFirstRequest(
    make: Callable[..., Here], monkeypatch: pytest.MonkeyPatch, site: str, options: dict[str, Any]
) -> None:
    """A session keeps no connection of HTTP, also if its first response took longer than its opening."""
    here = make(site, **options)
    cooperator = Cooperator(lambda: lambda: True, lambda each: here.clock.callLater(0.001, each))
    monkeypatch.setattr("twisted.internet._producer_helpers.cooperate", cooperator.cooperate)
    connection = here.connect(request(b"polling", lines=[b"Accept-Encoding: gzip"]))
    [socket] = here.sockets
    here.clock.pump([0.001] * 20)
    channel = weakref.ref(connection.protocol)
    # Who sends next looks at earlier responses, and forgets those that are read.
    here.connect(request(b"polling", query=b"&sid=" + socket.id.encode()))
    socket.send("hello")
    connection.lose()
    # As one of the reactor does.
    connection.protocol = None
    here.clock.advance(1)
    gc.collect()
    assert (socket.readyState, channel()) == ("open", None)


@pytest.mark.parametrize("site", ["FastSite", "Site"])
def test_aConnectionThatIsLost(site: str) -> None:
    """What it had to write goes with it, though a session that it opened lives on."""
    clock = Clock()
    server = Server(reactor=clock)
    theSite = SITES[site](Nothing(), reactor=clock)
    server.attach(theSite)
    sockets: list[Any] = []
    server.on("connection", sockets.append)
    connection: Any = PlainConnection()
    connection.setTcpNoDelay, connection.fileno = lambda _: None, lambda: -1
    # None that is open.
    connection.socket.fileno = lambda: 2**20
    protocol = theSite.buildProtocol(None)
    connection.protocol = protocol
    protocol.makeConnection(connection)
    protocol.dataReceived(request(b"polling"))
    connection.drain()
    connection.write(b"x" * 100_000)
    assert len(connection.queued) >= 100_000
    everybodys = [reactor, *[each for whose in (server, theSite, clock) for each in (whose, *vars(whose).values())]]
    connection.socket.shutdown = connection.socket.close = lambda *_: None
    connection.connectionLost(Failure(ConnectionLost()))
    assert footprint(sockets[0].request, without=everybodys) < MOST
    sockets[0].close(discard=True)
    clock.advance(40)


@pytest.mark.parametrize("site", ["FastSite", "Site"])
@pytest.mark.parametrize("cut", CUTS)
def test_longNames(make: Callable[..., Here], site: str, cut: str) -> None:
    """A name of a header that is longer than any is refused: those that came are remembered by twisted.web."""
    name = b"X-" + b"a" * 254
    here = make(site)
    here.connect(*CUTS[cut](request(b"polling", lines=[name + b": a"])))
    assert len(here.sockets) == 1
    for longer in (b"b" * 257, b"c" * 10_000):
        for lines in ([longer + b": a"], [b"A: b", longer + b": a", b"C: d"], [longer]):
            answer = here.connect(*CUTS[cut](request(b"polling", lines=lines))).taken()
            assert answer.startswith(b"HTTP/1.1 431 "), answer
    assert len(here.sockets) == 1
    gc.collect()
    kept = [each for each in gc.get_objects() if isinstance(each, dict) and b"b" * 257 in each]
    assert not kept


def test_aThousandSessions() -> None:
    """Measured by what Python has taken from the system: 7 KB of parameters each, in two segments."""
    here = Here("FastSite")
    data = request(b"polling", query=LARGE["parameters"]["query"])
    plain = request(b"polling")

    def taken(what: bytes) -> int:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(200):
            here.connect(what[:50], what[50:]).taken()
        return tracemalloc.get_traced_memory()[0] - before

    tracemalloc.start()
    try:
        taken(plain)
        assert taken(data) - taken(plain) <= 200 * TIMES * (len(data) - len(plain))
    finally:
        tracemalloc.stop()
        here.close()


def test_whatIsMeasured(make: Callable[..., Here]) -> None:
    """All that is there: what a session is made to keep, its footprint has."""
    here = make("FastSite")
    connection = here.connect(request(b"polling"))
    [socket] = here.sockets
    socket.request.something = {"a": [], "b": lambda: connection}
    before = here.kept(socket, connection)
    socket.request.something["a"] += [b"x" * 10_000, bytearray(20_000)]
    assert 30_000 < here.kept(socket, connection) - before < 31_000
    assert isinstance(socket.request, EngineIORequest)
