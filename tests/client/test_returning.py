"""A client whose connection is lost, and how it comes back to its session: on a clock, and in literal bytes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from twisted.web.http_headers import Headers

from engineio_twisted import PacketType, ServerObserver
from engineio_twisted.client import ConnectionFailed, FailedResponse, FailureType
from engineio_twisted.client.returning import MAX_DELAY
from engineio_twisted.interfaces import Closing
from engineio_twisted.session.resumption import SPLIT

from ..kit.client_rig import FakeClientTransport, RiggedClient
from ..kit.client_servers import OPEN, WEBSOCKET, ScriptedServer, answer, both, cuts, ends, frame
from ..kit.client_stories import telling
from ..kit.wire import CLOSE

GRANT = {"timeout": 60000, "packets": 40, "bytes": 1000}
ASKS = {"resume": "100000.32000000"}
MESSAGE = PacketType.MESSAGE


@pytest.fixture(autouse=True)
def longestDelays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let chance have the highest number each time."""
    monkeypatch.setattr(random, "uniform", lambda low, high: high)


class Client(RiggedClient):
    """A client that asks for resuming."""

    def __init__(self, *transports: str, **options: Any) -> None:
        super().__init__(**{"resume": True, "transports": transports or ("polling",), "upgrade": False, **options})
        self.heard: list[tuple[Any, ...]] = []
        for event in ("suspend", "resume", "close"):
            self.on(event, lambda *args, event=event: self.heard.append((event, *args)))  # type: ignore[call-overload]

    def granted(self, **changes: Any) -> Client:
        self.opened(resume=GRANT, **changes)
        return self

    def lose(self, type_: FailureType = FailureType.LOST, description: str = "lost") -> FakeClientTransport:
        """Lose the transport; return it."""
        transport = self.last
        transport.fail(type_, description)
        return transport

    def returned(self, received: int, **changes: Any) -> None:
        """Let the server answer the return."""
        self.last.open0(resume={**GRANT, "received": received}, **changes)

    def pass_(self, seconds: float) -> None:
        """Let time pass, in which what is due in between happens."""
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)


@pytest.fixture
def client() -> Iterator[Client]:
    client = Client().granted()
    yield client
    client.close(discard=True)
    assert client.clock.getDelayedCalls() == []


# Asking


@pytest.mark.parametrize("name", ["polling", "websocket"])
def test_asks(name: str) -> None:
    """It asks with its bounds, in the request that opens the session."""
    client = Client(name, maxBufferedPackets=12, maxBufferedBytes=345)
    client.connect()
    assert client.last.opened == {"resume": "12.345"}
    other = Client(name, resume=False)
    other.connect()
    assert other.last.opened == {}


def test_notGranted() -> None:
    """If the server grants nothing, the session isn't resumable."""
    client = Client().opened()
    assert client.transport is client.last
    client.last.fail(FailureType.LOST, "lost")
    assert client.told[-1] == ("close", "transport close", "lost")
    assert client.clock.getDelayedCalls() == []


def test_grantedUnasked() -> None:
    """What a server grants that wasn't asked changes nothing."""
    client = Client(resume=False).granted()
    assert client.transport is client.last


@pytest.mark.parametrize("grant", [True, {**GRANT, "bytes": 0}, {"timeout": 1}])
def test_wrongGrants(grant: object) -> None:
    """A grant that isn't right is no handshake."""
    client = Client()
    failures: list[Any] = []
    client.connect().addErrback(lambda failure: failures.append(failure.value))
    client.last.open0(resume=grant)
    assert [each.type for each in failures] == [FailureType.HANDSHAKE]
    assert "resume" in failures[0].description


# Coming back


def test_comesBack(client: Client) -> None:
    """It says what it has, sends what the server hasn't, and goes on; what was sent meanwhile comes last."""
    client.last.receive(MESSAGE, "one")
    client.last.receive(MESSAGE, "two")
    client.send("a").send("b").send("c")
    old = client.lose()
    assert client.heard == [("suspend", "lost")]
    assert client.failure is not None
    assert client.readyState == "open"
    client.send("d")
    client.clock.advance(0)
    assert client.last is not old
    assert (client.last.name, client.last.opened, client._connecting.attempt) == ("polling", {"received": "2"}, 1)
    client.returned(1)
    assert client.last.texts() == ["b", "c", "d"]
    assert client.heard == [("suspend", "lost"), ("resume",)]
    assert client.failure is None
    client.last.receive(MESSAGE, "three")
    assert client.messages == ["one", "two", "three"]
    assert old.closings[0].isByClient
    assert client.last.maxPayload == 1000


