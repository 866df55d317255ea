"""A client's session, on a clock, over transports that do what a test says."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from engineio_twisted import BufferLimitExceeded, Packet, PacketType
from engineio_twisted.client import Client, ConnectionFailed, FailureType, MessageTooLarge
from engineio_twisted.client.client import MAX_UPGRADE_RETRY, UPGRADE_RETRY
from engineio_twisted.client.sending import STANDSTILL_GRACE
from engineio_twisted.protocol.packet import PROBE

from ..kit.client_rig import RiggedClient

POLLING = {"transports": ["polling"]}
WEBSOCKET = {"transports": ["websocket"]}


def failureOf(deferred: Deferred[Any]) -> BaseException:
    """Return with what a Deferred has failed."""
    caught: list[Failure] = []
    deferred.addErrback(caught.append)
    assert caught, "it hasn't failed"
    return caught[0].value


def assertFailed(client: RiggedClient, deferred: Deferred[Any], type_: FailureType, description: str) -> None:
    failure = failureOf(deferred)
    assert isinstance(failure, ConnectionFailed)
    assert (failure.type, failure.description) == (type_, description)
    assert client.failure is failure
    assert client.readyState == "closed"
    assert client.clock.getDelayedCalls() == []


def ignore(deferred: Deferred[Any]) -> None:
    deferred.addErrback(lambda _: None)


class TestOpening:
    """From C{connect} to the first event."""

    def test_opens(self) -> None:
        """The first transport opens the session, and the Deferred gives the client itself, behind the events."""
        client = RiggedClient(**POLLING)
        told: list[Any] = []
        connecting = client.connect().addCallback(lambda it: told.append((it, list(client.names))))
        assert (client.last.name, client.last.opened, client.readyState) == ("polling", {}, "opening")
        assert not connecting.called
        client.last.open0()
        assert told == [(client, ["handshake", "open"])]
        assert (client.readyState, client.id, client.protocol) == ("open", "sid-of-the-session", 4)
        assert client.handshake is not None
        assert (client.handshake.pingInterval, client.last.maxPayload) == (25000, 1000)

    def test_once(self) -> None:
        """A client is one session."""
        client = RiggedClient().opened()
        with pytest.raises(RuntimeError, match="a Client is one session, so make another one"):
            client.connect()

    def test_logName(self) -> None:
        """What stands in logs has no whole session id."""
        client = RiggedClient().opened()
        assert "127.0.0.1:3000" in client.logName
        assert client.id not in repr(client)

    def test_refused(self) -> None:
        """What the transport failed with is what C{connect} fails with, and C{close} comes once."""
        client = RiggedClient()
        connecting = client.connect()
        client.last.fail(FailureType.REFUSED, "forbidden")
        assertFailed(client, connecting, FailureType.REFUSED, "forbidden")
        assert client.told == [("close", "transport error", "forbidden")]

    def test_timeout(self) -> None:
        """A server that says nothing is given up after C{connectTimeout}."""
        client = RiggedClient(connectTimeout=500)
        connecting = client.connect()
        client.clock.advance(0.499)
        assert client.readyState == "opening"
        client.clock.advance(0.001)
        assertFailed(client, connecting, FailureType.TIMEOUT, "no session within connectTimeout, 500 ms")
        assert client.last.reasons == ["transport error"]

    @pytest.mark.parametrize("type_", [PacketType.MESSAGE, PacketType.PING, PacketType.NOOP])
    def test_otherPacketFirst(self, type_: PacketType) -> None:
        """A session that begins with another packet isn't one."""
        client = RiggedClient()
        connecting = client.connect()
        client.last.receive(type_, "x")
        assertFailed(
            client, connecting, FailureType.HANDSHAKE, f"the first packet is {type_.name.lower()}: expected open"
        )

    def test_badHandshake(self) -> None:
        """An open packet without what it needs opens nothing, and the failure names the transport."""
        client = RiggedClient()
        connecting = client.connect()
        client.last.open0(pingInterval=-5)
        failure = failureOf(connecting)
        assert isinstance(failure, ConnectionFailed)
        assert (failure.type, failure.transport) == (FailureType.HANDSHAKE, "polling")
        assert "pingInterval -5" in failure.description

    def test_nextTransport(self) -> None:
        """With C{tryAllTransports} the next one is tried, with time of its own, and the first one is closed."""
        client = RiggedClient(transports=["websocket", "polling"], tryAllTransports=True, connectTimeout=100)
        connecting = client.connect()
        client.clock.advance(0.09)
        client.last.fail(FailureType.HTTP)
        assert [each.name for each in client.made] == ["websocket", "polling"]
        client.clock.advance(0.09)
        client.last.open0(upgrades=[])
        assert connecting.result is client
        assert client.made[0].reasons == [None]
        assert client.failure is None

    def test_lastTransportFails(self) -> None:
        """If all fail, the last failure is told."""
        client = RiggedClient(tryAllTransports=True)
        connecting = client.connect()
        client.last.fail(FailureType.HTTP, "first")
        client.last.fail(FailureType.TLS, "second")
        assertFailed(client, connecting, FailureType.TLS, "second")

    def test_cancelled(self) -> None:
        """Cancelling the Deferred closes what was begun."""
        client = RiggedClient()
        connecting = client.connect()
        connecting.cancel()
        assert isinstance(failureOf(connecting), CancelledError)
        assert (client.readyState, client.last.reasons) == ("closed", ["forced close"])
        assert client.clock.getDelayedCalls() == []

    def test_closedMeanwhile(self) -> None:
        """Closing a client that isn't open yet ends it at once."""
        client = RiggedClient()
        connecting = client.connect()
        gone = client.close()
        failure = failureOf(connecting)
        assert isinstance(failure, ConnectionFailed)
        assert (failure.type, failure.description) == (FailureType.CLOSED, "closed by the client")
        assert not gone.called
        client.last.vanish()
        assert gone.called

    def test_closedBefore(self) -> None:
        """A client that was closed doesn't connect."""
        client = RiggedClient()
        assert client.close().called
        assert isinstance(failureOf(client.connect()), ConnectionFailed)
        assert client.made == []

    @pytest.mark.parametrize("event", ["handshake", "open"])
    def test_closedByHandler(self, event: str) -> None:
        """A handler may close the session that opens."""
        client = RiggedClient()
        client.on(event, lambda *_: client.close(discard=True))  # type: ignore[call-overload]
        ignore(connecting := client.connect())
        client.last.open0()
        assert client.readyState == "closed"
        assert client.names[-1] == "close"
        assert [each.name for each in client.made] == ["polling"]
        assert connecting.called

    def test_handlerFails(self, mayLog: None) -> None:
        """A handler that raises is told as C{error}, and the session opens."""

        def fail() -> None:
            raise ValueError("of the application")

        client = RiggedClient()
        client.on("open", fail)
        client.opened()
        assert client.readyState == "open"
        assert [repr(each[1]) for each in client.told if each[0] == "error"] == ["ValueError('of the application')"]


