"""The move from polling to WebSocket, on a clock."""

from __future__ import annotations

import pytest

from engineio_twisted.interfaces import LEFT, Closing
from engineio_twisted.protocol.errors import CloseReason
from engineio_twisted.protocol.packet import Packet, PacketType

from ..kit.fakes import FakeTransport
from ..kit.sessions import Session, polling

pytestmark = pytest.mark.usefixtures("isServerHeard")


def test_upgrade() -> None:
    """Probe, upgrade packet, and everything goes over the WebSocket."""
    session = polling()
    candidate = session.candidate()
    assert (session.socket.upgrading, session.socket.upgraded) == (True, False)
    candidate.receive(PacketType.PING, "probe")
    assert candidate.sent == [Packet(PacketType.PONG, "probe")]
    assert session.events == [("upgrading", candidate)]
    session.socket.send("buffered")
    candidate.receive(PacketType.UPGRADE)
    assert ("upgrade", candidate) in session.events
    assert (session.socket.upgrading, session.socket.upgraded) == (False, True)
    assert session.socket.transport is candidate
    assert session.transport.closings == [LEFT]
    assert candidate.texts() == ["buffered"]
    candidate.receive(PacketType.MESSAGE, "over websocket")
    assert session.events[-1] == ("message", "over websocket")
    assert len(session.clock.getDelayedCalls()) == 1, "the heartbeat alone"


def test_waitingGetsAreEndedUntilTheUpgradePacket() -> None:
    """At the probe at once, and again every 100 ms: one noop may cross with the client's next GET."""
    session = polling()
    session.transport.ready()
    candidate = session.candidate()
    candidate.receive(PacketType.PING, "probe")
    assert session.transport.types() == [PacketType.NOOP]
    session.transport.ready()
    session.clock.advance(0.099)
    assert len(session.transport.sent) == 1
    session.clock.advance(0.001)
    assert session.transport.types() == [PacketType.NOOP] * 2
    session.clock.advance(1)
    assert len(session.transport.sent) == 2, "no GET waits"
    session.transport.ready()
    session.clock.advance(0.1)
    assert session.transport.types() == [PacketType.NOOP] * 3
    candidate.receive(PacketType.UPGRADE)
    session.clock.advance(1)
    assert PacketType.NOOP not in candidate.types()


def test_messagesDuringAnUpgradeArriveOnceAndInOrder() -> None:
    """Those that a GET takes go by polling, the rest by WebSocket."""
    session = polling(upgradeTimeout=60_000)
    candidate = session.candidate()
    for number in range(10_000):
        session.socket.send(str(number))
        if number == 3000:
            candidate.receive(PacketType.PING, "probe")
        if number in (1000, 2000, 5000):
            session.transport.ready()
        if number % 100 == 0:
            session.clock.advance(0.01)
        if number == 8000:
            candidate.receive(PacketType.UPGRADE)
    assert session.transport.texts() + candidate.texts() == [str(number) for number in range(10_000)]


def test_drainAfterAnUpgrade() -> None:
    """Who asked while no GET waited is told that the WebSocket takes what is sent; nothing is kept for it then."""
    session = polling()
    assert not session.socket.writable
    candidate = session.candidate()
    candidate.receive(PacketType.PING, "probe")
    session.events.clear()
    candidate.receive(PacketType.UPGRADE)
    assert session.events == [("upgrade", candidate), ("drain",)]
    assert session.socket._outbox is None


def test_callbacksAcrossAnUpgrade() -> None:
    """A callback runs with the transport that took the message."""
    session, calls = polling(), []
    session.socket.send("a", calls.append)
    candidate = session.candidate()
    candidate.receive(PacketType.PING, "probe")
    candidate.receive(PacketType.UPGRADE)
    assert calls == [candidate]


@pytest.mark.parametrize("data", ["", "anything"])
def test_anUpgradePacketWithoutAProbe(data: str) -> None:
    """A client that trusts the WebSocket without trying it out is moved to it, with what was buffered."""
    session, calls = polling(), []
    session.socket.send("a", calls.append)
    session.socket.send("b")
    candidate = session.candidate()
    session.socket.send("c")
    session.events.clear()
    candidate.receive(PacketType.UPGRADE, data)
    assert session.names() == ["upgrade", "flush", "drain"], "nothing was tried out, so it isn't upgrading either"
    assert (candidate.texts(), calls) == (["a", "b", "c"], [candidate])
    assert (session.socket.upgraded, session.socket.upgrading, session.socket.transport) == (True, False, candidate)
    assert session.transport.closings == [LEFT]
    candidate.receive(PacketType.MESSAGE, "over websocket")
    assert session.events[-1] == ("message", "over websocket")
    assert len(session.clock.getDelayedCalls()) == 1, "the heartbeat alone"
    assert session.socket.tryUpgrade(FakeTransport()) is False


def test_closingBeforeAnUpgradePacketWithoutAProbe() -> None:
    """A client that never polls gets the last words and the end over the WebSocket."""
    session = polling()
    candidate = session.candidate()
    session.socket.send("last words")
    session.socket.close()
    candidate.receive(PacketType.UPGRADE)
    assert candidate.texts() == ["last words"]
    assert session.closes == [("forced close", "closed by the server")]
    assert session.isQuiet()


