"""What the requests of polling go by: endpoints, and Twisted's agent."""

from __future__ import annotations

from typing import Any

import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogEvent, globalLogPublisher

from engineio_twisted import listen
from engineio_twisted.client import Client, ClientOptions
from engineio_twisted.client.agents import endpointOf
from engineio_twisted.client.connecting import Connecting

from ..kit.wire import within


def test_anAddressIsNotLookedUp() -> None:
    """It is connected to at once, with TLS too. Only names are looked up, which takes a thread."""
    reactor: Any = MemoryReactorClock()
    for url in ("http://127.0.0.1:3000", "https://192.0.2.1", "ws://[::1]:3000"):
        endpointOf(Connecting(url, ClientOptions(), reactor)).connect(Factory())
    assert [each[:2] for each in reactor.tcpClients] == [("127.0.0.1", 3000), ("192.0.2.1", 443), ("::1", 3000)]
    timeouts = {each[3] for each in reactor.tcpClients}
    assert timeouts == {20}


@pytest_twisted.ensureDeferred
async def test_connectionsAreNotLogged() -> None:
    """A session that opens, sends and closes logs nothing; Twisted's agent would log each of its connections."""
    logged: list[LogEvent] = []
    server = listen("tcp:0:interface=127.0.0.1")
    server.on("connection", lambda socket: socket.on("message", socket.send))
    port = await server.listening
    globalLogPublisher.addObserver(logged.append)
    try:
        for transports in (["polling"], ["websocket"]):
            client = Client(f"http://localhost:{port.getHost().port}", transports=transports)
            came: Deferred[str | bytes] = Deferred()
            client.once("message", came.callback)
            await within(client.connect(), "the session is open")
            client.send("a")
            assert await within(came, "the message comes back") == "a"
            await within(client.close(), "the session is closed")
    finally:
        globalLogPublisher.removeObserver(logged.append)
        await within(server.close(), "the server closing")
    assert logged == []
