"""What a hostile or broken client of Socket.IO sends: what becomes of its session, and that nobody else notices."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from engineio_twisted.socketio import ConnectRefused, InvalidPacket, SocketIO, UnsendableValue
from engineio_twisted.socketio.testing import MemorySocketIO
from engineio_twisted.testing import MemoryClient

from ..kit.wire import CLOSE, connectTo, makeFrame, target, upgrade

Start = Callable[..., MemorySocketIO]
Messages: TypeAlias = "tuple[str | bytes, ...]"

LIMIT = 20_000


def slot(number: Any) -> str:
    """What stands for an attachment, by its number in JSON."""
    return f'{{"_placeholder":true,"num":{number}}}'


class Application:
    """Has the namespaces `/`, `/b` and `/slow`, and notes all that happens in them."""

    def __init__(self) -> None:
        self.happened: list[Any] = []
        self.errors: list[BaseException] = []
        self.ends: list[str] = []
        self.gates: list[Deferred[None]] = []

    def __call__(self, io: SocketIO) -> None:
        self.io = io
        io.of("/slow").use(self.gate)
        io.of("/closed").use(self.refuse)
        for each in (io, io.of("/b"), io.of("/slow"), io.of(re.compile(r"/child\d\Z"))):
            each.on("connection", self.connection)
            each.on("error", lambda socket, error: self.errors.append(error))
            each.on("disconnecting", lambda socket, reason, description: self.ends.append(f"disconnecting: {reason}"))
            each.on("disconnect", lambda socket, reason, description: self.ends.append(f"disconnect: {reason}"))
            each.on("echo", self.echo)
            each.on("go", lambda socket: socket.disconnect())

    def gate(self, socket: Any) -> Deferred[None]:
        self.gates.append(Deferred())
        return self.gates[-1]

    @staticmethod
    def refuse(socket: Any) -> None:
        raise ConnectRefused("closed")

    def connection(self, socket: Any) -> None:
        self.happened.append(f"connection {socket.namespace.name}")
        socket.join("room")

    def echo(self, socket: Any, *args: Any) -> Any:
        self.happened.append("echo")
        return args


class Here:
    """A server with bystanders, in whose midst something hostile comes."""

    def __init__(self, socketio: Start, **options: Any) -> None:
        self.application = Application()
        self.kit = socketio(
            self.application, allowEIO3=True, maxHttpBufferSize=LIMIT, maxNamespacesPerClient=6, **options
        )
        self.bystanders = [
            self.kit.connect(transport="websocket"),
            self.kit.connect("/b", transport="polling", upgrade=False),
            self.kit.connect(transport="websocket", protocol=4),
        ]
        self.gauges = self._gauges()
        self.application.happened.clear()

    def _gauges(self) -> tuple[object, ...]:
        stats = self.kit.io.stats()
        there = (stats.clients, stats.sockets, stats.namespaces, stats.rooms, stats.acks, stats.joining)
        return (*there, stats.attachments, stats.waitingSessions, sorted(self.kit.io.namespaces), self._timers())

    def _timers(self) -> list[str]:
        return sorted(re.sub(r".* (\S+)\(\)>", r"\1", str(each)) for each in self.kit.clock.getDelayedCalls())

    def check(self) -> None:
        """Make sure that the bystanders go on, and that there is nothing else."""
        self.kit.settle()
        assert self._gauges() == self.gauges
        for each in self.bystanders:
            assert each.emitWithAck("echo", "still here", b"bytes") == ("still here", b"bytes")

    def client(self, transport: str = "websocket", protocol: int = 5) -> MemoryClient:
        """A client that says what it is told, and has joined `/` and `/b`."""
        client = self.kit.engine.connect(transport, upgrade=False, protocol=protocol - 1)
        if protocol == 5:
            client.send("0")
        client.send("0/b")
        assert self.application.happened == ["connection /", "connection /b"]
        client.receiveAll()
        self.application.happened.clear()
        return client


@pytest.fixture
def here(socketio: Start) -> Here:
    return Here(socketio)


# What a client says, and what is wrong with it. It has joined `/` and `/b` before.
VIOLATIONS: dict[str, tuple[Messages, str]] = {
    "nothing": (("",), "an empty message"),
    "no type": (("hello",), "a message that does not begin with a type, 0 to 6"),
    "bytes": ((b"2",), "bytes that no packet has announced"),
    **{
        f"reserved {name}": ((f'2["{name}",{{"sid":"forged"}}]',), f"an EVENT with the reserved name {name}")
        for name in ("connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener")
    },
    "reserved, escaped": (('2/b,1["\\u0063onnect"]',), "an EVENT with the reserved name connect"),
    "reserved, in binary": ((f'51-["disconnect",{slot(0)}]',), "an EVENT with the reserved name disconnect"),
    "a billion attachments": (
        ('51000000000-["echo"]',),
        "a binary packet without one to four digits and a hyphen for its attachments",
    ),
    "one too many": ((f'511-["echo",{slot(0)}]',), "11 attachments of a packet (maxAttachments)"),
    "no attachments": (('50-["echo"]',), "a binary packet of no attachments"),
    "text as attachment": ((f'51-["echo",{slot(0)}]', "bytes"), "text in place of an attachment"),
    "DISCONNECT as attachment": ((f'51-["echo",{slot(0)}]', "1"), "text in place of an attachment"),
    "an announcement as attachment": ((f'51-["echo",{slot(0)}]',) * 2, "text in place of an attachment"),
    "an ACK's attachment as text": ((f"61-0[{slot(0)}]", "3[]"), "text in place of an attachment"),
    "one attachment more": ((f'51-0["echo",{slot(0)}]', b"1", b"2"), "bytes that no packet has announced"),
    "attachments too large together": (
        (f'53-["echo",{slot(0)}]', b"x" * 9000, b"x" * 9000, b"x" * 2001),
        "attachments of more bytes than a message may have (maxHttpBufferSize)",
    ),
    "num too large": ((f'51-["echo",{slot(1)}]',), "a placeholder without an attachment of its number"),
    "num negative": ((f'51-["echo",{slot(-1)}]',), "a placeholder without an attachment of its number"),
    "num no integer": ((f'51-["echo",{slot("0.0")}]',), "a placeholder without an attachment of its number"),
    "num true": ((f'51-["echo",{slot("true")}]',), "a placeholder without an attachment of its number"),
    "num a name": ((f"""51-["echo",{slot('"length"')}]""",), "a placeholder without an attachment of its number"),
    "num absent": (('51-["echo",{"_placeholder":true}]',), "a placeholder without an attachment of its number"),
    "num deep inside": (
        (f"61-0[{'[' * 99}{slot(7)}{']' * 99}]",),
        "a placeholder without an attachment of its number",
    ),
    "attachments of a CONNECT": (("01-/child1,",), "attachments of a packet of type CONNECT"),
    "an event without its name": (("2[]",), "an EVENT without an array of its name and arguments"),
    "an event without anything": (("2",), "an EVENT without an array of its name and arguments"),
    "an event that is an object": (('2{"0":"echo"}',), "an EVENT without an array of its name and arguments"),
    "an event named null": (("2[null]",), "an EVENT whose name is neither text nor a number"),
    "an event named by an object": (('2[{"toString":"echo"}]',), "an EVENT whose name is neither text nor a number"),
    "an ACK of an object": (('30{"length":9}',), "an ACK without an array"),
    "CONNECT with null": (("0/child1,null",), "a CONNECT whose data is no object"),
    "CONNECT with an array": (('0/child1,["a"]',), "a CONNECT whose data is no object"),
    "DISCONNECT with data": (("1{}",), "a DISCONNECT with data"),
    "CONNECT_ERROR": (('4{"message":"no"}',), "a CONNECT_ERROR from a client"),
    "NaN": (('2["echo",NaN]',), "invalid JSON: NaN"),
    "Infinity": (('2["echo",-Infinity]',), "invalid JSON: -Infinity"),
    "cut off": (('2["echo",{"a":',), "invalid JSON"),
    "a control character": (('2["echo","\n"]',), "invalid JSON"),
    "more behind it": (('2["echo"]["echo"]',), "invalid JSON: something follows it"),
    "too deep": (('2["echo",' + "[" * 19_000,), "JSON that is nested too deeply"),
    "too many digits": ((f'2["echo",{"1" * 5000}]',), "an integer with too many digits"),
    "id too large": (('29007199254740992["echo"]',), "an id over 2**53 - 1"),
    "CONNECT twice": (("0",), "a CONNECT for a namespace that the client has joined"),
    "CONNECT twice at once": (
        ("0/slow", "0/slow"),
        "a CONNECT for a namespace that the client has joined or is joining",
    ),
    "an event before the answer": (
        ("0/slow", '2/slow,["echo"]'),
        "a packet of type 2 for a namespace that isn't joined",
    ),
    "DISCONNECT before the answer": (("0/slow", "1/slow"), "a packet of type 1 for a namespace that isn't joined"),
    "an event elsewhere": (('2/child1,["echo"]',), "a packet of type 2 for a namespace that isn't joined"),
    "an event nowhere": (('2/nowhere,["echo"]',), "a packet of type 2 for a namespace that isn't joined"),
    "an ACK elsewhere": (("3/child1,0[]",), "a packet of type 3 for a namespace that isn't joined"),
    "an event of one that was refused": (
        ("0/closed", '2/closed,["echo"]'),
        "a packet of type 2 for a namespace that isn't joined",
    ),
    "an event after leaving": (("1/b", '2/b,["echo"]'), "a packet of type 2 for a namespace that isn't joined"),
    "binary after leaving": (
        (f'51-/b,["echo",{slot(0)}]', b"1", "1/b", f'51-/b,["echo",{slot(0)}]', b"1"),
        "a packet of type 2 for a namespace that isn't joined",
    ),
}
WAYS = [("websocket", 5), ("polling", 5), ("websocket", 4)]


@pytest.mark.parametrize(("transport", "protocol"), WAYS, ids=[f"{way}-{protocol}" for way, protocol in WAYS])
@pytest.mark.parametrize("kind", VIOLATIONS)
def test_violations(here: Here, kind: str, transport: str, protocol: int, warnings: list[str]) -> None:
    """The session ends at once, both its sockets are told why, one line is logged, and nothing is left."""
    messages, problem = VIOLATIONS[kind]
    client = here.client(transport, protocol)
    sockets = 1 if "after leaving" in kind else 2
    for each in messages[:-1]:
        assert client.readyState == "open"
        client.send(each)
    heard = [*here.application.happened]
    client.send(messages[-1])
    assert client.readyState == "closed"
    assert here.application.happened == heard
    assert [type(each) for each in here.application.errors] == [InvalidPacket] * sockets
    ends = [each for each in here.application.ends if "client namespace" not in each]
    assert ends == ["disconnecting: parse error", "disconnect: parse error"] * sockets
    assert warnings == [f"Session {str(client.sid)[:6]}… sent an invalid packet: {problem}"]
    assert here.kit.io.stats().invalidPackets == 1
    here.check()


@pytest.mark.parametrize("protocol", [5, 4])
def test_whatComesBehindAViolation(here: Here, protocol: int) -> None:
    """In one POST with it, it isn't read any more; nor is a second violation counted."""
    client = here.client("polling", protocol)
    client.split(None)
    events = here.kit.io.stats().events
    packets = ["4" + each for each in ('20["echo"]', "2[]", '21["echo"]', "2{}")]
    payload = "\x1e".join(packets) if protocol == 5 else "".join(f"{len(each)}:{each}" for each in packets)
    query = f"EIO={protocol - 1}&transport=polling&sid={client.sid}"
    here.kit.request("POST", f"/socket.io/?{query}", {"Content-Type": "text/plain;charset=UTF-8"}, payload.encode())
    stats = here.kit.io.stats()
    assert (stats.events - events, stats.invalidPackets) == (1, 1)
    assert here.application.happened == ["echo"]
    here.check()


