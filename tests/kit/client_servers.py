"""
Servers that do what a script says, in literal bytes, for clients that must stand whatever it is.

In memory time passes only if a test advances it; the same script listens on a port of loopback too.
"""

from __future__ import annotations

from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha1
from typing import Any, TypeAlias

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from engineio_twisted.testing import MemoryNetwork

from .network import ClientTransport
from .wire import CLOSE, TEXT, makeFrame

OPEN = b'0{"sid":"S","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}'
"""An open packet that offers no upgrade."""

UPGRADABLE = OPEN.replace(b"[]", b'["websocket"]')
"""An open packet that offers one."""

PINGS_AFTER = 25
"""Seconds after which the server of these pings."""

GIVES_UP_AFTER = 45
"""Seconds after which its client expects no ping any more."""

SWITCHING = b"\r\n".join(
    [
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: {accept}",
        b"",
    ]
)
"""The head of a WebSocket, but for the empty line at its end; the key that its client expects comes in."""

WEBSOCKET = SWITCHING + b"\r\n"
"""A WebSocket without extensions."""

DEFLATED = SWITCHING + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
"""A WebSocket whose messages may be compressed."""

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def answer(
    body: bytes = b"",
    status: str = "200 OK",
    *headers: str,
    length: int | None = None,
    kind: str = "text/plain; charset=UTF-8",
) -> bytes:
    """A response, byte by byte; `length` is what it says of its body, if that isn't true."""
    said = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {said}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def chunks(*pieces: bytes, isEnded: bool = True) -> bytes:
    """A response whose body comes in chunks."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in pieces)
    return head + body + (b"0\r\n\r\n" if isEnded else b"")


def frame(payload: bytes | str = b"", opcode: int | None = None, **how: Any) -> bytes:
    """A frame as a server sends it, or shouldn't."""
    return makeFrame(payload, opcode, **{"isMasked": False, **how})