class TestSending:
    """What goes out, and when."""

    def test_beforeOpening(self) -> None:
        """What is sent before the session is open waits, and goes first."""
        client = RiggedClient(**POLLING)
        client.send("before").send(b"connecting")
        client.connect()
        client.sendAll(["a", "b"])
        assert [each.data for each in client.writeBuffer] == ["before", b"connecting", "a", "b"]
        client.last.open0()
        client.last.ready()
        assert client.last.texts() == ["before", b"connecting", "a", "b"]

    def test_callbacks(self) -> None:
        """A callback is called when the transport took its message."""
        client = RiggedClient(**POLLING)
        told: list[Any] = []
        client.send("x", told.append)
        client.connect()
        assert told == []
        client.last.open0()
        assert told == [client.last]

    def test_tooLarge(self) -> None:
        """A message that the server can't take fails by itself, and nothing else is affected."""
        client = RiggedClient(**POLLING).opened(maxPayload=100)
        told: list[Any] = []
        assert client.send("é" * 50, told.append) is client
        client.send(b"x" * 75, told.append)
        client.sendAll(["a", "b" * 100], told.append)
        assert [(type(each), each.size, each.limit) for each in told] == [
            (MessageTooLarge, 101, 100),
            (MessageTooLarge, 101, 100),
            (MessageTooLarge, 101, 100),
        ]
        client.last.ready()
        client.send("x" * 99)
        client.last.ready()
        client.send(b"x" * 72)
        assert client.last.texts() == ["x" * 99, b"x" * 72]
        assert client.readyState == "open"

    def test_tooLargeWithoutCallback(self) -> None:
        """Without a callback to tell, sending raises."""
        client = RiggedClient(**WEBSOCKET).opened(maxPayload=100)
        with pytest.raises(MessageTooLarge, match="a message of 101 bytes: the server takes no more than 100 at once"):
            client.send(b"x" * 101)
        client.send(b"x" * 100)
        assert client.last.texts() == [b"x" * 100]

    def test_tooLargeBeforeOpening(self, loggedErrors: list[Any], mayLog: None) -> None:
        """What was sent before it was known how much the server takes is told when that is known."""
        client = RiggedClient(**POLLING)
        told: list[Any] = []
        client.send("small").send("x" * 100, told.append).send("y" * 100).send("last")
        client.opened(maxPayload=50)
        client.last.ready()
        assert client.last.texts() == ["small", "last"]
        assert [type(each) for each in told] == [MessageTooLarge]
        assert [type(each[1]) for each in client.told if each[0] == "error"] == [MessageTooLarge]
        assert client.bufferedAmount == 0

    def test_allTooLargeBeforeOpening(self, loggedErrors: list[Any], mayLog: None) -> None:
        """A server that takes nothing fills no log; a callback that closes the session is the last one told."""
        client = RiggedClient(**POLLING)
        for _ in range(1000):
            client.send("x")
        client.send("y", lambda _: client.close(discard=True)).send("z", lambda _: client.told.append(("z",)))
        client.connect().addErrback(lambda _: None)
        client.last.open0(maxPayload=1)
        assert client.names.count("error") == 1000
        assert len(loggedErrors) == 1
        assert client.names[-1] == "close"

    def test_togetherBeforeOpening(self, mayLog: None) -> None:
        """Of messages that belong together none goes out if the server can't take one, and it is told once."""
        client = RiggedClient(**POLLING)
        told: list[Any] = []
        client.send("first").sendAll(["a", "x" * 100, "b", "y" * 200], told.append).sendAll(["c", "d"], told.append)
        client.sendAll(["e", "z" * 100])
        client.opened(maxPayload=50)
        client.last.ready()
        assert client.last.texts() == ["first", "c", "d"]
        assert [each if each is client.last else each.size for each in told] == [201, client.last]
        assert [each[1].size for each in client.told if each[0] == "error"] == [101]
        assert client.bufferedAmount == 0

    def test_revision3HasNoLimit(self) -> None:
        """A server that doesn't say how much it takes is sent everything."""
        client = RiggedClient(EIO=3, **WEBSOCKET).opened(maxPayload=None)
        client.send("x" * 10_000)
        assert client.last.texts() == ["x" * 10_000]

    def test_bufferLimit(self) -> None:
        """What the server doesn't take is bounded, by the same options as on a server."""
        client = RiggedClient(maxBufferedPackets=2, bufferLimitAction="raise", **POLLING)
        client.send("a").send("b")
        with pytest.raises(BufferLimitExceeded, match="the server doesn't take what it is sent"):
            client.send("c")

    def test_afterTheEnd(self) -> None:
        """After the end nothing is sent, nor kept."""
        client = RiggedClient(**POLLING).opened()
        client.close()
        client.send("x", lambda _: None).sendAll(["y"])
        assert (client.last.texts(), client.writeBuffer) == ([], [])

    def test_badCallback(self) -> None:
        """A callback that can't be called is refused before anything is sent."""
        client = RiggedClient()
        with pytest.raises(TypeError, match="a message is one argument"):
            client.send("a", "b")  # type: ignore[arg-type]
        assert client.writeBuffer == []


