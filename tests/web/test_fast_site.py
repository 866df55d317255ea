"""What decides where requests go, time, backpressure, the end and the access log are the same on the fast site."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.web import server as webServer

from engineio_twisted import Server, Site
from engineio_twisted.web.fast import FastSite
from engineio_twisted.web.requests import EngineIORequest

from ..kit.stories import (
    BODY,
    LIMIT,
    OPEN,
    OTHER,
    POLL,
    PUSH,
    Hello,
    Here,
    ask,
    compare,
    exchange,
    noted,
    push,
    theSame,
    told,
    webSocket,
    written,
)
from ..kit.wire import makeFrame


def test_anotherServerOnTheSameSite() -> None:
    """Each has its path, in whatever order they were attached."""

    def play(here: Here) -> None:
        other = Server(reactor=here.clock, path="/other")
        other.generateId = lambda request: "other"  # type: ignore[method-assign]
        other.on("connection", lambda socket: socket.on("message", lambda data: here.note("other", data)))
        other.attach(here.site)
        peer = here.say(OPEN)
        there = {"path": b"/other/"}
        for each in (ask(sid=None, **there), push(b"4b", sid=b"other", **there), PUSH, ask(path=b"/third/"), OTHER):
            peer.say(each)
        peer.say(webSocket(sid=b"other", **there), makeFrame("2probe"))
        here.say(webSocket(path=b"/third/"))
        here.advance(2)
        other.close()
        here.step("closed the other")

    story = compare(play)
    assert noted(story, "message") == [("sid0", "hello")]
    assert noted(story, "other") == [("b",)]


@pytest.mark.parametrize("isLeaf", [False, True])
@pytest.mark.parametrize("path", ["/engine.io", "/a/b", "/form"])
def test_pathsAndTheRestOfTheSite(path: str, isLeaf: bool) -> None:
    """Whatever path is a server's, the rest is as before."""

    def play(here: Here) -> None:
        first = path.rstrip("/").encode()
        peer = here.connect()
        for end in (b"", b"/", b"/below", b"//", b"x", b"/%2e", b"/../form"):
            for sid in (None, b"sid0"):
                peer.say(ask(sid=sid, path=(first + end) or b"/"))
                here.send("x")
        for each in (
            OTHER,
            b"GET / HTTP/1.1\r\n\r\n",
            push(b"a=b", path=b"/form"),
            ask(path=b"engine.io"),
            ask(path=b"*"),
        ):
            peer.say(each)
            if peer.isLost:
                peer = here.connect()

    compare(play, root=Hello(isLeaf), path=path)


def ownFactory(*args: Any, **keywords: Any) -> Any:
    return OwnRequest(*args, **keywords)


class OwnRequest(EngineIORequest):
    """A request class of an application."""

    def process(self) -> None:
        self.setHeader("X-Early", "yes")
        super().process()

    def finish(self) -> None:
        self.responseHeaders.setRawHeaders("X-Late", ["yes"])
        super().finish()


class StockRequest(webServer.Request):
    """One that is none of ours."""


class Choosing:
    """A site with something of its own, on top of either kind."""

    def getResourceFor(self: Any, request: Any) -> Any:
        if request.getHeader("x-secret") is None:
            return Hello(isLeaf=True)
        return webServer.Site.getResourceFor(self, request)


@pytest.mark.parametrize("factory", [OwnRequest, ownFactory, StockRequest, webServer.Request])
def test_requestFactories(factory: Any) -> None:
    """A site whose requests are somebody's own."""

    def play(here: Here) -> None:
        peer = here.say(OPEN)
        for each in (POLL, PUSH, push(b"4" + b"x" * LIMIT), ask(sid=b"nobody"), OTHER):
            peer.say(each)
            here.send("x")
        here.say(webSocket(), makeFrame("4a"))

    story = compare(play, of={"requestFactory": factory})
    assert (b"X-Early: yes" in written(story)) is (factory in (OwnRequest, ownFactory))