def test_pausedBeforeAnUpgradePacketWithoutAProbe() -> None:
    """What came by polling is delivered before what comes by WebSocket, and neither before receiving goes on."""
    session = polling()
    session.socket.pauseReceiving()
    session.transport.receive(PacketType.MESSAGE, "polling")
    candidate = session.candidate()
    candidate.receive(PacketType.UPGRADE)
    candidate.receive(PacketType.MESSAGE, "websocket")
    assert "message" not in session.names()
    session.socket.resumeReceiving()
    assert [each[1] for each in session.events if each[0] == "message"] == ["polling", "websocket"]


def test_pingsAfterAnUpgradePacketWithoutAProbe() -> None:
    """A ping that no GET fetched goes out on the WebSocket, and its pong counts."""
    session = polling()
    session.clock.advance(25)
    candidate = session.candidate()
    candidate.receive(PacketType.UPGRADE)
    assert candidate.types() == [PacketType.PING]
    session.clock.advance(10)
    candidate.receive(PacketType.PONG)
    session.clock.advance(24)
    assert session.socket.readyState == "open"


WRONG = [
    (PacketType.MESSAGE, "early", False),
    (PacketType.MESSAGE, "early", True),
    (PacketType.PING, "", False),
    (PacketType.PING, "other", False),
    (PacketType.PING, "probe", True),
    (PacketType.PONG, "probe", True),
    (PacketType.NOOP, "", False),
    (PacketType.OPEN, "", False),
]


@pytest.mark.parametrize(("type_", "data", "probed"), WRONG)
def test_anythingElseClosesTheProbe(type_: PacketType, data: str, probed: bool) -> None:
    """And the session goes on polling, as if nothing had been."""
    session = polling()
    candidate = session.candidate()
    if probed:
        candidate.receive(PacketType.PING, "probe")
    candidate.receive(type_, data)
    assert candidate.closings == [LEFT]
    assert (session.socket.readyState, session.socket.upgrading, session.socket.upgraded) == ("open", False, False)
    assert "message" not in session.names()
    assert len(session.clock.getDelayedCalls()) == 1
    session.socket.send("still here")
    session.transport.ready()
    assert session.transport.texts() == ["still here"]
    assert session.socket.tryUpgrade(FakeTransport()), "it may try again"


@pytest.mark.parametrize("probed", [False, True])
def test_upgradeTimeout(probed: bool) -> None:
    """A WebSocket that doesn't complete the upgrade in time is closed; the session goes on polling."""
    session = polling(upgradeTimeout=2000)
    candidate = session.candidate()
    if probed:
        candidate.receive(PacketType.PING, "probe")
    session.clock.pump([0.1] * 19)
    session.clock.advance(0.099)
    assert session.socket.upgrading
    session.clock.advance(0.001)
    assert (candidate.closings, session.socket.upgrading, session.socket.readyState) == ([LEFT], False, "open")
    candidate.receive(PacketType.UPGRADE)
    assert session.socket.transport is session.transport, "too late"


@pytest.mark.parametrize("probed", [False, True])
def test_aProbeThatVanishes(probed: bool) -> None:
    """The session goes on polling."""
    session = polling()
    candidate = session.candidate()
    if probed:
        candidate.receive(PacketType.PING, "probe")
    candidate.owner.transportClosed(candidate, Closing(CloseReason.TRANSPORT_CLOSE, "gone"))
    assert (session.socket.upgrading, session.socket.readyState, session.closes) == (False, "open", [])
    assert len(session.clock.getDelayedCalls()) == 1


@pytest.mark.parametrize("when", ["probing", "probed", "upgraded", "closed", "websocket", "off"])
def test_whoMayNotUpgrade(when: str) -> None:
    """A second WebSocket isn't taken, and the session isn't touched."""
    session = Session("websocket" if when == "websocket" else "polling", allowUpgrades=when != "off")
    if when in ("probing", "probed", "upgraded"):
        first = session.candidate()
        if when != "probing":
            first.receive(PacketType.PING, "probe")
        if when == "upgraded":
            first.receive(PacketType.UPGRADE)
    elif when == "closed":
        session.socket.close(discard=True)
    second = FakeTransport()
    assert session.socket.tryUpgrade(second) is False
    assert (second.owner, second.closings, second.sent) == (None, [], [])
    if when in ("probing", "probed"):
        assert first.closings == []


def test_theSessionsEndEndsTheProbe() -> None:
    """Nothing of the upgrade stays behind."""
    session = polling()
    candidate = session.candidate()
    candidate.receive(PacketType.PING, "probe")
    session.socket.close(discard=True)
    assert candidate.reasons == ["forced close"]
    assert session.isQuiet()


def test_closingDuringAnUpgradeLosesNothing() -> None:
    """A client that has stopped polling to upgrade gets what is buffered, and the end, over the WebSocket."""
    session = polling()
    candidate = session.candidate()
    candidate.receive(PacketType.PING, "probe")
    session.socket.send("last words")
    session.socket.close()
    assert session.socket.readyState == "closing"
    candidate.receive(PacketType.UPGRADE)
    assert candidate.texts() == ["last words"]
    assert session.closes == [("forced close", "closed by the server")]
    assert session.isQuiet()


def test_discardedTransportsAreNotListenedTo() -> None:
    """What polling has to say after the upgrade is no business of the session's."""
    session = polling()
    candidate = session.candidate()
    candidate.receive(PacketType.PING, "probe")
    candidate.receive(PacketType.UPGRADE)
    session.events.clear()
    session.transport.receive(PacketType.MESSAGE, "stale")
    session.transport.ready()
    session.transport.owner.transportClosed(session.transport, Closing(CloseReason.TRANSPORT_ERROR, "gone"))
    assert session.events == []
    assert session.socket.readyState == "open"
