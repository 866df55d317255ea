"""Sessions whose time for a heartbeat is over: they end, unless what their clients sent lies unread or is arriving."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import LoopingCall

from engineio_twisted.clock import TURNS
from engineio_twisted.protocol.packet import PacketType
from engineio_twisted.session.ending import CLOSING_TIMEOUT
from engineio_twisted.session.patience import ARRIVING_TIMEOUT, GRACE, QUIET_TIME, STEP

from ..kit.engines import ENGINES
from ..kit.fakes import FakeHost
from ..kit.sessions import Session
from ..kit.wire import http, target, upgrade

INTERVAL, TIMEOUT = 25.0, 20.0
REVISIONS = pytest.mark.parametrize("protocol", [3, 4])
TRANSPORTS = pytest.mark.parametrize("name", ["polling", "websocket"])


class Waiting(Session):
    """A session that waits for its client's heartbeat, for L{timeout} seconds from now on."""

    def __init__(self, name: str = "websocket", protocol: int = 4) -> None:
        super().__init__(name, protocol=protocol)
        self.timeout = TIMEOUT if protocol == 4 else INTERVAL + TIMEOUT
        if protocol == 4:
            self.clock.advance(INTERVAL)
            if name == "polling":
                self.transport.ready()
            assert self.transport.types() == [PacketType.PING]

    def beats(self) -> None:
        """As if the client's heartbeat had come."""
        self.transport.receive(PacketType.PING if self.socket.protocol == 3 else PacketType.PONG)

    @property
    def isOpen(self) -> bool:
        return str(self.socket.readyState) == "open"


def inTurns(session: Session, turns: int, seconds: float, what: Callable[[], object]) -> None:
    """Have something read so many turns after a time."""

    def later(left: int) -> None:
        if left:
            session.clock.callLater(0, later, left - 1)
        else:
            what()

    session.clock.callLater(seconds, later, turns)


def passes(session: Session, seconds: float, step: float = 0.1) -> None:
    """Let time pass, in steps."""
    session.clock.pump([step] * round(seconds / step))


@REVISIONS
@TRANSPORTS
@pytest.mark.parametrize("turns", [0, 1, 2, TURNS - 2])
def test_whatLiesUnread(name: str, protocol: int, turns: int) -> None:
    """What is read in the turns after a timeout is due, as after the process stood still, keeps the session."""
    session = Waiting(name, protocol)
    inTurns(session, turns, session.timeout, session.beats)
    session.clock.advance(session.timeout)
    assert session.isOpen
    assert session.names().count("heartbeat") == 1
    passes(session, 1)
    assert session.isOpen


@REVISIONS
@TRANSPORTS
def test_nothingLiesUnread(name: str, protocol: int) -> None:
    """With nothing to be read the session ends then and there."""
    session = Waiting(name, protocol)
    session.clock.advance(session.timeout - 0.5)
    assert session.isOpen
    session.clock.advance(0.5)
    assert session.closes[0][0] == "ping timeout"
    assert session.isQuiet()


@REVISIONS
@TRANSPORTS
@pytest.mark.parametrize("stood", [1.5, 10.0, 3600.0])
def test_itStoodStill(name: str, protocol: int, stood: float) -> None:
    """When the reactor is late, what clients sent meanwhile has as long to arrive, or as long as a heartbeat has."""
    session = Waiting(name, protocol)
    session.clock.advance(session.timeout + stood)
    assert session.isOpen
    passes(session, min(stood, session.timeout) - 0.2)
    assert session.isOpen
    passes(session, 0.3)
    assert session.closes[0][0] == "ping timeout"
    assert session.isQuiet()


@REVISIONS
def test_itStoodStillAndTheClientIsThere(protocol: int) -> None:
    """A heartbeat that comes in that time keeps the session, whose time is then the usual one."""
    session = Waiting(protocol=protocol)
    session.clock.advance(session.timeout + 10)
    passes(session, 9)
    session.beats()
    if protocol == 4:
        session.clock.advance(INTERVAL)
    session.clock.advance(session.timeout - 0.5)
    assert session.isOpen
    passes(session, 0.6)
    assert not session.isOpen
    assert session.isQuiet()


