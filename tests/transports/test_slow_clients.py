"""Clients that are slower than the server, over real sockets: they get all, or cost little; and faster ones."""

from __future__ import annotations

import json
import socket
import sys
from base64 import b64decode, b64encode
from io import BytesIO
from pathlib import Path
from random import randbytes
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.protocols.basic import FileSender

from engineio_twisted.web.connections import unsent

from ..kit.clients import pythonPath
from ..kit.deflated import deflate, openDeflated, packed
from ..kit.engines import ENGINES, everyMessageTakesATurn
from ..kit.flooding import SIZE
from ..kit.wire import CONTINUATION, TEXT, Arena, Wire, connectTo, eventually, http, makeFrame, pause, target, upgrade

pytestmark = [pytest.mark.no_cover, pytest.mark.sockets]

FLOODING = Path(__file__).parents[1] / "kit" / "flooding.py"

GIGABYTE = 2**30
BOUND = 50_000_000
"""How much more memory a server may take for a client that never reads."""


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Any:
    """What implements WebSocket."""
    return request.param


@pytest_twisted.ensureDeferred
async def test_itGetsAllOfIt(hostile: Any, engine: Any) -> None:
    """Whoever sends while the socket is writable fills no memory; the client has all of it in the end, in order."""
    async with hostile(echoes=False, wsEngine=engine) as here:
        sid, wire = await here.openWebSocket()
        wire.transport.pauseProducing()
        socket = here.server.clients[sid]
        pending = [number.to_bytes(4) * 16384 for number in range(300)]
        expected = list(pending)

        def more() -> None:
            while pending and socket.writable:
                socket.send(pending.pop(0))

        socket.on("drain", more)
        more()
        # What the system takes is its own.
        before = -1
        while len(pending) != before:
            before = len(pending)
            await pause(0.3)
        assert pending
        assert not socket.writable
        assert 0 < socket.bufferedAmount < 3 * 65536
        wire.transport.resumeProducing()
        for each in expected:
            assert (await wire.frame()).payload == each
        assert not pending
        await eventually(lambda: socket.bufferedAmount == 0, "nothing waiting")


@pytest_twisted.ensureDeferred
async def test_whatWaitsGoesOutBeforeTheEnd(hostile: Any, engine: Any) -> None:
    """A session that is closed with much in its buffer sends it as the client reads."""
    async with hostile(echoes=False, wsEngine=engine) as here:
        sid, wire = await here.openWebSocket()
        wire.transport.pauseProducing()
        socket = here.server.clients[sid]
        expected = [number.to_bytes(4) * 16384 for number in range(200)]
        for each in expected:
            socket.send(each)
        assert socket.writeBuffer
        socket.close()
        assert socket.readyState == "closing"
        wire.transport.resumeProducing()
        for each in expected:
            assert (await wire.frame()).payload == each
        assert await wire.closed() == 1000
        assert await here.records[sid].closed() == ("forced close", "closed by the server")


@pytest.mark.parametrize("transport", ["polling", "websocket"])
@pytest_twisted.ensureDeferred
async def test_aFile(hostile: Any, engine: Any, transport: str) -> None:
    """Arrives whole."""
    async with hostile(echoes=False, wsEngine=engine) as here:
        content = bytes(range(256)) * 4000
        if transport == "polling":
            sid = await here.open()
        else:
            sid, wire = await here.openWebSocket()
        finished = FileSender().beginFileTransfer(BytesIO(content), here.server.clients[sid])
        got = b""
        while len(got) < len(content):
            if transport == "polling":
                packets = (await here.get(sid)).packets
                assert sum(map(len, packets)) < 200_000, "no more is read of the file than goes out at once"
                got += b"".join([b64decode(each.removeprefix("b")) for each in packets])
            else:
                got += (await wire.frame()).payload
        assert got == content
        if transport == "polling":
            # That it asks again says that it has read all.
            await here.poll(sid)
        await finished
        if transport == "polling":
            await here.end(sid)


