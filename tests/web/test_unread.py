"""Responses that nobody reads: each ends in a known time, of every kind; a client that reads slowly gets all."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol, serverFromString
from twisted.internet.task import Clock
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from engineio_twisted import FastSite, Server, Site
from engineio_twisted.operation.metrics import MetricsResource
from engineio_twisted.operation.static import StaticFolder
from engineio_twisted.web.connections import UNREAD_CHECKS, UNREAD_PROGRESS, UNREAD_TIMEOUT, UnreadDeadline, unread

from ..kit.wire import Wire, connectTo, eventually, http, target

SIZE = 20_000_000
SECONDS = UNREAD_TIMEOUT / 1000
CLOSING = [("Connection", "close")]


class Page(Resource):
    """A large page of an application, whole or written piece by piece."""

    isLeaf = True

    def render_GET(self, request: Any) -> Any:
        if request.path == b"/page":
            return b"x" * SIZE
        request.setHeader(b"Content-Length", str(SIZE))
        if request.path == b"/pieces":
            for _ in range(20):
                request.write(b"x" * (SIZE // 20))
            request.finish()
        else:
            # It never ends.
            request.write(b"x" * (SIZE - 1))
        return NOT_DONE_YET


@pytest.fixture
def shortFolder() -> Iterator[str]:
    """A folder whose path is short enough for a socket."""
    with TemporaryDirectory() as folder:
        yield folder


@pytest.fixture(params=[FastSite, Site])
def here(request: pytest.FixtureRequest, tmp_path: Path, shortFolder: str, serve: Any) -> Iterator[Any]:
    """A server whose time is made by the test, on real sockets, beside pages and files."""
    assert serve is not None, "what is closed leaves the reactor before a test ends"
    (tmp_path / "file").write_bytes(b"x" * SIZE)

    class Here:
        def __init__(self) -> None:
            self.clock = Clock()
            self.server = Server(reactor=self.clock)
            root = StaticFolder(str(tmp_path))
            for name in (b"page", b"pieces", b"endless"):
                root.putChild(name, Page())
            root.putChild(b"metrics", MetricsResource(self.server))
            self.site = request.param(root, reactor=self.clock)
            self.server.attach(self.site)
            self.ports: list[Any] = []
            self.wires: list[Wire] = []

        async def listen(self, description: str = "tcp:0:interface=127.0.0.1") -> Any:
            port = await serverFromString(reactor, description).listen(self.site)
            self.ports.append(port)
            return port.getHost()

        def advance(self, seconds: float) -> None:
            """Let time pass, in steps as small as those of the timers."""
            for _ in range(int(seconds)):
                self.clock.advance(1)

        async def connect(self, *requests: bytes) -> Wire:
            """A client that reads nothing of the answers, until the server knows that it doesn't."""
            wire = await connectTo((await self.listen()).port)
            self.wires.append(wire)
            wire.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            wire.transport.pauseProducing()
            wire.send(b"".join(requests))
            await self.unread()
            return wire

        async def unread(self) -> Any:
            await eventually(lambda: any(unread(each.transport) for each in self.site.channels), "something unread")
            (channel,) = self.site.channels
            left = -1
            while left != unread(channel.transport):
                left = unread(channel.transport)
                await eventually(lambda: True, "a turn")
            return channel

        async def end(self) -> None:
            for port in self.ports:
                await port.stopListening()
            for channel in self.site.channels:
                channel.transport.abortConnection()
            for wire in self.wires:
                if not wire.isLost:
                    # One that doesn't read learns nothing of its end.
                    wire.transport.resumeProducing()
                    wire.drop()
                    await wire.lost()
            closed = self.server.close()
            self.clock.advance(0)
            await closed
            await self.site.channels.whenEmpty()
            assert self.clock.getDelayedCalls() == []

    here = Here()
    yield here
    pytest_twisted.blockon(_deferred(here.end()))


def _deferred(coroutine: Any) -> Any:
    from twisted.internet.defer import Deferred

    return Deferred.fromCoroutine(coroutine)


