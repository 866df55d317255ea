"""Clients in other languages, as their sources have them: sloppier than the reference's own (docs/clients.md)."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import pytest
import pytest_twisted

from ..kit.engines import ENGINES
from ..kit.packets import inLines
from ..kit.wire import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    SEPARATOR,
    Arena,
    Frame,
    Response,
    Wire,
    arena,
    eventually,
    http,
    makeFrame,
    pause,
    target,
    upgrade,
)

Serve = Callable[..., AbstractAsyncContextManager[Arena]]

KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
DATA = bytes(range(256)) * 2

revisions = pytest.mark.parametrize("revision", [4, 3], ids=["EIO=4", "EIO=3"])
engines = pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.__name__)


@pytest.fixture(params=["own site", "stock site"])
def anySite(request: pytest.FixtureRequest, serve: Any, atResource: Any) -> Serve:
    """Start a server as `hostile` does, on a site of this package or of twisted.web's own."""
    return partial(arena, serve if request.param == "own site" else atResource)


def sidOf(response: Response) -> str:
    """The id in the answer to a request that opens a session."""
    assert response.status == 200, response
    text = response.body.decode()
    # Some look for just this, in the first piece of the body that they read.
    assert '"sid":"' in text[:200]
    return str(json.loads(text[text.index("{") :])["sid"])


class Microcontroller:
    """
    What Links2004's client for Arduino and ESP does: one connection, on which it opens on polling and upgrades.

    It never polls again. The header and the payload of a frame are written apart, with a mask of zeros.
    """

    def __init__(self, here: Arena, wire: Wire, revision: int, probes: bool) -> None:
        self._here = here
        self._wire = wire
        self.pings = 0
        self._url = f"/engine.io/?EIO={revision}"
        self._probes = probes

    def _ask(self, query: str, lines: list[str]) -> None:
        lines = [
            f"GET {self._url}{query} HTTP/1.1",
            f"Host: 127.0.0.1:{self._here.port}",
            *lines,
            "Origin: file://",
            "User-Agent: arduino-WebSocket-Client",
        ]
        self._wire.send("\r\n".join([*lines, "", ""]).encode())

    async def open(self) -> str:
        self._ask("&transport=polling", ["Connection: keep-alive"])
        return sidOf(await self._wire.response())

    async def upgrade(self, sid: str) -> None:
        lines = [
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {KEY}",
            "Sec-WebSocket-Protocol: arduino",
        ]
        self._ask(f"&transport=websocket&sid={sid}", lines)
        response = await self._wire.response()
        assert response.status == 101
        assert response.headers["connection"].lower() == "upgrade"
        assert response.headers["upgrade"].lower() == "websocket"
        assert response.headers["sec-websocket-accept"] == ACCEPT
        if self._probes:
            await self.say("2probe")
        await self.say("5")
        if self._probes:
            assert await self.text() == "3probe"

    async def say(self, packet: str, opcode: int = 1) -> None:
        data = packet.encode()
        assert len(data) < 126
        self._wire.send(bytes([0x80 | opcode, 0x80 | len(data), 0, 0, 0, 0]))
        await pause(0)
        self._wire.send(data)

    async def frame(self) -> Frame:
        """The next frame that is no ping of the server's; those are answered."""
        while (frame := await self._wire.frame()).payload == b"2":
            self.pings += 1
            await self.say("3")
        return frame

    async def text(self) -> str:
        return (await self.frame()).text


