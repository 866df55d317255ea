"""
What is fuzzed: each target takes any bytes, and raises where something comes of them that may not.

An input is served, or refused with one of the errors that are documented. Nothing else happens: nothing is raised or
logged as an error, no session or timer is left, nobody else is harmed, and the shorter ways do what the long ones do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from itertools import cycle
from time import process_time
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qs

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from engineio_twisted import AutobahnEngine, Site
from engineio_twisted.client import Client, ConnectionFailed, FailureType
from engineio_twisted.client.connecting import Connecting
from engineio_twisted.client.errors import MAX_BODY
from engineio_twisted.client.options import ClientOptions
from engineio_twisted.client.websocket import ClientWebSocketTransport
from engineio_twisted.clock import TURNS
from engineio_twisted.protocol.errors import ConnectionRefusal, DecodeError, HTTPRefusal, MethodNotAllowed
from engineio_twisted.protocol.handshake import checkWebSocketHeaders, classify, parseQuery
from engineio_twisted.protocol.headers import contentCoding, cookieHeader, corsHeaders, originAllowed
from engineio_twisted.protocol.option_parts import Cookie, Cors, PerMessageDeflate
from engineio_twisted.protocol.options import ServerOptions
from engineio_twisted.protocol.packet import Packet, PacketType, decodeText
from engineio_twisted.protocol.payload import codecFor
from engineio_twisted.protocol.proxies import Client as ProxiedClient
from engineio_twisted.protocol.proxies import (
    ForwardedContradiction,
    addressOf,
    clientOf,
    trustedProxies,
    validHost,
)
from engineio_twisted.session.heartbeats import HeartbeatQueue
from engineio_twisted.socketio.errors import InvalidPacket, UnsendableValue
from engineio_twisted.socketio.msgpack import MsgpackParser
from engineio_twisted.socketio.packet import IncompletePacket, JSONParser
from engineio_twisted.socketio.packet import Packet as SocketIOPacket
from engineio_twisted.socketio.packet import PacketType as SocketIOType
from engineio_twisted.socketio.redis_messages import PeersWriter, readOwn, readPeers
from engineio_twisted.socketio.remote_messages import Event, InvalidMessage
from engineio_twisted.transports.engine_client import engineOn
from engineio_twisted.transports.engine_deflate import agreeOn
from engineio_twisted.transports.websocket import WebSocketTransport
from engineio_twisted.web.exchange import RequestExchange
from engineio_twisted.web.fast import FastSite
from tests.kit.engines import TwistedEngine
from tests.kit.fakes import FakeOwner
from tests.kit.memory import Connection, Memory
from tests.kit.peers import HANDSHAKE, Channel
from tests.kit.peers import Connection as PeerConnection
from tests.kit.socketio_sessions import play
from tests.kit.stories import Here, theSame, told
from tests.kit.wire import CLOSE, TEXT, framesOf, http, makeFrame, target, upgrade

Target = Callable[[bytes], object]

TARGETS: dict[str, Target] = {}
"""What is fuzzed, by the name of its folder in fuzz/corpus."""

LIMIT = 2000
"""The maxHttpBufferSize where it matters."""


SECONDS = 5
"""What an input may take, far more than any does."""

LOGS = frozenset({"socketio_sessions"})
"""Targets whose application fails on purpose, which is logged. They look themselves for what it didn't raise."""


def fuzzed(function: Target) -> Target:
    """Make a target of a function."""
    TARGETS[function.__name__] = function
    return function


def run(name: str, data: bytes) -> None:
    """Run a target on an input; raises where something came of it that may not."""
    logged: list[str] = []

    def observe(event: LogEvent) -> None:
        if event["log_level"] >= LogLevel.error:
            logged.append(str(event.get("log_failure") or event.get("log_format")))

    globalLogPublisher.addObserver(observe)
    # Of the processor, not of the clock: others may want it too.
    began = process_time()
    try:
        TARGETS[name](data)
    finally:
        globalLogPublisher.removeObserver(observe)
    taken = process_time() - began
    assert not logged or name in LOGS, f"logged: {logged}"
    assert taken < SECONDS, f"{taken} s for {len(data)} bytes"