def test_manyAtOnce() -> None:
    """With more sessions than are read in the usual turns, there are more turns."""
    host = FakeHost(Session().clock)
    clock = host.clock
    told: list[float] = []

    class Sleeper:
        def heartbeatDue(self) -> None:
            told.append(turn)

    turn = 0

    def count() -> None:
        nonlocal turn
        turn += 1
        if turn < 200:
            clock.callLater(0, count)

    sessions = [Sleeper() for _ in range(6400)]
    for each in sessions:
        host.heartbeats.resting.add(each)
    host.heartbeats.reading.add(Sleeper())
    clock.callLater(0, count)
    clock.advance(0)
    assert told == [pytest.approx(TURNS + 100, abs=1)]


# A message is arriving


@REVISIONS
@TRANSPORTS
def test_aMessageIsArriving(name: str, protocol: int) -> None:
    """While bytes of a message arrive the session lives, for half a minute, and the heartbeat behind it is heard."""
    session = Waiting(name, protocol)
    session.transport.arriving = 0
    for arrived in range(round((session.timeout + ARRIVING_TIMEOUT - 1) * 10)):
        session.transport.arriving = arrived
        session.clock.advance(0.1)
        assert session.isOpen
    session.transport.arriving = None
    session.transport.receive(PacketType.MESSAGE, "large")
    session.beats()
    passes(session, INTERVAL - 1)
    assert session.isOpen


@REVISIONS
@pytest.mark.parametrize("interval", [0.1, 1.0, 4.9])
def test_aMessageThatNeverEnds(protocol: int, interval: float) -> None:
    """Whoever sends a byte now and then ends half a minute after the time."""
    session = Waiting(protocol=protocol)
    session.transport.arriving = 0
    began = session.clock.seconds()

    def arrives() -> None:
        session.transport.arriving = session.clock.seconds()
        if session.isOpen:
            session.clock.callLater(interval, arrives)

    arrives()
    while session.isOpen:
        session.clock.advance(0.1)
    late = session.clock.seconds() - began - session.timeout
    assert ARRIVING_TIMEOUT - 0.1 <= late <= ARRIVING_TIMEOUT + 0.2
    assert session.closes[0][0] == "ping timeout"
    session.clock.advance(interval)
    assert session.isQuiet()


@REVISIONS
def test_aMessageThatStops(protocol: int) -> None:
    """A client that goes in the middle of a message ends some seconds after the time."""
    session = Waiting(protocol=protocol)
    session.transport.arriving = 17
    session.clock.advance(session.timeout)
    assert session.isOpen
    passes(session, QUIET_TIME - 0.2)
    assert session.isOpen
    passes(session, 0.4)
    assert session.closes[0][0] == "ping timeout"
    assert session.isQuiet()


@REVISIONS
def test_manyMessagesAreArriving(protocol: int) -> None:
    """Messages that are complete whenever it is looked are arriving too, if one wasn't when the time was over."""
    session = Waiting(protocol=protocol)
    if protocol == 4:
        # The time began anew by it.
        session.transport.receive(PacketType.MESSAGE, "small")
    session.transport.arriving = 17
    session.clock.advance(session.timeout)
    session.transport.arriving = None
    for _ in range(round(ARRIVING_TIMEOUT - STEP)):
        session.transport.receive(PacketType.MESSAGE, "small")
        passes(session, STEP)
        assert session.isOpen
    session.transport.receive(PacketType.MESSAGE, "small")
    passes(session, STEP + 0.2)
    assert session.closes[0][0] == "ping timeout"
    assert session.isQuiet()


# Something else comes than the pong