@pytest.mark.parametrize("probes", [False, True], ids=["5", "2probe and 5"])
@revisions
@engines
@pytest_twisted.ensureDeferred
async def test_arduino(anySite: Serve, engine: Any, revision: int, probes: bool) -> None:
    """Upgraded, with or without a probe, and echoing; nothing that was sent meanwhile is lost."""
    async with anySite(wsEngine=engine, allowEIO3=True, pingInterval=400) as here:
        client = Microcontroller(here, await here.connect(), revision, probes)
        sid = await client.open()
        socket = here.server.clients[sid]
        socket.send("before the upgrade")
        await client.upgrade(sid)
        assert await client.text() == "4before the upgrade"
        assert (socket.upgraded, socket.transport.name, socket.protocol) == (True, "websocket", revision)
        for number in range(3):
            await client.say(f"4hello {number}")
            assert await client.text() == f"4hello {number}"
        await client.say("of WebSocket", PING)
        assert await client.frame() == Frame(PONG, b"of WebSocket")
        if revision == 3:
            await client.say("2")
            assert await client.text() == "3"
        else:
            here.server.reactor.callLater(0.5, socket.send, "pinged by now")
            assert await client.text() == "4pinged by now"
            assert client.pings
        await client.say("4still here")
        assert await client.text() == "4still here"
        assert here.records[sid].messages == ["hello 0", "hello 1", "hello 2", "still here"]
        assert here.records[sid].happened.count("upgrading") == probes
        assert "heartbeat" in here.records[sid].happened


@revisions
@pytest_twisted.ensureDeferred
async def test_aWaitingGet(anySite: Serve, revision: int) -> None:
    """A client that upgrades without a probe while its GET waits gets that ended; everything comes once, in order."""
    async with anySite(allowEIO3=True) as here:
        for isWaiting in (True, False):
            ask = partial(http, "GET", headers=())
            sid = sidOf(await here.ask(ask(where=target(EIO=revision))))
            socket = here.server.clients[sid]
            if isWaiting:
                waiting = await here.say(ask(where=target(EIO=revision, sid=sid)))
                await eventually(lambda socket=socket: socket.transport.writable, "a waiting GET")
            else:
                for number in range(100):
                    socket.send(str(number))
            where = target(EIO=revision, transport="websocket", sid=sid)
            wire = await here.webSocket(upgrade(where), makeFrame("5"), makeFrame("4at once"))
            if isWaiting:
                assert (await waiting.response()).body == (b"6" if revision == 4 else b"1:6")
            else:
                assert [await wire.text() for _ in range(100)] == [f"4{number}" for number in range(100)]
            assert await wire.text() == "4at once"
            # It is on WebSocket now.
            late = await here.ask(ask(where=target(EIO=revision, sid=sid)))
            assert (late.status, here.refusals[-1].context["name"]) == (400, "TRANSPORT_MISMATCH")
            second = await here.webSocket(upgrade(where), makeFrame("5"), makeFrame("4not mine"))
            assert await second.closed() == 1000
            wire.send(makeFrame("4unharmed"))
            assert await wire.text() == "4unharmed"
            assert here.records[sid].messages == ["at once", "unharmed"]
            wire.send(makeFrame("1"))
            assert await wire.closed() == 1000


@revisions
@pytest_twisted.ensureDeferred
async def test_halfAPost(anySite: Serve, request: pytest.FixtureRequest, revision: int) -> None:
    """A POST that is still arriving when its session moves is refused, all of it, and the session goes on."""
    seesBodies = request.node.callspec.params["anySite"] == "own site"
    async with anySite(allowEIO3=True) as here:
        for end in (b"6:4after", b"6:4aft", b""):
            sid = sidOf(await here.ask(http("GET", target(EIO=revision))))
            body = b"7:4before6:4after" if revision == 3 else b"4before\x1e4" + end
            whole = http("POST", target(EIO=revision, sid=sid), body=body)
            half = len(whole) - max(len(end), 1)
            wire = await here.say(whole[:half])
            if seesBodies:
                await eventually(lambda sid=sid: here.server.clients[sid].transport.isReading, "half a POST")
            moved = await here.webSocket(
                upgrade(target(EIO=revision, transport="websocket", sid=sid)), makeFrame("5"), makeFrame("4moved")
            )
            assert await moved.text() == "4moved"
            if end:
                wire.send(whole[half:])
                assert (await wire.response()).status == 400
                assert here.refusals[-1].context["name"] == "TRANSPORT_MISMATCH"
            wire.drop()
            await wire.lost()
            moved.send(makeFrame("4unharmed"))
            assert await moved.text() == "4unharmed"
            assert here.records[sid].messages == ["moved", "unharmed"]
            moved.send(makeFrame("1"))
            assert await moved.closed() == 1000


