"""
Bad input from servers: whatever a client is answered, it ends with a failure that has a name, in time, and whole.

All of it happens in memory, on a clock; after each test `telling` makes sure that the client is closed and has nothing
left, neither a connection nor a timer.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from typing import Any

import pytest
from twisted.internet import error

from engineio_twisted.client import FailureType

from ..kit.client_servers import (
    DEFLATED,
    GIVES_UP_AFTER,
    OPEN,
    SWITCHING,
    UPGRADABLE,
    WEBSOCKET,
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
from ..kit.client_stories import Story, telling
from ..kit.deflated import deflate
from ..kit.wire import CLOSE, CONTINUATION, PING, TEXT

TRANSPORTS = ("polling", "websocket")
CONNECT_TIMEOUT = 20
UPGRADE_TIMEOUT = 10
LIMIT = 100_000
"""The client's own maxHttpBufferSize in tests of it."""

PORTAL = b"<!DOCTYPE html><html><head><title>Welcome to our network</title></head><body>Log in</body></html>"
"""What a captive portal answers to everything."""


def opening(**changes: Any) -> bytes:
    """An open packet with members changed or, where they are Ellipsis, left out."""
    members = json.loads(OPEN[1:]) | changes
    return b"0" + json.dumps({name: value for name, value in members.items() if value is not ...}).encode()


BAD_OPENINGS = {
    "nothing behind the digit": b"0",
    "half of it": OPEN[:30],
    "no JSON": b"0hello",
    "null": b"0null",
    "list": b"0[]",
    "text": b'0"sid"',
    "number": b"012",
    "nothing in it": b"0{}",
    "as deep as it goes": b"0" + b"[" * 50_000,
    "no sid": opening(sid=...),
    "sid null": opening(sid=None),
    "sid number": opening(sid=7),
    "sid empty": opening(sid=""),
    "sid with a line break": opening(sid="a\r\nX-Evil: 1"),
    "sid with a lone surrogate": opening(sid="\ud800"),
    "sid too long": opening(sid="s" * 5_000),
    "upgrades text": opening(upgrades="websocket"),
    "upgrades of numbers": opening(upgrades=[1]),
    "upgrades null": opening(upgrades=None),
    "maxPayload zero": opening(maxPayload=0),
    "maxPayload negative": opening(maxPayload=-1),
    "maxPayload text": opening(maxPayload="1000"),
    "maxPayload True": opening(maxPayload=True),
    "maxPayload NaN": opening(maxPayload=float("nan")),
    **{
        f"{name} {value!r:.12}": opening(**{name: value})
        for name in ("pingInterval", "pingTimeout")
        for value in (..., None, 0, -1, "25000", True, [], float("nan"), float("inf"), -float("inf"), 10**30, 1e300)
    },
    "pingInterval of many digits": OPEN.replace(b"25000", b"9" * 5_000),
}
"""Open packets that are wrong."""

NO_OPENINGS = {
    "message": b"4hello",
    "ping": b"2",
    "pong": b"3probe",
    "upgrade": b"5",
    "noop": b"6",
    "unknown type": b"9",
    "message before it": b"4hello\x1e" + OPEN,
}
"""What isn't the open packet that should be first."""


def refusal(code: object, message: object = "No") -> bytes:
    return json.dumps({"code": code, "message": message}).encode()


STATUSES: dict[str, tuple[bytes, FailureType, str]] = {
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", FailureType.HTTP, "204"),
    "206": (answer(OPEN, "206 Partial Content"), FailureType.HTTP, "206"),
    "301": (answer(b"", "301 Moved", "Location: https://example.org/x"), FailureType.REDIRECT, "example.org"),
    "302": (answer(b"", "302 Found", "Location: /login"), FailureType.REDIRECT, "/login"),
    "303 to nowhere": (answer(b"", "303 See Other"), FailureType.REDIRECT, "303"),
    "307": (answer(PORTAL, "307 Temporary Redirect", "Location: //a.b"), FailureType.REDIRECT, "//a.b"),
    "400 of the protocol": (answer(refusal(5), "400 Bad Request"), FailureType.REFUSED, "No"),
    "400 of another": (answer(PORTAL, "400 Bad Request"), FailureType.HTTP, "400"),
    "400 whose code is text": (answer(refusal("5"), "400 Bad Request"), FailureType.REFUSED, "No"),
    "400 whose message is none": (answer(refusal(5, None), "400 Bad Request"), FailureType.HTTP, "400"),
    "400 as deep as it goes": (answer(b"[" * 50_000, "400 Bad Request"), FailureType.HTTP, "400"),
    "400 that is no UTF-8": (answer(b"\xff" * 50, "400 Bad Request"), FailureType.HTTP, "400"),
    "401": (answer(b"", "401 Unauthorized", 'WWW-Authenticate: Basic realm="x"'), FailureType.AUTHENTICATION, "401"),
    "403 of the protocol": (answer(refusal(4), "403 Forbidden"), FailureType.REFUSED, "No"),
    "403 of another": (answer(PORTAL, "403 Forbidden"), FailureType.HTTP, "403"),
    "404": (answer(b"", "404 Not Found"), FailureType.HTTP, "404"),
    "407": (answer(b"", "407 Proxy Authentication Required"), FailureType.PROXY, "407"),
    "429": (answer(b"", "429 Too Many Requests", "Retry-After: 7"), FailureType.UNAVAILABLE, "429"),
    "500": (answer(b"", "500 Oops"), FailureType.HTTP, "500"),
    "502": (answer(PORTAL, "502 Bad Gateway"), FailureType.UNAVAILABLE, "502"),
    "503": (answer(b"", "503 Service Unavailable", "Retry-After: 120"), FailureType.UNAVAILABLE, "503"),
    "504": (answer(b"", "504 Gateway Timeout"), FailureType.UNAVAILABLE, "504"),
    "599": (answer(b"", "599 What"), FailureType.HTTP, "599"),
}
"""Responses with a status: to a GET, and to a request for a WebSocket."""

NO_HTTP = {
    "of SSH": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "of SMTP": b"220 mail.example.org ESMTP\r\n\r\n",
    "binary": bytes(range(256)) * 10,
    "TLS": b"\x15\x03\x01\x00\x02\x02\x46\r\n\r\n",
    "status no number": b"HTTP/1.1 OK fine\r\nContent-Length: 0\r\n\r\n",
    "length no number": b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
    "length negative": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "chunk no number": chunks(OPEN, isEnded=False) + b"zz\r\n",
    "two words in a name": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, x\r\n\r\nhello",
    "a line without end": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000,
}
"""What is no response of HTTP."""


ODD_HEADERS = {
    "no colon": b"hello",
    "no name": b": x",
    "no UTF-8": b"X-\xff: \xff",
    "a space in the name": b"X y: z",
    "a space before the colon": b"X : y",
    "folded": b" folded: x",
    "NUL": b"X\x00: \x00",
    "a line break alone": b"X: a\nY: b",
    "much of it": b"X: " + b"x" * 16_000,
}
"""Lines of heads that aren't headers, or odd ones."""


