"""Sessions whose requests come to any of several workers: what their clients and applications notice is nothing."""

from __future__ import annotations

from collections import Counter
from itertools import cycle
from typing import Any

import pytest

from engineio_twisted.testing import MemoryCluster

from ..kit.workers import (
    POLLING,
    RawClient,
    application,
    assertIdle,
    onOne,
    openSession,
    pairs,
    play,
    request,
    socketOf,
)

MODES = ("move", "relay")
GET = request("GET", POLLING)


def counting(server: Any) -> None:
    """Answer each message with the number of the worker, and tell all others."""

    @server.on("connection")
    def connected(socket: Any) -> None:
        socket.on("message", lambda data: server.broadcast(f"{server.workers.number}: {data}") and None)


def asked(kit: MemoryCluster) -> int:
    """How often a worker has had another one answer."""
    return sum(each.cluster.moved + each.cluster.front.relayed for each in kit.workers.values())


@pytest.mark.parametrize("mode", MODES)
def test_pings(mode: str) -> None:
    """Ten rounds of polls and pongs over three workers; then the server closes the session."""
    with MemoryCluster(application, workers=3, mode=mode, pingInterval=1000, pingTimeout=500) as kit:
        clients = [kit.connect(worker=1, upgrade=False) for _ in range(3)]
        for client in clients:
            client.at = cycle([2, 3, 1]).__next__
        for _ in range(10):
            kit.advance(1)
            for client in clients:
                # The next GET and POST come on new connections.
                client.drop("post")
        assert all(each.closed is None for each in clients)
        reasons: list[Any] = []
        clients[0].socket.on("close", lambda reason, description: reasons.append((reason, description)))
        clients[0].socket.close()
        clients[1].close()
        clients[2].drop("poll")
        kit.settle()
        assert [reason for reason, _ in reasons] == ["forced close"]
        ends = [each.closed and each.closed.reason for each in clients]
        assert ends == ["transport close", "forced close", "transport error"]
        assertIdle(kit)


@pytest.mark.parametrize("mode", MODES)
def test_thePollIsDropped(mode: str) -> None:
    """The poll of a session, at another worker, is lost: the session ends at once, as it does with one process."""
    with MemoryCluster(application, workers=2, mode=mode) as kit, onOne() as single:
        for each, right, wrong in ((single, None, None), (kit, 1, 2), (kit, 2, 1)):
            sid, _ = openSession(each, right, "EIO=4&transport=polling")
            reasons: list[Any] = []
            socketOf(each, sid).on("close", lambda reason, text, to=reasons: to.append((reason, text)))
            client = RawClient(each, wrong)
            client.say(GET.replace(b"SID", sid))
            assert reasons == []
            client.connection.lose()
            each.settle()
            assert [reason for reason, _ in reasons] == ["transport error"]
        assertIdle(kit)


@pytest.mark.parametrize("mode", MODES)
def test_aBodyThatIsDropped(mode: str) -> None:
    """The connection of a POST at another worker is lost before its body is complete: the session ends as ever."""
    ends: list[Any] = []
    with MemoryCluster(application, workers=2, mode=mode) as kit, onOne() as single:
        for each, right, wrong in ((single, None, None), (kit, 1, 2), (kit, 2, 1)):
            sid, _ = openSession(each, right, "EIO=4&transport=polling")
            socketOf(each, sid).on("close", lambda reason, text: ends.append((reason, text)))
            client = RawClient(each, wrong)
            client.say(request("POST", POLLING, body=b"4" + b"x" * 99).replace(b"SID", sid)[:-50])
            client.connection.lose()
            each.settle()
        assert len(ends) == 3
        assert len(set(ends)) == 1
        assertIdle(kit)