class TestHeartbeat:
    """The heartbeat, with the client at its other end."""

    def test_answersPings(self) -> None:
        """In revision 4 a ping is answered, and the next one is waited for."""
        client = RiggedClient(**WEBSOCKET).opened()
        for _ in range(3):
            client.clock.advance(44)
            client.last.receive(PacketType.PING)
        assert client.last.types() == [PacketType.PONG] * 3
        assert client.names.count("heartbeat") == 3
        assert client.readyState == "open"

    def test_noPing(self) -> None:
        """If none comes within pingInterval and pingTimeout, the session ends."""
        client = RiggedClient(**WEBSOCKET).opened()
        client.clock.advance(45)
        client.clock.pump([0.001] * 100)
        expected = ("close", "ping timeout", "no ping within pingInterval and pingTimeout, 45000 ms")
        assert client.told[-1] == expected
        assert client.clock.getDelayedCalls() == []

    def test_pongIsNone(self) -> None:
        """In revision 4 a server sends no pongs."""
        client = RiggedClient(**WEBSOCKET).opened()
        client.last.receive(PacketType.PONG)
        assert client.told[-1] == ("close", "transport error", "invalid heartbeat direction")

    def test_revision3(self) -> None:
        """In revision 3 the client pings, and ends the session if no pong comes."""
        client = RiggedClient(EIO=3, **WEBSOCKET).opened()
        client.clock.advance(25)
        assert client.last.types() == [PacketType.PING]
        client.last.receive(PacketType.PONG)
        client.clock.advance(25)
        assert client.last.types() == [PacketType.PING] * 2
        client.clock.advance(20)
        client.clock.pump([0.001] * 100)
        assert client.told[-1] == ("close", "ping timeout", "no pong within pingTimeout, 20000 ms")

    def test_manyPings(self) -> None:
        """A server that pings and takes nothing makes no more wait here than one pong."""
        client = RiggedClient(**WEBSOCKET).opened()
        client.last.writable = False
        for _ in range(1000):
            client.last.receive(PacketType.PING)
        assert [each.type for each in client.writeBuffer] == [PacketType.PONG]

    def test_paused(self) -> None:
        """While the application receives nothing, the server hears that the client is there, and the session lasts."""
        client = RiggedClient(**WEBSOCKET).opened()
        client.pauseReceiving()
        client.clock.pump([1] * 200)
        assert client.readyState == "open"
        # The server waits 20 s for each.
        assert len(client.last.types()) >= 10
        assert set(client.last.types()) == {PacketType.PONG}
        client.resumeReceiving()
        client.send("on")
        assert client.last.texts() == ["on"]
        client.clock.pump([1] * 46)
        client.clock.pump([0.001] * 100)
        assert client.names[-1] == "close"