def test_loggedOnceASecond(here: Here, warnings: list[str]) -> None:
    """However many violations there are in a second, one line tells of them; each is counted."""
    for seconds in (0.5, 0.6, 0.1):
        for _ in range(3):
            here.kit.engine.connect("websocket").send("hello")
        here.kit.advance(seconds)
    assert here.kit.io.stats().invalidPackets == 9
    here.kit.advance(1)
    assert "sent an invalid packet" in warnings[0]
    assert warnings[1:] == [f"invalid packet: {count} more lines were suppressed" for count in (5, 3)]
    here.check()


@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_notFlushed(here: Here, transport: str) -> None:
    """What waits for a client that breaks the protocol is dropped: its session doesn't last until it has taken that."""
    client = here.client(transport)
    client.pauseReading()
    here.kit.io.emit("news", "x" * 500_000)
    here.kit.io.emit("news", "more")
    client.send("2[]")
    assert here.kit.io.stats().clients == len(here.bystanders)
    client.resumeReading()
    here.check()
    assert not [each for each in client.received if "more" in str(each)]


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        (("0/b?again=1",), "a CONNECT for a namespace that the client has joined or is joining"),
        (("0/slow?a=1", "0/slow?b=2"), "a CONNECT for a namespace that the client has joined or is joining"),
        (("0/slow?a=1", '2/slow?a=1,["echo"]'), "a packet of type 2 for a namespace that isn't joined"),
        (("1/b?a=1", '2/b?a=1,["echo"]'), "a packet of type 2 for a namespace that isn't joined"),
    ],
)
def test_violationsWithAQuery(here: Here, messages: Messages, problem: str, warnings: list[str]) -> None:
    """In protocol 4 a namespace is the same with a query and without."""
    client = here.client(protocol=4)
    for each in messages:
        assert client.readyState == "open"
        client.send(each)
    assert client.readyState == "closed"
    assert warnings == [f"Session {str(client.sid)[:6]}… sent an invalid packet: {problem}"]
    assert here.application.happened == []
    here.check()


