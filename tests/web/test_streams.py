"""Streams of HTTP/2, in memory and on a clock: what a client doesn't read, and what others on its connection notice."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent
from twisted.web._http2 import H2Connection
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from twisted.web.server import Site as StockSite
from twisted.web.static import Data

from engineio_twisted import Server
from engineio_twisted.web.connections import UNREAD_CHECKS, UNREAD_TIMEOUT
from engineio_twisted.web.streams import LOOK_INTERVAL, PIECE

from ..kit.markdown import blocksOf
from ..kit.memory import connectTo
from ..kit.turns import turn
from ..kit.wire import target

SECONDS = UNREAD_TIMEOUT / 1000 * (1 + 1 / UNREAD_CHECKS)
BODY = random.Random(1).randbytes(300_000)


class Page(Resource):
    """A page that a test answers."""

    isLeaf = True

    def __init__(self, answer: Callable[[Any], object]) -> None:
        super().__init__()
        self._answer = answer

    def render_GET(self, request: Any) -> int:
        self._answer(request)
        return NOT_DONE_YET


class Rig:
    """
    A server on a site of twisted.web's own, and a connection of HTTP/2.

    @ivar streams: what came on each stream: its body, and how it ended.
    """

    def __init__(self, pages: dict[bytes, Any] | None = None, **options: Any) -> None:
        self.clock = Clock()
        root = Resource()
        for path, page in {b"page": Data(BODY, "text/plain"), **(pages or {})}.items():
            root.putChild(path, page)
        self.site = StockSite(root, reactor=self.clock)
        # Heartbeats have no part in it.
        self.server = Server(self.site, reactor=self.clock, **{"pingInterval": 10_000_000, **options})
        self.closed: list[tuple[str, str]] = []
        self.server.on("connection", self._connected)
        self.connection: Any = H2Connection(self.clock)
        self.connection.callLater = self.clock.callLater
        self.connection.site = self.connection.factory = self.site
        self.connection.requestFactory = self.site.requestFactory
        self.connection.timeOut = None
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.reads = True
        self.bodies: dict[int, bytes] = {}
        self.ends: dict[int, int | None] = {}
        self.transport = connectTo(SimpleNamespace(buildProtocol=lambda _: self.connection), self.clock)
        self.h2.initiate_connection()
        self.turn()

    def _connected(self, socket: Any) -> None:
        socket.on("close", lambda reason, description: self.closed.append((reason, str(description))))

    def turn(self, seconds: float = 0) -> None:
        """Let both sides say what they have to, until neither has anything."""
        self.clock.advance(seconds)
        for _ in range(2000):
            said = self.h2.data_to_send()
            if said:
                self.connection.dataReceived(said)
            # What is due at once runs here; what never ends would not.
            for _ in range(50):
                if not any(each.getTime() <= self.clock.seconds() for each in self.clock.getDelayedCalls()):
                    break
                call = min(self.clock.getDelayedCalls(), key=lambda each: each.getTime())
                self.clock.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)
            answer = self._hear()
            if not said and not answer:
                return

    def step(self) -> None:
        """Let the server have what the client has said, and a single turn of the reactor."""
        said = self.h2.data_to_send()
        if said:
            self.connection.dataReceived(said)
        turn(self.clock)
        self._hear()

    def _hear(self) -> bytes:
        answer = self.transport.taken()
        for event in self.h2.receive_data(answer) if answer else ():
            self._happened(event)
        return answer

    def wait(self, seconds: float) -> None:
        """Let time pass, in which nothing is due again and again."""
        for _ in range(round(seconds)):
            self.turn(1)
            assert self.dueAtOnce == 0

    def _happened(self, event: Any) -> None:
        if isinstance(event, h2.events.DataReceived):
            self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
            if self.reads:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.ends[event.stream_id] = None
        elif isinstance(event, h2.events.StreamReset):
            self.ends[event.stream_id] = event.error_code

    def ask(self, path: str, body: bytes | None = None) -> int:
        stream = self.send(path, body)
        self.turn()
        return stream

    def send(self, path: str, body: bytes | None = None, *, ends: bool = True, **headers: str) -> int:
        """Ask, of which the server learns in the next turn."""
        stream = self.h2.get_next_available_stream_id()
        method = "GET" if body is None else "POST"
        fields = [(":method", method), (":path", path), (":scheme", "https"), (":authority", "localhost")]
        fields += [(name.replace("_", "-"), value) for name, value in headers.items()]
        self.h2.send_headers(stream, fields, end_stream=ends and body is None)
        if body is not None:
            self.h2.send_data(stream, body, end_stream=ends)
        return stream

    def open(self) -> Any:
        """Open a session, and return its socket."""
        before = set(self.server.clients)
        self.reads, reads = True, self.reads
        self.ask(target())
        self.reads = reads
        (sid,) = set(self.server.clients) - before
        return self.server.clients[sid]

    @property
    def dueAtOnce(self) -> int:
        """How many calls of the reactor are due: any at all, when both sides have nothing to say, take a whole core."""
        return sum(each.getTime() <= self.clock.seconds() for each in self.clock.getDelayedCalls())

    def held(self) -> int:
        """How many bytes wait for the client."""
        queues = self.connection._outboundStreamQueues.values()
        return sum(len(each) for queue in queues for each in queue if isinstance(each, bytes))


@pytest.mark.parametrize("end", [None, "close", "discard"])
@pytest.mark.parametrize("count", [1, 3])
def test_unread(end: str | None, count: int) -> None:
    """Answers that a client doesn't read cost no turns of the reactor, are cut in time, and are kept no longer."""
    rig = Rig()
    other = rig.open()
    sockets = [rig.open() for _ in range(count)]
    rig.reads = False
    streams = []
    for socket in sockets:
        socket.send(BODY)
        streams.append(rig.ask(target(sid=socket.id)))
    assert rig.dueAtOnce == 0
    assert sum(each.bufferedAmount for each in sockets) > count * len(BODY) - 100_000
    for socket in sockets:
        if end is not None:
            socket.close(end == "discard")
    rig.turn(0.01)
    assert rig.dueAtOnce == 0
    rig.wait(UNREAD_TIMEOUT / 1000 - 2)
    assert rig.ends.keys().isdisjoint(streams)
    rig.wait(SECONDS - UNREAD_TIMEOUT / 1000 + 2)
    assert [rig.ends[each] for each in streams] == [0] * count
    assert rig.held() == 0
    assert sum(each.bufferedAmount for each in sockets) == 0
    # What it never read of them is lost to the window of the connection; it is told so.
    rig.reads = True
    rig.h2.increment_flow_control_window(1_000_000)
    rig.turn()
    other.send("still here")
    poll = rig.ask(target(sid=other.id))
    assert rig.bodies[poll] == b"4still here"


