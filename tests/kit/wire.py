"""
A client that can do everything wrong: exact bytes out, exact responses and frames back, over real sockets.

L{Wire} is one connection; L{Client} is a well-behaved session on top of it; L{Arena} is a server with two
well-behaved sessions, bystanders, that whatever a test does must not harm.
"""

from __future__ import annotations

import json
import struct
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.web.http_headers import Headers

from engineio_twisted.session.heartbeats import HeartbeatQueue
from engineio_twisted.testing.requests import takeBody, takeHead
from engineio_twisted.testing.websocket import Frame, takeFrame

from .network import MemoryEndpoint, time

# Far longer than anything takes on a busy machine: only what never happens gets this far.
DEADLINE = 60.0
# Where less than this, in milliseconds, is left for an answer to a ping, it may be missed on such a machine.
SAFE_TIMEOUT = 2000

SEPARATOR = "\x1e"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


class LostError(Exception):
    """The connection closed before what was waited for had come."""


async def within(deferred: Deferred[Any], what: str, seconds: float | None = DEADLINE) -> Any:
    """The result of `deferred`; a failure that names what was waited for when it takes too long."""

    def timedOut(result: object, timeout: float) -> object:
        raise AssertionError(f"waited {timeout} s for {what}")

    # Awaited from inside one of its own callbacks it goes on before the timer would be cancelled.
    if seconds is not None and not deferred.called:
        deferred.addTimeout(seconds, time(), onTimeoutCancel=timedOut)
    return await deferred


async def pause(seconds: float) -> None:
    """Let the reactor run."""
    await deferLater(time(), seconds)


async def eventually(condition: Callable[[], object], what: str) -> None:
    """Wait for what nothing announces."""
    clock = time()
    deadline = clock.seconds() + DEADLINE
    while not condition():
        assert clock.seconds() < deadline, f"waited {DEADLINE} s for {what}"
        await pause(0.002)