def test_nothingMoreOfTheOldOne(client: Client) -> None:
    """What still comes on the connection that was left isn't delivered."""
    old = client.lose()
    old.receive(MESSAGE, "late")
    client.clock.advance(0)
    old.receive(MESSAGE, "late")
    client.returned(0)
    old.receive(MESSAGE, "late")
    old.receive(PacketType.PING, "99")
    old.ready()
    assert client.messages == []


def test_tries() -> None:
    """At once, then after 0.5 s and ever twice as long; on the transport that it was on and the other one in turn."""
    client = Client("websocket", "polling").granted(upgrades=[])
    client.lose()
    tries: list[tuple[float, str]] = []
    began = client.clock.seconds()
    while client.readyState == "open":
        count = len(client.made)
        client.clock.advance(0.25)
        if len(client.made) > count:
            tries.append((client.clock.seconds() - began, client.last.name))
            client.last.fail(FailureType.CONNECT, "refused")
    assert [each for each, _ in tries[:6]] == [0.25, 0.75, 1.75, 3.75, 7.75, 12.75]
    assert [name for _, name in tries[:5]] == ["websocket", "polling", "websocket", "polling", "websocket"]
    assert {round(b - a, 2) for (a, _), (b, _) in pairwise(tries[4:])} == {MAX_DELAY}
    assert client.heard == [("suspend", "lost"), ("close", "transport close", "lost")]
    assert 60 <= client.clock.seconds() - began <= 61
    assert client.failure is not None
    assert client.failure.type is FailureType.LOST
    assert client.clock.getDelayedCalls() == []


@pytest.mark.parametrize(("upgrade", "expected"), [(True, {"polling", "websocket"}), (False, {"polling"})])
def test_triesWhatIsWanted(upgrade: bool, expected: set[str]) -> None:
    """A session that isn't to move to WebSocket doesn't come back there."""
    client = Client("polling", "websocket", upgrade=upgrade).granted(upgrades=[])
    client.lose()
    for _ in range(4):
        client.pass_(6)
        client.lose(FailureType.CONNECT)
    assert {each.name for each in client.made[1:]} == expected
    client.close(discard=True)


def test_jitter(monkeypatch: pytest.MonkeyPatch, client: Client) -> None:
    """Clients that were lost together don't come back together."""
    asked: list[tuple[float, float]] = []
    monkeypatch.setattr(random, "uniform", lambda low, high: asked.append((low, high)) or low)
    client.lose()
    client.clock.advance(0)
    client.last.fail(FailureType.CONNECT)
    count = len(client.made)
    client.clock.advance(0.25)
    assert (len(client.made), asked) == (count + 1, [(0.5, 1.0)])


def test_retryAfter(client: Client) -> None:
    """A server that is overloaded says when to try again."""
    client.lose()
    client.clock.advance(0)
    response = FailedResponse(503, Headers({"Retry-After": ["7"]}))
    client.last.failure = ConnectionFailed(FailureType.UNAVAILABLE, "status 503", "polling", response)
    client.last.owner.transportClosed(client.last, Closing(client.last.failure.reason, "status 503"))
    count = len(client.made)
    client.clock.advance(6.9)
    assert len(client.made) == count
    client.clock.advance(0.2)
    assert len(client.made) == count + 1


def test_aTryThatIsNotAnswered(client: Client) -> None:
    """It is given up after ten seconds; the next has a greater attempt, and an answer that is late changes nothing."""
    client.lose()
    client.clock.advance(0)
    silent = client.last
    client.clock.advance(10)
    assert len(silent.closings) == 1
    client.clock.advance(0.5)
    assert client.last is not silent
    assert client._connecting.attempt == 2
    silent.open0(resume={**GRANT, "received": 0})
    assert client.heard == [("suspend", "lost")]
    client.returned(0)
    assert client.heard[-1] == ("resume",)


def test_withoutProgress(client: Client) -> None:
    """A connection that is lost each time before anything has got through is tried less and less often."""
    client.send("too much for some proxy")
    tries: list[float] = []
    client.lose()
    while len(tries) < 4:
        count = len(client.made)
        client.clock.advance(0.25)
        if len(client.made) > count:
            tries.append(client.clock.seconds())
            client.returned(0)
            client.lose()
    assert [b - a for a, b in pairwise(tries)] == [0.5, 1, 2]
    client.clock.advance(4)
    client.returned(1)
    client.lose()
    count = len(client.made)
    client.clock.advance(0)
    assert len(client.made) == count + 1


