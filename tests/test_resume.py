"""Sessions that go on after their connections were lost, at the server's end: literal bytes, in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from engineio_twisted import BufferLimitExceeded, ServerObserver
from engineio_twisted.session.resumption import SPLIT
from engineio_twisted.socketio import SocketIO

from .kit.memory import Connection, Memory
from .kit.wire import CLOSE, framesOf, http, makeFrame, target, upgrade

TIMEOUT = 60_000
OPTIONS: dict[str, Any] = {"resumeTimeout": TIMEOUT, "pingInterval": 25_000, "pingTimeout": 20_000}
ASK = "16.1000"
DROPPED = (
    'connection was closed uncleanly ("peer dropped the TCP connection without previous WebSocket closing handshake")'
)


class Peer:
    """
    A client that does what a test says.

    @ivar sid: the id of its session.
    @ivar events: what the session emitted.
    @ivar got: the messages that the application got.
    """

    def __init__(self, memory: Memory, transport: str, resume: str | None = ASK) -> None:
        self.memory = memory
        opening = self.begin(transport, resume=resume)
        self.sid = json.loads(opening[0][1:])["sid"]
        self.opening = opening[0]
        self.socket = memory.sockets[-1]
        self.events: list[tuple[Any, ...]] = []
        self.got: list[Any] = []
        self.attempt: int | None = None
        self.socket.on("message", lambda data: self.got.append(data))
        for event in ("suspend", "resume", "close", "upgrade"):
            self.socket.on(event, self._remember(event))

    def _remember(self, event: str) -> Any:
        if event == "upgrade":
            return lambda transport: self.events.append((event, transport.name))
        if event in ("suspend", "close"):
            return (lambda text: self.events.append((event, text))) if event == "suspend" else self._closed
        return lambda: self.events.append((event,))

    def _closed(self, reason: str, description: str) -> None:
        self.events.append(("close", str(reason), description))

    def begin(self, transport: str, **query: object) -> list[str]:
        """Send a GET, and return the packets of its response; on WebSocket those of its first frames."""
        if transport == "polling":
            return self.get(**query)
        self.connection = self.memory.connect(upgrade(target(transport="websocket", **query)))
        head, _, rest = self.connection.taken().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        return [each.payload.decode() for each in framesOf(rest)]

    def comeBack(self, transport: str, attempt: int, received: int) -> list[str]:
        self.attempt = attempt
        return self.begin(transport, sid=self.sid, attempt=attempt, received=received)

    def ask(self, method: str = "GET", body: bytes | None = None, **query: object) -> Connection:
        """Send a request of polling."""
        return self.memory.connect(http(method, target(**query), body=body))

    def get(self, **query: object) -> list[str]:
        connection = self.ask(**query)
        assert status(connection) == 200, connection.value()
        return packets(connection)

    @property
    def mine(self) -> dict[str, object]:
        return {"sid": self.sid, "attempt": self.attempt}

    def poll(self) -> list[str]:
        return self.get(**self.mine)

    def post(self, *texts: str) -> None:
        connection = self.ask("POST", "\x1e".join(texts).encode(), **self.mine)
        assert connection.value().endswith(b"\r\n\r\nok"), connection.value()

    def say(self, *texts: str | bytes) -> None:
        """Send frames."""
        self.connection.say(*map(makeFrame, texts))

    def frames(self) -> list[str]:
        """The frames that came since this was last asked; of a close frame its code."""
        found = framesOf(self.connection.taken())
        return [f"close {each.code}" if each.opcode == CLOSE else each.payload.decode() for each in found]


def status(connection: Connection) -> int:
    return int(connection.value().split(b" ", 2)[1])


def packets(connection: Connection) -> list[str]:
    return connection.value().partition(b"\r\n\r\n")[2].decode().split("\x1e")


def refusal(connection: Connection) -> tuple[int, str]:
    return status(connection), json.loads(connection.value().partition(b"\r\n\r\n")[2])["message"]


@pytest.fixture
def memory() -> Iterator[Memory]:
    memory = Memory(**OPTIONS)
    yield memory
    memory.server.close()
    memory.end()
    assert memory.clock.getDelayedCalls() == []


onEach = pytest.mark.parametrize("transport", ["polling", "websocket"])
onBoth = pytest.mark.parametrize(
    ("before", "after"),
    [("polling", "polling"), ("polling", "websocket"), ("websocket", "polling"), ("websocket", "websocket")],
)


# The handshake


@onEach
def test_granted(memory: Memory, transport: str) -> None:
    """A client that asks is told for how long the server waits, and how much that keeps."""
    peer = Peer(memory, transport)
    upgrades = '["websocket"]' if transport == "polling" else "[]"
    assert peer.opening == (
        f'0{{"sid":"{peer.sid}","upgrades":{upgrades},"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000,'
        '"resume":{"timeout":60000,"packets":100000,"bytes":32000000}}'
    )


@onEach
@pytest.mark.parametrize(
    ("options", "resume"), [({}, ASK), (OPTIONS, None), (OPTIONS, ""), (OPTIONS, "1"), (OPTIONS, "0.5"), ({}, None)]
)
def test_others(transport: str, options: dict[str, Any], resume: str | None) -> None:
    """A client that doesn't ask, and one that asks a server without the option, see the plain protocol, all of it."""
    options = {**OPTIONS, "resumeTimeout": options.get("resumeTimeout")}
    memory = Memory(**options)
    peer = Peer(memory, transport, resume)
    upgrades = '["websocket"]' if transport == "polling" else "[]"
    assert peer.opening == (
        f'0{{"sid":"{peer.sid}","upgrades":{upgrades},"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}}'
    )
    many = [f"4{number}" for number in range(20)]
    if transport == "polling":
        peer.post(*many)
        assert peer.poll() == many
        memory.advance(25)
        assert peer.poll() == ["2"]
        peer.post("3")
        # Its query is an application's own.
        waiting = peer.ask(sid=peer.sid, attempt="x", received="y")
        assert waiting.value() == b""
        peer.socket.send("served")
        assert packets(waiting) == ["4served"]
    else:
        peer.say(*many)
        assert peer.frames() == many
        memory.advance(25)
        assert peer.frames() == ["2"]
        peer.say("3")
        peer.connection.lose()
        assert [each[0] for each in peer.events] == ["close"]
    memory.server.close()
    memory.end()


