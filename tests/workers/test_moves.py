"""Connections that move between two workers: real sockets and descriptors, both workers on this process's reactor."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory

from engineio_twisted.workers.handover import Neighbour

from ..kit.joined import Joined
from ..kit.wire import Response, Wire, connectTo, eventually, http, makeFrame, pause, target, upgrade, within

SILENT: dict[str, Any] = {"pingInterval": 10**8}


def openDescriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture(scope="module")
def listened(runningReactor: Any) -> None:
    """Twisted keeps one descriptor from the first port on, for when there is no other."""
    pytest_twisted.blockon(runningReactor.listenTCP(0, Factory(), interface="127.0.0.1").stopListening())


@pytest.fixture(autouse=True)
def descriptorsAreClosed(listened: None) -> Iterator[None]:
    """Every descriptor that a test opens is closed again, in whichever worker it ends."""
    before = openDescriptors()
    yield
    assert openDescriptors() == before


class Worker:
    """One of the workers: its server, and what its application saw."""

    def __init__(self, server: Any, cluster: Any) -> None:
        self.sockets: list[Any] = []
        self.closes: list[str] = []
        self.cluster = cluster
        server.on("connection", self._connected)

    def _connected(self, socket: Any) -> None:
        self.sockets.append(socket)
        socket.on("message", socket.send)
        socket.on("close", lambda reason, *_: self.closes.append(reason))

    @property
    def moved(self) -> int:
        return self.cluster.moved

    @property
    def relayed(self) -> int:
        return self.cluster.front.relayed


class Two:
    """Two workers, and clients of theirs."""

    def __init__(self, workers: list[Worker], neighbours: list[Neighbour], places: list[Any]) -> None:
        self.workers = workers
        # As the first reaches the second, and the other way round.
        self.neighbours = neighbours
        self._places = places
        self.wires: list[Wire] = []

    async def connect(self, worker: int) -> Wire:
        """Connect to the worker of a number."""
        from twisted.internet import reactor

        place = self._places[worker - 1]
        if isinstance(place, int):
            wire = await connectTo(place)
        else:
            wire = await within(connectProtocol(UNIXClientEndpoint(reactor, str(place)), Wire()), "a connection")
        self.wires.append(wire)
        return wire

    async def open(self, worker: int, wire: Wire | None = None) -> str:
        """Open a session at a worker; return its id."""
        response = await ask(wire or await self.connect(worker), http("GET", target()))
        sid = response.packets[0].partition('"sid":"')[2].partition('"')[0]
        assert sid.startswith(f"{worker}-")
        return sid

    @property
    def counts(self) -> tuple[list[int], list[int]]:
        """How many connections each worker has moved, and how many requests relayed."""
        return [each.moved for each in self.workers], [each.relayed for each in self.workers]


async def ask(wire: Wire, request: bytes) -> Response:
    """Send a request, and read the response."""
    wire.send(request)
    return await wire.response()


def get(sid: str, **changes: Any) -> bytes:
    return http("GET", target(sid=sid), **changes)


def post(sid: str, body: str | bytes, **changes: Any) -> bytes:
    return http("POST", target(sid=sid), body=body.encode() if isinstance(body, str) else body, **changes)


def summary(response: Response) -> tuple[int, bytes]:
    return response.status, response.body


@asynccontextmanager
async def joinedTwo(unix: bool = False, mayMove: bool = True, **options: Any) -> AsyncIterator[Two]:
    """Start two workers of this process, that are joined as processes are."""
    from twisted.internet import reactor

    before = openDescriptors()
    joined = Joined(mayMove=mayMove, **{**SILENT, **options})
    workers = [Worker(*each) for each in zip(joined.servers, joined.clusters, strict=True)]
    neighbours = [joined.neighbours[1, 2], joined.neighbours[2, 1]]
    listening: Any = reactor
    # Paths of UNIX sockets are short.
    with TemporaryDirectory(dir="/tmp", prefix="workers-") as folder:
        if unix:
            paths = [Path(folder) / str(number) for number in (1, 2)]
            ports = [listening.listenUNIX(str(path), each) for path, each in zip(paths, joined.sites, strict=True)]
            places: list[Any] = list(paths)
        else:
            ports = [listening.listenTCP(0, each, interface="127.0.0.1") for each in joined.sites]
            places = [each.getHost().port for each in ports]
        joined.start()
        two = Two(workers, neighbours, places)
        try:
            yield two
        finally:
            for wire in two.wires:
                wire.drop()
            await joined.close()
            await gatherResults([Deferred.fromCoroutine(wire.lost()) for wire in two.wires])
            await gatherResults([each.stopListening() for each in ports])
            # Connections that were read together leave a moment later.
            await eventually(lambda: openDescriptors() <= before, "the end of all connections")


overEachMode = pytest.mark.parametrize("mayMove", [True, False], ids=["move", "relay"])
overEachKind = pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])


@overEachMode
@overEachKind
@pytest_twisted.ensureDeferred
async def test_wrongWorker(unix: bool, mayMove: bool) -> None:
    """What waits is read, what comes later too, and messages are sent in order, by connections to the other worker."""
    async with joinedTwo(unix, mayMove) as two:
        sid = await two.open(1)
        (session,) = two.workers[0].sockets
        session.send("early")
        reader, writer = await two.connect(2), await two.connect(2)
        assert (await ask(reader, get(sid))).packets == ["4early"]
        reader.send(get(sid))
        for text in ("a", "b", "c"):
            assert summary(await ask(writer, post(sid, f"4{text}1\x1e4{text}2"))) == (200, b"ok")
        got = (await reader.response()).packets
        while len(got) < 6:
            got += (await ask(reader, get(sid))).packets
        assert got == ["4a1", "4a2", "4b1", "4b2", "4c1", "4c2"]
        moves, relays = two.counts
        assert moves == ([0, 2] if mayMove else [0, 0])
        assert (relays[1] > 4) is not mayMove
        assert relays[0] == 0


CUTS = [1, 30, 60, -9, -2, -1]
"""Where requests are cut: in their heads, between head and body, in their bodies."""


def chunked(sid: str) -> bytes:
    head = http("POST", target(sid=sid), [("Transfer-Encoding", "chunked")])
    return head + b"4\r\n4one\r\n5\r\n\x1e4two\r\n0\r\n\r\n"


def counted(sid: str) -> bytes:
    return post(sid, "4one\x1e4two")


@overEachMode
@pytest.mark.parametrize("request_", [counted, chunked], ids=["length", "chunks"])
@pytest_twisted.ensureDeferred
async def test_cutBodies(request_: Callable[[str], bytes], mayMove: bool) -> None:
    """A request in two pieces, of which the second comes after the connection has moved, if it does, is one request."""
    async with joinedTwo(mayMove=mayMove) as two:
        sid = await two.open(1)
        reader = await two.connect(1)
        for number, cut in enumerate(CUTS, 1):
            wire = await two.connect(2)
            data = request_(sid)
            wire.send(data[:cut])
            if cut < 0 and mayMove:
                await eventually(lambda number=number: two.workers[1].moved == number, "a move")
            else:
                await pause(0.01)
            wire.send(data[cut:])
            assert summary(await wire.response()) == (200, b"ok")
            assert (await ask(reader, get(sid))).packets == ["4one", "4two"]
        assert two.workers[1].moved == (len(CUTS) if mayMove else 0)


@overEachMode
@pytest_twisted.ensureDeferred
async def test_pipelinedForTwoOwners(mayMove: bool) -> None:
    """Requests for sessions of both workers, all in one segment, are answered in order."""
    async with joinedTwo(mayMove=mayMove) as two:
        sids = [await two.open(1), await two.open(2)]
        wire = await two.connect(1)
        requests, wanted = [], []
        for number in range(3):
            for name, sid in zip("ab", sids, strict=True):
                requests += [post(sid, f"4{name}{number}"), get(sid)]
                wanted += [b"ok", f"4{name}{number}".encode()]
        wire.send(b"".join(requests))
        assert [summary(await wire.response()) for _ in wanted] == [(200, each) for each in wanted]
        assert not wire.received
        # It moves twice, if nothing of an earlier response waits to be sent just then.
        assert sum(each.moved for each in two.workers) <= (2 if mayMove else 0)


@pytest_twisted.ensureDeferred
async def test_thirdMove() -> None:
    """A connection that has moved twice stays, and its requests are relayed; only an upgrade moves it once more."""
    async with joinedTwo() as two:
        sids = [await two.open(1), await two.open(2)]
        wire = await two.connect(1)
        for number in range(6):
            assert summary(await ask(wire, post(sids[number % 2], "4x"))) == (200, b"ok")
        # To 2, back to 1, and from there every other request is relayed.
        assert two.counts == ([1, 1], [2, 0])
        wire.send(upgrade(target(transport="websocket", sid=sids[1])) + makeFrame("2probe"))
        assert (await wire.response()).status == 101
        assert await wire.text() == "3probe"
        assert two.counts == ([2, 1], [2, 0])


@overEachMode
@pytest_twisted.ensureDeferred
async def test_expectsContinue(mayMove: bool) -> None:
    """A client that waits for leave to send its body gets that once, from whoever has the connection."""
    async with joinedTwo(mayMove=mayMove) as two:
        sid = await two.open(1)
        wire = await two.connect(2)
        request = post(sid, "4body", headers=[("Expect", "100-continue")])
        head, body = request[:-5], request[-5:]
        assert body == b"4body"
        wire.send(head)
        await wire.until(lambda: wire.received.endswith(b"\r\n\r\n"), "leave to send the body")
        assert bytes(wire.received) == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.received.clear()
        wire.send(body)
        assert summary(await wire.response()) == (200, b"ok")
        assert (await ask(wire, get(sid))).packets == ["4body"]


@overEachMode
@pytest_twisted.ensureDeferred
async def test_oldHTTP(mayMove: bool) -> None:
    """A client of HTTP/1.0 is answered, and the connection closed."""
    async with joinedTwo(mayMove=mayMove) as two:
        sid = await two.open(1)
        wire = await two.connect(2)
        assert summary(await ask(wire, post(sid, "4old", version="1.0"))) == (200, b"ok")
        assert await wire.lost() == b""
        wire = await two.connect(2)
        assert summary(await ask(wire, get(sid, version="1.0"))) == (200, b"4old")
        assert await wire.lost() == b""


@overEachMode
@overEachKind
@pytest_twisted.ensureDeferred
async def test_upgrade(unix: bool, mayMove: bool) -> None:
    """A WebSocket that comes to the other worker, with its probe in the same segment, takes over what waits."""
    async with joinedTwo(unix, mayMove) as two:
        sid = await two.open(1)
        (session,) = two.workers[0].sockets
        wire = await two.connect(2)
        wire.send(upgrade(target(transport="websocket", sid=sid)) + makeFrame("2probe"))
        assert (await wire.response()).status == 101
        assert await wire.text() == "3probe"
        session.send("waited")
        wire.send(makeFrame("5") + makeFrame("4sent") + makeFrame(b"\x00\xff"))
        assert [(await wire.frame()).payload for _ in range(3)] == [b"4waited", b"4sent", b"\x00\xff"]
        assert session.transport.name == "websocket"
        assert two.counts == (([0, 1], [0, 0]) if mayMove else ([0, 0], [0, 1]))
        assert two.workers[1].cluster.front.webSockets == (0 if mayMove else 1)
        wire.drop(abort=False)
        await eventually(lambda: two.workers[0].closes, "the end of the session")
        assert two.workers[0].closes == ["transport close"]


@overEachMode
@pytest_twisted.ensureDeferred
async def test_secondGet(mayMove: bool) -> None:
    """Two GETs at once, by the owner and by the other worker, end the session as they do in one process."""
    async with joinedTwo(mayMove=mayMove) as two:
        sid = await two.open(1)
        first, second = await two.connect(2), await two.connect(1)
        first.send(get(sid))
        await eventually(lambda: two.workers[0].sockets[0].transport.writable, "the poll")
        assert (await ask(second, get(sid))).status == 400
        assert summary(await first.response()) == (200, b"1")
        assert two.workers[0].closes == ["transport error"]


@overEachMode
@pytest_twisted.ensureDeferred
async def test_droppedPoll(mayMove: bool) -> None:
    """A client that drops its poll at the other worker has left."""
    async with joinedTwo(mayMove=mayMove) as two:
        sid = await two.open(1)
        wire = await two.connect(2)
        wire.send(get(sid))
        await eventually(lambda: two.workers[0].sockets[0].transport.writable, "the poll")
        wire.drop()
        await eventually(lambda: two.workers[0].closes, "the end of the session")
        assert two.workers[0].closes == ["transport error"]


@pytest.mark.parametrize("sid", ["3-AAAA", "1-AAAA", "2-AAAA", "01-AAAA", "x", "99999999999-A"])
@pytest_twisted.ensureDeferred
async def test_unknownIds(sid: str) -> None:
    """An id that nobody knows is refused as in one process, and the connection is as good as before."""
    async with joinedTwo() as two:
        known = await two.open(1)
        wire = await two.connect(2)
        for request in (get(sid), post(sid, "4x")):
            response = await ask(wire, request)
            assert (response.status, response.json) == (400, {"code": 1, "message": "Session ID unknown"})
        assert summary(await ask(wire, post(known, "4x"))) == (200, b"ok")


@pytest_twisted.ensureDeferred
async def test_ownerIsGone() -> None:
    """A connection that can't be given to its owner any more is served where it is: its session is unknown."""
    from twisted.internet import reactor

    watching: Any = reactor
    async with joinedTwo() as two:
        sid = await two.open(1)
        connection = two.neighbours[1].connection
        # As if the owner died in the turn in which the request comes.
        watching.removeReader(connection)
        two.neighbours[0].lose()
        wire = await two.connect(2)
        wire.send(get(sid))
        await eventually(lambda: two.workers[1].moved, "the move")
        watching.addReader(connection)
        assert (await wire.response()).json["code"] == 1
        assert two.workers[1].cluster.neighbours == {}
        assert (await ask(wire, get(sid))).json["code"] == 1
        await two.open(2, wire)