REFUSED = http("GET", target(sid="none"))
KINDS = {
    "a file": [http("GET", "/file")],
    "a file, closing": [http("GET", "/file", CLOSING)],
    "many ranges": [http("GET", "/file", [("Range", "bytes=0-9000000,9500000-9999999")])],
    "a page": [http("GET", "/page")],
    "a page, closing": [http("GET", "/page", CLOSING)],
    "a page in HTTP/1.0": [http("GET", "/page", version="1.0")],
    "a page in pieces": [http("GET", "/pieces")],
    "a page without an end": [http("GET", "/endless")],
    "pages": [http("GET", "/page")] * 50,
    "refusals": [REFUSED] * 40_000,
    "refusals of a POST": [http("POST", target(sid="none"), body=b"4x")] * 40_000,
    "a page after refusals": [*([REFUSED] * 100), http("GET", "/page")],
    "nothing there": [http("GET", "/none")] * 40_000,
    "metrics": [http("GET", "/metrics")] * 2_000,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest_twisted.ensureDeferred
async def test_nobodyReads(here: Any, kind: str) -> None:
    """The connection is cut a known time after the client took the last, whatever it is that it doesn't read."""
    wire = await here.connect(*KINDS[kind])
    assert len(here.site.channels) == 1
    here.advance(SECONDS - 2)
    await eventually(lambda: True, "a turn")
    assert len(here.site.channels) == 1
    # Idle connections have their own time before, and the deadline is looked at four times.
    here.advance(2 + SECONDS * 1.5 + 5)
    await eventually(lambda: not len(here.site.channels), "the end of the connection")
    wire.transport.resumeProducing()
    await wire.lost()


SLOW = ["a file", "a file, closing", "a page", "a page, closing", "a page in HTTP/1.0", "a page in pieces"]


@pytest.mark.parametrize("kind", SLOW)
@pytest_twisted.ensureDeferred
async def test_aSlowClient(here: Any, kind: str) -> None:
    """Gets all of it, though that takes many times as long as one may take that reads nothing."""
    wire = await here.connect(*KINDS[kind])
    got = 0
    while got < SIZE - 4_000_000:
        wire.transport.resumeProducing()
        await wire.until(lambda: len(wire.received) > 1_500_000, "some of it")
        wire.transport.pauseProducing()
        got += len(wire.received)
        wire.received.clear()
        await here.unread()
        here.advance(SECONDS - 10)
    wire.transport.resumeProducing()
    if kind in ("a file", "a page", "a page in pieces"):
        await wire.until(lambda: got + len(wire.received) >= SIZE + 100, "all of it")
        await eventually(lambda: wire.received.endswith(b"x" * 1000), "the end")
        wire.received.clear()
        wire.send(http("GET", "/none"))
        assert (await wire.response()).status == 404
        wire.drop()
    else:
        got += len(await wire.lost())
        assert SIZE < got < SIZE + 1000


@pytest_twisted.ensureDeferred
async def test_overTLS(here: Any, certificate: tuple[Path, Path], tmp_path: Path) -> None:
    """A response is cut that nobody reads, and one that is read is not, over TLS too."""
    key, chain = certificate
    where = await here.listen(f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={chain}")
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    from twisted.internet.threads import deferToThread

    def connect(request: bytes) -> Any:
        client = context.wrap_socket(socket.create_connection(("127.0.0.1", where.port), 30))
        client.sendall(request)
        return client

    client = await deferToThread(connect, http("GET", "/page", CLOSING))
    await eventually(lambda: any(unread(each.transport) for each in here.site.channels), "something unread")
    got = 0

    def read() -> int:
        count = 0
        while count < 3_000_000:
            data = client.recv(100_000)
            if not data:
                break
            count += len(data)
        return count

    while got < SIZE - 5_000_000:
        got += await deferToThread(read)
        here.advance(SECONDS - 10)
    assert len(here.site.channels) == 1
    here.advance(SECONDS * 2 + 5)
    await eventually(lambda: not len(here.site.channels), "the end of the connection")
    client.close()


@pytest_twisted.ensureDeferred
async def test_onAUNIXSocket(here: Any, shortFolder: str) -> None:
    """So it is on a UNIX socket."""
    await here.listen(f"unix:{shortFolder}/app.sock")
    wire: Wire = await connectProtocol(UNIXClientEndpoint(reactor, f"{shortFolder}/app.sock"), Wire())
    wire.transport.pauseProducing()
    wire.send(http("GET", "/file"))
    await here.unread()
    here.advance(SECONDS - 2)
    assert len(here.site.channels) == 1
    here.advance(SECONDS * 1.5)
    await eventually(lambda: not len(here.site.channels), "the end of the connection")
    wire.transport.resumeProducing()
    await wire.lost()


@pytest_twisted.ensureDeferred
async def test_itIsCountedAndSaidOnce(here: Any) -> None:
    """With the other limits of connections."""
    from twisted.logger import globalLogPublisher

    events: list[Any] = []
    await here.connect(*KINDS["a file"])
    globalLogPublisher.addObserver(events.append)
    try:
        here.advance(SECONDS * 1.5)
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert here.server.stats().limited == {"unreadTimeout": 1}
    said = [each for each in events if "was not read" in str(each.get("log_format"))]
    assert [each["seconds"] for each in said] == [SECONDS]


# The deadline itself


class Rig:
    def __init__(self, seconds: float = 60) -> None:
        self.clock = Clock()
        self.left = 0
        self.cuts = 0
        self.deadline = UnreadDeadline(self.clock.callLater, seconds, lambda: self.left, self.cut)

    def cut(self) -> None:
        self.cuts += 1

    def pass_(self, seconds: float) -> None:
        self.clock.pump([1] * int(seconds))


def test_noProgress() -> None:
    """Ends it, once, and no timer is left."""
    rig = Rig()
    rig.left = 100_000
    rig.deadline.begin(isFull=True)
    rig.pass_(59)
    assert rig.cuts == 0
    rig.pass_(1)
    assert rig.cuts == 1
    assert rig.clock.getDelayedCalls() == []


@pytest.mark.parametrize("size", [1, UNREAD_PROGRESS // UNREAD_CHECKS - 1])
def test_tooLittleProgress(size: int) -> None:
    """Is none: a byte now and then holds nothing up for ever."""
    rig = Rig()
    rig.left = 1_000_000
    rig.deadline.begin(isFull=True)
    for _ in range(UNREAD_CHECKS):
        rig.left -= size
        rig.pass_(15)
    assert rig.cuts == 1


def test_progress() -> None:
    """Moves it: a client that takes a little more than that may take its time, also while more is written."""
    rig = Rig()
    rig.left = 100_000
    rig.deadline.begin(isFull=True)
    for _ in range(100):
        rig.left += 3 * UNREAD_PROGRESS
        rig.deadline.wrote(4 * UNREAD_PROGRESS)
        rig.pass_(50)
    assert rig.cuts == 0
    rig.pass_(75)
    assert rig.cuts == 1


def test_theEndOfWatching() -> None:
    """When all is taken nothing is watched any more, and it begins anew with the next that isn't."""
    rig = Rig()
    rig.left = 100_000
    rig.deadline.begin(isFull=True)
    rig.pass_(50)
    rig.deadline.drained()
    rig.left = 0
    rig.pass_(15)
    assert rig.clock.getDelayedCalls() == []
    rig.left = 10
    rig.deadline.begin(isFull=False)
    rig.pass_(59)
    assert rig.cuts == 0
    rig.pass_(1)
    assert rig.cuts == 1
    rig.deadline.stop()


def test_aConnectionOfWhichNothingIsKnown() -> None:
    """Is cut if it says that it is full and does not say that it isn't any more."""
    rig = Rig()
    rig.deadline.begin(isFull=True)
    rig.pass_(45)
    rig.deadline.drained()
    rig.deadline.begin(isFull=True)
    rig.pass_(59)
    assert rig.cuts == 0
    rig.pass_(15)
    assert rig.cuts == 1


def test_stopping() -> None:
    """Leaves no timer."""
    rig = Rig()
    rig.deadline.begin(isFull=True)
    rig.deadline.stop()
    rig.deadline.stop()
    assert rig.clock.getDelayedCalls() == []