# Returns


@onBoth
def test_comingBack(memory: Memory, before: str, after: str) -> None:
    """What neither end knows of the other to have is sent again, what they have isn't, on whichever transport."""
    peer = Peer(memory, before)
    if before == "polling":
        # The response to what was sent is lost, with the connection of the GET.
        peer.post("4one", "4two")
        waiting = peer.poll()
        assert waiting == ["4one", "4two"]
        peer.ask(**peer.mine).lose()
        assert peer.events == [("suspend", "poll connection closed prematurely")]
    else:
        peer.say("4one", "4two")
        assert peer.frames() == ["4one", "4two"]
        peer.connection.lose()
        assert peer.events == [("suspend", DROPPED)]
    assert peer.socket.readyState == "open"
    peer.socket.send("three")
    memory.advance(59)
    assert not peer.socket.writable
    upgrades = '["websocket"]' if after == "polling" else "[]"
    opening = (
        f'0{{"sid":"{peer.sid}","upgrades":{upgrades},"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000,'
        '"resume":{"timeout":60000,"packets":100000,"bytes":32000000,"received":2}}'
    )
    assert peer.comeBack(after, 1, 1) == [
        opening,
        "4two",
        *(["4three"] if after == "websocket" else []),
    ]
    assert peer.events[1] == ("resume",)
    if after == "polling":
        assert peer.poll() == ["4three"]
        peer.post("4four")
        assert peer.poll() == ["4four"]
    else:
        peer.say("4four")
        assert peer.frames() == ["4four"]
    assert peer.got == ["one", "two", "four"]
    # As many heartbeats as ever.
    memory.advance(25)
    assert (peer.poll() if after == "polling" else peer.frames()) == ["23"]
    stats = memory.server.stats()
    assert (stats.suspended, stats.resumed, sum(stats.sessions.values()), stats.sessions[after]) == (1, 1, 1, 1)


@onEach
def test_nobodyComesBack(memory: Memory, transport: str) -> None:
    """After `resumeTimeout` the session ends with the reason that suspended it, and nobody can come back."""
    peer = Peer(memory, transport)
    (peer.ask(**peer.mine) if transport == "polling" else peer.connection).lose()
    suspended = peer.events[0][1]
    memory.advance(59.5)
    assert peer.events == [("suspend", suspended)]
    memory.advance(1)
    reason = "transport error" if transport == "polling" else "transport close"
    assert peer.events[1:] == [("close", reason, suspended)]
    assert refusal(peer.ask(sid=peer.sid, attempt=1, received=0)) == (400, "Session ID unknown")


