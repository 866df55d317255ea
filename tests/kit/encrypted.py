"""Connections by TLS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.endpoints import SSL4ClientEndpoint, connectProtocol
from twisted.internet.ssl import CertificateOptions

from engineio_twisted import listen

from .engines import ENGINES
from .wire import Wire, http, target, within


@pytest_twisted.async_yield_fixture(params=ENGINES)
async def connect(request: pytest.FixtureRequest, serve: Any, certificate: tuple[Path, Path]) -> Any:
    """Connects to an echo server that listens with TLS, with each WebSocket engine; `connect.server` is the server."""
    key, signed = certificate
    description = f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={signed}"
    server = listen(description, wsEngine=request.param)
    server.on("connection", lambda socket: socket.on("message", lambda data: socket.send(data)))
    port = (await server.listening).getHost().port
    wires: list[Wire] = []

    async def start() -> Wire:
        endpoint = SSL4ClientEndpoint(reactor, "127.0.0.1", port, CertificateOptions(verify=False))
        wire: Wire = await connectProtocol(endpoint, Wire())
        wires.append(wire)
        return wire

    start.server = server  # type: ignore[attr-defined]
    yield start
    for wire in wires:
        if not wire.isLost:
            wire.drop()
            await wire.lost()
    await within(server.close(), "the server closing")


async def opened(connect: Any) -> tuple[Wire, str]:
    wire = await connect()
    wire.send(http("GET", target()))
    (packet,) = (await wire.response()).packets
    return wire, packet.partition('"sid":"')[2].partition('"')[0]