@pytest.mark.parametrize("mode", MODES)
def test_aReturnToAnotherWorker(mode: str) -> None:
    """A client comes back by whichever worker; a body of an earlier attempt that is lost there harms nothing."""
    with MemoryCluster(application, workers=3, mode=mode, resumeTimeout=60_000) as kit:
        sid, _ = openSession(kit, 2, "EIO=4&transport=polling&resume=1000.9000000")
        happened: list[str] = []
        for event in ("suspend", "resume", "close"):
            socketOf(kit, sid).on(event, lambda *_, event=event: happened.append(event))
        late = RawClient(kit, 1)
        late.say(request("POST", POLLING, body=b"4late").replace(b"SID", sid)[:-2])
        socketOf(kit, sid).send("hello")
        back = RawClient(kit, 3)
        back.say(request("GET", POLLING + "&attempt=1&received=0").replace(b"SID", sid))
        assert b'"received":0}}' in back.taken()
        assert happened == ["suspend", "resume"]
        late.connection.lose()
        kit.settle()
        back.say(request("POST", POLLING + "&attempt=1", body=b"4on time").replace(b"SID", sid))
        assert back.taken().endswith(b"\r\n\r\nok")
        assert happened == ["suspend", "resume"]
        back.say(request("GET", POLLING + "&attempt=1").replace(b"SID", sid))
        assert b"4hello" in back.taken()
        back.connection.lose()
        kit.settle()


@pytest.mark.parametrize("mode", MODES)
def test_postsOfThreeWorkers(mode: str) -> None:
    """POSTs that come by three workers, one after the other, are received in order; so is what waits elsewhere."""
    with MemoryCluster(application, workers=3, mode=mode) as kit:
        sid, _ = openSession(kit, 2, "EIO=4&transport=polling")
        poll = RawClient(kit, 3)
        poll.say(GET.replace(b"SID", sid))
        clients = [RawClient(kit, each) for each in (1, 2, 3)]
        for number, client in zip(range(30), cycle(clients), strict=False):
            client.say(request("POST", POLLING, body=b"4%d" % number).replace(b"SID", sid))
            assert client.taken().endswith(b"ok")
        poll.say(GET.replace(b"SID", sid))
        bodies = [each.rpartition(b"\r\n\r\n")[2] for each in poll.taken().split(b"HTTP/1.1 ")[1:]]
        assert b"\x1e".join(bodies) == b"\x1e".join(b"4%d" % number for number in range(30))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cut", range(1, 150, 7))
def test_pipelinedForTwoOwners(mode: str, cut: int) -> None:
    """Requests for two owners, one behind the other on a connection of a third worker, are answered in order."""
    with MemoryCluster(application, workers=3, mode=mode) as kit:
        sids = [openSession(kit, each, "EIO=4&transport=polling")[0] for each in (1, 2)]
        said = b"".join(
            request("POST", POLLING, body=b"4%d" % number).replace(b"SID", sids[number % 2]) for number in range(6)
        )
        client = RawClient(kit, 3)
        client.say(*[said[at : at + cut] for at in range(0, len(said), cut)])
        assert client.taken().count(b"\r\n\r\nok") == 6
        for index, sid in enumerate(sids):
            client.say(GET.replace(b"SID", sid))
            got = b"\x1e".join(b"4%d" % number for number in range(6) if number % 2 == index)
            assert client.taken().endswith(got)


def test_aConnectionThatMixesSessions() -> None:
    """It moves twice; then further requests are relayed, and only an upgrade, which pays at once, moves it again."""
    with MemoryCluster(application, workers=2, pingInterval=10**6) as kit:
        sids = [openSession(kit, each, "EIO=4&transport=polling")[0] for each in (1, 2)]
        client = RawClient(kit, 1)
        for count in range(1, 9):
            client.say(request("POST", POLLING, body=b"4a").replace(b"SID", sids[count % 2]))
            assert client.taken().endswith(b"ok")
        first, second = kit.workers.values()
        # To the second worker, to the first one, and there it stays.
        assert (first.cluster.moved, second.cluster.moved) == (1, 1)
        assert (first.cluster.front.relayed, second.cluster.front.relayed) == (3, 0)
        headers = "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: ZW5naW5laW9fdHdpc3RlZA=="
        query = "EIO=4&transport=websocket&sid=SID"
        client.say(request("GET", query, *headers, "Sec-WebSocket-Version: 13").replace(b"SID", sids[1]))
        assert client.taken().startswith(b"HTTP/1.1 101 ")
        assert (first.cluster.moved, first.cluster.front.relayed) == (2, 3)