@onEach
def test_aReturnWhoseResponseIsLost(memory: Memory, transport: str) -> None:
    """It is repeated with a greater attempt; the earlier one, delivered late, is refused and changes nothing."""
    peer = Peer(memory, "websocket")
    peer.say("4one")
    peer.connection.lose()
    assert peer.comeBack(transport, 1, 0)[1:] == ["4one"]
    assert peer.comeBack(transport, 7, 0)[1:] == ["4one"]
    late = peer.ask(sid=peer.sid, attempt=1, received=0)
    assert refusal(late) == (400, "Bad request: not the present attempt of the session")
    same = peer.ask(sid=peer.sid, attempt=7, received=0)
    assert refusal(same) == (400, "Bad request: not the present attempt of the session")
    assert memory.server.stats().refused == {"WRONG_ATTEMPT": 2}
    if transport == "polling":
        peer.post("4two")
        assert peer.poll() == ["4two"]
    else:
        peer.say("4two")
        assert peer.frames() == ["4two"]
    assert peer.got == ["one", "two"]


@onBoth
def test_aConnectionThatTheServerTakesForOpen(memory: Memory, before: str, after: str) -> None:
    """Is replaced, as when a phone changes networks: what still comes on it isn't delivered, nothing goes out on it."""
    peer = Peer(memory, before)
    waiting = peer.ask(**peer.mine) if before == "polling" else peer.connection
    old = waiting
    assert len(peer.comeBack(after, 1, 0)) == 1
    assert peer.events == [("suspend", "the client came back on another connection"), ("resume",)]
    if before == "polling":
        assert packets(old) == ["6"]
        assert status(peer.ask("POST", b"4late", sid=peer.sid)) == 400
        assert status(peer.ask(sid=peer.sid)) == 400
    else:
        old.say(makeFrame("4late"))
        assert [each.opcode for each in framesOf(old.taken())] == [CLOSE]
    peer.socket.send("hello")
    assert (peer.poll() if after == "polling" else peer.frames()) == ["4hello"]
    assert peer.got == []


def test_aPostThatArrivesDuringTheReturn(memory: Memory) -> None:
    """One whose body isn't complete when the client comes back is never delivered, whoever completes it."""
    peer = Peer(memory, "polling")
    whole = http("POST", target(sid=peer.sid), body=b"4late")
    posting = memory.connect(whole[:-2])
    assert peer.socket.heldBytes == 3
    peer.comeBack("polling", 1, 0)
    posting.say(whole[-2:])
    assert posting.isLost
    assert peer.got == []
    peer.post("4late")
    assert peer.got == ["late"]


def test_aPostThatIsBeingDelivered(memory: Memory) -> None:
    """The rest of one isn't delivered when the client has come back: it is sent again."""
    peer = Peer(memory, "polling")
    peer.socket.once("message", lambda data: peer.socket.pauseReceiving())
    posting = peer.ask("POST", b"4one\x1e4two", sid=peer.sid)
    assert (posting.value(), peer.got) == (b"", ["one"])
    opening = peer.comeBack("polling", 1, 0)
    assert '"received":1}' in opening[0]
    assert status(posting) == 400
    assert peer.poll() == ["4one"]
    peer.socket.resumeReceiving()
    memory.advance(0)
    peer.post("4two")
    assert peer.got == ["one", "two"]


def test_whatIsHeldWhileReceivingIsPaused(memory: Memory) -> None:
    """It isn't acknowledged. At a return it is dropped, and the client sends it again; the pause goes on."""
    peer = Peer(memory, "websocket", "1000.1000")
    peer.say("4one")
    peer.socket.pauseReceiving()
    # All that is read at once is held.
    peer.connection.say(makeFrame("4two") + makeFrame("4three"))
    peer.connection.lose()
    opening = peer.comeBack("websocket", 1, 1)
    assert '"received":1}' in opening[0]
    peer.say("4two", "4three")
    memory.advance(25)
    assert peer.frames() == ["21"]
    peer.socket.resumeReceiving()
    memory.advance(0)
    assert peer.got == ["one", "two", "three"]
    assert peer.frames() == ["4two", "4three"]
    peer.say("33")
    memory.advance(25)
    assert peer.frames() == ["23"]


def test_whatIsDeliveredWhileSuspended(memory: Memory) -> None:
    """An application that goes on receiving while the client is away gets what is held, once."""
    peer = Peer(memory, "polling")
    peer.socket.pauseReceiving()
    peer.ask("POST", b"4one", sid=peer.sid)
    peer.ask(**peer.mine).lose()
    peer.socket.resumeReceiving()
    memory.advance(0)
    count = len(peer.got)
    assert f'"received":{count}}}' in peer.comeBack("polling", 1, 0)[0]
    peer.post(*["4one", "4two"][count:])
    assert peer.got == ["one", "two"]


