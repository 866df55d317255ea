"""
What a hostile or broken client may say on a WebSocket, on its way to one, or not at all.

All of it holds whatever implements WebSocket: each test runs over each engine there is.
"""

from __future__ import annotations

import struct
from functools import partial
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from engineio_twisted.session import ending

from ..kit.engines import ENGINES, TwistedEngine, closeWithin, piecesOf
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
    LostError,
    Wire,
    eventually,
    http,
    makeFrame,
    pause,
    target,
    upgrade,
    within,
)


@pytest.fixture(params=ENGINES, ids=lambda each: each.__name__)
def engine(request: pytest.FixtureRequest) -> Any:
    """What implements WebSocket."""
    return request.param


@pytest.fixture
def hostile(hostile: Hostile, engine: Any) -> Hostile:
    """Start a server over that engine."""
    return partial(hostile, wsEngine=engine)


def closeFrame(code: int, reason: bytes = b"") -> bytes:
    return makeFrame(struct.pack("!H", code) + reason, CLOSE)


BROKEN = {
    "unmasked": (makeFrame("4x", isMasked=False), 1002),
    "unmasked ping": (makeFrame(b"", PING, isMasked=False), 1002),
    "unmasked close": (makeFrame(b"\x03\xe8", CLOSE, isMasked=False), 1002),
    "RSV1": (makeFrame("4x", reserved=4), 1002),
    "RSV2": (makeFrame("4x", reserved=2), 1002),
    "RSV3": (makeFrame("4x", reserved=1), 1002),
    "RSV1 close": (makeFrame(b"", CLOSE, reserved=4), 1002),
    **{f"opcode {opcode}": (makeFrame("4x", opcode), 1002) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "continuation of nothing": (makeFrame("4x", CONTINUATION), 1002),
    "interleaved data": (makeFrame("4x", isFinal=False) + makeFrame("4y"), 1002),
    "control over 125": (makeFrame(b"x" * 126, PING), 1002),
    "close over 125": (closeFrame(1000, b"x" * 124), 1002),
    "fragmented ping": (makeFrame(b"x", PING, isFinal=False), 1002),
    "fragmented close": (makeFrame(b"\x03\xe8", CLOSE, isFinal=False), 1002),
    "length not minimal": (makeFrame("4x", length=2), 1002),
    "length over 63 bits": (makeFrame("4x", length=2**64 - 1), 1002),
    "huge length": (makeFrame("4x", length=2**62), 1009),
    "huge length, binary": (makeFrame(b"x", length=2**40), 1009),
    "oversize": (makeFrame("4" + "x" * 1000), 1009),
    "oversize by one fragment": (makeFrame("4" + "x" * 900, isFinal=False) + makeFrame("y" * 100, CONTINUATION), 1009),
    "oversize by many": (
        makeFrame("4", isFinal=False) + makeFrame("xxxxxxxxxx", CONTINUATION, isFinal=False) * 100,
        1009,
    ),
    "not UTF-8": (makeFrame(b"4\xff", TEXT), 1007),
    "cut UTF-8": (makeFrame(b"4\xc3", TEXT), 1007),
    "surrogate": (makeFrame(b"4\xed\xa0\x80", TEXT), 1007),
    "not UTF-8 across": (makeFrame(b"4\xe2\x82", TEXT, isFinal=False) + makeFrame(b"x", CONTINUATION), 1007),
    "not UTF-8 early": (makeFrame(b"4\xff", TEXT, isFinal=False), 1007),
    "close of 1 byte": (makeFrame(b"\x03", CLOSE), 1002),
    **{
        f"close {code}": (closeFrame(code), 1002)
        for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
    },
    "close reason not UTF-8": (closeFrame(1000, b"\xff"), 1007),
    "close reason cut": (closeFrame(1000, b"\xe2\x82"), 1007),
}


class TestFrames:
    """Frames on a session's WebSocket. maxHttpBufferSize is 1000 bytes."""

    @pytest.mark.parametrize(("frames", "code"), BROKEN.values(), ids=list(BROKEN))
    @pytest_twisted.ensureDeferred
    async def test_broken(self, hostile: Hostile, frames: bytes, code: int, engine: Any) -> None:
        """A broken frame is answered by a close frame that says what was wrong, and ends the session."""
        if engine is TwistedEngine and frames == BROKEN["length over 63 bits"][0]:
            # Both are true of it. Here its size is looked at before what implements WebSocket sees it.
            code = 1009
        async with hostile(maxHttpBufferSize=1000) as here:
            sid, wire = await here.openWebSocket()
            wire.send(makeFrame("4before"))
            assert await wire.text() == "4before"
            wire.send(frames + makeFrame("4after"))
            frame = await wire.frame()
            assert (frame.opcode, frame.code) == (CLOSE, code)
            reason, description = await here.records[sid].closed()
            assert reason == "transport error"
            assert "maxHttpBufferSize" in description if code == 1009 else str(code) in description
            assert here.records[sid].messages == ["before"]

    @pytest.mark.parametrize(
        "broken", ["unmasked", "RSV1", "opcode 3", "opcode 11", "oversize", "cut UTF-8", "close 999"]
    )
    @pytest_twisted.ensureDeferred
    async def test_brokenCandidate(self, hostile: Hostile, broken: str) -> None:
        """A broken frame while upgrading ends the WebSocket alone: the session polls on, and can upgrade later."""
        async with hostile(maxHttpBufferSize=1000) as here:
            client = await here.client()
            wire = await here.probed(client.sid)
            frames, code = BROKEN[broken]
            wire.send(frames + makeFrame("5"))
            frame = await wire.frame()
            assert (frame.opcode, frame.code) == (CLOSE, code)
            await client.echo("still polling")
            assert await client.upgrade()
            await client.echo("upgraded")
            assert here.server.clients[client.sid].upgraded
            await client.close()

    @pytest.mark.parametrize("code", [None, 1000, 1001, 1003, 1007, 1011, 1012, 3000, 3999, 4000, 4999])
    @pytest_twisted.ensureDeferred
    async def test_closeCodes(self, hostile: Hostile, code: int | None, engine: Any) -> None:
        """A client may close with any code there is, and is answered; to the application it has left."""
        async with hostile() as here:
            sid, wire = await here.openWebSocket()
            wire.send(makeFrame(b"", CLOSE) if code is None else closeFrame(code, "bye €".encode()))
            frame = await wire.frame()
            assert frame.opcode == CLOSE
            assert frame.code == code
            assert await wire.lost() == b""
            # Twisted's echoes the code, and doesn't tell a reply from a frame of its own that says what was wrong.
            isEchoed = engine is TwistedEngine and code == 1007
            assert (await here.records[sid].closed())[0] == ("transport error" if isEchoed else "transport close")

    @pytest_twisted.ensureDeferred
    async def test_fragments(self, hostile: Hostile) -> None:
        """A message may come in pieces, even in the middle of a character, with pings and pongs in between."""
        async with hostile() as here:
            sid, wire = await here.openWebSocket()
            data = "4pieces of €".encode()
            pieces = [data[:1], data[1:4], b"", data[4:-2], data[-2:]]
            wire.send(makeFrame(pieces[0], TEXT, isFinal=False))
            for each in pieces[1:-1]:
                wire.send(makeFrame(b"are you there", PING) + makeFrame(b"yes", PONG))
                assert await wire.frame() == Frame(PONG, b"are you there")
                wire.send(makeFrame(each, CONTINUATION, isFinal=False))
            wire.send(makeFrame(pieces[-1], CONTINUATION))
            assert await wire.text() == data.decode()
            wire.send(makeFrame(b"\1", BINARY, isFinal=False) + makeFrame(b"\2", CONTINUATION))
            assert await wire.frame() == Frame(BINARY, b"\1\2")
            await here.records[sid].got("pieces of €", b"\1\2")

    @pytest_twisted.ensureDeferred
    async def test_byteByByte(self, hostile: Hostile) -> None:
        """A frame that comes a byte at a time is a frame."""
        async with hostile() as here:
            _, wire = await here.openWebSocket()
            for each in makeFrame("4slow" + "x" * 130):
                wire.send(bytes([each]))
                await pause(0)
            assert await wire.text() == "4slow" + "x" * 130

    @pytest_twisted.ensureDeferred
    async def test_exactly(self, hostile: Hostile) -> None:
        """A message of exactly the limit is delivered, in one frame or in many."""
        async with hostile(maxHttpBufferSize=1000, echoes=False) as here:
            sid, wire = await here.openWebSocket()
            wire.send(makeFrame("4" + "x" * 999) + makeFrame(b"y" * 1000))
            wire.send(makeFrame("4" + "z" * 499, isFinal=False) + makeFrame("z" * 500, CONTINUATION))
            await here.records[sid].got("x" * 999, b"y" * 1000, "z" * 999)

    @pytest_twisted.ensureDeferred
    async def test_oversizeAndGone(self, hostile: Hostile) -> None:
        """A client that says goodbye in one breath with a message that is too large has sent that all the same."""
        async with hostile(maxHttpBufferSize=1000) as here:
            sid, wire = await here.openWebSocket()
            wire.send(makeFrame("4" + "x" * 1000) + closeFrame(1000))
            frame = await wire.frame()
            assert (frame.opcode, frame.code) == (CLOSE, 1009)
            reason, description = await here.records[sid].closed()
            assert reason == "transport error"
            assert "maxHttpBufferSize" in description
            assert await wire.lost() == b""

    @pytest_twisted.ensureDeferred
    async def test_tinyFragments(self, hostile: Hostile) -> None:
        """A message in tiny pieces takes memory for what is in them, not for each of them."""
        async with hostile(echoes=False) as here:
            sid, wire = await here.openWebSocket()
            wire.send(makeFrame("4", isFinal=False))
            for _ in range(10):
                wire.send(makeFrame("xy", CONTINUATION, isFinal=False) * 1000)
            wire.send(makeFrame(b"", PING))
            heartbeat = Frame(TEXT, b"2")
            # That many frames may take longer than pingInterval.
            while (frame := await wire.frame()) == heartbeat:
                pass
            assert frame == Frame(PONG, b"")
            assert len(piecesOf(here.server.clients[sid].transport.webSocket)) < 5000
            wire.send(makeFrame("", CONTINUATION))
            await here.records[sid].got("xy" * 10_000)

    @pytest.mark.no_cover
    @pytest_twisted.ensureDeferred
    async def test_emptyFragments(self, hostile: Hostile) -> None:
        """A message in an endless number of empty pieces takes no memory for them."""
        async with hostile() as here:
            sid, wire = await here.openWebSocket()
            wire.send(makeFrame("4x", isFinal=False))
            for _ in range(20):
                wire.send(makeFrame("", CONTINUATION, isFinal=False) * 5000)
                await pause(0)
            wire.send(makeFrame(b"", PING))
            heartbeat = Frame(TEXT, b"2")
            # That many frames may take longer than pingInterval.
            while (frame := await wire.frame()) == heartbeat:
                pass
            assert frame == Frame(PONG, b"")
            assert len(piecesOf(here.server.clients[sid].transport.webSocket)) < 100

    @pytest.mark.parametrize("frame", ["", "7", "x", "hello", "bAQ=x"])
    @pytest_twisted.ensureDeferred
    async def test_badPacket(self, hostile: Hostile, frame: str) -> None:
        """A frame that is no packet ends the session with `parse error`, after those before it were delivered."""
        async with hostile() as here:
            sid, wire = await here.openWebSocket()
            wire.send(makeFrame("4first") + makeFrame(frame) + makeFrame("4last"))
            assert await wire.text() == "4first"
            assert (await wire.frame()).opcode == CLOSE
            assert (await here.records[sid].closed())[0] == "parse error"
            assert here.records[sid].messages == ["first"]

    @pytest_twisted.ensureDeferred
    async def test_stray(self, hostile: Hostile) -> None:
        """Packets that mean nothing from a client on WebSocket are ignored."""
        async with hostile() as here:
            sid, wire = await here.openWebSocket()
            wire.send(b"".join(makeFrame(each) for each in ("0", "3", "5", "6", "3probe", "4end")))
            assert await wire.text() == "4end"
            assert here.records[sid].messages == ["end"]

    @pytest.mark.parametrize("abort", [True, False], ids=["reset", "end of stream"])
    @pytest_twisted.ensureDeferred
    async def test_lost(self, hostile: Hostile, abort: bool) -> None:
        """A WebSocket that vanishes is noticed at once."""
        async with hostile() as here:
            sid, wire = await here.openWebSocket()
            wire.drop(abort)
            assert (await here.records[sid].closed())[0] == "transport close"

    @pytest_twisted.ensureDeferred
    async def test_closeIgnored(self, hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
        """A client that doesn't answer the server's close frame, and sends on, is cut off."""
        closeWithin(monkeypatch, 0.2)
        async with hostile() as here:
            sid, wire = await here.openWebSocket()
            here.server.clients[sid].close()
            assert (await wire.frame()).code == 1000
            wire.send(makeFrame("4too late"))
            assert await wire.lost() == b""
            assert here.records[sid].messages == []


@pytest.mark.sockets
class TestNobodyReads:
    """Clients that send and never read."""

    @pytest_twisted.ensureDeferred
    async def test_pongDuringADownload(self, hostile: Hostile) -> None:
        """A client that is still busy with a large message is heard when it answers a ping."""
        async with hostile(pingInterval=150, pingTimeout=3000) as here:
            sid, wire = await here.openWebSocket()
            while await wire.text() != "2":
                pass
            wire.transport.pauseProducing()
            transport = here.server.clients[sid].transport.webSocket
            here.server.clients[sid].send(b"x" * 20_000_000)
            await eventually(lambda: transport._allowance is not None, "the server to have sent more than is read")
            wire.send(makeFrame("3") + makeFrame("4and a message"))
            await here.records[sid].saw("heartbeat")
            await here.records[sid].got("and a message")
            assert transport._allowance is not None
            wire.drop()
            await here.records[sid].closed()

    @pytest.mark.parametrize("greeting", [0, 4_000_000], ids=["echo", "greeted"])
    @pytest_twisted.ensureDeferred
    async def test_flood(self, hostile: Hostile, greeting: int) -> None:
        """The server stops reading from a client that takes nothing; when it does again, everything arrives."""
        from twisted.internet import reactor

        async with hostile() as here:
            if greeting:
                here.server.on("connection", lambda socket: socket.send("x" * greeting) and None)
            wire = await here.say(upgrade())
            await eventually(lambda: len(here.records) == 3, "the session")
            wire.transport.pauseProducing()
            socket = next(reversed(here.records.values())).socket
            connection = socket.transport.webSocket.transport
            data = b"y" * 100_000
            frame = makeFrame(data)
            count = 400
            for _ in range(count):
                wire.send(frame)
            await eventually(lambda: connection not in reactor.getReaders(), "the server to stop reading")
            for _ in range(50):
                await pause(0.002)
            # What is in the server's buffers: the greeting, the mark at which it begins to count, one message's worth
            # that it still reads then, and the read with which that is exceeded.
            buffered = len(connection.dataBuffer) - connection.offset + connection._tempDataLen
            assert buffered <= greeting + 1_000_000 + 4 * 65536
            assert len(here.records[socket.id].messages) < count
            wire.transport.resumeProducing()
            if not wire.received.startswith(b"HTTP"):
                await wire.until(lambda: wire.received, "the answer")
            assert (await wire.response()).status == 101
            assert (await wire.text())[0] == "0"
            if greeting:
                assert await wire.text() == "4" + "x" * greeting
            for _ in range(count):
                assert (await wire.frame()).payload == data

    @pytest_twisted.ensureDeferred
    async def test_pings(self, hostile: Hostile) -> None:
        """A flood of WebSocket pings whose pongs nobody reads doesn't fill the server's memory either."""
        from twisted.internet import reactor

        async with hostile() as here:
            sid, wire = await here.openWebSocket()
            wire.transport.pauseProducing()
            connection = here.server.clients[sid].transport.webSocket.transport
            pings = makeFrame(b"x" * 125, PING) * 800
            for _ in range(200):
                wire.send(pings)
            await eventually(lambda: connection not in reactor.getReaders(), "the server to stop reading")
            # The same as above: what is read of a client that doesn't read is counted in pings, which are a bit longer.
            assert len(connection.dataBuffer) - connection.offset + connection._tempDataLen < 1_000_000 + 4 * 65536

    @pytest_twisted.ensureDeferred
    async def test_closing(self, hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
        """A session on a connection that doesn't drain can be closed, and its connection goes away in time."""
        monkeypatch.setattr(ending, "CLOSING_TIMEOUT", 0.2)
        closeWithin(monkeypatch, 0.2)
        async with hostile() as here:
            sid, wire = await here.openWebSocket()
            wire.transport.pauseProducing()
            socket = here.server.clients[sid]
            for _ in range(100):
                socket.send("x" * 100_000)
            socket.close()
            assert (await here.records[sid].closed())[0] == "forced close"
            await eventually(lambda: len(here.server._webSockets.connections) == 1, "the connection to be cut")


class TestBehind:
    """Bytes that come behind an upgrade request, before it is answered."""

    @pytest.mark.parametrize("isAsync", [False, True], ids=["sync", "async"])
    @pytest.mark.parametrize(("count", "size"), [(1, 5), (3, 10_000), (40, 10_000)])
    @pytest_twisted.ensureDeferred
    async def test_handshake(self, hostile: Hostile, isAsync: bool, count: int, size: int) -> None:
        """Messages that a client sends without waiting for the 101 are delivered, once and in order."""
        answer: Deferred[bool] = Deferred()

        def allowRequest(request: Any) -> Any:
            return answer if request.getHeader("x-hostile") and isAsync else True

        async with hostile(allowRequest=allowRequest) as here:
            messages = [f"4{each:05}".ljust(size, "x") for each in range(count)]
            wire = await here.say(upgrade(X_Hostile="yes") + b"".join(makeFrame(each) for each in messages))
            if isAsync:
                for _ in range(20):
                    await pause(0.001)
                assert wire.received == b""
                answer.callback(True)
            assert (await wire.response()).status == 101
            assert (await wire.text())[0] == "0"
            assert [await wire.text() for _ in messages] == messages
            wire.send(makeFrame("4after"))
            assert await wire.text() == "4after"

    @pytest.mark.parametrize("isAsync", [False, True], ids=["sync", "async"])
    @pytest.mark.parametrize("count", [1, 40])
    @pytest_twisted.ensureDeferred
    async def test_upgrade(self, hostile: Hostile, isAsync: bool, count: int) -> None:
        """The same on the way from polling: probe, upgrade packet and messages, all behind the request."""
        async with hostile() as here:
            sid = await here.open()
            go: Deferred[None] = Deferred()

            def middleware(request: Any) -> Any:
                return go if isAsync and b"websocket" in request.uri else None

            here.server.use(middleware)
            messages = [f"4{each:05}".ljust(10_000, "x") for each in range(count)]
            request = upgrade(target(transport="websocket", sid=sid))
            wire = await here.say(request + b"".join(makeFrame(each) for each in ("2probe", "5", *messages)))
            if isAsync:
                for _ in range(20):
                    await pause(0.001)
                assert wire.received == b""
                go.callback(None)
            assert (await wire.response()).status == 101
            assert await wire.text() == "3probe"
            assert [await wire.text() for _ in messages] == messages
            wire.send(makeFrame("1"))
            assert await wire.closed() == 1000

    @pytest_twisted.ensureDeferred
    async def test_lost(self, hostile: Hostile) -> None:
        """A client that asks for a WebSocket and vanishes leaves no session."""
        async with hostile() as here:
            for data in (upgrade(), upgrade() + makeFrame("4x"), upgrade() + makeFrame("4x")[:3]):
                wire = await here.say(data)
                await eventually(lambda: len(here.server.clients) == 3, "the session")
                wire.drop()
                await eventually(lambda: len(here.server.clients) == 2, "the end of the session")


class TestUpgrade:
    """Upgrades that don't go as they should; the polling session goes on, and can upgrade properly later."""

    @staticmethod
    async def assertUnharmed(here: Arena, sid: str) -> None:
        """The session polls, nothing that was sent to it is lost, and it can upgrade."""
        socket = here.server.clients[sid]
        assert not socket.upgrading
        assert not socket.upgraded
        assert (await here.get(sid)).packets == ["4kept"]
        await here.post(sid, "4still polling")
        assert (await here.get(sid)).packets == ["4still polling"]
        wire = await here.probed(sid)
        assert socket.upgrading
        wire.send(makeFrame("5") + makeFrame("4upgraded"))
        assert await wire.text() == "4upgraded"
        assert socket.upgraded
        wire.send(makeFrame("1"))
        assert await wire.closed() == 1000

    @pytest.mark.parametrize(
        "frames",
        [
            ["2probe", "2probe"],
            ["2probe", "4data"],
            ["2probe", "3"],
            ["2probe", "2"],
            ["2probe", "1"],
            ["2probe", "6"],
            ["2probe", ""],
            ["2probe", "nonsense"],
            ["2probe", b"binary"],
            ["4data"],
            ["1"],
            ["2"],
            ["3probe"],
            ["2Probe"],
            ["2probe "],
            ["9"],
            [b"2probe"],
        ],
        ids=str,
    )
    @pytest_twisted.ensureDeferred
    async def test_wrong(self, hostile: Hostile, frames: list[str | bytes]) -> None:
        """Anything but a probe, at most one, and an upgrade packet closes the WebSocket."""
        async with hostile() as here:
            sid = await here.open()
            here.server.clients[sid].send("kept")
            wire = await here.candidate(sid, *(makeFrame(each) for each in frames), makeFrame("5"))
            if frames[0] == "2probe":
                assert await wire.text() == "3probe"
            assert await wire.closed() == 1000
            assert here.records[sid].messages == []
            await self.assertUnharmed(here, sid)

    @pytest.mark.parametrize("isProbed", [False, True], ids=["no probe", "no upgrade"])
    @pytest_twisted.ensureDeferred
    async def test_timeout(self, hostile: Hostile, isProbed: bool) -> None:
        """A WebSocket that doesn't get on with the upgrade is closed after upgradeTimeout."""
        async with hostile(upgradeTimeout=1000) as here:
            sid = await here.open()
            wire = await (here.probed(sid) if isProbed else here.candidate(sid))
            socket = here.server.clients[sid]
            assert socket.upgrading
            assert await wire.closed() == 1000
            socket.send("kept")
            # Another upgrade needs its own time.
            await self.assertUnharmed(here, sid)

    @pytest.mark.parametrize("isProbed", [False, True], ids=["before the probe", "after the probe"])
    @pytest.mark.parametrize("abort", [True, False], ids=["reset", "end of stream"])
    @pytest_twisted.ensureDeferred
    async def test_lost(self, hostile: Hostile, isProbed: bool, abort: bool) -> None:
        """A WebSocket that vanishes half way doesn't take the session with it."""
        async with hostile() as here:
            sid = await here.open()
            waiting = await here.poll(sid)
            wire = await (here.probed(sid) if isProbed else here.candidate(sid))
            wire.drop(abort)
            socket = here.server.clients[sid]
            await eventually(lambda: not socket.upgrading, "the end of the upgrade")
            if isProbed:
                assert (await waiting.response()).packets == ["6"]
            else:
                socket.send("still")
                assert (await waiting.response()).packets == ["4still"]
            socket.send("kept")
            await self.assertUnharmed(here, sid)

    @pytest_twisted.ensureDeferred
    async def test_noops(self, hostile: Hostile) -> None:
        """As long as an upgrade lasts each GET is ended, not only the first, and none is when it is over."""
        async with hostile() as here:
            sid = await here.open()
            wire = await here.probed(sid)
            for _ in range(3):
                assert (await here.get(sid)).packets == ["6"]
            wire.drop()
            socket = here.server.clients[sid]
            await eventually(lambda: not socket.upgrading, "the end of the upgrade")
            waiting = await here.poll(sid)
            await pause(0.25)
            assert waiting.received == b""
            socket.send("kept")
            assert (await waiting.response()).packets == ["4kept"]
            socket.send("kept")
            await self.assertUnharmed(here, sid)

    @pytest.mark.parametrize("isProbed", [False, True], ids=["before the probe", "after the probe"])
    @pytest_twisted.ensureDeferred
    async def test_sessionEnds(self, hostile: Hostile, isProbed: bool) -> None:
        """When the session ends during an upgrade, the WebSocket is closed with it."""
        async with hostile() as here:
            sid = await here.open()
            wire = await (here.probed(sid) if isProbed else here.candidate(sid))
            await here.end(sid)
            assert await wire.closed() == 1000

    @pytest.mark.parametrize("first", ["there", "probed", "upgraded", "opened"])
    @pytest_twisted.ensureDeferred
    async def test_second(self, hostile: Hostile, first: str) -> None:
        """A second WebSocket for a session is closed; the first, and the session, don't notice."""
        async with hostile() as here:
            if first == "opened":
                sid, wire = await here.openWebSocket()
            else:
                sid = await here.open()
                wire = await (here.candidate(sid) if first == "there" else here.probed(sid))
            if first == "upgraded":
                wire.send(makeFrame("5") + makeFrame("4x"))
                assert await wire.text() == "4x"
            for _ in range(2):
                second = await here.candidate(sid, makeFrame("2probe"), makeFrame("5"), makeFrame("4evil"))
                assert await second.closed() == 1000
            if first == "there":
                wire.send(makeFrame("2probe"))
                assert await wire.text() == "3probe"
            if first in ("there", "probed"):
                wire.send(makeFrame("5"))
            wire.send(makeFrame("4mine"))
            assert await wire.text() == "4mine"
            assert "evil" not in here.records[sid].messages
            wire.send(makeFrame("1"))
            assert await wire.closed() == 1000

    @pytest.mark.parametrize("how", ["closed", "refused"])
    @pytest_twisted.ensureDeferred
    async def test_none(self, hostile: Hostile, how: str) -> None:
        """An upgrade of a session that has ended, or never was, gets a plain 400 and no WebSocket."""
        async with hostile() as here:
            sid = "unknown"
            if how == "closed":
                sid = await here.open()
                await here.end(sid)
            wire = await here.say(upgrade(target(transport="websocket", sid=sid)))
            response = await wire.response()
            assert (response.status, response.body) == (400, b"Session ID unknown")
            assert await wire.lost() == b""
            assert len(here.server._webSockets.connections) == 1

    @pytest_twisted.ensureDeferred
    async def test_pollAfter(self, hostile: Hostile) -> None:
        """A poll of a client that has upgraded is refused, and takes nothing from the WebSocket."""
        async with hostile() as here:
            sid = await here.open()
            wire = await here.probed(sid)
            wire.send(makeFrame("5") + makeFrame("4one"))
            assert await wire.text() == "4one"
            for request in (http("GET", target(sid=sid)), http("POST", target(sid=sid), body=b"4two")):
                assert (await here.ask(request)).json == {"code": 3, "message": "Bad request"}
            wire.send(makeFrame("4three"))
            assert await wire.text() == "4three"
            assert here.records[sid].messages == ["one", "three"]

    @pytest_twisted.ensureDeferred
    async def test_waitingPoll(self, hostile: Hostile) -> None:
        """A client that upgrades while a GET waits, as it shouldn't, gets a noop there, and no stray one later."""
        async with hostile() as here:
            sid = await here.open()
            wire = await here.probed(sid)
            waiting = await here.say(http("GET", target(sid=sid)))
            wire.send(makeFrame("5"))
            try:
                response = await waiting.response()
                assert response.status == 400 or response.packets == ["6"]
            except LostError:
                pytest.fail("the GET got no answer")
            here.server.clients[sid].send("on WebSocket")
            assert await wire.text() == "4on WebSocket"

    @pytest.mark.no_cover
    @pytest_twisted.ensureDeferred
    async def test_tenThousand(self, hostile: Hostile) -> None:
        """Ten thousand messages that are sent while the client upgrades arrive all, once, and in order."""
        async with hostile() as here:
            client = await here.client()
            socket = here.server.clients[client.sid]
            taken = []

            async def flood() -> None:
                for number in range(10_000):
                    socket.send(f"{number}", lambda transport: taken.append(transport.name))
                    if number % 100 == 0:
                        await pause(0.0005)

            flooding = Deferred.fromCoroutine(flood())
            assert await client.upgrade()
            await within(flooding, "the end of the flood")
            await client.until(lambda: len(client.messages) >= 10_000, "10 000 messages")
            assert client.messages == [str(each) for each in range(10_000)]
            assert len(taken) == 10_000
            assert taken == sorted(taken)
            await client.close()


class TestConnections:
    """What is counted as a WebSocket."""

    @pytest_twisted.ensureDeferred
    async def test_refused(self, hostile: Hostile) -> None:
        """Refused and dropped upgrade requests leave no WebSocket behind."""
        async with hostile(allowRequest=lambda request: request.getHeader("x-hostile") is None) as here:
            count = len(here.server._webSockets.connections)
            wires: list[Wire] = [
                await here.say(request)
                for request in (
                    upgrade(X_Hostile="yes"),
                    upgrade(EIO_="x", Sec_WebSocket_Key="short"),
                    upgrade(Sec_WebSocket_Version="7"),
                    upgrade(target(transport="websocket", sid="unknown")),
                )
            ]
            for wire in wires:
                assert (await wire.response()).status in (400, 403)
                await wire.lost()
            for cut in range(10, len(upgrade()), 40):
                (await here.say(upgrade()[:cut])).drop()
            assert len(here.server._webSockets.connections) == count