class TestStandstill:
    """A machine that stood still, as one that was asleep, and then sends."""

    def stoodStill(self) -> RiggedClient:
        client = RiggedClient(**WEBSOCKET).opened()
        # No timer runs meanwhile.
        client.clock.rightNow += 1000
        client.send("late").sendAll(["later"])
        return client

    def test_nothingIsSent(self) -> None:
        """Nothing goes to a connection that may be gone; if no ping is read in a while, the session ends."""
        client = self.stoodStill()
        assert client.last.sent == []
        client.clock.rightNow -= 1000
        client.clock.advance(STANDSTILL_GRACE + 1000)
        client.clock.pump([0.001] * 100)
        assert client.names[-1] == "close"
        assert [each.data for each in client.writeBuffer] == ["late", "later"]
        assert client.last.texts() == []

    def test_pingIsRead(self) -> None:
        """If a ping is read that came meanwhile, what waits goes out."""
        client = self.stoodStill()
        client.last.receive(PacketType.PING)
        client.clock.advance(0)
        assert client.last.texts() == ["late", "later"]
        client.send("on")
        assert client.last.texts() == ["late", "later", "on"]
        assert client.readyState == "open"

    def test_endsWithThePing(self) -> None:
        """If the session ends in the turn in which the ping is read, nothing of it is left in the reactor."""
        client = self.stoodStill()
        client.last.receive(PacketType.PING)
        client.close(discard=True)
        client.resumeReceiving()
        assert client.clock.getDelayedCalls() == []

    def test_endsBeforeThePing(self) -> None:
        """Nor is anything if it ends before, and the application goes on with it."""
        client = self.stoodStill()
        client.close(discard=True)
        client.resumeReceiving()
        assert client.clock.getDelayedCalls() == []


