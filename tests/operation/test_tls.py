"""Over TLS all is as without: polling, WebSocket, upgrade, what is pipelined, a client that doesn't read."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher

from ..kit.encrypted import connect as connect
from ..kit.encrypted import opened
from ..kit.engines import closeWithin
from ..kit.wire import eventually, http, makeFrame, pause, target, upgrade


@pytest_twisted.ensureDeferred
async def test_pollingAndUpgrade(connect: Any) -> None:
    """From polling to WebSocket."""
    wire, sid = await opened(connect)
    wire.send(http("POST", target(sid=sid), body=b"4hello") + http("GET", target(sid=sid)))
    assert (await wire.response()).body == b"ok"
    assert (await wire.response()).packets == ["4hello"]
    probe = await connect()
    probe.send(upgrade(target(transport="websocket", sid=sid)))
    assert (await probe.response()).status == 101
    probe.send(makeFrame("2probe"))
    assert await probe.text() == "3probe"
    probe.send(makeFrame("5") + makeFrame("4over TLS"))
    assert await probe.text() == "4over TLS"


@pytest_twisted.ensureDeferred
async def test_upgradeOnTheSameConnection(connect: Any) -> None:
    """A client with a single connection opens on polling and upgrades there, without a probe."""
    wire, sid = await opened(connect)
    connect.server.clients[sid].send("before")
    wire.send(upgrade(target(transport="websocket", sid=sid), Origin="file://", Sec_WebSocket_Protocol="arduino"))
    response = await wire.response()
    assert (response.status, response.headers["sec-websocket-protocol"]) == (101, "arduino")
    wire.send(makeFrame("5"))
    assert await wire.text() == "4before"
    wire.send(makeFrame("4over TLS"))
    assert await wire.text() == "4over TLS"
    assert connect.server.clients[sid].upgraded


@pytest.mark.parametrize("size", [10, 200_000])
@pytest_twisted.ensureDeferred
async def test_pipelined(connect: Any, size: int) -> None:
    """Frames that come with the upgrade request, in the same TLS records, are delivered."""
    wire = await connect()
    wire.send(upgrade() + makeFrame("4" + "x" * size) + makeFrame(b"\x01\x02"))
    assert (await wire.response()).status == 101
    assert (await wire.text())[0] == "0"
    assert await wire.text() == "4" + "x" * size
    assert (await wire.frame()).payload == b"\x01\x02"


@pytest_twisted.ensureDeferred
async def test_nothingGoesOutInPlaintext(connect: Any) -> None:
    """What is on the wire is TLS records and nothing else, also after the connection was taken over."""
    wire = await connect()
    seen: list[bytes] = []
    raw = wire.transport.transport.protocol
    receive = raw.dataReceived

    def see(data: bytes) -> None:
        seen.append(data)
        receive(data)

    raw.dataReceived = see
    wire.send(upgrade())
    await wire.response()
    await wire.text()
    wire.send(makeFrame("4a very secret message"))
    assert await wire.text() == "4a very secret message"
    stream = b"".join(seen)
    assert stream
    assert b"secret" not in stream
    while stream:
        assert stream[0] in (20, 21, 22, 23), "a TLS record"
        assert stream[1] == 3
        stream = stream[5 + int.from_bytes(stream[3:5]) :]


@pytest_twisted.ensureDeferred
async def test_aClientThatDoesNotRead(connect: Any) -> None:
    """Isn't read from for long: what it floods an echo with doesn't pile up here."""
    wire = await connect()
    wire.send(upgrade())
    assert (await wire.response()).status == 101
    await wire.text()
    (socket,) = connect.server.clients.values()
    received: list[int] = []
    socket.on("message", lambda data: received.append(len(data)))
    wire.transport.pauseProducing()
    flood = makeFrame("4" + "x" * 100_000) * 10
    # It goes on until neither the server nor the systems' buffers of both sides take any more.
    before = -1
    while len(received) != before:
        before = len(received)
        assert before < 500, "50 MB were taken from a client that doesn't read"
        wire.send(flood)
        await pause(0.3)
    wire.transport.resumeProducing()


@pytest.mark.parametrize("by", ["the client", "the server", "an error"])
@pytest_twisted.ensureDeferred
async def test_goodbye(connect: Any, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A WebSocket that was closed is over as soon as both sides have said so, and isn't left to its deadline."""
    closeWithin(monkeypatch, 60)
    wire = await connect()
    wire.send(upgrade())
    assert (await wire.response()).status == 101
    await wire.text()
    if by == "the client":
        wire.send(makeFrame(b"\x03\xe8", 8))
    elif by == "the server":
        (socket,) = connect.server.clients.values()
        socket.close()
    else:
        wire.send(makeFrame("not a packet"))
    assert (await wire.frame()).opcode == 8
    if by != "the client":
        wire.send(makeFrame(b"\x03\xe8", 8))
    await wire.lost()