# Refusals


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ({"attempt": "1", "received": "-1"}, "INVALID_RESUME"),
        ({"attempt": "one", "received": "0"}, "INVALID_RESUME"),
        ({"attempt": "1" * 16, "received": "0"}, "INVALID_RESUME"),
        ({"attempt": "0", "received": "0"}, "WRONG_ATTEMPT"),
        ({"received": "0"}, "WRONG_ATTEMPT"),
        ({"attempt": "1"}, "WRONG_ATTEMPT"),
        ({"attempt": "1", "received": "0", "EIO": "3"}, "PROTOCOL_MISMATCH"),
        ({"attempt": "1", "received": "0", "transport": "pigeon"}, "UNKNOWN_TRANSPORT"),
        ({"attempt": "1", "received": "0", "transport": "websocket"}, "TRANSPORT_HANDSHAKE_ERROR"),
    ],
)
def test_wrongReturns(memory: Memory, query: dict[str, object], name: str) -> None:
    """A request that is no return, or not the next one, is refused by its name and touches nothing."""
    peer = Peer(memory, "polling")
    for isSuspended in (False, True):
        assert status(peer.ask(**{"sid": peer.sid, **query})) == 400
        assert memory.server.stats().refused == {name: 1 + isSuspended}
        if not isSuspended:
            peer.ask(sid=peer.sid).lose()
    assert [each[0] for each in peer.events] == ["suspend"]
    assert len(peer.comeBack("polling", 1, 0)) == 1


def test_otherMethods(memory: Memory) -> None:
    """Only a GET comes back."""
    peer = Peer(memory, "polling")
    assert status(peer.ask("POST", b"4a", sid=peer.sid, attempt=1, received=0)) == 405
    assert status(peer.ask("DELETE", sid=peer.sid, attempt=1, received=0)) == 405
    assert peer.events == peer.got == []


def test_whileSuspended(memory: Memory) -> None:
    """A request that doesn't come back is refused."""
    peer = Peer(memory, "polling")
    peer.ask(sid=peer.sid).lose()
    for method, body in (("GET", None), ("POST", b"4a")):
        assert refusal(peer.ask(method, body, sid=peer.sid)) == (400, "Bad request: the session waits for a return")
    probing = memory.connect(upgrade(target(transport="websocket", sid=peer.sid)))
    assert status(probing) == 400
    assert memory.server.stats().refused == {"SESSION_SUSPENDED": 3}
    assert peer.got == []


@onEach
@pytest.mark.parametrize("received", [3, 10**14])
def test_moreThanWasSent(memory: Memory, transport: str, received: int) -> None:
    """A client that has more than was sent has counted wrongly: it is refused, and the session ends."""
    peer = Peer(memory, transport)
    if transport == "polling":
        peer.post("4a", "4b")
        peer.poll()
    else:
        peer.say("4a", "4b")
    what = f"the client has {received} messages, of 2 sent"
    assert refusal(peer.ask(sid=peer.sid, attempt=1, received=received)) == (400, f"Bad request: {what}")
    assert peer.events == [("close", "parse error", what)]


def test_lessThanWasAcknowledged(memory: Memory) -> None:
    """So has one that has less than it said before: what it acknowledged isn't there any more."""
    peer = Peer(memory, "websocket")
    peer.say("4a", "4b", "62")
    assert refusal(peer.ask(sid=peer.sid, attempt=1, received=1))[0] == 400
    assert peer.events == [("close", "parse error", "the client has 1 messages, of 2 sent")]


@onEach
@pytest.mark.parametrize("packet", ["61", "3a", "3-1", "6" + "1" * 16, "3\u0661"])
def test_wrongAcknowledgements(memory: Memory, transport: str, packet: str) -> None:
    """An acknowledgement that is no number, or of more than was sent, ends the session."""
    peer = Peer(memory, transport)
    if transport == "polling":
        assert status(peer.ask("POST", packet.encode(), sid=peer.sid)) == 400
    else:
        peer.say(packet)
    assert [each[:2] for each in peer.events] == [("close", "parse error")]


# The end


@onEach
def test_aClosePacketOfTheClient(memory: Memory, transport: str) -> None:
    """It ends the session at once."""
    peer = Peer(memory, transport)
    if transport == "polling":
        peer.ask("POST", b"1", sid=peer.sid)
    else:
        peer.say("1")
    assert peer.events == [("close", "transport close", "close packet")]