@pytest.mark.parametrize("path", ["/page", "/pull", "/push"])
def test_pagesThatAreUnread(path: str) -> None:
    """So it is with pages beside the server, whatever produces them; the producer is stopped."""
    producers: list[Producer] = []

    def answer(streaming: bool) -> Callable[[Any], object]:
        return lambda request: producers.append(Producer(request, streaming))

    rig = Rig({b"pull": Page(answer(False)), b"push": Page(answer(True))})
    socket = rig.open()
    rig.reads = False
    stream = rig.ask(path)
    rig.turn(1)
    assert rig.dueAtOnce == 0
    assert len(rig.bodies[stream]) > 65000
    rig.wait(SECONDS)
    assert rig.ends[stream] == 0
    assert [each.isStopped for each in producers] == [1] * len(producers)
    rig.reads = True
    rig.h2.increment_flow_control_window(1_000_000)
    socket.send("still here")
    poll = rig.ask(target(sid=socket.id))
    assert rig.bodies[poll] == b"4still here"


class Producer:
    """Writes the body piece by piece."""

    def __init__(self, request: Any, streaming: bool) -> None:
        self._request = request
        self._rest = BODY
        self._streaming = streaming
        self._isPaused = False
        self.isStopped = 0
        request.registerProducer(self, streaming)
        if streaming:
            self.resumeProducing()

    def resumeProducing(self) -> None:
        self._isPaused = False
        while self._rest and not self._isPaused:
            piece, self._rest = self._rest[:10_000], self._rest[10_000:]
            self._request.write(piece)
            if not self._streaming:
                break
        if not self._rest and not self.isStopped:
            self._request.unregisterProducer()
            self._request.finish()

    def pauseProducing(self) -> None:
        self._isPaused = True

    def stopProducing(self) -> None:
        self.isStopped += 1


@pytest.mark.parametrize("path", ["/page", "/pull", "/push"])
def test_pagesThatAreRead(path: str) -> None:
    """A client that reads gets all of it, and nothing is left to do."""
    pages = {
        b"pull": Page(lambda request: Producer(request, False)),
        b"push": Page(lambda request: Producer(request, True)),
    }
    rig = Rig(pages)
    stream = rig.ask(path)
    rig.turn()
    assert rig.bodies[stream] == BODY
    assert rig.ends[stream] is None
    assert rig.clock.getDelayedCalls() == []


