"""The WebSocket transport of a client, against servers that say literal bytes."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from http.cookiejar import CookieJar
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IStreamClientEndpoint
from zope.interface import implementer

from engineio_twisted import Packet, PacketType
from engineio_twisted.client import ClientOptions, FailureType
from engineio_twisted.client.connecting import Connecting
from engineio_twisted.client.websocket import ClientWebSocketTransport
from engineio_twisted.ends import CLOSE_TIMEOUT
from engineio_twisted.interfaces import LEFT
from engineio_twisted.protocol.errors import CloseReason
from engineio_twisted.transports.engine_client import engineOn
from engineio_twisted.transports.engine_opening import BODY_TIMEOUT, MAX_HEAD

from ..kit.client_agents import BrokenJar
from ..kit.client_servers import (
    DEFLATED,
    OPEN,
    SWITCHING,
    WEBSOCKET,
    MemoryServer,
    ScriptedServer,
    Step,
    answer,
    both,
    chunks,
    cuts,
    drips,
    endless,
    ends,
    frame,
)
from ..kit.fakes import FakeOwner
from ..kit.wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT

LIMIT = 10_000


class Owner(FakeOwner):
    """Remembers in which order it hears what."""

    def __init__(self) -> None:
        super().__init__()
        self.closings: list[Any] = []

    def transportClosed(self, transport: Any, closing: Any) -> None:
        self.closings.append(closing)
        super().transportClosed(transport, closing)


class Play:
    """A transport and the server that it connects to, on a clock that stands still."""

    def __init__(self, *steps: Step, url: str = "ws://server.example/", server: Any = None, **options: Any) -> None:
        self.server = server or ScriptedServer(webSockets=steps)
        self.clock = self.server.clock
        self.endpoint = MemoryServer(self.server)
        opts = ClientOptions(**{"endpoint": self.endpoint, "maxHttpBufferSize": LIMIT, **options})
        self.connecting = Connecting(url, opts, self.clock)
        self.transport = ClientWebSocketTransport(self.connecting.codec, self.connecting)
        self.owner = self.transport.owner = Owner()
        self.gone: list[None] = []

    def open(self) -> Play:
        self.transport.open()
        self.transport.whenGone().addCallback(self.gone.append)
        self.settle()
        return self

    def settle(self) -> None:
        self.endpoint.network.settle()

    def advance(self, seconds: float) -> None:
        self.endpoint.network.advance(seconds)

    def say(self, data: bytes, *more: bytes) -> None:
        """Let the server send more pieces, each of which arrives on its own."""
        for each in (data, *more):
            self.server.peer.say(each)
            self.settle()

    @property
    def received(self) -> list[Any]:
        return [each.data for each in self.owner.packets if each.type is PacketType.MESSAGE]

    @property
    def closeCodes(self) -> list[int]:
        return [int.from_bytes(payload[:2]) for opcode, payload in self.server.heard if opcode == CLOSE]

    def failed(self) -> Any:
        """What has failed, of which the owner was told once."""
        failure = self.transport.failure
        assert failure is not None
        assert [(each.reason, each.description) for each in self.owner.closings] == [
            (failure.reason, failure.description)
        ]
        assert failure.transport == "websocket"
        return failure

    def isGone(self) -> bool:
        """Whether nothing is left."""
        self.advance(0)
        isGone = len(self.gone) == 1
        assert not isGone or (not self.clock.getDelayedCalls() and not len(engineOn(self.clock).connections))
        return isGone


# The request


def test_theRequest() -> None:
    """It is that of the reference on Node: no Origin, a Host without the ordinary port, the application's headers."""
    play = Play(WEBSOCKET, url="http://server.example", extraHeaders={"X-Name": "caf\xe9", "user-agent": "me"}).open()
    (asked,) = play.server.asked
    key = asked.headers["sec-websocket-key"]
    assert (asked.method, asked.target) == ("GET", "/engine.io/?EIO=4&transport=websocket")
    assert asked.headers == {
        "host": "server.example",
        "x-name": "caf\xe9",
        "user-agent": "me",
        "upgrade": "WebSocket",
        "connection": "Upgrade",
        "pragma": "no-cache",
        "cache-control": "no-cache",
        "sec-websocket-key": key,
        "sec-websocket-version": "13",
    }
    assert len(key) == 24
    assert play.transport.writable
    other = Play(WEBSOCKET).open()
    assert other.server.asked[0].headers["sec-websocket-key"] != key


