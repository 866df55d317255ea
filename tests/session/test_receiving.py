"""Clients that are held back: what came waits, in order."""

from __future__ import annotations

import pytest

from engineio_twisted.interfaces import Closing
from engineio_twisted.protocol.errors import CloseReason
from engineio_twisted.protocol.packet import PacketType
from engineio_twisted.session.ending import CLOSING_TIMEOUT

from ..kit.sessions import Session, arrive, slow, texts


def test_pausing() -> None:
    """Nothing is emitted until it is resumed; then all is, in order, and reading goes on."""
    session = Session()
    arrive(session, "a")
    session.socket.pauseReceiving()
    session.socket.pauseReceiving()
    assert session.transport.isHeldBack
    before = len(session.events)
    arrive(session, "b", "c")
    assert len(session.events) == before
    session.socket.resumeReceiving()
    session.socket.resumeReceiving()
    assert texts(session) == ["a", "b", "c"]
    assert session.names().count("packet") == 3
    assert session.transport.delivered == [True]
    arrive(session, "d")
    assert texts(session) == ["a", "b", "c", "d"]
    session.socket.close(discard=True)


def test_pausingFromInsideAHandler() -> None:
    """With each message, as a reader would that takes one at a time: each comes when it is asked for."""
    session = Session()
    session.socket.on("data", lambda _: session.socket.pauseReceiving())
    arrive(session, "a", "b", "c")
    assert texts(session) == ["a"], "the message that is being handled is handled"
    session.socket.resumeReceiving()
    assert texts(session) == ["a", "b"]
    assert session.transport.isHeldBack
    session.socket.resumeReceiving()
    assert texts(session) == ["a", "b", "c"]
    session.socket.resumeReceiving()
    assert not session.transport.isHeldBack
    session.socket.close(discard=True)


def test_pausingAndResumingFromInsideAHandler() -> None:
    """Nothing overtakes the message that is being handled."""
    session = Session()

    def both(_: object) -> None:
        session.socket.pauseReceiving()
        session.socket.resumeReceiving()

    session.socket.pauseReceiving()
    arrive(session, "a", "b", "c")
    session.socket.on("data", both)
    session.socket.resumeReceiving()
    assert [each for each in session.events if each[0] in ("data", "message")] == [
        (event, text) for text in "abc" for event in ("data", "message")
    ]
    arrive(session, "d")
    assert texts(session) == list("abcd")
    session.socket.close(discard=True)


def test_pausingWhatIsOver() -> None:
    """Does nothing."""
    session = Session()
    session.socket.close(discard=True)
    session.socket.pauseReceiving()
    session.socket.resumeReceiving()
    assert session.transport.delivered == []


def test_theClientLeavesMeanwhile() -> None:
    """What came before is delivered when it is resumed, and then the end, with its own reason."""
    session = Session()
    session.socket.pauseReceiving()
    arrive(session, "a", "b")
    session.socket.transportClosed(session.transport, Closing(CloseReason.TRANSPORT_CLOSE, "first"))
    session.socket.transportClosed(session.transport, Closing(CloseReason.TRANSPORT_ERROR, "second"))
    assert (texts(session), session.closes) == ([], [])
    session.socket.resumeReceiving()
    assert (texts(session), session.closes) == (["a", "b"], [("transport close", "first")])
    assert session.isQuiet()


def test_theClientLeavesWithNothingHeld() -> None:
    """The session ends at once."""
    session = Session()
    session.socket.pauseReceiving()
    session.socket.transportClosed(session.transport, Closing(CloseReason.TRANSPORT_CLOSE, "gone"))
    assert session.closes == [("transport close", "gone")]
    assert session.isQuiet()


def test_oneThatLeftIsForgottenInTheEnd() -> None:
    """Where it is never resumed: the next ping isn't taken."""
    session = Session(pingInterval=1000, pingTimeout=500)
    session.socket.pauseReceiving()
    arrive(session, "a")
    session.socket.transportClosed(session.transport, Closing(CloseReason.TRANSPORT_CLOSE, "gone"))
    session.transport.writable = False
    session.clock.pump([0.5] * 3)
    assert [reason for reason, _ in session.closes] == ["ping timeout"]
    assert texts(session) == []


@pytest.mark.parametrize("discard", [True, False])
def test_closingWhilePaused(discard: bool) -> None:
    """What is held is dropped, and the client learns that nobody got it."""
    session = slow()
    session.socket.send("unsent")
    session.socket.pauseReceiving()
    arrive(session, "a")
    session.socket.close(discard=discard)
    assert session.transport.delivered == [False]
    session.socket.resumeReceiving()
    arrive(session, "b")
    session.clock.advance(CLOSING_TIMEOUT)
    assert texts(session) == []
    assert session.isQuiet()