@engines
@pytest_twisted.ensureDeferred
async def test_dotNet(anySite: Serve, engine: Any) -> None:
    """A GET with the headers of a body, a WebSocket of its own without a probe, messages in fragments of 8 KiB."""
    async with anySite(wsEngine=engine) as here:
        body = [("Content-Type", "text/plain; charset=utf-8")]
        sid = sidOf(await here.ask(http("GET", target() + "&t=1730000000000", body, b"")))
        where = target(sid=sid) + "&t=1730000000001"
        assert (await here.ask(http("POST", where, body, b"40"))).body == b"ok"
        wire = await here.webSocket(upgrade(target(transport="websocket", sid=sid)), makeFrame("5"))
        assert await wire.text() == "40"
        message = "4" + "x" * 20_000
        pieces = [message[start : start + 8192].encode() for start in range(0, len(message), 8192)]
        for index, piece in enumerate(pieces):
            wire.send(makeFrame(piece, 0 if index else 1, isFinal=index == len(pieces) - 1))
        assert await wire.text() == message
        wire.send(makeFrame(b"\x03\xe8io client disconnect", CLOSE))
        assert await wire.closed() == 1000


@pytest.mark.parametrize("isPolling", [True, False], ids=["polling", "upgrade"])
@pytest_twisted.ensureDeferred
async def test_dotNetFramework(anySite: Serve, isPolling: bool) -> None:
    """What runs on Mono, such as Unity, may ask whether to go on before it sends a body."""
    async with anySite() as here:
        sid = await here.open()
        wire = await here.connect()
        for number in range(2):
            headers = [
                ("Content-Type", "text/plain; charset=utf-8"),
                ("Expect", "100-continue"),
                ("Content-Length", "2"),
            ]
            wire.send(http("POST", target(sid=sid), headers))
            assert (await wire.head()).status == 100
            wire.send(b"4%d" % number)
            assert (await wire.response()).body == b"ok"
        assert here.records[sid].messages == ["0", "1"]
        if isPolling:
            assert (await here.get(sid)).packets == ["40", "41"]
            await here.end(sid)
        else:
            wire = await here.webSocket(upgrade(target(transport="websocket", sid=sid)), makeFrame("5"))
            assert [await wire.text(), await wire.text()] == ["40", "41"]
            wire.send(makeFrame("1"))
            assert await wire.closed() == 1000


def writings(data: bytes) -> list[str]:
    """Base64 as Java for Android writes it, and in three ways more."""
    usual = b64encode(data).decode()
    return [inLines(usual), inLines(usual, "\r\n"), usual.rstrip("="), urlsafe_b64encode(data).decode().rstrip("=")]


@pytest.mark.parametrize("writing", range(4), ids=["LF", "CRLF", "no padding", "for URLs"])
@revisions
@pytest_twisted.ensureDeferred
async def test_java(anySite: Serve, revision: int, writing: int) -> None:
    """Base64 in lines of 76 characters, with a line feed at the end: on polling, and as text on a WebSocket."""
    async with anySite(allowEIO3=True) as here:
        payload: Callable[[list[str]], str] = SEPARATOR.join
        prefix = "b"
        if revision == 3:
            prefix = "b4"

            def payload(packets: list[str]) -> str:
                return "".join(f"{len(each)}:{each}" for each in packets)

        values = [DATA[:size] for size in (0, 1, 2, 3, 57, 58, 511)]
        written = [prefix + writings(each)[writing] for each in values]
        sid = sidOf(await here.ask(http("GET", target(EIO=revision))))
        where = target(EIO=revision, sid=sid)
        headers = [("Content-Type", "text/plain;charset=UTF-8"), ("Accept", "*/*")]
        body = payload(["4before", *written, "4after"]).encode()
        assert (await here.ask(http("POST", where, headers, body))).body == b"ok"
        assert here.records[sid].messages == ["before", *values, "after"]
        request = upgrade(target(EIO=revision, transport="websocket", sid=sid))
        wire = await here.webSocket(request, makeFrame("2probe"), makeFrame("5"))
        assert await wire.text() == "3probe"
        head = b"" if revision == 4 else b"\4"
        echoes = ["4before", *(head + each for each in values), "4after"]
        assert [(await wire.frame()).payload for _ in echoes] == [
            each.encode() if isinstance(each, str) else each for each in echoes
        ]
        for value, packet in zip(values, written, strict=True):
            wire.send(makeFrame(packet))
            assert await wire.frame() == Frame(BINARY, head + value)
        wire.send(makeFrame(prefix + "AQI*"))
        assert await wire.closed() == 1000
        assert (await here.records[sid].closed())[0] == "parse error"