def test_aCloseFrameWithoutAPacket(memory: Memory) -> None:
    """It may be that of a proxy: the session waits."""
    peer = Peer(memory, "websocket")
    peer.connection.say(makeFrame(b"\x03\xe9", CLOSE))
    assert peer.events == [("suspend", "close frame with code 1001")]
    assert len(peer.comeBack("websocket", 1, 0)) == 1


@onEach
def test_theServerCloses(memory: Memory, transport: str) -> None:
    """The client is told by a packet, on WebSocket too, so that it doesn't come back."""
    peer = Peer(memory, transport)
    waiting = peer.ask(sid=peer.sid) if transport == "polling" else None
    peer.socket.send("last").close()
    if waiting is not None:
        assert packets(waiting) == ["4last"]
        assert peer.poll() == ["1"]
    else:
        assert peer.frames() == ["4last", "1", "close 1000"]
    assert peer.events == [("close", "forced close", "closed by the server")]


@pytest.mark.parametrize("how", ["close", "discard", "drain", "server"])
def test_closedWhileSuspended(memory: Memory, how: str) -> None:
    """It ends at once: nobody is there to be told."""
    peer = Peer(memory, "websocket")
    peer.connection.lose()
    peer.socket.send("never")
    if how == "drain":
        memory.server.drain()
    elif how == "server":
        memory.server.close()
    else:
        peer.socket.close(how == "discard")
    reason = "server shutting down" if how in ("drain", "server") else "forced close"
    assert [each[:2] for each in peer.events[1:]] == [("close", reason)]


def test_countsWhileSuspended() -> None:
    """A session that waits takes a place of C{maxSessions}, and needs no other to come back."""
    memory = Memory(**OPTIONS, maxSessions=1)
    peer = Peer(memory, "polling")
    peer.ask(**peer.mine).lose()
    assert [each[0] for each in peer.events] == ["suspend"]
    assert status(peer.ask(resume="4.1000")) == 503
    assert peer.comeBack("polling", 1, 0)[0].startswith("0{")
    memory.server.close()
    memory.end()
    assert memory.clock.getDelayedCalls() == []


def test_aHandlerOfSuspendThatCloses(memory: Memory) -> None:
    """A session may end when it would wait, or be replaced: no return is answered then."""
    peer = Peer(memory, "polling")
    peer.socket.on("suspend", lambda description: peer.socket.close())
    returning = peer.ask(sid=peer.sid, attempt=1, received=0)
    assert [each[0] for each in peer.events] == ["suspend", "close"]
    assert packets(returning) == ["6"]
    assert refusal(peer.ask(sid=peer.sid, attempt=2, received=0)) == (400, "Session ID unknown")


@onEach
def test_noPong(memory: Memory, transport: str) -> None:
    """A client that says nothing is away: its connection is closed, and it may come back."""
    peer = Peer(memory, transport)
    if transport == "polling":
        memory.advance(25)
        assert peer.poll() == ["20"]
        waiting = peer.ask(**peer.mine)
    else:
        memory.advance(25)
        assert peer.frames() == ["20"]
    for _ in range(30):
        memory.advance(1)
    assert peer.events == [("suspend", "no pong within pingTimeout, 20000 ms")]
    if transport == "polling":
        assert packets(waiting) == ["6"]
    else:
        assert peer.frames() == ["close 1000"]
    peer.comeBack(transport, 1, 0)
    memory.advance(25)
    assert (peer.poll() if transport == "polling" else peer.frames()) == ["20"]


# Upgrades


@pytest.mark.parametrize("phase", ["opened", "probed", "upgraded"])
@pytest.mark.parametrize("after", ["polling", "websocket"])
def test_lostInAnUpgrade(memory: Memory, phase: str, after: str) -> None:
    """A client that comes back closes what it had begun, and may upgrade again."""
    peer = Peer(memory, "polling")
    probing = memory.connect(upgrade(target(transport="websocket", sid=peer.sid)))
    if phase != "opened":
        probing.say(makeFrame("2probe"))
    if phase == "upgraded":
        probing.say(makeFrame("5"))
        assert peer.events == [("upgrade", "websocket")]
    peer.socket.send("hello")
    # What was sent on WebSocket is sent again; what waited for a GET follows.
    wasSent = phase == "upgraded" or after == "websocket"
    assert peer.comeBack(after, 1, 0)[1:] == (["4hello"] if wasSent else [])
    probing.say(makeFrame("4late"))
    assert framesOf(probing.taken().partition(b"\r\n\r\n")[2])[-1].opcode == CLOSE
    assert peer.got == []
    if after == "polling":
        again = memory.connect(upgrade(target(transport="websocket", sid=peer.sid, attempt=1)), makeFrame("2probe"))
        again.say(makeFrame("5"), makeFrame("4new"))
        assert peer.got == ["new"]
        assert peer.socket.upgraded


