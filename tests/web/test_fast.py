"""
The shorter way through twisted.web: whatever a client sends and an application does, the same comes of it.

The same bytes, cut at the same places, with the same time between them, are given to a connection of L{Site} and to one
of L{FastSite}. What the client gets, what the application sees, what is left: all is compared after each step.
"""

from __future__ import annotations

import copy
import difflib
import errno
import itertools
import pickle
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from io import BytesIO
from operator import attrgetter
from pathlib import Path
from pprint import pformat
from typing import Any, ClassVar
from urllib.parse import parse_qs

import pytest
import pytest_twisted
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet import tcp
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import SSL4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import Clock, Cooperator
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent, LogLevel, globalLogPublisher
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.portforward import ProxyClient, ProxyClientFactory, ProxyFactory, ProxyServer
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.web import server as webServer
from twisted.web.http_headers import Headers
from twisted.web.resource import Resource
from zope.interface import alsoProvides

from engineio_twisted import Server, Site, listen
from engineio_twisted.protocol.errors import ConnectionRefusal
from engineio_twisted.protocol.handshake import parseQuery
from engineio_twisted.web.channel import Channel
from engineio_twisted.web.connections import writeAtOnce
from engineio_twisted.web.exchange import RequestExchange
from engineio_twisted.web.fast import FastChannel, FastSite
from engineio_twisted.web.fast_exchange import FastExchange
from engineio_twisted.web.requests import EngineIORequest

from ..kit.wire import Wire, http, makeFrame, pause, target, upgrade, within

LIMIT = 2000
"""The maxHttpBufferSize of most servers here."""

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="

_DATE = re.compile(rb"\r\nDate: ([^\r]*)\r\n")


def masked(data: bytes) -> bytes:
    """What was written, with the present time, which is all that may differ, taken out."""
    for text in _DATE.findall(data):
        assert re.fullmatch(rb"[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT", text)
        assert abs(parsedate_to_datetime(text.decode()) - datetime.now(UTC)) < timedelta(minutes=1)
    return _DATE.sub(b"\r\nDate: now\r\n", data)


@pytest.fixture
def mayLog(leavesNothingBehind: None, loggedErrors: list[LogEvent]) -> Iterator[None]:
    """For a test in which errors are logged: they are compared as all else is."""
    yield
    loggedErrors.clear()


class Peer(StringTransport):
    """
    A connection from the client's side, which does what one of the reactor does.

    @ivar isStuck: whether the client takes nothing that is sent, so that a connection that is closed stays.
    @ivar isFull: whether all that is written finds the buffer full.
    @ivar forgets: whether it can't say its own address once it is lost, as one of the reactor can't.
    """

    isStuck = isFull = isLost = isAborted = forgets = False
    isReading = True

    def __init__(self, here: Here, isSecure: bool = False) -> None:
        super().__init__()
        self.here = here
        self.protocol: Any = None
        self.inbox: deque[bytes] = deque()
        self.seen = 0
        if isSecure:
            alsoProvides(self, ISSLTransport)

    # What a client does

    def say(self, *pieces: bytes) -> Peer:
        """Send bytes, each piece to be read on its own."""
        self.inbox.extend(pieces)
        self.here.step("said")
        return self

    def lose(self, reason: Exception | None = None) -> None:
        """Go away."""
        self.isLostBy(reason or ConnectionLost())
        self.here.step("lost")

    def fills(self) -> None:
        """Take nothing more, so that the buffer gets full."""
        self.isFull = True
        if self.producer is not None:
            self.producer.pauseProducing()
        self.here.step("full")

    def drains(self) -> None:
        """Take all that is there."""
        self.isFull = False
        if self.producer is not None:
            self.producer.resumeProducing()
        self.here.step("drained")

    def closes(self) -> None:
        """Let go of a connection that is closed."""
        self.isStuck = False
        self.here.step("let go")

    # What the reactor does

    def goOn(self) -> bool:
        """Read a piece, or close what is to be closed; return whether there was anything to do."""
        if self.isLost:
            return False
        if self.isAborted:
            self.isLostBy(ConnectionAborted())
        elif self.disconnecting:
            if self.isStuck:
                return False
            self.isLostBy(ConnectionDone())
        elif self.isReading and self.inbox:
            try:
                self.protocol.dataReceived(self.inbox.popleft())
            except Exception as error:
                self.here.note("the connection failed", type(error))
                self.isLostBy(error)
        else:
            return False
        return True

    def isLostBy(self, reason: Exception) -> None:
        if self.isLost:
            return
        self.isLost = self.disconnected = True
        self.connected = False
        producer, self.producer = self.producer, None
        if producer is not None:
            producer.stopProducing()
        self.protocol.connectionLost(Failure(reason))

    # The connection

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def write(self, data: bytes) -> None:
        if not self.isLost:
            super().write(data)
            self._wrote()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        if not self.isLost:
            super().writeSequence(data)
            self._wrote()

    def _wrote(self) -> None:
        if self.isFull and self.producer is not None:
            self.producer.pauseProducing()

    def loseConnection(self) -> None:
        if not self.isLost:
            self.disconnecting = True
            self.isReading = False

    def abortConnection(self) -> None:
        if not self.isLost:
            self.isAborted = True
            self.loseConnection()

    def pauseProducing(self) -> None:
        self.isReading = False

    def resumeProducing(self) -> None:
        if not self.isLost and not self.disconnecting:
            self.isReading = True

    def unregisterProducer(self) -> None:
        self.producer = None

    def getHost(self) -> Any:
        if self.isLost and self.forgets:
            raise AttributeError("socket")
        return super().getHost()

    def news(self) -> bytes:
        """What was written since this was last asked."""
        data = self.value()[self.seen :]
        self.seen += len(data)
        return masked(data)


class Hello(Resource):
    """What else the site has."""

    def __init__(self, isLeaf: bool = False) -> None:
        super().__init__()
        self.isLeaf = isLeaf
        self.putChild(b"form", self) if not isLeaf else None

    def getChild(self, path: bytes, request: Any) -> Resource:
        return self

    def render(self, request: Any) -> bytes:
        there = (request.method, request.uri, request.prepath, request.postpath, request.args, request.content.read())
        return repr(there).encode()