@pytest_twisted.ensureDeferred
async def test_fullQueue() -> None:
    """More connections for a busy worker than the system takes at once wait, and all are served."""
    from twisted.internet import reactor

    watching: Any = reactor
    async with joinedTwo() as two:
        sid = await two.open(1)
        connection = two.neighbours[0].connection
        watching.removeReader(connection)
        wires = [await two.connect(2) for _ in range(320)]
        for number, wire in enumerate(wires):
            wire.send(post(sid, f"4{number}"))
        await eventually(lambda: two.workers[1].moved == len(wires), "all of the moves")
        queued = two.neighbours[1].connection.queued
        watching.addReader(connection)
        assert 0 < queued < len(wires)
        for wire in wires:
            assert summary(await wire.response()) == (200, b"ok")
        packets = (await ask(wires[0], get(sid))).packets
        assert sorted(packets, key=lambda each: int(each[1:])) == [f"4{number}" for number in range(len(wires))]


@pytest.mark.apart
@pytest_twisted.ensureDeferred
async def test_manyMoves() -> None:
    """After 2000 moves both ways there are as many descriptors as before."""
    async with joinedTwo() as two:
        sids = [await two.open(1), await two.open(2)]
        before = openDescriptors()
        for _ in range(1000):
            wire = await connectTo(two._places[0])
            assert (await ask(wire, post(sids[1], "4x"))).body == b"ok"
            assert (await ask(wire, post(sids[0], "4x"))).body == b"ok"
            wire.drop()
        await eventually(lambda: openDescriptors() == before, "the end of the connections")
        assert two.counts == ([1000, 1000], [0, 0])


@pytest.mark.apart
@pytest_twisted.ensureDeferred
async def test_manyRelays() -> None:
    """2000 requests are relayed on one link, and then there are as many descriptors as before."""
    async with joinedTwo(mayMove=False) as two:
        sid = await two.open(1)
        wire = await two.connect(2)
        assert (await ask(wire, post(sid, "4x"))).body == b"ok"
        before = openDescriptors()
        for _ in range(2000):
            assert (await ask(wire, post(sid, "4x"))).body == b"ok"
        assert openDescriptors() == before
        assert two.counts == ([0, 0], [0, 2001])