@contextmanager
def mayRefuse(*errors: type[Exception]) -> Iterator[None]:
    """For what may be refused: by these errors, and with a text that is bounded."""
    refusal = None
    try:
        yield
    except errors as error:
        refusal = error
    assert len(str(refusal)) < 1000, refusal


# Codecs


def _theSameAgain(revision: int, packets: list[Packet], supportsBinary: bool) -> None:
    """What was read can be written, and read again as the same."""
    codec = codecFor(revision)
    if packets:
        written = codec.encodePayload(packets, supportsBinary)
        assert list(codec.decodePayload(written)) == packets
    for each in packets:
        frame = codec.encodePacket(each, supportsBinary)
        assert codec.decodePacket(frame) == each


def _textOf(data: bytes) -> str:
    """Text of an input, for what is told apart from bytes before."""
    with mayRefuse(DecodeError):
        return decodeText(data)
    return ""


def _payload(revision: int, payload: str | bytes) -> None:
    packets: list[Packet] = []
    with mayRefuse(DecodeError):
        for packet in codecFor(revision).decodePayload(payload):
            packets.append(packet)
    # Nothing comes out that wasn't in it.
    assert len(packets) <= len(payload) + 1
    assert sum(len(each.data) for each in packets) <= len(payload)
    for each in packets:
        assert isinstance(each.data, str) or each.type is PacketType.MESSAGE
    _theSameAgain(revision, packets, True)
    _theSameAgain(revision, packets, False)


@fuzzed
def payload_v4(data: bytes) -> None:
    """A payload of revision 4."""
    _payload(4, _textOf(data))
    with mayRefuse(DecodeError):
        list(codecFor(4).decodePayload(data))


@fuzzed
def payload_v3_text(data: bytes) -> None:
    """A payload of revision 3, as text."""
    _payload(3, _textOf(data))


@fuzzed
def payload_v3_binary(data: bytes) -> None:
    """A payload of revision 3, as bytes."""
    _payload(3, data)


@fuzzed
def packets(data: bytes) -> None:
    """A packet of each revision, as text and as bytes."""
    frames: list[str | bytes] = [data, _textOf(data)]
    for revision in (3, 4):
        for frame in frames:
            read: list[Packet] = []
            with mayRefuse(DecodeError):
                read.append(codecFor(revision).decodePacket(frame))
            for packet in read:
                assert isinstance(packet.data, str) or packet.type is PacketType.MESSAGE
                # A payload of revision 4 has no way to write what separates its packets.
                if revision == 3 or isinstance(packet.data, bytes) or "\x1e" not in packet.data:
                    _theSameAgain(revision, read, True)


def _socketIOPackets(data: bytes) -> list[SocketIOPacket]:
    """Decode messages, each behind `\\xf5|`; those that begin with a zero byte, or aren't UTF-8, are binary."""
    parser = JSONParser(maxBytes=LIMIT)
    found: list[SocketIOPacket] = []
    waiting: IncompletePacket | None = None
    with mayRefuse(InvalidPacket):
        for piece in data.split(b"\xf5|"):
            try:
                message: str | bytes = piece[1:] if piece[:1] == b"\0" else piece.decode()
            except UnicodeDecodeError:
                message = piece
            decoded = parser.decode(message) if waiting is None else waiting.add(message)
            if isinstance(decoded, SocketIOPacket):
                found.append(decoded)
                waiting = None
            elif waiting is None:
                waiting = decoded
            if waiting is not None:
                # It is bounded, whatever comes.
                assert waiting.size <= LIMIT
                assert waiting.received < waiting.expected <= 10
    return found


@fuzzed
def socketio_packets(data: bytes) -> None:
    """Packets of Socket.IO as JSON, with their attachments. What is decoded can be sent, unless it says why not."""
    parser = JSONParser()
    for packet in _socketIOPackets(data):
        assert packet.type < SocketIOType.BINARY_EVENT
        with mayRefuse(UnsendableValue):
            messages = parser.encode(*packet)
            text, *attachments = messages if isinstance(messages, list) else [messages]
            assert isinstance(text, str)
            text.encode()
            again = decoded = parser.decode(text)
            for each in attachments:
                assert isinstance(decoded, IncompletePacket)
                again = decoded.add(each) or decoded
            assert isinstance(again, SocketIOPacket)
            assert parser.encode(*again) == messages


