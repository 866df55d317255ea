"""`MemoryCluster`: several workers in memory, that live, stall, die and are replaced."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import pytest

from engineio_twisted import OptionError
from engineio_twisted.testing import HandshakeRefused, MemoryClient, MemoryCluster, MemoryServer
from engineio_twisted.testing.cluster import MemoryWorker
from engineio_twisted.testing.links import IN_FLIGHT, MAX_QUEUED, Links, MemoryLink, Message, Messages
from engineio_twisted.workers.handover import MAX_MOVING

MODES = ("move", "relay")


def echo(server: Any) -> None:
    """Send back each message, with the number of the worker before text."""

    @server.on("connection")
    def connected(socket: Any) -> None:
        number = server.workers.number
        socket.on("message", lambda data: socket.send(f"{number}: {data}" if isinstance(data, str) else data) and None)


def moved(kit: MemoryCluster) -> list[int]:
    """How many connections each worker has given to others."""
    return [each.cluster.moved for each in kit.workers.values()]


def relayed(kit: MemoryCluster) -> list[int]:
    """How many requests each worker has had others answer."""
    return [each.cluster.front.relayed for each in kit.workers.values()]


def asksFor(kit: MemoryCluster, sid: str) -> MemoryClient:
    """Have a client that comes in at the first worker ask for a session of the second one."""
    return kit.connect(worker=1, upgrade=False, wait=False, query={"sid": sid})


def statuses(clients: list[MemoryClient]) -> list[int | None]:
    """The statuses with which clients were refused."""
    return [None if each.refused is None else each.refused.status for each in clients]


@pytest.mark.parametrize("kind", [MemoryCluster, MemoryWorker, MemoryLink, Links, Message, Messages])
def test_whatIsThereIsDescribed(kind: type) -> None:
    """Each public method of the kit says what it does."""
    methods = {name: each for name, each in vars(kind).items() if callable(each) and not name.startswith("_")}
    assert [name for name, each in methods.items() if not each.__doc__] == []


def test_workers() -> None:
    """Each calls the application; a session is at the worker that its client came to, by default each in turn."""
    servers: list[Any] = []
    with MemoryCluster(servers.append, workers=3, idPrefix="w.") as kit:
        assert [each.server for each in kit.workers.values()] == servers
        assert [each.workers.number for each in servers] == [1, 2, 3]
        assert [(each.number, each.slot, repr(each)) for each in kit.workers.values()][2] == (3, 2, "<worker 3>")
        clients = [kit.connect(upgrade=False) for _ in range(3)]
        assert [each.sid[:4] for each in clients if each.sid] == ["w.1-", "w.2-", "w.3-"]
        assert [each.socket.server for each in clients] == servers
        assert [*kit.sockets] == [each.sid for each in clients]
        assert kit.request("GET", "/elsewhere", worker=2).status == 404
        stats: list[Any] = []
        servers[1].workers.stats().addCallback(stats.append)
        assert [(slot, each.opened) for slot, each in stats[0].items()] == [(0, 1), (1, 1), (2, 1)]


@pytest.mark.parametrize("mode", MODES)
def test_whereAClientComesIn(mode: str) -> None:
    """At a number, or where a function says; wherever it is, the session is served, and the client can't tell."""
    with MemoryCluster(echo, workers=3, mode=mode) as kit:
        client = kit.connect(worker=2, upgrade=False)
        client.at = 3
        client.send("a")
        client.upgrade()
        kit.advance(0.1)
        client.at = cycle([1, 3]).__next__
        client.send("b")
        assert client.transport == "websocket"
        assert client.received == ["2: a", "2: b"]
        # The POST, the WebSocket.
        assert (moved(kit), relayed(kit)) == (([0, 0, 2], [0, 0, 0]) if mode == "move" else ([0, 0, 0], [0, 0, 2]))


def test_whatIsNotThere() -> None:
    """A worker that never was, another mode, an option that is none."""
    with MemoryCluster(echo) as kit:
        for call in (kit.kill, kit.stall, kit.resume):
            with pytest.raises(ValueError, match=r"worker 7: expected one of \[1, 2\]"):
                call(7)
        with pytest.raises(ValueError, match=r"worker 0: expected one of \[1, 2\]"):
            kit.connect(worker=0)
        with pytest.raises(ValueError, match="pieces of 0 bytes"):
            kit.links.split(0)
    with pytest.raises(ValueError, match="mode 'shout': expected move or relay"):
        MemoryCluster(echo, mode="shout")
    with pytest.raises(OptionError, match="workers"):
        MemoryCluster(echo, workers=0)
    with pytest.raises(OptionError, match="idPrefix"):
        MemoryCluster(echo, idPrefix="x" * 22)
    with MemoryServer(lambda server: None) as single, pytest.raises(ValueError, match="as there is one process"):
        single.connect(worker=1)


@pytest.mark.parametrize("mode", MODES)
def test_aWorkerThatDies(mode: str) -> None:
    """Its connections are cut, its sessions are unknown from then on, and another one takes its slot."""
    with MemoryCluster(echo, mode=mode) as kit:
        here, there, far = (
            kit.connect(worker=1),
            kit.connect(worker=2, upgrade=False),
            kit.connect("websocket", worker=2),
        )
        far.at = there.at = 1
        there.send("a")
        assert kit.kill(2) == 3
        assert [each.closed is None for each in (here, there, far)] == [True, False, False]
        assert kit.request("GET", f"/engine.io/?EIO=4&transport=polling&sid={there.sid}", worker=1).status == 400
        assert [*kit.workers] == [1, 3]
        assert kit.workers[3].slot == 1
        here.send("b")
        assert here.received == ["1: b"]
        # The number of one that is gone is no place; the others take turns.
        after = [kit.connect(worker=2, upgrade=False) for _ in range(2)]
        assert sorted(each.sid[:2] for each in after if each.sid) == ["1-", "3-"]
        assert kit.kill(1, restart=False) is None
        assert [*kit.workers] == [3]


