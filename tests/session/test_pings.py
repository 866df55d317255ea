"""The heartbeat of one session: pings, pongs, their timeouts, in both revisions."""

from __future__ import annotations

import pytest

from engineio_twisted.protocol.packet import PacketType

from ..kit.sessions import Session, polling

pytestmark = pytest.mark.usefixtures("isServerHeard")


def test_pings() -> None:
    """One after pingInterval, the next one pingInterval after the pong."""
    session = Session(pingInterval=1000, pingTimeout=500)
    session.clock.advance(0.999)
    assert session.transport.sent == []
    session.clock.advance(0.001)
    assert session.transport.types() == [PacketType.PING]
    session.clock.advance(0.3)
    session.transport.receive(PacketType.PONG)
    assert session.names()[-1] == "heartbeat"
    session.clock.advance(0.999)
    assert len(session.transport.sent) == 1
    session.clock.advance(0.001)
    assert session.transport.types() == [PacketType.PING, PacketType.PING]
    assert len(session.clock.getDelayedCalls()) == 1


@pytest.mark.parametrize("name", ["polling", "websocket"])
def test_pingTimeout(name: str) -> None:
    """No pong within pingTimeout ends the session."""
    session = Session(name, pingInterval=1000, pingTimeout=500)
    session.clock.advance(1)
    session.clock.advance(0.499)
    assert session.socket.readyState == "open"
    session.clock.advance(0.001)
    assert session.closes == [("ping timeout", "no pong within pingTimeout, 500 ms")]
    assert session.isQuiet()


def test_unsolicitedPongs() -> None:
    """A pong that answers no ping is no heartbeat: it puts the next ping off by nothing."""
    session = Session(pingInterval=1000)
    session.clock.advance(0.9)
    for _ in range(1000):
        session.transport.receive(PacketType.PONG)
    assert "heartbeat" not in session.names()
    session.clock.advance(0.1)
    assert session.transport.types() == [PacketType.PING]


@pytest.mark.parametrize("name", ["polling", "websocket"])
def test_invalidHeartbeatDirection(name: str) -> None:
    """In revision 4 it is the server that pings."""
    session = Session(name)
    session.transport.receive(PacketType.PING)
    assert session.closes == [("transport error", "invalid heartbeat direction")]


def test_heartbeatGoesOnDuringAnUpgrade() -> None:
    """An upgrade that never ends doesn't keep a dead session alive."""
    session = polling(pingInterval=1000, pingTimeout=500, upgradeTimeout=60_000)
    session.candidate().receive(PacketType.PING, "probe")
    session.clock.pump([0.1] * 16)
    assert session.closes[0][0] == "ping timeout"
    assert session.isQuiet()


def test_heartbeatGoesOnAcrossAnUpgrade() -> None:
    """A ping sent on polling may be answered on WebSocket."""
    session = polling(pingInterval=1000, pingTimeout=500)
    session.clock.advance(1)
    session.transport.ready()
    assert session.transport.types() == [PacketType.PING]
    candidate = session.candidate()
    candidate.receive(PacketType.PING, "probe")
    candidate.receive(PacketType.UPGRADE)
    candidate.receive(PacketType.PONG)
    session.clock.advance(0.9)
    assert session.socket.readyState == "open"
    session.clock.advance(0.1)
    assert candidate.types()[-1] is PacketType.PING


@pytest.mark.parametrize("name", ["polling", "websocket"])
def test_revision3ClientsPing(name: str) -> None:
    """In revision 3 each ping is answered, and puts off the end by pingInterval and pingTimeout."""
    session = Session(name, protocol=3, pingInterval=1000, pingTimeout=500)
    for _ in range(3):
        session.clock.advance(1.499)
        session.transport.receive(PacketType.PING)
        if name == "polling":
            session.transport.ready()
        assert session.transport.types()[-1] is PacketType.PONG
    assert session.names().count("heartbeat") == 3
    assert PacketType.PING not in session.transport.types()
    session.clock.advance(1.499)
    assert session.socket.readyState == "open"
    session.clock.advance(0.001)
    assert session.closes == [("ping timeout", "no ping within pingInterval and pingTimeout, 1500 ms")]
    assert session.isQuiet()


@pytest.mark.parametrize("protocol", [3, 4])
def test_whoPostsAndNeverPolls(protocol: int) -> None:
    """A polling client that only says that it is there isn't: it has to fetch what it answers, or the answer."""
    session = Session("polling", protocol=protocol, pingInterval=1000, pingTimeout=500)
    for _ in range(100):
        session.clock.advance(0.1)
        session.transport.receive(PacketType.PING if protocol == 3 else PacketType.PONG)
        if session.closes:
            break
    assert session.closes[0][0] == "ping timeout"
    assert len([each for each in session.socket.writeBuffer if each.type is not PacketType.MESSAGE]) <= 1
    assert session.clock.seconds() < 2
    assert session.isQuiet()


def test_revision3HeartbeatDirection() -> None:
    """In revision 3 it is the client that pings."""
    session = Session(protocol=3)
    session.transport.receive(PacketType.PONG)
    assert session.closes == [("transport error", "invalid heartbeat direction")]


@pytest.mark.parametrize("event", ["packet", "packetCreate", "flush", "drain", "heartbeat"])
def test_revision3ClosingWithinAPing(event: str) -> None:
    """A handler that closes the session while a ping is answered finds it closed, and nothing comes after."""
    session = Session(protocol=3)
    session.socket.on(event, lambda *args: session.socket.close(discard=True))
    session.transport.receive(PacketType.PING)
    assert session.names()[-1] == "close"
    assert session.isQuiet()


def test_revision3HeartbeatAcrossAnUpgrade() -> None:
    """The client's pings count on either transport."""
    session = polling(protocol=3, pingInterval=1000, pingTimeout=500)
    candidate = session.candidate()
    candidate.receive(PacketType.PING, "probe")
    session.clock.advance(1)
    session.transport.receive(PacketType.PING)
    candidate.receive(PacketType.UPGRADE)
    assert candidate.types() == [PacketType.PONG, PacketType.PONG]
    session.clock.advance(1.4)
    candidate.receive(PacketType.PING)
    session.clock.advance(1.4)
    assert session.socket.readyState == "open"


@pytest.mark.parametrize(("pingInterval", "pingTimeout"), [(5000, 20000), (25000, 20000), (1000, 1000)])
def test_aPongAtAnyTime(pingInterval: int, pingTimeout: int) -> None:
    """The next ping comes pingInterval after a pong, however late that was; without one the session ends in time."""
    for late in (0.0, 0.4, 0.9, 0.99):
        session = Session(pingInterval=pingInterval, pingTimeout=pingTimeout)
        for _ in range(3):
            session.clock.advance(pingInterval / 1000)
            pings = session.transport.types().count(PacketType.PING)
            session.clock.advance(late * pingTimeout / 1000)
            session.transport.receive(PacketType.PONG)
            session.clock.advance(pingInterval / 1000 - 0.002)
            assert session.transport.types().count(PacketType.PING) == pings
            session.clock.advance(0.003)
            assert session.transport.types().count(PacketType.PING) == pings + 1
            session.transport.receive(PacketType.PONG)
        session.clock.advance(pingInterval / 1000)
        session.clock.advance(pingTimeout / 1000 - 0.002)
        assert session.socket.readyState == "open"
        session.clock.advance(0.003)
        assert session.socket.readyState == "closed"
        assert session.clock.getDelayedCalls() == []