@fuzzed
def socketio_msgpack(data: bytes) -> None:
    """A packet of Socket.IO as MessagePack."""
    for parser in (MsgpackParser(), MsgpackParser(fromServer=True)):
        packets = []
        with mayRefuse(InvalidPacket):
            packets.append(parser.decode(data))
        for packet in packets:
            with mayRefuse(UnsendableValue):
                message = parser.encode(*packet)
                assert parser.encode(*parser.decode(message)) == message


@fuzzed
def socketio_redis(data: bytes) -> None:
    """Messages of other processes. What is read can be written again, and is then read as the same."""
    writer = PeersWriter("host")
    with mayRefuse(InvalidMessage):
        message = readPeers(data)
        if isinstance(message, Event) and not message.target.excluded:
            with mayRefuse(UnsendableValue):
                written = writer.forPeers(message.namespace, message.target, message.data)
                again = readPeers(written)
                assert isinstance(again, Event)
                assert (again.namespace, again.target) == (message.namespace, message.target)
                assert writer.forPeers(again.namespace, again.target, again.data) == written
    with mayRefuse(InvalidMessage):
        message = readOwn(data)
        if isinstance(message, Event):
            with mayRefuse(UnsendableValue):
                written = writer.event(message.namespace, message.target, message.data)
                again = readOwn(written)
                assert isinstance(again, Event)
                assert (again.namespace, again.target) == (message.namespace, message.target)
                assert writer.event(again.namespace, again.target, again.data) == written


# Requests


@attrs.frozen
class _Session:
    """A live session."""

    protocol: int
    name: str
    _resumption: None = None

    @property
    def transport(self) -> _Session:
        return self


_SESSIONS = {
    f"{name[0]}{revision}": _Session(revision, name) for name in ("polling", "websocket") for revision in (3, 4)
}
_OPTIONS = [
    ServerOptions(),
    ServerOptions(allowEIO3=True, allowedOrigins=["https://a.example", re.compile("b")]),
    ServerOptions(transports=["polling"], allowUpgrades=False),
    ServerOptions(transports=["websocket"], allowEIO3=True),
]


@fuzzed
def socketio_sessions(data: bytes) -> None:
    """What clients say to a whole Socket.IO server, and what else happens: tests/kit/socketio_sessions.py."""
    play(data)


@fuzzed
def query(data: bytes) -> None:
    """
    What a request wants: its method, its address, and its Origins, a line each.

    The first byte says how the server is set up.
    """
    method, uri, *origins = [*data[1:].split(b"\n"), b"", b""]
    several = parse_qs(uri.partition(b"?")[2].decode("ascii", "replace"), keep_blank_values=True)
    parameters: Mapping[str, str] | None = None
    with mayRefuse(ConnectionRefusal):
        parameters = parseQuery(uri)
    isRefused = any(len(set(several.get(name, ()))) > 1 for name in ("transport", "EIO", "b64", "sid", "j"))
    assert parameters == (None if isRefused else {name: values[-1] for name, values in several.items()})
    way = data[0] if data else 0
    for isUpgrade in (False, True):
        options = _OPTIONS[way % len(_OPTIONS)]
        refusal: HTTPRefusal | None = None
        try:
            wanted = classify(method.decode("latin-1"), uri, origins[:-1], isUpgrade, options, _SESSIONS.get)
        except (ConnectionRefusal, MethodNotAllowed) as error:
            refusal = error
        if refusal is not None:
            assert json.loads(refusal.asJSON())["message"] == refusal.message
            assert refusal.status in (400, 403, 405)
        else:
            assert wanted.revision in (3, 4)
            assert wanted.jsonpIndex is None or (wanted.jsonpIndex.isascii() and wanted.jsonpIndex.isdigit())
            assert parameters is not None
            sid = parameters.get("sid")
            assert wanted.session is (_SESSIONS[sid] if sid else None)


def _isSafe(value: str) -> None:
    """A value of a header that can't become another header."""
    assert not re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value), value


_DEFLATES = (PerMessageDeflate(), PerMessageDeflate(serverMaxWindowBits=10, clientMaxWindowBits=9))
_RULES: list[Any] = [True, "*", "https://a.example", re.compile("^https"), ["https://a.example", re.compile("x")]]
_RULES += ["https://*.a.example", ["https://*.a.example:*", "http://localhost:*"]]
_CORS = Cors(credentials=True)
_COOKIE = Cookie()