def test_timersOfAWorkerThatDies() -> None:
    """Are gone with it; those of others run."""
    ticks: list[int] = []

    def application(server: Any) -> None:
        server.reactor.callLater(10, lambda: ticks.append(server.workers.number))

    with MemoryCluster(application) as kit:
        kit.kill(1)
        kit.advance(11)
        assert ticks == [2, 3]


def test_aWorkerThatStandsStill() -> None:
    """Reads nothing until it goes on; connections that move to it wait, and beyond what fits requests are relayed."""
    with MemoryCluster(echo, pingInterval=10**6) as kit:
        client = kit.connect("websocket", worker=2)
        poll = kit.connect(worker=2, upgrade=False)
        kit.stall(2)
        client.send("a")
        poll.at = 1
        poll.send("b")
        kit.advance(30)
        assert client.received == poll.received == []
        kit.resume(2)
        assert (client.received, poll.received) == (["2: a"], ["2: b"])
        kit.stall(2)
        count = IN_FLIGHT + MAX_QUEUED
        asked = [asksFor(kit, "2-x") for _ in range(count + 9)]
        assert moved(kit)[0] == 1 + IN_FLIGHT + MAX_MOVING
        assert relayed(kit)[0] == MAX_QUEUED - MAX_MOVING
        # Nothing more fits.
        assert statuses(asked) == [None] * count + [503] * 9
        kit.resume(2)
        assert statuses(asked) == [400] * count + [503] * 9


def test_aWorkerThatStandsStillAndDies() -> None:
    """What it had not read is lost with it; what waits to be sent to it comes back, and is answered."""
    with MemoryCluster(echo, pingInterval=10**6) as kit:
        kit.stall(2)
        asked = [asksFor(kit, "2-x") for _ in range(IN_FLIGHT + 9)]
        kit.kill(2)
        # 0: the connection was cut.
        assert statuses(asked) == [0] * IN_FLIGHT + [400] * 9


@pytest.mark.parametrize("mode", MODES)
def test_reloading(mode: str) -> None:
    """New workers with new numbers serve, with new settings; sessions of the old ones end, and nothing is refused."""
    with MemoryCluster(echo, mode=mode, pingInterval=5000) as kit:
        before = [kit.connect(worker=1), kit.connect(worker=2, upgrade=False)]
        reasons: list[Any] = []
        for each in before:
            each.socket.on("close", lambda reason, _: reasons.append(reason))
        assert kit.reload(pingInterval=7000) == [3, 4]
        kit.advance(40)
        assert reasons == ["server shutting down"] * 2
        assert [*kit.workers] == [3, 4]
        assert all(each.closed is not None for each in before)
        client = kit.connect(worker=1, upgrade=False)
        assert client.handshake["pingInterval"] == 7000
        client.send("a")
        assert client.received[0] in ("3: a", "4: a")


def test_aReloadThatFails() -> None:
    """Leaves all as it was."""
    isBroken = False

    def application(server: Any) -> None:
        if isBroken:
            raise KeyError("broken")
        echo(server)

    with MemoryCluster(application) as kit:
        client = kit.connect(worker=1)
        with pytest.raises(OptionError):
            kit.reload(pingInterval=-1)
        isBroken = True
        with pytest.raises(KeyError):
            kit.reload(pingInterval=7000)
        client.send("a")
        assert (client.received, [*kit.workers]) == (["1: a"], [1, 2])
        isBroken = False
        assert kit.kill(2) == 5
        assert kit.connect(worker=5).handshake["pingInterval"] == 25000


@pytest.mark.parametrize("mode", MODES)
def test_linksThatAreSlow(mode: str) -> None:
    """Delay what passes between workers, hold it, or bring it in pieces; nothing is lost."""
    with MemoryCluster(echo, mode=mode) as kit:
        kit.links.delay(1)
        kit.links.split(1)
        client = kit.connect(worker=2, upgrade=False)
        client.at = 1
        client.send("a")
        assert client.received == []
        kit.advance(2)
        assert client.received == ["2: a"]
        kit.links.pause()
        other = kit.connect(worker=2, upgrade=False)
        other.at = 1
        other.send("b")
        kit.advance(20)
        assert other.received == []
        kit.links.resume()
        kit.advance(2)
        assert other.received == ["2: b"]


def test_linksThatAreLost() -> None:
    """A request that was relayed may have been served: its connection is cut, and there is no second try."""
    with MemoryCluster(echo, mode="relay") as kit:
        client = kit.connect(worker=2, upgrade=False)
        # Each two workers have one for what they say to each other.
        before = kit.links.open
        assert len(before) == 1
        kit.links.pause()
        asked = asksFor(kit, client.sid or "")
        assert len(kit.links.open) == 2
        kit.links.drop()
        assert statuses([asked]) == [0]
        kit.links.resume()
        assert not {*before} & {*kit.links.open}
        client.send("a")
        assert client.received == ["2: a"]


def test_theFixture(engineio: Any) -> None:
    """Makes a cluster if it is told how many workers there are."""
    kit = engineio(echo, workers=2, pingInterval=300)
    client = kit.connect(worker=2)
    client.send("a")
    assert client.receive() == "2: a"
    with pytest.raises(HandshakeRefused):
        kit.connect(query={"sid": "1-x"}, worker=2)
