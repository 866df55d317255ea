"""Our site and its requests: bodies counted as they come, one at a time a session, with a deadline."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.web.resource import Resource
from twisted.web.server import Site as StockSite

from engineio_twisted import EngineIOResource, Server, Site
from engineio_twisted.ends import CLOSE_TIMEOUT
from engineio_twisted.service import EngineIOService
from engineio_twisted.web.fast import siteFor
from engineio_twisted.web.requests import LINGER_TIME
from engineio_twisted.web.resource import CapturedPath, serverAt

from ..kit.memory import connectTo
from ..kit.resources import HEAD, Rig, status


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What is logged, as text, as far as it is about bodies."""
    found: list[str] = []

    def observe(event: LogEvent) -> None:
        if str(event["log_format"]).startswith(("A body", "POST of")):
            found.append(str(event["log_format"]).format(**event))

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


def test_aBodyThatSaysItIsTooLarge() -> None:
    """413 before a byte of it is read; the session ends."""
    rig = Rig(maxHttpBufferSize=10)
    sid = rig.open()
    connection = rig.connect(rig.post(sid, b"Content-Length: 11\r\nExpect: 100-continue\r\n"))
    assert status(connection) == 413
    assert b"100 Continue" not in connection.value()
    assert b"maxHttpBufferSize, 10 bytes" in connection.value()
    assert b"Connection: close" in connection.value()
    (request,) = connection.protocol.requests
    connection.say(b"4" + b"a" * 9)
    assert request.content.getvalue() == b""
    connection.say(b"a")
    assert connection.disconnecting, "the body is complete"
    rig.clock.advance(LINGER_TIME)
    assert connection.isAborted, "also where the client doesn't let go, as it may over TLS"
    assert (rig.messages, list(rig.server.clients)) == ([], [])
    assert rig.closes == [("transport error", "the body is larger than maxHttpBufferSize, 10 bytes")]
    sid = rig.open()
    assert status(rig.connect(rig.post(sid, b"Content-Length: 10\r\n") + b"4" + b"a" * 9)) == 200
    assert rig.messages == ["a" * 9]


@pytest.mark.parametrize("isChunked", [False, True])
def test_aWaitingGetIsTold(isChunked: bool) -> None:
    """The session of a body that is too large ends with a close packet for the GET that waits."""
    rig = Rig(maxHttpBufferSize=10)
    sid = rig.open()
    poll = rig.connect(b"GET /engine.io/?EIO=4&transport=polling&sid=%b " % sid.encode() + HEAD + b"\r\n")
    if isChunked:
        rig.connect(rig.post(sid, b"Transfer-Encoding: chunked\r\n"), b"b\r\n4aaaaaaaaaa\r\n")
    else:
        rig.connect(rig.post(sid, b"Content-Length: 11\r\n"))
    assert poll.value().endswith(b"\r\n\r\n1")
    assert len(rig.closes) == 1


def test_aChunkedBodyThatGrowsTooLarge() -> None:
    """413 as soon as it does; no more of it than the limit was ever stored."""
    rig = Rig(maxHttpBufferSize=10)
    sid = rig.open()
    connection = rig.connect(rig.post(sid, b"Transfer-Encoding: chunked\r\n"), b"6\r\n4aaaaa\r\n")
    (request,) = connection.protocol.requests
    assert (connection.value(), request.content.getvalue()) == (b"", b"4aaaaa")
    connection.say(b"5\r\naaaaa\r\n")
    assert (status(connection), request.content.getvalue()) == (413, b"4aaaaa")
    connection.say(b"ffff\r\n" + b"a" * 0xFFFF + b"\r\n")
    assert request.content.getvalue() == b"4aaaaa"
    assert not connection.disconnecting
    connection.say(b"0\r\n\r\n")
    assert connection.disconnecting
    assert rig.messages == []
    assert rig.closes == [("transport error", "the body is larger than maxHttpBufferSize, 10 bytes")]
    chunked = rig.post(rig.open(), b"Transfer-Encoding: chunked\r\n")
    assert status(rig.connect(chunked, b"5\r\n4aaaa\r\n5\r\naaaaa\r\n0\r\n\r\n")) == 200


