"""The same story played on both sites, that of twisted.web's own means and the fast one: the same has to come of it."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pprint import pformat
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.task import Clock, Cooperator
from twisted.logger import LogEvent, LogLevel, globalLogPublisher
from twisted.web.resource import Resource
from zope.interface import alsoProvides

from engineio_twisted import Server, Site
from engineio_twisted.testing import MemoryConnection
from engineio_twisted.web.fast import FastSite
from engineio_twisted.web.requests import EngineIORequest

from .memory import Connection, StillNetwork

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


class Peer(Connection):
    """
    A connection after each of whose steps a story goes on.

    @ivar isFull: whether the client takes nothing, and all that is written finds the buffer full.
    @ivar forgets: whether it can't say its own address once it is lost, as one of the reactor can't.
    """

    isFull = forgets = False

    def __init__(self, network: PeerNetwork, *arguments: Any) -> None:
        super().__init__(network, *arguments)
        self.here = network.here
        self.seen = 0
        if network.isSecure:
            alsoProvides(self, ISSLTransport)

    # What a client does

    def say(self, *pieces: bytes) -> Peer:
        """Send bytes, each piece to be read on its own."""
        for each in pieces:
            self.send(each)
        self.here.step("said")
        return self

    def lose(self, reason: Exception | None = None) -> None:
        """Go away."""
        MemoryConnection.lose(self)
        if reason is not None:
            self._lostBy = reason
        self.here.step("lost")

    def fills(self) -> None:
        """Take nothing more, so that the buffer gets full."""
        self.holds()
        self.isFull = True
        self._pauses()
        self.here.step("full")

    def drains(self) -> None:
        """Take all that is there."""
        self.isFull = self.toClient.isHeld = False
        self._startWriting()
        self.here.step("drained")

    # What the reactor does

    def turn(self) -> bool:
        try:
            return super().turn()
        except Exception as error:
            self.here.note("the connection failed", type(error))
            self._isLost(error)
            return True

    # The connection

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.isFull and not self.isLost:
            self._pauses()

    def _pauses(self) -> None:
        if self.producer is not None:
            self.producerPaused = True
            self.producer.pauseProducing()

    def getHost(self) -> Any:
        if self.isLost and self.forgets:
            raise AttributeError("socket")
        return super().getHost()

    def news(self) -> bytes:
        """What was written since this was last asked."""
        data = self.value()[self.seen :]
        self.seen += len(data)
        return masked(data)


class PeerNetwork(StillNetwork):
    """The network of a story."""

    connectionClass = Peer
    isSecure = False

    def __init__(self, here: Here) -> None:
        super().__init__(here.clock, here.site)
        self.here = here


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
        self.network = PeerNetwork(self)
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
        self.network.isSecure = isSecure
        peer: Peer = self.network.begin()
        self.peers.append(peer)
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
        self.network.settle()
        self.note(
            what,
            [(peer.news(), peer.isReading, peer.disconnecting, peer.isLost, peer.toServer.size) for peer in self.peers],
            [
                (socket.id, socket.readyState, socket.transport.name, [self._told(each) for each in socket.writeBuffer])
                for socket in self.sockets
            ],
            sorted(self.server.clients),
            len(self.server._router.reading),
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
            peer.toClient.isHeld = False
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
        patch.setattr("engineio_twisted.server.newSessionId", lambda: next(here.ids))
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
            differing = "\n".join(difflib.unified_diff(*lines, "twisted.web's way", "the fast path", n=1, lineterm=""))
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


BODY = b"4hello"


# What the application sees of a request, and what it does with it


def outcomeOf(get: Callable[[], Any]) -> Any:
    """What comes of a call, or the kind of exception."""
    try:
        return get()
    except Exception as error:
        return type(error)