@TRANSPORTS
@pytest.mark.parametrize("data", ["text", b"binary", ""])
@pytest.mark.parametrize("isHeard", [True, False])
def test_aPacketBeginsTheTimeAnew(name: str, data: Any, isHeard: bool) -> None:
    """In revision 4 the first packet while a pong is awaited begins the time anew; the others don't."""
    session = Waiting(name)
    if isHeard:
        session.socket.on("message", lambda data: None)
    session.clock.advance(15)
    session.socket.transportMessage(session.transport, data)
    session.clock.advance(TIMEOUT - 0.1)
    assert session.isOpen
    session.socket.transportMessage(session.transport, data)
    session.clock.advance(0.1)
    assert session.closes[0][0] == "ping timeout"
    assert session.clock.seconds() == pytest.approx(INTERVAL + 15 + TIMEOUT)
    assert session.isQuiet()


def test_onceForEachPing() -> None:
    """The next ping has its own."""
    session = Waiting()
    for _ in range(3):
        session.clock.advance(15)
        session.transport.receive(PacketType.MESSAGE, "a")
        session.clock.advance(15)
        session.beats()
        session.clock.advance(INTERVAL)
    assert session.isOpen
    session.clock.advance(TIMEOUT)
    assert not session.isOpen


def test_noPacketBeginsATimeInRevision3() -> None:
    """There it is the ping alone, as in the reference."""
    session = Waiting(protocol=3)
    session.clock.advance(40)
    session.transport.receive(PacketType.MESSAGE, "a")
    session.clock.advance(5)
    assert session.closes[0][0] == "ping timeout"


def test_whatItIsReadWithTheTimeout() -> None:
    """A message that lay unread when the time was over begins it anew; once, again."""
    session = Waiting()
    inTurns(session, 3, TIMEOUT, lambda: session.transport.receive(PacketType.MESSAGE, "a"))
    session.clock.advance(TIMEOUT)
    session.clock.advance(TIMEOUT - 0.1)
    assert session.isOpen
    inTurns(session, 3, 0.1, lambda: session.transport.receive(PacketType.MESSAGE, "a"))
    session.clock.advance(0.1)
    passes(session, STEP + 0.1)
    assert session.closes[0][0] == "ping timeout"
    assert session.isQuiet()


def test_pongsThatAnswerNothing() -> None:
    """They begin nothing anew: a client that doesn't poll isn't kept by what it posts."""
    session = Session("polling")
    session.clock.advance(INTERVAL)
    for _ in range(19):
        session.clock.advance(1)
        session.transport.receive(PacketType.PONG)
    session.clock.advance(1)
    assert session.closes[0][0] == "ping timeout"


# Receiving is paused


@REVISIONS
@TRANSPORTS
@pytest.mark.parametrize("paused", [0.5, 5.0, 100.0])
@pytest.mark.parametrize("received", [0.1, 1.0, 7.0])
def test_pausingKeepsNobody(name: str, protocol: int, paused: float, received: float) -> None:
    """However often an application pauses and resumes, a client that has gone ends when it was listened to enough."""
    session = Waiting(name, protocol)
    listened = 0.0
    while session.isOpen:
        session.socket.pauseReceiving()
        for _ in range(5):
            passes(session, paused / 5, paused / 5)
            if name == "polling":
                # It takes what it is sent, as somebody in between may.
                session.transport.ready()
        session.socket.resumeReceiving()
        passes(session, received, received / 10)
        listened += received
        assert listened < session.timeout + GRACE + received + 0.1
    assert listened > session.timeout - 0.1
    assert session.closes[0][0] == "ping timeout"
    assert session.isQuiet()


@REVISIONS
def test_pausingEndsNobody(protocol: int) -> None:
    """A client that is there lives however long it isn't listened to, and what it has sent comes a moment later."""
    session = Waiting(protocol=protocol)
    for _ in range(20):
        session.socket.pauseReceiving()
        passes(session, 60, 0.5)
        session.socket.resumeReceiving()
        passes(session, 1)
        assert session.isOpen
        session.beats()