def test_aRefusedBodyIsNotReadForEver() -> None:
    """A client that sends on after the refusal is left a moment to see it, no more."""
    rig = Rig(maxHttpBufferSize=10)
    connection = rig.connect(rig.post(rig.open(), b"Content-Length: 1000000000\r\n"))
    rig.clock.advance(LINGER_TIME - 0.1)
    connection.say(b"x" * 1000)
    assert not connection.isAborted
    rig.clock.advance(0.1)
    assert connection.isAborted


@pytest.mark.parametrize("site", [Site, StockSite], ids=["ours", "stock"])
def test_aSlowBody(site: Any) -> None:
    """It has httpRequestBodyTimeout. Then it gets 408, the session ends, and the connection is closed."""
    rig = Rig(site, httpRequestBodyTimeout=1500)
    sid = rig.open()
    connection = rig.connect(rig.post(sid, b"Content-Length: 100\r\n"))
    for _ in range(14):
        connection.say(b"4")
        rig.clock.advance(0.1)
    assert (connection.value(), rig.closes) == (b"", [])
    rig.clock.advance(0.11)
    assert status(connection) == 408
    assert b"Connection: close" in connection.value()
    assert b"httpRequestBodyTimeout, 1500 ms" in connection.value()
    assert rig.closes == [("transport error", "the body did not come within httpRequestBodyTimeout, 1500 ms")]
    connection.say(b"4")
    rig.clock.advance(LINGER_TIME)
    assert connection.isAborted
    connection.lose()
    assert len(rig.server._router.reading) == 0
    assert len(rig.closes) == 1


def test_aSlowBodyWithoutASession() -> None:
    """It has the same time."""
    rig = Rig()
    connection = rig.connect(rig.post("nobody", b"Content-Length: 100\r\n"), b"4")
    rig.clock.advance(29.9)
    assert connection.value() == b""
    rig.clock.advance(0.1)
    assert status(connection) == 408
    rig.clock.advance(LINGER_TIME)
    assert connection.isAborted


def test_bodiesLeaveNoTimer() -> None:
    """Neither one that came whole, nor one in pieces, nor one whose connection is lost."""
    rig = Rig()
    sid = rig.open()
    before = len(rig.clock.getDelayedCalls())
    for pieces in (
        [rig.post(sid, b"Content-Length: 2\r\n") + b"4a"],
        [rig.post(sid, b"Content-Length: 2\r\n"), b"4", b"a"],
        [rig.post(sid, b"Transfer-Encoding: chunked\r\n"), b"1\r\n4\r\n", b"1\r\na\r\n0\r\n\r\n"],
        [rig.post("nobody", b"Content-Length: 2\r\n"), b"4"],
    ):
        connection = rig.connect(*pieces)
        connection.lose()
        # The GET that opened the session has a connection with an idle timer of its own.
        assert len(rig.clock.getDelayedCalls()) == before
    assert rig.messages == ["a"] * 3


def test_overlappingBodies() -> None:
    """The second POST is refused as soon as its headers are there, and the session ends."""
    rig = Rig()
    sid = rig.open()
    first = rig.connect(rig.post(sid, b"Content-Length: 10\r\n"), b"4a")
    second = rig.connect(rig.post(sid, b"Content-Length: 10\r\n"))
    assert status(second) == 400
    assert first.disconnecting
    assert rig.closes == [("transport error", "overlapping POST requests")]
    assert rig.messages == []


def test_aBodyWhoseConnectionIsLost() -> None:
    """The session ends at once."""
    rig = Rig()
    connection = rig.connect(rig.post(rig.open(), b"Content-Length: 10\r\n"), b"4a")
    connection.lose()
    assert rig.closes == [("transport error", "data request connection closed prematurely")]


def test_aRefusedPostIsNoBodyBeingRead() -> None:
    """A POST that is wrong in another way doesn't make the next one an overlap."""
    rig = Rig()
    sid = rig.open()
    wrong = b"POST /engine.io/?EIO=3&transport=polling&sid=%b " % sid.encode() + HEAD
    assert status(rig.connect(wrong + b"Content-Length: 2\r\n\r\n4a")) == 400
    assert status(rig.connect(rig.post(sid, b"Content-Length: 2\r\n") + b"4b")) == 200
    assert (rig.messages, rig.closes) == (["b"], [])