@pytest.mark.parametrize("path", ["/page", "/pull", "/push"])
def test_whoReadsSlowly(path: str) -> None:
    """A client that takes a little now and then isn't cut, however long it takes."""
    pages = {
        b"pull": Page(lambda request: Producer(request, False)),
        b"push": Page(lambda request: Producer(request, True)),
    }
    rig = Rig(pages)
    rig.reads = False
    stream = rig.ask(path)
    seconds = 0
    while stream not in rig.ends:
        # A third of the time, a few times what counts as progress.
        rig.turn(UNREAD_TIMEOUT / 3000)
        seconds += UNREAD_TIMEOUT // 3000
        rig.h2.increment_flow_control_window(20_000)
        rig.h2.increment_flow_control_window(20_000, stream)
        rig.turn()
        assert rig.dueAtOnce == 0
    assert rig.bodies[stream] == BODY
    assert seconds > 3 * UNREAD_TIMEOUT / 1000
    assert rig.clock.getDelayedCalls() == []


def test_sharedWindow() -> None:
    """Answers that share the window of their connection all arrive, with no turn too many while it is closed."""
    rig = Rig()
    rig.reads = False
    streams = [rig.ask("/page") for _ in range(4)]
    for each in streams:
        rig.h2.increment_flow_control_window(1_000_000, each)
    rig.turn()
    assert sum(map(len, rig.bodies.values())) == 65535
    assert rig.held() == 0
    while any(each not in rig.ends for each in streams):
        rig.h2.increment_flow_control_window(50_000)
        rig.turn()
        assert rig.dueAtOnce == 0
    assert [rig.bodies[each] == BODY for each in streams] == [True] * 4
    assert rig.clock.getDelayedCalls() == []


def test_windowsThatSettingsOpen() -> None:
    """A client may open the windows of its streams by its settings, of which Twisted says nothing."""
    rig = Rig()
    rig.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
    rig.turn()
    stream = rig.ask("/page")
    assert stream not in rig.bodies
    assert rig.dueAtOnce == 0
    rig.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1_000_000})
    rig.turn()
    rig.turn(LOOK_INTERVAL)
    assert rig.bodies[stream] == BODY
    assert rig.ends[stream] is None


@pytest.mark.parametrize("size", [0, 5, 20_000, 49_147, 49_157, 60_000])
@pytest.mark.parametrize("after", [1, 3, 4, 5, 8])
def test_windowsThatSettingsClose(size: int, after: int) -> None:
    """A client that makes its windows smaller while answers come gets them whole when it opens them again."""
    rig = Rig()
    other = rig.open()
    poll = rig.ask(target(sid=other.id))
    rig.reads = False
    page, another = rig.send("/page"), rig.send("/page")
    for _ in range(after):
        rig.step()
    rig.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: size})
    for _ in range(20):
        rig.step()
    assert rig.dueAtOnce == 0
    rig.reads = True
    rig.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 65535})
    rig.h2.increment_flow_control_window(1_000_000)
    for each in (page, another, poll):
        rig.h2.increment_flow_control_window(1_000_000, each)
    other.send("still here")
    rig.turn()
    assert rig.bodies[poll] == b"4still here"
    assert [rig.bodies[each] == BODY for each in (page, another)] == [True, True]
    assert [rig.ends[each] for each in (page, another, poll)] == [None] * 3


@pytest.mark.parametrize("isOwn", [True, False], ids=["stream", "connection"])
@pytest.mark.parametrize("path", ["/page", "session"])
def test_aWindowThatIsOpenedAndAReset(path: str, isOwn: bool) -> None:
    """A client that gives up a large answer while it reads, and asks again in that segment, harms no other stream."""
    rig = Rig()
    other, socket = rig.open(), rig.open()
    poll = rig.ask(target(sid=other.id))
    rig.reads = False
    if path == "session":
        socket.send(BODY)
        path = target(sid=socket.id)
    streams = [rig.ask(path), rig.ask("/page")]
    rig.h2.increment_flow_control_window(10, streams[0] if isOwn else None)
    rig.h2.reset_stream(streams[0])
    # With the next request h2 forgets the stream, before Twisted is told of the window.
    streams.append(rig.ask("/page"))
    rig.reads = True
    rig.h2.increment_flow_control_window(1_000_000)
    rig.turn()
    other.send("still here")
    rig.turn()
    assert rig.bodies[poll] == b"4still here"
    assert [rig.bodies[each] == BODY for each in streams[1:]] == [True, True]
    assert rig.held() == 0


