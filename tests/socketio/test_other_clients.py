"""Clients in other languages, by what their sources send: sloppier than the reference's own (docs/clients.md)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import attrs
import pytest

from engineio_twisted import Server
from engineio_twisted.socketio import SocketIO
from engineio_twisted.testing import MemoryClient, MemoryServer

Messages: TypeAlias = "list[str | bytes]"

PLACEHOLDER = '{"_placeholder":true,"num":0}'
"""Exactly so: the client in Rust finds attachments by this text."""
JOINED, JOINED_ADMIN = '0{"sid":"*"}', '0/admin,{"sid":"*"}'
"""With a comma after the namespace in all that is sent: the client in Rust reads no packet without one."""


@attrs.define
class Talk:
    """A client's session, and what the application saw."""

    server: MemoryServer
    client: MemoryClient
    io: SocketIO
    auths: list[Any]
    heard: list[tuple[Any, ...]]
    ended: list[tuple[str, str]]

    def say(self, *messages: str | bytes) -> Messages:
        """Send messages, and return what comes back, with a star for each id that the server gives."""
        for each in messages:
            self.client.send(each)
        return [
            each if isinstance(each, bytes) else re.sub('"sid":"[^"]*"', '"sid":"*"', each)
            for each in self.client.receiveAll()
        ]


@contextmanager
def talk(protocol: int = 4, **options: Any) -> Iterator[Talk]:
    """A session of a revision with an application that answers `ask`, and asks when it is told `ask me`."""
    auths: list[Any] = []
    heard: list[tuple[Any, ...]] = []
    ended: list[tuple[str, str]] = []
    made: list[SocketIO] = []

    async def askMe(socket: Any, *args: Any) -> None:
        heard.append(("answered", await socket.emitWithAck("question", *args)))

    def application(server: Server) -> None:
        io = SocketIO(server, **options)
        made.append(io)
        for namespace in (io, io.of("/admin")):
            namespace.on("connection", lambda socket: auths.append((socket.namespace.name, socket.auth)))
            namespace.on("disconnect", lambda socket, reason, _: ended.append((socket.namespace.name, str(reason))))
            namespace.on("tell", lambda socket, *args: heard.append(args))
            namespace.on("ask", lambda socket, *args: args)

            namespace.on("ask me", askMe)

    with MemoryServer(application, path="/socket.io", allowEIO3=True) as server:
        yield Talk(server, server.connect("websocket", protocol=protocol), made[0], auths, heard, ended)
        assert made[0].stats().invalidPackets == 0


Conversation: TypeAlias = "list[tuple[Messages, Messages]]"

CONVERSATIONS: dict[str, Conversation] = {
    # The slash is escaped behind "<". Members of an object are in no order, so those of a placeholder too.
    "Java": [
        (["0"], [JOINED]),
        (['0/admin,{"token":"<\\/x>"}'], [JOINED_ADMIN]),
        (['20["ask",1,{"a":null}]'], ['30[1,{"a":null}]']),
        (
            ['51-/admin,0["ask",{"num":0,"_placeholder":true}]', b"\x00\xff"],
            [f"61-/admin,0[{PLACEHOLDER}]", b"\x00\xff"],
        ),
        (['21["ask"]'], ["31[]"]),
        (["1/admin,"], []),
        (['22["ask"]'], ["32[]"]),
        (["1"], []),
    ],
    # It names "/" when it joins and leaves, and in nothing else. Every slash is escaped.
    "Swift": [
        (['0/,{"token":"<\\/x>"}'], [JOINED]),
        (["0/admin,"], [JOINED_ADMIN]),
        (['20["ask","a\\/b"]'], ['30["a/b"]']),
        (
            ['52-1["ask",{"num":0,"_placeholder":true},[{"num":1,"_placeholder":true}]]', b"\x01", b""],
            ['62-1[{"_placeholder":true,"num":0},[{"_placeholder":true,"num":1}]]', b"\x01", b""],
        ),
        (["1/admin,"], []),
        (["1/,"], []),
    ],
    # A comma only between the namespace and something. Its ids are counted over all namespaces, from 1.
    "C++": [
        (["0"], [JOINED]),
        (["0/admin"], [JOINED_ADMIN]),
        (['2/admin,1["ask",1.5]'], ["3/admin,1[1.5]"]),
        (['22["ask"]'], ["32[]"]),
        (['51-/admin,3["ask",{"_placeholder":true,"num":0}]', b"\x00"], [f"61-/admin,3[{PLACEHOLDER}]", b"\x00"]),
        (["1/admin"], []),
        (["1"], []),
    ],
    # Ids at random. With binary data, what it wants an answer to is a BINARY_ACK, which nobody waits for.
    "Rust": [
        (["0"], [JOINED]),
        (['0/admin,{"token":"<\\/x>"}'], [JOINED_ADMIN]),
        (['2917["ask",{"a":1}]'], ['3917[{"a":1}]']),
        (['61-5["ask",{"_placeholder":true,"num":0}]', b"\x01"], []),
        (['2918["ask"]'], ["3918[]"]),
        (["1/admin,"], []),
        (["1"], []),
    ],
    "C#": [
        (["0/admin,"], [JOINED_ADMIN]),
        (['2/admin,0["ask"]'], ["3/admin,0[]"]),
        (['51-/admin,1["ask",{"_placeholder":true,"num":0}]', b"\x01"], [f"61-/admin,1[{PLACEHOLDER}]", b"\x01"]),
        (["1/admin,"], []),
    ],
    # A slash without a comma. Applications write the packets by hand, and ids in front of them.
    "Arduino": [
        (["0/"], [JOINED]),
        (['2["tell",{"now":2000}]'], []),
        (['27["ask",{"now":2000}]'], ['37[{"now":2000}]']),
    ],
    # What python-socketio joins without `auth` with.
    "Python": [
        (["0{}"], [JOINED]),
        (["0/admin,{}"], [JOINED_ADMIN]),
        (['20["ask",[]]'], ["30[[]]"]),
        (["1", "1/admin,"], []),
    ],
}