@REVISIONS
def test_pausedJustBeforeTheEnd(protocol: int) -> None:
    """With a moment left there is some time, once, for what was held up; then it ends."""
    session = Waiting(protocol=protocol)
    session.clock.advance(session.timeout - 0.1)
    session.socket.pauseReceiving()
    passes(session, 10)
    session.socket.resumeReceiving()
    passes(session, GRACE - 0.2)
    assert session.isOpen
    session.socket.pauseReceiving()
    passes(session, 10)
    session.socket.resumeReceiving()
    passes(session, 0.1)
    assert session.isOpen
    passes(session, 0.3)
    assert session.closes[0][0] == "ping timeout"
    assert session.isQuiet()


def test_pausedBeforeThePing() -> None:
    """A ping that is sent while receiving is paused has all of its time when receiving goes on."""
    session = Session()
    session.socket.pauseReceiving()
    passes(session, INTERVAL + 500, 0.5)
    assert session.transport.types()[0] is PacketType.PING
    session.socket.resumeReceiving()
    passes(session, TIMEOUT - 0.1)
    assert str(session.socket.readyState) == "open"
    passes(session, 0.2)
    assert session.closes[0][0] == "ping timeout"


def test_pausedWhileAMessageArrives() -> None:
    """Half a minute of a message that never ends is half a minute in which it is read."""
    session = Waiting()
    session.transport.arriving = 0
    read = 0.0

    def pass_(seconds: float) -> float:
        before = session.clock.seconds()
        while session.isOpen and session.clock.seconds() < before + seconds - 0.05:
            session.transport.arriving = session.clock.seconds()
            session.clock.advance(0.1)
        return session.clock.seconds() - before

    read += pass_(TIMEOUT + 1)
    while session.isOpen:
        session.socket.pauseReceiving()
        passes(session, 20)
        session.socket.resumeReceiving()
        read += pass_(3)
        assert read < TIMEOUT + ARRIVING_TIMEOUT + GRACE + 4
    assert read > TIMEOUT + ARRIVING_TIMEOUT - 0.5
    assert session.isQuiet()


def test_aHandlerThatPausesAgain() -> None:
    """One that resumes, and pauses while what was held is delivered, keeps no client that has gone either."""
    session = Waiting()
    session.socket.on("message", lambda data: session.socket.pauseReceiving())
    session.transport.receive(PacketType.MESSAGE, "first")
    for number in range(5):
        session.transport.receive(PacketType.MESSAGE, f"held {number}")
    for _ in range(100):
        passes(session, 30, 1)
        session.socket.resumeReceiving()
        passes(session, 1)
        if session.closes:
            break
    assert session.closes[0][0] == "ping timeout"
    assert session.isQuiet()


# Closing a client that has gone


@REVISIONS
@pytest.mark.parametrize("waited", [0.0, 3.0, 11.9])
def test_closingOneThatHasGone(protocol: int, waited: float) -> None:
    """It takes as long as the client would have had for a heartbeat, and says so."""
    session = Session("polling", protocol=protocol, pingInterval=10_000, pingTimeout=2_000)
    if protocol == 4:
        passes(session, min(waited, 10))
        if waited > 10:
            session.transport.ready()
        passes(session, max(0, waited - 10))
    else:
        passes(session, waited)
    session.transport.writable = False
    session.socket.close()
    passes(session, 12 - waited - 0.2)
    assert session.socket.readyState == "closing"
    passes(session, 0.5)
    assert session.closes == [("ping timeout", "the client did not poll again")]
    assert session.isQuiet()