@pytest.mark.parametrize("transport", ["polling", "websocket"])
@pytest_twisted.ensureDeferred
async def test_aClientThatSendsTooFast(hostile: Any, engine: Any, transport: str) -> None:
    """Is read from one message at a time, where the application takes its time with each."""
    async with hostile(echoes=False, wsEngine=engine, pingInterval=200, pingTimeout=3000) as here:
        client = await here.client(transport)
        socket = here.server.clients[client.sid]
        record = here.records[client.sid]
        socket.on("message", lambda _: socket.pauseReceiving())
        texts = [f"{number}" for number in range(20)]
        if transport == "polling":
            said = Deferred.fromCoroutine(client.say("\x1e".join("4" + each for each in texts)))
        else:
            client._socket.send(b"".join(makeFrame("4" + each) for each in texts))
        for count in range(1, len(texts) + 1):
            await record.got(*texts[:count])
            await pause(0.05)
            assert record.messages == texts[:count]
            if transport == "polling":
                assert not said.called
            socket.resumeReceiving()
        if transport == "polling":
            assert await said == 200
        socket.resumeReceiving()
        await client.close()


@pytest_twisted.ensureDeferred
async def test_compressedMessagesOfOneThatIsHeldBack(hostile: Any) -> None:
    """Of 65 messages of a megabyte, which came in a read of 64 KB, one is given and no other is inflated."""
    async with hostile(echoes=False, perMessageDeflate=True) as here:
        sid, wire = await openDeflated(here)
        socket = here.server.clients[sid]
        record = here.records[sid]
        hold = socket.pauseReceiving
        socket.on("message", lambda _: hold())
        frame = packed(b"4" + b"x" * 999_998)
        count = 65_000 // len(frame)
        wire.send(frame * count * 2)
        for number in range(1, 4):
            await record.until(lambda number=number: len(record.messages) == number, "a message")
            await pause(0.05)
            assert len(record.messages) == number
            assert 0 < socket.heldBytes < 2 * 65536
            assert here.server.stats().heldBytes == socket.heldBytes
            assert socket._inbox is None or not socket._inbox.heldBytes
            socket.resumeReceiving()
        hold = int
        socket.resumeReceiving()
        await record.until(lambda: len(record.messages) == 2 * count, "the rest")
        assert socket.heldBytes < len(frame)
        wire.drop()
        await record.closed()


@pytest_twisted.ensureDeferred
async def test_anIncompleteCompressedMessage(hostile: Any) -> None:
    """Is kept as it came: a kilobyte that inflates to a megabyte is a kilobyte, and is shown."""
    async with hostile(echoes=False, perMessageDeflate=True) as here:
        sid, wire = await openDeflated(here)
        socket = here.server.clients[sid]
        data = deflate(b"4" + b"x" * 999_998)
        wire.send(makeFrame(data, TEXT, reserved=4, isFinal=False))
        await eventually(lambda: socket.heldBytes, "the message")
        assert socket.heldBytes == here.server.stats().heldBytes == len(data) < 1000
        wire.send(makeFrame(b"", CONTINUATION))
        await here.records[sid].got("x" * 999_998)
        assert socket.heldBytes == 0
        wire.drop()
        await here.records[sid].closed()


