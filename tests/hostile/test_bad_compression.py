"""What a hostile or broken client may say about compression, and what it may send compressed, or as if it were."""

from __future__ import annotations

import gzip
import json
import os
import random
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from socket import SO_RCVBUF, SO_SNDBUF, SOL_SOCKET
from typing import Any

import pytest
import pytest_twisted
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet import task

from engineio_twisted.protocol.headers import contentCoding
from engineio_twisted.protocol.option_parts import PerMessageDeflate
from engineio_twisted.session.heartbeats import HeartbeatQueue
from engineio_twisted.transports.engine_deflate import agreeOn

from ..kit.deflated import deflate, offering, openDeflated, packed
from ..kit.engines import closeWithin, piecesOf
from ..kit.wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Arena,
    Frame,
    Hostile,
    Response,
    Wire,
    eventually,
    http,
    makeFrame,
    pause,
    takeFrame,
    target,
    within,
)

GZIP = [("Accept-Encoding", "gzip")]

# Random, so that there is something to write; the same in each run.
LARGE = random.Random(1).randbytes(1_500_000).hex()


def bodyOf(response: Response) -> bytes:
    """The payload of an answer, as a client reads it that believes the headers."""
    assert response.status == 200
    coding = response.headers.get("content-encoding")
    if coding is None:
        return response.body
    unpacking = zlib.decompressobj({"gzip": 31, "deflate": 15}[coding])
    body = unpacking.decompress(response.body)
    assert unpacking.eof
    assert unpacking.unused_data == b""
    return body


@contextmanager
def boundedMemory(most: int) -> Iterator[None]:
    """Fail where more memory than that is taken in between."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


NONSENSE = {
    "empty": "",
    "q of two": "gzip;q=2",
    "negative q": "gzip;q=-1",
    "q of letters": "gzip;q=abc",
    "no q": "gzip;q=",
    "q of four digits": "gzip;q=0.1234",
    "q in scientific notation": "gzip;q=1e0",
    "infinite q": "gzip;q=inf",
    "no number": "gzip;q=nan",
    "two parameters": "gzip;q=1;q=0",
    "another parameter": "gzip;level=9",
    "quoted": '"gzip"',
    "anything but": "*;q=0",
    "identity refused": "identity;q=0",
    "only another": "br",
    "only others": "br, zstd, compress, x-gzip",
    "liked less than none": "gzip;q=0.5, identity",
    "separators": ";,;,=,;q=1",
    "commas": "," * 10_000,
    "semicolons": "gzip" + ";" * 10_000,
    "not UTF-8": "gzip\xff",
}


class TestAcceptEncoding:
    """What a client says that it can read."""

    @pytest_twisted.ensureDeferred
    async def test_nonsense(self, hostile: Hostile) -> None:
        """Where that is nothing, or no sense, the answer isn't compressed."""
        async with hostile(echoes=False) as here:
            sid = await here.open()
            for name, value in NONSENSE.items():
                here.server.clients[sid].send("x" * 5000)
                response = await here.ask(http("GET", target(sid=sid), [("Accept-Encoding", value)]))
                assert "content-encoding" not in response.headers, name
                assert response.packets == ["4" + "x" * 5000], name
            await here.end(sid)

    @pytest.mark.parametrize(
        ("values", "coding"),
        [
            (["GZIP"], "gzip"),
            (["gzip;q=0, deflate;q=0.001"], "deflate"),
            (["*"], "gzip"),
            (["gzip;q=0, *"], "deflate"),
            (["identity;q=0, *;q=0.1"], "gzip"),
            (["br", "deflate"], "deflate"),
            (["," * 5000 + "gzip" + "," * 5000], "gzip"),
            (["gzip;q=2, deflate"], "deflate"),
            ([" gzip ; Q=1.000 "], "gzip"),
            (["gzip;q=0", "gzip;q=1"], "gzip"),
        ],
        ids=lambda value: str(value)[:30],
    )
    @pytest.mark.parametrize("size", [5000, 200_000])
    @pytest_twisted.ensureDeferred
    async def test_odd(self, hostile: Hostile, values: list[str], coding: str, size: int) -> None:
        """What is unusual, or has some sense among the nonsense, is understood."""
        async with hostile(echoes=False) as here:
            sid = await here.open()
            here.server.clients[sid].send("x" * size)
            headers = [("Accept-Encoding", value) for value in values]
            response = await here.ask(http("GET", target(sid=sid), headers))
            assert response.headers["content-encoding"] == coding
            assert bodyOf(response) == b"4" + b"x" * size
            await here.end(sid)