def failureOf(story: Story) -> Any:
    """Return how the client couldn't connect."""
    failure = story.result
    assert type(failure).__name__ == "ConnectionFailed", f"the result is {failure!r}"
    assert failure.description
    assert len(failure.description) < 1_000, "a description that a log can hold"
    assert failure.description.isprintable(), failure.description
    assert story.client.readyState == "closed"
    assert "open" not in story.names()
    return failure


def assertRefused(story: Story, kind: FailureType, said: str, transport: str | None) -> Any:
    failure = failureOf(story)
    assert (failure.type, failure.transport) == (kind, transport), failure
    assert re.search(said, failure.description), f"{failure.description!r} without {said!r}"
    # At once, not when the test ends.
    assert story.isQuiet, story.left()
    return failure


def ids(table: dict[str, Any]) -> list[Any]:
    return [pytest.param(value, id=name) for name, value in table.items()]


class TestHandshakeOnPolling:
    """What answers the first GET."""

    @pytest.mark.parametrize("packet", ids(BAD_OPENINGS))
    def test_openPacket(self, packet: bytes) -> None:
        """An open packet that is none, lacks something or has absurd numbers is refused, and what is wrong is said."""
        with telling(ScriptedServer([answer(packet)])) as story:
            story.connect()
            assertRefused(story, FailureType.HANDSHAKE, "open packet|sid|upgrades|ping|maxPayload", "polling")
            assert len(story.server.asked) == 1

    @pytest.mark.parametrize("payload", ids(NO_OPENINGS))
    def test_noOpenPacket(self, payload: bytes) -> None:
        """What has to come first is the open packet."""
        with telling(ScriptedServer([answer(payload)])) as story:
            story.connect()
            assert failureOf(story).type in (FailureType.HANDSHAKE, FailureType.NOT_ENGINEIO, FailureType.PARSE)

    def test_closePacket(self) -> None:
        """A server that closes the session at once has closed it."""
        for payload in (b"1", OPEN + b"\x1e1"):
            with telling(ScriptedServer([answer(payload)])) as story:
                story.connect()
                assert story.client.readyState == "closed"

    def test_twice(self) -> None:
        """A second open packet is a violation."""
        with telling(ScriptedServer([answer(OPEN + b"\x1e" + OPEN)])) as story:
            story.connect()
            assert story.client.readyState == "closed"
            assert story.client.failure.type in (FailureType.HANDSHAKE, FailureType.PARSE)

    @pytest.mark.parametrize(
        "body", ids({"page": PORTAL, "nothing": b"", "JSON": b'{"a": 1}', "binary": b"\x00\xff\xfe" * 9})
    )
    @pytest.mark.parametrize("kind", ["text/html", "text/plain; charset=UTF-8", "application/octet-stream"])
    def test_notEngineIO(self, body: bytes, kind: str) -> None:
        """The page of a captive portal, or whatever else it is, isn't of an Engine.IO server."""
        with telling(ScriptedServer([answer(body, kind=kind)])) as story:
            story.connect()
            failure = assertRefused(story, FailureType.NOT_ENGINEIO, "", "polling")
            assert failure.response.status == 200
            assert failure.response.body == body

    @pytest.mark.parametrize("row", ids(STATUSES))
    def test_status(self, row: tuple[bytes, FailureType, str]) -> None:
        """A response with another status is a failure of a kind, with the response."""
        response, kind, said = row
        with telling(ScriptedServer([response])) as story:
            story.connect()
            failure = assertRefused(story, kind, said, "polling")
            assert failure.response.status == int(response.split()[1])
            assert len(failure.response.body) <= 4096
            assert len(story.server.asked) == 1

    @pytest.mark.parametrize("data", ids(NO_HTTP))
    def test_noHTTP(self, data: bytes) -> None:
        """What speaks another protocol is refused at once."""
        with telling(ScriptedServer([data])) as story:
            story.connect()
            failure = failureOf(story)
            assert failure.type in (FailureType.NOT_ENGINEIO, FailureType.HTTP, FailureType.LOST, FailureType.TOO_LARGE)
            assert story.isQuiet, story.left()

    @pytest.mark.parametrize("line", ids(ODD_HEADERS))
    @pytest.mark.parametrize("status", ["200 OK", "503 Busy"])
    def test_oddHeader(self, status: str, line: bytes) -> None:
        """A header that is none fails nothing, or all that it belongs to, with a name."""
        server = ScriptedServer([answer(OPEN, status).replace(b"\r\n\r\n", b"\r\n" + line + b"\r\n\r\n")])
        with telling(server) as story:
            story.connect()
            if story.result is not story.client:
                assert failureOf(story).type in (FailureType.NOT_ENGINEIO, FailureType.UNAVAILABLE)

    @pytest.mark.parametrize("said", ["120", " 120 ", "Fri, 31 Dec 2038 23:59:59 GMT", "9" * 400])
    def test_retryAfter(self, said: str) -> None:
        """When to come again is said in seconds, a day at most."""
        with telling(ScriptedServer([answer(b"", "503 Busy", f"Retry-After: {said}")])) as story:
            story.connect()
            assert failureOf(story).response.retryAfter == (120 if "120" in said else 86400)

    @pytest.mark.parametrize("said", ["soon", "-5", "1e3", "٣", "0x10", "Fri, 99 Foo 99999 25:61:61", "", "1.5"])
    def test_retryAfterNever(self, said: str) -> None:
        """What isn't a time is none."""
        head = f"HTTP/1.1 503 Busy\r\nRetry-After: {said}\r\nContent-Length: 0\r\n\r\n"
        with telling(ScriptedServer([head.encode()])) as story:
            story.connect()
            assert failureOf(story).response.retryAfter is None


CUTS = {"end of stream": ends, "reset": cuts}