# The end


@pytest.mark.parametrize(
    "type_", [FailureType.REFUSED, FailureType.AUTHENTICATION, FailureType.PARSE, FailureType.TOO_LARGE]
)
def test_noReturn(client: Client, type_: FailureType) -> None:
    """A server that doesn't know the session ends it, with the reason that suspended it."""
    client.lose()
    client.clock.advance(0)
    client.last.fail(type_, "Session ID unknown")
    assert client.heard[1:] == [("close", "transport close", "lost; no return: Session ID unknown")]
    assert client.failure is not None
    assert client.failure.type is type_


@pytest.mark.parametrize(
    ("type_", "isLoss"),
    [
        *((each, True) for each in ("dns", "connect", "tls", "timeout", "proxy", "redirect", "unavailable", "http")),
        *((each, True) for each in ("not engine.io", "lost")),
        *((each, False) for each in ("parse", "too large", "closed", "refused", "authentication")),
    ],
)
def test_whatSuspends(type_: str, isLoss: bool) -> None:
    """What the network, or something in it, does suspends; what the server means ends the session."""
    client = Client().granted()
    client.lose(FailureType(type_))
    assert [each[0] for each in client.heard] == ["suspend" if isLoss else "close"]
    client.close(discard=True)


def test_refusedAsSuspended(client: Client) -> None:
    """The server may notice first that a connection is lost, and refuse what comes on another one."""
    body = b'{"code":3,"message":"Bad request: the session waits for a return"}'
    client.last.failure = ConnectionFailed(FailureType.REFUSED, "refused", "polling", FailedResponse(400, body=body))
    client.last.owner.transportClosed(client.last, Closing(client.last.failure.reason, "refused"))
    assert client.heard == [("suspend", "refused")]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"sid": "other"}, "not that of the session"),
        ({"resume": None}, "not that of the session"),
        ({"resume": GRANT}, "not that of the session"),
        ({"resume": {**GRANT, "received": 2}}, "the server has 2 messages, of 1 sent"),
        ({"resume": {**GRANT, "received": -1}}, "received of resume"),
        ({"pingInterval": 0}, "pingInterval"),
    ],
)
def test_wrongAnswers(client: Client, changes: dict[str, Any], problem: str) -> None:
    """An open packet that can't be that of the session ends it, or, if it isn't one, the next is waited for."""
    client.send("one")
    client.lose()
    client.clock.advance(0)
    client.last.open0(**{"resume": {**GRANT, "received": 0}, **changes})
    if problem in ("pingInterval", "received of resume"):
        assert [each[0] for each in client.heard] == ["suspend"]
        return
    assert problem in client.heard[1][2]
    assert client.failure is not None
    assert client.failure.type is FailureType.PARSE


def test_anotherPacketFirst(client: Client) -> None:
    """So does any other packet."""
    client.lose()
    client.clock.advance(0)
    client.last.receive(PacketType.NOOP)
    assert [each[0] for each in client.heard] == ["suspend", "close"]


@pytest.mark.parametrize("isTrying", [False, True])
@pytest.mark.parametrize("discard", [False, True])
def test_closedWhileSuspended(isTrying: bool, discard: bool) -> None:
    """It ends at once, and lets go of a try."""
    client = Client().granted()
    client.lose()
    if isTrying:
        client.clock.advance(0)
    closed = client.close(discard)
    assert client.heard[1:] == [("close", "forced close", "closed by the client")]
    assert client.clock.getDelayedCalls() == []
    assert len(client.last.closings) == 1
    for each in client.made:
        each.vanish()
    assert closed.called


def test_handlersThatClose() -> None:
    """A handler of either event may close the client."""
    for event in ("suspend", "resume"):
        client = Client().granted()
        client.on(event, lambda *_, client=client: client.close() and None)  # type: ignore[call-overload]
        client.send("one")
        client.lose()
        client.clock.advance(0)
        if event == "resume":
            client.returned(0)
        assert client.readyState in ("closing", "closed")
        client.clock.advance(31)
        assert client.readyState == "closed"
        assert client.clock.getDelayedCalls() == []


# Heartbeats, upgrades, pauses


