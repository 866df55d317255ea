"""The client of the test kit, against a server that is played by hand: what it sends, and what it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from engineio_twisted import Server
from engineio_twisted.socketio.errors import ReservedEvent
from engineio_twisted.socketio.packet import JSONParser
from engineio_twisted.socketio.testing.client import MemorySocket, connect
from engineio_twisted.socketio.testing.events import Event, NothingReceived, Refused
from engineio_twisted.testing import HandshakeRefused, MemoryServer, ProtocolViolation

Engine = Callable[..., MemoryServer]

CONNECTED = {"0": ['0{"sid":"abc"}'], "0/admin,": ['0/admin,{"sid":"def"}']}


class Played:
    """A server that answers each message as it was told, and the ends of its sessions."""

    def __init__(self, engineio: Engine, answers: dict[str | bytes, list[str | bytes]], **options: Any) -> None:
        self.answers = answers
        self.heard: list[str | bytes] = []
        self.ends: list[str] = []
        self.kit = engineio(self._application, path="/socket.io", **options)

    def _application(self, server: Server) -> None:
        @server.on("connection")
        def connected(socket: Any) -> None:
            for each in self.answers.get("open", []):
                socket.send(each)

            @socket.on("message")
            def received(data: str | bytes) -> None:
                self.heard.append(data)
                for each in self.answers.get(data, []):
                    socket.send(each)

            @socket.on("close")
            def closed(reason: str, description: object) -> None:
                self.ends.append(reason)

    def connect(self, *args: Any, wait: bool = True, **keywords: Any) -> MemorySocket:
        """Connect a client to it."""
        client = connect(self.kit, JSONParser(fromServer=True), *args, **keywords)
        return client.waited() if wait else client

    def say(self, *messages: str | bytes) -> None:
        """Send messages to the only client there is."""
        (socket,) = self.kit.server.clients.values()
        for each in messages:
            socket.send(each)
        self.kit.settle()


@pytest.fixture
def play(engineio: Engine) -> Callable[..., Played]:
    def start(answers: dict[str | bytes, list[str | bytes]] | None = None, **options: Any) -> Played:
        return Played(engineio, CONNECTED | (answers or {}), **options)

    return start


Play = Callable[..., Played]


# Connecting


@pytest.mark.parametrize(
    "arguments",
    [{"upgrade": False}, {"transport": "websocket"}, {}, {"jsonp": True, "upgrade": False}, {"split": 1}],
    ids=["polling", "websocket", "upgraded", "jsonp", "octet by octet"],
)
def test_connect(play: Play, arguments: dict[str, Any]) -> None:
    """It asks for the namespace when the session is open, on whatever transport."""
    played = play()
    client = played.connect(**arguments)
    assert (client.namespace, client.id, client.connected) == ("/", "abc", True)
    assert (client.recovered, client.refused, client.disconnected) == (False, None, None)
    assert played.heard == ["0"]
    assert client.transport == ("polling" if arguments.get("upgrade") is False else "websocket")
    assert repr(client) == "<MemorySocket abc in /, joined>"


def test_auth(play: Play) -> None:
    """What it says about itself goes with CONNECT, as JSON."""
    played = play({'0/admin,{"token":"ä"}': ['0/admin,{"sid":"def"}']})
    assert played.connect("/admin", {"token": "ä"}).id == "def"


def test_severalNamespaces(play: Play) -> None:
    """On one session, each with its own events, ids and end; one that is connected can't be asked for again."""
    played = play({'2/admin,0["q"]': ["3/admin,0[1]"], '20["q"]': ["30[2]"]})
    client = played.connect()
    admin = client.of("/admin")
    assert (admin.id, admin.engine is client.engine, len(played.kit.clients)) == ("def", True, 1)
    assert (admin.emitWithAck("q"), client.emitWithAck("q")) == (1, 2)
    played.say('2/admin,["a"]', '2["b"]')
    assert (client.received, admin.received) == ([Event("b")], [Event("a")])
    with pytest.raises(AssertionError, match=r"^/admin is connected already: <MemorySocket def in /admin, joined>$"):
        client.of("/admin")