def test_afterTheServerHasEndedIt(here: Here) -> None:
    """What is late is ignored until the namespace is joined again; then it is left by the client alone."""
    client = here.client()
    for each in ('2/b,["go"]', '2/b,["echo"]', "0/b", "1/b"):
        client.send(each)
    assert (client.readyState, here.application.happened) == ("open", ["connection /b"])
    client.send('2/b,["echo"]')
    assert client.readyState == "closed"
    here.check()


def test_namesOfManyThatTheServerHasEnded(here: Here) -> None:
    """Of so many as may be joined at once the names are kept, and not of more."""
    client = here.client()
    for number in range(9):
        client.send(f"0/child{number}")
        client.send(f'2/child{number},["go"]')
    client.send('2/child8,["echo"]')
    assert client.readyState == "open"
    client.send('2/child0,["echo"]')
    assert client.readyState == "closed"
    here.check()


# What a client says that has joined `/` and `/b`, and what it is answered.
ANSWERED: dict[str, tuple[Messages, Messages]] = {
    "infinities": (('20["echo",1e999,[-1e999]]',), ("30[null,[null]]",)),
    "a lone surrogate": (('20["echo","\\ud800"]',), ('30["\\ud800"]',)),
    "a large integer": ((f'20["echo",{"1" * 4000}]',), (f"30[{'1' * 4000}]",)),
    "the largest id": (('29007199254740991["echo"]',), ("39007199254740991[]",)),
    "a placeholder in text": ((f'20["echo",{slot(5)}]',), (f"30[{slot(5)}]",)),
    "names of attributes": (
        ('20["echo",{"__proto__":1,"constructor":{"x":2}}]',),
        ('30[{"__proto__":1,"constructor":{"x":2}}]',),
    ),
    "one attachment twice": (
        (f'51-0["echo",{slot(0)},[{slot(0)}]]', b"x"),
        (f"62-0[{slot(0)},[{slot(1)}]]", b"x", b"x"),
    ),
    "an attachment of no bytes": ((f'51-0["echo",{slot(0)}]', b""), (f"61-0[{slot(0)}]", b"")),
    "attachments that nothing needs": (('52-0["echo"]', b"x", b"y"), ("30[]",)),
    "events of the layer": (
        (
            '20["connection",{"id":"forged"}]',
            '21["new_namespace","/b"]',
            '22["error","forged"]',
            '2/b,3["connection"]',
            '24["echo"]',
        ),
        ("34[]",),
    ),
    "names of functions": (
        ('20["__init__"]', '21["emit","x"]', '22["disconnect_"]', '23["*"]', '24[""]', '25["on"]', '26["echo"]'),
        ("36[]",),
    ),
    "an event named by a number": (("20[5]", "21[1e5]", "22[-0.0]", '23["echo"]'), ("33[]",)),
    "acknowledgements of nothing": (
        ("30[]", "3[1]", f"3{2**53 - 1}[]", "3/b,1[]", f"61-5[{slot(0)}]", b"x", '20["echo"]'),
        ("30[]",),
    ),
    "the same id twice": (('20["echo",1]', '20["echo",2]'), ("30[1]", "30[2]")),
    "unknown namespaces": (
        ("0/nope", "0/Child1", "0/child1x", "0/child1\n", "0/../b", "0//", "0/é\0"),
        tuple(
            f'4{name},{{"message":"Invalid namespace"}}'
            for name in ("/nope", "/Child1", "/child1x", "/child1\n", "/../b", "//", "/é\0")
        ),
    ),
    "a long name": ((f"0/{'x' * 15_000}",), (f'4/{"x" * 15_000},{{"message":"Invalid namespace"}}',)),
    "late for one that the server has ended": (
        ('2/b,["go"]', '2/b,0["echo"]', "3/b,0[]", f'51-/b,["echo",{slot(0)}]', b"x", "1/b", '20["echo"]'),
        ("1/b,", "30[]"),
    ),
    "half of a packet for one that the server ends": (
        ('2/b,0["echo"]', f'52-/b,1["echo",{slot(0)},{slot(1)}]', b"x", b"y", '2/b,["go"]'),
        ("3/b,0[]", f"62-/b,1[{slot(0)},{slot(1)}]", b"x", b"y", "1/b,"),
    ),
}