def test_heartbeats(client: Client) -> None:
    """Pongs have the number of messages that have come; a server that doesn't ping is away."""
    client.last.receive(MESSAGE, "one")
    client.last.receive(PacketType.PING, "0")
    assert [(each.type, each.data) for each in client.last.sent] == [(PacketType.PONG, "1")]
    client.pass_(46)
    assert client.heard == [("suspend", "no ping within pingInterval and pingTimeout, 45000 ms")]
    client.returned(0)
    client.pass_(44)
    assert [each[0] for each in client.heard] == ["suspend", "resume"]
    client.pass_(2)
    assert [each[0] for each in client.heard] == ["suspend", "resume", "suspend"]


def test_acknowledges(client: Client) -> None:
    """A quarter of what the server may keep is acknowledged, and what it acknowledges is kept no longer."""
    for number in range(9):
        client.last.receive(MESSAGE, str(number))
    assert client.last.sent == []
    client.last.receive(MESSAGE, "9")
    assert [(each.type, each.data) for each in client.last.sent] == [(PacketType.NOOP, "10")]
    client.last.ready()
    client.send("a")
    client.last.ready()
    client.send("b")
    assert client.bufferedAmount == 2
    client.last.receive(PacketType.NOOP, "1")
    assert client.bufferedAmount == 1
    client.last.receive(PacketType.NOOP, "3")
    assert client.heard == [("close", "parse error", "3 messages acknowledged, of 2 sent")]


def test_upgradesAgain() -> None:
    """What was being tried out is given up; after a return by polling another WebSocket is."""
    client = Client("polling", "websocket", upgrade=True).granted()
    polling, probing = client.made
    client.answerProbe()
    polling.fail(FailureType.LOST, "lost")
    assert len(probing.closings) == 1
    client.clock.advance(0)
    client.returned(0)
    assert [each.name for each in client.made] == ["polling", "websocket", "polling", "websocket"]
    client.answerProbe()
    client.made[2].paused()
    assert client.transport.name == "websocket"
    assert client.last.types() == [PacketType.PING, PacketType.UPGRADE]
    client.send("a")
    assert client.last.texts() == ["a"]
    client.close(discard=True)


def test_aPongThatWaitsInAnUpgrade() -> None:
    """It is sent on the WebSocket: polling begins nothing more."""
    client = Client("polling", "websocket", upgrade=True).granted()
    polling = client.made[0]
    client.answerProbe()
    polling.receive(PacketType.PING, "0")
    polling.paused()
    assert client.last.types() == [PacketType.PING, PacketType.UPGRADE, PacketType.PONG]
    client.close(discard=True)


def test_anUpgradeWhileMuchIsSentAgain() -> None:
    """What a return hasn't sent again yet goes out on the WebSocket, before anything else; pongs don't wait for it."""
    client = Client("polling", "websocket", upgrade=True, maxPacketsPerPayload=2).granted()
    polling = client.last if client.last.name == "polling" else client.made[0]
    for number in range(6):
        polling.ready()
        client.send(str(number))
    polling.fail(FailureType.LOST, "lost")
    client.clock.advance(0)
    returning = client.last
    returning.room = 2
    client.returned(1)
    assert returning.texts() == ["1", "2"]
    returning.receive(PacketType.PING, "1")
    client.send("6")
    returning.ready(2)
    assert returning.texts() == ["1", "2", "3"]
    assert returning.sent[2].type is PacketType.PONG
    client.answerProbe()
    returning.paused()
    assert client.transport.name == "websocket"
    client.last.ready()
    assert client.last.texts() == ["4", "5", "6"]
    client.close(discard=True)


def test_anAcknowledgementThatIsOvertaken() -> None:
    """What came by polling may wait behind the upgrade; the WebSocket may say more by then."""
    client = Client("polling", "websocket", upgrade=True).granted()
    polling = client.made[0]
    client.send("a")
    polling.ready()
    client.send("b")
    polling.isDelivering = True
    client.answerProbe()
    polling.paused()
    client.last.receive(PacketType.NOOP, "2")
    polling.receive(PacketType.NOOP, "1")
    assert (client.heard, client.bufferedAmount) == ([], 0)
    polling.isDelivering = False
    polling.owner.transportDelivered(polling)
    client.last.receive(PacketType.NOOP, "1")
    assert [each[:2] for each in client.heard] == [("close", "parse error")]