class TestCut:
    """Responses that end too early, at each byte."""

    @pytest.mark.parametrize("how", ids(CUTS))
    @pytest.mark.parametrize("response", [answer(OPEN), chunks(OPEN[:20], OPEN[20:])], ids=["length", "chunks"])
    def test_polling(self, how: Any, response: bytes) -> None:
        """The connection is lost in the middle of the first response."""
        for at in range(len(response)):
            with telling(ScriptedServer([how(response[:at])])) as story:
                story.connect()
                story.advance(0.01)
                assertRefused(story, FailureType.LOST, "lost|closed|cut|end", "polling")

    @pytest.mark.parametrize("how", ids(CUTS))
    def test_webSocket(self, how: Any) -> None:
        """It is lost in the middle of the response to the request for a WebSocket, or of the open packet."""
        response = WEBSOCKET.replace(b"{accept}", b"{accept}" + b" " * 20) + frame(OPEN.decode())
        for at in range(len(response)):
            if at in range(len(SWITCHING) - 10, len(SWITCHING) + 20):
                continue
            with telling(ScriptedServer(webSockets=[how(response[:at])]), transports=["websocket"]) as story:
                story.connect()
                story.advance(0.01)
                assertRefused(story, FailureType.LOST, "lost|closed|cut|end", "websocket")

    @pytest.mark.parametrize("how", ids(CUTS))
    def test_poll(self, how: Any) -> None:
        """It is lost in the middle of a poll of an open session, which ends it; no packet that wasn't whole arrives."""
        response = answer(b"4one\x1e4two")
        for at in range(len(response)):
            with telling(ScriptedServer([answer(OPEN), how(response[:at])])) as story:
                story.connect()
                story.advance(0.01)
                assertEnded(story, FailureType.LOST, "transport (close|error)")
                assert story.messages() in ([], ["one"])

    @pytest.mark.parametrize("how", ids(CUTS))
    def test_post(self, how: Any) -> None:
        """It is lost in the middle of the head of the answer to a POST; the body says nothing."""
        response = answer(b"ok")
        for at in range(len(response) - 2):
            with telling(ScriptedServer([answer(OPEN)], [how(response[:at])])) as story:
                story.connect()
                story.client.send("hello")
                story.advance(0.01)
                assertEnded(story, FailureType.LOST, "transport (close|error)")
                assert story.server.bodies() == [b"4hello"]

    @pytest.mark.parametrize("how", ids(CUTS))
    def test_frame(self, how: Any) -> None:
        """It is lost in the middle of a frame."""
        message = frame("4" + "x" * 200)
        for at in range(len(message)):
            server = ScriptedServer(webSockets=[both(WEBSOCKET + frame(OPEN.decode()), how(message[:at]))])
            with telling(server, transports=["websocket"]) as story:
                story.connect()
                story.advance(0.01)
                assertEnded(story, FailureType.LOST, "transport (close|error)")
                assert story.messages() == []

    @pytest.mark.parametrize("how", ids(CUTS))
    def test_probe(self, how: Any) -> None:
        """It is lost while a WebSocket is tried out: the session goes on on polling."""
        response = WEBSOCKET + frame("3probe")
        for at in range(len(response)):
            server = ScriptedServer([answer(UPGRADABLE)], webSockets=[how(response[:at])])
            with telling(server) as story:
                story.connect()
                story.advance(0.01)
                assertGoesOn(story)


def assertEnded(story: Story, kind: FailureType, reason: str) -> Any:
    """Make sure that an open session has ended, at once, and by what."""
    assert story.result is story.client, story.result
    assert story.client.readyState == "closed", story.happened
    failure = story.client.failure
    assert failure is not None
    assert failure.type == kind, (failure.type, failure)
    ((said, description),) = story.all("close")
    assert re.fullmatch(reason, said), (said, description)
    assert description == failure.description
    assert description.isprintable()
    assert len(description) < 1_000
    assert story.names()[-1] == "close"
    assert story.isQuiet, story.left()
    return failure


def assertGoesOn(story: Story) -> Any:
    """Make sure that the session is on polling and works, both ways, and that the upgrade has failed once."""
    client, server = story.client, story.server
    ((failure,),) = story.all("upgradeError")
    assert client.readyState == "open", story.happened
    assert client.transport.name == "polling"
    assert not client.upgrading
    assert not client.upgraded
    assert "upgrade" not in story.names()
    client.send("still")
    story.advance(0)
    assert server.bodies()[-1] == b"4still"
    before = len(story.messages())
    server.poll.say(answer(b"4here"))
    story.advance(0)
    assert story.messages()[before:] == ["here"], story.happened
    assert failure.transport == "websocket"
    assert failure.description
    assert failure.description.isprintable()
    return failure


SILENT: dict[str, Step] = {
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "half a body": answer(OPEN[:20], length=len(OPEN)),
    "a head that drips": drips(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100),
    "a body that drips": both(answer(b"", length=100), drips(OPEN)),
    "an end that never comes": chunks(OPEN, isEnded=False),
    "continue, for ever": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.5),
    "whitespace, for ever": endless(answer(b"", length=100_000), b" ", 0.5),
}
"""Servers that never come to an end."""


class TestSilence:
    """What doesn't come in time."""

    @pytest.mark.parametrize("step", ids(SILENT))
    @pytest.mark.parametrize("transport", TRANSPORTS)
    def test_handshake(self, transport: str, step: Step) -> None:
        """A handshake takes no longer than connectTimeout."""
        with telling(ScriptedServer([step], webSockets=[step]), transports=[transport]) as story:
            story.connect()
            story.advance(CONNECT_TIMEOUT - 0.01)
            assert story.result is None or transport == "websocket"
            story.advance(0.02)
            if transport == "polling" or story.result.type == FailureType.TIMEOUT:
                assertRefused(story, FailureType.TIMEOUT, "connectTimeout", transport)
            else:
                failureOf(story)

    def test_webSocketWithoutOpenPacket(self) -> None:
        """A WebSocket that opens and stays silent."""
        with telling(ScriptedServer(webSockets=[WEBSOCKET]), transports=["websocket"]) as story:
            story.connect()
            story.advance(CONNECT_TIMEOUT + 0.01)
            # The client closes it as a WebSocket is closed.
            failureOf(story)
            assert story.result.type == FailureType.TIMEOUT
            story.advance(3.1)
            assert story.isQuiet, story.left()

    @pytest.mark.parametrize("transport", TRANSPORTS)
    def test_connection(self, transport: str) -> None:
        """A connection that is never made, such as to an address that swallows packets."""
        with telling(ScriptedServer(), transports=[transport]) as story:
            story.endpoint.isReachable = False
            story.connect()
            story.advance(CONNECT_TIMEOUT + 0.01)
            assertRefused(story, FailureType.TIMEOUT, "connectTimeout", transport)

    @pytest.mark.parametrize("transport", TRANSPORTS)
    def test_noPing(self, transport: str) -> None:
        """A server that never pings is given up, whatever it sends besides."""
        socket = WEBSOCKET + frame(OPEN.decode())
        with telling(ScriptedServer([answer(OPEN)], webSockets=[socket]), transports=[transport]) as story:
            story.connect()
            story.advance(GIVES_UP_AFTER - 1)
            assert story.client.readyState == "open"
            story.advance(10)
            ((reason, description),) = story.all("close")
            assert reason == "ping timeout"
            assert "ping" in description

    @pytest.mark.parametrize("step", ids(SILENT))
    def test_post(self, step: Step) -> None:
        """A POST whose answer doesn't come ends the session, at the latest when its heartbeat is over."""
        with telling(ScriptedServer([answer(OPEN)], [step])) as story:
            story.connect()
            story.client.send("hello")
            story.advance(GIVES_UP_AFTER + 40)
            assert story.client.readyState == "closed"
            assert story.client.failure is not None

    def test_postWhilePinged(self) -> None:
        """It does so too while pings come."""
        with telling(ScriptedServer([answer(OPEN), *[b""] * 20], [b""])) as story:
            story.connect()
            story.client.send("hello")
            for _ in range(6):
                story.advance(20)
                if any(each.isPolled for each in story.server.peers):
                    story.server.poll.say(answer(b"2"))
                    story.advance(0)
            assert story.client.readyState == "closed"


def bomb(wbits: int, size: int = 50_000_000) -> bytes:
    """Much of nothing, compressed."""
    packing = zlib.compressobj(9, zlib.DEFLATED, wbits)
    return packing.compress(b"4" + b"0" * size) + packing.flush()


