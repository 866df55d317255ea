"""
Sessions of Socket.IO that do anything: scripts of what clients, the network and the application do, one after another.

A script is bytes: how the server is set up, and then steps, which L{SEPARATOR} parts. L{scriptOf} makes one at random;
L{play} plays one, and raises if anything comes of it that may not: a packet of the server that is none, an error that
the application didn't raise, something that is left, or a bystander who notices.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from engineio_twisted.socketio import ConnectRefused, SocketIO, SocketIOError, UnsendableValue
from engineio_twisted.socketio.msgpack import MsgpackParser
from engineio_twisted.socketio.packet import IncompletePacket, JSONParser, Packet, PacketType
from engineio_twisted.socketio.testing import MemorySocket, MemorySocketIO
from engineio_twisted.testing import MemoryClient

SEPARATOR = b"\xf5|"
FIXED = ["/", "/auth", "/slow"]
NAMESPACES = ["/", "/", "/", "/auth", "/slow", "/p1", "/p2", "/f", "/nope"]
EVENTS = [
    "echo",
    "emit",
    "join",
    "leave",
    "say",
    "ask",
    "late",
    "never",
    "boom",
    "go",
    "all",
    "error",
    "silent",
    "__init__",
]
RESERVED = ["connect", "disconnect", "disconnecting", "connect_error", "newListener", "removeListener"]
WAYS: list[dict[str, Any]] = [
    {"transport": "websocket"},
    {"transport": "polling", "upgrade": False},
    {"transport": "polling"},
    {"transport": "websocket", "protocol": 3},
    {"transport": "polling", "upgrade": False, "protocol": 3},
]
LIMIT = 2000
MOST_CLIENTS = 4
MOST_STEPS = 150


class Mistake(Exception):
    """A mistake of the application."""


def fail(*_: Any) -> None:
    raise Mistake


class Application:
    """What has a handler, a middleware or a listener of each kind."""

    def __init__(self) -> None:
        self.gates: list[Deferred[None]] = []

    def __call__(self, io: SocketIO) -> None:
        self.io = io
        io.of("/auth").use(self.authenticate)
        io.of("/slow").use(self.slow)
        for each in (io, io.of("/auth"), io.of("/slow"), io.of(re.compile(r"/p\d\Z")), io.of(self.accepts)):
            self.setUp(each)

    def setUp(self, namespace: Any) -> None:
        namespace.on("connection", self.connection)
        namespace.on("echo", lambda socket, *args: args)
        namespace.on("emit", lambda socket, *args: socket.emit("emit", *args))
        namespace.on("say", lambda socket, *args: socket.to(*self.texts(args)).emit("said", *args))
        namespace.on("join", lambda socket, *args: socket.join(*self.texts(args)))
        namespace.on("leave", lambda socket, *args: socket.leave(*self.texts(args)))
        namespace.on("ask", self.ask)
        namespace.on("late", lambda socket, *args: deferLater(self.io.engine.clock, 2, lambda: args))
        namespace.on("never", lambda socket, *args: Deferred())
        namespace.on("boom", fail)
        namespace.on("go", lambda socket, *args: socket.disconnect(bool(args)))
        namespace.on("all", self.all)
        namespace.on("error", lambda socket, error: socket.emit("sorry"))
        namespace.on("disconnect", lambda socket, reason, description: socket.namespace.emit("gone", reason))

    @staticmethod
    def texts(args: tuple[Any, ...]) -> list[str]:
        return [f"room {each}" for each in args if isinstance(each, str)]

    def gate(self, *_: Any) -> Deferred[None]:
        self.gates.append(Deferred())
        return self.gates[-1]

    def authenticate(self, socket: Any) -> None:
        if "boom" in socket.auth:
            raise Mistake
        if "no" in socket.auth:
            raise ConnectRefused("no", socket.auth)
        socket.join("early")
        socket.emit("early", socket.auth)
        socket.onAnyOutgoing(lambda *args: None)

    async def slow(self, socket: Any) -> None:
        await self.gate()

    async def accepts(self, name: str, auth: dict[str, Any]) -> bool:
        if "slow" in auth:
            await self.gate()
        return name == "/f"

    def connection(self, socket: Any) -> None:
        socket.on("silent", lambda *args: None)
        socket.onAny(lambda *args: None)
        if socket.namespace.name == "/slow":
            socket.use(self.gate)
        if "boom" in socket.auth:
            raise Mistake

    async def ask(self, socket: Any, *args: Any) -> Any:
        with suppress(SocketIOError):
            return await socket.emitWithAck("question", *args, timeout=3000)

    def all(self, socket: Any, *args: Any) -> None:
        asked = socket.namespace.timeout(4000).emitWithAck("question", *args)
        asked.addErrback(lambda failure: failure.trap(SocketIOError))

    def does(self, what: int) -> None:
        """Do something by itself."""
        namespaces = [*self.io.namespaces.values()]
        for each in namespaces[what % 3 :: 2]:
            match what:
                case 0:
                    each.emit("news", b"bytes", {"a": [1, b"more"]})
                case 1:
                    each.to("room a").except_("room b").volatile.emit("news", 1)
                case 2:
                    each.socketsJoin("room a")
                case 3:
                    each.fetchSockets()
                case 4 if each.name not in FIXED[:2]:
                    each.disconnectSockets(each.name == "/slow")
                case 5:
                    each.timeout(1000).emitWithAck("question").addErrback(lambda failure: None)
                case 6:
                    each.socketsLeave("room a")
                case _:
                    each.local.compress(False).emit("news", "text")


class _Client:
    """A client that says anything, and reads what it gets."""

    def __init__(self, sessions: Sessions, way: dict[str, Any]) -> None:
        self.engine: MemoryClient = sessions.kit.engine.connect(wait=False, **way)
        self._parser = sessions.reads
        self._taken = 0
        self._incomplete: IncompletePacket | None = None

    @property
    def isOpen(self) -> bool:
        return self.engine.readyState.value == "open"

    def read(self) -> Iterator[Packet]:
        """What came since; raises if it isn't a packet, or no server may send it."""
        received = self.engine.received
        for each in received[self._taken :]:
            if self._incomplete is None:
                found: Any = self._parser.decode(each)
                if not isinstance(found, Packet):
                    self._incomplete = found
                    continue
            else:
                found = self._incomplete.add(each)
                if found is None:
                    continue
                self._incomplete = None
            yield found
        self._taken = len(received)