class Changing:
    """Something whose changes can be awaited."""

    def __init__(self) -> None:
        self._waiting: list[Deferred[None]] = []

    def changed(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    async def until(self, condition: Callable[[], object], what: str, seconds: float | None = DEADLINE) -> None:
        while not condition():
            change: Deferred[None] = Deferred(self._forget)
            self._waiting.append(change)
            await within(change, f"{what}; {self!r}", seconds)

    def _forget(self, cancelled: Deferred[None]) -> None:
        self._waiting.remove(cancelled)


@attrs.frozen
class Response:
    """An HTTP response: the headers by name in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)

    @property
    def packets(self) -> list[str]:
        assert self.status == 200
        return self.body.decode().split(SEPARATOR)


def framesOf(data: bytes | bytearray) -> list[Frame]:
    """All frames in what a server sent, which has to be frames and nothing else."""
    frames, rest = [], bytearray(data)
    while (frame := takeFrame(rest)) is not None:
        frames.append(frame)
    assert not rest, f"no frame: {bytes(rest[:100])!r}"
    return frames


class Wire(Protocol, Changing):
    """One connection to a server: the bytes that came and weren't read yet, and whether it is lost."""

    def __init__(self) -> None:
        Changing.__init__(self)
        self.received = bytearray()
        self.isLost = False

    def __repr__(self) -> str:
        return f"unread: {bytes(self.received[:200])!r}, lost: {self.isLost}"

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self.changed()

    def connectionLost(self, reason: object = None) -> None:
        self.isLost = True
        self.changed()

    def send(self, data: bytes) -> None:
        self.transport.write(data)

    def drop(self, abort: bool = True) -> None:
        """Go away at once, by a reset or, if not `abort`, by an ordinary end of the stream."""
        if abort:
            self.transport.abortConnection()
        else:
            self.transport.loseConnection()

    async def lost(self) -> bytes:
        """Wait for the server to close the connection; return what it said before that was not read yet."""
        await self.until(lambda: self.isLost, "the server closing the connection")
        return bytes(self.received)

    async def _got(self, take: Callable[[], Any], what: str, seconds: float | None = DEADLINE) -> Any:
        """Wait until something can be taken out of what came, and return it."""
        found: list[Any] = []

        def isThere() -> bool:
            taken = None if found else take()
            if taken is not None:
                found.append(taken)
            return bool(found)

        await self.until(lambda: isThere() or self.isLost, what, seconds)
        if not found:
            raise LostError(f"connection lost instead of {what}; {self!r}")
        return found[0]

    async def _head(self, seconds: float | None) -> tuple[Response, Headers]:
        status, fields = await self._got(lambda: takeHead(self.received, b"01"), "a response", seconds)
        headers = {}
        for name, values in fields.getAllRawHeaders():
            assert len(values) == 1, f"a header twice: {name} {values}"
            headers[name.decode("latin-1").lower()] = values[0].decode("latin-1")
        return Response(status, headers, b""), fields

    async def head(self, seconds: float | None = DEADLINE) -> Response:
        """Read the head of a response, without its body."""
        return (await self._head(seconds))[0]

    async def response(self, method: str = "GET", seconds: float | None = DEADLINE) -> Response:
        """Read a whole response."""
        head, fields = await self._head(seconds)
        if method == "HEAD" or head.status == 101:
            return head
        body = await self._got(lambda: takeBody(head.status, fields, self.received), "a body")
        return attrs.evolve(head, body=body)

    async def frame(self, seconds: float | None = DEADLINE) -> Frame:
        """Read a frame."""
        frame: Frame = await self._got(lambda: takeFrame(self.received), "a frame", seconds)
        assert not frame.reserved, "reserved bits set by the server"
        return frame

    async def text(self) -> str:
        """Read a frame, which has to be text."""
        return (await self.frame()).text

    async def closed(self) -> int | None:
        """Read the server's close frame, answer it, and wait for the end of the connection. Return its code."""
        frame = await self.frame()
        assert frame.opcode == CLOSE, f"{frame} instead of a close frame"
        self.send(makeFrame(frame.payload[:2], CLOSE))
        assert await self.lost() == b""
        return frame.code


async def connectTo(port: int | MemoryEndpoint) -> Wire:
    """Connect to a port of loopback, or in memory."""
    from twisted.internet import reactor

    if isinstance(port, MemoryEndpoint):
        wire = Wire()
        port.connect(wire)
        return wire
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
    connected: Wire = await within(connectProtocol(endpoint, Wire()), "a connection")
    return connected


def target(path: str = "/engine.io/", **changes: object) -> str:
    """An address: a handshake on polling, with parameters changed, added, or, where None, left out."""
    query = {"EIO": "4", "transport": "polling", **changes}
    return path + "?" + "&".join(f"{name}={value}" for name, value in query.items() if value is not None)


def http(
    method: str,
    where: str,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes | None = None,
    version: str = "1.1",
) -> bytes:
    """A request, byte by byte as it is said."""
    lines = [f"{method} {where} HTTP/{version}", "Host: localhost"]
    lines += [f"{name}: {value}" for name, value in headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def upgrade(
    where: str | None = None, method: str = "GET", version: str = "1.1", extra: str = "", **changes: str | None
) -> bytes:
    """A request for a WebSocket, with headers changed or, where None, left out: `Sec_WebSocket_Key="short"`."""
    headers = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    pairs = [(name, value) for name, value in headers.items() if value is not None]
    return http(method, where or target(transport="websocket"), pairs, version=version)[:-2] + (
        extra.encode("latin-1") + b"\r\n"
    )


def makeFrame(
    payload: bytes | str = b"",
    opcode: int | None = None,
    isFinal: bool = True,
    reserved: int = 0,
    isMasked: bool = True,
    length: int | None = None,
) -> bytes:
    """
    A frame as a client sends it, or shouldn't.

    @param length: what the frame says its length is, always as 64 bits.
    """
    if opcode is None:
        opcode = TEXT if isinstance(payload, str) else BINARY
    data = payload.encode() if isinstance(payload, str) else payload
    mask = 0x80 if isMasked else 0
    said = len(data) if length is None else length
    if length is not None or said > 0xFFFF:
        size = bytes([mask | 127]) + struct.pack("!Q", said)
    elif said > 125:
        size = bytes([mask | 126]) + struct.pack("!H", said)
    else:
        size = bytes([mask | said])
    head = bytes([(0x80 if isFinal else 0) | reserved << 4 | opcode]) + size
    if not isMasked:
        return head + data
    key = b"\x37\xfa\x21\x3d"
    stream = (key * (len(data) // 4 + 1))[: len(data)]
    masked = int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")
    return head + key + masked.to_bytes(len(data), "big")


class Client(Changing):
    """
    A session that behaves: it polls or holds a WebSocket, answers pings, and takes messages.

    @ivar messages: those that came, with binary as bytes.
    @ivar isOver: whether the session, or the connection it needs, has ended.
    """

    def __init__(self, arena: Arena) -> None:
        super().__init__()
        self.arena = arena
        self.messages: list[str | bytes] = []
        self.isOver = False
        self.sid = ""
        self.wires: list[Wire] = []
        self._isPausing = False
        self._socket: Wire | None = None
        self._running: Deferred[None]

    def __repr__(self) -> str:
        return f"client with {len(self.messages)} messages, the last {self.messages[-3:]!r}, over: {self.isOver}"

    async def start(self, transport: str = "polling") -> Client:
        if transport == "polling":
            self.sid = await self.arena.open()
            self._running = Deferred.fromCoroutine(self._poll())
        else:
            self.sid, self._socket = await self.arena.openWebSocket(self.wires)
            self._running = Deferred.fromCoroutine(self._read(self._socket))
        return self

    async def _poll(self) -> None:
        try:
            wire = await self.arena.connect(self.wires)
            while not self.isOver and not self._isPausing:
                wire.send(http("GET", target(sid=self.sid)))
                response = await wire.response(seconds=None)
                if response.status != 200:
                    self.isOver = True
                    break
                for packet in response.packets:
                    await self._take(packet)
            wire.drop()
        except LostError:
            self.isOver = True
        self.changed()

    async def _read(self, wire: Wire) -> None:
        try:
            while not self.isOver:
                frame = await wire.frame(seconds=None)
                if frame.opcode == CLOSE:
                    wire.send(makeFrame(frame.payload[:2], CLOSE))
                    await wire.until(lambda: wire.isLost, "the end of the connection", None)
                    break
                await self._take(frame.text if frame.opcode == TEXT else frame.payload)
        except LostError:
            pass
        self.isOver = True
        self.changed()

    async def _take(self, packet: str | bytes) -> None:
        if isinstance(packet, bytes):
            self.messages.append(packet)
        elif packet.startswith("4"):
            self.messages.append(packet[1:])
        elif packet == "2":
            await self.say("3")
        elif packet == "1":
            self.isOver = True
        self.changed()

    async def say(self, packet: str) -> int:
        """Send a packet; return the status of the answer, or 0 if none came."""
        if self._socket is not None:
            self._socket.send(makeFrame(packet))
            return 200
        try:
            wire = await self.arena.connect(self.wires)
            wire.send(http("POST", target(sid=self.sid), body=packet.encode()))
            response = await wire.response()
        except LostError:
            return 0
        wire.drop()
        return response.status

    async def echo(self, text: str) -> None:
        """Send a message, and wait until it has come back."""
        await self.say("4" + text)
        await self.until(lambda: text in self.messages or self.isOver, f"the echo of {text!r}")
        assert text in self.messages, f"no echo of {text!r}; {self!r}"

    async def upgrade(self) -> bool:
        """Move to WebSocket as a client should: probe, pause polling, upgrade. Tell whether that went well."""
        try:
            request = upgrade(target(transport="websocket", sid=self.sid))
            wire = await self.arena.webSocket(request, makeFrame("2probe"), wires=self.wires)
            if (await wire.frame()).payload != b"3probe":
                return False
            self._isPausing = True
            await within(self._running, "the end of polling")
            if self.isOver:
                wire.drop()
                return False
            wire.send(makeFrame("5"))
        except LostError:
            return False
        self._socket = wire
        self._running = Deferred.fromCoroutine(self._read(wire))
        return not self.isOver

    async def over(self) -> None:
        """Wait for the end of the session, as seen from here."""
        await self.until(lambda: self.isOver, "the end of the session")
        await within(self._running, "the end of the client")

    async def close(self) -> None:
        """End the session."""
        if not self.isOver:
            self._isPausing = True
            await self.say("1")
            if self._socket is None:
                await within(self._running, "the end of the poll")
                self.isOver = True
            await self.over()


class Record(Changing):
    """What the application saw of one session: its events in order, its messages, and how it ended."""

    EVENTS = (
        "open",
        "packet",
        "data",
        "message",
        "packetCreate",
        "flush",
        "drain",
        "heartbeat",
        "upgrading",
        "upgrade",
        "error",
        "close",
    )

    def __init__(self, socket: Any) -> None:
        super().__init__()
        self.socket = socket
        self.happened: list[str] = ["connection"]
        self.messages: list[str | bytes] = []
        self.errors: list[Exception] = []
        self.end: tuple[str, str] | None = None
        for name in self.EVENTS:
            socket.on(name, lambda *args, name=name: self._saw(name, args))

    def __repr__(self) -> str:
        return f"session: {self.happened[-12:]}, {len(self.messages)} messages, ended: {self.end}"

    def _saw(self, name: str, args: tuple[Any, ...]) -> None:
        self.happened.append(name)
        if name == "message":
            self.messages.append(args[0])
        elif name == "error":
            self.errors.append(args[0])
        elif name == "close":
            self.end = args  # type: ignore[assignment]
        self.changed()

    async def closed(self) -> tuple[str, str]:
        """Wait for the end; return the reason and its description."""
        await self.until(lambda: self.end, "the end of the session")
        assert self.end is not None
        return self.end

    async def saw(self, name: str) -> None:
        """Wait for an event."""
        await self.until(lambda: name in self.happened, name)

    async def got(self, *messages: str | bytes) -> None:
        """Wait for as many messages as given, which have to be these."""
        await self.until(lambda: len(self.messages) >= len(messages), f"{len(messages)} messages")
        assert self.messages == list(messages)


class Arena:
    """
    A server, what its application saw, and connections to it.

    @ivar records: the sessions that were opened, by id.
    @ivar refusals: what was emitted as `connection_error`.
    @ivar serverEnds: set by a test that closes the server: then the bystanders can't outlive it.
    """

    def __init__(self, server: Any, port: int, echoes: bool) -> None:
        self.server = server
        self.port = port
        self.echoes = echoes
        self.records: dict[str, Record] = {}
        self.refusals: list[Any] = []
        self.serverEnds = False
        self.wires: list[Wire] = []
        server.on("connection", self._opened)
        server.on("connection_error", self.refusals.append)

    def _opened(self, socket: Any) -> None:
        self.records[socket.id] = Record(socket)
        if self.echoes:
            socket.on("message", lambda data: socket.send(data) and None)

    async def connect(self, wires: list[Wire] | None = None) -> Wire:
        try:
            wire = await connectTo(self.port)
        except ConnectError as error:
            raise LostError("no connection") from error
        (self.wires if wires is None else wires).append(wire)
        return wire

    async def say(self, data: bytes) -> Wire:
        """Send bytes on a new connection."""
        wire = await self.connect()
        wire.send(data)
        return wire

    async def ask(self, data: bytes) -> Response:
        """Send a request on a new connection, and read the answer."""
        wire = await self.say(data)
        response = await wire.response(data.partition(b" ")[0].decode())
        wire.drop(abort=False)
        return response

    async def get(self, sid: str, **query: object) -> Response:
        """Poll."""
        return await self.ask(http("GET", target(sid=sid, **query)))

    async def post(self, sid: str, payload: str | bytes) -> Response:
        """Deliver a payload."""
        body = payload.encode() if isinstance(payload, str) else payload
        return await self.ask(http("POST", target(sid=sid), body=body))

    async def poll(self, sid: str) -> Wire:
        """Send a GET, and check that it waits."""
        wire = await self.say(http("GET", target(sid=sid)))
        await eventually(lambda: self.server.clients[sid].transport._poll is not None, "a waiting GET")
        return wire

    async def open(self) -> str:
        """Open a session on polling; return its id."""
        opening = (await self.ask(http("GET", target()))).packets[0]
        assert opening[0] == "0"
        return str(json.loads(opening[1:])["sid"])

    async def webSocket(self, request: bytes, *frames: bytes, wires: list[Wire] | None = None) -> Wire:
        """Open a WebSocket, with frames sent right behind the request."""
        wire = await self.connect(wires)
        wire.send(request + b"".join(frames))
        response = await wire.response()
        assert response.status == 101, response
        assert response.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        return wire

    async def openWebSocket(self, wires: list[Wire] | None = None) -> tuple[str, Wire]:
        """Open a session on WebSocket; return its id and its connection."""
        wire = await self.webSocket(upgrade(), wires=wires)
        return str(json.loads((await wire.text())[1:])["sid"]), wire

    async def candidate(self, sid: str, *frames: bytes) -> Wire:
        """Open a WebSocket that is to take a session over."""
        return await self.webSocket(upgrade(target(transport="websocket", sid=sid)), *frames)

    async def probed(self, sid: str) -> Wire:
        """Open one and try it out."""
        wire = await self.candidate(sid, makeFrame("2probe"))
        assert await wire.text() == "3probe"
        return wire

    async def client(self, transport: str = "polling") -> Client:
        """Start a session that behaves."""
        return await Client(self).start(transport)

    async def goesOn(self, sid: str) -> None:
        """Make sure that a session on polling works, in both directions, and end it as a client does."""
        record = self.records[sid]
        before = len(record.messages)
        assert (await self.post(sid, "4still here")).status == 200
        assert record.messages[before:] == ["still here"]
        assert (await self.get(sid)).packets[-1] == "4still here"
        await self.end(sid)

    async def end(self, sid: str) -> None:
        """End a session on polling as its client."""
        assert (await self.post(sid, "1")).body == b"ok"
        assert await self.records[sid].closed() == ("transport close", "close packet")


Start = Callable[..., Any]


def patiently(socket: Any) -> None:
    """Don't ping a session where the times are short: they are for the test's own, and others are to outlive it."""
    if socket.server.opts.pingTimeout < SAFE_TIMEOUT:
        socket._host.heartbeats.waitFor(socket, HeartbeatQueue(socket.server.reactor, DEADLINE))


@asynccontextmanager
async def arena(start: Start, echoes: bool = True, **options: Any) -> AsyncIterator[Arena]:
    """
    A server with two bystanders, which have to work, alone, in the end; and after them nothing is left.

    @param start: starts the server, as the fixture `serve` does.
    @param echoes: whether the application sends back each message.
    """
    running = await start(**options)
    here = Arena(running.server, running.port, echoes)
    names = [each for each in ("polling", "websocket") if each in running.server.opts.transports]
    running.server.on("connection", patiently)
    bystanders = [await here.client(each) for each in names]
    running.server.removeListener("connection", patiently)
    if not echoes:
        for each in bystanders:
            socket = running.server.clients[each.sid]
            socket.on("message", lambda data, socket=socket: socket.send(data) and None)
    server = running.server
    try:
        yield here
    except BaseException:
        # The failure is what matters: nothing of this may keep the server from closing.
        for wire in [*here.wires, *(wire for each in bystanders for wire in each.wires)]:
            wire.drop()
        raise
    if here.serverEnds:
        for each in bystanders:
            await each.over()
        await within(server.close(), "the end of the server")
    else:
        for each in bystanders:
            await each.echo("bystander")
        for wire in here.wires:
            wire.drop()
        sids = {each.sid for each in bystanders}
        await eventually(lambda: set(server.clients) == sids, f"no session but the bystanders: {here.records}")
        isSocket = "websocket" in names
        await eventually(lambda: len(server._webSockets.connections) == isSocket, "no WebSocket but the bystander's")
        for each in bystanders:
            await each.close()
            assert here.records[each.sid].end == ("transport close", "close packet")
    await eventually(lambda: not server.clients, "no session")
    await eventually(lambda: not len(server._webSockets.connections), "no WebSocket")
    for wire in [*here.wires, *(wire for each in bystanders for wire in each.wires)]:
        wire.drop()
        await wire.lost()


# What starts an arena, with the options of its server.
Hostile: TypeAlias = Callable[..., AbstractAsyncContextManager[Arena]]