def test_anUpgradeOfAnotherAttempt(memory: Memory) -> None:
    """A WebSocket of an earlier attempt is refused."""
    peer = Peer(memory, "polling")
    peer.comeBack("polling", 1, 0)
    assert status(memory.connect(upgrade(target(transport="websocket", sid=peer.sid)))) == 400
    assert memory.server.stats().refused == {"WRONG_ATTEMPT": 1}


# Acknowledgements and bounds


@onEach
def test_aQuarterOfTheBoundOfPackets(memory: Memory, transport: str) -> None:
    """The client is told when a quarter of what it may keep has come, and with each ping."""
    peer = Peer(memory, transport, "16.1000")
    peer.socket.removeListener("message", peer.socket.listeners("message")[0])
    if transport == "polling":
        waiting = peer.ask(sid=peer.sid)
        peer.post("4a", "4b", "4c")
        assert waiting.value() == b""
        peer.post("4d")
        assert packets(waiting) == ["64"]
        # Without a GET it goes with what is sent next.
        peer.post("4a", "4b", "4c", "4d", "4e")
        peer.socket.send("hello")
        assert peer.poll() == ["69", "4hello"]
    else:
        peer.say("4a", "4b", "4c")
        assert peer.frames() == []
        peer.say("4d", "4e")
        assert peer.frames() == ["64"]


def test_aQuarterOfTheBoundOfBytes(memory: Memory) -> None:
    """Bytes count too, of text those of UTF-8."""
    peer = Peer(memory, "websocket", "100.40")
    peer.socket.removeListener("message", peer.socket.listeners("message")[0])
    peer.say("4€€€")
    assert peer.frames() == []
    peer.say(b"x")
    assert peer.frames() == ["62"]


@onEach
def test_writable(transport: str) -> None:
    """Half of the bound may be on its way; then a message waits, and `drain` says when it has gone."""
    memory = Memory(**OPTIONS, maxBufferedPackets=8)
    peer = Peer(memory, transport)
    isPolling = transport == "polling"
    drained: list[bool] = []
    peer.socket.on("drain", lambda: drained.append(peer.socket.isDrained))
    for number in range(5):
        waiting = peer.ask(sid=peer.sid) if isPolling else None
        assert peer.socket.writable
        peer.socket.send(str(number))
    waiting = peer.ask(sid=peer.sid) if isPolling else None
    assert not peer.socket.writable
    peer.socket.send("5")
    assert peer.socket.writeBuffer
    # What isn't a message passes.
    memory.advance(25)
    assert (packets(waiting) if waiting is not None else peer.frames()[-1:]) == ["20"]
    drained.clear()
    waiting = peer.ask(sid=peer.sid) if isPolling else None
    if isPolling:
        peer.post("33")
    else:
        peer.say("33")
    assert (packets(waiting) if waiting is not None else peer.frames()) == ["45"]
    assert drained == [not isPolling]
    assert peer.socket.bufferedAmount == 3
    memory.server.close()
    memory.end()


@onEach
@pytest.mark.parametrize("action", ["close", "drop", "raise"])
@pytest.mark.parametrize("isSuspended", [False, True])
def test_limits(transport: str, action: str, isSuspended: bool) -> None:
    """What is kept counts with what waits; beyond the bound happens what `bufferLimitAction` says."""
    memory = Memory(**OPTIONS, maxBufferedBytes=100, bufferLimitAction=action)
    peer = Peer(memory, transport)
    if transport == "polling":
        waiting = peer.ask(sid=peer.sid)
    peer.socket.send(b"x" * 40)
    if isSuspended:
        (peer.ask(sid=peer.sid) if transport == "polling" else peer.connection).lose()
    elif transport == "polling":
        waiting = peer.ask(sid=peer.sid)
        assert waiting.value() == b""
    assert peer.socket.bufferedAmount == 40
    peer.events.clear()
    refused: list[object] = []
    if action == "raise":
        with pytest.raises(BufferLimitExceeded):
            peer.socket.send(b"y" * 61)
    else:
        peer.socket.send(b"y" * 61, refused.append if action == "drop" else None)
    assert [each[:2] for each in peer.events] == ([("close", "buffer limit exceeded")] if action == "close" else [])
    assert [type(each) for each in refused] == ([BufferLimitExceeded] if action == "drop" else [])
    if action != "close":
        # What there is room for goes out at once, or waits.
        peer.socket.send(b"z" * 60)
        first, second = "b" + "eHh4" * 13 + "eA==", "b" + "enp6" * 20
        assert peer.comeBack("polling", 1, 0)[1:] == [first, second][: 1 if isSuspended else 2]
        if isSuspended:
            assert peer.poll() == [second]
    memory.server.close()
    memory.end()


