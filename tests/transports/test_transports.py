"""Both transports over real sockets, with treq and Autobahn's client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_twisted
import treq
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredQueue, gatherResults
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.task import deferLater
from twisted.web.client import HTTPConnectionPool

from ..kit.serving import Listening
from ..kit.wire import within

pytestmark = pytest.mark.everySite

Start = Callable[..., Any]


class Polling:
    """A session over polling, by treq."""

    def __init__(self, url: str, pool: HTTPConnectionPool) -> None:
        self._url, self._pool = url, pool
        self.query = {"EIO": "4", "transport": "polling"}
        self._arrived: list[str] = []

    async def open(self) -> dict[str, Any]:
        (opening,) = await self._poll()
        assert opening[0] == "0"
        handshake: dict[str, Any] = json.loads(opening[1:])
        self.query["sid"] = handshake["sid"]
        return handshake

    async def _poll(self) -> list[str]:
        response = await treq.get(f"{self._url}/engine.io/", params=self.query, pool=self._pool)
        body: str = await response.text(encoding="utf-8")
        assert response.code == 200, body
        return body.split("\x1e")

    async def send(self, *packets: str) -> None:
        body = "\x1e".join(packets).encode()
        response = await treq.post(f"{self._url}/engine.io/", data=body, params=self.query, pool=self._pool)
        assert (response.code, await response.text()) == (200, "ok")

    async def receive(self) -> str:
        while not self._arrived:
            self._arrived = [each for each in await self._poll() if each != "6"]
        return self._arrived.pop(0)


class WebSocket:
    """A WebSocket, by Autobahn's client."""

    def __init__(self, port: int, sid: str = "") -> None:
        url = f"ws://127.0.0.1:{port}/engine.io/?EIO=4&transport=websocket" + (f"&sid={sid}" if sid else "")
        self.factory = WebSocketClientFactory(url, reactor=reactor)
        self.frames: DeferredQueue[str | bytes] = DeferredQueue()
        self.closed: Deferred[tuple[int, str]] = Deferred()
        outer = self

        class Protocol(WebSocketClientProtocol):
            def onMessage(self, payload: bytes, isBinary: bool) -> None:
                outer.frames.put(payload if isBinary else payload.decode())

            def onClose(self, wasClean: bool, code: int, reason: str) -> None:
                if not outer.closed.called:
                    outer.closed.callback((code, reason))

        self.factory.protocol = Protocol
        self.port = port

    async def connect(self) -> None:
        self.protocol = await HostnameEndpoint(reactor, b"127.0.0.1", self.port).connect(self.factory)
        await within(self.protocol.is_open, "the opening handshake")

    async def open(self) -> dict[str, Any]:
        await self.connect()
        opening = await self.receive()
        assert opening[0] == "0"
        handshake: dict[str, Any] = json.loads(opening[1:])
        return handshake

    async def send(self, *packets: str | bytes) -> None:
        for packet in packets:
            if isinstance(packet, bytes):
                self.protocol.sendMessage(packet, True)
            else:
                self.protocol.sendMessage(packet.encode(), False)

    async def receive(self) -> Any:
        return await within(self.frames.get(), "a frame")

    async def close(self) -> None:
        self.protocol.sendClose(1000)
        await within(self.closed, "the closing handshake")


def echo(server: Any) -> None:
    server.on("connection", lambda socket: socket.on("message", socket.send))


@pytest.fixture
def sockets() -> list[Any]:
    """The sessions the server opened during the test."""
    return []


@pytest.fixture
def events(sockets: list[Any]) -> list[tuple[Any, ...]]:
    """What those sessions emitted."""
    return []


@pytest.fixture
def running(serve: Start, sockets: list[Any], events: list[tuple[Any, ...]]) -> Any:
    """A coroutine function that starts an echo server that remembers its sessions and their events."""

    def setup(server: Any) -> None:
        echo(server)

        def connected(socket: Any) -> None:
            sockets.append(socket)
            for name in ("open", "upgrading", "upgrade", "heartbeat", "close"):
                socket.on(name, lambda *args, name=name: events.append((name, *args)))

        server.on("connection", connected)

    return lambda **options: serve(setup, **options)


@asynccontextmanager
async def pollingSession(running: Listening) -> AsyncIterator[Polling]:
    pool = HTTPConnectionPool(reactor, persistent=True)
    try:
        yield Polling(running.url, pool)
    finally:
        await pool.closeCachedConnections()


@pytest_twisted.ensureDeferred
async def test_polling(running: Any, sockets: list[Any], events: list[tuple[Any, ...]]) -> None:
    """Open, talk in text and binary, be pinged, be closed."""
    here = await running(pingInterval=1000)
    async with pollingSession(here) as client:
        handshake = await client.open()
        assert handshake == {
            "sid": sockets[0].id,
            "upgrades": ["websocket"],
            "pingInterval": 1000,
            "pingTimeout": 20000,
            "maxPayload": 1000000,
        }
        assert events == [("open",)]
        await client.send("4hello €😀", "bAQIDBA==", "4", "b")
        assert [await client.receive() for _ in range(4)] == ["4hello €😀", "bAQIDBA==", "4", "b"]
        assert await client.receive() == "2"
        await client.send("3")
        assert ("heartbeat",) in events
        waiting = Deferred.fromCoroutine(client.receive())
        sockets[0].close()
        assert await waiting == "1"
        assert events[-1][:2] == ("close", "forced close")
        assert here.server.clients == {}
        assert sockets[0].remoteAddress == "127.0.0.1"