@pytest.mark.parametrize("what", ["refused upgrade", "body over the limit"])
@pytest_twisted.ensureDeferred
async def test_aClientThatDoesNotSayGoodbye(connect: Any, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection is closed, also where the client doesn't answer the end of TLS with its own."""
    monkeypatch.setattr("engineio_twisted.web.channel.CLOSE_TIMEOUT", 0.2)
    monkeypatch.setattr("engineio_twisted.web.requests.LINGER_TIME", 0.2)
    wire = await connect()
    if what == "refused upgrade":
        wire.send(upgrade(target(transport="websocket", sid="nobody")))
    else:
        wire.send(http("POST", target(), [("Content-Length", "2000000")]))
    assert (await wire.response()).status in (400, 413)
    # From here on nothing that comes from the server is looked at, by TLS either.
    wire.transport.transport.protocol.dataReceived = lambda data: None
    for _ in range(100):
        if not len(connect.server._ownPorts.site.channels):
            break
        if not wire.isLost:
            wire.send(b"x")
        await pause(0.05)
    assert len(connect.server._ownPorts.site.channels) == 0


@pytest_twisted.ensureDeferred
async def test_aClientThatReadsSlowly(connect: Any) -> None:
    """What it doesn't take waits in the session, and not on the connection; it gets all of it, in order."""
    wire = await connect()
    wire.send(upgrade())
    assert (await wire.response()).status == 101
    await wire.text()
    (socket,) = connect.server.clients.values()
    wire.transport.pauseProducing()
    expected = [number.to_bytes(4) * 16384 for number in range(300)]
    for each in expected:
        socket.send(each)
    await pause(0.3)
    waiting = sum(len(each.data) for each in socket.writeBuffer)
    assert waiting > 0
    assert not socket.writable
    assert waiting < socket.bufferedAmount < waiting + 4 * 65536
    wire.transport.resumeProducing()
    for each in expected:
        assert (await wire.frame()).payload == each
    assert socket.writeBuffer == []


@pytest_twisted.ensureDeferred
async def test_whatIsNoTLS(connect: Any) -> None:
    """If a client breaks TLS, its WebSocket ends with its session, and the log says why; not if it is just lost."""
    reasons: list[Any] = []
    connect.server.on("connection", lambda socket: socket.on("close", lambda *args: reasons.append(args[0])))
    logged: list[LogEvent] = []
    globalLogPublisher.addObserver(logged.append)
    try:
        for isBroken in (False, True):
            wire = await connect()
            wire.send(upgrade())
            assert (await wire.response()).status == 101
            assert (await wire.text())[0] == "0"
            beneath = wire.transport.transport
            if isBroken:
                beneath.write(b"\x17\x03\x03\x00\x20" + b"x" * 32)
            else:
                beneath.abortConnection()
            await wire.lost()
            await eventually(lambda count=isBroken + 1: len(reasons) == count, "the end of the session")
    finally:
        globalLogPublisher.removeObserver(logged.append)
    assert [str(each) for each in reasons] == ["transport close"] * 2
    (event,) = [each for each in logged if str(each.get("log_namespace")).startswith("engineio_twisted")]
    assert event["log_level"] is LogLevel.warn
    text = formatEvent(event)
    assert text.startswith("WebSocket of session ")
    assert " lost: " in text
    assert "mac" in text