class TestInflated:
    """Bodies that are sent compressed, which no client of this protocol does."""

    @pytest.mark.parametrize("coding", ["gzip", "deflate", "x-gzip", "br", "GZIP, gzip"])
    @pytest.mark.parametrize("kind", ["plain", "form", "revision 3"])
    @pytest_twisted.ensureDeferred
    async def test_never(self, hostile: Hostile, coding: str, kind: str) -> None:
        """One is never inflated: it is a payload that doesn't decode, or a form that is none."""
        pack = zlib.compress if coding == "deflate" else gzip.compress
        body = pack((b"d=4" if kind == "form" else b"4") + b"x" * 2_000_000)
        async with hostile(allowEIO3=True) as here:
            query: dict[str, object] = {"plain": {}, "form": {"j": 0}, "revision 3": {"EIO": 3}}[kind]
            opening = (await here.ask(http("GET", target(**query)))).body.decode()
            sid = json.loads(opening[opening.index("{") : opening.rindex("}") + 1].replace("\\", ""))["sid"]
            headers = [("Content-Encoding", coding)]
            if kind == "revision 3":
                headers.append(("Content-Type", "application/octet-stream"))
            with boundedMemory(1_000_000):
                response = await here.ask(http("POST", target(sid=sid, **query), headers, body))
            assert response.status == 400
            assert (await here.records[sid].closed())[0] == "parse error"
            assert here.records[sid].messages == []

    @pytest_twisted.ensureDeferred
    async def test_plain(self, hostile: Hostile) -> None:
        """One that only says that it is compressed is read as it is."""
        async with hostile() as here:
            sid = await here.open()
            response = await here.ask(http("POST", target(sid=sid), [("Content-Encoding", "gzip")], b"4x"))
            assert (response.status, here.records[sid].messages) in [(200, ["x"]), (400, []), (415, [])]
            if response.status == 200:
                assert (await here.get(sid)).packets == ["4x"]
                await here.goesOn(sid)

    @pytest.mark.parametrize("coding", ["gzip", "gzip, chunked", "chunked, gzip"])
    @pytest_twisted.ensureDeferred
    async def test_transfer(self, hostile: Hostile, coding: str) -> None:
        """Nor is one whose transfer is compressed; the connection ends, and the session doesn't notice."""
        async with hostile() as here:
            sid = await here.open()
            wire = await here.say(http("POST", target(sid=sid), [("Transfer-Encoding", coding)]) + gzip.compress(b"4x"))
            assert (await wire.lost()).startswith(b"HTTP/1.1 4")
            assert here.records[sid].messages == []
            await here.goesOn(sid)


async def halfAnAnswer(here: Arena, sid: str, version: str = "1.1", message: str = LARGE) -> Wire:
    """Have a large answer under way to a client that doesn't read it."""
    wire = await here.say(http("GET", target(sid=sid), GZIP, version=version))
    await eventually(lambda: here.server.clients[sid].transport.writable, "a waiting GET")
    wire.transport.pauseProducing()
    port = wire.transport.getHost().port
    channel = next(each for each in here.server._ownPorts.site.channels if each.transport.getPeer().port == port)
    # However much the system would take, the answer is more.
    channel.transport.socket.setsockopt(SOL_SOCKET, SO_SNDBUF, 65536)
    wire.transport.socket.setsockopt(SOL_SOCKET, SO_RCVBUF, 65536)
    here.server.clients[sid].send(message)
    # It is compressed as fast as it is read.
    await eventually(lambda: not here.server.clients[sid].transport.writable, "the answer to begin")
    await pause(0.01)
    assert here.server.clients[sid].transport._untaken.compressing
    return wire


async def rest(wire: Wire) -> str:
    """Read on; return the payload."""
    wire.transport.resumeProducing()
    return bodyOf(await wire.response()).decode()


@pytest.fixture
def nothingPulls() -> Iterator[None]:
    """Fail a test that leaves something that works on for nobody; end that, so that it bothers no other test."""
    yield
    left = list(task._theCooperator._tasks)
    for each in left:
        each.stop()
    assert left == []