@pytest.mark.parametrize("kind", ANSWERED)
def test_noViolations(here: Here, kind: str) -> None:
    """It is answered as it should be, or ignored; the session goes on, and its handlers of the layer hear nothing."""
    messages, answers = ANSWERED[kind]
    client = here.client()
    for each in messages:
        client.send(each)
    assert tuple(client.receiveAll()) == answers
    assert {*here.application.happened} <= {"echo"}
    assert here.application.errors == []
    assert here.kit.io.stats().invalidPackets == 0
    client.close()
    here.check()


@pytest.mark.parametrize("depth", [100, 900, 980, 1000, 1500, 9000])
def test_nested(here: Here, depth: int) -> None:
    """Arrays in arrays are sent back, or refused, as far as the stack reaches; nothing else comes of them."""
    client = here.client()
    value = "[" * depth + "]" * depth
    client.send(f'20["echo",{value}]')
    if client.readyState == "open":
        answers = client.receiveAll()
        assert answers == [f"30[{value}]"] if not here.kit.errors else answers == []
    else:
        assert [type(each) for each in here.application.errors] == [InvalidPacket] * 2
    assert {type(each) for each in here.kit.errors} <= {UnsendableValue}
    assert depth > 100 or client.readyState == "open"
    here.kit.errors.clear()
    client.close()
    here.check()


