"""What clients, applications and other workers do that they should not, where several workers serve."""

from __future__ import annotations

from typing import Any

import pytest

from engineio_twisted.testing import MemoryCluster

from ..kit.relays import Pair
from ..kit.wire import makeFrame
from ..kit.workers import POLLING, SID, RawClient, application, onOne, opening, openSession, request, socketOf

MODES = ("move", "relay")
GET = request("GET", POLLING)
UPGRADE = request(
    "GET",
    "EIO=4&transport=websocket&sid=SID",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: ZW5naW5laW9fdHdpc3RlZA==",
    "Sec-WebSocket-Version: 13",
)


BODIES = {
    "PUT": ("PUT", POLLING),
    "GET": ("GET", POLLING),
    "OPTIONS": ("OPTIONS", POLLING),
    "another transport": ("POST", POLLING.replace("polling", "websocket")),
    "an unknown transport": ("POST", POLLING.replace("polling", "tube")),
    "another revision": ("POST", POLLING.replace("EIO=4", "EIO=3")),
}


@pytest.mark.parametrize("isLost", [False, True], ids=["too large", "lost"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", BODIES)
def test_bodiesThatAreForNoSession(name: str, mode: str, isLost: bool) -> None:
    """A body of a request that no session serves, too large or dropped: the session goes on, as with one process."""
    method, query = BODIES[name]
    told: list[Any] = []
    with MemoryCluster(application, mode=mode, maxHttpBufferSize=1000) as kit, onOne(maxHttpBufferSize=1000) as single:
        for each, right, wrong in ((single, None, None), (kit, 1, 2)):
            sid, _ = openSession(each, right, "EIO=4&transport=polling")
            socket = socketOf(each, sid)
            client = RawClient(each, wrong)
            head = request(method, query, f"Content-Length: {50 if isLost else 5000}")
            client.say(head.replace(SID, sid) + b"4" * 20)
            if isLost:
                client.connection.lose()
            each.settle()
            told.append(str(socket.readyState))
            socket.close(discard=True)
        assert told[0] == told[1] == "open"


@pytest.mark.parametrize("mode", MODES)
def test_requestsThatOpenNoSession(mode: str) -> None:
    """Requests without an id that are refused take no room from the sessions that C{maxSessions} lets all have."""
    with MemoryCluster(application, workers=3, mode=mode, maxSessions=6) as kit:
        for _ in range(6):
            for place in (2, 3):
                RawClient(kit, place).say(opening("EIO=4&transport=tube"))
            client = RawClient(kit, 1)
            client.say(opening())
            assert client.taken().startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", ["close", "drain"])
def test_applicationThatClosesItsServer(how: str, mode: str) -> None:
    """A worker whose application has closed its server gets no sessions any more: the others serve them all."""
    with MemoryCluster(application, workers=3, mode=mode) as kit:
        for worker in (2, 3):
            for _ in range(8):
                openSession(kit, worker, "EIO=4&transport=polling")
        getattr(kit.workers[1].server, how)()
        kit.settle()
        for place in [2, 3] * 10:
            client = RawClient(kit, place)
            client.say(opening())
            assert client.taken().startswith(b"HTTP/1.1 200"), place


def test_handshakeUnderWayToAWorkerThatDrains() -> None:
    """A handshake that is on its way when a worker begins to drain is served by another that is ready."""
    with MemoryCluster(application, workers=3) as kit:
        for worker in (1, 3):
            for _ in range(12):
                openSession(kit, worker, "EIO=4&transport=polling")
        for each in [*kit.workers[2].server.clients.values()]:
            each.close(discard=True)
        kit.links.delay(1)
        client = RawClient(kit, 1)
        client.say(opening())
        assert kit._page.passedTo(kit.workers[2].row) == kit.workers[2].row.received + 1
        kit.workers[2].server.drain()
        for _ in range(10):
            kit.advance(1)
        assert client.taken().startswith(b"HTTP/1.1 200")


def test_clientOfARelayedWebSocketThatNeverReads() -> None:
    """It is cut at the front, though that notices of the link to the owner as little as the client reads."""
    pair = Pair(maxHttpBufferSize=10**6, pingInterval=1000, pingTimeout=1000)
    sid = pair.open()
    client = pair.connect(UPGRADE.replace(SID, sid.encode()) + makeFrame("2probe"))
    pair.send(client, makeFrame("5"))
    client.connection.toClient.isHeld = True
    for _ in range(100):
        if pair.socket.readyState == "open":
            pair.socket.send("y" * 20_000)
        pair.settle()
    pair.advance(10)
    assert pair.socket.readyState == "closed"
    pair.advance(120)
    # It would hear of it if it read.
    assert client.connection.end.disconnected
    assert pair.frontCluster.front.webSockets == 0
    assert pair.leftovers() == []


def test_slowReaderOfAWorkerThatEnds() -> None:
    """A relayed response that its owner has written is read to its end, though the owner has ended meanwhile."""
    pair = Pair()
    sid = pair.open()
    client = pair.connect()
    client.connection.toClient.isHeld = True
    pair.socket.send("z" * 200_000)
    pair.send(client, GET.replace(SID, sid.encode()))
    ((_ours, theirs),) = pair.links
    assert not theirs.unsent
    theirs.loseConnection()
    pair.frontCluster.neighbourLost(pair.neighbour)
    pair.settle()
    client.connection.toClient.isHeld = False
    pair.network.wake(client.connection)
    pair.advance(1)
    assert client.received.endswith(b"z" * 200_000)
    assert pair.leftovers() == []


@pytest.mark.parametrize("mode", MODES)
def test_deadWorkerWhoseSocketsStayOpen(mode: str) -> None:
    """
    A program that the application has started by a fork keeps all that its worker had open, when that is killed.

    Its ids are unknown from then on, as the parent has noted that it is gone, and what waits for it is cut.
    """
    with MemoryCluster(application, mode=mode, pingInterval=10**6) as kit:
        sid, _ = openSession(kit, 2, "EIO=4&transport=polling")
        kit.stall(2)
        waiting = RawClient(kit, 1)
        if mode == "relay":
            waiting.say(GET.replace(SID, sid))
        kit.workers[2].row.clear()
        client = RawClient(kit, 1)
        client.say(GET.replace(SID, sid))
        assert client.taken().startswith(b"HTTP/1.1 400 ")
        kit.advance(1)
        kit.advance(1)
        assert waiting.isOver == (mode == "relay")
        assert not kit.workers[1].cluster.neighbours
        kit.kill(2)
        assert [*kit.workers[1].cluster.neighbours] == [3]