@pytest.mark.parametrize(
    ("url", "options", "name", "value"),
    [
        ("ws://server.example:3000", {}, "host", "server.example:3000"),
        ("ws://[::1]:3000", {}, "host", "[::1]:3000"),
        ("ws://server.example", {"extraHeaders": {"Host": "other.example"}}, "host", "other.example"),
        ("ws://server.example", {"extraHeaders": {"Origin": "https://a.example"}}, "origin", "https://a.example"),
        ("ws://server.example", {"protocols": ["a", "b"]}, "sec-websocket-protocol", "a,b"),
        (
            "ws://server.example",
            {"perMessageDeflate": True},
            "sec-websocket-extensions",
            "permessage-deflate; client_no_context_takeover; client_max_window_bits",
        ),
        (
            "ws://server.example",
            {"perMessageDeflate": {"serverMaxWindowBits": 10}},
            "sec-websocket-extensions",
            "permessage-deflate; client_no_context_takeover; client_max_window_bits; server_max_window_bits=10",
        ),
    ],
)
def test_headersOfTheRequest(url: str, options: Any, name: str, value: str) -> None:
    """What the options say is in the request, once."""
    play = Play(WEBSOCKET, url=url, **options).open()
    (asked,) = play.server.asked
    assert asked.headers[name] == value


def test_parametersOfTheRequest() -> None:
    """A session that is open, and one that comes back, have more of them."""
    play = Play(WEBSOCKET, query={"a": "b"})
    play.connecting.sid = "S"
    play.transport.open(received="7")
    play.settle()
    assert play.server.asked[0].target == "/engine.io/?a=b&EIO=4&transport=websocket&sid=S&received=7"


def test_cookies() -> None:
    """The cookies of a response, whatever it says, come back; those that the application sets come first."""
    head = SWITCHING + b"Set-Cookie: a=b; Path=/\r\nSet-Cookie: c=d; Secure\r\nSet-Cookie: e=\xe9; Path=/\r\n\r\n"
    refusal = answer(b"", "503 Busy", "Set-Cookie: node=7; Path=/")
    server = ScriptedServer(webSockets=[refusal, head, WEBSOCKET, WEBSOCKET])
    jar = CookieJar()
    options = {"withCredentials": jar, "server": server}
    sent = [
        Play(**options, extraHeaders=headers).open().server.asked[-1].headers.get("cookie")
        for headers in ({}, {}, {}, {"cookie": "own=1"})
    ]
    assert sent == [None, "node=7", "node=7; a=b; e=\xe9", "own=1; node=7; a=b; e=\xe9"]


@pytest.mark.parametrize("response", [SWITCHING, b"HTTP/1.1 503 Busy\r\n"])
@pytest.mark.parametrize("broken", ["add", "extract"])
def test_brokenJar(broken: str, response: bytes) -> None:
    """A jar that raises ends the transport, with what it raised, and nothing is left."""
    jar = BrokenJar()
    jar.broken = broken
    play = Play(response + b"Set-Cookie: a=b\r\n\r\n", withCredentials=jar).open()
    assert play.failed().description == "the jar is broken"
    play.transport.close(LEFT)
    assert play.isGone()


# The response


def test_openingAndMessages() -> None:
    """Text and bytes both ways; what is sent is masked, each frame with a mask of its own."""
    play = Play(both(WEBSOCKET, frame(OPEN.decode()))).open()
    assert play.owner.readies == 1
    assert [(each.type, each.data) for each in play.owner.packets] == [(PacketType.OPEN, OPEN[1:].decode())]
    play.say(frame("4hello €"), frame(b"\x00\x01"), frame("4") + frame(b""))
    assert play.received == ["hello €", b"\x00\x01", "", b""]
    sizes = [0, 1, 3, 4, 5, 100, 124, 125, 126, 5000, 65_534, 65_535, 65_536]
    for size in sizes:
        play.transport.sendMessage("x" * size, None, True)
        play.transport.sendMessage(b"y" * size, None, True)
    play.settle()
    assert play.server.heard == [each for size in sizes for each in ((TEXT, b"4" + b"x" * size), (BINARY, b"y" * size))]


def test_masksDiffer() -> None:
    """Nobody can foresee a mask: no two are the same, and none is left out."""
    play = Play(WEBSOCKET).open()
    play.server.isDeaf = True
    for _ in range(3000):
        play.transport.sendMessage("", None, True)
        play.transport.sendMessage("x" * 200, None, True)
    play.settle()
    sent = bytes(play.server.peer.received)
    masks, position = [], 0
    while position < len(sent):
        size = sent[position + 1] & 0x7F
        start = position + (2 if size < 126 else 4)
        length = size if size < 126 else int.from_bytes(sent[position + 2 : position + 4])
        masks.append(sent[start : start + 4])
        position = start + 4 + length
    assert len(masks) == 6000
    # That two of them are equal by chance is no more than likely once in two hundred times, three once in a lifetime.
    assert len(set(masks)) > 5990
    for index in range(4):
        assert len({each[index] for each in masks}) > 200