@pytest.mark.parametrize("text", ["A", "AQ=", "AQI*", "AQ==\n\nAQ==", "A-+A", "AQID AQID", "AQID\r"])
@revisions
@pytest_twisted.ensureDeferred
async def test_noBase64(anySite: Serve, revision: int, text: str) -> None:
    """What is no base64 in any of these ways ends the session; what came before it is delivered."""
    async with anySite(allowEIO3=True) as here:
        sid = sidOf(await here.ask(http("GET", target(EIO=revision))))
        packets = ["4before", ("b" if revision == 4 else "b4") + text, "4after"]
        body = SEPARATOR.join(packets) if revision == 4 else "".join(f"{len(each)}:{each}" for each in packets)
        assert (await here.ask(http("POST", target(EIO=revision, sid=sid), body=body.encode()))).status == 400
        assert (await here.records[sid].closed())[0] == "parse error"
        assert here.records[sid].messages == ["before"]


@engines
@pytest_twisted.ensureDeferred
async def test_swift(anySite: Serve, engine: Any) -> None:
    """Without binary on polling, a noop of the client's, and a WebSocket whose Origin is its own address."""
    async with anySite(wsEngine=engine, allowedOrigins="self") as here:
        where = "/engine.io/?transport=polling&b64=1&EIO=4"
        sid = sidOf(await here.ask(http("GET", where)))
        headers = [("Content-Type", "text/plain; charset=UTF-8")]
        body = f"4text{SEPARATOR}bAQID{SEPARATOR}6".encode()
        assert (await here.ask(http("POST", f"{where}&sid={sid}", headers, body))).body == b"ok"
        assert (await here.ask(http("GET", f"{where}&sid={sid}"))).packets == ["4text", "bAQID"]
        for origin in ("ws://127.0.0.1:1", "wss://localhost", "ws://evil.example"):
            wire = await here.say(upgrade(f"/engine.io/?transport=websocket&EIO=4&sid={sid}", Origin=origin))
            assert (await wire.response()).status == 403
        request = upgrade(f"/engine.io/?transport=websocket&EIO=4&sid={sid}", Origin="ws://localhost")
        wire = await here.webSocket(request, makeFrame("2probe"))
        assert await wire.text() == "3probe"
        wire.send(makeFrame("5") + makeFrame(b"\1\2\3"))
        assert await wire.frame() == Frame(BINARY, b"\1\2\3")
        wire.send(makeFrame("1"))
        assert await wire.closed() == 1000


@pytest_twisted.ensureDeferred
async def test_rust(anySite: Serve) -> None:
    """A pong that answers none, a POST without a type, a parameter twice."""
    async with anySite() as here:
        sid = sidOf(await here.ask(http("GET", "/engine.io/?EIO=4&transport=polling&transport=polling&t=1")))
        where = f"/engine.io/?EIO=4&sid={sid}&transport=polling&transport=polling&t=2"
        for body in (b"3", b"4hello", b"bAQID"):
            assert (await here.ask(http("POST", where, body=body))).body == b"ok"
        assert (await here.ask(http("GET", where))).packets == ["4hello", "bAQID"]
        await here.goesOn(sid)