@pytest.mark.sockets
@pytest.mark.usefixtures("nothingPulls")
class TestPieces:
    """A large answer, which is compressed piece by piece as it is read."""

    @pytest.mark.parametrize("version", ["1.1", "1.0"])
    @pytest_twisted.ensureDeferred
    async def test_slow(self, hostile: Hostile, version: str) -> None:
        """A client that pauses in the middle gets it whole when it reads on."""
        async with hostile(echoes=False) as here:
            sid = await here.open()
            wire = await halfAnAnswer(here, sid, version)
            wire.transport.resumeProducing()
            if version == "1.1":
                assert bodyOf(await wire.response()).decode() == "4" + LARGE
            else:
                head, _, body = (await wire.lost()).partition(b"\r\n\r\n")
                assert b"Transfer-Encoding" not in head
                assert gzip.decompress(body).decode() == "4" + LARGE
            await here.end(sid)

    @pytest.mark.parametrize("abort", [True, False], ids=["reset", "end of stream"])
    @pytest_twisted.ensureDeferred
    async def test_lost(self, hostile: Hostile, abort: bool) -> None:
        """One that drops the connection is noticed at once, and nothing is left of the answer."""
        async with hostile(echoes=False) as here:
            sid = await here.open()
            transport = here.server.clients[sid].transport
            wire = await halfAnAnswer(here, sid)
            wire.drop(abort)
            if not abort:
                wire.transport.resumeProducing()
            assert await here.records[sid].closed() == ("transport error", "poll connection closed prematurely")
            assert not transport._untaken.compressing

    @pytest_twisted.ensureDeferred
    async def test_lostTwice(self, hostile: Hostile) -> None:
        """So is one that does so where it waits with the answer of another GET under way."""
        async with hostile(echoes=False) as here:
            sid = await here.open()
            first = await halfAnAnswer(here, sid)
            second = await here.poll(sid)
            second.drop()
            assert (await here.records[sid].closed())[0] == "transport error"
            first.drop()

    @pytest_twisted.ensureDeferred
    async def test_waiting(self, hostile: Hostile) -> None:
        """While it is under way another GET may wait, and gets what is sent later when this has been read."""
        async with hostile(echoes=False) as here:
            sid = await here.open()
            wire = await halfAnAnswer(here, sid)
            waiting = await here.poll(sid)
            here.server.clients[sid].send("later")
            assert (await here.post(sid, "4while it lasts")).body == b"ok"
            assert await rest(wire) == "4" + LARGE
            assert (await waiting.response()).packets == ["4later"]
            waiting = await here.poll(sid)
            here.server.clients[sid].send("last")
            assert (await waiting.response()).packets == ["4last"]
            await here.end(sid)

    @pytest.mark.parametrize("what", ["reads", "doesn't read", "goes"])
    @pytest_twisted.ensureDeferred
    async def test_anotherAtTheEnd(self, hostile: Hostile, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
        """One that is under way, and a GET that waits, don't keep a server that closes, nor anything of it, alive."""
        async with hostile(echoes=False) as here:
            here.serverEnds = True
            monkeypatch.setattr("engineio_twisted.web.channel.CLOSE_TIMEOUT", 0.2)
            sid = await here.open()
            # Of the rest of the first so little goes out that it is read faster than it comes.
            first = await halfAnAnswer(here, sid, message=LARGE + "x" * 40_000_000)
            wires = [first, await here.poll(sid)]
            closing = here.server.close()
            channels = list(here.server._ownPorts.site.channels)
            await eventually(lambda: all(each.transport.disconnecting for each in channels), "the closing to begin")
            for each in wires:
                if what == "reads":
                    each.transport.resumeProducing()
                elif what == "goes":
                    each.drop()
            await within(closing, "the end of the server")
            assert (await here.records[sid].closed())[0] == "server shutting down"

    @pytest.mark.parametrize("isSlow", [False, True], ids=["read", "not read"])
    @pytest_twisted.ensureDeferred
    async def test_closedUnderIt(self, hostile: Hostile, isSlow: bool) -> None:
        """Where the application closes the connection in the middle of it, and that is lost, nothing works on."""
        async with hostile(echoes=False) as here:
            sid = await here.open()
            if isSlow:
                wire = await halfAnAnswer(here, sid)
            else:
                wire = await here.say(http("GET", target(sid=sid), GZIP))
                await eventually(lambda: here.server.clients[sid].transport.writable, "a waiting GET")
                here.server.clients[sid].send("x" * 40_000_000)
            port = wire.transport.getHost().port
            channels = here.server._ownPorts.site.channels
            next(each for each in channels if each.transport.getPeer().port == port).loseConnection()
            if isSlow:
                wire.drop()
            await wire.lost()
            assert (await here.records[sid].closed())[0] == "transport error"

    @pytest_twisted.ensureDeferred
    async def test_overlap(self, hostile: Hostile) -> None:
        """A second waiting GET ends the session as always; the one that reads gets its answer whole."""
        async with hostile(echoes=False) as here:
            sid = await here.open()
            wire = await halfAnAnswer(here, sid)
            waiting = await here.poll(sid)
            assert (await here.get(sid)).status == 400
            assert (await waiting.response()).packets == ["1"]
            assert (await here.records[sid].closed())[0] == "transport error"
            assert await rest(wire) == "4" + LARGE

    @pytest.mark.parametrize("how", ["close", "discard", "server", "packet", "timeout"])
    @pytest_twisted.ensureDeferred
    async def test_end(self, hostile: Hostile, how: str) -> None:
        """Whatever ends the session in the middle of it, a client that reads gets it whole."""
        async with hostile(echoes=False, pingTimeout=200) as here:
            sid = await here.open()
            record = here.records[sid]
            wire = await halfAnAnswer(here, sid)
            ends = []
            if how == "server":
                here.serverEnds = True
                ends.append(here.server.close())
            elif how == "packet":
                assert (await here.post(sid, "1")).body == b"ok"
            elif how == "timeout":
                # It is pinged now, and not at a time at which a busy machine may not have got so far.
                heartbeats = here.server._factory.heartbeats
                heartbeats.waitFor(here.server.clients[sid], HeartbeatQueue(here.server.reactor, 0))
            else:
                here.server.clients[sid].close(how == "discard")
            if how != "close":
                await record.closed()
            assert await rest(wire) == "4" + LARGE
            if how == "close":
                assert (await here.get(sid)).packets == ["1"]
            reasons = {"server": "server shutting down", "packet": "transport close", "timeout": "ping timeout"}
            assert (await record.closed())[0] == reasons.get(how, "forced close")
            for each in ends:
                await within(each, "the end of the server")

    @pytest_twisted.ensureDeferred
    async def test_neverRead(self, hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
        """A client that never reads doesn't keep the server from closing."""
        async with hostile(echoes=False) as here:
            here.serverEnds = True
            sid = await here.open()
            await halfAnAnswer(here, sid)
            monkeypatch.setattr("engineio_twisted.web.channel.CLOSE_TIMEOUT", 0.2)
            await within(here.server.close(), "the end of the server")
            assert (await here.records[sid].closed())[0] == "server shutting down"

    @pytest_twisted.ensureDeferred
    async def test_lostFirstElsewhere(self, hostile: Hostile) -> None:
        """Where the application learns first that the connection is lost, and ends the session, that is no error."""
        async with hostile(echoes=False) as here:
            sid = await here.open()
            socket = here.server.clients[sid]

            def middleware(request: Any) -> None:
                if request.getHeader("accept-encoding"):
                    request.notifyFinish().addErrback(lambda _: socket.close(True))

            here.server.use(middleware)
            wire = await halfAnAnswer(here, sid)
            wire.drop()
            assert (await here.records[sid].closed())[0] in ("forced close", "transport error")

    @pytest.mark.parametrize("what", ["close", "discard", "server"])
    @pytest_twisted.ensureDeferred
    async def test_fromAHandler(self, hostile: Hostile, what: str) -> None:
        """A handler of `headers` that ends session or server has the answer go out whole."""
        async with hostile(echoes=False) as here:
            sid = await here.open()
            socket = here.server.clients[sid]
            ends = []

            def headers(headers: Any, request: Any) -> None:
                if "content-encoding" not in map(str.lower, headers) or ends:
                    return
                if what == "server":
                    here.serverEnds = True
                    ends.append(here.server.close())
                else:
                    ends.append(socket.close(what == "discard"))

            here.server.on("headers", headers)
            wire = await here.say(http("GET", target(sid=sid), GZIP))
            await eventually(lambda: socket.transport.writable, "a waiting GET")
            # So easy to compress that little goes out, which is read faster than it comes.
            socket.send("x" * 20_000_000)
            assert bodyOf(await wire.response()) == b"4" + b"x" * 20_000_000
            if what == "close":
                assert (await here.get(sid)).packets == ["1"]
            await here.records[sid].closed()

    @pytest_twisted.ensureDeferred
    async def test_behind(self, hostile: Hostile) -> None:
        """What a client sends behind its GET, on the same connection, is served when the answer is complete."""
        async with hostile(echoes=False) as here:
            sid = await here.open()
            wire = await halfAnAnswer(here, sid)
            wire.send(http("GET", target(sid=sid)) + http("GET", target(sid="unknown")))
            assert await rest(wire) == "4" + LARGE
            await eventually(lambda: here.server.clients[sid].transport.writable, "the second GET")
            here.server.clients[sid].send("second")
            assert (await wire.response()).packets == ["4second"]
            assert (await wire.response()).json["code"] == 1
            await here.end(sid)


# WebSocket


def fragments(data: bytes, size: int, opcode: int = TEXT) -> bytes:
    """Compressed data in frames of a size."""
    parts = [data[start : start + size] for start in range(0, len(data), size)]
    frames = [makeFrame(parts.pop(0), opcode, reserved=4, isFinal=not parts)]
    while parts:
        frames.append(makeFrame(parts.pop(0), CONTINUATION, isFinal=not parts))
    return b"".join(frames)


def connectionOf(here: Arena, sid: str) -> Any:
    """What holds a session's WebSocket, as long as that has not ended."""
    return here.server.clients[sid].transport.webSocket


async def failed(here: Arena, sid: str, wire: Wire, code: int) -> None:
    """Make sure that a WebSocket was closed for a reason, and its session with it."""
    frame = await wire.frame()
    assert (frame.opcode, frame.code) == (CLOSE, code)
    reason, description = await here.records[sid].closed()
    assert reason == "transport error"
    assert "maxHttpBufferSize" in description if code == 1009 else str(code) in description
    assert here.records[sid].messages == []


SMALL_BOMB = deflate(b"4" + b"x" * 900_000)
# A hundred megabytes.
BOMB = (deflate(b"4") + b"\0\0\xff\xff") + (deflate(b"x" * 1_000_000) + b"\0\0\xff\xff") * 100 + b"\0"
BOMBS = {
    # limit, how it comes
    "text": (100_000, makeFrame(BOMB, TEXT, reserved=4)),
    "bytes": (100_000, makeFrame(BOMB, BINARY, reserved=4)),
    "small": (1000, makeFrame(SMALL_BOMB, TEXT, reserved=4)),
    "by one": (1000, packed(b"4" + b"x" * 1000)),
    "bytes by one": (1000, packed(b"x" * 1001, BINARY)),
    "fragments": (100_000, fragments(BOMB, 10_000)),
    "tiny fragments": (1000, fragments(SMALL_BOMB, 1)),
    "many under the limit": (
        1000,
        makeFrame(deflate(b"4" + b"x" * 900) + b"\0\0\xff\xff", TEXT, reserved=4, isFinal=False)
        + makeFrame(deflate(b"x" * 900) + b"\0\0\xff\xff", CONTINUATION, isFinal=False) * 1000,
    ),
    "one byte over in the last": (
        1000,
        makeFrame(deflate(b"4" + b"x" * 999) + b"\0\0\xff\xff", TEXT, reserved=4, isFinal=False)
        + makeFrame(deflate(b"x"), CONTINUATION),
    ),
    "not compressed after all": (1000, packed(os.urandom(2000), BINARY)),
    "not said to be compressed": (1000, makeFrame(b"4" + b"x" * 1000, TEXT)),
}


class TestBomb:
    """Messages that are small on the wire and large inside."""

    @pytest.mark.parametrize(("limit", "frames"), BOMBS.values(), ids=list(BOMBS))
    @pytest_twisted.ensureDeferred
    async def test_bomb(self, hostile: Hostile, limit: int, frames: bytes) -> None:
        """One is closed with 1009, without taking the memory for it, and nothing of it is delivered."""
        async with hostile(perMessageDeflate=True, maxHttpBufferSize=limit) as here:
            sid, wire = await openDeflated(here)
            with boundedMemory(3_000_000):
                wire.send(frames)
                await failed(here, sid, wire, 1009)

    @pytest.mark.parametrize("kind", ["bomb", "corrupt"])
    @pytest_twisted.ensureDeferred
    async def test_closing(self, hostile: Hostile, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
        """The client may answer the close frame, as always: that is the end of the connection."""
        # Else the deadline would be the end of it.
        closeWithin(monkeypatch, 60)
        async with hostile(perMessageDeflate=True, maxHttpBufferSize=1000) as here:
            sid, wire = await openDeflated(here)
            wire.send(
                makeFrame(SMALL_BOMB, TEXT, reserved=4)
                if kind == "bomb"
                else makeFrame(b"\xff" * 100, BINARY, reserved=4)
            )
            await failed(here, sid, wire, 1009 if kind == "bomb" else 1007)
            wire.send(makeFrame(b"\3\xe8", CLOSE))
            # Client and server share a reactor: if nothing has come by then, nothing will.
            for _ in range(100):
                await pause(0)
            assert wire.isLost

    @pytest.mark.parametrize("isAnswered", [True, False], ids=["answered", "not answered"])
    @pytest_twisted.ensureDeferred
    async def test_flood(self, hostile: Hostile, isAnswered: bool) -> None:
        """One that is followed by many more doesn't make the server keep them."""
        async with hostile(perMessageDeflate=True, maxHttpBufferSize=1000) as here:
            sid, wire = await openDeflated(here)
            connection = connectionOf(here, sid)
            wire.send(makeFrame(SMALL_BOMB, TEXT, reserved=4))
            await failed(here, sid, wire, 1009)
            if isAnswered:
                wire.send(makeFrame(b"\3\xf1", CLOSE))
            most = 0
            for _ in range(100):
                wire.send(makeFrame(SMALL_BOMB, TEXT, reserved=4) * 20)
                await pause(0.001)
                most = max(most, connection.heldBytes)
            wire.drop()
            assert most < 100_000

    @pytest_twisted.ensureDeferred
    async def test_candidate(self, hostile: Hostile) -> None:
        """One on a WebSocket that is to take a session over ends that WebSocket alone."""
        async with hostile(perMessageDeflate=True, maxHttpBufferSize=1000) as here:
            sid = await here.open()
            wire, accepted = await offering(here, "permessage-deflate", where=target(transport="websocket", sid=sid))
            assert accepted
            wire.send(packed(b"2probe"))
            assert await wire.text() == "3probe"
            wire.send(makeFrame(SMALL_BOMB, TEXT, reserved=4))
            frame = await wire.frame()
            assert (frame.opcode, frame.code) == (CLOSE, 1009)
            await here.goesOn(sid)

    @pytest_twisted.ensureDeferred
    async def test_exactly(self, hostile: Hostile) -> None:
        """A message of exactly the limit is delivered, in one frame or in many."""
        async with hostile(perMessageDeflate=True, maxHttpBufferSize=1000, echoes=False) as here:
            sid, wire = await openDeflated(here)
            # One stream: what follows may refer to what came before.
            data = deflate(b"4" + b"x" * 999)
            wire.send(packed(b"4" + b"x" * 999) + fragments(data, 3) + packed(b"y" * 1000, BINARY))
            await here.records[sid].got("x" * 999, "x" * 999, b"y" * 1000)

    @pytest_twisted.ensureDeferred
    async def test_emptyBlocks(self, hostile: Hostile) -> None:
        """An endless message of nothing takes no memory."""
        async with hostile(perMessageDeflate=True, maxHttpBufferSize=1000) as here:
            sid, wire = await openDeflated(here)
            wire.send(makeFrame(deflate(b"4x") + b"\0\0\xff\xff", TEXT, reserved=4, isFinal=False))
            for _ in range(20):
                wire.send(makeFrame(b"\0\0\0\xff\xff" * 20, CONTINUATION, isFinal=False) * 500)
                await pause(0)
            wire.send(makeFrame(b"", PING))
            assert await wire.frame() == Frame(PONG, b"")
            assert len(piecesOf(connectionOf(here, sid))) < 100
            wire.send(makeFrame(b"\0", CONTINUATION))
            assert await wire.text() == "4x"


class TestLastBlock:
    """Messages whose compressed data says that it is the last of its stream, which is allowed (RFC 7692, 7.2.3.4)."""

    @pytest_twisted.ensureDeferred
    async def test_goesOn(self, hostile: Hostile) -> None:
        """What follows is delivered as it was sent."""
        async with hostile(perMessageDeflate=True) as here:
            sid, wire = await openDeflated(here)
            wire.send(makeFrame(deflate(b"first", isLast=True), BINARY, reserved=4))
            assert await wire.frame() == Frame(BINARY, b"first")
            wire.send(packed(b"second", BINARY))
            frame = await wire.frame()
            assert frame.payload == b"second" or frame.opcode == CLOSE
            assert b"" not in here.records[sid].messages

    @pytest.mark.parametrize("isOne", [True, False], ids=["one message", "many"])
    @pytest_twisted.ensureDeferred
    async def test_memory(self, hostile: Hostile, isOne: bool) -> None:
        """However much follows, it isn't kept."""
        async with hostile(perMessageDeflate=True, maxHttpBufferSize=10_000, echoes=False) as here:
            sid, wire = await openDeflated(here)
            connection = connectionOf(here, sid)
            wire.send(makeFrame(deflate(b"x", isLast=True), BINARY, reserved=4, isFinal=not isOne))
            more = (
                makeFrame(b"y" * 9000, CONTINUATION, isFinal=False)
                if isOne
                else makeFrame(b"y" * 9000, BINARY, reserved=4)
            )
            wire.send(more * 100 + makeFrame(b"", PING))
            # Whether by a pong or, where it is an error, by a close frame, it answers.
            await wire.frame()
            unpacking = connection._deflate and connection._deflate._decompressor
            kept = len(unpacking.unused_data) + len(unpacking.unconsumed_tail) if unpacking else 0
            wire.drop()
            assert kept < 100_000


CORRUPT = {
    "no deflate data": (makeFrame(b"\xff" * 100, BINARY, reserved=4), 1007),
    "no such block": (makeFrame(b"\x06", TEXT, reserved=4), 1007),
    "corrupt in the middle": (makeFrame(deflate(os.urandom(100))[:50] + b"\xff" * 50, TEXT, reserved=4), 1007),
    "corrupt in another fragment": (
        makeFrame(deflate(b"4x") + b"\0\0\xff\xff", TEXT, reserved=4, isFinal=False)
        + makeFrame(b"\xff" * 100, CONTINUATION),
        1007,
    ),
    "gzip": (makeFrame(gzip.compress(b"4x"), TEXT, reserved=4), 1007),
    "zlib": (makeFrame(zlib.compress(b"4x"), TEXT, reserved=4), 1007),
    "not UTF-8": (packed(b"4\xff"), 1007),
    "cut UTF-8": (packed(b"4\xe2\x82"), 1007),
    "back beyond the beginning": (makeFrame(b"\x62\x04\x62\x00", TEXT, reserved=4), 1007),
    "RSV1 ping": (makeFrame(b"x", PING, reserved=4), 1002),
    "RSV1 pong": (makeFrame(b"x", PONG, reserved=4), 1002),
    "RSV1 close": (makeFrame(b"\3\xe8", CLOSE, reserved=4), 1002),
    "RSV1 continuation": (
        makeFrame(deflate(b"4x"), TEXT, reserved=4, isFinal=False) + makeFrame(b"\0", CONTINUATION, reserved=4),
        1002,
    ),
    "RSV1 continuation of what isn't compressed": (
        makeFrame("4x", isFinal=False) + makeFrame(deflate(b"x"), CONTINUATION, reserved=4),
        1002,
    ),
    "RSV1 continuation of nothing": (makeFrame(deflate(b"4x"), CONTINUATION, reserved=4), 1002),
    "RSV1 and RSV2": (makeFrame(deflate(b"4x"), TEXT, reserved=6), 1002),
    "RSV1 and RSV3": (makeFrame(deflate(b"4x"), TEXT, reserved=5), 1002),
    "RSV2": (makeFrame("4x", reserved=2), 1002),
    "RSV1 and opcode 3": (makeFrame(deflate(b"4x"), 3, reserved=4), 1002),
    "unmasked": (makeFrame(deflate(b"4x"), TEXT, reserved=4, isMasked=False), 1002),
}


class TestCorrupt:
    """Messages that say that they are compressed, and aren't as they should be."""

    @pytest.mark.parametrize(("frames", "code"), CORRUPT.values(), ids=list(CORRUPT))
    @pytest_twisted.ensureDeferred
    async def test_corrupt(self, hostile: Hostile, frames: bytes, code: int) -> None:
        """One is answered by a close frame that says what was wrong, and ends the session."""
        async with hostile(perMessageDeflate=True) as here:
            sid, wire = await openDeflated(here)
            wire.send(frames + makeFrame("4after"))
            await failed(here, sid, wire, code)

    @pytest.mark.parametrize("isOn", [True, False], ids=["on", "off"])
    @pytest.mark.parametrize("offer", [None, "x-webkit-deflate-frame", "permessage-deflate; nonsense"])
    @pytest_twisted.ensureDeferred
    async def test_notAgreed(self, hostile: Hostile, isOn: bool, offer: str | None) -> None:
        """Without an agreement every compressed message is broken: 1002."""
        async with hostile(perMessageDeflate=isOn) as here:
            wire, accepted = await offering(here, *([offer] if offer else []))
            assert accepted is None
            sid = json.loads((await wire.text())[1:])["sid"]
            wire.send(packed(b"4x"))
            await failed(here, sid, wire, 1002)

    @pytest.mark.parametrize("data", [b"", b"\0", b"\2\0"], ids=ascii)
    @pytest_twisted.ensureDeferred
    async def test_empty(self, hostile: Hostile, data: bytes) -> None:
        """An empty text is no packet, compressed or not; empty bytes are an empty message."""
        async with hostile(perMessageDeflate=True) as here:
            sid, wire = await openDeflated(here)
            wire.send(makeFrame(data, BINARY, reserved=4))
            assert await wire.frame() == Frame(BINARY, b"")
            wire.send(makeFrame(data, TEXT, reserved=4))
            assert await wire.closed() == 1000
            assert (await here.records[sid].closed())[0] == "parse error"
            assert here.records[sid].messages == [b""]

    @pytest_twisted.ensureDeferred
    async def test_cut(self, hostile: Hostile) -> None:
        """Of a message that is cut anywhere no more arrives than was in it, and nobody is harmed."""
        text = b"4" + bytes(range(32, 127))
        whole = deflate(text)
        async with hostile(perMessageDeflate=True, echoes=False) as here:
            for size in range(1, len(whole), 7):
                sid, wire = await openDeflated(here)
                wire.send(makeFrame(whole[:size], TEXT, reserved=4) + makeFrame(b"", PING))
                await wire.frame()
                wire.drop()
                await here.records[sid].closed()
                for each in here.records[sid].messages:
                    assert isinstance(each, str)
                    assert text[1:].startswith(each.encode())


GOOD_OFFERS = {
    "plain": (["permessage-deflate"], "permessage-deflate"),
    "spaces": (["  permessage-deflate  ;  server_max_window_bits  =  10  "], "server_max_window_bits=10"),
    "quoted": (['permessage-deflate; server_max_window_bits="10"'], "server_max_window_bits=10"),
    "all": (
        ["permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits=15"],
        "server_no_context_takeover",
    ),
    "after a bad one": (["permessage-deflate; server_max_window_bits=8, permessage-deflate"], "permessage-deflate"),
    "after a hundred bad ones": (
        [", ".join(["permessage-deflate; server_max_window_bits=8"] * 100 + ["permessage-deflate"])],
        "permessage-deflate",
    ),
    "in another header": (["x-webkit-deflate-frame", "permessage-deflate"], "permessage-deflate"),
    "among others": ([",,, foo; a=b, ;;;, permessage-deflate, bar"], "permessage-deflate"),
    "a hundred": ([", ".join(["permessage-deflate"] * 100)], "permessage-deflate"),
}
BAD_OFFERS = {
    "empty": [""],
    "unknown parameter": ["permessage-deflate; nonsense"],
    "unknown parameter with a value": ["permessage-deflate; nonsense=1"],
    "window of 8": ["permessage-deflate; server_max_window_bits=8"],
    "window of 16": ["permessage-deflate; server_max_window_bits=16"],
    "negative window": ["permessage-deflate; server_max_window_bits=-9"],
    "window of letters": ["permessage-deflate; server_max_window_bits=ten"],
    "huge window": ["permessage-deflate; server_max_window_bits=" + "9" * 5000],
    "empty window": ["permessage-deflate; server_max_window_bits="],
    "no window": ["permessage-deflate; server_max_window_bits"],
    "client's window of 8": ["permessage-deflate; client_max_window_bits=8"],
    "client's window of letters": ["permessage-deflate; client_max_window_bits=ten"],
    "a window twice": ["permessage-deflate; server_max_window_bits=10; server_max_window_bits=10"],
    "a window twice, differently": ["permessage-deflate; client_max_window_bits; client_max_window_bits=10"],
    "a flag twice": ["permessage-deflate; server_no_context_takeover; server_no_context_takeover"],
    "a flag with a value": ["permessage-deflate; server_no_context_takeover=1"],
    "the client's flag with a value": ['permessage-deflate; client_no_context_takeover=""'],
    "no parameter": ["permessage-deflate;"],
    "no parameters": ["permessage-deflate;;;"],
    "nothing for a name": ["permessage-deflate; =10"],
    "another": ["permessage-bzip2, permessage-snappy, permessage-brotli, x-webkit-deflate-frame"],
    "another name": ["permessage-deflate2"],
    "not UTF-8": ["permessage-deflate; \xff"],
    "controls": ["permessage-deflate\x01"],
    "quotes": ['"permessage-deflate"'],
    "quote": ['permessage-deflate; a="'],
    "separators": [";,=;,==,;;,"],
    "a hundred": [", ".join(["permessage-deflate; server_max_window_bits=8"] * 100)],
    "ten kilobytes": [";" * 10_000],
    "ten kilobytes of commas": ["," * 10_000],
}
# Numbers to Python, and to nobody else (RFC 7692, 7.1.2: decimal, without leading zeroes).
BAD_NUMBERS = ["+10", "010", "1_0", '"10', '10"', "'10'", "1 0", "\u0661\u0660", "10.0", "0xa"]


class TestOffers:
    """Offers to compress messages."""

    @pytest.mark.parametrize(("offers", "accepted"), GOOD_OFFERS.values(), ids=list(GOOD_OFFERS))
    @pytest_twisted.ensureDeferred
    async def test_good(self, hostile: Hostile, offers: list[str], accepted: str) -> None:
        """The first that can be accepted is; messages are compressed from then on, both ways."""
        async with hostile(perMessageDeflate={"threshold": 10}) as here:
            wire, answer = await offering(here, *offers)
            assert answer is not None
            assert answer.split(";")[0] == "permessage-deflate"
            assert accepted in [each.strip() for each in answer.split(";")]
            assert answer.count("permessage-deflate") == 1
            packing, unpacking = zlib.compressobj(9, zlib.DEFLATED, -9), zlib.decompressobj(-15)

            def unpack() -> bytes:
                frame = takeFrame(wire.received)
                assert frame is not None
                assert frame.reserved == 4
                return unpacking.decompress(frame.payload + b"\0\0\xff\xff")

            await wire.until(lambda: b"}" in wire.received or len(wire.received) > 90, "the first message")
            assert unpack().startswith(b"0{")
            for _ in range(3):
                data = packing.compress(b"4" + b"x" * 100) + packing.flush(zlib.Z_SYNC_FLUSH)
                wire.send(makeFrame(data[:-4], TEXT, reserved=4))
                await wire.until(lambda: len(wire.received) > 2, "the echo")
                assert unpack() == b"4" + b"x" * 100

    @pytest.mark.parametrize("isOn", [True, False], ids=["on", "off"])
    @pytest_twisted.ensureDeferred
    async def test_bad(self, hostile: Hostile, isOn: bool) -> None:
        """One that can't be is declined: the WebSocket is there all the same, and messages go as they are."""
        async with hostile(perMessageDeflate=isOn) as here:
            for name, offers in BAD_OFFERS.items():
                wire, accepted = await offering(here, *offers)
                assert accepted is None, name
                assert (await wire.text())[0] == "0"
                wire.send(makeFrame("4" + "x" * 2000))
                assert await wire.text() == "4" + "x" * 2000, name
                wire.send(makeFrame("1"))
                assert await wire.closed() == 1000

    @pytest.mark.parametrize("number", BAD_NUMBERS, ids=ascii)
    @pytest.mark.parametrize("name", ["server_max_window_bits", "client_max_window_bits"])
    def test_badNumbers(self, name: str, number: str) -> None:
        """So is one with a number that isn't written as one."""
        offer = f"permessage-deflate; {name}={number}".encode()
        assert agreeOn([offer], PerMessageDeflate()) is None

    @pytest_twisted.ensureDeferred
    async def test_clientLimit(self, hostile: Hostile) -> None:
        """Where the client is asked for a smaller window, one that can't be asked is declined."""
        async with hostile(perMessageDeflate={"clientMaxWindowBits": 10}) as here:
            wire, accepted = await offering(here, "permessage-deflate")
            assert accepted is None
            wire.send(makeFrame("1"))
            wire, accepted = await offering(here, "permessage-deflate; client_max_window_bits")
            assert accepted == "permessage-deflate; client_max_window_bits=10"
            assert (await wire.text())[0] == "0"


# Any header


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.one_of(st.binary(max_size=60), st.text("gzip deflate*;q=01.,identity", max_size=40).map(str.encode)))
)
@example([b"gzip;q=1", b"\xff", b";;;"])
def test_anyAcceptEncoding(values: list[bytes]) -> None:
    """Whatever a client accepts, there is an answer for it."""
    coding = contentCoding(values)
    assert coding in (None, "gzip", "deflate")
    if coding is not None:
        text = b",".join(values).decode("latin-1").lower()
        assert coding in text or "*" in text


PARAMETERS = [
    "server_no_context_takeover",
    "client_no_context_takeover",
    "client_max_window_bits",
    "server_max_window_bits",
]
someParameters = st.one_of(
    st.sampled_from(PARAMETERS),
    st.builds(
        "{}={}".format, st.sampled_from(["server_max_window_bits", "client_max_window_bits"]), st.integers(7, 17)
    ),
    st.text(max_size=8),
)
someOffers = st.lists(someParameters, max_size=4).map(lambda each: "; ".join(["permessage-deflate", *each]).encode())


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.one_of(someOffers, st.binary(max_size=40)), max_size=4),
    st.builds(
        PerMessageDeflate,
        clientMaxWindowBits=st.integers(9, 15),
        serverMaxWindowBits=st.integers(9, 15),
        clientNoContextTakeover=st.booleans(),
    ),
)
def test_anyExtensions(extensions: list[bytes], deflate: PerMessageDeflate) -> None:
    """Whatever is offered, it is accepted or declined; what is accepted is well formed, and was offered."""
    accepted = agreeOn(extensions, deflate)
    if accepted is None:
        return
    assert any(b"permessage-deflate" in each for each in extensions)
    answer = accepted.get_extension_string()
    assert answer.isascii()
    assert answer.isprintable()
    name, *parameters = answer.split("; ")
    assert name == "permessage-deflate"
    values = dict(each.partition("=")[::2] for each in parameters)
    assert len(values) == len(parameters)
    assert set(values) <= set(PARAMETERS)
    assert all(value == "" or 9 <= int(value) <= 15 for value in values.values())
    assert int(values.get("client_max_window_bits", 15)) <= deflate.clientMaxWindowBits