@REVISIONS
def test_closingWithinTheTime(protocol: int) -> None:
    """With a heartbeat that may take longer it is half a minute; a client that polls ends it at once."""
    session = Session("polling", protocol=protocol)
    session.socket.close()
    session.clock.advance(CLOSING_TIMEOUT - 0.1)
    assert session.socket.readyState == "closing"
    session.clock.advance(0.1)
    assert session.closes == [("forced close", "the client did not poll again")]
    assert session.isQuiet()
    session = Session("polling", protocol=protocol, pingInterval=1000, pingTimeout=1000)
    session.socket.close()
    session.clock.advance(1)
    session.clock.advance(0.9)
    assert PacketType.PING not in session.transport.types()
    session.transport.ready()
    assert session.closes == [("forced close", "closed by the server")]
    assert session.isQuiet()


def test_closingASlowWebSocket() -> None:
    """What takes long to be sent has half a minute whatever the heartbeat: no pong is received."""
    session = Session(pingInterval=1000, pingTimeout=1000)
    session.transport.writable = False
    session.socket.send("slow")
    session.socket.close()
    passes(session, CLOSING_TIMEOUT - 0.2)
    assert session.socket.readyState == "closing"
    passes(session, 0.3)
    assert session.closes == [("forced close", "the client did not take what was buffered")]
    assert session.isQuiet()


def test_closingDuringAnUpgrade() -> None:
    """The WebSocket that takes over has the time of one."""
    session = Session("polling", pingInterval=1000, pingTimeout=1000)
    candidate = session.candidate()
    candidate.receive(PacketType.PING, "probe")
    session.socket.send("slow")
    session.socket.close()
    candidate.writable = False
    candidate.receive(PacketType.UPGRADE)
    passes(session, 5)
    assert session.socket.readyState == "closing"
    candidate.ready()
    assert session.closes == [("forced close", "closed by the server")]
    assert session.isQuiet()


# Other timeouts


def test_anUpgradePacketThatLiesUnread() -> None:
    """An upgrade isn't given up while its last packet lies unread."""
    session = Waiting("polling")
    candidate = session.candidate()
    candidate.receive(PacketType.PING, "probe")
    inTurns(session, 5, 10, lambda: candidate.receive(PacketType.UPGRADE))
    session.clock.advance(10)
    assert session.socket.upgraded
    other = Waiting("polling")
    candidate = other.candidate()
    other.clock.advance(10)
    assert (other.socket.upgrading, candidate.reasons) == (False, [None])


def test_aPollThatLiesUnread() -> None:
    """A client whose GET lies unread when the time for closing is over is told of the end."""
    session = Session("polling")
    session.socket.close()
    inTurns(session, 5, CLOSING_TIMEOUT, session.transport.ready)
    session.clock.advance(CLOSING_TIMEOUT)
    assert session.closes == [("forced close", "closed by the server")]
    assert session.isQuiet()


# Over real sockets


@pytest.mark.no_cover
@REVISIONS
@pytest.mark.parametrize("engine", [None, *ENGINES])
@pytest_twisted.ensureDeferred
async def test_pausingKeepsNobodyConnected(hostile: Any, protocol: int, engine: Any) -> None:
    """A client that says nothing ends though the application pauses and resumes all the time, on every transport."""
    options = {} if engine is None else {"wsEngine": engine}
    async with hostile(pingInterval=200, pingTimeout=400, allowEIO3=True, **options) as here:
        if engine is None:
            packet = (await here.ask(http("GET", target(EIO=protocol)))).body.decode()
            wire = None
        else:
            wire = await here.webSocket(upgrade(target(EIO=protocol, transport="websocket")))
            packet = await wire.text()
        assert "sid" in packet
        (socket,) = [each for sid, each in here.server.clients.items() if sid in packet]
        isPaused = False

        def turn() -> None:
            nonlocal isPaused
            isPaused = not isPaused
            (socket.pauseReceiving if isPaused else socket.resumeReceiving)()

        loop = LoopingCall(turn)
        loop.clock = here.server.reactor
        loop.start(0.05)
        record = here.records[socket.id]
        assert (await record.closed())[0] == "ping timeout"
        loop.stop()
        if wire is not None:
            wire.drop()