def test_refused(play: Play) -> None:
    """A refusal raises, with its text and data; the session is closed, as nothing else is in it."""
    played = play({"0/no,": ['4/no,{"message":"who are you?","data":{"code":401}}'], "0/x,": ['4/x,{"message":"x"}']})
    with pytest.raises(Refused, match=r"^who are you\? {'code': 401}$") as caught:
        played.connect("/no")
    assert (caught.value.message, caught.value.data) == ("who are you?", {"code": 401})
    assert played.ends == ["transport close"]
    client = played.connect()
    with pytest.raises(Refused, match=r"^x$") as caught:
        client.of("/x")
    assert (caught.value.data, client.connected) == (None, True)
    client = played.connect("/x", wait=False)
    assert (client.connected, client.refused and client.refused.message) == (False, "x")
    assert repr(client) == "<MemorySocket None in /x, ended, refused: x>"


def test_refusedByTheEngine(play: Play) -> None:
    """A session that isn't opened is a refusal of the engine's."""
    played = play(allowRequest=lambda request: False)
    with pytest.raises(HandshakeRefused, match="403"):
        played.connect()
    client = played.connect(wait=False)
    assert (client.disconnected, client.engine.refused is not None) == ("transport error", True)


def test_notAnswered(play: Play) -> None:
    """A server that takes its time is an error unless the test waits for it; the client is dropped."""
    played = play({"0": []})
    with pytest.raises(AssertionError, match=r"pass wait=False and advance\(\): <MemorySocket None in /, joining>"):
        played.connect()
    assert played.ends == ["transport close"]
    client = played.connect(wait=False)
    played.say('0{"sid":"late"}')
    assert client.id == "late"


def test_slowFromTheBeginning(play: Play) -> None:
    """On a slow network a client is there before its session is, and may ask for more namespaces meanwhile."""
    played = play()
    client = played.connect(wait=False, delay=1)
    admin = client.of("/admin", wait=False)
    assert (client.id, admin.id, client.engine.readyState) == (None, None, "opening")
    client.advance(20)
    assert (client.id, admin.id, played.heard) == ("abc", "def", ["0", "0/admin,"])


def test_arguments(play: Play) -> None:
    """What can't be meant is refused before anything is sent."""
    played = play()
    for arguments, problem in (
        ({"protocol": 3}, "protocol 3: expected 5 or 4"),
        ({"namespace": "admin"}, "namespace 'admin': expected a name that begins with a slash"),
        ({"protocol": 4, "auth": {"a": "b"}}, "auth of / in protocol 4: such clients have none; pass it as query"),
    ):
        with pytest.raises(ValueError, match=f"^{problem}$"):
            played.connect(**arguments)
    assert played.kit.clients == []


# Events


def test_emit(play: Play) -> None:
    """Events go out as the protocol says, with attachments behind them, in their namespace."""
    played = play()
    admin = played.connect("/admin")
    admin.emit("say", "hi", 1, None, {"a": [True]})
    admin.send("a message")
    admin.emit("file", b"\x00\xff", [b"b"])
    text = '52-/admin,["file",{"_placeholder":true,"num":0},[{"_placeholder":true,"num":1}]]'
    assert played.heard[1:] == [
        '2/admin,["say","hi",1,null,{"a":[true]}]',
        '2/admin,["message","a message"]',
        text,
        b"\x00\xff",
        b"b",
    ]


def test_emitWhatMayNotBe(play: Play) -> None:
    """Names that the protocol keeps are refused here; nothing is sent by a socket that has ended."""
    played = play()
    client = played.connect()
    with pytest.raises(ReservedEvent):
        client.emit("connect")
    client.drop()
    with pytest.raises(AssertionError, match=r"'say' can't be sent: <MemorySocket abc in /, ended, transport error>"):
        client.emit("say")
    assert played.heard == ["0"]


def test_receive(play: Play) -> None:
    """Events come in order, one after the other or all; what isn't there says what there was."""
    played = play()
    client = played.connect()
    with pytest.raises(NothingReceived, match=r"^no event: <MemorySocket abc in /, joined>$"):
        client.receive()
    played.say('2["a",1]', '51-["b",{"_placeholder":true,"num":0}]', b"x", '2["c"]')
    assert client.receive() == Event("a", [1]) == Event("a", (1,))
    assert client.unread == [Event("b", [b"x"]), Event("c")]
    assert client.receiveAll() == [Event("b", [b"x"]), Event("c")]
    assert [each.name for each in client.received] == ["a", "b", "c"]
    assert client.receiveAll() == []