@pytest.mark.parametrize("isSuspended", [False, True])
@pytest.mark.parametrize("isStreaming", [False, True])
def test_producers(isSuspended: bool, isStreaming: bool) -> None:
    """One is paused at half of the bound, however small its messages are, and goes on when they are acknowledged."""
    memory = Memory(**OPTIONS, maxBufferedPackets=20)
    peer = Peer(memory, "websocket")
    if isSuspended:
        peer.connection.lose()
    written = 0

    class Producer:
        isPaused = False

        def resumeProducing(self) -> None:
            nonlocal written
            self.isPaused = False
            while not self.isPaused and written < 100:
                written += 1
                peer.socket.write("x")
                if not isStreaming:
                    break

        def pauseProducing(self) -> None:
            self.isPaused = True

        def stopProducing(self) -> None:
            self.isPaused = True

    producer = Producer()
    peer.socket.registerProducer(producer, isStreaming)
    if isStreaming:
        producer.resumeProducing()
    for _ in range(30):
        memory.advance(0)
    assert written == 11
    if isSuspended:
        assert peer.comeBack("websocket", 1, 0)[1:] == ["4x"] * 11
    for number in range(11, 100, 11):
        peer.say(f"6{number}")
        for _ in range(30):
            memory.advance(0)
        assert written == min(100, number + 11)
    peer.socket.unregisterProducer()
    memory.server.close()
    memory.end()


def test_aMessageBeyondTheBoundAlone() -> None:
    """One that is larger than the bound is sent if nothing else is kept, as without resuming."""
    memory = Memory(**OPTIONS, maxBufferedBytes=100)
    peer = Peer(memory, "websocket")
    peer.socket.send("x" * 500)
    assert peer.frames() == ["4" + "x" * 500]
    assert not peer.socket.isDrained
    peer.say("61")
    assert peer.socket.isDrained
    peer.socket.sendAll(["x" * 200, "y" * 200])
    assert peer.frames() == ["4" + "x" * 200]
    peer.say("62")
    assert peer.frames() == ["4" + "y" * 200]
    memory.server.close()
    memory.end()


def test_manyToSendAgain(memory: Memory) -> None:
    """What a client missed is sent in responses of a megabyte, or a message more; what is sent meanwhile follows."""
    peer = Peer(memory, "websocket")
    peer.connection.lose()
    texts = [f"{number}" * 400_000 for number in range(6)]
    for text in texts[:5]:
        peer.socket.send(text)
    peer.comeBack("polling", 1, 0)
    got = []
    peer.ask(**peer.mine).lose()
    got += peer.comeBack("polling", 2, 0)[1:]
    peer.socket.send(texts[5])
    while len(got) < 6:
        got += peer.poll()
    assert got == ["4" + each for each in texts]


def test_broadcasts(memory: Memory) -> None:
    """A message to many is kept as it is, encoded once, and sent again to who has missed it."""
    first, second = Peer(memory, "websocket"), Peer(memory, "websocket")
    first.connection.lose()
    data = b"x" * 100
    assert memory.server.broadcast(data) == 2
    assert second.frames() == [data.decode()]
    second.connection.lose()
    assert first.comeBack("websocket", 1, 0)[1:] == second.comeBack("websocket", 1, 0)[1:] == [data.decode()]
    assert [each.data for peer in (first, second) for each, _ in peer.socket._resumption.kept()] == [data, data]
    assert all(each.data is data for peer in (first, second) for each, _ in peer.socket._resumption.kept())


@pytest.mark.parametrize("isWaiting", [False, True])
def test_textThatPollingSplits(memory: Memory, isWaiting: bool) -> None:
    """Text that would arrive as several messages isn't sent: the session ends, and says why. By WebSocket it goes."""
    peer = Peer(memory, "websocket")
    peer.socket.send("a\x1e4b")
    assert peer.frames() == ["4a\x1e4b"]
    peer = Peer(memory, "polling")
    waiting = peer.ask(**peer.mine) if isWaiting else None
    peer.socket.send("a\x1e4b")
    if waiting is None:
        peer.socket.send("c")
        waiting = peer.ask(**peer.mine)
    assert peer.events == [("close", "parse error", SPLIT)]
    assert "4a" not in waiting.value().decode()