class Sessions:
    """A server with a bystander, and clients that do what a script says."""

    def __init__(self, setting: int) -> None:
        self.application = Application()
        isMsgpack = bool(setting & 1)
        self.reads: Any = MsgpackParser(fromServer=True) if isMsgpack else JSONParser(fromServer=True, maxBytes=None)
        self.writes: Any = MsgpackParser() if isMsgpack else JSONParser()
        recovery: Any = {"maxEvents": 20, "maxDisconnectionDuration": 5000} if setting & 2 else False
        self.kit = MemorySocketIO(
            self.application,
            parser="msgpack" if isMsgpack else "default",
            allowEIO3=True,
            maxHttpBufferSize=LIMIT,
            maxWaitingEvents=3,
            maxNamespacesPerClient=4,
            maxAttachments=3,
            connectionStateRecovery=recovery,
            bufferLimitAction=("close", "raise", "drop", "close")[setting >> 2 & 3],
            **({"maxBufferedPackets": 5} if setting & 16 else {}),
        )
        self.bystander: MemorySocket = self.kit.connect(transport="websocket")
        self.other = self.bystander.of("/auth")
        self.other.emit("join", "a")
        self.clients: list[_Client] = []
        self.present: _Client | None = None
        self.pids: dict[str, str] = {}
        self.offset, self.opened = "none", 0
        self._asked = 0

    def open(self, way: int) -> _Client:
        self.clients = [each for each in self.clients if each.isOpen]
        if len(self.clients) == MOST_CLIENTS:
            self.clients.pop(0).engine.drop()
        self.present = _Client(self, WAYS[way % len(WAYS)])
        self.clients.append(self.present)
        self.opened += 1
        return self.present

    def step(self, name: bytes, rest: bytes) -> None:
        number = rest[0] % 10 if rest else 0
        client = self.present
        match name:
            case b"n":
                self.open(number)
            case b"o" if self.clients:
                self.present = self.clients[number % len(self.clients)]
            case b"a":
                self.kit.advance((0, 0.1, 1, 2, 3, 4, 6, 25, 31, 46)[number])
            case b"e":
                self.application.does(number)
            case b"g":
                gates, self.application.gates = self.application.gates, []
                for each in gates:
                    each.callback(None)
            case b"t" | b"b":
                if client is None or not client.isOpen:
                    client = self.open(len(rest))
                    for each in ("/", "/auth", "/slow", "/p1"):
                        if each != "/" or client.engine.protocol == 4:
                            self.say(client, self.writes.encode(PacketType.CONNECT, each, None, None))
                self.step(b"g", b"")
                if not client.isOpen:
                    return
                self.say(client, rest if name == b"b" else self.filled(rest.decode(errors="replace")))
            case b"d" | b"c" | b"v" | b"p" | b"q" if client is not None and client.isOpen:
                engine = client.engine
                {
                    b"d": engine.drop,
                    b"c": engine.close,
                    b"v": engine.vanish,
                    b"p": engine.pauseReading,
                    b"q": engine.resumeReading,
                }[name]()
        self.kit.settle()
        self.look()

    def say(self, client: _Client, message: str | bytes) -> None:
        if client.isOpen:
            client.engine.send(message)

    def filled(self, text: str) -> str:
        namespace = re.match("0?(/[^,?]*)?", text)[1] or "/"  # type: ignore[index]
        return text.replace("$P", self.pids.get(namespace, "none")).replace("$O", self.offset)

    def look(self) -> None:
        """Read what clients got."""
        for each in self.clients:
            for packet in each.read():
                data = packet.data
                if packet.type == PacketType.CONNECT and isinstance(data, dict) and "pid" in data:
                    self.pids[packet.namespace] = data["pid"]
                elif packet.type == PacketType.EVENT and isinstance(data[-1], str) and "." in data[-1]:
                    self.offset = data[-1]
        errors = self.kit.errors
        wrong = [each for each in errors if not isinstance(each, Mistake | UnsendableValue)]
        if self.kit.engine.server.opts.bufferLimitAction == "raise":
            wrong = [each for each in wrong if type(each).__name__ != "BufferLimitExceeded"]
        assert wrong == []
        errors.clear()

    def bystanderGoesOn(self) -> None:
        self._asked += 1
        assert self.bystander.emitWithAck("echo", self._asked) == self._asked
        assert self.other.emitWithAck("echo", self._asked, b"x") == (self._asked, b"x")

    def end(self) -> None:
        """Let all clients be gone, and look for what is left of them."""
        self.bystanderGoesOn()
        for each in self.clients:
            if each.isOpen:
                each.engine.drop()
        for seconds in (0, 1, 6, 31, 46, 31):
            self.kit.advance(seconds)
            self.step(b"g", b"")
        self.bystanderGoesOn()
        io = self.kit.io
        stats = io.stats()
        left = {
            each: getattr(stats, each) for each in ("clients", "sockets", "rooms", "acks", "joining", "attachments")
        }
        assert left == {"clients": 1, "sockets": 2, "rooms": 2, "acks": 0, "joining": 0, "attachments": 0}, left
        assert stats.waitingSessions == 0
        assert sorted(io.namespaces) == FIXED
        assert {name: len(each.outgoing) for name, each in io.namespaces.items()} == {"/": 0, "/auth": 1, "/slow": 0}
        assert all(each._joiningHere == 0 for each in io.namespaces.values())
        self.kit.close()