class TestUpgrade:
    """The move from polling to WebSocket."""

    def test_upgrades(self) -> None:
        """The WebSocket is asked; polling comes to rest; the server is told; what waits goes out by WebSocket."""
        client = RiggedClient().opened()
        polling, webSocket = client.made
        assert (webSocket.name, webSocket.opened, client.upgrading) == ("websocket", {}, True)
        webSocket.ready()
        assert webSocket.sent == [Packet(PacketType.PING, PROBE)]
        assert not polling.isPaused
        client.send("by polling")
        webSocket.receive(PacketType.PONG, PROBE)
        assert (polling.isPaused, client.names[-1]) == (True, "upgrading")
        client.send("by websocket")
        polling.receive(PacketType.MESSAGE, "still by polling")
        polling.paused()
        assert polling.texts() == ["by polling"]
        assert webSocket.types() == [PacketType.PING, PacketType.UPGRADE, PacketType.MESSAGE]
        assert (client.transport, client.upgraded, client.upgrading) == (webSocket, True, False)
        assert (polling.reasons, client.told[-1]) == ([None], ("upgrade", webSocket))
        webSocket.receive(PacketType.MESSAGE, "first")
        assert client.messages == ["still by polling", "first"]

    @pytest.mark.parametrize(
        ("options", "opening"),
        [({"upgrade": False}, {}), (POLLING, {}), ({}, {"upgrades": []}), ({}, {"upgrades": ["webtransport"]})],
    )
    def test_notWanted(self, options: Any, opening: Any) -> None:
        """No WebSocket is tried if either side doesn't want one."""
        client = RiggedClient(**options).opened(**opening)
        client.clock.advance(40)
        assert len(client.made) == 1

    def test_fails(self) -> None:
        """A WebSocket that fails leaves the session on polling; another one is tried later, and later again."""
        client = RiggedClient().opened()
        polling = client.made[0]
        wait = UPGRADE_RETRY
        for count in range(2, 9):
            assert len(client.made) == count
            client.last.fail(FailureType.HTTP, "no WebSocket here")
            assert client.names[-1] == "upgradeError"
            assert client.told[-1][1].description == "no WebSocket here"
            assert (client.readyState, client.transport, client.upgrading) == ("open", polling, False)
            left = wait
            while left > 0:
                assert len(client.made) == count
                client.clock.advance(min(20, left))
                left -= 20
                polling.receive(PacketType.PING)
                polling.ready()
            wait = min(2 * wait, MAX_UPGRADE_RETRY)
        client.answerProbe()
        polling.paused()
        assert client.upgraded

    @pytest.mark.parametrize(
        ("type_", "data", "said"),
        [
            (PacketType.PONG, "prob", "the probe was answered pong prob: expected pong probe"),
            (PacketType.PONG, "", "the probe was answered pong : expected pong probe"),
            (PacketType.MESSAGE, b"\x01", "the probe was answered message b'\\x01': expected pong probe"),
            (PacketType.OPEN, "{}", "the probe was answered open {}: expected pong probe"),
            (PacketType.PING, PROBE, "the probe was answered ping probe: expected pong probe"),
        ],
    )
    def test_wrongAnswer(self, type_: PacketType, data: str | bytes, said: str) -> None:
        """Another answer than the one that is expected ends the try, and the WebSocket is closed."""
        client = RiggedClient().opened()
        client.last.ready()
        client.last.receive(type_, data)
        assert client.told[-1][0] == "upgradeError"
        assert (client.told[-1][1].type, client.told[-1][1].description) == (FailureType.PROBE, said)
        assert client.last.reasons == [None]
        assert client.messages == []

    def test_noAnswer(self) -> None:
        """A WebSocket that stays silent is given up after C{upgradeTimeout}."""
        client = RiggedClient(upgradeTimeout=200).opened()
        client.last.ready()
        client.clock.advance(0.2)
        client.clock.pump([0.001] * 50)
        failure = client.told[-1][1]
        assert (failure.type, failure.description) == (
            FailureType.TIMEOUT,
            "the upgrade took longer than upgradeTimeout, 200 ms",
        )

    def test_pollingNeverRests(self) -> None:
        """If polling doesn't come to rest in time, it goes on, and what waited goes out by it."""
        client = RiggedClient(upgradeTimeout=200).opened()
        client.answerProbe()
        client.send("waits")
        client.clock.advance(0.2)
        client.clock.pump([0.001] * 50)
        assert client.names[-1] == "upgradeError"
        assert (client.made[0].isPaused, client.made[0].texts()) == (False, ["waits"])
        # The old try is over, whatever comes of it.
        client.made[0].paused()
        assert client.transport is client.made[0]

    def test_candidateCloses(self) -> None:
        """A WebSocket that is closed without a failure of its own is a failed probe."""
        from engineio_twisted.interfaces import Closing

        client = RiggedClient().opened()
        client.transportClosed(client.last, Closing(None, "close frame with code 1000"))
        assert (client.told[-1][0], client.told[-1][1].type) == ("upgradeError", FailureType.PROBE)

    def test_endsMeanwhile(self) -> None:
        """The end of the session ends the try, without an event of its own and without a timer."""
        client = RiggedClient().opened()
        client.last.ready()
        client.made[0].fail(FailureType.LOST, "lost")
        assert client.names[-1] == "close"
        assert "upgradeError" not in client.names
        assert client.made[1].reasons == ["transport close"]
        assert client.clock.getDelayedCalls() == []