def test_framesBehindThe101() -> None:
    """What comes in one piece with the response is read."""
    data = frame(OPEN.decode()) + frame("4a") + frame("4b", isFinal=False) + frame(b"c", CONTINUATION)
    play = Play(WEBSOCKET + data).open()
    assert play.received == ["a", "bc"]


@pytest.mark.parametrize("size", [1, 7, 40])
def test_theResponseInPieces(size: int) -> None:
    """However the head of a response is cut, it is read."""

    def pieces(peer: Any) -> None:
        # The proof is as long as what stands for it isn't.
        said: list[bytes] = []
        peer.transport, real = type("Cut", (), {"write": staticmethod(said.append)})(), peer.transport
        peer.say(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + WEBSOCKET + frame("4a"))
        peer.transport = real
        data = b"".join(said)
        for start in range(0, len(data), size):
            peer.later(start / 1000, real.write, data[start : start + size])

    play = Play(pieces).open()
    play.advance(10)
    assert play.received == ["a"]


PROTOCOL = SWITCHING + b"Sec-WebSocket-Protocol: %b\r\n\r\n"
EXTENSION = SWITCHING + b"Sec-WebSocket-Extensions: %b\r\n\r\n"
DEFLATE = {"perMessageDeflate": True}


@pytest.mark.parametrize(
    ("head", "options"),
    [
        (PROTOCOL % b"b", {"protocols": ["a", "b"]}),
        (WEBSOCKET, {"protocols": ["a", "b"]}),
        (EXTENSION % b"permessage-deflate", DEFLATE),
        (EXTENSION % b"permessage-deflate; client_max_window_bits=9; server_max_window_bits=9", DEFLATE),
        (EXTENSION % b"permessage-deflate; server_no_context_takeover; client_no_context_takeover", DEFLATE),
        (WEBSOCKET, DEFLATE),
        (WEBSOCKET.replace(b"Upgrade: websocket", b"UPGRADE:WebSocket"), {}),
        (WEBSOCKET.replace(b"Connection: Upgrade", b"Connection: keep-alive, upgrade"), {}),
        (SWITCHING + b"X-Latin: \xe9\x85\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\n\r\n", {}),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + WEBSOCKET, {}),
        (WEBSOCKET.replace(b" Switching Protocols", b""), {}),
    ],
)
def test_rightResponses(head: bytes, options: Any) -> None:
    """What a server may say of what it was asked."""
    play = Play(head + frame("4a"), **options).open()
    assert play.received == ["a"]
    play.transport.sendMessage("b", None, True)
    play.settle()
    assert play.server.texts() == [b"4b"]


WRONG: list[tuple[str, Step, Any, str]] = [
    ("no accept", SWITCHING.replace(b"Accept", b"Other") + b"\r\n", {}, "Accept header missing"),
    ("another accept", SWITCHING.replace(b"{accept}", b"AAAAAAAAAAAAAAAAAAAAAAAAAAA=") + b"\r\n", {}, "bogus value"),
    ("two accepts", SWITCHING + b"Sec-WebSocket-Accept: {accept}\r\n\r\n", {}, "more than once"),
    ("no upgrade", SWITCHING.replace(b"Upgrade: websocket\r\n", b"") + b"\r\n", {}, "Upgrade header missing"),
    ("another upgrade", SWITCHING.replace(b": websocket", b": h2c") + b"\r\n", {}, 'different from "websocket"'),
    ("no connection", SWITCHING.replace(b"Connection: Upgrade\r\n", b"") + b"\r\n", {}, "Connection header missing"),
    ("a subprotocol unasked", PROTOCOL % b"a", {}, 'subprotocol selected by server "a"'),
    ("another subprotocol", PROTOCOL % b"c", {"protocols": ["a", "b"]}, 'subprotocol selected by server "c"'),
    ("an extension unasked", EXTENSION % b"permessage-deflate", {}, "denied by client"),
    ("another extension", EXTENSION % b"x-other", DEFLATE, '"x-other"'),
    ("another compression", EXTENSION % b"permessage-bzip2", DEFLATE, "denied by client"),
    ("it twice", EXTENSION % b"permessage-deflate, permessage-deflate", DEFLATE, "multiple occurrence"),
    ("a wrong window", EXTENSION % b"permessage-deflate; client_max_window_bits=7", DEFLATE, "illegal"),
    ("an unknown parameter", EXTENSION % b"permessage-deflate; x=1", DEFLATE, "illegal extension parameter"),
    (
        "a window too large",
        EXTENSION % b"permessage-deflate; server_max_window_bits=12",
        {"perMessageDeflate": {"serverMaxWindowBits": 10}},
        "denied",
    ),
    (
        "a window not promised",
        EXTENSION % b"permessage-deflate",
        {"perMessageDeflate": {"serverMaxWindowBits": 10}},
        "denied",
    ),
    (
        "a context kept",
        EXTENSION % b"permessage-deflate",
        {"perMessageDeflate": {"serverNoContextTakeover": True}},
        "denied",
    ),
    ("HTTP/1.0", WEBSOCKET.replace(b"HTTP/1.1", b"HTTP/1.0"), {}, "HTTP/1.0"),
    ("what isn't ASCII", EXTENSION % b"permessage-deflate; \xff", DEFLATE, ""),
]
"""101s that are wrong."""