def play(script: bytes) -> int:
    """Play a script; return how many sessions there were."""
    sessions = Sessions(script[0] if script else 0)
    try:
        for each in script[1:].split(SEPARATOR)[:MOST_STEPS]:
            sessions.step(each[:1], each[1:])
    except BaseException as error:
        sessions.kit.__exit__(type(error), error, None)
        raise
    sessions.end()
    return sessions.opened


# Scripts at random


def _value(chance: random.Random, depth: int = 0) -> Any:
    match chance.randrange(12 if depth < 3 else 8):
        case 0:
            return chance.choice([0, -1, 2**53, 2**64 - 1, 1e308])
        case 1:
            return chance.choice([True, False, None])
        case 2:
            return chance.choice(["", "é€😀", "\ud800", "\0", '"', "x" * 300, "a", "b"])
        case 3 | 4:
            return chance.randbytes(chance.choice([0, 1, 50]))
        case 5:
            return {"_placeholder": True, "num": chance.choice([0, 1, 5, -1, "0", True, 0.0])}
        case 6 | 7:
            return chance.choice("ab")
        case 8 | 9:
            return [_value(chance, depth + 1) for _ in range(chance.randrange(4))]
        case _:
            return {chance.choice(["a", "num", "__proto__", ""]): _value(chance, depth + 1) for _ in range(2)}


_GOOD = [None, None, {}, {"a": 1}, {"pid": "$P"}, {"pid": "$P", "offset": "$O"}]
_ANY = [*_GOOD, {"no": 1}, {"boom": 1}, {"slow": 1}, {"pid": ["$P"], "offset": 1}]


