"""Bodies, payloads and heartbeats of a hostile or broken client: what it is answered, and that nobody else notices."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import LoopingCall
from twisted.web import http as webHTTP

import engineio_twisted.web.resource

from ..kit.wire import SEPARATOR, Hostile, LostError, Response, arena, http, makeFrame, target

pytestmark = pytest.mark.everySite


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of bodies as twisted.web stores them."""
    sizes: list[int] = []
    handle = webHTTP.Request.handleContentChunk

    def handleContentChunk(self: Any, data: bytes) -> None:
        sizes.append(len(data))
        handle(self, data)

    monkeypatch.setattr(webHTTP.Request, "handleContentChunk", handleContentChunk)
    return sizes


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in pieces)


TOO_LARGE = ("transport error", "the body is larger than maxHttpBufferSize, 1000 bytes")
CHUNKED = [("Transfer-Encoding", "chunked")]


class TestBodySize:
    """Bodies over maxHttpBufferSize, here 1000 bytes."""

    @staticmethod
    def assertTooLarge(response: Response) -> None:
        assert response.status == 413
        assert "1000" in response.json["message"]
        assert "maxHttpBufferSize" in response.json["message"]

    @pytest.mark.parametrize(
        ("length", "expects"), [(1001, False), (1001, True), (10**6, False), (10**6, True), (10**15, False)]
    )
    @pytest_twisted.ensureDeferred
    async def test_declared(
        self, hostile: Hostile, stored: list[int], length: int, expects: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A body that says that it is too large is refused before it is sent, and ends the session."""
        monkeypatch.setattr(engineio_twisted.web.requests, "LINGER_TIME", 0.2)
        async with hostile(maxHttpBufferSize=1000) as here:
            sid = await here.open()
            headers = [("Content-Length", str(length)), *([("Expect", "100-continue")] if expects else [])]
            wire = await here.say(http("POST", target(sid=sid), headers))
            self.assertTooLarge(await wire.response())
            wire.send(b"4" + b"x" * 5000)
            # At the end of the body, or when that takes too long.
            assert await wire.lost() == b""
            assert sum(stored) == 0
            assert here.records[sid].messages == []
            assert await here.records[sid].closed() == TOO_LARGE

    @pytest_twisted.ensureDeferred
    async def test_chunked(self, hostile: Hostile, stored: list[int]) -> None:
        """A body that doesn't say its size is refused when it has grown too large, and no more of it is stored."""
        async with hostile(maxHttpBufferSize=1000) as here:
            sid = await here.open()
            pieces = [b"4" + b"x" * 599, b"y" * 600, b"z" * 100_000]
            wire = await here.say(http("POST", target(sid=sid), CHUNKED) + chunked(*pieces))
            self.assertTooLarge(await wire.response())
            wire.send(chunked(b""))
            assert await wire.lost() == b""
            assert sum(stored) <= 1000
            assert here.records[sid].messages == []
            assert await here.records[sid].closed() == TOO_LARGE

    @pytest.mark.parametrize("isChunked", [False, True], ids=["length", "chunked"])
    @pytest_twisted.ensureDeferred
    async def test_exactly(self, hostile: Hostile, isChunked: bool) -> None:
        """A body of exactly the limit is accepted."""
        async with hostile(maxHttpBufferSize=1000, echoes=False) as here:
            sid = await here.open()
            body = b"4" + b"x" * 999
            if isChunked:
                response = await here.ask(http("POST", target(sid=sid), CHUNKED) + chunked(body[:1], body[1:], b""))
            else:
                response = await here.post(sid, body)
            assert (response.status, response.body) == (200, b"ok")
            assert here.records[sid].messages == ["x" * 999]
            await here.end(sid)

    @pytest.mark.parametrize("method", ["POST", "PUT", "GET", "HEAD", "DELETE"])
    @pytest.mark.parametrize("isChunked", [False, True], ids=["length", "chunked"])
    @pytest_twisted.ensureDeferred
    async def test_anyMethod(self, hostile: Hostile, stored: list[int], method: str, isChunked: bool) -> None:
        """A body that nobody will look at, as it comes with another method or for no session, isn't stored either."""
        async with hostile(maxHttpBufferSize=1000) as here:
            for query in ({}, {"sid": "unknown"}):
                body = b"x" * 50_000
                headers = CHUNKED if isChunked else [("Content-Length", str(len(body)))]
                wire = await here.connect()
                wire.send(http(method, target(**query), headers) + (chunked(body, b"") if isChunked else body))
                with suppress(LostError):
                    await wire.response(method)
                wire.drop()
            assert sum(stored) <= 2000

    @pytest_twisted.ensureDeferred
    async def test_brokenChunks(self, hostile: Hostile) -> None:
        """A body that breaks the rules of HTTP ends the connection, and the session with it."""
        async with hostile() as here:
            sid = await here.open()
            wire = await here.say(http("POST", target(sid=sid), CHUNKED) + b"2\r\n4x\r\nnothex\r\n")
            assert (await wire.lost()).startswith(b"HTTP/1.1 400")
            assert (await here.records[sid].closed())[0] == "transport error"
            assert here.records[sid].messages == []

    @pytest_twisted.ensureDeferred
    async def test_stockSite(self, atResource: Callable[..., Any]) -> None:
        """On a site of twisted.web's own, which stores bodies first, the limit holds all the same, if late."""
        async with arena(atResource, maxHttpBufferSize=1000) as here:
            for head in (http("POST", target(), [("Content-Length", "1001")]), http("POST", target(), CHUNKED)):
                sid = await here.open()
                body = chunked(b"4" + b"x" * 5000, b"") if b"chunked" in head else b"4" + b"x" * 1000
                self.assertTooLarge(await here.ask(head.replace(target().encode(), target(sid=sid).encode()) + body))
                assert here.records[sid].messages == []
                assert await here.records[sid].closed() == TOO_LARGE


class TestSlowBody:
    """Bodies that take for ever: pingInterval and pingTimeout together are all the time there is."""

    @pytest.mark.parametrize("isLive", [True, False], ids=["session", "no session"])
    @pytest_twisted.ensureDeferred
    async def test_trickle(self, hostile: Hostile, isLive: bool) -> None:
        """A body that comes a byte at a time ends, with its connection and its session."""
        async with hostile(pingInterval=200, pingTimeout=400) as here:
            sid = await here.open() if isLive else "unknown"
            wire = await here.say(http("POST", target(sid=sid), [("Content-Length", "100000")]) + b"4")
            trickle = LoopingCall(wire.send, b"x")
            trickle.clock = here.server.reactor
            trickle.start(0.02)
            assert b" 200 " not in await wire.lost()
            trickle.stop()
            if isLive:
                assert (await here.records[sid].closed())[0] in ("ping timeout", "transport error")
                assert here.records[sid].messages == []


class TestPayload:
    """POST bodies that are no payload."""

    @pytest.mark.parametrize(
        ("bad", "said"),
        [
            ("7", "7"),
            ("x", "x"),
            ("", "empty"),
            ("hello", "hello"),
            ("\N{FULLWIDTH DIGIT FOUR}x", ""),
            ("-1", "-1"),
            ("b!", "base64"),
            ("bA", "base64"),
            ("bAQIDA", "base64"),
            ("bAQID\r", "base64"),
            ("bAQ==BAQ=", "base64"),
            ("b=AAA", "base64"),
            ("bAQ+-", "base64"),
            ("bA QI", "base64"),
            ("b\N{GREEK SMALL LETTER ALPHA}AAA", "base64"),
            ("b4AQID", "base64"),
        ],
        ids=ascii,
    )
    @pytest_twisted.ensureDeferred
    async def test_badPacket(self, hostile: Hostile, bad: str, said: str) -> None:
        """What comes before the first broken packet is delivered; then the session ends with `parse error`."""
        async with hostile() as here:
            sid = await here.open()
            waiting = await here.poll(sid)
            response = await here.post(sid, SEPARATOR.join(["4first", "bAQIDBA==", bad, "4last"]))
            assert response.status == 400
            assert "message" in response.json
            reason, description = await here.records[sid].closed()
            assert reason == "parse error"
            assert said in description
            assert here.records[sid].messages == ["first", b"\1\2\3\4"]
            packets = (await waiting.response()).packets
            assert packets == ["4first"] or packets[-1] == "1"

    @pytest.mark.parametrize(
        ("body", "headers"),
        [
            (b"", []),
            (b"4\xff\xfe", []),
            (b"4ok\x1e4\xc3", []),
            (b"4\xed\xa0\x80", []),
            (b"\x1e" * 100_000, []),
            (b"4x", [("Content-Type", "application/octet-stream")]),
            (b"\x00\x02\xff4x", [("Content-Type", "Application/Octet-Stream; charset=x")]),
        ],
        ids=["empty", "not UTF-8", "cut UTF-8", "surrogate", "separators", "octet-stream", "revision 3"],
    )
    @pytest_twisted.ensureDeferred
    async def test_badBody(self, hostile: Hostile, body: bytes, headers: list[tuple[str, str]]) -> None:
        """A body that is no payload at all gets 400 and ends the session with `parse error`."""
        async with hostile() as here:
            sid = await here.open()
            waiting = await here.poll(sid)
            response = await here.ask(http("POST", target(sid=sid), headers, body))
            assert response.status == 400
            assert "message" in response.json
            assert (await here.records[sid].closed())[0] == "parse error"
            assert here.records[sid].messages == []
            assert (await waiting.response()).packets == ["1"]

    @pytest_twisted.ensureDeferred
    async def test_manyPackets(self, hostile: Hostile) -> None:
        """A payload of as many packets as fit is delivered as a whole, and then answered."""
        async with hostile(echoes=False) as here:
            sid = await here.open()
            expected = [str(each) for each in range(50_000)]
            response = await here.post(sid, SEPARATOR.join("4" + each for each in expected))
            assert response.body == b"ok"
            assert here.records[sid].messages == expected
            await here.end(sid)

    @pytest_twisted.ensureDeferred
    async def test_strayPackets(self, hostile: Hostile) -> None:
        """Packets that mean nothing from a client on polling are ignored."""
        async with hostile() as here:
            sid = await here.open()
            assert (await here.post(sid, SEPARATOR.join(["0", "5", "6", "3", "3probe"]))).status == 200
            assert here.records[sid].messages == []
            await here.goesOn(sid)


class TestHeartbeat:
    """Pings and pongs out of order, and none at all."""

    @pytest.mark.parametrize("transport", ["polling", "websocket"])
    @pytest.mark.parametrize("isListening", [True, False], ids=["listening", "gone"])
    @pytest_twisted.ensureDeferred
    async def test_noPong(self, hostile: Hostile, transport: str, isListening: bool) -> None:
        """A client that doesn't answer a ping is given up after pingTimeout."""
        async with hostile(pingInterval=100, pingTimeout=1000) as here:
            if transport == "polling":
                sid = await here.open()
                if isListening:
                    assert (await here.get(sid)).packets == ["2"]
                    wire = await here.poll(sid)
                    assert (await wire.response()).packets == ["1"]
            else:
                sid, wire = await here.openWebSocket()
                if isListening:
                    assert await wire.text() == "2"
                    assert await wire.closed() == 1000
            reason, description = await here.records[sid].closed()
            assert reason == "ping timeout"
            assert "1000" in description

    @pytest.mark.parametrize("transport", ["polling", "websocket"])
    @pytest_twisted.ensureDeferred
    async def test_wrongDirection(self, hostile: Hostile, transport: str) -> None:
        """A ping from the client, which revision 4 doesn't have, ends the session."""
        async with hostile() as here:
            if transport == "polling":
                sid = await here.open()
                waiting = await here.poll(sid)
                await here.post(sid, SEPARATOR.join(["4before", "2", "4after"]))
                assert "1" in (await waiting.response()).packets or here.records[sid].messages == ["before"]
            else:
                sid, wire = await here.openWebSocket()
                wire.send(makeFrame("4before") + makeFrame("2") + makeFrame("4after"))
                assert await wire.text() == "4before"
                assert await wire.closed() == 1000
            assert await here.records[sid].closed() == ("transport error", "invalid heartbeat direction")
            assert here.records[sid].messages == ["before"]

    @pytest.mark.parametrize("transport", ["polling", "websocket"])
    @pytest_twisted.ensureDeferred
    async def test_pongs(self, hostile: Hostile, transport: str) -> None:
        """Pongs that nobody asked for, thousands of them, start nothing: no timer, no heartbeat, no answer."""
        async with hostile() as here:
            before = len(here.server.reactor.getDelayedCalls())
            if transport == "polling":
                sid = await here.open()
                assert (await here.post(sid, SEPARATOR.join(["3"] * 20_000))).body == b"ok"
            else:
                sid, wire = await here.openWebSocket()
                wire.send(makeFrame("3") * 20_000 + makeFrame("4end"))
                assert await wire.text() == "4end"
            assert "heartbeat" not in here.records[sid].happened
            # One session more, and at most one connection that times out when idle.
            assert len(here.server.reactor.getDelayedCalls()) <= before + 3
            if transport == "polling":
                await here.goesOn(sid)

    @pytest.mark.parametrize("transport", ["polling", "websocket"])
    @pytest_twisted.ensureDeferred
    async def test_onePongCounts(self, hostile: Hostile, transport: str) -> None:
        """After a ping one pong is a heartbeat, a second is nothing; the session goes on with the next ping."""
        async with hostile(pingInterval=100, pingTimeout=2000) as here:
            if transport == "polling":
                sid = await here.open()
                for _ in range(2):
                    assert (await here.get(sid)).packets == ["2"]
                    await here.post(sid, SEPARATOR.join("333"))
                await here.end(sid)
            else:
                sid, wire = await here.openWebSocket()
                for _ in range(2):
                    assert await wire.text() == "2"
                    wire.send(makeFrame("3") * 3)
                assert await wire.text() == "2"
            assert here.records[sid].happened.count("heartbeat") == 2

    @pytest.mark.parametrize("transport", ["polling", "websocket"])
    @pytest_twisted.ensureDeferred
    async def test_closePacket(self, hostile: Hostile, transport: str) -> None:
        """A close packet ends the session at once; a waiting GET is let go, and what follows is not delivered."""
        async with hostile() as here:
            if transport == "polling":
                sid = await here.open()
                waiting = await here.poll(sid)
                assert (await here.post(sid, SEPARATOR.join(["1", "4after"]))).body == b"ok"
                assert (await waiting.response()).packets == ["6"]
            else:
                sid, wire = await here.openWebSocket()
                wire.send(makeFrame("1") + makeFrame("4after"))
                assert await wire.closed() == 1000
            assert (await here.records[sid].closed())[0] == "transport close"
            assert here.records[sid].messages == []