def test_fromWebSocketToPolling() -> None:
    """A client that moved to WebSocket tries that first, then polling, and moves again."""
    client = Client("polling", "websocket", upgrade=True).granted()
    client.answerProbe()
    client.made[0].paused()
    client.lose()
    client.clock.advance(0)
    assert client.last.name == "websocket"
    client.last.fail(FailureType.HANDSHAKE, "a proxy without WebSocket")
    client.clock.advance(0.5)
    assert client.last.name == "polling"
    client.returned(0)
    assert (client.last.name, client.upgrading) == ("websocket", True)
    client.close(discard=True)


def test_whatIsHeld(client: Client) -> None:
    """Messages that came while receiving was paused are dropped when the client tries, and come again."""
    client.pauseReceiving()
    client.last.receive(MESSAGE, "one")
    client.lose()
    client.clock.advance(0)
    assert client.last.opened == {"received": "0"}
    client.resumeReceiving()
    assert client.messages == []
    client.returned(0)
    client.last.receive(MESSAGE, "one")
    assert client.messages == ["one"]


def test_aMachineThatSlept(client: Client) -> None:
    """A client that finds the server silent when it sends leaves the connection instead of its session."""
    client.last.receive(PacketType.PING)
    client.clock.rightNow += 100
    client.send("a")
    assert client.last.texts() == []
    client.clock.advance(2)
    assert client.heard[0][0] == "suspend"
    client.clock.advance(0)
    client.returned(0)
    assert client.last.texts() == ["a"]


# At will


def test_reconnect(client: Client) -> None:
    """A client that knows that the network has changed leaves its connection, or doesn't wait for the next try."""
    client.reconnect()
    assert client.heard == [("suspend", "the client leaves the connection for another one")]
    client.clock.advance(0)
    trying = client.last
    client.reconnect()
    client.clock.advance(0)
    assert client.last is trying
    trying.fail(FailureType.CONNECT)
    client.reconnect()
    client.clock.advance(0)
    assert client.last is not trying
    client.returned(0)
    assert client.heard[-1] == ("resume",)


@pytest.mark.parametrize("how", ["lost", "reconnect"])
@pytest.mark.parametrize("does", ["close", "reconnect"])
@pytest.mark.parametrize("event", ["suspend", "upgradeError"])
def test_handlersInALoss(event: str, does: str, how: str) -> None:
    """What a handler does while the session is being suspended makes no second try, and none of a closed session."""
    client = Client("polling", "websocket", upgrade=True).granted()
    client.answerProbe()

    def handler(*_: object) -> None:
        client.close(discard=True) if does == "close" else client.reconnect()

    client.once(event, handler)  # type: ignore[call-overload]
    if how == "lost":
        client.made[0].fail(FailureType.LOST, "lost")
    else:
        client.reconnect()
    made = len(client.made)
    client.clock.advance(0)
    client.clock.advance(0)
    if does == "close":
        assert len(client.made) == made
        assert [each[0] for each in client.heard][-1] == "close"
    else:
        assert len(client.made) == made + 1
        client.returned(0)
        assert [each[0] for each in client.heard] == ["suspend", "resume"]
        client.close(discard=True)
    assert client.clock.getDelayedCalls() == []


def test_lostInAnUpgrade() -> None:
    """What moved is given up, and why is said."""
    client = Client("polling", "websocket", upgrade=True).granted()
    client.made[0].fail(FailureType.LOST, "cut")
    [(_, failure)] = [each for each in client.told if each[0] == "upgradeError"]
    assert (failure.type, failure.description, failure.transport) == ("lost", "polling has failed: cut", "polling")
    client.close(discard=True)


def test_closedByAnObserver(client: Client) -> None:
    """An observer may close the session that it hears of. No event follows the close."""

    class Closes(ServerObserver):
        def suspended(self, socket: Any, description: str) -> None:
            socket.close()

    client._host.counters.add(Closes())
    client.lose()
    assert [each[0] for each in client.heard] == ["close"]
    client.clock.advance(0)
    assert len(client.made) == 1


def test_closedByAnObserverOfReturns(client: Client) -> None:
    """The same when it has come back."""

    class Closes(ServerObserver):
        def resumed(self, socket: Any) -> None:
            socket.close(discard=True)

    client._host.counters.add(Closes())
    client.lose()
    client.clock.advance(0)
    client.returned(0)
    assert [each[0] for each in client.heard] == ["suspend", "close"]


def test_reconnectsWhenResumed() -> None:
    """A handler of the return may leave that connection too: nothing is tried on it."""
    client = Client("polling", "websocket", upgrade=True).granted()
    client.made[0].fail(FailureType.LOST, "lost")
    client.clock.advance(0)
    client.once("resume", client.reconnect)
    client.returned(0)
    client.clock.advance(0)
    # The session, what it was to move to, and two returns.
    assert [each.opened for each in client.made[1:]] == [{}, {"received": "0"}, {"received": "0"}]
    client.close(discard=True)
    assert client.clock.getDelayedCalls() == []