@pytest.mark.parametrize(("name", "step", "options", "words"), WRONG, ids=[each[0] for each in WRONG])
def test_wrong101s(name: str, step: Step, options: Any, words: str) -> None:
    """A 101 that isn't what was asked for opens nothing; the failure has it, and the connection is aborted."""
    play = Play(step, **options).open()
    failure = play.failed()
    assert failure.type is FailureType.HANDSHAKE
    assert words in failure.description
    assert len(failure.description) < 300
    assert failure.response.status == 101
    assert not play.transport.writable
    assert play.owner.readies == 0
    assert play.isGone()
    assert play.server.peer.isLost


REFUSAL = b'{"code":3,"message":"Bad request"}'

REFUSED: list[tuple[str, Step, FailureType, str, int | None, bytes]] = [
    ("by the protocol", answer(REFUSAL, "400 Bad Request"), FailureType.REFUSED, "Bad request", 400, REFUSAL),
    ("by a page", answer(b"<html>no</html>", "404 Not Found"), FailureType.HTTP, "404", 404, b"<html>no</html>"),
    ("401", answer(b"who?", "401 Unauthorized"), FailureType.AUTHENTICATION, "401", 401, b"who?"),
    ("407", answer(b"", "407 Proxy Authentication Required"), FailureType.PROXY, "407", 407, b""),
    ("301", answer(b"", "301 Moved", "Location: /b"), FailureType.REDIRECT, "/b", 301, b""),
    ("307", answer(b"", "307 Moved", "Location: https://b.example"), FailureType.REDIRECT, "b.example", 307, b""),
    ("304", b"HTTP/1.1 304 Not Modified\r\n\r\n", FailureType.REDIRECT, "304", 304, b""),
    ("502", answer(b"bad gateway", "502 Bad Gateway"), FailureType.UNAVAILABLE, "502", 502, b"bad gateway"),
    ("503", answer(b"", "503 Busy", "Retry-After: 7"), FailureType.UNAVAILABLE, "in 7 s", 503, b""),
    ("504", answer(b"", "504 Timeout"), FailureType.UNAVAILABLE, "504", 504, b""),
    (
        "a captive portal",
        answer(b"<html>log in</html>", kind="text/html"),
        FailureType.NOT_ENGINEIO,
        "html",
        200,
        b"<html>log in</html>",
    ),
    ("in chunks", chunks(b"<html>", b"</html>"), FailureType.NOT_ENGINEIO, "html", 200, b"<html></html>"),
    ("a chunk cut", ends(chunks(b"abc", isEnded=False)), FailureType.NOT_ENGINEIO, "abc", 200, b"abc"),
    (
        "chunks that are none",
        b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\nnone\r\n",
        FailureType.HTTP,
        "500",
        500,
        b"",
    ),
    ("without a length", ends(b"HTTP/1.1 500 No\r\n\r\nwhy"), FailureType.HTTP, "500", 500, b"why"),
    ("cut", ends(answer(b"why", "500 No", length=9)), FailureType.HTTP, "500", 500, b"why"),
    ("reset", cuts(answer(b"why", "500 No", length=9)), FailureType.HTTP, "500", 500, b"why"),
    ("too long", answer(b"x" * 5000, "500 No"), FailureType.HTTP, "500", 500, b"x" * 4096),
    (
        "endless",
        endless(b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n", b"64\r\n" + b"x" * 100 + b"\r\n"),
        FailureType.HTTP,
        "500",
        500,
        b"x" * 4096,
    ),
    ("no response", b"SSH-2.0-OpenSSH_9.6\r\n", FailureType.NOT_ENGINEIO, "SSH-2.0", None, b""),
    ("nearly one", b"HTTP/1.1 ok\r\n\r\n", FailureType.NOT_ENGINEIO, "HTTP/1.1 ok", None, b""),
    ("TLS", b"\x15\x03\x01\x00\x02\x02\x46", FailureType.NOT_ENGINEIO, "begins with", None, b""),
    (
        "a head without end",
        endless(b"HTTP/1.1 101 X\r\n", b"a: b\r\n" * 500),
        FailureType.NOT_ENGINEIO,
        "32768",
        None,
        b"",
    ),
    (
        "heads without end",
        endless(b"", b"HTTP/1.1 103 Wait\r\n" + b"a: b\r\n" * 500 + b"\r\n"),
        FailureType.NOT_ENGINEIO,
        "32768",
        None,
        b"",
    ),
    ("closed", ends(), FailureType.LOST, "before the response", None, b""),
    ("closed in the head", ends(b"HTTP/1.1 101 Switching\r\nUpgr"), FailureType.LOST, "before", None, b""),
    ("reset at once", cuts(), FailureType.LOST, "before the response", None, b""),
]
"""What a server says, or doesn't, in place of a 101."""


@pytest.mark.parametrize(
    ("name", "step", "kind", "words", "status", "body"), REFUSED, ids=[each[0] for each in REFUSED]
)
def test_refusals(name: str, step: Step, kind: FailureType, words: str, status: int | None, body: bytes) -> None:
    """Each is a failure with a name, and what came of the response; the connection is aborted, and nothing is left."""
    play = Play(step).open()
    play.advance(1.5)
    failure = play.failed()
    assert failure.type is kind
    assert words in failure.description
    assert len(failure.description) < 400
    if status is None:
        assert failure.response is None
    else:
        assert (failure.response.status, failure.response.body) == (status, body)
    assert play.isGone()
    assert play.server.said < MAX_HEAD + 10_000


def test_theMessageOfTheProtocol() -> None:
    """What the server says in the protocol's words can be read."""
    failure = Play(answer(REFUSAL, "400 Bad Request", "X-A: b")).open().failed()
    assert (failure.response.code, failure.response.message) == (3, "Bad request")
    assert failure.response.headers.getRawHeaders("x-a") == ["b"]
    assert failure.reason is CloseReason.TRANSPORT_ERROR


def test_aBodyThatDoesNotCome() -> None:
    """What refuses isn't waited for long; what came of it is in the failure."""
    play = Play(answer(REFUSAL + b"abc", "400 Bad Request", length=900)).open()
    play.advance(BODY_TIMEOUT - 0.1)
    assert play.transport.failure is None
    play.advance(0.2)
    failure = play.failed()
    assert (failure.type, failure.response.body) == (FailureType.HTTP, REFUSAL + b"abc")
    assert play.isGone()


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (b"", "no response to the opening handshake within 3 s"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgr", "no response to the opening handshake within 3 s"),
        (drips(WEBSOCKET), "no response to the opening handshake within 3 s"),
        (endless(b"", b"HTTP/1.1 102 Processing\r\n\r\n", 0.5), "no response to the opening handshake within 3 s"),
    ],
)
def test_silence(step: Step, words: str) -> None:
    """A server that never answers is left after connectTimeout."""
    play = Play(step, connectTimeout=3000).open()
    play.advance(2.9)
    assert play.transport.failure is None
    play.advance(0.2)
    failure = play.failed()
    assert (failure.type, failure.description) == (FailureType.TIMEOUT, words)
    # The server may have something left to say.
    play.advance(1)
    assert play.isGone()