@fuzzed
def headers(data: bytes) -> None:
    """What is read from headers, a line each, and what comes back in headers of the answer."""
    lines = data.split(b"\n")
    assert contentCoding(lines) in (None, "gzip", "deflate")
    for deflate in _DEFLATES:
        accepted = agreeOn(lines, deflate)
        if accepted is not None:
            _isSafe(accepted.get_extension_string())
    texts = [each.decode("latin-1") for each in lines]
    for origin in (None, *texts[:3]):
        for rule in _RULES:
            isAllowed = originAllowed(rule, origin)
            assert isAllowed in (True, False)
            if isAllowed and rule == "https://*.a.example":
                assert origin is not None
                assert re.fullmatch(r"(?:https|wss)://[\w.-]+\.a\.example(?::443)?", origin, re.ASCII | re.IGNORECASE)
            for isPreflight in (False, True):
                said = corsHeaders(_CORS, rule, origin, isPreflight, texts[0])
                for value in (*said.headers.values(), *said.vary):
                    _isSafe(value)
                if rule not in (True, "*", "https://a.example") and not isAllowed:
                    assert "Access-Control-Allow-Origin" not in said.headers
    sid = data.decode("utf-8", "replace")
    cookie = cookieHeader(_COOKIE, sid)
    _isSafe(cookie)
    assert re.fullmatch(r"io=[!-+\--:<-~]*; Path=/; HttpOnly; SameSite=Lax", cookie), cookie
    with mayRefuse(HTTPRefusal):
        given: dict[bytes, list[bytes]] = {}
        for line in lines:
            name, _, value = line.partition(b":")
            given.setdefault(name.strip().lower(), []).append(value.strip())
        handshake = checkWebSocketHeaders("GET", given)
        _isSafe(handshake.key.decode("ascii") + handshake.version.decode("ascii") + (handshake.subprotocol or ""))


_PROXIES = trustedProxies(("10.0.0.0/8", "::1", "unix"))
_PEERS = ("10.0.0.1", "198.51.100.7", "::1", None)
_FORWARDED = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded", b"x-forwarded-port")


@fuzzed
def proxies(data: bytes) -> None:
    """
    What proxies say of a client: X-Forwarded-For, -Proto and -Host, Forwarded, and X-Forwarded-Port, a line each.

    More lines begin again.

    The first byte says who sends it.
    """
    peer = _PEERS[(data[0] if data else 0) % len(_PEERS)]
    connection = ProxiedClient(peer, "http", "localhost")
    said: dict[bytes, list[bytes]] = {name: [] for name in _FORWARDED}
    for name, line in zip(cycle(_FORWARDED), data[1:].split(b"\n"), strict=False):
        if line:
            said[name].append(line)

    def heard(extra: dict[bytes, bytes] | None = None, only: Iterable[bytes] = _FORWARDED) -> ProxiedClient | None:
        """Who the client is, with what the last proxy adds on the right; None where that can't be told."""
        values = {
            name: [b", ".join([*said[name], *([extra[name]] if extra and name in extra else [])])] for name in only
        }
        with mayRefuse(ForwardedContradiction):
            return clientOf(connection, lambda name: [each for each in values.get(name, ()) if each], _PROXIES, True)
        return None

    client = heard()
    if client is not None:
        assert client.scheme in ("http", "https")
        assert client.address == peer or str(addressOf(client.address or "")) == client.address
        assert client.host == validHost(client.host)
        _isSafe(client.origin or "")
    if peer == "198.51.100.7":
        # Whoever isn't trusted is not listened to.
        assert client == connection
        return
    # What a client says itself changes nothing about what its proxy says.
    real = ProxiedClient("203.0.113.9", "https", "real.example")
    assert heard({b"forwarded": b'for=203.0.113.9;proto=https;host="real.example"'}, [b"forwarded"]) == real
    added = {b"x-forwarded-for": b"203.0.113.9", b"x-forwarded-proto": b"https", b"x-forwarded-host": b"real.example"}
    assert heard(added, _FORWARDED[:3]) == real
    added[b"x-forwarded-port"] = b"8443"
    apart = heard(added, [*_FORWARDED[:3], b"x-forwarded-port"])
    assert apart == ProxiedClient("203.0.113.9", "https", "real.example:8443")


# Streams