def test_initialPacket() -> None:
    """It is the first message that the server sends, and isn't sent again in a return but when it was missed."""
    memory = Memory(**OPTIONS, initialPacket="hello")
    peer = Peer(memory, "polling")
    assert peer.comeBack("polling", 1, 0)[1:] == ["4hello"]
    assert peer.comeBack("polling", 2, 1)[1:] == []
    memory.server.close()
    memory.end()


# Around it


@onEach
def test_numbersWhileSuspended(memory: Memory, transport: str) -> None:
    """A session that waits is one of those that there are, with what is kept for its client."""
    peer = Peer(memory, transport)
    (peer.ask(sid=peer.sid) if transport == "polling" else peer.connection).lose()
    peer.socket.send("hello")
    peer.socket.pauseReceiving()
    peer.socket.resumeReceiving()
    stats = memory.server.stats()
    assert (stats.sessions[transport], stats.bufferedPackets, stats.bufferedBytes, stats.heldBytes) == (1, 1, 5, 0)
    assert repr(peer.socket).endswith(f"open on {transport}>")


def test_addressesAsClientsWriteThem(memory: Memory) -> None:
    """A request of polling is decided on by its attempt, in whichever order its parameters are."""
    peer = Peer(memory, "polling")
    peer.comeBack("polling", 7, 0)
    where = f"/engine.io/?EIO=4&transport=polling&sid={peer.sid}"
    for query, expected in (
        ("&attempt=7&t=abc", 200),
        ("&attempt=007", 200),
        ("&t=abc&attempt=7", 200),
        ("", 400),
        ("&t=abc", 400),
        ("&attempt=8", 400),
        ("&attempt=70", 400),
        ("&attempt=", 400),
    ):
        assert status(memory.connect(http("POST", where + query, body=b"4a"))) == expected, query
    assert peer.got == ["a"] * 3


def test_socketIO() -> None:
    """A layer on top notices nothing: its sockets stay connected, and what they emit arrives."""
    memory = Memory(**OPTIONS)
    for each in memory.server.listeners("connection"):
        memory.server.removeListener("connection", each)
    io = SocketIO(memory.server)
    happened: list[Any] = []

    @io.on("connection")
    def connected(socket: Any) -> None:
        socket.on("order", lambda what: happened.append(what))
        socket.on("disconnect", lambda *why: happened.append(why))

    opening = memory.connect(http("GET", target(resume=ASK)))
    sid = json.loads(packets(opening)[0][1:])["sid"]
    posted = memory.connect(http("POST", target(sid=sid), body=b"40"))
    assert posted.value().endswith(b"ok")
    polled = memory.connect(http("GET", target(sid=sid)))
    assert packets(polled)[0].startswith("40{")
    memory.connect(http("GET", target(sid=sid))).lose()
    io.emit("news", "one")
    back = memory.connect(http("GET", target(sid=sid, attempt=1, received=1)))
    assert len(packets(back)) == 1
    polled = memory.connect(http("GET", target(sid=sid, attempt=1)))
    assert packets(polled) == ['42["news","one"]']
    memory.connect(http("POST", target(sid=sid, attempt=1), body=b'42["order","tea"]'))
    assert happened == ["tea"]
    memory.server.close()
    memory.end()


# Observers


def test_observers(memory: Memory) -> None:
    """They hear of both, and are given the session with what passes."""
    told: list[tuple[Any, ...]] = []

    class Watch(ServerObserver):
        def suspended(self, socket: Any, description: str) -> None:
            told.append(("suspended", socket, description))

        def resumed(self, socket: Any) -> None:
            told.append(("resumed", socket))

        def packetsReceived(self, socket: Any, packets: Any, transport: Any) -> None:
            told.append(("received", socket, packets[0].data))

    memory.server.addObserver(Watch())
    peer = Peer(memory, "websocket")
    peer.say("4a")
    peer.connection.lose()
    peer.comeBack("polling", 1, 1)
    peer.post("4b")
    socket = peer.socket
    assert told == [
        ("received", socket, "a"),
        ("suspended", socket, DROPPED),
        ("resumed", socket),
        ("received", socket, "b"),
    ]
    assert peer.poll() == ["4b"]