class TestRemembering:
    """C{rememberUpgrade}: where sessions have moved to WebSocket."""

    URL = "http://remembered.example"

    @pytest.fixture(autouse=True)
    def forget(self) -> Any:
        from engineio_twisted.client import upgrade

        yield
        upgrade._upgradedTo.clear()

    def upgraded(self, url: str = URL) -> None:
        client = RiggedClient(url)
        ignore(client.connect())
        client.last.open0()
        client.answerProbe()
        client.made[0].paused()

    def test_remembered(self) -> None:
        """After an upgrade a session with the same host and port begins on WebSocket, if that is wanted."""
        self.upgraded()
        for url, options, expected in (
            (self.URL, {"rememberUpgrade": True}, "websocket"),
            (self.URL + "/other?a=b", {"rememberUpgrade": True}, "websocket"),
            (self.URL, {}, "polling"),
            (self.URL + ":81", {"rememberUpgrade": True}, "polling"),
            (self.URL.replace("http", "https"), {"rememberUpgrade": True}, "polling"),
            ("http://another.example", {"rememberUpgrade": True}, "polling"),
            (self.URL, {"rememberUpgrade": True, **POLLING}, "polling"),
        ):
            client = RiggedClient(url, **options)
            ignore(client.connect())
            assert client.last.name == expected, (url, options)
            client.close()

    def test_forgotten(self) -> None:
        """If WebSocket fails then, polling is tried, and the next session begins with that."""
        self.upgraded()
        client = RiggedClient(self.URL, rememberUpgrade=True)
        client.connect()
        client.last.fail(FailureType.CONNECT)
        assert client.last.name == "polling"
        client.last.open0()
        assert client.readyState == "open"
        another = RiggedClient(self.URL, rememberUpgrade=True)
        another.connect()
        assert another.last.name == "polling"