MARK = b"\xf5"
"""
Begins an instruction in an input: it is never part of text in UTF-8.

C{|} begins another piece, C{c} another connection, C{f} a frame, whose first byte, in front of its payload, is the
next one; C{o} and C{w} a request that opens a session, on polling or on WebSocket, C{g}, C{b} and C{u} one that
polls, delivers what is behind it, or moves to a WebSocket, of the session whose number comes next, from 5 on in
revision 3; C{t} lets time pass, C{s} has the server send, C{l} loses the connection, C{p} goes back to the first one.
Any other byte stands for itself, behind the mark.
"""

_SAYING = b"|cfowgbu"
_DOING = b"tslp"

_INSTRUCTION = re.compile(MARK + rb"(.?)", re.DOTALL)


def stepsOf(data: bytes) -> list[tuple[bytes, bytes]]:
    """The instructions in an input, each with the bytes behind it."""
    first, *rest = _INSTRUCTION.split(data)
    steps = [(b"c", first)]
    for name, behind in zip(rest[::2], rest[1::2], strict=True):
        if name and name in _SAYING + _DOING:
            steps.append((name, behind))
        else:
            steps[-1] = (steps[-1][0], steps[-1][1] + MARK + behind)
    return steps


def wordsOf(name: bytes, behind: bytes, isMasked: bool = True) -> bytes:
    """What is said by an instruction, with the bytes behind it."""
    if name == b"f":
        first = behind[0] if behind else 0x81
        return makeFrame(behind[1:], first & 15, bool(first & 0x80), first >> 4 & 7, isMasked)
    if name == b"o":
        return http("GET", target()) + behind
    if name == b"w":
        return upgrade() + behind
    if name and name in b"gbu":
        number = int(behind[:1]) if behind[:1].isdigit() else 0
        query = {"EIO": "4" if number < 5 else "3", "sid": f"sid{number % 5}"}
        if name == b"b":
            return http("POST", target(**query), body=behind[1:])
        asked = http("GET", target(**query)) if name == b"g" else upgrade(target(transport="websocket", **query))
        return asked + behind[1:]
    return behind


_DEFLATE = attrs.evolve(HANDSHAKE, extensions=(b"permessage-deflate",))


@cache
def _engineOf(kind: Any, isDeflated: bool) -> tuple[Clock, Any]:
    # Making one takes longer than all that is done with it.
    clock = Clock()
    deflate = {"threshold": 0} if isDeflated else False
    return clock, kind(clock, ServerOptions(maxHttpBufferSize=LIMIT, perMessageDeflate=deflate))


def _ofFrames(kind: Any, pieces: Iterable[bytes], isDeflated: bool) -> Any:
    """What comes of a stream on a WebSocket: what the session is given and told, and what is sent."""
    clock, engine = _engineOf(kind, isDeflated)
    connection = PeerConnection()
    owner = FakeOwner()
    transport = WebSocketTransport(codecFor(4), True, lambda: setattr(transport, "owner", owner))
    exchange = RequestExchange(type("Request", (), {"channel": Channel(connection)})())
    engine.accept(exchange, _DEFLATE if isDeflated else HANDSHAKE, {}, transport)
    connection.clear()
    for each in pieces:
        if not connection.disconnecting:
            connection.protocol.dataReceived(each)
    sent = connection.value()
    found = (owner.packets, owner.closes, sent, connection.disconnecting)
    assert all(len(each.data) <= LIMIT for each in owner.packets)
    assert len(owner.closes) <= 1
    frames = framesOf(sent)
    assert all(each.opcode != CLOSE for each in frames[:-1])
    connection.protocol.connectionLost(Failure(ConnectionDone()))
    clock.advance(0)
    assert not clock.getDelayedCalls()
    assert not len(engine.connections)
    return found


@fuzzed
def websocket(data: bytes) -> None:
    """What a client says on a WebSocket: however it is cut, and with Twisted's engine."""
    pieces = [wordsOf(*each) for each in stepsOf(data[1:])]
    # Nobody reads nothing.
    pieces = [each for each in pieces if each]
    octets = [bytes([each]) for each in b"".join(pieces)]
    isDeflated = bool(data[:1] and data[0] & 1)
    found = _ofFrames(AutobahnEngine, octets, isDeflated)
    for cut in (pieces, [b"".join(pieces)] if pieces else []):
        others = _ofFrames(AutobahnEngine, cut, isDeflated)
        assert others == found, f"\n{found}\n{others}"
    if TwistedEngine is not None and not isDeflated:
        received, *_ = _ofFrames(TwistedEngine, octets, isDeflated)
        assert received == found[0], f"\n{found[0]}\n{received}"


_SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n"
)
"""What answers a client whose key is all zeros."""

_AGREED = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"


@implementer(IStreamClientEndpoint)
class _ToServer:
    """The connection of a client to what a server says."""

    def __init__(self) -> None:
        self.connection = PeerConnection()

    def connect(self, factory: Any) -> Deferred[Any]:
        self.connection.protocol = protocol = factory.buildProtocol(None)
        # The key, which is else another each time.
        with patch("os.urandom", bytes):
            protocol.makeConnection(self.connection)
        return succeed(protocol)


def _ofServer(pieces: Iterable[bytes], isDeflated: bool) -> Any:
    """What comes of what a server says to a client: what the session is given and told, and what is sent."""
    clock, endpoint = Clock(), _ToServer()
    deflate = {"threshold": 0} if isDeflated else None
    opts = ClientOptions(maxHttpBufferSize=LIMIT, perMessageDeflate=deflate, endpoint=endpoint)
    connecting = Connecting("ws://h.example", opts, clock)
    transport = ClientWebSocketTransport(connecting.codec, connecting)
    transport.owner = owner = FakeOwner()
    transport.open()
    gone: list[None] = []
    transport.whenGone().addCallback(gone.append)
    connection = endpoint.connection
    connection.clear()
    engineOn(clock).nextMask = lambda: 0
    for each in pieces:
        if not connection.disconnecting:
            connection.protocol.dataReceived(each)
    sent, isOver = connection.value(), connection.disconnecting
    # What has failed is told to the server, or left.
    assert transport.failure is None or isOver or b"\x88" in sent
    connection.protocol.connectionLost(Failure(ConnectionDone()))
    failure = transport.failure
    assert failure is not None
    assert len(owner.closes) == len(gone) == 1
    assert len(failure.description) < 1000
    assert failure.response is None or len(failure.response.body) <= MAX_BODY
    assert all(len(each.data) <= LIMIT for each in owner.packets)
    for _ in range(TURNS + 2):
        clock.advance(0)
    assert not clock.getDelayedCalls()
    assert not len(engineOn(clock).connections)
    return owner.packets, (failure.type, failure.response), sent, isOver


@fuzzed
def client_websocket(data: bytes) -> None:
    """
    What a server says to a client that has asked for a WebSocket, however it is cut.

    The first byte says whether the client offers to compress, and whether a right 101 comes first.
    """
    way = data[0] if data else 0
    isDeflated = bool(way & 1)
    pieces = [wordsOf(*each, isMasked=False) for each in stepsOf(data[1:])]
    if way & 2:
        pieces.insert(0, _SWITCHING + (_AGREED if isDeflated else b"") + b"\r\n")
    pieces = [each for each in pieces if each]
    whole = b"".join(pieces)
    found = _ofServer([bytes([each]) for each in whole], isDeflated)
    for cut in (pieces, [whole] if whole else []):
        others = _ofServer(cut, isDeflated)
        assert others == found, f"\n{found}\n{others}"


_CLIENTS: list[dict[str, Any]] = [
    {},
    {"transports": ["websocket"]},
    {"upgrade": False, "withCredentials": True},
    {"EIO": 3},
    {"transports": ["websocket"], "perMessageDeflate": True, "resume": True},
    {"tryAllTransports": True, "rememberUpgrade": True, "resume": True},
]