def test_emitWithAck(play: Play) -> None:
    """The answer is no argument, one, or several; one that hasn't come is an error, unless the test asks for it."""
    answers: dict[str | bytes, list[str | bytes]] = {
        '20["q"]': ["30[]"],
        '21["q"]': ["31[false]"],
        '22["q"]': ["32[1,2]"],
        '23["q"]': ['61-3[{"_placeholder":true,"num":0}]', b"x"],
    }
    played = play(answers)
    client = played.connect()
    assert [client.emitWithAck("q") for _ in answers] == [None, False, (1, 2), b"x"]
    with pytest.raises(NothingReceived, match=r"^no acknowledgement: <MemorySocket abc in /, joined>$"):
        client.emitWithAck("q")
    question = client.ask("q")
    assert (question.isAnswered, question.args, repr(question)) == (False, None, "<Question unanswered>")
    with pytest.raises(NothingReceived):
        _ = question.answer
    played.say("35[7]")
    assert (question.isAnswered, question.args, question.answer) == (True, (7,), 7)
    assert repr(question) == "<Question (7,)>"


def test_failuresAreTold(play: Play, leavesNothingBehind: None, loggedErrors: list[Any]) -> None:
    """What isn't there because the application failed says so."""
    played = play()
    client = played.connect()
    played.answers['2["bad"]'] = [None]  # type: ignore[list-item]
    client.emit("bad")
    with pytest.raises(NothingReceived, match=r"no event: .*; the application failed: TypeError\("):
        client.receive()
    played.kit.errors.clear()
    loggedErrors.clear()


def test_on(play: Play) -> None:
    """What the server asks is answered by a value or a function, as handlers of the layer answer."""
    played = play()
    client = played.connect()
    called: list[Any] = []
    client.on("value", 0)
    client.on("nothing", None)
    client.on("several", (1, b"x"))
    client.on("function", lambda *args: called.append(args) or len(args))
    played.say('20["value"]', '21["nothing"]', '22["several"]', '23["function",5,6]', '2["function"]', '2["value"]')
    assert played.heard[1:] == ["30[0]", "31[]", '61-2[1,{"_placeholder":true,"num":0}]', b"x", "33[2]"]
    assert called == [(5, 6), ()]
    assert [each.isAsked for each in client.received] == [True, True, True, True, False, False]


def test_answerLater(play: Play) -> None:
    """An answer may be held back, and is given once, as long as the socket is connected."""
    played = play()
    client = played.connect()
    played.say('20["q"]', '21["q"]', '2["s"]')
    first, second, third = client.receiveAll()
    first.answer()
    assert played.heard[1:] == ["30[]"]
    with pytest.raises(AssertionError, match=r"^answered already: <MemorySocket abc"):
        first.answer(1)
    with pytest.raises(AssertionError, match=r"^the server asked for no acknowledgement$"):
        third.answer(1)
    client.disconnect()
    with pytest.raises(AssertionError, match=r"^nobody waits for it: <MemorySocket abc"):
        second.answer(1)


def test_rawMessages(play: Play) -> None:
    """What no client sends can be sent, and what the server has sent can be seen as it was."""
    played = play({"nonsense": ['2["what?"]']})
    client = played.connect()
    client.sendRaw("nonsense", b"bytes")
    assert played.heard[1:] == ["nonsense", b"bytes"]
    assert client.engine.received == ['0{"sid":"abc"}', '2["what?"]']


# The end


def test_disconnect(play: Play) -> None:
    """It leaves the namespace; with the last one it closes the session. Once is enough."""
    played = play()
    client = played.connect()
    admin = client.of("/admin")
    client.disconnect()
    client.disconnect()
    assert (client.disconnected, client.connected, played.ends) == ("io client disconnect", False, [])
    admin.disconnect()
    assert played.heard == ["0", "0/admin,", "1", "1/admin,"]
    assert played.ends == ["transport close"]