# Connecting


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Refused(), FailureType.CONNECT),
        (DNSLookupError(), FailureType.DNS),
        (OSError(24, "EMFILE"), FailureType.CONNECT),
    ],
)
def test_noConnection(error: Exception, kind: FailureType) -> None:
    """What the endpoint fails with has its name."""
    play = Play()
    play.endpoint.failure = error
    play.open()
    assert play.failed().type is kind
    assert play.isGone()


def test_aConnectionThatTakesTooLong() -> None:
    """Connecting is stopped after connectTimeout."""
    play = Play(connectTimeout=3000)
    play.endpoint.isReachable = False
    play.open()
    assert play.endpoint.waiting == 1
    play.advance(3.1)
    failure = play.failed()
    assert (failure.type, failure.description) == (FailureType.TIMEOUT, "no connection within 3 s")
    assert play.endpoint.waiting == 0
    assert play.isGone()


@pytest.mark.parametrize("when", ["connecting", "asking", "in the head", "in a body", "open"])
def test_closedByTheOwner(when: str) -> None:
    """Closing leaves nothing, whatever it comes in, and is no failure: the owner isn't told what it did itself."""
    steps: dict[str, Step] = {
        "asking": b"",
        "in the head": b"HTTP/1.1 101 Swi",
        "in a body": answer(b"x", "500 No", length=9),
        "open": WEBSOCKET,
    }
    play = Play(steps.get(when, b""))
    play.endpoint.isReachable = when != "connecting"
    play.open()
    assert not play.isGone()
    assert play.transport.close(LEFT, [Packet(PacketType.MESSAGE, "last")]) == (when == "open")
    play.settle()
    assert play.isGone()
    assert play.transport.failure is None
    assert play.owner.closings == []
    assert play.server.texts() == ([b"4last"] if when == "open" else [])
    assert play.closeCodes == ([1000] if when == "open" else [])