@pytest_twisted.ensureDeferred
async def test_webSocket(running: Any, sockets: list[Any], events: list[tuple[Any, ...]]) -> None:
    """Open, talk in text and binary, be pinged, be closed."""
    here = await running(pingInterval=1000)
    client = WebSocket(here.port)
    handshake = await client.open()
    assert (handshake["sid"], handshake["upgrades"]) == (sockets[0].id, [])
    await client.send("4hello €😀", b"\x01\x02", "4", b"", "4" + "x" * 500_000)
    frames = [await client.receive() for _ in range(5)]
    assert frames == ["4hello €😀", b"\x01\x02", "4", b"", "4" + "x" * 500_000]
    assert await client.receive() == "2"
    await client.send("3", "4after")
    assert await client.receive() == "4after"
    assert ("heartbeat",) in events
    sockets[0].close()
    code, _ = await within(client.closed, "the end")
    assert (code, events[-1][:2]) == (1000, ("close", "forced close"))


@pytest_twisted.ensureDeferred
async def test_upgrade(running: Any, sockets: list[Any], events: list[tuple[Any, ...]]) -> None:
    """From polling to WebSocket; what is sent meanwhile arrives, once and in order."""
    here = await running()
    async with pollingSession(here) as client:
        handshake = await client.open()
        waiting = Deferred.fromCoroutine(client._poll())
        webSocket = WebSocket(here.port, handshake["sid"])
        await webSocket.connect()
        await webSocket.send("2probe")
        assert await webSocket.receive() == "3probe"
        assert await waiting == ["6"]
        assert [event[0] for event in events] == ["open", "upgrading"]
        assert (sockets[0].upgrading, sockets[0].transport.name) == (True, "polling")
        sockets[0].send("one")
        sockets[0].send(b"two")
        await webSocket.send("5", "4three")
        assert [await webSocket.receive() for _ in range(3)] == ["4one", b"two", "4three"]
        assert (sockets[0].upgraded, sockets[0].transport.name) == (True, "websocket")
        await webSocket.close()
    assert [event[0] for event in events] == ["open", "upgrading", "upgrade", "close"]
    assert events[-1][1] == "transport close"


@pytest_twisted.ensureDeferred
async def test_manySessions(running: Any, sockets: list[Any]) -> None:
    """Sessions on both transports at once don't mix."""
    here = await running()
    async with pollingSession(here) as first, pollingSession(here) as second:
        third, fourth = WebSocket(here.port), WebSocket(here.port)
        clients = [first, second, third, fourth]
        for client in clients:
            await client.open()
        assert here.server.clientsCount == 4
        assert len({socket.id for socket in sockets}) == 4
        for number, client in enumerate(clients):
            await client.send(f"4{number}")
        answers = [Deferred.fromCoroutine(client.receive()) for client in clients]
        assert await gatherResults(answers) == ["40", "41", "42", "43"]


@pytest_twisted.ensureDeferred
async def test_closeLeavesNothing(running: Any, events: list[tuple[Any, ...]]) -> None:
    """When the Deferred of `close` fires, sessions, timers, connections and the port are gone."""
    here = await running()
    async with pollingSession(here) as polls, pollingSession(here) as waits:
        webSocket = WebSocket(here.port)
        await polls.open()
        sid = (await waits.open())["sid"]
        await webSocket.open()
        probing = WebSocket(here.port, sid)
        await probing.connect()
        await probing.send("2probe")
        await probing.receive()
        waiting = Deferred.fromCoroutine(waits._poll())
        await deferLater(reactor, 0.01)
        first, second = here.server.close(), here.server.close()
        await within(first, "the server closing")
        await within(second, "the server closing")
        assert await waiting in (["1"], ["6"])
        assert {event[1] for event in events if event[0] == "close"} == {"server shutting down"}
        assert (here.server.clients, len(here.server._webSockets.connections)) == ({}, 0)
        assert [str(each) for each in reactor.getDelayedCalls() if "engineio" in str(each)] == []
        port = await here.server.listening
        assert port.disconnected
        await within(webSocket.closed, "the WebSocket closing")
        await within(probing.closed, "the probe closing")
        assert len(here.server._ownPorts.site.channels) == 0


@pytest_twisted.ensureDeferred
async def test_closingTakesNoClientsWord(serve: Start) -> None:
    """A client that doesn't answer the close frame doesn't hold the server up."""
    here = await serve(echo)
    client = WebSocket(here.port)
    await client.open()
    client.protocol.transport.pauseProducing()
    await within(here.server.close(), "the server closing")
    client.protocol.transport.resumeProducing()
    await within(client.closed, "the connection being cut")


@pytest_twisted.ensureDeferred
async def test_broadcast(serve: Any) -> None:
    """Clients on both transports get what is broadcast, and one that is excluded doesn't."""
    running = await serve()
    first, sender = WebSocket(running.port), WebSocket(running.port)
    await first.open()
    opening = await sender.open()
    excluded = running.server.clients[opening["sid"]]
    async with pollingSession(running) as polling:
        await polling.open()
        for data in ("to all", "€ 😀" * 1000):
            assert running.server.broadcast(data, excluded) == 2
            assert await polling.receive() == "4" + data
            assert await first.receive() == "4" + data
        assert running.server.broadcast(b"\x00\xff") == 3
        assert await polling.receive() == "bAP8="
        assert await first.receive() == b"\x00\xff"
        assert await sender.receive() == b"\x00\xff"
    await first.close()
    await sender.close()