def test_drainingASlowOne() -> None:
    """Before a server stops, the client has what was sent, as it takes it, and is received from in between."""
    session = slow()
    session.socket.send("a")
    session.socket.send("b")
    session.socket.pauseReceiving()
    arrive(session, "c")
    session.socket.goAway(session.clock.seconds() + 20)
    arrive(session, "d")
    assert (session.transport.delivered, texts(session)) == ([], [])
    session.socket.resumeReceiving()
    assert texts(session) == ["c", "d"]
    session.transport.ready(room=1)
    assert session.transport.closings == []
    session.clock.advance(5)
    session.transport.ready()
    assert session.transport.texts() == ["a", "b"]
    assert [(each.reason, each.deadline) for each in session.transport.closings] == [("server shutting down", 20)]
    assert session.closes == [("server shutting down", "the server is closing")]
    assert session.isQuiet()


@pytest.mark.parametrize("inside", ["close", "discard"])
def test_closingFromInsideAHeldMessage(inside: str) -> None:
    """Nothing comes behind it."""
    session = Session()
    session.socket.pauseReceiving()
    arrive(session, "a", "b")
    session.socket.once("message", lambda _: session.socket.close(discard=inside == "discard"))
    session.socket.resumeReceiving()
    assert texts(session) == ["a"]
    assert session.transport.delivered == [False]
    assert session.isQuiet()


@pytest.mark.parametrize(("interval", "timeout"), [(1000, 500), (500, 2000)])
def test_heartbeatsGoOnWhilePaused(interval: int, timeout: int) -> None:
    """The client is pinged as ever, and needn't answer; when it is resumed, it has the time that it always has."""
    session = Session(pingInterval=interval, pingTimeout=timeout)
    session.clock.advance(interval / 1000)
    session.socket.pauseReceiving()
    for _ in range(100):
        session.clock.advance(interval / 2000)
    assert session.closes == []
    assert session.transport.types().count(PacketType.PING) >= 40
    session.socket.resumeReceiving()
    session.clock.advance(min(timeout, interval) / 1000 - 0.01)
    session.clock.advance(max(0, timeout - interval) / 1000)
    assert session.closes == []
    session.clock.advance(0.01)
    assert [reason for reason, _ in session.closes] == ["ping timeout"]
    assert session.isQuiet()


def test_aPongThatWasHeld() -> None:
    """Answers the ping."""
    session = Session(pingInterval=1000, pingTimeout=500)
    session.socket.pauseReceiving()
    session.clock.advance(1)
    session.transport.receive(PacketType.PONG)
    assert "heartbeat" not in session.names()
    session.socket.resumeReceiving()
    assert "heartbeat" in session.names()
    session.clock.advance(0.99)
    assert session.closes == []
    session.socket.close(discard=True)


@pytest.mark.parametrize(("protocol", "seconds"), [(4, 1.5), (3, 3)])
def test_oneThatDoesNotTakeThePingWhilePaused(protocol: int, seconds: float) -> None:
    """Has gone, or doesn't read either: that is not for want of being read. In revision 3 a noop is in its place."""
    session = slow(protocol=protocol, pingInterval=1000, pingTimeout=500)
    session.socket.pauseReceiving()
    session.clock.pump([0.5] * int(seconds * 2 - 1))
    assert session.closes == []
    session.clock.advance(0.5)
    assert [reason for reason, _ in session.closes] == ["ping timeout"]
    assert session.isQuiet()


def test_revision3WhilePaused() -> None:
    """The client's pings aren't read, and none is missed; after that there is the whole time for the next one."""
    session = Session(protocol=3, pingInterval=1000, pingTimeout=500)
    session.clock.advance(1.4)
    session.socket.pauseReceiving()
    session.clock.pump([0.5] * 20)
    assert session.closes == []
    assert [each.type for each in session.transport.sent] == [PacketType.NOOP] * 7, "it is to hear of us"
    session.socket.resumeReceiving()
    session.clock.advance(1.49)
    assert session.closes == []
    session.clock.advance(0.01)
    assert [reason for reason, _ in session.closes] == ["ping timeout"]
    assert session.isQuiet()


def test_upgradingWhilePaused() -> None:
    """The client can move; what it says on the new transport is held behind what it said on the old one."""
    session = Session("polling")
    candidate = session.candidate()
    session.socket.pauseReceiving()
    arrive(session, "a")
    candidate.receive(PacketType.PING, "probe")
    candidate.receive(PacketType.UPGRADE)
    candidate.receive(PacketType.MESSAGE, "b")
    assert session.socket.upgraded
    assert (session.transport.delivered, candidate.isHeldBack) == ([True], True)
    assert texts(session) == []
    session.socket.resumeReceiving()
    assert texts(session) == ["a", "b"]
    assert candidate.delivered == [True]
    session.socket.close(discard=True)