def test_neverJoins(here: Here) -> None:
    """Whoever only asks for what there isn't, or waits for a middleware, is sent away in time."""
    asks, waits, rejoins = (here.kit.engine.connect("websocket") for _ in range(3))
    waits.send("0/slow")
    rejoins.send("0")
    for _ in range(44):
        here.kit.advance(1)
        asks.send("0/closed")
        asks.send("0/nope")
        rejoins.send("1")
        rejoins.send("0")
    assert (asks.readyState, waits.readyState) == ("open", "open")
    here.kit.advance(1.1)
    assert [each.readyState for each in (asks, waits, rejoins)] == ["closed", "closed", "open"]
    rejoins.drop()
    assert here.kit.io.stats().joining == 0
    here.gauges = (*here.gauges[:-1], here._timers())
    here.check()


@pytest.mark.parametrize("end", ["drop", "close", "vanish"])
def test_leavesInTheMiddle(here: Here, end: str) -> None:
    """Of clients that leave with half a packet, in a middleware, and owing acknowledgements, nothing is left."""
    failed: list[str] = []
    sockets: list[Any] = []
    here.kit.io.on("connection", sockets.append)
    clients = [here.kit.engine.connect("websocket") for _ in range(20)]
    for each in clients:
        for message in ("0", "0/slow", "0/child1", f'53-["echo",{slot(2)}]', b"x"):
            each.send(message)
    for socket in [*here.kit.io.sockets.values(), *here.kit.io.namespaces["/child1"].sockets.values()]:
        if socket.id not in {each.id for each in here.bystanders}:
            socket.emitWithAck("question").addErrback(lambda failure: failed.append(failure.value.reason))
    stats = here.kit.io.stats()
    assert (stats.attachments, stats.joining, stats.acks) == (20, 20, 40)
    for each in clients:
        getattr(each, end)()
    here.kit.advance(0 if end != "vanish" else 50)
    assert set(failed) == {{"drop": "transport close", "close": "transport close", "vanish": "ping timeout"}[end]}
    assert len(failed) == 40
    # The application may keep a socket; what came of a packet isn't kept with it.
    assert [each.client.isReceivingAttachments for each in sockets] == [False] * 20
    # A middleware that comes to its end now comes too late.
    for gate in here.application.gates:
        assert gate.called
    here.gauges = (*here.gauges[:-1], here._timers())
    here.check()


