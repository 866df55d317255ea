"""What goes over the wire, message by message, on both transports: what a client says, and what it is answered."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from engineio_twisted.socketio import ConnectRefused, SocketIO
from engineio_twisted.socketio.testing import MemorySocketIO
from engineio_twisted.testing import MemoryClient

Start = Callable[..., MemorySocketIO]
Messages: TypeAlias = "tuple[str | bytes, ...]"

transports = pytest.mark.parametrize("transport", ["polling", "websocket"])


def application(io: SocketIO) -> None:
    """Say who comes, send events back, and acknowledge them with their arguments."""
    for namespace in (io, io.of("/custom"), io.of("/closed")):
        namespace.on("connection", lambda socket: socket.emit("auth", socket.auth))
        namespace.on("message", lambda socket, *args: socket.emit("message-back", *args))
        namespace.on("ask", lambda socket, *args: args)
        namespace.on("silence", lambda socket: None)
        namespace.on("go", lambda socket: socket.disconnect())

    @io.of("/closed").use
    def refuse(socket: Any) -> None:
        if socket.auth.get("token") != "open":
            raise ConnectRefused("not you", {"try": 1})


def say(client: MemoryClient, *messages: str | bytes) -> Messages:
    """Send messages in one go, and return all that comes back, with a star in place of each new id."""
    for each in messages:
        client.send(each)
    return tuple(
        each if isinstance(each, bytes) else re.sub('{"sid":"[^"]{20}"}', '{"sid":*}', each)
        for each in client.receiveAll()
    )


JOINED: Messages = ('0{"sid":*}', '2["auth",{}]')
JOINED_CUSTOM: Messages = ('0/custom,{"sid":*}', '2/custom,["auth",{}]')

# What one client says one after the other, with what it is answered each time.
TALKS: dict[str, list[tuple[Messages, Messages]]] = {
    "connect": [(("0",), JOINED)],
    "connect with a payload": [(('0{"token":"123"}',), ('0{"sid":*}', '2["auth",{"token":"123"}]'))],
    "connect to a namespace": [(("0/custom,",), JOINED_CUSTOM)],
    "connect to a namespace with a payload": [
        (('0/custom,{"token":"é"}',), ('0/custom,{"sid":*}', '2/custom,["auth",{"token":"é"}]'))
    ],
    "an unknown namespace": [(("0/random",), ('4/random,{"message":"Invalid namespace"}',)), (("0",), JOINED)],
    "refused, then let in": [
        (("0/closed,",), ('4/closed,{"message":"not you","data":{"try":1}}',)),
        (('0/closed,{"token":"open"}',), ('0/closed,{"sid":*}', '2/closed,["auth",{"token":"open"}]')),
    ],
    "the last namespace left": [(("0",), JOINED), (("1",), ()), (("0/custom",), JOINED_CUSTOM)],
    "left for another": [
        (("0",), JOINED),
        (("0/custom",), JOINED_CUSTOM),
        (("1/custom", '2["message","to main"]'), ('2["message-back","to main"]',)),
    ],
    "left and back in one go": [(("0",), JOINED), (("1", "0"), JOINED), (('20["ask"]',), ("30[]",))],
    "left while another is joined": [
        (("0/custom,",), JOINED_CUSTOM),
        (("0/closed,{}", "1/custom,"), ('4/closed,{"message":"not you","data":{"try":1}}',)),
    ],
    "several in one go": [
        (("0", "0/custom,", '2/custom,["message",1]'), (*JOINED, *JOINED_CUSTOM, '2/custom,["message-back",1]'))
    ],
    "text": [(("0",), JOINED), (('2["message",1,"2",{"3":[true]}]',), ('2["message-back",1,"2",{"3":[true]}]',))],
    "binary": [
        (("0",), JOINED),
        (
            ('52-["message",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]', b"\1\2\3", b"\4\5\6"),
            ('52-["message-back",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]', b"\1\2\3", b"\4\5\6"),
        ),
    ],
    "acknowledged": [
        (("0",), JOINED),
        (('2456["ask",1,"2",{"3":[false]}]',), ('3456[1,"2",{"3":[false]}]',)),
        (('20["ask",null]',), ("30[null]",)),
        (('21["silence"]',), ("31[]",)),
    ],
    "acknowledged in binary": [
        (("0/custom,",), JOINED_CUSTOM),
        (
            ('52-/custom,789["ask",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]', b"\1", b"\2"),
            ('62-/custom,789[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]', b"\1", b"\2"),
        ),
    ],
    "the same again": [
        # A client that isn't answered in time sends it with another id, and needs both answers.
        (("0",), JOINED),
        (('20["ask",5]', '21["ask",5]'), ("30[5]", "31[5]")),
    ],
    "nobody listens": [(("0",), JOINED), (('20["unheard",5]',), ()), (('21["ask"]',), ("31[]",))],
    "sent away": [
        (("0/custom,",), JOINED_CUSTOM),
        (('2/custom,["go"]', '2/custom,["message"]'), ("1/custom,",)),
        (("0/custom,",), JOINED_CUSTOM),
        (('2/custom,0["ask"]',), ("3/custom,0[]",)),
    ],
}


@transports
@pytest.mark.parametrize("talk", TALKS)
def test_talk(socketio: Start, transport: str, talk: str) -> None:
    """The session goes on after each of these."""
    kit = socketio(application)
    client = kit.engine.connect(transport, upgrade=False)
    for says, hears in TALKS[talk]:
        assert say(client, *says) == hears, says
    kit.advance(25)
    assert client.readyState == "open"
    assert kit.io.stats().invalidPackets == 0


# In protocol 4 the client is in the main namespace by itself, CONNECT has no object, and an error is text or its data.
OLD_TALKS: dict[str, list[tuple[Messages, Messages]]] = {
    "connect": [((), ("0", '2["auth",{}]'))],
    "connect to a namespace": [
        ((), ("0", '2["auth",{}]')),
        (("0/custom,",), ("0/custom,", '2/custom,["auth",{}]')),
        (('2/custom,0["ask",1]',), ("3/custom,0[1]",)),
    ],
    "connect to a namespace with a query": [
        ((), ("0", '2["auth",{}]')),
        (
            ("0/custom?a=b&%26c=%3D%3F&d=,",),
            ("0/custom,", '2/custom,["auth",{"a":"b","&c":"=?","d":""}]'),
        ),
        (('2/custom?a=b,0["ask",1]', '2/custom,1["ask",2]'), ("3/custom,0[1]", "3/custom,1[2]")),
        (("1/custom?a=b,", "0/custom,"), ("0/custom,", '2/custom,["auth",{}]')),
    ],
    "an unknown namespace": [((), ("0", '2["auth",{}]')), (("0/random,",), ('4/random,"Invalid namespace"',))],
    "refused": [((), ("0", '2["auth",{}]')), (("0/closed?token=shut,",), ('4/closed,{"try":1}',))],
    "left": [((), ("0", '2["auth",{}]')), (("1",), ())],
}


@transports
@pytest.mark.parametrize("talk", OLD_TALKS)
def test_oldTalk(socketio: Start, transport: str, talk: str) -> None:
    """So do those of clients 2.x."""
    kit = socketio(application, allowEIO3=True)
    client = kit.engine.connect(transport, upgrade=False, protocol=3)
    for says, hears in OLD_TALKS[talk]:
        assert say(client, *says) == hears, says
    kit.advance(25)
    assert client.readyState == "open"
    assert kit.io.stats().invalidPackets == 0


VIOLATIONS: dict[str, tuple[Messages, str]] = {
    "no handshake": ((), "abc"),
    "unknown type": (("0",), "abc"),
    "no array": (("0",), "2{}"),
    "no number as id": (("0",), '2abc["ask",1,"2",{"3":[false]}]'),
    "never joined": ((), '2["message"]'),
    "left already": (("0", "1"), "1"),
}


@transports
@pytest.mark.parametrize("violation", VIOLATIONS)
def test_violation(socketio: Start, transport: str, violation: str) -> None:
    """The session ends at once after each of these; that of a bystander goes on."""
    kit = socketio(application)
    client, bystander = (kit.engine.connect(transport, upgrade=False) for _ in range(2))
    assert say(bystander, "0") == JOINED
    before, last = VIOLATIONS[violation]
    say(client, *before)
    client.send(last)
    assert client.readyState == "closed"
    assert say(bystander, '20["ask"]') == ("30[]",)
    assert kit.io.stats().clients == 1
    assert kit.io.stats().invalidPackets == 1


@transports
def test_query(socketio: Start, transport: str) -> None:
    """Parameters of the address are decoded, whatever is in them."""
    kit = socketio(lambda io: io.on("ask", lambda socket: dict(socket.handshake.query)))
    client = kit.engine.connect(transport, upgrade=False, query={"&a": "&=?a", "é": " +"})
    client.send("0")
    client.receiveAll()
    (answer,) = say(client, '20["ask"]')
    assert isinstance(answer, str)
    assert answer.startswith("30[{")
    assert '"&a":"&=?a"' in answer
    assert '"é":" +"' in answer