def test_textThatPollingSplits(client: Client) -> None:
    """Text that would arrive as several messages isn't sent: the session ends, and says why."""
    client.send("a\x1e4b")
    assert client.last.texts() == []
    assert client.told[-1] == ("close", "parse error", SPLIT)
    assert client.failure is not None
    assert client.failure.type is FailureType.PARSE


def test_reconnectWithoutResume() -> None:
    """It does nothing, nor before the session is open, nor after it was."""
    client = Client()
    client.reconnect()
    client.opened()
    client.reconnect()
    assert client.readyState == "open"
    client.close(discard=True)
    resumable = Client().granted()
    resumable.close(discard=True)
    resumable.reconnect()
    assert resumable.clock.getDelayedCalls() == []


# In literal bytes

RESUME = b'"resume":{"timeout":60000,"packets":8,"bytes":1000'
GRANTED = OPEN[:-1] + b"," + RESUME + b"}}"
BACK = OPEN[:-1] + b"," + RESUME + b',"received":1}}'


def targets(server: ScriptedServer) -> list[str]:
    return [f"{each.method} {each.target.partition('&t=')[0]}" for each in server.asked]


def test_literallyByPolling() -> None:
    """What is asked and what is posted, by a client whose GET is cut."""
    gets = [answer(GRANTED), answer(b"4one\x1e20"), cuts(b"HTTP/1.1 200 OK\r\nContent-Le"), answer(BACK + b"\x1e4two")]
    server = ScriptedServer(map(both, gets))
    with telling(server, resume=True, transports=["polling"]) as story:
        story.connect()
        story.client.send("a").send(b"b")
        for _ in range(5):
            story.advance(0.01)
        assert story.messages() == ["one", "two"]
        assert targets(server) == [
            "GET /engine.io/?EIO=4&transport=polling&resume=100000.32000000",
            "GET /engine.io/?EIO=4&transport=polling&sid=S",
            "POST /engine.io/?EIO=4&transport=polling&sid=S",
            "GET /engine.io/?EIO=4&transport=polling&sid=S",
            "POST /engine.io/?EIO=4&transport=polling&sid=S",
            "POST /engine.io/?EIO=4&transport=polling&sid=S",
            "GET /engine.io/?EIO=4&transport=polling&sid=S&attempt=1&received=1",
            "POST /engine.io/?EIO=4&transport=polling&sid=S&attempt=1",
            "GET /engine.io/?EIO=4&transport=polling&sid=S&attempt=1",
        ]
        # The server has one of the two, as it says.
        assert server.bodies() == [b"31", b"4a", b"bYg==", b"bYg=="]


def test_literallyOnWebSocket() -> None:
    """The same on WebSocket; the end is a close packet and a close frame, so that the server doesn't wait."""
    server = ScriptedServer(
        webSockets=[both(WEBSOCKET, frame(GRANTED.decode())), both(WEBSOCKET, frame(BACK.decode()), frame("4two"))],
    )
    with telling(server, resume=True, transports=["websocket"]) as story:
        story.connect()
        story.client.send("a").send("b")
        story.say(frame("4one"))
        story.do(ends(frame(b"\x03\xe9", CLOSE)))
        story.advance(0.01)
        assert story.messages() == ["one", "two"]
        assert targets(server) == [
            "GET /engine.io/?EIO=4&transport=websocket&resume=100000.32000000",
            "GET /engine.io/?EIO=4&transport=websocket&sid=S&attempt=1&received=1",
        ]
        assert server.texts() == [b"4a", b"4b", b"4b"]
        story.client.close()
        story.advance(0.01)
        assert server.heard[-2:] == [(1, b"1"), (CLOSE, b"\x03\xe8")]


def test_aClosePacketOnWebSocket() -> None:
    """A server that closes the session says so by a packet; a close frame alone may come from something in between."""
    server = ScriptedServer(webSockets=[both(WEBSOCKET, frame(GRANTED.decode()), frame("1"))])
    with telling(server, resume=True, transports=["websocket"]) as story:
        story.connect()
        story.advance(1)
        assert [(str(reason), text) for reason, text in story.all("close")] == [("transport close", "close packet")]
        assert len(server.asked) == 1