@pytest.mark.parametrize("mode", MODES)
def test_idsOfNobody(mode: str) -> None:
    """Another worker is asked if its number is there, and only then; the answer is 400 with code 1 in each case."""
    with MemoryCluster(application, workers=2, mode=mode) as kit:
        dead = kit.connect(worker=2, upgrade=False).sid
        kit.kill(2)
        kit.connect(worker=1, upgrade=False)
        for sid in (dead, "2-x", "999-x", "007-x", "0-x", "x", "1-", "-", "9" * 30 + "-x", "%33", "1-forged"):
            answer = kit.request("GET", f"/engine.io/?EIO=4&transport=polling&sid={sid}", worker=1)
            assert (answer.status, answer.text) == (400, '{"code":1,"message":"Session ID unknown"}'), sid
        assert asked(kit) == 0
        answer = kit.request("GET", "/engine.io/?EIO=4&transport=polling&sid=3-forged", worker=1)
        assert (answer.status, answer.text) == (400, '{"code":1,"message":"Session ID unknown"}')
        assert asked(kit) == 1


@pytest.mark.parametrize(("delay", "size"), [(0.3, None), (0.0, 1), (0.05, 7)])
@pytest.mark.parametrize("mode", MODES)
def test_linksThatAreLate(mode: str, delay: float, size: int | None) -> None:
    """What comes late between workers, or in pieces, comes whole and in order, on polling and on WebSocket."""
    with MemoryCluster(application, workers=3, mode=mode, pingInterval=10**6) as kit:
        kit.links.delay(delay)
        kit.links.split(size)
        for right, wrong in pairs(kit):
            for upgrade in (False, True):
                client = kit.connect(worker=cycle([right, wrong]).__next__, upgrade=upgrade)
                kit.advance(3)
                assert client.transport == ("websocket" if upgrade else "polling")
                sent = [f"{number} {'x' * number}" for number in range(30)]
                for each in sent:
                    client.send(each)
                client.send(b"\x00\xff" * 300)
                kit.advance(40)
                assert client.received == [*sent, b"\x00\xff" * 300]
                client.close()
                kit.advance(3)
        assertIdle(kit)


def test_aSlowReader() -> None:
    """A client that doesn't read a relayed WebSocket: little is hidden from its session, and nothing is lost."""
    with MemoryCluster(application, workers=2, mode="relay", pingInterval=10**6) as kit:
        client = kit.connect(worker=cycle([1, 2]).__next__)
        kit.advance(1)
        assert client.transport == "websocket"
        client.pauseReading()
        for _ in range(100):
            client.socket.send("x" * 10_000)
            kit.settle()
        hidden = 10**6 - client.socket.bufferedAmount
        assert hidden < 4 * 65536 + 20_000
        client.resumeReading()
        assert client.received == ["x" * 10_000] * 100


@pytest.mark.parametrize("mode", MODES)
def test_theOwnerDies(mode: str) -> None:
    """Before a request, with one that waits, or with a WebSocket: 400, or the connection is cut. Others go on."""
    with MemoryCluster(application, workers=3, mode=mode, pingInterval=10**6) as kit:
        sid, _ = openSession(kit, 2, "EIO=4&transport=polling")
        waiting, after = RawClient(kit, 1), RawClient(kit, 3)
        waiting.say(GET.replace(b"SID", sid))
        upgraded = kit.connect(worker=cycle([2, 1]).__next__)
        other = kit.connect(worker=cycle([3, 1]).__next__, upgrade=False)
        kit.advance(1)
        kit.kill(2)
        assert waiting.isOver
        assert waiting.taken() == b""
        assert upgraded.closed is not None
        after.say(GET.replace(b"SID", sid))
        assert after.taken().startswith(b"HTTP/1.1 400 ")
        other.send("a")
        assert other.received == ["a"]
        assert kit.connect(worker=4).sid[:2] == "4-"  # type: ignore[index]


@pytest.mark.parametrize("mode", MODES)
def test_aRequestUnderWayToAWorkerThatDies(mode: str) -> None:
    """What was given to a worker that stands still and then dies is cut, and nobody waits."""
    with MemoryCluster(application, workers=2, mode=mode, pingInterval=10**6) as kit:
        sid, _ = openSession(kit, 2, "EIO=4&transport=polling")
        kit.stall(2)
        client = RawClient(kit, 1)
        client.say(GET.replace(b"SID", sid))
        assert not client.isOver
        kit.kill(2)
        assert (client.isOver, client.taken()) == (True, b"")
        assertIdle(kit)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("places", [[1], [1, 2, 3, 4], [2, 2, 2, 4]])