class _Writer:
    """Writes a script, and knows about which namespaces the present client has joined."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.setting = chance.randrange(32)
        self.parser: Any = MsgpackParser() if self.setting & 1 else JSONParser(maxAttachments=5)
        self.steps: list[bytes] = []
        # Those of each client.
        self.clients: list[list[str]] = []
        self.joined: list[str] = []

    def say(self, *messages: str | bytes) -> None:
        for each in messages:
            self.steps.append(b"t" + each.encode(errors="replace") if isinstance(each, str) else b"b" + each)

    def begin(self) -> None:
        """Open a session, and join some namespaces."""
        way = self.chance.randrange(len(WAYS))
        self.steps.append(b"n%d" % way)
        isOld = "protocol" in WAYS[way]
        self.joined = ["/"] if isOld else []
        self.clients = [*self.clients, self.joined][-MOST_CLIENTS:]
        for each in self.chance.sample(["/", "/auth", "/slow", "/p1", "/p2", "/f"], self.chance.randrange(1, 4)):
            if not isOld or each != "/":
                auth = None if isOld else self.chance.choice(_GOOD)
                name = f"{each}?a=1" if isOld and not self.setting & 1 and self.chance.randrange(2) else each
                self.say(*self.encoded(PacketType.CONNECT, name, None, auth))
                self.joined.append(each)
        if self.chance.randrange(4):
            self.steps.append(b"g")

    def encoded(self, *packet: Any) -> list[str | bytes]:
        try:
            encoded = self.parser.encode(*packet)
        except UnsendableValue:
            return []
        return [*encoded] if isinstance(encoded, list) else [encoded]

    def packet(self) -> list[str | bytes]:
        """The messages of a packet that a client may send, nearly always."""
        chance = self.chance
        isWrong = not self.joined or not chance.randrange(40)
        namespace = chance.choice(NAMESPACES if isWrong else self.joined)
        match chance.randrange(12):
            case 0:
                namespace = chance.choice(NAMESPACES)
                if namespace in self.joined and chance.randrange(4):
                    return []
                self.joined.append(namespace)
                return self.encoded(PacketType.CONNECT, namespace, None, chance.choice(_ANY))
            case 1:
                if namespace in self.joined:
                    self.joined.remove(namespace)
                return self.encoded(PacketType.DISCONNECT, namespace, None, None)
            case 2 | 3:
                answer = [_value(chance) for _ in range(chance.randrange(3))]
                return self.encoded(PacketType.ACK, namespace, chance.randrange(12), answer)
        name = chance.choice(EVENTS if chance.randrange(80) else RESERVED)
        number = chance.choice([None, None, 0, 1, 2, 3, 7, 2**53 - 1])
        return self.encoded(
            PacketType.EVENT, namespace, number, [name, *[_value(chance) for _ in range(chance.randrange(4))]]
        )

    def damaged(self, messages: list[str | bytes]) -> list[str | bytes]:
        """The same, with something cut, doubled, exchanged or put in."""
        chance = self.chance
        place = chance.randrange(len(messages))
        chosen = messages[place]
        match chance.randrange(5):
            case 0:
                return messages[:place] + messages[place + 1 :]
            case 1:
                return [*messages[:place], chosen, *messages[place:]]
            case 2:
                return [*messages[:place], chosen[: chance.randrange(len(chosen) + 1)]]
            case 3:
                end = chance.randrange(len(chosen) + 1)
                more: Any = chance.choice('0123456789[]{},-/"\\ ')
                more = more if isinstance(chosen, str) else more.encode()
                return [*messages[:place], chosen[:end] + more + chosen[end:], *messages[place + 1 :]]
        chance.shuffle(messages)
        return messages

    def write(self) -> None:
        """Write one step, or some that belong together."""
        chance = self.chance
        match chance.randrange(24):
            case 0:
                self.begin()
            case 1:
                number = chance.randrange(len(self.clients))
                self.steps.append(b"o%d" % number)
                self.joined = self.clients[number]
            case 2:
                self.steps.append(b"a%d" % chance.randrange(10))
            case 3 | 4 | 5:
                self.steps.append(b"e%d" % chance.randrange(10))
            case 6 | 7:
                self.steps.append(b"g")
            case 8:
                self.steps.append(chance.choice([b"p", b"q", b"q"]))
            case 9:
                self.steps.append(chance.choice([b"d", b"d", b"c", b"v"]))
                self.clients.remove(self.joined)
                self.begin()
            case _:
                messages = self.packet()
                if messages and not chance.randrange(30):
                    self.say(*self.damaged(messages))
                    self.begin()
                else:
                    self.say(*messages)


def scriptOf(chance: random.Random) -> bytes:
    """Make a script: mostly of what clients may say, so that there is something for the rest to happen to."""
    writer = _Writer(chance)
    writer.begin()
    for _ in range(chance.randrange(10, 50)):
        writer.write()
    return bytes([writer.setting]) + SEPARATOR.join(writer.steps)