def test_disconnectedByTheServer(play: Play) -> None:
    """As in the stock client, the session ends with its last namespace."""
    played = play()
    client = played.connect(upgrade=False)
    admin = client.of("/admin")
    played.say("1")
    assert (client.disconnected, admin.connected) == ("io server disconnect", True)
    played.say("1/admin,")
    assert (admin.disconnected, played.ends) == ("io server disconnect", ["transport close"])


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (lambda played, client: client.drop(), "transport error"),
        (lambda played, client: next(iter(played.kit.server.clients.values())).close(), "transport close"),
        (lambda played, client: client.engine.close(), "forced close"),
        (lambda played, client: (client.vanish(), client.advance(100)), "ping timeout"),
    ],
    ids=["drop", "close", "own close", "vanish"],
)
def test_endOfTheSession(play: Play, end: Callable[[Played, MemorySocket], object], reason: str) -> None:
    """It ends every namespace, with the reason that the stock client gives."""
    played = play()
    client = played.connect()
    admin = client.of("/admin")
    end(played, client)
    played.kit.settle()
    expected = None if reason == "ping timeout" else reason
    assert (client.disconnected, admin.disconnected) == (expected, expected)
    assert len(played.ends) == 1


def test_leftBehind(play: Play) -> None:
    """What was sent to a namespace that was left, before the server knew, is ignored."""
    played = play()
    client = played.connect()
    admin = client.of("/admin")
    client.delay(1)
    played.say('2/admin,["late"]', '2/admin,5["question"]')
    admin.disconnect()
    played.kit.advance(5)
    assert (admin.received, admin.disconnected, client.connected) == ([], "io client disconnect", True)


def test_joinAgain(play: Play) -> None:
    """A namespace that was left can be joined again; what was sent before the server knew is ignored."""
    played = play()
    client = played.connect()
    admin = client.of("/admin")
    client.delay(1)
    played.say('2/admin,["late"]')
    admin.disconnect()
    played.say('2/admin,["later"]', '2/admin,5["question"]')
    again = client.of("/admin", wait=False)
    played.kit.advance(5)
    assert (admin.received, again.received, again.id) == ([], [], "def")
    played.say('2/admin,["now"]')
    played.kit.advance(5)
    assert again.received == [Event("now")]


def test_network(play: Play) -> None:
    """The session is delayed, split, paused and upgraded as the engine's client is."""
    played = play()
    client = played.connect(upgrade=False)
    client.upgrade()
    assert client.transport == "websocket"
    client.split(1)
    client.delay(2)
    client.emit("slow")
    client.advance(1.5)
    assert played.heard == ["0"]
    client.advance(1)
    assert played.heard == ["0", '2["slow"]']
    client.delay(0)
    client.pauseReading()
    played.say('2["unheard"]')
    assert client.received == []
    client.resumeReading()
    assert client.received == [Event("unheard")]


# Recovery


def test_recover(play: Play) -> None:
    """It comes back with the private id and the last offset, which its listeners see too, as in the stock client."""
    played = play({"0": ['0{"sid":"abc","pid":"p"}']})
    first = played.connect()
    played.say('2["a",1,"o1"]', '2["b"]', '2["c",2]')
    assert first.receive() == Event("a", [1, "o1"])
    first.drop()
    played.answers['0{"pid":"p","offset":"o1","token":"t"}'] = ['0{"sid":"abc","pid":"p"}', '2["d","o2"]']
    second = played.connect(auth={"token": "t"}, recover=first)
    assert (second.recovered, second.id, second.received) == (True, "abc", [Event("d", ["o2"])])
    second.drop()
    played.answers['0{"pid":"p","offset":"o2"}'] = ['0{"sid":"new","pid":"q"}']
    third = played.connect(recover=second)
    assert (third.recovered, third.id) == (False, "new")


def test_recoverWithoutOffset(play: Play) -> None:
    """A client that got no event says so by leaving the offset out."""
    played = play({"0": ['0{"sid":"abc","pid":"p"}'], '0{"pid":"p"}': ['0{"sid":"abc","pid":"p"}']})
    first = played.connect()
    first.drop()
    assert played.connect(recover=first).recovered


# Protocol 4