def test_otherBodiesOnTheSite() -> None:
    """A form elsewhere on the site may be as large as it likes."""
    rig = Rig(maxHttpBufferSize=10)
    body = b"x" * 1000
    connection = rig.connect(b"POST /form " + HEAD + b"Content-Length: 1000\r\n\r\n" + body)
    assert connection.value().endswith(b"\r\n\r\n1000")


def onlyEngineIO(**options: Any) -> Rig:
    """A server on a site as `listen` and `twistd engineio` make it."""
    return Rig(siteFor, **options)


def test_bodiesBesideTheServer() -> None:
    """
    Where nothing beside the server takes a body, the limit of the server holds there too, before a byte is stored.
    """
    rig = onlyEngineIO(maxHttpBufferSize=10)
    connection = rig.connect(b"POST /form " + HEAD + b"Content-Length: 11\r\nExpect: 100-continue\r\n\r\n")
    assert status(connection) == 413
    assert b"100 Continue" not in connection.value()
    assert connection.value().endswith(b'\r\n\r\n{"message":"the body is larger than maxHttpBufferSize, 10 bytes"}')
    chunked = rig.connect(b"PUT /x " + HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"6\r\naaaaaa\r\n")
    (request,) = chunked.protocol.requests
    assert chunked.value() == b""
    chunked.say(b"5\r\naaaaa\r\n")
    assert status(chunked) == 413
    assert request.content.getvalue() == b"aaaaaa"
    whole = rig.connect(b"POST /form " + HEAD + b"Content-Length: 10\r\n\r\n" + b"x" * 10)
    assert whole.value().endswith(b"\r\n\r\n10")
    assert rig.server.stats().limited == {"maxHttpBufferSize": 2}
    rig.clock.advance(LINGER_TIME)
    assert (connection.isAborted, chunked.isAborted, whole.isAborted) == (True, True, False)


def test_slowBodiesBesideTheServer() -> None:
    """There they have as long as one of a session; then they get 408."""
    rig = onlyEngineIO(httpRequestBodyTimeout=1500)
    connection = rig.connect(b"POST /form " + HEAD + b"Content-Length: 100\r\n\r\n", b"x")
    rig.clock.advance(1.4)
    connection.say(b"x")
    assert connection.value() == b""
    rig.clock.advance(0.1)
    assert status(connection) == 408
    assert rig.server.stats().limited == {"httpRequestBodyTimeout": 1}
    rig.clock.advance(LINGER_TIME)
    assert connection.isAborted


def test_slowBodiesOfAnApplication() -> None:
    """On a site with pages of its own they have any time, or what the site is told."""
    for timeout in (None, 2000):
        rig = Rig(httpRequestBodyTimeout=1000)
        rig.site.httpRequestBodyTimeout = timeout
        connection = rig.connect(b"POST /form " + HEAD + b"Content-Length: 100\r\n\r\n", b"x")
        rig.clock.advance(1.9)
        assert connection.value() == b""
        rig.clock.advance(0.1)
        assert connection.value()[:12] == (b"" if timeout is None else b"HTTP/1.1 408")
        rig.clock.advance(LINGER_TIME)
        assert connection.isAborted is (timeout is not None)


def test_whereNothingBesideTheServerTakesBodies() -> None:
    """With `listen`, and a service without pages of the application; with those, bodies are theirs."""
    options: Any = {"maxHttpBufferSize": 10, "reactor": Clock()}
    assert EngineIOService(**options).site.maxBodySize == 10
    assert EngineIOService(root=Resource(), **options).site.maxBodySize is None