@implementer(IStreamClientEndpoint)
class _AnyServer:
    """
    The connections of a client to a server that says anything.

    @ivar there: those that aren't over.
    @ivar count: how many were made.
    """

    def __init__(self) -> None:
        self.there: list[Any] = []
        self.count = 0

    def connect(self, factory: Any) -> Deferred[Any]:
        self.count += 1
        connection = PeerConnection()
        connection.protocol = protocol = factory.buildProtocol(None)
        self.there.append(connection)
        # The key of a WebSocket, which is else another each time.
        with patch("os.urandom", bytes):
            protocol.makeConnection(connection)
        return succeed(protocol)

    def say(self, words: bytes) -> None:
        """Say something on the first connection."""
        if self.there and not self.there[0].disconnecting:
            self.there[0].protocol.dataReceived(words)

    def turn(self) -> None:
        """Let the first connection be the last."""
        self.there.append(self.there.pop(0))

    def lose(self, connection: Any) -> None:
        self.there.remove(connection)
        connection.protocol.connectionLost(Failure(ConnectionDone()))

    def settle(self, clock: Clock, seconds: float = 0) -> None:
        """Let time pass, and connections be over that the client has closed."""
        clock.advance(seconds)
        for _ in range(TURNS + 2):
            for each in [each for each in self.there if each.disconnecting]:
                self.lose(each)
            clock.advance(0)


def _saidByServer(name: bytes, behind: bytes) -> bytes:
    """What is said by an instruction to a client, with the bytes behind it."""
    if name == b"w":
        return _SWITCHING + b"\r\n" + behind
    if name == b"o":
        opening = {"sid": "sid0", "upgrades": ["websocket"], "pingInterval": 1000, "pingTimeout": 1000}
        behind = b"0" + json.dumps({**opening, "maxPayload": 500, "resume": _GRANTED}).encode() + behind
    if name and name in b"ob":
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(behind), behind)
    return wordsOf(name, behind, isMasked=False) if name in (b"f", b"c", b"|") else b""


_GRANTED = {"timeout": 5000, "packets": 10, "bytes": 1000}


@fuzzed
def client(data: bytes) -> None:
    """
    What a server says to a whole client, which sends, moves to WebSocket and comes back: nothing but a named failure.

    The first byte says how the client is set up.
    """
    clock, server = Clock(), _AnyServer()
    options = _CLIENTS[(data[0] if data else 0) % len(_CLIENTS)]
    client = Client("http://h.example", reactor=clock, endpoint=server, maxHttpBufferSize=LIMIT, **options)
    closes: list[Any] = []
    errors: list[Any] = []
    messages: list[Any] = []
    client.on("close", lambda *args: closes.append(args))
    client.on("error", errors.append)
    client.on("message", messages.append)
    results: list[Any] = []
    client.connect().addBoth(results.append)
    for name, behind in stepsOf(data[1:]):
        if name == b"t":
            server.settle(clock, 1)
        elif name == b"s":
            client.send("sent", lambda _: None)
        elif name == b"p" and server.there:
            server.turn()
        elif name == b"l" and server.there:
            server.lose(server.there[0])
        words = _saidByServer(name, behind)
        if words:
            server.say(words)
        server.settle(clock)
    assert all(len(each) <= LIMIT for each in messages)
    over: list[None] = []
    client.close(discard=True).addCallback(over.append)
    server.settle(clock, 60)
    assert (len(over), len(closes), len(results)) == (1, 1, 1), (over, closes, results)
    assert errors == []
    assert server.there == []
    assert not clock.getDelayedCalls(), clock.getDelayedCalls()
    result = results[0]
    assert result is client or isinstance(result.value, ConnectionFailed)
    for failure in [client.failure, *([] if result is client else [result.value])]:
        if failure is not None:
            assert isinstance(failure.type, FailureType)
            assert len(failure.description) < 1000
            assert failure.response is None or len(failure.response.body) <= MAX_BODY
    count = server.count
    server.settle(clock, 600)
    assert server.count == count


_WAYS: list[dict[str, Any]] = [
    {},
    {"allowEIO3": True, "cors": {"origin": True, "credentials": True}},
    {"perMessageDeflate": {"threshold": 0}, "cookie": True},
    {"allowedOrigins": ["https://a.example"], "httpCompression": {"threshold": 0}, "initialPacket": "hello"},
]


@fuzzed
def channel(data: bytes) -> None:
    """What clients say on connections: with the shorter way through twisted.web, and without it."""
    options = _WAYS[(data[0] if data else 0) % len(_WAYS)]

    def play(here: Here) -> None:
        peers = []
        for name, behind in stepsOf(data[1:]):
            if name == b"c":
                peers.append(here.connect())
            elif name == b"t":
                here.advance(1)
            elif name == b"s":
                here.send("sent")
            elif name == b"l":
                peers[-1].lose()
            elif name == b"p":
                peers.append(peers[0])
            words = wordsOf(name, behind)
            if words and not peers[-1].isLost:
                peers[-1].say(words)

    theSame(told(Site, play, **options), told(FastSite, play, **options))