@pytest.mark.parametrize("name", ["EIO", "transport", "sid", "b64", "j"])
@pytest_twisted.ensureDeferred
async def test_repeatedParameters(anySite: Serve, name: str) -> None:
    """A parameter that is repeated is served; one with two values is refused by name, and nobody's session notices."""
    async with anySite() as here:
        sid = await here.open()
        values = {"EIO": "4", "transport": "polling", "sid": sid, "b64": "1", "j": "0"}
        value = values.pop(name)
        text = f"Bad request: the query parameter {name} comes with different values"
        if name != "j":
            values.pop("j")
            where = target(**values, **{name: value}) + f"&{name}={value}"
            assert (await here.ask(http("POST", where, body=b"4twice"))).body == b"ok"
            assert (await here.ask(http("GET", where))).packets == ["4twice"]
        for other in ("", "x", value + "1"):
            for where in (
                f"{target(**values, **{name: value})}&{name}={other}",
                f"/engine.io/?{name}={other}&{name}=y",
            ):
                response = await here.ask(http("GET", where))
                assert (response.status, response.json) == (400, {"code": 3, "message": text})
                assert here.refusals[-1].context["name"] == "DUPLICATE_PARAMETER"
                assert here.refusals[-1].message == "Bad request"
                wire = await here.say(upgrade(where.replace("polling", "websocket")))
                response = await wire.response()
                assert (response.status, response.body) == (400, text.encode())
        await here.goesOn(sid)


ALLOWED = ["https://a.example.com", "https://a.b.example.com", "http://localhost", "http://localhost:5173"]
OTHERS = ["https://example.com", "https://a.example.com:8443", "http://a.example.com", "https://localhost", "null"]
OTHERS += ["https://a.example.com.evil.example", "http://localhost.evil.example:80", "http://localhost:1.evil.example"]


@pytest_twisted.ensureDeferred
async def test_wildcards(anySite: Serve) -> None:
    """Pages below a domain, and on any port of a host, get in and may read the answers; others don't."""
    rule = ["https://*.Example.com:443", "http://localhost:*"]
    async with anySite(allowedOrigins=rule, cors={"origin": rule, "credentials": True}) as here:
        before = dict(here.server.clients)
        for origin in OTHERS:
            response = await here.ask(http("GET", target(), [("Origin", origin)]))
            assert response.status == 403, origin
            assert "access-control-allow-origin" not in response.headers
            assert response.headers["vary"] == "Origin"
            wire = await here.say(upgrade(Origin=origin))
            assert (await wire.response()).status == 403, origin
        assert here.server.clients == before
        for origin in ALLOWED:
            response = await here.ask(http("GET", target(), [("Origin", origin)]))
            assert response.headers["access-control-allow-origin"] == origin
            assert response.headers["access-control-allow-credentials"] == "true"
            sid = sidOf(response)
            request = upgrade(target(transport="websocket", sid=sid), Origin=origin)
            wire = await here.webSocket(request, makeFrame("5"), makeFrame("4in"))
            assert await wire.text() == "4in"
            wire.send(makeFrame("1"))
            assert await wire.closed() == 1000
            preflight = [("Origin", origin), ("Access-Control-Request-Method", "POST")]
            response = await here.ask(http("OPTIONS", target(), preflight))
            assert (response.status, response.headers["access-control-allow-origin"]) == (204, origin)


@pytest_twisted.ensureDeferred
async def test_forwardedPort(anySite: Serve) -> None:
    """Behind a proxy that says host and port apart, the server's own pages are those of both."""
    async with anySite(allowedOrigins="self", trustedProxies="127.0.0.1") as here:
        said = [("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "shop.example"), ("X-Forwarded-Port", "8443")]
        for origin, status in (("https://shop.example:8443", 200), ("https://shop.example", 403)):
            response = await here.ask(http("GET", target(), [*said, ("Origin", origin)]))
            assert response.status == status
            if status == 200:
                await here.end(sidOf(response))
        extra = "".join(f"{name}: {value}\r\n" for name, value in said)
        wire = await here.webSocket(upgrade(Origin="https://shop.example:8443", extra=extra), makeFrame("1"))
        said[1] = ("X-Forwarded-Host", "shop.example:9000")
        assert (await here.ask(http("GET", target(), [*said, ("Origin", "https://shop.example:8443")]))).status == 403
        response = await here.ask(http("GET", target(), [*said, ("Origin", "https://shop.example:9000")]))
        await here.end(sidOf(response))
        wire.drop()