def test_goneBeforeItBegan() -> None:
    """A transport that was never opened is gone."""
    play = Play()
    play.transport.whenGone().addCallback(play.gone.append)
    assert play.isGone()
    assert not play.transport.writable
    assert (play.transport.bufferedAmount, play.transport.heldBytes, play.transport.arriving) == (0, 0, None)
    play.transport.pauseReceiving()
    play.transport.resumeReceiving()
    assert play.transport.close(LEFT) == 0


def test_aConnectionThatComesTooLate() -> None:
    """An endpoint that can't be stopped may connect after all: the connection is aborted, and nothing is asked."""
    factories: list[Any] = []

    @implementer(IStreamClientEndpoint)
    class Stubborn:
        def connect(self, factory: Any) -> Deferred[Any]:
            factories.append(factory)
            return Deferred(lambda _: None)

    play = Play(endpoint=Stubborn()).open()
    play.transport.close(LEFT)
    assert play.isGone()
    play.endpoint.connect(factories[0])
    play.settle()
    play.advance(0)
    assert play.server.asked == []
    assert play.server.peer.isLost
    assert not play.clock.getDelayedCalls()


# What servers say on an open WebSocket


def packed(data: bytes, first: int = TEXT, level: int = 9) -> bytes:
    """A compressed message."""
    packer = zlib.compressobj(level, wbits=-15)
    return frame((packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4], first, reserved=4)