_SETTINGS = [
    *_WAYS,
    {"siteClass": Site},
    {"allowEIO3": True, "wsEngine": TwistedEngine},
    {"transports": ["websocket"], "trustedProxies": ["192.168.1.1"]},
    {"pingInterval": 1000, "pingTimeout": 1000},
]


class _Bystanders:
    """A session on polling and one on WebSocket, which whatever others do must not harm."""

    POLLING, SOCKET = "bystander-on-polling-Zq3v", "bystander-on-websocket-Wk8p"

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        names = [each for each in ("polling", "websocket") if each in memory.server.opts.transports]
        self.ids = {self.POLLING if each == "polling" else self.SOCKET for each in names}
        origin = [("Origin", "https://a.example")]
        given = iter([self.POLLING] if "polling" in names else [])
        memory.server.generateId = lambda _: next(given)
        self.polls = "polling" in names
        if self.polls:
            memory.connect(http("GET", target(), origin)).lose()
        given = iter([self.SOCKET])
        self.socket = memory.connect(upgrade(Origin="https://a.example"))
        assert set(memory.server.clients) == self.ids
        for each in memory.server.clients.values():
            # It is not what is waited for here.
            each._host.heartbeats.waitFor(each, HeartbeatQueue(memory.server.reactor, 1e6))

    def check(self) -> None:
        """Each gets an echo of what it says."""
        self.socket.taken()
        self.socket.say(makeFrame("4still there"))
        (frame,) = framesOf(self.socket.taken())
        assert (frame.opcode, frame.payload) == (TEXT, b"4still there")
        if self.polls:
            says = (http("POST", target(sid=self.POLLING), body=b"4still there"), http("GET", target(sid=self.POLLING)))
            polling = self.memory.connect(*says)
            answers = polling.taken()
            assert answers.count(b"HTTP/1.1 200 OK") == 2, answers
            assert b"\r\n\r\nok" in answers
            assert answers.endswith(b"4still there"), answers
            polling.lose()


@fuzzed
def server(data: bytes) -> None:
    """
    What clients say to a whole server, in which others have sessions.

    The first byte says how the server is set up. Ids of sessions are C{sid0} and so on.
    """
    options = _SETTINGS[(data[0] if data else 0) % len(_SETTINGS)]
    if options.get("wsEngine", 0) is None:
        options = {}
    if "initialPacket" in options or "httpCompression" in options:
        options = {name: value for name, value in options.items() if name in ("allowedOrigins",)}
    if "perMessageDeflate" in options:
        # The bystander offers none.
        options = {**options, "perMessageDeflate": True}
    memory = Memory(**{"maxHttpBufferSize": LIMIT, **options})
    bystanders = _Bystanders(memory)
    count = iter(range(10**9))
    memory.server.generateId = lambda _: f"sid{next(count)}"
    here: list[Connection] = []
    said = 10
    for name, behind in stepsOf(data[1:]):
        if name == b"c":
            here.append(memory.connect())
        elif name == b"t":
            memory.advance(1)
        elif name == b"s":
            for socket in list(memory.server.clients.values()):
                if socket.id not in bystanders.ids:
                    socket.send("sent")
        elif name == b"l":
            here[-1].lose()
        elif name == b"p":
            here.append(here[0])
        words = wordsOf(name, behind)
        if words:
            here[-1].say(words)
            said += len(words)
    # What is sent to somebody is bounded by what they say: no line of it has a longer answer than a refusal.
    written = sum(len(each.value()) for each in set(here))
    assert written <= 100 * said, f"{written} bytes for {said}"
    bystanders.check()
    for each in here:
        each.lose()
    # A session on polling goes on without a connection, for a time.
    memory.advance(0)
    for each in list(memory.server.clients.values()):
        if each.id not in bystanders.ids:
            assert each.transport.name == "polling", each
    for _ in range(4):
        memory.advance(30)
    assert set(memory.server.clients) == bystanders.ids
    assert not len(memory.server._router.reading)
    bystanders.check()
    memory.server.close()
    memory.advance(50)
    memory.end()
    assert not memory.server.clients
    assert not memory.clock.getDelayedCalls()