def test_massDisconnect(here: Here) -> None:
    """Two hundred clients in ten thousand rooms leave at once."""
    clients = [here.kit.engine.connect("websocket") for _ in range(200)]
    for each in clients:
        each.send("0")
    bystanders = {each.id for each in here.bystanders}
    sockets = [each for each in here.kit.io.sockets.values() if each.id not in bystanders]
    for index, socket in enumerate(sockets):
        socket.join(*[f"room {index // 2 * 100 + number}" for number in range(100)])
    assert here.kit.io.stats().rooms == here.gauges[3] + 10_000
    here.kit.io.except_("room 0").to(*[f"room {number}" for number in range(10_000)]).emit("news")
    here.kit.io.to(*[f"room {number}" for number in range(10_000)]).disconnectSockets(close=True)
    here.kit.settle()
    assert {each.readyState.value for each in clients} == {"closed"}
    assert [each.receiveAll()[1:] for each in clients] == [["1"]] * 2 + [['2["news"]', "1"]] * 198
    here.check()


def test_floodOfAcknowledgements(here: Here) -> None:
    """Each is counted, and none is kept; one that is waited for is taken once."""
    answers: list[Any] = []
    client = here.client()
    bystanders = {each.id for each in here.bystanders}
    (socket,) = [each for each in here.kit.io.sockets.values() if each.id not in bystanders]
    socket.emitWithAck("question").addCallback(answers.append)
    here.kit.settle()
    asked = int(str(client.receiveAll()[-1]).partition("[")[0][1:])
    for number in range(asked + 500):
        client.send(f"3{number}[{number}]")
        client.send(f"3/b,{number}[]")
    stats = here.kit.io.stats()
    assert answers == [asked]
    assert (stats.lateAcks, stats.acks) == (2 * (asked + 500) - 1, 0)
    client.close()
    here.check()