class Here:
    """
    A server on a site, on a clock, with connections in memory, and the story of all that happens.

    @ivar story: what happened, in order: what was noted, and after each step what there is to see.
    @ivar events: a server's events that are noted too; some are not emitted where nobody listens.
    """

    def __init__(
        self,
        kind: type[Site],
        *,
        isDecided: bool = False,
        events: Iterable[str] = (),
        root: Resource | None = None,
        of: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.clock = Clock()
        self.story: list[Any] = []
        self.peers: list[Peer] = []
        self.sockets: list[Any] = []
        self.waiting: list[Deferred[Any]] = []
        self.closed: Deferred[None] | None = None
        self.ids = (f"sid{number}" for number in itertools.count())
        self.server = Server(reactor=self.clock, **{"maxHttpBufferSize": LIMIT, **options})
        if isDecided:
            self.server.generateId = lambda request: next(self.ids)  # type: ignore[method-assign]
        self.site = kind(Hello() if root is None else root, reactor=self.clock, **(of or {}))
        self.server.attach(self.site)
        self.server.on("connection", self._connected)
        for event in ("connection_error", *events):
            self.server.on(event, lambda *args, event=event: self.note(event, *[self._told(each) for each in args]))

    def _told(self, given: Any) -> Any:
        if isinstance(given, str | bytes | int):
            return given
        if isinstance(given, list):
            return [self._told(each) for each in given]
        kind = type(given).__name__
        if kind == "ConnectionErrorEvent":
            context = {name: repr(value) for name, value in given.context.items()}
            return kind, given.code, given.message, context, given.req.uri
        if kind == "Packet":
            return kind, given.type, given.data
        if kind == "ResponseHeaders":
            return kind, {name: value for name, value in given.items() if name != "Date"}
        return "Request" if isinstance(given, EngineIORequest) else kind

    def _connected(self, socket: Any) -> None:
        self.sockets.append(socket)
        self.note("connection", socket.id, socket.remoteAddress, socket.transport.name)
        for event in ("message", "close", "upgrade", "error"):
            socket.on(event, lambda *args, event=event: self.note(event, socket.id, *map(self._told, args)))
        socket.on("message", lambda data: socket.send(b"binary") if data == "binary" else None)

    def note(self, *what: Any) -> None:
        self.story.append(what)

    # What a test does

    def connect(self, isSecure: bool = False) -> Peer:
        peer = Peer(self, isSecure)
        peer.protocol = self.site.buildProtocol(peer.getPeer())
        self.peers.append(peer)
        peer.protocol.makeConnection(peer)
        self.step("connected")
        return peer

    def say(self, *pieces: bytes) -> Peer:
        """Send bytes on a connection of their own."""
        return self.connect().say(*pieces)

    def advance(self, *seconds: float) -> None:
        for each in seconds:
            self.clock.advance(each)
            self.step(f"{each} s later")

    def send(self, data: Any) -> None:
        """Send a message to all."""
        self.server.broadcast(data)
        self.step("sent")

    def decide(self, answer: Any) -> None:
        """Answer the first of those that wait."""
        self.waiting.pop(0).callback(answer)
        self.step("decided")

    def wait(self, *_: object) -> Deferred[Any]:
        """Leave a decision to L{decide}; also a middleware, or C{allowRequest}."""
        deferred: Deferred[Any] = Deferred(lambda _: self.note("cancelled"))
        self.waiting.append(deferred)
        return deferred

    def close(self) -> None:
        """Close the server."""
        self.closed = self.server.close()
        self.closed.addCallback(lambda _: self.note("closed"))
        self.step("closing")

    def step(self, what: str) -> None:
        """Let all that is due happen, and note what there is to see."""
        while sum(peer.goOn() for peer in self.peers):
            pass
        self.note(
            what,
            [(peer.news(), peer.isReading, peer.disconnecting, peer.isLost, len(peer.inbox)) for peer in self.peers],
            [
                (socket.id, socket.readyState, socket.transport.name, [self._told(each) for each in socket.writeBuffer])
                for socket in self.sockets
            ],
            sorted(self.server.clients),
            len(self.server.router.reading),
            len(self.site.channels),
            self.timers(),
        )

    def timers(self) -> list[float]:
        """The times of what is still to happen."""
        queues = {id(each): each for each in self.site._deadlines.values()}
        calls = self.clock.getDelayedCalls()
        times = [each.getTime() for each in calls if id(getattr(each.func, "__self__", None)) not in queues]
        for queue in queues.values():
            # A channel that answers a request has no timeout: then nothing comes of its wait.
            times += [end for channel, end in queue._ends.items() if channel.timeOut is not None]
        return sorted(round(each - self.clock.seconds(), 6) for each in times)

    def end(self) -> None:
        """Wait for all timeouts, close all there is, and make sure that nothing is left."""
        self.advance(3, 62, 15.5)
        for peer in self.peers:
            peer.isStuck = False
        if self.closed is None:
            self.close()
        for peer in self.peers:
            peer.lose()
        self.advance(0)
        self.site.sessions.clear()
        assert self.timers() == [each for each in self.timers() if each > 300], "a timer of twisted.web's own sessions"
        assert not self.server.clients
        assert not len(self.site.channels)


Play = Callable[[Here], object]


def told(kind: type[Site], play: Play, **options: Any) -> list[Any]:
    """The story of what happens on a site."""
    with pytest.MonkeyPatch.context() as patch:
        here = Here(kind, **options)
        patch.setattr("engineio_twisted.server.generateId", lambda: next(here.ids))
        # What is compressed in pieces is otherwise left to the reactor.
        patch.setattr(
            "twisted.internet._producer_helpers.cooperate",
            Cooperator(lambda: lambda: True, lambda each: here.clock.callLater(0.001, each)).cooperate,
        )

        def observe(event: LogEvent) -> None:
            if event["log_level"] >= LogLevel.warn:
                failure = event.get("log_failure")
                here.note("logged", event.get("log_format"), failure and failure.type)

        globalLogPublisher.addObserver(observe)
        try:
            play(here)
            here.end()
        finally:
            globalLogPublisher.removeObserver(observe)
    story = here.story
    # Twisted keeps the last events that were logged, and all of this with them.
    for each in (*here.peers, *here.sockets, here.server, here.site, here):
        vars(each).clear()
    return story


def compare(play: Play, asked: Iterable[bool] = (True, False), **options: Any) -> list[Any]:
    """
    Make sure that the same comes of it on both sites.

    @param asked: whether somebody is asked about new sessions, or the server opens them by itself.
    @return: what happened, the last time.
    """
    for isDecided in asked:
        plain = told(Site, play, isDecided=isDecided, **options)
        fast = told(FastSite, play, isDecided=isDecided, **options)
        theSame(plain, fast)
    return plain


def theSame(plain: list[Any], fast: list[Any]) -> None:
    """Make sure that two stories are the same; otherwise show where they begin to differ."""
    for place, (stock, ours) in enumerate(itertools.zip_longest(plain, fast)):
        if ours != stock:
            lines = [[*pformat(each, width=200).splitlines()] for each in (stock, ours)]
            differing = "\n".join(difflib.unified_diff(*lines, "the stock way", "the shorter way", n=1, lineterm=""))
            before = "\n".join(str(each)[:500] for each in plain[max(0, place - 2) : place])
            raise AssertionError(f"step {place} is another:\n{before}\n{differing}")


def noted(story: list[Any], what: str) -> list[tuple[Any, ...]]:
    """What was noted of a kind."""
    return [each[1:] for each in story if each[0] == what]


def written(story: list[Any], place: int = -1) -> bytes:
    """All that was written to one of the connections."""
    steps = [each[1] for each in story if len(each) == 7]
    number = place % len(steps[-1])
    return b"".join(each[number][0] for each in steps if len(each) > number)


def statuses(story: list[Any], place: int = -1) -> list[int]:
    """The statuses of the answers on one of the connections."""
    return [int(each) for each in re.findall(rb"HTTP/1\.[01] (\d{3}) ", written(story, place))]


# Requests


def ask(
    method: bytes = b"GET",
    sid: bytes | None = b"sid0",
    *lines: bytes,
    body: bytes | None = None,
    path: bytes = b"/engine.io/",
    query: bytes = b"EIO=4&transport=polling",
    version: bytes = b"HTTP/1.1",
    host: tuple[bytes, ...] = (b"Host: localhost",),
) -> bytes:
    """A request, with exactly these lines."""
    uri = path + b"?" + query + (b"" if sid is None else b"&sid=" + sid)
    length = () if body is None else (b"Content-Length: %d" % len(body),)
    return b"\r\n".join([b"%b %b %b" % (method, uri, version), *host, *lines, *length, b"", body or b""])


def push(body: bytes, *lines: bytes, sid: bytes = b"sid0", **options: Any) -> bytes:
    return ask(b"POST", sid, *lines, body=body, **options)


def webSocket(*lines: bytes, sid: bytes | None = None, key: bytes = KEY, **options: Any) -> bytes:
    opening = (b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Key: " + key)
    options = {"query": b"EIO=4&transport=websocket", **options}
    return ask(options.pop("method", b"GET"), sid, *opening, b"Sec-WebSocket-Version: 13", *lines, **options)


OPEN, POLL, PUSH = ask(sid=None), ask(), push(b"4hello")

OTHER = b"GET /form/a%20b?c=d HTTP/1.1\r\nHost: localhost\r\n\r\n"


def cut(data: bytes, *places: int) -> list[bytes]:
    """Bytes, cut at some places."""
    at = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(at)]


def behind(data: bytes) -> int:
    """Where the head of a request ends."""
    return data.find(b"\r\n\r\n") + 4 if b"\r\n\r\n" in data else len(data) // 2


def exchange(*pieces: bytes) -> Play:
    """A session is there; a client sends this; then another good request; then there is something for all sessions."""

    def play(here: Here) -> None:
        here.say(OPEN)
        peer = here.say(*pieces)
        here.advance(0.5)
        peer.say(push(b"4behind"))
        here.send("from the server")
        here.advance(1)
        peer.say(POLL)
        here.send("again")

    return play


def whole(data: bytes) -> list[list[bytes]]:
    """A request in one read, cut where the head ends, and cut in the middle of it."""
    return [[data], cut(data, behind(data)), cut(data, len(data) // 2), cut(data, 1)]


# One request after the other


def test_theFastPathIsTaken() -> None:
    """What polling is made of takes the fast path: otherwise nothing at all is compared here."""
    for kind, expected in ((Site, RequestExchange), (FastSite, FastExchange)):
        here = Here(kind)
        seen: list[type[Any]] = []
        handle = here.server.router.handle

        def look(exchange: Any, isUpgrade: bool, seen: Any = seen, handle: Any = handle) -> None:
            seen.append(type(exchange))
            handle(exchange, isUpgrade)

        here.server.router.handle = look  # type: ignore[method-assign]
        peer = here.say(OPEN)
        sid = here.sockets[0].id.encode()
        for each in (ask(sid=sid), push(b"4a", sid=sid), push(b"", sid=sid), ask(sid=b"nobody"), webSocket()):
            peer.say(each)
            here.send("x")
        assert seen == [expected] * 6
        here.end()


def test_aSession() -> None:
    """Handshake, a poll that waits and is answered, a POST, another poll; all on one connection."""

    def play(here: Here) -> None:
        peer = here.say(OPEN)
        peer.say(POLL)
        here.advance(10)
        here.send("a")
        peer.say(PUSH)
        peer.say(push("4€\x1e4b\x1ebAAEC".encode()))
        here.send("b")
        here.send(b"\x00\xff")
        peer.say(POLL)
        here.advance(15)
        peer.say(POLL)
        here.advance(1)
        peer.say(push(b"3"))
        here.send("c")
        peer.say(push(b"1"))
        peer.say(POLL)

    story = compare(play)
    assert statuses(story) == [200] * 8 + [400]
    assert b"\r\n\r\n4b\x1ebAP8=" in written(story)
    assert noted(story, "message") == [("sid0", each) for each in ("hello", "€", "b", b"\0\1\2")]


@pytest.mark.parametrize("each", ["open", "poll", "push", "webSocket", "form"])
def test_cutAnywhere(each: str) -> None:
    """A request that comes in two reads, cut at any byte, and one that comes byte by byte."""
    data = {"open": OPEN, "poll": POLL, "push": PUSH, "webSocket": webSocket(), "form": OTHER}[each]

    def play(here: Here) -> None:
        here.say(OPEN)
        peers = [here.say(*cut(data, place)) for place in range(1, len(data))]
        here.advance(1)
        here.send("x")
        for peer in peers[:5]:
            peer.say(PUSH)
        here.say(*[data[place : place + 1] for place in range(len(data))])

    compare(play)


@pytest.mark.parametrize("count", [2, 3, 300])
@pytest.mark.parametrize("each", ["open", "push", "poll", "empty", "unknown", "form"])
def test_pipelined(each: str, count: int) -> None:
    """Requests in one read are served one after the other."""
    data = {
        "open": OPEN,
        "push": b"".join(push(b"4%d" % number) for number in range(count)),
        "poll": POLL,
        "empty": push(b""),
        "unknown": ask(sid=b"nobody"),
        "form": OTHER,
    }[each]
    data = data if each == "push" else data * count

    def play(here: Here) -> None:
        here.say(OPEN)
        peer = here.say(data)
        for number in range(4):
            here.send(f"message {number}")
        peer.say(*cut(data, len(data) // 2, len(data) // 3))
        for number in range(4):
            here.send(f"message {number}")

    story = compare(play)
    if each == "push":
        assert noted(story, "message")[:count] == [("sid0", str(number)) for number in range(count)]


@pytest.mark.parametrize(
    "pieces",
    [
        [POLL + PUSH],
        [POLL, PUSH],
        [PUSH + POLL],
        [PUSH, POLL],
        [POLL + OPEN + PUSH + OTHER],
        [POLL, OPEN + PUSH, OTHER],
        [POLL, PUSH[:20], PUSH[20:]],
        [POLL, PUSH[:-3], PUSH[-3:]],
        [POLL + PUSH[:-3], PUSH[-3:] + POLL[:5], POLL[5:]],
        [POLL, push(b"4" + b"x" * 1500) * 12, PUSH],
        [POLL, b"x" * 20_000],
        [POLL, b"\r\n" * 10_000, PUSH],
        [POLL, webSocket() + makeFrame("4x")],
        [POLL + webSocket(), makeFrame("4x")],
        [POLL, ask(b"GET", b"sid0", b"Connection: close"), PUSH],
        [POLL, POLL, POLL],
        [OTHER + OPEN, OPEN + OTHER],
    ],
    ids=lambda pieces: ",".join(str(len(each)) for each in pieces),
)
def test_behindAPoll(pieces: list[bytes]) -> None:
    """What comes behind a GET that waits is kept until that is answered, and read no further than before."""

    def play(here: Here) -> None:
        here.say(OPEN)
        peer = here.say(*pieces)
        here.advance(1)
        for number in range(4):
            here.send(f"message {number}")
            here.advance(1)
        peer.say(PUSH)
        peer.say(POLL)
        here.send("last")

    compare(play)


def test_overlappingGets() -> None:
    """The second one is refused, and the session ends."""

    def play(here: Here) -> None:
        peer = here.say(OPEN)
        peer.say(POLL)
        other = here.say(POLL)
        other.say(PUSH)

    story = compare(play)
    assert statuses(story) == [400, 400]
    assert noted(story, "close") == [("sid0", "transport error", "overlapping GET requests")]


OVERLAPS = {
    "whole": push(b"4b"),
    "two sessions": push(b"4b", sid=b"sid1"),
    "no session": push(b"4b", sid=b"nobody"),
    "wrong revision": push(b"4b", query=b"EIO=3&transport=polling"),
    "no query": push(b"4b", query=b""),
    "poll": POLL,
    "open": OPEN,
    "too large": push(b"4" + b"x" * LIMIT),
}


def overlap(second: bytes, isCut: bool) -> Play:
    def play(here: Here) -> None:
        here.say(OPEN)
        here.say(OPEN)
        first = here.say(*cut(push(b"4first body"), -4)[:1])
        here.say(*(cut(second, -1) if isCut else [second]))
        here.send("a")
        first.say(b"body")
        here.send("b")

    return play


@pytest.mark.parametrize("isCut", [False, True])
@pytest.mark.parametrize("second", OVERLAPS)
def test_overlappingPosts(second: str, isCut: bool) -> None:
    """While a body is being read, what another connection brings for the same session, or for another."""
    story = compare(overlap(OVERLAPS[second], isCut))
    if second == "whole":
        assert ("sid0", "transport error", "overlapping POST requests") in noted(story, "close")


def test_overlappingPostsWithoutABody() -> None:
    """A POST is one, with a body or without."""
    story = compare(overlap(push(b""), False))
    assert ("sid0", "transport error", "overlapping POST requests") in noted(story, "close")


@pytest.mark.parametrize("size", [0, 1, LIMIT - 1, LIMIT, LIMIT + 1, LIMIT * 50])
@pytest.mark.parametrize("sid", [b"sid0", b"nobody"])
def test_sizes(size: int, sid: bytes) -> None:
    """Bodies of any size, around the limit too."""
    for data in whole(push((b"4" + b"x" * size)[:size], sid=sid)):
        story = compare(exchange(*data))
    assert statuses(story, 1)[0] == (413 if size > LIMIT else 400 if sid != b"sid0" or not size else 200)


# Everything that can be wrong with a request, or rare

LINES = {
    "none": [],
    "sign": [b"Content-Length: +6"],
    "negative": [b"Content-Length: -6"],
    "space inside": [b"Content-Length: 6 6"],
    "spaces around": [b"Content-Length: \t 6 \t "],
    "comma": [b"Content-Length: 6, 6"],
    "underscore": [b"Content-Length: 0_6"],
    "hexadecimal": [b"Content-Length: 0x6"],
    "point": [b"Content-Length: 6.0"],
    "huge": [b"Content-Length: " + b"9" * 30],
    "more digits than an int may have": [b"Content-Length: " + b"0" * 5000 + b"6"],
    "arabic digits": ["Content-Length: ٦".encode()],
    "superscript digits": [b"Content-Length: \xb2"],
    "leading zeros": [b"Content-Length: 0000006"],
    "zero": [b"Content-Length: 0"],
    "empty length": [b"Content-Length:"],
    "too long": [b"Content-Length: 7"],
    "too short": [b"Content-Length: 5"],
    "no space": [b"content-length:6"],
    "equal lengths": [b"Content-Length: 6", b"Content-Length: 6"],
    "different lengths": [b"Content-Length: 6", b"content-length: 7"],
    "vertical tab": [b"Content-Length: \x0b6"],
    "chunked": [b"Transfer-Encoding: chunked"],
    "Chunked": [b"transfer-encoding:\t ChUnKeD "],
    "chunked and length": [b"Transfer-Encoding: chunked", b"Content-Length: 6"],
    "length and chunked": [b"Content-Length: 6", b"Transfer-Encoding: chunked"],
    "identity": [b"Transfer-Encoding: identity", b"Content-Length: 6"],
    "gzip, chunked": [b"Transfer-Encoding: gzip, chunked"],
    "unknown coding": [b"Transfer-Encoding: x-unknown"],
    "coding twice": [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
    "no coding": [b"Transfer-Encoding:", b"Content-Length: 6"],
    "folded": [b"X-Long: a", b" b", b"\tc"],
    "folded length": [b"Content-Length:", b" 6"],
    "folded connection": [b"Connection: keep-alive", b" close"],
    "folded at once": [b" Folded: at once"],
    "space before colon": [b"X-Odd : a"],
    "space before colon of the length": [b"Content-Length : 6"],
    "empty name": [b": a"],
    "no colon": [b"X-Odd"],
    "colon alone": [b":"],
    "empty value": [b"X-Odd:"],
    "value of colons": [b"X-Odd::::"],
    "high bytes in a name": [b"X-\xe9: a"],
    "high bytes in a value": [b"X-Odd: \x80\xe9\xff\x85"],
    "UTF-8": ["X-Odd: €".encode()],
    "control bytes in a value": [b"X-Odd: \x01\x02\x0b\x0c\x1c\x7f"],
    "control byte in a name": [b"X-\x01: a"],
    "NUL in a value": [b"X-Odd: a\x00b"],
    "NUL in a name": [b"X\x00: a"],
    "tab in a name": [b"X\t: a"],
    "bare LF": [b"X-Odd: a\nX-Other: b"],
    "bare CR": [b"X-Odd: a\rX-Other: b"],
    "CR at the end": [b"X-Odd: a\r"],
    "LF at the end": [b"X-Odd: a\n"],
    "smuggled by LF": [b"X-Odd: a\nContent-Length: 6\nTransfer-Encoding: chunked"],
    "every token": [b"!#$%&'*+-.^_`|~09AZaz: a"],
    "parentheses": [b"X(a): a"],
    "two hosts": [b"Host: elsewhere"],
    "close": [b"Connection: close"],
    "CLOSE": [b"cOnNeCtIoN:  CLOSE  "],
    "close in a list": [b"Connection: keep-alive, close"],
    "close, close": [b"Connection: close, close"],
    "close by spaces": [b"Connection: foo close bar"],
    "close in the second": [b"Connection: keep-alive", b"Connection: close"],
    "close in the first": [b"Connection: close", b"Connection: keep-alive"],
    "close in a word": [b"Connection: not-closed"],
    "tab close": [b"Connection: x\tclose"],
    "empty connection": [b"Connection:"],
    "keep-alive": [b"Connection: keep-alive", b"Keep-Alive: timeout=5"],
    "proxy-connection": [b"Proxy-Connection: close"],
    "expect": [b"Expect: 100-continue"],
    "EXPECT": [b"EXPECT: 100-Continue"],
    "expect something": [b"Expect: 200-ok"],
    "upgrade to HTTP/2": [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAA"],
    "upgrade without connection": [b"Upgrade: websocket"],
    "connection without upgrade": [b"Connection: Upgrade"],
    "upgrade and close": [b"Connection: Upgrade, close", b"Upgrade: websocket"],
    "upgrade in a list": [b"Connection: keep-alive, upgrade", b"Upgrade: foo/1, WEBSOCKET"],
    "upgrade twice": [b"Connection: keep-alive", b"Connection: Upgrade", b"Upgrade: foo", b"upgrade: websocket"],
    "empty upgrade": [b"Connection: Upgrade", b"Upgrade:"],
    "origin": [b"Origin: http://example.org"],
    "origins": [b"Origin: http://example.org", b"origin: http://b"],
    "origin with control bytes": [b"Origin: http://\x01"],
    "old browser": [b"User-Agent: Mozilla/4.0 (compatible;MSIE 8.0; Windows NT 6.1)"],
    "less old browser": [b"USER-AGENT: Mozilla/5.0 (Windows NT 6.1; Trident/7.0)"],
    "two browsers": [b"User-Agent: Trident/7.0", b"User-Agent: none"],
    "high bytes of a browser": [b"User-Agent: \xff;MSIE"],
    "octets": [b"Content-Type: application/octet-stream"],
    "Octets": [b"content-type:APPLICATION/OCTET-STREAM ; charset=x"],
    "a form": [b"Content-Type: application/x-www-form-urlencoded"],
    "parts": [b"Content-Type: multipart/form-data; boundary=x"],
    "cookies": [b"Cookie: a=b; c=d", b"cookie: e"],
    "trailer": [b"Trailer: X-Odd", b"TE: trailers"],
    "override": [b"X-HTTP-Method-Override: PUT"],
    "forwarded": [b"X-Forwarded-For: 192.0.2.1"],
}
"""Lines that a request may have besides what belongs to it."""

BODY = b"4hello"


@pytest.mark.parametrize("name", LINES)
def test_lines(name: str) -> None:
    """A handshake, a poll and a POST with these lines; the last one also with a length of its own."""
    lines = LINES[name]
    requests = [
        ask(b"GET", None, *lines),
        ask(b"GET", b"sid0", *lines),
        ask(b"POST", b"sid0", *lines) + BODY,
        ask(b"POST", b"sid0", *lines, body=BODY),
        ask(b"POST", b"sid0", *lines) + b"6\r\n4hello\r\n0\r\n\r\n",
    ]
    compare(exchange(requests[0]), asked=[True])
    for data in requests:
        compare(exchange(data), asked=[False])
        compare(exchange(*cut(data, behind(data) - 4)), asked=[False])


WHOLE = {
    "no host": ask(host=()),
    "no host, by POST": push(BODY, host=()),
    "nothing but the first line": b"GET /engine.io/?EIO=4&transport=polling HTTP/1.1\r\n\r\n",
    "empty host": ask(host=(b"Host:",)),
    "two hosts": ask(host=(b"Host: a", b"Host: b")),
    "lower-case method": ask(b"get"),
    "lower-case post": ask(b"post", body=BODY),
    "unknown method": ask(b"BREW"),
    "unknown method with a body": ask(b"BREW", body=BODY),
    "a method with odd signs": ask(b"!#$%&'*+-.^_`|~"),
    "no token": ask(b"GE(T"),
    "OPTIONS": ask(b"OPTIONS"),
    "HEAD": ask(b"HEAD"),
    "HEAD without a session": ask(b"HEAD", None),
    "PUT": ask(b"PUT", body=BODY),
    "DELETE": ask(b"DELETE", body=b""),
    "CONNECT": b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TRACE": ask(b"TRACE"),
    "body on GET": ask(body=BODY),
    "no body on GET": ask(body=b""),
    "body on a handshake": ask(sid=None, body=BODY),
    "bytes behind a GET": ask() + b"x",
    "bytes behind a POST": push(BODY) + b"x",
    "empty lines behind a POST": push(BODY) + b"\r\n\r\n",
    "POST without a length": ask(b"POST"),
    "POST without a length, with a body": ask(b"POST") + BODY,
    "POST without a session": push(BODY, sid=b""),
    "POST of an unknown session": push(BODY, sid=b"nobody"),
    "a close packet": push(b"1"),
    "a broken packet": push(b"9"),
    "a heartbeat in the wrong direction": push(b"2"),
    "not UTF-8": push(b"4\xff"),
    "many packets": push(b"4a\x1e4b\x1e9\x1e4c"),
    "absolute": ask(path=b"http://localhost/engine.io/"),
    "absolute, elsewhere": ask(path=b"https://example.org:8443/engine.io/"),
    "star": b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET star": b"GET * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "two slashes": ask(path=b"//engine.io/"),
    "two slashes behind": ask(path=b"/engine.io//"),
    "slashes": b"GET // HTTP/1.1\r\n\r\n",
    "no path": b"GET ?EIO=4&transport=polling HTTP/1.1\r\n\r\n",
    "no slash": ask(path=b"engine.io"),
    "percent-encoded": ask(path=b"/engine%2eio/"),
    "percent-encoded behind": ask(path=b"/engine.io/%61%2Fb"),
    "without a slash": ask(path=b"/engine.io"),
    "below": ask(path=b"/engine.io/a/b%20c/"),
    "beside": ask(path=b"/engine.iox"),
    "semicolon": ask(path=b"/engine.io;a=b/"),
    "dots": ask(path=b"/engine.io/../form"),
    "backslash": ask(path=b"\\engine.io\\"),
    "upper case": ask(path=b"/ENGINE.IO/"),
    "fragment": ask(query=b"EIO=4&transport=polling#x"),
    "high bytes in the address": ask(path=b"/engine.io/\x80\xb0"),
    "higher bytes in the address": ask(path=b"/engine.io/\xff"),
    "a control byte in the address": ask(path=b"/engine.io/\x01"),
    "DEL in the address": ask(path=b"/engine.io/\x7f"),
    "NUL in the address": ask(path=b"/engine.io/\x00"),
    "quotes in the address": ask(path=b"/engine.io/'\"<>{}|^`"),
    "two spaces": b"GET  /engine.io/?EIO=4&transport=polling HTTP/1.1\r\n\r\n",
    "a space behind": b"GET /engine.io/?EIO=4&transport=polling HTTP/1.1 \r\n\r\n",
    "a space before": b" GET /engine.io/?EIO=4&transport=polling HTTP/1.1\r\n\r\n",
    "a tab": b"GET\t/engine.io/?EIO=4&transport=polling\tHTTP/1.1\r\n\r\n",
    "HTTP/1.0": ask(version=b"HTTP/1.0"),
    "HTTP/1.0 with keep-alive": ask(b"GET", None, b"Connection: keep-alive", version=b"HTTP/1.0"),
    "HTTP/1.0 POST": push(BODY, version=b"HTTP/1.0"),
    "HTTP/1.2": ask(version=b"HTTP/1.2"),
    "HTTP/2.0": ask(version=b"HTTP/2.0"),
    "http/1.1": ask(version=b"http/1.1"),
    "HTTP/1.10": ask(version=b"HTTP/1.10"),
    "no version": b"GET /engine.io/?EIO=4&transport=polling\r\n\r\n",
    "HTTP/0.9": b"GET /engine.io/\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,
    "nothing but line ends": b"\r\n\r\n\r\n\r\n",
    "an empty line before": b"\r\n" + PUSH,
    "two empty lines before": b"\r\n\r\n" + PUSH,
    "a bare LF before": b"\n" + PUSH,
    "an empty line between": PUSH + b"\r\n" + PUSH,
    "bare LFs": PUSH.replace(b"\r\n", b"\n"),
    "bare CRs": PUSH.replace(b"\r\n", b"\r"),
    "one bare LF": PUSH.replace(b"localhost\r\n", b"localhost\n"),
    "one LF too many": PUSH.replace(b"localhost\r\n", b"localhost\r\n\n"),
    "empty query": ask(query=b"", sid=None),
    "no query": b"GET /engine.io/ HTTP/1.1\r\n\r\n",
    "empty session id": ask(sid=b""),
    "two session ids": ask(sid=b"sid0&sid=sid0"),
    "escaped": ask(sid=b"%73id0"),
    "plus": ask(sid=b"sid+0"),
    "wrongly escaped": ask(sid=b"sid0&%zz=%"),
    "escaped zero": ask(sid=b"sid0%00"),
    "escaped high bytes": ask(sid=b"%ff%e2%82%ac"),
    "questions": ask(query=b"EIO=4&transport=polling&a=?b?c"),
    "semicolons": ask(query=b"EIO=4;transport=polling"),
    "ampersands": ask(query=b"&&EIO=4&&transport=polling&"),
    "no values": ask(query=b"EIO&transport"),
    "many equals": ask(query=b"EIO=4&transport=polling=&=x"),
    "b64": ask(sid=None, query=b"EIO=4&transport=polling&b64=1"),
    "t": ask(query=b"EIO=4&transport=polling&t=abc123"),
    "JSONP": ask(sid=None, query=b"EIO=4&transport=polling&j=12"),
    "JSONP without digits": ask(sid=None, query=b"EIO=4&transport=polling&j=x"),
    "JSONP of one who isn't": push(b"d=4hello", query=b"EIO=4&transport=polling&j=0"),
    "revision 3": ask(sid=None, query=b"EIO=3&transport=polling"),
    "no revision": ask(sid=None, query=b"transport=polling"),
    "WebSocket as a transport": ask(sid=None, query=b"EIO=4&transport=websocket"),
    "unknown transport": ask(sid=None, query=b"EIO=4&transport=pigeon"),
    "chunks": ask(b"POST", b"sid0", b"Transfer-Encoding: chunked") + b"3\r\n4he\r\n3;x=y\r\nllo\r\n0\r\nX: y\r\n\r\n",
    "broken chunks": ask(b"POST", b"sid0", b"Transfer-Encoding: chunked") + b"x\r\n4hello\r\n",
    "chunks without an end": ask(b"POST", b"sid0", b"Transfer-Encoding: chunked") + b"6\r\n4hello\r\n",
    "large chunks": ask(b"POST", b"sid0", b"Transfer-Encoding: chunked") + b"bb8\r\n4%b\r\n0\r\n\r\n" % (b"x" * 2999),
}
"""Requests that are odd as a whole."""


@pytest.mark.parametrize("name", WHOLE)
def test_requests(name: str) -> None:
    """Odd requests, in one read and cut."""
    for pieces in whole(WHOLE[name]):
        compare(exchange(*pieces), asked=[len(pieces) == 1])
    compare(exchange(WHOLE[name]), asked=[False])


@pytest.mark.parametrize("name", ["no revision", "revision 3", "JSONP", "b64", "without a slash", "below"])
def test_requestsWithOptions(name: str) -> None:
    """The same where such requests are served, or not."""
    for pieces in whole(WHOLE[name]):
        compare(exchange(*pieces), allowEIO3=True, cookie=True, initialPacket="€")
        compare(exchange(*pieces), addTrailingSlash=False, allowedOrigins=["http://example.org"])


def test_limitsOfAHead() -> None:
    """Around the bytes and the headers that a head may have."""
    for data in (b"GET", b"POST"):
        sizes = [16384 + each for each in (*range(-40, 8), 100, 20_000)]
        room = [size - len(ask(data, body=None if data == b"GET" else BODY)) for size in sizes]
        heads = [
            *(ask(data, b"sid0", b"X: " + b"x" * each, body=None if data == b"GET" else BODY) for each in room),
            *(ask(data, b"sid0&x=" + b"x" * each, body=None if data == b"GET" else BODY) for each in room[::8]),
            *(
                ask(data, b"sid0", *[b"X: %d" % number for number in range(count)])
                for count in (497, 498, 499, 500, 501, 1000)
            ),
            *(
                ask(data, b"sid0", *[b"X: %d" % number for number in range(count)], body=BODY)
                for count in (496, 497, 498, 499, 500)
            ),
        ]

        def play(here: Here, heads: list[bytes] = heads) -> None:
            here.say(OPEN)
            for each in heads:
                peer = here.say(each)
                here.send("x")
                peer.say(PUSH)

        compare(play)


def test_limitsOfAnAddress() -> None:
    """Around the longest line there may be."""

    def play(here: Here) -> None:
        here.say(OPEN)
        start = len(ask(sid=b"sid0&x="))
        for size in (16384 + each for each in (*range(-45, 5), 100, 5000)):
            peer = here.say(ask(sid=b"sid0&x=" + b"x" * (size - start)))
            here.send("x")
            peer.say(PUSH)

    compare(play)


@pytest.mark.parametrize("limit", ["totalHeadersSize", "maxHeaders", "MAX_LENGTH"])
def test_limitsOfAnApplication(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A site whose channels allow less than others."""

    def play(here: Here) -> None:
        here.say(OPEN)
        peer = here.say(push(BODY, b"X-Long: " + b"x" * 3000, *[b"X: y"] * 50))
        peer.say(PUSH)

    for kind in (Channel, FastChannel):
        monkeypatch.setattr(kind, limit, {"totalHeadersSize": 2000, "maxHeaders": 20, "MAX_LENGTH": 1000}[limit])
    story = compare(play)
    assert not noted(story, "message")


# WebSockets

WEBSOCKETS = {
    "good": webSocket(),
    "of a session": webSocket(sid=b"sid0"),
    "of nobody": webSocket(sid=b"nobody"),
    "polling": webSocket(query=b"EIO=4&transport=polling"),
    "polling of a session": webSocket(sid=b"sid0", query=b"EIO=4&transport=polling"),
    "short key": webSocket(key=b"short"),
    "no key": webSocket(key=b""),
    "subprotocol": webSocket(b"Sec-WebSocket-Protocol: a, b"),
    "no subprotocol": webSocket(b"Sec-WebSocket-Protocol:"),
    "compression": webSocket(b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"),
    "a byte that ends lines": webSocket(b"X-Odd: \x85"),
    "close": webSocket(b"Connection: close"),
    "by POST": webSocket(method=b"POST", body=b""),
    "by POST with a body": webSocket(method=b"POST", body=BODY),
    "with a length": webSocket(body=b""),
    "with a body": webSocket(body=BODY),
    "with chunks": webSocket(b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "HTTP/1.0": webSocket(version=b"HTTP/1.0"),
    "elsewhere": webSocket(path=b"/form"),
    "by HEAD": webSocket(method=b"HEAD"),
}


@pytest.mark.parametrize("name", WEBSOCKETS)
def test_webSockets(name: str) -> None:
    """Handshakes, good and bad, with frames in the same read, in the next one, and later."""
    frames = makeFrame("2probe") + makeFrame("5") + makeFrame("4€") + makeFrame(b"\x01\x02")
    for pieces in (*whole(WEBSOCKETS[name]), *whole(WEBSOCKETS[name] + frames)):

        def play(here: Here, pieces: list[bytes] = pieces) -> None:
            first = here.say(OPEN)
            first.say(POLL)
            peer = here.say(*pieces)
            here.advance(1)
            peer.say(makeFrame("4later"), makeFrame("3"))
            here.send("x")
            peer.say(PUSH)
            peer.say(makeFrame(b"\x03\xe8", 8))

        compare(play, asked=[len(pieces) == 1])
        compare(play, asked=[False], perMessageDeflate=True, cookie=True, transports=["websocket"])


@pytest.mark.parametrize("version", [b"7", b"", b"13, 13", b"x", b"13\r\nSec-WebSocket-Version: 8"])
def test_wrongVersionsOfWebSocket(version: bytes) -> None:
    """The client is told which ones there are."""
    data = webSocket().replace(b"Version: 13", b"Version: " + version)
    assert b"13, 8" in written(compare(exchange(data)), 1)


def test_aWebSocketBehindOtherRequests() -> None:
    """On a connection that was used before, and left waiting before it began."""

    def play(here: Here) -> None:
        peer = here.say(OPEN)
        peer.say(PUSH)
        here.advance(59.9)
        peer.say(webSocket(), makeFrame("4a"))
        # A WebSocket has no idle timeout.
        here.advance(20, 5, 60)
        peer.say(makeFrame("4b"))
        here.close()

    compare(play, pingInterval=300_000)


# What the application sees of a request, and what it does with it


def outcomeOf(get: Callable[[], Any]) -> Any:
    """What comes of a call, or the kind of exception."""
    try:
        return get()
    except Exception as error:
        return type(error)


def look(here: Here, request: Any) -> dict[str, Any]:
    """Everything that a request of twisted.web says of itself."""
    headers = request.requestHeaders
    names = (
        "Host",
        b"host",
        "cookie",
        b"Cookie",
        b"cookie",
        "Content-Length",
        b"connection",
        "ORIGIN",
        b"none",
        "none",
    )

    def read() -> Any:
        at = request.content.tell()
        request.content.seek(0)
        return request.content.read(), request.content.seek(at) is None

    views: dict[str, Callable[[], Any]] = {
        "kind": lambda: isinstance(request, EngineIORequest),
        "line": lambda: (request.method, request.uri, request.path, request.clientproto),
        "args": lambda: request.args,
        "prepath": lambda: request.prepath,
        "postpath": lambda: request.postpath,
        "sitepath": lambda: request.sitepath,
        "client": lambda: (request.client, request.getClientAddress()),
        "host": lambda: (request.host, request.getHost()),
        "names": lambda: (request.getRequestHostname(), request.prePathURL(), str(request.URLPath())),
        "links": lambda: (request.sibLink(b"a"), request.childLink(b"b"), request.getRootURL(), request.appRootURL),
        "secure": request.isSecure,
        "site": lambda: request.site is here.site,
        "user": lambda: (request.getUser(), request.getPassword()),
        "headers": lambda: [(name, list(values)) for name, values in headers.getAllRawHeaders()],
        "last values": request.getAllHeaders,
        "values": lambda: [headers.getRawHeaders(name, "none") for name in names],
        "getHeader": lambda: [outcomeOf(lambda name=name: request.getHeader(name)) for name in names],
        "has": lambda: [headers.hasHeader(name) for name in names],
        "cookies": lambda: (request.received_cookies, request.getCookie(b"a"), request.getCookie(b"TWISTED_SESSION")),
        "content": read,
        "answer": lambda: (request.code, request.code_message, request.cookies, request.etag, request.lastModified),
        "state": lambda: (request.startedWriting, request.finished, request.sentLength, request.chunked),
        "internal": lambda: (bool(request.queued), request._disconnected, request.producer),
        # What is left of them at the end is a test of its own.
        "response": lambda: [
            each for each in request.responseHeaders.getAllRawHeaders() if each[0] != b"Date" and not request.finished
        ],
        "channel": lambda: (request.channel is None, bool(request.channel.persistent), len(request.channel.requests)),
        "connection": lambda: request.transport is here.peers[request.transport.here.peers.index(request.transport)],
        "session": lambda: request.session,
        "repr": lambda: re.sub("<.* at 0x[0-9a-f]*", "", repr(request)),
        "form": lambda: request._parsePOSTFormSubmission,
        "key": lambda: (request == request, {request: 1}[request], request != object()),
    }
    return {name: outcomeOf(view) for name, view in views.items()}


LOOKED_AT = {
    "open": ask(b"GET", None, b"Cookie: a=b; c", b"X: y", b"x: z", b"Authorization: Basic YTpi"),
    "poll": ask(b"GET", b"sid0", b"Origin: http://example.org"),
    "push": push(b"4a", b"Content-Type: text/plain", b"cookie: a=%41;b==;;c"),
    "form": push(b"4a", b"Content-Type: application/x-www-form-urlencoded"),
    "query": ask(query=b"EIO=4&transport=polling&a=b&a=c+d&e=&%66=%ff;g=h&i"),
    "path": ask(path=b"/engine.io/a%2fb//c%20d"),
    "short path": ask(path=b"/engine.io"),
    "port": ask(host=(b"Host: example.org:8080",)),
    "IPv6": ask(host=(b"Host: [::1]:80",)),
    "odd host": ask(host=(b"Host: a%20b:",)),
    "high bytes": ask(b"GET", b"sid0", b"X: \xff", b"Origin: \xe9"),
    "webSocket": webSocket(b"Cookie: a=b"),
    "bad webSocket": webSocket(key=b"short"),
}


@pytest.mark.parametrize("when", ["middleware", "later", "connection", "headers", "after", "lost"])
@pytest.mark.parametrize("name", LOOKED_AT)
def test_theRequestAsTheApplicationSeesIt(name: str, when: str) -> None:
    """Whenever it looks: before, while and after the request is answered, and when its connection is lost."""

    def play(here: Here, isSecure: bool) -> None:
        seen: list[Any] = []

        def see(request: Any) -> None:
            here.note("seen", look(here, request))

        def middleware(request: Any) -> Any:
            seen.append(request)
            if when == "middleware":
                see(request)
            return here.wait().addCallback(lambda _: see(request)) if when == "later" else None

        here.connect().say(OPEN)
        if when in ("connection", "lost"):
            here.server.on("connection", lambda socket: (seen.append(socket.request), see(socket.request)))
        elif when == "headers":
            here.server.on("headers", lambda headers, request: see(request))
        else:
            here.server.use(middleware)
        here.connect(isSecure).say(LOOKED_AT[name])
        if when == "later":
            here.decide(None)
        here.advance(1)
        if when == "lost":
            # Those that are being answered: our own channel makes one of what it has.
            waiting = getattr(here.peers[-1].protocol, "requests", ())
            seen.extend([getattr(each, "request", each) for each in waiting])
            here.peers[-1].lose()
        here.send("x")
        for request in seen:
            see(request)

    for isSecure in (False, True):
        story = compare(partial(play, isSecure=isSecure))
        assert noted(story, "seen") or when in ("connection", "lost")


def answering(request: Any) -> None:
    request.setResponseCode(418, b"Teapot")
    request.setHeader("X-Own", "yes")
    request.write(b"a teapot ")
    request.write(b"is here")
    request.finish()


def changing(request: Any) -> None:
    request.setHeader("X-Own", "yes")
    request.setHeader(b"x-other", b"a\r\nb")
    request.responseHeaders.addRawHeader("X-Own", "again")
    request.setHeader("Content-Type", "text/own")
    request.setHeader("Server", "own")
    request.responseHeaders.removeHeader("Date")
    request.setHeader("X-Date", "mine")


def reading(request: Any) -> None:
    request.content.read()


async def asynchronous(request: Any) -> None:
    await succeed(None)
    request.setHeader("X-Own", "yes")


def producing(request: Any) -> None:
    class Producer:
        left = 3

        def resumeProducing(self) -> None:
            request.write(b"some")
            self.left -= 1
            if not self.left:
                request.unregisterProducer()
                request.finish()

        def stopProducing(self) -> None:
            pass

    request.registerProducer(Producer(), False)


def withSession(request: Any) -> None:
    request.site._entropy = lambda size: b"\1" * size
    session = request.getSession()
    request.setHeader("X-Session", session.uid)


def cookies(request: Any) -> None:
    request.addCookie(b"a", b"b;c\r\nd", path=b"/", httpOnly=True)
    request.addCookie("€", "f", max_age="1", sameSite="lax")


MIDDLEWARES: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda request: None,
    "answers": answering,
    "answers with nothing": lambda request: request.finish(),
    "answers with a length": lambda request: (
        request.setHeader("Content-Length", "2"),
        request.write(b"ok"),
        request.finish(),
    )[-1],
    "begins to answer": lambda request: request.write(b"begun"),
    "answers with 204": lambda request: (request.setResponseCode(204), request.finish())[-1],
    "answers with 304": lambda request: (request.setResponseCode(304), request.write(b"x"), request.finish())[-1],
    "redirects": lambda request: (request.redirect("/elsewhere"), request.finish())[-1],
    "renders a resource": lambda request: request.render(Hello(isLeaf=True)),
    "produces": producing,
    "changes headers": changing,
    "cookies": cookies,
    "session": withSession,
    "is asynchronous": asynchronous,
    "reads the body": reading,
    "reads a part of it": lambda request: request.content.read(1) and None,
    "asks for the content": lambda request: request.content and None,
    "asks for everything": lambda request: (
        request.args,
        request.received_cookies,
        request.prepath,
        request.getHeader("user-agent"),
        request.getClientAddress(),
        request.isSecure(),
        None,
    )[-1],
    "status": lambda request: request.setResponseCode(201, b"Own"),
    "ETag": lambda request: request.setETag(b'"tag"') and None,
    "last modified": lambda request: request.setLastModified(1e9) and None,
    "default content type": lambda request: setattr(request, "defaultContentType", b"a/b"),
    "removes headers": lambda request: request.requestHeaders.removeHeader("origin"),
    "sets headers": lambda request: request.requestHeaders.setRawHeaders("Accept-Encoding", ["gzip"]),
    "replaces headers": lambda request: setattr(request, "requestHeaders", request.requestHeaders.copy()),
    "another address": lambda request: setattr(request, "uri", request.uri.replace(b"nobody", b"sid0")),
    "another method": lambda request: setattr(request, "method", b"PUT"),
    "sets the host": lambda request: request.setHost(b"example.org", 443, 1),
    "fails": lambda request: 1 / 0,
    "closes": lambda request: request.loseConnection(),
    "closes the channel": lambda request: request.channel.loseConnection(),
    "aborts": lambda request: request.transport.abortConnection(),
    "asks for a close": lambda request: request.setHeader("Connection", "close"),
    "not persistent": lambda request: setattr(request.channel, "persistent", False),
    "a timeout of its own": lambda request: request.channel.setTimeout(5) and None,
    "listens for the end": lambda request: request.notifyFinish().addBoth(lambda _: None) and None,
}


@pytest.mark.usefixtures("mayLog")
@pytest.mark.parametrize("name", MIDDLEWARES)
def test_middlewares(name: str) -> None:
    """Whatever a middleware does with requests of every kind, at once or later."""
    for isLate, cors in itertools.product((False, True), (None, {"origin": "http://example.org"})):

        def play(here: Here, isLate: bool = isLate) -> None:
            here.say(OPEN)

            def middleware(request: Any) -> Any:
                request.notifyFinish().addBoth(lambda result: here.note("over", result and result.type))
                return later(request) if isLate else MIDDLEWARES[name](request)

            async def later(request: Any) -> None:
                await here.wait()
                result = MIDDLEWARES[name](request)
                if result is not None:
                    await result

            here.server.use(middleware)
            peer = here.connect()
            for each in (
                OPEN,
                push(b"4a", b"Origin: http://example.org"),
                push(b"4a", sid=b"nobody"),
                ask(b"GET", b"sid0", b"If-None-Match: *", b"If-Modified-Since: Thu, 01 Jan 2037 00:00:00 GMT"),
                ask(b"OPTIONS", b"sid0", b"Origin: http://example.org"),
                webSocket(),
            ):
                peer.say(each)
                if here.waiting:
                    here.decide(None)
                here.send("x" * 3000)
                here.advance(0.01)
                if peer.isLost:
                    peer = here.connect()

        compare(play, cors=cors, initialPacket="initial")


def test_theBodyIsReplaced() -> None:
    """A middleware that decrypts what came, say, and puts what it found in its place."""

    def play(here: Here) -> None:
        here.say(OPEN)
        here.server.use(lambda request: setattr(request, "content", BytesIO(b"4replaced")))
        here.say(PUSH)

    assert noted(compare(play), "message") == [("sid0", "replaced")]


def test_theBodyIsChanged() -> None:
    """The same within the file that there is."""

    def middleware(request: Any) -> None:
        request.content.seek(1)
        request.content.write(b"changed")

    def play(here: Here) -> None:
        here.say(OPEN)
        here.server.use(middleware)
        here.say(PUSH)

    assert noted(compare(play), "message") == [("sid0", "changed")]


def test_aMiddlewareThatStopsReading() -> None:
    """Reading goes on with the answer."""

    def play(here: Here) -> None:
        here.say(OPEN)
        here.server.use(lambda request: request.transport.pauseProducing())
        peer = here.say(PUSH)
        peer.say(PUSH)

    assert len(noted(compare(play), "message")) == 2


@pytest.mark.usefixtures("mayLog")
@pytest.mark.parametrize(
    "undo",
    [
        "nothing",
        "set",
        "delete",
    ],
)
@pytest.mark.parametrize("method", ["finish", "write"])
def test_aMiddlewareThatWatchesTheAnswer(method: str, undo: str) -> None:
    """One that measures, say, how long a request takes, by a method of its own in front of twisted.web's."""

    def play(here: Here) -> None:
        def middleware(request: Any) -> None:
            original = getattr(request, method)

            def watched(*args: Any) -> Any:
                here.note("called", method)
                return original(*args)

            setattr(request, method, watched)
            if undo == "set":
                setattr(request, method, original)
            elif undo == "delete":
                delattr(request, method)

        here.server.use(middleware)
        peer = here.say(OPEN)
        peer.say(PUSH)

    story = compare(play)
    assert bool(noted(story, "called")) is (undo == "nothing")
    assert statuses(story) == [200, 200]


def test_theHeadersOfAnAnswerThatIsOver() -> None:
    """Whoever writes down what was answered finds it when the request is over."""

    def play(here: Here) -> None:
        def over(_: object, request: Any) -> None:
            headers = [each for each in request.responseHeaders.getAllRawHeaders() if each[0] != b"Date"]
            here.note("answered", request.code, request.sentLength, headers)

        here.server.use(lambda request: request.notifyFinish().addBoth(over, request) and None)
        here.say(OPEN, PUSH, ask(sid=b"nobody"))

    assert len(noted(compare(play), "answered")) == 3


def test_theAddressIsChangedAndThenLookedAt() -> None:
    """What a request says of itself is what came."""

    def middleware(request: Any) -> None:
        request.uri = b"/elsewhere?EIO=4&transport=polling&sid=sid0&b=c"
        request.path = b"/elsewhere"

    def play(here: Here) -> None:
        here.say(OPEN)
        here.server.use(middleware)
        here.server.use(lambda request: here.note("seen", request.args, request.prepath, request.postpath))
        here.say(PUSH)

    compare(play)


def test_theHostOfARequestThatIsOver() -> None:
    """A handler that asks for it when the connection has gone, as the first one of a polling session has by then."""

    def play(here: Here) -> None:
        def connected(socket: Any) -> None:
            socket.on("message", lambda _: here.note("host", outcomeOf(socket.request.getHost)))
            socket.on("message", lambda _: here.note("client", outcomeOf(socket.request.getClientAddress)))

        here.server.on("connection", connected)
        peer = here.connect()
        peer.forgets = True
        peer.say(OPEN).lose()
        here.say(PUSH)

    assert noted(compare(play), "host")


def test_watchersAreToldInOrder() -> None:
    """Of a lost connection, those are told first who asked first."""

    def play(here: Here) -> None:
        seen: list[Any] = []
        here.say(OPEN)
        here.server.use(seen.append)
        peer = here.say(POLL)
        told = [each.notifyFinish() for each in seen]
        for each in told:
            each.addErrback(lambda _: here.note("lost", sorted(here.server.clients)))
        peer.lose()

    assert noted(compare(play), "lost") != [("sid0",)]


HEADER_HANDLERS: dict[str, Callable[[Any, Any], Any]] = {
    "nothing": lambda headers, request: None,
    "adds": lambda headers, request: headers.update({"X-Own": "a", "x-more": ["b", "c"]}),
    "replaces": lambda headers, request: headers.update({"content-type": "a/b", "Cache-Control": "public"}),
    "removes": lambda headers, request: [headers.pop(each) for each in ("Server", "Date") if each in headers],
    "clears": lambda headers, request: headers.clear(),
    "length": lambda headers, request: headers.update({"Content-Length": "1"}),
    "no length": lambda headers, request: headers.pop("Content-Length", None),
    "request": lambda headers, request: request.setHeader("X-Path", request.path),
    "cookie": lambda headers, request: request.addCookie("late", "too late"),
    "status": lambda headers, request: request.setResponseCode(299, b"Own"),
    "ETag": lambda headers, request: request.setETag(b"tag") and None,
    "reads": lambda headers, request: request.content.read() and None,
    "fails": lambda headers, request: 1 / 0,
    "answers": lambda headers, request: request.write(b"own"),
    "closes": lambda headers, request: request.loseConnection(),
}


@pytest.mark.usefixtures("mayLog")
@pytest.mark.parametrize("event", ["headers", "initial_headers"])
@pytest.mark.parametrize("name", HEADER_HANDLERS)
def test_handlersOfHeaders(name: str, event: str) -> None:
    """What they change goes out."""

    def play(here: Here) -> None:
        here.server.on(event, HEADER_HANDLERS[name])
        peer = here.say(OPEN)
        for each in (POLL, PUSH, push(b"9"), OPEN, ask(sid=b"nobody"), ask(b"PUT"), webSocket()):
            peer.say(each)
            here.send("x")
            if peer.isLost:
                peer = here.connect()

    compare(play, events=["headers"], cookie={"name": "io", "path": "/"})
    compare(play, cors={"origin": "*"}, httpCompression={"threshold": 0})


CORS: dict[str, dict[str, Any]] = {
    "any": {"origin": "*"},
    "one": {"origin": "http://example.org", "credentials": True, "exposedHeaders": "X-A, X-B", "maxAge": 5},
    "several": {"origin": ["http://example.org", re.compile("b$")], "methods": ["GET"], "allowedHeaders": ["X-A"]},
    "none": {"origin": False},
    "function": {"origin": lambda origin: origin == "http://example.org"},
    "Deferred": {"origin": lambda origin: succeed(origin == "http://example.org")},
    "coroutine": {"origin": lambda origin: isKnown(origin)},
    "continued": {"origin": "*", "preflightContinue": True},
    "status": {"origin": "*", "optionsSuccessStatus": 200},
}


async def isKnown(origin: str | None) -> bool:
    return origin == "http://example.org"


@pytest.mark.parametrize("name", CORS)
def test_otherOrigins(name: str) -> None:
    """Who may read the answers is said with each of them."""

    def play(here: Here) -> None:
        peer = here.say(OPEN)
        for origin in (b"http://example.org", b"http://b", b"null", b"\xff", b"http://\x7f"):
            line = b"Origin: " + origin
            for each in (
                ask(b"GET", None, line),
                ask(b"GET", b"sid0", line),
                push(b"4a", line),
                push(b"x" * LIMIT * 2, line),
                ask(b"GET", b"nobody", line),
                ask(b"OPTIONS", None, line, b"Access-Control-Request-Headers: X-A"),
                webSocket(line),
            ):
                peer.say(each)
                here.send("x")
                if peer.isLost:
                    peer = here.connect()

    compare(play, cors=CORS[name])
    compare(play, cors=CORS[name], allowedOrigins=["http://example.org"], asked=[False])


@pytest.mark.usefixtures("mayLog")
@pytest.mark.parametrize("answer", [True, False, None, "text", ZeroDivisionError])
@pytest.mark.parametrize("isLate", [False, True])
def test_allowRequest(answer: Any, isLate: bool) -> None:
    """Asked at once or later, of sessions of both kinds; some clients don't wait for the answer."""

    def play(here: Here) -> None:
        first, second, third = here.say(OPEN), here.say(webSocket(), makeFrame("4a")), here.say(OPEN + PUSH)
        fourth = here.say(OPEN)
        fourth.lose()
        for _ in range(3 if isLate else 0):
            here.decide(Failure(answer()) if isinstance(answer, type) else answer)
        for peer in (first, second, third):
            peer.say(POLL)
        here.send("x")
        # Nobody decides about this one.
        last = here.say(OPEN)
        here.advance(29, 2)
        last.say(POLL)

    def now(request: Any) -> Any:
        if isinstance(answer, type):
            raise answer
        return answer

    for kind in (True, False):
        stories = []
        for site in (Site, FastSite):
            box: list[Here] = []

            def started(here: Here, box: list[Here] = box) -> None:
                box.append(here)
                play(here)

            allow = (lambda request, box=box: box[0].wait()) if isLate else now
            stories.append(told(site, started, isDecided=kind, allowRequest=allow))
        theSame(*stories)


def test_generateIdTakesTime() -> None:
    """And meanwhile more comes, or the client goes."""

    def play(here: Here) -> None:
        here.server.generateId = here.wait  # type: ignore[method-assign]
        peers = [here.say(OPEN), here.say(OPEN, PUSH), here.say(OPEN), here.say(webSocket() + makeFrame("4a"))]
        peers[2].lose()
        here.waiting.pop(2)
        for number in range(3):
            here.decide(f"sid{number}")
        here.send("x")

    compare(play)


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
        peer.isStuck = True
        here.advance(44.9, 0.2, 29.8, 0.2, 2.8, 0.2)
        assert peer.isLost
        here.advance(20)

    compare(play)


def test_aClientThatLetsGo() -> None:
    """And before it is cut."""

    def play(here: Here) -> None:
        peer = here.say(OPEN)
        peer.isStuck = True
        here.advance(60, 1)
        peer.closes()
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
        peer.isStuck = isStuck
        here.close()
        for each in (PUSH[-3:], OPEN, POLL, webSocket()):
            peer.say(each)
        first.say(OPEN, POLL)
        here.advance(0.01, 3, 2, 30)
        peer.closes()

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
        peer.isStuck = True
        here.step("closed")
        here.send("x")
        here.advance(2.9, 0.2)

    compare(play)


@pytest.mark.usefixtures("mayLog")
@pytest.mark.parametrize("data", [OPEN, POLL, PUSH, webSocket(), OPEN + PUSH], ids=len)
@pytest.mark.parametrize("name", ["router.handle", "router._route"])
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
        handle = here.server.router.handle

        def failsLater(exchange: Any, isUpgrade: bool) -> None:
            handle(exchange, isUpgrade)
            raise ZeroDivisionError

        here.server.router.handle = failsLater  # type: ignore[method-assign]
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

    compare(play, events=["packetCreate", "flush", "drain"])


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
    monkeypatch.setattr("engineio_twisted.web.fast.time", lambda: later)
    assert written(compare(exchange(OPEN, PUSH))).count(b"Server: something") == 4


# Anything at all


_NAMES = [b"Connection", b"Content-Length", b"Transfer-Encoding", b"Upgrade", b"Expect", b"Host", b"Origin", b"Cookie"]
_VALUES = [b"close", b"keep-alive", b"upgrade", b"websocket", b"chunked", b"0", b"6", b"7", b"100-continue", b""]

headers = st.builds(
    lambda name, colon, value: name + colon + value,
    st.one_of(st.sampled_from(_NAMES), st.sampled_from(_NAMES).map(bytes.upper), st.binary(max_size=4)),
    st.sampled_from([b":", b": ", b":\t ", b" :", b""]),
    st.one_of(st.sampled_from(_VALUES), st.binary(max_size=6)),
)

queries = st.one_of(
    st.sampled_from([b"EIO=4&transport=polling", b"EIO=4&transport=websocket", b"EIO=3&transport=polling"]),
    st.binary(max_size=6).map(lambda data: b"EIO=4&transport=polling&a=" + data),
)

sids = st.sampled_from([None, b"sid0", b"sid0", b"sid0", b"sid1", b"nobody"])

right = st.one_of(
    st.sampled_from([OPEN, POLL, POLL, PUSH, PUSH, push(b""), push(b"1"), OTHER, webSocket(), webSocket(sid=b"sid0")]),
    st.builds(
        lambda method, sid, body, query, lines: ask(method, sid, *lines, body=body, query=query),
        st.sampled_from([b"GET", b"GET", b"POST", b"POST", b"POST", b"PUT", b"OPTIONS", b"HEAD", b"post"]),
        sids,
        st.one_of(st.none(), st.binary(max_size=30), st.sampled_from([BODY, b"4a\x1e4b", b"3", b"4" + b"x" * LIMIT])),
        queries,
        st.lists(headers, max_size=2),
    ),
    st.builds(
        lambda sid, pieces: (
            ask(b"POST", sid, b"Transfer-Encoding: chunked")
            + b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in [*pieces, b""])
        ),
        sids,
        st.lists(st.binary(min_size=1, max_size=10), max_size=3),
    ),
)


@st.composite
def mutated(draw: Any) -> bytes:
    """A request in which something may be wrong."""
    data: bytes = draw(right)
    for kind in draw(st.lists(st.sampled_from(["flip", "delete", "double", "insert", "cut"]), max_size=2)):
        lines = data.split(b"\r\n")
        place = draw(st.integers(0, len(lines) - 1))
        if kind == "flip" and data:
            at = draw(st.integers(0, len(data) - 1))
            byte = draw(st.one_of(st.sampled_from(b"\r\n\0 :\t"), st.integers(0, 255)))
            data = data[:at] + bytes([byte]) + data[at + 1 :]
        elif kind == "delete":
            data = b"\r\n".join(lines[:place] + lines[place + 1 :])
        elif kind == "double":
            data = b"\r\n".join([*lines[: place + 1], *lines[place:]])
        elif kind == "insert":
            data = b"\r\n".join([*lines[: place + 1], draw(headers), *lines[place + 1 :]])
        elif kind == "cut":
            data = data[: draw(st.integers(0, len(data)))]
    return data


said = st.builds(
    lambda number, requests, places: ("say", number, cut(b"".join(requests), *places)),
    st.integers(0, 2),
    st.lists(st.one_of(right, right, mutated()), min_size=1, max_size=3),
    st.lists(st.integers(0, 10_000), max_size=2),
)
acts = st.one_of(
    said,
    said,
    said,
    st.tuples(st.just("advance"), st.sampled_from([0.001, 1.0, 2.0, 24.9, 59.999, 60.0, 3.0])),
    st.tuples(st.just("send"), st.sampled_from(["a", b"\0", "x" * 3000])),
    st.tuples(st.sampled_from(["fills", "drains", "lose"]), st.integers(0, 2)),
    st.just(("close",)),
)


def playing(script: list[Any]) -> Play:
    """A client or three, and an application, that do as they are told."""

    def play(here: Here) -> None:
        here.say(OPEN)
        peers = [here.connect() for _ in range(3)]
        for what, *rest in script:
            if what in ("advance", "send"):
                getattr(here, what)(*rest)
            elif what == "close":
                here.close()
            else:
                number, *rest = rest
                if what == "say":
                    if peers[number].isLost:
                        peers[number] = here.connect()
                    peers[number].say(*rest[0])
                else:
                    getattr(peers[number], what)()

    return play


@settings(max_examples=200, deadline=None)
@given(st.lists(acts, min_size=1, max_size=7), st.sampled_from([{}, {"cors": {"origin": "*"}}, {"cookie": True}]))
@example([("say", 0, [PUSH[:-1]]), ("say", 1, [PUSH]), ("say", 0, [PUSH[-1:]])], {})
@example([("say", 0, [POLL]), ("lose", 0), ("say", 1, [POLL]), ("send", "a")], {})
def test_anything(script: list[Any], options: dict[str, Any]) -> None:
    """Requests, mostly right, cut and mixed, in any order, with time between them."""
    play = playing(script)
    plain, fast = (told(kind, play, **options) for kind in (Site, FastSite))
    theSame(plain, fast)


# The pieces, against those of twisted.web and the standard library


_VALUE = st.binary(max_size=12).map(lambda value: value.translate(None, b"\0\r\n"))
_TOKEN = st.text("!#$%&'*+-.^_`|~09AZaz", min_size=1, max_size=5).map(str.encode)
_COMMON = [b"Accept-Encoding", b"ORIGIN", b"cookie", b"Cookie", b"content-type", b"Connection", b"uSeR-aGeNt", b"ETag"]

lines = st.lists(st.tuples(st.one_of(st.sampled_from(_COMMON), _TOKEN), _VALUE), max_size=6)


def bothHeaders(given: list[tuple[bytes, bytes]], isOver: bool = False) -> list[Headers]:
    """
    The headers of a request as twisted.web's own class has them, and ours.

    Those are taken while the request is answered, or when it is over.
    """
    lines = b"".join(name + b":" + value + b"\r\n" for name, value in given)
    request = OPEN.replace(b"\r\n\r\n", b"\r\nZ: z\r\n" + lines + b"\r\n")
    stock = Headers()
    for line in request.split(b"\r\n")[1:-2]:
        name, _, value = line.partition(b":")
        stock.addRawHeader(name, value.strip(b" \t"))
    here = Here(FastSite, isDecided=True)
    requests: list[Any] = []
    headers: list[Headers] = []
    here.server.use(requests.append)
    here.server.use(lambda request: headers.append(request.requestHeaders))
    here.say(request)
    here.end()
    return [stock, requests[0].requestHeaders if isOver else headers[0]]


def everything(headers: Headers, names: Iterable[str | bytes]) -> Any:
    default = object()
    return [
        (
            outcomeOf(lambda name=name: headers.getRawHeaders(name)),
            outcomeOf(lambda name=name: headers.getRawHeaders(name, ["default"])),
            outcomeOf(lambda name=name: headers.getRawHeaders(name, default) is default),
            outcomeOf(lambda name=name: headers.hasHeader(name)),
        )
        for name in names
    ], [(name, list(values)) for name, values in headers.getAllRawHeaders()]


def variants(given: list[tuple[bytes, bytes]]) -> list[str | bytes]:
    names = {name for name, _ in given} | {*_COMMON, b"none", b"upgrade"}
    forms: list[str | bytes] = [b"", "", b"a b", "ä", b"\n"]
    for name in sorted(names):
        forms += [name, name.lower(), name.upper(), name.title(), name.decode(), name.decode().lower()]
    return forms


CHANGES: list[Callable[[Any], Any]] = [
    lambda headers: headers.removeHeader(b"Cookie"),
    lambda headers: headers.removeHeader("origin"),
    lambda headers: headers.removeHeader("none"),
    lambda headers: headers.setRawHeaders("cookie", ["a", b"b\r\nc"]),
    lambda headers: headers.setRawHeaders(b"origin", []),
    lambda headers: headers.addRawHeader(b"Content-Type", b"a"),
    lambda headers: headers.addRawHeader("X", "ä"),
    lambda headers: headers.setRawHeaders("a b", ["c"]),
    lambda headers: headers.getRawHeaders("Cookie"),
    lambda headers: headers.getRawHeaders(b"cookie"),
]


@settings(max_examples=50, deadline=None)
@given(lines, st.data())
def test_requestHeaders(given: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    """Whoever asks, however, and whatever was asked or changed before."""
    isOver = data.draw(st.booleans())
    stock, ours = bothHeaders(given, isOver)
    names = variants(given)
    assert everything(ours, names) == everything(stock, names)
    stock, ours = bothHeaders(given, isOver)
    for change in data.draw(st.lists(st.sampled_from(CHANGES), max_size=3)):
        assert outcomeOf(lambda change=change: change(ours)) == outcomeOf(lambda change=change: change(stock))
        assert ours == stock
        assert stock == ours
    copies = stock.copy(), ours.copy()
    assert everything(ours, names) == everything(stock, names)
    for each in (*copies, stock, ours):
        each.setRawHeaders("X-Later", ["own"])
        assert isinstance(each, Headers)
        if each is copies[1]:
            assert not ours.hasHeader("X-Later")
            assert not stock.hasHeader("X-Later")
    assert everything(copies[1], names) == everything(copies[0], names)
    assert (ours != stock, copies[0] == copies[1], ours == Headers(), ours == 1) == (False, True, False, False)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_copiesOfRequestHeaders(copied: Callable[[Any], Any]) -> None:
    """Headers can be copied by the means of Python too, as those of twisted.web can."""
    stock, ours = bothHeaders([(b"Cookie", b"a=b")])
    assert copied(stock) == stock
    other = copied(ours)
    assert other == stock
    other.removeHeader("cookie")
    assert ours.getRawHeaders(b"Cookie") == [b"a=b"]


@given(st.one_of(st.binary(max_size=40), st.text("abj=&;%+?#12\xff€", max_size=30).map(str.encode)))
@example(b"j=1&j=2")
@example(b"a=b&a=c&=d&e&f=&%61=%ff&g+h=i+j&k=l=m&&")
def test_queries(query: bytes) -> None:
    """Parameters are those that the standard library finds."""
    for uri in (b"/engine.io/?" + query, query, b"?" + query):
        text = uri.partition(b"?")[2].decode("ascii", "replace")
        several = parse_qs(text, keep_blank_values=True)
        if any(len(several.get(name, ())) > 1 for name in ("transport", "EIO", "b64", "sid", "j")):
            with pytest.raises(ConnectionRefusal):
                parseQuery(uri)
        else:
            assert parseQuery(uri) == {name: values[-1] for name, values in several.items()}


# Writing at once


class Turns:
    """A reactor, as far as a connection knows it, that does what it is asked to in the next turn."""

    def __init__(self) -> None:
        self.readers: set[Any] = set()
        self.writers: set[Any] = set()
        self.calls: list[Any] = []

    def addReader(self, reader: Any) -> None:
        self.readers.add(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.discard(reader)

    def addWriter(self, writer: Any) -> None:
        self.writers.add(writer)

    def removeWriter(self, writer: Any) -> None:
        self.writers.discard(writer)

    def callLater(self, seconds: float, call: Any, *args: Any) -> None:
        self.calls.append((call, args))

    def turn(self) -> None:
        """As the reactor does: a connection that can't be written to is lost."""
        for each in tuple(self.writers):
            why = each.doWrite()
            if why is not None:
                self.removeReader(each)
                self.removeWriter(each)
                each.connectionLost(Failure(why))
        calls, self.calls = self.calls, []
        for call, args in calls:
            call(*args)


class FakeSocket:
    """
    A socket.

    @ivar takes: what each call of C{send} comes to: so many bytes, or an error; in the end all.
    """

    def __init__(self, *takes: int | OSError) -> None:
        self.takes = deque(takes)
        self.sent = b""
        self.calls = 0

    def send(self, data: Any) -> int:
        self.calls += 1
        take = self.takes.popleft() if self.takes else len(data)
        if isinstance(take, OSError):
            raise take
        self.sent += bytes(data[:take])
        return min(take, len(data))

    def setblocking(self, isBlocking: bool) -> None:
        pass

    def fileno(self) -> int:
        return -1

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 80

    def shutdown(self, how: int) -> None:
        pass

    def close(self) -> None:
        pass

    def setsockopt(self, *args: Any) -> None:
        pass


class Told(Protocol):
    """A protocol that knows whether its connection is lost."""

    lost: Failure | None = None

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        self.lost = reason


def connection(*takes: int | OSError, protocol: Any = None) -> tuple[Any, Any]:
    """A connection of the reactor's own kind, on a socket that takes so much."""
    protocol = protocol or Told()
    made = tcp.Server(
        FakeSocket(*takes),  # type: ignore[arg-type]
        protocol,
        ("127.0.0.1", 1),
        None,  # type: ignore[arg-type]
        0,
        Turns(),  # type: ignore[arg-type]
    )
    protocol.makeConnection(made)
    return made, made.socket


def error(number: int) -> OSError:
    return OSError(number, "said the test")


TAKEN: list[list[int | OSError]] = [
    [],
    [0],
    [1],
    [3, 3],
    [9, 1, 1],
    [error(errno.EWOULDBLOCK)],
    [error(errno.EAGAIN), 4],
    [error(errno.ENOBUFS), error(errno.ENOBUFS), 2],
    [5, error(errno.EWOULDBLOCK), 2],
]


@pytest.mark.parametrize("takes", TAKEN, ids=str)
def test_aSocketThatTakesAPart(takes: list[int | OSError]) -> None:
    """All goes out, in order, whatever the system takes at a time."""
    made, socket = connection(*takes)
    isAll = not takes
    assert writeAtOnce(made, b"0123456789") is isAll
    assert socket.calls == 1, "the system is asked at once"
    assert writeAtOnce(made, b"abc") is isAll
    made.write(b"def")
    made.writeSequence([b"gh", b"ij"])
    assert writeAtOnce(made, b"xyz") is False
    for _ in range(8):
        made.reactor.turn()
    assert socket.sent == b"0123456789abcdefghijxyz"
    assert not made.reactor.writers
    assert writeAtOnce(made, b"!") is True
    assert socket.sent.endswith(b"xyz!")


@given(
    st.lists(
        st.one_of(
            st.integers(0, 5),
            st.sampled_from([errno.EWOULDBLOCK, errno.ENOBUFS]).map(error),
        ),
        max_size=10,
    ),
    st.lists(st.one_of(st.tuples(st.booleans(), st.binary(max_size=8)), st.none()), max_size=10),
)
def test_theOrderIsKept(takes: list[Any], writes: list[Any]) -> None:
    """In whatever way, and whenever, something is written."""
    made, socket = connection(*takes)
    expected = b""
    for each in writes:
        if each is None:
            made.reactor.turn()
            continue
        isAtOnce, data = each
        if isAtOnce:
            writeAtOnce(made, data)
        else:
            made.write(data)
        expected += data
    for _ in range(len(takes) + 3):
        made.reactor.turn()
    assert socket.sent == expected


@pytest.mark.parametrize("number", [errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN])
def test_aConnectionThatIsLost(number: int) -> None:
    """The reactor finds it out, in its own time; whoever writes isn't called back meanwhile."""
    made, socket = connection(error(number), error(number))
    protocol = made.protocol
    assert writeAtOnce(made, b"abc") is False
    assert protocol.lost is None
    assert writeAtOnce(made, b"def") is False
    made.reactor.turn()
    assert protocol.lost is not None
    assert protocol.lost.check(ConnectionLost)
    assert writeAtOnce(made, b"ghi") is False
    assert socket.sent == b""


def test_notBehindWhatWaits() -> None:
    """Nor where only the part that the reactor holds is left."""
    made, socket = connection(4)
    made.write(b"01234567")
    made.reactor.turn()
    assert socket.sent == b"0123"
    assert writeAtOnce(made, b"89") is False
    assert (socket.sent, socket.calls) == (b"0123", 1)
    made.reactor.turn()
    assert socket.sent == b"0123456789"


@pytest.mark.parametrize("how", ["loseConnection", "abortConnection", "loseWriteConnection", "lost"])
def test_notOnAConnectionThatCloses(how: str) -> None:
    """What is written there is what would be written otherwise."""
    outcomes = []
    for write in (writeAtOnce, lambda made, data: made.write(data)):
        made, socket = connection()
        if how == "lost":
            made.connectionLost(Failure(ConnectionDone()))
        else:
            getattr(made, how)()
        if how == "loseWriteConnection":
            made.reactor.turn()
            socket.takes.append(error(errno.EPIPE))
        write(made, b"late")
        outcomes.append((socket.sent, len(made._tempDataBuffer)))
        if how == "loseConnection":
            made.reactor.turn()
            assert socket.sent == b"late"
    assert outcomes[0] == outcomes[1]


# Of Twisted 26.4, TLS leaves something to the reactor for the next turn, which this lets come.
@pytest.mark.usefixtures("serve")
def test_notOnTLS() -> None:
    """A connection on which TLS was started takes nothing that isn't encrypted."""
    context = CertificateOptions(verify=False)
    made, socket = connection()
    assert writeAtOnce(made, b"before") is True
    made.startTLS(context)
    assert made.TLS
    assert writeAtOnce(made, b"a secret") is False
    for _ in range(3):
        made.reactor.turn()
    assert b"secret" not in socket.sent
    made.protocol.connectionLost(Failure(ConnectionDone()))


# Of Twisted 26.4, TLS leaves something to the reactor for the next turn, which this lets come.
@pytest.mark.usefixtures("serve")
def test_notThroughTLS() -> None:
    """Nor one that has TLS between it and whoever writes."""
    factory = TLSMemoryBIOFactory(CertificateOptions(verify=False), True, Factory.forProtocol(Told))
    wrapper: Any = factory.buildProtocol(None)
    made, socket = connection(protocol=wrapper)
    assert writeAtOnce(wrapper, b"a secret") is False
    assert writeAtOnce(wrapper.wrappedProtocol.transport, b"a secret") is False
    for _ in range(3):
        made.reactor.turn()
    assert b"secret" not in socket.sent
    wrapper.connectionLost(Failure(ConnectionDone()))


def test_notThroughWrappers() -> None:
    """A wrapper, which may count or delay what is written, sees all of it."""
    wrapping = WrappingFactory(Factory.forProtocol(Told))
    wrapper: Any = wrapping.buildProtocol(None)
    _, socket = connection(protocol=wrapper)
    seen: list[bytes] = []
    wrapper.write = seen.append
    assert isinstance(wrapper.wrappedProtocol.transport, ProtocolWrapper)
    assert writeAtOnce(wrapper.wrappedProtocol.transport, b"a") is False
    assert (seen, socket.sent) == ([b"a"], b"")


@pytest.mark.parametrize(
    "takes", [*TAKEN, [1] * 300, [error(errno.EWOULDBLOCK)] * 5], ids=lambda takes: f"{takes!s:.30}"
)
def test_answersOnSuchSockets(takes: list[int | OSError]) -> None:
    """A client gets the same bytes from a connection of the reactor's kind, however much it takes at a time."""
    outcomes = []
    for kind, size in itertools.product((Site, FastSite), (100, 200_000)):
        here = Here(kind, isDecided=True)
        channel = here.site.buildProtocol(None)
        made, socket = connection(*takes, protocol=channel)
        for data in (OPEN, POLL, PUSH, ask(sid=b"nobody") + OPEN, webSocket(), makeFrame("4a") + makeFrame(b"b")):
            while made not in made.reactor.readers:
                # Nothing is read from a client that doesn't read.
                made.reactor.turn()
            made.protocol.dataReceived(data)
            here.server.broadcast("x" * size)
            made.reactor.turn()
        for _ in range(400):
            made.reactor.turn()
        outcomes.append(masked(socket.sent))
        made.connectionLost(Failure(ConnectionDone()))
        here.end()
    assert outcomes[2:] == outcomes[:2]
    assert len(re.findall(rb"HTTP/1\.1 200", outcomes[0])) == 4


# Over real sockets


class Recorded(ProxyClient):
    """What a server sends through a proxy that writes down what it sees."""

    def dataReceived(self, data: bytes) -> None:
        self.factory.seen.append(data)  # type: ignore[attr-defined]
        super().dataReceived(data)


class RecordedFactory(ProxyClientFactory):
    protocol = Recorded
    noisy = False
    seen: ClassVar[list[bytes]] = []


class Recording(ProxyServer):
    """What a client sends through it."""

    clientProtocolFactory = RecordedFactory

    def connectionMade(self) -> None:
        from twisted.internet import reactor

        self.reactor = reactor
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        RecordedFactory.seen.append(data)
        super().dataReceived(data)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("scheme", ["ssl", "tcp"])
async def test_nothingIsPlain(
    scheme: str,
    serve: Any,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of what goes over TLS, whoever sits in between can read no message, no header and no session id."""
    from twisted.internet import reactor
    from twisted.internet.endpoints import TCP4ClientEndpoint

    key, signed = request.getfixturevalue("certificate")
    rest = f":privateKey={key}:certKey={signed}" if scheme == "ssl" else ""
    server = listen(f"{scheme}:0:interface=127.0.0.1{rest}")
    server.on("connection", lambda socket: socket.on("message", lambda data: socket.send(data)))
    port = (await server.listening).getHost().port
    seen: list[bytes] = []
    monkeypatch.setattr(RecordedFactory, "seen", seen)
    between = ProxyFactory("127.0.0.1", port)
    between.protocol = Recording
    between.noisy = False
    proxy = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(between)
    wires: list[Wire] = []

    async def connect() -> Wire:
        where = ("127.0.0.1", proxy.getHost().port)
        endpoint: Any = (
            SSL4ClientEndpoint(reactor, *where, CertificateOptions(verify=False))
            if scheme == "ssl"
            else TCP4ClientEndpoint(reactor, *where)
        )
        wire: Wire = await within(connectProtocol(endpoint, Wire()), "a connection")
        wires.append(wire)
        return wire

    polling = await connect()
    polling.send(http("GET", target()))
    (packet,) = (await polling.response()).packets
    sid = packet.partition('"sid":"')[2].partition('"')[0]
    polling.send(http("POST", target(sid=sid), body=b"4a secret by polling"))
    assert (await polling.response()).body == b"ok"
    polling.send(http("GET", target(sid=sid)))
    assert (await polling.response()).packets == ["4a secret by polling"]
    sockets = [await connect() for _ in range(3)]
    for wire in sockets:
        wire.send(upgrade() + makeFrame("4a secret behind the request"))
        assert (await wire.response()).status == 101
        await wire.text()
        assert await wire.text() == "4a secret behind the request"
        wire.send(makeFrame("4a secret by WebSocket"))
        assert await wire.text() == "4a secret by WebSocket"
    ids = list(server.clients)
    for text in ("a secret for all", "another secret for all"):
        assert server.broadcast(text) == 4
    server.broadcast(b"a binary secret for all")
    for wire in sockets:
        assert [await wire.text(), await wire.text()] == ["4a secret for all", "4another secret for all"]
        assert (await wire.frame()).payload == b"a binary secret for all"
    polling.send(http("GET", target(sid=sid)))
    assert (await polling.response()).packets[:2] == ["4a secret for all", "4another secret for all"]
    polling.send(http("GET", target(sid="nobody")))
    assert (await polling.response()).status == 400
    stream = b"".join(seen)
    secrets = [b"secret", b"HTTP/1.1", b"engine.io", b"websocket", b"WebSocket", *[each.encode() for each in ids]]
    assert len(stream) > 1000
    # Without TLS they are all there: a client's frames are masked, but not a server's.
    assert [each for each in secrets if each in stream] == ([] if scheme == "ssl" else secrets)
    for wire in wires:
        wire.drop()
        await wire.lost()
    await within(server.close(), "the end of the server")
    await within(proxy.stopListening(), "the end of the proxy")


@pytest_twisted.ensureDeferred
async def test_theAddressesOfARequestThatIsOver(serve: Any) -> None:
    """A handler may ask a session's first request for them, also when its connection has gone."""
    hosts: list[Any] = []

    def setup(server: Any) -> None:
        def connected(socket: Any) -> None:
            socket.on("message", lambda _: hosts.append(outcomeOf(socket.request.getHost)))
            socket.on("message", lambda _: hosts.append(outcomeOf(socket.request.getClientAddress)))

        server.on("connection", connected)

    running = await serve(setup)

    async def said(data: bytes) -> Any:
        from twisted.internet import reactor
        from twisted.internet.endpoints import TCP4ClientEndpoint

        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", running.port)
        wire: Wire = await within(connectProtocol(endpoint, Wire()), "a connection")
        wire.send(data)
        response = await wire.response()
        wire.drop(abort=False)
        await wire.lost()
        return response

    (packet,) = (await said(http("GET", target()))).packets
    sid = packet.partition('"sid":"')[2].partition('"')[0]
    while len(running.server.ownPorts.site.channels):
        await pause(0.01)
    await said(http("POST", target(sid=sid), body=b"4a"))
    running.server.clients[sid].close(discard=True)
    assert [(each.host, each.port > 0) for each in hosts] == [("127.0.0.1", True)] * 2
    assert hosts[0].port == running.port