TOO_MUCH: dict[str, Step] = {
    "length": answer(b"4", length=10**9),
    "a length beyond numbers": answer(b"4", length=10**40),
    "just too much": answer(b"4" + b"x" * LIMIT),
    "body": endless(answer(b"4", length=10**9), b"x" * 50_000),
    "chunks": endless(chunks(b"4", isEnded=False), b"2710\r\n" + b"x" * 10_000 + b"\r\n"),
    "chunk": endless(chunks(b"4", isEnded=False) + b"ffffffff\r\n", b"x" * 50_000),
    "until the end": endless(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n4", b"x" * 50_000),
    "gzip": answer(bomb(31), "200 OK", "Content-Encoding: gzip"),
    "deflate": answer(bomb(15), "200 OK", "Content-Encoding: deflate"),
    "gzip in gzip": answer(gzip.compress(bomb(31)), "200 OK", "Content-Encoding: gzip, gzip"),
    "packets": answer(b"\x1e".join([b"4"] * LIMIT)),
}
"""Responses that are more than the client takes."""


LARGE_FRAMES: dict[str, Step] = {
    "frame": frame("4" + "x" * LIMIT),
    "binary": frame(b"x" * (LIMIT + 1)),
    "a length alone": frame(b"", length=10**9),
    "the largest": frame(b"", length=2**63 - 1),
    "beyond it": frame(b"", length=2**64 - 1),
    "fragments": endless(frame("4", isFinal=False), frame(b"x" * 10_000, CONTINUATION, isFinal=False)),
    "one that never ends": endless(frame("", length=10**9), b"x" * 50_000),
}


class TestTooMuch:
    """More than `maxHttpBufferSize`."""

    @pytest.mark.parametrize("step", ids(TOO_MUCH))
    def test_handshake(self, step: Step) -> None:
        """It ends the handshake long before all is read."""
        with telling(ScriptedServer([step]), maxHttpBufferSize=LIMIT) as story:
            story.connect()
            story.advance(1)
            failure = failureOf(story)
            assert failure.type in (FailureType.TOO_LARGE, FailureType.NOT_ENGINEIO), failure
            assert story.isQuiet, story.left()
            assert story.server.said < 4 * LIMIT

    @pytest.mark.parametrize("step", ids(TOO_MUCH))
    def test_poll(self, step: Step) -> None:
        """It ends an open session."""
        with telling(ScriptedServer([answer(OPEN), step]), maxHttpBufferSize=LIMIT) as story:
            story.connect()
            story.advance(1)
            assert story.client.readyState == "closed"
            failure = story.client.failure
            assert failure.type in (FailureType.TOO_LARGE, FailureType.NOT_ENGINEIO), failure
            assert story.isQuiet, story.left()
            assert story.server.said < 4 * LIMIT

    @pytest.mark.parametrize("step", ids({name: step for name, step in TOO_MUCH.items() if name != "gzip in gzip"}))
    def test_post(self, step: Step) -> None:
        """The answer to a POST says nothing, and is short."""
        with telling(ScriptedServer([answer(OPEN)], [step]), maxHttpBufferSize=LIMIT) as story:
            story.connect()
            story.client.send("hello")
            story.advance(1)
            assert story.server.said < 4 * LIMIT
            assert story.client.readyState == "closed"
            assert story.isQuiet, story.left()

    @pytest.mark.parametrize("step", ids(TOO_MUCH))
    def test_refusal(self, step: Step) -> None:
        """The body of a refusal is read as far as it says something."""

        def refusing(data: bytes) -> bytes:
            return data.replace(b"200 OK", b"502 Bad")

        def does(peer: Any) -> None:
            say = peer.say
            peer.say = lambda data: say(refusing(data))
            peer.does(step)

        with telling(ScriptedServer([does]), maxHttpBufferSize=LIMIT) as story:
            story.connect()
            # What is long in coming tells no more.
            story.advance(3.1)
            failure = failureOf(story)
            assert failure.type == FailureType.UNAVAILABLE, failure
            assert len(failure.response.body) <= 4096
            assert story.isQuiet, story.left()
            assert story.server.said < 4 * LIMIT

    @pytest.mark.parametrize("piece", [b"X: y\r\n", b"x" * 1000], ids=["lines", "line"])
    @pytest.mark.parametrize("transport", TRANSPORTS)
    def test_head(self, transport: str, piece: bytes) -> None:
        """Headers without end."""
        step = endless(b"HTTP/1.1 200 OK\r\nY: z", piece)
        with telling(ScriptedServer([step], webSockets=[step]), transports=[transport]) as story:
            story.connect()
            story.advance(CONNECT_TIMEOUT + 1)
            failureOf(story)
            assert story.server.said < 1_000_000
            assert story.isQuiet, story.left()

    @pytest.mark.parametrize("step", ids(LARGE_FRAMES))
    def test_message(self, step: Step) -> None:
        """Messages over the limit on WebSocket."""
        opened = WEBSOCKET + frame(OPEN.decode())
        server = ScriptedServer(webSockets=[both(opened, step)])
        with telling(server, transports=["websocket"], maxHttpBufferSize=LIMIT) as story:
            story.connect()
            story.advance(10)
            assert story.client.readyState == "closed"
            assert story.client.failure.type in (FailureType.TOO_LARGE, FailureType.PARSE)
            assert story.messages() == []
            assert story.isQuiet, story.left()

    def test_emptyFragments(self) -> None:
        """Fragments with nothing in them are nothing that grows, and no message that arrives."""
        step = endless(frame("4", isFinal=False), frame(b"", CONTINUATION, isFinal=False) * 100, 0.1)
        with telling(onWebSocket(step), transports=["websocket"], maxHttpBufferSize=LIMIT) as story:
            story.connect()
            story.advance(GIVES_UP_AFTER - 1)
            assert story.client.heldBytes < 1_000
            story.advance(60)
            assert story.all("close")[0][0] == "ping timeout"

    @pytest.mark.parametrize("size", [LIMIT, 50_000_000])
    def test_deflated(self, size: int) -> None:
        """Zip bombs are inflated as far as the limit, and no further."""
        bombs = frame(deflate(b"4" + b"0" * size), TEXT, reserved=4)
        server = ScriptedServer(webSockets=[DEFLATED + frame(OPEN.decode()) + bombs])
        with telling(server, transports=["websocket"], maxHttpBufferSize=LIMIT, perMessageDeflate=True) as story:
            story.connect()
            story.advance(4)
            assertEnded(story, FailureType.TOO_LARGE, "transport error")

    def test_notTooMuch(self) -> None:
        """What is just within the limit is delivered, on both transports, compressed or not."""
        text = "x" * (LIMIT - 1)
        with telling(ScriptedServer([answer(OPEN), answer(b"4" + text.encode())]), maxHttpBufferSize=LIMIT) as story:
            story.connect()
            assert story.messages() == [text]
        for packet in (frame("4" + text), frame(deflate(b"4" + text.encode()), TEXT, reserved=4)):
            server = ScriptedServer(webSockets=[DEFLATED + frame(OPEN.decode()) + packet])
            with telling(server, transports=["websocket"], maxHttpBufferSize=LIMIT, perMessageDeflate=True) as story:
                story.connect()
                assert story.messages() == [text]


BAD_SWITCHES: dict[str, bytes] = {
    "no key": WEBSOCKET.replace(b"Sec-WebSocket-Accept: {accept}\r\n", b""),
    "another key": WEBSOCKET.replace(b"{accept}", b"AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    "two keys": WEBSOCKET.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"),
    "no upgrade": WEBSOCKET.replace(b"Upgrade: websocket\r\n", b""),
    "another upgrade": WEBSOCKET.replace(b"Upgrade: websocket", b"Upgrade: h2c"),
    "no connection": WEBSOCKET.replace(b"Connection: Upgrade\r\n", b""),
    "an extension": DEFLATED,
    "another extension": DEFLATED.replace(b"permessage-deflate", b"x-evil"),
    "a subprotocol": SWITCHING + b"Sec-WebSocket-Protocol: mine\r\n\r\n",
    "HTTP/1.0": WEBSOCKET.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "no status": WEBSOCKET.replace(b"101", b"ten"),
    "a space in the key": WEBSOCKET.replace(b"{accept}", b"{acc ept}"),
    **NO_HTTP,
}
"""Responses to a request for a WebSocket that don't open one."""

BAD_FRAMES: dict[str, tuple[bytes, FailureType, str]] = {
    "masked": (frame("4x", isMasked=True), FailureType.PARSE, "mask"),
    "reserved bits": (frame("4x", reserved=4), FailureType.PARSE, "RSV"),
    "opcode 3": (frame("4x", 3), FailureType.PARSE, "opcode"),
    "opcode 15": (frame("4x", 15), FailureType.PARSE, "opcode"),
    "a continuation of nothing": (frame("4x", CONTINUATION), FailureType.PARSE, ""),
    "text within text": (frame("4x", isFinal=False) + frame("4y"), FailureType.PARSE, ""),
    "a ping in pieces": (frame(b"", PING, isFinal=False), FailureType.PARSE, ""),
    "a ping too long": (frame(b"x" * 126, PING), FailureType.PARSE, ""),
    "a length longer than needed": (b"\x81\x7e\x00\x024x", FailureType.PARSE, "length"),
    "text that is no UTF-8": (frame(b"4\xff\xfe", TEXT), FailureType.PARSE, "UTF-8"),
    "half a letter": (frame(b"4\xe2\x82", TEXT), FailureType.PARSE, "UTF-8"),
    "a surrogate": (frame(b"4\xed\xa0\x80", TEXT), FailureType.PARSE, "UTF-8"),
    "a close frame of one byte": (frame(b"\x03", CLOSE), FailureType.PARSE, ""),
    "a close frame with a code that can't be": (frame(b"\x03\xed", CLOSE), FailureType.PARSE, ""),
    "a reason that is no UTF-8": (frame(b"\x03\xe8\xff", CLOSE), FailureType.PARSE, ""),
    "no type": (frame(""), FailureType.PARSE, ""),
    "type 7": (frame("7x"), FailureType.PARSE, "7"),
    "type x": (frame("x" * 5_000), FailureType.PARSE, "x"),
    "type ٤": (frame("٤hello"), FailureType.PARSE, ""),
    "a line break": (frame("\r\n4x"), FailureType.PARSE, ""),
    "HTTP": (b"HTTP/1.1 200 OK\r\n\r\n", FailureType.PARSE, ""),
}
"""What a server may not send on a WebSocket."""

WRONG_PACKETS = {
    "open": OPEN,
    "another open": OPEN.replace(b'"S"', b'"T"'),
    "pong": b"3",
    "pong of a probe": b"3probe",
}
"""Packets that a server may send, but not now."""


def onWebSocket(*steps: Step, opening: bytes = OPEN, head: bytes = WEBSOCKET) -> ScriptedServer:
    return ScriptedServer(webSockets=[both(head + frame(opening.decode()), *steps)])


class TestHandshakeOnWebSocket:
    """What answers a request for a WebSocket, and the open packet on it."""

    @pytest.mark.parametrize("row", ids(STATUSES))
    def test_status(self, row: tuple[bytes, FailureType, str]) -> None:
        """A response that isn't 101 is a failure of the same kind as on polling."""
        response, kind, said = row
        with telling(ScriptedServer(webSockets=[response]), transports=["websocket"]) as story:
            story.connect()
            failure = assertRefused(story, kind, said, "websocket")
            assert failure.response.status == int(response.split()[1])
            assert len(failure.response.body) <= 4096

    def test_page(self) -> None:
        """A response with the status 200 isn't of an Engine.IO server."""
        with telling(ScriptedServer(webSockets=[answer(PORTAL)]), transports=["websocket"]) as story:
            story.connect()
            failure = assertRefused(story, FailureType.NOT_ENGINEIO, "", "websocket")
            assert failure.response.status == 200

    @pytest.mark.parametrize("head", ids(BAD_SWITCHES))
    def test_switching(self, head: bytes) -> None:
        """A 101 that is none opens no WebSocket, whatever comes behind it."""
        server = ScriptedServer(webSockets=[head + frame(OPEN.decode())])
        with telling(server, transports=["websocket"]) as story:
            story.connect()
            story.advance(4)
            failure = failureOf(story)
            assert failure.type in (FailureType.HANDSHAKE, FailureType.NOT_ENGINEIO, FailureType.HTTP), failure.type
            assert story.isQuiet, story.left()

    @pytest.mark.parametrize("line", ids(ODD_HEADERS))
    def test_oddHeader(self, line: bytes) -> None:
        """A header that says nothing is no reason to fail."""
        head = WEBSOCKET[:-2] + line + b"\r\n\r\n"
        with telling(ScriptedServer(webSockets=[head + frame(OPEN.decode())]), transports=["websocket"]) as story:
            story.connect()
            assert story.result is story.client

    @pytest.mark.parametrize("packet", ids(BAD_OPENINGS))
    def test_openPacket(self, packet: bytes) -> None:
        """An open packet that is wrong, as on polling."""
        server = onWebSocket(opening=packet)
        with telling(server, transports=["websocket"]) as story:
            story.connect()
            story.advance(4)
            assertRefused(story, FailureType.HANDSHAKE, "open packet|sid|upgrades|ping|maxPayload", "websocket")

    @pytest.mark.parametrize("payload", ids(NO_OPENINGS | {"close": b"1"}))
    def test_noOpenPacket(self, payload: bytes) -> None:
        """What has to come first is the open packet."""
        with telling(onWebSocket(opening=payload), transports=["websocket"]) as story:
            story.connect()
            story.advance(4)
            kinds = (FailureType.HANDSHAKE, FailureType.PARSE, FailureType.CLOSED)
            assert failureOf(story).type in kinds

    @pytest.mark.parametrize("row", ids(BAD_FRAMES))
    def test_frame(self, row: tuple[bytes, FailureType, str]) -> None:
        """Frames that are none, in place of the open packet."""
        with telling(ScriptedServer(webSockets=[WEBSOCKET + row[0]]), transports=["websocket"]) as story:
            story.connect()
            story.advance(4)
            failure = failureOf(story)
            assert failure.type in (FailureType.PARSE, FailureType.HANDSHAKE), failure.type
            assert story.isQuiet, story.left()

    @pytest.mark.parametrize("code", [b"", b"\x03\xe8", b"\x03\xe9going", b"\x03\xf0no", b"\x0f\xa0mine"])
    def test_closeFrame(self, code: bytes) -> None:
        """A WebSocket that is closed at once."""
        server = ScriptedServer(webSockets=[WEBSOCKET + frame(code, CLOSE)])
        with telling(server, transports=["websocket"]) as story:
            story.connect()
            story.advance(4)
            failure = failureOf(story)
            assert failure.type in (FailureType.LOST, FailureType.CLOSED)
            assert "close frame" in failure.description
            assert story.isQuiet, story.left()


PAYLOADS: dict[str, tuple[bytes, FailureType]] = {
    "no type": (b"4one\x1e", FailureType.PARSE),
    "two separators": (b"4one\x1e\x1e4two", FailureType.PARSE),
    "type 7": (b"4one\x1e7\x1e4two", FailureType.PARSE),
    "no base64": (b"4one\x1eb!!!\x1e4two", FailureType.PARSE),
    "no UTF-8": (b"4\xff\xfe\x1e4two", FailureType.PARSE),
    "page": (PORTAL, FailureType.NOT_ENGINEIO),
    "nothing": (b"", FailureType.PARSE),
    "JSON": (b'{"a":1}', FailureType.PARSE),
    "a payload of revision 3": (b"96:0hello", FailureType.PARSE),
}


class TestOpenOnPolling:
    """What comes in an open session on polling."""

    @pytest.mark.parametrize("row", ids(PAYLOADS))
    def test_payload(self, row: tuple[bytes, FailureType]) -> None:
        """Payloads that are none end the session; what came before the fault is delivered, nothing behind it."""
        payload, kind = row
        typed = "text/html" if payload is PORTAL else "text/plain; charset=UTF-8"
        with telling(ScriptedServer([answer(OPEN), answer(payload, kind=typed)])) as story:
            story.connect()
            failure = story.client.failure
            assert story.client.readyState == "closed"
            assert failure.type in (kind, FailureType.NOT_ENGINEIO), failure.type
            assert story.messages() == (["one"] if payload.startswith(b"4one") else [])
            assert story.all("close")[0][1] == failure.description
            assert story.isQuiet, story.left()

    @pytest.mark.parametrize("packet", ids(WRONG_PACKETS))
    def test_packet(self, packet: bytes) -> None:
        """Packets that may not come now end the session."""
        with telling(ScriptedServer([answer(OPEN), answer(packet + b"\x1e4evil")])) as story:
            story.connect()
            story.advance(4)
            assert story.client.readyState == "closed", story.happened
            assert story.client.failure.type == FailureType.PARSE
            assert story.messages() == []
            assert story.isQuiet, story.left()

    def test_closePacket(self) -> None:
        """A close packet closes the session, and what comes behind it isn't delivered."""
        with telling(ScriptedServer([answer(OPEN), answer(b"4one\x1e1\x1e4two")])) as story:
            story.connect()
            assertEnded(story, FailureType.CLOSED, "transport close")
            assert story.messages() == ["one"]
            assert story.server.bodies() == []

    @pytest.mark.parametrize("row", ids(STATUSES))
    @pytest.mark.parametrize("by", ["GET", "POST"])
    def test_status(self, by: str, row: tuple[bytes, FailureType, str]) -> None:
        """A response with another status, to a poll or a POST, ends the session."""
        response, kind, said = row
        server = ScriptedServer([answer(OPEN), *([response] if by == "GET" else [])], [response])
        with telling(server) as story:
            story.connect()
            if by == "POST":
                story.client.send("hello")
                story.advance(0)
            failure = assertEnded(story, kind, "transport error")
            assert re.search(said, failure.description)
            assert failure.response.status == int(response.split()[1])

    @pytest.mark.parametrize("data", ids(NO_HTTP))
    @pytest.mark.parametrize("by", ["GET", "POST"])
    def test_noHTTP(self, by: str, data: bytes) -> None:
        """What is no response ends it too."""
        server = ScriptedServer([answer(OPEN), *([data] if by == "GET" else [])], [data])
        with telling(server) as story:
            story.connect()
            if by == "POST":
                story.client.send("hello")
                story.advance(0)
            assert story.client.readyState == "closed"
            assert story.client.failure is not None
            assert story.isQuiet, story.left()

    @pytest.mark.parametrize("body", ids({"page": PORTAL, "no UTF-8": b"\xff\xfe", "packets": b"4evil\x1e1"}))
    def test_answerToPost(self, body: bytes) -> None:
        """An answer to a POST says nothing: it is never taken for packets, and only a web page is a fault."""
        kind = "text/html" if body is PORTAL else "text/plain"
        with telling(ScriptedServer([answer(OPEN)], [answer(body, kind=kind)])) as story:
            story.connect()
            story.client.send("hello")
            story.advance(0)
            assert story.messages() == []
            if body is PORTAL:
                assert story.client.readyState == "closed"
                assert story.client.failure.type == FailureType.NOT_ENGINEIO

    def test_refusedConnection(self) -> None:
        """A server that vanished: the next poll finds nobody."""
        with telling(ScriptedServer([answer(OPEN)])) as story:
            story.connect()
            story.endpoint.failure = error.ConnectionRefusedError()
            story.do(both(answer(b"4last", "200 OK", "Connection: close"), ends()))
            story.advance(0.1)
            assert story.messages() == ["last"]
            assertEnded(story, FailureType.CONNECT, "transport error")


class TestOpenOnWebSocket:
    """What comes in an open session on WebSocket."""

    @pytest.mark.parametrize("row", ids(BAD_FRAMES))
    def test_frame(self, row: tuple[bytes, FailureType, str]) -> None:
        """Frames that are none end the session; what came before them is delivered, nothing behind them."""
        data, kind, said = row
        with telling(onWebSocket(frame("4one") + data + frame("4two")), transports=["websocket"]) as story:
            story.connect()
            story.advance(4)
            failure = assertEnded(story, kind, "parse error|transport error")
            assert story.messages() == ["one"]
            assert re.search(said, failure.description), failure.description

    @pytest.mark.parametrize("packet", ids(WRONG_PACKETS))
    def test_packet(self, packet: bytes) -> None:
        """Packets that may not come now end the session."""
        with telling(onWebSocket(frame(packet.decode()) + frame("4evil")), transports=["websocket"]) as story:
            story.connect()
            story.advance(4)
            assert story.client.readyState == "closed", story.happened
            assert story.client.failure.type == FailureType.PARSE
            assert story.messages() == []
            assert story.isQuiet, story.left()

    @pytest.mark.parametrize("deaf", [False, True], ids=["", "deaf"])
    @pytest.mark.parametrize("data", [frame(b"\x03\xe8", CLOSE), frame(b"", CLOSE), frame("1")])
    def test_closed(self, data: bytes, deaf: bool) -> None:
        """A close frame, or a close packet, closes the session, whether the server waits for an answer or not."""
        server = onWebSocket(frame("4one") + data + frame("4two"))
        server.closes = not deaf
        with telling(server, transports=["websocket"]) as story:
            story.connect()
            assert story.messages() == ["one"]
            ((reason, _),) = story.all("close")
            assert reason == "transport close"
            story.advance(4)
            assert story.isQuiet, story.left()

    @pytest.mark.parametrize("bad", [b"no deflate at all", b"", b"\xff" * 40])
    def test_badlyDeflated(self, bad: bytes) -> None:
        """What says that it is compressed, and isn't."""
        server = onWebSocket(frame(bad, TEXT, reserved=4), head=DEFLATED)
        with telling(server, transports=["websocket"], perMessageDeflate=True) as story:
            story.connect()
            story.advance(4)
            assertEnded(story, FailureType.PARSE, "parse error|transport error")


BAD_PROBES: dict[str, Step] = {
    "another ping": WEBSOCKET + frame("2probe"),
    "a pong without it": WEBSOCKET + frame("3"),
    "another pong": WEBSOCKET + frame("3prob"),
    "more": WEBSOCKET + frame("3probes"),
    "binary": WEBSOCKET + frame(b"3probe"),
    "message": WEBSOCKET + frame("4evil"),
    "open packet": WEBSOCKET + frame(OPEN.decode()),
    "close packet": WEBSOCKET + frame("1"),
    "upgrade": WEBSOCKET + frame("5"),
    "close frame": WEBSOCKET + frame(b"\x03\xe8", CLOSE),
    "reset": cuts(WEBSOCKET),
    "end": ends(WEBSOCKET),
    **{f"frame: {name}": WEBSOCKET + row[0] for name, row in BAD_FRAMES.items()},
    **{f"status: {name}": row[0] for name, row in STATUSES.items()},
    **{f"head: {name}": head for name, head in BAD_SWITCHES.items()},
    "200": answer(PORTAL),
}
"""What isn't the answer to the ping with which a WebSocket is tried out."""


class TestProbe:
    """What comes while a WebSocket is tried out: the session goes on on polling."""

    @pytest.mark.parametrize("step", ids(BAD_PROBES))
    def test_wrong(self, step: Step) -> None:
        """Another answer than the pong fails the upgrade, and nothing else."""
        with telling(ScriptedServer([answer(UPGRADABLE)], webSockets=[step])) as story:
            story.connect()
            story.advance(4)
            assertGoesOn(story)
            assert "evil" not in story.messages()
            assert b"5" not in story.server.texts()

    @pytest.mark.parametrize(
        "step", ids({**SILENT, "after the 101": WEBSOCKET, "noops": endless(WEBSOCKET, frame("6"), 0.1)})
    )
    def test_silent(self, step: Step) -> None:
        """A server that doesn't come to an end has `upgradeTimeout` for it."""
        with telling(ScriptedServer([answer(UPGRADABLE)], webSockets=[step])) as story:
            story.connect()
            story.advance(UPGRADE_TIMEOUT + 4)
            assertGoesOn(story)

    def test_connection(self) -> None:
        """A WebSocket whose connection is never made."""
        with telling(ScriptedServer([answer(UPGRADABLE)])) as story:
            reach = story.client.on("handshake", lambda _: setattr(story.endpoint, "isReachable", False))
            assert reach
            story.connect()
            story.endpoint.isReachable = True
            story.advance(UPGRADE_TIMEOUT + 0.1)
            assert story.all("upgradeError") != []
            assert story.client.readyState == "open"

    def test_noNoop(self) -> None:
        """A server that answers the probe but never the poll: it is up to the client to give the upgrade up."""
        server = ScriptedServer([answer(UPGRADABLE)], webSockets=[WEBSOCKET], frames={b"2probe": frame("3probe")})
        with telling(server) as story:
            story.connect()
            assert story.server.texts() == [b"2probe"]
            story.client.send("waits")
            story.advance(UPGRADE_TIMEOUT + 4)
            assert b"5" not in server.texts()
            assert server.bodies() == [b"4waits"]
            assertGoesOn(story)

    @pytest.mark.parametrize("step", [cuts(), ends(), frame("4evil"), frame("1"), frame(b"\xff", 3)])
    def test_whilePausing(self, step: Step) -> None:
        """The WebSocket fails after the pong, while the poll is awaited."""
        server = ScriptedServer([answer(UPGRADABLE)], webSockets=[WEBSOCKET], frames={b"2probe": frame("3probe")})
        with telling(server) as story:
            story.connect()
            story.client.send("waits")
            story.advance(0)
            story.do(step)
            story.advance(4)
            assert b"5" not in server.texts()
            assert server.bodies() == [b"4waits"]
            assertGoesOn(story)

    @pytest.mark.parametrize(
        ("last", "kind"),
        [
            (answer(b"", "502 Bad"), FailureType.UNAVAILABLE),
            (answer(b"9"), FailureType.PARSE),
            (cuts(), FailureType.LOST),
            (answer(b"1"), FailureType.CLOSED),
        ],
    )
    def test_pollWhilePausing(self, last: Step, kind: FailureType) -> None:
        """The session ends by polling while it moves: the WebSocket goes with it."""
        server = ScriptedServer([answer(UPGRADABLE)], webSockets=[WEBSOCKET], frames={b"2probe": frame("3probe")})
        with telling(server) as story:
            story.connect()
            server.poll.does(last)
            story.advance(4)
            assertEnded(story, kind, "transport (close|error)|parse error")
            assert b"5" not in server.texts()

    def test_poll(self) -> None:
        """What comes in the last poll is delivered before what comes on the WebSocket."""
        frames: dict[bytes, Step] = {b"2probe": frame("3probe"), b"5": frame("4three")}
        server = ScriptedServer([answer(UPGRADABLE)], webSockets=[WEBSOCKET], frames=frames)
        with telling(server) as story:
            story.connect()
            server.poll.say(answer(b"4one\x1e4two\x1e6"))
            story.advance(0)
            assert story.messages() == ["one", "two", "three"]
            assert "upgrade" in story.names()


def revision3(*packets: bytes) -> bytes:
    """A payload of revision 3."""
    return b"".join(b"%d:%b" % (len(each.decode()), each) for each in packets)


OLD_PAYLOADS: dict[str, tuple[bytes, str]] = {
    "a length too long": (b"4:4one99:4two", "text/plain"),
    "no length": (b"4:4one:4two", "text/plain"),
    "a length that is none": (b"4:4onex:4two", "text/plain"),
    "a length of many digits": (b"4:4one" + b"9" * 5_000 + b":4two", "text/plain"),
    "a length that is negative": (b"4:4one-1:4two", "text/plain"),
    "of revision 4": (b"4one\x1e4two", "text/plain"),
    "binary, cut": (b"\x00\x04\xff4one\x01\x09\xff\x04", "application/octet-stream"),
    "binary, without a length": (b"\x00\x04\xff4one\x01\xff\x04", "application/octet-stream"),
    "binary, an endless length": (b"\x00\x04\xff4one\x01" + b"\x09" * 5_000, "application/octet-stream"),
    "binary, of another kind": (b"\x00\x04\xff4one\x07\x01\xff\x04", "application/octet-stream"),
}
"""Payloads of revision 3 that are none, some of them behind a message."""


class TestRevision3:
    """An old server."""

    @pytest.mark.parametrize("row", ids(OLD_PAYLOADS))
    def test_payload(self, row: tuple[bytes, str]) -> None:
        """A payload that is none ends the session."""
        server = ScriptedServer([answer(revision3(OPEN)), answer(row[0], kind=row[1])])
        with telling(server, EIO=3) as story:
            story.connect()
            story.advance(4)
            assert story.client.readyState == "closed", story.happened
            assert story.client.failure.type == FailureType.PARSE
            assert story.messages() in ([], ["one"])
            assert story.isQuiet, story.left()

    @pytest.mark.parametrize("packet", ids(BAD_OPENINGS))
    def test_openPacket(self, packet: bytes) -> None:
        """An open packet that is wrong, as in revision 4."""
        with telling(ScriptedServer([answer(revision3(packet))]), EIO=3) as story:
            story.connect()
            assertRefused(story, FailureType.HANDSHAKE, "open packet|sid|upgrades|ping|maxPayload", "polling")

    @pytest.mark.parametrize("transport", TRANSPORTS)
    def test_noPong(self, transport: str) -> None:
        """A server that answers no ping is given up."""
        socket = WEBSOCKET + frame(OPEN.decode())
        with telling(
            ScriptedServer([answer(revision3(OPEN))], webSockets=[socket]), transports=[transport], EIO=3
        ) as story:
            story.connect()
            story.advance(GIVES_UP_AFTER - 1)
            assert story.client.readyState == "open"
            assert [*story.server.texts(), *story.server.bodies()] in ([b"2"], [b"1:2"])
            story.advance(10)
            assert story.all("close")[0][0] == "ping timeout"
            assert story.client.failure.type == FailureType.TIMEOUT

    @pytest.mark.parametrize("transport", TRANSPORTS)
    def test_pings(self, transport: str) -> None:
        """It is the client that pings: a server that does is none of that revision."""
        socket = WEBSOCKET + frame(OPEN.decode()) + frame("2")
        server = ScriptedServer([answer(revision3(OPEN)), answer(revision3(b"2"))], webSockets=[socket])
        with telling(server, transports=[transport], EIO=3) as story:
            story.connect()
            story.advance(4)
            assert story.client.readyState == "closed"
            assertEnded(story, FailureType.PARSE, "transport error")
            assert story.all("close")[0][1] == "invalid heartbeat direction"


class TestFloods:
    """A server that sends without end what costs it little."""

    def test_pingsOnPolling(self) -> None:
        """Many pings in one payload are answered at most once each, and nothing grows."""
        with telling(ScriptedServer([answer(OPEN), answer(b"\x1e".join([b"2"] * 20_000))])) as story:
            story.connect()
            story.advance(1)
            assert len(story.client.writeBuffer) < 200
            pongs = b"\x1e".join(story.server.bodies()).split(b"\x1e")
            assert set(pongs) == {b"3"}
            assert len(pongs) <= 20_000

    def test_pingsOnWebSocket(self) -> None:
        """A server that pings and doesn't read makes nothing grow."""
        with telling(onWebSocket(), transports=["websocket"]) as story:
            story.connect()
            for each in story.network.connections:
                each.toClient.isHeld = True
            for _ in range(200):
                story.say(frame("2") * 1_000)
            client = story.client
            assert len(client.writeBuffer) < 200
            assert client.bufferedAmount < 1_000_000

    def test_webSocketPings(self) -> None:
        """Nor do the pings of WebSocket."""
        with telling(onWebSocket(), transports=["websocket"]) as story:
            story.connect()
            for each in story.network.connections:
                each.toClient.isHeld = True
            for _ in range(100):
                story.say(frame(b"x" * 100, PING) * 1_000)
            assert story.client.bufferedAmount < 1_000_000

    def test_noops(self) -> None:
        """A server that answers each poll at once with a noop is polled again, but not in the same turn for ever."""
        server = ScriptedServer([answer(OPEN)])
        server.gets.extend([answer(b"6")] * 500)
        with telling(server) as story:
            story.connect()
            story.advance(1)
            assert story.client.readyState == "open"
            assert len([each for each in server.asked if each.method == "GET"]) == 502

    def test_messages(self) -> None:
        """While receiving is paused, a server that sends on and on is held back."""
        with telling(onWebSocket(), transports=["websocket"]) as story:
            story.connect()
            story.client.pauseReceiving()
            for _ in range(100):
                story.say(frame(b"x" * 10_000))
            assert story.client.heldBytes < 200_000
            assert story.messages() == []


CLOSINGS: dict[str, Step] = {
    "silent": b"",
    "refuses": answer(refusal(1), "400 Bad Request"),
    "fails": answer(b"", "502 Bad Gateway"),
    "page": answer(PORTAL, kind="text/html"),
    "endless": endless(answer(b"4", length=10**9), b"x" * 10_000, 0.5),
    "drips": drips(answer(b"ok")),
    "cut": cuts(b"HTTP/1.1 200"),
    "end": ends(),
    "no HTTP": b"SSH-2.0\r\n\r\n",
    "ok": answer(b"ok"),
}


class TestClosing:
    """What a server does while the client closes."""

    @pytest.mark.parametrize("step", ids(CLOSINGS))
    @pytest.mark.parametrize("hasMore", [False, True], ids=["", "with a message"])
    def test_polling(self, step: Step, hasMore: bool) -> None:
        """The session closes, in 30 seconds at most, whatever the server answers to the last POST."""
        with telling(ScriptedServer([answer(OPEN)], [step])) as story:
            story.connect()
            if hasMore:
                story.client.send("last")
            over: list[object] = []
            story.client.close().addBoth(over.append)
            story.advance(0)
            assert story.server.bodies()[0] == (b"4last" if hasMore else b"1")
            story.advance(33)
            assert over == [None]
            assert len(story.all("close")) == 1
            assert story.isQuiet, story.left()

    @pytest.mark.parametrize("step", ids({"silent": b"", "cut": cuts(), "end": ends(), "bad": frame("x", 7)}))
    @pytest.mark.parametrize("isHeld", [False, True], ids=["", "doesn't read"])
    def test_webSocket(self, step: Step, isHeld: bool) -> None:
        """So it does on WebSocket."""
        server = onWebSocket()
        server.closes = False
        with telling(server, transports=["websocket"]) as story:
            story.connect()
            for each in story.network.connections if isHeld else ():
                each.toClient.isHeld = True
            story.client.send(b"x" * 1_000_000)
            over: list[object] = []
            story.client.close().addBoth(over.append)
            story.do(step)
            story.advance(36)
            assert over == [None]
            assert len(story.all("close")) == 1
            assert story.isQuiet, story.left()

    @pytest.mark.parametrize("transport", TRANSPORTS)
    def test_duringHandshake(self, transport: str) -> None:
        """A client that is closed while it connects."""
        with telling(ScriptedServer(), transports=[transport]) as story:
            story.connect()
            story.client.close()
            story.advance(4)
            assert failureOf(story).type == FailureType.CLOSED
            assert story.isQuiet, story.left()

    @pytest.mark.parametrize("step", ids({"silent": b"", "101": WEBSOCKET, "no": answer(b"", "404 No")}))
    def test_duringProbe(self, step: Step) -> None:
        """A client that is closed while it tries a WebSocket out closes in time."""
        with telling(ScriptedServer([answer(UPGRADABLE)], webSockets=[step])) as story:
            story.connect()
            story.client.send("last")
            over: list[object] = []
            story.client.close().addBoth(over.append)
            story.advance(33)
            assert over == [None]
            assert b"4last" in b"\x1e".join(story.server.bodies())
            assert story.isQuiet, story.left()