def test_sessionsAreSpread(mode: str, places: list[int]) -> None:
    """400 sessions, slowly or at once, all by one worker or by some: none has 15 % more or fewer than the mean."""
    with MemoryCluster(application, workers=4, mode=mode, pingInterval=10**6) as kit:
        for place, _ in zip(cycle(places), range(200), strict=False):
            kit.connect(worker=place, upgrade=False)
        opening = request("GET", "EIO=4&transport=polling")
        crowd = [RawClient(kit, place) for place, _ in zip(cycle(places), range(200), strict=False)]
        for each in crowd:
            each.connection.send(opening)
        kit.settle()
        counts = [each.server.clientsCount for each in kit.workers.values()]
        assert sum(counts) == 400
        assert max(counts) <= 115
        assert min(counts) >= 85


def test_allSessionsTogether() -> None:
    """maxSessions is the limit of all workers together."""
    with MemoryCluster(application, workers=3, maxSessions=10, pingInterval=10**6) as kit:
        statuses = Counter(
            kit.request("GET", "/engine.io/?EIO=4&transport=polling", worker=number % 3 + 1).status
            for number in range(15)
        )
        assert statuses == {200: 10, 503: 5}
        assert len(kit.sockets) == 10


@pytest.mark.parametrize("isSlow", [False, True])
def test_broadcasts(isSlow: bool) -> None:
    """From each worker to the sessions of all: once each, and in the order of each origin."""
    with MemoryCluster(counting, workers=3, pingInterval=10**6) as kit:
        if isSlow:
            kit.links.delay(0.1)
            kit.links.split(50)
        clients = [kit.connect("websocket", worker=each % 3 + 1) for each in range(6)]
        kit.advance(1)
        for number in range(50):
            for client in clients[:3]:
                client.send(str(number))
        kit.advance(5)
        for client in clients:
            for worker in (1, 2, 3):
                own = [each for each in client.received if str(each).startswith(f"{worker}: ")]
                assert own == [f"{worker}: {number}" for number in range(50)]


def test_oneSession() -> None:
    """From each worker one session of any is sent something and closed; the caller hears whether it was there."""
    with MemoryCluster(application, workers=3, pingInterval=10**6) as kit:
        outcomes: list[Any] = []
        for owner in kit.workers.values():
            for origin in kit.workers.values():
                client = kit.connect("websocket", worker=owner.number)
                sid = client.sid or ""
                origin.server.sendTo(sid, "hello").addCallback(outcomes.append)
                kit.settle()
                assert client.receive() == "hello"
                origin.server.closeSession(sid).addCallback(outcomes.append)
                kit.settle()
                assert client.closed is not None
                origin.server.sendTo(sid, "late").addCallback(outcomes.append)
                origin.server.closeSession("77-x").addCallback(outcomes.append)
                kit.settle()
                assert outcomes == [True, True, False, False]
                outcomes.clear()


@pytest.mark.parametrize("mode", MODES)
def test_manyMovesLeaveNothing(mode: str) -> None:
    """After some hundred requests at wrong workers no connection, descriptor, link or timer is left but idle links."""
    with MemoryCluster(application, workers=2, mode=mode, pingInterval=10**6) as kit:
        story = [("a", request("POST", POLLING, body=b"4a")), ("b", GET)]
        first = play(kit, story, 2, 1)
        before = [len(each.clock.calls) for each in kit._network.processes], len(kit.links.open)
        for _ in range(150):
            assert play(kit, story, 2, 1) == first
        assert ([len(each.clock.calls) for each in kit._network.processes], len(kit.links.open)) == before
        assertIdle(kit)


def test_idleConnectionsOfAWorkerThatIsReplaced() -> None:
    """A kept connection on which nothing is asked stays open when its worker ends: another worker has it."""
    with MemoryCluster(application, workers=2) as kit:
        clients = [RawClient(kit, worker) for worker in (1, 2)]
        for each in clients:
            each.say(request("GET", "EIO=4&transport=polling"))
            assert each.taken().startswith(b"HTTP/1.1 200 ")
        kit.reload()
        kit.advance(1)
        kit.advance(10)
        for each in clients:
            each.say(request("GET", "EIO=4&transport=polling"))
            assert each.taken().startswith(b"HTTP/1.1 200 ")
        assert {int(each.partition("-")[0]) for each in kit.sockets} <= {3, 4}