def test_protocol4(play: Play) -> None:
    """The server connects the namespace / by itself; ids are those of the engine."""
    played = play({"open": ["0"], "0/admin?a=b%20c,": ["0/admin,"]}, allowEIO3=True)
    client = played.connect(protocol=4)
    assert (client.id, client.engine.protocol, played.heard) == (client.engine.sid, 3, [])
    admin = client.of("/admin", {"a": "b c"})
    assert admin.id == f"/admin#{client.engine.sid}"
    admin.emit("x")
    assert played.heard == ["0/admin?a=b%20c,", '2/admin,["x"]']


def test_protocol4OfOneNamespace(play: Play) -> None:
    """The namespace / comes along unasked, and doesn't keep the session; it is there for who asks."""
    played = play({"open": ["0"], "0/admin,": ["0/admin,"]}, allowEIO3=True)
    admin = played.connect("/admin", protocol=4)
    admin.disconnect()
    assert len(played.ends) == 1
    admin = played.connect("/admin", protocol=4)
    root = admin.of("/")
    assert root.connected
    admin.disconnect()
    assert (len(played.ends), root.connected) == (1, True)


def test_protocol4Refused(play: Play) -> None:
    """With a text, or with data alone."""
    played = play({"open": ["0"], "0/a,": ['4/a,"wrong"'], "0/b,": ['4/b,{"code":1}']}, allowEIO3=True)
    for namespace, message, data in (("/a", "wrong", None), ("/b", "", {"code": 1})):
        with pytest.raises(Refused) as caught:
            played.connect(namespace, protocol=4)
        assert (caught.value.message, caught.value.data) == (message, data)
    played = play({"open": ['4"no"']}, allowEIO3=True)
    with pytest.raises(Refused, match=r"^no$"):
        played.connect(protocol=4)


# What a server may not send


WRONG: dict[str, list[str | bytes]] = {
    "no type": ["x"],
    "empty": [""],
    "namespace / spelled out": ['2/,["a"]'],
    "namespace without a comma": ["1/admin"],
    "zeros before an id": ['200["a"]'],
    "space": ['2 ["a"]'],
    "attachments with zeros": ['501-["a",{"_placeholder":true,"num":0}]'],
    "no JSON": ["2"],
    "NaN": ['2["a",NaN]'],
    "trailing text": ['2["a"]]'],
    "no array": ['2{"a":1}'],
    "no name": ["2[]"],
    "name of another type": ["2[null]"],
    "reserved": ['2["connect"]'],
    "unknown namespace": ['2/other,["a"]'],
    "connected twice": ['0{"sid":"abc"}'],
    "refused when connected": ['4{"message":"no"}'],
    "ack of nothing": ["30[]"],
    "ack without an id": ["3[]"],
    "ack without an array": ["30{}"],
    "DISCONNECT with data": ['1{"a":1}'],
    "behind DISCONNECT": ["1/admin,", '2/admin,["a"]'],
    "bytes": [b"x"],
    "text in place of an attachment": ['51-["a",{"_placeholder":true,"num":0}]', '2["b"]'],
    "placeholder without its attachment": ['51-["a",{"_placeholder":true,"num":1}]'],
    "an id twice": ['20["a"]', '20["a"]'],
}


@pytest.mark.parametrize("wrong", WRONG)
def test_violations(play: Play, wrong: str) -> None:
    """It raises in the test, with what was sent."""
    played = play()
    client = played.connect()
    admin = client.of("/admin")
    assert admin.connected
    with pytest.raises(ProtocolViolation):
        played.say(*WRONG[wrong])


@pytest.mark.parametrize(
    "answer",
    [
        *("0", "0{}", '0{"sid":1}', '0{"sid":"a","pid":1}', '0{"sid":"a","more":1}', "0[]"),
        *("4", "4{}", '4"text"', '4{"message":1}', '4{"message":"a","more":1}', '2["early"]', "1", "30[]"),
    ],
)
def test_violationsOnConnecting(play: Play, answer: str) -> None:
    """CONNECT is answered as the protocol says, and before anything else."""
    with pytest.raises(ProtocolViolation):
        play({"0": [answer]}).connect()


@pytest.mark.parametrize("answer", ['0{"sid":"a"}', '2["early"]'])
def test_violationsOnConnectingInProtocol4(play: Play, answer: str) -> None:
    """In protocol 4 too, in which there is no sid."""
    with pytest.raises(ProtocolViolation):
        play({"open": [answer]}, allowEIO3=True).connect(protocol=4)