@attrs.frozen
class Asked:
    """A request, as it came."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def isWebSocket(self) -> bool:
        return self.headers.get("upgrade", "").lower() == "websocket"


class Peer(Protocol):
    """One connection of a scripted server."""

    def __init__(self, server: ScriptedServer) -> None:
        self.server = server
        self.received = bytearray()
        self.isWebSocket = False
        self.isLost = False
        # The request that came last.
        self.asked: Asked | None = None
        self._key = b""
        self._isWaiting = False
        self._calls: list[Any] = []

    @property
    def isPolled(self) -> bool:
        """Whether a GET waits that nothing was said to."""
        return not self.isLost and self._isWaiting and self.asked is not None and self.asked.method == "GET"

    def connectionMade(self) -> None:
        self.server.peers.append(self)
        if self.server.first is not None:
            self.does(self.server.first)

    def connectionLost(self, reason: object = None) -> None:
        self.isLost = True
        for each in self._calls:
            if each.active():
                each.cancel()

    # What a script does

    def does(self, step: Step) -> None:
        if isinstance(step, bytes):
            self.say(step)
        else:
            step(self)

    def say(self, data: bytes) -> None:
        """Write bytes, if anybody is there."""
        if data and not self.isLost:
            self._isWaiting = False
            self.server.said += len(data)
            accept = b64encode(sha1(self._key + _GUID, usedforsecurity=False).digest())
            self.transport.write(data.replace(b"{accept}", accept))

    def finish(self) -> None:
        """Close the connection in order."""
        self.transport.loseConnection()

    def cut(self) -> None:
        """Close it by a reset."""
        self.transport.abortConnection()

    def later(self, seconds: float, what: Callable[..., object], *args: Any) -> None:
        """Do something later, unless the connection is lost by then."""
        if not self.isLost:
            self._calls = [each for each in self._calls if each.active()]
            self._calls.append(self.server.clock.callLater(seconds, what, *args))

    # What comes

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if not self.server.isDeaf:
            while self._take():
                pass

    def _take(self) -> bool:
        return self._takeFrame() if self.isWebSocket else self._takeRequest()

    def _takeRequest(self) -> bool:
        end = self.received.find(b"\r\n\r\n")
        if end < 0:
            return False
        first, *lines = bytes(self.received[:end]).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
        size = int(headers.get("content-length", "0"))
        assert "transfer-encoding" not in headers, "a request whose length isn't said"
        if len(self.received) < end + 4 + size:
            return False
        body = bytes(self.received[end + 4 : end + 4 + size])
        del self.received[: end + 4 + size]
        method, target, _ = first.split(" ")
        self._key = headers.get("sec-websocket-key", "").encode()
        asked = Asked(method, target, headers, body)
        self.asked = asked
        self._isWaiting = not asked.isWebSocket
        self.isWebSocket = asked.isWebSocket
        self.server.asked.append(asked)
        self.does(self.server.next(asked))
        return True

    def _takeFrame(self) -> bool:
        data = self.received
        if len(data) < 2:
            return False
        assert data[1] & 0x80, "a frame of a client that isn't masked"
        size, start = data[1] & 0x7F, 2
        if size > 125:
            start += 2 if size == 126 else 8
            size = int.from_bytes(data[2:start])
        if len(data) < start + 4 + size:
            return False
        key, masked = data[start : start + 4], data[start + 4 : start + 4 + size]
        payload = bytes(each ^ key[index % 4] for index, each in enumerate(masked))
        opcode = data[0] & 15
        del data[: start + 4 + size]
        self.server.heard.append((opcode, payload))
        if opcode == CLOSE and self.server.closes:
            self.say(frame(payload[:2], CLOSE))
            self.finish()
        elif opcode == TEXT:
            self.does(self.server.frames.get(payload, b""))
        return True


Step: TypeAlias = "bytes | Callable[[Peer], object]"
"""What a server does when a request or a frame has come: it says bytes, or something worse. Of none it is silent."""


def ends(data: bytes = b"") -> Step:
    """Say something, and close the connection."""

    def does(peer: Peer) -> None:
        peer.say(data)
        peer.finish()

    return does


def cuts(data: bytes = b"") -> Step:
    """Say something, and cut the connection when that has arrived."""

    def does(peer: Peer) -> None:
        peer.say(data)
        peer.later(0.001, peer.cut)

    return does


def drips(data: bytes, seconds: float = 1.0) -> Step:
    """Say something, a byte at a time."""

    def does(peer: Peer, index: int = 0) -> None:
        if index < len(data):
            peer.say(data[index : index + 1])
            peer.later(seconds, does, peer, index + 1)

    return does


def endless(head: bytes, piece: bytes, seconds: float = 0.001) -> Step:
    """Say something, and something else behind it that never ends."""

    def goesOn(peer: Peer) -> None:
        peer.say(piece)
        peer.later(seconds, goesOn, peer)

    def does(peer: Peer) -> None:
        peer.say(head)
        goesOn(peer)

    return does


def both(*steps: Step) -> Step:
    """Do one thing after the other."""

    def does(peer: Peer) -> None:
        for each in steps:
            peer.does(each)

    return does


class ScriptedServer(Factory):
    """
    A server that does one thing for each request of a kind, in order, and is silent when there is no more.

    A POST gets "ok" then. A close frame is answered, unless C{closes} is False.

    @param gets: for each GET on polling.
    @param posts: for each POST.
    @param webSockets: for each request for a WebSocket.
    @param frames: what is done for each frame of text.
    @param first: what is done when a connection is made, before anything is asked.
    @ivar isDeaf: whether nothing that comes is looked at.
    @ivar asked: the requests that came.
    @ivar heard: the frames that came: opcode and payload.
    @ivar said: how many bytes were written.
    """

    noisy = False

    def __init__(
        self,
        gets: Iterable[Step] = (),
        posts: Iterable[Step] = (),
        webSockets: Iterable[Step] = (),
        frames: Mapping[bytes, Step] | None = None,
        first: Step | None = None,
        *,
        isDeaf: bool = False,
        closes: bool = True,
    ) -> None:
        self.gets, self.posts, self.webSockets = deque(gets), deque(posts), deque(webSockets)
        self.frames = frames or {}
        self.first, self.isDeaf, self.closes = first, isDeaf, closes
        self.clock: Any = Clock()
        self.peers: list[Peer] = []
        self.asked: list[Asked] = []
        self.heard: list[tuple[int, bytes]] = []
        self.said = 0

    def buildProtocol(self, addr: object) -> Protocol:
        return Peer(self)

    def next(self, asked: Asked) -> Step:
        """Return what is done for a request."""
        steps = self.webSockets if asked.isWebSocket else self.posts if asked.method == "POST" else self.gets
        if steps:
            return steps.popleft()
        return answer(b"ok") if asked.method == "POST" else b""

    def texts(self) -> list[bytes]:
        """What came in frames of text."""
        return [payload for opcode, payload in self.heard if opcode == TEXT]

    def bodies(self) -> list[bytes]:
        """What was posted."""
        return [each.body for each in self.asked if each.method == "POST"]

    @property
    def poll(self) -> Peer:
        """The connection on which a GET waits."""
        return next(each for each in self.peers if each.isPolled)

    @property
    def peer(self) -> Peer:
        """The last connection that was made."""
        return self.peers[-1]


class _Cutting:
    """Writes so many bytes to a connection, and then cuts it."""

    def __init__(self, far: Any, left: int, clock: Clock) -> None:
        self._far, self._left, self._clock = far, left, clock
        self._write = far.write

    def write(self, data: bytes) -> None:
        if self._left >= 0:
            if self._left:
                self._write(data[: self._left])
            self._left -= len(data)
            if self._left < 0:
                # What was written has to arrive.
                self._clock.callLater(0.001, self._far.abortConnection)


@implementer(IStreamClientEndpoint)
class MemoryServer:
    """
    An endpoint by which each connection goes to a scripted server, in memory.

    @param factory: makes the server's end of a connection, if that isn't the server itself: one with TLS.
    @ivar network: the connections.
    @ivar failure: what each connection fails with; None if it doesn't.
    @ivar isReachable: whether a connection is made at all, sooner or later.
    @ivar cutAfter: of how many bytes of the server's a connection is cut; None if it isn't.
    @ivar waiting: how many connections are being made.
    """

    def __init__(self, server: ScriptedServer, factory: Any = None) -> None:
        self._factory = factory or server
        self._client: Any = None
        self.network = MemoryNetwork(server.clock, self)
        self.failure: Exception | None = None
        self.isReachable = True
        self.cutAfter: int | None = None
        self.waiting = 0

    def connect(self, factory: Any) -> Deferred[Any]:
        if self.failure is not None:
            return fail(Failure(self.failure))
        if not self.isReachable:
            self.waiting += 1
            return Deferred(self._cancelled)
        self._client = factory
        factory.doStart()
        protocol = self._factory.buildProtocol(None)
        # The end with a whole transport is the client's.
        far: Any = ClientTransport(self.network, protocol)
        if self.cutAfter is not None:
            far.write = _Cutting(far, self.cutAfter, self.network.clock).write
        protocol.makeConnection(far)
        return succeed(self._made)

    def _cancelled(self, deferred: Deferred[Any]) -> None:
        self.waiting -= 1

    def buildProtocol(self, addr: object) -> Any:
        """Return the client's end of a connection."""
        self._made = self._client.buildProtocol(addr)
        return self._made