@pytest.mark.parametrize(
    "how",
    [
        "by its class",
        "by itself",
    ],
)
def test_aSiteThatChoosesResources(how: str) -> None:
    """A site whose own way to find resources keeps some requests from the server."""
    stories = []
    play = exchange(OPEN, PUSH, push(BODY, b"X-Secret: yes"))
    for kind in (Site, FastSite):
        own = type("OwnSite", (Choosing, kind), {})

        def chosen(here: Here, own: Any = own) -> None:
            here.site.getResourceFor = partial(own.getResourceFor, here.site)  # type: ignore[method-assign]
            play(here)

        stories.append(told(own, play) if how == "by its class" else told(kind, chosen))
    theSame(*stories)


@pytest.mark.parametrize(
    "contentType", [b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=x", b"a/b"]
)
@pytest.mark.parametrize("isParsed", [False, True])
def test_forms(contentType: bytes, isParsed: bool) -> None:
    """What is in them is among the arguments, where the site parses them."""
    part = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n'

    def play(here: Here) -> None:
        here.say(OPEN)
        here.server.use(lambda request: here.note("arguments", request.args, request.content.read()))
        for body in (b"4a=b&c=d", part, b"--x\r\nbroken", b""):
            peer = here.say(push(body, b"Content-Type: " + contentType))
            peer.say(push(body, b"Content-Type: " + contentType, path=b"/form"))

    story = compare(play, of={"parsePOSTFormSubmission": isParsed})
    isForm = isParsed and contentType.startswith(b"application")
    assert any(b"4a" in arguments for arguments, _ in noted(story, "arguments")) is isForm


JSONP = b"EIO=4&transport=polling&j=7"


def test_aSessionOfJSONP() -> None:
    """Scripts out, forms in."""

    def play(here: Here) -> None:
        peer = here.say(ask(sid=None, query=JSONP))
        for body in (b"d=4hello", b"d=4a%5Cnb%0D%0A+c", b"e=4", b"d=4&d=4", b"4hello"):
            peer.say(push(body, b"Content-Type: application/x-www-form-urlencoded", query=JSONP))
        peer = here.say(ask(query=JSONP))
        here.send("<\u2028€>")
        peer.say(ask(query=JSONP, sid=None))
        peer.say(ask(query=JSONP, sid=b"sid1"))
        here.send(b"\x00\x01")

    compare(play)
    compare(play, of={"parsePOSTFormSubmission": True})


def test_aSessionOfRevision3() -> None:
    """Payloads with lengths, of bytes too."""
    query = b"EIO=3&transport=polling"

    def play(here: Here) -> None:
        peer = here.say(ask(sid=None, query=query))
        octets = b"Content-Type: application/octet-stream"
        for each in (
            push("3:4€a1:2".encode(), query=query),
            push(b"\x00\x02\xff4a\x01\x03\xff\x04\x00\x01", octets, query=query),
            ask(query=query),
        ):
            peer.say(each)
            here.send(b"\x00\xff")
            here.send("€")
        peer.say(ask(query=query))
        peer.say(push("3:4€".encode(), query=query))
        peer.say(ask(sid=None, query=query + b"&b64=1"))
        peer.say(ask(sid=b"sid1", query=query + b"&b64=1"))
        here.send(b"\x00\xff")
        here.advance(50)

    compare(play, allowEIO3=True, initialPacket=b"\x01")


@pytest.mark.parametrize(
    "accepted",
    [(), (b"gzip",), (b"deflate, gzip;q=0.5",), (b"gzip;q=0",), (b"identity", b"gzip"), (b"*",), (b"br",), (b"\xff",)],
)
@pytest.mark.parametrize("size", [900, 1100, 70_000, 300_000])
def test_compression(size: int, accepted: tuple[bytes, ...]) -> None:
    """Answers under the threshold, over it, and those that are compressed in pieces."""

    def play(here: Here) -> None:
        here.say(OPEN)
        lines = [b"Accept-Encoding: " + each for each in accepted]
        peer = here.say(ask(b"GET", b"sid0", *lines), PUSH)
        here.send("0123456789" * (size // 10))
        here.advance(*[0.002] * 8)
        peer.say(ask(b"GET", b"sid0", *lines) + PUSH)
        here.send("abc" * (size // 3))
        here.advance(0.002)
        peer.fills()
        here.advance(0.002, 0.002)
        peer.drains()
        here.advance(*[0.002] * 8)
        peer.say(ask(b"GET", b"sid0", *lines))
        here.send("d" * size)
        here.advance(0.002)
        peer.lose()

    compare(play, httpCompression={"threshold": 1000})


# Time


def test_idleTimeouts() -> None:
    """Before the first request, between requests, and none while one waits; exactly."""

    def play(here: Here) -> None:
        here.connect()
        slow, polling, behind = (here.connect() for _ in range(3))
        here.advance(30)
        polling.say(OPEN)
        behind.say(POLL, PUSH)
        slow.say(OPEN[:10])
        here.advance(29.999)
        slow.say(OPEN[10:20])
        here.advance(0.001, 0.001, 29.998)
        here.send("after a minute and a half")
        here.advance(0.001, 0.001)
        polling.say(POLL)
        here.advance(0.001, 59.999, 0.001, 30)
        here.send("after a long time")
        here.advance(59.999, 0.001)
        assert all(peer.isLost for peer in here.peers)

    compare(play, pingInterval=1_000_000)


@pytest.mark.parametrize("seconds", [None, 0.5, 5])
def test_timeoutsOfASite(seconds: float | None) -> None:
    """A site whose connections may rest for another time, or for ever."""

    def play(here: Here) -> None:
        peer = here.say(OPEN)
        here.advance(0.4)
        peer.say(PUSH)
        here.advance(0.2)
        peer.say(POLL)
        here.advance(4, 2)
        here.send("x")
        here.advance(0.3, 0.3, 6)
        assert peer.isLost is (seconds is not None)

    compare(play, of={"timeout": seconds})


@pytest.mark.parametrize("first", [b"", OPEN, PUSH[:30], PUSH[:-2], OTHER])
def test_aClientThatDoesNotLetGo(first: bytes) -> None:
    """A connection that has timed out is cut, where it isn't closed otherwise."""

    def play(here: Here) -> None:
        here.say(OPEN)
        peer = here.say(first) if first else here.connect()
        peer.holds()
        here.advance(44.9, 0.2, 29.8, 0.2, 2.8, 0.2)
        assert peer.isLost
        here.advance(20)

    compare(play)


def test_aClientThatLetsGo() -> None:
    """And before it is cut."""

    def play(here: Here) -> None:
        peer = here.say(OPEN)
        peer.holds()
        here.advance(60, 1)
        peer.drains()
        here.advance(2, 14)

    compare(play)


def test_theTimeoutOfAMiddleware() -> None:
    """Of its own choice, while it decides and when it has."""

    def play(here: Here) -> None:
        def middleware(request: Any) -> Any:
            here.note("before", request.channel.setTimeout(7), request.channel.timeOut)
            return here.wait()

        here.server.use(middleware)
        first, second = here.say(OPEN), here.say(OPEN)
        here.advance(3)
        here.decide(None)
        here.advance(3.9, 0.2, 55, 0.8, 0.2)
        assert first.isLost
        assert second.isLost

    compare(play, keepAliveTimeout=60_000)


# Back-pressure


@pytest.mark.parametrize("when", range(9))
def test_aClientThatDoesNotTakeAnswers(when: int) -> None:
    """The buffer is full from one moment to another; meanwhile requests come."""

    def play(here: Here, until: int) -> None:
        here.say(OPEN)
        peer = here.connect()
        acts: list[Callable[[], object]] = [
            lambda: peer.say(OPEN),
            lambda: peer.say(POLL),
            lambda: here.send("a"),
            lambda: peer.say(PUSH, PUSH),
            lambda: peer.say(POLL + PUSH),
            lambda: here.send("b"),
            lambda: peer.say(PUSH[:-1], PUSH[-1:]),
            lambda: peer.say(POLL, PUSH),
        ]
        for place, act in enumerate([*acts, lambda: here.send("c")]):
            if place == when:
                peer.fills()
            act()
            if place == until:
                peer.drains()
        peer.say(PUSH)
        peer.drains()
        here.send("d")
        peer.say(POLL)
        here.send("e")

    for until in range(when, 10):
        compare(partial(play, until=until))


def test_aBufferThatIsNeverEmpty() -> None:
    """A buffer that is full from the first byte on, and never empty again."""

    def play(here: Here) -> None:
        peer = here.connect()
        peer.fills()
        peer.say(OPEN, PUSH, POLL)
        here.send("x")
        here.advance(1, 59, 1, 3)

    compare(play)


# The end


MOMENTS: dict[str, Callable[[Here], Any]] = {
    "nothing": lambda here: here.connect(),
    "idle": lambda here: here.say(OPEN),
    "half a head": lambda here: here.say(PUSH[:20]),
    "half a body": lambda here: here.say(PUSH[:-3]),
    "half a body without a session": lambda here: here.say(push(BODY, sid=b"nobody")[:-3]),
    "parked": lambda here: here.say(POLL),
    "parked, with another behind": lambda here: here.say(POLL + PUSH),
    "parked, with others behind": lambda here: here.say(POLL, PUSH, OPEN),
    "deciding": lambda here: (here.server.use(here.wait), here.say(PUSH))[1],
    "deciding, with another behind": lambda here: (here.server.use(here.wait), here.say(OPEN, PUSH))[1],
    "deciding about a WebSocket": lambda here: (here.server.use(here.wait), here.say(webSocket(), makeFrame("4a")))[1],
    "a WebSocket": lambda here: here.say(webSocket()),
    "probing": lambda here: here.say(webSocket(sid=b"sid0"), makeFrame("2probe")),
    "closing": lambda here: (here.say(PUSH), here.server.clients["sid0"].close(), here.say(OPEN))[2],
    "refused": lambda here: here.say(push(b"x" * LIMIT * 2)[:-4]),
    "compressing": lambda here: (
        here.say(ask(b"GET", b"sid0", b"Accept-Encoding: gzip"), PUSH),
        here.send("x" * 300_000),
        here.advance(0.001),
    )[0],
}


@pytest.mark.parametrize("name", MOMENTS)
def test_theServerCloses(name: str) -> None:
    """At any moment; clients that don't know go on."""

    def play(here: Here, isStuck: bool) -> None:
        first = here.say(OPEN)
        peer = MOMENTS[name](here)
        if isStuck:
            peer.holds()
        here.close()
        for each in (PUSH[-3:], OPEN, POLL, webSocket()):
            peer.say(each)
        first.say(OPEN, POLL)
        here.advance(0.01, 3, 2, 30)
        peer.drains()

    for isStuck in (False, True):
        compare(partial(play, isStuck=isStuck))


@pytest.mark.parametrize("name", MOMENTS)
def test_theConnectionIsLost(name: str) -> None:
    """At any moment; whoever waits for it is told, and nothing is left of it."""

    def play(here: Here, reason: Exception) -> None:
        here.say(OPEN)
        here.server.use(
            lambda request: (
                request.notifyFinish().addBoth(lambda result: here.note("over", result and result.type)) and None
            )
        )
        peer = MOMENTS[name](here)
        peer.lose(reason)
        here.advance(0.01)
        for each in here.waiting:
            if not each.called:
                each.callback(None)
        here.step("decided")
        here.say(PUSH).say(POLL)
        here.send("x")
        here.advance(30)

    for reason in (ConnectionDone(), ConnectionLost()):
        compare(partial(play, reason=reason))


@pytest.mark.parametrize("name", MOMENTS)
def test_theConnectionsAreClosed(name: str) -> None:
    """A site closes its connections, as one of C{listen} does when it stops."""

    def play(here: Here) -> None:
        here.say(OPEN)
        peer = MOMENTS[name](here)
        here.site.closeConnections().addCallback(lambda _: here.note("none left"))
        peer.holds()
        here.step("closed")
        here.send("x")
        here.advance(2.9, 0.2)

    compare(play)


@pytest.mark.usefixtures("mayLog")
@pytest.mark.parametrize("data", [OPEN, POLL, PUSH, webSocket(), OPEN + PUSH], ids=len)
@pytest.mark.parametrize("name", ["_router.handle", "_router._route"])
def test_anErrorOfTheServer(name: str, data: bytes) -> None:
    """A page says so, and the connection goes on."""

    def play(here: Here) -> None:
        here.say(OPEN)

        def fails(*args: Any, **keywords: Any) -> Any:
            raise ZeroDivisionError

        with pytest.MonkeyPatch.context() as patch:
            owner, _, method = f"server.{name}".rpartition(".")
            patch.setattr(attrgetter(owner)(here), method, fails)
            peer = here.say(data)
            here.step("failed")
        peer.say(PUSH)

    compare(play)


@pytest.mark.usefixtures("mayLog")
def test_anErrorBehindTheAnswer() -> None:
    """Where the answer has begun, no page can be sent; whatever is, is the same."""

    def play(here: Here) -> None:
        here.say(OPEN)
        handle = here.server._router.handle

        def failsLater(exchange: Any, isUpgrade: bool) -> None:
            handle(exchange, isUpgrade)
            raise ZeroDivisionError

        here.server._router.handle = failsLater  # type: ignore[method-assign]
        for each in (PUSH, POLL, ask(sid=b"nobody")):
            here.say(each)
            here.send("x")

    compare(play)


def test_aFailureOfAHandler() -> None:
    """What sends and closes from inside a message is answered in the same order."""

    def play(here: Here) -> None:
        def connected(socket: Any) -> None:
            socket.on("message", lambda data: socket.send(data))
            socket.on("message", lambda data: socket.close() if data == "close" else None)
            socket.on("message", lambda data: here.server.close() if data == "end" else None)

        here.server.on("connection", connected)
        polling, posting = here.say(OPEN), here.connect()
        for data in (b"4a", b"4b\x1e4c", b"4d\x1e4close\x1e4e"):
            polling.say(POLL)
            posting.say(push(data))
        here.say(OPEN)
        polling.say(ask(sid=b"sid1"))
        posting.say(push(b"4end", sid=b"sid1"))

    compare(play, events=["flush", "drain"])


# The access log


def test_theAccessLog(tmp_path: Path) -> None:
    """The same lines, in the same order."""
    logs: list[str] = []
    for kind in (Site, FastSite):
        path = tmp_path / f"{kind.__name__}.log"
        path.touch()

        def play(here: Here) -> None:
            here.site.doStart()
            peer = here.say(OPEN)
            for each in (
                POLL,
                push(b"4a", b'Referer: http://"a"', b"User-Agent: \xff\\x"),
                ask(sid=b"nobody"),
                push(b"9"),
                push(b"x" * LIMIT * 2),
                OPEN + PUSH,
                ask(b"OPTIONS"),
                OTHER,
                webSocket(key=b"short"),
                webSocket(),
            ):
                peer.say(each)
                here.send("x" * 2000)
                if peer.isLost:
                    peer = here.connect()
            here.site.doStop()

        told(kind, play, of={"logPath": str(path)})
        logs.append(path.read_text())
    assert logs[1] == logs[0]
    assert logs[0].count("\n") == 11


def test_whatAFormatterSees() -> None:
    """All of the request, before it is over."""
    seen: list[list[Any]] = [[], []]
    for kind, lines in zip((Site, FastSite), seen, strict=True):

        def line(timestamp: object, request: Any, lines: list[Any] = lines) -> str:
            request.content.seek(0)
            lines.append((request.content.read(), bool(request.startedWriting), request.args, request.code))
            return ""

        def play(here: Here) -> None:
            here.site.startFactory()
            here.say(OPEN, PUSH)
            here.site.stopFactory()

        told(kind, play, of={"logPath": "/dev/null", "logFormatter": line})
    assert seen[1] == seen[0]


@pytest.mark.usefixtures("mayLog")
def test_aFormatterThatFails() -> None:
    """A line that can't be written ends the connection, and no more."""

    def play(here: Here) -> None:
        here.site.startFactory()
        peer = here.say(OPEN)
        peer.say(PUSH, POLL)
        here.say(OPEN)
        here.site.stopFactory()

    stories = [
        told(kind, play, of={"logPath": "/dev/null", "logFormatter": lambda *_: 1 / 0}) for kind in (Site, FastSite)
    ]
    theSame(*stories)


def test_anotherNameOfTheServer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where somebody doesn't want to say which software there is."""
    monkeypatch.setattr("twisted.web.server.version", b"something")
    # What is kept for a second isn't used any more.
    later = time.time() + 2
    monkeypatch.setattr("engineio_twisted.web.fast_exchange.time", lambda: later)
    assert written(compare(exchange(OPEN, PUSH))).count(b"Server: something") == 4