class TestEnd:
    """How a session ends."""

    def test_close(self) -> None:
        """What was sent goes out first, then the transport is closed, and the Deferred fires when it is gone."""
        client = RiggedClient(**POLLING).opened()
        client.last.ready()
        client.send("a")
        client.send("b")
        gone = [client.close(), client.close()]
        assert (client.readyState, client.last.reasons) == ("closing", [])
        client.last.ready()
        client.last.ready()
        assert client.last.texts() == ["a", "b"]
        assert (client.readyState, client.last.reasons) == ("closed", ["forced close"])
        assert client.told[-1] == ("close", "forced close", "closed by the client")
        assert not any(each.called for each in gone)
        client.last.vanish()
        assert all(each.called for each in gone)
        assert client.close().called
        assert client.clock.getDelayedCalls() == []

    def test_closeTakesNoLongerThanItMay(self) -> None:
        """A server that takes nothing doesn't keep the client from ending."""
        client = RiggedClient(**WEBSOCKET).opened()
        client.last.writable = False
        client.send("waits")
        client.close()
        client.clock.advance(30)
        client.clock.pump([0.001] * 50)
        assert client.told[-1] == ("close", "forced close", "the server did not take what was buffered")

    def test_closeWaitsForAnUpgrade(self) -> None:
        """A session that is moving to WebSocket is closed there."""
        client = RiggedClient().opened()
        client.answerProbe()
        client.send("last")
        client.close()
        assert client.readyState == "closing"
        client.made[0].paused()
        assert client.last.texts() == ["last"]
        assert client.last.reasons == ["forced close"]
        assert client.readyState == "closed"

    def test_discard(self) -> None:
        """What is buffered can be dropped."""
        client = RiggedClient(**POLLING).opened()
        client.last.writable = False
        client.send("dropped")
        client.close(discard=True)
        assert (client.readyState, client.writeBuffer, client.last.texts()) == ("closed", [], [])

    def test_byServer(self) -> None:
        """A transport that fails ends the session with what has failed."""
        client = RiggedClient(**POLLING).opened()
        client.last.fail(FailureType.UNAVAILABLE, "503")
        assert client.told[-1] == ("close", "transport error", "503")
        assert client.failure is client.last.failure
        assert client.clock.getDelayedCalls() == []

    def test_secondOpenPacket(self) -> None:
        """A session is opened once."""
        client = RiggedClient(**WEBSOCKET).opened()
        client.last.open0()
        assert client.told[-1] == ("close", "parse error", "a second open packet")

    def test_nothingIsKept(self) -> None:
        """A client that nobody holds any more is collected, whatever has become of it."""
        from weakref import ref

        client = RiggedClient().onWebSocket()
        kept = ref(client)
        client.close()
        for each in client.made:
            each.vanish()
        del client, each
        gc.collect()
        assert kept() is None

    def test_work(self) -> None:
        """What the application has begun ends with the session."""
        client = RiggedClient(**WEBSOCKET).opened()
        called: list[int] = []
        client.callEvery(1, lambda: called.append(1))
        client.callLater(100, called.append, 2)
        closed = client.whenClosed()
        client.clock.pump([1] * 3)
        client.last.fail(FailureType.LOST)
        assert called == [1, 1, 1]
        assert closed.result == "transport close"
        assert client.clock.getDelayedCalls() == []


def test_reactor() -> None:
    """A client takes the running reactor if it is given none."""
    client = Client("http://127.0.0.1:1")
    assert not isinstance(client._connecting.clock, Clock)
    assert client.readyState == "opening"