def test_bodiesDoNotFloodTheLog(lines: list[str]) -> None:
    """One line a second of those that are refused, and of those that take too long; all are counted."""
    rig = Rig(maxHttpBufferSize=10, maxPacketsPerPayload=1, httpRequestBodyTimeout=5000)
    for _ in range(3):
        rig.connect(rig.post(rig.open(), b"Content-Length: 5\r\n") + b"4a\x1e4b")
        rig.connect(rig.post(rig.open(), b"Content-Length: 11\r\n"))
        rig.connect(rig.post("nobody", b"Content-Length: 10\r\n"), b"4")
    rig.clock.advance(1)
    rig.connect(rig.post(rig.open(), b"Content-Length: 11\r\n"))
    rig.clock.advance(4)
    assert [each[:6] + each[-10:] for each in lines] == [
        "POST oPayload, 1",
        "A body, 10 bytes",
        "A bodyt, 5000 ms",
    ]
    refused = rig.server.stats().refused
    assert (refused["maxHttpBufferSize"], refused["maxPacketsPerPayload"]) == (4, 3)
    assert refused["httpRequestBodyTimeout"] == 3


def test_serverAt() -> None:
    """The server of a path is found on captured paths and on resources that were put, and nowhere else."""
    rig = Rig()
    root = rig.site.resource
    assert isinstance(root, CapturedPath)
    deep, mounted = Resource(), Server(reactor=rig.clock)
    root.putChild(b"a b", deep)
    deep.putChild(b"engine.io", EngineIOResource(mounted))
    assert serverAt(root, b"/engine.io/") is rig.server._router
    assert serverAt(root, b"/a%20b/engine.io") is mounted._router
    assert serverAt(root, b"/a%20b/engine.io/x/y") is mounted._router
    for path in (b"", b"/", b"/a%20b", b"/a%20b/other", b"/form", b"/form/x", b"*", b"/engine.iox"):
        assert serverAt(root, path) is None
    assert serverAt(object(), b"/engine.io/") is None


def test_closeConnections() -> None:
    """Every connection is closed, and cut when it can't be."""
    rig = Rig()
    idle = rig.connect()
    closed = rig.site.closeConnections()
    assert idle.disconnecting
    rig.clock.advance(CLOSE_TIMEOUT - 0.1)
    assert (closed.called, idle.isAborted) == (False, False)
    rig.clock.advance(0.1)
    assert idle.isAborted
    idle.lose()
    assert closed.called
    assert rig.site.closeConnections().called


def test_bodiesEndWithTheServer() -> None:
    """Closing the server cuts off who is sending one, whatever it is for; nothing is left."""
    rig = Rig()
    connections = [rig.connect(rig.post(sid, b"Content-Length: 10\r\n"), b"4a") for sid in (rig.open(), "nobody")]
    closed = rig.server.close()
    assert not closed.called
    for connection in connections:
        assert connection.isAborted or connection.disconnecting
        connection.lose()
    assert closed.called


def test_noConnectionTimersStay() -> None:
    """A closed site leaves no timer."""
    rig = Rig()
    connection = rig.connect()
    rig.site.closeConnections()
    connection.lose()
    assert rig.clock.getDelayedCalls() == []


def test_onlyHTTP1IsOffered() -> None:
    """A TLS client doesn't negotiate what can't become a WebSocket."""
    assert Rig().site.acceptableProtocols() == [b"http/1.1"]


@pytest.mark.parametrize("withLog", [False, True])
def test_accessLog(withLog: bool, tmp_path: Any) -> None:
    """Is written where it has a path, and not formatted where it has none."""
    formatted: list[Any] = []
    path = str(tmp_path / "access.log") if withLog else None

    def line(timestamp: object, request: Any) -> str:
        formatted.append(request)
        return "a line"

    site = Site(Resource(), logPath=path, logFormatter=line, reactor=Clock())
    site.doStart()
    connectTo(site).say(b"GET / " + HEAD + b"\r\n")
    site.doStop()
    assert len(formatted) == withLog
    if withLog:
        assert (tmp_path / "access.log").read_text() == "a line\n"


def test_upgradeByHTTP10IsNone() -> None:
    """The Upgrade header means nothing in HTTP/1.0: the request is plain, and on the wrong transport."""
    rig = Rig()
    request = b"GET /engine.io/?EIO=4&transport=websocket HTTP/1.0\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    connection = rig.connect(request)
    assert status(connection) == 400
    assert b'{"code":3,"message":"Bad request"}' in connection.value()