@pytest.mark.parametrize("transport", ["polling", "websocket"])
@pytest_twisted.ensureDeferred
async def test_othersHaveTheirTurn(hostile: Any, engine: Any, transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While much of one client's is delivered, other clients are served."""
    everyMessageTakesATurn(monkeypatch)
    async with hostile(wsEngine=engine) as here:
        bystander = await here.client("websocket")
        client = await here.client(transport)
        socket = here.server.clients[client.sid]
        record, theirs = here.records[client.sid], here.records[bystander.sid]
        counts: list[int] = []
        here.server.clients[bystander.sid].on("message", lambda _: counts.append(len(record.messages)))
        socket.once("message", lambda _: bystander._socket.send(makeFrame("4hello")))
        texts = [f"{number}" for number in range(500)]
        if transport == "polling":
            assert await client.say("\x1e".join("4" + each for each in texts)) == 200
            assert record.messages == texts, "before the answer"
        else:
            client._socket.send(b"".join(makeFrame("4" + each) for each in texts))
            await record.got(*texts)
        await theirs.got("hello")
        assert 0 < counts[0] < 250
        await client.close()
        await bystander.close()


@pytest_twisted.ensureDeferred
async def test_oneThatIsHeldBackIsNotRead(hostile: Any, engine: Any) -> None:
    """However much it sends, the server takes no more than it had read already."""
    async with hostile(echoes=False, wsEngine=engine) as here:
        sid, wire = await here.openWebSocket()
        socket = here.server.clients[sid]
        socket.pauseReceiving()
        sent = 300
        wire.send(b"".join(makeFrame("4" + f"{number}".ljust(100_000)) for number in range(sent)))
        await pause(0.3)
        assert here.records[sid].messages == []
        assert socket.heldBytes < 1_000_000
        socket.resumeReceiving()
        record = here.records[sid]
        await record.until(lambda: len(record.messages) == sent, "all messages")
        assert [each.strip() for each in record.messages] == [f"{number}" for number in range(sent)]


@pytest_twisted.ensureDeferred
async def test_overTheLimit(hostile: Any, engine: Any) -> None:
    """The session ends at once, and the connection soon, though the client reads nothing."""
    async with hostile(echoes=False, wsEngine=engine, maxBufferedBytes=1_000_000) as here:
        sid, wire = await here.openWebSocket()
        wire.transport.pauseProducing()
        socket = here.server.clients[sid]
        while socket.readyState == "open":
            socket.send(b"x" * 100_000)
        reason, description = await here.records[sid].closed()
        assert reason == "buffer limit exceeded"
        assert "maxBufferedBytes, 1000000," in description
        connections = here.server._webSockets.connections
        await eventually(lambda: socket.transport.webSocket not in set(connections), "the end of the connection")
        # Ours is told of it when it looks.
        wire.transport.resumeProducing()
        await wire.lost()


# Memory


class Reader:
    """A client of the server in another process, which isn't there to be asked."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    async def ask(self, text: str) -> str:
        self.wire.send(makeFrame("4" + text))
        while True:
            packet = await self.wire.text()
            if packet == "2":
                self.wire.send(makeFrame("3"))
            else:
                return packet[1:]

    async def memory(self) -> Any:
        return json.loads(await self.ask("memory"))


async def open_(arena: Arena) -> Wire:
    wire = await arena.connect()
    wire.send(upgrade())
    assert (await wire.response()).status == 101
    assert (await wire.text())[0] == "0"
    return wire


async def pollsWithoutReading(arena: Arena, sid: str) -> None:
    """Poll on ever new connections, and read no more of an answer than that there is one."""
    for _ in range(30):
        wire = await arena.connect()
        wire.send(http("GET", target(sid=sid)))
        try:
            await wire.until(lambda wire=wire: wire.received or wire.isLost, "an answer", 1.5)
        except AssertionError:
            # It waits, since earlier answers do.
            return
        if wire.isLost or not wire.received.startswith(b"HTTP/1.1 200"):
            return
        wire.transport.pauseProducing()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["close", "drop", "raise", "produce"])
@pytest.mark.parametrize("transport", ["polling", "websocket"])
@pytest_twisted.ensureDeferred
async def test_aGigabyteForOneThatNeverReads(start: Any, transport: str, how: str) -> None:
    """Costs a bounded amount of memory, and others are served as ever."""
    options = {"maxBufferedBytes": 4_000_000, "pingInterval": 300_000}
    if how != "produce":
        options["bufferLimitAction"] = how
    given = {"total": GIGABYTE, "how": "produce" if how == "produce" else "send", "options": options}
    program = start([sys.executable, FLOODING], given, env=pythonPath())
    port = (await program.saw("listening"))["port"]
    here = Arena.__new__(Arena)
    here.port, here.wires = port, []
    try:
        bystander = Reader(await open_(here))
        before = await bystander.memory()
        if transport == "websocket":
            slow = await open_(here)
            slow.send(makeFrame("4flood"))
            slow.transport.pauseProducing()
        else:
            sid = json.loads((await here.ask(http("GET", target()))).packets[0][1:])["sid"]
            assert (await here.post(sid, "4flood")).body == b"ok"
            await pollsWithoutReading(here, sid)
        if how == "produce":
            for number in range(20):
                assert await bystander.ask(f"{number}") == f"{number}"
                await pause(0.05)
            assert program.named("produced") == []
        else:
            flooded = await program.saw("flooded")
            assert flooded["offered"] == GIGABYTE
            if how == "close":
                assert [each["reason"] for each in program.named("closed")] == ["buffer limit exceeded"]
            else:
                told = {"drop": "dropped", "raise": "raised"}[how]
                assert flooded[told] * SIZE > GIGABYTE / 2
        if transport == "polling" and how != "close":
            await pollsWithoutReading(here, sid)
        assert await bystander.ask("still here") == "still here"
        after = await bystander.memory()
        assert after["most"] - before["now"] < BOUND
    finally:
        for wire in here.wires:
            if not wire.isLost:
                wire.transport.resumeProducing()
                wire.drop()


@pytest_twisted.ensureDeferred
async def test_aPollBehindAnAnswerThatIsNotRead(serve: Any) -> None:
    """A GET that is sent behind another is answered as soon as the client has read the answer to that."""
    sessions: list[Any] = []
    running = await serve(lambda server: server.on("connection", sessions.append), httpCompression=False)
    request = b"GET /engine.io/?EIO=4&transport=polling%b HTTP/1.1\r\nHost: localhost\r\n\r\n"
    client = await deferToThread(socket.create_connection, ("127.0.0.1", running.port))
    client.settimeout(10)
    with client:
        client.sendall(request % b"")
        await deferToThread(client.recv, 65536)
        (session,) = sessions
        session.send("x" * 16_000_000)
        client.sendall(request % b"&sid=%b" % session.id.encode() * 2)
        await eventually(lambda: session.bufferedAmount > 0, "the first answer")
        session.send("after")

        def read() -> bytes:
            end = b""
            while not end.endswith(b"4after"):
                data = client.recv(1_000_000)
                assert data, "the connection is closed"
                end = (end + data)[-100:]
            return end

        await deferToThread(read)


@pytest_twisted.ensureDeferred
async def test_manyRequestsAndNothingRead(serve: Any) -> None:
    """Of requests behind answers that a client doesn't read, no more are looked at until it does; then all are."""
    running = await serve(initialPacket="x" * 300_000, httpCompression=False)
    site = running.server._ownPorts.site
    wire = await connectTo(running.port)
    wire.transport.pauseProducing()
    count = 100
    wire.send(http("GET", target()) * count)
    await eventually(lambda: any(each.paused for each in site.channels), "the server to hold the client back")
    (channel,) = site.channels
    # What the system takes is not ours to say, but it isn't all.
    assert running.server.clientsCount < count
    assert unsent(channel.transport) < 1_000_000
    wire.transport.resumeProducing()
    for _ in range(count):
        assert (await wire.response()).packets[0].startswith("0{")
    assert running.server.clientsCount == count


@pytest.mark.parametrize("coding", ["gzip", "identity"])
@pytest_twisted.ensureDeferred
async def test_aConnectionThatOthersHaveNow(serve: Any, coding: str) -> None:
    """A proxy keeps a connection for many clients: what becomes of one is none of another's business."""
    sessions: list[Any] = []
    running = await serve(lambda server: server.on("connection", sessions.append), maxBufferedBytes=1_000_000)
    kept = await connectTo(running.port)
    for _ in range(2):
        kept.send(http("GET", target()))
        await kept.response()
    one, other = sessions
    # Letters at random, so that it is large when it is compressed too.
    one.send(b64encode(randbytes(3_000_000)).decode())
    kept.send(http("GET", target(sid=one.id), [("Accept-Encoding", coding)]))
    assert (await kept.response()).status == 200
    kept.send(http("GET", target(sid=other.id)))
    await eventually(lambda: other.writable, "the other's poll")
    kept.transport.pauseProducing()
    other.send("y" * 20_000_000)
    await eventually(lambda: other.bufferedAmount > 1_000_000, "what the other doesn't read")
    assert one.bufferedAmount == 0
    for _ in range(3):
        one.send("z" * 600_000)
    assert (one.readyState, other.readyState) == ("closed", "open")
    kept.transport.resumeProducing()
    assert len((await kept.response()).body) == 20_000_001