def test_tooManyNamespaces(here: Here) -> None:
    """So many and no more may be joined or waited for; those that were left don't count."""
    client = here.client()
    for number in range(9):
        client.send(f"0/child{number}")
    refusals = [each for each in client.receiveAll() if "Too many namespaces" in str(each)]
    assert len(refusals) == 5
    client.send("1/child0")
    client.send("0/slow")
    client.send("0/child9")
    assert client.receiveAll() == ['4/child9,{"message":"Too many namespaces"}']
    client.close()
    here.check()


def test_recoveryOfOthers(socketio: Start) -> None:
    """What looks like a secret or an offset but is none, of any type, makes a new session, and keeps nothing."""
    here = Here(socketio, connectionStateRecovery=True)
    pids: list[Any] = ["", "x" * 5000, 0, None, True, [], {}, ["a"], {"a": 1}, "\u0000", "__proto__"]
    for pid in pids:
        client = here.kit.connect(auth={"pid": pid, "offset": pid}, transport="websocket")
        assert not client.recovered
        client.disconnect()
    stats = here.kit.io.stats()
    assert sum(stats.notRecovered.values()) == len([each for each in pids if isinstance(each, str)])
    assert stats.waitingSessions == 0
    here.check()


def test_namespacesOfThoseWhoMayComeBack(socketio: Start) -> None:
    """Clients that join one name after the other, and are lost, leave no more of them than may wait in one."""
    here = Here(socketio, connectionStateRecovery={"maxWaitingSessions": 5})
    here.kit.connect("/child0").drop()
    stays = here.kit.connect("/child1")
    stays.drop()
    stays = here.kit.connect(recover=stays)
    assert stays.recovered
    for number in range(2, 10):
        here.kit.connect(f"/child{number}").drop()
    kept = {f"/child{number}" for number in (1, 5, 6, 7, 8, 9)}
    assert {each for each in here.kit.io.namespaces if "child" in each} == kept
    assert stays.emitWithAck("echo", 1) == 1
    stays.disconnect()
    here.kit.advance(121)
    assert not [each for each in here.kit.io.namespaces if "child" in each]
    here.gauges = (*here.gauges[:-1], here._timers())
    here.check()


@pytest.mark.sockets
@pytest_twisted.ensureDeferred
async def test_overSockets(serve: Callable[..., Any]) -> None:
    """So it is over the network: each ends its session, and a bystander goes on."""
    application = Application()
    ios: list[SocketIO] = []

    def setup(server: Any) -> None:
        ios.append(SocketIO(server))
        application(ios[0])

    running = await serve(setup, maxHttpBufferSize=LIMIT, pingInterval=600_000)

    async def session() -> Any:
        wire = await connectTo(running.port)
        wire.send(upgrade(target(transport="websocket")))
        assert (await wire.head()).status == 101
        assert (await wire.text())[0] == "0"
        for name in ("", "/b"):
            wire.send(makeFrame(f"40{name}"))
            assert (await wire.text()).startswith(f"40{name}")
        return wire

    bystander = await session()
    for messages, _ in VIOLATIONS.values():
        wire = await session()
        for each in messages:
            wire.send(makeFrame(f"4{each}" if isinstance(each, str) else each))
        while (await wire.frame()).opcode != CLOSE:
            pass
        wire.drop()
        bystander.send(makeFrame('420["echo",1]'))
        assert await bystander.text() == "430[1]"
    stats = ios[0].stats()
    assert (stats.clients, stats.sockets, stats.joining, stats.attachments) == (1, 2, 0, 0)
    assert stats.invalidPackets == len(VIOLATIONS)
    bystander.drop()