def test_answersInTurns() -> None:
    """A large answer doesn't keep those beside it waiting: each has its turn, whatever the windows take."""
    rig = Rig()
    rig.h2.increment_flow_control_window(1_000_000)
    rig.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1_000_000})
    rig.turn()
    first, second = rig.send("/page"), rig.send("/page")
    for _ in range(8):
        rig.step()
    assert abs(len(rig.bodies[first]) - len(rig.bodies[second])) <= PIECE
    assert 0 < len(rig.bodies[first]) < len(BODY)


def test_aConnectionThatIsFull() -> None:
    """While the connection takes nothing an answer waits, and no turn of the reactor is spent on it."""
    rig = Rig()
    rig.reads = False
    page = rig.send("/page")
    for _ in range(3):
        rig.step()
    before = len(rig.bodies[page])
    rig.connection.pauseProducing()
    for _ in range(5):
        rig.step()
    assert rig.dueAtOnce == 0
    assert len(rig.bodies[page]) == before < 65_535
    rig.connection.resumeProducing()
    rig.turn()
    assert len(rig.bodies[page]) == 65_535


def test_aConnectionThatTakesNothing(loggedErrors: list[LogEvent]) -> None:
    """Twisted cuts a connection that takes no more control frames, in the middle of an answer: all sessions end."""
    rig = Rig()
    sockets = [rig.open() for _ in range(90)]
    for each in sockets:
        rig.ask(target(sid=each.id))
    rig.connection.pauseProducing()
    # Headers of 200 bytes and more for each, where 17 KiB may wait.
    digits = random.Random(1)
    rig.server.on("headers", lambda headers, request: headers.update({"X-Long": digits.randbytes(200).hex()}))
    assert rig.server.broadcast("to all") == 90
    rig.turn()
    for each in sockets:
        each.send("again")
    rig.turn()
    assert rig.transport.isAborted
    assert ["control frame" in each["log_format"] for each in loggedErrors] == [True]
    loggedErrors.clear()
    assert rig.held() == 0
    rig.server.close()
    rig.turn()
    assert len(rig.closed) == 90
    assert rig.clock.getDelayedCalls() == []


def test_headersOfConnections() -> None:
    """What an answer over HTTP/2 may not say of its connection is left out."""

    def answer(request: Any) -> None:
        for name in ("Connection", "Keep-Alive", "Transfer-Encoding", "Upgrade"):
            request.setHeader(name, "close")
        request.setHeader("X-Kept", "yes")
        request.write(b"a page")
        request.finish()

    rig = Rig({b"closing": Page(answer)})
    stream = rig.ask("/closing")
    assert rig.bodies[stream] == b"a page"
    assert rig.ends[stream] is None


def test_aProducerThatFails(loggedErrors: list[LogEvent]) -> None:
    """Its stream is cut; those beside it go on."""

    class Failing:
        def resumeProducing(self) -> None:
            raise OSError("no disk")

        def stopProducing(self) -> None:
            raise OSError("still no disk")

    rig = Rig({b"failing": Page(lambda request: request.registerProducer(Failing(), False))})
    socket = rig.open()
    stream = rig.ask("/failing")
    rig.turn()
    assert rig.ends[stream] == 0
    assert len(loggedErrors) == 2
    loggedErrors.clear()
    socket.send("still here")
    poll = rig.ask(target(sid=socket.id))
    assert rig.bodies[poll] == b"4still here"


def test_aRequestThatIsCut() -> None:
    """What an application writes to a stream that it has cut is dropped, and its request is told once."""
    told: list[Any] = []

    def answer(request: Any) -> None:
        request.notifyFinish().addErrback(told.append)
        request.write(b"the beginning")
        request.channel.abortConnection()
        request.write(b"the rest")
        request.channel.abortConnection()

    rig = Rig({b"cut": Page(answer)})
    stream = rig.ask("/cut")
    assert rig.ends[stream] == 0
    assert rig.bodies.get(stream) is None
    assert len(told) == 1
    assert rig.clock.getDelayedCalls() == []


def test_reproductions(tmp_path: Path) -> None:
    """The programs of the page show with Twisted alone what they say."""
    page = Path(__file__).parents[2] / "docs" / "http2.md"
    blocks = [(each.language, each.text) for each in blocksOf(page)]
    beginning = blocks[0][1]
    programs = [text for language, text in blocks[1:] if language == "python"]
    assert [language for language, _ in blocks[1:]] == ["python", "text"] * len(programs)
    expected = [text for language, text in blocks if language == "text"]
    for program, said in zip(programs, expected, strict=True):
        path = tmp_path / "program.py"
        path.write_text(f"{beginning}\n{program}")
        done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout.strip() == said.strip()