BROKEN: list[tuple[str, bytes, FailureType, int | None]] = [
    ("masked", frame("4a", isMasked=True), FailureType.PARSE, 1002),
    ("masked and long", frame("4" + "a" * 300, isMasked=True), FailureType.PARSE, 1002),
    ("a masked ping", frame(b"a", PING, isMasked=True), FailureType.PARSE, 1002),
    ("a reserved bit", frame("4a", reserved=4), FailureType.PARSE, 1002),
    ("a reserved opcode", frame("4a", 3), FailureType.PARSE, 1002),
    ("a control frame in pieces", frame(b"a", PING, isFinal=False), FailureType.PARSE, 1002),
    ("a large control frame", frame(b"a" * 126, PING), FailureType.PARSE, 1002),
    ("a continuation of nothing", frame(b"a", CONTINUATION), FailureType.PARSE, 1002),
    ("a message in another", frame("4a", isFinal=False) + frame("4b"), FailureType.PARSE, 1002),
    ("a long length written longer", b"\x82\x7e\x00\x05abcde", FailureType.PARSE, 1002),
    ("a longer one", b"\x82\x7f\x00\x00\x00\x00\x00\x00\x00\x05abcde", FailureType.PARSE, 1002),
    ("no length at all", b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff", FailureType.PARSE, 1002),
    ("no text", frame(b"4\xff", TEXT), FailureType.PARSE, 1007),
    ("no text, later", frame(b"4" + b"a" * 500 + b"\xc3", TEXT), FailureType.PARSE, 1007),
    ("no text, at once", frame(b"4\xff" + b"a" * 500, TEXT)[:7], FailureType.PARSE, 1007),
    ("too large", frame(b"a" * (LIMIT + 1)), FailureType.TOO_LARGE, 1009),
    ("said to be too large", frame(b"a" * (LIMIT + 1))[:4], FailureType.TOO_LARGE, 1009),
    ("said to be far too large", b"\x82\x7f\x00\x00\x00\xff\x00\x00\x00\x00", FailureType.TOO_LARGE, 1009),
    (
        "too large in pieces",
        frame(b"a" * LIMIT, BINARY, isFinal=False) + frame(b"a", CONTINUATION),
        FailureType.TOO_LARGE,
        1009,
    ),
    ("a wrong close frame", frame(b"\x03", CLOSE), FailureType.PARSE, 1002),
    ("a code that isn't sent", frame(b"\x03\xed", CLOSE), FailureType.PARSE, 1002),
    ("an unknown packet", frame("9"), FailureType.PARSE, 1000),
    ("no packet", frame(""), FailureType.PARSE, 1000),
    ("a packet of letters", frame("hello"), FailureType.PARSE, 1000),
    ("a close packet", frame("1"), FailureType.CLOSED, 1000),
    ("a close frame", frame(b"\x03\xe8", CLOSE), FailureType.LOST, 1000),
    ("a close frame that says why", frame(b"\x03\xe9bye", CLOSE), FailureType.LOST, 1001),
    ("an empty close frame", frame(b"", CLOSE), FailureType.LOST, 0),
]
"""What a server says, what has failed then, and the code of the close frame that it gets: 0 for an empty one."""


@pytest.mark.parametrize(("name", "data", "kind", "code"), BROKEN, ids=[each[0] for each in BROKEN])
def test_whatServersMayNotSay(name: str, data: bytes, kind: FailureType, code: int) -> None:
    """It is a failure with a name; what came before is delivered, and nothing behind it; the server learns why."""
    for pieces in ([data], [data[:1], data[1:]], [bytes([each]) for each in data] if len(data) < 1000 else [data]):
        play = Play(both(WEBSOCKET, frame("4before"))).open()
        play.say(b"", *pieces)
        play.say(frame("4behind"))
        assert play.received == ["before"]
        assert play.failed().type is kind
        assert [each.isByClient for each in play.owner.closings] == [name == "a close packet"]
        assert play.closeCodes == [code]
        assert not play.transport.writable
        assert play.isGone()


def test_aServerThatDoesNotClose() -> None:
    """A server that doesn't do its part of the closing handshake has some seconds; then the connection is aborted."""
    for data in (frame(b"\x03\xe8", CLOSE), frame("9"), frame("4a", isMasked=True), frame("4a", reserved=4) * 2):
        play = Play(server=ScriptedServer(webSockets=[both(WEBSOCKET, data)], closes=False)).open()
        assert len(play.closeCodes) == 1
        play.advance(CLOSE_TIMEOUT - 0.1)
        assert not play.isGone()
        play.advance(0.2)
        assert play.isGone()
        assert play.server.peer.isLost


def test_theServerClosesFirst() -> None:
    """After the closing handshake the connection is the server's to close (RFC 6455, 7.1.1)."""
    play = Play(server=ScriptedServer(webSockets=[WEBSOCKET], closes=False)).open()
    play.transport.close(LEFT)
    play.say(frame(b"\x03\xe8", CLOSE))
    assert not play.isGone()
    assert not play.server.peer.isLost
    play.server.peer.finish()
    play.settle()
    assert play.isGone()


@pytest.mark.parametrize("step", [ends, cuts])
def test_lost(step: Callable[[], Step]) -> None:
    """A connection that is lost, with or without a reset, after messages that came before."""
    play = Play(both(WEBSOCKET + frame("4a"), step())).open()
    play.advance(0.01)
    failure = play.failed()
    assert failure.type is FailureType.LOST
    assert failure.reason is CloseReason.TRANSPORT_CLOSE
    assert play.received == ["a"]
    assert play.isGone()


def test_lostWhileReceivingIsPaused() -> None:
    """What came before the loss is delivered when receiving goes on, and then the end; only then nothing is left."""
    play = Play(WEBSOCKET).open()
    play.transport.pauseReceiving()
    play.say(frame("4a"))
    play.server.peer.finish()
    play.settle()
    assert play.owner.closings == []
    play.transport.resumeReceiving()
    play.advance(0)
    assert play.received == ["a"]
    assert play.failed().type is FailureType.LOST
    assert play.isGone()


def test_controlFrames() -> None:
    """Pings are answered with their payload, pongs are nothing, also between the pieces of a message."""
    play = Play(WEBSOCKET).open()
    play.say(frame(b"", PING) + frame(b"\x00\xff" * 62, PING) + frame(b"x", PONG))
    play.say(frame("4a", isFinal=False) + frame(b"?", PING), frame(b"b", CONTINUATION))
    assert play.server.heard == [(PONG, b""), (PONG, b"\x00\xff" * 62), (PONG, b"?")]
    assert play.received == ["ab"]


FRAMES = [
    frame("4hello €"),
    frame(b"\x00" * 125),
    frame("4" + "a" * 125),
    frame(b"b" * 70),
    frame("4" + "é" * 400),
    frame(b"c" * 9000),
    frame("4a", isFinal=False) + frame(b"", PING) + frame(b"b", CONTINUATION),
    frame(b"", BINARY),
]


@pytest.mark.parametrize("size", [1, 2, 3, 126, 4096])
def test_framesInPieces(size: int) -> None:
    """However frames are cut, the same comes of them."""
    data = b"".join(FRAMES)
    play = Play(WEBSOCKET).open()
    for start in range(0, len(data), size):
        play.say(data[start : start + size])
    assert play.received == [
        "hello €",
        b"\x00" * 125,
        "a" * 125,
        b"b" * 70,
        "é" * 400,
        b"c" * 9000,
        "ab",
        b"",
    ]


def test_revision3AndBase64() -> None:
    """In revision 3 bytes have their type in front; as base64 they are text in both."""
    play = Play(WEBSOCKET, EIO=3).open()
    play.transport.sendMessage(b"\x01", None, True)
    play.say(frame(b"\x04\x02"))
    assert play.server.heard == [(BINARY, b"\x04\x01")]
    assert play.received == [b"\x02"]
    play = Play(WEBSOCKET, forceBase64=True).open()
    assert play.server.asked[0].target == "/engine.io/?EIO=4&transport=websocket&b64=1"
    play.transport.sendMessage(b"\x01", None, True)
    play.say(frame("bAg=="))
    assert play.server.texts() == [b"bAQ=="]
    assert play.received == [b"\x02"]


# Compression


def test_compression() -> None:
    """Messages from the threshold on are compressed, with a context that goes on; what comes is inflated."""
    play = Play(DEFLATED, perMessageDeflate={"threshold": 10}).open()
    text = "4" + "engine " * 20
    unpacker = zlib.decompressobj(-15)
    for _ in range(2):
        play.transport.sendMessage(text[1:], None, True)
        play.settle()
        opcode, payload = play.server.heard.pop()
        assert opcode == TEXT
        assert unpacker.decompress(payload + b"\x00\x00\xff\xff") == text.encode()
    play.transport.sendMessage("short", None, True)
    play.transport.sendMessage("not to be compressed", None, False)
    play.settle()
    assert play.server.texts() == [b"4short", b"4not to be compressed"]
    play.say(packed(text.encode()), frame("4plain"))
    assert play.received == [text[1:], "plain"]


@pytest.mark.parametrize(
    ("data", "kind", "code"),
    [
        (packed(b"4" + b"a" * 1_000_000), FailureType.TOO_LARGE, 1009),
        (packed(b"a" * 20_000, BINARY), FailureType.TOO_LARGE, 1009),
        (packed(b"a" * (LIMIT + 1), BINARY), FailureType.TOO_LARGE, 1009),
        (packed(b"4\xff"), FailureType.PARSE, 1007),
        (frame(b"\xff\xff\xff", TEXT, reserved=4), FailureType.PARSE, 1007),
        (frame(b"a", PING, reserved=4), FailureType.PARSE, 1002),
        (frame(b"a", TEXT, reserved=2), FailureType.PARSE, 1002),
    ],
)
def test_badCompression(data: bytes, kind: FailureType, code: int) -> None:
    """Bombs, and what isn't compressed at all."""
    play = Play(both(DEFLATED, data), perMessageDeflate=True).open()
    assert play.failed().type is kind
    assert play.closeCodes == [code]
    assert play.received == []
    assert play.isGone()


def test_theLargestCompressedMessage() -> None:
    """The limit is that of what a message inflates to."""
    play = Play(both(DEFLATED, packed(b"a" * LIMIT, BINARY)), perMessageDeflate=True).open()
    assert play.received == [b"a" * LIMIT]


def test_theOwnContextIsGivenUp() -> None:
    """What the server asks of the client's compression is done: each message by itself, in a small window."""
    head = EXTENSION % b"permessage-deflate; client_no_context_takeover; client_max_window_bits=9"
    play = Play(head, perMessageDeflate={"threshold": 0}).open()
    for text in ("abc" * 50, "abc" * 50):
        play.transport.sendMessage(text, None, True)
        play.settle()
        _, payload = play.server.heard.pop()
        assert zlib.decompressobj(-9).decompress(payload + b"\x00\x00\xff\xff") == b"4" + text.encode()


# Writing


def test_whatIsSentFromInsideGoesTogether() -> None:
    """What is sent because of what came goes out in one piece, as long as it isn't much."""
    play = Play(WEBSOCKET).open()
    written: list[bytes] = []
    play.transport.webSocket.transport.write = written.append
    taken = play.transport.sendMessage

    def echo(transport: Any, data: Any) -> None:
        taken(data, None, True)

    play.owner.transportMessage = echo  # type: ignore[method-assign, assignment]
    play.say(b"".join(frame(f"4{index}") for index in range(100)))
    assert len(written) == 1


def test_severalTransportsShareWhatTheyCan() -> None:
    """What all on one reactor share is made once."""
    first = Play(WEBSOCKET).open()
    server = ScriptedServer(webSockets=[WEBSOCKET])
    server.clock = first.clock
    second = Play(server=server).open()
    assert first.transport.webSocket.engine is second.transport.webSocket.engine
    for each in (first, second):
        each.transport.close(LEFT)
        each.settle()
        assert each.gone == [None]