@pytest.mark.parametrize("language", CONVERSATIONS)
def test_conversation(language: str) -> None:
    """What a client says is understood, and answered in a form that it understands; no session is ended for it."""
    with talk() as here:
        for says, hears in CONVERSATIONS[language]:
            assert here.say(*says) == hears, says
        assert here.client.readyState == "open"
        tokens = [auth["token"] for _, auth in here.auths if auth]
        assert tokens in ([], ["</x>"])
        leaves = [each for says, _ in CONVERSATIONS[language] for each in says if str(each).startswith("1")]
        assert [reason for _, reason in here.ended] == ["client namespace disconnect"] * len(leaves)


@pytest.mark.parametrize("namespace", ["", "/admin,"], ids=["main", "admin"])
def test_questionsHaveIds(namespace: str) -> None:
    """No question has the id 0, which clients on microcontrollers take for none, nor one that 32 bits can't hold."""
    with talk() as here:
        here.say(f"0{namespace}")
        for expected in (1, 2):
            assert here.say(f'2{namespace}["ask me",5]') == [f'2{namespace}{expected}["question",5]']
        assert here.say(f'3{namespace}1[{{"now":1}}]', f"3{namespace}2[]") == []
        assert here.heard == [("answered", {"now": 1}), ("answered", None)]


def test_refusal() -> None:
    """A refusal is an object, with a comma behind the namespace: clients in Java and Rust read nothing else."""
    with talk() as here:
        assert here.say("0/unknown") == ['4/unknown,{"message":"Invalid namespace"}']


def test_serverDisconnects() -> None:
    """What ends a namespace has a comma behind it, too."""
    with talk() as here:
        here.say("0/admin", "0")
        here.io.of("/admin").disconnectSockets()
        here.io.disconnectSockets()
        assert here.client.receiveAll() == ["1/admin,", "1"]


def test_recoveryWithoutOffset() -> None:
    """The client in Dart names its offset, a null, when it has received nothing: it is restored all the same."""
    with talk(connectionStateRecovery=True) as here:
        ids: list[tuple[str, bool]] = []
        here.io.on("connection", lambda socket: ids.append((socket.id, socket.recovered)))
        here.client.send("0")
        privateId = json.loads(str(here.client.receive())[1:])["pid"]
        here.client.drop()
        here.io.emit("missed")
        here.client = here.server.connect("websocket")
        here.client.send(f'0{{"pid":"{privateId}","offset":null,"token":"x"}}')
        joined, missed = here.client.receiveAll()
        assert json.loads(str(joined)[1:]) == {"sid": ids[0][0], "pid": privateId}
        assert str(missed).startswith('2["missed","')
        assert ids[1:] == [(ids[0][0], True)]


OLD: dict[str, Conversation] = {
    # The namespace with a query, and a comma after it; then the bare namespace.
    "Java 1": [
        (["0/admin?token=%3C%2Fx%3E&name=y,"], ["0/admin,"]),
        (['2/admin,0["ask",1]'], ["3/admin,0[1]"]),
        (['51-1["ask",{"num":0,"_placeholder":true}]', b"\x01"], [f"61-1[{PLACEHOLDER}]", b"\x01"]),
        (["1/admin,"], []),
    ],
    "Swift and C#": [
        (["0/admin,"], ["0/admin,"]),
        (['20["ask"]'], ["30[]"]),
        (["1/admin,"], []),
    ],
    # It names "/", where it is already, as its namespace.
    "Swift, for /": [
        (['20["ask"]'], ["30[]"]),
        (["1/,"], []),
    ],
}


@pytest.mark.parametrize("language", OLD)
def test_oldConversation(language: str) -> None:
    """So are clients of protocol 4, which are in the main namespace from the beginning, without an object."""
    with talk(protocol=3) as here:
        assert here.client.receiveAll() == ["0"]
        for says, hears in OLD[language]:
            assert here.say(*says) == hears, says
        assert here.client.readyState == "open"
        if language == "Java 1":
            assert here.auths == [("/", {}), ("/admin", {"token": "</x>", "name": "y"})]
        assert [reason for _, reason in here.ended] == ["client namespace disconnect"]


ANSWERS: list[Callable[[str], Messages]] = [
    lambda number: [f"3{number}[]"],
    lambda number: [f'61-{number}[{{"num":0,"_placeholder":true}}]', b"\x01"],
]


@pytest.mark.parametrize("answer", ANSWERS, ids=["nothing", "binary"])
def test_answers(answer: Callable[[str], Messages]) -> None:
    """Answers without arguments, and such with binary data in a placeholder whose members are in another order."""
    with talk() as here:
        here.say("0")
        (question,) = here.say('2["ask me"]')
        assert isinstance(question, str)
        here.say(*answer(question[1 : question.index("[")]))
        assert here.heard in ([("answered", None)], [("answered", b"\x01")])
